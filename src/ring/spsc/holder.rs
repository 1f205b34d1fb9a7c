//! A consumer that holds the frame it returned last until the next call. It stores the frame in a
//! field where a view would borrow the consumer. It also returns runs of frames as they are in the
//! ring, for code that passes them on.
//!
//! Used by `transport/ring.rs`, whose trait lends the received frame. Relies on `consumer.rs`.

use super::consumer::{Consumer, Tally};
use super::layout::Peeked;
use crate::error::Result;
use crate::frame::Frame;
use crate::wait::deadline::Deadline;

/// A consumer, and the frame it returned last.
pub(crate) struct Holder {
    consumer: Consumer,
    held: Option<Peeked>,
}

impl Holder {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Holder { consumer, held: None }
    }

    pub(crate) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// The consumer, for calls that need no held frame.
    pub(crate) fn consumer_mut(&mut self) -> &mut Consumer {
        self.release();
        &mut self.consumer
    }

    /// Acquires the next frame, if there is one.
    pub(crate) fn try_recv(&mut self) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.try_next()?);
        Ok(())
    }

    /// Acquires the next frame, waiting for it until the deadline.
    pub(crate) fn recv_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.next(deadline)?);
        Ok(())
    }

    /// The held frame.
    pub(crate) fn held(&self) -> Option<Frame<'_>> {
        let held = self.held.as_ref()?;
        Some(Frame { header: held.header(), stamp: 0, payload: self.consumer.payload(held) })
    }

    /// The committed frames, as they are in the ring, up to `limit` bytes, but at least one. The
    /// held frame is the first of them. Empty if there is no frame, or if the first has to be
    /// marked as redelivered, because the mark is not in the ring.
    pub(crate) fn run(&mut self, limit: usize) -> &[u8] {
        self.held = None; // not released: the next call returns it again
        let Ok(first) = self.consumer.try_next() else { return &[] }; // the next call reports the error
        let (start, mut end) = (first.position(), first.end());
        if first.is_redelivered() {
            end = start;
        } else {
            // Only frames before the first could be marked.
            while let Ok(frame) = self.consumer.core.look() {
                if frame.end().wrapping_sub(start) > limit as u64 {
                    break;
                }
                end = frame.end();
            }
        }
        self.consumer.core.rewind();
        self.consumer.records(start, end)
    }

    /// Releases the whole frames in the first `bytes` of the ring, and returns their number and the
    /// bytes of their payloads.
    pub(crate) fn release_run(&mut self, bytes: usize) -> (u64, u64) {
        self.held = None;
        self.consumer.core.rewind();
        let start = self.consumer.core.looked_at();
        let (mut end, mut tally) = (start, Tally::default());
        while end.wrapping_sub(start) < bytes as u64 {
            match self.consumer.core.look() {
                Ok(frame) if frame.end().wrapping_sub(start) <= bytes as u64 => {
                    tally.add(&frame);
                    end = frame.end();
                }
                _ => break,
            }
        }
        if tally.frames > 0 {
            self.consumer.release(end, tally);
        }
        (tally.frames.into(), tally.bytes)
    }

    /// Keeps the held frame, if there is one: the next call returns it again.
    pub(crate) fn hand_back(&mut self) {
        self.held = None;
    }

    /// Releases the held frame, if there is one.
    pub(crate) fn release(&mut self) {
        if let Some(frame) = self.held.take() {
            self.consumer.release(frame.end(), Tally::of(&frame));
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
    }
}
