//! One process that waits for several rings in one place: a signal that says which of them has something in it.
//!
//! ```text
//! cargo run --release --example signal_doorbell
//! ```
//!
//! Two producers, which are this program again, each have a ring of their own. After some frames they ring: one queued signal,
//! whose value says which ring it is about, and how far it is. The consumer sleeps in a single call until one comes. A bell says
//! nothing that is not in the ring, so it does not matter if several bells come for what was taken already.

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use slipring::frame::{Event, Header, control};
use slipring::transport::{FrameReceiver, FrameSender, signal};
use slipring::{Options, Ring, spsc};

const FRAMES: u32 = 100_000;
/// Frames for which one bell is rung.
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

/// Fills a ring, and rings for it.
fn produce(name: &str, channel: u16, pid: u32) -> slipring::Result<()> {
    let mut tx = spsc::Producer::open(name, &options())?;
    // To this very process, not to another one that comes to have its number; and only if it expects the signal.
    let mut bells = signal::Sender::open(pid, &signal::Options::default(), Duration::from_secs(10))?;
    for n in 1..=FRAMES {
        if let Err(slipring::Error::Full) = tx.try_send(&n.to_le_bytes()) {
            ring(&mut bells, channel, n - 1)?; // nobody looks into a ring for which no bell has been rung
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

/// Waits for bells, and takes what the rings hold.
fn consume() -> Result<(), Box<dyn Error>> {
    // First of all: a thread that has not blocked the signal would be ended by it, with the process.
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
        Ring::remove(&name, &options())?; // both are there: the name is of no more use
        met?;
        rings.push((consumer, 0));
    }

    let mut signals = 0;
    while rings.iter().any(|(_, taken)| *taken < FRAMES) {
        let Event::Frame(frame) = bells.recv()? else { continue };
        let Some(bell) = signal::Bell::from_payload(frame.payload) else { continue };
        signals += 1;
        let Some((consumer, taken)) = rings.get_mut(usize::from(bell.channel())) else { continue };
        // All that is there, not only what the bell speaks of. A bell that comes too late finds nothing.
        while let Ok(frame) = consumer.try_recv() {
            *taken += 1;
            assert_eq!(*frame, taken.to_le_bytes());
        }
        assert!(*taken >= bell.value(), "what a bell is rung for is there");
    }
    for (channel, (_, taken)) in rings.iter().enumerate() {
        println!("ring {channel}: {taken} frames, in order");
    }
    println!("{signals} signals for {} frames, and no other call to wait", FRAMES * u32::from(RINGS));
    for producer in &mut producers {
        assert!(producer.wait()?.success());
    }
    Ok(())
}
