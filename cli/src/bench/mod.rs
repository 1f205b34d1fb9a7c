//! `slipring bench`: measures rings on this machine, between processes, beside the machine's own
//! limits.
//!
//! One file per measured subject. `latency.rs` has what round trips share, `runs.rs` the loops,
//! `tasks.rs` what the other processes are asked. Rings are inherited memfds, so nothing is left
//! behind, however a bench ends.

mod attaching;
mod bare;
mod crew;
mod doctor;
mod figures;
mod latency;
mod machine;
mod matrix;
mod meet;
mod mpmc;
mod once;
pub(crate) mod part;
mod payload;
mod ports;
mod relay;
mod report;
mod runs;
mod stream;
mod svg;
mod tasks;
mod transports;
mod trips;
mod trouble;
mod waitset;
mod waitset_trial;
mod wires;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use slipring::Idle;

use crate::child::Cpus;
use crate::failure::{FAILED, Failure, Outcome, USAGE};
use crate::{Context, units};
use figures::RUNS;
use report::{Format, Report, Unit};
use runs::Until;

const EXAMPLES: &str = "\
Examples:
  slipring bench ping-pong                    round trips, beside a cache line
  slipring bench stream -s 64 --idle park     blocking calls, beside spinning
  slipring bench stream -s 64 --rate 100k/s   how late messages are
  slipring bench wakeup                       sides that sleep, beside a futex
  slipring bench mpmc --pairs 1,2,4           several senders and receivers
  slipring bench transports                   frames, beside bare system calls
  slipring bench waitset                      one wait for many rings
  slipring bench relay                        ring to ring through a pipe
  slipring bench doctor                       what makes figures poor here
  slipring bench ping-pong --format ipc-bench -s 4096 -c 1000

Between two processes, each on a processor of its own; every message is written, read and compared. Each figure is the \
median of 9 runs that take turns with the floor they are compared with; beside it stand the least and the most of those runs, \
and the median and the spread of the 9 ratios. Percentiles are of single times without the reading of the clock.";

/// Measure rings on this machine, beside the machine's own limits
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    PingPong(trips::PingPong),
    Stream(stream::Stream),
    Wakeup(trips::Wakeup),
    UnderLoad(trips::UnderLoad),
    Mpmc(mpmc::Mpmc),
    Matrix(matrix::Matrix),
    Transports(transports::Transports),
    Relay(relay::Relay),
    Attach(once::Attach),
    Idle(once::Resting),
    Waitset(waitset::Waitset),
    Doctor(doctor::BenchDoctor),
}

impl Bench {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self.what {
            What::PingPong(verb) => verb.run(context),
            What::Stream(verb) => verb.run(context),
            What::Wakeup(verb) => verb.run(context),
            What::UnderLoad(verb) => verb.run(context),
            What::Mpmc(verb) => verb.run(context),
            What::Matrix(verb) => verb.run(context),
            What::Transports(verb) => verb.run(context),
            What::Relay(verb) => verb.run(context),
            What::Attach(verb) => verb.run(context),
            What::Idle(verb) => verb.run(context),
            What::Waitset(verb) => verb.run(context),
            What::Doctor(verb) => verb.run(context),
        }
    }
}

/// Options of every bench.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Total time, approximately [default: 5s]
    #[arg(short, long, value_name = "DURATION", value_parser = units::duration)]
    time: Option<Duration>,
    /// Messages to measure for each figure, instead of as many as the time permits
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The processors to use, the main process's first [default: those that are available]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    cpu: Vec<usize>,
    /// Use threads of this process instead of processes
    #[arg(long)]
    threads: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also draw a picture: percentiles, or throughput by size
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

impl Common {
    fn cpus(&self) -> Outcome<Cpus> {
        if self.cpu.is_empty() { Ok(Cpus::available()) } else { Cpus::chosen(&self.cpu) }
    }

