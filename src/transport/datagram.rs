//! Message sockets: the common part of `seqpacket.rs`, `dgram.rs` and `udp.rs`.
//!
//! Relies on rustix and `os/poll.rs`.
//!
//! The sockets themselves block, with a time-out of [`WAIT_LIMIT`] (`SO_RCVTIMEO`): waiting for a
//! message is then one system call instead of a try, a `poll` and another try. Calls that must not
//! wait pass `MSG_DONTWAIT`.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_send_buffer_size};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
    sendmsg, socket_with,
};

use super::message::WAIT_LIMIT;
use super::retry;
use super::socket_path::peer_address;
use crate::error::{Error, Result};
use crate::os::poll::{Ready, wait};
use crate::wait::deadline::Deadline;

/// The largest message that we send over a Unix socket, in bytes, if its buffer holds several of
/// that size. With only one, the two ends would take turns.
const UNIX_MESSAGE: usize = 64 << 10;
/// The largest message that we receive from a Unix socket, in bytes: the most that a peer can send
/// with the kernel's default buffer (`wmem_default`).
pub(super) const UNIX_BUFFER: usize = 212_992;

/// Creates a Unix socket that waits for a message in one call.
pub(super) fn unix_socket(kind: SocketType) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|e| Error::io("create a socket", e))?;
    wake_up_at_times(&socket)?;
    Ok(socket)
}

/// Makes `recv` return after [`WAIT_LIMIT`].
pub(super) fn wake_up_at_times(socket: &OwnedFd) -> Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(WAIT_LIMIT)).map_err(|e| Error::io("set the socket's time-out", e))
}

/// The largest message to send over this Unix socket, in bytes.
pub(super) fn unix_message(socket: &OwnedFd) -> Result<usize> {
    let size = socket_send_buffer_size(socket).map_err(|e| Error::io("read the size of the socket's buffer", e))?;
    Ok((size / 2).clamp(2048, UNIX_MESSAGE)) // the kernel's least is 4,608
}

/// Connects to the socket at `path`, waiting until a process listens there and has room for one
/// more connection.
///
/// # Errors
/// [`Error::NotFound`] if no process listens there until the deadline, [`Error::Timeout`] if the
/// listener has too many connections to accept; otherwise as [`peer_address`].
pub(super) fn connect_unix(
    socket: &OwnedFd,
    path: &std::path::Path,
    uids: &[u32],
    deadline: Deadline,
) -> Result<SocketAddrUnix> {
    let set_nonblocking = |on| rustix::io::ioctl_fionbio(socket, on).map_err(|e| Error::io("set up the socket", e));
    // A blocking socket would wait for a full backlog in the system call, beyond any deadline.
    set_nonblocking(true)?;
    let mut last = Error::NotFound;
    let connected = retry::until(deadline, || {
        let address = match peer_address(path, uids) {
            Err(Error::NotFound) => {
                last = Error::NotFound;
                return Ok(None);
            }
            address => address?,
        };
        match connect(socket, &address) {
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
    set_nonblocking(false)?;
    connected.ok_or(last)
}

/// Sends one message without waiting.
pub(super) fn push(socket: BorrowedFd<'_>, head: &[u8], payload: &[u8]) -> Result<(), Errno> {
    let parts = [IoSlice::new(head), IoSlice::new(payload)];
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::INTR) => {}
            Err(Errno::NOBUFS) => return Err(Errno::AGAIN),
            sent => return sent.map(drop),
        }
    }
}

/// Waits until there may be room.
pub(super) fn wait_for_room(socket: BorrowedFd<'_>, deadline: Deadline) -> Result<()> {
    wait(socket, Ready::Write, deadline.remaining()).map(drop).map_err(|e| Error::io("poll the socket", e))
}

/// Receives one message, waiting for it at most `patience` or the socket's time-out;
/// [`Errno::AGAIN`] if none has arrived.
pub(super) fn pull<T>(
    socket: &OwnedFd,
    patience: Duration,
    mut receive: impl FnMut(RecvFlags) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if patience >= WAIT_LIMIT {
        return match receive(RecvFlags::TRUNC) {
            Err(Errno::INTR) => Err(Errno::AGAIN),
            received => received,
        };
    }
    let mut polled = patience.is_zero();
    loop {
        match receive(RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !polled => {
                if !wait(socket.as_fd(), Ready::Read, patience)? {
                    return Err(Errno::AGAIN);
                }
                polled = true;
            }
            received => return received,
        }
    }
}
