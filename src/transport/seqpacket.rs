//! `seqpacket:PATH`: frames over a connected Unix message socket (unix(7), `SOCK_SEQPACKET`).
//!
//! Used by endpoints and programs. Relies on `socket/`, and on `message/` for everything except
//! the socket itself.
//!
//! Both directions: each connection is a [`Sender`] and a [`Receiver`] that share a socket. Each
//! side sends HELLO first. A receiver that has read the peer's HELLO lowers its own sender's limit
//! to the one announced. PING is answered.
//!
//! The kernel identifies the peer (`SO_PEERCRED`): this user and root are accepted, other users if
//! they are [allowed](Options::allow_uid). A connecting side checks the listener, too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{Shutdown, SocketType, recv, shutdown};

use super::message::{Inbox, Inlet, Outbox, Outlet, Pulled, Waiting, Wire, receiver, sender};
use super::socket::Wanted;
pub use super::socket::options::Options;
use super::socket::send_recv::{UNIX_BUFFER, pull, push, unix_message, wait_for_room, wake_up_at_times};
use super::socket::unix::{self, connect_to_listener};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, Frame, Header, Hello, control};
use crate::os::fork;
use crate::os::poll::has_hung_up;
use crate::os::socket::unacknowledged;
use crate::wait::deadline::Deadline;

/// The guarantees of sequenced-packet sockets.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "seqpacket",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: false,
    authenticates_peer: true,
    reports_death: true,
    duplex: true,
    remote: false,
};

/// A listening socket at a path. Dropping it removes the path; connections stay open.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, seqpacket};
/// use std::time::Duration;
/// # let path = std::env::temp_dir().join(format!("slipring-doc-seqpacket-{}", std::process::id()));
/// let options = seqpacket::Options::default();
/// let listener = seqpacket::Listener::bind(&path, &options)?;
/// let (mut tx, mut rx) = seqpacket::connect(&path, &options, Duration::from_secs(5))?;
/// let (mut their_tx, mut their_rx) = listener.accept(Duration::from_secs(5))?;
/// tx.send(Header::PLAIN, b"question")?;
/// assert!(matches!(their_rx.recv()?, Event::Frame(frame) if frame.payload == b"question"));
/// their_tx.send(Header::PLAIN, b"answer")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"answer"));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    inner: unix::Listener,
    max_payload: usize,
}

impl Listener {
    /// Listens at `path`, at most 107 bytes long, in a directory that other users cannot change.
    /// The socket has mode 0600. A socket left over from a dead process is replaced. Some twelve
    /// system calls.
    ///
    /// # Errors
    /// [`Error::Exists`] if another process listens there; [`Error::Untrusted`] for a directory
    /// that other users may change, or if the path is not a socket; [`Error::Invalid`];
    /// [`Error::Io`].
    pub fn bind(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let inner = unix::Listener::bind(path.as_ref(), SocketType::SEQPACKET, &options.uids)?;
        Ok(Listener { inner, max_payload: options.max_payload })
    }

    /// Accepts the next connection. A peer that has shut its sending side is served; one that has
    /// closed already, as liveness probes do, is ignored. Three system calls, and three to set it
    /// up.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Untrusted`] for a peer of a user that is not allowed (its
    /// connection is closed; call again for the next); [`Error::Io`].
    pub fn accept(&self, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
        accepted(self.inner.accept(deadline.into())?, self.max_payload)
    }

    /// Accepts the first peer that is `wanted`. Peers of users that are not allowed are ignored.
    pub(crate) fn accept_wanted(&self, wanted: Wanted, deadline: Deadline) -> Result<(Sender, Receiver)> {
        accepted(self.inner.accept_wanted(wanted, deadline)?, self.max_payload)
    }
}

