//! `slipring bench`: what rings do on this machine, between processes, beside what the machine itself can do.
//!
//! One file per thing that is measured; `latency.rs` has what round trips share, `runs.rs` the loops, `part.rs` what the
//! other processes do. Rings are inherited memfds, so nothing is left behind, whatever happens.

mod bare;
mod crew;
mod doctor;
mod figures;
mod latency;
mod machine;
mod matrix;
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
mod transports;
mod trips;
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
  slipring bench relay                        ring to ring through a pipe
  slipring bench doctor                       what makes figures poor here
  slipring bench ping-pong --format ipc-bench -s 4096 -c 1000

Between two processes, each on a processor of its own; every message is written, read and compared. Each figure is the \
median of 9 runs that take turns with the floor they are compared with; beside it stand the least and the most of those runs, \
and the median and the spread of the 9 ratios. Percentiles are of single times without the reading of the clock.";

/// Measure rings on this machine, beside what the machine itself can do
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
            What::Doctor(verb) => verb.run(context),
        }
    }
}

/// What every bench understands.
#[derive(Args, Clone, Debug)]
struct Common {
    /// Time for all of it, about [default: 5s]
    #[arg(short, long, value_name = "DURATION", value_parser = units::duration)]
    time: Option<Duration>,
    /// Messages to measure of each figure, instead of as many as there is time for
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The processors to use, ours first [default: those that are available]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    cpu: Vec<usize>,
    /// Threads of this process instead of processes
    #[arg(long)]
    threads: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Draw a picture, too: percentiles, or throughput by size
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,
}

impl Common {
    fn cpus(&self) -> Outcome<Cpus> {
        if self.cpu.is_empty() { Ok(Cpus::available()) } else { Cpus::chosen(&self.cpu) }
    }

    /// Between whom, for the line above the table.
    fn whom(&self) -> &'static str {
        if self.threads { "two threads" } else { "two processes" }
    }

    /// The end of each run, if `shares` of them share the time in every round; all of them together are 100 laps.
    fn until(&self, shares: usize, lap: u64) -> Until {
        let time = self.time.unwrap_or(Duration::from_secs(5)).as_nanos() as u64;
        Until {
            count: self.count.map(|count| count.div_ceil(RUNS as u64)),
            enough: ENOUGH,
            least: (LAPS * lap).div_ceil(RUNS as u64),
            ns: time / (shares.max(1) * RUNS) as u64,
        }
    }

    /// Prints and draws what was found.
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

/// Fewer laps than that measure a cache that is still cold.
const LAPS: u64 = 100;

/// A run of fewer messages is no run, however long it takes.
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

/// For clap.
fn idle(text: &str) -> Result<Idle, String> {
    text.parse().map_err(|error: slipring::Error| error.to_string())
}

/// What makes figures poor here, and is known without measuring.
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

/// Which of `cells` come first in a run: another one each time, so that none is always behind the same.
fn rotated(cells: usize, run: usize) -> impl Iterator<Item = usize> {
    (0..cells).map(move |index| (index + run) % cells)
}

/// The open loop, if one was asked for, came to this: says so when it is not what was asked for.
fn rate_note(asked: f64, reached: f64, what: &str) -> Option<String> {
    (reached < 0.99 * asked).then(|| {
        format!(
            "{what}: the rate was not reached: {}/s of {}/s",
            units::count(reached).trim_end(),
            units::count(asked).trim_end()
        )
    })
}

/// Options that cannot work together.
fn usage(what: &str) -> Failure {
    Failure::new(USAGE, what)
}