    /// The participants, for the line above the table.
    fn whom(&self) -> &'static str {
        if self.threads { "two threads" } else { "two processes" }
    }

    /// The end of each run, if `shares` runs share the time of a round. All runs together are 100
    /// laps.
    fn until(&self, shares: usize, lap: u64) -> Until {
        let time = self.time.unwrap_or(Duration::from_secs(5)).as_nanos() as u64;
        Until {
            count: self.count.map(|count| count.div_ceil(RUNS as u64)),
            enough: ENOUGH,
            least: (LAPS * lap).div_ceil(RUNS as u64),
            ns: time / (shares.max(1) * RUNS) as u64,
        }
    }

    /// Measures on the first processor, and finishes. `measure` gets the processor of the other
    /// side.
    fn pinned(&self, measure: impl FnOnce(Option<usize>) -> Outcome<Report>, context: &Context) -> Outcome {
        let report = self.cpus()?.pinned(measure)?;
        self.finish(report, context)
    }

    /// Prints and draws the report.
    fn finish(&self, mut report: Report, context: &Context) -> Outcome {
        report.notes.extend(circumstances(&self.cpus()?));
        let short = |row: &&report::Row| row.unit != Unit::OneWay && row.laps > 0.0 && row.laps < LAPS as f64;
        if let Some(row) = report.rows.iter().find(short) {
            let (laps, size) = (row.laps, row.size);
            report.notes.push(format!(
                "only {laps:.1} laps of the ring with {size} bytes, not {LAPS}: give more time or a smaller --capacity"
            ));
        }
        if let Some(path) = &self.svg {
            let written = std::fs::write(path, svg::draw(&report));
            written.map_err(|e| Failure::new(FAILED, e).at(path.display()))?;
        }
        report.print(if context.json { Format::Json } else { self.format })
    }
}

/// With fewer laps, the figures are those of a cold cache.
const LAPS: u64 = 100;

/// A run has at least this many messages, however long it takes.
const ENOUGH: u64 = 16;

/// Sizes of messages.
#[derive(Args, Clone, Debug)]
struct Sizes {
    /// Bytes in a message, at least 8
    #[arg(short, long = "size", value_name = "BYTES", value_delimiter = ',', value_parser = message_size,
          default_values_t = [8, 64, 256, 1024, 4096, 65536])]
    sizes: Vec<usize>,
}

fn message_size(text: &str) -> Result<usize, String> {
    match units::size(text)? {
        size if size < payload::LEAST => Err(format!("a message needs {} bytes for its number", payload::LEAST)),
        size => Ok(size),
    }
}

/// For clap: parses a size.
fn idle(text: &str) -> Result<Idle, String> {
    text.parse().map_err(|error: slipring::Error| error.to_string())
}

/// Notes on what distorts figures on this machine, as far as it is known without measuring.
fn circumstances(cpus: &Cpus) -> Vec<String> {
    let mut notes = Vec::new();
    if cpus.is_alone() {
        notes.push("only one processor: these figures measure its scheduler".to_owned());
    }
    if let Some(load) = machine::load().filter(|load| *load > 0.6 * machine::processors() as f64 + 2.0) {
        notes.push(format!("load average {load}: others compete for the processors; judge by the ratios"));
    }
    if cfg!(debug_assertions) {
        notes.push("built without optimisation: build with --release".to_owned());
    }
    notes
}

/// The order of `cells` in a run: rotated from run to run, so that none always follows the same
/// one.
fn rotated(cells: usize, run: usize) -> impl Iterator<Item = usize> {
    (0..cells).map(move |index| (index + run) % cells)
}

/// Adds a note if an open loop did not reach the requested rate.
fn rate_note(asked: f64, reached: f64, what: &str) -> Option<String> {
    (reached < 0.99 * asked).then(|| {
        format!(
            "{what}: the rate was not reached: {}/s of {}/s",
            units::count(reached).trim_end(),
            units::count(asked).trim_end()
        )
    })
}

/// A usage error: options that cannot be combined.
fn usage(what: &str) -> Failure {
    Failure::new(USAGE, what)
}
