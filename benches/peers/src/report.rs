//! The tables and the targets, as Markdown on stdout.

use crate::job::{Task, Wait};
use crate::measures::{BLOCK, KIB, MIB, Measure, Measured};
use crate::table::{Runs, digits, markdown, median, nanoseconds, ratio};

impl Measure {
    pub(crate) fn title(&self) -> String {
        let size = bytes(self.size);
        match (self.task, self.wait) {
            (Task::RoundTrip, Wait::Sleep) => format!("Wake-up: round trip of {size} between two ends that sleep, ns"),
            (Task::RoundTrip, _) => format!("Round trip of {size}, both ends busy, ns"),
            (Task::Stream, _) => format!("Stream of {size}, ring of {}, ns per message", bytes(self.ring)),
            (Task::Many(n), _) => {
                format!("{n} senders, {n} receivers, {size}, ring of {}, ns per message", bytes(self.ring))
            }
        }
    }

    /// The name of its floor, and of that against which peers are compared otherwise.
    fn floor(&self) -> Option<&'static str> {
        match (self.task, self.wait) {
            (Task::RoundTrip, Wait::Sleep) => Some("futex"),
            (Task::RoundTrip, _) => Some("cache-line"),
            (Task::Stream, _) => Some("bulk-copy"),
            (Task::Many(_), _) => None,
        }
    }
}

fn bytes(n: usize) -> String {
    match n {
        n if n >= MIB => format!("{} MiB", n / MIB),
        n if n >= KIB => format!("{} KiB", n / KIB),
        n => format!("{n} B"),
    }
}

/// One table per measure.
pub(crate) fn print(measured: &Measured) {
    let floor = measured.measure.floor().and_then(|name| measured.of(name));
    let ours = measured.of("slipring").or_else(|| measured.of("slipring-mpmc"));
    let against = |runs: &Runs, those: Option<&Runs>| {
        those.and_then(|those| ratio(runs, those)).map_or_else(|| "–".to_owned(), |ratio| format!("{}×", digits(ratio)))
    };
    let round_trip = measured.measure.task == Task::RoundTrip;
    let mut header = vec!["peer".to_owned(), "median (middle half)".to_owned()];
    header.extend(round_trip.then(|| "p99".to_owned()));
    header.extend(floor.is_some().then(|| "÷ floor".to_owned()));
    header.push("÷ slipring".to_owned());
    let rows: Vec<Vec<String>> = measured
        .peers
        .iter()
        .filter(|(_, runs)| median(&runs.figures).is_some())
        .map(|(entry, runs)| {
            let mut row = vec![entry.label(), runs.cell()];
            row.extend(round_trip.then(|| median(&runs.p99).map_or_else(|| "–".to_owned(), nanoseconds)));
            row.extend(floor.is_some().then(|| against(runs, floor)));
            row.push(against(runs, ours));
            row
        })
        .collect();
    println!("**{}**\n\n{}", measured.measure.title(), markdown(&header, &rows));
    for (entry, runs) in &measured.peers {
        if let Some(failure) = &runs.failure {
            println!("{}: {failure}\n", entry.label());
        }
    }
}

/// Which way a target is to be missed.
#[derive(Clone, Copy)]
enum Must {
    AtMost(f64),
    AtLeast(f64),
}

/// A target: the ratio of `this` to `that` in `measure`.
struct Target {
    name: &'static str,
    what: &'static str,
    measure: Measure,
    this: &'static str,
    that: &'static str,
    must: Must,
}

/// The targets that can be told from these measurements.
fn targets() -> Vec<Target> {
    use Must::{AtLeast, AtMost};
    let stream = Measure::stream(64, MIB);
    let target = |name, what, measure, this, that, must| Target { name, what, measure, this, that, must };
    let mut all =
        vec![target("P1", "round trip ÷ bare cache line", Measure::ROUND_TRIP, "slipring", "cache-line", AtMost(1.25))];
    for (ring, what) in [
        (64 * KIB, "stream, ring of 64 KiB ÷ rtrb"),
        (MIB, "stream, ring of 1 MiB ÷ rtrb"),
        (4 * MIB, "stream, ring of 4 MiB ÷ rtrb"),
    ] {
        all.push(target("P2", what, Measure::stream(64, ring), "slipring", "rtrb", AtMost(1.25)));
    }
    all.extend([
        target("P3", "stream ÷ ringfire", stream, "slipring", "ringfire", AtMost(1.0 / 3.0)),
        target("P3", "stream ÷ shaq", stream, "slipring", "shaq", AtMost(0.1)),
        target("P3", "stream ÷ iceoryx2", stream, "slipring", "iceoryx2", AtMost(0.02)),
        target(
            "P4",
            "64 KiB in place, bytes a second ÷ bulk copy",
            Measure::stream(BLOCK, MIB),
            "bulk-copy",
            "slipring-in-place",
            AtLeast(0.8),
        ),
        target("P5", "stream, parking ÷ spinning", stream, "slipring-park", "slipring", AtMost(1.2)),
        target("P6", "round trip of sleeping ends ÷ futex", Measure::WAKE_UP, "slipring", "futex", AtMost(1.15)),
    ]);
    for (pairs, what) in [(1, "MPMC 1+1 ÷ ArrayQueue"), (2, "MPMC 2+2 ÷ ArrayQueue"), (4, "MPMC 4+4 ÷ ArrayQueue")] {
        all.push(target("P8", what, Measure::many(pairs), "slipring-mpmc", "crossbeam-array-queue", AtMost(1.5)));
    }
    all.push(target("P9", "MPMC 1+1 ÷ shaq", Measure::many(1), "slipring-mpmc", "shaq-mpmc", AtMost(0.5)));
    all
}

/// Every target whose two sides were measured.
pub(crate) fn print_targets(all: &[Measured]) {
    let mut rows = Vec::new();
    for Target { name, what, measure, this, that, must } in targets() {
        let measured = all.iter().find(|measured| measured.measure == measure);
        let got = measured.and_then(|measured| ratio(measured.of(this)?, measured.of(that)?));
        if let Some(got) = got {
            let (target, held) = match must {
                Must::AtMost(limit) => (format!("≤ {}", digits(limit)), got <= limit),
                Must::AtLeast(limit) => (format!("≥ {}", digits(limit)), got >= limit),
            };
            let held = if held { "yes" } else { "**no**" };
            rows.push(vec![name.to_owned(), what.to_owned(), target, digits(got), held.to_owned()]);
        }
    }
    if !rows.is_empty() {
        let header = ["", "ratio in the same round, median", "target", "got", "held?"].map(str::to_owned);
        println!("{}", markdown(&header, &rows));
    }
}
