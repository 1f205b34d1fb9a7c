//! `bench stream`: messages one way, as fast as they go or at intended times, beside bulk copies.

use clap::Args;
use slipring::probe::{BulkCopy, Reader};
use slipring::{Error, Idle};

use super::crew::Peer;
use super::figures::{RUNS, Series, Times, clock_cost, now_ns};
use super::latency::{Awake, Game};
use super::ports::{self, Channel, Kind, Receiver};
use super::report::{Floor, Report, Row, Target, Unit};
use super::runs::{self, Pace, Until, Watch};
use super::tasks::{Answer, Task};
use super::trouble::Trouble;
use super::{Common, Sizes, payload, rate_note, rotated};
use crate::Context;
use crate::child::Passed;
use crate::failure::Outcome;
use crate::units;

pub(super) const CAPACITY: usize = 1 << 20;
/// A block of a bulk copy.
const BLOCK: usize = 64 << 10;
/// The part of a lap that is timed as a whole: two of the steps in which a consumer releases room.
/// The figure of a run is the median of them, so an interruption by the scheduler is one outlier,
/// for the ring as for the floor.
const PART: usize = 4;
/// Laps before those that count.
const WARM_UP_LAPS: u64 = 2;
const BLOCKS: Target = Target { what: "stream of 64 KiB messages ÷ bulk copy, in time", at_most: 1.05 };
const PARKED: Target = Target { what: "stream of 64 bytes, parking ÷ spinning", at_most: 1.05 };
const STEADY: Target = Target { what: "stream of 64 bytes, third ÷ first quartile of its runs", at_most: 1.5 };
const CALLS: Target = Target { what: "calls of the kernel per message", at_most: 0.001 };

/// Messages one way, as fast as they go, beside a bulk copy from processor to processor
#[derive(Args)]
pub(super) struct Stream {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    sizes: Sizes,
    /// How both sides wait: spin, yield, backoff or park; all but spin are compared with spin, too
    #[arg(long, value_name = "HOW", value_parser = super::idle, default_value_t = Idle::Spin)]
    idle: Idle,
    /// Bytes in the ring
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value_t = CAPACITY)]
    capacity: usize,
    /// Send at intended times, and measure how long after that each message is there
    #[arg(long, value_name = "PER SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl Stream {
    pub(super) fn run(self, context: &Context) -> Outcome {
        self.common.pinned(|cpu| self.measure(cpu), context)
    }

    fn measure(&self, cpu: Option<usize>) -> Outcome<Report> {
        let clock = clock_cost();
        // Each size with the requested idle strategy and, if that may sleep, also spinning.
        let spin = (self.idle != Idle::Spin && self.rate.is_none()).then_some(Idle::Spin);
        let idles: Vec<Idle> = [Some(self.idle), spin].into_iter().flatten().collect();
        let cells = self.sizes.sizes.iter().flat_map(|size| idles.iter().map(|idle| (*size, *idle)));
        let flows = cells.map(|(size, idle)| Stretch::new(Kind::Spsc, self.capacity, size, idle));
        let flows = flows.collect::<Outcome<Vec<_>>>()?;
        let mut floor = Beside::new(self, clock)?;
        let mut peer = Peer::start(self.common.threads, cpu)?;
        let mut flows = flows.into_iter().map(Stretch::attach).collect::<Outcome<Vec<_>>>()?;
        for run in 0..RUNS {
            for index in rotated(flows.len(), run) {
                let flow = &mut flows[index];
                let until = self.common.until(2 * idles.len() * self.sizes.sizes.len(), flow.lap());
                if run % 2 == 0 {
                    flow.floor.push(floor.run(&mut peer, &until)?);
                }
                flow.run(&mut peer, &until, self.rate, clock)?;
                if run % 2 == 1 {
                    flow.floor.push(floor.run(&mut peer, &until)?);
                }
            }
        }
        let mut notes = Vec::new();
        let mut rows = Vec::new();
        let mut flows = flows.into_iter();
        while let Some(flow) = flows.next() {
            let spinning = spin.and_then(|_| flows.next());
            notes.extend(self.rate.and_then(|rate| {
                rate_note(rate, flow.sent as f64 * 1e9 / flow.sending_ns.max(1) as f64, &format!("{} bytes", flow.size))
            }));
            rows.push(self.row(flow, spinning)?);
        }
        let how = match self.rate {
            Some(rate) => format!("{}/s sent at intended times, one way", units::count(rate).trim_end()),
            None => "one way, as fast as they go".to_owned(),
        };
        Ok(Report { bench: "stream", how: format!("{how}, between {}", self.common.whom()), rows, notes })
    }

    fn row(&self, flow: Current, spinning: Option<Current>) -> Outcome<Row> {
        let unit = if self.rate.is_some() { Unit::OneWay } else { Unit::Message };
        let calls = flow.channel.kernel_calls()? as f64 / flow.all.max(1) as f64;
        let mut row = Row::new(format!("spsc {}", self.idle), flow.size, unit);
        row.laps = flow.count as f64 / flow.lap() as f64;
        row.count = flow.count;
        row.more.insert("kernel_calls_per_message", calls);
        row.floors.push(match self.rate {
            Some(_) => Floor { name: "half a raw round trip", runs: flow.floor.times(0.5) },
            None => Floor { name: "bulk copy", runs: flow.floor.times(flow.size as f64) },
        });
        row.runs = flow.runs;
        row.times = Some(flow.times);
        if self.rate.is_some() {
            return Ok(row);
        }
        match row.size {
            64 => row.targets.extend([(CALLS, calls), (STEADY, row.runs.quartiles())]),
            BLOCK => row.aim(BLOCKS, 0),
            _ => {}
        }
        if let Some(spinning) = spinning {
            row.floors.push(Floor { name: "spsc spin", runs: spinning.runs });
            if row.size == 64 {
                row.aim(PARKED, 1);
            }
        }
        Ok(row)
    }
}

