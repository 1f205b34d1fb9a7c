//! Two processes connect over a Unix socket, check each other's credentials, and switch to rings in
//! shared memory.
//!
//! ```text
//! cargo run --release --example unix_upgrade
//! ```
//!
//! The server starts the client, which is this program again. The client asks a hundred thousand
//! questions, first over the socket and then over the rings: the same frames and traits, but
//! without system calls.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::transport::unix::{Connection, Listener, Options, connect, connect_upgrading};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

const QUESTIONS: u32 = 100_000;
/// Bytes of each ring.
const CAPACITY: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1) {
        None => serve(),
        Some(path) => Ok(ask(Path::new(&path))?),
    }
}

fn soon() -> Deadline {
    Duration::from_secs(10).into()
}

/// Serves two connections: the first stays on the socket, the second is upgraded.
fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("slipring-example-upgrade-{}", std::process::id()));
    // Only this user and root may connect; `Options::allow_uid` permits others.
    let listener = Listener::bind(&path, &Options::default())?;
    let mut client = Command::new(std::env::current_exe()?).arg(&path).spawn()?;
    for _ in 0..2 {
        let mut connection = listener.accept_upgrading(CAPACITY, soon())?;
        let who = connection.credentials()?;
        let how = match &connection {
            Connection::Stream(..) => "over the socket",
            Connection::Rings(_, rx) if rx.is_untrusted() => "over rings, each frame copied before it is read",
            Connection::Rings(..) => "over rings, each frame read in place",
        };
        println!("server: pid {} of user {} connected, {how}", who.pid, who.uid);
        if let Connection::Rings(tx, rx) = &mut connection {
            answer(tx, rx)?;
        } else if let Connection::Stream(tx, rx) = &mut connection {
            answer(tx, rx)?;
        }
    }
    let status = client.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the client: {status}").into()) }
}

/// Returns each number plus one, until the client closes.
fn answer(tx: &mut impl FrameSender, rx: &mut impl FrameReceiver) -> slipring::Result<()> {
    loop {
        match rx.recv() {
            Ok(Event::Frame(frame)) => {
                let question =
                    u32::from_le_bytes(frame.payload.try_into().map_err(|_| Error::Corrupt { what: "a question" })?);
                tx.send(Header::PLAIN, &(question + 1).to_le_bytes())?;
            }
            Ok(_) => {}
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn ask(path: &Path) -> slipring::Result<()> {
    let options = Options::default();
    let (mut tx, mut rx) = connect(path, &options, soon())?;
    questions("socket", &mut tx, &mut rx)?;
    let mut rings = connect_upgrading(path, &options, CAPACITY, soon())?;
    let server = rings.credentials()?;
    println!("client: pid {} of user {} listens", server.pid, server.uid);
    match &mut rings {
        Connection::Rings(tx, rx) => questions("rings", tx, rx),
        Connection::Stream(tx, rx) => questions("socket, as the server offers no rings", tx, rx),
    }
}

fn questions(over: &str, tx: &mut impl FrameSender, rx: &mut impl FrameReceiver) -> slipring::Result<()> {
    let start = Instant::now();
    for question in 0..QUESTIONS {
        tx.send(Header::PLAIN, &question.to_le_bytes())?;
        match rx.recv()? {
            Event::Frame(frame) => assert_eq!(frame.payload, (question + 1).to_le_bytes()),
            other => panic!("{other:?}"),
        }
    }
    let each = start.elapsed() / QUESTIONS;
    println!("client: {QUESTIONS} questions and answers over the {over}: {each:?} each");
    tx.close(soon())
}
