//! Floor 3: [`WaitSet`]: one wait for many: rings, semaphores, mutexes, events, descriptors, wakers.
//!
//! Used by programs with one loop for everything, and by the reactor. Relies on
//! `several.rs` for the sleep and its proof, on `block.rs` for the loop around it.
//!
//! | file | |
//! |---|---|
//! | `mod.rs` | the set, its registry, its wakers |
//! | `source.rs` | what a handle lends to a set |
//! | `member.rs` | members, and what the threads of a set share |
//! | `wait.rs` | looking at the members, checking their peers, sleeping |
//! | `helper.rs` | threads for members beyond one system call |
//! | `descriptors.rs` | the epoll instance of a set |
//! | `watcher.rs` | the process's thread for deaths and descriptors |
//! | `reactor.rs` | the process's threads that wait for doorbells and tasks |
//! | `tasks.rs` | tasks that wait for the same thing |

mod descriptors;
mod helper;
mod member;
#[cfg(any(feature = "transports", feature = "async"))]
pub(crate) mod reactor;
pub(crate) mod source;
#[cfg(feature = "async")]
pub(crate) mod tasks;
mod wait;
mod watcher;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::descriptors::Descriptors;
use self::member::{Member, Shared, What};
use self::source::{Lent, Readiness};
use self::wait::Waiter;
use self::watcher::Watch;
use crate::error::{Error, Result};
use crate::os::fork;
use crate::os::futex;
use crate::wait::barrier::LONGEST_SLEEP;
use crate::wait::deadline::Deadline;
use crate::wait::idle::Idle;

/// A name for a member of a [`WaitSet`], chosen by the program: an index, a key, a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

/// Waits for many things at once: frames and room in rings, permits, posts, mutexes, events,
/// descriptors, wakers.
///
/// A member is added with a [`Readiness`], which its handle lends, and a [`Token`], by which
/// [`wait`](WaitSet::wait) reports it. The handle stays usable: the set only says when to use it.
///
/// **Level-triggered.** A member is reported by each wait for as long as it is ready: as long as a
/// `try_…` call on its handle would find a frame, room, a permit, a post or a free mutex. An end of
/// its peers is reported until the handle has returned it (`Closed`, `PeerDead`); then not until
/// another peer has come and ended. Sometimes a member is reported without a cause, so go on at
/// [`Empty`](Error::Empty), [`Full`](Error::Full) and `None`.
///
/// **Fair.** A wait looks first at the members that were ready in one of the last eight waits, and
/// at one other, in turn: so a busy member costs no look at all the others, and of n members each is
/// looked at once in n waits. Of several that are ready, each is reported first in turn.
/// Descriptors are asked every 32 waits while other members are ready, and before each sleep.
///
/// **Deaths.** While the set sleeps, the death of a peer wakes it within milliseconds: the
/// process's watcher thread holds a pidfd of each peer's process. Peers in other pid namespaces are
/// checked by the clock, every 50 ms, or less often in a large set so that this takes about a
/// percent of a processor.
///
/// **Cost.** A wait that finds a member ready makes no system call. One that sleeps makes three or
/// four (`membarrier`, `FUTEX_WAITV`, with descriptors `epoll_wait` and `epoll_ctl`), and its
/// notifier one. Beyond 127 members from shared memory, each further 127 take a thread of the set.
/// Where the kernel has no `FUTEX_WAITV` (before Linux 5.16, or a seccomp filter forbids it), each
/// member takes one. The watcher thread is started when the first set of a process has a member
/// with peers in other processes, or a descriptor, and ends with the last one.
///
/// A [`Mutex`](crate::Mutex) is ready while it is free, so add it only while you want to lock it.
///
/// ```
/// use slipring::{Error, Semaphore, Token, WaitSet, mpmc, spsc};
///
/// let (mut ticks_out, mut ticks) = spsc::pair(4096)?;
/// let (_jobs_out, jobs) = mpmc::pair(16, 64)?;
/// let licences = Semaphore::create_anonymous(1)?;
/// let held = licences.acquire()?;
///
/// const TICKS: Token = Token(0);
/// const JOBS: Token = Token(1);
/// const LICENCES: Token = Token(2);
/// let mut set = WaitSet::new()?;
/// set.add(TICKS, ticks.readable())?;
/// set.add(JOBS, jobs.readable())?;
/// set.add(LICENCES, licences.acquirable())?;
///
/// ticks_out.send(b"EURUSD 1.0842")?;
/// drop(held);
/// let (mut seen, mut permit) = (0, None);
/// while seen < 1 || permit.is_none() {
///     for token in set.wait()? {
///         match token {
///             TICKS => match ticks.try_recv() {
///                 Ok(tick) => seen += usize::from(*tick == *b"EURUSD 1.0842"),
///                 Err(Error::Empty) => {}
///                 Err(end) => return Err(end),
///             },
///             JOBS => drop(jobs.try_recv()?),
///             LICENCES => permit = licences.try_acquire()?,
///             _ => unreachable!(),
///         }
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct WaitSet {
    registry: Registry,
    waiter: Waiter,
}

