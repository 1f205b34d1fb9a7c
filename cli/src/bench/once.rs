//! `bench attach` and `bench idle`: the cost of attaching to a ring, and of a receiver that waits.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, fstat, linkat, open, openat, unlinkat};
use slipring::{Idle, Options, Ring, spsc};

use super::crew::Peer;
use super::figures::{RUNS, Series, now_ns};
use super::part::{Answer, Task};
use super::ports::{Channel, Kind};
use super::report::{Floor, Report, Row, Target, Unit};
use super::{Common, payload, rotated};
use crate::Context;
use crate::child::Part;
use crate::failure::{FAILED, Failure, Outcome};
use crate::units;

/// Number of attaches in one run.
const ROUNDS: u64 = 50;
const RING: usize = 64 << 10;
const MESSAGE: usize = 64;
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

/// Runs in the other process: the medians of `rounds` times of each.
pub(super) fn attach(dir: PathBuf, rounds: u64) -> Outcome<Answer> {
    let mut all: [Vec<u64>; 4] = Default::default();
    for round in 0..rounds.max(1) {
        let name = format!("bench-{}-{round}", std::process::id());
        let times = [named(&dir, &name, round), bare(&dir, &name)];
        for (all, ns) in all.iter_mut().zip(times.into_iter().collect::<Outcome<Vec<_>>>()?.concat()) {
            all.push(ns);
        }
    }
    let [create, open, bare_create, bare_open] = all.map(|mut ns| {
        ns.sort_unstable();
        ns[ns.len() / 2] as f64
    });
    Ok(Answer::Attached { create, open, bare_create, bare_open })
}

/// Times a ring from its creation to its first message, and from opening its name to that message.
/// Its name is unlinked even if that fails.
fn named(dir: &PathBuf, name: &str, seq: u64) -> Outcome<[u64; 2]> {
    let options = Options::spsc(RING).directory(dir);
    let measured = (|| {
        let start = now_ns();
        let mut tx = spsc::Producer::attach(&Ring::create(name, &options)?)?;
        let mut message = [0; MESSAGE];
        payload::fill(&mut message, seq);
        tx.send(&message)?;
        let sent = now_ns();
        let mut rx = spsc::Consumer::attach(&Ring::open(name, &options)?)?;
        let right = payload::check(&rx.recv()?, seq);
        Ok::<_, slipring::Error>((right, [sent - start, now_ns() - sent]))
    })();
    let removed = Ring::remove(name, &options);
    let (right, times) = measured?;
    removed?;
    match right {
        true => Ok(times),
        false => Err(Failure::new(crate::failure::LOST, "the first message is not what was sent")),
    }
}

/// Times the calls that no named file of that size can do without: allocating and naming it; and
/// opening and inspecting it.
fn bare(dir: &PathBuf, name: &str) -> Outcome<[u64; 2]> {
    let failed = |e: rustix::io::Errno| Failure::new(FAILED, e).at("a bare file");
    let place = open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let start = now_ns();
    let file = openat(&place, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode).map_err(failed)?;
    fallocate(&file, FallocateFlags::empty(), 0, RING as u64).map_err(failed)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, path, &place, name, AtFlags::SYMLINK_FOLLOW).map_err(failed)?;
    let linked = now_ns();
    let again = openat(&place, name, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).and_then(fstat);
    let end = now_ns();
    unlinkat(&place, name, AtFlags::empty()).and(again.map(drop)).map_err(failed)?;
    Ok([linked - start, end - linked])
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