impl AsFd for Listener {
    /// Polls readable when a peer waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Connects to the listener at `path`, waiting for one until the deadline. Some nine system calls.
///
/// # Errors
/// [`Error::NotFound`] if no process listens there; [`Error::Timeout`] if the listener has too many
/// connections to accept; [`Error::Untrusted`] if the path is not a socket, or the listener is of a
/// user that is not allowed; [`Error::Invalid`]; [`Error::Io`].
pub fn connect(path: impl AsRef<Path>, options: &Options, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
    let socket = connect_to_listener(path.as_ref(), SocketType::SEQPACKET, &options.uids, deadline.into())?;
    let (link, inbox) = inbox(socket, options.max_payload)?;
    let outbox = Outbox::open(wire(&link)?, options.max_payload, |_| Ok(SendingEnd { link }))?;
    Ok((Sender(outbox), Receiver(inbox)))
}

/// The ends of an accepted connection. The peer may have sent everything and closed already: its
/// frames are still received.
fn accepted(socket: OwnedFd, max_payload: usize) -> Result<(Sender, Receiver)> {
    let (link, inbox) = inbox(socket, max_payload)?;
    let outbox = Outbox::answer(wire(&link)?, max_payload, |_| Ok(SendingEnd { link }))?;
    Ok((Sender(outbox), Receiver(inbox)))
}

fn wire(link: &Link) -> Result<Wire> {
    Ok(Wire { form: Form::Short, identified: false, message: unix_message(&link.socket)? })
}

/// The receiving end of a connected socket whose peer is allowed.
fn inbox(socket: OwnedFd, max_payload: usize) -> Result<(Arc<Link>, Inbox<ReceivingEnd>)> {
    wake_up_at_times(&socket)?;
    let (peer_limit, was_reset) = (AtomicU32::new(u32::MAX), AtomicBool::new(false));
    let link = Arc::new(Link { socket, peer_limit, was_reset, born: fork::generation() });
    let inbox = Inbox::new(ReceivingEnd { link: Arc::clone(&link) }, UNIX_BUFFER, max_payload);
    Ok((link, inbox))
}

/// The sending end of a connection. Examples: [`Listener`].
pub struct Sender(Outbox<SendingEnd>);

sender!(Sender);

/// The receiving end of a connection. Examples: [`Listener`].
pub struct Receiver(Inbox<ReceivingEnd>);

receiver!(Receiver);

/// The state shared by both ends of a connection.
struct Link {
    socket: OwnedFd,
    /// The payload limit of the peer's HELLO.
    peer_limit: AtomicU32,
    /// Whether the kernel reported, to either end, that the peer left data unread. It reports that
    /// only once.
    was_reset: AtomicBool,
    born: u32,
}

impl Link {
    /// Shuts one direction down, unless the connection belongs to the parent process.
    fn shut(&self, direction: Shutdown) {
        if self.born == fork::generation() {
            let _ = shutdown(&self.socket, direction);
        }
    }
}

struct SendingEnd {
    link: Arc<Link>,
}

impl Outlet for SendingEnd {
    fn push(&mut self, _: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        loop {
            match push(self.link.socket.as_fd(), head, payload) {
                Err(Errno::AGAIN) => return Err(Error::Full),
                // The peer has left data unread, which is reported once; retry to see the present
                // state.
                Err(Errno::CONNRESET) => self.link.was_reset.store(true, Ordering::Relaxed),
                Err(Errno::PIPE | Errno::NOTCONN) => return Err(Error::Closed),
                sent => return sent.map_err(|e| Error::io("send to the socket", e)),
            }
        }
    }

    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        wait_for_room(self.link.socket.as_fd(), deadline)
    }

    fn shut(&mut self) {
        self.link.shut(Shutdown::Write);
    }

    fn peer_limit(&self) -> usize {
        self.link.peer_limit.load(Ordering::Relaxed) as usize
    }

    fn has_peer_read_all(&self) -> bool {
        let socket = &self.link.socket;
        if matches!(socket_error(socket), Ok(Err(Errno::CONNRESET))) {
            self.link.was_reset.store(true, Ordering::Relaxed);
        }
        !self.link.was_reset.load(Ordering::Relaxed) && matches!(unacknowledged(socket.as_fd()), Ok(0))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.socket.as_fd())
    }
}

impl Drop for SendingEnd {
    fn drop(&mut self) {
        self.shut(); // the receiving end may still hold the socket
    }
}

struct ReceivingEnd {
    link: Arc<Link>,
}

impl Inlet for ReceivingEnd {
    /// A connection has one sender.
    type Source = ();

    const TRACKED: bool = true;

    const CONNECTED: bool = true;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<()>> {
        loop {
            match pull(&self.link.socket, patience, |flags| recv(&self.link.socket, &mut *buffer, flags)) {
                // Every frame has a header, so an empty message is the end.
                Ok((_, 0)) if self.link.was_reset.load(Ordering::Relaxed) => return Err(Error::PeerDead),
                Ok((_, 0)) => return Err(Error::Closed),
                Ok((_, len)) => return Ok(Pulled::new(len, Some(()))),
                Err(Errno::AGAIN) => return Err(Error::Empty),
                // The peer departed without reading all that we sent, such as our HELLO. What it
                // sent is still readable.
                Err(Errno::CONNRESET) => self.link.was_reset.store(true, Ordering::Relaxed),
                Err(e) => return Err(Error::io("receive from the socket", e)),
            }
        }
    }

    /// Makes the peer's sends fail from now on, unless it has departed: then its end is still
    /// reported.
    fn stop(&mut self) -> Waiting {
        let has_gone = has_hung_up(self.link.socket.as_fd()).unwrap_or(true);
        if !has_gone && shutdown(&self.link.socket, Shutdown::Read).is_ok() { Waiting::Last } else { Waiting::Lost }
    }

    fn greeted(&mut self, hello: &Hello) {
        self.link.peer_limit.store(hello.max_payload, Ordering::Relaxed);
    }

    fn answer(&mut self, payload: &[u8]) -> bool {
        let answer = || {
            let pong = Frame::new(Header::control(control::PONG, payload.len())?, payload)?;
            // Without waiting: a peer that does not read its answers gets none.
            let _ = push(self.link.socket.as_fd(), &pong.head(Form::Short)?, payload);
            Ok::<_, Error>(())
        };
        answer().is_ok()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.link.socket.as_fd())
    }
}

impl Drop for ReceivingEnd {
    fn drop(&mut self) {
        self.link.shut(Shutdown::Read); // so that the peer does not wait for room that will not appear
    }
}
