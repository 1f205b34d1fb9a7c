//! Retrying until success or the deadline, where the kernel has no call that waits.
//!
//! Used where a transport connects. Relies on the clock.

use std::time::Duration;

use rustix::io::Errno;

use crate::error::Result;
use crate::os::pauses::Pauses;
use crate::wait::deadline::Deadline;

/// The longest pause between two attempts.
pub(super) const LONGEST: Duration = Duration::from_millis(20);

/// The pauses between two attempts to connect.
pub(super) const PAUSES: Pauses = Pauses::new(Duration::from_millis(1), LONGEST);

/// Calls `attempt` until it returns a value; at the deadline once more, and then returns `None`.
pub(super) fn until<T>(deadline: Deadline, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let mut pauses = PAUSES;
    loop {
        let has_passed = deadline.has_passed();
        if let Some(done) = attempt()? {
            return Ok(Some(done));
        }
        if has_passed {
            return Ok(None);
        }
        pauses.sleep(deadline.remaining());
    }
}

/// Whether a later attempt to connect can succeed after this error, because a listener or a route
/// may come.
pub(super) fn may_pass(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::TIMEDOUT
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::HOSTUNREACH
            | Errno::HOSTDOWN
            | Errno::ADDRNOTAVAIL
            | Errno::AGAIN
    )
}
