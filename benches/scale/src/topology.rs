//! Who sends to which process, on which processors: from a plan to a simulation.
//!
//! Used by `tables.rs`, whose hosts are imagined, and by the checks, whose hosts are namespaces
//! that share the processors of one machine. Relies on `parameters.rs` for what each step costs.

use crate::engine::{Engine, Found, Idle, Job, Spread, Time, Wire};
use crate::parameters::{Parameters, time};

/// The rings, as in the measurements.
const RING: usize = 1 << 20;
/// The header of a frame.
const HEADER: usize = 16;
/// What ends of rings take at most before they look around, and what goes in one write.
const RING_BATCH: usize = 64;
const WRITE: usize = 64 << 10;
const SEED: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A producer of a ring of this kind, and a consumer.
    Source(&'static str),
    Sink(&'static str),
    /// A relay from a ring to a socket, and one from a socket to a ring.
    Out,
    In,
}

#[derive(Debug)]
struct Planned {
    role: Role,
    core: usize,
    spread: Spread,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Ring,
    /// Without a card: a pair of veth interfaces.
    #[cfg(feature = "measure")]
    Local,
    Net {
        from: usize,
        to: usize,
    },
}

/// A host's processors and its card.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    cores: Vec<usize>,
    next: usize,
    card: usize,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) size: usize,
    /// Frames a second of each source; 0: as many as there is room for.
    pub(crate) rate: f64,
    /// At equal distances, as measured sources send them.
    pub(crate) is_regular: bool,
    /// How ends of rings wait.
    pub(crate) idle: Idle,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    processes: Vec<Planned>,
    links: Vec<(usize, usize, Link)>,
    cores: usize,
    cards: usize,
}

impl Host {
    /// Sets the first processor aside for one process.
    pub(crate) fn take_core(&mut self) -> usize {
        self.cores.remove(0)
    }
}

impl Plan {
    pub(crate) fn host(&mut self, cores: usize) -> Host {
        self.cores += cores;
        self.cards += 1;
        Host { cores: (self.cores - cores..self.cores).collect(), next: 0, card: self.cards - 1 }
    }

    /// A process on the next processor of the host; when there are no more, again on the first.
    pub(crate) fn add(&mut self, host: &mut Host, role: Role) -> usize {
        host.next += 1;
        let core = host.cores[(host.next - 1) % host.cores.len()];
        self.add_on(core, role, Spread::Copy)
    }

    pub(crate) fn add_on(&mut self, core: usize, role: Role, spread: Spread) -> usize {
        self.cores = self.cores.max(core + 1);
        self.processes.push(Planned { role, core, spread });
        self.processes.len() - 1
    }

    pub(crate) fn ring(&mut self, writer: usize, reader: usize) {
        self.links.push((writer, reader, Link::Ring));
    }

    #[cfg(feature = "measure")]
    pub(crate) fn local(&mut self, writer: usize, reader: usize) {
        self.links.push((writer, reader, Link::Local));
    }

    pub(crate) fn net(&mut self, writer: (usize, &Host), reader: (usize, &Host)) {
        let link = Link::Net { from: writer.1.card, to: reader.1.card };
        self.links.push((writer.0, reader.0, link));
    }

    /// Two relays, each on the next processor of its host.
    pub(crate) fn bridge(&mut self, from: &mut Host, to: &mut Host) -> (usize, usize) {
        let (out, back) = (self.add(from, Role::Out), self.add(to, Role::In));
        self.net((out, from), (back, to));
        (out, back)
    }

    pub(crate) fn sources(&self) -> usize {
        self.processes.iter().filter(|process| matches!(process.role, Role::Source(_))).count()
    }

    /// How many consumers get each frame.
    pub(crate) fn copies(&self) -> usize {
        let of = |role: fn(Role) -> bool| self.processes.iter().filter(|process| role(process.role)).count();
        let is_published = of(|role| role == Role::Source("broadcast")) > 0;
        if is_published { of(|role| matches!(role, Role::Sink(_))) } else { 1 }
    }

