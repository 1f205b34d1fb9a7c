//! Connecting by TCP step by step, without waiting.
//!
//! Used by `mod.rs`, which waits between the steps, and by reconnecting, which takes one step in
//! each call. Relies on rustix.
//!
//! Of several addresses, the next one is tried when all before it have refused, or when one of them
//! has not answered for [`STAGGER`]; those that have refused are tried again after a pause. An
//! address that cannot be reached now (no route yet, no IPv6 on this machine) counts as one that
//! refused. Only if no address can be reached at any time, the error is returned at once.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Error, Result};
use crate::os::pauses::Pauses;
use crate::os::poll::{self, Ready};
use crate::transport::retry::{PAUSES, may_pass};
use crate::wait::deadline::Deadline;

/// How long an address may be silent before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(250);

/// Connecting to the first of several addresses that accepts.
#[derive(Debug)]
pub(super) struct Connecting {
    targets: Vec<Target>,
    /// How many addresses were tried in this round, and when the last one was.
    begun: usize,
    since: Instant,
    /// After all of them have refused: when to try again, and the next pause.
    not_before: Instant,
    pauses: Pauses,
}

#[derive(Debug)]
struct Target {
    address: SocketAddr,
    /// A socket that waits for an answer.
    under_way: Option<OwnedFd>,
    /// The result of the last attempt.
    refused: Option<Errno>,
}

impl Connecting {
    /// At least one address.
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        let target = |address| Target { address, under_way: None, refused: None };
        let (targets, now) = (addresses.into_iter().map(target).collect(), Instant::now());
        Connecting { targets, begun: 0, since: now, not_before: now, pauses: PAUSES }
    }

    /// Returns a connection, if there is one now.
    ///
    /// # Errors
    /// [`Error::Io`], after trying all addresses, if a later attempt cannot succeed.
    pub(super) fn step(&mut self) -> Result<Option<OwnedFd>> {
        let Some(socket) = self.advance()? else { return Ok(None) };
        // One connection is enough; other attempts are dropped.
        self.targets.iter_mut().for_each(|target| target.under_way = None);
        (self.begun, self.pauses) = (0, PAUSES);
        rustix::io::ioctl_fionbio(&socket, false).map_err(|e| Error::io("set up the socket", e))?;
        Ok(Some(socket))
    }

    fn advance(&mut self) -> Result<Option<OwnedFd>> {
        for target in &mut self.targets {
            if let Some(socket) = target.look() {
                return Ok(Some(socket));
            }
        }
        if self.begun == 0 && Instant::now() < self.not_before {
            return Ok(None);
        }
        while self.begun < self.targets.len() && (!self.is_under_way() || self.since.elapsed() >= STAGGER) {
            self.since = Instant::now();
            self.begun += 1;
            let target = &mut self.targets[self.begun - 1];
            if target.under_way.is_none() {
                if let Some(socket) = target.begin() {
                    return Ok(Some(socket));
                }
            }
        }
        if self.begun < self.targets.len() {
            return Ok(None);
        }
        self.begun = 0;
        self.not_before = Instant::now() + self.pauses.next();
        let mut refused = self.targets.iter().filter_map(|target| target.refused);
        match self.is_under_way() || refused.clone().any(may_pass) {
            true => Ok(None),
            false => Err(Error::io("connect", refused.next().unwrap_or(Errno::CONNREFUSED))),
        }
    }

    fn is_under_way(&self) -> bool {
        self.targets.iter().any(|target| target.under_way.is_some())
    }

    /// Waits until another step may succeed, at most until the deadline, but at least for the time
    /// of an answer on one machine.
    pub(super) fn wait(&self, deadline: Deadline) -> Result<()> {
        let left = deadline.remaining();
        let stagger = if self.is_under_way() { STAGGER.saturating_sub(self.since.elapsed()) } else { Duration::ZERO };
        let due = self.not_before.saturating_duration_since(Instant::now()).max(stagger);
        if !self.is_under_way() {
            std::thread::sleep(due.min(left));
            return Ok(());
        }
        let all_are = self.targets.iter().all(|target| target.under_way.is_some());
        let answer = left.max(Duration::from_millis(1));
        let patience = if all_are { answer } else { answer.min(due) };
        let sockets = self.targets.iter().filter_map(|target| target.under_way.as_ref()).map(AsFd::as_fd);
        let answered = poll::wait_any(sockets, Ready::Write, patience);
        answered.map(drop).map_err(|e| Error::io("wait for the connection", e))
    }

    /// Why there is no connection: the error of the address that came closest to one.
    pub(super) fn why_not(&self) -> Error {
        let said = |errno| self.targets.iter().any(|target| target.refused == Some(errno));
        if self.is_under_way() || said(Errno::TIMEDOUT) {
            return Error::Timeout;
        }
        match self.targets.iter().find_map(|target| target.refused) {
            Some(error) if !said(Errno::CONNREFUSED) => Error::io("connect", error),
            _ => Error::NotFound,
        }
    }
}

