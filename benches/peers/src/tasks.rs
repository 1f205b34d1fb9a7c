//! The loops that are timed, the same for all peers.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use zerocopy::IntoBytes;

use crate::ends::{Get, Lossy, Poll, Put, Receiver, Sender, WORDS};
use crate::job::{Audience, Job, Report, Result, Wait};
use crate::message;

/// Nanoseconds of `CLOCK_MONOTONIC`, the same for all processes.
#[inline]
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one reading of the clock takes: the mean of the middle half of 1,000, since the clock may
/// count in tens of nanoseconds.
fn clock_cost() -> f64 {
    let mut costs: Vec<u64> = (0..1001).map(|_| now()).collect::<Vec<_>>().windows(2).map(|w| w[1] - w[0]).collect();
    costs.sort_unstable();
    costs[250..750].iter().sum::<u64>() as f64 / 500.0
}

/// Round trips in nanoseconds, without the cost of reading the clock and without the first tenth.
pub(crate) struct Times {
    histogram: Histogram<u64>,
    clock: f64,
    skip: u64,
}

impl Times {
    pub(crate) fn new(rounds: u64) -> Result<Self> {
        Ok(Times { histogram: Histogram::new_with_max(60_000_000_000, 3)?, clock: clock_cost(), skip: rounds / 10 })
    }

    #[inline]
    pub(crate) fn add(&mut self, ns: u64) {
        match self.skip.checked_sub(1) {
            Some(left) => self.skip = left,
            None => self.histogram.saturating_record(ns.max(1)),
        }
    }

    pub(crate) fn report(&self) -> Report {
        let without_clock = |ns: f64| Some((ns - self.clock).max(1.0));
        let at = |quantile| without_clock(self.histogram.value_at_quantile(quantile) as f64);
        Report { median: without_clock(self.middle()), p99: at(0.99), p9999: at(0.9999), ..Report::default() }
    }

    /// The mean of the middle half. A clock that counts in tens of nanoseconds would round the
    /// median to one of them.
    fn middle(&self) -> f64 {
        let half = self.histogram.len() / 2;
        let (mut seen, mut sum) = (0, 0.0);
        for value in self.histogram.iter_recorded() {
            let count = value.count_at_value();
            // How many of these lie in the middle half.
            let inside = (seen + count).min(half / 2 + half).saturating_sub(seen.max(half / 2));
            sum += inside as f64 * value.value_iterated_to() as f64;
            seen += count;
        }
        sum / half.max(1) as f64
    }
}

/// If both ends sleep, each stays busy for this long before it sends, so that the other is asleep
/// by then: longer than any peer spins before it sleeps.
const UNTIL_ASLEEP_NS: u64 = 100_000;

fn let_sleep(job: &Job) {
    if job.links[0].wait == Wait::Sleep {
        let until = now() + UNTIL_ASLEEP_NS;
        while now() < until {
            std::hint::spin_loop();
        }
    }
}

/// Sends a message and waits until it is sent back.
pub(crate) fn ping<const W: usize>(job: &Job, mut tx: impl Sender<W>, mut rx: impl Receiver<W>) -> Result<Report> {
    let mut times = Times::new(job.count)?;
    let pause = if job.links[0].wait == Wait::Sleep { UNTIL_ASLEEP_NS } else { 0 };
    for seq in 0..job.count {
        let_sleep(job);
        let start = now();
        tx.send(|bytes| message::write::<W>(bytes, seq));
        let mut back = None;
        rx.recv(|bytes| back = message::read::<W>(bytes));
        times.add((now() - start).saturating_sub(pause));
        if back != Some(seq) {
            return Err(format!("received {back:?}, not {seq}").into());
        }
    }
    Ok(times.report())
}

/// Reads each message and sends one with the same number back.
pub(crate) fn pong<const W: usize>(job: &Job, mut tx: impl Sender<W>, mut rx: impl Receiver<W>) -> Result<Report> {
    for seq in 0..job.count {
        let mut came = None;
        rx.recv(|bytes| came = message::read::<W>(bytes));
        if came != Some(seq) {
            return Err(format!("received {came:?}, not {seq}").into());
        }
        let_sleep(job);
        tx.send(|bytes| message::write::<W>(bytes, seq));
    }
    Ok(Report::default())
}

