//! Floor 4: every mechanism as a carrier of the same frames: [`FrameSender`] and [`FrameReceiver`], and what each promises.
//!
//! Used by [`endpoint`](crate::endpoint), which opens them from text, by the command line's `send`, `recv` and `relay`, and
//! by programs that do not care how their frames travel. Relies on `frame/` for the bytes, on `os/` for the calls, and on
//! `ring/` for the rings. One file per mechanism; what a mechanism promises stands in its [`Capabilities`], and
//! `tests/conformance/` holds it to that.
//!
//! # Beginning and end
//! A sender on anything but a ring says HELLO before its first frame and BYE when it is closed. So a receiver can tell how
//! the talk ended: [`Error::Closed`] after BYE, or when a byte stream of a foreign program, which never said HELLO, ends
//! between two frames; [`Error::PeerDead`] when somebody who said HELLO is gone without BYE, or a stream ends inside a frame.
//! With several senders the end comes when the last of them is gone, and another one may begin anew afterwards.

#![forbid(unsafe_code)]

pub(crate) mod accept;
mod datagram;
mod deadlines;
pub mod dgram;
mod doorbell;
pub mod fifo;
mod message;
pub mod mq;
pub mod pipe;
mod retry;
pub mod ring;
pub mod seqpacket;
pub mod signal;
pub(crate) mod socket_path;
pub mod stream;
pub mod sysv;
pub mod tcp;
pub mod udp;
pub mod unix;
pub mod upgrade;

pub use deadlines::{FrameReceiverExt, FrameSenderExt};
pub use doorbell::Doorbell;
pub use ring::{RingReceiver, RingSender};

use std::os::fd::BorrowedFd;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::frame::{Event, Header};
use crate::wait::deadline::Deadline;

/// The sending end of a transport. Object-safe: `Box<dyn FrameSender>` is what endpoints open. Import [`FrameSenderExt`], too,
/// for `send_deadline`, `flush` and `close` with any `impl Into<Deadline>`.
///
/// Sequence numbers are the transport's: what `header.seq` says is replaced, on a ring as on a wire.
pub trait FrameSender: Send {
    /// Sends one frame now. It has then left our hands up to [`FrameSenderExt::flush`]: a transport may collect small frames
    /// while the caller keeps sending, so that many leave in one system call.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room now: nothing of the frame has been sent, try the same frame again.
    /// [`Error::TooLarge`] above [`FrameSender::max_payload`], [`Error::Closed`] or [`Error::PeerDead`] if nobody will
    /// ever receive it, [`Error::Io`].
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()>;

    /// Sends one frame, waiting for room until the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`], and nothing of the frame has been sent; otherwise as [`FrameSender::try_send`].
    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()>;

    /// Sends one frame, waiting for room as long as it takes.
    ///
    /// # Errors
    /// As [`FrameSender::try_send`], without `Full`.
    fn send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.send_until(header, payload, Deadline::never())
    }

    /// Sends frames that are encoded already, one behind the other in the short form as in a byte ring, as they are; gives the bytes
    /// of those that were sent, at least one frame. They keep their sequence numbers, and are never collected: the kernel has them,
    /// but for the rest of the last one. 0 where frames go another way ([`FrameSender::takes_encoded`]): send them one by one.
    ///
    /// # Errors
    /// [`Error::Timeout`], and none was sent; [`Error::Corrupt`] for what are no frames of the short form, and
    /// [`Error::Invalid`] for a HELLO or a BYE; otherwise as [`FrameSender::try_send`].
    ///
    /// ```
    /// use slipring::frame::{Event, Form, Frame, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, stream::Options};
    /// let mut frames = Vec::new();
    /// for seq in 7..9 {
    ///     Frame::new(Header { seq, ..Header::PLAIN }, b"tick")?.encode(Form::Short, &mut frames)?;
    /// }
    /// let (mut tx, mut rx) = pipe::pair(&Options::new())?;
    /// assert_eq!(tx.send_encoded(&frames, slipring::Deadline::never())?, frames.len());
    /// let Event::Frame(frame) = rx.recv()? else { unreachable!() };
    /// assert_eq!((frame.header.seq, frame.payload), (7, &b"tick"[..]));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn send_encoded_until(&mut self, _frames: &[u8], _deadline: Deadline) -> Result<usize> {
        Ok(0)
    }

    /// Whether [`FrameSenderExt::send_encoded`] sends: over byte streams.
    ///
    /// ```
    /// use slipring::transport::{FrameSender, RingSender, pipe, stream::Options};
    /// let (tx, _rx) = slipring::spsc::pair(4096)?;
    /// assert!(!RingSender::from(tx).takes_encoded());
    /// assert!(pipe::pair(&Options::new())?.0.takes_encoded());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn takes_encoded(&self) -> bool {
        false
    }

    /// Hands everything collected to the kernel or the ring. Call it before pausing: what is collected is not under way.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the rest still collected; otherwise as [`FrameSender::try_send`].
    fn flush_until(&mut self, deadline: Deadline) -> Result<()>;

    /// Flushes, says BYE where the transport has one, and shuts the sending side. Dropping without it tries the same
    /// without waiting. Later sends give [`Error::Closed`].
    ///
    /// `Ok` means that nothing of what was accepted is known to be lost: the peer has read it or, if the peer is still there, the kernel
    /// or the ring holds it for it. (TCP: the other machine has acknowledged it.)
    ///
    /// # Errors
    /// [`Error::Closed`] or [`Error::PeerDead`] if the peer has gone and frames that were accepted did not arrive;
    /// [`Error::Timeout`], and it may be called again; [`Error::Io`].
    fn close_until(&mut self, deadline: Deadline) -> Result<()>;

    /// The largest payload in bytes that both sides take. Larger ones are refused, never cut.
    fn max_payload(&self) -> usize;

    /// What this transport promises.
    fn capabilities(&self) -> &'static Capabilities;

    /// A descriptor that polls writable when [`FrameSender::try_send`] may succeed, where there is one.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The receiving end of a transport. Object-safe: `Box<dyn FrameReceiver>` is what endpoints open. Import
