//! `bench ping-pong`, `bench wakeup` and `bench under-load`: round trips between spinning sides,
//! between sleeping sides, and under load.

use std::time::Duration;

use clap::Args;
use slipring::Idle;

use super::latency::{Asleep, Awake, Cell, Plan};
use super::ports::Kind;
use super::report::Target;
use super::runs::Tempo;
use super::{Common, Sizes, message_size, usage};
use crate::failure::Outcome;
use crate::{Context, units};

const ROUND_TRIP: Target = Target { what: "round trip of 64 bytes ÷ raw cache line", at_most: 1.25 };

/// Round trips of messages, beside a bare cache line that is passed to and fro
#[derive(Args)]
pub(super) struct PingPong {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    sizes: Sizes,
    /// How both sides wait: spin, yield, backoff or park
    #[arg(long, value_name = "HOW", value_parser = super::idle, default_value_t = Idle::Spin)]
    idle: Idle,
    /// Bytes in each ring [default: 64KiB, or four messages]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    capacity: Option<usize>,
    /// Begin round trips at intended times: each counts from when it should have begun
    #[arg(long, value_name = "PER SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl PingPong {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let cell = |size: &usize| Cell::new(Kind::Spsc, *size, self.capacity, self.idle);
        let plan = Plan {
            bench: "ping-pong",
            cells: self.sizes.sizes.iter().map(cell).collect(),
            floor: Awake,
            tempo: Tempo { rate: self.rate, pause: None },
            aim: (self.idle == Idle::Spin && self.rate.is_none()).then_some((ROUND_TRIP, 64)),
        };
        self.common.finish(plan.measure(&self.common)?, context)
    }
}

const WAKE_UP: Target = Target { what: "round trip of two sleepers ÷ raw futex", at_most: 1.15 };
/// Each side sleeps once and is woken once in a round trip: four calls. A few trips without
/// sleeping are allowed.
const CALLS_ASLEEP: f64 = 3.6;
/// Longer than a parked side spins before it sleeps.
const PAUSE: Duration = Duration::from_micros(100);

/// Round trips between two sides that sleep, beside a bare futex
#[derive(Args)]
#[command(after_help = "\
Before each round trip this side pauses for 100 µs, so that the other one has stopped spinning and sleeps; the pause is no part \
of the figure, and the bare futex has the same. Whether both did sleep is counted: a side that was still spinning is not \
compared with a target.")]
pub(super) struct Wakeup {
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, at least 8
    #[arg(short, long, value_name = "BYTES", value_parser = message_size, default_value_t = 64)]
    size: usize,
    /// How both sides wait: park or backoff
    #[arg(long, value_name = "HOW", value_parser = super::idle, default_value_t = Idle::Park)]
    idle: Idle,
    /// Bytes in each ring
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value_t = 4096)]
    capacity: usize,
    /// Begin round trips at intended times: each counts from when it should have begun
    #[arg(long, value_name = "PER SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl Wakeup {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if !matches!(self.idle, Idle::Park | Idle::Backoff) {
            return Err(usage("--idle: the sides have to sleep to be woken: park or backoff"));
        }
        let cell = Cell::new(Kind::Spsc, self.size, Some(self.capacity), self.idle);
        let aim = (self.idle == Idle::Park && self.rate.is_none()).then_some((WAKE_UP, self.size));
        // An open loop has its own pauses.
        let pause = self.rate.is_none().then_some(PAUSE);
        let tempo = Tempo { rate: self.rate, pause };
        let plan = Plan { bench: "wakeup", cells: vec![cell], floor: Asleep, tempo, aim };
        let mut report = plan.measure(&self.common)?;
        for row in &mut report.rows {
            let calls = row.more.get("kernel_calls_per_round_trip").copied().unwrap_or(0.0);
            if calls >= CALLS_ASLEEP {
                continue;
            }
            // A side that was awake does not use the futex, so its times cannot be compared.
            row.targets.clear();
            report
                .notes
                .push(format!("not every side slept every time: {calls:.2} sleeps and wake-ups a round trip, not 4"));
        }
        self.common.finish(report, context)
    }
}

/// Round trips while busy threads compete for the processors
#[derive(Args)]
pub(super) struct UnderLoad {
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, at least 8
    #[arg(short, long, value_name = "BYTES", value_parser = message_size, default_value_t = 64)]
    size: usize,
    /// How many threads compete, one figure for each number
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [0, 1, 2, 4],
          value_parser = clap::value_parser!(u16).range(..=1024))]
    busy: Vec<u16>,
    /// How both sides wait: spin, yield, backoff or park
    #[arg(long, value_name = "HOW", value_parser = super::idle, default_value_t = Idle::Park)]
    idle: Idle,
    /// Bytes in each ring
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value_t = 4096)]
    capacity: usize,
    /// Begin round trips at intended times: each counts from when it should have begun
    #[arg(long, value_name = "PER SECOND", value_parser = units::rate)]
    rate: Option<f64>,
}

impl UnderLoad {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let cell =
            |busy: &u16| Cell::new(Kind::Spsc, self.size, Some(self.capacity), self.idle).beside(usize::from(*busy));
        let cells = self.busy.iter().map(cell).collect();
        let tempo = Tempo { rate: self.rate, pause: None };
        let plan = Plan { bench: "under-load", cells, floor: Awake, tempo, aim: None };
        self.common.finish(plan.measure(&self.common)?, context)
    }
}
