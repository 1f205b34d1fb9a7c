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
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::ALL;

/// The most frames that one [`Batch`] holds.
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

static_assertions::assert_impl_all!(Consumer: Send, Sync, Clone);

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
    pub fn try_recv(&self) -> Result<View<'_>> {
        Ok(View { taken: Some(self.try_take()?), consumer: self })
    }

    /// Receives the next frame in place; waits while the ring is empty. Blocking: progress depends
    /// on a producer.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`], [`Error::Forked`].
    #[inline]
    pub fn recv(&self) -> Result<View<'_>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Consumer::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_deadline(&self, deadline: impl Into<Deadline>) -> Result<View<'_>> {
        Ok(View { taken: Some(self.take(deadline)?), consumer: self })
    }

    /// Copies the next frame into `buffer` and releases it, if there is one. Lock-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]. [`Error::TooLarge`] if `buffer` is shorter than the largest
    /// payload of the ring. No frame is taken then, because a taken frame cannot be put back.
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
    /// let batch = rx.try_recv_batch(8)?;
    /// let words: Vec<_> = batch.iter().map(|frame| frame.payload).collect();
    /// assert_eq!(words, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&self, max: usize) -> Result<Batch<'_>> {
        check_max(max)?;
        let first = self.try_take()?;
        Ok(self.batch(first, max))
    }

    /// [`Consumer::try_recv_batch`]; waits while the ring is empty.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_batch(&self, max: usize) -> Result<Batch<'_>> {
        self.recv_batch_deadline(max, Deadline::never())
    }

    /// [`Consumer::recv_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_batch_deadline(&self, max: usize, deadline: impl Into<Deadline>) -> Result<Batch<'_>> {
        check_max(max)?;
        let first = self.take(deadline)?;
        Ok(self.batch(first, max))
    }

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

    fn batch(&self, first: Taken, max: usize) -> Batch<'_> {
        let mut batch = Batch { consumer: self, taken: [const { None }; BATCH], len: 1 };
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
pub struct View<'a> {
    consumer: &'a Consumer,
    /// `Some` until dropped.
    taken: Option<Taken>,
}

fn check_max(max: usize) -> Result<()> {
    if max == 0 { Err(Error::Invalid { what: "size of a batch: at least 1 frame" }) } else { Ok(()) }
}

impl View<'_> {
    /// The frame's header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.taken.as_ref().map_or(Header::PLAIN, |taken| taken.header)
    }
}

impl Deref for View<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.taken.as_ref().map_or(&[], |taken| self.consumer.payload(taken))
    }
}

impl Drop for View<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.consumer.release(taken);
        }
    }
}

/// Several frames in place. Dropping it releases all of them.
#[must_use = "dropping a batch releases its frames unread"]
pub struct Batch<'a> {
    consumer: &'a Consumer,
    taken: [Option<Taken>; BATCH],
    len: usize,
}

impl Batch<'_> {
    /// The frames, in the order of the ring.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Frame<'_>> {
        // All of them are `Some` until the drop.
        self.taken[..self.len].iter().map(|taken| match taken {
            Some(taken) => Frame { header: taken.header, stamp: 0, payload: self.consumer.payload(taken) },
            None => Frame { header: Header::PLAIN, stamp: 0, payload: &[] },
        })
    }
}

impl Drop for Batch<'_> {
    #[inline]
    fn drop(&mut self) {
        for taken in self.taken.iter_mut().filter_map(Option::take) {
            self.consumer.release(taken);
        }
    }
}
