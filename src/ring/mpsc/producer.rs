//! The producer's handle: the producer of a byte ring, on a lane that it has taken.
//!
//! Relies on `lanes.rs` for the lane, on `spsc/producer.rs` for everything else.

#[cfg(feature = "async")]
use std::sync::{Arc, atomic::AtomicUsize};

use super::lanes::{Lease, NoLane};
use crate::error::{Error, Result};
use crate::frame::Header;
#[cfg(feature = "transports")]
use crate::ring::Watch;
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::spsc::layout::Fault;
use crate::ring::spsc::{self, WriteBatch, WriteGrant};
use crate::ring::{Options, Ring};
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::One;

/// A producer: one of many, each on a lane of its own, so that a full lane blocks only its producer.
///
/// Every call costs what it costs in an [`spsc`](crate::spsc) ring, and makes the same guarantees:
/// `try_…` calls are wait-free, allocate no memory, and make no system call except to wake a
/// sleeping consumer.
///
/// A producer has its lane until it closes or dies. The consumer then receives what it has
/// committed, is told of the end, and another producer can take the lane.
pub struct Producer {
    lease: Lease,
    inner: spsc::Producer,
}

common_calls!(producer Producer, "mpsc::Producer", inner.attachment, "this handle");

impl Producer {
    /// Opens or creates the named ring, and attaches to it as one of its producers.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Producer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Mpsc, name, options, Self::attach)
    }

    /// Attaches to the ring, and takes a free lane. Some system calls; looks at every lane.
    ///
    /// # Errors
    /// [`Error::NoFreeLane`] if every lane has a producer, or an earlier one whose end the consumer
    /// has not been told yet; [`Error::TooManyParticipants`]; [`Error::Incompatible`] for another
    /// kind of ring; [`Error::Corrupt`] if the free lanes are damaged; [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Error, Options, Ring, mpsc::Producer};
    /// let ring = Ring::create_anonymous(&Options::mpsc(4096, 2))?;
    /// let (one, two) = (Producer::attach(&ring)?, Producer::attach(&ring)?);
    /// assert_eq!((one.lane(), two.lane()), (0, 1));
    /// assert!(matches!(Producer::attach(&ring), Err(Error::NoFreeLane { lanes: 2 })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Mpsc)?;
        let shared = ring.mpsc_shared();
        let mut taken = None;
        let attachment = Attachment::join_at(ring, Kind::Mpsc, Role::Producer, |id| {
            let (lease, _) = taken.insert(shared.take(id).map_err(|none| match none {
                NoLane::AllTaken => Error::NoFreeLane { lanes: shared.count().into() },
                NoLane::Damaged(fault) => Fault::error(fault),
            })?);
            Ok::<(One, One), Error>((ring.room_of(&shared, lease.lane), ring.events_one().0))
        })?;
        let (lease, core) = taken.expect("joining takes a lane");
        attachment.announce();
        Ok(Producer { lease, inner: spsc::Producer::over(core, attachment) })
    }

    /// The number of its lane, from 0.
    #[must_use]
    pub fn lane(&self) -> u16 {
        self.lease.lane
    }

    /// Its id as a participant: see [`ParticipantInfo::id`](crate::ParticipantInfo::id).
    #[must_use]
    pub fn id(&self) -> u16 {
        self.inner.attachment.id()
    }

    /// Largest payload, in bytes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.inner.max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame of `len`
    /// bytes in this lane: as [`spsc::Producer::writable`].
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.inner.writable(len)
    }

    /// [`Producer::writable`], for a length that changes.
    #[cfg(feature = "async")]
    pub(super) fn writable_for(&self, len: Arc<AtomicUsize>) -> Readiness {
        self.inner.writable_for(len)
    }

    /// Whether calls that do not begin with `try_` wait for room.
    #[cfg(feature = "async")]
    pub(super) fn waits_for_room(&self) -> bool {
        self.inner.waits_for_room()
    }

    /// Whether there is room by the published head.
    #[cfg(feature = "async")]
    pub(super) fn is_room_likely(&mut self, len: usize) -> bool {
        self.inner.is_room_likely(len)
    }

    /// Whether there is room for a payload of `len` bytes at the tail.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn try_room(&mut self, len: usize) -> Result<()> {
        self.inner.try_room(len)
    }

    /// Sends a frame for which there is room.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn put_ahead(&mut self, header: Header, payload: &[u8]) {
        self.inner.put_ahead(header, payload);
    }

    /// A grant of room that there is.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn grant(&mut self, len: usize) -> WriteGrant<'_> {
        self.inner.grant(len)
    }

    /// What the bell of this producer waits for.
    #[cfg(feature = "transports")]
    pub(crate) fn watch_room(&self) -> Watch {
        self.inner.watch_room()
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(crate) fn kill_for_test(mut self) {
        self.inner.attachment.doom_for_test();
    }

    /// Sends a copy of `payload`, if there is room in this lane. Wait-free.
    ///
    /// # Errors
    /// As [`spsc::Producer::try_send`].
    ///
    /// ```
    /// use slipring::{Error, mpsc::Producer};
    /// let (mut full, _rx) = slipring::mpsc::pair(4096, 2)?;
    /// let mut other = Producer::attach(full.ring())?;
    /// while full.try_send(&[7; 100]).is_ok() {}
    /// assert!(matches!(full.try_send(&[7; 100]), Err(Error::Full)));
    /// other.try_send(b"a full lane blocks only its producer")?;
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<()> {
        self.inner.try_send(payload)
    }

    /// [`Producer::try_send`] with a kind, a stream and flags. `len` and `seq` of the header are
    /// filled in.
    ///
    /// # Errors
    /// As [`spsc::Producer::try_send_frame`].
    #[inline]
    pub fn try_send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.inner.try_send_frame(header, payload)
    }

    /// Sends a copy of `payload`; waits while this lane is full. Blocking: progress depends on the
    /// consumer.
    ///
    /// # Errors
    /// As [`spsc::Producer::send`].
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.inner.send(payload)
    }

    /// [`Producer::send`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    #[inline]
    pub fn send_deadline(&mut self, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.inner.send_deadline(payload, deadline)
    }

    /// [`Producer::send`] with a kind, a stream and flags. `len` and `seq` of the header are filled
    /// in.
    ///
    /// # Errors
    /// As [`spsc::Producer::send_frame`].
    #[inline]
    pub fn send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.inner.send_frame(header, payload)
    }

    /// [`Producer::send_frame`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send_frame`], and [`Error::Timeout`].
    #[inline]
    pub fn send_frame_deadline(&mut self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.inner.send_frame_deadline(header, payload, deadline)
    }

    /// Numbers the next frame of `stream`: as [`spsc::Producer::number_from`].
    ///
    /// ```
    /// use slipring::mpsc::Received;
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// tx.number_from(0, 8);
    /// tx.try_send(b"ninth")?;
    /// assert!(matches!(rx.try_recv()?, Received::Frame(view) if view.header().seq == 8));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn number_from(&mut self, stream: u16, seq: u32) {
        self.inner.number_from(stream, seq);
    }

    /// Reserves room for a payload of up to `len` bytes, to be written in place: as
    /// [`spsc::Producer::try_reserve`]. Wait-free.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    ///
    /// ```
    /// use slipring::mpsc::Received;
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// let mut grant = tx.try_reserve(100)?;
    /// grant[..5].copy_from_slice(b"order");
    /// grant.commit(5);
    /// assert!(matches!(rx.try_recv()?, Received::Frame(view) if &*view == b"order"));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.inner.try_reserve(len)
    }

    /// [`Producer::try_reserve`]; waits while this lane is full.
    ///
    /// # Errors
    /// As [`Producer::send`].
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.inner.reserve(len)
    }

    /// [`Producer::reserve`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    #[inline]
    pub fn reserve_deadline(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<WriteGrant<'_>> {
        self.inner.reserve_deadline(len, deadline)
    }

    /// Starts a batch: frames that become visible at once, with one release store and one check for
    /// a sleeper.
    ///
    /// ```
    /// use slipring::mpsc::Received;
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// let mut batch = tx.batch();
    /// batch.push(b"one")?;
    /// batch.push(b"two")?;
    /// batch.commit();
    /// assert!(matches!(rx.try_recv()?, Received::Frame(view) if &*view == b"one"));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn batch(&mut self) -> WriteBatch<'_> {
        self.inner.batch()
    }

    /// Sends copies of as many `payloads` as there is room for in this lane, and says how many: as
    /// [`spsc::Producer::try_send_batch`]. Wait-free.
    ///
    /// # Errors
    /// As [`Producer::try_send`], if not even the first can be sent.
    pub fn try_send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        self.inner.try_send_batch(payloads)
    }

    /// [`Producer::try_send_batch`]; waits until the first of the `payloads` can be sent. Blocking:
    /// the consumer makes the room.
    ///
    /// # Errors
    /// As [`Producer::send`]; nothing is sent then.
    pub fn send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        self.inner.send_batch(payloads)
    }

    /// [`Producer::send_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send_batch`], and [`Error::Timeout`].
    pub fn send_batch_deadline<'p>(
        &mut self,
        payloads: impl IntoIterator<Item = &'p [u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<usize> {
        self.inner.send_batch_deadline(payloads, deadline)
    }

    /// As [`spsc::Producer::send_encoded`].
    #[cfg(feature = "transports")]
    pub(crate) fn send_encoded(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        self.inner.send_encoded(frames, deadline)
    }

    fill_level!(
        "Bytes in this lane, headers included: sent and not yet released.",
        |tx| tx.inner.core.shared().observe(),
        tx.inner.core.shared().capacity,
        tx.capacity() - tx.len() < 24,
        "let (mut tx, _rx) = slipring::mpsc::pair(4096, 4)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((tx.len(), tx.capacity()), (24, 4096));"
    );
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Producer { lease, inner } = self;
        if inner.attachment.is_attached() {
            inner.ring().mpsc_shared().give_back(*lease, inner.core.tail());
            inner.attachment.wake_peers(1);
        }
    }
}
