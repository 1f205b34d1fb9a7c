//! The public counting semaphore. See `wait/semaphore.rs` for the algorithm.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{Awaited, Core, Member, Place, attempt_or_check};
use crate::error::{Error, Result};
use crate::segment::{Geometry, Kind, Segment, open_and_join};
use crate::set::source::Readiness;
use crate::wait::block::{Check, block_on};
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{Many, SLEEP_CAP};
use crate::wait::idle::{Idle, Pace};
use crate::wait::semaphore::{PERMIT, Permits};

/// A counting semaphore between processes, whose permits survive their holders: those of a killed
/// process are recovered.
///
/// A permit belongs to the handle that acquired it until its [`Permit`] is dropped. When the kernel
/// reports that the holder is dead, its permits are recovered by any handle that waits, attaches,
/// or calls [`reap_dead`](Semaphore::reap_dead). A waiter checks before each sleep, at least
/// every 50 ms. So a semaphore limits how many participants use a resource at once.
///
/// It does not notify another process: only the holder of a permit releases it. For that take a
/// [`SignalSemaphore`](crate::SignalSemaphore), which any participant posts, or an
/// [`Event`](crate::Event).
///
/// Clones share one participant of the segment, and so do their permits. At most 255 handles that
/// are not clones can be attached at a time.
///
/// A holder is dead only when its process has ended: a thread that ends without releasing its
/// permits keeps them (`docs/crash-behaviour.md`, "A dead thread").
///
/// ```
/// use slipring::Semaphore;
/// use std::time::Duration;
///
/// let licences = Semaphore::create_anonymous(2)?; // or `create(name, 2)`, and `open(name)` elsewhere
/// let first = licences.acquire()?;
/// let second = licences.acquire()?;
/// assert!(licences.try_acquire()?.is_none());
/// let late = licences.acquire_deadline(Duration::from_millis(1));
/// assert!(matches!(late, Err(slipring::Error::Timeout)));
///
/// drop(first); // one waiter is woken, if there is any
/// assert!(licences.try_acquire()?.is_some());
/// # drop(second);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone)]
pub struct Semaphore {
    member: Arc<Member<Permits>>,
    pace: Pace,
}

impl Core for Permits {
    type Sleepers = Many;

    fn sleepers(&self) -> Many {
        self.freed().clone()
    }

    fn recover(&self, dead: u16) {
        Permits::recover(self, dead);
    }
}

impl Semaphore {
    /// The largest number of permits.
    pub const MAX_PERMITS: usize = 1 << 20;

