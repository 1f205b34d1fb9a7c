//! One direction of a two-way connection: keeps the other direction open, but unused.
//!
//! Used when only a sender or only a receiver is opened over a two-way socket. Dropping the other
//! end would tell the peer that it has departed.

use std::os::fd::BorrowedFd;

use super::Duplex;
use crate::error::Result;
use crate::frame::{Event, Header};
use crate::transport::{Capabilities, FrameReceiver, FrameSender, Released};
use crate::wait::deadline::Deadline;

/// The end that is used, and the one that is kept open.
pub(super) struct Half<T: ?Sized, U: ?Sized> {
    used: Box<T>,
    _kept: Box<U>,
}

impl Half<dyn FrameSender, dyn FrameReceiver> {
    pub(super) fn sending((used, kept): Duplex) -> Self {
        Half { used, _kept: kept }
    }
}

impl Half<dyn FrameReceiver, dyn FrameSender> {
    pub(super) fn receiving((kept, used): Duplex) -> Self {
        Half { used, _kept: kept }
    }
}

impl FrameSender for Half<dyn FrameSender, dyn FrameReceiver> {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.used.try_send(header, payload)
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        self.used.send_until(header, payload, deadline)
    }

    fn send_encoded_until(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        self.used.send_encoded_until(frames, deadline)
    }

    fn takes_encoded(&self) -> bool {
        self.used.takes_encoded()
    }

    fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        self.used.flush_until(deadline)
    }

    fn close_until(&mut self, deadline: Deadline) -> Result<()> {
        self.used.close_until(deadline)
    }

    fn max_payload(&self) -> usize {
        self.used.max_payload()
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.used.capabilities()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.used.poll_fd()
    }
}

impl FrameReceiver for Half<dyn FrameReceiver, dyn FrameSender> {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        self.used.try_recv()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.used.recv_until(deadline)
    }

    fn release(&mut self) {
        self.used.release();
    }

    fn keep(&mut self) -> bool {
        self.used.keep()
    }

    fn encoded(&mut self) -> Option<&[u8]> {
        self.used.encoded()
    }

    fn release_encoded(&mut self, bytes: usize) -> Released {
        self.used.release_encoded(bytes)
    }

    fn expect_at_most(&mut self, frames: u64) {
        self.used.expect_at_most(frames);
    }

    fn stop(&mut self) -> bool {
        self.used.stop()
    }

    fn max_payload(&self) -> usize {
        self.used.max_payload()
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.used.capabilities()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.used.poll_fd()
    }
}
