//! What is measured: which plans, with which peers, how often, and in what order.

use crate::job::{Task, Wait};
use crate::peers::{ENTRIES, Entry};
use crate::run::{Outcome, Plan, run};
use crate::table::Runs;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

/// The block of the raw bulk copy, and of frames that are compared with it.
pub(crate) const BLOCK: usize = 64 * KIB;

/// Laps of the ring in a run, at least, ...
const LAPS: u64 = 100;
/// ... a run of a fast peer takes about so long, even if that is more laps, ...
const RUN_NS: f64 = 50e6;
/// ... and no run takes longer, even if that is fewer: a busy machine makes a peer a hundred times slower.
const LONGEST_RUN_NS: f64 = 1e9;

/// One column of a table: the same plan for all peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measure {
    pub(crate) task: Task,
    pub(crate) size: usize,
    pub(crate) ring: usize,
    pub(crate) wait: Wait,
}

/// How thoroughly.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    /// Only these, and the floors.
    pub(crate) peers: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

/// A measure, and what came of it, peer by peer.
pub(crate) struct Measured {
    pub(crate) measure: Measure,
    pub(crate) peers: Vec<(&'static Entry, Runs)>,
}

impl Measured {
    pub(crate) fn of(&self, name: &str) -> Option<&Runs> {
        self.peers.iter().find(|(entry, _)| entry.name == name).map(|(_, runs)| runs)
    }
}

impl Measure {
    pub(crate) const ROUND_TRIP: Self = Measure { task: Task::RoundTrip, size: 64, ring: 64 * KIB, wait: Wait::Spin };
    pub(crate) const WAKE_UP: Self = Measure { wait: Wait::Sleep, ..Self::ROUND_TRIP };

    pub(crate) const fn stream(size: usize, ring: usize) -> Self {
        Measure { task: Task::Stream, size, ring, wait: Wait::Spin }
    }

    /// Ends that share a processor let each other go first.
    pub(crate) fn many(pairs: usize) -> Self {
        let wait = if 2 * pairs <= crate::run::cpus().len() { Wait::Spin } else { Wait::Yield };
        Measure { task: Task::Many(pairs), size: 64, ring: 256 * KIB, wait }
    }

    /// What `entry` does in this measure. The bulk copy has blocks of its own.
    fn plan(&self, entry: &Entry, count: u64) -> Plan {
        let Measure { task, size, ring, wait } = *self;
        match entry.name {
            "bulk-copy" => Plan { task, size: BLOCK, ring: MIB, wait, count },
            _ => Plan { task, size, ring, wait, count },
        }
    }

    /// Messages for a run, if one takes `ns`; `None` for a first guess.
    fn count(&self, plan: &Plan, ns: Option<f64>) -> u64 {
        let laps = |n: u64| n * (plan.ring / plan.size) as u64;
        let total = match (plan.task, plan.wait, ns) {
            (Task::RoundTrip, Wait::Sleep, None) => 200,
            (Task::RoundTrip, _, None) => 2_000,
            (_, _, None) => laps(4),
            (Task::RoundTrip, Wait::Sleep, Some(_)) => 500,
            (Task::RoundTrip, _, Some(ns)) => (RUN_NS / ns).clamp(2_000.0, 1e6) as u64,
            (_, _, Some(ns)) => laps(LAPS).min((LONGEST_RUN_NS / ns) as u64).max((RUN_NS / ns) as u64).max(laps(4)),
        };
        if let Task::Many(pairs) = plan.task { total / pairs as u64 } else { total }
    }

    /// Runs everybody who takes part, `rounds` times, in an order that is rotated from round to round. Before that comes one
    /// short run of each, to warm up and to find out how many messages a run needs.
    pub(crate) fn run(self, effort: &Effort) -> Measured {
        let wanted = |entry: &&Entry| {
            let named = effort.peers.is_empty() || effort.peers.iter().any(|name| name == entry.name);
            (named || entry.is_floor()) && entry.takes_part(self.task, self.wait) && self.concerns(entry.name)
        };
        let mut counts = Vec::new();
        let mut peers: Vec<(&'static Entry, Runs)> = Vec::new();
        for entry in ENTRIES.iter().filter(wanted) {
            let first = self.plan(entry, 0);
            let first = Plan { count: self.count(&first, None), ..first };
            let mut runs = Runs::default();
            match run(entry, &first) {
                Ok(outcome) if effort.quick => self.note(&mut runs, &first, outcome),
                Ok(outcome) => counts.push(self.count(&first, Some(outcome.median))),
                Err(error) => runs.failure = Some(error.to_string()),
            }
            if effort.quick || runs.failure.is_some() {
                counts.push(0);
            }
            peers.push((entry, runs));
        }
        let rounds = if effort.quick { 0 } else { effort.rounds };
        for round in 0..rounds {
            eprint!("\r{}: round {} of {rounds}  ", self.title(), round + 1);
            for turn in 0..peers.len() {
                let i = (round + turn) % peers.len();
                let (entry, runs) = &mut peers[i];
                if counts[i] > 0 {
                    let plan = self.plan(entry, counts[i]);
                    match run(entry, &plan) {
                        Ok(outcome) => self.note(runs, &plan, outcome),
                        Err(error) => {
                            runs.figures.push(f64::NAN);
                            runs.failure = Some(format!("in round {}: {error}", round + 1));
                        }
                    }
                }
            }
        }
        if rounds > 0 {
            eprintln!();
        }
        Measured { measure: self, peers }
    }

    /// Large frames are there for the comparison with the bulk copy, other rings than the usual one for that with rtrb.
    fn concerns(&self, name: &str) -> bool {
        match (self.task, self.size, self.ring) {
            (Task::Stream, BLOCK, _) => matches!(name, "bulk-copy" | "slipring-in-place"),
            (Task::Stream, 64, ring) if ring != MIB => {
                matches!(name, "bulk-copy" | "slipring" | "slipring-t" | "rtrb" | "ringbuf")
            }
            _ => true,
        }
    }

    /// A figure per message of this measure, also for a floor with messages of its own.
    fn note(&self, runs: &mut Runs, plan: &Plan, outcome: Outcome) {
        runs.figures.push(outcome.median * self.size as f64 / plan.size as f64);
        runs.p99.extend(outcome.p99);
    }
}
