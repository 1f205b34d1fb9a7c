//! Frames held apart from their subscriber, and runs of frames as they are in the ring, for code
//! that passes them on.
//!
//! Used by `ring/holder.rs`. Relies on `subscriber.rs`, and on `spsc/run.rs`
//! for what a run holds.

use super::subscriber::Subscriber;
use crate::error::Result;
use crate::frame::Frame;
use crate::ring::holder::Lend;
use crate::ring::spsc::layout::Peeked;
use crate::ring::spsc::run::{end_of_run, frames_of_run};
use crate::wait::deadline::Deadline;

impl Lend for Subscriber {
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
        Subscriber::release(self, held.end(), 1, held.len() as u64);
    }

    fn put_back(&mut self, (): &mut (), _: Peeked) {
        self.keep();
    }

    /// At least one frame, if there is any.
    fn run<'a>(&'a mut self, (): &'a mut (), limit: usize) -> Option<&'a [u8]> {
        let Ok(first) = self.try_next() else { return Some(&[]) }; // the next call reports the error
        let (start, end) = (first.position(), end_of_run(&mut self.core, &first, limit));
        self.core.rewind();
        Some(self.records(start, end))
    }

    fn release_run(&mut self, (): &mut (), bytes: usize) -> (u64, u64) {
        let (end, tally) = frames_of_run(&mut self.core, bytes);
        if tally.frames > 0 {
            Subscriber::release(self, end, tally.frames, tally.bytes);
        } else {
            self.keep();
        }
        (tally.frames.into(), tally.bytes)
    }
}
