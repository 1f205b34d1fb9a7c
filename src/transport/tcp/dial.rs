//! The next TCP connection, step by step, and never waiting for it.
//!
//! Used by `mod.rs`, which waits between the steps, and by connections that are made anew when they break, which take one
//! whenever somebody calls. Relies on rustix.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, connect, socket_with};

use crate::error::{Error, Result};
use crate::os::poll::{self, Ready};
use crate::transport::datagram::LONGEST_NAP;
use crate::wait::deadline::Deadline;

/// Connecting to the first of several addresses that lets us in.
#[derive(Debug)]
pub(super) struct Dial {
    addresses: Vec<SocketAddr>,
    /// Which of them is next, or under way.
    at: usize,
    /// A socket that waits for an answer.
    under_way: Option<OwnedFd>,
    /// What the last of them said.
    refused: Errno,
    /// After all of them have refused: not before, and how much longer the next time.
    not_before: Instant,
    nap: Duration,
}

impl Dial {
    /// At least one address.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        let nap = Duration::from_millis(1);
        Dial { addresses, at: 0, under_way: None, refused: Errno::CONNREFUSED, not_before: Instant::now(), nap }
    }

    /// A connection, if there is one now.
    ///
    /// # Errors
    /// [`Error::Io`], after the last of the addresses, for what waiting seldom mends.
    pub(super) fn step(&mut self) -> Result<Option<OwnedFd>> {
        if self.under_way.is_none() && Instant::now() < self.not_before {
            return Ok(None);
        }
        loop {
            match self.try_one() {
                Ok(Some(socket)) => {
                    (self.at, self.nap) = (0, Duration::from_millis(1));
                    rustix::io::ioctl_fionbio(&socket, false).map_err(|e| Error::io("set up the socket", e))?;
                    return Ok(Some(socket));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.refused = error,
            }
            self.at += 1;
            if self.at < self.addresses.len() {
                continue;
            }
            self.at = 0;
            self.not_before = Instant::now() + self.nap;
            self.nap = (self.nap * 2).min(LONGEST_NAP);
            return match self.refused {
                Errno::CONNREFUSED | Errno::TIMEDOUT => Ok(None),
                error => Err(Error::io("connect", error)),
            };
        }
    }

    /// Begins with the address whose turn it is, or looks what became of it.
    fn try_one(&mut self) -> Result<Option<OwnedFd>, Errno> {
        let socket = match self.under_way.take() {
            Some(socket) => socket,
            None => {
                let address = self.addresses[self.at];
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                let socket = socket_with(family, SocketType::STREAM, flags, None)?;
                match connect(&socket, &address) {
                    Ok(()) => return Ok(Some(socket)),
                    Err(Errno::INPROGRESS | Errno::INTR) => socket,
                    Err(error) => return Err(error),
                }
            }
        };
        if poll::wait(socket.as_fd(), Ready::Write, Duration::ZERO)? {
            socket_error(&socket)??;
            return Ok(Some(socket));
        }
        self.under_way = Some(socket);
        Ok(None)
    }

    /// Waits until another step is worth while, at most until the deadline, but as long as an answer takes on one machine.
    pub(super) fn wait(&self, deadline: Deadline) -> Result<()> {
        let left = deadline.remaining();
        match &self.under_way {
            Some(socket) => {
                let answered = poll::wait(socket.as_fd(), Ready::Write, left.max(Duration::from_millis(1)));
                answered.map(drop).map_err(|e| Error::io("wait for the connection", e))
            }
            None => {
                std::thread::sleep(self.not_before.saturating_duration_since(Instant::now()).min(left));
                Ok(())
            }
        }
    }

    /// Why there is no connection.
    pub(super) fn why_not(&self) -> Error {
        match self.under_way.is_some() || self.refused == Errno::TIMEDOUT {
            true => Error::Timeout,
            false => Error::NotFound,
        }
    }
}

/// The next connection to a listener that does not wait, if there is one now.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn accept(listener: &TcpListener) -> Result<Option<OwnedFd>> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(Error::io("accept a connection", error)),
        }
    }
}
