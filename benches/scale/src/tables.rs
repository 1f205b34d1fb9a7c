//! The tables of docs/scale.md: each question as simulations, and their answers as Markdown.
//!
//! Relies on `topology.rs`. A test compares what this prints with the document.

use std::fmt::Write;

use crate::engine::{Found, Idle, MS, Spread, Time};
use crate::parameters::Parameters;
use crate::topology::{Host, Plan, Role, Work, on_wire};

const HOSTS: [usize; 4] = [1, 8, 64, 1_000];
const SIZES: [(usize, &str); 3] = [(64, "64 B"), (1_024, "1 KiB"), (65_536, "64 KiB")];
/// Hosts of a rack in trees.
const RACK: usize = 32;
/// Frames of a run at half of the highest rate.
const FRAMES: f64 = 20_000.0;
/// The time of a run at the highest rate.
const SPAN: Time = 16 * MS;

/// How many hosts send to each other.
pub(crate) struct Topology {
    /// For `ask`.
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    /// The plan for so many hosts, and how often it stands side by side; `None` if it needs more.
    pub(crate) plan: fn(&Parameters, usize) -> Option<(Plan, f64)>,
}

pub(crate) const TOPOLOGIES: [Topology; 8] = [
    Topology { key: "rings", name: "rings on each host, 8 pairs", plan: rings },
    Topology { key: "lane", name: "host to host, 1 lane", plan: |p, hosts| pairs(p, hosts, 1) },
    Topology { key: "lanes", name: "host to host, 4 lanes", plan: |p, hosts| pairs(p, hosts, 4) },
    Topology { key: "mesh", name: "full mesh", plan: mesh },
    Topology { key: "gather-star", name: "all to one, star", plan: gather_star },
    Topology { key: "gather-tree", name: "all to one, tree", plan: gather_tree },
    Topology { key: "publish-star", name: "one to all, star", plan: publish_star },
    Topology { key: "publish-tree", name: "one to all, tree", plan: publish_tree },
];

/// Everything that the simulator answers.
pub(crate) fn all(parameters: &Parameters) -> Vec<String> {
    let mut tables = vec![limits(parameters)];
    tables.extend(SIZES.iter().map(|(size, name)| growth(parameters, *size, name)));
    tables.push(distance(parameters));
    tables
}