static_assertions::assert_impl_all!(WaitSet: Send);

impl WaitSet {
    /// An empty set. No system call, and no thread.
    ///
    /// # Errors
    /// None at present.
    pub fn new() -> Result<Self> {
        Self::with_limits(if futex::has_wait_any() { futex::MOST_WORDS } else { 1 }, LONGEST_SLEEP)
    }

    /// A set whose system calls sleep on so many words (1 as where there is no `FUTEX_WAITV`), and
    /// for so long at most.
    fn with_limits(words: usize, longest: Duration) -> Result<Self> {
        let shared = Shared::new(words, longest)?;
        Ok(WaitSet { waiter: Waiter::new(Arc::clone(&shared)), registry: Registry(shared) })
    }

    /// Adds a member. Its first report may come at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the token has a member already; [`Error::Io`] if a descriptor or the
    /// watcher cannot be had; [`Error::Forked`] in a forked child.
    pub fn add(&mut self, token: Token, readiness: Readiness) -> Result<()> {
        self.registry.add(token, readiness)
    }

    /// Removes the member of this token; false if there is none. It is not reported after that.
    pub fn remove(&mut self, token: Token) -> bool {
        self.registry.remove(token)
    }

    /// A handle by which other threads add and remove members, also while this one waits.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Adds a [`Waker`] under `token`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the token has a member already; [`Error::Forked`].
    ///
    /// ```
    /// use slipring::{Token, WaitSet};
    /// let mut set = WaitSet::new()?;
    /// let waker = set.waker(Token(9))?;
    /// std::thread::spawn(move || waker.wake());
    /// assert!(set.wait()?.eq([Token(9)]));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn waker(&mut self, token: Token) -> Result<Waker> {
        self.registry.waker(token)
    }

    /// How waits spin before they sleep; [`Idle::Park`] is the default.
    pub fn set_idle(&mut self, idle: Idle) {
        self.waiter.set_idle(idle);
    }

    /// Waits until a member is ready, and reports those that it found: not always all that are
    /// ready, since it does not look at all of them while one is ready. The next wait goes on with
    /// the others.
    ///
    /// # Errors
    /// [`Error::Forked`] in a forked child; [`Error::Io`] if a thread that the set needs cannot be
    /// started.
    pub fn wait(&mut self) -> Result<Ready<'_>> {
        self.wait_deadline(Deadline::never())
    }

    /// [`WaitSet::wait`], until `deadline` (a [`Deadline`], a `Duration` or an `Instant`).
    ///
    /// # Errors
    /// As there, and [`Error::Timeout`].
    ///
    /// ```
    /// use slipring::{Error, Token, WaitSet};
    /// use std::time::Duration;
    /// let (_tx, rx) = slipring::spsc::pair(4096)?;
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(0), rx.readable())?;
    /// assert!(matches!(set.wait_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wait_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<Ready<'_>> {
        self.waiter.wait(deadline.into())?;
        Ok(Ready(self.waiter.ready().iter()))
    }

    /// Reports the members that are ready now, perhaps none. Looks at all of them; one system call
    /// if there are descriptors.
    ///
    /// # Errors
    /// [`Error::Forked`] in a forked child.
    pub fn try_wait(&mut self) -> Result<Ready<'_>> {
        self.waiter.look_at_all()?;
        Ok(Ready(self.waiter.ready().iter()))
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSet").field("members", &self.registry.0.members().len()).finish_non_exhaustive()
    }
}

/// The tokens that a wait reports: each member once.
#[derive(Clone, Debug)]
pub struct Ready<'s>(std::slice::Iter<'s, Token>);

impl Iterator for Ready<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.0.next().copied()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Ready<'_> {}

/// Adds and removes members of a [`WaitSet`], from any thread, also while another one waits in it.
///
/// ```
/// use slipring::{Token, WaitSet};
/// let mut set = WaitSet::new()?;
/// let registry = set.registry();
/// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
/// std::thread::scope(|scope| {
///     let waiting = scope.spawn(|| set.wait().map(|ready| ready.collect::<Vec<_>>()));
///     registry.add(Token(1), rx.readable())?; // the other thread waits for it from now on
///     tx.send(b"hello")?;
///     assert_eq!(waiting.join().unwrap()?, [Token(1)]);
///     # Ok::<(), slipring::Error>(())
/// })?;
/// assert_eq!(&*rx.try_recv()?, b"hello");
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

