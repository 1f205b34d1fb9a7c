//! The blocking loop of all calls: try, idle, sleep, until there is a result, an end, or the
//! deadline.
//!
//! Used by every blocking call of rings, semaphore and mutex, on both sides. [`Sleep`] loses no
//! wake-up; [`Pace`] decides how to wait.

use std::time::Duration;

use super::deadline::Deadline;
use super::eventcount::{SLEEP_CAP, Sleep};
use super::idle::{CHECK_NS, Pace, Step};
use crate::error::{Error, Result};
use crate::sync::spin_loop;

/// Attempts before the clock is read for the first time: a result that comes within a few round
/// trips costs only the attempts.
pub(crate) const QUICK_LOOKS: u32 = 64;

/// The cost of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Loads only: detects that a peer has announced its leave.
    Quick,
    /// System calls as well: detects that a peer is dead.
    Thorough,
}

/// Waits until `attempt` yields a result or fails. [`Error::Timeout`] after the deadline, but only
/// after at least one attempt.
///
/// `check` fails when the peers have left or died. A last attempt follows, which finds what they
/// published before their end. Otherwise `check` returns the longest sleep before the next check.
/// It is called thoroughly before each sleep, hence after each wake-up without a result, and every
/// [`CHECK_NS`](super::idle::CHECK_NS) by a caller that does not sleep. It is also called before a
/// timeout, so that even calls with short deadlines notice an end; then thoroughly only if the
/// handle's last thorough check is that long ago.
///
/// The re-check that a sleeper must make (S3 in `eventcount.rs`) is an attempt, so nothing is
/// checked twice. An attempt must not sleep, and one that yields `None` must have no effect.
pub(crate) fn block_on<T>(
    event: &impl Sleep,
    pace: &Pace,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<Option<T>>,
    mut check: impl FnMut(Check) -> Result<Duration>,
) -> Result<T> {
    let quick_looks = if pace.spins() { QUICK_LOOKS } else { 0 };
    for _ in 0..quick_looks {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        spin_loop();
    }
    if let Some(found) = attempt()? {
        return Ok(found);
    }
    let mut idler = pace.idler();
    let mut next_check = idler.now_ns() + CHECK_NS;
    let mut longest_sleep = SLEEP_CAP;
    loop {
        let late = deadline.is_behind(idler.now_ns());
        let mut outcome = Ok(None);
        let park = !late && idler.step() == Step::Park;
        let thorough = park || idler.now_ns() >= next_check || (late && pace.is_check_due(idler.now_ns()));
        if late || thorough {
            if thorough {
                pace.checked(idler.now_ns());
                next_check = idler.now_ns() + CHECK_NS;
            }
            match check(if thorough { Check::Thorough } else { Check::Quick }) {
                Ok(patience) => longest_sleep = patience,
                Err(end) => return attempt()?.ok_or(end),
            }
        }
        if late {
            // The deadline has passed, and the check may have recovered something from a dead
            // participant.
            return attempt()?.ok_or(Error::Timeout);
        }
        if park {
            let slept = event.sleep(deadline.remaining().min(longest_sleep), &mut || {
                outcome = attempt();
                !matches!(outcome, Ok(None))
            });
            if slept {
                idler.slept();
            }
        }
        if matches!(outcome, Ok(None)) {
            outcome = attempt();
        }
        if let Some(found) = outcome? {
            idler.done();
            return Ok(found);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::memory;
    use crate::memory::LINE;
    use crate::os::clock::monotonic_ns;
    use crate::wait::barrier::Barrier;
    use crate::wait::eventcount::One;
    use crate::wait::idle::Idle;

    fn event() -> One {
        One::attach(memory::heap(LINE, LINE).unwrap().control, Barrier::Asymmetric)
    }

    fn never<T>() -> Result<Option<T>> {
        Ok(None)
    }

    #[test]
    fn a_passed_deadline_allows_an_attempt_and_no_sleep() {
        let pace = Pace::new(Idle::Park);
        assert_eq!(
            block_on(&event(), &pace, Deadline::from(Duration::ZERO), || Ok(Some(7)), |_| Ok(SLEEP_CAP)).unwrap(),
            7
        );
        let attempts = Cell::new(0);
        let count = || {
            attempts.set(attempts.get() + 1);
            never::<()>()
        };
        let late = block_on(&event(), &pace, Deadline::from(Duration::ZERO), count, |_| Ok(SLEEP_CAP));
        assert!(matches!(late, Err(Error::Timeout)));
        assert!(attempts.get() >= 1);
        assert_eq!(pace.sleeps(), 0);
    }

    #[test]
    fn everything_published_before_the_end_is_found() {
        let published = Cell::new(None);
        let check = |_| {
            published.set(Some(7)); // published between the attempt and the check
            Err(Error::Closed)
        };
        let pace = Pace::new(Idle::Park);
        let found = block_on(&event(), &pace, Deadline::never(), || Ok(published.get()), check);
        assert_eq!(found.unwrap(), 7);
        let nothing = block_on(&event(), &pace, Deadline::never(), never::<()>, |_| Err(Error::PeerDead));
        assert!(matches!(nothing, Err(Error::PeerDead)));
    }

    #[test]
    fn an_error_ends_the_wait() {
        let failing = || Err::<Option<()>, _>(Error::Full);
        let ended = block_on(&event(), &Pace::new(Idle::Park), Deadline::never(), failing, |_| Ok(SLEEP_CAP));
        assert!(matches!(ended, Err(Error::Full)));
    }

    #[test]
    fn callers_that_never_sleep_check_as_well() {
        for idle in [Idle::Spin, Idle::Yield] {
            let pace = Pace::new(idle);
            let ended = block_on(&event(), &pace, Deadline::never(), never::<()>, |_| Err(Error::PeerDead));
            assert!(matches!(ended, Err(Error::PeerDead)), "{idle}");
            assert_eq!(pace.sleeps(), 0);
        }
    }

    #[test]
    fn no_deadline_is_too_short_for_a_check_and_few_are_thorough() {
        for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
            for deadline in [Duration::ZERO, Duration::from_micros(1), Duration::from_micros(200)] {
                let pace = Pace::new(idle);
                let end = |_| Err(Error::Closed); // a quick check, or on a busy machine a thorough one
                pace.checked(monotonic_ns() + 3_600_000_000_000);
                let left = block_on(&event(), &pace, deadline.into(), never::<()>, end);
                assert!(matches!(left, Err(Error::Closed)), "{idle} {deadline:?}");
                let died = |kind| if kind == Check::Thorough { Err(Error::PeerDead) } else { Ok(SLEEP_CAP) };
                let pace = Pace::new(idle);
                let dead = block_on(&event(), &pace, deadline.into(), never::<()>, died);
                assert!(matches!(dead, Err(Error::PeerDead)), "{idle} {deadline:?}");
            }
            // Of many calls that never wait, only one in CHECK_NS makes system calls.
            let (pace, thorough, began) = (Pace::new(idle), Cell::new(0), monotonic_ns());
            for _ in 0..1000 {
                let count = |kind| {
                    thorough.set(thorough.get() + u64::from(kind == Check::Thorough));
                    Ok(SLEEP_CAP)
                };
                let late = block_on(&event(), &pace, Duration::ZERO.into(), never::<()>, count);
                assert!(matches!(late, Err(Error::Timeout)));
            }
            assert!(thorough.get() >= 1 && thorough.get() <= 1 + (monotonic_ns() - began) / CHECK_NS, "{idle}");
        }
    }

    #[test]
    fn a_call_finds_what_its_check_before_the_timeout_recovered() {
        let recovered = Cell::new(None);
        let check = |_| {
            recovered.set(Some(7));
            Ok(SLEEP_CAP)
        };
        let pace = Pace::new(Idle::Spin);
        assert_eq!(block_on(&event(), &pace, Duration::ZERO.into(), || Ok(recovered.get()), check).unwrap(), 7);
    }

    #[test]
    fn every_wake_up_without_a_result_is_followed_by_a_check() {
        let pace = Pace::new(Idle::Park);
        let checks = Cell::new(0);
        let check = |_| {
            checks.set(checks.get() + 1);
            if checks.get() < 3 { Ok(SLEEP_CAP) } else { Err(Error::Closed) }
        };
        let ended = block_on(&event(), &pace, Deadline::never(), never::<()>, check);
        assert!(matches!(ended, Err(Error::Closed)));
        assert_eq!((checks.get(), pace.sleeps()), (3, 2));
    }
}
