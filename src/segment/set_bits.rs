//! Which bits of an eventcount's word the sets of waits of this process have, so that no two share
//! one (`wait/eventcount.rs` says why).
//!
//! Used by the sources of sets. Private to the process.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The bit of a handle's call.
const CALL: u32 = 1;
/// The bits of sets.
const SETS: u32 = 31;

/// The bits in use at the edges of one segment.
pub(crate) struct SetBits(AtomicU32);

impl SetBits {
    pub(super) fn new() -> Self {
        SetBits(AtomicU32::new(CALL))
    }

    /// A bit that no other set of this process has here. The search begins at another bit in each
    /// process, because processes that watch one ring do not know of each other's. If all are
    /// taken, one that another set has, too: the two may hide wake-ups from each other, until the
    /// caps of their sleeps.
    pub(crate) fn take(&self) -> u32 {
        let first = std::process::id() % SETS;
        let mut bits = (0..SETS).map(|i| 2 << ((first + i) % SETS));
        // Relaxed: a bit is a name, and orders nothing.
        bits.find(|bit| self.0.fetch_or(*bit, Relaxed) & bit == 0).unwrap_or(2 << first)
    }

    /// Frees a bit for another set.
    pub(crate) fn give_back(&self, bit: u32) {
        self.0.fetch_and(!bit, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_sets_share_a_bit_while_there_is_a_free_one() {
        let bits = SetBits::new();
        let taken: Vec<_> = (0..SETS).map(|_| bits.take()).collect();
        assert_eq!(taken.iter().fold(CALL, |all, bit| all | bit), u32::MAX);
        assert!(taken.contains(&bits.take()), "none is free");
        bits.give_back(taken[5]);
        assert_eq!(bits.take(), taken[5]);
    }
}
