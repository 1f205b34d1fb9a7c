//! Frames over a byte stream: the common ends of pipes, FIFOs, Unix stream sockets and TCP.
//!
//! Used by [`pipe`](super::pipe), [`fifo`](super::fifo), [`unix`](super::unix) and
//! [`tcp`](super::tcp), which open the descriptors. Relies on `frame/` for the bytes, and on
//! `os/bytes.rs`, which does not depend on `O_NONBLOCK`.
//!
//! # System calls
//! A frame costs one write and at most one read; a call without a deadline waits inside them. With
//! a deadline, waiting costs one `poll` and a second attempt more. One read returns many small
//! frames if they are there; with [`Options::batch`] one write sends many.
//!
//! # Parts of frames
//! The kernel may take a part of a frame. Then the frame counts as sent. Its rest is kept, and the
//! next send, flush or close continues with it; so a sender must flush before it pauses. A receiver
//! returns whole frames only: a frame whose sender died in the middle of it is dropped, and the end
//! is [`Error::PeerDead`].
//!
//! # Connections that break
//! They are re-established only on request, which TCP supports: see `reconnect/`.

mod ahead;
mod early_hello;
mod open_senders;
mod receiver;
mod reconnect;
mod sender;
#[cfg(all(test, not(miri)))]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use early_hello::EarlyHello;
pub use receiver::Receiver;
pub(super) use reconnect::Next;
use reconnect::Reconnect;
pub use sender::Sender;

use crate::error::{Error, Result};
use crate::frame::{Clock, DEFAULT_MAX_PAYLOAD, Form, Hello, MAX_LEN, OnCorrupt};
use crate::os::bytes::ByteFd;
use crate::os::poll::Ready;
use crate::os::random;
use crate::transport::Capabilities;
use crate::wait::deadline::Deadline;

/// How to open the ends of byte streams.
///
/// ```
/// use slipring::transport::stream::Options;
/// let options = Options::new().max_payload(1 << 20).batch(true);
/// let (tx, rx) = slipring::transport::pipe::pair(&options)?;
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) max_payload: usize,
    pub(super) batch: bool,
    pub(super) pipe_size: Option<usize>,
}

impl Options {
    /// Payloads up to 16 MiB; every frame is sent at once.
    #[must_use]
    pub fn new() -> Self {
        Options { max_payload: DEFAULT_MAX_PAYLOAD, batch: false, pipe_size: None }
    }

    /// The largest payload in bytes that is sent and accepted, at most 2^30; buffers grow up to
    /// that when such a frame comes.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes.min(MAX_LEN as usize);
        self
    }

    /// Whether small frames are collected, up to 64 KiB (4 KiB in FIFOs), and sent in one system
    /// call: when the buffer is full, with a larger frame, or at
    /// [`FrameSenderExt::flush`](super::FrameSenderExt::flush). Such a sender must flush before it
    /// pauses.
    #[must_use]
    pub fn batch(mut self, batch: bool) -> Self {
        self.batch = batch;
        self
    }

    /// How many bytes a pipe or a FIFO holds (`F_SETPIPE_SZ`, rounded up by the kernel to a power
    /// of two, 64 KiB by default). Sockets ignore it.
    #[must_use]
    pub fn pipe_size(mut self, bytes: usize) -> Self {
        self.pipe_size = Some(bytes);
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

/// The differences between the mechanisms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) capabilities: &'static Capabilities,
    pub(super) form: Form,
    pub(super) on_corrupt: OnCorrupt,
    /// Feature bits of our HELLO.
    pub(super) features: u64,
}

impl Wire {
    /// The clock that HELLO names; on one machine, one that the other side can read.
    fn clock(&self) -> Clock {
        if self.capabilities.remote { Clock::None } else { Clock::Monotonic }
    }
}

/// The state that the two directions of a connection share. Each end of a one-way stream has its
/// own.
#[derive(Debug)]
struct Link {
    duplex: bool,
    /// The payload limit of the peer's HELLO.
    peer_max: AtomicUsize,
    /// Answers to PINGs, as frames, that the sending side has to send.
    pongs: Mutex<Vec<u8>>,
    pongs_wait: AtomicBool,
    /// The kernel reported, to either direction, that the peer reset the connection. It reports
    /// that only once.
    was_reset: AtomicBool,
    /// How to reconnect after a break, if requested.
    reconnect: Option<Reconnect>,
    /// Bytes that the sending side has read for the receiving side.
    early: EarlyHello,
}

impl Link {
    fn new(duplex: bool, reconnect: Option<Reconnect>) -> Self {
        Link {
            duplex,
            peer_max: AtomicUsize::new(usize::MAX),
            pongs: Mutex::new(Vec::new()),
            pongs_wait: AtomicBool::new(false),
            was_reset: AtomicBool::new(false),
            reconnect,
            early: EarlyHello::default(),
        }
    }

