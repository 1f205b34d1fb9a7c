//! The time of the last liveness check of a segment's participants, so that many sleepers share one
//! check.
//!
//! Used by `table.rs` and `participant.rs`. Relies on `CLOCK_MONOTONIC`, which is the same
//! in all processes of a machine.
//!
//! A check asks the kernel about the lock of every id in use, and each such call walks the kernel's
//! list of all locks of the file: the cost grows with the square of the ids in use. The time
//! between two checks grows with it ([`Checks::pause_ns`]), so checking takes a few percent of one
//! processor for any number of waiting participants. The participant that claims a check makes it;
//! those that fail to claim it rely on that one. If it is killed or stopped after the claim, the
//! next check is only one pause later.
//!
//! A sleeper that wakes up only to find that another participant has checked spends two system
//! calls; 255 of them, every 50 ms, would take half a processor. So sleepers that failed to claim a
//! check sleep longer, the more participants there are ([`Checks::rest`]). All together they wake
//! up about 300 times a second, whatever their number, and at different times. The sleeper that
//! made the check wakes up after its usual sleep and makes the next one. If it does not (it is
//! busy, killed or stopped), the first other sleeper to wake up makes it.
//!
//! All words are Relaxed: they decide only when to check. The records and the locks order what a
//! check finds. A wrong word (a clock of another time namespace, a forged value) delays a check by
//! two [`LONGEST_PAUSE_NS`], or causes a superfluous one.

use std::time::Duration;

use crate::memory::Area;
use crate::segment::layout::{CHECK_PAUSE, LAST_CHECK};
use crate::sync::Ordering;

/// Up to this number, each participant checks for itself, which is cheap and notices a death
/// earlier.
pub(crate) const FEW: u64 = 8;
/// The longest pause between two checks while a participant waits.
pub(crate) const LONGEST_PAUSE_NS: u64 = 1_000_000_000;
/// About twenty times the cost of a lock call per lock on the kernel's list.
const PAUSE_NS_PER_PAIR: u64 = 64;

/// The two words of the shared page.
#[derive(Clone)]
pub(crate) struct Checks {
    page: Area,
}

impl Checks {
    /// The words of a segment's shared page.
    pub(super) fn new(shared_page: Area) -> Self {
        Checks { page: shared_page }
    }

    /// Whether the caller is to check now. False if another participant did so less than the pause
    /// ago, which is at least `shortest_ns` if there are more than [`FEW`].
    pub(crate) fn claim(&self, now_ns: u64, shortest_ns: u64) -> bool {
        let pause = match self.page.word(CHECK_PAUSE).load(Ordering::Relaxed) {
            0 => return true,
            pause => pause.max(shortest_ns).min(LONGEST_PAUSE_NS),
        };
        let last = self.page.word(LAST_CHECK).load(Ordering::Relaxed);
        // If the time is slightly in the future, a participant that read the clock later has just
        // set it. If it is further in the future, it is invalid, and counts as long ago.
        let age = match now_ns.wrapping_sub(last) {
            ahead if ahead.wrapping_neg() <= LONGEST_PAUSE_NS => 0,
            age => age,
        };
        let word = self.page.word(LAST_CHECK);
        age >= pause && word.compare_exchange(last, now_ns, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How long a sleeper may sleep after it failed to [`claim`](Checks::claim) a check, if it
    /// otherwise sleeps for `usual`. A sixteenth longer for each id in use, varied by up to a
    /// quarter by its `id`, and at most [`LONGEST_PAUSE_NS`].
    pub(crate) fn rest(&self, usual: Duration, id: u16) -> Duration {
        let pause = self.page.word(CHECK_PAUSE).load(Ordering::Relaxed).min(LONGEST_PAUSE_NS);
        let in_use = (pause / PAUSE_NS_PER_PAIR).isqrt() as u32;
        // Multiples of the golden ratio are all different, and those of neighbours are far apart.
        let percent = 75 + (u32::from(id) * 618 % 1000) / 20;
        let rest = (usual + usual * in_use / 16) * percent / 100;
        rest.clamp(usual, usual.max(Duration::from_nanos(LONGEST_PAUSE_NS)))
    }

    /// Whether the last check has found no more participants than [`FEW`].
    #[cfg(not(slipring_loom))]
    pub(crate) fn are_few(&self) -> bool {
        self.page.word(CHECK_PAUSE).load(Ordering::Relaxed) == 0
    }

    /// Records that a check has found `in_use` ids that are not free.
    pub(super) fn made(&self, in_use: u64) {
        let (word, pause) = (self.page.word(CHECK_PAUSE), Self::pause_ns(in_use));
        if word.load(Ordering::Relaxed) != pause {
            word.store(pause, Ordering::Relaxed);
        }
    }

    /// The least time between two checks of `in_use` ids.
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
        assert!((0..10).all(|_| checks.claim(50 * MS, 10 * MS)), "the number of participants is not known");
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
        assert_eq!(checks.rest(usual, 7), usual, "the number of participants is not known");
        for in_use in [FEW + 1, 64, 255, 320] {
            checks.made(in_use);
            let rests: Vec<_> = (1..=in_use as u16).map(|id| checks.rest(usual, id)).collect();
            let a_second: f64 = rests.iter().map(|rest| rest.as_secs_f64().recip()).sum();
            assert!(a_second < 340.0, "{in_use} sleepers wake up {a_second} times a second");
            assert!(rests.iter().all(|rest| (usual..=Duration::from_nanos(LONGEST_PAUSE_NS)).contains(rest)));
        }
        checks.page.word(CHECK_PAUSE).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(checks.rest(usual, 1), Duration::from_nanos(LONGEST_PAUSE_NS), "a forged value");
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
