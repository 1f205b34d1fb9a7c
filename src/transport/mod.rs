//! Pipes, FIFOs, queues, sockets, signals and rings as carriers of the same frames.
//!
//! [`FrameSender`] and [`FrameReceiver`] are the traits of all of them, for programs that work with
//! any transport. [`endpoint`](crate::endpoint) opens one from text; the functions of each module
//! open one from arguments. [`Capabilities`] state the guarantees of a transport;
//! `tests/conformance/` checks them. `docs/transports.md` says which one to take.
//!
//! # Beginning and end
//! On every transport except rings, a sender sends HELLO before its first frame and BYE when it is
//! closed. So a receiver can tell how the sender ended:
//!
//! * [`Error::Closed`] after BYE, or when the byte stream of a foreign program, which sent no
//!   HELLO, ends between two frames;
//! * [`Error::PeerDead`] when a sender that sent HELLO departed without BYE, or when a stream ends
//!   inside a frame.
//!
//! With several senders, the receiver gets the end when the last of them has departed. Another
//! sender may begin afterwards.

// Floor 4, one file per mechanism. Used by `endpoint/` and the command line. Relies on `frame/`
// for the bytes, on `os/` for the calls, and on `ring/` for the rings.

#![forbid(unsafe_code)]

mod deadlines;
pub mod dgram;
mod doorbell;
mod ending;
pub mod fifo;
mod message;
pub mod mq;
pub mod pipe;
mod retry;
pub mod ring;
pub mod seqpacket;
pub mod signal;
pub(crate) mod socket;
pub mod stream;
pub mod sysv;
#[cfg(feature = "async")]
mod tasks;
pub mod tcp;
pub mod udp;
pub mod unix;
pub mod upgrade;

pub use deadlines::{FrameReceiverExt, FrameSenderExt};
pub use doorbell::{Doorbell, FrameDoorbell, RoomBell};
#[cfg(feature = "async")]
pub use tasks::{AsyncReceiver, AsyncSender};

use std::os::fd::BorrowedFd;

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::frame::{Event, Header};
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;

/// The sending end of a transport. Object-safe: endpoints open a `Box<dyn FrameSender>`. Import
/// [`FrameSenderExt`], too, for `send_deadline`, `flush` and `close` with any
/// `impl Into<Deadline>`.
///
/// The transport allocates the sequence numbers: it replaces `header.seq`, on rings as on all
/// others.
pub trait FrameSender: Send {
    /// Sends one frame without waiting. A transport may collect small frames while the caller keeps
    /// sending, so that one system call sends many; [`FrameSenderExt::flush`] sends the collected
    /// ones.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room now: nothing of the frame has been sent, try the same
    /// frame again. [`Error::TooLarge`] above [`FrameSender::max_payload`], [`Error::Closed`] or
    /// [`Error::PeerDead`] if no receiver can get it, [`Error::Io`].
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()>;

    /// Sends one frame, waiting for room until the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`], and nothing of the frame has been sent; otherwise as
    /// [`FrameSender::try_send`].
    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()>;

