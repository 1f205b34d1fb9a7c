//! The public mutex. See `wait/mutex.rs` for the algorithm.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::Arc;

use super::{Awaited, Core, Member, Place, attempt_or_check};
use crate::error::{Error, Result};
use crate::memory::{Area, LINE};
use crate::segment::{Geometry, Kind, Segment, open_and_join};
use crate::set::source::Readiness;
use crate::wait::block::{Check, block_on};
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{Many, SLEEP_CAP};
use crate::wait::idle::{Idle, Pace};
use crate::wait::mutex::{Claim, Lock};

/// A mutex between processes that guards bytes in shared memory. If its holder dies, the next
/// holder is told.
///
/// When the kernel reports that the holder is dead, a waiter takes the mutex over (it checks before
/// each sleep, at least every 50 ms) and gets [`Locked::OwnerDied`]: the bytes may be half-changed.
/// So does every later holder, until one has repaired them and calls
/// [`MutexGuard::mark_consistent`]. The mutex always stays usable.
///
/// The holder uses the bytes as ordinary memory. All attached processes belong to one user and
/// trust one another to access the bytes under the lock only. Locking twice in one thread
/// deadlocks, as with [`std::sync::Mutex`].
///
/// A holder is dead only when its process has ended: a thread that ends without unlocking keeps the
/// lock (`docs/crash-behaviour.md`, "A dead thread").
///
/// Clones share one participant of the segment. At most 255 handles that are not clones can be
/// attached at a time.
///
/// ```
/// use slipring::{Locked, Mutex};
///
/// let account = Mutex::create_anonymous(16)?; // or `create(name, 16)`, and `open(name)` elsewhere
/// match account.lock()? {
///     Locked::Consistent(mut bytes) => bytes[0] += 1,
///     Locked::OwnerDied(mut bytes) => {
///         bytes.fill(0); // repair the bytes
///         bytes.mark_consistent();
///     }
/// }
/// assert_eq!(account.lock()?.into_guard()[0], 1);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone)]
pub struct Mutex {
    member: Arc<Member<Lock>>,
    bytes: Area,
    pace: Pace,
}

impl Core for Lock {
    type Sleepers = Lock;

    fn sleepers(&self) -> Lock {
        self.clone()
    }

    fn recover(&self, dead: u16) {
        Lock::recover(self, dead);
    }
}

impl Awaited for Lock {
    fn event(&self) -> &Many {
        self.released()
    }

    fn is_ready(&self, _: bool) -> bool {
        self.owner() == 0
    }
}

impl Mutex {
    /// The largest number of guarded bytes: 1 GiB.
    pub const MAX_BYTES: usize = 1 << 30;

