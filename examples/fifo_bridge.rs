//! A FIFO as the input of a ring: many writers that open and close it, one of which is killed,
//! without an effect on the reader.
//!
//! ```text
//! cargo run --release --example fifo_bridge
//! ```
//!
//! Four more processes run this program: three writers, and a bridge that receives their frames
//! from the FIFO and sends them into a ring. (`slipring relay fifo:PATH ring:NAME` is a similar
//! bridge; this one continues after its last writer has left.)

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, fifo, ring, stream};
use slipring::{Deadline, Options, Ring, spsc};

/// The kind of the frame that ends the bridge.
const STOP: u16 = 0x01FF;
const FRAMES: u32 = 2_000;
/// More than `PIPE_BUF`: such a frame is sent in fragments, between which other writers' fragments
/// may lie.
const LONG: usize = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", path, count] => Ok(write(path.as_ref(), count.parse()?)?),
        ["bridge", path, name] => Ok(bridge(path.as_ref(), name)?),
        _ => read(),
    }
}

fn options() -> Options {
    Options::spsc(1 << 20)
}

/// Writes numbered frames, every hundredth of them long.
fn write(path: &Path, count: u32) -> slipring::Result<()> {
    let mut tx = fifo::sender(path, &stream::Options::new(), Duration::from_secs(10))?;
    for n in 0..count {
        let mut payload = n.to_le_bytes().repeat(if n % 100 == 99 { LONG / 4 } else { 8 });
        payload[..4].copy_from_slice(&std::process::id().to_le_bytes());
        tx.send(Header::PLAIN, &payload)?;
    }
    tx.close(Deadline::never())
}

/// Copies frames from the FIFO into the ring, until the frame that ends the bridge.
fn bridge(path: &Path, name: &str) -> slipring::Result<()> {
    let mut rx = fifo::receiver(path, &stream::Options::new())?;
    let mut tx = ring::Sender::from(spsc::Producer::open(name, &options())?);
    loop {
        match rx.recv() {
            Ok(Event::Frame(frame)) if frame.header.kind == STOP => return tx.close(Deadline::never()),
            Ok(Event::Frame(frame)) => tx.send(frame.header, frame.payload)?,
            Ok(other) => eprintln!("bridge: {other:?}"),
            // The last writer has sent BYE, or was killed. Another one may open the FIFO.
            Err(slipring::Error::Closed | slipring::Error::PeerDead) => rx.wait_for_peer(Deadline::never())?,
            Err(error) => return Err(error),
        }
    }
}

/// Reads the ring, and starts the other processes.
fn read() -> Result<(), Box<dyn Error>> {
    let name = format!("example-bridge-{}", std::process::id());
    let path = std::env::temp_dir().join(&name);
    let _removed = Removed { path: path.clone(), name: name.clone() };
    let consumer = spsc::Consumer::open(&name, &options())?;
    let place = path.to_str().ok_or("a directory for temporary files whose name is text")?;

    let mut bridge = start(&["bridge", place, &name])?;
    consumer.wait_for_peer(Duration::from_secs(10))?;
    let mut rx = ring::Receiver::from(consumer);
    let count = FRAMES.to_string();
    let mut writers = [start(&["write", place, &count])?, start(&["write", place, &count])?];
    let mut doomed = start(&["write", place, "4000000000"])?; // would take a while

    // Number of frames received from each writer.
    let mut came = HashMap::new();
    let all = [writers[0].id(), writers[1].id(), doomed.id()];
    while all.iter().any(|writer| came.get(writer) < Some(&FRAMES)) {
        next(&mut rx, &mut came)?;
    }
    doomed.kill()?;
    doomed.wait()?;
    // In another thread, because this one must continue reading, or there might be no room in the
    // FIFO.
    let stopping = std::thread::spawn(move || stop(&path));
    while next(&mut rx, &mut came)? {}
    stopping.join().map_err(|_| "the bridge could not be stopped")??;

    for writer in &mut writers {
        assert!(writer.wait()?.success());
        println!("writer {}: all of its {} frames arrived", writer.id(), came[&writer.id()]);
    }
    println!("writer {}: {} frames arrived, all intact, until it was killed", doomed.id(), came[&doomed.id()]);
    println!("bridge {}: {}", bridge.id(), bridge.wait()?);
    Ok(())
}

/// Receives one frame. Returns false at the end.
fn next(rx: &mut ring::Receiver, came: &mut HashMap<u32, u32>) -> Result<bool, Box<dyn Error>> {
    match rx.recv() {
        Ok(Event::Frame(frame)) => {
            let (writer, numbers) = frame.payload.split_at(4);
            let expected = came.entry(u32::from_le_bytes(writer.try_into()?)).or_default();
            assert!(numbers.chunks(4).all(|number| number == expected.to_le_bytes()), "whole, and in order");
            *expected += 1;
            Ok(true)
        }
        Ok(other) => Err(format!("not the next frame: {other:?}").into()),
        Err(slipring::Error::Closed) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn stop(path: &Path) -> slipring::Result<()> {
    let mut tx = fifo::sender(path, &stream::Options::new(), Duration::from_secs(10))?;
    tx.send(Header { kind: STOP, ..Header::PLAIN }, &[])?;
    tx.close(Deadline::never())
}

fn start(arguments: &[&str]) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).args(arguments).spawn()
}

/// Removes the ring and the FIFO when dropped.
struct Removed {
    path: PathBuf,
    name: String,
}

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = Ring::remove(&self.name, &options());
    }
}
