//! The consumer's handle: receiving in place, by copy and in batches.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Taken;
use super::layout::Stop;
use super::seat::Seat;
use crate::error::{Error, Result};
use crate::frame::{Flags, Frame, Header};
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::receive::{check_max, until_end};
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::ALL;

/// The most frames that one [`ReadBatch`] holds.
pub const BATCH: usize = 32;

/// A consumer. Its clones share one participant of the ring, and several threads can use them at
/// once.
///
/// `try_…` calls are lock-free, allocate no memory, and make no system call except to wake a
/// sleeping producer (none in [`WakeMode::Poll`](crate::WakeMode::Poll)). If the ring is empty,
/// they ask the kernel from time to time which participants are dead.
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
#[derive(Clone)]
pub struct Consumer(Arc<Seat>);

common_calls!(consumer Consumer, "mpmc::Consumer", 0.attachment, "this handle and its clones");

impl Consumer {
    /// Opens or creates the named ring, and attaches to it as a consumer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Consumer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Mpmc, name, options, Self::attach)
    }

    /// Attaches to the ring as a consumer. Reaps dead participants first; makes some system calls.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`]; [`Error::Incompatible`] for another kind of ring;
    /// [`Error::Corrupt`]; [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        Ok(Consumer(Arc::new(Seat::join(ring, Role::Consumer)?)))
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// let mut buffer = vec![0; rx.max_payload()];
    /// tx.try_send(b"hello")?;
    /// assert_eq!(rx.try_recv_into(&mut buffer)?.len, 5);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.0.core.max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to receive. It is
    /// no borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.0.attachment.readiness(Look::mpmc(self.ring()))
    }

    /// Simulates `SIGKILL`, as the ring sees it. The handle must have no clones.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        Arc::get_mut(&mut self.0).unwrap().attachment.doom_for_test();
    }

    /// Receives the next frame in place, if there is one. Dropping the view releases it. Lock-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if no frame is committed, or the next frame is still being written.
    /// [`Error::Closed`] or [`Error::PeerDead`] when the last producer has departed and all frames
    /// were delivered, until another producer attaches. [`Error::Corrupt`].
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.send(b"job")?;
    /// drop(tx);
    /// assert_eq!(&*rx.try_recv()?, b"job");
    /// assert!(matches!(rx.try_recv(), Err(slipring::Error::Closed)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<ReadView<'_>> {
        Ok(ReadView { taken: Some(self.try_take()?), consumer: self })
    }

    /// Receives the next frame in place; waits while the ring is empty. Blocking: progress depends
    /// on a producer.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`], [`Error::Forked`].
    #[inline]
    pub fn recv(&self) -> Result<ReadView<'_>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Consumer::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_deadline(&self, deadline: impl Into<Deadline>) -> Result<ReadView<'_>> {
        Ok(ReadView { taken: Some(self.take(deadline)?), consumer: self })
    }

    /// Copies the next frame into `buffer` and releases it, if there is one. Lock-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]. [`Error::TooLarge`] if `buffer` is shorter than the largest
    /// payload of the ring. No frame is taken then: one that is put
    /// back is marked, and may overtake others.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 40)?;
    /// tx.send(b"job")?;
    /// let mut buffer = [0; 40];
    /// let header = rx.try_recv_into(&mut buffer)?;
    /// assert_eq!(&buffer[..header.len as usize], b"job");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_into(&self, buffer: &mut [u8]) -> Result<Header> {
        self.check_buffer(buffer)?;
        let taken = self.try_take()?;
        Ok(self.copy_out(taken, buffer))
    }

    /// [`Consumer::try_recv_into`]; waits while the ring is empty.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::TooLarge`].
    #[inline]
    pub fn recv_into(&self, buffer: &mut [u8]) -> Result<Header> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`Consumer::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv_into`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_into_deadline(&self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Header> {
        self.check_buffer(buffer)?;
        let taken = self.take(deadline)?;
        Ok(self.copy_out(taken, buffer))
    }

    /// Receives the committed frames in place, at most `max` and at most [`BATCH`], if there are
    /// any. Dropping the batch releases all of them. Lock-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; [`Error::Invalid`] if `max` is 0.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.try_send_batch([b"one".as_slice(), b"two"])?;
    /// let mut batch = rx.try_recv_batch(8)?;
    /// let words: Vec<_> = batch.iter().map(|frame| frame.payload).collect();
    /// assert_eq!(words, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        let first = self.try_take()?;
        Ok(self.batch(first, max))
    }

    /// [`Consumer::try_recv_batch`]; waits while the ring is empty.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_batch(&self, max: usize) -> Result<ReadBatch<'_>> {
        self.recv_batch_deadline(max, Deadline::never())
    }

    /// [`Consumer::recv_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_batch_deadline(&self, max: usize, deadline: impl Into<Deadline>) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        let first = self.take(deadline)?;
        Ok(self.batch(first, max))
    }

    /// Copies of the frames, each released when it is copied, until the last producer has closed
    /// ([`Error::Closed`]). Blocking: waits while the ring is empty. Any other error is the last
    /// item. Allocates for each frame; [`Consumer::recv`] does not.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// tx.close();
    /// assert_eq!(rx.iter().collect::<Result<Vec<_>, _>>()?, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Result<Vec<u8>>> {
        until_end(|| self.recv().map(|view| view.to_vec()))
    }

    /// [`Consumer::iter`] over the frames that are there: ends when the ring is empty.
    /// Lock-free but for the allocations.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// assert_eq!(rx.try_iter().collect::<Result<Vec<_>, _>>()?, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_iter(&self) -> impl Iterator<Item = Result<Vec<u8>>> {
        until_end(|| self.try_recv().map(|view| view.to_vec()))
    }

    fill_level!(
        "Frames that wait in the ring. Those that consumers hold do not count, nor do those that are to be delivered again.",
        |rx| rx.0.core.observe(),
        rx.0.core.slots(),
        !rx.0.core.has_room(),
        "let (tx, rx) = slipring::mpmc::pair(16, 64)?;\ntx.try_send(b\"job\")?;\nassert_eq!((rx.len(), rx.capacity()), (1, 16));"
    );

    fn check_buffer(&self, buffer: &[u8]) -> Result<()> {
        let max = self.0.core.max_payload();
        if buffer.len() < max { Err(Error::TooLarge { max }) } else { Ok(()) }
    }

    #[inline(always)]
    pub(super) fn try_take(&self) -> Result<Taken> {
        self.0.attachment.check_fork()?;
        match self.0.take() {
            Ok(taken) => Ok(taken),
            Err(Stop::Empty) => self.empty(),
            Err(stop) => Err(stop.error()),
        }
    }

    #[inline(always)]
    pub(super) fn take(&self, deadline: impl Into<Deadline>) -> Result<Taken> {
        self.0.attachment.check_fork()?;
        match self.0.take() {
            Ok(taken) => Ok(taken),
            Err(Stop::Empty) => self.wait_for_frame(deadline.into()),
            Err(stop) => Err(stop.error()),
        }
    }

    #[cold]
    #[inline(never)]
    fn empty(&self) -> Result<Taken> {
        let seat = &*self.0;
        seat.attachment.wake_peers(ALL);
        seat.attachment.explain(|| Self::attempt(seat))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_frame(&self, deadline: Deadline) -> Result<Taken> {
        let seat = &*self.0;
        seat.attachment.wake_peers(ALL);
        let slept = Cell::new(false);
        let prepare = || {
            slept.set(true);
            // A participant that recovered a frame may have died before announcing it, so search
            // before every sleep.
            seat.searched.store(u64::MAX, Ordering::Relaxed);
            seat.longest_sleep()
        };
        let outcome = seat.attachment.wait(deadline, || Self::attempt(seat), prepare);
        // If a frame is committed before the frame in front of it, the consumer that it wakes finds
        // nothing. The frame in front then wakes only one consumer, which passes the wake-up on. A
        // consumer that did not sleep has used no wake-up, so it does not check the next slot,
        // whose cache line the producer is using.
        if slept.get() && outcome.is_ok() && seat.core.has_more() {
            seat.attachment.wake_fellows(1);
        }
        outcome
    }

    fn attempt(seat: &Seat) -> Result<Option<Taken>> {
        seat.attachment.check_fork()?;
        match seat.take() {
            Ok(taken) => Ok(Some(taken)),
            Err(Stop::Empty) => Ok(None),
            Err(stop) => Err(stop.error()),
        }
    }

    /// The view of a frame that was taken.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn view(&self, taken: Taken) -> ReadView<'_> {
        ReadView { taken: Some(taken), consumer: self }
    }

    /// Whether there seems to be a frame to take.
    #[cfg(feature = "async")]
    pub(super) fn is_frame_likely(&self) -> bool {
        self.0.core.is_readable()
    }

    /// Has the next attempt look for frames to be delivered again: a participant that recovered one
    /// may have died before announcing it.
    #[cfg(feature = "async")]
    pub(super) fn search_again(&self) {
        self.0.searched.store(u64::MAX, Ordering::Relaxed);
    }

    pub(super) fn batch(&self, first: Taken, max: usize) -> ReadBatch<'_> {
        let mut batch = ReadBatch { consumer: self, taken: [const { None }; BATCH], len: 1, seen: 0 };
        batch.taken[0] = Some(first);
        while batch.len < max.min(BATCH) {
            let Ok(next) = self.0.core.take(self.0.attachment.id()) else { break };
            batch.taken[batch.len] = Some(next);
            batch.len += 1;
        }
        batch
    }

    fn copy_out(&self, taken: Taken, buffer: &mut [u8]) -> Header {
        let header = taken.header;
        self.0.core.read(&taken, &mut buffer[..header.len as usize]);
        self.release(taken);
        header
    }

    #[inline(always)]
    pub(super) fn payload<'t>(&self, taken: &'t Taken) -> &'t [u8] {
        let core = &self.0.core;
        // SAFETY: the payload of a slot inside the area.
        let start = unsafe { core.data().base().add(core.taken_payload(taken)) };
        // SAFETY: the length was bounded by the slot; the slot is being read with our id, so no
        // producer writes it until `taken`, which is borrowed here, is given to `release`. The area
        // outlives it: the caller holds `self`.
        unsafe { std::slice::from_raw_parts(start, taken.header.len as usize) }
    }

    /// Leaves a frame in the ring, and wakes a consumer for it.
    #[cold]
    #[inline(never)]
    fn put_back(&self, taken: Taken) {
        if self.0.attachment.is_forked() {
            return; // the slot is the parent's
        }
        self.0.core.put_back(taken);
        self.0.attachment.wake_fellows(1);
    }

    /// Frees the slot. Sleeping producers are woken at every quarter of the ring and when it is
    /// found empty, not for every slot.
    #[inline(always)]
    pub(super) fn release(&self, taken: Taken) {
        if self.0.attachment.is_forked() {
            return; // a copy in a forked child: the slot is the parent's to release
        }
        let (Header { len, flags, .. }, attachment) = (taken.header, &self.0.attachment);
        let quarter = self.0.core.is_quarter(&taken);
        self.0.core.release(taken);
        if quarter {
            attachment.wake_peers(ALL);
        }
        attachment.count_traffic(Counter::Received, 1, len.into());
        if flags.contains(Flags::REDELIVERED) {
            attachment.count(Counter::Redelivered, 1);
        }
    }
}

