//! Part of `bench waitset`: eight rings whose senders send bursts and sleep, received by one thread
//! that waits for all of them. No message may be lost, and none may be late.

use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
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

/// How the receiver waits.
#[derive(Clone, Copy)]
enum Wait {
    Set,
    Epoll,
}

/// One row for each way to wait, over `count` messages of all senders.
pub(super) fn rows(count: Option<u64>) -> Outcome<Vec<Row>> {
    let each = count.unwrap_or(MESSAGES).div_ceil(RINGS as u64);
    [Wait::Set, Wait::Epoll].into_iter().map(|wait| row(wait, each)).collect()
}

fn row(wait: Wait, each: u64) -> Outcome<Row> {
    let (name, target) = match wait {
        Wait::Set => ("a set", "the latest of 1,000,000 messages of 8 senders through a set, in ms"),
        Wait::Epoll => ("epoll", "the latest of 1,000,000 messages of 8 senders through epoll, in ms"),
    };
    let options = Kind::Spsc.options(RING, MESSAGE, slipring::Idle::Park);
    let rings = (0..RINGS).map(|_| Ring::create_anonymous(&options)).collect::<slipring::Result<Vec<_>>>()?;
    let senders = rings.iter().map(spsc::Producer::attach).collect::<slipring::Result<Vec<_>>>()?;
    let mut receivers = rings.iter().map(ring::Receiver::attach).collect::<slipring::Result<Vec<_>>>()?;
    let times = std::thread::scope(|scope| {
        let sending: Vec<_> = senders
            .into_iter()
            .zip(0..)
            .map(|(mut sender, seed)| scope.spawn(move || send(&mut sender, seed, each)))
            .collect();
        let times = match wait {
            Wait::Set => by_set(&mut receivers, each),
            Wait::Epoll => receivers
                .into_iter()
                .map(ring::Receiver::with_doorbell)
                .collect::<slipring::Result<Vec<_>>>()
                .map_err(Failure::from)
                .and_then(|mut receivers| by_epoll(&mut receivers, each)),
        };
        // The receivers are gone if they have failed, so no sender waits for ever.
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

    /// Receives all that is there.
    fn take(&mut self, from: usize, receiver: &mut ring::Receiver) -> Outcome {
        loop {
            match receiver.try_recv() {
                Ok(frame::Event::Frame(frame)) => {
                    let (words, _) = frame.payload.as_chunks::<8>();
                    let [number, sent] = [0, 1].map(|at| words.get(at).map_or(u64::MAX, |w| u64::from_le_bytes(*w)));
                    if number != self.numbers[from] {
                        let expected = self.numbers[from];
                        let what = format_args!("sender {from}: message {number} in place of {expected}");
                        return Err(Failure::new(LOST, what));
                    }
                    self.numbers[from] += 1;
                    self.left -= 1;
                    self.times.add(now_ns().saturating_sub(sent) as f64);
                }
                Ok(_) => return Err(Failure::new(LOST, format_args!("sender {from}: a gap"))),
                // The last frame of a sender that has finished lies before its end.
                Err(Error::Empty | Error::Closed) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn by_set(receivers: &mut [ring::Receiver], each: u64) -> Outcome<Times> {
    let mut set = WaitSet::new()?;
    for (number, receiver) in receivers.iter().enumerate() {
        set.add(Token(number), receiver.readable()?)?;
    }
    let mut received = Received::new(each)?;
    while received.left > 0 {
        for Token(number) in set.wait()? {
            received.take(number, &mut receivers[number])?;
        }
    }
    Ok(received.times)
}

fn by_epoll(receivers: &mut [ring::Receiver], each: u64) -> Outcome<Times> {
    let failed = |e: rustix::io::Errno| Failure::new(FAILED, e).at("epoll");
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
    let mut received = Received::new(each)?;
    for (number, receiver) in receivers.iter_mut().enumerate() {
        let fd = receiver.poll_fd().ok_or_else(|| Failure::new(FAILED, "a ring without a descriptor"))?;
        epoll::add(&epoll, fd, EventData::new_u64(number as u64), EventFlags::IN).map_err(failed)?;
        received.take(number, receiver)?;
    }
    let mut buffer = [MaybeUninit::uninit(); RINGS];
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
