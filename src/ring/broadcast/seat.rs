//! The guard of a reliable subscriber: it looks at frames in place only while it holds this.
//! `loom-tests` compiles and checks this file.
//!
//! Used by the handle in `subscriber.rs`. `gate.rs` has the protocol and its proof.

use super::layout::{Guard, Shared, State};
use crate::sync::Ordering;

/// A reliable subscriber's place in the table.
pub(crate) struct Seat {
    ring: Shared,
    id: u16,
    idle: u64,
}

/// The publisher has evicted this subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted;

impl Seat {
    pub(crate) fn new(ring: Shared, id: u16, state: State) -> Self {
        Seat { ring, id, idle: state.guard(Guard::Idle) }
    }

    /// From now on the publisher does not evict this subscriber, until [`Seat::release`]. Holding
    /// it again changes nothing: a view may have been forgotten.
    #[inline(always)]
    pub(crate) fn hold(&self) -> Result<(), Evicted> {
        let (idle, held) = (self.idle, self.idle | Guard::Held as u64);
        // This CAS, or that of `evict`, comes first. Relaxed: what is loaded before it is not
        // overwritten either, unless it fails.
        match self.ring.guard(self.id).compare_exchange(idle, held, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(now) if now == held => Ok(()),
            Err(_) => Err(Evicted),
        }
    }

    /// The views are gone.
    #[inline(always)]
    pub(crate) fn release(&self) {
        // SYNC(evict): pairs with the fence in `make_room`. That follows the CAS of an eviction.
        // Only the subscriber changes a guard that is held, so a store suffices.
        self.ring.guard(self.id).store(self.idle, Ordering::Release);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        let guard = self.ring.guard(self.id).load(Ordering::Relaxed);
        guard != self.idle && guard != self.idle | Guard::Held as u64
    }
}