    /// Sends one frame, waiting for room without a time limit.
    ///
    /// # Errors
    /// As [`FrameSender::try_send`], without `Full`.
    fn send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.send_until(header, payload, Deadline::never())
    }

    /// Sends encoded frames unchanged; they are one after the other in the short form, as in a byte
    /// ring. Returns the number of bytes sent, at least one frame. The frames keep their sequence
    /// numbers and are not collected: all are passed to the kernel, except perhaps the rest of the
    /// last one; in a ring they become visible at once. Returns 0 if this transport cannot send encoded frames
    /// ([`FrameSender::takes_encoded`]): send them one by one.
    ///
    /// # Errors
    /// [`Error::Timeout`], and none was sent; [`Error::Corrupt`] for bytes that are not frames of
    /// the short form, and [`Error::Invalid`] for a HELLO or a BYE; otherwise as
    /// [`FrameSender::try_send`].
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

    /// Whether [`FrameSenderExt::send_encoded`] is supported: over byte streams, and into byte rings.
    ///
    /// ```
    /// use slipring::transport::{FrameSender, pipe, ring, stream::Options};
    /// let (tx, _rx) = slipring::spsc::pair(4096)?;
    /// assert!(ring::Sender::from(tx).takes_encoded());
    /// let (tx, _rx) = slipring::mpmc::pair(4, 64)?;
    /// assert!(!ring::Sender::from(tx).takes_encoded());
    /// assert!(pipe::pair(&Options::new())?.0.takes_encoded());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn takes_encoded(&self) -> bool {
        false
    }

    /// Numbers the next frame of `stream`, for a relay that keeps the numbers of its source, as
    /// [`spsc::Producer::number_from`](crate::spsc::Producer::number_from). False, without effect,
    /// on other transports than byte rings (SPSC, mpsc, broadcast).
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, ring};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut tx, mut rx) = (ring::Sender::from(tx), ring::Receiver::from(rx));
    /// assert!(tx.number_from(0, 8));
    /// tx.send(Header::PLAIN, b"ninth")?;
    /// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.header.seq == 8));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn number_from(&mut self, _stream: u16, _seq: u32) -> bool {
        false
    }

    /// Passes all collected frames to the kernel or the ring. Call it before pausing: collected
    /// frames are not sent yet.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the rest still collected; otherwise as [`FrameSender::try_send`].
    fn flush_until(&mut self, deadline: Deadline) -> Result<()>;

    /// Flushes, sends BYE where the transport has one, and shuts the sending side. Dropping the
    /// sender tries the same without waiting. Later sends fail with [`Error::Closed`].
    ///
    /// `Ok` means that no accepted frame is known to be lost: the peer has read it, or the peer is
    /// still attached and the kernel or the ring holds the frame for it. (TCP: the other machine
    /// has acknowledged it.)
    ///
    /// # Errors
    /// [`Error::Closed`] or [`Error::PeerDead`] if the peer has departed and accepted frames did
    /// not arrive; [`Error::Timeout`], and it may be called again; [`Error::Io`].
    fn close_until(&mut self, deadline: Deadline) -> Result<()>;

    /// The largest payload in bytes that both sides accept. Larger ones are refused, not truncated.
    fn max_payload(&self) -> usize;

    /// The guarantees of this transport.
    fn capabilities(&self) -> &'static Capabilities;

    /// A descriptor that polls writable (`EPOLLOUT`, `Interest::WRITABLE`) when
    /// [`FrameSender::try_send`] may succeed, on all transports, where there is one: not for
    /// `sysv:`, and for a ring only [`with_doorbell`](ring::Sender::with_doorbell). Poll it after
    /// `try_send` found the transport full; an edge-triggered poll suffices.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The receiving end of a transport. Object-safe: endpoints open a `Box<dyn FrameReceiver>`. Import
/// [`FrameReceiverExt`], too, for `recv_deadline` with any `impl Into<Deadline>`.
///
/// A received event is borrowed until the next call. On a ring the receiver holds the frame until
/// then: if it dies first, the frame is redelivered (and marked).
pub trait FrameReceiver: Send {
    /// Receives without waiting: a frame, or a report of frames that are missing, duplicated or
    /// unreadable.
    ///
    /// # Errors
    /// [`Error::Empty`] if nothing has arrived; [`Error::Closed`] and [`Error::PeerDead`] at the
    /// end (see the [module](self)); [`Error::Corrupt`], [`Error::Incompatible`],
    /// [`Error::TooLarge`] for bytes that no correct peer sends (final on the byte streams of
    /// sockets; invalid messages are skipped, and reported as [`Event::Skipped`]);
    /// [`Error::Untrusted`] for a peer without access; [`Error::Io`].
    fn try_recv(&mut self) -> Result<Event<'_>>;

    /// As [`FrameReceiver::try_recv`], waiting until the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`]; otherwise as [`FrameReceiver::try_recv`], without `Empty`.
    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>>;

