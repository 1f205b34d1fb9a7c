//! Frames and events that own their payloads: what a stream of events yields, and a sink takes.
//!
//! Used by the ends of transports for tasks, and by programs that keep frames.

use super::{Event, Frame, Header};

/// A [`Frame`] that owns its payload.
///
/// ```
/// use slipring::frame::{Header, OwnedFrame};
/// let frame = OwnedFrame::from(b"tick".to_vec());
/// assert_eq!(frame.header.kind, Header::PLAIN.kind);
/// assert_eq!(frame.as_frame().payload, b"tick");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedFrame {
    /// The header. Senders fill in `len` and `seq`.
    pub header: Header,
    /// As [`Frame::stamp`]. Senders stamp frames themselves.
    pub stamp: u64,
    /// The payload.
    pub payload: Vec<u8>,
}

impl OwnedFrame {
    /// A frame without a stamp.
    #[must_use]
    pub fn new(header: Header, payload: Vec<u8>) -> Self {
        OwnedFrame { header, stamp: 0, payload }
    }

    /// The frame, without a copy of its payload.
    #[must_use]
    pub fn as_frame(&self) -> Frame<'_> {
        Frame { header: self.header, stamp: self.stamp, payload: &self.payload }
    }
}

/// A frame of the kind that senders use if none is given.
impl From<Vec<u8>> for OwnedFrame {
    fn from(payload: Vec<u8>) -> Self {
        OwnedFrame::new(Header::PLAIN, payload)
    }
}

/// Copies the payload.
impl From<Frame<'_>> for OwnedFrame {
    fn from(frame: Frame<'_>) -> Self {
        OwnedFrame { header: frame.header, stamp: frame.stamp, payload: frame.payload.to_vec() }
    }
}

/// An [`Event`] that owns its payload.
///
/// ```
/// use slipring::frame::{Event, OwnedEvent};
/// let gap = Event::Gap { stream: 0, expected: 7, found: 9 };
/// assert_eq!(OwnedEvent::from(gap).as_event(), gap);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedEvent {
    /// As [`Event::Frame`].
    Frame(OwnedFrame),
    /// As [`Event::Gap`].
    Gap {
        /// The stream.
        stream: u16,
        /// The first missing sequence number.
        expected: u32,
        /// The sequence number that came instead.
        found: u32,
    },
    /// As [`Event::Duplicate`].
    Duplicate {
        /// The frame.
        frame: OwnedFrame,
        /// The sequence number that would have been new.
        expected: u32,
    },
    /// As [`Event::Skipped`].
    Skipped {
        /// The number of bytes.
        bytes: u64,
        /// What was wrong with the first of them.
        what: &'static str,
    },
}

impl OwnedEvent {
    /// The event, without a copy of its payload.
    #[must_use]
    pub fn as_event(&self) -> Event<'_> {
        match self {
            OwnedEvent::Frame(frame) => Event::Frame(frame.as_frame()),
            OwnedEvent::Gap { stream, expected, found } => {
                Event::Gap { stream: *stream, expected: *expected, found: *found }
            }
            OwnedEvent::Duplicate { frame, expected } => {
                Event::Duplicate { frame: frame.as_frame(), expected: *expected }
            }
            OwnedEvent::Skipped { bytes, what } => Event::Skipped { bytes: *bytes, what },
        }
    }
}

/// Copies the payload.
impl From<Event<'_>> for OwnedEvent {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Frame(frame) => OwnedEvent::Frame(frame.into()),
            Event::Gap { stream, expected, found } => OwnedEvent::Gap { stream, expected, found },
            Event::Duplicate { frame, expected } => OwnedEvent::Duplicate { frame: frame.into(), expected },
            Event::Skipped { bytes, what } => OwnedEvent::Skipped { bytes, what },
        }
    }
}
