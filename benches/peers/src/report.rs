//! The tables and the targets, as Markdown on stdout.

use crate::counted::Counted;
use crate::job::{Access, Task, Wait};
use crate::measures::{BLOCK, KIB, MIB, Measure, Measured};
use crate::peers::Torn;
use crate::table::{Figure, Placement, Runs, cell, digits, markdown, median, nanoseconds, quantile, ratios};

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
            (Task::Gather(n), _) => format!("{n} senders, 1 receiver, {size}, ns per message"),
            (Task::Publish(_), _) => format!("Publishing {size} to receivers that may miss messages, ns per message"),
            (Task::Latest(Access::Write), _) => format!("Writing a latest value of {size}, ns"),
            (Task::Latest(Access::Read), _) => format!("Reading a latest value of {size}, ns"),
            (Task::Latest(Access::InTurn), _) => format!("Writing and reading a latest value of {size} in turn, ns"),
            (Task::Latest(Access::Beside), _) => {
                format!("Reading a latest value of {size} while another thread writes, ns")
            }
        }
    }

    /// The name of its floor, and of the peer that others are compared with.
    fn floor(&self) -> Option<&'static str> {
        match (self.task, self.wait) {
            (Task::RoundTrip, Wait::Sleep) => Some("futex"),
            (Task::RoundTrip, _) => Some("cache-line"),
            (Task::Stream, _) => Some("bulk-copy"),
            (Task::Publish(_), _) => Some("bare-lines-0"),
            (Task::Many(_) | Task::Gather(_) | Task::Latest(_), _) => None,
        }
    }
}

pub(crate) fn bytes(n: usize) -> String {
    match n {
        n if n >= MIB => format!("{} MiB", n / MIB),
        n if n >= KIB => format!("{} KiB", n / KIB),
        n => format!("{n} B"),
    }
}

fn ns(figure: &Figure) -> Option<f64> {
    Some(figure.ns)
}

fn p9999(figure: &Figure) -> Option<f64> {
    figure.p9999
}

/// One table per measure and placement: figures are compared only for the same placement of the
/// processors.
pub(crate) fn print(measured: &Measured) {
    for placement in Placement::ALL {
        print_placed(measured, placement);
    }
    print_failures(measured);
}

fn print_placed(measured: &Measured, placement: Placement) {
    let floor = measured.measure.floor().and_then(|name| measured.of(name));
    let ours = ["slipring", "slipring-mpmc", "slipring-broadcast-0", "slipring-latest"];
    let ours = ours.iter().find_map(|name| measured.of(name));
    let against = |runs: &Runs, those: Option<&Runs>| {
        let ratio = those.and_then(|those| median(&ratios(runs, those, placement, ns)));
        ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{}×", digits(ratio)))
    };
    let round_trip = measured.measure.task == Task::RoundTrip;
    let mut header = vec!["peer".to_owned(), "median (middle half)".to_owned()];
    header.extend(["p99", "p99.99"].iter().filter(|_| round_trip).map(|name| (*name).to_owned()));
    header.extend(floor.is_some().then(|| "÷ floor".to_owned()));
    header.extend(["÷ slipring", "rounds"].map(str::to_owned));
    let rows: Vec<Vec<String>> = measured
        .peers
        .iter()
        .filter_map(|(entry, runs)| {
            let figures = runs.at(placement, ns);
            if figures.is_empty() {
                return None;
            }
            let mut row = vec![entry.label(), cell(&figures)];
            let tail = |of: fn(&Figure) -> Option<f64>| {
                median(&runs.at(placement, of)).map_or_else(|| "–".to_owned(), nanoseconds)
            };
            row.extend([tail(|figure| figure.p99), tail(p9999)].into_iter().filter(|_| round_trip));
            row.extend(floor.is_some().then(|| against(runs, floor)));
            row.extend([against(runs, ours), figures.len().to_string()]);
            Some(row)
        })
        .collect();
    if !rows.is_empty() {
        println!("**{}** ({} processors)\n\n{}", measured.measure.title(), placement.name(), markdown(&header, &rows));
    }
}

/// The peers that failed, and why.
pub(crate) fn print_failures(measured: &Measured) {
    for (entry, runs) in &measured.peers {
        if let Some(failure) = &runs.failure {
            println!("{}: {failure}\n", entry.label());
        }
    }
}

/// The side of its limit on which a target is met.
#[derive(Clone, Copy)]
enum Must {
    AtMost(f64),
    AtLeast(f64),
}

