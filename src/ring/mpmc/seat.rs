//! The common part of the producer's and the consumer's handle.
//!
//! Used by `producer.rs` and `consumer.rs`. Relies on `core.rs` for the algorithm, and on
//! `attachment.rs` for joining, waiting and counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::core::{Claim, Taken};
use super::layout::{Shared, Stop};
use crate::error::Result;
use crate::ring::Ring;
use crate::ring::attachment::Attachment;
use crate::segment::{Kind, Role};
use crate::wait::eventcount::{Many, SLEEP_CAP};

/// An attached participant of a slot ring: the state that the clones of a handle share.
pub(super) struct Seat {
    pub(super) core: Shared,
    /// The position up to which this handle has found slots free.
    pub(super) free: CachePadded<AtomicU64>,
    /// The count of redeliveries at which a search found none left.
    pub(super) searched: AtomicU64,
    pub(super) attachment: Attachment<Many>,
}

impl Seat {
    pub(super) fn join(ring: &Ring, role: Role) -> Result<Self> {
        let attachment = Attachment::join(ring, Kind::Mpmc, role)?;
        attachment.announce();
        let core = ring.mpmc_shared();
        let free = CachePadded::new(core.first_free());
        Ok(Seat { core, free, searched: AtomicU64::new(0), attachment })
    }

    #[inline(always)]
    pub(super) fn claim(&self) -> Result<Claim, Stop> {
        self.core.claim(self.attachment.id(), &self.free)
    }

    /// [`Seat::claim`] for the common case that the tail is the position to claim; the result is in
    /// registers.
    #[inline(always)]
    pub(super) fn claim_next(&self) -> Option<Claim> {
        self.core.claim_next(self.attachment.id(), &self.free)
    }

    /// [`Seat::claim`] after [`Seat::claim_next`] found nothing.
    pub(super) fn claim_behind(&self) -> Result<Claim, Stop> {
        self.core.claim_behind(self.attachment.id(), &self.free)
    }

    /// Takes the next frame. A frame that is to be redelivered comes first.
    #[inline(always)]
    pub(super) fn take(&self) -> Result<Taken, Stop> {
        let redeliveries = self.core.redeliveries();
        if redeliveries != self.searched.load(Ordering::Relaxed) {
            match self.core.take_redelivered(self.attachment.id()) {
                Err(Stop::Empty) => self.searched.store(redeliveries, Ordering::Relaxed),
                found => return found,
            }
        }
        self.core.take(self.attachment.id())
    }

    /// The time until the next check of the peers. It is short if a peer is working in the slot
    /// that all others wait for, because they are not woken if it dies there.
    pub(super) fn longest_sleep(&self) -> Duration {
        if self.core.is_next_slot_busy() { SLEEP_CAP / 10 } else { SLEEP_CAP }
    }
}
