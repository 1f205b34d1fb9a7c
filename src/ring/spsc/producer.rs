//! The producer's handle: sending by copy, by grant and in batches.
//!
//! Relies on `core.rs` for the algorithm, on `attachment.rs` for waiting and for the peer's
//! liveness.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::core;
use super::layout::Fault;
use crate::error::{Error, Result};
use crate::frame::{Header, Sequencer, StagedNumbers};
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};
use crate::wait::idle::pause_for_ns;

/// How long a `try_…` call polls a ring that looks full before it reads the exact head: long enough
/// that a caller that retries in a tight loop does not slow down the consumer.
const FULL_PAUSE_NS: u32 = 100;

/// The producer. A ring has one at a time: a successor can attach when it is dropped, or when its
/// process has died.
///
/// Every `try_…` call is wait-free, allocates no memory, and makes no system call except to wake a
/// sleeping consumer (none in [`WakeMode::Poll`](crate::WakeMode::Poll)). If the ring is full, it
/// asks the kernel from time to time whether the consumer is dead.
///
/// With [`Options::fail_without_consumer`], every call that sends or reserves fails at once while
/// no consumer is attached, with [`Error::NoConsumer`], [`Error::Closed`] or [`Error::PeerDead`].
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Producer {
    pub(in crate::ring) core: core::Producer,
    sequencer: Sequencer,
    staged_numbers: StagedNumbers,
    pub(in crate::ring) attachment: Attachment<One>,
    /// A producer is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(producer Producer, "spsc::Producer", attachment, "this handle");

impl Producer {
    /// Opens or creates the named ring, and attaches to it as its producer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Producer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Spsc, name, options, Self::attach)
    }

    /// Attaches to the ring as its producer, and continues behind the last committed frame, however
    /// its producer ended. Walks the frames in the ring; some system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while a living producer is attached; [`Error::Incompatible`] for
    /// another kind of ring; [`Error::Corrupt`] if the chain of frames is damaged; [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Error, Options, Ring, spsc};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// let first = spsc::Producer::attach(&ring)?;
    /// assert!(matches!(spsc::Producer::attach(&ring), Err(Error::RoleTaken { .. })));
    /// drop(first);
    /// spsc::Producer::attach(&ring)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Spsc)?;
        let attachment = Attachment::join(ring, Kind::Spsc, Role::Producer)?;
        let core = core::Producer::attach(ring.spsc_shared()).map_err(Fault::error)?;
        attachment.announce();
        Ok(Self::over(core, attachment))
    }

    /// A producer of a byte ring that is mapped twice, of which `attachment` holds the role: of a
    /// whole ring, or of a lane of an mpsc ring.
    pub(in crate::ring) fn over(core: core::Producer, attachment: Attachment<One>) -> Self {
        Producer {
            core,
            sequencer: Sequencer::new(),
            staged_numbers: StagedNumbers::default(),
            attachment,
            _not_sync: PhantomData,
        }
    }

    /// Largest payload, in bytes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.shared().max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame of `len`
    /// bytes. It is no borrow: this handle stays usable. Consumers tell of released space from time
    /// to time, so a set with such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.writable_for(Arc::new(AtomicUsize::new(len)))
    }

    /// [`Producer::writable`], for a length that changes.
    pub(super) fn writable_for(&self, len: Arc<AtomicUsize>) -> Readiness {
        let event = self.attachment.event().clone();
        self.attachment.readiness(Look::SpscRoom(self.core.shared().clone(), event, len))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(in crate::ring) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Sends a copy of `payload`, if there is room. Wait-free.
    ///
    /// # Errors
    /// [`Error::Full`] until the consumer releases frames; [`Error::TooLarge`]; [`Error::Closed`]
    /// or [`Error::PeerDead`] if the ring is full and the consumer has departed.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// while tx.try_send(&[7; 100]).is_ok() {}
    /// rx.try_recv()?;
    /// tx.try_send(&[7; 100])?; // there is room again
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_send(&mut self, payload: &[u8]) -> Result<()> {
        self.try_put(Header::PLAIN, payload)
    }

    /// [`Producer::try_send`] with a kind, a stream and flags. `len` and `seq` of the header are
    /// filled in.
    ///
    /// # Errors
    /// As [`Producer::try_send`], and [`Error::Invalid`] for a kind that [`Header::new`] and
    /// [`Header::control`] refuse.
    ///
    /// ```
    /// use slipring::frame::Header;
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send_frame(Header { stream: 2, ..Header::new(0x0107, 0)? }, b"order")?;
    /// let frame = rx.try_recv()?;
    /// assert_eq!((frame.header().kind, frame.header().stream, frame.header().seq), (0x0107, 2, 0));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.try_put(header.checked()?, payload)
    }

    #[inline(always)]
    fn try_put(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        let tail = self.core.tail();
        self.try_room_at(tail, payload.len())?;
        self.write_and_commit(tail, header, payload);
        Ok(())
    }

    /// Sends a copy of `payload`; waits while the ring is full. Blocking: progress depends on the
    /// consumer.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`].
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.put(Header::PLAIN, payload, Deadline::never())
    }

    /// [`Producer::send`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let (mut tx, _rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(&[0; 4000])?;
    /// let late = tx.send_deadline(&[0; 4000], Duration::from_millis(5));
    /// assert!(matches!(late, Err(slipring::Error::Timeout)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn send_deadline(&mut self, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.put(Header::PLAIN, payload, deadline)
    }

    /// [`Producer::send`] with a kind, a stream and flags. `len` and `seq` of the header are filled
    /// in.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Invalid`] for a kind that [`Header::new`] and
    /// [`Header::control`] refuse.
    #[inline]
    pub fn send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.send_frame_deadline(header, payload, Deadline::never())
    }

    /// [`Producer::send_frame`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send_frame`], and [`Error::Timeout`].
    #[inline]
    pub fn send_frame_deadline(&mut self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.put(header.checked()?, payload, deadline)
    }

    #[inline(always)]
    fn put(&mut self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        let tail = self.core.tail();
        self.room(tail, payload.len(), deadline)?;
        self.write_and_commit(tail, header, payload);
        Ok(())
    }

    /// Reserves room for a payload of up to `len` bytes, to be written in place. Wait-free.
    ///
    /// Invisible to the consumer until [`WriteGrant::commit`]. Dropping it without committing
    /// aborts; nothing is sent.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let mut grant = tx.try_reserve(100)?;
    /// grant[..5].copy_from_slice(b"hello");
    /// grant.commit(5);
    /// drop(tx.try_reserve(100)?); // aborted
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// assert!(rx.try_recv().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.try_room_at(self.core.tail(), len)?;
        Ok(WriteGrant { lent: self.core.lend_ahead(), producer: self, len })
    }

    /// [`Producer::try_reserve`]; waits while the ring is full.
    ///
    /// # Errors
    /// As [`Producer::send`].
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.reserve_deadline(len, Deadline::never())
    }

    /// [`Producer::reserve`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::send`], and [`Error::Timeout`].
    #[inline]
    pub fn reserve_deadline(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<WriteGrant<'_>> {
        self.room(self.core.tail(), len, deadline)?;
        Ok(WriteGrant { lent: self.core.lend_ahead(), producer: self, len })
    }

    /// Starts a batch: frames that become visible at once, with one release store and one check for
    /// a sleeper.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let mut batch = tx.batch();
    /// batch.push(b"one")?;
    /// batch.push(b"two")?;
    /// batch.commit();
    /// assert_eq!(&*rx.try_recv()?, b"one");
    /// assert_eq!(&*rx.try_recv()?, b"two");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn batch(&mut self) -> WriteBatch<'_> {
        self.staged_numbers.clear();
        WriteBatch { staged: self.core.begin(), producer: self, frames: 0, bytes: 0 }
    }

    /// Sends copies of as many `payloads` as there is room for, and says how many. They become
    /// visible at once, as those of a [`WriteBatch`] do. Wait-free.
    ///
    /// # Errors
    /// As [`Producer::try_send`], if not even the first can be sent.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// assert_eq!(tx.try_send_batch([[1; 2000].as_slice(), &[2; 2000], &[3; 2000]])?, 2);
    /// assert_eq!(&*rx.try_recv()?, [1; 2000]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        let mut batch = self.batch();
        for payload in payloads {
            match batch.push(payload) {
                Ok(()) => {}
                Err(error) if batch.is_empty() => return Err(error),
                Err(_) => break, // the next call says what it is
            }
        }
        let sent = batch.len();
        if sent > 0 {
            batch.commit();
        }
        Ok(sent)
    }

    /// [`Producer::try_send_batch`]; waits until the first of the `payloads` can be sent. Blocking:
    /// the consumer makes the room.
    ///
    /// # Errors
    /// As [`Producer::send`]; nothing is sent then.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let words = [b"one".as_slice(), b"two", b"three"];
    /// let mut sent = 0;
    /// while sent < words.len() {
    ///     sent += tx.send_batch(words[sent..].iter().copied())?;
    ///     while rx.try_recv().is_ok() {}
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn send_batch<'p>(&mut self, payloads: impl IntoIterator<Item = &'p [u8]>) -> Result<usize> {
        self.send_batch_deadline(payloads, Deadline::never())
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
        let mut payloads = payloads.into_iter();
        let Some(first) = payloads.next() else { return Ok(0) };
        self.room(self.core.tail(), first.len(), deadline)?;
        self.try_send_batch(std::iter::once(first).chain(payloads))
    }

    fill_level!(
        "Bytes in the ring, headers included: sent and not yet released.",
        |tx| tx.core.shared().observe(),
        tx.core.shared().capacity,
        tx.capacity() - tx.len() < 24,
        "let (mut tx, _rx) = slipring::spsc::pair(4096)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((tx.len(), tx.capacity()), (24, 4096));"
    );

    #[inline(always)]
    fn check_call(&self, len: usize) -> Result<()> {
        self.attachment.check_send()?;
        if len <= self.max_payload() { Ok(()) } else { Err(Error::TooLarge { max: self.max_payload() }) }
    }

    /// Waits for room at the producer's tail.
    #[inline(always)]
    fn room(&mut self, tail: u64, len: usize, deadline: impl Into<Deadline>) -> Result<()> {
        self.check_call(len)?;
        if self.core.has_room(tail, len) { Ok(()) } else { self.wait_for_room(len, deadline.into()) }
    }

    #[inline(always)]
    fn try_room_at(&mut self, tail: u64, len: usize) -> Result<()> {
        self.check_call(len)?;
        if self.core.has_room(tail, len) { Ok(()) } else { self.full(tail, len) }
    }

    /// Whether there is room for a payload of `len` bytes at the producer's tail.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn try_room(&mut self, len: usize) -> Result<()> {
        self.try_room_at(self.core.tail(), len)
    }

    /// Whether there is room by the published head.
    #[cfg(feature = "async")]
    pub(super) fn is_room_likely(&mut self, len: usize) -> bool {
        self.core.has_room(self.core.tail(), len)
    }

    /// Sends a frame for which there is room.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn put_ahead(&mut self, header: Header, payload: &[u8]) {
        self.write_and_commit(self.core.tail(), header, payload);
    }

    /// A grant of room that there is.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn grant(&mut self, len: usize) -> WriteGrant<'_> {
        WriteGrant { lent: self.core.lend_ahead(), producer: self, len }
    }

    /// The ring is full by the published head: checks the exact head, and whether the consumer has
    /// ended.
    #[cold]
    #[inline(never)]
    fn full(&mut self, tail: u64, len: usize) -> Result<()> {
        pause_for_ns(FULL_PAUSE_NS);
        if self.core.has_room(tail, len) || self.core.has_room_exactly(tail, len) {
            return Ok(());
        }
        self.attachment.raise_high_water(self.core.high_water());
        let core = &mut self.core;
        self.attachment.explain(|| Ok(core.has_room_exactly(tail, len).then_some(())))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        let Producer { core, attachment, .. } = self;
        // Polls the published head while awake, and reads the exact head before every sleep.
        let exactly = Cell::new(false);
        let outcome = attachment.wait(
            deadline,
            || {
                let room =
                    core.has_room(core.tail(), len) || (exactly.take() && core.has_room_exactly(core.tail(), len));
                Ok(room.then_some(()))
            },
            || {
                exactly.set(true);
                SLEEP_CAP
            },
        );
        attachment.raise_high_water(core.high_water());
        match outcome {
            // A call that did not sleep has read the published head only, which lags.
            Err(Error::Timeout) if core.has_room_exactly(core.tail(), len) => Ok(()),
            outcome => outcome,
        }
    }

    /// Sends a frame for which there is room at the producer's tail.
    #[inline(always)]
    fn write_and_commit(&mut self, tail: u64, header: Header, payload: &[u8]) {
        // SAFETY: the data is mapped twice (`expect_mirror`).
        unsafe { self.core.write_whole(tail, payload) };
        self.core.commit_at(tail, header.sent(payload.len(), self.sequencer.allocate(header)));
        self.published(1, payload.len() as u64);
    }

    /// Counts the frames that have just become visible, and wakes the consumer if it sleeps.
    #[inline(always)]
    fn published(&mut self, frames: u64, bytes: u64) {
        self.attachment.wake_peers(1);
        self.attachment.count_traffic(Counter::Sent, frames, bytes);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.attachment.is_attached() {
            self.attachment.raise_high_water(self.core.last_high_water());
        }
    }
}

