//! Two processes and one ring: millions of frames of mixed sizes, every byte of which is verified.
//!
//! ```text
//! cargo run --release --example spsc
//! ```
//!
//! The program starts itself again as the consumer. Both open the ring by its name, in any order.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use slipring::{Options, Ring, spsc};

const FRAMES: u64 = 3_000_000;
const LONGEST: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        None => produce(),
        Some(name) => consume(&name),
    }
}

fn options() -> Options {
    Options::spsc(1 << 20) // 1 MiB: some thousand frames may wait in it
}

/// The payload of frame `n`: its number, repeated and cut to a length that varies. Both sides
/// compute it.
fn pattern(n: u64, buffer: &mut [u8; LONGEST]) -> &[u8] {
    let len = 8 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize % (LONGEST - 8);
    for word in buffer[..len.next_multiple_of(8)].chunks_exact_mut(8) {
        word.copy_from_slice(&n.to_le_bytes());
    }
    &buffer[..len]
}

fn produce() -> Result<(), Box<dyn Error>> {
    let name = format!("example-spsc-{}", std::process::id());
    let mut tx = spsc::Producer::open(&name, &options())?;
    let mut consumer = Command::new(std::env::current_exe()?).arg(&name).spawn()?;

    // Once both are attached, the name is not needed any more. A ring without a name cannot be left
    // behind, even if both die.
    let met = tx.wait_for_peer(Duration::from_secs(10));
    Ring::remove(&name, &options())?;
    met?;

    let started = Instant::now();
    let mut bytes = 0;
    let mut buffer = [0; LONGEST];
    for n in 0..FRAMES {
        let payload = pattern(n, &mut buffer);
        tx.send(payload)?; // sleeps while the ring is full; `Error::PeerDead` if the consumer has died
        bytes += payload.len();
    }
    tx.close();

    let status = consumer.wait()?;
    let seconds = started.elapsed().as_secs_f64();
    assert!(status.success(), "the consumer found something wrong: {status}");
    println!(
        "{FRAMES} frames, {:.0} MB, verified: {:.1} million frames a second, {:.0} MB/s, {:.0} ns a frame",
        bytes as f64 / 1e6,
        FRAMES as f64 / seconds / 1e6,
        bytes as f64 / seconds / 1e6,
        seconds / FRAMES as f64 * 1e9,
    );
    Ok(())
}

fn consume(name: &str) -> Result<(), Box<dyn Error>> {
    let mut rx = spsc::Consumer::open(name, &options())?;
    let mut buffer = [0; LONGEST];
    let mut n = 0;
    loop {
        // In place, and several at a time: the frames of a batch are read where they lie, and
        // released together.
        let mut batch = match rx.recv_batch(64) {
            Ok(batch) => batch,
            Err(slipring::Error::Closed) => break, // the producer has closed, and the ring is empty
            Err(error) => return Err(error.into()), // `PeerDead`: the producer died before it closed
        };
        for frame in batch.iter() {
            assert_eq!(frame.header.seq, n as u32, "frames come in order, none is missing");
            assert_eq!(frame.payload, pattern(n, &mut buffer), "frame {n} came as it was sent");
            n += 1;
        }
    }
    assert_eq!(n, FRAMES, "the end came after the last frame");
    Ok(())
}
