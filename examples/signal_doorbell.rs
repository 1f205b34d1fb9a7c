//! One process waits for several rings at one place: a signal tells which of them has frames.
//!
//! ```text
//! cargo run --release --example signal_doorbell
//! ```
//!
//! Two producers, which run this program, have a ring each. After some frames they send one queued
//! signal, whose value contains the number of the ring and of its last frame. The consumer sleeps
//! in a single call until a signal arrives. A doorbell carries no information that is not in the
//! ring, so it does no harm if a bell arrives for frames that were received already.

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use slipring::frame::{Event, Header, control};
use slipring::transport::{FrameReceiver, FrameSender, signal};
use slipring::{Options, Ring, spsc};

const FRAMES: u32 = 100_000;
/// Frames for each doorbell.
const BATCH: u32 = 1_000;
const RINGS: u16 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name, channel, pid] => Ok(produce(name, channel.parse()?, pid.parse()?)?),
        _ => consume(),
    }
}

fn options() -> Options {
    Options::spsc(1 << 16)
}

/// Sends frames into a ring, and rings the doorbell.
fn produce(name: &str, channel: u16, pid: u32) -> slipring::Result<()> {
    let mut tx = spsc::Producer::open(name, &options())?;
    // A pidfd identifies this very process, not a later one with the same number. Opening fails if
    // it does not expect the signal.
    let mut bells = signal::Sender::open(pid, &signal::Options::default(), Duration::from_secs(10))?;
    for n in 1..=FRAMES {
        if let Err(slipring::Error::Full) = tx.try_send(&n.to_le_bytes()) {
            ring(&mut bells, channel, n - 1)?; // the consumer reads a ring only when its doorbell rings
            tx.send(&n.to_le_bytes())?;
        }
        if n % BATCH == 0 {
            ring(&mut bells, channel, n)?;
        }
    }
    tx.close();
    Ok(())
}

fn ring(bells: &mut signal::Sender, channel: u16, value: u32) -> slipring::Result<()> {
    let bell = signal::Bell::new(channel, value)?.payload();
    bells.send(Header::control(control::DOORBELL, bell.len())?, &bell)
}

/// Waits for doorbells, and receives what the rings contain.
fn consume() -> Result<(), Box<dyn Error>> {
    // First of all: the signal would end a process with a thread that has not blocked it.
    signal::block(&[signal::Signo::realtime(0)?])?;
    let mut bells = signal::Receiver::open(&signal::Options::default())?;

    let mut rings = Vec::new();
    let mut producers: Vec<Child> = Vec::new();
    for channel in 0..RINGS {
        let name = format!("example-doorbell-{}-{channel}", std::process::id());
        let consumer = spsc::Consumer::open(&name, &options())?;
        let pid = std::process::id().to_string();
        producers.push(Command::new(std::env::current_exe()?).args([&name, &channel.to_string(), &pid]).spawn()?);
        let met = consumer.wait_for_peer(Duration::from_secs(10));
        Ring::remove(&name, &options())?; // both are attached: the name is not needed any more
        met?;
        rings.push((consumer, 0));
    }

    let mut signals = 0;
    while rings.iter().any(|(_, taken)| *taken < FRAMES) {
        let Event::Frame(frame) = bells.recv()? else { continue };
        let Some(bell) = signal::Bell::from_payload(frame.payload) else { continue };
        signals += 1;
        let Some((consumer, taken)) = rings.get_mut(usize::from(bell.channel())) else { continue };
        // Receives all frames there are, not only those that the bell announces. A late bell finds
        // none.
        while let Ok(frame) = consumer.try_recv() {
            *taken += 1;
            assert_eq!(*frame, taken.to_le_bytes());
        }
        assert!(*taken >= bell.value(), "the announced frames are in the ring");
    }
    for (channel, (_, taken)) in rings.iter().enumerate() {
        println!("ring {channel}: {taken} frames, in order");
    }
    println!("{signals} signals for {} frames, and no other waiting call", FRAMES * u32::from(RINGS));
    for producer in &mut producers {
        assert!(producer.wait()?.success());
    }
    Ok(())
}