/// Room in the ring, to be filled and committed. Dropping or forgetting it without
/// [`WriteGrant::commit`] aborts: nothing is sent.
#[must_use = "a grant that is not committed sends nothing"]
pub struct WriteGrant<'a> {
    producer: &'a mut Producer,
    lent: core::Lent,
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
    fn finish(self, header: Header, len: usize) {
        assert!(len <= self.len, "commit of more than was reserved");
        // A copy of the grant in a forked child sends nothing, because the handle belongs to the
        // parent.
        if !self.producer.attachment.is_forked() {
            let Producer { core, sequencer, .. } = &mut *self.producer;
            core.commit_grant(self.lent, self.len, header.sent(len, sequencer.allocate(header)));
            self.producer.published(1, len as u64);
        }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let core = &self.producer.core;
        // SAFETY: the offset is masked below the capacity, and the area is twice that long
        // (`expect_mirror`).
        unsafe { core.shared().data().base().add(core.payload_offset()) }
    }
}

impl Deref for WriteGrant<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from an offset below the capacity, at most a capacity of them, inside
        // an area of two capacities. They are initialised (zeros or old frames), free by
        // `has_room`, and the only producer is borrowed mutably by this grant, so no other code
        // writes them.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for WriteGrant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and the consumer does not read behind the zero header, so it does
        // not read them either.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

