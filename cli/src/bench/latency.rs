//! Round trips: what `bench ping-pong`, `bench wakeup` and `bench under-load` share (`trips.rs`).

use std::time::Duration;

use slipring::{Idle, probe};

use super::crew::Peer;
use super::figures::{RUNS, Series, Times, clock_cost, now_ns};
use super::ports::{self, Channel, Ends, Kind};
use super::report::{Floor, Report, Row, Target, Unit};
use super::runs::{self, Tempo, Trips, Until};
use super::tasks::Task;
use super::{Common, rate_note, rotated};
use crate::child::{Cpus, Passed};
use crate::failure::Outcome;
use crate::units;

/// Rounds of a raw game per run, at least and at most.
const ROUNDS: (u64, u64) = (100, 20_000);
/// Tail latency.
const TAIL: f64 = 0.9999;
const TAILS: Target = Target { what: "p99.99 of that round trip ÷ p99.99 of the raw cache line", at_most: 1.3 };

/// The plan of one figure: round trips of one size through one kind of ring.
pub(super) struct Cell {
    label: String,
    kind: Kind,
    size: usize,
    capacity: usize,
    idle: Idle,
    /// Number of threads that compete for the processors meanwhile.
    busy: usize,
}

impl Cell {
    pub(super) fn new(kind: Kind, size: usize, capacity: Option<usize>, idle: Idle) -> Self {
        let capacity = capacity.unwrap_or_else(|| (64 << 10).max(4 * (size + 64)));
        Cell { label: format!("{} {idle}", kind.name()), kind, size, capacity, idle, busy: 0 }
    }

    /// While `busy` threads compete.
    pub(super) fn beside(self, busy: usize) -> Self {
        Cell { label: format!("{}, {busy} busy", self.label), busy, ..self }
    }
}

/// How the sides of a raw exchange wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sides {
    Awake,
    Asleep,
}
pub(super) use Sides::{Asleep, Awake};

/// What to measure.
pub(super) struct Plan {
    pub(super) bench: &'static str,
    pub(super) cells: Vec<Cell>,
    pub(super) floor: Sides,
    pub(super) tempo: Tempo,
    /// A target, and the message size that it applies to.
    pub(super) aim: Option<(Target, usize)>,
}

impl Plan {
    /// Runs all cells in turn, each with its floor right before or after it.
    pub(super) fn measure(&self, common: &Common) -> Outcome<Report> {
        let cpus = common.cpus()?;
        cpus.pinned(|cpu| self.measure_pinned(common, &cpus, cpu))
    }

    fn measure_pinned(&self, common: &Common, cpus: &Cpus, cpu: Option<usize>) -> Outcome<Report> {
        let clock = clock_cost();
        let talks = self.cells.iter().map(Talk::new).collect::<Outcome<Vec<_>>>()?;
        let mut game = Game::new(self.floor, self.tempo.pause, clock)?;
        let mut peer = Peer::start(common.threads, cpu)?;
        let mut crowd = None;
        let mut tracks = self.cells.iter().map(|_| Track::new()).collect::<Outcome<Vec<_>>>()?;
        let mut talks = talks.into_iter().map(Talk::attach).collect::<Outcome<Vec<_>>>()?;
        let mut run_times = Times::new()?;
        for run in 0..RUNS {
            for index in rotated(self.cells.len(), run) {
                let (talk, track) = (&mut talks[index], &mut tracks[index]);
                compete(&mut crowd, cpus, self.cells[index].busy)?;
                // The floor takes half of the time at most.
                let until = common.until(2 * self.cells.len(), talk.lap());
                if run % 2 == 0 {
                    track.take_floor(&mut game, &mut peer, &until)?;
                }
                let trips = talk.run(&mut peer, &until, self.tempo, clock, &mut run_times)?;
                if run % 2 == 1 {
                    track.take_floor(&mut game, &mut peer, &until)?;
                }
                track.take(trips, &mut run_times)?;
            }
        }
        let mut notes = Vec::new();
        let mut rows = Vec::new();
        for ((cell, talk), track) in self.cells.iter().zip(&talks).zip(tracks) {
            let seconds = track.ns as f64 / 1e9;
            notes.extend(
                self.tempo
                    .rate
                    .and_then(|rate| rate_note(rate, track.count as f64 / seconds, &format!("{} bytes", cell.size))),
            );
            rows.push(self.row(cell, talk, track)?);
        }
        let how = format!(
            "round trips between {}{}",
            common.whom(),
            self.tempo.rate.map(|rate| format!(", begun {}/s", units::count(rate).trim_end())).unwrap_or_default()
        );
        Ok(Report { bench: self.bench, how, rows, notes })
    }

    fn row(&self, cell: &Cell, talk: &Attached, track: Track) -> Outcome<Row> {
        let mut row = Row::new(&cell.label, cell.size, Unit::RoundTrip);
        row.runs = track.runs;
        row.laps = track.count as f64 / talk.lap() as f64;
        row.count = track.count;
        row.times = Some(track.times);
        row.floors = vec![Floor { name: self.floor.name(), runs: track.floor }];
        row.more.insert("kernel_calls_per_round_trip", talk.kernel_calls()? as f64 / track.all.max(1) as f64);
        if let Some((target, _)) = self.aim.filter(|(_, size)| *size == cell.size && cell.busy == 0) {
            row.aim(target, 0);
            if self.floor == Awake {
                row.targets.push((TAILS, track.tails.over(&track.floor_tails).median()));
            }
        }
        Ok(row)
    }
}

