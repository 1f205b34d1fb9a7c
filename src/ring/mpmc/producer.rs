//! The producer's handle: sending by copy and by grant.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::core::Claim;
use super::layout::{Shared, Stop};
use super::seat::Seat;
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::ALL;

/// A producer. Its clones share one participant of the ring, and several threads can use them at
/// once.
///
/// `try_…` calls are lock-free, allocate no memory, and make no system call except to wake a
/// sleeping consumer (none in [`WakeMode::Poll`](crate::WakeMode::Poll)). If the ring is full, they
/// ask the kernel from time to time which participants are dead.
///
/// With [`Options::fail_without_consumer`], every call that sends or reserves fails at once while
/// no consumer is attached, with [`Error::NoConsumer`], [`Error::Closed`] or [`Error::PeerDead`].
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
#[derive(Clone)]
pub struct Producer(Arc<Seat>);

common_calls!(producer Producer, "mpmc::Producer", 0.attachment, "this handle and its clones");

impl Producer {
    /// Opens or creates the named ring, and attaches to it as a producer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Producer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Mpmc, name, options, Self::attach)
    }

    /// Attaches to the ring as a producer. Reaps dead participants first; makes some system calls.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`]; [`Error::Incompatible`] for another kind of ring;
    /// [`Error::Corrupt`]; [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        Ok(Producer(Arc::new(Seat::join(ring, Role::Producer)?)))
    }

    /// Largest payload, in bytes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.0.core.max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame. It is no
    /// borrow: this handle stays usable. Consumers tell of released space from time to time, so a
    /// set with such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self) -> Readiness {
        self.0.attachment.readiness(Look::MpmcRoom(self.ring().mpmc_shared()))
    }

    /// Simulates `SIGKILL`, as the ring sees it. The handle must have no clones.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        Arc::get_mut(&mut self.0).unwrap().attachment.doom_for_test();
    }

    /// Sends a copy of `payload`, if a slot is free. Lock-free.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLarge`]; [`Error::Closed`] or [`Error::PeerDead`] if the ring
    /// is full and the consumers have departed.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(2, 64)?;
    /// while tx.try_send(b"job").is_ok() {}
    /// rx.try_recv()?;
    /// tx.try_send(b"job")?; // there is room again
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&self, payload: &[u8]) -> Result<()> {
        self.try_put(Header::PLAIN, payload)
    }

    /// [`Producer::try_send`] with a kind, a stream and flags. `len` and `seq` of the header are
    /// filled in.
    ///
    /// # Errors
    /// As [`Producer::try_send`], and [`Error::Invalid`] for a kind that [`Header::new`] and
    /// [`Header::control`] refuse.
    #[inline]
    pub fn try_send_frame(&self, header: Header, payload: &[u8]) -> Result<()> {
        self.try_put(header.checked()?, payload)
    }

    #[inline(always)]
    fn try_put(&self, header: Header, payload: &[u8]) -> Result<()> {
        self.check_call(payload.len())?;
        match self.0.claim_next() {
            Some(claim) => {
                self.fill(claim, header, payload);
                Ok(())
            }
            None => self.try_put_behind(header.words(), payload),
        }
    }

    /// [`Producer::try_put`] if the next slot is not free at once. (The header is passed as two
    /// words, which fit into registers.)
    #[cold]
    #[inline(never)]
    fn try_put_behind(&self, header: (u64, u64), payload: &[u8]) -> Result<()> {
        self.fill(self.try_claim_behind()?, Header::unpack(header.0, header.1), payload);
        Ok(())
    }

    /// Sends a copy of `payload`; waits while the ring is full. Blocking: progress depends on a
    /// consumer.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`].
    #[inline]
    pub fn send(&self, payload: &[u8]) -> Result<()> {
        self.put(Header::PLAIN, payload, Deadline::never())
    }

    /// [`Producer::send`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    #[inline]
    pub fn send_deadline(&self, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.put(Header::PLAIN, payload, deadline)
    }

    /// [`Producer::send`] with a kind, a stream and flags. `len` and `seq` of the header are filled
    /// in.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Invalid`] for a kind that [`Header::new`] and
    /// [`Header::control`] refuse.
    #[inline]
    pub fn send_frame(&self, header: Header, payload: &[u8]) -> Result<()> {
        self.send_frame_deadline(header, payload, Deadline::never())
    }

    /// [`Producer::send_frame`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send_frame`], and [`Error::Timeout`].
    #[inline]
    pub fn send_frame_deadline(&self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.put(header.checked()?, payload, deadline)
    }

    #[inline(always)]
    fn put(&self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.check_call(payload.len())?;
        match self.0.claim_next() {
            Some(claim) => {
                self.fill(claim, header, payload);
                Ok(())
            }
            None => self.put_behind(header.words(), payload, deadline.into()),
        }
    }

    /// [`Producer::put`] if the next slot is not free at once.
    #[cold]
    #[inline(never)]
    fn put_behind(&self, header: (u64, u64), payload: &[u8], deadline: Deadline) -> Result<()> {
        self.fill(self.claim_behind(deadline)?, Header::unpack(header.0, header.1), payload);
        Ok(())
    }

    /// Sends copies of as many `payloads` as there are free slots, and returns their number.
    /// Consumers are woken once, not for each frame. Lock-free.
    ///
    /// # Errors
    /// As [`Producer::try_send`], if the first frame could not be sent.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(2, 64)?;
    /// assert_eq!(tx.try_send_batch([b"one".as_slice(), b"two", b"three"])?, 2);
    /// assert_eq!(&*rx.try_recv()?, b"one");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_send_batch<'p>(&self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        self.put_all(payloads, |len| self.try_claim(len))
    }

    /// [`Producer::try_send_batch`]; waits until the first of the `payloads` can be sent. Blocking:
    /// a consumer makes the room.
    ///
    /// # Errors
    /// As [`Producer::send`]; nothing is sent then.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(2, 64)?;
    /// let words = [b"one".as_slice(), b"two", b"three"];
    /// let mut sent = 0;
    /// while sent < words.len() {
    ///     sent += tx.send_batch(words[sent..].iter().copied())?;
    ///     while rx.try_recv().is_ok() {}
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn send_batch<'p>(&self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        self.send_batch_deadline(payloads, Deadline::never())
    }

    /// [`Producer::send_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send_batch`], and [`Error::Timeout`].
    pub fn send_batch_deadline<'p>(
        &self,
        payloads: impl IntoIterator<Item = &'p [u8]>,
        deadline: impl Into<Deadline>,
    ) -> Result<usize> {
        let deadline = deadline.into();
        self.put_all(payloads, |len| self.claim(len, deadline))
    }

    /// Sends copies of as many `payloads` as there are free slots. The slot of the first is claimed
    /// by `claim_first`.
    fn put_all<'p>(
        &self,
        payloads: impl IntoIterator<Item = &'p [u8]>,
        claim_first: impl FnOnce(usize) -> Result<Claim>,
    ) -> Result<usize> {
        let mut payloads = payloads.into_iter();
        let Some(first) = payloads.next() else { return Ok(0) };
        let mut next = Some((claim_first(first.len())?, first));
        let (mut frames, mut bytes) = (0, 0);
        while let Some((claim, payload)) = next {
            self.0.core.write(&claim, payload);
            self.publish(claim, Header::PLAIN, payload.len());
            frames += 1;
            bytes += payload.len();
            next = payloads.next().and_then(|payload| Some((self.try_claim(payload.len()).ok()?, payload)));
        }
        self.committed(frames, bytes);
        Ok(frames)
    }

    /// Reserves a slot, to be written in place. Dropping the grant without [`WriteGrant::commit`]
    /// aborts; nothing is sent. Lock-free.
    ///
    /// The frames behind it wait for it, so commit or drop it soon.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// let mut grant = tx.try_reserve(64)?;
    /// grant[..3].copy_from_slice(b"job");
    /// grant.commit(3);
    /// assert_eq!(&*rx.try_recv()?, b"job");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&self, len: usize) -> Result<WriteGrant<'_>> {
        Ok(WriteGrant { claim: Some(self.try_claim(len)?), producer: self, len })
    }

    /// [`Producer::try_reserve`]; waits while the ring is full.
    ///
    /// # Errors
    /// As [`Producer::send`].
    #[inline]
    pub fn reserve(&self, len: usize) -> Result<WriteGrant<'_>> {
        self.reserve_deadline(len, Deadline::never())
    }

    /// [`Producer::reserve`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    #[inline]
    pub fn reserve_deadline(&self, len: usize, deadline: impl Into<Deadline>) -> Result<WriteGrant<'_>> {
        Ok(WriteGrant { claim: Some(self.claim(len, deadline)?), producer: self, len })
    }

    fill_level!(
        "Frames that wait in the ring. Those that consumers hold do not count, nor do those that are to be delivered again.",
        |tx| tx.0.core.observe(),
        tx.0.core.slots(),
        !tx.0.core.has_room(),
        "let (tx, _rx) = slipring::mpmc::pair(16, 64)?;\ntx.try_send(b\"job\")?;\nassert_eq!((tx.len(), tx.capacity()), (1, 16));"
    );

    #[inline(always)]
    fn check_call(&self, len: usize) -> Result<()> {
        self.0.attachment.check_send()?;
        if len <= self.max_payload() { Ok(()) } else { Err(Error::TooLarge { max: self.max_payload() }) }
    }

    #[inline(always)]
    pub(super) fn try_claim(&self, len: usize) -> Result<Claim> {
        self.check_call(len)?;
        match self.0.claim_next() {
            Some(claim) => Ok(claim),
            None => self.try_claim_behind(),
        }
    }

    fn try_claim_behind(&self) -> Result<Claim> {
        match self.0.claim_behind() {
            Ok(claim) => Ok(claim),
            Err(Stop::Full) => self.full(),
            Err(stop) => Err(stop.error()),
        }
    }

    #[inline(always)]
    fn claim(&self, len: usize, deadline: impl Into<Deadline>) -> Result<Claim> {
        self.check_call(len)?;
        match self.0.claim_next() {
            Some(claim) => Ok(claim),
            None => self.claim_behind(deadline.into()),
        }
    }

    fn claim_behind(&self, deadline: Deadline) -> Result<Claim> {
        match self.0.claim_behind() {
            Ok(claim) => Ok(claim),
            Err(Stop::Full) => self.wait_for_slot(deadline),
            Err(stop) => Err(stop.error()),
        }
    }

    #[cold]
    #[inline(never)]
    fn full(&self) -> Result<Claim> {
        let seat = &*self.0;
        seat.attachment.raise_high_water(seat.core.slots());
        seat.attachment.explain(|| Self::attempt(seat))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_slot(&self, deadline: Deadline) -> Result<Claim> {
        let seat = &*self.0;
        seat.attachment.raise_high_water(seat.core.slots());
        seat.attachment.wait(deadline, || Self::attempt(seat), || seat.longest_sleep())
    }

    fn attempt(seat: &Seat) -> Result<Option<Claim>> {
        match seat.claim() {
            Ok(claim) => Ok(Some(claim)),
            Err(Stop::Full) => Ok(None),
            Err(stop) => Err(stop.error()),
        }
    }

    /// Whether there seems to be a free slot.
    #[cfg(feature = "async")]
    pub(super) fn is_slot_likely(&self) -> bool {
        self.0.core.is_writable()
    }

    /// A grant of a claimed slot.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn grant(&self, claim: Claim, len: usize) -> WriteGrant<'_> {
        WriteGrant { claim: Some(claim), producer: self, len }
    }

    /// Sends a copy of `payload` in a claimed slot.
    #[inline(always)]
    pub(super) fn fill(&self, claim: Claim, header: Header, payload: &[u8]) {
        self.0.core.write(&claim, payload);
        self.commit(claim, header, payload.len());
    }

    #[inline(always)]
    fn publish(&self, claim: Claim, header: Header, len: usize) {
        let seq = Shared::sequence(&claim);
        self.0.core.commit(claim, header.sent(len, seq));
    }

    #[inline(always)]
    fn commit(&self, claim: Claim, header: Header, len: usize) {
        self.publish(claim, header, len);
        self.committed(1, len);
    }

    /// Wakes sleeping consumers, and counts the frames.
    #[inline(always)]
    fn committed(&self, frames: usize, bytes: usize) {
        let attachment = &self.0.attachment;
        attachment.wake_peers(frames as u32);
        attachment.count_traffic(Counter::Sent, frames as u64, bytes as u64);
    }
}

