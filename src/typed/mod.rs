//! Structured messages over every ring and transport, with a check that both sides mean the same
//! type.
//!
//! [`Typed`] wraps a handle. Its type of messages has a [description](Message): name, size,
//! alignment, fields. The first typed handle of a ring leaves it in the ring's segment; each later
//! one compares, and gets [`Error::OtherType`], which names both types.
//! Senders of the other transports announce it before their first message.
//!
//! Each frame has a kind that is derived from the type, so that an untyped or differently typed
//! frame is an error, and not a wrong value.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-typed-{}", std::process::id()));
//! use slipring::typed::Typed;
//! use slipring::{Error, Options, spsc};
//!
//! slipring::message! {
//!     #[derive(Debug, PartialEq)]
//!     struct Quote { bid: i64, ask: i64 }
//!     #[derive(Debug)]
//!     struct Trade { price: i64, size: u64 }
//! }
//!
//! let options = Options::spsc(1 << 16).directory(&dir);
//! // One process:
//! let mut tx: Typed<Quote, _> = Typed::new(spsc::Producer::open("quotes", &options)?)?;
//! tx.send(&Quote { bid: 10_841, ask: 10_842 })?;
//!
//! // A process that is wrong about the type, and one that is right:
//! let wrong = Typed::<Trade, _>::new(spsc::Consumer::open("quotes", &options)?).unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "the messages have another type: \
//!      expected Trade { price: i64 @ 0, size: u64 @ 8 } of 16 bytes, aligned to 8, \
//!      found Quote { bid: i64 @ 0, ask: i64 @ 8 } of 16 bytes, aligned to 8"
//! );
//! let mut rx: Typed<Quote, _> = Typed::new(spsc::Consumer::open("quotes", &options)?)?;
//! assert_eq!(rx.recv()?, Quote { bid: 10_841, ask: 10_842 });
//! # slipring::Ring::remove("quotes", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), Error>(())
//! ```
//!
//! To write or read a value in place, and for batches, use the calls of the handle
//! ([`Typed::get_mut`]), for example
//! [`spsc::WriteGrant::value_mut`](crate::spsc::WriteGrant::value_mut) and
//! [`spsc::ReadView::value`](crate::spsc::ReadView::value). What is sent so should have the kind
//! [`Typed::header`].

// Floor 5. Used by programs. Relies on `ring/` and `transport/`.
#![forbid(unsafe_code)]

mod boards;
mod codec;
mod ends;
mod lanes;
mod lossy;
mod message;
#[cfg(feature = "serde")]
mod postcard;
#[cfg(feature = "transports")]
mod wires;

pub use codec::{Codec, Plain};
pub use ends::{Handle, Receiver, Sender};
pub use message::Message;
#[cfg(feature = "serde")]
pub use postcard::Postcard;
#[doc(hidden)]
pub use zerocopy;

use std::fmt;
use std::marker::PhantomData;

use crate::error::{Error, Result};
use crate::frame::Header;
use crate::segment::message_type::kind_of_frames;
use crate::wait::deadline::Deadline;

/// A handle `H` whose messages are values of the type `T`, as payloads by the codec `C`.
///
/// `H` is a producer or consumer of a ring, a publisher or subscriber, a writer or reader of latest
/// values, a producer or consumer of a byte stream, or the boxed end of any transport.
///
/// ```
/// use slipring::mpmc;
/// use slipring::typed::Typed;
/// let (tx, rx) = mpmc::pair(16, 64)?;
/// let mut tx: Typed<[f32; 2], _> = Typed::new(tx)?;
/// let mut rx: Typed<[f32; 2], _> = Typed::new(rx)?;
/// tx.send(&[0.5, -0.5])?;
/// assert_eq!(rx.recv()?, [0.5, -0.5]);
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Typed<T, H, C = Plain> {
    handle: H,
    state: State,
    types: PhantomData<fn() -> (T, C)>,
}

/// What does not depend on the type.
#[cfg_attr(not(feature = "transports"), allow(dead_code, reason = "rings need no announcement"))]
struct State {
    /// The kind of its frames.
    header: Header,
    description: Box<str>,
    buffer: Vec<u8>,
    /// Whether the description is still to be announced.
    is_unannounced: bool,
    /// What the last announcement described, if it is another type.
    other: Option<Box<str>>,
    missed: u64,
}

