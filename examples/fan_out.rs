//! Market data to many: one publisher, a book builder that must not miss a price, and a monitor
//! that may.
//!
//! ```text
//! cargo run --release --example fan_out
//! ```
//!
//! The book builder and the monitor are processes of their own, which run this program. The book
//! subscribes reliably and applies every price; the publisher waits for it, and would evict it
//! after a second. The monitor is lossy and slow: it prints a price from time to time, and how many
//! it missed, and costs the publisher nothing.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use slipring::broadcast::{LossySubscriber, Publisher, Received, SlowPolicy, Start, Subscriber};
use slipring::{Options, Ring};

const PRICES: u64 = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, name] if role == "book" => Ok(book(name)?),
        [role, name] if role == "monitor" => Ok(monitor(name)?),
        _ => publish(),
    }
}

fn options() -> Options {
    Options::broadcast(1 << 18)
}

fn publish() -> Result<(), Box<dyn Error>> {
    let name = format!("fan-out-{}", std::process::id());
    let mut tx = Publisher::open(&name, &options())?;
    tx.set_policy(SlowPolicy::Evict { after: Duration::from_secs(1) });
    let program = std::env::current_exe()?;
    let start = |role: &str| Command::new(&program).args([role, &name]).spawn();
    let mut children = [start("book")?, start("monitor")?];
    while tx.ring().subscribers().len() < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    for number in 0..PRICES {
        let price = 10_000 + number % 100;
        let mut update = [0; 16];
        update[..8].copy_from_slice(&number.to_le_bytes());
        update[8..].copy_from_slice(&price.to_le_bytes());
        tx.send(&update)?;
    }
    println!("publisher: {} prices, {} subscribers evicted", tx.published(), tx.evicted());
    tx.close();
    for child in &mut children {
        assert!(child.wait()?.success());
    }
    Ring::remove(&name, &options())?;
    Ok(())
}

fn number(update: &[u8]) -> u64 {
    u64::from_le_bytes(update[..8].try_into().expect("an update has 16 bytes"))
}

fn book(name: &str) -> slipring::Result<()> {
    let mut rx = Subscriber::open(name, &options(), Start::Oldest)?;
    let mut applied = 0;
    let end = loop {
        match rx.recv_batch(256) {
            Ok(mut batch) => {
                for update in &mut batch {
                    assert_eq!(number(update.payload), applied, "a book must not miss a price");
                    applied += 1;
                }
            }
            Err(end) => break end,
        }
    };
    println!("book: {applied} prices applied; {end}");
    Ok(())
}

fn monitor(name: &str) -> slipring::Result<()> {
    let mut rx = LossySubscriber::open(name, &options(), Start::Oldest)?;
    let (mut seen, mut missed, mut buffer) = (0, 0, [0; 16]);
    let end = loop {
        match rx.recv_into(&mut buffer) {
            Ok(Received::Gap { missed: frames }) => missed += frames,
            Ok(Received::Frame(_)) => {
                assert_eq!(number(&buffer), seen + missed, "a gap is exact");
                seen += 1;
                if seen % 1000 == 0 {
                    std::thread::sleep(Duration::from_millis(1)); // it draws
                }
            }
            Err(end) => break end,
        }
    };
    println!("monitor: {seen} prices seen, {missed} missed, {} in all; {end}", seen + missed);
    Ok(())
}