pub(crate) fn stream<const W: usize>(job: &Job, tx: &mut impl Sender<W>) -> Result<Report> {
    for seq in 0..job.count {
        tx.send(|bytes| message::write::<W>(bytes, seq));
    }
    tx.flush();
    Ok(Report { sent: job.count, ..Report::default() })
}

/// Reads the clock once per block, which is at least one lap of the ring. The figure is the median
/// block, without the first tenth. A block that the scheduler interrupted is an outlier, which does
/// not affect the median.
pub(crate) fn sink<const W: usize>(job: &Job, mut rx: impl Receiver<W>) -> Result<Report> {
    let mut marks = Vec::with_capacity((job.count / job.block) as usize + 1);
    let mut next = 0;
    let mut wrong = None;
    marks.push(now());
    while next < job.count {
        rx.recv(|bytes| {
            if message::read::<W>(bytes) != Some(next) {
                wrong.get_or_insert(next);
            }
            next += 1;
            if next % job.block == 0 {
                marks.push(now());
            }
        });
        if let Some(seq) = wrong {
            return Err(format!("message {seq} is missing or torn").into());
        }
    }
    Ok(Report { median: median(&marks, job.block), received: next, ..Report::default() })
}

/// Nanoseconds per message in the median block, without the first tenth of them.
fn median(marks: &[u64], block: u64) -> Option<f64> {
    let per_message = |pair: &[u64]| (pair[1] - pair[0]) as f64 / block as f64;
    let mut blocks: Vec<f64> = marks.windows(2).map(per_message).skip(marks.len() / 10).collect();
    blocks.sort_by(f64::total_cmp);
    blocks.get(blocks.len() / 2).copied()
}

/// Sends the messages of sender `who`, then the end.
pub(crate) fn feed<const W: usize>(job: &Job, who: usize, mut tx: impl Sender<W>) -> Result<Report> {
    let first = (who as u64) << 40;
    let from = now();
    let mut sum = 0u64;
    for seq in first..first + job.count {
        tx.send(|bytes| message::write::<W>(bytes, seq));
        sum = sum.wrapping_add(seq);
    }
    tx.send(|bytes| message::write::<W>(bytes, message::END));
    tx.flush();
    Ok(Report { from, to: from, sent: job.count, sum, ..Report::default() })
}

/// Receives messages until the end of some sender: there are as many receivers as senders, so each
/// gets one end. All messages sent before the last end have then been received, since all queues
/// here are first in, first out.
pub(crate) fn drain<const W: usize>(mut rx: impl Receiver<W>) -> Result<Report> {
    let (mut from, mut received, mut sum) = (0, 0, 0u64);
    loop {
        let mut seq = None;
        rx.recv(|bytes| seq = message::read::<W>(bytes));
        match seq {
            Some(message::END) => break,
            Some(seq) => sum = sum.wrapping_sub(seq),
            None => return Err(format!("a torn message, after {received}").into()),
        }
        if received == 0 {
            from = now();
        }
        received += 1;
    }
    let to = now();
    Ok(Report { from: if received == 0 { to } else { from }, to, received, sum, ..Report::default() })
}

/// Receives from several senders until each has ended; checks that the messages of each are in
/// order. The figure is as that of [`sink`].
pub(crate) fn gather<const W: usize>(job: &Job, senders: usize, mut rx: impl Receiver<W>) -> Result<Report> {
    let mut next: Vec<u64> = (0..senders as u64).map(|who| who << 40).collect();
    let mut marks = vec![now()];
    let (mut received, mut ended, mut wrong) = (0, 0, None);
    while ended < senders {
        rx.recv(|bytes| {
            let seq = message::read::<W>(bytes);
            if seq == Some(message::END) {
                ended += 1;
                return;
            }
            match seq.and_then(|seq| next.get_mut((seq >> 40) as usize).filter(|next| **next == seq)) {
                Some(next) => *next += 1,
                None => wrong = wrong.or(Some(seq)),
            }
            received += 1;
            if received % job.block == 0 {
                marks.push(now());
            }
        });
        if let Some(seq) = wrong {
            return Err(format!("message {seq:?} is torn or not the next of its sender").into());
        }
    }
    if received != job.count * senders as u64 {
        return Err(format!("received {received} messages of {senders} times {}", job.count).into());
    }
    Ok(Report { median: median(&marks, job.block), received, ..Report::default() })
}

