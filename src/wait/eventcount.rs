//! Eventcounts: a participant sleeps until another one publishes. Publishing costs nothing while no
//! participant sleeps.
//!
//! Used by the rings (a consumer on empty, a producer on full), by `semaphore.rs`, and through
//! `block.rs`. Relies on `barrier.rs` for the barriers and for sleeping.
//!
//! An eventcount carries no data and no count of events: it only says "check again". The owner of
//! the data publishes it with release stores, and readers see it with acquire loads. All accesses
//! to the words here are relaxed; two barriers order them (S2 and N2 below, `barrier.rs`).
//!
//! # Shape
//!
//! One [`LINE`](crate::memory::LINE) of shared memory, two 32-bit words:
//!
//! ```text
//! +0  word         One:  bit 0 a call sleeps, each other bit: a set of waits may sleep (`several.rs`)
//!                  Many: bit 0 a sleeper may be there, bits 1 to 15 registrations, bits 16 to 31 wake-ups
//! +4  needs_fence  0, or 1 for ever once a sleeper came that cannot call membarrier
//! ```
//!
//! # Why no wake-up is lost
//!
//! ```text
//! sleeper                                  notifier
//! S1  word := armed (RMW)                  N1  publish (a release store elsewhere)
//! S2  barrier                              N2  barrier
//! S3  check again; there? do not sleep     N3  word armed? no: done
//! S4  futex_wait(word, what S1 wrote)      N4  change the word, futex_wake
//! ```
//!
//! **Dekker.** With a full barrier at S2 and at N2, S3 and N3 cannot both miss. All barriers have
//! one order, and the access before the first barrier is seen by the access after the second. So
//! either S3 sees the publication and the sleeper stays awake, or N3 sees it armed.
//!
//! **Kernel.** N4 changes the word *before* it wakes; `futex_wait` compares and queues under the
//! lock that `futex_wake` takes. Either the sleeper is queued in time and is woken, or its
//! comparison sees the changed word and it returns.
//!
//! **One** ([`One`]: a single call that sleeps, sets beside it, any number of notifiers). N4 is
//! `swap(0)`; its winner wakes all. A notifier that loses the swap, or reads 0 after it, relies on
//! the winner's wake: the sleepers then check again, and Dekker holds anew for their next S1. The
//! waker clears the flags, so a sleeper killed in its sleep costs one superfluous wake and leaves
//! nothing behind. A call that ends its wait clears its own bit, and never that of a set; a set leaves
//! its own raised for its next sleep. No two sleepers share a bit: one that raises it again after a
//! wake-up would hide the wake-up from one that has not compared the word yet.
//!
//! **Many** ([`Many`]: any number of both). S1 counts a registration and sets bit 0: it changes the
//! word *every time*. N4 counts a wake-up and wakes up to `n`. Only if fewer than `n` slept, it
//! clears bit 0 by a CAS that expects the very value its addition left: the CAS fails if a sleeper
//! has registered since. A sleeper that registered before the addition and was not queued at the
//! wake finds the wake-up counted and checks again. Waking comes before clearing, so a notifier
//! killed between the two leaves the flag set and the next one wakes. Bit 0 may be set without a
//! sleeper (one superfluous wake), but it is set whenever a sleeper needs it.
//!
//! A registration alone does not end a sleep: a sleeper that finds nothing else changed waits for
//! the word's present value. No notifier has come since its S1, so the state is the same as if its
//! S1 had been the last. (If such sleepers checked and registered again, they would keep one
//! another awake: of hundreds, each made ten rounds before it slept.) The counts wrap. A sleeper
//! that was descheduled before S4 for exactly 2¹⁶ wake-ups sleeps one cap too long; so does one
//! that registered as the last of exactly 2¹⁵ while a notifier was descheduled before its CAS.
//!
//! **Death.** One gap remains: a notifier killed after `swap` (One), or a woken sleeper killed
//! before it acts (Many). So *every sleep is capped*, mostly at [`SLEEP_CAP`], after which the
//! sleeper checks the ring and its peers itself.

use std::time::Duration;

use super::barrier::{Barrier, Line};
use crate::memory::Area;
use crate::os::futex;
use crate::sync::{AtomicU32, Ordering::*};

/// How often a sleeper checks, unless another one does so for it, because a wake-up can be lost
/// with its waker.
pub(crate) const SLEEP_CAP: Duration = Duration::from_millis(50);

