//! Frames between a parent and its children over pipes. The children are this program, `cat`, and a
//! line of shell.
//!
//! ```text
//! cargo run --release --example parent_child_pipe
//! ```
//!
//! The first child gets a pipe in each direction beside its standard streams. `cat` does not know
//! frames: it returns them unchanged. The shell writes a frame by hand, following
//! `docs/framing.md`.

use std::error::Error;
use std::process::{Command, Stdio};

use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, stream};
use slipring::{Deadline, Error as Reason};

/// Kinds of the application: a word, and its answer.
const WORD: u16 = 0x0100;
const COUNT: u16 = 0x0101;

const TEXT: &str = "a slip ring carries signals between parts that turn independently of each other";
/// `hello`: sync, version and header length, flags, length; kind, stream, sequence number; payload,
/// padded with zeros to 24 bytes.
const BY_HAND: &str = r"printf '\267\122\022\003\005\000\000\000\000\001\000\000\000\000\000\000hello\000\000\000'";

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).is_some_and(|argument| argument == "child") {
        return Ok(count_letters()?);
    }
    ourselves()?;
    cat()?;
    shell()
}

fn options() -> stream::Options {
    stream::Options::new()
}

/// Runs a child that adopts the pipes that its parent has passed.
fn ourselves() -> Result<(), Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child");
    let (mut child, mut tx, mut rx) = pipe::spawn(command, &options())?;
    let mut letters = 0;
    for word in TEXT.split(' ') {
        tx.send(Header { kind: WORD, ..Header::PLAIN }, word.as_bytes())?;
        match rx.recv()? {
            Event::Frame(frame) if frame.header.kind == COUNT => {
                letters += u64::from_le_bytes(frame.payload.try_into()?)
            }
            other => return Err(format!("an answer was expected: {other:?}").into()),
        }
    }
    tx.close(Deadline::never())?; // sends BYE: the child sees an orderly end, not a death
    println!("child {}: {letters} letters, {}", child.id(), child.wait()?);
    assert!(matches!(rx.recv(), Err(Reason::Closed)));
    assert_eq!(letters as usize, TEXT.replace(' ', "").len());
    Ok(())
}

/// The child: answers each word.
fn count_letters() -> slipring::Result<()> {
    let (mut tx, mut rx) = pipe::inherited(&options())?;
    loop {
        match rx.recv() {
            Ok(Event::Frame(frame)) if frame.header.kind == WORD => {
                let letters = frame.payload.len() as u64;
                tx.send(Header { kind: COUNT, ..Header::PLAIN }, &letters.to_le_bytes())?;
            }
            Ok(_) => {} // frames of other kinds are ignored
            Err(Reason::Closed) => return tx.close(Deadline::never()),
            Err(error) => return Err(error), // `PeerDead`: the parent was killed
        }
    }
}

/// Sends frames through a program that does not know them, on its standard input and output.
fn cat() -> Result<(), Box<dyn Error>> {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { unreachable!("both are piped") };
    // Frames are collected into few writes. No more than the pipes hold, since this process does
    // not read meanwhile.
    let mut tx = pipe::sender(stdin.into(), &options().batch(true))?;
    let mut rx = pipe::receiver(stdout.into(), &options())?;
    let mut came = 0;
    for _ in 0..100 {
        (0..100).try_for_each(|n: u32| tx.send(Header::PLAIN, &n.to_le_bytes()))?;
        tx.flush(Deadline::never())?;
        for n in 0..100u32 {
            assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == n.to_le_bytes()));
            came += 1;
        }
    }
    tx.close(Deadline::never())?;
    assert!(matches!(rx.recv(), Err(Reason::Closed)), "cat has returned the BYE");
    println!("cat: {came} frames returned, {}", child.wait()?);
    Ok(())
}

/// Receives a frame from a program that does not use this library.
fn shell() -> Result<(), Box<dyn Error>> {
    let mut child = Command::new("sh").args(["-c", BY_HAND]).stdout(Stdio::piped()).spawn()?;
    let Some(stdout) = child.stdout.take() else { unreachable!("it is piped") };
    let mut rx = pipe::receiver(stdout.into(), &options())?;
    let Event::Frame(frame) = rx.recv()? else { return Err("no frame".into()) };
    println!("shell: {:?}, made by hand", String::from_utf8_lossy(frame.payload));
    assert!(matches!(rx.recv(), Err(Reason::Closed)), "without HELLO, a sender may end without BYE");
    child.wait()?;
    Ok(())
}
