//! The counting semaphore's core: permits that record their holders.
//!
//! Used by the named semaphore. Relies on `eventcount.rs` for sleeping; the floor above decides who
//! is dead.
//!
//! A plain counter would lose permits with their holder. So each permit is a word (32 of 64 bits):
//! 0 if free, else the participant id of its holder.
//!
//! ```text
//! acquire  CAS 0 → me          (claim and ownership in one step)
//! release  store 0             (only the holder; a dead one does not store)
//! recover  CAS dead → 0        (any participant, any number of times)
//! ```
//!
//! **No release is lost while a waiter sleeps.** A sleeper registers, then scans every permit. One
//! that the scan saw held either still is, or was released after the sleeper's barrier; that
//! release notifies, and (Dekker, `eventcount.rs`) sees the registration. Each release wakes one
//! sleeper, which scans anew.
//!
//! Progress: `try_acquire` is bounded by the number of permits, `release` is wait-free. Not fair:
//! the first to find a free permit gets it, and a woken sleeper that finds none sleeps again.

use super::eventcount::{Many, Sleep};
use crate::memory::Area;
use crate::sync::{AtomicU32, Ordering::*};
use std::time::Duration;

/// Distance between permits in bytes.
pub(crate) const PERMIT: usize = 8;

/// `count` permits in shared memory, [`PERMIT`] bytes each, all zeros when new, and the eventcount
/// of their waiters.
#[derive(Clone)]
pub(crate) struct Permits {
    words: Area,
    freed: Many,
    count: usize,
}

impl Permits {
    /// The permits in `words`, whose length is at least `count * PERMIT`.
    pub(crate) fn attach(words: Area, freed: Many, count: usize) -> Self {
        assert!(count >= 1 && words.len() / PERMIT >= count, "a word for every permit");
        Permits { words, freed, count }
    }

    fn word(&self, permit: usize) -> &AtomicU32 {
        self.words.half(PERMIT * permit)
    }

    /// Acquires a free permit for participant `me` (not 0), and returns its number; `None` if all
    /// were held when checked.
    ///
    /// Each participant begins its search at another permit, so that two rarely meet on one word.
    pub(crate) fn try_acquire(&self, me: u16) -> Option<usize> {
        let first = usize::from(me) % self.count;
        (first..self.count).chain(0..first).find(|permit| {
            let word = self.word(*permit);
            // SYNC(permit): pairs with the stores in `release` and `recover`.
            word.load(Relaxed) == 0 && word.compare_exchange(0, u32::from(me), Acquire, Relaxed).is_ok()
        })
    }

    /// Releases a permit that the caller holds, and wakes one waiter. At most one system call, none
    /// if no waiter sleeps.
    pub(crate) fn release(&self, permit: usize) {
        // SYNC(permit): pairs with the CAS in `try_acquire`.
        self.word(permit).store(0, Release);
        self.freed.notify(1);
    }

    /// Frees the permits of participant `dead`, and returns how many. Only for participants proven
    /// dead, whose id is not reissued before this returns; any number of callers at once.
    pub(crate) fn recover(&self, dead: u16) -> usize {
        // SYNC(permit): pairs with the CAS in `try_acquire`; all that the dead one did, known
        // to us by the kernel's report of its death, comes before what the next holder does.
        let free = |permit: &usize| self.word(*permit).compare_exchange(u32::from(dead), 0, Release, Relaxed).is_ok();
        let freed = (0..self.count).filter(free).count();
        if freed > 0 {
            self.freed.notify(u32::try_from(freed).unwrap_or(super::eventcount::ALL));
        }
        freed
    }

    /// What waiters sleep on.
    #[cfg(not(slipring_loom))]
    pub(crate) fn freed(&self) -> &Many {
        &self.freed
    }

    /// Whether a permit is free at about this moment.
    #[cfg(not(slipring_loom))]
    pub(crate) fn has_free(&self) -> bool {
        self.holders().any(|holder| holder == 0)
    }

    /// The number of permits.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The holder of each permit (0 if free) at about this moment.
    pub(crate) fn holders(&self) -> impl Iterator<Item = u16> + '_ {
        (0..self.count).map(|permit| self.word(permit).load(Relaxed) as u16)
    }
}

/// Sleeps until a permit is released.
impl Sleep for Permits {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.freed.sleep(timeout, ready)
    }
}
