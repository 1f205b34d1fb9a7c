//! The public event. See `wait/event.rs` for the algorithm.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Awaited, Core, Member, Place};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::segment::{Kind, Segment, open_and_join};
use crate::set::source::Readiness;
use crate::wait::block::block_on;
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;
use crate::wait::event::{Flag, Seen};
use crate::wait::eventcount::{Many, SLEEP_CAP};
use crate::wait::idle::{Idle, Pace};

/// An event between processes: a flag that any participant sets and resets, and on which any number
/// wait. One [`set`](Event::set) releases all of them, as with a manual-reset event of Windows.
///
/// Take it for a start signal to many ("go", "shut down", "the configuration is there"). The event
/// stays set until it is reset, so a waiter that comes late is released, too. To tell one waiter per
/// call, take a [`SignalSemaphore`](crate::SignalSemaphore).
///
/// **No set is missed.** A [`wait`](Event::wait) ends if the event is set, or was set at any time
/// since the wait began, even if it was reset before the waiter ran. So `set` and then
/// [`reset`](Event::reset) release all that wait at this moment, and none that come later. What a
/// setter has written before its `set`, a released waiter sees.
///
/// **Deaths.** Nothing here has an owner. An event whose setter has died since stays set. If the
/// setter is killed between setting it and waking the waiters, they notice within 50 ms.
///
/// Clones share one participant of the segment. At most 255 handles that are not clones can be
/// attached at a time.
///
/// ```
/// use slipring::{Error, Event};
/// use std::time::Duration;
///
/// let go = Event::create_anonymous()?; // or `create(name)`, and `open(name)` elsewhere
/// assert!(matches!(go.wait_deadline(Duration::from_millis(1)), Err(Error::Timeout)));
/// std::thread::scope(|scope| {
///     let players: Vec<_> = (0..3).map(|_| scope.spawn(|| go.wait())).collect();
///     go.set()?; // releases all of them, wherever they are
///     players.into_iter().try_for_each(|player| player.join().unwrap())
/// })?;
/// go.wait()?; // and those that come later
/// go.reset()?;
/// assert!(!go.is_set());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Event {
    member: Arc<Member<Flag>>,
    pace: Pace,
}

impl Core for Flag {
    type Sleepers = Many;

    fn sleepers(&self) -> Many {
        self.changed().clone()
    }

    fn recover(&self, _: u16) {}
}

/// The event as the member of a set.
struct Edge {
    flag: Flag,
    /// From when on a set has not been reported: [`Seen`].
    reported: AtomicU64,
}

impl Awaited for Edge {
    fn event(&self) -> &Many {
        self.flag.changed()
    }

    fn is_ready(&self, reporting: bool) -> bool {
        // Relaxed: a hint that one thread at a time changes. Read before the look, so that a set
        // that comes between is reported again, not left out.
        let next = self.flag.begin_after_reset();
        let is_ready = self.flag.is_over(Seen(self.reported.load(Ordering::Relaxed)));
        if is_ready && reporting {
            self.reported.store(next.0, Ordering::Relaxed);
        }
        is_ready
    }
}