/// [`FrameReceiverExt`], too, for `recv_deadline` with any `impl Into<Deadline>`.
///
/// What is received is lent: it lives until the next call. On a ring the frame stays the receiver's until then, so that
/// it comes again (marked) if the receiver dies before it asked for the next one.
pub trait FrameReceiver: Send {
    /// What is there now: a frame, or a report of frames missing, doubled or unreadable.
    ///
    /// # Errors
    /// [`Error::Empty`] if nothing has come; [`Error::Closed`] and [`Error::PeerDead`] at the end (see the
    /// [module](self)); [`Error::Corrupt`], [`Error::Incompatible`], [`Error::TooLarge`] for what no correct peer sends
    /// (byte streams of sockets: for good; messages that no correct peer sends are skipped, and reported as
    /// [`Event::Skipped`]); [`Error::Untrusted`] for a peer that may not send here; [`Error::Io`].
    fn try_recv(&mut self) -> Result<Event<'_>>;

    /// The same, waiting until the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`]; otherwise as [`FrameReceiver::try_recv`], without `Empty`.
    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>>;

    /// The same, waiting as long as it takes.
    ///
    /// # Errors
    /// As [`FrameReceiver::try_recv`], without `Empty`.
    fn recv(&mut self) -> Result<Event<'_>> {
        self.recv_until(Deadline::never())
    }

    /// Lets go of what was lent last, as the next call would.
    fn release(&mut self) {}

    /// Keeps what was lent last, and was not released, so that it is received again: here by the next call or, if this end is dropped,
    /// by the next receiver. False where a frame is taken from its channel when it is received: everywhere but on rings.
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, RingReceiver, RingSender};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut tx, mut rx) = (RingSender::from(tx), RingReceiver::from(rx));
    /// tx.send(Header::PLAIN, b"job")?;
    /// for _ in 0..2 {
    ///     assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"job"));
    ///     assert!(rx.hand_back());
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn hand_back(&mut self) -> bool {
        false
    }

    /// Announces that at most `frames` more frames will be received here. A byte stream then reads nothing behind the last
    /// of them, so that the next reader of the same pipe, FIFO or file finds it whole. Near the last frame, each costs two
    /// reads. Other transports take frames one by one anyway.
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, pipe, stream::Options};
    /// use std::os::fd::OwnedFd;
    /// let (reader, writer) = std::io::pipe().unwrap();
    /// let mut tx = pipe::sender(writer.into(), &Options::new())?;
    /// tx.send(Header::PLAIN, b"one")?;
    /// tx.send(Header::PLAIN, b"two")?;
    /// for word in ["one", "two"] {
    ///     let mut rx = pipe::receiver(reader.try_clone().unwrap().into(), &Options::new())?;
    ///     rx.expect_at_most(1);
    ///     assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == word.as_bytes()));
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn expect_at_most(&mut self, _frames: u64) {}

    /// Stops: from now on only those frames are received that would be lost with this end. Says whether there may be any;
    /// receive them until [`Error::Closed`].
    ///
    /// * Rings and queues keep what was not received for the next receiver: nothing is left to do, except that a queue gives
    ///   the frames of which it has taken a part.
    /// * Pipes, FIFOs and sockets give what has been read and what the kernel holds at this moment, and complete the frames
    ///   that have begun. Unix sockets take nothing more from their peer, which is told ([`Error::Closed`]); a peer over TCP
    ///   that goes on is reset when this end is dropped.
    fn stop(&mut self) -> bool {
        false
    }

    /// Frames that are there now, encoded one behind the other in the short form: what [`FrameSenderExt::send_encoded`] takes. A
    /// byte ring gives them where they lie, a slot ring as copies, with numbers of their own. What was lent last, and not released, is
    /// the first of them. Empty if there is none, or one in a byte ring that is marked as redelivered, which only
    /// [`FrameReceiver::try_recv`] shows. They stay until [`FrameReceiver::release_encoded`], or come again from the next call or,
    /// if this end is dropped, from the next receiver. `None` where frames come another way.
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, RingReceiver, RingSender, pipe, stream::Options};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut into_ring, mut from_ring) = (RingSender::from(tx), RingReceiver::from(rx));
    /// into_ring.send(Header::PLAIN, b"tick")?;
    /// into_ring.send(Header::PLAIN, b"tock")?;
    /// let (mut into_pipe, mut from_pipe) = pipe::pair(&Options::new())?;
    /// let frames = from_ring.encoded().unwrap_or_default();
    /// let sent = into_pipe.send_encoded(frames, slipring::Deadline::never())?; // one write, no copy
    /// assert_eq!(from_ring.release_encoded(sent).frames, 2);
    /// assert!(matches!(from_pipe.recv()?, Event::Frame(frame) if frame.payload == b"tick"));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn encoded(&mut self) -> Option<&[u8]> {
        None
    }

    /// Lets go of the first `bytes` of what [`FrameReceiver::encoded`] gave, and says what they were. A part of a frame stays.
    fn release_encoded(&mut self, _bytes: usize) -> Released {
        Released::default()
    }

    /// The largest payload in bytes that is accepted.
    fn max_payload(&self) -> usize;

    /// What this transport promises.
    fn capabilities(&self) -> &'static Capabilities;

    /// A descriptor that polls readable when [`FrameReceiver::try_recv`] may give something, where there is one. It is a
    /// hint about *new* bytes: call `try_recv` until it says `Empty` before polling.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What [`FrameReceiver::release_encoded`] let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Whole frames.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload: u64,
}