/// The floor of a stream: nanoseconds per byte; of an open loop: a raw round trip.
enum Beside {
    Bulk(Bulk),
    Game(Game),
}

impl Beside {
    fn new(bench: &Stream, clock: u64) -> Outcome<Self> {
        Ok(match bench.rate {
            Some(_) => Beside::Game(Game::new(Awake, None, clock)?),
            None => Beside::Bulk(Bulk::new(bench.capacity)?),
        })
    }

    fn run(&mut self, peer: &mut Peer, until: &Until) -> Outcome<f64> {
        match self {
            Beside::Bulk(bulk) => bulk.run(peer, until),
            Beside::Game(game) => game.play(peer, until),
        }
    }
}

/// A ring through which messages travel one way.
pub(super) struct Stretch {
    channel: Channel,
    size: usize,
}

impl Stretch {
    pub(super) fn new(kind: Kind, capacity: usize, size: usize, idle: Idle) -> Outcome<Self> {
        Ok(Stretch { channel: Channel::new(kind, capacity, size, idle)?, size })
    }

    /// Called when the peer has been started: it must inherit the ring, but not the end.
    pub(super) fn attach(self) -> Outcome<Current> {
        let receiver = ports::receiver(&self.channel.ring)?;
        let Stretch { channel, size } = self;
        let (runs, floor, times) = (Series::default(), Series::default(), Times::new()?);
        Ok(Current {
            channel,
            size,
            receiver,
            runs,
            floor,
            times,
            run_times: Times::new()?,
            count: 0,
            all: 0,
            sent: 0,
            sending_ns: 0,
        })
    }
}

/// A [`Stretch`] with this side's end, and its measurements.
pub(super) struct Current {
    channel: Channel,
    size: usize,
    receiver: Receiver,
    pub(super) runs: Series,
    /// Nanoseconds per byte.
    pub(super) floor: Series,
    times: Times,
    run_times: Times,
    /// Messages that count, all messages, and the sender's report of the latter.
    pub(super) count: u64,
    all: u64,
    sent: u64,
    sending_ns: u64,
}

