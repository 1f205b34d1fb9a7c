//! Part of `bench waitset`: eight rings whose senders send bursts and sleep, received by one thread
//! that waits for all of them. No message may be lost, and none may be late.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use slipring::spsc::AsyncConsumer;
use slipring::transport::{FrameReceiver, ring};
use slipring::{Error, Ring, Token, WaitSet, frame, spsc};

use super::figures::{Times, now_ns};
use super::ports::Kind;
use super::report::{Row, Target, Unit};
use crate::failure::{FAILED, Failure, LOST, Outcome};

const RINGS: usize = 8;
const MESSAGES: u64 = 1_000_000;
const RING: usize = 64 << 10;
const MESSAGE: usize = 64;
/// The longest burst, and the longest sleep after one.
const BURST: u64 = 2_000;
const SLEEP_NS: u64 = 2_000_000;
/// Messages that a task receives before it lets the others run.
const TURN: u64 = 64;

/// A way to wait: the row, its target, and what receives so many messages from each ring. It calls
/// the function when it is ready.
type Way = (&'static str, &'static str, fn(&[Ring], u64, &dyn Fn()) -> Outcome<Times>);

const WAYS: [Way; 3] = [
    ("a set", "the latest of 1,000,000 messages of 8 senders through a set, in ms", by_set),
    ("epoll", "the latest of 1,000,000 messages of 8 senders through epoll, in ms", by_epoll),
    ("Tokio", "the latest of 1,000,000 messages of 8 senders through tasks of Tokio, in ms", by_tokio),
];

/// One row for each way to wait, over `count` messages of all senders.
pub(super) fn rows(count: Option<u64>) -> Outcome<Vec<Row>> {
    let each = count.unwrap_or(MESSAGES).div_ceil(RINGS as u64);
    WAYS.into_iter().map(|way| row(way, each)).collect()
}

fn row((name, target, receive): Way, each: u64) -> Outcome<Row> {
    let options = Kind::Spsc.options(RING, MESSAGE, slipring::Idle::Park);
    let rings = (0..RINGS).map(|_| Ring::create_anonymous(&options)).collect::<slipring::Result<Vec<_>>>()?;
    let senders = rings.iter().map(spsc::Producer::attach).collect::<slipring::Result<Vec<_>>>()?;
    let go = AtomicBool::new(false);
    let start = || go.store(true, Ordering::Release);
    let times = std::thread::scope(|scope| {
        let sending: Vec<_> = senders
            .into_iter()
            .zip(0..)
            .map(|(mut sender, seed)| {
                let go = &go;
                scope.spawn(move || {
                    while !go.load(Ordering::Acquire) {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    send(&mut sender, seed, each)
                })
            })
            .collect();
        let times = receive(&rings, each, &start);
        start(); // if it has failed before; its receivers are closed, so no sender waits for ever
        let sent = sending.into_iter().map(|sender| sender.join().unwrap_or(Err(Error::Closed)));
        let sent = sent.collect::<slipring::Result<Vec<_>>>();
        let times = times?;
        sent?;
        Ok::<_, Failure>(times)
    })?;
    let mut row = Row::new(format!("{RINGS} senders, {name}"), MESSAGE, Unit::OneWay);
    row.count = each * RINGS as u64;
    row.runs.push(times.median());
    row.targets.push((Target { what: target, at_most: 50.0 }, times.most() / 1e6));
    row.times = Some(times);
    Ok(row)
}

/// Sends bursts of any length, with sleeps between: each message has its number, and the time when
/// there was room for it.
fn send(sender: &mut spsc::Producer, seed: u64, count: u64) -> slipring::Result<()> {
    let mut dice = seed;
    let mut die = |most: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % most + 1
    };
    let mut number = 0;
    while number < count {
        for _ in 0..die(BURST).min(count - number) {
            let mut grant = sender.reserve(MESSAGE)?;
            grant[..8].copy_from_slice(&u64::to_le_bytes(number));
            grant[8..16].copy_from_slice(&now_ns().to_le_bytes());
            grant.commit(MESSAGE);
            number += 1;
        }
        std::thread::sleep(Duration::from_nanos(die(SLEEP_NS)));
    }
    Ok(())
}

/// What has come so far.
struct Received {
    numbers: [u64; RINGS],
    left: u64,
    times: Times,
}

impl Received {
    fn new(each: u64) -> Outcome<Self> {
        Ok(Received { numbers: [0; RINGS], left: each * RINGS as u64, times: Times::new()? })
    }

