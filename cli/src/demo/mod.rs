//! `slipring demo`: measures and shows what rings do on this machine, without any setup.
//!
//! Every figure is of two or more processes: this program starts itself again ([`part`]) and passes
//! rings as inherited memfds, so nothing is left behind, however it ends. The producer's and the
//! consumer's side of one measurement are in one file.

mod crash;
mod file;
mod latency;
pub(crate) mod part;
mod stream;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::failure::Outcome;
use crate::units::nanoseconds;
use crate::{Context, child, output, units};

/// Measure and show what rings do on this machine, in a few seconds
#[derive(Args)]
#[command(after_help = "Examples:
  slipring demo
  slipring demo --file /usr/bin/python3
  slipring demo --json

Two processes play ping-pong with a bare cache line, then with frames; one streams to the other; a file goes through both \
kinds of ring and is compared byte for byte; then a sender and a receiver are killed, each while it holds a frame. \
Exit code 0 only if every byte was right and nothing was lost.")]
pub(crate) struct Demo {
    /// The file to send [default: this program]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Bytes to send through each kind of ring: tests use fewer
    #[arg(long, value_name = "SIZE", value_parser = units::size, default_value = "512MiB", hide = true)]
    total: usize,
}

impl Demo {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let say = |text: String| if context.json { Ok(()) } else { output::print(&text) };
        let cpus = child::Cpus::available();
        let load = file::Load::read(self.file.as_deref(), self.total)?;
        let alone = if cpus.is_alone() { " (only one: these figures measure its scheduler)" } else { "" };
        say(format!("\n  frames between processes, through shared memory, on {} processors{alone}\n\n", cpus.count()))?;

        let latency = latency::measure(&cpus)?;
        let (raw, ring) = (&latency.raw, &latency.ring);
        say(format!(
            "  round trip, 64 bytes       p50        p99      p99.9\n{}{}",
            raw.row("bare cache line"),
            ring.row("spsc ring")
        ))?;
        say(format!("    {:.2} times the floor of this machine\n\n", latency.ratio()))?;

        let stream = stream::measure(&cpus)?;
        say(format!(
            "  stream of 64-byte frames   {:.1} ns a frame   {}frames/s   {:.1} GB/s   (half of the time {:.1} to {:.1} ns)\n\n",
            stream.median(),
            units::count(1e9 / stream.median()),
            64.0 / stream.median(),
            stream.quartiles()[0],
            stream.quartiles()[1],
        ))?;

        let copy = load.copy_speed();
        say(format!(
            "  a file: {}, {}, sent repeatedly, compared byte for byte\n",
            load.name(),
            units::bytes(load.len() as u64)
        ))?;
        let spsc = file::spsc(&load, &cpus)?;
        say(spsc.row("spsc  1 to 1"))?;
        let mpmc = file::mpmc(&load)?;
        say(mpmc.row("mpmc  2 to 2"))?;
        say(format!("    (memcpy alone: {copy:.1} GB/s)\n\n"))?;

        let crash = crash::run()?;
        say(crash.describe())?;
        say(
            "  all checks passed. Next:  slipring recv ring:hello &  echo hi | slipring send ring:hello\n\n".to_owned()
        )?;
        if context.json {
            output::print_json(&json!({
                "processors": cpus.count(),
                "round_trip_ns": { "cache_line": raw.json(), "spsc": ring.json(), "ratio": latency.ratio() },
                "stream_64": { "ns_per_frame": stream.median(), "quartiles": stream.quartiles() },
                "file": { "name": load.name(), "bytes": load.len(), "memcpy_gb_per_s": copy, "spsc": spsc.json(), "mpmc": mpmc.json() },
                "kill": crash.json(),
            }))?;
        }
        Ok(())
    }
}

/// One line of figures, times in nanoseconds.
fn times(label: &str, values: [f64; 3]) -> String {
    let [a, b, c] = values.map(nanoseconds);
    format!("    {label:20} {a:>9}  {b:>9}  {c:>9}\n")
}