/// The bit of the word of a [`One`] that says that a call sleeps.
const CALL: u32 = 1;
/// The bit of a set where there is only one.
#[cfg(not(slipring_loom))]
pub(crate) const ONLY_SET: u32 = 2;

/// The parts of the word of a [`Many`] above bit 0: the registrations, and the lowest bit of the
/// wake-ups.
const REGISTRATIONS: u32 = 0xFFFE;
const WAKE_UP: u32 = 0x1_0000;

/// [`Many::notify`] with this count wakes all sleepers. (The kernel's count is a signed int.)
pub(crate) const ALL: u32 = i32::MAX as u32;

/// An object that `block.rs` can sleep on.
pub(crate) trait Sleep {
    /// One pass: registers, checks again, and sleeps, at most `timeout` (which callers bound,
    /// mostly by [`SLEEP_CAP`]).
    ///
    /// Returns whether it slept. A sleep may end spuriously: check again, unless `ready` has just
    /// returned true. `ready` is not called again after that. At most three system calls
    /// (`membarrier`, `FUTEX_WAIT` twice).
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool;
}

/// An eventcount for one sleeper at a time and any number of notifiers.
#[derive(Clone)]
pub(crate) struct One(Line);

impl One {
    /// The eventcount in the first line of `line`, all zeros when new; registers with membarrier if
    /// `mode` wants that.
    pub(crate) fn attach(line: Area, mode: Barrier) -> Self {
        One(Line::attach(line, mode))
    }

    /// Call after publishing: wakes the sleeper if there is one. Returns whether that took a system
    /// call.
    #[inline(always)]
    pub(crate) fn notify(&self) -> bool {
        self.0.is_awaited(u32::MAX) && self.wake()
    }

    /// S1 of a set.
    fn arm(&self, bit: u32) -> (Key, bool) {
        let word = self.0.word();
        let mut before = word.load(Relaxed);
        if before & bit == 0 {
            before = word.fetch_or(bit, Relaxed);
        }
        (Key { word: before | bit, others: !bit }, before == 0)
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) -> bool {
        let won = self.0.recheck(u32::MAX) && self.0.word().swap(0, Relaxed) != 0;
        if won {
            futex::wake(self.0.word(), ALL);
        }
        won
    }
}

impl Sleep for One {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        if self.0.barrier == Barrier::Poll {
            self.0.sleep_briefly(timeout);
            return true;
        }
        let word = self.0.word();
        // The cost of an RMW is small beside a sleep, and the model checker can order it against a
        // waker's swap.
        let raised = word.fetch_or(CALL, Relaxed) == 0;
        self.0.settle();
        let sleeps = !ready();
        if sleeps {
            self.0.park(CALL, !CALL, raised, timeout, ready);
        }
        word.fetch_and(!CALL, Relaxed);
        sleeps
    }
}

/// An eventcount for any number of sleepers and notifiers.
#[derive(Clone)]
pub(crate) struct Many(Line);

impl Many {
    /// The eventcount in the first line of `line`, all zeros when new; registers with membarrier if
    /// `mode` wants that.
    pub(crate) fn attach(line: Area, mode: Barrier) -> Self {
        Many(Line::attach(line, mode))
    }

    /// Call after publishing what up to `count` sleepers may want. Returns whether that took a
    /// system call.
    ///
    /// One for each frame or permit; [`ALL`] for what concerns all sleepers (closing, a death).
    #[inline(always)]
    pub(crate) fn notify(&self, count: u32) -> bool {
        self.0.is_awaited(1) && self.wake(count)
    }

