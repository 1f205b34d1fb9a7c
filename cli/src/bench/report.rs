//! The results of a bench: a table, JSON, CSV, or the format of the ipc-bench suite.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::{PERCENTILES, RUNS, Series, Times};
use super::machine;
use crate::failure::Outcome;
use crate::output::{self, Table};
use crate::units;

/// Output format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
    Csv,
    /// The block that the ipc-bench suite (goldsborough/ipc-bench) prints, one per row
    IpcBench,
}

/// What the times of a row measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// There and back.
    RoundTrip,
    /// From when the message was due until it was received.
    OneWay,
    /// Time between two messages of a stream.
    Message,
    /// A single operation.
    Once,
    /// Processor time per second of waiting.
    Busy,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::RoundTrip => "round trip",
            Unit::OneWay => "one way",
            Unit::Message => "per message",
            Unit::Once => "once",
            Unit::Busy => "processor time per second",
        }
    }

    fn show(self, ns: f64) -> String {
        if self == Unit::Busy { format!("{:.3} %", ns / 1e7) } else { units::nanoseconds(ns) }
    }
}

/// The floor of a row: the same run without a ring, or of another method, for comparison.
pub(super) struct Floor {
    pub(super) name: &'static str,
    pub(super) runs: Series,
}

/// What a ratio should be.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// What is compared, in words: the target's name.
    pub(super) what: &'static str,
    pub(super) at_most: f64,
}

/// One line of figures, all in nanoseconds.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) size: usize,
    pub(super) unit: Unit,
    /// The figure of each run.
    pub(super) runs: Series,
    /// Single times of all runs.
    pub(super) times: Option<Times>,
    /// Messages that were measured and compared.
    pub(super) count: u64,
    /// How often those messages filled the ring.
    pub(super) laps: f64,
    /// The ratio in the table refers to the first floor.
    pub(super) floors: Vec<Floor>,
    /// Targets, and the measured values.
    pub(super) targets: Vec<(Target, f64)>,
    /// Further values.
    pub(super) more: BTreeMap<&'static str, f64>,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, size: usize, unit: Unit) -> Self {
        Row {
            what: what.into(),
            size,
            unit,
            runs: Series::default(),
            times: None,
            count: 0,
            laps: 0.0,
            floors: Vec::new(),
            targets: Vec::new(),
            more: BTreeMap::new(),
        }
    }

    /// Median and spread of the ratios to a floor, run by run.
    fn ratio(&self, floor: &Floor) -> Series {
        self.runs.over(&floor.runs)
    }

    /// Adds a target for the ratio to floor `index`.
    pub(super) fn aim(&mut self, target: Target, index: usize) {
        self.targets.extend(self.floors.get(index).map(|floor| (target, self.ratio(floor).median())));
    }

    /// Messages per second, where that is meaningful.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.unit == Unit::Message).then(|| 1e9 / self.runs.median().max(f64::MIN_POSITIVE))
    }

    fn json(&self) -> Value {
        let floors = self
            .floors
            .iter()
            .map(|floor| json!({ "name": floor.name, "ns": floor.runs.json(), "ratio": self.ratio(floor).json() }));
        let targets = self.targets.iter().map(|(target, got)| {
            json!({ "what": target.what, "at_most": target.at_most, "got": got,
                    "held": *got <= target.at_most })
        });
        json!({
            "what": self.what, "size": self.size, "unit": self.unit.name(), "ns": self.runs.json(),
            "times": self.times.as_ref().map(Times::json), "count": self.count, "verified": self.count,
            "laps": self.laps, "messages_per_s": self.rate(),
            "gb_per_s": self.rate().map(|rate| rate * self.size as f64 / 1e9),
            "floors": floors.collect::<Vec<_>>(), "targets": targets.collect::<Vec<_>>(), "more": self.more,
        })
    }
}

/// All results of a bench.
pub(super) struct Report {
    pub(super) bench: &'static str,
    /// How it was measured, in one line.
    pub(super) how: String,
    pub(super) rows: Vec<Row>,
    /// Facts that a reader needs to judge the figures.
    pub(super) notes: Vec<String>,
}

impl Report {
    pub(super) fn print(&self, format: Format) -> Outcome {
        match format {
            Format::Table => output::print(&self.table()),
            Format::Json => output::print_json(&self.json()),
            Format::Csv => output::print(&self.csv()),
            Format::IpcBench => output::print(&self.rows.iter().map(ipc_bench).collect::<String>()),
        }
    }

    fn json(&self) -> Value {
        json!({
            "bench": self.bench, "how": self.how, "runs": RUNS, "machine": machine::describe(),
            "results": self.rows.iter().map(Row::json).collect::<Vec<_>>(), "notes": self.notes,
        })
    }

