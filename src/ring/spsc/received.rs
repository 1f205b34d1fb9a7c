//! What a consumer receives in place: a frame, or a batch of them. Dropping it releases.
//!
//! Made by `consumer.rs`, used by programs; `run.rs` and the mpsc ring use the counts. Relies on the
//! core of its consumer.

use std::ops::Deref;

use super::consumer::Consumer;
use super::layout::Peeked;
use crate::error::Result;
use crate::frame::{Frame, Header};
use crate::ring::readiness::Look;
use crate::segment::counters::Counter;
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;

/// A frame in place. Dropping it releases it.
#[must_use = "dropping a view releases its frame unread"]
pub struct ReadView<'a> {
    consumer: &'a mut Consumer,
    frame: Peeked,
}

impl<'a> ReadView<'a> {
    /// `frame` is the one that `consumer` has looked at last.
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer, frame: Peeked) -> Self {
        ReadView { consumer, frame }
    }

    /// Releases this frame and receives the one behind it in its place: the shortest loop over
    /// frames. Wait-free, no system call.
    ///
    /// False if the next frame is not there, or if there is more to do than to move on, for example
    /// to tell the producer of the room. The view still holds its frame then: drop it, and call
    /// [`Consumer::try_recv`] or [`Consumer::recv`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send_batch([&b"one"[..], b"two", b"three"])?;
    /// tx.close();
    /// let mut bytes = 0;
    /// while let Ok(mut frame) = rx.recv() {
    ///     bytes += frame.len();
    ///     while frame.next_if_ready() {
    ///         bytes += frame.len();
    ///     }
    /// }
    /// assert_eq!(bytes, 11);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    #[must_use = "the frame is the same one if it is false"]
    pub fn next_if_ready(&mut self) -> bool {
        if self.consumer.attachment.is_forked() {
            return false;
        }
        let Some(next) = self.consumer.core.free_and_look() else { return false };
        let tally = Tally::of(&self.frame);
        self.consumer.attachment.count_traffic(Counter::Received, tally.frames.into(), tally.bytes);
        self.frame = next;
        true
    }

    /// The frame's header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.frame.header()
    }

    /// Leaves the frame in the ring: this consumer or its successor receives it next.
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self); // nothing to free; the consumer continues at its first unreleased frame
    }
}

impl Deref for ReadView<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.consumer.payload(&self.frame)
    }
}

impl Drop for ReadView<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.release_read(&self.frame);
    }
}

/// The counts of released frames.
#[derive(Clone, Copy, Default)]
pub(in crate::ring) struct Tally {
    pub(in crate::ring) frames: u32,
    pub(in crate::ring) bytes: u64,
    pub(in crate::ring) redelivered: u32,
}

impl Tally {
    #[inline(always)]
    pub(in crate::ring) fn of(frame: &Peeked) -> Self {
        Tally { frames: 1, bytes: frame.len() as u64, redelivered: frame.is_redelivered().into() }
    }

    #[inline(always)]
    pub(in crate::ring) fn add(&mut self, frame: &Peeked) {
        let one = Tally::of(frame);
        self.frames = self.frames.saturating_add(1);
        self.bytes += one.bytes;
        self.redelivered += one.redelivered;
    }
}

/// Frames in place. Dropping it releases those that were read.
#[must_use = "a batch that is not looked at receives nothing"]
pub struct ReadBatch<'a> {
    consumer: &'a mut Consumer,
    tally: Tally,
    /// No more frames than this are shown.
    max: u32,
}

