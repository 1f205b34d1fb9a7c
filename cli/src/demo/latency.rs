//! Ping-pong: with a bare cache line, which is this machine's floor, and with frames.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use slipring::probe::PingPong;
use slipring::{Idle, Options, Ring, spsc};

use crate::child::{Cpus, Part, Passed};
use crate::failure::{FAILED, Failure, Outcome};

const WARM_UP: u64 = 20_000;
const ROUNDS: u64 = 200_000;
const FRAME: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// Round trips in nanoseconds, without the cost of reading the clock.
pub(super) struct Times {
    histogram: Histogram<u64>,
    clock: u64,
    seen: u64,
}

impl Times {
    fn new(clock: u64) -> Outcome<Self> {
        // Times above a minute are recorded as a minute.
        let histogram = Histogram::new_with_max(60_000_000_000, 3).map_err(|e| Failure::new(FAILED, e))?;
        Ok(Times { histogram, clock, seen: 0 })
    }

    fn add(&mut self, ns: u64) {
        self.seen += 1;
        if self.seen > WARM_UP {
            self.histogram.saturating_record(ns.saturating_sub(self.clock).max(1));
        }
    }

    fn at(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64
    }

    pub(super) fn row(&self, label: &str) -> String {
        super::times(label, [0.5, 0.99, 0.999].map(|quantile| self.at(quantile)))
    }

    pub(super) fn json(&self) -> Value {
        json!({ "p50": self.at(0.5), "p99": self.at(0.99), "p99_9": self.at(0.999) })
    }
}

pub(super) struct Latency {
    pub(super) raw: Times,
    pub(super) ring: Times,
}

impl Latency {
    pub(super) fn ratio(&self) -> f64 {
        self.ring.at(0.5) / self.raw.at(0.5).max(1.0)
    }
}

pub(super) fn measure(cpus: &Cpus) -> Outcome<Latency> {
    cpus.pinned(|peer| {
        let clock = clock_cost();
        let mut raw = Times::new(clock)?;
        let mut ring = Times::new(clock)?;
        raw_ping(peer, &mut raw)?;
        ping(peer, &mut ring)?;
        Ok(Latency { raw, ring })
    })
}

/// The median difference between two successive readings of the clock.
fn clock_cost() -> u64 {
    let mut costs: Vec<u64> = (0..1001).map(|_| nanoseconds_since(Instant::now())).collect();
    costs.sort_unstable();
    costs[costs.len() / 2]
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn raw_ping(peer: Option<usize>, times: &mut Times) -> Outcome {
    let probe = PingPong::new()?;
    let passed = Passed::new(probe.as_fd())?;
    let rounds = WARM_UP + ROUNDS;
    let part = Part::start(peer, "raw-pong", [passed.number(), rounds.to_string()])?;
    probe.ping(rounds, |ns| times.add(ns))?;
    part.finish()
}

pub(super) fn raw_pong(probe: OwnedFd, rounds: u64) -> Outcome {
    Ok(PingPong::from_fd(probe)?.pong(rounds)?)
}

fn ping(peer: Option<usize>, times: &mut Times) -> Outcome {
    let options = Options::spsc(64 << 10).idle(Idle::Spin);
    let (ping, pong) = (Ring::create_anonymous(&options)?, Ring::create_anonymous(&options)?);
    let passed = [Passed::ring(&ping)?, Passed::ring(&pong)?];
    let rounds = WARM_UP + ROUNDS;
    let part = Part::start(peer, "pong", [passed[0].number(), passed[1].number(), rounds.to_string()])?;
    let (mut tx, mut rx) = (spsc::Producer::attach(&ping)?, spsc::Consumer::attach(&pong)?);
    tx.wait_for_peer(PATIENCE)?;
    let mut ball = [0; FRAME];
    for round in 0..rounds {
        ball[..8].copy_from_slice(&round.to_le_bytes());
        let start = Instant::now();
        tx.send(&ball)?;
        let back = rx.recv()?;
        let ns = nanoseconds_since(start);
        if back[..] != ball {
            return Err(Failure::new(FAILED, "round trip: the returned frame is not the one that was sent"));
        }
        times.add(ns);
    }
    part.finish()
}

pub(super) fn pong(ping: &Ring, pong: &Ring, rounds: u64) -> Outcome {
    let (mut rx, mut tx) = (spsc::Consumer::attach(ping)?, spsc::Producer::attach(pong)?);
    for _ in 0..rounds {
        let ball = rx.recv()?;
        tx.send(&ball)?;
    }
    Ok(())
}