    /// Creates a mutex under `name` around `bytes` zeros (rounded up to a multiple of 8; may be 0).
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the name or the size, or [`Error::Io`].
    ///
    /// ```
    /// use slipring::Mutex;
    /// # let name = &format!("doc-mutex-{}", std::process::id());
    /// let here = Mutex::create(name, 8)?;
    /// let there = Mutex::open(name)?; // in another process
    /// let guard = there.lock()?;
    /// assert!(here.try_lock()?.is_none());
    /// # drop(guard);
    /// Mutex::remove(name)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn create(name: &str, bytes: usize) -> Result<Self> {
        Self::attach(&Place::Create(name).make(geometry(bytes)?)?)
    }

    /// Opens the mutex `name`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Incompatible`] if the segment is not a mutex;
    /// [`Error::Untrusted`], [`Error::Corrupt`]; [`Error::TooManyParticipants`].
    pub fn open(name: &str) -> Result<Self> {
        super::join(Kind::Mutex, name, Self::attach)
    }

    /// Opens the mutex `name`, or creates it.
    ///
    /// # Errors
    /// Those of [`Mutex::create`] and [`Mutex::open`]; [`Error::Incompatible`] if it guards another
    /// number of bytes.
    pub fn open_or_create(name: &str, bytes: usize) -> Result<Self> {
        let geometry = geometry(bytes)?;
        let attach = |segment: &Arc<Segment>| {
            let (expected, found) = (geometry.capacity as u64, segment.geometry().capacity as u64);
            if expected != found {
                let (expected, found) = (expected - LINE as u64, found.saturating_sub(LINE as u64));
                return Err(Error::Incompatible { what: "number of bytes", expected, found });
            }
            Self::attach(segment)
        };
        open_and_join(|| Place::OpenOrCreate(name).make(geometry), attach)
    }

    /// Creates a mutex without a name, in a sealed memfd: pass its descriptor to the
    /// other processes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the size, or [`Error::Io`].
    pub fn create_anonymous(bytes: usize) -> Result<Self> {
        Self::attach(&Place::Memfd.make(geometry(bytes)?)?)
    }

    /// Opens the mutex in a memfd that another process passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not sealed; [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::Io`].
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Self::attach(&super::accept(Kind::Mutex, fd)?)
    }

    /// Unlinks the name. Handles that are attached keep working.
    ///
    /// # Errors
    /// Those of [`Mutex::open`].
    pub fn remove(name: &str) -> Result<()> {
        super::remove(Kind::Mutex, name)
    }

    fn attach(segment: &Arc<Segment>) -> Result<Self> {
        let lock = lock(segment)?;
        let bytes = segment.data().part(LINE, segment.geometry().capacity - LINE);
        Ok(Mutex { member: Member::join(segment, lock)?, bytes, pace: Pace::new(Idle::default()) })
    }

    /// How this handle's blocking calls wait from now on; [`Idle::Park`] is the default. Clones
    /// keep their own.
    pub fn set_idle(&self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    /// Locks the mutex if it is free or its holder is dead. Lock-free. No system call, except that
    /// a handle that finds it held asks the kernel about the holder, at most every 10 ms.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached.
    pub fn try_lock(&self) -> Result<Option<Locked<'_>>> {
        self.member.check_fork()?;
        let lock = &self.member.core;
        let claim = lock.claim(self.member.id());
        attempt_or_check(&self.pace, || self.take(&claim), || self.member.recover_if_dead([lock.owner()].into_iter()))
    }

    /// Locks the mutex, without a time limit. See [`Mutex::lock_deadline`].
    ///
    /// # Errors
    /// As there, except for the timeout.
    pub fn lock(&self) -> Result<Locked<'_>> {
        self.lock_deadline(Deadline::never())
    }

    /// Locks the mutex, and waits for it until `deadline` (a [`Deadline`], a `Duration` or an
    /// `Instant`).
    ///
    /// No system call if it is free. Otherwise spins as [`Idle`] says, asks the kernel whether the
    /// holder is alive, and sleeps on a futex. Not fair: a running thread may overtake a woken one.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Cancelled`]; [`Error::Forked`] in a child of the process that
    /// attached; [`Error::Io`].
    pub fn lock_deadline(&self, deadline: impl Into<Deadline>) -> Result<Locked<'_>> {
        self.member.check_fork()?;
        let lock = &self.member.core;
        let claim = lock.claim(self.member.id());
        let holder_lives = |check| match check {
            Check::Quick => Ok(SLEEP_CAP),
            Check::Thorough => self.member.recover_if_dead([lock.owner()].into_iter()).map(|()| SLEEP_CAP),
        };
        let attempt = self.member.cancel.unless_cancelled(|| Ok(self.take(&claim)));
        block_on(&claim, &self.pace, deadline.into(), attempt, holder_lives)
    }

    /// Takes the mutex from a dead holder, and returns how many handles had died. One system call
    /// for each attached handle.
    ///
    /// Waiting and [`try_lock`](Mutex::try_lock) do this by themselves.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::Io`].
    pub fn reap_dead(&self) -> Result<usize> {
        self.member.reap_dead()
    }

    /// The number of bytes that it guards.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it guards no bytes, but a resource outside of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until the mutex may be locked: it is free, or
    /// its holder has died. It is no borrow: this handle stays usable.
    ///
    /// A free mutex is ready, so add it when it could not be locked, and remove it once it is.
    ///
    /// ```
    /// use slipring::{Mutex, Token, WaitSet};
    /// let mutex = Mutex::create_anonymous(8)?;
    /// let mut set = WaitSet::new()?;
    /// let held = mutex.lock()?; // by another process, say
    /// set.add(Token(0), mutex.lockable())?;
    /// assert_eq!(set.try_wait()?.len(), 0);
    /// drop(held);
    /// assert!(set.wait()?.eq([Token(0)]));
    /// assert!(mutex.try_lock()?.is_some());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn lockable(&self) -> Readiness {
        self.member.readiness(self.member.core.clone())
    }

    /// A handle that ends the blocking calls of this one and its clones from another thread or a
    /// signal handler.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.member.cancel.canceller()
    }

    fn take(&self, claim: &Claim<'_>) -> Option<Locked<'_>> {
        let locked = claim.try_lock()?;
        let guard = MutexGuard { mutex: self };
        Some(if locked.owner_died { Locked::OwnerDied(guard) } else { Locked::Consistent(guard) })
    }
}