impl Event {
    /// Creates an event under `name`, which is reset.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the name, or [`Error::Io`].
    ///
    /// ```
    /// use slipring::Event;
    /// # let name = &format!("doc-event-{}", std::process::id());
    /// let here = Event::create(name)?;
    /// let there = Event::open(name)?; // in another process
    /// there.set()?;
    /// here.wait()?;
    /// Event::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn create(name: &str) -> Result<Self> {
        Self::attach(&Place::Create(name).make(super::one_line(Kind::Event)?)?)
    }

    /// Opens the event `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Incompatible`] if the segment is not an event;
    /// [`Error::Untrusted`], [`Error::Corrupt`]; [`Error::TooManyParticipants`].
    pub fn open(name: &str) -> Result<Self> {
        super::join(Kind::Event, name, Self::attach)
    }

    /// Opens the event `name`, or creates it.
    ///
    /// # Errors
    /// Those of [`Event::create`] and [`Event::open`].
    ///
    /// ```
    /// use slipring::Event;
    /// # let name = &format!("doc-event-or-{}", std::process::id());
    /// let ours = Event::open_or_create(name)?; // whichever process comes first
    /// Event::open_or_create(name)?.set()?;
    /// assert!(ours.is_set());
    /// # Event::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open_or_create(name: &str) -> Result<Self> {
        let geometry = super::one_line(Kind::Event)?;
        open_and_join(|| Place::OpenOrCreate(name).make(geometry), Self::attach)
    }

    /// Creates an event without a name, in a sealed memfd: pass its descriptor to the other
    /// processes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create_anonymous() -> Result<Self> {
        Self::attach(&Place::Memfd.make(super::one_line(Kind::Event)?)?)
    }

    /// Opens the event in a memfd that another process passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not sealed; [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::Io`].
    ///
    /// ```
    /// use slipring::Event;
    /// use std::os::fd::AsFd;
    ///
    /// let here = Event::create_anonymous()?;
    /// let fd = here.as_fd().try_clone_to_owned().unwrap(); // over a Unix socket, say
    /// Event::from_fd(fd)?.set()?;
    /// assert!(here.is_set());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::attach(&super::accept(Kind::Event, fd)?)
    }

    /// Unlinks the name. Handles that are attached keep working.
    ///
    /// # Errors
    /// Those of [`Event::open`].
    pub fn remove(name: &str) -> Result<()> {
        super::remove(Kind::Event, name)
    }

    fn attach(segment: &Arc<Segment>) -> Result<Self> {
        super::expect_one_line(segment)?;
        let flag = Flag::attach(segment.data(), super::eventcount(segment));
        Ok(Event { member: Member::join(segment, flag)?, pace: Pace::new(Idle::default()) })
    }

    /// How this handle's blocking calls wait from now on; [`Idle::Park`] is the default. Clones
    /// keep their own.
    pub fn set_idle(&self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    /// Sets the event, and wakes all that wait. Wait-free; one system call if a waiter sleeps.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached.
    pub fn set(&self) -> Result<()> {
        self.member.check_fork()?;
        self.member.core.set();
        Ok(())
    }

    /// Resets the event, and says whether this call did: false if it was reset already. Wait-free,
    /// no system call.
    ///
    /// The caller sees what was written before the sets that it clears here. So if one participant
    /// alone resets the event, it misses nothing by resetting it, then looking at the shared state,
    /// and then waiting.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached.
    ///
    /// ```
    /// let event = slipring::Event::create_anonymous()?;
    /// event.set()?;
    /// assert!(event.reset()?);
    /// assert!(!event.reset()?);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn reset(&self) -> Result<bool> {
        self.member.check_fork()?;
        Ok(self.member.core.reset())
    }

    /// Whether the event is set. No system call.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.member.core.is_set()
    }

    /// Waits for the event without a time limit. See [`Event::wait_deadline`].
    ///
    /// # Errors
    /// As there, except for the timeout.
    pub fn wait(&self) -> Result<()> {
        self.wait_deadline(Deadline::never())
    }

    /// Waits until the event is set, or was since this call began, at most until `deadline` (a
    /// [`Deadline`], a `Duration` or an `Instant`).
    ///
    /// No system call if it is set. Otherwise spins as [`Idle`] says, and sleeps on a futex.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`]; [`Error::Forked`] in a child of the process that
    /// attached.
    pub fn wait_deadline(&self, deadline: impl Into<Deadline>) -> Result<()> {
        self.member.check_fork()?;
        let flag = &self.member.core;
        let began = flag.begin();
        let attempt = self.member.cancel.unless_cancelled(|| Ok(flag.is_over(began).then_some(())));
        block_on(flag, &self.pace, deadline.into(), attempt, |_| Ok(SLEEP_CAP))
    }

    /// Notes the deaths of handles, and returns how many had died: their places can be taken. One
    /// system call for each attached handle. Handles that attach do this by themselves.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Io`].
    pub fn reap_dead(&self) -> Result<usize> {
        self.member.reap_dead()
    }

    /// Begins a wait, for [`Event::is_over`].
    #[cfg(feature = "async")]
    pub(super) fn begin(&self) -> Seen {
        self.member.core.begin()
    }

    /// Whether a wait that began at `seen` is over.
    #[cfg(feature = "async")]
    pub(super) fn is_over(&self, seen: Seen) -> Result<bool> {
        self.member.check_fork()?;
        Ok(self.member.core.is_over(seen))
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait for the event. It is reported as long as it
    /// is set; and once if it was set and reset again since it was last reported, or since this
    /// call. It is no borrow: this handle stays usable.
    ///
    /// ```
    /// use slipring::{Event, Token, WaitSet};
    /// let go = Event::create_anonymous()?;
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(0), go.waitable())?;
    /// assert_eq!(set.try_wait()?.len(), 0);
    /// go.set()?;
    /// assert!(set.wait()?.eq([Token(0)]));
    /// assert!(set.wait()?.eq([Token(0)]));
    /// go.reset()?;
    /// assert_eq!(set.try_wait()?.len(), 0);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn waitable(&self) -> Readiness {
        let flag = self.member.core.clone();
        let reported = AtomicU64::new(flag.begin().0);
        self.member.readiness(Edge { flag, reported })
    }

    /// A handle that ends the blocking calls of this one and its clones from another thread or a
    /// signal handler.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.member.cancel.canceller()
    }
}

/// The file or memfd: pass it to another process, which opens it with [`Event::from_fd`].
impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.participant.segment().as_fd()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.member.participant.segment().name();
        f.debug_struct("Event").field("name", &name).field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
