//! Frames over a byte stream: the two ends that pipes, FIFOs, Unix stream sockets and TCP have in
//! common.
//!
//! Used by [`pipe`](super::pipe), [`fifo`](super::fifo), and what else is a stream of bytes, which
//! open the descriptors. Relies on `frame/` for the bytes, and on `os/bytes.rs`, which never
//! depends on `O_NONBLOCK`.
//!
//! # System calls
//! A frame costs one write and at most one read; a call without a deadline waits inside them. With
//! a deadline, waiting costs a `poll` and a second attempt more. Small frames arrive many to a read
//! by themselves, and leave many to a write with [`Options::batch`].
//!
//! # Parts of frames
//! The kernel may take a part of a frame. Then the frame counts as sent, its rest is kept, and the
//! next send, flush or close goes on with it; so a sender that pauses flushes. A receiver never
//! shows a part: a frame whose sender died in the middle of it is dropped, and the end is
//! [`Error::PeerDead`].
//!
//! # Connections that break
//! are mended only where that was asked for, which TCP offers: see `reconnect.rs`.

mod ahead;
mod receiver;
mod reconnect;
mod sender;
mod senders;
#[cfg(all(test, not(miri)))]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

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

/// How the ends of byte streams are made.
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
    /// Payloads up to 16 MiB; every frame leaves at once.
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

    /// Whether small frames are collected, up to 64 KiB (4 KiB in FIFOs), and leave in one system
    /// call: when the room is used up, with a larger frame, or at
    /// [`FrameSenderExt::flush`](super::FrameSenderExt::flush). A sender that collects flushes
    /// before it pauses.
    #[must_use]
    pub fn batch(mut self, batch: bool) -> Self {
        self.batch = batch;
        self
    }

    /// How many bytes a pipe or a FIFO holds (`F_SETPIPE_SZ`, rounded up by the kernel to a power
    /// of two, 64 KiB unless asked). Sockets ignore it.
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

/// What differs between the mechanisms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) capabilities: &'static Capabilities,
    pub(super) form: Form,
    pub(super) on_corrupt: OnCorrupt,
    /// Feature bits of our HELLO.
    pub(super) features: u64,
}

impl Wire {
    /// The clock that HELLO names: one that the other side can read, if it is on this machine.
    fn clock(&self) -> Clock {
        if self.capabilities.remote { Clock::None } else { Clock::Monotonic }
    }
}

/// What the two directions of one connection tell each other; a one-way stream has one of its own
/// at either end.
#[derive(Debug)]
struct Link {
    duplex: bool,
    /// What the peer's HELLO allows.
    peer_max: AtomicUsize,
    /// Answers to PINGs, as frames, that the sending side has yet to take.
    pongs: Mutex<Vec<u8>>,
    pongs_wait: AtomicBool,
    /// The kernel said, to either direction, that the peer reset the connection. It says so only
    /// once.
    was_reset: AtomicBool,
    /// How the connection is made anew when it breaks, if it is.
    reconnect: Option<Reconnect>,
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
        }
    }

    fn peer_max(&self) -> usize {
        self.peer_max.load(Ordering::Relaxed)
    }

    /// Whether one socket is broken, and the next one not there yet.
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
    /// Whether the system call itself may wait: only if nothing ends it.
    fn is_endless(self) -> bool {
        matches!(self, Wait::Until(deadline) if deadline == Deadline::never())
    }

    /// After an `EAGAIN`: waits until it is worth trying again. `temporary` is what a call that
    /// does not wait answers.
    fn wait(self, fd: &ByteFd, ready: Ready, temporary: Error) -> Result<()> {
        let Wait::Until(deadline) = self else { return Err(temporary) };
        match fd.poll(ready, deadline.remaining()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Timeout),
            Err(e) => Err(Error::io("wait for the stream", e)),
        }
    }
}

/// What a sender of this kind says first.
pub(super) fn hello(wire: Wire, options: &Options) -> Result<Hello> {
    let epoch = random::number().map_err(|e| Error::io("draw an epoch", e))?;
    let hello = Hello::new(options.max_payload as u32);
    Ok(Hello { clock: wire.clock(), features: wire.features, epoch, ..hello })
}

/// The two ends over the two directions of one socket, on which `hello` has been said.
pub(super) fn connection_after(hello: Hello, fd: OwnedFd, wire: Wire, options: &Options) -> Result<(Sender, Receiver)> {
    let fd = Arc::new(byte_fd(fd)?);
    let link = Arc::new(Link::new(true, None));
    let tx = Sender::after_hello(hello, fd.clone(), link.clone(), wire, options, false);
    let rx = Receiver::over(fd, link, Some(&tx), wire, options);
    Ok((tx, rx))
}

/// The two ends over the two directions of one socket. Says HELLO.
pub(super) fn connection(fd: OwnedFd, wire: Wire, options: &Options) -> Result<(Sender, Receiver)> {
    ends(byte_fd(fd)?.into(), None, wire, options)
}

/// The same; when the connection breaks, the ends go on over the one that `next` gives, for which
/// they wait at most for `patience`. Only for the long form, whose frames are sent one by one.
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

/// A sending end of its own. Says HELLO.
pub(super) fn sender(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Sender> {
    Sender::begin(byte_fd(fd)?.into(), Link::new(false, None).into(), wire, options, false)
}

/// A receiving end of its own.
pub(super) fn receiver(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Receiver> {
    Ok(Receiver::over(byte_fd(fd)?.into(), Link::new(false, None).into(), None, wire, options))
}

/// A sending end beside others on the same FIFO; `fd` is `O_NONBLOCK`, and shared with no other
/// end. Says HELLO.
pub(super) fn one_of_many(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Sender> {
    Sender::begin(ByteFd::nonblocking(fd).into(), Link::new(false, None).into(), wire, options, true)
}

/// The receiving end of a FIFO into which several may write, and whose end is not the end for ever:
/// see [`Receiver::renew`]. `fd` is shared with no other end.
pub(super) fn receiver_of_many(fd: OwnedFd, wire: Wire, options: &Options) -> Result<Receiver> {
    let mut receiver = Receiver::over(our_fifo(fd)?.into(), Link::new(false, None).into(), None, wire, options);
    receiver.expect_many();
    Ok(receiver)
}

/// Whether a connection is gone, by what a read or a write of it says: reset, or nothing came back
/// for too long.
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
