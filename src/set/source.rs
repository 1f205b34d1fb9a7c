//! What a set can wait for: the sources of readiness, and the value by which a handle lends one.
//!
//! Used by the rings and the primitives of `named/`, which implement [`Source`], and by
//! `set/mod.rs`. A source keeps its own references (the mapping, the eventcount), so its handle
//! stays usable while it is a member. Everything in it reads atomics only.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::wait::eventcount::Event;

/// One edge of a shared object: what its waiters sleep on, and whether there is something for them.
pub(crate) trait Source: Send + Sync {
    /// Where notifiers wake those that wait for this edge.
    fn event(&self) -> Event<'_>;

    /// Whether a `try_…` call may return something new: a frame, room, a permit, or an end that its
    /// handle has not returned yet. May be true without a cause, but not repeatedly. If
    /// `reporting`, the caller reports an end that it sees here.
    fn is_ready(&self, reporting: bool) -> bool;

    /// Wakes another waiter, if one wake-up is meant for one waiter and there is still something:
    /// the set has slept here, and may have got a wake-up that its user did not need.
    fn pass_on(&self) {}

    /// How long a waiter may sleep until it looks again by itself, because notifiers may not tell
    /// it, or because something is due by the clock.
    fn longest_sleep(&self) -> Option<Duration> {
        None
    }

    /// The segment whose participants can die.
    fn segment(&self) -> &Arc<Segment>;

    /// Reaps dead participants, and wakes all waiters if there were any. What is wrong in the
    /// segment is reported by the handle that comes to it.
    fn reap(&self);

    /// Whether the handle that lent this source has been dropped.
    fn is_abandoned(&self) -> bool;
}

/// What a member of a [`WaitSet`](crate::WaitSet) waits for.
///
/// Created by the handles (`readable` of a consumer, `writable` of a producer, `acquirable` of a
/// semaphore, `lockable` of a mutex, `waitable` of a signalling semaphore or an event), and for
/// descriptors by [`Readiness::readable_fd`] and [`Readiness::writable_fd`]. It keeps a reference
/// of its own to the memory or the descriptor, not a borrow of the handle.
pub struct Readiness(pub(super) Lent);

pub(super) enum Lent {
    Source(Arc<dyn Source>),
    Descriptor(OwnedFd, EventFlags),
}

impl Readiness {
    pub(crate) fn of(source: impl Source + 'static) -> Self {
        Readiness(Lent::Source(Arc::new(source)))
    }

    /// That `fd` can be read, or its other end has hung up: of a socket, a pipe, a timerfd, or the
    /// `poll_fd` of a transport. Keeps a duplicate of the descriptor. One system call.
    ///
    /// # Errors
    /// [`Error::Io`] if no descriptor can be made.
    ///
    /// ```
    /// use slipring::{Readiness, Token, WaitSet};
    /// use std::io::{Read, Write};
    /// let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(7), Readiness::readable_fd(&here)?)?;
    /// assert!(set.try_wait()?.next().is_none());
    /// there.write_all(b"x").unwrap();
    /// assert!(set.wait()?.eq([Token(7)]));
    /// here.read_exact(&mut [0]).unwrap();
    /// assert!(set.try_wait()?.next().is_none());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn readable_fd(fd: impl AsFd) -> Result<Self> {
        Self::descriptor(fd, EventFlags::IN | EventFlags::RDHUP)
    }

    /// That `fd` can be written, or its other end has hung up. As [`Readiness::readable_fd`].
    ///
    /// # Errors
    /// As there.
    pub fn writable_fd(fd: impl AsFd) -> Result<Self> {
        Self::descriptor(fd, EventFlags::OUT)
    }

    fn descriptor(fd: impl AsFd, flags: EventFlags) -> Result<Self> {
        let fd =
            fd.as_fd().try_clone_to_owned().map_err(|source| Error::Io { op: "duplicate a descriptor", source })?;
        Ok(Readiness(Lent::Descriptor(fd, flags)))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Lent::Source(source) => f.debug_tuple("Readiness").field(&source.segment().name()).finish(),
            Lent::Descriptor(fd, _) => f.debug_tuple("Readiness").field(fd).finish(),
        }
    }
}
