//! What a consumer receives: frames in place, alone or in batches, and the ends of producers.
//!
//! Used by `consumer.rs`, to whose lane they belong until they are released.

use std::ops::Deref;

use super::consumer::Consumer;
use super::core::Ended;
use crate::frame::{Frame, Header};
use crate::ring::spsc::layout::Peeked;
use crate::ring::spsc::received::Tally;

/// What a consumer receives: a frame, or the end of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a frame, or the end of a producer"]
pub enum Received<F> {
    /// The next frame of a lane: a view, a header, or a batch of frames.
    Frame(F),
    /// A producer has closed or died. All that it had committed was received before.
    Ended(Ended),
}

impl<F> Received<F> {
    /// The frame, unless a producer has ended.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
    /// tx.send(b"hello")?;
    /// tx.close();
    /// assert_eq!(&*rx.recv()?.frame().unwrap(), b"hello");
    /// assert!(rx.recv()?.frame().is_none());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn frame(self) -> Option<F> {
        match self {
            Received::Frame(frame) => Some(frame),
            Received::Ended(_) => None,
        }
    }

    pub(super) fn map<T>(self, frame: impl FnOnce(F) -> T) -> Received<T> {
        match self {
            Received::Frame(found) => Received::Frame(frame(found)),
            Received::Ended(end) => Received::Ended(end),
        }
    }
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The number of the lane: it belongs to one producer until its [`Ended`] is received.
    pub lane: u16,
    /// The producer's id as a participant: see [`ParticipantInfo::id`](crate::ParticipantInfo::id).
    pub producer: u16,
}

/// A frame in place. Dropping it releases it.
#[must_use = "dropping a view releases its frame unread"]
pub struct ReadView<'a> {
    consumer: &'a mut Consumer,
    frame: Peeked,
}

impl<'a> ReadView<'a> {
    /// The view of a frame that was found and is not released.
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer, frame: Peeked) -> Self {
        ReadView { consumer, frame }
    }

    /// The frame's header.
    #[inline]
    #[must_use]
    pub fn header(&self) -> Header {
        self.frame.header()
    }

    /// Where the frame comes from.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Source {
        self.consumer.source_here()
    }

    /// Leaves the frame in the ring: this consumer or its successor receives it next from its
    /// producer.
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
        self.consumer.release(self.frame.end(), Tally::of(&self.frame));
    }
}

/// Frames of one lane in place. Dropping it releases those that were read.
#[must_use = "a batch that is not looked at receives nothing"]
pub struct ReadBatch<'a> {
    consumer: &'a mut Consumer,
    tally: Tally,
    /// No more frames than this are shown.
    max: u32,
}

impl<'a> ReadBatch<'a> {
    /// A batch of at most `max` frames, from the first that is not released on.
    #[inline(always)]
    pub(super) fn new(consumer: &'a mut Consumer, max: usize) -> Self {
        ReadBatch { consumer, tally: Tally::default(), max: u32::try_from(max).unwrap_or(u32::MAX) }
    }

    /// The committed frames, in order, including those that arrive meanwhile, at most one lane
    /// full.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        Iter { consumer: self.consumer, tally: &mut self.tally, max: self.max }
    }

    /// Where the frames come from.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Source {
        self.consumer.source_here()
    }

    /// Leaves all frames in the ring: they are the next ones that this consumer or its successor
    /// receives from their producer. Wait-free.
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
            self.consumer.release(self.consumer.lanes.at().looked_at(), self.tally);
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
        let frame = self.consumer.lanes.here().look().ok()?;
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
