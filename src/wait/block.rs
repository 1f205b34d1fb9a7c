//! The one blocking loop: look, idle, sleep, until there is something, an end, or a deadline.
//!
//! Used by every blocking call of rings, semaphore and mutex, on both edges. Relies on [`Sleep`] for not losing a wake-up,
//! on [`Pace`] for how to wait.

use super::deadline::Deadline;
use super::eventcount::Sleep;
use super::idle::{Pace, Step};
use crate::error::{Error, Result};

/// Time between two calls of `check` by a caller that never sleeps.
const CHECK_NS: u64 = 10_000_000;

/// Waits until `attempt` yields something or fails; [`Error::Timeout`] after the deadline, but never without an attempt.
///
/// `check` is asked before each sleep, hence after each wake-up that brought nothing: it fails when waiting has become
/// pointless (the peer has left or died). What the peer published before its end is still found: a last attempt follows.
///
/// The re-check that the sleeper owes (S3 in `eventcount.rs`) is an attempt as well, so nothing is looked up twice. An attempt must
/// not sleep, and one that yields `None` must have no effect.
pub(crate) fn block_on<T>(
    event: &impl Sleep,
    pace: &Pace,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<Option<T>>,
    mut check: impl FnMut() -> Result<()>,
) -> Result<T> {
    if let Some(found) = attempt()? {
        return Ok(found);
    }
    let mut idler = pace.idler();
    let mut check_at = idler.now_ns() + CHECK_NS;
    loop {
        if deadline.is_behind(idler.now_ns()) {
            return Err(Error::Timeout);
        }
        // Who never sleeps looks around all the same: nobody else would tell it that its peer is dead.
        if idler.now_ns() >= check_at {
            check_at = idler.now_ns() + CHECK_NS;
            if let Err(end) = check() {
                return attempt()?.ok_or(end);
            }
        }
        let mut outcome = Ok(None);
        if idler.step() == Step::Park {
            if let Err(end) = check() {
                return attempt()?.ok_or(end);
            }
            let ready = event.sleep(deadline.remaining(), &mut || {
                outcome = attempt();
                !matches!(outcome, Ok(None))
            });
            if !ready {
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