fn limits(parameters: &Parameters) -> String {
    let mut text = "| at most, frames a second | 64 B | 1 KiB | 64 KiB |\n|---|---:|---:|---:|\n".to_owned();
    let mut row = |name: &str, each: &dyn Fn(usize) -> Time| {
        let cells = SIZES.map(|(size, _)| count(1e12 / each(size) as f64));
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    let cost = |name: &'static str| move |size| parameters.cost(name, size);
    row("SPSC ring, two processors", &cost("spsc.stream"));
    row("the same, both ends on one processor", &|size| {
        parameters.cost("spsc.send", size) + parameters.cost("spsc.recv", size)
    });
    row("consumer of an mpsc ring", &cost("mpsc.stream"));
    row("publisher of a broadcast ring", &cost("broadcast.stream"));
    row("relay from a ring to TCP", &cost("relay.out"));
    row("relay from TCP to a ring", &cost("relay.in"));
    for gbit in [10.0, 25.0, 100.0] {
        let mut parameters = parameters.clone();
        parameters.set("card.gbit", gbit);
        row(&format!("network card of {gbit} Gbit/s"), &|size| on_wire(&parameters, size));
    }
    text
}

fn growth(parameters: &Parameters, size: usize, name: &str) -> String {
    let hosts = HOSTS.map(|hosts| if hosts == 1 { "1 host".to_owned() } else { format!("{} hosts", thousands(hosts)) });
    let mut text = format!("| {name} | {} |\n|---|---:|---:|---:|---:|\n", hosts.join(" | "));
    for topology in &TOPOLOGIES {
        let cells = HOSTS.map(|hosts| match (topology.plan)(parameters, hosts) {
            Some((plan, times)) => cell(parameters, size, &plan, times),
            None => "–".to_owned(),
        });
        let _ = writeln!(text, "| {} | {} |", topology.name, cells.join(" | "));
    }
    text
}

/// The highest rate and what bounds it, and the delays at half of that rate.
fn cell(parameters: &Parameters, size: usize, plan: &Plan, times: f64) -> String {
    let most = at_most(parameters, size, plan);
    let half = at_half(parameters, size, plan, &most);
    let bound = match most.busiest.0 {
        "producer" => "p",
        "consumer" => "c",
        "relay to socket" => "o",
        "relay from socket" => "i",
        _ => "n",
    };
    format!("{} {bound}; {}, {}", count(most.rate * times), duration(half.p50), duration(half.p99))
}

fn at_half(parameters: &Parameters, size: usize, plan: &Plan, most: &Found) -> Found {
    at_rate(parameters, size, plan, most.rate / plan.copies() as f64 / 2.0 / plan.sources() as f64)
}

/// Sources that send as many frames as pass.
pub(crate) fn at_most(parameters: &Parameters, size: usize, plan: &Plan) -> Found {
    plan.run(parameters, Work { size, rate: 0.0, is_regular: false, idle: Idle::Poll }, SPAN)
}

/// Each source sends so many frames a second.
pub(crate) fn at_rate(parameters: &Parameters, size: usize, plan: &Plan, rate: f64) -> Found {
    let arrive = rate * (plan.copies() * plan.sources()) as f64;
    let span = (FRAMES / arrive * 1e12) as Time;
    let latency = (parameters.get("link.latency") * 1e3) as Time;
    plan.run(
        parameters,
        Work { size, rate, is_regular: false, idle: Idle::Park },
        span.clamp(4 * MS + 20 * latency, 4_000 * MS),
    )
}

fn distance(parameters: &Parameters) -> String {
    let mut text = "| one connection, there and back in | 64 B | 1 KiB | 64 KiB |\n|---|---:|---:|---:|\n".to_owned();
    for (name, there_and_back) in
        [("30 µs: a rack", 0.03), ("1 ms: a region", 1.0), ("40 ms: a continent", 40.0), ("150 ms: an ocean", 150.0)]
    {
        let mut parameters = parameters.clone();
        let latency = there_and_back * 1e6 / 2.0;
        parameters.set("link.latency", latency);
        let cells = SIZES.map(|(size, _)| {
            let Some((plan, _)) = pairs(&parameters, 2, 1) else { return "–".to_owned() };
            let span = SPAN + (12.0 * latency * 1e3) as Time;
            let most = plan.run(&parameters, Work { size, rate: 0.0, is_regular: false, idle: Idle::Poll }, span);
            let half = at_half(&parameters, size, &plan, &most);
            format!("{}; {}, {}", count(most.rate), duration(half.p50), duration(half.p99))
        });
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

fn host(plan: &mut Plan, parameters: &Parameters) -> Host {
    plan.host(parameters.get("host.cores") as usize)
}

fn rings(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let mut host = host(&mut plan, parameters);
    for _ in 0..8 {
        let (tx, rx) = (plan.add(&mut host, Role::Source("spsc")), plan.add(&mut host, Role::Sink("spsc")));
        plan.ring(tx, rx);
    }
    Some((plan, hosts as f64))
}

/// Pairs of hosts do not touch each other, so one is simulated.
fn pairs(parameters: &Parameters, hosts: usize, lanes: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let (mut a, mut b) = (host(&mut plan, parameters), host(&mut plan, parameters));
    for _ in 0..lanes {
        let (tx, rx) = (plan.add(&mut a, Role::Source("spsc")), plan.add(&mut b, Role::Sink("spsc")));
        let (out, back) = plan.bridge(&mut a, &mut b);
        plan.ring(tx, out);
        plan.ring(back, rx);
    }
    (hosts > 1).then_some((plan, hosts as f64 / 2.0))
}

/// Each host sends to each other in turn. All hosts are alike, so what one sends to another is what
/// it receives from a third: one host is simulated, whose connections lead back to itself.
fn mesh(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let mut host = host(&mut plan, parameters);
    let tx = plan.add_on(host.take_core(), Role::Source("spsc"), Spread::Turn);
    let rx = plan.add_on(host.take_core(), Role::Sink("mpsc"), Spread::Copy);
    for _ in 1..hosts {
        let (out, back) = (plan.add(&mut host, Role::Out), plan.add(&mut host, Role::In));
        plan.net((out, &host), (back, &host));
        plan.ring(tx, out);
        plan.ring(back, rx);
    }
    (hosts > 1).then_some((plan, hosts as f64))
}

/// A host whose consumer reads a lane for each other host.
fn hub(plan: &mut Plan, parameters: &Parameters) -> (Host, usize) {
    let mut hub = host(plan, parameters);
    let core = hub.take_core();
    (hub, plan.add_on(core, Role::Sink("mpsc"), Spread::Copy))
}

fn leaf(plan: &mut Plan, parameters: &Parameters, to: &mut Host, reader: usize) {
    let mut leaf = host(plan, parameters);
    let tx = plan.add(&mut leaf, Role::Source("spsc"));
    let (out, back) = plan.bridge(&mut leaf, to);
    plan.ring(tx, out);
    plan.ring(back, reader);
}

fn gather_star(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let (mut hub, rx) = hub(&mut plan, parameters);
    for _ in 1..hosts {
        leaf(&mut plan, parameters, &mut hub, rx);
    }
    (hosts > 1).then_some((plan, 1.0))
}

/// In each rack, a host gathers what the others of the rack send, and passes it on in one
/// connection.
fn gather_tree(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let (mut root, rx) = hub(&mut plan, parameters);
    let mut left = (hosts > RACK).then_some(hosts - 1)?;
    while left > 1 {
        let here = left.min(RACK) - 1;
        let mut head = host(&mut plan, parameters);
        let core = head.take_core();
        let out = plan.add_on(core, Role::Out, Spread::Copy);
        let back = plan.add(&mut root, Role::In);
        plan.net((out, &head), (back, &root));
        plan.ring(back, rx);
        for _ in 0..here {
            leaf(&mut plan, parameters, &mut head, out);
        }
        left -= here + 1;
    }
    Some((plan, 1.0))
}

fn publish_star(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let mut root = host(&mut plan, parameters);
    let tx = plan.add_on(root.take_core(), Role::Source("broadcast"), Spread::Copy);
    for _ in 1..hosts {
        subscribe(&mut plan, parameters, &mut root, tx);
    }
    (hosts > 1).then_some((plan, 1.0))
}

/// A host with one consumer, which gets what `writer` publishes on another host.
fn subscribe(plan: &mut Plan, parameters: &Parameters, from: &mut Host, writer: usize) {
    let mut leaf = host(plan, parameters);
    let (out, back) = plan.bridge(from, &mut leaf);
    let rx = plan.add(&mut leaf, Role::Sink("spsc"));
    plan.ring(writer, out);
    plan.ring(back, rx);
}

/// One host of each rack gets the frames from the root, and publishes them to the others.
fn publish_tree(parameters: &Parameters, hosts: usize) -> Option<(Plan, f64)> {
    let mut plan = Plan::default();
    let mut root = host(&mut plan, parameters);
    let tx = plan.add_on(root.take_core(), Role::Source("broadcast"), Spread::Copy);
    let mut left = (hosts > RACK).then_some(hosts - 1)?;
    while left > 1 {
        let here = left.min(RACK) - 1;
        let mut head = host(&mut plan, parameters);
        let core = head.take_core();
        let back = plan.add_on(core, Role::In, Spread::Copy);
        let out = plan.add(&mut root, Role::Out);
        plan.net((out, &root), (back, &head));
        plan.ring(tx, out);
        for _ in 0..here {
            subscribe(&mut plan, parameters, &mut head, back);
        }
        left -= here + 1;
    }
    Some((plan, 1.0))
}

pub(crate) fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// With two or three digits, as `1.2 M`.
pub(crate) fn count(number: f64) -> String {
    let (value, unit) = match number {
        1e9.. => (number / 1e9, " G"),
        1e6.. => (number / 1e6, " M"),
        1e3.. => (number / 1e3, " k"),
        _ => (number, ""),
    };
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

pub(crate) fn duration(time: Time) -> String {
    let (value, unit) = match time as f64 / 1e3 {
        ns @ 1e6.. => (ns / 1e6, "ms"),
        ns @ 1e3.. => (ns / 1e3, "µs"),
        ns => (ns, "ns"),
    };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::TABLE;

    #[test]
    fn the_document_has_the_tables_that_the_simulator_prints() {
        let document = include_str!("../../../docs/scale.md");
        let parameters = Parameters::parse(TABLE).unwrap();
        for table in all(&parameters) {
            assert!(document.contains(&table), "docs/scale.md does not have this table:\n{table}");
        }
    }

    #[test]
    fn a_run_is_the_same_each_time() {
        let parameters = Parameters::parse(TABLE).unwrap();
        let run = || {
            let (plan, _) = gather_star(&parameters, 64).unwrap();
            let found =
                plan.run(&parameters, Work { size: 64, rate: 20_000.0, is_regular: false, idle: Idle::Park }, 20 * MS);
            (found.rate.to_bits(), found.p50, found.p99, found.busiest.1.to_bits())
        };
        assert_eq!(run(), run());
    }
}
