//! Market data: typed ticks from a feed that does not wait, to a strategy that knows exactly which
//! ticks it has missed.
//!
//! ```text
//! cargo run --release --example market_data
//! ```
//!
//! A feed handler must not be slowed down by a reader: it uses `try_send_value`, and drops a tick
//! for which there is no room. Every tick has the number that the exchange gave it, so the reader
//! sees each gap. The program starts itself as the strategy, which is too busy to read for a while;
//! at the end both compare their counts.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use slipring::{Options, Ring, spsc};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const TICKS: u64 = 200_000;
const TICK_NS: u64 = 3_000;
/// After this tick the strategy does not read for [`BREAK`].
const BREAK_AT: u64 = 100_000;
const BREAK: Duration = Duration::from_millis(200);

/// 32 bytes without padding, which the derives prove. So neither side needs `unsafe`, a copy or a
/// decoder.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Tick {
    /// The exchange's number. In the last frame: how many ticks there were.
    seq: u64,
    /// When it was sent: nanoseconds of the monotonic clock, which all processes of a machine
    /// share.
    stamp: u64,
    /// In units of 10^-4.
    price: i64,
    size: u32,
    /// [`TRADE`], or [`END`]: `price` is then the number of ticks that were dropped.
    kind: u32,
}

const TRADE: u32 = 0;
const END: u32 = 1;

fn options() -> Options {
    Options::spsc(1 << 20) // some 21,000 ticks, or 65 ms: older ticks are useless
}

fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn price(seq: u64) -> i64 {
    10_842 + (seq % 7) as i64 - 3
}

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        None => feed(),
        Some(name) => strategy(&name),
    }
}

fn feed() -> Result<(), Box<dyn Error>> {
    let name = format!("example-market-{}", std::process::id());
    let mut tx = spsc::Producer::open(&name, &options())?;
    let mut child = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    let met = tx.wait_for_peer(Duration::from_secs(10));
    Ring::remove(&name, &options())?; // both are attached: the name is not needed any more
    met?;

    let started = now_ns();
    let mut dropped = 0;
    for seq in 0..TICKS {
        while now_ns() < started + seq * TICK_NS {
            std::hint::spin_loop(); // the exchange sends at its own pace
        }
        let tick = Tick { seq, stamp: now_ns(), price: price(seq), size: 100, kind: TRADE };
        match tx.try_send_value(&tick) {
            Ok(()) => {}
            Err(slipring::Error::Full) => dropped += 1,
            Err(error) => return Err(error.into()),
        }
    }
    // The end, unlike a tick, must not be dropped: wait for room.
    tx.send_value(&Tick { seq: TICKS, stamp: now_ns(), price: dropped, size: 0, kind: END })?;
    tx.close();
    let status = child.wait()?;
    assert!(status.success(), "the strategy found something wrong: {status}");
    Ok(())
}

fn strategy(name: &str) -> Result<(), Box<dyn Error>> {
    let mut rx = spsc::Consumer::open(name, &options())?;
    let mut latencies = Vec::with_capacity(BREAK_AT as usize);
    let (mut expected, mut received, mut gaps, mut missed) = (0, 0, 0, 0);
    let dropped = loop {
        let view = rx.recv()?;
        let tick = view.value::<Tick>()?; // in place; an error if the frame has another size
        if tick.seq != expected {
            gaps += 1;
            missed += tick.seq - expected;
            println!("gap: ticks {expected} to {} are missing", tick.seq - 1);
        }
        expected = tick.seq + 1;
        if tick.kind == END {
            break tick.price as u64;
        }
        assert_eq!(tick.price, price(tick.seq), "the tick came as it was sent");
        received += 1;
        if tick.seq < BREAK_AT {
            latencies.push(now_ns() - tick.stamp);
        } else if tick.seq == BREAK_AT {
            std::thread::sleep(BREAK); // the view still holds the tick, so it is not overwritten
        }
    };
    assert!(matches!(rx.recv(), Err(slipring::Error::Closed)), "nothing comes after the end");
    assert_eq!(missed, dropped, "the strategy missed exactly the ticks that the feed dropped");
    assert_eq!(received + missed, TICKS, "every tick is accounted for");
    assert!(missed > 0, "a break of {BREAK:?} fills the ring many times over");

    latencies.sort_unstable();
    let percentile = |p: f64| latencies[((latencies.len() - 1) as f64 * p / 100.0) as usize];
    println!("{received} ticks received, {missed} missed in {gaps} gaps, all accounted for");
    println!(
        "latency: median {} ns, 90 % {} ns, 99 % {} ns, 99.9 % {} ns (before the break)",
        percentile(50.0),
        percentile(90.0),
        percentile(99.0),
        percentile(99.9),
    );
    Ok(())
}