impl Target {
    /// Begins to connect; returns the connection if it is established at once.
    fn begin(&mut self) -> Option<OwnedFd> {
        let family = if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let begun = socket_with(family, SocketType::STREAM, flags, None).and_then(|socket| {
            match connect(&socket, &self.address) {
                Ok(()) => Ok((socket, true)),
                Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, false)),
                Err(error) => Err(error),
            }
        });
        match begun {
            Ok((socket, true)) => return Some(socket),
            Ok((socket, false)) => self.under_way = Some(socket),
            Err(error) => self.refused = Some(error),
        }
        self.look()
    }

    /// The result of the running attempt.
    fn look(&mut self) -> Option<OwnedFd> {
        let socket = self.under_way.take()?;
        let answer = match poll::wait(socket.as_fd(), Ready::Write, Duration::ZERO) {
            Ok(false) => {
                self.under_way = Some(socket);
                return None;
            }
            polled => polled.and_then(|_| socket_error(&socket)?),
        };
        self.refused = answer.err();
        answer.is_ok().then_some(socket)
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn connects(addresses: &[SocketAddr]) -> bool {
        let mut connecting = Connecting::new(addresses.to_vec());
        let deadline = Deadline::after(Duration::from_secs(60));
        while !deadline.has_passed() {
            if connecting.step().unwrap().is_some() {
                return true;
            }
            connecting.wait(deadline).unwrap();
        }
        false
    }

    #[test]
    fn every_address_is_tried_although_others_fail() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        // Refuses connections until it listens.
        let late = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&late, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let refusing = SocketAddr::try_from(rustix::net::getsockname(&late).unwrap()).unwrap();
        let impossible: SocketAddr = "[fe80::1]:9".parse().unwrap(); // link-local, and of no link: an error at once
        for addresses in [&[good, impossible][..], &[impossible, good], &[refusing, impossible, good]] {
            assert!(connects(addresses), "{addresses:?}");
        }
        // Now there is a listener.
        let mut connecting = Connecting::new(vec![refusing, impossible]);
        assert!(connecting.step().unwrap().is_none());
        assert!(matches!(connecting.why_not(), Error::NotFound));
        rustix::net::listen(&late, 1).unwrap();
        assert!(connects(&[refusing, impossible]));
        assert!(matches!(Connecting::new(vec![impossible]).step(), Err(Error::Io { .. })));
    }

    #[test]
    fn an_address_that_does_not_answer_does_not_keep_the_next_one_waiting() {
        // A listener whose backlog is full does not answer.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&silent, 0).unwrap();
        let address = silent.local_addr().unwrap();
        let mut fill = Vec::new();
        while fill.len() < 16 {
            let mut connecting = Connecting::new(vec![address]);
            match connecting.step().unwrap() {
                Some(socket) => fill.push(socket),
                None => break,
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(connects(&[address, listener.local_addr().unwrap()]));
    }
}
