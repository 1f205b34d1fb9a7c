//! The loops that are measured, and the loops at their other end. Each message is written, read and
//! compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::figures::{Times, now_ns};
use super::payload::{STOP, check, fill, mix, number};
use super::ports::{Rx, Tx};
use super::trouble::Trouble;
use crate::failure::Outcome;

/// Messages between two readings of the clock, where only the end of a run is timed.
const CLOCK_EVERY: u64 = 64;
/// In streams of at least this many messages, those since the last reading of the clock are
/// negligible.
const FEW: u64 = 20 * CLOCK_EVERY;
/// The most round trips before those that count, and the part of a run that they may take.
const WARM_UP: u64 = 1000;
const WARM_UP_PART: u64 = 10;
/// A run that takes this many times its time ends, if it has enough messages.
const PATIENCE: u64 = 2;
/// A side that waits longer than this for its next message sleeps.
const SLEEP_FROM_NS: u64 = 300_000;

/// When a run ends: after `count` messages; or else when it has taken `ns` and has at least
/// `least`; and if that takes too long, when it has `enough`.
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

    /// The same limit after `more` messages that do not count.
    pub(super) fn after(&self, more: u64) -> Until {
        let Until { count, enough, least, ns } = *self;
        Until { count: count.map(|count| count + more), enough: enough + more, least: least + more, ns }
    }

    /// Whether the run may end after `done` messages, so that the clock has to be read.
    #[inline]
    fn may_be_over(&self, done: u64) -> bool {
        self.count == Some(done) || self.count.is_none() && done.is_multiple_of(CLOCK_EVERY)
    }
}

/// Messages at intended times, independent of delays before (open loop).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Pace {
    /// When the first message is due, by `CLOCK_MONOTONIC`.
    pub(super) start: u64,
    pub(super) interval_ns: f64,
}

impl Pace {
    /// Starts in a few milliseconds, so that both sides are ready.
    pub(super) fn from_now(rate: f64) -> Self {
        Pace { start: now_ns() + 5_000_000, interval_ns: 1e9 / rate }
    }

    #[inline]
    pub(super) fn due(&self, index: u64) -> u64 {
        self.start + (index as f64 * self.interval_ns) as u64
    }

    /// Waits until message `index` is due, and returns when that was.
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

/// When round trips begin: by default each right after the one before.
#[derive(Clone, Copy, Default)]
pub(super) struct Tempo {
    /// This many per second, in an open loop.
    pub(super) rate: Option<f64>,
    /// This long after the one before, so that the other side falls asleep. The pause is not
    /// measured.
    pub(super) pause: Option<Duration>,
}

/// The result of a run of round trips.
pub(super) struct Trips {
    /// Round trips that count.
    pub(super) count: u64,
    /// All round trips.
    pub(super) all: u64,
    pub(super) ns: u64,
}

/// Sends messages and waits for each to be sent back. With a pace, a trip begins when it is due,
/// even if it is sent later.
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
            false => Err(Trouble::Wrong(format!("message {seq} of {size} bytes came back changed"))),
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

/// Sends every message back.
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

/// Sends messages numbered from `first`, and if `stop` the one that ends the run. Returns their
/// number, the sum of their mixed numbers, and the time.
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

/// What [`consume`] received.
pub(super) struct Consumed {
    pub(super) count: u64,
    /// The sum of their mixed numbers.
    pub(super) sum: u64,
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

/// Receives messages of any sender in any order. Each must be intact; the sum shows whether all of
/// them arrived.
pub(super) fn consume(rx: &mut impl Rx) -> Result<Consumed, Trouble> {
    let (mut count, mut sum, mut first_ns, mut last_ns) = (0, 0u64, 0, 0);
    loop {
        match rx.recv(|message| number(message).filter(|seq| check(message, *seq)))? {
            Some(STOP) => {
                // With so few messages, `last_ns` may be too old; reading the clock now is more
                // exact.
                let last_ns = if count < FEW { now_ns() } else { last_ns };
                return Ok(Consumed { count, sum, first_ns, last_ns });
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

/// What to measure of a stream.
pub(super) struct Watch {
    pub(super) size: usize,
    /// Messages before those that count.
    pub(super) warm_up: u64,
    /// Messages between two readings of the clock.
    pub(super) block: u64,
    pub(super) pace: Option<Pace>,
    /// The cost of one reading of the clock.
    pub(super) clock: u64,
}

/// Receives a stream of messages numbered from 0, up to the one that ends it. Without a pace, it
/// times blocks of messages; with one, how long after it was due each message was received. Returns
/// how many messages count.
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
    /// Starts `count` threads, each on any of `cpus`.
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
        over.store(threads.is_err(), Ordering::Relaxed); // ends the threads that were started
        Ok(Busy { threads: threads?, over })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // These threads only compute, so they do not panic.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