/// A frame in place. Dropping it releases it.
#[must_use = "dropping a view releases its frame unread"]
pub struct ReadView<'a> {
    consumer: &'a Consumer,
    /// `Some` until dropped.
    taken: Option<Taken>,
}

impl ReadView<'_> {
    /// The frame's header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.taken.as_ref().map_or(Header::PLAIN, |taken| taken.header)
    }

    /// Leaves the frame in the ring: it is the next one that this consumer or another one receives,
    /// flagged [`Flags::REDELIVERED`], also where frames are delivered at most once. Lock-free; one
    /// system call if another consumer sleeps.
    ///
    /// ```
    /// use slipring::frame::Flags;
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.try_send(b"job")?;
    /// rx.try_recv()?.keep();
    /// let again = rx.try_recv()?;
    /// assert!(&*again == b"job" && again.header().flags.contains(Flags::REDELIVERED));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn keep(mut self) {
        if let Some(taken) = self.taken.take() {
            self.consumer.put_back(taken);
        }
    }
}

impl Deref for ReadView<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.taken.as_ref().map_or(&[], |taken| self.consumer.payload(taken))
    }
}

impl Drop for ReadView<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.consumer.release(taken);
        }
    }
}

/// Frames in place. Dropping it releases those that were looked at; the others stay in the ring
/// ([`ReadView::keep`]).
#[must_use = "a batch that is not looked at receives nothing"]
pub struct ReadBatch<'a> {
    consumer: &'a Consumer,
    taken: [Option<Taken>; BATCH],
    len: usize,
    /// How many of them an iterator has shown.
    seen: usize,
}