impl Current {
    pub(super) fn lap(&self) -> u64 {
        self.channel.lap(self.size)
    }

    pub(super) fn run(&mut self, peer: &mut Peer, until: &Until, rate: Option<f64>, clock: u64) -> Outcome {
        let warm_up = (WARM_UP_LAPS * self.lap()).min(until.count.unwrap_or(u64::MAX)) + 1;
        let pace = rate.map(Pace::from_now);
        // An open loop is warm after its first messages; a lap would take too long.
        let warm_up = if pace.is_some() { 1 } else { warm_up };
        let block = (self.lap() / PART as u64).max(1).min(until.count.unwrap_or(u64::MAX));
        let until = until.after(warm_up);
        let until = Until { enough: warm_up + (PART as u64 + 1) * block, ..until };
        let watch = Watch { size: self.size, warm_up, block, pace, clock };
        let to = self.channel.port.clone();
        let task = Task::Produce { to, size: self.size, first: 0, until, pace, stop: true };
        let Current { receiver, run_times, .. } = self;
        let (count, answer) = peer.during(&task, || match receiver {
            Receiver::Spsc(rx) => runs::drain(&mut **rx, &watch, run_times),
            Receiver::Mpmc(rx) => runs::drain(rx, &watch, run_times),
        })?;
        if let Answer::Produced { count, ns, .. } = answer {
            self.sent += count;
            self.sending_ns += ns;
            self.all += count + 1;
        }
        self.runs.push(self.run_times.median());
        self.count += count;
        self.times.take(&mut self.run_times)
    }
}

/// The floor: blocks that one processor writes and the other reads, filled and compared like
/// messages.
pub(super) struct Bulk {
    passed: Passed,
    reader: Reader,
    blocks: usize,
    next: u64,
    /// The time of a block in the previous run, including everything around it.
    block_ns: f64,
    times: Times,
}

impl Bulk {
    /// As much memory as the ring that it is compared with.
    pub(super) fn new(capacity: usize) -> Outcome<Self> {
        let blocks = (capacity / BLOCK).max(2);
        let probe = BulkCopy::new(BLOCK, blocks)?;
        let (passed, reader) = (Passed::new(probe.as_fd())?, probe.reader()?);
        Ok(Bulk { passed, reader, blocks, next: 0, block_ns: 100_000.0, times: Times::new()? })
    }

    /// Copies for a part of a run's time. Returns the nanoseconds per byte.
    pub(super) fn run(&mut self, peer: &mut Peer, until: &Until) -> Outcome<f64> {
        let warm_up = self.blocks as u64;
        let part = (self.blocks / PART).max(1) as u64;
        let fitting = (until.ns as f64 / self.block_ns) as u64 / part;
        let parts = if until.count.is_some() { PART as u64 } else { fitting.clamp(PART as u64, 1 << 14) };
        let count = warm_up + parts * part;
        let (probe, block, blocks) = (self.passed.fd(), BLOCK, self.blocks);
        let task = Task::BulkWrite { probe, block, blocks, first: self.next, count };
        let Bulk { reader, next, times, .. } = self;
        let mut wrong = None;
        let begin = now_ns();
        peer.during(&task, || {
            let mut look = |count| {
                reader.read(count, |block| {
                    if !payload::check(block, *next) {
                        wrong = Some(*next);
                    }
                    *next += 1;
                })?;
                Ok::<_, Error>(now_ns())
            };
            let mut mark = look(warm_up)?;
            for _ in 0..parts {
                let now = look(part)?;
                times.add((now - mark) as f64);
                mark = now;
            }
            match wrong {
                None => Ok(()),
                Some(block) => Err(Trouble::Wrong(format!("block {block} of a bulk copy is not what was written"))),
            }
        })?;
        self.block_ns = (now_ns() - begin) as f64 / count as f64;
        let median = self.times.median();
        self.times.clear();
        Ok(median / (part as usize * BLOCK) as f64)
    }
}
