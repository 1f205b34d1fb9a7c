//! A consumer that holds the frame it returned last until the next call. It stores the frame in a
//! field where a view would borrow the consumer. It also returns runs of frames as a byte stream.
//!
//! Used by `transport/ring/receiver.rs`, whose trait lends the received frame. Relies on the
//! consumers of the kinds, which implement [`Lend`] in their `run.rs`.

use crate::error::Result;
use crate::frame::Frame;
use crate::wait::deadline::Deadline;

/// A consumer whose frames can be held apart from it.
pub(crate) trait Lend {
    /// A frame that was received and is not released.
    type Held;
    /// State for runs of frames.
    type Run: Default;

    /// Receives the next frame, if there is one.
    fn try_take(&mut self, run: &mut Self::Run) -> Result<Self::Held>;

    /// Receives the next frame, waiting for it until the deadline.
    fn take(&mut self, run: &mut Self::Run, deadline: Deadline) -> Result<Self::Held>;

    /// The contents of a held frame.
    fn frame<'a>(&'a self, held: &'a Self::Held) -> Frame<'a>;

    /// Releases a held frame.
    fn release(&mut self, run: &mut Self::Run, held: Self::Held);

    /// Keeps a held frame: the next call returns it again.
    fn put_back(&mut self, run: &mut Self::Run, held: Self::Held);

    /// The committed frames, encoded one after the other, up to about `limit` bytes. `None` if held
    /// frames that are not sent would be lost.
    fn run<'a>(&'a mut self, run: &'a mut Self::Run, limit: usize) -> Option<&'a [u8]>;

    /// Releases the whole frames in the first `bytes` of the run, and returns their number and the
    /// bytes of their payloads.
    fn release_run(&mut self, run: &mut Self::Run, bytes: usize) -> (u64, u64);
}

/// A consumer, and the frame that it holds. Dropping it releases the frame.
pub(crate) struct Holder<C: Lend> {
    consumer: C,
    held: Option<C::Held>,
    pub(super) run: C::Run,
}

impl<C: Lend> Holder<C> {
    pub(crate) fn new(consumer: C) -> Self {
        Holder { consumer, held: None, run: C::Run::default() }
    }

    pub(crate) fn consumer(&self) -> &C {
        &self.consumer
    }

    /// The consumer, for calls that need no held frame.
    pub(crate) fn consumer_mut(&mut self) -> &mut C {
        self.release();
        &mut self.consumer
    }

    /// Acquires the next frame, if there is one.
    pub(crate) fn try_recv(&mut self) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.try_take(&mut self.run)?);
        Ok(())
    }

    /// Acquires the next frame, waiting for it until the deadline.
    pub(crate) fn recv_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.take(&mut self.run, deadline)?);
        Ok(())
    }

    /// The held frame.
    pub(crate) fn held(&self) -> Option<Frame<'_>> {
        self.held.as_ref().map(|held| self.consumer.frame(held))
    }

    /// The committed frames, see [`Lend::run`]. The held frame is the first of them.
    pub(crate) fn run(&mut self, limit: usize) -> Option<&[u8]> {
        self.hand_back();
        self.consumer.run(&mut self.run, limit)
    }

    /// Releases the whole frames in the first `bytes` of the run, and returns their number and the
    /// bytes of their payloads.
    pub(crate) fn release_run(&mut self, bytes: usize) -> (u64, u64) {
        self.hand_back();
        self.consumer.release_run(&mut self.run, bytes)
    }

    /// Keeps the held frame, if there is one: the next call returns it again.
    pub(crate) fn hand_back(&mut self) {
        if let Some(held) = self.held.take() {
            self.consumer.put_back(&mut self.run, held);
        }
    }

    /// Releases the held frame, if there is one.
    pub(crate) fn release(&mut self) {
        if let Some(held) = self.held.take() {
            self.consumer.release(&mut self.run, held);
        }
    }
}

impl<C: Lend> Drop for Holder<C> {
    fn drop(&mut self) {
        self.release();
    }
}
