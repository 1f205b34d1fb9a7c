//! The points: what is measured, what of it sets parameters, and what the simulator has to predict.
//!
//! Used by `mod.rs`. A point is a list of processes, from which both the measurement and the
//! simulation are made, so both have the same processes on the same processors.

use std::error::Error;

use super::net::Net;
use super::scene::{Job, Load, Place, Report, Stage, bridge, sink, source};
use crate::engine::{Idle, MS, Spread};
use crate::parameters::{PERCENTS, Parameters, SIZES};
use crate::topology::{Plan, Role, Work};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long each saturated run takes, and one at a rate.
const FULL_NS: u64 = 200_000_000;
const PACED_NS: u64 = 350_000_000;
/// Frames a second of the points that measure delays between sleepers.
const SLOW: u64 = 1_000;

pub(super) struct Point {
    pub(super) name: String,
    places: Vec<Place>,
    load: Load,
    /// It sets parameters, and is no prediction.
    pub(super) calibrates: bool,
}

/// The result of a point: nanoseconds, of each frame or as the median of the delays.
pub(super) struct Measured {
    pub(super) ns: f64,
    reports: Vec<Report>,
}

fn full(size: usize, idle: &'static str) -> Load {
    Load { size, batch: 1, rate: 0, ns: FULL_NS, idle }
}

fn slow(size: usize) -> Load {
    Load { size, batch: 1, rate: SLOW, ns: PACED_NS, idle: "park" }
}

fn pair(kind: &'static str, sink_core: usize) -> Vec<Place> {
    vec![source(kind, "a", 1, 0, 0), sink(kind, "a", 1, 0, sink_core)]
}

fn broadcast(subscribers: usize) -> Vec<Place> {
    let sinks = (0..subscribers).map(|_| sink("broadcast", "a", 1, 0, 1));
    std::iter::once(source("broadcast", "a", subscribers, 0, 0)).chain(sinks).collect()
}

/// Ring, relay, TCP, relay, ring; each further host on the other processor.
fn chain(hops: usize) -> Vec<Place> {
    let name = |host: usize| ["a", "b", "c", "d"][host];
    let mut places = vec![source("spsc", "a", 1, 0, 0)];
    for hop in 0..hops {
        let (from, to) = ((name(hop), hop, hop % 2), (name(hop + 1), hop + 1, (hop + 1) % 2));
        places.extend(bridge(from, to, 7000 + hop as u16));
    }
    places.push(sink("spsc", name(hops), 1, hops, hops % 2));
    places
}

/// Hosts that send to one: their processes on one processor, the hub's on the other.
fn star(leaves: usize) -> Vec<Place> {
    let name = |host: usize| ["", "a", "b", "c"][host];
    let mut places = Vec::new();
    for leaf in 1..=leaves {
        places.push(source("spsc", name(leaf), 1, leaf, 0));
        places.extend(bridge((name(leaf), leaf, 0), ("hub?kind=mpsc", 0, 1), 7000 + leaf as u16));
    }
    places.push(sink("mpsc", "hub", leaves, 0, 1));
    places
}

/// All points; those between namespaces only if there are any. What depends on each other is
/// measured one after the other, because the two processors of a virtual machine may move.
pub(super) fn all(net: Option<&Net>) -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |calibrates: bool, name: &str, places: Vec<Place>, load: Load| {
        points.push(Point { name: name.to_owned(), places, load, calibrates });
    };
    for kind in ["spsc", "mpsc", "broadcast"] {
        for size in SIZES {
            add(true, &format!("{kind}.turns.{size}"), pair(kind, 0), full(size, "park"));
            add(true, &format!("{kind}.pair.{size}"), pair(kind, 1), full(size, "park"));
        }
        match kind {
            "spsc" => {
                add(false, "pair, 512 B", pair(kind, 1), full(512, "park"));
                add(false, "pair on one processor, 512 B", pair(kind, 0), full(512, "park"));
            }
            "mpsc" => {
                let gather = || {
                    let sources = (0..4).map(|_| source(kind, "a", 1, 0, 0));
                    sources.chain([sink(kind, "a", 4, 0, 1)]).collect()
                };
                add(false, "4 producers, mpsc, 64 B", gather(), full(64, "park"));
                add(false, "4 producers, mpsc, 1 KiB", gather(), full(1024, "park"));
            }
            _ => {
                for size in SIZES {
                    add(true, &format!("subscribers.{size}"), broadcast(2), full(size, "yield"));
                }
                add(false, "broadcast to 1, 512 B", pair(kind, 1), full(512, "park"));
                add(false, "broadcast to 3, 64 B", broadcast(3), full(64, "yield"));
                add(false, "broadcast to 3, 1 KiB", broadcast(3), full(1024, "yield"));
            }
        }
    }
    add(true, "awake", pair("spsc", 1), Load { rate: 100_000, idle: "spin", ..slow(64) });
    add(true, "wake.far", pair("spsc", 1), slow(64));
    add(true, "wake.near", pair("spsc", 0), slow(64));
    if net.is_none() {
        return points;
    }
    add(true, "hop.slow", chain(1), slow(64));
    add(false, "1 hop, 1 KiB, delay", chain(1), slow(1024));
    add(false, "2 hops, 64 B, delay", chain(2), slow(64));
    add(false, "3 hops, 64 B, delay", chain(3), slow(64));
    for size in SIZES {
        add(true, &format!("hop.{size}"), chain(1), full(size, "yield"));
    }
    for (size, name) in [(256, "256 B"), (512, "512 B")] {
        add(false, &format!("1 hop, {name}"), chain(1), full(size, "yield"));
    }
    for (size, name) in [(64, "64 B"), (512, "512 B"), (1024, "1 KiB")] {
        add(false, &format!("2 hops, {name}"), chain(2), full(size, "yield"));
    }
    add(false, "3 hops, 64 B", chain(3), full(64, "yield"));
    add(false, "3 hops, 1 KiB", chain(3), full(1024, "yield"));
    add(false, "star of 3 + 1, 64 B", star(3), full(64, "yield"));
    add(false, "star of 3 + 1, 512 B", star(3), full(512, "yield"));
    add(false, "star of 3 + 1, 1 KiB", star(3), full(1024, "yield"));
    points
}

