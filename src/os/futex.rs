//! `futex(2)`: sleeping on a shared word until another process changes it.
//!
//! Used by `wait/` only. The calls do not use `FUTEX_PRIVATE`, because a private wait does not see
//! a wake from another process.

use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, ClockId, Flags, Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags};

use crate::sync::AtomicU32;

/// Sleeps while `*word == expected`, for at most `timeout` (for ever if `None`).
///
/// Returns on a wake, a changed word, a signal, the timeout, or spuriously: callers re-check their
/// condition in a loop. False if it did not sleep because the word had changed. One system call,
/// `FUTEX_WAIT` (Linux 2.6).
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(timespec);
    // EINTR and ETIMEDOUT mean "check again", which the caller does in any case.
    futex::wait(word, Flags::empty(), expected, timeout.as_ref()) != Err(Errno::AGAIN)
}

/// Wakes up to `count` sleepers of `word` and returns how many. One system call, `FUTEX_WAKE`.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    // The only errors are a bad address or flag, which a valid `&AtomicU32` excludes.
    futex::wake(word, Flags::empty(), count).map_or(0, |woken| u32::try_from(woken).unwrap_or(u32::MAX))
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// The most words that one call of [`wait_any`] takes (`FUTEX_WAITV_MAX`).
pub(crate) const MOST_WORDS: usize = 128;

/// How a sleep on several words ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a wake on one of them: this one, but perhaps others as well.
    Woken(usize),
    /// A word had another value before the sleep: not known which.
    Changed,
    /// By the timeout, by a signal, or because the call is not allowed any more: check again.
    Otherwise,
}

/// Sleeps while all `words` have the values beside them, from 1 to [`MOST_WORDS`], for at most
/// `timeout`. One system call, `FUTEX_WAITV` (Linux 5.16): about 0.4 µs for each word.
pub(crate) fn wait_any<'w>(words: impl Iterator<Item = (&'w AtomicU32, u32)>, timeout: Duration) -> Ended {
    let mut waits = [const { Wait::new() }; MOST_WORDS];
    let mut count = 0;
    for (wait, (word, expected)) in waits.iter_mut().zip(words) {
        wait.val = u64::from(expected);
        wait.uaddr = WaitPtr::new(std::ptr::from_ref(word).cast_mut().cast());
        wait.flags = WaitFlags::SIZE_U32; // not private, as everywhere in this file
        count += 1;
    }
    // The timeout of this call is a point of the clock, not a duration.
    let until = Duration::from_nanos(super::clock::monotonic_ns()).saturating_add(timeout);
    match futex::waitv(&waits[..count], WaitvFlags::empty(), Some(&timespec(until)), ClockId::Monotonic) {
        Ok(index) => Ended::Woken(index),
        Err(Errno::AGAIN) => Ended::Changed,
        Err(_) => Ended::Otherwise,
    }
}

/// Whether this kernel has [`wait_any`], and no seccomp filter forbids it. A system call, once.
pub(crate) fn has_wait_any() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // No words at all: EINVAL where the call exists, ENOSYS or EPERM where it does not.
    *ANSWER.get_or_init(|| futex::waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) == Err(Errno::INVAL))
}
