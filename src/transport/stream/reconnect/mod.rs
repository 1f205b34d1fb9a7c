//! A connection that outlives its sockets: when one breaks, both ends change to the next.
//!
//! Used by the sender and the receiver of a connection with this option. Relies on the transport
//! for the next socket ([`Next`]). `sender.rs` has what a sender repeats, `receiver.rs` what a
//! receiver remembers.
//!
//! The half that notices the break first shuts the old socket down in both directions, so that the
//! other half, which may wait in another thread, notices, too. Then each call of either takes a
//! step towards the next socket. No call waits while it holds the lock, and nothing happens between
//! calls: there is no thread.
//!
//! # What is lost, and how it is reported
//! Sequence numbers continue: the sender sends HELLO again for every stream, with the same epoch
//! and the number of its next frame. A receiver that knows the epoch compares, and reports missing
//! frames as a gap: frames that one kernel had taken and the other had not delivered. The sender
//! sends again the frames that it still holds, and the frame that the kernel had taken in part. An
//! unknown epoch means another sender: the receiver returns [`Error::PeerDead`] once, for the one
//! before, and continues with the new one.

pub(super) mod receiver;
pub(super) mod sender;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};

use super::{Wait, byte_fd};
use crate::error::{Error, Result};
use crate::os::bytes::ByteFd;
use crate::transport::retry;

/// One step towards the next socket, without waiting; `None` if there is none yet.
pub(in crate::transport) type Next = Box<dyn FnMut() -> Result<Option<OwnedFd>> + Send>;

/// How to reconnect, and the present connection.
pub(super) struct Reconnect {
    patience: Duration,
    line: Mutex<Line>,
}

/// The socket in use.
struct Line {
    fd: Arc<ByteFd>,
    /// The number of sockets before it.
    count: u64,
    since: Instant,
    /// When it was found to be broken.
    broken: Option<Instant>,
    /// No socket followed in time.
    over: bool,
    next: Next,
}

impl Reconnect {
    pub(super) fn new(fd: Arc<ByteFd>, patience: Duration, next: Next) -> Self {
        let line = Line { fd, count: 0, since: Instant::now(), broken: None, over: false, next };
        Reconnect { patience, line: Mutex::new(line) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sockets have followed the first.
    pub(super) fn count(&self) -> u64 {
        self.line().count
    }

    /// Whether one is broken, and the next one not there yet.
    pub(super) fn is_between(&self) -> bool {
        self.line().broken.is_some()
    }

    /// The socket after the `lost` one. The end that finds it first calls `renew`, by which the
    /// sender continues over it. `temporary` is the result of a call that does not wait.
    ///
    /// # Errors
    /// [`Error::PeerDead`] when there is none for too long; `temporary`; [`Error::Timeout`].
    pub(super) fn next(
        &self,
        lost: &Arc<ByteFd>,
        wait: Wait,
        temporary: Error,
        renew: impl Fn(Arc<ByteFd>) -> Result<()>,
    ) -> Result<Arc<ByteFd>> {
        let Wait::Until(deadline) = wait else { return self.step(lost, &renew)?.ok_or(temporary) };
        retry::until(deadline, || self.step(lost, &renew))?.ok_or(Error::Timeout)
    }

    fn step(&self, lost: &Arc<ByteFd>, renew: impl Fn(Arc<ByteFd>) -> Result<()>) -> Result<Option<Arc<ByteFd>>> {
        let mut line = self.line();
        if line.over {
            return Err(Error::PeerDead);
        }
        if Arc::ptr_eq(&line.fd, lost) {
            if line.broken.is_none() {
                line.broken = Some(Instant::now());
                let _ = shutdown(&line.fd, Shutdown::Both); // fails only if both directions have ended already
            }
            let Some(fd) = line.try_next()? else {
                line.over = line.broken.is_some_and(|broken| broken.elapsed() > self.patience);
                return if line.over { Err(Error::PeerDead) } else { Ok(None) };
            };
            line.fd = Arc::new(byte_fd(fd)?);
            line.count += 1;
            (line.since, line.broken) = (Instant::now(), None);
            // A thread that holds the sender's lock waits at most in a system call on the old
            // socket, which has been shut down.
            renew(line.fd.clone())?;
        }
        Ok(Some(line.fd.clone()))
    }
}

impl Line {
    fn try_next(&mut self) -> Result<Option<OwnedFd>> {
        // If a peer accepts and closes at once, the next attempt waits.
        if self.since.elapsed() < retry::LONGEST {
            return Ok(None);
        }
        match (self.next)() {
            Err(Error::Io { .. }) => Ok(None), // a network that is unreachable now may come back
            next => next,
        }
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect").field("patience", &self.patience).finish_non_exhaustive()
    }
}
