//! How often this process has been forked off another one since it first asked: a handle can tell without a system call
//! that it was carried into a child.
//!
//! Used by guards, whose drop in a child must not release what the parent holds.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count() {
    FORKS.fetch_add(1, Relaxed);
}

/// Differs from what it was at the handle's birth if and only if this is a child made by `fork(3)` since.
///
/// No system call. (A bare `clone` system call, which no C library survives either, goes unnoticed.)
#[inline]
pub(crate) fn generation() -> u32 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the handler only increments an atomic, which is allowed in a child of a process with threads.
        // It fails for want of memory only; then forks go unnoticed here, and `Participant::check_fork` still sees
        // them.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
    FORKS.load(Relaxed)
}
