//! The simulator: processors, processes, queues and wires, moved by events in the order of their
//! times.
//!
//! Built by `topology.rs`; knows nothing of slipring but its costs. Time is counted in picoseconds,
//! and chance comes from one seeded generator, so a run is the same on every machine. A process
//! takes a batch of what its inputs have and its outputs have room for, works for a time that
//! depends on their number, and passes them on. Processes on one processor take turns.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Picoseconds.
pub(crate) type Time = u64;
pub(crate) const NS: Time = 1_000;
pub(crate) const US: Time = 1_000 * NS;
pub(crate) const MS: Time = 1_000 * US;

/// How long a process may run while others wait for its processor.
const SLICE: Time = 3 * MS;
/// A process that polls a ring sleeps after this time without success.
const SPIN: Time = 20 * US;
/// How long a processor did nothing before the two sorts of wake-ups that are measured.
const RESTS: [Time; 2] = [100 * US, 1_000 * US];

/// How a process waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// It polls, and lets others run on its processor.
    Poll,
    /// It polls for a time, and sleeps.
    Park,
    /// It sleeps at once: in the kernel, on a socket.
    Sleep,
}

/// What a process does with its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Each output gets each frame.
    Copy,
    /// Each batch goes to one output, in turn.
    Turn,
}

/// The time that a wait ends after what it waited for: values at equal distances of probability.
#[derive(Clone, Debug)]
pub(crate) struct Delays(pub(crate) Vec<Time>);

impl Delays {
    fn draw(&self, random: u64) -> Time {
        let last = self.0.len() as u64 - 1;
        let at = ((random >> 32) * last) >> 32;
        let part = ((random >> 32) * last) & 0xffff_ffff;
        let (low, high) = (self.0[at as usize], self.0[at as usize + 1]);
        low + ((high.saturating_sub(low) * part) >> 32)
    }
}

/// How long a processor did nothing, from [`RESTS`]`[0]`: 0, to [`RESTS`]`[1]`: 1,024; on a scale
/// of logarithms.
#[derive(Clone, Copy, Debug)]
struct Cold(u64);

impl Cold {
    fn after(rest: Time) -> Self {
        let [short, long] = RESTS.map(log2);
        let rest = log2(rest.clamp(RESTS[0], RESTS[1]));
        Cold((rest - short) * 1_024 / (long - short))
    }

    fn between(self, [short, long]: [Time; 2]) -> Time {
        (short * (1_024 - self.0) + long * self.0) / 1_024
    }
}

/// 1,024 times the logarithm, on straight lines between powers of two: whole numbers are the same
/// on every machine.
fn log2(number: u64) -> u64 {
    let octave = number.ilog2();
    u64::from(octave) * 1_024 + ((number << (63 - octave)) >> 53) - 1_024
}

/// Times that are the same for all processes. Pairs: on a processor that did nothing for as long as
/// [`RESTS`] says.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    /// Until a process that polls on another processor sees a frame.
    pub(crate) notice: Time,
    /// Until a process runs that slept on an idle processor.
    pub(crate) wake_far: [Delays; 2],
    /// Until a process runs that slept on the processor of the one that wakes it.
    pub(crate) wake_near: [Delays; 2],
}

/// A frame's way through a network card of each host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) latency: Time,
    /// Of the card, for a frame with its part of the packets' headers.
    pub(crate) frame: Time,
}

/// A ring's lane, or a connection with its buffers.
#[derive(Debug)]
struct Queue {
    groups: VecDeque<Group>,
    /// Frames that can be taken.
    ready: u64,
    /// Frames that take up room: also those on their way, and those being read.
    used: u64,
    room: u64,
    wire: Option<Wire>,
    reader: usize,
    writer: usize,
}

/// Frames that were sent at one time.
#[derive(Clone, Copy, Debug)]
struct Group {
    sent: Time,
    frames: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) core: usize,
    pub(crate) idle: Idle,
    pub(crate) spread: Spread,
    /// Of each frame.
    pub(crate) frame: Time,
    /// Of the first batch after a sleep, besides; a pair as in [`Latencies`].
    pub(crate) after_sleep: [Time; 2],
    /// The most frames of one step.
    pub(crate) batch: u64,
    /// A source's mean time between two frames; 0: as many as there is room for.
    pub(crate) interval: Time,
    /// Each time between two frames is the mean.
    pub(crate) is_regular: bool,
    pub(crate) is_source: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Waits for its processor.
    Queued,
    Waits {
        since: Time,
    },
    /// Is about to be queued.
    Waking,
}

struct Process {
    job: Job,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    next_input: usize,
    next_output: usize,
    state: State,
    slept: bool,
    /// How its processor was when it was woken.
    cold: Cold,
    /// What it works on.
    groups: Vec<Group>,
    from: usize,
    due: Time,
    busy: Time,
    done: u64,
}

