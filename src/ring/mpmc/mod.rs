//! Many producers, many consumers, frames of up to a slot: a work queue that loses no work when a worker dies.
//!
//! The algorithm is in `core.rs`; here are the handles. Claiming a slot writes its owner into it, so what a dead process left
//! half done is found and taken back, by anybody, at once and exactly: a frame that a producer died with never was, a frame
//! that a consumer died with is delivered again, marked (or dropped and counted, as the ring was created).
//!
//! Frames of one producer arrive in the order in which it claimed them. A producer that is *stopped* between claim and commit
//! delays the frames behind its own; a dead one does not. `seq` is the frame's position in the ring, for all producers
//! together: a number that never comes belongs to a claim that was given up.
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

mod consumer;
pub(crate) mod core;
mod producer;
#[cfg(test)]
mod tests;

pub(crate) use consumer::Holder;
pub use consumer::{BATCH, Batch, Consumer, View};
pub use producer::{Grant, Producer};

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use self::core::{Recovered, Shared};
use super::attachment::Attachment;
use super::{Options, Ring};
use crate::error::Result;
use crate::os::home::Home;
use crate::segment::counters::{Counter, Counters};
use crate::segment::lifecycle::Ends;
use crate::segment::{Kind, Redelivery, Role};
use crate::wait::eventcount::{Many, SLEEP_CAP};
use crate::wait::idle::Pace;

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

/// Takes back what the dead participant `id` holds, and counts it in the dead one's own record: whoever buries it holds the
/// lock on that, and need not be a participant.
pub(super) fn recover(core: &Shared, counters: &Counters, id: u16, policy: Redelivery) -> Result<()> {
    let Recovered { voided, redeliver, lost } = core.sweep(id, policy)?;
    counters.add(Counter::Recovered, voided + redeliver + lost);
    counters.add(Counter::Lost, lost);
    Ok(())
}

/// One seat in the ring, shared by the clones of a handle.
struct Seat {
    core: Shared,
    id: u16,
    data: Many,
    space: Many,
    pace: Pace,
    /// The count of redeliveries at which a search found none left.
    searched: AtomicU64,
    /// The thread that counts without read-modify-writes.
    home: Home,
    attachment: Attachment,
}

impl Seat {
    fn take(ring: &Ring, role: Role) -> Result<Self> {
        ring.expect(Kind::Mpmc)?;
        let core = ring.mpmc_shared();
        let mut outcome = Ok(());
        let attachment = Attachment::join(ring, role, false, |id| {
            if let Err(e) = ring.recover(id) {
                outcome = Err(e);
            }
        })?;
        outcome?;
        let (data, space) = ring.events_many();
        let (id, pace) = (attachment.id(), Pace::new(ring.idle()));
        let seat = Seat { core, id, data, space, pace, searched: AtomicU64::new(0), home: Home::new(), attachment };
        ring.wake_all(); // somebody may wait for a peer, or for what was just taken back
        Ok(seat)
    }

    /// Takes back what the dead `id` holds. A corrupt slot is left for whoever comes to it to report.
    fn recover(&self, id: u16) {
        let _ = self.attachment.ring().recover(id);
    }

    fn glance(&self) -> Result<Option<Ends>> {
        self.attachment.glance(|id| self.recover(id))
    }

    fn look_around(&self) -> Result<Option<Ends>> {
        self.attachment.look_around(|id| self.recover(id))
    }

    /// How soon to look around again: soon if somebody is at work in the slot that everybody waits for, for if it dies there,
    /// nobody is woken.
    fn nap(&self) -> Duration {
        if self.core.is_somebody_at_work() { SLEEP_CAP / 10 } else { SLEEP_CAP }
    }

    /// Adds to a counter. A seat may be shared by threads.
    #[inline(always)]
    fn count(&self, counter: Counter, n: u64) {
        let counters = self.attachment.counters();
        if self.home.is_here() { counters.add(counter, n) } else { counters.add_in_other_thread(counter, n) }
    }

    fn count_sleeps(&self) {
        self.count(Counter::Sleeps, self.pace.take_sleeps());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.attachment.is_attached() {
            // Grants and views that were forgotten (`mem::forget`) are still ours, and would block the ring for ever.
            self.recover(self.id);
            self.attachment.leave();
        }
    }
}
