//! The loops that are measured, and those at their other end. Each message is written, read and compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::crew::Trouble;
use super::figures::{Times, now_ns};
use super::part::Answer;
use super::payload::{STOP, check, fill, mix, number};
use super::ports::{Rx, Tx};
use crate::failure::Outcome;

/// Messages between two readings of the clock, where it is read for the end of a run only.
const CLOCK_EVERY: u64 = 64;
/// Messages of which those since the last reading of the clock are a noticeable part.
const FEW: u64 = 20 * CLOCK_EVERY;
/// Round trips before those that count, at most; and the part of a run they may take.
const WARM_UP: u64 = 1000;
const WARM_UP_PART: u64 = 10;
/// A run that is so many times over its time ends, if it has come to anything.
const PATIENCE: u64 = 2;
/// Whoever has longer than this until its next message sleeps.
const SLEEP_FROM_NS: u64 = 300_000;

/// When a run ends: after `count` messages, or else when it has taken `ns` and come to `least`; where that takes too long, when
/// it has come to `enough`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Until {
    pub(super) count: Option<u64>,
    pub(super) enough: u64,
    pub(super) least: u64,
    pub(super) ns: u64,
}

impl Until {
    #[inline]
    fn is_over(&self, done: u64, ns: u64) -> bool {
        match self.count {
            Some(count) => done >= count,
            None => ns >= self.ns && done >= self.least || ns >= PATIENCE * self.ns && done >= self.enough,
        }
    }

    /// The same after `more` messages that do not count.
    pub(super) fn after(&self, more: u64) -> Until {
        let Until { count, enough, least, ns } = *self;
        Until { count: count.map(|count| count + more), enough: enough + more, least: least + more, ns }
    }

    /// Whether `done` messages can be the end, so that it is worth reading a clock.
    #[inline]
    fn may_be_over(&self, done: u64) -> bool {
        self.count == Some(done) || self.count.is_none() && done.is_multiple_of(CLOCK_EVERY)
    }
}

/// Messages at intended times, whatever became of those before (open loop).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Pace {
    /// When the first one is due, by `CLOCK_MONOTONIC`.
    pub(super) start: u64,
    pub(super) interval_ns: f64,
}

impl Pace {
    /// From a few milliseconds on, so that both sides are ready.
    pub(super) fn from_now(rate: f64) -> Self {
        Pace { start: now_ns() + 5_000_000, interval_ns: 1e9 / rate }
    }

    #[inline]
    pub(super) fn due(&self, index: u64) -> u64 {
        self.start + (index as f64 * self.interval_ns) as u64
    }

    /// Waits until message `index` is due, and says when that was.
    #[inline]
    fn wait(&self, index: u64) -> u64 {
        let due = self.due(index);
        loop {
            match due.saturating_sub(now_ns()) {
                0 => return due,
                left if left > SLEEP_FROM_NS => std::thread::sleep(Duration::from_nanos(left - SLEEP_FROM_NS / 2)),
                _ => std::hint::spin_loop(),
            }
        }
    }
}

/// When round trips begin: one right after the other, unless this says otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Tempo {
    /// So many per second, in an open loop.
    pub(super) rate: Option<f64>,
    /// So long after the one before, so that the other side has fallen asleep; no part of what is measured.
    pub(super) pause: Option<Duration>,
}

/// What a run of round trips came to.
pub(super) struct Trips {
    /// Round trips that count.
    pub(super) count: u64,
    /// Those and all others.
    pub(super) all: u64,
    pub(super) ns: u64,
}

/// Sends messages and waits for each to come back. With a pace, a trip begins when it was due, not when there was time for
/// it.
pub(super) fn ping(
    tx: &mut impl Tx,
    rx: &mut impl Rx,
    size: usize,
    until: &Until,
    tempo: Tempo,
    clock: u64,
    times: &mut Times,
) -> Result<Trips, Trouble> {
    let Tempo { rate, pause } = tempo;
    let mut trip = |seq: u64| {
        tx.send(size, |message| fill(message, seq))?;
        match rx.recv(|message| message.len() == size && check(message, seq))? {
            true => Ok(()),
            false => Err(Trouble::Wrong(format!("message {seq} of {size} bytes did not come back as it went"))),
        }
    };
    let start = now_ns();
    let mut seq = 0;
    while seq < WARM_UP && now_ns() - start <= until.ns / WARM_UP_PART {
        pause.inspect(|pause| std::thread::sleep(*pause));
        trip(seq)?;
        seq += 1;
    }
    let pace = rate.map(Pace::from_now);
    let start = pace.map_or_else(now_ns, |pace| pace.start);
    let (mut count, mut end) = (0, start);
    while !until.is_over(count, end.saturating_sub(start)) {
        pause.inspect(|pause| std::thread::sleep(*pause));
        let begin = pace.map_or_else(now_ns, |pace| pace.wait(count));
        trip(seq)?;
        end = now_ns();
        times.add((end - begin).saturating_sub(clock) as f64);
        seq += 1;
        count += 1;
    }
    trip(STOP)?;
    Ok(Trips { count, all: seq + 1, ns: end.saturating_sub(start) })
}

