//! `unix:PATH`: frames both ways over a Unix stream socket.
//!
//! Used by endpoints and programs. Relies on `stream/` for the ends, and on `socket/` for
//! the path and the peer.
//!
//! Each side sends HELLO first and BYE last. A receiver that has read the other side's HELLO lowers
//! its own sender's limit to the one announced, and answers PING. Bytes that are no frame end the
//! connection.
//!
//! The kernel identifies the peer (`SO_PEERCRED`): this user and root are accepted, other users if
//! they are [allowed](Options::allow_uid). A connecting side checks the listener, too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::SocketType;

use super::socket::Wanted;
pub use super::socket::peer::{Credentials, credentials};
use super::socket::unix::{self, connect_to_listener};
use super::stream::{self, Wire};
pub use super::stream::{Receiver, Sender};
use super::{Capabilities, DeliveryOrder, FrameReceiver, FrameSender, upgrade};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, OnCorrupt};
use crate::wait::deadline::Deadline;

/// The guarantees of Unix stream sockets.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "unix",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: false,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: false,
    authenticates_peer: true,
    reports_death: true,
    duplex: true,
    remote: false,
};

const WIRE: Wire = Wire { capabilities: &CAPABILITIES, form: Form::Short, on_corrupt: OnCorrupt::Close, features: 0 };

/// How to listen or connect: start from [`Options::default`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    stream: stream::Options,
    uids: Vec<u32>,
}

impl Options {
    /// The options of the ends of each connection.
    #[must_use]
    pub fn stream(mut self, options: stream::Options) -> Self {
        self.stream = options;
        self
    }

    /// Lets the processes of another user in, too. The socket has mode 0600, so change its mode or
    /// group as well.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }
}

/// A listening socket at a path. Dropping it removes the path; connections stay open.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, unix};
/// use std::time::Duration;
/// # let path = std::env::temp_dir().join(format!("slipring-doc-unix-{}", std::process::id()));
/// let options = unix::Options::default();
/// let listener = unix::Listener::bind(&path, &options)?;
/// let (mut tx, mut rx) = unix::connect(&path, &options, Duration::from_secs(5))?;
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
    stream: stream::Options,
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
        let inner = unix::Listener::bind(path.as_ref(), SocketType::STREAM, &options.uids)?;
        Ok(Listener { inner, stream: options.stream.clone() })
    }

    /// Accepts the next connection. A peer that has shut its sending side is served; one that has
    /// closed already, as liveness probes do, is ignored. Three system calls, and four to set it
    /// up.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Untrusted`] for a peer of a user that is not allowed (its
    /// connection is closed; call again for the next); [`Error::Io`].
    pub fn accept(&self, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
        self.stream_over(self.inner.accept(deadline.into())?)
    }

    /// Accepts the next connection, over rings if the peer offers them, too. `capacity`: bytes of
    /// the ring for sending from here, rounded up to a power of two. Some forty system calls.
    ///
    /// # Errors
    /// As [`Listener::accept`], and [`Error::Timeout`] for a peer that sends nothing;
    /// [`Error::PeerDead`] if it departs meanwhile; [`Error::Corrupt`], [`Error::Incompatible`],
    /// [`Error::Untrusted`] if it passes something that is no ring; [`Error::Invalid`] for an
    /// invalid capacity.
    pub fn accept_upgrading(&self, capacity: usize, deadline: impl Into<Deadline>) -> Result<Connection> {
        let deadline = deadline.into();
        self.upgrade(self.inner.accept(deadline)?, capacity, deadline)
    }

    /// Accepts the first peer that is `wanted`, over rings of `upgrade` bytes if requested. Peers
    /// of users that are not allowed are ignored.
    pub(crate) fn accept_wanted(
        &self,
        wanted: Wanted,
        upgrade: Option<usize>,
        deadline: Deadline,
    ) -> Result<Connection> {
        let socket = self.inner.accept_wanted(wanted, deadline)?;
        match upgrade {
            Some(capacity) => self.upgrade(socket, capacity, deadline),
            None => self.stream_over(socket).map(|(tx, rx)| Connection::Stream(tx, rx)),
        }
    }

    fn stream_over(&self, socket: OwnedFd) -> Result<(Sender, Receiver)> {
        stream::connection(socket, WIRE, &self.stream)
    }

    fn upgrade(&self, socket: OwnedFd, capacity: usize, deadline: Deadline) -> Result<Connection> {
        upgrade::negotiate(socket, WIRE, &self.stream, capacity, deadline)
    }
}