    fn table(&self) -> String {
        let mut text = format!("\n{}\n", output::wrapped(&format!("{}: {}", self.bench, self.how)));
        let stream = self.rows.iter().any(|row| row.unit == Unit::Message);
        let single = self.rows.iter().any(|row| row.times.is_some()) && !stream;
        let mut headings = vec!["", ">BYTES", ">MEDIAN", ">SPREAD OF RUNS"];
        headings.extend(stream.then_some([">MESSAGES/S", ">GB/S"]).into_iter().flatten());
        headings.extend(single.then_some([">P90", ">P99", ">P99.9", ">P99.99", ">MAX"]).into_iter().flatten());
        headings.extend([">FLOOR", ">RATIO", ">SPREAD", "TO"]);
        let mut table = Table::new(&headings);
        for row in &self.rows {
            let show = |ns| row.unit.show(ns);
            let [least, most] = row.runs.spread();
            let size = if row.size == 0 { String::new() } else { row.size.to_string() };
            let mut cells = vec![row.what.clone(), size, show(row.runs.median())];
            cells.push(format!("{} – {}", show(least), show(most)));
            if stream {
                cells.push(row.rate().map(|rate| units::count(rate).trim_end().to_owned()).unwrap_or_default());
                let speed = row.rate().map(|rate| format!("{:.2}", rate * row.size as f64 / 1e9));
                cells.push(speed.unwrap_or_default());
            }
            if single {
                let at = |quantile| row.times.as_ref().map(|times| show(times.at(quantile))).unwrap_or_default();
                cells.extend(PERCENTILES[1..].iter().map(|(_, quantile)| at(*quantile)));
                cells.push(row.times.as_ref().map(|times| show(times.most())).unwrap_or_default());
            }
            // Each further floor has a line of its own.
            for (index, floor) in row.floors.iter().enumerate() {
                let ratio = self.ratio_cells(row, floor);
                if index == 0 {
                    table.row(cells.iter().cloned().chain(ratio));
                } else {
                    table.row(cells.iter().map(|_| String::new()).chain(ratio));
                }
            }
            if row.floors.is_empty() {
                table.row(cells.into_iter().chain((0..4).map(|_| String::new())));
            }
        }
        text.push_str(&table.render());
        text.push('\n');
        for &(target, got) in self.rows.iter().flat_map(|row| &row.targets) {
            let verdict = if got <= target.at_most { "held" } else { "missed" };
            let Target { what, at_most } = target;
            let line = format!("{what}: {}, target at most {at_most}: {verdict}", figure(got));
            text.push_str(&output::wrapped(&line));
        }
        for note in &self.notes {
            text.push_str(&output::wrapped(&format!("note: {note}")));
        }
        text
    }

    fn ratio_cells(&self, row: &Row, floor: &Floor) -> [String; 4] {
        let ratio = row.ratio(floor);
        let [least, most] = ratio.spread();
        [
            row.unit.show(floor.runs.median()),
            figure(ratio.median()),
            format!("{} – {}", figure(least), figure(most)),
            floor.name.to_owned(),
        ]
    }

    fn csv(&self) -> String {
        let mut text =
            "bench,what,bytes,unit,count,laps,median_ns,min_run_ns,max_run_ns,p50_ns,p90_ns,p99_ns,p99_9_ns,\
                        p99_99_ns,max_ns,floor,floor_ns,ratio,ratio_min,ratio_max\n"
                .to_owned();
        for row in &self.rows {
            let [least, most] = row.runs.spread();
            let (unit, median) = (row.unit.name(), row.runs.median());
            let _ = write!(text, "{},{},{},{unit},{},", self.bench, row.what.replace(',', ";"), row.size, row.count);
            let _ = write!(text, "{:.1},{median:.2},{least:.2},{most:.2},", row.laps);
            for quantile in PERCENTILES.map(|(_, quantile)| quantile).into_iter().chain([1.0]) {
                match &row.times {
                    Some(times) => drop(write!(text, "{:.2},", times.at(quantile))),
                    None => text.push(','),
                }
            }
            match row.floors.first() {
                Some(floor) => {
                    let ratio = row.ratio(floor);
                    let [least, most] = ratio.spread();
                    let (name, ns, ratio) = (floor.name, floor.runs.median(), ratio.median());
                    let _ = writeln!(text, "{name},{ns:.2},{ratio:.4},{least:.4},{most:.4}");
                }
                None => text.push_str(",,,,\n"),
            }
        }
        text
    }
}

/// The figure with three significant digits.
fn figure(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 100.0 => format!("{ratio:.0}"),
        ratio if ratio < 0.01 && ratio > 0.0 => format!("{ratio:.1e}"),
        ratio => format!("{ratio:.2}"),
    }
}

fn ipc_bench(row: &Row) -> String {
    let median = row.runs.median();
    let [least, most] = row.runs.spread();
    let (average, least, most, deviation) = match &row.times {
        Some(times) => (times.mean(), times.least(), times.most(), times.deviation()),
        None => (median, least, most, 0.0),
    };
    let total = average * row.count as f64;
    let rate = 1e9 / average.max(f64::MIN_POSITIVE);
    format!(
        "\n============ RESULTS ================\n\
         Message size:       {}\n\
         Message count:      {}\n\
         Total duration:     {:.3}\tms\n\
         Average duration:   {:.3}\tus\n\
         Minimum duration:   {:.3}\tus\n\
         Maximum duration:   {:.3}\tus\n\
         Standard deviation: {:.3}\tus\n\
         Message rate:       {rate:.0}\tmsg/s\n\
         =====================================\n",
        row.size,
        row.count,
        total / 1e6,
        average / 1e3,
        least / 1e3,
        most / 1e3,
        deviation / 1e3,
    )
}
