//! `bench mpmc`: several senders and receivers of one ring, each a process (or thread) of its own.

use clap::Args;
use slipring::Idle;

use super::crew::{self, Peer};
use super::figures::{RUNS, Series};
use super::payload::{STOP, fill};
use super::ports::{self, Channel, Kind, Sender, Tx};
use super::report::{Floor, Report, Row, Unit};
use super::runs::Until;
use super::stream::{Bulk, CAPACITY};
use super::tasks::{Answer, Task};
use super::trouble::Trouble;
use super::{Common, message_size, rotated};
use crate::child::Cpus;
use crate::failure::{Failure, LOST, Outcome};
use crate::{Context, units};

/// Distance between the message numbers of two senders.
const NUMBERS: u64 = 1 << 48;

/// Messages from several senders to several receivers through one ring, beside a bulk copy
#[derive(Args)]
pub(super) struct Mpmc {
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, at least 8
    #[arg(short, long, value_name = "BYTES", value_parser = message_size, default_value_t = 64)]
    size: usize,
    /// How many senders, and as many receivers: one figure for each number
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2, 4],
          value_parser = clap::value_parser!(u16).range(1..=30))]
    pairs: Vec<u16>,
    /// How all senders and receivers wait: spin, yield, backoff or park
    #[arg(long, value_name = "HOW", value_parser = super::idle, default_value_t = Idle::Park)]
    idle: Idle,
    /// Bytes in the ring, approximately
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value_t = CAPACITY)]
    capacity: usize,
}

impl Mpmc {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let cpus = self.common.cpus()?;
        // Before this thread is pinned to a processor: threads that it starts later would inherit
        // that.
        let crowds = self.pairs.iter().map(|pairs| Crowd::new(&self, usize::from(*pairs), &cpus));
        let crowds = crowds.collect::<Outcome<Vec<_>>>()?;
        let report = cpus.pinned(|cpu| self.measure(crowds, cpu))?;
        self.common.finish(report, context)
    }

    fn measure(&self, mut crowds: Vec<Crowd>, cpu: Option<usize>) -> Outcome<Report> {
        let mut bulk = Bulk::new(self.capacity)?;
        let mut writer = Peer::start(self.common.threads, cpu)?;
        for run in 0..RUNS {
            for index in rotated(crowds.len(), run) {
                let crowd = &mut crowds[index];
                let until = self.common.until(2 * self.pairs.len(), crowd.channel.lap(self.size));
                crowd.floor.push(bulk.run(&mut writer, &until)?);
                crowd.run(self.size, &until)?;
            }
        }
        let mut notes = Vec::new();
        let processors = super::machine::processors();
        if let Some(most) = self.pairs.iter().map(|pairs| 2 * usize::from(*pairs)).max().filter(|n| *n > processors) {
            notes.push(format!("up to {most} of them share {processors} processors"));
        }
        let rows = crowds.into_iter().map(|crowd| crowd.row(self.size, self.idle)).collect::<Outcome<Vec<_>>>()?;
        let what = if self.common.threads { "threads" } else { "processes" };
        Ok(Report { bench: "mpmc", how: format!("senders + receivers of one ring, {what}"), rows, notes })
    }
}

/// The senders and receivers of one ring.
struct Crowd {
    channel: Channel,
    /// Keeps the ring from ending between two runs, and sends the messages that end a run.
    ours: Sender,
    senders: Vec<Peer>,
    receivers: Vec<Peer>,
    /// The first message number of the next run.
    next: u64,
    runs: Series,
    /// Nanoseconds per byte.
    floor: Series,
    count: u64,
}

impl Crowd {
    fn new(bench: &Mpmc, pairs: usize, cpus: &Cpus) -> Outcome<Self> {
        let channel = Channel::new(Kind::Mpmc, bench.capacity, bench.size, bench.idle)?;
        let ours = ports::sender(&channel.ring)?;
        // Each on a processor of its own if there are enough; otherwise the scheduler chooses.
        let cpu = |index: usize| cpus.list().get(index).copied().filter(|_| 2 * pairs <= cpus.count());
        let peer = |index| Peer::start(bench.common.threads, cpu(index));
        let receivers = (0..pairs).map(peer).collect::<Outcome<Vec<_>>>()?;
        let senders = (pairs..2 * pairs).map(peer).collect::<Outcome<Vec<_>>>()?;
        let (runs, floor) = (Series::default(), Series::default());
        Ok(Crowd { channel, ours, senders, receivers, next: 0, runs, floor, count: 0 })
    }

    fn run(&mut self, size: usize, until: &Until) -> Outcome {
        let Crowd { channel, senders, receivers, next, .. } = self;
        let share = senders.len() as u64;
        let until = Until {
            count: until.count.map(|count| count.div_ceil(share)),
            enough: until.enough.div_ceil(share),
            least: until.least.div_ceil(share),
            ns: until.ns,
        };
        receivers.iter_mut().try_for_each(|peer| peer.tell(&Task::Consume { from: channel.port.clone() }))?;
        for (index, peer) in senders.iter_mut().enumerate() {
            let (to, first) = (channel.port.clone(), index as u64 * NUMBERS + *next);
            peer.tell(&Task::Produce { to, size, first, until, pace: None, stop: false })?;
        }
        let mut sent = (0, 0u64);
        let mut most = 0;
        for answer in crew::answers(senders, receivers)? {
            if let Answer::Produced { count, sum, .. } = answer {
                sent = (sent.0 + count, sent.1.wrapping_add(sum));
                most = most.max(count);
            }
        }
        *next += most;
        // After all other messages, one for each receiver, which receives nothing after it.
        for _ in 0..receivers.len() {
            let stop = |message: &mut [u8]| fill(message, STOP);
            match &mut self.ours {
                Sender::Spsc(tx) => Tx::send(&mut **tx, size, stop)?,
                Sender::Mpmc(tx) => Tx::send(tx, size, stop)?,
            }
        }
        let mut came = (0, 0u64);
        let (mut first, mut last) = (u64::MAX, 0);
        for answer in crew::answers(receivers, senders)? {
            match answer {
                Answer::Consumed { count: 0, .. } => {} // other receivers were faster every time
                Answer::Consumed { count, sum, first_ns, last_ns } => {
                    came = (came.0 + count, came.1.wrapping_add(sum));
                    (first, last) = (first.min(first_ns), last.max(last_ns));
                }
                _ => return Err(Failure::new(LOST, "a receiver does not know what it received")),
            }
        }
        if came != sent {
            return Err(
                Trouble::Wrong(format!("sent {} messages, received {}: the sets differ", sent.0, came.0)).into()
            );
        }
        self.runs.push(last.saturating_sub(first) as f64 / came.0.max(1) as f64);
        self.count += came.0;
        Ok(())
    }

    fn row(self, size: usize, idle: Idle) -> Outcome<Row> {
        let pairs = self.senders.len();
        let mut row = Row::new(format!("mpmc {idle}, {pairs}+{pairs}"), size, Unit::Message);
        row.laps = self.count as f64 / self.channel.lap(size) as f64;
        row.count = self.count;
        let calls = self.channel.kernel_calls()? as f64 / self.count.max(1) as f64;
        row.more.insert("kernel_calls_per_message", calls);
        row.floors.push(Floor { name: "bulk copy", runs: self.floor.times(size as f64) });
        row.runs = self.runs;
        Ok(row)
    }
}