/// Sends messages to receivers that it does not wait for. The figure is as that of [`sink`], but
/// taken by the sender.
pub(crate) fn publish(job: &Job, tx: &mut impl Sender<WORDS>) -> Report {
    let mut marks = Vec::with_capacity((job.count / job.block) as usize + 1);
    marks.push(now());
    for seq in 0..job.count {
        tx.send(|bytes| message::write::<WORDS>(bytes, seq));
        if (seq + 1) % job.block == 0 {
            marks.push(now());
        }
    }
    Report { median: median(&marks, job.block), sent: job.count, ..Report::default() }
}

/// Receives what it can until the sender has finished and nothing is left. Checks that messages are
/// whole and in order, and that as many were missed as the peer said, if it says that.
pub(crate) fn watch(
    job: &Job,
    audience: Audience,
    mut rx: impl Lossy,
    is_finished: impl Fn() -> bool,
) -> Result<Report> {
    while audience.stopped && !is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let (mut next, mut received, mut missed, mut told) = (0, 0, 0, Some(0));
    loop {
        let was_finished = is_finished();
        let mut seq = None;
        match rx.poll(|bytes| seq = message::read::<WORDS>(bytes)) {
            Poll::Message => {
                let seq = seq.filter(|seq| *seq >= next).ok_or("a message is torn or came twice")?;
                missed += seq - next;
                next = seq + 1;
                received += 1;
            }
            Poll::Missed(messages) => told = told.zip(messages).map(|(all, messages)| all + messages),
            Poll::Nothing if was_finished => break,
            // The receivers share processors.
            Poll::Nothing if audience.receivers > 1 => std::thread::yield_now(),
            Poll::Nothing => std::hint::spin_loop(),
        }
    }
    missed += job.count - next;
    if told.is_some_and(|told| told > 0 && told != missed) {
        return Err(format!("missed {missed} messages, and was told {told:?}").into());
    }
    Ok(Report { received, missed, ..Report::default() })
}

fn value(n: u64) -> [u64; WORDS] {
    let mut value = [0; WORDS];
    message::write::<WORDS>(value.as_mut_bytes(), n);
    value
}

/// Times `access`, called with the numbers of all values, as [`publish`] does.
fn timed(job: &Job, mut access: impl FnMut(u64) -> Result<()>) -> Result<Report> {
    let mut marks = vec![now()];
    for n in 1..=job.count {
        access(n)?;
        if n % job.block == 0 {
            marks.push(now());
        }
    }
    Ok(Report { median: median(&marks, job.block), ..Report::default() })
}

/// The number of the newest value.
#[inline(always)]
fn number(rx: &mut impl Get) -> Result<u64> {
    let value = black_box(rx.get());
    message::read::<WORDS>(value.as_bytes()).ok_or_else(|| format!("torn: {value:x?}").into())
}

/// Writes values.
pub(crate) fn write(job: &Job, tx: &mut impl Put) -> Result<Report> {
    timed(job, |n| {
        tx.put(black_box(&value(n)));
        Ok(())
    })
}

/// Reads one value repeatedly.
pub(crate) fn read(job: &Job, tx: &mut impl Put, rx: &mut impl Get) -> Result<Report> {
    tx.put(&value(7));
    timed(job, |_| if number(rx)? == 7 { Ok(()) } else { Err("another value".into()) })
}

/// Writes each value, and reads it.
pub(crate) fn in_turn(job: &Job, tx: &mut impl Put, rx: &mut impl Get) -> Result<Report> {
    timed(job, |n| {
        tx.put(black_box(&value(n)));
        if number(rx)? == n { Ok(()) } else { Err(format!("not value {n}").into()) }
    })
}

/// Reads while another thread writes; values only get newer.
pub(crate) fn beside(job: &Job, rx: &mut impl Get) -> Result<Report> {
    let mut last = 0;
    timed(job, |_| {
        let now = number(rx)?;
        if now < last {
            return Err(format!("value {now} after {last}").into());
        }
        last = now;
        Ok(())
    })
}

/// Writes at full speed until it is told to end.
pub(crate) fn write_until(tx: &mut impl Put, over: &AtomicBool) {
    let mut n = 1;
    while !over.load(Ordering::Relaxed) {
        tx.put(&value(n));
        n += 1;
    }
}
