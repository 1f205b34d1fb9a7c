//! Frames held apart from their consumer, and runs of frames as they are in the ring, for code that
//! passes them on.
//!
//! Used by `ring/holder.rs`, and by the subscribers of broadcast rings. Relies on `consumer.rs`.

use super::consumer::Consumer;
use super::core;
use super::layout::Peeked;
use super::received::Tally;
use crate::error::Result;
use crate::frame::Frame;
use crate::memory::Data;
use crate::ring::holder::Lend;
use crate::wait::deadline::Deadline;

impl Lend for Consumer {
    type Held = Peeked;
    type Run = ();

    fn try_take(&mut self, (): &mut ()) -> Result<Peeked> {
        self.try_next()
    }

    fn take(&mut self, (): &mut (), deadline: Deadline) -> Result<Peeked> {
        self.next(deadline)
    }

    fn frame<'a>(&'a self, held: &'a Peeked) -> Frame<'a> {
        Frame { header: held.header(), stamp: 0, payload: self.payload(held) }
    }

    fn release(&mut self, (): &mut (), held: Peeked) {
        Consumer::release(self, held.end(), Tally::of(&held));
    }

    /// Nothing to do: the next call returns a frame that is not released again.
    fn put_back(&mut self, (): &mut (), _: Peeked) {}

    /// At least one frame, if there is any. Empty if there is no frame, or if the first has to be
    /// marked as redelivered, because the mark is not in the ring.
    fn run<'a>(&'a mut self, (): &'a mut (), limit: usize) -> Option<&'a [u8]> {
        let Ok(first) = self.try_next() else { return Some(&[]) }; // the next call reports the error
        let start = first.position();
        // Only frames before the first could be marked.
        let end = if first.is_redelivered() { start } else { end_of_run(&mut self.core, &first, limit) };
        self.core.rewind();
        Some(self.records(start, end))
    }

    fn release_run(&mut self, (): &mut (), bytes: usize) -> (u64, u64) {
        let (end, tally) = frames_of_run(&mut self.core, bytes);
        if tally.frames > 0 {
            Consumer::release(self, end, tally);
        }
        (tally.frames.into(), tally.bytes)
    }
}

/// Where the frames from `first` on end that lie within `limit` bytes: at least behind `first`.
pub(in crate::ring) fn end_of_run<D: Data>(core: &mut core::Consumer<D>, first: &Peeked, limit: usize) -> u64 {
    let (start, mut end) = (first.position(), first.end());
    while let Ok(frame) = core.look() {
        if frame.end().wrapping_sub(start) > limit as u64 {
            break;
        }
        end = frame.end();
    }
    end
}

/// The frames that end within the first `bytes` bytes, and where the last of them ends.
pub(in crate::ring) fn frames_of_run<D: Data>(core: &mut core::Consumer<D>, bytes: usize) -> (u64, Tally) {
    core.rewind();
    let start = core.looked_at();
    let (mut end, mut tally) = (start, Tally::default());
    while end.wrapping_sub(start) < bytes as u64 {
        match core.look() {
            Ok(frame) if frame.end().wrapping_sub(start) <= bytes as u64 => {
                tally.add(&frame);
                end = frame.end();
            }
            _ => break,
        }
    }
    (end, tally)
}
