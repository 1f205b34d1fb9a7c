//! `unix:PATH`: frames both ways over a Unix stream socket.
//!
//! Used by endpoints and programs. Relies on `stream/` for the ends, and on `socket_path.rs` for the name.
//!
//! Each side says HELLO first and BYE last; a receiver that has read the other side's HELLO lowers its own sender's limit to what was
//! said, and answers PING. Bytes that are no frame end the connection for good.
//!
//! The kernel says who the peer is (`SO_PEERCRED`): ourselves and root are let in, others if they are
//! [allowed](Options::allow_uid). Whoever connects checks the listener, too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, accept_with, listen, recv, socket_with};

use super::datagram::connect_unix;
use super::socket_path::{BoundPath, is_allowed};
use super::stream::{self, Wire};
pub use super::stream::{Receiver, Sender};
use super::{Arrival, Capabilities};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, OnCorrupt};
use crate::os::poll::{self, Ready};
use crate::wait::deadline::Deadline;

/// What Unix stream sockets promise.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "unix",
    order: Arrival::Fifo,
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

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// How to listen or connect: [`Options::default`], then what differs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    stream: stream::Options,
    uids: Vec<u32>,
}

impl Options {
    /// How the ends of each connection are made.
    #[must_use]
    pub fn stream(mut self, options: stream::Options) -> Self {
        self.stream = options;
        self
    }

    /// Lets the processes of another user in, too. The socket's mode is 0600: open it for them, or put it behind a group.
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }
}

/// A socket under a path, to which others connect. Dropping it removes the path; connections go on.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, unix};
/// use std::time::Duration;
/// # let path = std::env::temp_dir().join(format!("slipring-doc-unix-{}", std::process::id()));
/// let options = unix::Options::default();
/// let listener = unix::Listener::bind(&path, &options)?;
/// let (mut tx, mut rx) = unix::connect(&path, &options, Duration::from_secs(5).into())?;
/// let (mut their_tx, mut their_rx) = listener.accept(Duration::from_secs(5).into())?;
/// tx.send(Header::PLAIN, b"question")?;
/// assert!(matches!(their_rx.recv()?, Event::Frame(frame) if frame.payload == b"question"));
/// their_tx.send(Header::PLAIN, b"answer")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"answer"));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    options: Options,
    _path: BoundPath,
}

impl Listener {
    /// Listens at `path`, at most 107 bytes, in a directory that others cannot change; the socket has mode 0600. One that is
    /// left over from a dead process is replaced. Some twelve system calls.
    ///
    /// # Errors
    /// [`Error::Exists`] if somebody listens there; [`Error::Untrusted`] for a directory that others may change, or if
    /// something else is under the path; [`Error::Invalid`]; [`Error::Io`].
    pub fn bind(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let socket = socket(SocketFlags::NONBLOCK)?;
        let path = BoundPath::bind(&socket, SocketType::STREAM, path.as_ref())?;
        listen(&socket, BACKLOG).map_err(|e| Error::io("listen at the socket", e))?;
        Ok(Listener { socket, options: options.clone(), _path: path })
    }

    /// The next connection. Two system calls, and four to set it up.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Untrusted`] for a peer of a user that is not allowed (its connection is closed; call
    /// again for the next); [`Error::Io`].
    pub fn accept(&self, deadline: Deadline) -> Result<(Sender, Receiver)> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                // Whoever looks whether somebody listens here connects and goes, without a word.
                Ok(socket) if has_gone(&socket) => {}
                Ok(socket) => return ends(socket, &self.options),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => match poll::wait(self.socket.as_fd(), Ready::Read, deadline.remaining()) {
                    Ok(true) => {}
                    Ok(false) => return Err(Error::Timeout),
                    Err(e) => return Err(Error::io("wait for a connection", e)),
                },
                Err(e) => return Err(Error::io("accept a connection", e)),
            }
        }
    }
}

impl AsFd for Listener {
    /// Polls readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to the listener at `path`, waiting for one until the deadline. Some nine system calls.
///
/// # Errors
/// [`Error::NotFound`] if nobody listens there; [`Error::Untrusted`] if the path is no socket, or the listener is of a user that
/// is not allowed; [`Error::Invalid`]; [`Error::Io`].
pub fn connect(path: impl AsRef<Path>, options: &Options, deadline: Deadline) -> Result<(Sender, Receiver)> {
    // Without waiting: a full backlog must not outlast the deadline.
    let socket = socket(SocketFlags::NONBLOCK)?;
    connect_unix(&socket, path.as_ref(), &options.uids, deadline)?;
    rustix::io::ioctl_fionbio(&socket, false).map_err(|e| Error::io("set up the socket", e))?;
    ends(socket, options)
}

/// The process at the other end of a connection, as it was when it connected or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its pid; 0 if it is in a pid namespace that cannot be seen from here.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Who is at the other end of a Unix socket (`SO_PEERCRED`, unix(7)). One system call.
///
/// # Errors
/// [`Error::Io`], also for what is no Unix socket.
///
/// ```
/// use slipring::transport::unix;
/// let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
/// assert_eq!(unix::credentials(&one)?.pid, std::process::id());
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn credentials(socket: impl AsFd) -> Result<Credentials> {
    let peer = socket_peercred(socket).map_err(|e| Error::io("ask who the peer is", e))?;
    let pid = rustix::process::Pid::as_raw(Some(peer.pid)).unsigned_abs();
    Ok(Credentials { pid, uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
}

fn socket(flags: SocketFlags) -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None)
        .map_err(|e| Error::io("make a socket", e))
}

fn has_gone(socket: &OwnedFd) -> bool {
    recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(_, bytes)| bytes == 0)
}

/// Both ends of a connected socket, once the peer is known to be allowed.
fn ends(socket: OwnedFd, options: &Options) -> Result<(Sender, Receiver)> {
    if !is_allowed(credentials(&socket)?.uid, &options.uids) {
        return Err(Error::Untrusted { what: "the peer is a process of another user: allow its uid" });
    }
    stream::connection(socket, WIRE, &options.stream)
}