/// In which order frames arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As they were sent.
    Fifo,
    /// Those of one sender as it sent them; senders are interleaved.
    PerSender,
    /// Those of one stream of a sender as it sent them.
    PerStream,
    /// In any order: gaps and late frames are reported.
    Any,
}

/// What a transport promises. One constant per mechanism, the single source for `slipring doctor --transports`, for the
/// table of the README, and for what the conformance suite demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What stands before the colon of an endpoint, with the option that chooses, where there are several of a scheme.
    pub scheme: &'static str,
    /// In which order frames arrive.
    pub order: Arrival,
    /// Whether every frame accepted by `send` arrives while both ends live.
    pub lossless: bool,
    /// Whether the mechanism itself keeps messages apart; otherwise it is a stream of bytes and the header does.
    pub boundaries: bool,
    /// The largest payload with default settings, in bytes. The true limit is asked of the system when it is opened.
    pub max_payload: usize,
    /// Whether a sender may end and another begin without the receiver opening anew.
    pub survives_restart: bool,
    /// Whether the kernel tells who the peer is, so that one can choose. (The others let in whom the permissions of their
    /// name let in: the same user, by default.)
    pub authenticates_peer: bool,
    /// Whether the receiver learns that a sender died (without a message of its own).
    pub reports_death: bool,
    /// Whether one channel carries frames both ways.
    pub duplex: bool,
    /// Whether other machines can be reached.
    pub remote: bool,
}

/// Every transport's promises, in the order of the tables that are made of them.
pub const ALL: &[Capabilities] = &[
    ring::SPSC,
    ring::MPMC,
    pipe::CAPABILITIES,
    fifo::CAPABILITIES,
    mq::CAPABILITIES,
    sysv::CAPABILITIES,
    unix::CAPABILITIES,
    upgrade::CAPABILITIES,
    seqpacket::CAPABILITIES,
    dgram::CAPABILITIES,
    tcp::CAPABILITIES,
    udp::CAPABILITIES,
    signal::CAPABILITIES,
];