impl<'a> ReadBatch<'a> {
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer, max: usize) -> Self {
        ReadBatch { consumer, tally: Tally::default(), max: u32::try_from(max).unwrap_or(u32::MAX) }
    }

    /// The committed frames, in order, including those that arrive meanwhile, at most one ring
    /// full.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { consumer: self.consumer, tally: &mut self.tally, max: self.max }
    }

    /// Waits until there is a frame behind those that were read, which stay held. Then
    /// [`ReadBatch::iter`] goes on with it. If the held frames fill the ring, no frame can come:
    /// release some first ([`ReadBatch::release_first`]). Blocking: progress depends on the
    /// producer.
    ///
    /// # Errors
    /// As [`Consumer::recv`], and [`Error::Timeout`](crate::Error::Timeout). The held frames stay held.
    ///
    /// ```
    /// use std::time::Duration;
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"one")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 1);
    /// assert!(matches!(batch.wait_for_more(Duration::ZERO), Err(slipring::Error::Timeout)));
    /// tx.send(b"two")?;
    /// batch.wait_for_more(Duration::from_secs(10))?;
    /// assert_eq!(batch.iter().next().unwrap().payload, b"two");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn wait_for_more(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.consumer.wait_for_more(deadline.into())
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is a frame behind those that
    /// were read so far. It is no borrow.
    ///
    /// ```
    /// use slipring::{Token, WaitSet};
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"one")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 1);
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(0), batch.more_readable())?;
    /// assert!(set.try_wait()?.next().is_none());
    /// tx.send(b"two")?;
    /// assert!(set.wait()?.eq([Token(0)]));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn more_readable(&self) -> Readiness {
        let rx = &*self.consumer;
        rx.attachment.readiness(Look::SpscBehind(rx.ring().spsc_shared(), rx.core.looked_at()))
    }

    /// Releases the first `frames` of the frames that were read and are held, or all of them if
    /// there are fewer. The others stay held. Wait-free; looks at each held frame.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"12345678")?;
    /// tx.send(b"87654321")?;
    /// let mut batch = rx.recv_batch(8)?;
    /// assert_eq!(batch.iter().count(), 2);
    /// batch.release_first(1);
    /// batch.keep();
    /// assert_eq!(&*rx.recv()?, b"87654321");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn release_first(&mut self, frames: usize) {
        let read = std::mem::take(&mut self.tally).frames;
        let core = &mut self.consumer.core;
        core.rewind();
        let mut first = Tally::default();
        while (first.frames as usize) < frames && first.frames < read {
            let Ok(frame) = core.look() else { break }; // no correct peer changes a held frame
            first.add(&frame);
        }
        let end = core.looked_at();
        if first.frames > 0 {
            self.consumer.release(end, first);
        }
        while first.frames + self.tally.frames < read {
            let Ok(frame) = self.consumer.core.look() else { break };
            self.tally.add(&frame);
        }
    }

    /// Leaves all frames in the ring: they are the next ones that this consumer or its successor
    /// receives. Wait-free.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(b"stays")?;
    /// rx.try_recv_batch(8)?.keep();
    /// assert_eq!(&*rx.try_recv()?, b"stays");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self); // as in `ReadView::keep`
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
        if self.tally.frames > 0 {
            self.consumer.release(self.consumer.core.looked_at(), self.tally);
        }
    }
}

/// Iterates over the frames of a [`ReadBatch`].
pub struct Iter<'b> {
    consumer: &'b mut Consumer,
    tally: &'b mut Tally,
    max: u32,
}

impl<'b> Iterator for Iter<'b> {
    type Item = Frame<'b>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'b>> {
        if self.tally.frames >= self.max {
            return None;
        }
        // The next call that returns a result reports a corrupt frame.
        let frame = self.consumer.core.look().ok()?;
        self.tally.add(&frame);
        let payload = std::ptr::from_ref(self.consumer.payload(&frame));
        // SAFETY: the payload lies in the ring, not in the consumer, and stays until it is
        // released. Only the batch's drop releases, and the batch can neither be dropped nor used
        // otherwise while it is borrowed for 'b; the calls of this iterator (`look`, `payload`)
        // release nothing.
        let payload: &'b [u8] = unsafe { &*payload };
        Some(Frame { header: frame.header(), stamp: 0, payload })
    }
}