    fn peer_max(&self) -> usize {
        self.peer_max.load(Ordering::Relaxed)
    }

    /// Whether a socket is broken, and there is no next one yet.
    fn is_between(&self) -> bool {
        self.reconnect.as_ref().is_some_and(Reconnect::is_between)
    }
}

/// Whether a call waits.
#[derive(Clone, Copy, Debug)]
enum Wait {
    No,
    Until(Deadline),
}

impl Wait {
    /// Whether the system call itself may wait: only if no deadline or check has to end it.
    fn is_endless(self) -> bool {
        matches!(self, Wait::Until(deadline) if deadline == Deadline::never())
    }

    /// After an `EAGAIN`: waits until another attempt may succeed. `temporary` is the result of a
    /// call that does not wait.
    fn wait(self, fd: &ByteFd, ready: Ready, temporary: Error) -> Result<()> {
        let Wait::Until(deadline) = self else { return Err(temporary) };
        match fd.poll(ready, deadline.remaining()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Timeout),
            Err(e) => Err(Error::io("wait for the stream", e)),
        }
    }
}

/// The HELLO of a sender of this kind.
pub(super) fn hello(wire: Wire, options: &Options) -> Result<Hello> {
    let epoch = random::number().map_err(|e| Error::io("draw an epoch", e))?;
    let hello = Hello::new(options.max_payload as u32);
    Ok(Hello { clock: wire.clock(), features: wire.features, epoch, ..hello })
}

/// The two ends of one socket, on which `hello` has been sent.
pub(super) fn connection_after(hello: Hello, fd: OwnedFd, wire: Wire, options: &Options) -> Result<(Sender, Receiver)> {
    let fd = Arc::new(byte_fd(fd)?);
    let link = Arc::new(Link::new(true, None));
    let tx = Sender::after_hello(hello, fd.clone(), link.clone(), wire, options, false);
    let rx = Receiver::over(fd, link, Some(&tx), wire, options);
    Ok((tx, rx))
}

/// The two ends of one socket. Sends HELLO.
pub(super) fn connection(fd: OwnedFd, wire: Wire, options: &Options) -> Result<(Sender, Receiver)> {
    ends(byte_fd(fd)?.into(), None, wire, options)
}

/// The same; when the connection breaks, the ends continue over the one that `next` returns, for
/// which they wait at most for `patience`. Only for the long form, whose frames are sent one by
/// one.
pub(super) fn lasting_connection(
    fd: OwnedFd,
    (patience, next): (Duration, Next),
    wire: Wire,
    options: &Options,
) -> Result<(Sender, Receiver)> {
    let fd = Arc::new(byte_fd(fd)?);
    let reconnect = Reconnect::new(fd.clone(), patience, next);
    ends(fd, Some(reconnect), wire, options)
}

fn ends(fd: Arc<ByteFd>, reconnect: Option<Reconnect>, wire: Wire, options: &Options) -> Result<(Sender, Receiver)> {
    let link = Arc::new(Link::new(true, reconnect));
    let tx = Sender::begin(fd.clone(), link.clone(), wire, options, false)?;
    let rx = Receiver::over(fd, link, Some(&tx), wire, options);
    Ok((tx, rx))
}

/// A sending end without a receiving end. Sends HELLO.
pub(super) fn sender(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Sender> {
    Sender::begin(byte_fd(fd)?.into(), Link::new(false, None).into(), wire, options, false)
}

/// A receiving end without a sending end.
pub(super) fn receiver(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Receiver> {
    Ok(Receiver::over(byte_fd(fd)?.into(), Link::new(false, None).into(), None, wire, options))
}

/// One of the sending ends of a FIFO; `fd` is `O_NONBLOCK`, and shared with no other end. Sends
/// HELLO.
pub(super) fn one_of_many(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Sender> {
    Sender::begin(ByteFd::nonblocking(fd).into(), Link::new(false, None).into(), wire, options, true)
}

/// The receiving end of a FIFO, which may have several writers and can continue after an end: see
/// [`Receiver::renew`]. `fd` is shared with no other end.
pub(super) fn receiver_of_many(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Receiver> {
    let mut receiver = Receiver::over(our_fifo(fd)?.into(), Link::new(false, None).into(), None, wire, options);
    receiver.expect_many();
    Ok(receiver)
}

/// Whether a connection is broken, by the error of a read or a write: reset, or no answer for too
/// long.
fn is_lost(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNRESET | Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN
    )
}

fn our_fifo(fd: OwnedFd) -> Result<ByteFd> {
    ByteFd::ours(fd).map_err(|e| Error::io("set up the FIFO", e))
}

fn byte_fd(fd: OwnedFd) -> Result<ByteFd> {
    ByteFd::new(fd).map_err(|e| Error::io("examine the descriptor", e))
}