    /// Simulates `span`, after a quarter of it that does not count.
    pub(crate) fn run(&self, parameters: &Parameters, work: Work, span: Time) -> Found {
        let mut engine = Engine::new(parameters.latencies(), SEED);
        (0..self.cores).for_each(|_| {
            engine.add_core();
        });
        (0..self.cards).for_each(|_| {
            engine.add_card();
        });
        for process in &self.processes {
            let others = self.processes.iter().filter(|other| other.core == process.core);
            engine.add(job(process, &others.map(|other| other.role).collect::<Vec<_>>(), parameters, work));
        }
        let frame = (HEADER + work.size).next_multiple_of(8);
        let window = parameters.get("window") as usize;
        for (writer, reader, link) in &self.links {
            let (room, wire) = match link {
                Link::Ring => (RING / frame, None),
                #[cfg(feature = "measure")]
                Link::Local => (window / frame, None),
                Link::Net { from, to } => {
                    let latency = time(parameters.get("link.latency"));
                    (
                        window / frame,
                        Some(Wire { from: *from, to: *to, latency, frame: on_wire(parameters, work.size) }),
                    )
                }
            };
            engine.join(*writer, *reader, room as u64, wire);
        }
        engine.run(span / 4, span)
    }
}

/// The time that a card needs for a frame: its bytes, and its part of the packets' headers.
pub(crate) fn on_wire(parameters: &Parameters, size: usize) -> Time {
    let bytes = (HEADER + size) as f64;
    let (payload, header) = (parameters.get("packet.payload"), parameters.get("packet.header"));
    time(bytes * (1.0 + header / payload) * 8.0 / parameters.get("card.gbit"))
}

/// How many frames a relay writes at once.
pub(crate) fn frames_of_a_write(size: usize) -> usize {
    (WRITE / (HEADER + size)).max(1)
}

/// `here`: what runs on its processor, itself too.
fn job(process: &Planned, here: &[Role], parameters: &Parameters, work: Work) -> Job {
    let (size, role, is_shared) = (work.size, process.role, here.len() > 1);
    let cost = |name: &str| parameters.cost(name, size);
    // What the lines of a frame cost if the other end of its ring has a processor of its own.
    let lines = cost("spsc.stream").saturating_sub(cost("spsc.recv"));
    let (name, frame) = match (role, is_shared) {
        (Role::Source(kind), true) => ("producer", cost(&format!("{kind}.send"))),
        (Role::Source(kind), false) => ("producer", cost(&format!("{kind}.stream"))),
        (Role::Sink("broadcast"), true) => {
            ("consumer", subscriber(here, cost("broadcast.recv"), cost("broadcast.again")))
        }
        (Role::Sink(kind), true) => ("consumer", cost(&format!("{kind}.recv"))),
        (Role::Sink(kind), false) => ("consumer", cost(&format!("{kind}.stream"))),
        (Role::Out, true) => ("relay to socket", cost("relay.out")),
        (Role::Out, false) => ("relay to socket", cost("relay.out") + lines),
        (Role::In, true) => ("relay from socket", cost("relay.in")),
        (Role::In, false) => ("relay from socket", cost("relay.in") + lines),
    };
    let is_relay = matches!(role, Role::Out | Role::In);
    let is_source = matches!(role, Role::Source(_));
    let most = match (is_relay, process.spread) {
        (true, _) => frames_of_a_write(size),
        (false, Spread::Turn) => 1,
        (false, Spread::Copy) => (WRITE / size).clamp(1, RING_BATCH),
    };
    let interval = if is_source && work.rate > 0.0 { time(1e9 / work.rate) } else { 0 };
    Job {
        name,
        core: process.core,
        idle: if role == Role::In { Idle::Sleep } else { work.idle },
        spread: process.spread,
        frame,
        after_sleep: if is_relay { parameters.after_sleep() } else { [0; 2] },
        batch: most as u64,
        interval,
        is_regular: work.is_regular,
        is_source,
    }
}

/// Of the subscribers on one processor, the first moves the lines of a frame to it, unless the
/// publisher is there, too, and the others find them; each has an equal part of it.
fn subscriber(here: &[Role], first: Time, again: Time) -> Time {
    let others = here.iter().filter(|role| **role == Role::Sink("broadcast")).count() as Time - 1;
    let first = if here.contains(&Role::Source("broadcast")) { again } else { first };
    (first + others * again) / (1 + others)
}
