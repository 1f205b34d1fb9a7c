//! A byte ring of a sender that is not trusted as a source of frames: they are copied, and their
//! sequence is checked.
//!
//! Used by `receiver.rs`. Relies on `ring/spsc`.

use crate::error::Result;
use crate::frame::{Event, Frame, Header, Order, Tracker};
use crate::ring::spsc;

/// A sender that is not trusted: its frames are copied, and their sequence is checked.
pub(super) struct Stranger {
    pub(super) consumer: spsc::UntrustedConsumer,
    buffer: Box<[u8]>,
    tracker: Tracker,
    header: Header,
    order: Order,
}

impl Stranger {
    pub(super) fn new(consumer: spsc::UntrustedConsumer) -> Self {
        let buffer = vec![0; consumer.max_payload()].into_boxed_slice();
        Stranger { consumer, buffer, tracker: Tracker::new(), header: Header::PLAIN, order: Order::Next }
    }

    /// Advances. After a reported gap, the frame behind it follows.
    pub(super) fn advance(
        &mut self,
        recv: impl FnOnce(&mut spsc::UntrustedConsumer, &mut [u8]) -> Result<Header>,
    ) -> Result<()> {
        if matches!(self.order, Order::Gap { .. }) {
            self.order = Order::Next;
            return Ok(());
        }
        self.header = recv(&mut self.consumer, &mut self.buffer)?;
        self.order = self.tracker.check(self.header);
        Ok(())
    }

    pub(super) fn event(&self) -> Event<'_> {
        let frame = Frame { header: self.header, stamp: 0, payload: &self.buffer[..self.header.len as usize] };
        match self.order {
            Order::Next => Event::Frame(frame),
            Order::Duplicate { expected } => Event::Duplicate { frame, expected },
            Order::Gap { expected } => Event::Gap { stream: self.header.stream, expected, found: self.header.seq },
        }
    }
}
