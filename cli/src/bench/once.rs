//! `bench attach` and `bench idle`: the cost of attaching to a ring, and of a receiver that waits.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use clap::Args;
use slipring::Idle;

use super::attaching::{MESSAGE, RING};
use super::crew::Peer;
use super::figures::{RUNS, Series};
use super::ports::{Channel, Kind};
use super::report::{Floor, Report, Row, Target, Unit};
use super::tasks::{Answer, Task};
use super::{Common, rotated};
use crate::Context;
use crate::child::Part;
use crate::failure::{FAILED, Failure, Outcome};
use crate::units;

/// Number of attaches in one run.
const ROUNDS: u64 = 50;
const FIRST_MESSAGE: Target = Target { what: "create or open a ring, and the first message, in ms", at_most: 1.0 };
const IDLE_COST: Target = Target { what: "processor time of a parked receiver, in percent", at_most: 0.1 };
/// Interval of a parked receiver's liveness checks (docs/design-notes.md).
const CHECK_INTERVAL_NS: u64 = 50_000_000;

/// Create a ring and send, open it and receive: a first message, beside the bare calls on files
#[derive(Args)]
pub(super) struct Attach {
    #[command(flatten)]
    common: Common,
}

impl Attach {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let dir = slipring::endpoint::segment_directory(context.dir.as_deref())?;
        // The process creates named rings, so Ctrl-C must not end it between creating and
        // unlinking. It ends by itself when this process has ended.
        let mut command = Part::command("bench-part", None);
        command.arg("--stay").process_group(0);
        let mut peer = Peer::over(Part::spawn(command)?)?;
        let labels = ["create, send", "open, receive"];
        let mut rows = labels.map(|label| Row::new(label, MESSAGE, Unit::Once));
        let mut floors = [Series::default(), Series::default()];
        let rounds = self.common.count.map_or(ROUNDS, |count| count.div_ceil(RUNS as u64));
        for _ in 0..RUNS {
            peer.tell(&Task::Attach { dir: dir.clone(), rounds })?;
            let Answer::Attached { create, open, bare_create, bare_open } = peer.answer()? else {
                return Err(Failure::new(FAILED, "the other side answered something else"));
            };
            for (row, ns) in rows.iter_mut().zip([create, open]) {
                row.runs.push(ns);
                row.count += rounds;
            }
            for (floor, ns) in floors.iter_mut().zip([bare_create, bare_open]) {
                floor.push(ns);
            }
        }
        for (row, runs) in rows.iter_mut().zip(floors) {
            row.floors.push(Floor { name: "bare file", runs });
            row.targets.push((FIRST_MESSAGE, row.runs.median() / 1e6));
        }
        let how = format!("a named ring of {}, and the first message", units::bytes(RING as u64));
        self.common.finish(Report { bench: "attach", how, rows: rows.into(), notes: Vec::new() }, context)
    }
}

/// Processor time of a receiver that gets no message, beside a process that wakes up as often for
/// nothing
#[derive(Args)]
pub(super) struct Resting {
    #[command(flatten)]
    common: Common,
    /// How the receiver waits, one figure for each: spin, yield, backoff or park
    #[arg(long, value_name = "HOW", value_delimiter = ',', value_parser = super::idle,
          default_value = "park")]
    idle: Vec<Idle>,
}

impl Resting {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let channels = self.idle.iter().map(|idle| Channel::new(Kind::Spsc, RING, MESSAGE, *idle));
        let channels = channels.collect::<Outcome<Vec<_>>>()?;
        // A consumer whose producer has not attached yet waits like one whose producer is silent.
        let mut peer = Peer::start(self.common.threads, None)?;
        let mut rows: Vec<Row> = self.idle.iter().map(|idle| Row::new(format!("spsc {idle}"), 0, Unit::Busy)).collect();
        let mut floors = vec![Series::default(); rows.len()];
        let ns = match self.common.count {
            Some(_) => Duration::from_millis(20).as_nanos() as u64,
            None => self.common.until(2 * rows.len(), 0).ns,
        };
        for run in 0..RUNS {
            for index in rotated(rows.len(), run) {
                let from = channels[index].port.clone();
                rows[index].runs.push(share(&mut peer, &Task::Wait { from, ns })?);
                rows[index].count += 1;
                floors[index].push(share(&mut peer, &Task::BareSleeps { ns, interval_ns: CHECK_INTERVAL_NS })?);
            }
        }
        for ((row, runs), idle) in rows.iter_mut().zip(floors).zip(&self.idle) {
            row.floors.push(Floor { name: "bare sleeps", runs });
            if *idle == Idle::Park {
                row.targets.push((IDLE_COST, row.runs.median() / 1e7));
            }
        }
        let how = format!("waits of {}, processor time", units::nanoseconds(ns as f64));
        self.common.finish(Report { bench: "idle", how, rows, notes: Vec::new() }, context)
    }
}

/// Nanoseconds of processor time per second of `task`.
fn share(peer: &mut Peer, task: &Task) -> Outcome<f64> {
    peer.tell(task)?;
    match peer.answer()? {
        Answer::Waited { cpu_ns, ns } => Ok(cpu_ns as f64 * 1e9 / ns.max(1) as f64),
        _ => Err(Failure::new(FAILED, "the other side answered something else")),
    }
}
