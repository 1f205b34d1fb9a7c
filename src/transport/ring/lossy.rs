//! A lossy subscriber of a broadcast ring as a source of frames: they are copied, and missed ones
//! are a gap.
//!
//! Used by `receiver.rs`. Relies on `ring/broadcast`.

use super::gap::Gap;
use crate::error::Result;
use crate::frame::{Event, Frame, Header};
use crate::ring::broadcast::{LossySubscriber, Received};

/// A lossy subscriber: its frames are copied, and what it missed is told with the frame behind it.
pub(super) struct Lossy {
    pub(super) subscriber: LossySubscriber,
    buffer: Box<[u8]>,
    /// Of the frame in the buffer.
    header: Header,
    /// What was missed before it.
    gap: Gap,
    /// Whether the event is the gap, and not the frame behind it.
    is_gap: bool,
}

impl Lossy {
    pub(super) fn new(subscriber: LossySubscriber) -> Self {
        let buffer = vec![0; subscriber.max_payload()].into_boxed_slice();
        Lossy { subscriber, buffer, header: Header::PLAIN, gap: Gap::default(), is_gap: false }
    }

    /// Advances. After a reported gap, the frame behind it follows.
    pub(super) fn advance(
        &mut self,
        mut recv: impl FnMut(&mut LossySubscriber, &mut [u8]) -> Result<Received>,
    ) -> Result<()> {
        if self.is_gap {
            self.gap.reported();
            self.is_gap = self.gap.is_open();
            return Ok(());
        }
        loop {
            match recv(&mut self.subscriber, &mut self.buffer)? {
                Received::Gap { missed } => self.gap.add(missed),
                Received::Frame(header) => {
                    self.header = header;
                    self.is_gap = self.gap.is_open();
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn event(&self) -> Event<'_> {
        let Header { stream, seq, len, .. } = self.header;
        if self.is_gap {
            return self.gap.event(stream, seq);
        }
        Event::Frame(Frame { header: self.header, stamp: 0, payload: &self.buffer[..len as usize] })
    }
}