    /// Creates a semaphore under `name` with `permits` free permits (from 1 to
    /// [`Semaphore::MAX_PERMITS`]).
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the name or the number, or [`Error::Io`].
    ///
    /// ```
    /// use slipring::Semaphore;
    /// # let name = &format!("doc-semaphore-{}", std::process::id());
    /// let licences = Semaphore::create(name, 3)?;
    /// let same = Semaphore::open(name)?; // in another process
    /// let permit = same.acquire()?;
    /// assert_eq!(licences.available(), 2);
    /// Semaphore::remove(name)?;
    /// # drop(permit);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn create(name: &str, permits: usize) -> Result<Self> {
        Self::attach(&Place::Create(name).make(geometry(permits)?)?)
    }

    /// Opens the semaphore `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Incompatible`] if the segment is not a semaphore;
    /// [`Error::Untrusted`], [`Error::Corrupt`]; [`Error::TooManyParticipants`].
    pub fn open(name: &str) -> Result<Self> {
        super::join(Kind::Semaphore, name, Self::attach)
    }

    /// Opens the semaphore `name`, or creates it.
    ///
    /// # Errors
    /// Those of [`Semaphore::create`] and [`Semaphore::open`]; [`Error::Incompatible`] if it has
    /// another number of permits.
    pub fn open_or_create(name: &str, permits: usize) -> Result<Self> {
        let geometry = geometry(permits)?;
        let semaphore = open_and_join(|| Place::OpenOrCreate(name).make(geometry), Self::attach)?;
        if semaphore.permits() != permits {
            let (expected, found) = (permits as u64, semaphore.permits() as u64);
            return Err(Error::Incompatible { what: "number of permits", expected, found });
        }
        Ok(semaphore)
    }

    /// Creates a semaphore without a name, in a sealed memfd: pass its descriptor to the
    /// other processes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the number, or [`Error::Io`].
    pub fn create_anonymous(permits: usize) -> Result<Self> {
        Self::attach(&Place::Memfd.make(geometry(permits)?)?)
    }

    /// Opens the semaphore in a memfd that another process passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not sealed; [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::Io`].
    ///
    /// ```
    /// use slipring::Semaphore;
    /// use std::os::fd::AsFd;
    ///
    /// let here = Semaphore::create_anonymous(1)?;
    /// let fd = here.as_fd().try_clone_to_owned().unwrap(); // over a Unix socket, say
    /// let there = Semaphore::from_fd(fd)?;
    /// let permit = there.acquire()?;
    /// assert!(here.try_acquire()?.is_none());
    /// # drop(permit);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::attach(&super::accept(Kind::Semaphore, fd)?)
    }

    /// Unlinks the name. Handles that are attached keep working.
    ///
    /// # Errors
    /// Those of [`Semaphore::open`].
    pub fn remove(name: &str) -> Result<()> {
        super::remove(Kind::Semaphore, name)
    }

    fn attach(segment: &Arc<Segment>) -> Result<Self> {
        Ok(Semaphore { member: Member::join(segment, permits(segment)?)?, pace: Pace::new(Idle::default()) })
    }

    /// How this handle's blocking calls wait from now on; [`Idle::Park`] is the default. Clones
    /// keep their own.
    pub fn set_idle(&self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    /// Acquires a permit if one is free or held by a dead process. Lock-free. No system call,
    /// except that a handle that finds none free asks the kernel about the holders (one call each),
    /// at most every 10 ms.
    ///
    /// `None` means that none was free when checked; one may be free a moment later.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached.
    pub fn try_acquire(&self) -> Result<Option<Permit<'_>>> {
        self.member.check_fork()?;
        attempt_or_check(&self.pace, || self.take(), || self.member.recover_if_dead(self.member.core.holders()))
    }

    /// Acquires a permit, without a time limit. See [`Semaphore::acquire_deadline`].
    ///
    /// # Errors
    /// As there, except for the timeout.
    pub fn acquire(&self) -> Result<Permit<'_>> {
        self.acquire_deadline(Deadline::never())
    }

    /// Acquires a permit, and waits for it until `deadline` (a [`Deadline`], a `Duration` or an
    /// `Instant`).
    ///
    /// No system call if one is free. Otherwise spins as [`Idle`] says, asks the kernel whether the
    /// holders are alive (one call each), and sleeps on a futex. Not fair: a running thread may
    /// overtake a woken one.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`]; [`Error::Forked`] in a child of the process that
    /// attached; [`Error::Io`].
    pub fn acquire_deadline(&self, deadline: impl Into<Deadline>) -> Result<Permit<'_>> {
        self.member.check_fork()?;
        let permits = &self.member.core;
        let holders_live = |check| match check {
            Check::Quick => Ok(SLEEP_CAP),
            Check::Thorough => self.member.recover_if_dead(permits.holders()).map(|()| SLEEP_CAP),
        };
        let attempt = self.member.cancel.unless_cancelled(|| Ok(self.take()));
        block_on(permits, &self.pace, deadline.into(), attempt, holders_live)
    }

    /// Frees the permits of dead processes, and returns how many handles had died. One system call
    /// for each attached handle.
    ///
    /// Waiting and [`try_acquire`](Semaphore::try_acquire) do this by themselves.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Io`].
    pub fn reap_dead(&self) -> Result<usize> {
        self.member.reap_dead()
    }

    /// The total number of permits.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.member.core.count()
    }

    /// How many permits are free at about this moment.
    #[must_use]
    pub fn available(&self) -> usize {
        self.member.core.holders().filter(|holder| *holder == 0).count()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until a permit is free. It is no borrow:
    /// this handle stays usable.
    #[must_use]
    pub fn acquirable(&self) -> Readiness {
        self.member.readiness(self.member.core.clone())
    }

    /// A handle that ends the blocking calls of this one and its clones from another thread or a
    /// signal handler.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.member.cancel.canceller()
    }

    fn take(&self) -> Option<Permit<'_>> {
        let permit = self.member.core.try_acquire(self.member.id())?;
        Some(Permit { member: &self.member, permit })
    }
}

/// The file or memfd: pass it to another process, which opens it with [`Semaphore::from_fd`].
impl AsFd for Semaphore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.participant.segment().as_fd()
    }
}

impl Awaited for Permits {
    fn event(&self) -> &Many {
        self.freed()
    }

    fn is_ready(&self, _: bool) -> bool {
        self.has_free()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.member.participant.segment().name();
        f.debug_struct("Semaphore").field("name", &name).field("permits", &self.permits()).finish_non_exhaustive()
    }
}

/// A permit of a [`Semaphore`], released when dropped (wait-free; one system call if a waiter
/// sleeps).
///
/// A forgotten permit stays held until the last clone of the handle is dropped, or its process
/// dies. In a child made by `fork` the drop does nothing: the permit is the parent's.
#[must_use = "a permit is released when it is dropped"]
pub struct Permit<'a> {
    member: &'a Member<Permits>,
    permit: usize,
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.member.is_forked() {
            self.member.core.release(self.permit);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.permit).finish()
    }
}

/// The permits in a segment of this kind.
pub(super) fn permits(segment: &Segment) -> Result<Permits> {
    let capacity = segment.geometry().capacity;
    if capacity % PERMIT != 0 || capacity / PERMIT > Semaphore::MAX_PERMITS {
        return Err(Error::Corrupt { what: "a semaphore of an invalid size" });
    }
    Ok(Permits::attach(segment.data(), super::eventcount(segment), capacity / PERMIT))
}

fn geometry(permits: usize) -> Result<Geometry> {
    if permits == 0 || permits > Semaphore::MAX_PERMITS {
        return Err(Error::Invalid { what: "number of permits: must be from 1 to 2^20" });
    }
    Geometry::plain(Kind::Semaphore, permits * PERMIT, &super::settings())
}
