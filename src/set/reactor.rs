//! The reactor: threads of the process that wait for those who do not wait themselves. A doorbell
//! makes a descriptor ready, or a task is woken.
//!
//! Used by `transport/doorbell/` and `tasks.rs`. Relies on a set of waits, of which each thread
//! has one with up to 120 members: what it can sleep on by one system call. A thread is started
//! with its first place and ended with its last one.
//!
//! **Forks.** The threads are the parent's. What a child does with copies of places has no effect;
//! a place that is made in the child starts a reactor there.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Membership, Readiness, Registry, Token, WaitSet, Waker};
use crate::error::{Error, Result};
use crate::os::fork::{self, PerProcess};
use crate::os::thread::spawn_with_signals_blocked;
use crate::wait::deadline::Deadline;

/// Places of one thread: what it can sleep on by one system call.
const PLACES: usize = 120;
/// The token of the waker.
const STOP: Token = Token(usize::MAX);
/// How long the thread sleeps between two looks if the set cannot wait.
const POLL: Duration = Duration::from_millis(5);

/// What the reactor tells that there is something at its place.
pub(crate) trait Target: Send + Sync {
    /// Told once: the reactor has stopped waiting at this place, until it is resumed, which may be
    /// done here. If this returns a time, [`Target::is_late`] is called after it. Must not block.
    fn ring(&self, place: &Membership) -> Option<Duration>;

    /// The time that was asked for is over. As [`Target::ring`], apart from the place.
    fn is_late(&self) -> Option<Duration> {
        None
    }
}

/// One thread, and its places by their tokens.
struct Reactor {
    registry: Registry,
    stop: Waker,
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
    born: u32,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<Entries>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Entries {
    next: usize,
    by_token: HashMap<Token, Entry>,
}

#[derive(Clone)]
struct Entry {
    target: Arc<dyn Target>,
    /// Unknown until the member is added.
    membership: Option<Arc<Membership>>,
}

fn lock(entries: &Mutex<Entries>) -> MutexGuard<'_, Entries> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reactor waits for: dropping it ends that.
pub(crate) struct Place {
    token: Token,
    membership: Arc<Membership>,
    reactor: Arc<Reactor>,
}

impl Place {
    /// Adds a place, at which the reactor does not wait yet. Starts a thread if none has room.
    pub(crate) fn new(readiness: Readiness, target: Arc<dyn Target>) -> Result<Self> {
        static THREADS: PerProcess<Vec<Weak<Reactor>>> = PerProcess::new();
        // Released after the lock: the end of a thread is waited for, which may want the lock, too.
        let mut running: Vec<Arc<Reactor>> = Vec::new();
        let mut threads = THREADS.lock();
        threads.retain(|thread| thread.strong_count() > 0);
        running.extend(threads.iter().filter_map(Weak::upgrade));
        let has_room = |reactor: &&Arc<Reactor>| lock(&reactor.shared.entries).by_token.len() < PLACES;
        let reactor = match running.iter().find(has_room) {
            Some(reactor) => Arc::clone(reactor),
            None => {
                let reactor = Arc::new(Reactor::start()?);
                threads.push(Arc::downgrade(&reactor));
                reactor
            }
        };
        let token = {
            let mut entries = lock(&reactor.shared.entries);
            entries.next += 1;
            let token = Token(entries.next);
            entries.by_token.insert(token, Entry { target, membership: None });
            token
        };
        let membership = match reactor.registry.add_paused(token, readiness) {
            Ok(membership) => Arc::new(membership),
            Err(error) => {
                lock(&reactor.shared.entries).by_token.remove(&token);
                return Err(error);
            }
        };
        if let Some(entry) = lock(&reactor.shared.entries).by_token.get_mut(&token) {
            entry.membership = Some(Arc::clone(&membership));
        }
        Ok(Place { token, membership, reactor })
    }

    /// Has the reactor wait here until it rings, once. What is there already rings, too. At most
    /// one system call; two for a descriptor.
    ///
    /// # Errors
    /// [`Error::Io`] for a descriptor that cannot be waited for.
    pub(crate) fn resume(&self) -> Result<()> {
        self.membership.resume()
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.token).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fork::is_child_of(self.reactor.born) {
            return;
        }
        self.reactor.registry.remove(self.token);
        let entry = lock(&self.reactor.shared.entries).by_token.remove(&self.token);
        drop(entry); // with no lock held: a bell that sends a frame closes its sender
    }
}

impl Reactor {
    fn start() -> Result<Self> {
        let mut set = WaitSet::new()?;
        let (registry, stop) = (set.registry(), set.waker(STOP)?);
        let shared = Arc::<Shared>::default();
        let ours = Arc::clone(&shared);
        let handle = spawn_with_signals_blocked("slipring-react", move || ours.run(set))
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Reactor { registry, stop, shared, handle: Some(handle), born: fork::generation() })
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        if fork::is_child_of(self.born) {
            std::mem::forget(handle); // it runs in the parent only
            return;
        }
        self.shared.stopped.store(true, Ordering::Relaxed); // before the wake, which orders it
        self.stop.wake();
        // A target that was rung may have dropped the last place, in the reactor's own thread.
        if handle.thread().id() != std::thread::current().id() {
            let _ = handle.join(); // it does not panic
        }
    }
}

impl Shared {
    fn run(&self, mut set: WaitSet) {
        // Targets that asked for a time, and when it is over.
        let mut due: Vec<(Instant, Token)> = Vec::new();
        while !self.stopped.load(Ordering::Relaxed) {
            let next = due.iter().map(|(at, _)| *at).min();
            let tokens: Vec<_> = match set.wait_deadline(next.map_or(Deadline::never(), Deadline::from)) {
                Ok(ready) => ready.collect(),
                Err(Error::Timeout) => Vec::new(),
                Err(_) => {
                    // A thread that the set needs could not be started.
                    std::thread::sleep(POLL);
                    set.try_wait().map(Iterator::collect).unwrap_or_default()
                }
            };
            for token in tokens {
                if let Some(Entry { target, membership: Some(membership) }) = self.entry(token) {
                    // Before it rings: it may be resumed at once.
                    membership.pause();
                    Self::tell(&mut due, token, || target.ring(&membership));
                }
            }
            if next.is_some() {
                let now = Instant::now();
                let (late, later) = due.into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
                due = later;
                for (_, token) in late {
                    if let Some(Entry { target, .. }) = self.entry(token) {
                        Self::tell(&mut due, token, || target.is_late());
                    }
                }
            }
        }
    }

    /// Tells a target, and notes when it wants to be told again.
    fn tell(due: &mut Vec<(Instant, Token)>, token: Token, call: impl FnOnce() -> Option<Duration>) {
        // A waker is foreign code: what panics there must not end the thread of all others.
        if let Ok(Some(pause)) = catch_unwind(AssertUnwindSafe(call)) {
            if due.iter().all(|(_, known)| *known != token) {
                due.push((Instant::now() + pause, token));
            }
        }
    }

    fn entry(&self, token: Token) -> Option<Entry> {
        lock(&self.entries).by_token.get(&token).cloned()
    }
}
