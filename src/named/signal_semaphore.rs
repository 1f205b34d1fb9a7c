//! The public signalling semaphore. See `wait/count.rs` for the algorithm.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{Awaited, Core, Member, Place};
use crate::error::{Error, Result};
use crate::segment::{Kind, Segment, open_and_join};
use crate::set::source::Readiness;
use crate::wait::block::block_on;
use crate::wait::cancel::Canceller;
use crate::wait::count::{Count, MAX};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{Many, SLEEP_CAP};
use crate::wait::idle::{Idle, Pace};

/// A semaphore between processes for signalling: any participant posts, and each wait takes one
/// post, as with POSIX's `sem_post` and `sem_wait`. The count begins at 0.
///
/// Take it to tell a number of waiters of a number of things: work that lies elsewhere, buffers that
/// have become free, ticks. To limit how many participants use a resource, take
/// [`Semaphore`](crate::Semaphore), whose permits survive their holders; to release all waiters at
/// once, an [`Event`](crate::Event).
///
/// **Deaths.** Nothing here has an owner, so nothing is recovered. A post whose poster has died
/// since stays. A waiter that dies in [`wait`](SignalSemaphore::wait) has taken nothing, or, if it
/// dies as the call returns, one post. If a poster is killed between its post and waking a waiter,
/// or a woken waiter before it takes the post, another waiter may sleep for up to 50 ms beside it.
///
/// Clones share one participant of the segment. At most 255 handles that are not clones can be
/// attached at a time.
///
/// ```
/// use slipring::{Error, SignalSemaphore};
/// use std::time::Duration;
///
/// let ticks = SignalSemaphore::create_anonymous()?; // or `create(name)`, and `open(name)` elsewhere
/// let late = ticks.wait_deadline(Duration::from_millis(1));
/// assert!(matches!(late, Err(Error::Timeout)));
///
/// ticks.post()?; // from any process; one waiter is woken, if there is any
/// ticks.post()?;
/// ticks.wait()?;
/// assert!(ticks.try_wait()?);
/// assert!(!ticks.try_wait()?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SignalSemaphore {
    member: Arc<Member<Count>>,
    pace: Pace,
}

impl Core for Count {
    type Sleepers = Many;

    fn sleepers(&self) -> Many {
        self.posted().clone()
    }

    fn recover(&self, _: u16) {}
}

impl Awaited for Count {
    fn event(&self) -> &Many {
        self.posted()
    }

    fn is_ready(&self, _: bool) -> bool {
        self.now() != 0
    }
}

impl SignalSemaphore {
    /// The highest count: 2³¹ − 1.
    pub const MAX_COUNT: u32 = MAX;