impl Point {
    pub(super) fn measure(&self, stage: &Stage) -> Outcome<Measured> {
        let reports = stage.run(&self.places, self.load)?;
        let at_sink = reports.last().ok_or("no process")?;
        let value = |name: &str| at_sink.get(name).copied().unwrap_or(f64::NAN);
        let ns = if self.load.rate > 0 { value("p50") } else { value("ns") / value("frames") };
        Ok(Measured { ns, reports })
    }

    /// What the simulator says to it.
    pub(super) fn simulate(&self, parameters: &Parameters) -> f64 {
        let plan = self.plan();
        let idle = if self.load.idle == "park" && self.load.rate > 0 { Idle::Park } else { Idle::Poll };
        let work = Work { size: self.load.size, rate: self.load.rate as f64, idle };
        let span = if self.load.rate > 0 { 8_000 * MS } else { 200 * MS };
        let found = plan.run(parameters, work, span);
        let sinks = self.places.iter().filter(|place| matches!(place.job, Job::Sink { .. })).count();
        if self.load.rate > 0 { found.p50 as f64 / 1e3 } else { sinks as f64 * 1e9 / found.rate }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let base = |end: &str| end.split('?').next().unwrap_or(end).to_owned();
        // Where each process writes to and reads from.
        let mut ends = Vec::new();
        for place in &self.places {
            let (role, reads, writes) = match &place.job {
                Job::Source { kind, ring, .. } => (Role::Source(kind), None, Some(format!("ring:{ring}"))),
                Job::Sink { kind, ring, .. } => (Role::Sink(kind), Some(format!("ring:{ring}")), None),
                Job::Relay { from, to } => {
                    let role = if from.starts_with("ring:") { Role::Out } else { Role::In };
                    (role, Some(base(from)), Some(base(to)))
                }
            };
            ends.push((plan.add_on(place.core, role, Spread::Copy), reads, writes));
        }
        for (writer, _, to) in &ends {
            for (reader, from, _) in &ends {
                match (to, from) {
                    (Some(to), Some(from)) if to == from && to.starts_with("ring:") => plan.ring(*writer, *reader),
                    (Some(to), Some(from)) if to == from => plan.local(*writer, *reader),
                    _ => {}
                }
            }
        }
        plan
    }

    /// The parameters that this point sets, by name.
    pub(super) fn values(&self, measured: &Measured) -> Vec<(String, f64)> {
        let reports = &measured.reports;
        let busy = |place: usize, what: &str| {
            let frames = reports[place].get("frames").or(reports[reports.len() - 1].get("frames"));
            reports[place].get(what).copied().unwrap_or(f64::NAN) / frames.copied().unwrap_or(f64::NAN)
        };
        let each = |place: usize, what: &str| reports[place].get(what).map_or(f64::NAN, |part| part * measured.ns);
        let words: Vec<&str> = self.name.split('.').collect();
        match words[..] {
            ["hop", "slow"] => vec![("hop.slow".to_owned(), measured.ns)],
            // The producer and the relay of the sender are all that its processor has time for.
            ["hop", size] => vec![
                (format!("hop.out.{size}"), measured.ns),
                (format!("hop.in.{size}"), each(2, "busy part")),
                (format!("hop.sleeps.{size}"), each(2, "sleeps per ns")),
            ],
            ["subscribers", size] => {
                vec![(format!("broadcast.recv.{size}"), (busy(1, "busy") + busy(2, "busy")) / 2.0)]
            }
            [kind, "pair", size] => vec![(format!("{kind}.stream.{size}"), measured.ns)],
            ["broadcast", "turns", size] => vec![(format!("broadcast.send.{size}"), busy(0, "busy"))],
            [kind, "turns", size] => {
                vec![(format!("{kind}.send.{size}"), busy(0, "busy")), (format!("{kind}.recv.{size}"), busy(1, "busy"))]
            }
            ["wake", _] => PERCENTS
                .iter()
                .map(|p| (format!("{}.p{p}", self.name), reports[1].get(&format!("p{p}")).copied().unwrap_or(f64::NAN)))
                .collect(),
            ["awake"] => vec![("notice".to_owned(), measured.ns)],
            _ => Vec::new(),
        }
    }
}