/// The value that a target is about.
enum Subject {
    /// The ratio of the first peer's figure to the second's.
    Ratio(&'static str, &'static str),
    /// One peer's figure, in nanoseconds.
    Nanoseconds(&'static str),
    /// The same of their 99.99th percentiles.
    Tails(&'static str, &'static str),
    /// Third quartile ÷ first quartile of the rounds of one peer: whether its figures are steady.
    Spread(&'static str),
}

struct Target {
    what: String,
    measure: Measure,
    subject: Subject,
    must: Must,
}

/// The targets that these measurements can decide.
fn targets() -> Vec<Target> {
    use Must::{AtLeast, AtMost};
    use Subject::{Nanoseconds, Ratio, Spread, Tails};
    let mut all = Vec::new();
    let mut add = |what: String, measure, subject, must| all.push(Target { what, measure, subject, must });
    let trip = Measure::round_trip(64);
    add("round trip of 64 B ÷ bare cache line".into(), trip, Ratio("slipring", "cache-line"), AtMost(1.25));
    for (size, limit) in [(8, 0.9), (64, 0.7), (256, 0.9), (1024, 0.9)] {
        let what = format!("round trip of {} ÷ rtrb", bytes(size));
        add(what, Measure::round_trip(size), Ratio("slipring", "rtrb"), AtMost(limit));
    }
    for (size, limit) in [(8, 1.0), (64, 0.6), (256, 0.7), (1024, 0.8)] {
        let what = format!("stream of {} ÷ rtrb", bytes(size));
        add(what, Measure::usual_stream(size), Ratio("slipring", "rtrb"), AtMost(limit));
    }
    let stream = Measure::usual_stream(64);
    for (peer, limit) in [("ringfire", 0.4), ("iceoryx2", 1.0 / 40.0), ("shaq", 0.25)] {
        add(format!("stream of 64 B ÷ {peer}"), stream, Ratio("slipring", peer), AtMost(limit));
    }
    for (pairs, limit) in [(1, 0.7), (2, 1.0), (4, 0.7)] {
        let what = format!("MPMC {pairs} + {pairs} ÷ ArrayQueue");
        add(what, Measure::many(pairs), Ratio("slipring-mpmc", "crossbeam-array-queue"), AtMost(limit));
    }
    let what = "MPMC round trip of 64 B ÷ ArrayQueue".into();
    add(what, trip, Ratio("slipring-mpmc", "crossbeam-array-queue"), AtMost(0.75));
    add("stream of 64 B, parking ÷ spinning".into(), stream, Ratio("slipring-park", "slipring"), AtMost(1.05));
    for size in [8, 64, 256, 1024] {
        let what = format!("stream of {}, third ÷ first quartile of its rounds", bytes(size));
        add(what, Measure::usual_stream(size), Spread("slipring"), AtMost(1.5));
    }
    let what = "p99.99 of the round trip of 64 B ÷ p99.99 of the bare cache line".into();
    add(what, trip, Tails("slipring", "cache-line"), AtMost(1.3));
    let what = "64 KiB in place, bytes a second ÷ bulk copy".into();
    add(what, Measure::usual_stream(BLOCK), Ratio("bulk-copy", "slipring-in-place"), AtLeast(0.95));
    let what = "round trip of sleeping ends ÷ futex".into();
    add(what, Measure::WAKE_UP, Ratio("slipring", "futex"), AtMost(1.15));
    for (senders, limit) in [(1, 1.2), (4, 1.3), (16, 1.5)] {
        let what = format!("MPSC {senders} + 1 ÷ SPSC, 64 B");
        add(what, Measure::gather(senders), Ratio("slipring-mpsc", "slipring"), AtMost(limit));
    }
    let what = "MPSC 4 + 1 ÷ MPMC 4 + 1, 64 B".into();
    add(what, Measure::gather(4), Ratio("slipring-mpsc", "slipring-mpmc"), AtMost(0.5));
    for (peer, limit) in [("slipring", 1.15), ("ringfire", 0.5), ("bcast", 0.8), ("shaq-broadcast", 0.8)] {
        let what = format!("broadcast, 1 reliable subscriber, 64 B ÷ {peer}");
        add(what, stream, Ratio("slipring-broadcast", peer), AtMost(limit));
    }
    for (peer, who) in [
        ("slipring-broadcast-2", "2 lossy subscribers"),
        ("slipring-broadcast-4", "4 lossy subscribers"),
        ("slipring-broadcast-8", "8 lossy subscribers"),
        ("slipring-broadcast-stopped", "8 stopped lossy subscribers"),
    ] {
        let what = format!("publisher with {who} ÷ with none");
        add(what, Measure::publish(), Ratio(peer, "slipring-broadcast-0"), AtMost(1.1));
    }
    for (access, what, limit) in [(Access::Write, "write", 10.0), (Access::Read, "read", 15.0)] {
        let what = format!("latest value of 64 B, {what}, ns");
        add(what, Measure::latest(access), Nanoseconds("slipring-latest"), AtMost(limit));
    }
    for (access, what, peer) in [
        (Access::Write, "write", "triple-buffer"),
        (Access::Write, "write", "mmap-sync"),
        (Access::Read, "read", "mmap-sync"),
        (Access::Read, "read", "triple-buffer"),
        (Access::InTurn, "write and read in turn", "triple-buffer"),
        (Access::Beside, "read beside a writer", "triple-buffer"),
    ] {
        let what = format!("latest value of 64 B, {what} ÷ {peer}");
        add(what, Measure::latest(access), Ratio("slipring-latest", peer), AtMost(1.3));
    }
    all
}

/// The value, and the number of rounds that it is based on.
fn achieved(measured: &Measured, subject: &Subject, placement: Placement) -> Option<(f64, usize)> {
    let of_ratios = |this, that, of: fn(&Figure) -> Option<f64>| {
        let ratios = ratios(measured.of(this)?, measured.of(that)?, placement, of);
        Some((median(&ratios)?, ratios.len()))
    };
    match subject {
        Subject::Ratio(this, that) => of_ratios(this, that, ns),
        Subject::Tails(this, that) => of_ratios(this, that, p9999),
        Subject::Nanoseconds(peer) => {
            let figures = measured.of(peer)?.at(placement, ns);
            Some((median(&figures)?, figures.len()))
        }
        Subject::Spread(peer) => {
            let figures = measured.of(peer)?.at(placement, ns);
            // Quartiles of fewer figures are meaningless.
            (figures.len() >= 5).then_some(())?;
            Some((quantile(&figures, 0.75)? / quantile(&figures, 0.25)?, figures.len()))
        }
    }
}

/// Every target whose two sides were measured, near and far.
pub(crate) fn print_targets(all: &[Measured]) {
    let mut rows = Vec::new();
    for Target { what, measure, subject, must } in targets() {
        let Some(measured) = all.iter().find(|measured| measured.measure == measure) else { continue };
        let cells = Placement::ALL.map(|placement| {
            achieved(measured, &subject, placement).map_or_else(
                || "–".to_owned(),
                |(got, rounds)| {
                    let held = match must {
                        Must::AtMost(limit) => got <= limit,
                        Must::AtLeast(limit) => got >= limit,
                    };
                    format!("{} {} ({rounds})", digits(got), if held { "held" } else { "**missed**" })
                },
            )
        });
        if cells.iter().any(|cell| cell != "–") {
            let target = match must {
                Must::AtMost(limit) => format!("≤ {}", digits(limit)),
                Must::AtLeast(limit) => format!("≥ {}", digits(limit)),
            };
            let [near, far] = cells;
            rows.push(vec![what, target, near, far]);
        }
    }
    if !rows.is_empty() {
        let header = ["ratio within a round, median", "target", "near (rounds)", "far (rounds)"].map(str::to_owned);
        println!("{}", markdown(&header, &rows));
    }
}

pub(crate) fn print_torn(found: &Torn) {
    let Torn { reads, written, changes, overtaken } = found;
    println!("Latest values: {reads} reads of 64 B beside a writer, none torn or older than one before");
    println!("({written} values were written, {changes} of them read; {overtaken} reads gave up).\n");
}

/// The counts, which depend on no placement.
pub(crate) fn print_counted(all: &[Counted]) {
    let rows: Vec<_> = all
        .iter()
        .map(|Counted { what, at_most, got }| {
            let verdict = if got <= at_most { "held" } else { "**missed**" };
            vec![what.clone(), format!("≤ {at_most}"), format!("{got} {verdict}")]
        })
        .collect();
    if !rows.is_empty() {
        println!("{}", markdown(&["counted", "target", "got"].map(str::to_owned), &rows));
    }
}
