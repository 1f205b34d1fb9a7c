//! What a waiting thread does before it sleeps: spin, yield, back off, or spin for an adapted time.
//!
//! Used by `block.rs` for every blocking call, and by the rings' own short pauses
//! ([`pause_for_ns`]). Relies on `os/clock.rs` and `os/cpu.rs`. Budgets are times, not iterations:
//! one PAUSE takes 3 ns on one processor and 50 ns on another. With only one processor no thread
//! spins, because that would only delay the peer.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crossbeam_utils::Backoff;

use crate::error::{Error, Result};
use crate::os::{clock::monotonic_ns, cpu};

/// How a blocking call waits. The names are Aeron's; each has a text form for command lines and
/// configuration files.
///
/// | | reacts in | costs while nothing arrives |
/// |---|---|---|
/// | [`Spin`](Idle::Spin) | nanoseconds | one processor |
/// | [`Yield`](Idle::Yield) | nanoseconds to a time slice | one processor, if no other thread wants it |
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
    /// Spin: `PAUSE` between two attempts, without sleeping. For a thread that has a processor to
    /// itself.
    Spin,
    /// `sched_yield` between two attempts, without sleeping: other runnable threads run first.
    Yield,
    /// Spin and yield for exponentially longer times (some 10 µs altogether), then sleep.
    Backoff,
    /// Spin for 0.5 to 20 µs, depending on recent waits, then sleep. Sleep almost at once if
    /// spinning did not help recently, for example because the peer has no processor to run on.
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
        known
            .map(|(idle, _)| *idle)
            .ok_or(Error::Invalid { what: "idle strategy: must be spin, yield, backoff or park" })
    }
}

/// Bounds of [`Idle::Park`]'s spinning. The lower bound catches a peer that answers at once. The
/// upper bound is about the cost of a sleep and a wake-up, so that spinning at most doubles the
/// cost of a wait.
const MIN_SPIN_NS: u64 = 500;
const MAX_SPIN_NS: u64 = 20_000;
/// The average that a new handle assumes.
const FIRST_GUESS_NS: u32 = 2_500;
/// After this many successive waits that spun and still slept, the peer is considered slow or not
/// running (another thread, or this one, has its processor). Spinning would only keep the processor
/// from it.
const VAIN: u32 = 2;
/// One wait in this many spins for the maximum, to find out whether the peer answers quickly again.
const PROBE: u32 = 64;
/// Time between two thorough checks of the peers by a handle that does not sleep.
pub(crate) const CHECK_NS: u64 = 10_000_000;
/// Attempts between two readings of the clock.
const LOOKS_PER_READING: u32 = 16;

/// A handle's idle strategy, what it has learned from its waits, the number of its sleeps, and the
/// time of its last check of the peers. The threads that use the handle's clones share it. Updates
/// are relaxed and may be lost, because these are only estimates.
#[derive(Debug)]
pub(crate) struct Pace {
    /// An [`Idle`].
    idle: AtomicU8,
    /// Average duration of the waits that ended without a sleep.
    average_ns: AtomicU32,
    waits: AtomicU32,
    /// The number of waits since then that spun and still slept.
    vain: AtomicU32,
    sleeps: AtomicU64,
    next_check: AtomicU64,
}

impl Pace {
    pub(crate) fn new(idle: Idle) -> Self {
        Pace {
            idle: AtomicU8::new(idle as u8),
            average_ns: AtomicU32::new(FIRST_GUESS_NS),
            waits: AtomicU32::new(0),
            vain: AtomicU32::new(0),
            sleeps: AtomicU64::new(0),
            next_check: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_idle(&self, idle: Idle) {
        self.idle.store(idle as u8, Relaxed);
    }

    fn idle(&self) -> Idle {
        let stored = self.idle.load(Relaxed);
        Idle::NAMES.iter().map(|(idle, _)| *idle).find(|idle| *idle as u8 == stored).unwrap_or_default()
    }

    /// How often a call slept in the kernel.
    #[cfg(test)]
    pub(crate) fn sleeps(&self) -> u64 {
        self.sleeps.load(Relaxed)
    }

    /// Whether a wait may begin with repeated attempts.
    pub(crate) fn spins(&self) -> bool {
        let idle = self.idle();
        idle != Idle::Yield && cpu::available() > 1 && !(idle == Idle::Park && self.spinning_fails())
    }

    fn spinning_fails(&self) -> bool {
        self.vain.load(Relaxed) >= VAIN
    }

    /// The sleeps since the last call, for a counter that outlives the handle.
    pub(crate) fn take_sleeps(&self) -> u64 {
        // There is rarely one, and a swap would cost as much as the rest of a wait.
        if self.sleeps.load(Relaxed) == 0 { 0 } else { self.sleeps.swap(0, Relaxed) }
    }

    /// Whether the last thorough check of the peers is old enough for another one before a timeout.
    pub(crate) fn is_check_due(&self, now_ns: u64) -> bool {
        now_ns >= self.next_check.load(Relaxed)
    }

    /// Records that the peers are checked thoroughly now.
    pub(crate) fn checked(&self, now_ns: u64) {
        self.next_check.store(now_ns + CHECK_NS, Relaxed);
    }

    /// The state of one wait that begins now.
    pub(crate) fn idler(&self) -> Idler<'_> {
        let spins = cpu::available() > 1;
        let now = monotonic_ns();
        let idle = self.idle();
        let budget = if spins && idle == Idle::Park { self.budget_ns() } else { 0 };
        let spin_until = now + budget;
        Idler { pace: self, idle, spins, backoff: Backoff::new(), start: now, now, spin_until, looks: 0, slept: false }
    }

    /// Twice the average wait, if spinning has recently helped.
    fn budget_ns(&self) -> u64 {
        if self.waits.load(Relaxed) % PROBE == PROBE - 1 {
            MAX_SPIN_NS
        } else if self.spinning_fails() {
            MIN_SPIN_NS
        } else {
            (2 * u64::from(self.average_ns.load(Relaxed))).clamp(MIN_SPIN_NS, MAX_SPIN_NS)
        }
    }

    /// Learns from a wait. The duration of one that `slept` is ignored: it includes the wake-up and
    /// the time until a processor was free.
    fn learn(&self, waited_ns: u64, slept: bool) {
        self.waits.store(self.waits.load(Relaxed).wrapping_add(1), Relaxed);
        if slept {
            self.vain.store(self.vain.load(Relaxed).saturating_add(1), Relaxed);
            return;
        }
        let waited = waited_ns.min(MAX_SPIN_NS);
        let average = u64::from(self.average_ns.load(Relaxed));
        // Moves an eighth of the way towards the observation, or all of it if the old average did
        // not help.
        let average = if self.spinning_fails() { waited } else { average - average / 8 + waited / 8 };
        self.average_ns.store(average as u32, Relaxed);
        self.vain.store(0, Relaxed);
    }
}

impl Clone for Pace {
    fn clone(&self) -> Self {
        let average_ns = AtomicU32::new(self.average_ns.load(Relaxed));
        Pace { average_ns, ..Pace::new(self.idle()) }
    }
}

/// What to do after an attempt without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The pause is over: try again.
    Again,
    /// The budget is spent: sleep.
    Park,
}

