//! Unix sockets with a path: listening, accepting the allowed peers, and connecting.
//!
//! Used by `unix.rs`, `seqpacket.rs` and `dgram.rs`. Relies on `path.rs` for a path that can be
//! trusted, on `peer.rs` for the processes that may connect, and on `accept.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with};

use super::accept::{self, BACKLOG, Silent, Wanted};
use super::path::{BoundPath, peer_address};
use super::peer;
use crate::error::{Error, Result};
use crate::transport::retry;
use crate::wait::deadline::Deadline;

/// A listening socket at a path. Dropping it removes the path; connections stay open.
#[derive(Debug)]
pub(in crate::transport) struct Listener {
    socket: OwnedFd,
    uids: Vec<u32>,
    _path: BoundPath,
}

impl Listener {
    /// Listens at `path`, with mode 0600, for peers of this user, of root and of `uids`.
    ///
    /// # Errors
    /// As [`BoundPath::bind`].
    pub(in crate::transport) fn bind(path: &Path, kind: SocketType, uids: &[u32]) -> Result<Self> {
        let socket = new(kind)?;
        set_nonblocking(&socket, true)?;
        let path = BoundPath::bind(&socket, kind, path)?;
        listen(&socket, BACKLOG).map_err(|e| Error::io("listen at the socket", e))?;
        Ok(Listener { socket, uids: uids.to_vec(), _path: path })
    }

    /// The next connection.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Untrusted`] for a peer that is not allowed, whose connection is
    /// closed; [`Error::Io`].
    pub(in crate::transport) fn accept(&self, deadline: Deadline) -> Result<OwnedFd> {
        let socket = accept::next(self.as_fd(), deadline)?;
        peer::check(&socket, &self.uids)?;
        Ok(socket)
    }

    /// The connection of the first peer that is `wanted`. Peers that are not allowed are ignored.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Io`].
    pub(in crate::transport) fn accept_wanted(&self, wanted: Wanted, deadline: Deadline) -> Result<OwnedFd> {
        let admit = |socket: &OwnedFd| peer::check(socket, &self.uids);
        accept::first_to_speak(self.as_fd(), &mut Silent::default(), wanted, deadline, admit)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to the listener at `path`, as [`connect`] does, and checks its user.
///
/// # Errors
/// As [`connect`], and [`Error::Untrusted`] for a listener of a user that is not allowed.
pub(in crate::transport) fn connect_to_listener(
    path: &Path,
    kind: SocketType,
    uids: &[u32],
    deadline: Deadline,
) -> Result<OwnedFd> {
    let socket = new(kind)?;
    connect(&socket, path, uids, deadline)?;
    peer::check(&socket, uids)?;
    Ok(socket)
}

/// A blocking socket of this kind.
pub(in crate::transport) fn new(kind: SocketType) -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(|e| Error::io("create a socket", e))
}

fn set_nonblocking(socket: &OwnedFd, on: bool) -> Result<()> {
    ioctl_fionbio(socket, on).map_err(|e| Error::io("set up the socket", e))
}

/// Connects to the socket at `path`, waiting until a process listens there and has room for one
/// more connection.
///
/// # Errors
/// [`Error::NotFound`] if no process listens there until the deadline, [`Error::Timeout`] if the
/// listener has too many connections to accept; otherwise as [`peer_address`].
pub(in crate::transport) fn connect(
    socket: &OwnedFd,
    path: &Path,
    uids: &[u32],
    deadline: Deadline,
) -> Result<SocketAddrUnix> {
    // At a full backlog, a blocking socket would wait in the system call, beyond a deadline.
    set_nonblocking(socket, true)?;
    let mut last = Error::NotFound;
    let connected = retry::until(deadline, || {
        let address = match peer_address(path, uids) {
            Err(Error::NotFound) => {
                last = Error::NotFound;
                return Ok(None);
            }
            address => address?,
        };
        match rustix::net::connect(socket, &address) {
            // The listener is between its `bind` and its `listen`, or has just departed.
            Err(Errno::CONNREFUSED | Errno::NOENT) => last = Error::NotFound,
            Err(Errno::AGAIN) => last = Error::Timeout,
            Err(Errno::INTR) => {}
            Err(Errno::PROTOTYPE) => {
                return Err(Error::Untrusted {
                    what: "the socket under this path is of another type: seqpacket, dgram or unix",
                });
            }
            connected => return connected.map(|()| Some(address)).map_err(|e| Error::io("connect to the socket", e)),
        }
        Ok(None)
    })?;
    set_nonblocking(socket, false)?;
    connected.ok_or(last)
}
