//! Sending and receiving one message: the common part of `seqpacket.rs`, `dgram.rs` and `udp.rs`.
//!
//! Relies on rustix and `os/poll.rs`.
//!
//! The sockets themselves block, with a time-out of [`WAIT_LIMIT`] (`SO_RCVTIMEO`): waiting for a
//! message is then one system call instead of an attempt, a `poll` and another attempt. Calls that
//! must not wait pass `MSG_DONTWAIT`.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_send_buffer_size};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sendmsg};

use crate::error::{Error, Result};
use crate::frame::Header;
use crate::os::poll::{Ready, wait};
use crate::transport::message::{Outlet, WAIT_LIMIT};
use crate::wait::deadline::Deadline;

/// The largest message that we send over a Unix socket, in bytes, if its buffer holds several of
/// that size. With room for only one, the two ends would have to alternate.
const UNIX_MESSAGE: usize = 64 << 10;
/// The largest message that we receive from a Unix socket, in bytes: the most that a peer can send
/// with the kernel's default buffer (`wmem_default`).
pub(in crate::transport) const UNIX_BUFFER: usize = 212_992;

/// Makes `recv` return after [`WAIT_LIMIT`].
pub(in crate::transport) fn wake_up_at_times(socket: &OwnedFd) -> Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(WAIT_LIMIT)).map_err(|e| Error::io("set the socket's time-out", e))
}

/// The largest message to send over this Unix socket, in bytes.
pub(in crate::transport) fn unix_message(socket: &OwnedFd) -> Result<usize> {
    let size = socket_send_buffer_size(socket).map_err(|e| Error::io("read the size of the socket's buffer", e))?;
    Ok((size / 2).clamp(2048, UNIX_MESSAGE)) // the kernel's minimum is 4,608
}

/// Sends one message without waiting.
pub(in crate::transport) fn push(socket: BorrowedFd<'_>, head: &[u8], payload: &[u8]) -> Result<(), Errno> {
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

/// A connected socket as the sending end of a datagram transport.
pub(in crate::transport) struct Datagrams {
    socket: OwnedFd,
    /// Whether an error means that there is no receiver.
    is_refusal: fn(Errno) -> bool,
}

impl Datagrams {
    pub(in crate::transport) fn new(socket: OwnedFd, is_refusal: fn(Errno) -> bool) -> Self {
        Datagrams { socket, is_refusal }
    }

    pub(in crate::transport) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Outlet for Datagrams {
    fn push(&mut self, _: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        match push(self.socket.as_fd(), head, payload) {
            Err(Errno::AGAIN) => Err(Error::Full),
            Err(error) if (self.is_refusal)(error) => Err(Error::Closed),
            sent => sent.map_err(|e| Error::io("send to the socket", e)),
        }
    }

    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        wait_for_room(self.socket.as_fd(), deadline)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

/// Waits until there may be room.
pub(in crate::transport) fn wait_for_room(socket: BorrowedFd<'_>, deadline: Deadline) -> Result<()> {
    wait(socket, Ready::Write, deadline.remaining()).map(drop).map_err(|e| Error::io("poll the socket", e))
}

/// Receives one message, waiting for it at most `patience` or the socket's time-out;
/// [`Errno::AGAIN`] if none has arrived.
pub(in crate::transport) fn pull<T>(
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