/// One wait: created after the first attempt without a result, asked after every further one.
pub(crate) struct Idler<'a> {
    pace: &'a Pace,
    idle: Idle,
    spins: bool,
    backoff: Backoff,
    start: u64,
    now: u64,
    spin_until: u64,
    looks: u32,
    slept: bool,
}

impl Idler<'_> {
    /// Pauses as the strategy says, or returns that it is time to sleep.
    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        match self.idle {
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

    /// The clock as last read: at most some hundred nanoseconds old, apart from the last pause.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now
    }

    /// Records that a sleep is over.
    pub(crate) fn slept(&mut self) {
        self.pace.sleeps.fetch_add(1, Relaxed);
        self.slept = true;
        self.now = monotonic_ns();
    }

    /// Ends the wait successfully: its duration decides how long the next one spins.
    pub(crate) fn done(&self) {
        self.pace.learn(monotonic_ns().saturating_sub(self.start), self.slept);
    }
}

/// Spins for about `ns` nanoseconds, with `PAUSE`s whose duration is measured once per process
/// (some 20 µs, at first use).
#[inline]
pub(crate) fn pause_for_ns(ns: u32) {
    for _ in 0..(u64::from(ns) * pauses_per_1024_ns()) >> 10 {
        crate::sync::spin_loop();
    }
}

/// How many `PAUSE`s take 1024 ns: the best of five short runs, since an interruption only makes a
/// run longer.
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
        let awake = |ns| pace.learn(ns, false);
        (0..40).for_each(|_| awake(100));
        assert_eq!(pace.budget_ns(), MIN_SPIN_NS);
        (0..20).for_each(|_| awake(8_000));
        assert!((10_000..=16_000).contains(&pace.budget_ns()), "{}", pace.budget_ns());
    }

    #[test]
    fn a_waiter_stops_spinning_without_success_and_a_probe_starts_it_again() {
        // The peer answers at once when it runs, but it waits for our processor, and a wake-up
        // takes some microseconds.
        let pace = Pace::new(Idle::Park);
        for _ in 0..VAIN {
            assert!(pace.budget_ns() > MIN_SPIN_NS);
            pace.learn(12_000, true);
        }
        assert!(!pace.spins());
        let probed = (0..10 * PROBE).filter(|_| {
            let probe = pace.budget_ns() == MAX_SPIN_NS;
            assert!(probe || pace.budget_ns() == MIN_SPIN_NS);
            pace.learn(12_000, true);
            probe
        });
        assert_eq!(probed.count(), 10, "a probe now and then, and nothing else");
        // A probe shows that the peer answers within 8 µs: that suffices.
        pace.learn(8_000, false);
        assert_eq!((pace.budget_ns(), pace.spins()), (16_000, cpu::available() > 1));
    }

    #[test]
    fn a_pause_takes_about_its_time() {
        pause_for_ns(1);
        // The machine may interrupt a pause but cannot shorten it: use the best of many. It may also
        // have interrupted the calibration, which makes pauses shorter.
        let best = (0..200).map(|_| {
            let start = monotonic_ns();
            pause_for_ns(10_000);
            monotonic_ns() - start
        });
        let best = best.min().unwrap();
        assert!((1_000..100_000).contains(&best), "{best} ns instead of 10000");
    }
}
