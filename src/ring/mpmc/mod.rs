//! The slot ring: many producers, many consumers, frames up to the size of a slot. It is a work
//! queue that loses no work when a worker dies.
//!
//! A claim records the owner of a slot, so any participant can recover what a dead one left
//! unfinished. If a producer dies before committing, its frame is discarded. If a consumer dies
//! holding a frame, the frame is redelivered with a mark, or dropped and counted as lost
//! ([`Redelivery`]).
//!
//! Frames of one producer arrive in the order in which it claimed them. A producer that is
//! *stopped* between claim and commit delays the frames behind its own; a dead one does not. `seq`
//! is the frame's position in the ring, one numbering for all producers. A number that does not
//! come belongs to an aborted claim.
//!
//! ```
//! let (tx, rx) = slipring::mpmc::pair(64, 128)?;
//! std::thread::scope(|s| {
//!     for worker in 0..2u8 {
//!         let tx = tx.clone();
//!         s.spawn(move || tx.send(&[worker]));
//!     }
//!     let mut got = [rx.recv().unwrap()[0], rx.recv().unwrap()[0]];
//!     got.sort_unstable();
//!     assert_eq!(got, [0, 1]);
//! });
//! # Ok::<(), slipring::Error>(())
//! ```

// `core.rs` has the algorithm, this file and its neighbours the handles.

mod consumer;
pub(crate) mod core;
#[cfg(feature = "transports")]
mod holder;
pub(crate) mod inspect;
pub(crate) mod layout;
mod producer;
pub(crate) mod recovery;
#[cfg(test)]
mod tests;

pub use consumer::{BATCH, Batch, Consumer, View};
#[cfg(feature = "transports")]
pub(crate) use holder::Holder;
pub use producer::{Grant, Producer};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use self::core::{Claim, Taken};
use self::layout::{Shared, Stop};
use self::recovery::Recovered;
use super::attachment::Attachment;
use super::{Options, Ring};
use crate::error::Result;
use crate::segment::counters::{Counter, Counters};
use crate::segment::{Kind, Redelivery, Role};
use crate::wait::eventcount::{Many, SLEEP_CAP};

/// An anonymous ring in this process: both ends. Sizes as for [`Options::mpmc`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
/// tx.send(b"job")?;
/// assert_eq!(&*rx.recv()?, b"job");
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(slots: usize, payload: usize) -> Result<(Producer, Consumer)> {
    let ring = Ring::memfd(&Options::mpmc(slots, payload))?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&ring)?))
}

/// Recovers what the dead participant `id` holds, and counts it in that participant's record,
/// because a recoverer need not be a participant. Several may recover at once, if each notices that
/// `id` was reused (see `recovery.rs`). Returns whether there was anything to recover.
pub(super) fn recover(
    core: &Shared,
    counters: &Counters,
    id: u16,
    policy: Redelivery,
    is_still_dead: impl FnMut() -> bool,
) -> bool {
    let Recovered { voided, redeliver, lost } = core.sweep(id, policy, is_still_dead);
    for (counter, n) in [(Counter::Recovered, voided + redeliver + lost), (Counter::Lost, lost)] {
        if n > 0 {
            counters.add_in_other_thread(counter, n);
        }
    }
    voided + redeliver + lost > 0
}

/// The state that the clones of a handle share.
struct Seat {
    core: Shared,
    /// The position up to which this handle has found slots free.
    free: CachePadded<AtomicU64>,
    /// The count of redeliveries at which a search found none left.
    searched: AtomicU64,
    attachment: Attachment<Many>,
}

impl Seat {
    fn join(ring: &Ring, role: Role) -> Result<Self> {
        let attachment = Attachment::join(ring, Kind::Mpmc, role)?;
        attachment.announce();
        let core = ring.mpmc_shared();
        let free = CachePadded::new(core.first_free());
        Ok(Seat { core, free, searched: AtomicU64::new(0), attachment })
    }

    #[inline(always)]
    fn claim(&self) -> Result<Claim, Stop> {
        self.core.claim(self.attachment.id(), &self.free)
    }

    /// [`Seat::claim`] for the common case that the tail is the position to claim; the result is in
    /// registers.
    #[inline(always)]
    fn claim_next(&self) -> Option<Claim> {
        self.core.claim_next(self.attachment.id(), &self.free)
    }

    /// [`Seat::claim`] after [`Seat::claim_next`] found nothing.
    fn claim_behind(&self) -> Result<Claim, Stop> {
        self.core.claim_behind(self.attachment.id(), &self.free)
    }

    /// Takes the next frame. A frame that is to be redelivered comes first.
    #[inline(always)]
    fn take(&self) -> Result<Taken, Stop> {
        let redeliveries = self.core.redeliveries();
        if redeliveries != self.searched.load(Ordering::Relaxed) {
            match self.core.take_again(self.attachment.id()) {
                Err(Stop::Empty) => self.searched.store(redeliveries, Ordering::Relaxed),
                found => return found,
            }
        }
        self.core.take(self.attachment.id())
    }

    /// The time until the next check of the peers. It is short if a peer is working in the slot
    /// that all others wait for, because they are not woken if it dies there.
    fn longest_sleep(&self) -> Duration {
        if self.core.is_somebody_at_work() { SLEEP_CAP / 10 } else { SLEEP_CAP }
    }
}
