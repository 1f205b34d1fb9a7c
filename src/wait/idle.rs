//! What a waiting thread does until it sleeps: spin, yield, back off, or park after a learned budget.
//!
//! Used by `block.rs` for every blocking call, and by the rings' own short pauses ([`pause_for_ns`]). Relies on
//! `os/clock.rs` and `os/cpu.rs`. Budgets are in time, never in iterations: one PAUSE is 3 ns on one core and 50 on
//! another. Where only one processor is available nobody spins, since that could only delay the peer.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam_utils::Backoff;

use crate::error::{Error, Result};
use crate::os::{clock::monotonic_ns, cpu};

/// How a blocking call waits. Named as in Aeron; each has a name for command lines and configuration files.
///
/// | | reacts in | costs while nothing comes |
/// |---|---|---|
/// | [`Spin`](Idle::Spin) | nanoseconds | one processor |
/// | [`Yield`](Idle::Yield) | nanoseconds to a time slice | one processor, if nobody else wants it |
/// | [`Backoff`](Idle::Backoff) | microseconds | nothing |
/// | [`Park`](Idle::Park) (default) | nanoseconds at a steady pace, else microseconds | nothing |
///
/// With one processor available, `Spin` yields, and `Backoff` and `Park` sleep at once.
///
/// ```
/// use slipring::Idle;
///
/// let idle: Idle = "park".parse()?;
/// assert_eq!(idle, Idle::default());
/// assert_eq!(Idle::Spin.to_string(), "spin");
/// assert!("sleep".parse::<Idle>().is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Busy: `PAUSE` between two looks, for ever. For a thread that owns its processor.
    Spin,
    /// `sched_yield` between two looks, for ever: other runnable threads go first.
    Yield,
    /// Spin and yield for exponentially longer times (some 10 µs altogether), then sleep.
    Backoff,
    /// Spin for as long as has lately paid off (0.5 to 20 µs), then sleep.
    #[default]
    Park,
}

impl Idle {
    const NAMES: [(Idle, &'static str); 4] =
        [(Idle::Spin, "spin"), (Idle::Yield, "yield"), (Idle::Backoff, "backoff"), (Idle::Park, "park")];
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Idle::Spin => "spin",
            Idle::Yield => "yield",
            Idle::Backoff => "backoff",
            Idle::Park => "park",
        })
    }
}

impl FromStr for Idle {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Idle::NAMES.iter().find(|(_, n)| *n == name);
        known.map(|(idle, _)| *idle).ok_or(Error::Invalid { what: "idle strategy: spin, yield, backoff or park" })
    }
}

/// Bounds of [`Idle::Park`]'s spinning: never less (a peer that answers at once is cheap to catch), never more (about
/// what a sleep and a wake-up cost, so that spinning at most doubles the price of any wait).
const MIN_SPIN_NS: u64 = 500;
const MAX_SPIN_NS: u64 = 20_000;
/// Waits longer than this are all alike to the average.
const LONG_WAIT_NS: u64 = 2 * MAX_SPIN_NS;
/// What a handle that has not waited yet takes for the average.
const FIRST_GUESS_NS: u32 = 2_500;
/// One wait in so many spins for the maximum: a wait that slept includes the wake-up, and looks longer than it was.
const PROBE: u32 = 64;
/// Time between two thorough checks of the peers by a handle that never sleeps.
pub(crate) const CHECK_NS: u64 = 10_000_000;
/// Looks between two readings of the clock.
const LOOKS_PER_READING: u32 = 16;

/// A handle's idle strategy, with what it has learned of its waits, the number of its sleeps, and
/// when its peers are to be checked again. Shared by clones of the handle's threads: updates are
/// relaxed and may be lost, it is only a guess.
#[derive(Debug)]
pub(crate) struct Pace {
    idle: Idle,
    average_ns: AtomicU32,
    waits: AtomicU32,
    sleeps: AtomicU64,
    next_check: AtomicU64,
}

impl Pace {
    pub(crate) fn new(idle: Idle) -> Self {
        Pace {
            idle,
            average_ns: AtomicU32::new(FIRST_GUESS_NS),
            waits: AtomicU32::new(0),
            sleeps: AtomicU64::new(0),
            next_check: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_idle(&mut self, idle: Idle) {
        self.idle = idle;
    }

    /// How often a call slept in the kernel.
    #[cfg(test)]
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps.load(Relaxed)
    }

    /// Whether a wait may begin by looking again and again.
    pub(crate) fn spins(&self) -> bool {
        self.idle != Idle::Yield && cpu::available() > 1
    }

    /// The sleeps since this was asked last, for a counter that outlives the handle.
    pub(crate) fn take_sleeps(&self) -> u64 {
        // Nearly always there was none, and a swap costs as much as the rest of a wait.
        if self.sleeps.load(Relaxed) == 0 { 0 } else { self.sleeps.swap(0, Relaxed) }
    }

    /// Whether the last thorough check of the peers is long enough ago for a call that is about to
    /// give up.
    pub(crate) fn is_check_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_check.load(Relaxed)
    }

    /// The peers are checked thoroughly now.
    pub(crate) fn checked(&self, now_ns: u64) {
        self.next_check.store(now_ns + CHECK_NS, Relaxed);
    }

