//! A consumer that holds the frame it returned last until the next call. It stores the frame in a
//! field where a view would borrow the consumer.
//!
//! Used by `transport/ring.rs`, whose trait lends the received frame. Relies on `consumer.rs`.
//!
//! Frames in the form of a byte stream ([`Holder::run`]) are copies, but their slots are held until
//! the frames have been sent. A held slot cannot be put back: it is released, or recovered when the
//! consumer leaves, and its frame is redelivered with a mark.

use std::collections::VecDeque;

use super::consumer::Consumer;
use super::core::Taken;
use crate::error::Result;
use crate::frame::{Form, Frame, Header, Sequencer};
use crate::segment::Redelivery;
use crate::wait::deadline::Deadline;

/// A consumer, and the frames it holds.
pub(crate) struct Holder {
    consumer: Consumer,
    /// In the order in which they were taken.
    held: VecDeque<Taken>,
    /// The first of them was returned by a receiving call, and the next call releases it.
    is_lent: bool,
    /// The first frames of `held`, encoded, each with its length.
    run: Vec<u8>,
    lens: VecDeque<usize>,
    numbers: Sequencer,
    /// The largest number of frames to acquire.
    left: u64,
}

impl Holder {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let (held, lens, numbers) = (VecDeque::new(), VecDeque::new(), Sequencer::new());
        Holder { consumer, held, is_lent: false, run: Vec::new(), lens, numbers, left: u64::MAX }
    }

    /// Limits the frames that are acquired from now on.
    pub(crate) fn expect_at_most(&mut self, frames: u64) {
        self.left = frames;
    }

    pub(crate) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Acquires the next frame, if there is one.
    pub(crate) fn try_recv(&mut self) -> Result<()> {
        self.release();
        if self.held.is_empty() {
            self.held.push_back(self.consumer.try_take()?);
        }
        self.is_lent = true;
        Ok(())
    }

    /// Acquires the next frame, waiting for it until the deadline.
    pub(crate) fn recv_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.release();
        if self.held.is_empty() {
            self.held.push_back(self.consumer.take(deadline)?);
        }
        self.is_lent = true;
        Ok(())
    }

    /// The frame that was returned last.
    pub(crate) fn held(&self) -> Option<Frame<'_>> {
        self.held.front().filter(|_| self.is_lent).map(|taken| frame(&self.consumer, taken))
    }

    /// The committed frames, encoded one after the other, up to about `limit` bytes and a quarter
    /// of the ring. The frame that was returned last is the first of them. They are numbered here,
    /// because other consumers may take frames in between. `None` if the ring delivers at most
    /// once, because held frames that are not sent would be lost.
    pub(crate) fn run(&mut self, limit: usize) -> Option<&[u8]> {
        let ring = self.consumer.ring();
        if ring.redelivery() == Redelivery::AtMostOnce {
            return None;
        }
        self.is_lent = false;
        let most = (ring.slots() / 4).max(1).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        while self.run.len() < limit {
            if self.lens.len() == self.held.len() {
                if self.held.len() >= most {
                    break;
                }
                let Ok(taken) = self.consumer.try_take() else { break }; // the next call reports the error
                self.held.push_back(taken);
            }
            let frame = frame(&self.consumer, &self.held[self.lens.len()]);
            let (header, before) = (frame.header, self.run.len());
            let frame = Frame { header: Header { seq: self.numbers.give_out(header), ..header }, ..frame };
            if frame.encode(Form::Short, &mut self.run).is_err() {
                break; // no slot is that large
            }
            self.lens.push_back(self.run.len() - before);
        }
        Some(&self.run)
    }

    /// Releases the whole frames in the first `bytes` of the run, and returns their number and the
    /// bytes of their payloads.
    pub(crate) fn release_run(&mut self, bytes: usize) -> (u64, u64) {
        self.is_lent = false;
        let (mut frames, mut payload, mut end) = (0, 0, 0);
        while let Some(len) = self.lens.front().copied().filter(|len| end + len <= bytes) {
            end += len;
            frames += 1;
            payload += self.held.front().map_or(0, |taken| u64::from(taken.header.len));
            self.release_first();
        }
        self.run.drain(..end);
        (frames, payload)
    }

    /// Releases the frame that was returned last, if there is one.
    pub(crate) fn release(&mut self) {
        if std::mem::take(&mut self.is_lent) {
            if let Some(len) = self.lens.front() {
                self.run.drain(..len);
            }
            self.release_first();
        }
    }

    /// Keeps the frame that was returned last, if there is one: the next call returns it again.
    pub(crate) fn hand_back(&mut self) {
        self.is_lent = false;
    }

    fn release_first(&mut self) {
        self.lens.pop_front();
        self.left = self.left.saturating_sub(1);
        if let Some(taken) = self.held.pop_front() {
            self.consumer.release(taken);
        }
    }
}

fn frame<'t>(consumer: &Consumer, taken: &'t Taken) -> Frame<'t> {
    Frame { header: taken.header, stamp: 0, payload: consumer.payload(taken) }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
    }
}