    /// S1: what the word is now, and whether this raised the flag.
    fn register(&self) -> (u32, bool) {
        let word = self.0.word();
        let mut seen = word.load(Relaxed);
        loop {
            let key = (seen & !REGISTRATIONS) | (seen.wrapping_add(2) & REGISTRATIONS) | 1;
            match word.compare_exchange_weak(seen, key, Relaxed, Relaxed) {
                Ok(_) => return (key, seen & 1 == 0),
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self, count: u32) -> bool {
        if !self.0.recheck(1) {
            return false;
        }
        let word = self.0.word();
        let mine = word.fetch_add(WAKE_UP, Relaxed).wrapping_add(WAKE_UP);
        if futex::wake(word, count) < count {
            // The queue is empty: clear the flag, unless a sleeper has registered meanwhile.
            let _ = word.compare_exchange(mine, mine & !1, Relaxed, Relaxed);
        }
        true
    }
}

impl Sleep for Many {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        if self.0.barrier == Barrier::Poll {
            self.0.sleep_briefly(timeout);
            return true;
        }
        let (key, raised) = self.register();
        self.0.settle();
        let sleeps = !ready();
        if sleeps {
            self.0.park(key, REGISTRATIONS, raised, timeout, ready);
        }
        sleeps
    }
}

/// The eventcounts that one sleeper sleeps on at once: see `several.rs`.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// With the bit of the set.
    One(&'a One, u32),
    Many(&'a Many),
}

/// What an armed word was, and which of its bits belong to other sleepers.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) word: u32,
    pub(super) others: u32,
}

impl<'a> Event<'a> {
    fn line(self) -> &'a Line {
        match self {
            Event::One(event, _) => &event.0,
            Event::Many(event) => &event.0,
        }
    }

    pub(super) fn word(self) -> &'a AtomicU32 {
        self.line().word()
    }

    /// Ends the sleep of a set here, or keeps it from sleeping, if its check includes what was stored
    /// before. Other sleepers may check as well, and sleep again.
    pub(crate) fn interrupt(self) {
        // SYNC(interrupt): pairs with the fence of SYNC(sleep): a set that arms this word later sees
        // what was stored before, through the RMWs between.
        match self {
            Event::One(event, bit) => event.0.word().fetch_and(!bit, Release),
            Event::Many(event) => event.0.word().fetch_add(WAKE_UP, Release),
        };
        futex::wake(self.word(), ALL);
    }

    /// What a notifier leaves that dies before it wakes: the armed bits are cleared.
    #[cfg(all(test, not(slipring_loom)))]
    pub(crate) fn clear_without_wake(self) {
        self.word().store(0, Relaxed);
    }

    pub(super) fn barrier(self) -> Barrier {
        self.line().barrier
    }

    /// S1, and whether this raised the flag. An RMW, or a load where the bit of a [`One`] is still
    /// raised from an earlier pass: by an RMW of ours, which came before this S2, too.
    pub(super) fn arm(self) -> (Key, bool) {
        match self {
            Event::One(event, bit) => event.arm(bit),
            Event::Many(event) => {
                let (word, raised) = event.register();
                (Key { word, others: REGISTRATIONS }, raised)
            }
        }
    }

    /// Asks the notifiers for fences: see [`Line::settle`].
    pub(super) fn ask_for_fence(self) {
        self.line().needs_fence().store(1, Relaxed);
    }
}