impl<T, H: Handle, C: Codec<T>> Typed<T, H, C> {
    /// Takes a handle, and agrees with its peers on the type: at once over a ring, by the first
    /// message over other transports. No system call.
    ///
    /// # Errors
    /// [`Error::OtherType`] if the ring's messages have another type.
    pub fn new(mut handle: H) -> Result<Self> {
        let description = C::describe();
        handle.agree(&description)?;
        let state = State {
            header: Header { kind: kind_of_frames(&description), ..Header::PLAIN },
            description: description.into(),
            buffer: Vec::new(),
            is_unannounced: true,
            other: None,
            missed: 0,
        };
        Ok(Typed { handle, state, types: PhantomData })
    }
}

impl<T, H, C> Typed<T, H, C> {
    /// The header of its messages, for frames that are sent by the handle itself.
    #[must_use]
    pub fn header(&self) -> Header {
        self.state.header
    }

    /// The description of the type.
    ///
    /// ```
    /// use slipring::typed::Typed;
    /// let (tx, _rx) = slipring::spsc::pair(4096)?;
    /// let tx: Typed<[u16; 4], _> = Typed::new(tx)?;
    /// assert_eq!(tx.description(), "[u16; 4]");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn description(&self) -> &str {
        &self.state.description
    }

    /// The handle, for its other calls.
    #[must_use]
    pub fn get_ref(&self) -> &H {
        &self.handle
    }

    /// The handle, for its other calls.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut H {
        &mut self.handle
    }

    /// The handle alone.
    #[must_use]
    pub fn into_inner(self) -> H {
        self.handle
    }
}

impl<T, H: Sender, C: Codec<T>> Typed<T, H, C> {
    /// Sends a value without waiting.
    ///
    /// # Errors
    /// As the handle's `try_send`, for example [`Error::Full`]; the codec's.
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<()> {
        let Typed { handle, state, .. } = self;
        state.buffer.clear();
        handle.try_send_message(state.header, C::encode(value, &mut state.buffer)?)
    }

    /// Sends a value; waits for room.
    ///
    /// # Errors
    /// As the handle's `send`; the codec's.
    #[inline]
    pub fn send(&mut self, value: &T) -> Result<()> {
        self.send_deadline(value, Deadline::never())
    }

    /// [`Typed::send`], until a deadline.
    ///
    /// # Errors
    /// As [`Typed::send`], and [`Error::Timeout`].
    #[inline]
    pub fn send_deadline(&mut self, value: &T, deadline: impl Into<Deadline>) -> Result<()> {
        let Typed { handle, state, .. } = self;
        state.buffer.clear();
        handle.send_message(state.header, C::encode(value, &mut state.buffer)?, deadline.into())
    }
}

impl<T, H: Receiver, C: Codec<T>> Typed<T, H, C> {
    /// The next value, if there is one.
    ///
    /// # Errors
    /// As the handle's `try_recv`, for example [`Error::Empty`]; [`Error::Incompatible`] for a frame
    /// of another type, which is consumed; the codec's.
    #[inline]
    pub fn try_recv(&mut self) -> Result<T> {
        let kind = self.state.header.kind;
        self.handle.try_recv_message(|header, payload| decode::<T, C>(kind, header, payload))?
    }

    /// The next value; waits for it.
    ///
    /// # Errors
    /// As the handle's `recv` and [`Typed::try_recv`].
    #[inline]
    pub fn recv(&mut self) -> Result<T> {
        self.recv_deadline(Deadline::never())
    }

    /// [`Typed::recv`], until a deadline.
    ///
    /// # Errors
    /// As [`Typed::recv`], and [`Error::Timeout`].
    #[inline]
    pub fn recv_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<T> {
        let kind = self.state.header.kind;
        self.handle.recv_message(deadline.into(), |header, payload| decode::<T, C>(kind, header, payload))?
    }
}

#[inline(always)]
fn decode<T, C: Codec<T>>(kind: u16, header: Header, payload: &[u8]) -> Result<T> {
    if header.kind != kind {
        return Err(other_kind(kind, header));
    }
    C::decode(payload)
}

#[cold]
fn other_kind(expected: u16, found: Header) -> Error {
    let what = "kind of frame, which stands for the type of the messages";
    Error::Incompatible { what, expected: expected.into(), found: found.kind.into() }
}

impl<T, H: fmt::Debug, C> fmt::Debug for Typed<T, H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("type", &self.state.description).field("handle", &self.handle).finish()
    }
}