/// Frames that become visible together. Dropping or forgetting it without [`WriteBatch::commit`]
/// aborts: none of them is sent.
#[must_use = "a batch that is not committed sends nothing"]
pub struct WriteBatch<'a> {
    producer: &'a mut Producer,
    staged: core::Staged,
    frames: u64,
    bytes: u64,
}

impl WriteBatch<'_> {
    /// Adds a copy of `payload`. Wait-free.
    ///
    /// # Errors
    /// As [`Producer::try_send`]. After [`Error::Full`] the batch is unchanged: commit it, and
    /// start another.
    #[inline]
    pub fn push(&mut self, payload: &[u8]) -> Result<()> {
        self.put(Header::PLAIN, payload)
    }

    /// [`WriteBatch::push`] with a kind, a stream and flags. `len` and `seq` of the header are
    /// filled in.
    ///
    /// # Errors
    /// As [`WriteBatch::push`], and [`Error::Invalid`] for a kind that [`Header::new`] and
    /// [`Header::control`] refuse.
    #[inline]
    pub fn push_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.put(header.checked()?, payload)
    }

    #[inline(always)]
    fn put(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        let (tail, len) = (self.staged.tail(), payload.len());
        self.producer.try_room_at(tail, len)?;
        let Producer { core, sequencer, staged_numbers, .. } = &mut *self.producer;
        core.write(tail, payload);
        core.stage(&mut self.staged, header.sent(len, staged_numbers.stage(sequencer, header)));
        self.frames += 1;
        self.bytes += len as u64;
        Ok(())
    }

    /// Frames in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames as usize
    }

    /// Whether the batch has no frames.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Makes the whole batch visible.
    #[inline]
    pub fn commit(self) {
        // A copy of the batch in a forked child sends nothing, because the handle belongs to the
        // parent.
        if self.producer.attachment.is_forked() {
            return;
        }
        let Producer { core, sequencer, staged_numbers, .. } = &mut *self.producer;
        core.publish(self.staged);
        staged_numbers.commit(sequencer);
        self.producer.published(self.frames, self.bytes);
    }
}