#[cfg(all(test, not(slipring_loom), not(miri)))]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    use super::super::barrier::FIRST_WAIT;
    use super::super::several::Sleeper;
    use super::*;
    use crate::memory::{self, LINE};

    /// In place of the cap on sleeps. Longer than a busy machine keeps a thread from running, so a
    /// sleep of this length is one that no wake-up ended.
    const LONG: Duration = Duration::from_millis(500);

    fn line() -> Area {
        memory::heap(LINE, LINE).unwrap().control
    }

    /// `parties` threads pass a number round, each sleeping until its turn. Returns how many sleeps
    /// ran into the cap.
    fn pass_round<E: Sleep + Send>(parties: u64, rounds: u64, event: impl Fn(u64) -> (E, Box<dyn Fn() + Send>)) -> u64 {
        let (turn, overslept) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for me in 0..parties {
                let (mine, wake_next) = event(me);
                let (turn, overslept) = (&turn, &overslept);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let my_turn = round * parties + me;
                        let mut ready = || turn.load(Acquire) == my_turn;
                        while !ready() {
                            let start = Instant::now();
                            mine.sleep(LONG, &mut ready);
                            overslept.fetch_add(u64::from(start.elapsed() >= LONG), Relaxed);
                        }
                        turn.store(my_turn + 1, Release);
                        wake_next();
                    }
                });
            }
        });
        overslept.into_inner()
    }

    #[test]
    fn one_loses_no_wake_up_in_any_pair_of_barriers() {
        use Barrier::{Asymmetric, Fenced};
        for (ours, theirs) in [(Asymmetric, Asymmetric), (Fenced, Fenced), (Asymmetric, Fenced)] {
            let lines = [line(), line()];
            let overslept = pass_round(2, 5_000, |me| {
                let barrier = if me == 0 { ours } else { theirs };
                let [mine, other] = [me, 1 - me].map(|i| One::attach(lines[i as usize].clone(), barrier));
                (mine, Box::new(move || _ = other.notify()))
            });
            assert!(overslept <= 3, "{ours:?}, {theirs:?}: {overslept} wake-ups came by the cap alone");
        }
    }

    #[test]
    fn many_loses_no_wake_up() {
        let line = line();
        let overslept = pass_round(3, 2_000, |_| {
            let event = Many::attach(line.clone(), Barrier::Asymmetric);
            let all = event.clone();
            (event, Box::new(move || _ = all.notify(ALL)))
        });
        assert!(overslept <= 3, "{overslept} wake-ups came by the cap alone");
    }

    /// A set of waits with two members.
    struct Set([One; 2], std::sync::Mutex<Sleeper>);

    impl Sleep for Set {
        fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
            let count = if futex::has_wait_any() { 2 } else { 1 };
            let event = |i: usize| Event::One(&self.0[i], ONLY_SET);
            self.1.lock().unwrap().pass(count, event, timeout, ready);
            true // it may have slept
        }
    }

    /// The outcome of a run's sleeps.
    #[derive(Debug, Default)]
    struct Sleeps {
        /// The notifier saw no sleeper, and the sleeper slept: too long by a first wait, or until
        /// its cap.
        late: u64,
        lost: u64,
        all: u64,
    }

    /// Runs for half a second a sleeper that falls asleep while a publication is still in the store
    /// buffer of the notifier's processor. Stores to lines that no cache holds keep it there for
    /// hundreds of nanoseconds, long after the notifier has checked the word.
    fn race<E: Sleep + Sync>(sleeper: &E, notify: impl Fn() -> bool + Sync) -> Sleeps {
        const WORDS_PER_LINE: usize = 8;
        const COLD: usize = 4;
        // Nanoseconds: both wait up to this long, so that either may be the first.
        const SPREAD: u64 = 300;
        // More than a second-level cache holds, and more pages than a TLB holds.
        let lines: Vec<_> = (0..(64 << 20) / 8).map(AtomicU64::new).collect();
        let [asked, turn, told, at] = [const { crossbeam_utils::CachePadded::new(AtomicU64::new(0)) }; 4];
        let dice = |seed: &mut u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *seed >> 33
        };
        let start = Instant::now();
        let now = || start.elapsed().as_nanos() as u64;
        let pause = |nanoseconds: u64| {
            let until = now() + nanoseconds;
            while now() < until {}
        };
        let mut sleeps = Sleeps::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                run_another_process_here();
                let mut seed = 1;
                for round in 1.. {
                    let cold: [_; COLD] = std::array::from_fn(|_| dice(&mut seed) as usize % lines.len());
                    let delay = dice(&mut seed) % SPREAD;
                    while asked.load(Acquire) < round {
                        std::hint::spin_loop();
                    }
                    if asked.load(Relaxed) == u64::MAX {
                        return;
                    }
                    pause(delay);
                    at.store(now(), Relaxed);
                    cold.iter().for_each(|at| lines[at / WORDS_PER_LINE * WORDS_PER_LINE].store(round, Relaxed));
                    turn.store(round, Release);
                    told.store(round << 1 | u64::from(notify()), Release);
                }
            });
            let mut seed = 2;
            while start.elapsed() < Duration::from_millis(500) {
                sleeps.all += 1;
                let round = sleeps.all;
                let delay = dice(&mut seed) % SPREAD;
                asked.store(round, Release);
                pause(delay);
                let slept = sleeper.sleep(LONG, &mut || turn.load(Acquire) == round);
                let end = now();
                if slept && told.load(Acquire) == round << 1 {
                    let overslept = Duration::from_nanos(end.saturating_sub(at.load(Relaxed)));
                    sleeps.lost += u64::from(overslept >= LONG / 2);
                    sleeps.late += u64::from(overslept >= FIRST_WAIT / 2);
                }
                while told.load(Acquire) >> 1 < round {
                    std::hint::spin_loop();
                }
            }
            asked.store(u64::MAX, Release);
        });
        sleeps
    }

    /// Pins this thread to its processor and runs another process there. Then `membarrier` reaches
    /// this processor ("The bounded first wait", `barrier.rs`), unless a thread of ours ends on it
    /// later.
    fn run_another_process_here() {
        let mut here = rustix::thread::CpuSet::new();
        here.set(rustix::thread::sched_getcpu());
        let alone = std::thread::available_parallelism().map_or(true, |n| n.get() == 1);
        if !alone && rustix::thread::sched_setaffinity(None, &here).is_ok() {
            let _ = std::process::Command::new("true").status();
        }
    }

    #[test]
    fn a_registration_of_another_sleeper_does_not_end_a_sleep() {
        for mode in [Barrier::Asymmetric, Barrier::Fenced] {
            let line = line();
            let [one, other] = [0, 1].map(|_| Many::attach(line.clone(), mode));
            let time = 2 * FIRST_WAIT;
            let start = Instant::now();
            // Between S1 and S4 and, where the sleep has two parts, between those.
            assert!(one.sleep(time, &mut || other.sleep(time, &mut || true)));
            assert!(start.elapsed() >= time, "{mode:?}: it checked again at once");
        }
    }

    #[test]
    fn no_wake_up_is_lost_in_a_store_buffer() {
        use Barrier::{Asymmetric, Fenced};
        for (sleeper, notifier) in
            [(Asymmetric, Asymmetric), (Asymmetric, Fenced), (Fenced, Asymmetric), (Fenced, Fenced)]
        {
            let (one, many, in_set) = (line(), line(), line());
            for line in [&one, &many, &in_set] {
                // As a sleeper does that cannot call membarrier.
                line.half(4).store(u32::from(sleeper == Fenced), Relaxed);
            }
            let notifiers = (One::attach(one.clone(), notifier), Many::attach(many.clone(), notifier));
            let of_set = One::attach(in_set.clone(), notifier);
            let words = [in_set, line()].map(|line| One::attach(line, sleeper));
            let results = [
                race(&One::attach(one, sleeper), || notifiers.0.notify()),
                race(&Many::attach(many, sleeper), || notifiers.1.notify(1)),
                race(&Set(words, std::sync::Mutex::default()), || of_set.notify()),
            ];
            println!("{sleeper:?} sleeper, {notifier:?} notifier: {results:?}");
            assert!(results.iter().all(|sleeps| sleeps.lost == 0), "{sleeper:?}, {notifier:?}: {results:?}");
        }
    }

    #[test]
    fn no_sleeper_means_no_system_call() {
        for barrier in [Barrier::Poll, Barrier::Asymmetric, Barrier::Fenced] {
            assert!(!One::attach(line(), barrier).notify());
            assert!(!Many::attach(line(), barrier).notify(ALL));
        }
    }

    #[test]
    fn a_killed_sleeper_costs_one_superfluous_wake_up_and_leaves_nothing() {
        let one = One::attach(line(), Barrier::Asymmetric);
        one.0.word().store(1, Relaxed);
        assert_eq!([one.notify(), one.notify()], [true, false]);
        let many = Many::attach(line(), Barrier::Asymmetric);
        many.0.word().store(7, Relaxed);
        assert_eq!([many.notify(1), many.notify(1)], [true, false]);
    }

    #[test]
    fn a_notifier_that_was_asked_to_fence_still_detects_sleepers() {
        let one = One::attach(line(), Barrier::Asymmetric);
        one.0.needs_fence().store(1, Relaxed);
        assert!(!one.notify());
        one.0.word().store(1, Relaxed);
        assert!(one.notify());
    }

    #[test]
    fn the_epoch_may_wrap() {
        let many = Many::attach(line(), Barrier::Fenced);
        many.0.word().store(u32::MAX, Relaxed);
        assert!(many.notify(1));
        many.0.word().store(u32::MAX - 1, Relaxed);
        assert!(!many.sleep(Duration::ZERO, &mut || true));
        assert!(many.notify(1) && !many.notify(1));
    }

    #[test]
    fn in_poll_mode_a_sleeper_only_sleeps_briefly() {
        let one = One::attach(line(), Barrier::Poll);
        assert!(one.sleep(Duration::MAX, &mut || unreachable!("no notifier would have woken us")));
        assert_eq!(one.0.word().load(Relaxed), 0, "and never arms");
    }
}
