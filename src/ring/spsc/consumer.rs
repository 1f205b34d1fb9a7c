//! The consumer's handle: receiving in place, by copy and in batches.
//!
//! Relies on `core.rs` for the algorithm, on `attachment.rs` for waiting and for the peer's
//! liveness.

use std::cell::Cell;
use std::marker::PhantomData;

use super::catch_up::Run;
use super::core;
use super::layout::{Fault, Peeked};
use super::received::{ReadBatch, ReadView, Tally};
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::frame::header::SHORT;
use crate::memory::Data;
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::receive::{check_max, until_end};
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Redelivery, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};

/// The consumer. A ring has one at a time: a successor can attach when it is dropped, or when its
/// process has died. In the second case, the frames that it held are redelivered with a mark.
///
/// Every `try_…` call is wait-free, allocates no memory, and makes no system call except to wake a
/// sleeping producer (none in [`WakeMode::Poll`](crate::WakeMode::Poll)). If the ring is empty, it
/// asks the kernel from time to time whether the producer is dead.
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Consumer {
    pub(super) core: core::Consumer,
    run: Run,
    pub(super) attachment: Attachment<One>,
    /// A consumer is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(consumer Consumer, "spsc::Consumer", attachment, "this handle");

impl Consumer {
    /// Opens or creates the named ring, and attaches to it as its consumer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Consumer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Spsc, name, options, Self::attach)
    }

    /// Attaches to the ring as its consumer, and continues at the first frame that no consumer has
    /// released. Frames that a dead consumer held are marked
    /// [`Flags::REDELIVERED`](crate::frame::Flags::REDELIVERED), or skipped and counted as lost,
    /// depending on [`Redelivery`](crate::Redelivery). Some system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while a living consumer is attached; [`Error::Incompatible`] for
    /// another kind of ring; [`Error::Corrupt`]; [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Spsc)?;
        let attachment = Attachment::join(ring, Kind::Spsc, Role::Consumer)?;
        let mut core = core::Consumer::attach(ring.spsc_shared()).map_err(Fault::error)?;
        if ring.redelivery() == Redelivery::AtMostOnce {
            core.skip_shown(|| attachment.count(Counter::Lost, 1)).map_err(Fault::error)?;
        }
        attachment.announce();
        let run = Run::new(attachment.counted(Counter::Received), core.looked_at(), core.shared().capacity);
        Ok(Consumer { core, run, attachment, _not_sync: PhantomData })
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let mut buffer = vec![0; rx.max_payload()];
    /// tx.try_send(b"hello")?;
    /// assert_eq!(rx.try_recv_into(&mut buffer)?.len, 5);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.shared().max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to receive. It is
    /// no borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Spsc(self.ring().spsc_shared()))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Receives the next frame in place, if there is one. Dropping the view releases it. Wait-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no frame. [`Error::Closed`] or [`Error::PeerDead`] when the
    /// producer has departed and everything that it committed was delivered, until another producer
    /// attaches. [`Error::Corrupt`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// assert!(matches!(rx.try_recv(), Err(slipring::Error::Empty)));
    /// tx.try_send(b"hello")?;
    /// tx.close();
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// assert!(matches!(rx.try_recv(), Err(slipring::Error::Closed)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv(&mut self) -> Result<ReadView<'_>> {
        let frame = self.try_next()?;
        Ok(ReadView::new(self, frame))
    }

    /// [`Consumer::try_recv`] without a reason: `None` if there is no frame, or whatever else
    /// `try_recv` says, which a caller calls next. It never looks at the producer, so it does not
    /// find out that the producer is dead. The shortest way to a frame: no error is made. Wait-free,
    /// no system call.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// assert!(rx.recv_if_ready().is_none());
    /// tx.try_send(b"hello")?;
    /// assert_eq!(&*rx.recv_if_ready().unwrap(), b"hello");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn recv_if_ready(&mut self) -> Option<ReadView<'_>> {
        if self.attachment.is_forked() {
            return None;
        }
        let frame = self.core.look_first_if_ready()?;
        Some(ReadView::new(self, frame))
    }

    /// Receives the next frame in place; waits while the ring is empty. Blocking: progress depends
    /// on the producer.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`], [`Error::Forked`].
    #[inline]
    pub fn recv(&mut self) -> Result<ReadView<'_>> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Consumer::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let (_tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let late = rx.recv_deadline(Duration::from_millis(5));
    /// assert!(matches!(late, Err(slipring::Error::Timeout)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<ReadView<'_>> {
        let frame = self.next(deadline)?;
        Ok(ReadView::new(self, frame))
    }

    /// Copies the next frame into `buffer` and releases it, if there is one. The header has the
    /// length. Wait-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`]; [`Error::TooLarge`], with a sufficient length as `max`, if
    /// `buffer` is too short; the frame then stays in the ring.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(b"hello")?;
    /// let mut buffer = [0; 64];
    /// let header = rx.try_recv_into(&mut buffer)?;
    /// assert_eq!(&buffer[..header.len as usize], b"hello");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Header> {
        let frame = self.try_next()?;
        self.copy_out(frame, buffer)
    }

    /// [`Consumer::try_recv_into`]; waits while the ring is empty.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::TooLarge`].
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Header> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`Consumer::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv_into`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Header> {
        let frame = self.next(deadline)?;
        self.copy_out(frame, buffer)
    }

    /// Receives all committed frames in place, if there are any. Dropping the batch releases the
    /// frames that were read. Wait-free.
    ///
    /// # Errors
    /// As [`Consumer::try_recv`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// for word in ["a", "b", "c"] {
    ///     tx.try_send(word.as_bytes())?;
    /// }
    /// let mut batch = rx.try_recv_batch(8)?;
    /// let words: Vec<_> = batch.iter().map(|frame| frame.payload).collect();
    /// assert_eq!(words, [b"a", b"b", b"c"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.try_next()?;
        Ok(self.batch(max))
    }

    /// [`Consumer::try_recv_batch`]; waits while the ring is empty.
    ///
    /// # Errors
    /// As [`Consumer::recv`].
    #[inline]
    pub fn recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        self.recv_batch_deadline(max, Deadline::never())
    }

    /// [`Consumer::recv_batch`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_batch_deadline(&mut self, max: usize, deadline: impl Into<Deadline>) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.next(deadline)?;
        Ok(self.batch(max))
    }

    /// Copies of the frames, each released when it is copied, until the last producer has closed
    /// ([`Error::Closed`]). Blocking: waits while the ring is empty. Any other error is the last
    /// item. Allocates for each frame; [`Consumer::recv`] does not.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// tx.close();
    /// assert_eq!(rx.iter().collect::<Result<Vec<_>, _>>()?, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Vec<u8>>> {
        until_end(|| self.recv().map(|view| view.to_vec()))
    }

    /// [`Consumer::iter`] over the frames that are there: ends when the ring is empty.
    /// Wait-free but for the allocations.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"one")?;
    /// tx.send(b"two")?;
    /// assert_eq!(rx.try_iter().collect::<Result<Vec<_>, _>>()?, [b"one", b"two"]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn try_iter(&mut self) -> impl Iterator<Item = Result<Vec<u8>>> {
        until_end(|| self.try_recv().map(|view| view.to_vec()))
    }

    fill_level!(
        "Bytes in the ring, headers included: sent and not yet released.",
        |rx| rx.core.shared().observe(),
        rx.core.shared().capacity,
        rx.capacity() - rx.len() < 24,
        "let (mut tx, rx) = slipring::spsc::pair(4096)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((rx.len(), rx.capacity()), (24, 4096));"
    );

    /// The view of a frame that was found and is not released.
    #[cfg(feature = "async")]
    #[inline(always)]
    pub(super) fn view(&mut self, frame: Peeked) -> ReadView<'_> {
        ReadView::new(self, frame)
    }

    #[inline(always)]
    pub(super) fn batch(&mut self, max: usize) -> ReadBatch<'_> {
        self.core.rewind();
        ReadBatch::new(self, max)
    }

    #[inline(always)]
    pub(super) fn try_next(&mut self) -> Result<Peeked> {
        self.attachment.check_fork()?;
        loop {
            match self.core.look_first() {
                Ok(frame) => return Ok(frame),
                Err(fault) => self.expect_frame(fault)?,
            }
        }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, deadline: impl Into<Deadline>) -> Result<Peeked> {
        self.attachment.check_fork()?;
        let deadline = deadline.into();
        loop {
            match self.core.look_first() {
                Ok(frame) => return Ok(frame),
                Err(fault) => self.wait_for_frame(fault, deadline)?,
            }
        }
    }

    /// Called if there is no frame: publishes all releases, pauses if the producer streams, and
    /// polls once more. If there is nothing to publish, this is one of many polls, and as few of
    /// them as possible should fetch the line from the producer.
    #[inline(always)]
    fn look_again(core: &mut core::Consumer, run: &mut Run, attachment: &Attachment<One>) -> Result<bool> {
        if !core.publish() {
            return Ok(false);
        }
        attachment.wake_peers(1);
        run.end(attachment.counted(Counter::Received), core.looked_at());
        is_there(core).map(|there| there.is_some())
    }

    /// Polls once more; returns the reason if there is no frame.
    #[cold]
    #[inline(never)]
    fn expect_frame(&mut self, fault: Fault) -> Result<()> {
        if fault != Fault::Empty {
            return Err(fault.error());
        }
        let Consumer { core, run, attachment, .. } = self;
        if Self::look_again(core, run, attachment)? {
            return Ok(());
        }
        attachment.explain(|| is_there(core))
    }

    /// Returns when there is a frame.
    #[cold]
    #[inline(never)]
    fn wait_for_frame(&mut self, fault: Fault, deadline: Deadline) -> Result<()> {
        if fault != Fault::Empty {
            return Err(fault.error());
        }
        let Consumer { core, run, attachment, .. } = self;
        if Self::look_again(core, run, attachment)? {
            return Ok(());
        }
        attachment.wait(deadline, || is_there(core), || SLEEP_CAP)
    }

    /// Returns when there is a frame behind those that were read and are held.
    pub(super) fn wait_for_more(&mut self, deadline: Deadline) -> Result<()> {
        self.attachment.check_fork()?;
        let Consumer { core, attachment, .. } = self;
        if is_more_there(core)?.is_none() {
            if core.publish() {
                attachment.wake_peers(1);
            }
            attachment.wait(deadline, || is_more_there(core), || SLEEP_CAP)?;
        }
        Ok(())
    }

    fn copy_out(&mut self, frame: Peeked, buffer: &mut [u8]) -> Result<Header> {
        let len = frame.len();
        let Some(into) = buffer.get_mut(..len) else { return Err(Error::TooLarge { max: len }) };
        self.core.read(&frame, into);
        self.release_read(&frame);
        Ok(frame.header())
    }

    /// Frees everything before `end`. Does nothing in a forked child, because the frames belong to
    /// the parent.
    #[inline(always)]
    pub(super) fn release(&mut self, end: u64, tally: Tally) {
        if self.attachment.is_forked() {
            return;
        }
        let is_stop = self.core.free(end);
        self.attachment.count_traffic(Counter::Received, tally.frames.into(), tally.bytes);
        if is_stop {
            self.stop(tally.bytes, tally.redelivered);
        }
    }

    /// [`Consumer::release`] of the frame that was read last. Its end is the position of the next
    /// one, so the next look need not wait for a second sum of the same numbers.
    #[inline(always)]
    pub(super) fn release_read(&mut self, frame: &Peeked) {
        debug_assert_eq!(frame.end(), self.core.looked_at());
        self.release(self.core.looked_at(), Tally::of(frame));
    }

    /// The work that is not needed for every frame: publishes the head, and in a long run keeps a
    /// distance to the producer. With redelivered frames, every release comes here.
    #[cold]
    #[inline(never)]
    fn stop(&mut self, bytes: u64, redelivered: u32) {
        if redelivered > 0 {
            self.attachment.count(Counter::Redelivered, redelivered.into());
        }
        let frames = self.run.go_on(self.attachment.counted(Counter::Received), || self.core.lead());
        let soon = if self.core.is_redelivering() { 0 } else { u64::from(frames) * (bytes + SHORT as u64) };
        if self.core.tell(soon) {
            self.attachment.wake_peers(1);
        }
    }

    /// The payload of a held frame.
    #[inline(always)]
    pub(super) fn payload(&self, frame: &Peeked) -> &[u8] {
        // SAFETY: mapped twice (`expect_mirror`). `look` bounded the length by the ring; releasing
        // needs `&mut self`.
        unsafe { self.core.shared().slice(frame.payload_position(), frame.len()) }
    }

    /// Committed records, from one position to another, as they are in the ring. They have been
    /// read, and not released.
    #[cfg(feature = "transports")]
    pub(super) fn records(&self, start: u64, end: u64) -> &[u8] {
        // SAFETY: mapped twice (`expect_mirror`). `look` ends where a ring full does; releasing needs
        // `&mut self`.
        unsafe { self.core.shared().slice(start, end.wrapping_sub(start) as usize) }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.attachment.is_attached() {
            self.core.hand_back();
        }
    }
}

/// Whether there is a frame; an error if the ring is damaged there.
fn is_there(core: &mut core::Consumer) -> Result<Option<()>> {
    match core.look() {
        Ok(_) => Ok(Some(())),
        Err(Fault::Empty) => Ok(None),
        Err(fault) => Err(fault.error()),
    }
}

/// Whether there is a frame behind those that were read; an error if the ring is damaged there.
pub(in crate::ring) fn is_more_there<D: Data>(core: &mut core::Consumer<D>) -> Result<Option<()>> {
    match core.look_ahead() {
        Ok(()) => Ok(Some(())),
        Err(Fault::Empty) => Ok(None),
        Err(fault) => Err(fault.error()),
    }
}
