//! Accepting connections: the loop of the listeners of `unix.rs`, `seqpacket.rs` and `tcp/`.
//!
//! Used by those. Relies on `os/poll.rs`. Every listening socket is `O_NONBLOCK`.
//!
//! A program accepts every connection that is not closed already ([`next`]). An endpoint has one
//! connection and waits for a peer that sends ([`first_to_speak`]), because a liveness probe, a
//! health check or a second listener that was refused connects and closes without sending.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketFlags, accept_with, recv};

use crate::error::{Error, Result};
use crate::os::poll::{self, Ready};
use crate::wait::deadline::Deadline;

/// Connections that may wait to be accepted.
pub(in crate::transport) const BACKLOG: i32 = 64;

/// The largest number of silent connections; beyond it, the oldest is closed.
const MOST_SILENT: usize = 64;

/// How long a peer to send to may be silent before it is accepted. Peers of this library send HELLO
/// at once, others need not.
pub(in crate::transport) const PATIENCE: Duration = Duration::from_secs(1);

/// Which peers [`first_to_speak`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A peer to receive from: it has sent a first byte.
    Talker,
    /// A peer to send to: it has sent a first byte, or nothing for [`PATIENCE`], or has ended its
    /// own direction.
    Listener,
}

/// What a connection has sent so far.
enum Said {
    Something,
    Nothing,
    /// The end of its direction; it may still receive.
    End,
    /// It has closed without sending.
    Gone,
}

/// Accepts the next connection, if there is one.
///
/// # Errors
/// [`Error::Io`].
pub(in crate::transport) fn try_next(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(Error::io("accept a connection", error)),
        }
    }
}

/// Accepts the next connection that has not closed already.
///
/// # Errors
/// [`Error::Timeout`]; [`Error::Io`].
pub(in crate::transport) fn next(listener: BorrowedFd<'_>, deadline: Deadline) -> Result<OwnedFd> {
    loop {
        while let Some(socket) = try_next(listener)? {
            if !matches!(said(&socket), Said::Gone) {
                return Ok(socket);
            }
        }
        if !poll::wait(listener, Ready::Read, deadline.remaining())
            .map_err(|e| Error::io("wait for a connection", e))?
        {
            return Err(Error::Timeout);
        }
    }
}

/// Connections that have sent nothing yet, and since when.
#[derive(Debug, Default)]
pub(in crate::transport) struct Silent(Vec<(OwnedFd, Instant)>);

/// Accepts the first connection that is `wanted`, of those that `admit` does not refuse. `silent`
/// holds the others.
///
/// # Errors
/// [`Error::Timeout`]; [`Error::Io`].
pub(in crate::transport) fn first_to_speak(
    listener: BorrowedFd<'_>,
    Silent(waiting): &mut Silent,
    wanted: Wanted,
    deadline: Deadline,
    admit: impl Fn(&OwnedFd) -> Result<()>,
) -> Result<OwnedFd> {
    loop {
        while let Some(socket) = try_next(listener)? {
            match admit(&socket) {
                Ok(()) => waiting.push((socket, Instant::now())),
                Err(Error::Untrusted { .. }) => {} // closed; the next one may be the right one
                Err(error) => return Err(error),
            }
            if waiting.len() > MOST_SILENT {
                waiting.remove(0);
            }
        }
        let mut at = 0;
        while let Some((socket, since)) = waiting.get(at) {
            let counts = match said(socket) {
                Said::Something => true,
                Said::Nothing if wanted == Wanted::Talker || since.elapsed() < PATIENCE => {
                    at += 1;
                    continue;
                }
                Said::Nothing => true,
                Said::End => wanted == Wanted::Listener,
                Said::Gone => false,
            };
            let (socket, _) = waiting.remove(at);
            if counts {
                return Ok(socket);
            }
        }
        if deadline.has_passed() {
            return Err(Error::Timeout);
        }
        let mut left = deadline.remaining();
        if let (Wanted::Listener, Some((_, since))) = (wanted, waiting.first()) {
            left = left.min(PATIENCE.saturating_sub(since.elapsed()));
        }
        let all = std::iter::once(listener).chain(waiting.iter().map(|(socket, _)| socket.as_fd()));
        poll::wait_any(all, Ready::Read, left).map_err(|e| Error::io("wait for a connection", e))?;
    }
}

/// Whether this connection had ended its own direction without sending when it was accepted.
pub(in crate::transport) fn is_mute(socket: &OwnedFd) -> bool {
    matches!(said(socket), Said::End)
}

fn said(socket: &OwnedFd) -> Said {
    loop {
        return match recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) if poll::has_hung_up(socket.as_fd()).unwrap_or(true) => Said::Gone,
            Ok((_, 0)) => Said::End,
            Ok(_) => Said::Something,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Said::Nothing,
            Err(_) => Said::Gone,
        };
    }
}
