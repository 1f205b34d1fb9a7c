//! The handles of rings that carry typed messages.
//!
//! Used by [`Typed`](super::Typed). Relies on the handles' calls for frames.

use crate::error::Result;
use crate::frame::Header;
use crate::ring::{broadcast, latest, mpmc, mpsc, spsc, stream};
use crate::wait::deadline::Deadline;

mod sealed {
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// Handles that can be [`Typed`](super::Typed).
pub trait Handle: Sealed {
    /// Agrees with the peers on the type of the messages.
    #[doc(hidden)]
    fn agree(&mut self, description: &str) -> Result<()>;
}

/// Handles that send typed messages in frames.
pub trait Sender: Handle {
    /// Sends a frame without waiting.
    #[doc(hidden)]
    fn try_send_message(&mut self, header: Header, payload: &[u8]) -> Result<()>;

    /// Sends a frame, waiting until the deadline.
    #[doc(hidden)]
    fn send_message(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()>;
}

/// Handles that receive typed messages in frames.
pub trait Receiver: Handle {
    /// Passes the next frame to `decode`, if there is one.
    #[doc(hidden)]
    fn try_recv_message<R>(&mut self, decode: impl FnOnce(Header, &[u8]) -> R) -> Result<R>;

    /// Passes the next frame to `decode`, waiting for it until the deadline.
    #[doc(hidden)]
    fn recv_message<R>(&mut self, deadline: Deadline, decode: impl FnOnce(Header, &[u8]) -> R) -> Result<R>;
}

macro_rules! rings {
    ($($handle:ty),*) => { $(
        impl Sealed for $handle {}

        impl Handle for $handle {
            fn agree(&mut self, description: &str) -> Result<()> {
                self.ring().agree_on_type(description).map(|_| ())
            }
        }
    )* };
}

rings! {
    spsc::Producer, spsc::Consumer, mpmc::Producer, mpmc::Consumer, mpsc::Producer, mpsc::Consumer, broadcast::Publisher,
    broadcast::Subscriber, broadcast::LossySubscriber, latest::Writer, latest::Reader, stream::Producer, stream::Consumer
}

macro_rules! senders {
    ($($handle:ty),*) => { $(
        impl Sender for $handle {
            #[inline]
            fn try_send_message(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                self.try_send_frame(header, payload)
            }

            #[inline]
            fn send_message(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
                self.send_frame_deadline(header, payload, deadline)
            }
        }
    )* };
}

senders!(spsc::Producer, mpmc::Producer, mpsc::Producer, broadcast::Publisher);

/// They skip control frames: an announcement of the type comes from a sender that is a boxed ring.
macro_rules! receivers {
    ($($handle:ty),*) => { $(
        impl Receiver for $handle {
            #[inline]
            fn try_recv_message<R>(&mut self, decode: impl FnOnce(Header, &[u8]) -> R) -> Result<R> {
                loop {
                    let view = self.try_recv()?;
                    if !view.header().is_control() {
                        return Ok(decode(view.header(), &view));
                    }
                }
            }

            #[inline]
            fn recv_message<R>(&mut self, deadline: Deadline, decode: impl FnOnce(Header, &[u8]) -> R) -> Result<R> {
                loop {
                    let view = self.recv_deadline(deadline)?;
                    if !view.header().is_control() {
                        return Ok(decode(view.header(), &view));
                    }
                }
            }
        }
    )* };
}

receivers!(spsc::Consumer, mpmc::Consumer, broadcast::Subscriber);