#[derive(Default)]
struct Core {
    runs: Option<usize>,
    queue: VecDeque<usize>,
    since: Time,
    /// A process that slept waits for this processor.
    hurry: bool,
    /// Since when nothing runs, and how long nothing ran before.
    idle_since: Time,
    rested: Time,
    busy: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A process waits for its processor from now on.
    Ready(usize),
    /// It has finished a batch.
    Done(usize),
    /// A source's next frame is due.
    Due(usize),
    /// Frames have arrived: the queue, when they were sent, and how many.
    Arrives(usize, Time, u64),
}

/// What a run found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Frames a second, at all sinks.
    pub(crate) rate: f64,
    /// Delays at the sinks: of one frame in two, and of 99 in 100 it is at most this.
    pub(crate) p50: Time,
    pub(crate) p99: Time,
    /// The busiest processor or network card: what runs there, and which part of the time.
    pub(crate) busiest: (&'static str, f64),
}

pub(crate) struct Engine {
    now: Time,
    order: u64,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    processes: Vec<Process>,
    cores: Vec<Core>,
    queues: Vec<Queue>,
    /// When each card is free to send, and to receive; how long it was busy.
    cards: Vec<[(Time, Time); 2]>,
    latencies: Latencies,
    random: u64,
    from: Time,
    delays: Histogram,
}

impl Engine {
    pub(crate) fn new(latencies: Latencies, seed: u64) -> Self {
        Engine {
            now: 0,
            order: 0,
            events: BinaryHeap::new(),
            processes: Vec::new(),
            cores: Vec::new(),
            queues: Vec::new(),
            cards: Vec::new(),
            latencies,
            random: seed,
            from: 0,
            delays: Histogram::new(),
        }
    }

    pub(crate) fn add_core(&mut self) -> usize {
        self.cores.push(Core::default());
        self.cores.len() - 1
    }

    pub(crate) fn add_card(&mut self) -> usize {
        self.cards.push([(0, 0); 2]);
        self.cards.len() - 1
    }

    pub(crate) fn add(&mut self, job: Job) -> usize {
        let state = State::Waits { since: 0 };
        let (inputs, outputs, groups) = (Vec::new(), Vec::new(), Vec::new());
        let process = Process {
            job,
            inputs,
            outputs,
            next_input: 0,
            next_output: 0,
            state,
            slept: false,
            cold: Cold::after(0),
            groups,
            from: 0,
            due: 0,
            busy: 0,
            done: 0,
        };
        self.processes.push(process);
        self.processes.len() - 1
    }

    /// A queue from one process to another, with room for so many frames.
    pub(crate) fn join(&mut self, writer: usize, reader: usize, room: u64, wire: Option<Wire>) {
        let (groups, room) = (VecDeque::new(), room.max(1));
        self.queues.push(Queue { groups, ready: 0, used: 0, room, wire, reader, writer });
        self.processes[writer].outputs.push(self.queues.len() - 1);
        self.processes[reader].inputs.push(self.queues.len() - 1);
    }

