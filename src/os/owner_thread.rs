//! The owner thread of a handle, recognised without a system call.
//!
//! Used by the MPMC handles, whose owner thread counts without read-modify-writes, and by
//! `os/fork.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The first thread that asked, identified by the address of a thread-local variable.
///
/// A thread that starts after the owner has ended may get its address and then counts as the owner.
/// That is harmless: two threads never own it at once, and the later one sees all that the earlier
/// one did before it ended, as with any memory that is freed and allocated again.
#[derive(Debug, Default)]
pub(crate) struct OwnerThread(AtomicUsize);

impl OwnerThread {
    /// No thread owns it yet.
    pub(crate) const fn new() -> Self {
        OwnerThread(AtomicUsize::new(0))
    }

    /// Whether this thread is the owner; the first caller becomes it. Wait-free.
    #[inline(always)]
    pub(crate) fn is_current(&self) -> bool {
        let current = address();
        let owner = self.0.load(Ordering::Relaxed);
        owner == current || (owner == 0 && self.claim(current))
    }

    #[cold]
    fn claim(&self, current: usize) -> bool {
        self.0.compare_exchange(0, current, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// An address that no other living thread has.
#[inline(always)]
pub(crate) fn address() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thread_is_the_owner_and_no_other() {
        let owner = OwnerThread::new();
        assert!(owner.is_current());
        std::thread::scope(|scope| assert!(!scope.spawn(|| owner.is_current()).join().unwrap()));
        assert!(owner.is_current());
    }
}
