//! A consumer that holds the frame it returned last until the next call: what a view does with a
//! borrow, this does with a field.
//!
//! Used by `transport/ring.rs`, whose trait lends what it received. Relies on `consumer.rs`.

use super::consumer::Consumer;
use super::core::Taken;
use crate::error::Result;
use crate::frame::Frame;
use crate::wait::deadline::Deadline;

/// A consumer, and the frame it returned last.
pub(crate) struct Holder {
    consumer: Consumer,
    held: Option<Taken>,
}

impl Holder {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Holder { consumer, held: None }
    }

    pub(crate) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Acquires the next frame, if there is one.
    pub(crate) fn try_recv(&mut self) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.try_take()?);
        Ok(())
    }

    /// Acquires the next frame, waiting for it until the deadline.
    pub(crate) fn recv_deadline(&mut self, deadline: Deadline) -> Result<()> {
        self.release();
        self.held = Some(self.consumer.take(deadline)?);
        Ok(())
    }

    /// The frame that is held.
    pub(crate) fn held(&self) -> Option<Frame<'_>> {
        let held = self.held.as_ref()?;
        Some(Frame { header: held.header, stamp: 0, payload: self.consumer.payload(held) })
    }

    /// Releases the frame that is held, if there is one.
    pub(crate) fn release(&mut self) {
        if let Some(taken) = self.held.take() {
            self.consumer.release(taken);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
    }
}