impl AsFd for Listener {
    /// Polls readable when a connection waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Connects to the listener at `path`, waiting for one until the deadline. Some nine system calls.
///
/// # Errors
/// [`Error::NotFound`] if there is no listener; [`Error::Timeout`] if the listener has too many
/// connections to accept; [`Error::Untrusted`] if the path is no socket, or the listener is of a
/// user that is not allowed; [`Error::Invalid`]; [`Error::Io`].
pub fn connect(path: impl AsRef<Path>, options: &Options, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
    let socket = connect_to_listener(path.as_ref(), SocketType::STREAM, &options.uids, deadline.into())?;
    stream::connection(socket, WIRE, &options.stream)
}

/// Connects as [`connect`] does, and continues over rings if the peer offers them, too; then a
/// frame takes no system call. `capacity`: bytes of the ring for sending from here, rounded up to a
/// power of two. Some forty system calls.
///
/// # Errors
/// As [`connect`] and [`Listener::accept_upgrading`].
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, unix};
/// use std::time::Duration;
/// # let path = std::env::temp_dir().join(format!("slipring-doc-upgrade-{}", std::process::id()));
/// let options = unix::Options::default();
/// let listener = unix::Listener::bind(&path, &options)?;
/// std::thread::scope(|scope| {
///     let client = scope.spawn(|| unix::connect_upgrading(&path, &options, 1 << 16, Duration::from_secs(5)));
///     let mut server = listener.accept_upgrading(1 << 16, Duration::from_secs(5))?;
///     let mut client = client.join().unwrap()?;
///     assert!(client.is_upgraded() && client.credentials()?.pid == std::process::id());
///     client.sender().send(Header::PLAIN, b"no system call")?;
///     assert!(matches!(server.receiver().recv()?, Event::Frame(frame) if frame.payload == b"no system call"));
///     Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn connect_upgrading(
    path: impl AsRef<Path>,
    options: &Options,
    capacity: usize,
    deadline: impl Into<Deadline>,
) -> Result<Connection> {
    let deadline = deadline.into();
    let socket = connect_to_listener(path.as_ref(), SocketType::STREAM, &options.uids, deadline)?;
    upgrade::negotiate(socket, WIRE, &options.stream, capacity, deadline)
}

/// The result of the handshake.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a connection")]
pub enum Connection {
    /// Frames over the socket: the peer offered no rings.
    Stream(Sender, Receiver),
    /// Frames over a ring in each direction.
    Rings(upgrade::Sender, upgrade::Receiver),
}

impl Connection {
    /// Whether frames go through shared memory.
    #[must_use]
    pub fn is_upgraded(&self) -> bool {
        matches!(self, Connection::Rings(..))
    }

    /// The end that sends.
    pub fn sender(&mut self) -> &mut dyn FrameSender {
        match self {
            Connection::Stream(tx, _) => tx,
            Connection::Rings(tx, _) => tx,
        }
    }

    /// The end that receives.
    pub fn receiver(&mut self) -> &mut dyn FrameReceiver {
        match self {
            Connection::Stream(_, rx) => rx,
            Connection::Rings(_, rx) => rx,
        }
    }

    /// Returns both ends.
    #[must_use]
    pub fn into_ends(self) -> (Box<dyn FrameSender>, Box<dyn FrameReceiver>) {
        match self {
            Connection::Stream(tx, rx) => (Box::new(tx), Box::new(rx)),
            Connection::Rings(tx, rx) => (Box::new(tx), Box::new(rx)),
        }
    }

    /// The process at the other end, as [`credentials`] returns it.
    ///
    /// # Errors
    /// As [`credentials`].
    pub fn credentials(&self) -> Result<Credentials> {
        match self {
            Connection::Stream(_, rx) => rx.poll_fd().map_or(Err(Error::Closed), credentials),
            Connection::Rings(_, rx) => credentials(rx),
        }
    }
}