/// A claimed slot, to be filled and committed. Dropping it without [`WriteGrant::commit`] aborts
/// the claim. A forgotten grant (`mem::forget`) is aborted when the last clone of its handle is
/// dropped.
#[must_use = "a grant that is not committed sends nothing"]
pub struct WriteGrant<'a> {
    producer: &'a Producer,
    /// `None` once committed.
    claim: Option<Claim>,
    len: usize,
}

impl WriteGrant<'_> {
    /// Sends the first `len` bytes as a frame.
    ///
    /// # Panics
    /// If `len` exceeds the grant.
    #[inline]
    pub fn commit(self, len: usize) {
        self.finish(Header::PLAIN, len);
    }

    /// [`WriteGrant::commit`] with a kind, a stream and flags. `len` and `seq` of the header are
    /// filled in.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a kind that [`Header::new`] and [`Header::control`] refuse; nothing
    /// is sent.
    ///
    /// # Panics
    /// If `len` exceeds the grant.
    #[inline]
    pub fn commit_frame(self, header: Header, len: usize) -> Result<()> {
        self.finish(header.checked()?, len);
        Ok(())
    }

    #[inline(always)]
    fn finish(mut self, header: Header, len: usize) {
        assert!(len <= self.len, "commit of more than was reserved");
        // A copy of the grant in a forked child sends nothing, because the slot belongs to the
        // parent.
        if let Some(claim) = self.claim.take().filter(|_| !self.producer.0.attachment.is_forked()) {
            self.producer.commit(claim, header, len);
        }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let core = &self.producer.0.core;
        let offset = self.claim.as_ref().map_or(0, |claim| core.claimed_payload(claim));
        // SAFETY: the payload of a slot inside the area (or its beginning, for a grant that is
        // being dropped).
        unsafe { core.data().base().add(offset) }
    }
}

impl Deref for WriteGrant<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` is at most the slot's payload; the memory is initialised (zeros or old
        // frames); this lap of the slot is claimed with our id, and the claim, which is not
        // `Clone`, is in this grant: no other code touches it.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for WriteGrant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for WriteGrant<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take().filter(|_| !self.producer.0.attachment.is_forked()) {
            let seat = &self.producer.0;
            seat.core.abort(claim);
            // Consumers may wait for the frames behind it, producers for the slot.
            seat.attachment.wake_peers(ALL);
            seat.attachment.wake_fellows(ALL);
        }
    }
}
