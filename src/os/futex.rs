//! `futex(2)`: sleeping on a shared word until another process changes it.
//!
//! Used by `wait/` only. The calls do not use `FUTEX_PRIVATE`, because a private wait does not see
//! a wake from another process.

use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::sync::AtomicU32;

/// Sleeps while `*word == expected`, for at most `timeout` (for ever if `None`).
///
/// Returns on a wake, a changed word, a signal, the timeout, or spuriously: callers re-check their
/// condition in a loop. False if it did not sleep because the word had changed. One system call,
/// `FUTEX_WAIT` (Linux 2.6).
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(|t| Timespec {
        tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    // EINTR and ETIMEDOUT mean "check again", which the caller does in any case.
    futex::wait(word, Flags::empty(), expected, timeout.as_ref()) != Err(Errno::AGAIN)
}

/// Wakes up to `count` sleepers of `word` and returns how many. One system call, `FUTEX_WAKE`.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The only errors are a bad address or flag, which a valid `&AtomicU32` excludes.
    futex::wake(word, Flags::empty(), count).map_or(0, |woken| u32::try_from(woken).unwrap_or(u32::MAX))
}