    fn add(&mut self, from: usize, message: &[u8]) -> Outcome {
        let (words, _) = message.as_chunks::<8>();
        let [number, sent] = [0, 1].map(|at| words.get(at).map_or(u64::MAX, |w| u64::from_le_bytes(*w)));
        let expected = self.numbers[from];
        if number != expected {
            let what = format_args!("sender {from}: message {number} in place of {expected}");
            return Err(Failure::new(LOST, what));
        }
        self.numbers[from] += 1;
        self.left -= 1;
        self.times.add(now_ns().saturating_sub(sent) as f64);
        Ok(())
    }

    /// Receives all that is there.
    fn take(&mut self, from: usize, receiver: &mut ring::Receiver) -> Outcome {
        loop {
            match receiver.try_recv() {
                Ok(frame::Event::Frame(frame)) => self.add(from, frame.payload)?,
                Ok(_) => return Err(Failure::new(LOST, format_args!("sender {from}: a gap"))),
                // The last frame of a sender that has finished lies before its end.
                Err(Error::Empty | Error::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn by_set(rings: &[Ring], each: u64, start: &dyn Fn()) -> Outcome<Times> {
    let mut receivers = rings.iter().map(ring::Receiver::attach).collect::<slipring::Result<Vec<_>>>()?;
    let mut set = WaitSet::new()?;
    for (number, receiver) in receivers.iter().enumerate() {
        set.add(Token(number), receiver.readable()?)?;
    }
    let mut received = Received::new(each)?;
    start();
    while received.left > 0 {
        for Token(number) in set.wait()? {
            received.take(number, &mut receivers[number])?;
        }
    }
    Ok(received.times)
}

fn by_epoll(rings: &[Ring], each: u64, start: &dyn Fn()) -> Outcome<Times> {
    let failed = |e: rustix::io::Errno| Failure::new(FAILED, e).at("epoll");
    let with_bell = |ring| ring::Receiver::attach(ring)?.with_doorbell();
    let mut receivers = rings.iter().map(with_bell).collect::<slipring::Result<Vec<_>>>()?;
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
    let mut received = Received::new(each)?;
    for (number, receiver) in receivers.iter_mut().enumerate() {
        let fd = receiver.poll_fd().ok_or_else(|| Failure::new(FAILED, "a ring without a descriptor"))?;
        epoll::add(&epoll, fd, EventData::new_u64(number as u64), EventFlags::IN).map_err(failed)?;
        received.take(number, receiver)?;
    }
    let mut buffer = [MaybeUninit::uninit(); RINGS];
    start();
    while received.left > 0 {
        let (events, _) = match epoll::wait(&epoll, &mut buffer, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(failed)?,
        };
        for event in events {
            let number = event.data.u64() as usize;
            received.take(number, &mut receivers[number])?;
        }
    }
    Ok(received.times)
}

/// A task for each ring, all in this thread.
fn by_tokio(rings: &[Ring], each: u64, start: &dyn Fn()) -> Outcome<Times> {
    let receivers = rings.iter().map(spsc::Consumer::attach).collect::<slipring::Result<Vec<_>>>()?;
    let received = Rc::new(RefCell::new(Received::new(each)?));
    let failed = |e: &dyn std::fmt::Display| Failure::new(FAILED, e).at("tokio");
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| failed(&e))?;
    let tasks = tokio::task::LocalSet::new();
    let receiving: Vec<_> = receivers
        .into_iter()
        .enumerate()
        .map(|(from, receiver)| tasks.spawn_local(receive_all(from, receiver.into(), Rc::clone(&received))))
        .collect();
    start();
    tasks.block_on(&runtime, async {
        for task in receiving {
            task.await.map_err(|e| failed(&e))??;
        }
        Ok::<_, Failure>(())
    })?;
    // A sender that ended early has left its task with less, and without an error.
    let Received { times, left, .. } = received.replace(Received::new(0)?);
    if left == 0 { Ok(times) } else { Err(Failure::new(LOST, format_args!("{left} messages are missing"))) }
}

async fn receive_all(from: usize, mut receiver: AsyncConsumer, received: Rc<RefCell<Received>>) -> Outcome {
    for count in 1.. {
        match receiver.recv().await {
            Ok(message) => received.borrow_mut().add(from, &message)?,
            Err(Error::Closed) => break,
            Err(error) => return Err(error.into()),
        }
        if count % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