impl Registry {
    /// As [`WaitSet::add`]. Wakes the thread that waits.
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, token: Token, readiness: Readiness) -> Result<()> {
        self.insert(token, readiness, false).map(drop)
    }

    fn insert(&self, token: Token, readiness: Readiness, is_paused: bool) -> Result<Arc<Member>> {
        self.0.check_fork()?;
        let mut members = self.0.members();
        if members.contains_key(&token) {
            return Err(TAKEN);
        }
        let (what, watch) = match readiness.0 {
            Lent::Source(source) => {
                let watch = Watch::new(&source, &self.0);
                (What::Source(source), Some(watch))
            }
            Lent::Descriptor(fd, flags) => {
                self.make_descriptors()?;
                (What::Descriptor(fd, flags), None)
            }
        };
        let member = Arc::new(Member::new(token, what, watch));
        member.paused.store(is_paused, Ordering::Relaxed);
        if !is_paused {
            self.0.begin_polling(&member)?;
        }
        members.insert(token, Arc::clone(&member));
        drop(members);
        self.0.changed();
        Ok(member)
    }

    /// As [`WaitSet::remove`]. Wakes the thread that waits, which forgets the member. A wait that
    /// has just ended may report it once more.
    pub fn remove(&self, token: Token) -> bool {
        if self.0.check_fork().is_err() {
            return false;
        }
        let Some(member) = self.0.members().remove(&token) else { return false };
        self.0.forget(&member);
        self.0.changed();
        true
    }

    /// As [`WaitSet::waker`].
    ///
    /// # Errors
    /// As there.
    pub fn waker(&self, token: Token) -> Result<Waker> {
        self.0.check_fork()?;
        let used = Arc::new(AtomicBool::new(false));
        let mut members = self.0.members();
        if members.contains_key(&token) {
            return Err(TAKEN);
        }
        members.insert(token, Arc::new(Member::new(token, What::Waker(Arc::clone(&used)), None)));
        drop(members);
        self.0.changed();
        Ok(Waker { used, set: Arc::clone(&self.0) })
    }

    /// As [`Registry::add`], of a member that is paused.
    #[cfg(any(feature = "transports", feature = "async"))]
    pub(crate) fn add_paused(&self, token: Token, readiness: Readiness) -> Result<Membership> {
        let member = self.insert(token, readiness, true)?;
        Ok(Membership { member, set: Arc::clone(&self.0) })
    }

    fn make_descriptors(&self) -> Result<()> {
        let mut descriptors = self.0.descriptors();
        if descriptors.is_none() {
            *descriptors = Some(Descriptors::new(&self.0)?);
        }
        Ok(())
    }
}

const TAKEN: Error = Error::Invalid { what: "token: the set has a member of this token, remove it or choose another" };

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("members", &self.0.members().len()).finish_non_exhaustive()
    }
}

/// A member that is waited for only at times: while it is paused, it is neither looked at
/// nor armed, so its notifiers make no system call for it.
#[cfg(any(feature = "transports", feature = "async"))]
pub(crate) struct Membership {
    member: Arc<Member>,
    set: Arc<Shared>,
}

#[cfg(any(feature = "transports", feature = "async"))]
impl Membership {
    /// Stops waiting for it. A wait that has just ended may report it once more.
    pub(crate) fn pause(&self) {
        if !self.member.paused.swap(true, Ordering::Relaxed) {
            self.set.end_polling(&self.member);
        }
    }

    /// Waits for it from now on. At most one system call; two for a descriptor.
    ///
    /// # Errors
    /// [`Error::Io`] for a descriptor that `epoll` does not take.
    pub(crate) fn resume(&self) -> Result<()> {
        if self.member.paused.swap(false, Ordering::Relaxed) {
            self.set.begin_polling(&self.member)?;
        }
        if self.set.words == 1 {
            self.set.changed(); // a helper has it
        } else {
            self.set.ring();
        }
        Ok(())
    }
}

/// Wakes the thread that waits in a [`WaitSet`], which then reports the waker's token: once,
/// however often it was used until then.
#[derive(Clone)]
pub struct Waker {
    used: Arc<AtomicBool>,
    set: Arc<Shared>,
}

impl Waker {
    /// Makes the set report the token. Wait-free, apart from one system call if the set sleeps;
    /// async-signal-safe. Does nothing once the token is removed, and in a forked child.
    pub fn wake(&self) {
        // SYNC(waker): pairs with `is_ready`; what was done before the wake comes before its
        // report.
        self.used.store(true, Ordering::Release);
        if !fork::is_child_of(self.set.born) {
            self.set.ring();
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("used", &self.used).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(miri)))]
mod tests;