/// The file or memfd: pass it to another process, which opens it with [`Mutex::from_fd`].
impl AsFd for Mutex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.member.participant.segment().as_fd()
    }
}

impl fmt::Debug for Mutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.member.participant.segment().name();
        f.debug_struct("Mutex").field("name", &name).field("bytes", &self.len()).finish_non_exhaustive()
    }
}

/// A locked mutex, with the state of its bytes.
#[derive(Debug)]
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub enum Locked<'a> {
    /// The bytes are as their last holder left them.
    Consistent(MutexGuard<'a>),
    /// A holder died (or leaked its guard and closed its handle), and the bytes have not been
    /// repaired since.
    OwnerDied(MutexGuard<'a>),
}

impl<'a> Locked<'a> {
    /// The guard in both cases, for data that is valid after every single store.
    pub fn into_guard(self) -> MutexGuard<'a> {
        match self {
            Locked::Consistent(guard) | Locked::OwnerDied(guard) => guard,
        }
    }

    /// Whether a holder died and the bytes have not been repaired since.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        matches!(self, Locked::OwnerDied(_))
    }
}

/// The bytes of a locked [`Mutex`]. Dropping this unlocks it (wait-free; one system call if a
/// waiter sleeps, one more if a set does).
///
/// A forgotten guard keeps the mutex locked until the last clone of the handle is dropped, or its
/// process dies. In a child made by `fork` it must not be used any more, and the drop does nothing:
/// the mutex is the parent's.
#[must_use = "a mutex is unlocked when its guard is dropped"]
pub struct MutexGuard<'a> {
    mutex: &'a Mutex,
}

impl MutexGuard<'_> {
    /// Marks the bytes as repaired: the next holder gets [`Locked::Consistent`]. No system call.
    /// Does nothing in a forked child, whose copy of the guard holds no lock.
    pub fn mark_consistent(&mut self) {
        if !self.mutex.member.is_forked() {
            self.mutex.member.core.mark_consistent();
        }
    }
}

impl Deref for MutexGuard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let bytes = &self.mutex.bytes;
        // SAFETY: the area is readable, and alive as long as the mutex that we borrow. While we
        // hold the lock, all users that follow the protocol (every handle does; processes are of
        // one trust domain) write these bytes only through our `deref_mut`, which the borrow of
        // `self` excludes.
        unsafe { slice::from_raw_parts(bytes.base(), bytes.len()) }
    }
}

impl DerefMut for MutexGuard<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = &self.mutex.bytes;
        // SAFETY: as in `deref`, for writing; there is one guard at a time (the lock word names one
        // holder, and a handle whose participant holds it cannot claim it again), and it is
        // borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(bytes.base(), bytes.len()) }
    }
}

impl Drop for MutexGuard<'_> {
    fn drop(&mut self) {
        if !self.mutex.member.is_forked() {
            self.mutex.member.core.unlock();
        }
    }
}

impl fmt::Debug for MutexGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MutexGuard").field("bytes", &self.len()).finish_non_exhaustive()
    }
}

/// The lock in a segment of this kind.
pub(super) fn lock(segment: &Segment) -> Result<Lock> {
    let capacity = segment.geometry().capacity;
    if capacity < LINE || capacity - LINE > Mutex::MAX_BYTES {
        return Err(Error::Corrupt { what: "a mutex of an invalid size" });
    }
    Ok(Lock::attach(segment.data().part(0, LINE), super::eventcount(segment)))
}

fn geometry(bytes: usize) -> Result<Geometry> {
    if bytes > Mutex::MAX_BYTES {
        return Err(Error::Invalid { what: "number of bytes: must be at most 2^30" });
    }
    Geometry::plain(Kind::Mutex, LINE + bytes, &super::settings())
}
