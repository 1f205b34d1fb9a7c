//! When the participants of a segment were last checked for deaths, so that many sleepers share one check.
//!
//! Used by `participants.rs` and `participant.rs`. Relies on `CLOCK_MONOTONIC`, which all processes of a machine read alike.
//!
//! A check asks the kernel about the lock of every id in use, and each such call walks the kernel's list of all locks of
//! the file: the cost grows with the square of the ids in use. So the time between two checks does, too
//! ([`Checks::pause_ns`]), and checking takes a few percent of one processor, however many participants wait. The
//! participant that claims a check makes it; those that fail to claim it rely on that one. If it is killed or stopped
//! after the claim, the next check is only one pause later.
//!
//! To wake up only to find that another participant has checked costs a sleeper two system calls, and 255 of them every
//! 50 ms half a processor. So the sleepers that fail to claim sleep longer, the more participants there are
//! ([`Checks::rest`]): all of them together wake up about 300 times a second, however many they are, and at different
//! times. The sleeper that made the check wakes up after its usual sleep and makes the next one; if it does not (it has
//! something to do, or was killed or stopped), the first of the others to wake up takes its place.
//!
//! All words are Relaxed: they decide only when to look. What a check finds is ordered by the records and the locks. A
//! word that is wrong (a clock of another time namespace, a lie) delays a check by two [`LONGEST_PAUSE_NS`], or causes a
//! superfluous one.

use std::time::Duration;

use super::layout::{CHECK_PAUSE, LAST_CHECK};
use crate::sync::{Area, Ordering};

/// Up to so many participants each check for themselves: that is cheap, and prompter.
pub(crate) const FEW: u64 = 8;
/// No pause between two checks is longer, if a participant waits.
pub(crate) const LONGEST_PAUSE_NS: u64 = 1_000_000_000;
/// Some twenty times what a lock call costs per lock on the kernel's list.
const PAUSE_NS_PER_PAIR: u64 = 64;

/// The two words of the shared page.
#[derive(Clone)]
pub(crate) struct Checks {
    page: Area,
}

impl Checks {
    /// Over a segment's shared page.
    pub(super) fn new(shared_page: Area) -> Self {
        Checks { page: shared_page }
    }

    /// Whether the caller is to check now. False if another participant did so less than the pause ago, which is at least
    /// `shortest_ns` where there are more than a [`FEW`].
    pub(crate) fn claim(&self, now_ns: u64, shortest_ns: u64) -> bool {
        let pause = match self.page.word(CHECK_PAUSE).load(Ordering::Relaxed) {
            0 => return true,
            pause => pause.max(shortest_ns).min(LONGEST_PAUSE_NS),
        };
        let last = self.page.word(LAST_CHECK).load(Ordering::Relaxed);
        // By a fellow that read the clock after us: just now. Further ahead: nonsense, so long ago.
        let age = match now_ns.wrapping_sub(last) {
            ahead if ahead.wrapping_neg() <= LONGEST_PAUSE_NS => 0,
            age => age,
        };
        let word = self.page.word(LAST_CHECK);
        age >= pause && word.compare_exchange(last, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How long a sleeper that otherwise sleeps for `usual` may sleep after it failed to [`claim`](Checks::claim) a check.
    /// Longer by a sixteenth for each id in use, a quarter more or less by its `id`, and at most [`LONGEST_PAUSE_NS`].
    pub(crate) fn rest(&self, usual: Duration, id: u16) -> Duration {
        let pause = self.page.word(CHECK_PAUSE).load(Ordering::Relaxed).min(LONGEST_PAUSE_NS);
        let in_use = (pause / PAUSE_NS_PER_PAIR).isqrt() as u32;
        // Multiples of the golden ratio: neighbours are far apart, and no two alike.
        let percent = 75 + (u32::from(id) * 618 % 1000) / 20;
        let rest = (usual + usual * in_use / 16) * percent / 100;
        rest.clamp(usual, usual.max(Duration::from_nanos(LONGEST_PAUSE_NS)))
    }

    /// A check has found `in_use` ids that are not free.
    pub(super) fn made(&self, in_use: u64) {
        let (word, pause) = (self.page.word(CHECK_PAUSE), Self::pause_ns(in_use));
        if word.load(Ordering::Relaxed) != pause {
            word.store(pause, Ordering::Relaxed);
        }
    }

    /// How far two checks of `in_use` ids are apart at least.
    fn pause_ns(in_use: u64) -> u64 {
        if in_use <= FEW { 0 } else { (in_use * in_use * PAUSE_NS_PER_PAIR).min(LONGEST_PAUSE_NS) }
    }
}

#[cfg(all(test, not(slipring_loom)))]
mod tests {
    use super::*;
    use crate::memory;
    use crate::segment::layout::PAGE;

    const MS: u64 = 1_000_000;

    fn checks() -> Checks {
        Checks::new(memory::heap(PAGE, PAGE).unwrap().control)
    }

    #[test]
    fn a_few_check_for_themselves_and_many_share_one_check_per_pause() {
        let checks = checks();
        assert!((0..10).all(|_| checks.claim(50 * MS, 10 * MS)), "how many there are is not known");
        checks.made(FEW);
        assert!((0..10).all(|_| checks.claim(50 * MS, 10 * MS)));
        checks.made(FEW + 1);
        let claims = |from: u64, to: u64| (from..to).filter(|ms| checks.claim(ms * MS, 10 * MS)).count();
        assert_eq!(claims(100, 200), 10, "one in 10 ms");
        checks.made(1000);
        assert_eq!(claims(300, 1000), 11, "one in 64 ms");
        checks.made(4095);
        assert_eq!(claims(3_000, 13_000), 10, "one a second");
    }

    #[test]
    fn the_wake_ups_of_all_sleepers_together_do_not_grow_with_their_number() {
        let (checks, usual) = (checks(), Duration::from_millis(50));
        assert_eq!(checks.rest(usual, 7), usual, "how many there are is not known");
        for in_use in [FEW + 1, 64, 255, 320] {
            checks.made(in_use);
            let rests: Vec<_> = (1..=in_use as u16).map(|id| checks.rest(usual, id)).collect();
            let a_second: f64 = rests.iter().map(|rest| rest.as_secs_f64().recip()).sum();
            assert!(a_second < 340.0, "{in_use} sleepers wake up {a_second} times a second");
            assert!(rests.iter().all(|rest| (usual..=Duration::from_nanos(LONGEST_PAUSE_NS)).contains(rest)));
        }
        checks.page.word(CHECK_PAUSE).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(checks.rest(usual, 1), Duration::from_nanos(LONGEST_PAUSE_NS), "a lie");
    }

    #[test]
    fn a_claimer_that_dies_or_whose_clock_is_ahead_delays_the_next_check_by_one_pause_only() {
        let checks = checks();
        checks.made(100);
        assert!(checks.claim(100 * MS, 10 * MS));
        // It is killed here.
        assert!(!checks.claim(110 * MS - 1, 10 * MS));
        assert!(checks.claim(110 * MS, 10 * MS));
        assert!(checks.claim(3_600_000 * MS, 10 * MS), "another time namespace");
        assert!(checks.claim(120 * MS, 10 * MS), "the last check lies in the future");
        assert!(!checks.claim(121 * MS, 10 * MS));
        assert!(!checks.claim(119 * MS, 10 * MS), "a clock that was read before the last claim");
    }
}
