//! Frames held apart from their consumer, and runs of frames encoded as a byte stream.
//!
//! Used by `ring/holder.rs`. Relies on `consumer.rs`.
//!
//! The frames of a run are copies, but their slots are held until the frames have been sent. A held
//! slot cannot be put back: it is released, or recovered when the consumer leaves, and its frame is
//! redelivered with a mark.

use std::collections::VecDeque;

use super::consumer::Consumer;
use super::core::Taken;
use crate::error::Result;
use crate::frame::{Form, Frame, Header, Sequencer};
use crate::ring::holder::{Holder, Lend};
use crate::segment::Redelivery;
use crate::wait::deadline::Deadline;

/// The frames that were taken and not returned yet, or put back, in their order.
pub(crate) struct Run {
    waiting: VecDeque<Taken>,
    /// The first frames, encoded, each with its length.
    encoded: Vec<u8>,
    lens: VecDeque<usize>,
    numbers: Sequencer,
    /// The largest number of frames to acquire.
    left: u64,
}

impl Default for Run {
    fn default() -> Self {
        let (waiting, lens, numbers) = (VecDeque::new(), VecDeque::new(), Sequencer::new());
        Run { waiting, encoded: Vec::new(), lens, numbers, left: u64::MAX }
    }
}

impl Holder<Consumer> {
    /// Limits the frames that are acquired from now on.
    pub(crate) fn expect_at_most(&mut self, frames: u64) {
        self.run.left = frames;
    }
}

impl Lend for Consumer {
    type Held = Taken;
    type Run = Run;

    fn try_take(&mut self, run: &mut Run) -> Result<Taken> {
        run.waiting.pop_front().map_or_else(|| Consumer::try_take(self), Ok)
    }

    fn take(&mut self, run: &mut Run, deadline: Deadline) -> Result<Taken> {
        run.waiting.pop_front().map_or_else(|| Consumer::take(self, deadline), Ok)
    }

    fn frame<'a>(&'a self, held: &'a Taken) -> Frame<'a> {
        Frame { header: held.header, stamp: 0, payload: self.payload(held) }
    }

    /// The released frame is the first of all held frames, so if it was encoded, its bytes are the
    /// first, too.
    fn release(&mut self, run: &mut Run, held: Taken) {
        if let Some(len) = run.lens.pop_front() {
            run.encoded.drain(..len);
        }
        run.left = run.left.saturating_sub(1);
        Consumer::release(self, held);
    }

    fn put_back(&mut self, run: &mut Run, held: Taken) {
        run.waiting.push_front(held);
    }

    /// Up to a quarter of the ring. The frames are numbered here, because other consumers may take
    /// frames in between. `None` if the ring delivers at most once.
    fn run<'a>(&'a mut self, run: &'a mut Run, limit: usize) -> Option<&'a [u8]> {
        let ring = self.ring();
        if ring.redelivery() == Redelivery::AtMostOnce {
            return None;
        }
        let most = (ring.slots() / 4).max(1).min(usize::try_from(run.left).unwrap_or(usize::MAX));
        while run.encoded.len() < limit {
            if run.lens.len() == run.waiting.len() {
                if run.waiting.len() >= most {
                    break;
                }
                let Ok(taken) = Consumer::try_take(self) else { break }; // the next call reports the error
                run.waiting.push_back(taken);
            }
            let frame = self.frame(&run.waiting[run.lens.len()]);
            let (header, before) = (frame.header, run.encoded.len());
            let frame = Frame { header: Header { seq: run.numbers.allocate(header), ..header }, ..frame };
            if frame.encode(Form::Short, &mut run.encoded).is_err() {
                break; // no slot is that large
            }
            run.lens.push_back(run.encoded.len() - before);
        }
        Some(&run.encoded)
    }

    fn release_run(&mut self, run: &mut Run, bytes: usize) -> (u64, u64) {
        let (mut frames, mut payload, mut end) = (0, 0, 0);
        while let Some(len) = run.lens.front().copied().filter(|len| end + len <= bytes) {
            run.lens.pop_front();
            end += len;
            frames += 1;
            run.left = run.left.saturating_sub(1);
            if let Some(taken) = run.waiting.pop_front() {
                payload += u64::from(taken.header.len);
                Consumer::release(self, taken);
            }
        }
        run.encoded.drain(..end);
        (frames, payload)
    }
}
