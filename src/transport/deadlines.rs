//! The blocking calls, with any type of deadline: [`FrameSenderExt`] and [`FrameReceiverExt`].
//!
//! Used by programs, which import them beside the traits. Relies on the traits, whose calls take a
//! [`Deadline`], because a `dyn FrameSender` cannot have generic calls.

use super::{FrameReceiver, FrameSender};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::frame::{Event, Header};
use crate::wait::deadline::Deadline;

/// The blocking calls of a [`FrameSender`]. Pass a [`Duration`](std::time::Duration) (from now), an
/// [`Instant`](std::time::Instant), or a [`Deadline`].
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, pipe, stream::Options};
/// use std::time::Duration;
/// let (mut tx, mut rx) = pipe::pair(&Options::new())?;
/// tx.send_deadline(Header::PLAIN, b"tick", Duration::from_secs(1))?;
/// let received = rx.recv_deadline(Duration::from_secs(1))?;
/// assert!(matches!(received, Event::Frame(frame) if frame.payload == b"tick"));
/// tx.close(Duration::from_secs(1))?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub trait FrameSenderExt: FrameSender {
    /// Sends one frame, waiting for room until the deadline.
    ///
    /// # Errors
    /// As [`FrameSender::send_until`].
    fn send_deadline(&mut self, header: Header, payload: &[u8], deadline: impl Into<Deadline>) -> Result<()> {
        self.send_until(header, payload, deadline.into())
    }

    /// Sends encoded frames, as [`FrameSender::send_encoded_until`] does.
    ///
    /// # Errors
    /// As there.
    fn send_encoded(&mut self, frames: &[u8], deadline: impl Into<Deadline>) -> Result<usize> {
        self.send_encoded_until(frames, deadline.into())
    }

    /// Passes all collected frames to the kernel or the ring, as [`FrameSender::flush_until`] does.
    ///
    /// # Errors
    /// As there.
    fn flush(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.flush_until(deadline.into())
    }

    /// Flushes, sends BYE and shuts the sending side, as [`FrameSender::close_until`] does.
    ///
    /// # Errors
    /// As there.
    fn close(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.close_until(deadline.into())
    }
}

impl<T: FrameSender + ?Sized> FrameSenderExt for T {}

/// The blocking call of a [`FrameReceiver`] with a deadline. Example: [`FrameSenderExt`].
pub trait FrameReceiverExt: FrameReceiver {
    /// Receives the next frame or report, waiting for it until the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`]; otherwise as [`FrameReceiver::recv`].
    fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<Event<'_>> {
        self.recv_until(deadline.into())
    }
}

impl<T: FrameReceiver + ?Sized> FrameReceiverExt for T {}