    /// The state of one wait, begun now.
    pub(crate) fn idler(&self) -> Idler<'_> {
        let spins = cpu::available() > 1;
        let now = monotonic_ns();
        let budget = if spins && self.idle == Idle::Park { self.budget_ns() } else { 0 };
        Idler { pace: self, spins, backoff: Backoff::new(), start: now, now, spin_until: now + budget, looks: 0 }
    }

    /// Twice the average wait, if a wait is short enough for spinning to pay.
    fn budget_ns(&self) -> u64 {
        let average = u64::from(self.average_ns.load(Relaxed));
        if self.waits.load(Relaxed) % PROBE == PROBE - 1 {
            MAX_SPIN_NS
        } else if average > MAX_SPIN_NS {
            MIN_SPIN_NS
        } else {
            (2 * average).clamp(MIN_SPIN_NS, MAX_SPIN_NS)
        }
    }

    /// Moves the average an eighth of the way towards what was observed.
    fn learn(&self, waited_ns: u64) {
        let average = u64::from(self.average_ns.load(Relaxed));
        let average = average - average / 8 + waited_ns.min(LONG_WAIT_NS) / 8;
        self.average_ns.store(u32::try_from(average).unwrap_or(FIRST_GUESS_NS), Relaxed);
        self.waits.store(self.waits.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl Clone for Pace {
    fn clone(&self) -> Self {
        let average_ns = AtomicU32::new(self.average_ns.load(Relaxed));
        Pace { average_ns, ..Pace::new(self.idle) }
    }
}

/// What to do after a look that found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The pause is over: look again.
    Again,
    /// Enough of it: sleep.
    Park,
}

/// One wait: made when the first look found nothing, asked after every further look.
pub(crate) struct Idler<'a> {
    pace: &'a Pace,
    spins: bool,
    backoff: Backoff,
    start: u64,
    now: u64,
    spin_until: u64,
    looks: u32,
}

impl Idler<'_> {
    /// Pauses as the strategy has it, or says that it is time to sleep.
    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        match self.pace.idle {
            Idle::Spin if self.spins => self.spin(),
            Idle::Spin | Idle::Yield => {
                crate::sync::yield_now();
                self.now = monotonic_ns();
            }
            Idle::Backoff if self.spins && !self.backoff.is_completed() => {
                self.backoff.snooze();
                self.now = monotonic_ns();
            }
            Idle::Park if self.now < self.spin_until => self.spin(),
            Idle::Backoff | Idle::Park => return Step::Park,
        }
        Step::Again
    }

    #[inline]
    fn spin(&mut self) {
        crate::sync::spin_loop();
        self.looks = self.looks.wrapping_add(1);
        if self.looks % LOOKS_PER_READING == 0 {
            self.now = monotonic_ns();
        }
    }

    /// The clock as last read: some hundred nanoseconds old at most, but for the last pause.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now
    }

    /// A sleep is over.
    pub(crate) fn slept(&mut self) {
        self.pace.sleeps.fetch_add(1, Relaxed);
        self.now = monotonic_ns();
    }

    /// The wait is over, successfully: what it took decides how long the next one spins.
    pub(crate) fn done(&self) {
        self.pace.learn(monotonic_ns().saturating_sub(self.start));
    }
}

/// Busy for about `ns` nanoseconds, by `PAUSE`s whose length is measured once per process (some 20 µs, at first use).
#[inline]
pub(crate) fn pause_for_ns(ns: u32) {
    for _ in 0..(u64::from(ns) * pauses_per_1024_ns()) >> 10 {
        crate::sync::spin_loop();
    }
}

/// How many `PAUSE`s take 1024 ns: the best of five short runs, since an interruption only makes a run longer.
fn pauses_per_1024_ns() -> u64 {
    static RATE: OnceLock<u64> = OnceLock::new();
    const RUN: u64 = 64;
    *RATE.get_or_init(|| {
        let run = || {
            let start = monotonic_ns();
            (0..RUN).for_each(|_| crate::sync::spin_loop());
            monotonic_ns() - start
        };
        let best = (0..5).map(|_| run()).min().unwrap_or(0).max(1);
        (RUN * 1024 / best).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_has_a_name_and_is_found_by_it() {
        for (idle, name) in Idle::NAMES {
            assert_eq!(idle.to_string(), name);
            assert_eq!(name.parse::<Idle>().unwrap(), idle);
        }
        assert!(matches!("Park".parse::<Idle>(), Err(Error::Invalid { .. })));
    }

    #[test]
    fn spin_and_yield_never_sleep_the_others_do_in_the_end() {
        for (idle, _) in Idle::NAMES {
            let pace = Pace::new(idle);
            let mut idler = pace.idler();
            let parked = (0..100_000).any(|_| idler.step() == Step::Park);
            assert_eq!(parked, matches!(idle, Idle::Backoff | Idle::Park), "{idle}");
        }
    }

    #[test]
    fn the_budget_follows_short_waits_and_gives_up_on_long_ones() {
        let pace = Pace::new(Idle::Park);
        (0..40).for_each(|_| pace.learn(100));
        assert_eq!(pace.budget_ns(), MIN_SPIN_NS);
        (0..20).for_each(|_| pace.learn(8_000));
        assert!((10_000..=16_000).contains(&pace.budget_ns()), "{}", pace.budget_ns());
        (0..30).for_each(|_| pace.learn(u64::MAX));
        assert_eq!(pace.budget_ns(), MIN_SPIN_NS);
        // … but for the probe, which finds out when they become short again.
        (0..).take_while(|_| pace.budget_ns() != MAX_SPIN_NS).take(65).for_each(|_| pace.learn(u64::MAX));
        assert_eq!(pace.budget_ns(), MAX_SPIN_NS);
    }

    #[test]
    fn a_pause_takes_about_its_time() {
        pause_for_ns(1);
        // The machine may interrupt a pause, never shorten it: the best of many is the honest one.
        let best = (0..200).map(|_| {
            let start = monotonic_ns();
            pause_for_ns(10_000);
            monotonic_ns() - start
        });
        let best = best.min().unwrap();
        assert!((3_000..40_000).contains(&best), "{best} ns instead of 10000");
    }
}