    /// As [`FrameReceiver::try_recv`], waiting without a time limit.
    ///
    /// # Errors
    /// As [`FrameReceiver::try_recv`], without `Empty`.
    fn recv(&mut self) -> Result<Event<'_>> {
        self.recv_until(Deadline::never())
    }

    /// Releases the last received frame, as the next call would.
    fn release(&mut self) {}

    /// Keeps the last received frame, if it is not released, so that it is received again: by the
    /// next call or, if this end is dropped, by the next receiver. False on all transports but
    /// rings, where receiving removes a frame from the channel.
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, ring};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut tx, mut rx) = (ring::Sender::from(tx), ring::Receiver::from(rx));
    /// tx.send(Header::PLAIN, b"job")?;
    /// for _ in 0..2 {
    ///     assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"job"));
    ///     assert!(rx.keep());
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    fn keep(&mut self) -> bool {
        false
    }

    /// Announces that at most `frames` more frames will be received here. A byte stream then reads
    /// nothing behind the last of them, so that the next reader of the same pipe, FIFO or file
    /// finds complete frames. Near the last frame, each costs two reads. Other transports receive
    /// frames one by one in any case.
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

    /// Stops: from now on, only frames that would be lost with this end are received. Returns
    /// whether there may be any; receive them until [`Error::Closed`].
    ///
    /// * Rings and queues keep unreceived frames for the next receiver. A queue still delivers the
    ///   frames of which it has received a part.
    /// * Pipes, FIFOs and sockets deliver what has been read and what the kernel holds at this
    ///   moment, and complete the frames that have begun. Unix sockets accept nothing more from
    ///   their peer, which gets [`Error::Closed`]; a peer over TCP that keeps sending is reset when
    ///   this end is dropped.
    fn stop(&mut self) -> bool {
        false
    }

    /// The available frames, encoded one after the other in the short form, as
    /// [`FrameSenderExt::send_encoded`] accepts them. A byte ring returns them in place, a slot
    /// ring as copies with new sequence numbers. The last received frame, if it is not released, is
    /// the first of them. Empty if there is none, or if the next one in a byte ring is marked as
    /// redelivered, which only [`FrameReceiver::try_recv`] shows. The frames stay until
    /// [`FrameReceiver::release_encoded`]; otherwise the next call returns them again or, if this
    /// end is dropped, the next receiver. `None` if this transport does not support it.
    ///
    /// ```
    /// use slipring::frame::{Event, Header};
    /// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, ring, stream::Options};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut into_ring, mut from_ring) = (ring::Sender::from(tx), ring::Receiver::from(rx));
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

    /// Releases the first `bytes` of [`FrameReceiver::encoded`], and returns their counts. A
    /// partial frame stays.
    fn release_encoded(&mut self, _bytes: usize) -> Released {
        Released::default()
    }

    /// The largest payload in bytes that is accepted.
    fn max_payload(&self) -> usize;

    /// The guarantees of this transport.
    fn capabilities(&self) -> &'static Capabilities;

    /// A handle that ends the blocking calls of this receiver from another thread or a signal
    /// handler, where there is one: for a ring without a doorbell. Where there is none, poll the
    /// descriptor together with another one.
    fn canceller(&self) -> Option<Canceller> {
        None
    }

    /// A descriptor that polls readable when [`FrameReceiver::try_recv`] may have a result, where
    /// there is one. It announces only *new* bytes: call `try_recv` until it returns `Empty` before
    /// polling. An edge-triggered poll suffices.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What [`FrameReceiver::release_encoded`] released.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Whole frames.
    pub frames: u64,
    /// Bytes of their payloads.
    pub payload: u64,
}

/// The order in which frames arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// As they were sent.
    Fifo,
    /// In order for each sender; senders are interleaved.
    PerSender,
    /// In order for each stream of a sender.
    PerStream,
    /// In any order: gaps and late frames are reported.
    Any,
}

/// The guarantees of a transport. One constant per mechanism, the single source for
/// `slipring doctor --transports`, for the README's table, and for the conformance suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The scheme of its endpoint, with the option that selects it if a scheme has several.
    pub scheme: &'static str,
    /// The order in which frames arrive.
    pub order: DeliveryOrder,
    /// Whether every frame accepted by `send` arrives while both ends live.
    pub lossless: bool,
    /// Whether the mechanism keeps messages apart; otherwise it is a stream of bytes, and the
    /// header separates frames.
    pub boundaries: bool,
    /// The largest payload with default settings, in bytes. The actual limit is read from the
    /// system when it is opened.
    pub max_payload: usize,
    /// Whether a sender may end and another begin while the receiver stays open.
    pub survives_restart: bool,
    /// Whether the kernel identifies the peer, so that users can be allowed one by one. (The others
    /// rely on the permissions of their name: the same user, by default.)
    pub authenticates_peer: bool,
    /// Whether the receiver learns that a sender died (without a message of its own).
    pub reports_death: bool,
    /// Whether one channel carries frames in both directions.
    pub duplex: bool,
    /// Whether other machines can be reached.
    pub remote: bool,
}

/// The guarantees of every transport, in the order of the tables made from them.
pub const ALL: &[Capabilities] = &[
    ring::SPSC,
    ring::MPMC,
    ring::MPSC,
    ring::LATEST,
    ring::BROADCAST,
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
