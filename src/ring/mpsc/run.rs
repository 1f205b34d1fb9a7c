//! Frames held apart from their consumer, for code that passes them on.
//!
//! Used by `ring/holder.rs`. Relies on `consumer.rs`.

use super::Consumer;
use crate::error::Result;
use crate::frame::Frame;
use crate::ring::holder::Lend;
use crate::ring::spsc::layout::Peeked;
use crate::ring::spsc::received::Tally;
use crate::wait::deadline::Deadline;

// The end of one of several producers is left out: these callers are told of the end of all, which
// is `PeerDead` if one of them has died.
impl Lend for Consumer {
    type Held = Peeked;
    type Run = ();

    fn try_take(&mut self, (): &mut ()) -> Result<Peeked> {
        loop {
            if let Some(frame) = self.try_next()?.frame() {
                return Ok(frame);
            }
        }
    }

    fn take(&mut self, (): &mut (), deadline: Deadline) -> Result<Peeked> {
        loop {
            if let Some(frame) = self.next(deadline)?.frame() {
                return Ok(frame);
            }
        }
    }

    fn frame<'a>(&'a self, held: &'a Peeked) -> Frame<'a> {
        Frame { header: held.header(), stamp: 0, payload: self.payload(held) }
    }

    fn release(&mut self, (): &mut (), held: Peeked) {
        Consumer::release(self, held.end(), Tally::of(&held));
    }

    /// Nothing to do: the next call returns a frame that is not released again.
    fn put_back(&mut self, (): &mut (), _: Peeked) {}

    /// Each lane numbers its frames for itself: as one byte stream they would have gaps.
    fn run<'a>(&'a mut self, (): &'a mut (), _: usize) -> Option<&'a [u8]> {
        None
    }

    fn release_run(&mut self, (): &mut (), _: usize) -> (u64, u64) {
        (0, 0)
    }
}