    /// Runs for `warm_up`, which does not count, and for `time`.
    pub(crate) fn run(mut self, warm_up: Time, time: Time) -> Found {
        for id in 0..self.processes.len() {
            let job = &self.processes[id].job;
            if job.is_source {
                // The sources start at different times.
                let interval = if job.interval == 0 { 10 * US } else { job.interval };
                let start = self.draw() % interval.max(1);
                self.processes[id].due = start;
                self.at(start, Event::Due(id));
            }
        }
        let end = warm_up + time;
        self.from = warm_up;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            match event {
                Event::Ready(id) => self.queue(id),
                Event::Done(id) => self.done(id),
                Event::Due(id) => {
                    if let State::Waits { since } = self.processes[id].state {
                        self.processes[id].slept |= self.now - since > SPIN;
                        self.queue(id);
                    }
                }
                Event::Arrives(queue, sent, frames) => {
                    let place = &mut self.queues[queue];
                    place.groups.push_back(Group { sent, frames });
                    place.ready += frames;
                    let reader = place.reader;
                    // The interrupt of its card wakes the reader.
                    self.notify(reader, None);
                }
            }
        }
        self.found(time)
    }

    fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, event)));
    }

    /// The next number of the generator (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn queue(&mut self, id: usize) {
        let process = &mut self.processes[id];
        process.state = State::Queued;
        let core = &mut self.cores[process.job.core];
        if process.slept {
            core.queue.push_front(id);
            core.hurry = true;
        } else {
            core.queue.push_back(id);
        }
        if core.runs.is_none() {
            let core = process.job.core;
            self.dispatch(core);
        }
    }

    fn dispatch(&mut self, core: usize) {
        let was_idle = self.cores[core].runs.is_none();
        while let Some(id) = self.cores[core].queue.pop_front() {
            self.cores[core].hurry = false;
            self.cores[core].since = self.now;
            if self.step(id) {
                if was_idle {
                    self.cores[core].rested = self.now - self.cores[core].idle_since;
                }
                return;
            }
        }
        if !was_idle {
            self.cores[core].runs = None;
            self.cores[core].idle_since = self.now;
        }
    }

    /// Begins a batch. If there is nothing to do, the process waits, and the result is `false`.
    fn step(&mut self, id: usize) -> bool {
        let room = self.room(id);
        let batch = self.processes[id].job.batch.min(room);
        let frames = if self.processes[id].job.is_source { self.produce(id, batch) } else { self.take(id, batch) };
        let process = &mut self.processes[id];
        if frames == 0 {
            process.state = State::Waits { since: self.now };
            if process.job.is_source && process.due > self.now {
                let due = process.due;
                self.at(due, Event::Due(id));
            }
            return false;
        }
        process.state = State::Running;
        let first = if std::mem::take(&mut process.slept) { process.cold.between(process.job.after_sleep) } else { 0 };
        let time = first + frames * process.job.frame;
        process.done += frames;
        let (core, outputs, next) = (process.job.core, &process.outputs, process.next_output);
        let outputs = match process.job.spread {
            Spread::Copy => outputs.clone(),
            Spread::Turn => outputs.get(next).copied().into_iter().collect(),
        };
        for output in outputs {
            self.queues[output].used += frames;
        }
        self.cores[core].runs = Some(id);
        let counted = (self.now + time).saturating_sub(self.now.max(self.from));
        self.cores[core].busy += counted;
        self.processes[id].busy += counted;
        self.at(self.now + time, Event::Done(id));
        true
    }

    /// How many frames the outputs have room for. In turn: the next output that has room.
    fn room(&mut self, id: usize) -> u64 {
        let process = &mut self.processes[id];
        let left = |output: &usize| self.queues[*output].room.saturating_sub(self.queues[*output].used);
        match process.job.spread {
            Spread::Copy => process.outputs.iter().map(left).min().unwrap_or(u64::MAX),
            Spread::Turn => {
                for _ in 0..process.outputs.len() {
                    let room = left(&process.outputs[process.next_output]);
                    if room > 0 {
                        return room;
                    }
                    process.next_output = (process.next_output + 1) % process.outputs.len();
                }
                if process.outputs.is_empty() { u64::MAX } else { 0 }
            }
        }
    }

    fn produce(&mut self, id: usize, most: u64) -> u64 {
        let interval = self.processes[id].job.interval;
        if interval == 0 {
            if most > 0 {
                let sent = self.now;
                self.processes[id].groups.push(Group { sent, frames: most });
            }
            return most;
        }
        let mut frames = 0;
        while frames < most && self.processes[id].due <= self.now {
            // Else the time between two frames is between 0 and twice the mean.
            let next = if self.processes[id].job.is_regular { interval } else { self.draw() % (2 * interval) };
            let process = &mut self.processes[id];
            process.groups.push(Group { sent: process.due, frames: 1 });
            process.due += next;
            frames += 1;
        }
        frames
    }

    fn take(&mut self, id: usize, most: u64) -> u64 {
        let process = &mut self.processes[id];
        for _ in 0..process.inputs.len() {
            let input = process.inputs[process.next_input];
            let queue = &mut self.queues[input];
            let mut left = most.min(queue.ready);
            if left > 0 {
                let frames = left;
                queue.ready -= left;
                while left > 0 {
                    let Some(first) = queue.groups.front_mut() else { break };
                    let part = left.min(first.frames);
                    process.groups.push(Group { sent: first.sent, frames: part });
                    first.frames -= part;
                    left -= part;
                    if first.frames == 0 {
                        queue.groups.pop_front();
                    }
                }
                process.from = input;
                process.next_input = (process.next_input + 1) % process.inputs.len();
                return frames;
            }
            process.next_input = (process.next_input + 1) % process.inputs.len();
        }
        0
    }

    fn done(&mut self, id: usize) {
        let process = &mut self.processes[id];
        let (core, is_source, from) = (process.job.core, process.job.is_source, process.from);
        let groups = std::mem::take(&mut process.groups);
        let frames: u64 = groups.iter().map(|group| group.frames).sum();
        let outputs = match process.job.spread {
            Spread::Copy => process.outputs.clone(),
            Spread::Turn if process.outputs.is_empty() => Vec::new(),
            Spread::Turn => {
                let output = process.outputs[process.next_output];
                process.next_output = (process.next_output + 1) % process.outputs.len();
                vec![output]
            }
        };
        if outputs.is_empty() && self.now >= self.from {
            for group in &groups {
                self.delays.add(self.now - group.sent, group.frames);
            }
        }
        if !is_source {
            self.queues[from].used -= frames;
            let writer = self.queues[from].writer;
            self.notify(writer, Some(core));
        }
        for output in outputs {
            self.push(output, &groups, frames, core);
        }
        // A process goes on until it has to wait, unless others want its processor.
        let place = &self.cores[core];
        if !place.queue.is_empty() && (place.hurry || self.now - place.since >= SLICE) {
            self.processes[id].state = State::Queued;
            self.cores[core].queue.push_back(id);
            self.dispatch(core);
        } else if !self.step(id) {
            self.dispatch(core);
        }
    }

    fn push(&mut self, output: usize, groups: &[Group], frames: u64, core: usize) {
        if let Some(wire) = self.queues[output].wire {
            let time = frames * wire.frame;
            let (free, busy) = &mut self.cards[wire.from][0];
            *free = self.now.max(*free) + time;
            *busy += time;
            let leaves = *free;
            let (free, busy) = &mut self.cards[wire.to][1];
            *free = (leaves + wire.latency).max(*free + time);
            *busy += time;
            let arrives = *free;
            for group in groups {
                self.at(arrives, Event::Arrives(output, group.sent, group.frames));
            }
            return;
        }
        let queue = &mut self.queues[output];
        queue.groups.extend(groups);
        queue.ready += frames;
        let reader = queue.reader;
        self.notify(reader, Some(core));
    }

    /// Something has changed that a process may wait for; `by`: the processor of the cause.
    fn notify(&mut self, id: usize, by: Option<usize>) {
        let process = &self.processes[id];
        let State::Waits { since } = process.state else { return };
        let (job, is_near) = (&process.job, by == Some(process.job.core));
        if job.is_source && process.due > self.now && job.interval > 0 {
            return; // its timer wakes it
        }
        let polls = match job.idle {
            Idle::Poll => true,
            Idle::Park => self.now - since <= SPIN,
            Idle::Sleep => false,
        };
        let core = &self.cores[job.core];
        let is_busy = core.runs.is_some();
        let cold = Cold::after(if is_busy { core.rested } else { self.now - core.idle_since });
        let delay = match (polls, is_near) {
            (true, true) => 0,
            (true, false) => self.latencies.notice,
            (false, _) => {
                let random = self.draw();
                let delays = if is_near || is_busy { &self.latencies.wake_near } else { &self.latencies.wake_far };
                cold.between([delays[0].draw(random), delays[1].draw(random)])
            }
        };
        self.processes[id].cold = cold;
        self.processes[id].state = State::Waking;
        self.processes[id].slept = !polls;
        self.at(self.now + delay, Event::Ready(id));
    }

    fn found(mut self, time: Time) -> Found {
        let part = |busy: Time| busy as f64 / time as f64;
        let mut busiest = ("", 0.0);
        for (core, place) in self.cores.iter().enumerate() {
            if part(place.busy) > busiest.1 {
                // The name of the process that uses it most.
                let here = self.processes.iter().filter(|process| process.job.core == core);
                let most = here.max_by_key(|process| process.busy).map_or("", |process| process.job.name);
                busiest = (most, part(place.busy));
            }
        }
        let all = self.now.max(1) as f64;
        for card in &self.cards {
            for (_, busy) in card {
                // What is still to be sent counts as well: more than 1 is a queue.
                let busy = (*busy as f64 / all).min(1.0);
                if busy > busiest.1 {
                    busiest = ("network card", busy);
                }
            }
        }
        let rate = self.delays.count as f64 / (time as f64 / 1e12);
        Found { rate, p50: self.delays.at(50), p99: self.delays.at(99), busiest }
    }
}

/// Counts of delays, in classes that are 1/32 of an octave wide.
struct Histogram {
    classes: Vec<u64>,
    count: u64,
}

const CLASSES: u64 = 32;

impl Histogram {
    fn new() -> Self {
        Histogram { classes: vec![0; 64 * CLASSES as usize], count: 0 }
    }

    fn add(&mut self, delay: Time, frames: u64) {
        let delay = delay.max(CLASSES);
        let octave = u64::from(delay.ilog2());
        let within = (delay >> (octave - 5)) - CLASSES;
        self.classes[(octave * CLASSES + within) as usize] += frames;
        self.count += frames;
    }

    /// The middle of the class in which the part is reached.
    fn at(&mut self, percent: u64) -> Time {
        let (mut seen, wanted) = (0, (self.count * percent).div_ceil(100).max(1));
        for (class, frames) in self.classes.iter().enumerate() {
            seen += frames;
            if seen >= wanted {
                let (octave, within) = (class as u64 / CLASSES, class as u64 % CLASSES);
                return ((2 * (CLASSES + within) + 1) << (octave - 5)) / 2;
            }
        }
        0
    }
}