    /// Creates a semaphore under `name`, with a count of 0.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the name, or [`Error::Io`].
    ///
    /// ```
    /// use slipring::SignalSemaphore;
    /// # let name = &format!("doc-signal-semaphore-{}", std::process::id());
    /// let here = SignalSemaphore::create(name)?;
    /// let there = SignalSemaphore::open(name)?; // in another process
    /// there.post()?;
    /// here.wait()?;
    /// SignalSemaphore::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn create(name: &str) -> Result<Self> {
        Self::attach(&Place::Create(name).make(super::one_line(Kind::SignalSemaphore)?)?)
    }

    /// Opens the semaphore `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Incompatible`] if the segment is of another kind, for example a
    /// [`Semaphore`](crate::Semaphore) of permits; [`Error::Untrusted`], [`Error::Corrupt`];
    /// [`Error::TooManyParticipants`].
    ///
    /// ```
    /// use slipring::{Error, Semaphore, SignalSemaphore};
    /// # let name = &format!("doc-two-semaphores-{}", std::process::id());
    /// let licences = Semaphore::create(name, 3)?;
    /// let error = SignalSemaphore::open(name).unwrap_err();
    /// assert!(matches!(error, Error::Incompatible { expected: 7, found: 4, .. }));
    /// # Semaphore::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open(name: &str) -> Result<Self> {
        super::join(Kind::SignalSemaphore, name, Self::attach)
    }

    /// Opens the semaphore `name`, or creates it with a count of 0.
    ///
    /// # Errors
    /// Those of [`SignalSemaphore::create`] and [`SignalSemaphore::open`].
    ///
    /// ```
    /// use slipring::SignalSemaphore;
    /// # let name = &format!("doc-signal-semaphore-or-{}", std::process::id());
    /// SignalSemaphore::open_or_create(name)?.post()?; // whichever process comes first
    /// SignalSemaphore::open_or_create(name)?.wait()?;
    /// # SignalSemaphore::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open_or_create(name: &str) -> Result<Self> {
        let geometry = super::one_line(Kind::SignalSemaphore)?;
        open_and_join(|| Place::OpenOrCreate(name).make(geometry), Self::attach)
    }

    /// Creates a semaphore without a name, in a sealed memfd: pass its descriptor to the other
    /// processes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_anonymous() -> Result<Self> {
        Self::attach(&Place::Memfd.make(super::one_line(Kind::SignalSemaphore)?)?)
    }

    /// Opens the semaphore in a memfd that another process passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not sealed; [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::Io`].
    ///
    /// ```
    /// use slipring::SignalSemaphore;
    /// use std::os::fd::AsFd;
    ///
    /// let here = SignalSemaphore::create_anonymous()?;
    /// let fd = here.as_fd().try_clone_to_owned().unwrap(); // over a Unix socket, say
    /// SignalSemaphore::from_fd(fd)?.post()?;
    /// assert!(here.try_wait()?);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::attach(&super::accept(Kind::SignalSemaphore, fd)?)
    }

    /// Unlinks the name. Handles that are attached keep working.
    ///
    /// # Errors
    /// Those of [`SignalSemaphore::open`].
    pub fn remove(name: &str) -> Result<()> {
        super::remove(Kind::SignalSemaphore, name)
    }

    fn attach(segment: &Arc<Segment>) -> Result<Self> {
        super::expect_one_line(segment)?;
        let count = Count::attach(segment.data(), super::eventcount(segment));
        Ok(SignalSemaphore { member: Member::join(segment, count)?, pace: Pace::new(Idle::default()) })
    }

    /// How this handle's blocking calls wait from now on; [`Idle::Park`] is the default. Clones
    /// keep their own.
    pub fn set_idle(&self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    /// Adds one to the count, and wakes one waiter. Lock-free; one system call if a waiter sleeps.
    ///
    /// # Errors
    /// [`Error::Overflow`] if the count is [`SignalSemaphore::MAX_COUNT`]; [`Error::Forked`] in a
    /// child of the process that attached.
    pub fn post(&self) -> Result<()> {
        self.post_many(1)
    }

    /// Adds `n` to the count in one step, and wakes up to `n` waiters. As
    /// [`SignalSemaphore::post`].
    ///
    /// # Errors
    /// As there: all of `n` are added, or none.
    ///
    /// ```
    /// use slipring::{Error, SignalSemaphore};
    /// let buffers = SignalSemaphore::create_anonymous()?;
    /// buffers.post_many(3)?;
    /// assert_eq!(buffers.count(), 3);
    /// let error = buffers.post_many(SignalSemaphore::MAX_COUNT).unwrap_err();
    /// assert_eq!(error, Error::Overflow { max: SignalSemaphore::MAX_COUNT });
    /// assert_eq!(buffers.count(), 3);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn post_many(&self, n: u32) -> Result<()> {
        self.member.check_fork()?;
        if self.member.core.post(n) { Ok(()) } else { Err(Error::Overflow { max: MAX }) }
    }

    /// Takes one post, if the count is not 0, and says whether it did. Lock-free, no system call.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached.
    pub fn try_wait(&self) -> Result<bool> {
        self.member.check_fork()?;
        Ok(self.member.core.try_wait())
    }

    /// Takes one post, and waits for it without a time limit. See
    /// [`SignalSemaphore::wait_deadline`].
    ///
    /// # Errors
    /// As there, except for the timeout.
    pub fn wait(&self) -> Result<()> {
        self.wait_deadline(Deadline::never())
    }

    /// Takes one post, and waits for it until `deadline` (a [`Deadline`], a `Duration` or an
    /// `Instant`). After an error it has taken none.
    ///
    /// No system call if the count is not 0. Otherwise spins as [`Idle`] says, and sleeps on a
    /// futex. Not fair: a running thread may overtake a woken one.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`]; [`Error::Forked`] in a child of the process that
    /// attached.
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> Result<()> {
        self.member.check_fork()?;
        let count = &self.member.core;
        let attempt = self.member.cancel.unless_cancelled(|| Ok(count.try_wait().then_some(())));
        block_on(count, &self.pace, deadline.into(), attempt, |_| Ok(SLEEP_CAP))
    }

    /// Notes the deaths of handles, and returns how many had died: their places can be taken. One
    /// system call for each attached handle. Handles that attach do this by themselves.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Io`].
    pub fn reap_dead(&self) -> Result<usize> {
        self.member.reap_dead()
    }

    /// The count at about this moment: the posts that no wait has taken yet.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.member.core.now()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until the count is not 0. It is no borrow:
    /// this handle stays usable.
    ///
    /// ```
    /// use slipring::{SignalSemaphore, Token, WaitSet};
    /// let ticks = SignalSemaphore::create_anonymous()?;
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(0), ticks.waitable())?;
    /// assert_eq!(set.try_wait()?.len(), 0);
    /// ticks.post()?;
    /// assert!(set.wait()?.eq([Token(0)]));
    /// assert!(ticks.try_wait()?);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn waitable(&self) -> Readiness {
        self.member.readiness(self.member.core.clone())
    }

    /// A handle that ends the blocking calls of this one and its clones from another thread or a
    /// signal handler.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.member.cancel.canceller()
    }
}

/// The file or memfd: pass it to another process, which opens it with
/// [`SignalSemaphore::from_fd`].
impl AsFd for SignalSemaphore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.participant.segment().as_fd()
    }
}

impl fmt::Debug for SignalSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.member.participant.segment().name();
        f.debug_struct("SignalSemaphore").field("name", &name).field("count", &self.count()).finish_non_exhaustive()
    }
}
