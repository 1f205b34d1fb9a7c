//! `slipring stat`: prints the counters in the ring itself, without help from its users.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use slipring::{Counts, Kind, Ring, Stats};

use crate::failure::Outcome;
use crate::output::Table;
use crate::{Context, output, parts, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring stat ticks                     counts since its creation
  slipring stat ticks --watch             a line per second: current rates
  slipring stat ticks -d 100ms -n 50 --json

sent, received    frames committed and released (of streams: chunks)
full, empty       how often a producer found no room, a consumer no frame
sleeps, wakes     times a participant slept in the kernel, and was woken: both
                  stand still while a ring is busy
bytes             payload sent plus payload received
high water        the largest backlog, in bytes (mpmc: slots), that was seen by
                  producers that found the ring full and by this command: a
                  lower bound if it was never full
used, held        bytes or slots that are not free; slots being filled or read
recovered         slots recovered from dead participants
redelivered, lost frames redelivered; frames lost
evicted           subscribers of a broadcast ring that were too slow";

/// Show a ring's counters
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Stat {
    /// ring:NAME, or NAME
    ring: String,
    /// Continue, with a line per interval
    #[arg(short, long)]
    watch: bool,
    /// Time between two lines; implies --watch
    #[arg(short = 'd', long, value_name = "DURATION", value_parser = units::duration)]
    interval: Option<Duration>,
    /// Stop after this many lines; implies --watch
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
}

impl Stat {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let ring = target::open(&self.ring, context)?;
        if self.watch || self.interval.is_some() || self.count.is_some() {
            return self.watch(&ring, context);
        }
        let stats = ring.stats();
        if context.json {
            output::print_json(&object(&ring, &stats))
        } else {
            output::print(&(table(ring.kind(), &stats) + &parts::table(&ring)))
        }
    }

    fn watch(&self, ring: &Ring, context: &Context) -> Outcome {
        let interval = self.interval.unwrap_or(Duration::from_secs(1));
        let mut before = (Instant::now(), ring.stats().counts);
        for line in 0..self.count.unwrap_or(u64::MAX) {
            std::thread::sleep(interval);
            let (now, stats) = (Instant::now(), ring.stats());
            let seconds = (now - before.0).as_secs_f64();
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let Counts { sent, received, sleeps, .. } = stats.counts;
            if context.json {
                let mut object = object(ring, &stats);
                object["sent_per_second"] = per_second(sent, before.1.sent).into();
                object["received_per_second"] = per_second(received, before.1.received).into();
                output::print_json(&object)?;
            } else {
                if line % 20 == 0 {
                    output::print("    sent/s  received/s    used %    sleeps/s  producers  consumers\n")?;
                }
                output::print(&format!(
                    "{:>10} {:>11} {:>9.1} {:>11} {:>10} {:>10}\n",
                    units::count(per_second(sent, before.1.sent)).trim_end(),
                    units::count(per_second(received, before.1.received)).trim_end(),
                    100.0 * stats.used() as f64 / stats.limit.max(1) as f64,
                    units::count(per_second(sleeps, before.1.sleeps)).trim_end(),
                    stats.producers,
                    stats.consumers,
                ))?;
            }
            before = (now, stats.counts);
        }
        Ok(())
    }
}

fn table(kind: Kind, stats: &Stats) -> String {
    let counts = &stats.counts;
    let mut table = Table::new(&["COUNTER", ">VALUE"]);
    for (name, value) in [
        ("sent", counts.sent),
        ("received", counts.received),
        ("bytes sent+received", counts.bytes),
        ("full", counts.full),
        ("empty", counts.empty),
        ("sleeps", counts.sleeps),
        ("wakes", counts.wakes),
        ("high water", counts.high_water),
        ("recovered", counts.recovered),
        ("redelivered", counts.redelivered),
        ("lost", counts.lost),
        ("used", stats.used()),
        ("held", stats.held),
        ("limit", stats.limit),
        ("producers", stats.producers as u64),
        ("consumers", stats.consumers as u64),
    ] {
        table.row([name.to_owned(), value.to_string()]);
    }
    if kind == Kind::Broadcast {
        table.row(["evicted".to_owned(), stats.evicted.to_string()]);
    }
    table.render()
}

fn object(ring: &Ring, stats: &Stats) -> serde_json::Value {
    let counts = &stats.counts;
    let mut object = json!({
        "name": ring.name(),
        "sent": counts.sent, "received": counts.received, "bytes_sent_and_received": counts.bytes,
        "full": counts.full, "empty": counts.empty, "sleeps": counts.sleeps, "wakes": counts.wakes,
        "high_water": counts.high_water,
        "recovered": counts.recovered, "redelivered": counts.redelivered, "lost": counts.lost,
        "head": stats.head, "tail": stats.tail, "used": stats.used(), "held": stats.held, "limit": stats.limit,
        "producers": stats.producers, "consumers": stats.consumers,
    });
    if ring.kind() == Kind::Broadcast {
        object["evicted"] = stats.evicted.into();
    }
    parts::add(ring, &mut object);
    object
}
