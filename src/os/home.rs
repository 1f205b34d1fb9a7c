//! Which thread this is, without a system call.
//!
//! Used by the MPMC handles, which count without read-modify-writes in the thread that counts most, and by `os/fork.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The thread that came first. Others are told from it by the address of a thread-local.
///
/// A thread that starts after the first has ended may get its address, and then takes its place. That is harmless: two
/// threads never have it at once, and the later one sees what the earlier one did before it ended, as with any memory that
/// is given back and handed out again.
#[derive(Debug, Default)]
pub(crate) struct Home(AtomicUsize);

impl Home {
    /// Nobody has come yet.
    pub(crate) const fn new() -> Self {
        Home(AtomicUsize::new(0))
    }

    /// Whether this thread came first. Wait-free.
    #[inline(always)]
    pub(crate) fn is_here(&self) -> bool {
        let here = address();
        let home = self.0.load(Ordering::Relaxed);
        home == here || (home == 0 && self.settle(here))
    }

    #[cold]
    fn settle(&self, here: usize) -> bool {
        self.0.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// An address that no other living thread has.
#[inline(always)]
pub(crate) fn address() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thread_is_at_home_and_no_other() {
        let home = Home::new();
        assert!(home.is_here());
        std::thread::scope(|scope| assert!(!scope.spawn(|| home.is_here()).join().unwrap()));
        assert!(home.is_here());
    }
}
