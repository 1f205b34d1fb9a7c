//! The loops that are timed, the same for all peers.

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::ends::{Receiver, Sender};
use crate::job::{Job, Report, Result, Wait};
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
    let per_message = |pair: &[u64]| (pair[1] - pair[0]) as f64 / job.block as f64;
    let mut blocks: Vec<f64> = marks.windows(2).map(per_message).skip(marks.len() / 10).collect();
    blocks.sort_by(f64::total_cmp);
    let median = blocks.get(blocks.len() / 2).copied();
    Ok(Report { median, received: next, ..Report::default() })
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
