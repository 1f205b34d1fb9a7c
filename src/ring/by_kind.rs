//! The parts of a ring that depend on its kind: the words of each algorithm, waking, and recovery.
//!
//! Used by the handles, and by calls that inspect a ring without a role. Relies on the algorithms
//! of the kinds, not on their handles.

use super::Ring;
use super::broadcast::layout as broadcast;
use super::latest::layout as latest;
use super::mpmc::layout as mpmc;
use super::mpsc::layout as mpsc;
use super::spsc::layout as spsc;
use super::stream::layout as stream;
use crate::error::{Error, Result};
use crate::memory::{Area, LINE, Words};
use crate::named;
use crate::segment::layout::{DATA_EVENT, SPACE_EVENT};
use crate::segment::{Geometry, Kind, Role};
use crate::wait::eventcount::{ALL, Many, One};

impl Ring {
    fn event_line(&self, offset: usize) -> Area {
        self.segment().shared_page().part(offset, LINE)
    }

    /// The eventcounts of a ring with one consumer and one producer: (data, space).
    pub(super) fn events_one(&self) -> (One, One) {
        let mode = self.wake_mode().into();
        (One::attach(self.event_line(DATA_EVENT), mode), One::attach(self.event_line(SPACE_EVENT), mode))
    }

    /// The eventcounts of a ring with many of both: (data, space).
    pub(super) fn events_many(&self) -> (Many, Many) {
        let mode = self.wake_mode().into();
        (Many::attach(self.event_line(DATA_EVENT), mode), Many::attach(self.event_line(SPACE_EVENT), mode))
    }

    /// Whether the eventcounts of this segment have any number of sleepers.
    pub(super) fn has_many_sleepers(&self) -> bool {
        !matches!(self.kind(), Kind::Spsc | Kind::Stream | Kind::Mpsc)
    }

    /// Wakes all sleepers of this ring, because a participant attached, left or died.
    pub(super) fn wake_all(&self) {
        if self.has_many_sleepers() {
            let (data, space) = self.events_many();
            data.notify(ALL);
            space.notify(ALL);
        } else {
            let (data, space) = self.events_one();
            data.notify();
            space.notify();
            self.wake_lanes();
        }
    }

    /// Wakes the producers of an mpsc ring.
    fn wake_lanes(&self) {
        if self.kind() == Kind::Mpsc {
            let shared = self.mpsc_shared();
            for lane in shared.lanes() {
                self.room_of(&shared, lane).notify();
            }
        }
    }

    /// Where the producer of a lane of an mpsc ring waits for room.
    pub(super) fn room_of(&self, shared: &mpsc::Shared, lane: u16) -> One {
        One::attach(shared.room(lane), self.wake_mode().into())
    }

    /// Recovers what the dead participant `id` holds in the ring, and returns whether there was
    /// anything. The caller holds the lock on `id`.
    pub(super) fn recover(&self, id: u16) -> Result<bool> {
        match self.kind() {
            Kind::Mpmc => {
                let counters = self.segment().table().counters(id);
                Ok(self.mpmc_shared().recover(&counters, id, self.redelivery(), || true))
            }
            Kind::Semaphore | Kind::Mutex | Kind::SignalSemaphore | Kind::Event => named::recover(self.segment(), id),
            Kind::Broadcast => Ok(self.broadcast_shared().forget(id)),
            Kind::Mpsc => Ok(self.mpsc_shared().recover(id)),
            // A byte ring needs no recovery: the successor finds the end of the chain, or the last
            // release. A writer of latest values holds nothing.
            _ => Ok(false),
        }
    }

    /// The parts of the segment that the algorithms of the byte rings use.
    pub(super) fn spsc_shared(&self) -> spsc::Shared {
        self.spsc_over(self.segment().data())
    }

    /// [`Ring::spsc_shared`] for an observer, which reads the data through a separate mapping. Two
    /// system calls, and one when it is dropped.
    pub(super) fn spsc_observed(&self) -> Result<spsc::Shared> {
        Ok(self.spsc_over(self.segment().map_data_to_read()?))
    }

    fn spsc_over(&self, data: Area) -> spsc::Shared {
        let (producer, consumer) = (self.segment().producer_page(), self.segment().consumer_page());
        let geometry = self.geometry();
        spsc::Shared::new(producer, consumer, data, geometry.capacity, geometry.max_payload)
    }

    pub(super) fn stream_shared(&self) -> stream::Shared {
        let (producer, consumer) = (self.segment().producer_page(), self.segment().consumer_page());
        stream::Shared::new(producer, consumer, self.segment().data(), self.geometry().capacity)
    }

    pub(super) fn latest_shared(&self) -> latest::Shared {
        let Geometry { slots, stride, .. } = *self.geometry();
        latest::Shared::new(self.segment().data(), slots, stride)
    }

    /// The words of a broadcast ring.
    pub(super) fn broadcast_shared(&self) -> broadcast::Shared {
        let (publisher, subscribers) = (self.segment().producer_page(), self.segment().subscribers());
        let &Geometry { participants, capacity, max_payload, .. } = self.geometry();
        broadcast::Shared::new(
            publisher,
            subscribers,
            Words(self.segment().data()),
            participants,
            capacity,
            max_payload,
        )
    }

    /// The words of an mpsc ring.
    pub(super) fn mpsc_shared(&self) -> mpsc::Shared {
        let (page, words) = (self.segment().producer_page(), self.segment().lanes());
        let &Geometry { slots, stride, max_payload, .. } = self.geometry();
        mpsc::Shared::new(page, words, self.segment().data(), slots, stride, max_payload)
    }

    pub(super) fn mpmc_shared(&self) -> mpmc::Shared {
        self.mpmc_over(self.segment().data())
    }

    /// [`Ring::mpmc_shared`] for an observer that reads payloads: see [`Ring::spsc_observed`].
    pub(super) fn mpmc_observed(&self) -> Result<mpmc::Shared> {
        Ok(self.mpmc_over(self.segment().map_data_to_read()?))
    }

    fn mpmc_over(&self, data: Area) -> mpmc::Shared {
        let (producers, consumers) = self.segment().claims();
        let parts = mpmc::Parts {
            producer_page: self.segment().producer_page(),
            consumer_page: self.segment().consumer_page(),
            producers,
            consumers,
            data,
        };
        let Geometry { slots, stride, max_payload, .. } = *self.geometry();
        mpmc::Shared::new(parts, slots, stride, max_payload)
    }
}

/// Whether one participant at a time can hold `role` in a ring of `kind`.
pub(super) fn is_exclusive(kind: Kind, role: Role) -> bool {
    match kind {
        Kind::Mpmc => false,
        Kind::Latest | Kind::Broadcast => role == Role::Producer,
        Kind::Mpsc => role == Role::Consumer,
        _ => true,
    }
}

/// A forged or foreign kind is refused before anything is attached.
pub(super) fn expect_mirror(ring: &Ring, kind: Kind) -> Result<()> {
    ring.expect(kind)?;
    ring.segment().check_writable()?;
    if ring.segment().is_mirrored() {
        Ok(())
    } else {
        Err(Error::Unsupported { what: "byte rings need a mirrored mapping: use a named ring or a memfd" })
    }
}
