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
/// Frames a second of the points that measure delays between sleepers: processors do nothing for
/// about a millisecond between two frames, or for a tenth of it.
const SLOW: u64 = 1_000;
const BRISK: u64 = 10_000;

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

fn paced(size: usize, rate: u64) -> Load {
    Load { size, batch: 1, rate, ns: PACED_NS, idle: "park" }
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
                for size in [384, 768] {
                    add(false, &format!("pair, {size} B"), pair(kind, 1), full(size, "park"));
                    add(false, &format!("pair on one processor, {size} B"), pair(kind, 0), full(size, "park"));
                }
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
                    for number in [2, 4] {
                        let name = format!("subscribers.{number}.{size}");
                        add(true, &name, broadcast(number), full(size, "yield"));
                    }
                }
                add(false, "broadcast to 1, 768 B", pair(kind, 1), full(768, "park"));
                for (number, size, name) in [(3, 64, "64 B"), (3, 1024, "1 KiB"), (6, 64, "64 B"), (6, 1024, "1 KiB")] {
                    add(false, &format!("broadcast to {number}, {name}"), broadcast(number), full(size, "yield"));
                }
            }
        }
    }
    add(true, "awake", pair("spsc", 1), Load { idle: "spin", ..paced(64, 100_000) });
    for (rate, rest) in [(SLOW, "1ms"), (BRISK, "100us")] {
        add(true, &format!("wake.far.{rest}"), pair("spsc", 1), paced(64, rate));
        add(true, &format!("wake.near.{rest}"), pair("spsc", 0), paced(64, rate));
        if net.is_some() {
            add(true, &format!("hop.delay.{rest}"), chain(1), paced(64, rate));
        }
    }
    if net.is_none() {
        return points;
    }
    add(false, "1 hop, 64 B, delay at 3,000 a second", chain(1), paced(64, 3_000));
    add(false, "1 hop, 1 KiB, delay", chain(1), paced(1024, SLOW));
    add(false, "2 hops, 64 B, delay", chain(2), paced(64, SLOW));
    add(false, "3 hops, 64 B, delay", chain(3), paced(64, SLOW));
    for size in SIZES {
        add(true, &format!("hop.{size}"), chain(1), full(size, "yield"));
    }
    for (size, name) in [(384, "384 B"), (768, "768 B"), (4096, "4 KiB")] {
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
        let work = Work { size: self.load.size, rate: self.load.rate as f64, is_regular: true, idle };
        // Long enough for full buffers to be a small part of all frames.
        let span = if self.load.rate > 0 { 8_000 * MS } else { 2_000 * MS };
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
            ["hop", "delay", _] | ["subscribers", _, _] => vec![(self.name.clone(), measured.ns)],
            // The producer and the relay of the sender are all that its processor has time for.
            ["hop", size] => vec![
                (format!("hop.out.{size}"), measured.ns),
                (format!("hop.in.{size}"), each(2, "busy part")),
                (format!("hop.sleeps.{size}"), each(2, "sleeps per ns")),
            ],
            [kind, "pair", size] => vec![(format!("{kind}.stream.{size}"), measured.ns)],
            ["broadcast", "turns", size] => vec![(format!("broadcast.send.{size}"), busy(0, "busy"))],
            [kind, "turns", size] => {
                vec![(format!("{kind}.send.{size}"), busy(0, "busy")), (format!("{kind}.recv.{size}"), busy(1, "busy"))]
            }
            ["wake", _, _] => PERCENTS
                .iter()
                .map(|p| (format!("{}.p{p}", self.name), reports[1].get(&format!("p{p}")).copied().unwrap_or(f64::NAN)))
                .collect(),
            ["awake"] => vec![("notice".to_owned(), measured.ns)],
            _ => Vec::new(),
        }
    }
}