/// Starts `busy` threads that compete for `cpus`, in a process of their own.
fn compete(crowd: &mut Option<Peer>, cpus: &Cpus, threads: usize) -> Outcome {
    let crowd = match crowd {
        None if threads == 0 => return Ok(()),
        None => crowd.insert(Peer::process(None)?),
        Some(crowd) => crowd,
    };
    crowd.tell(&Task::Busy { threads, cpus: cpus.list().to_vec() })?;
    crowd.answer().map(drop)
}

impl Sides {
    fn name(self) -> &'static str {
        match self {
            Awake => "raw cache line",
            Asleep => "raw futex",
        }
    }
}

/// The figures of a cell, while they are collected.
struct Track {
    runs: Series,
    floor: Series,
    /// The 99.99th percentiles of each run, and of its floor.
    tails: Series,
    floor_tails: Series,
    times: Times,
    /// Round trips that count, and all round trips.
    count: u64,
    all: u64,
    ns: u64,
}

impl Track {
    fn new() -> Outcome<Self> {
        let [runs, floor, tails, floor_tails] = std::array::from_fn(|_| Series::default());
        Ok(Track { runs, floor, tails, floor_tails, times: Times::new()?, count: 0, all: 0, ns: 0 })
    }

    fn take_floor(&mut self, game: &mut Game, peer: &mut Peer, until: &Until) -> Outcome {
        self.floor.push(game.play(peer, until)?);
        self.floor_tails.push(game.tail);
        Ok(())
    }

    fn take(&mut self, trips: Trips, times: &mut Times) -> Outcome {
        self.runs.push(times.median());
        self.tails.push(times.at(TAIL));
        self.count += trips.count;
        self.all += trips.all;
        self.ns += trips.ns;
        self.times.take(times)
    }
}

/// Two rings through which messages travel to the peer and back.
pub(super) struct Talk {
    out: Channel,
    back: Channel,
    size: usize,
}

impl Talk {
    pub(super) fn new(cell: &Cell) -> Outcome<Self> {
        let channel = || Channel::new(cell.kind, cell.capacity, cell.size, cell.idle);
        Ok(Talk { out: channel()?, back: channel()?, size: cell.size })
    }

    /// Called when the peer has been started: it must inherit the rings, but not the ends.
    pub(super) fn attach(self) -> Outcome<Attached> {
        let ends = ports::ends(&self.out.ring, &self.back.ring)?;
        Ok(Attached { talk: self, ends })
    }
}

/// A [`Talk`] with the ends of this side.
pub(super) struct Attached {
    talk: Talk,
    ends: Ends,
}

impl Attached {
    pub(super) fn lap(&self) -> u64 {
        self.talk.out.lap(self.talk.size)
    }

    fn kernel_calls(&self) -> Outcome<u64> {
        Ok(self.talk.out.kernel_calls()? + self.talk.back.kernel_calls()?)
    }

    pub(super) fn run(
        &mut self,
        peer: &mut Peer,
        until: &Until,
        tempo: Tempo,
        clock: u64,
        times: &mut Times,
    ) -> Outcome<Trips> {
        let Attached { talk: Talk { out, back, size }, ends } = self;
        let task = Task::Echo { from: out.port.clone(), to: back.port.clone() };
        let (trips, _) = peer.during(&task, || match ends {
            Ends::Spsc(ends) => runs::ping(&mut ends.0, &mut ends.1, *size, until, tempo, clock, times),
            Ends::Mpmc((tx, rx)) => runs::ping(tx, rx, *size, until, tempo, clock, times),
        })?;
        Ok(trips)
    }
}

/// The floor: the time of a round trip without a ring.
pub(super) struct Game {
    probe: probe::PingPong,
    passed: Passed,
    sides: Sides,
    pause: Option<Duration>,
    clock: u64,
    times: Times,
    /// The time of a round in the previous run, including everything around it.
    round_ns: f64,
    /// The 99.99th percentile of the run before.
    tail: f64,
}

impl Game {
    pub(super) fn new(sides: Sides, pause: Option<Duration>, clock: u64) -> Outcome<Self> {
        let probe = probe::PingPong::new()?;
        let passed = Passed::new(probe.as_fd())?;
        Ok(Game { probe, passed, sides, clock, pause, times: Times::new()?, round_ns: 10_000.0, tail: 0.0 })
    }

    /// Exchanges messages for about the time of a run at most. Returns the median time of a round.
    pub(super) fn play(&mut self, peer: &mut Peer, until: &Until) -> Outcome<f64> {
        let Game { probe, passed, pause, clock, times, .. } = self;
        let mut add = |ns: u64| {
            times.add(ns.saturating_sub(*clock) as f64);
            pause.inspect(|pause| std::thread::sleep(*pause));
        };
        let fitting = (until.ns as f64 / self.round_ns) as u64;
        let rounds = fitting.clamp(ROUNDS.0, ROUNDS.1).min(until.count.unwrap_or(u64::MAX));
        let start = now_ns();
        let probe_fd = passed.fd();
        match self.sides {
            Awake => peer.during(&Task::RawPong { probe: probe_fd, rounds }, || Ok(probe.ping(rounds, &mut add)?))?,
            Asleep => {
                let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
                peer.during(&Task::FutexPong { probe: probe_fd, rounds }, || Ok(probe.ping_asleep(rounds, &mut add)?))?
            }
        };
        self.round_ns = (now_ns() - start) as f64 / rounds as f64;
        let median = self.times.median();
        self.tail = self.times.at(TAIL);
        self.times.clear();
        Ok(median)
    }
}