impl ReadBatch<'_> {
    /// The frames, in the order of the ring. Goes on where the last iterator ended.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { consumer: self.consumer, taken: &self.taken[..self.len], seen: &mut self.seen }
    }

    /// Leaves all frames in the ring, as [`ReadView::keep`] does. Lock-free.
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.try_send(b"job")?;
    /// rx.try_recv_batch(8)?.keep();
    /// assert_eq!(&*rx.try_recv()?, b"job");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn keep(mut self) {
        self.seen = 0;
    }
}

impl<'b> IntoIterator for &'b mut ReadBatch<'_> {
    type Item = Frame<'b>;
    type IntoIter = Iter<'b>;

    #[inline]
    fn into_iter(self) -> Iter<'b> {
        self.iter()
    }
}

impl Drop for ReadBatch<'_> {
    #[inline]
    fn drop(&mut self) {
        let (seen, unseen) = self.taken[..self.len].split_at_mut(self.seen);
        for taken in seen.iter_mut().filter_map(Option::take) {
            self.consumer.release(taken);
        }
        for taken in unseen.iter_mut().filter_map(Option::take) {
            self.consumer.put_back(taken);
        }
    }
}

/// Iterates over the frames of a [`ReadBatch`].
pub struct Iter<'b> {
    consumer: &'b Consumer,
    taken: &'b [Option<Taken>],
    seen: &'b mut usize,
}

impl<'b> Iterator for Iter<'b> {
    type Item = Frame<'b>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'b>> {
        let taken = self.taken.get(*self.seen)?.as_ref()?;
        *self.seen += 1;
        Some(Frame { header: taken.header, stamp: 0, payload: self.consumer.payload(taken) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.taken.len() - *self.seen;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
