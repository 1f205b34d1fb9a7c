//! A ring, a pipe and a timer in tasks of one runtime of Tokio.
//!
//! ```text
//! cargo run --release --example tokio
//! ```
//!
//! A producer, which runs this program, sends frames over a ring. One task receives them, one
//! answers an operator over pipes with slipring's frames, and the main task prints a line every
//! 100 ms and ends when the ring does. The ring wakes its task over the library's reactor, the
//! pipes over Tokio's own event loop.

use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::spsc::{self, AsyncConsumer};
use slipring::transport::{AsyncReceiver, AsyncSender, pipe, stream};
use slipring::{Options, Ring};
use tokio::task::LocalSet;

const FRAMES: u64 = 500_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name] => Ok(produce(name)?),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(LocalSet::new().run_until(consume()))
        }
    }
}

fn options() -> Options {
    Options::spsc(1 << 16)
}

fn produce(name: &str) -> slipring::Result<()> {
    let mut tx = spsc::Producer::open(name, &options())?;
    for n in 0..FRAMES {
        tx.send(&n.to_le_bytes())?;
        if n % 10_000 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

async fn consume() -> Result<(), Failure> {
    let name = format!("example-tokio-{}", std::process::id());
    let rx = AsyncConsumer::new(spsc::Consumer::open(&name, &options())?);
    let mut producer = Command::new(std::env::current_exe()?).arg(&name).spawn()?;
    let received = Rc::new(Cell::new(0));

    let mut receiving = tokio::task::spawn_local(receive(rx, Rc::clone(&received)));
    let (questions_in, questions) = pipe::pair(&stream::Options::new())?;
    let (answers_in, answers) = pipe::pair(&stream::Options::new())?;
    let answering = tokio::task::spawn_local(answer(
        AsyncReceiver::in_tokio(Box::new(questions)),
        AsyncSender::in_tokio(Box::new(answers_in)),
        Rc::clone(&received),
    ));
    let asking = tokio::task::spawn_local(ask(
        AsyncSender::in_tokio(Box::new(questions_in)),
        AsyncReceiver::in_tokio(Box::new(answers)),
    ));

    let start = Instant::now();
    loop {
        // The time-out drops the future that waits; nothing is lost.
        match tokio::time::timeout(Duration::from_millis(100), &mut receiving).await {
            Err(_) => println!("{:4} ms: {} frames", start.elapsed().as_millis(), received.get()),
            Ok(end) => break end??,
        }
    }
    println!("{} frames in {:?}", received.get(), start.elapsed());
    println!("the operator was told: {}", asking.await??);
    answering.await??;
    producer.wait()?;
    Ring::remove(&name, &options())?;
    Ok(())
}

async fn receive(mut rx: AsyncConsumer, received: Rc<Cell<u64>>) -> slipring::Result<()> {
    loop {
        match rx.recv().await {
            Ok(frame) => assert_eq!(*frame, received.get().to_le_bytes()), // in place
            Err(slipring::Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        received.set(received.get() + 1);
        if received.get() % 1000 == 0 {
            tokio::task::yield_now().await; // a busy ring is never pending
        }
    }
}

async fn answer(mut rx: AsyncReceiver, mut tx: AsyncSender, received: Rc<Cell<u64>>) -> slipring::Result<()> {
    loop {
        match rx.recv().await {
            Ok(Event::Frame(frame)) if frame.payload == b"state?" => {}
            Ok(other) => println!("not a question: {other:?}"),
            Err(slipring::Error::Closed) => return tx.close().await,
            Err(error) => return Err(error),
        }
        tx.send(Header::PLAIN, format!("{} frames", received.get()).as_bytes()).await?;
        tx.flush().await?;
    }
}

/// Asks for the state once, after a moment: another program, normally.
async fn ask(mut tx: AsyncSender, mut rx: AsyncReceiver) -> slipring::Result<String> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    tx.send(Header::PLAIN, b"state?").await?;
    tx.close().await?;
    match rx.recv().await? {
        Event::Frame(frame) => Ok(String::from_utf8_lossy(frame.payload).into_owned()),
        other => Ok(format!("{other:?}")),
    }
}