/// Sends back what comes.
pub(super) fn echo(tx: &mut impl Tx, rx: &mut impl Rx) -> slipring::Result<()> {
    loop {
        let last = rx.recv(|message| {
            tx.send(message.len(), |copy| copy.copy_from_slice(message))?;
            Ok(number(message) == Some(STOP))
        })??;
        if last {
            return Ok(());
        }
    }
}

/// Sends messages numbered from `first`, and the one that ends the run if `stop`. Returns their number, a sum over their
/// numbers, and the time.
pub(super) fn produce(
    tx: &mut impl Tx,
    size: usize,
    first: u64,
    until: &Until,
    pace: Option<Pace>,
    stop: bool,
) -> slipring::Result<(u64, u64, u64)> {
    let start = pace.map_or_else(now_ns, |pace| pace.start);
    let (mut count, mut sum) = (0, 0u64);
    loop {
        if until.may_be_over(count) && until.is_over(count, now_ns().saturating_sub(start)) {
            break;
        }
        if let Some(pace) = pace {
            pace.wait(count);
        }
        let seq = first + count;
        tx.send(size, |message| fill(message, seq))?;
        sum = sum.wrapping_add(mix(seq));
        count += 1;
    }
    let ns = now_ns().saturating_sub(start);
    if stop {
        tx.send(size, |message| fill(message, STOP))?;
    }
    Ok((count, sum, ns))
}

/// Receives messages of any sender in any order. Each must be whole; which ones they were, the sum tells.
pub(super) fn consume(rx: &mut impl Rx) -> Result<Answer, Trouble> {
    let (mut count, mut sum, mut first_ns, mut last_ns) = (0, 0u64, 0, 0);
    loop {
        match rx.recv(|message| number(message).filter(|seq| check(message, *seq)))? {
            Some(STOP) => {
                // With so few messages, it matters less that the end of the run came a moment after the last of them.
                let last_ns = if count < FEW { now_ns() } else { last_ns };
                return Ok(Answer::Consumed { count, sum, first_ns, last_ns });
            }
            Some(seq) => {
                sum = sum.wrapping_add(mix(seq));
                if count % CLOCK_EVERY == 0 {
                    last_ns = now_ns();
                    if count == 0 {
                        first_ns = last_ns;
                    }
                }
                count += 1;
            }
            None => return Err(Trouble::Wrong(format!("message {count} that was received is not what was sent"))),
        }
    }
}

/// What is to be measured of a stream.
pub(super) struct Watch {
    pub(super) size: usize,
    /// Messages before those that count.
    pub(super) warm_up: u64,
    /// Messages between two readings of the clock.
    pub(super) block: u64,
    pub(super) pace: Option<Pace>,
    /// What one reading of the clock takes.
    pub(super) clock: u64,
}

/// Receives a stream of messages numbered from 0, up to the one that ends it. Without a pace, times blocks of messages;
/// with one, how long after it was due each message was here. Returns how many messages count.
pub(super) fn drain(rx: &mut impl Rx, watch: &Watch, times: &mut Times) -> Result<u64, Trouble> {
    let Watch { size, warm_up, block, pace, clock } = *watch;
    let mut count = 0;
    let mut mark: Option<u64> = None;
    let mut in_block = 0;
    let mut seq = 0;
    loop {
        let right = rx.recv(|message| match message.len() == size && check(message, seq) {
            true => Some(true),
            false => (number(message) == Some(STOP)).then_some(false),
        })?;
        match right {
            Some(true) => {}
            Some(false) => return Ok(count),
            None => return Err(Trouble::Wrong(format!("message {seq} of {size} bytes is not what was sent"))),
        }
        seq += 1;
        if seq < warm_up {
            continue;
        }
        in_block += 1;
        if let Some(pace) = pace {
            times.add(now_ns().saturating_sub(pace.due(seq - 1)).saturating_sub(clock) as f64);
            count += 1;
        } else if mark.is_none() || in_block == block {
            let now = now_ns();
            if let Some(mark) = mark {
                let ns = (now - mark).saturating_sub(clock);
                times.add_many(ns as f64 / block as f64, block);
                count += block;
            }
            mark = Some(now);
            in_block = 0;
        }
    }
}

/// Threads that compete for the processors, until dropped.
pub(super) struct Busy {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    /// So many, each on whichever of `cpus` it gets.
    pub(super) fn start(count: usize, cpus: &[usize]) -> Outcome<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|_| {
            let (over, cpus) = (Arc::clone(&over), cpus.to_vec());
            crate::opening::spawn(move || {
                crate::child::confine(cpus);
                let mut work = 1u64;
                while !over.load(Ordering::Relaxed) {
                    (0..1000).for_each(|_| work = std::hint::black_box(mix(work)));
                }
            })
        });
        let threads = threads.collect::<Outcome<_>>();
        over.store(threads.is_err(), Ordering::Relaxed); // ends those that there are
        Ok(Busy { threads: threads?, over })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // A thread that only computes does not panic.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
