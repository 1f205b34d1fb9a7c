//! `bench relay`: a stream of small messages from ring to ring through a pipe and two relays,
//! beside one write a message.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use slipring::transport::{pipe, stream};
use slipring::{Deadline, Options, Ring, spsc};

use super::figures::{RUNS, Series};
use super::ports::{Rx, Tx};
use super::report::{Floor, Report, Row, Target, Unit};
use super::runs::{self, Consumed, Until};
use super::trouble::Trouble;
use super::wires::{Receives, Sends};
use super::{Common, message_size, usage};
use crate::Context;
use crate::child::Part;
use crate::failure::{FAILED, Failure, LOST, Outcome};
use crate::units;

const CAPACITY: usize = 1 << 20;
/// Longer than relays take to start.
const PATIENCE: Duration = Duration::from_secs(10);
const RELAYED: Target =
    Target { what: "64 bytes from ring to ring through a pipe ÷ one write each, in time", at_most: 0.33 };

/// Messages from ring to ring through a pipe and two relays, beside a pipe with one write for each
#[derive(Args)]
#[command(after_help = "\
Two processes of `slipring relay` stand between the sender and the receiver, which are threads of this one: four that share the \
processors, against the two of the bare pipe, through which the same frames go with one write each.")]
pub(super) struct Relay {
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, at least 8
    #[arg(short, long, value_name = "BYTES", value_parser = message_size, default_value_t = 64)]
    size: usize,
}

impl Relay {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if self.common.threads || !self.common.cpu.is_empty() {
            return Err(usage("--threads, --cpu: relays are processes, and run where the system puts them"));
        }
        let mut chain = Chain::start()?;
        let (tx, rx) = pipe::pair(&stream::Options::new())?;
        let mut wire = (Sends::Frames(Box::new(tx), Vec::new()), Receives::Frames(Box::new(rx)));
        let lap = (CAPACITY / (16 + self.size).next_multiple_of(8)) as u64;
        let until = self.common.until(2, lap);
        let mut row = Row::new("ring, relay, pipe, relay, ring", self.size, Unit::Message);
        let mut floor = Series::default();
        for run in 0..RUNS {
            for turn in 0..2 {
                if (run + turn) % 2 == 0 {
                    let (count, ns) = transfer(&mut chain.tx, &mut chain.rx, self.size, &until)?;
                    row.runs.push(ns);
                    row.count += count;
                } else {
                    let (tx, rx) = &mut wire;
                    floor.push(transfer(tx, rx, self.size, &until)?.1);
                }
            }
        }
        chain.end()?;
        row.laps = row.count as f64 / lap as f64;
        row.floors.push(Floor { name: "one write each", runs: floor });
        if self.size == 64 {
            row.aim(RELAYED, 0);
        }
        let how = format!("frames through rings of {} and a pipe", units::bytes(CAPACITY as u64));
        self.common.finish(Report { bench: "relay", how, rows: vec![row], notes: Vec::new() }, context)
    }
}

/// Sends from another thread and receives in this one. Returns how many messages, and the
/// nanoseconds of each.
fn transfer(tx: &mut (impl Tx + Send), rx: &mut impl Rx, size: usize, until: &Until) -> Outcome<(u64, f64)> {
    let (produced, consumed) = std::thread::scope(|scope| {
        let producing = || runs::produce(tx, size, 0, until, None, true);
        let producing = std::thread::Builder::new().spawn_scoped(scope, producing);
        let producing = producing.map_err(|error| crate::opening::no_thread(&error))?;
        let consumed = runs::consume(rx);
        Ok::<_, Failure>((producing.join(), consumed))
    })?;
    let (count_sent, sum_sent, _) = produced.map_err(|_| Failure::new(FAILED, "the sending thread failed"))??;
    match consumed? {
        Consumed { count, sum, first_ns, last_ns } if (count, sum) == (count_sent, sum_sent) => {
            Ok((count, last_ns.saturating_sub(first_ns) as f64 / count.max(1) as f64))
        }
        _ => Err(Trouble::Wrong("the received messages are not the sent ones".to_owned()).into()),
    }
}

/// Ring, relay, pipe, relay, ring.
struct Chain {
    tx: spsc::Producer,
    rx: spsc::Consumer,
    relays: [Part; 2],
}

impl Chain {
    fn start() -> Outcome<Self> {
        let directory = std::env::temp_dir().join(format!("slipring-bench-relay-{}", std::process::id()));
        let removed = Removed(directory.clone());
        let options = Options::spsc(CAPACITY).directory(&directory);
        let tx = spsc::Producer::open("in", &options)?;
        let rx = spsc::Consumer::open("out", &options)?;
        let relay = |source: &str, destination: &str, stdin: Stdio| {
            let mut command = Command::new("/proc/self/exe");
            command.arg("--dir").arg(&directory).args(["relay", source, destination]);
            command.stdin(stdin).stdout(Stdio::piped());
            Part::spawn(command)
        };
        let mut first = relay("ring:in", "-", Stdio::null())?;
        let second = relay("-", "ring:out", first.stdout()?.into())?;
        tx.wait_for_peer(Deadline::after(PATIENCE))?;
        rx.wait_for_peer(Deadline::after(PATIENCE))?;
        drop(removed); // attached processes do not need the name
        Ok(Chain { tx, rx, relays: [first, second] })
    }

    /// The end passes through both relays.
    fn end(mut self) -> Outcome {
        self.tx.close();
        match spsc::Consumer::recv_deadline(&mut self.rx, PATIENCE) {
            Err(slipring::Error::Closed) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Failure::new(LOST, "a message after the last one")),
        }
        self.relays.into_iter().try_for_each(Part::finish)
    }
}

/// A directory of rings, removed with their names when dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        for name in ["in", "out"] {
            let _ = Ring::remove(name, &Options::any().directory(&self.0));
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
