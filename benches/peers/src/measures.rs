//! What is measured: which plans, with which peers, how often, and in what order.

use crate::job::{Access, Audience, Task, Wait};
use crate::peers::{ENTRIES, Entry};
use crate::run::{Outcome, Plan, run};
use crate::table::{Figure, Runs};

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;

/// The block of the raw bulk copy, and of frames that are compared with it.
pub(crate) const BLOCK: usize = 64 * KIB;

/// Laps of the ring in a run, at least, ...
const LAPS: u64 = 100;
/// ... a run of a fast peer takes about this long, even if that is more laps, ...
const RUN_NS: f64 = 50e6;
/// ... a run of round trips this long, so that a 99.99th percentile is based on some tens of
/// samples, ...
const TRIPS_NS: f64 = 150e6;
/// ... and no run takes longer, even if that is fewer laps: a busy machine can make a peer a
/// hundred times slower.
const LONGEST_RUN_NS: f64 = 1e9;

/// Messages of the short run that determines how many messages a run needs.
const FIRST_GUESS: u64 = 20_000;

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
    /// Only these peers, and the floors.
    pub(crate) peers: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
}

/// A measure, and its results, peer by peer.
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
    pub(crate) const WAKE_UP: Self = Measure { wait: Wait::Sleep, ..Self::round_trip(64) };

    pub(crate) const fn round_trip(size: usize) -> Self {
        Measure { task: Task::RoundTrip, size, ring: 64 * KIB, wait: Wait::Spin }
    }

    pub(crate) const fn stream(size: usize, ring: usize) -> Self {
        Measure { task: Task::Stream, size, ring, wait: Wait::Spin }
    }

    /// The ring in which frames of this size are compared: some thousand frames, and at most the
    /// size of a cache.
    pub(crate) const fn usual_stream(size: usize) -> Self {
        Measure::stream(size, if size == 8 { 256 * KIB } else { MIB })
    }

    /// Ends that share a processor yield to each other.
    pub(crate) fn many(pairs: usize) -> Self {
        let wait = if 2 * pairs <= crate::run::cpus().len() { Wait::Spin } else { Wait::Yield };
        Measure { task: Task::Many(pairs), size: 64, ring: 256 * KIB, wait }
    }

    /// All senders but one share a processor, if there are only two.
    pub(crate) fn gather(senders: usize) -> Self {
        let wait = if senders < crate::run::cpus().len() { Wait::Spin } else { Wait::Yield };
        Measure { task: Task::Gather(senders), size: 64, ring: 256 * KIB, wait }
    }

    /// How many receivers there are is different for each peer.
    pub(crate) const fn publish() -> Self {
        let task = Task::Publish(Audience { receivers: 0, stopped: false });
        Measure { task, size: 64, ring: MIB, wait: Wait::Spin }
    }

    pub(crate) const fn latest(access: Access) -> Self {
        Measure { task: Task::Latest(access), size: 64, ring: 64, wait: Wait::Spin }
    }

    /// The plan of `entry` in this measure. The bulk copy has blocks of its own size.
    fn plan(&self, entry: &Entry, count: u64) -> Plan {
        let Measure { task, size, ring, wait } = *self;
        match entry.name {
            "bulk-copy" => Plan { task, size: BLOCK, ring: MIB, wait, count },
            _ => Plan { task: entry.task(task), size, ring, wait, count },
        }
    }

    /// Messages for a run, if one message takes `ns`; `None` for a first guess.
    fn count(&self, plan: &Plan, ns: Option<f64>) -> u64 {
        let laps = |n: u64| n * (plan.ring / plan.size) as u64;
        let total = match (plan.task, plan.wait, ns) {
            (Task::Latest(_), _, None) => FIRST_GUESS,
            (Task::Latest(_), _, Some(ns)) => (RUN_NS / ns) as u64,
            (Task::RoundTrip, Wait::Sleep, None) => 200,
            (Task::RoundTrip, _, None) => 2_000,
            (_, _, None) => laps(4).min(FIRST_GUESS),
            (Task::RoundTrip, Wait::Sleep, Some(_)) => 500,
            (Task::RoundTrip, _, Some(ns)) => (TRIPS_NS / ns).clamp(500.0, 1e6) as u64,
            (_, _, Some(ns)) => laps(LAPS).min((LONGEST_RUN_NS / ns) as u64).max((RUN_NS / ns) as u64).max(laps(4)),
        };
        let senders = if let Task::Many(n) | Task::Gather(n) = plan.task { n } else { 1 };
        total / senders as u64
    }

    /// Runs all participants, `rounds` times, in an order that is rotated from round to round.
    /// Before that comes one short run of each, to warm up and to determine how many messages a run
    /// needs.
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
                Ok(outcome) if effort.quick => self.note(&mut runs, &first, outcome, [0.0; 2]),
                Ok(outcome) => counts.push(self.count(&first, Some(outcome.median))),
                Err(error) => runs.failure = Some(error.to_string()),
            }
            if effort.quick || runs.failure.is_some() {
                counts.push(0);
            }
            peers.push((entry, runs));
        }
        let rounds = if effort.quick { 0 } else { effort.rounds };
        let mut before = if rounds > 0 { bare_line() } else { f64::NAN };
        for round in 0..rounds {
            eprint!("\r{}: round {} of {rounds}  ", self.title(), round + 1);
            for turn in 0..peers.len() {
                let i = (round + turn) % peers.len();
                let (entry, runs) = &mut peers[i];
                if counts[i] > 0 {
                    let plan = self.plan(entry, counts[i]);
                    let outcome = run(entry, &plan);
                    let after = bare_line();
                    let lines = [std::mem::replace(&mut before, after), after];
                    match outcome {
                        Ok(outcome) => self.note(runs, &plan, outcome, lines),
                        Err(error) => {
                            runs.rounds.push(None);
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

    /// Of broadcast rings, 64 bytes are compared. Large frames are measured for the comparison with
    /// the bulk copy, unusual ring sizes for that with rtrb.
    fn concerns(&self, name: &str) -> bool {
        match (self.task, self.size, self.ring) {
            (Task::Gather(_), ..) => matches!(name, "slipring" | "slipring-mpmc" | "slipring-mpsc"),
            (Task::Stream, size, ring) if (size, ring) != (64, MIB) && name.contains("cast") => false,
            (Task::RoundTrip, size, _) if size != 64 => matches!(name, "cache-line" | "slipring" | "rtrb"),
            (Task::Stream, BLOCK, _) => matches!(name, "bulk-copy" | "slipring-in-place"),
            (Task::Stream, 64, ring) if ring != MIB => {
                matches!(name, "bulk-copy" | "slipring" | "slipring-t" | "rtrb" | "ringbuf")
            }
            _ => true,
        }
    }

    /// The figure per message of this measure, also for a floor with messages of another size.
    fn note(&self, runs: &mut Runs, plan: &Plan, outcome: Outcome, lines: [f64; 2]) {
        let Outcome { median, p99, p9999 } = outcome;
        runs.rounds.push(Some(Figure { ns: median * self.size as f64 / plan.size as f64, p99, p9999, lines }));
    }
}

/// The round trip of a bare cache line at this moment, which shows the placement of the processors.
/// NaN if it cannot be measured.
fn bare_line() -> f64 {
    let plan = Plan { count: 20_000, ..Measure::round_trip(64).plan(&ENTRIES[0], 0) };
    run(&ENTRIES[0], &plan).map_or(f64::NAN, |outcome| outcome.median)
}
