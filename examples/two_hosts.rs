//! TCP between two hosts, one of which is killed in the middle: a journal that gets every entry
//! once.
//!
//! ```text
//! cargo run --release --example two_hosts
//! ```
//!
//! The hosts are two loopback addresses, 127.0.0.1 and 127.0.0.2. (For real hosts, set
//! `Options::remote`.) A lost connection is reported and not re-established: only the application
//! knows what the peer did with the last frames. Here the journal's host first sends on each
//! connection, in an ACK, how many entries it has, and the sender continues from there.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use slipring::frame::{Event, Header, control};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, tcp};
use slipring::{Deadline, Error as Reason};

const ENTRIES: u32 = 20_000;
/// The journal's host is killed when it has this many entries.
const FATAL: u32 = 7_000;
/// Entries between two acknowledgements.
const STEP: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [address, journal] => Ok(keep(address.parse()?, journal.as_ref())?),
        _ => send(),
    }
}

fn soon() -> Deadline {
    Duration::from_secs(10).into()
}

/// 127.0.0.2: keeps the journal. An entry has four bytes; an incomplete one, left by the kill, is
/// cut off.
fn keep(address: SocketAddr, journal: &Path) -> Result<(), Box<dyn Error>> {
    let mut file = OpenOptions::new().create(true).append(true).open(journal)?;
    let mut kept = (file.metadata()?.len() / 4) as u32;
    file.set_len(u64::from(kept) * 4)?;
    let listener = tcp::Listener::bind(address, &tcp::Options::default())?;
    let (mut tx, mut rx) = listener.accept(soon())?;
    let ack = Header::control(control::ACK, 4)?;
    tx.send(ack, &kept.to_le_bytes())?;
    println!("127.0.0.2, pid {}: connected, {kept} entries so far", std::process::id());
    loop {
        match rx.recv() {
            Ok(Event::Frame(frame)) if !frame.header.is_control() => {
                assert_eq!(frame.payload, kept.to_le_bytes(), "what is missing comes next");
                file.write_all(frame.payload)?;
                kept += 1;
                if kept % STEP == 0 {
                    tx.send(ack, &kept.to_le_bytes())?;
                }
            }
            Ok(_) => {}
            Err(Reason::Closed) => return Ok(tx.close(soon())?),
            Err(error) => return Err(error.into()),
        }
    }
}

/// 127.0.0.1: sends the entries until all are acknowledged.
fn send() -> Result<(), Box<dyn Error>> {
    // A port that is free now.
    let address = TcpListener::bind("127.0.0.2:0")?.local_addr()?;
    let journal = Removed(std::env::temp_dir().join(format!("slipring-example-journal-{}", std::process::id())));
    let mut host = start(address, &journal.0)?;
    let mut is_killed = false;
    let mut kept = 0;
    while kept < ENTRIES {
        match talk(address, &mut kept, (!is_killed).then_some(&mut host)) {
            Ok(()) => {}
            Err(error @ (Reason::PeerDead | Reason::Closed)) => {
                println!("127.0.0.1: {kept} entries are acknowledged, and then: {error}");
                host.wait()?;
                is_killed = true;
                host = start(address, &journal.0)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    assert!(host.wait()?.success());
    let entries = std::fs::read(&journal.0)?;
    assert!(entries.chunks(4).eq((0..ENTRIES).map(u32::to_le_bytes)), "every entry once, in order");
    println!("127.0.0.1: the journal has all {ENTRIES} entries, each once");
    Ok(())
}

/// One connection: sends from where the journal is, until all entries are acknowledged or the
/// connection breaks.
fn talk(address: SocketAddr, kept: &mut u32, mut doomed: Option<&mut Child>) -> slipring::Result<()> {
    let (mut tx, mut rx) = tcp::connect(address, &tcp::Options::default(), soon())?; // waits for a listener
    *kept = acknowledged(&mut rx)?;
    let mut next = *kept;
    while *kept < ENTRIES {
        let until = (*kept + 10 * STEP).min(ENTRIES); // a window: this many may be in flight
        while next < until {
            tx.send(Header::PLAIN, &next.to_le_bytes())?;
            next += 1;
        }
        *kept = acknowledged(&mut rx)?;
        if *kept >= FATAL {
            if let Some(host) = doomed.take() {
                let _ = host.kill();
            }
        }
    }
    tx.close(soon())
}

/// Receives the next acknowledgement.
fn acknowledged(rx: &mut tcp::Receiver) -> slipring::Result<u32> {
    loop {
        if let Event::Frame(frame) = rx.recv()? {
            if let (true, Ok(kept)) = (frame.header.is_control(), frame.payload.try_into()) {
                return Ok(u32::from_le_bytes(kept));
            }
        }
    }
}

fn start(address: SocketAddr, journal: &Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(address.to_string()).arg(journal).spawn()
}

/// A file that is removed when dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
