//! The one blocking loop: look, idle, sleep, until there is something, an end, or a deadline.
//!
//! Used by every blocking call of rings, semaphore and mutex, on both edges. Relies on [`Sleep`] for not losing a
//! wake-up, on [`Pace`] for how to wait.

use std::time::Duration;

use super::deadline::Deadline;
use super::eventcount::{SLEEP_CAP, Sleep};
use super::idle::{Pace, Step};
use crate::error::{Error, Result};
use crate::sync::spin_loop;

/// Looks before the clock is read for the first time: an answer that comes within a few round trips costs nothing but the
/// looking.
const QUICK_LOOKS: u32 = 64;

const CHECK_NS: u64 = SLEEP_CAP.as_nanos() as u64;

/// Waits until `attempt` yields something or fails; [`Error::Timeout`] after the deadline, but never without an
/// attempt.
///
/// `check` is asked before each sleep, hence after each wake-up that brought nothing, and as often as [`SLEEP_CAP`] by
/// those who never sleep: it fails when waiting has become pointless (the peer has left or died). What the peer
/// published before its end is still found: a last attempt follows. Otherwise it says how soon it wants to be asked again.
///
/// The re-check that the sleeper owes (S3 in `eventcount.rs`) is an attempt as well, so nothing is looked up twice. An
/// attempt must not sleep, and one that yields `None` must have no effect.
pub(crate) fn block_on<T>(
    event: &impl Sleep,
    pace: &Pace,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<Option<T>>,
    mut check: impl FnMut() -> Result<Duration>,
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
    let mut nap = SLEEP_CAP;
    loop {
        if deadline.is_behind(idler.now_ns()) {
            return Err(Error::Timeout);
        }
        let mut outcome = Ok(None);
        let park = idler.step() == Step::Park;
        if park || idler.now_ns() >= next_check {
            match check() {
                Ok(patience) => nap = patience,
                Err(end) => return attempt()?.ok_or(end),
            }
            next_check = idler.now_ns() + CHECK_NS;
        }
        if park {
            let slept = event.sleep(deadline.remaining().min(nap), &mut || {
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
    use crate::sync::LINE;
    use crate::wait::eventcount::{Barrier, One};
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
            block_on(&event(), &pace, Deadline::from(Duration::ZERO), || Ok(Some(7)), || Ok(SLEEP_CAP)).unwrap(),
            7
        );
        let attempts = Cell::new(0);
        let count = || {
            attempts.set(attempts.get() + 1);
            never::<()>()
        };
        let late = block_on(&event(), &pace, Deadline::from(Duration::ZERO), count, || Ok(SLEEP_CAP));
        assert!(matches!(late, Err(Error::Timeout)));
        assert!(attempts.get() >= 1);
        assert_eq!(pace.sleeps(), 0);
    }

    #[test]
    fn what_was_published_before_the_end_is_found() {
        let published = Cell::new(None);
        let check = || {
            published.set(Some(7)); // between our look and our finding out
            Err(Error::Closed)
        };
        let pace = Pace::new(Idle::Park);
        let found = block_on(&event(), &pace, Deadline::never(), || Ok(published.get()), check);
        assert_eq!(found.unwrap(), 7);
        let nothing = block_on(&event(), &pace, Deadline::never(), never::<()>, || Err(Error::PeerDead));
        assert!(matches!(nothing, Err(Error::PeerDead)));
    }

    #[test]
    fn an_error_ends_the_wait() {
        let failing = || Err::<Option<()>, _>(Error::Full);
        let ended = block_on(&event(), &Pace::new(Idle::Park), Deadline::never(), failing, || Ok(SLEEP_CAP));
        assert!(matches!(ended, Err(Error::Full)));
    }

    #[test]
    fn those_who_never_sleep_check_as_well() {
        for idle in [Idle::Spin, Idle::Yield] {
            let pace = Pace::new(idle);
            let ended = block_on(&event(), &pace, Deadline::never(), never::<()>, || Err(Error::PeerDead));
            assert!(matches!(ended, Err(Error::PeerDead)), "{idle}");
            assert_eq!(pace.sleeps(), 0);
        }
    }

    #[test]
    fn every_wake_up_that_brings_nothing_is_followed_by_a_check() {
        let pace = Pace::new(Idle::Park);
        let checks = Cell::new(0);
        let check = || {
            checks.set(checks.get() + 1);
            if checks.get() < 3 { Ok(SLEEP_CAP) } else { Err(Error::Closed) }
        };
        let ended = block_on(&event(), &pace, Deadline::never(), never::<()>, check);
        assert!(matches!(ended, Err(Error::Closed)));
        assert_eq!((checks.get(), pace.sleeps()), (3, 2));
    }
}
