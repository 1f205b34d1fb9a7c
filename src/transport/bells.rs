//! The threads that wait for doorbells: one for up to 120 of them, in a set of waits.
//!
//! Used by `doorbell.rs`. Relies on `set/`. A thread is started with its first bell and ended with
//! its last one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::os::fork::{self, PerProcess};
use crate::os::thread::spawn_with_signals_blocked;
use crate::ring::Watch;
use crate::set::{Membership, Registry, Token, WaitSet, Waker};

/// Bells of one thread: what it can sleep on by one system call.
const BELLS: usize = 120;
/// The token of the waker.
const STOP: Token = Token(usize::MAX);
/// How long the thread sleeps between two looks if the set cannot wait.
const POLL: Duration = Duration::from_millis(5);

/// What a thread rings when a bell's ring has something.
pub(super) trait Target: Send + Sync {
    fn ring(&self);
}

/// One thread, and its bells by their tokens.
struct BellThread {
    registry: Registry,
    stop: Waker,
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
    born: u32,
}

#[derive(Default)]
struct Shared {
    bells: Mutex<Bells>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Bells {
    next: usize,
    bells: HashMap<Token, Bell>,
}

#[derive(Clone)]
struct Bell {
    target: Arc<dyn Target>,
    /// Unknown until the member is added.
    membership: Option<Arc<Membership>>,
}

fn lock(bells: &Mutex<Bells>) -> MutexGuard<'_, Bells> {
    bells.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A doorbell's place: dropping it removes the bell.
pub(super) struct Place {
    watch: Watch,
    token: Token,
    membership: Arc<Membership>,
    thread: Arc<BellThread>,
}

impl Place {
    /// Adds a bell, disarmed. Starts a thread if none has room.
    pub(super) fn new(watch: Watch, target: Arc<dyn Target>) -> Result<Self> {
        static THREADS: PerProcess<Vec<Weak<BellThread>>> = PerProcess::new();
        let mut threads = THREADS.lock();
        threads.retain(|thread| thread.strong_count() > 0);
        let with_room = threads.iter().filter_map(Weak::upgrade).find(|r| lock(&r.shared.bells).bells.len() < BELLS);
        let thread = match with_room {
            Some(thread) => thread,
            None => {
                let thread = Arc::new(BellThread::start()?);
                threads.push(Arc::downgrade(&thread));
                thread
            }
        };
        let token = {
            let mut bells = lock(&thread.shared.bells);
            bells.next += 1;
            let token = Token(bells.next);
            bells.bells.insert(token, Bell { target, membership: None });
            token
        };
        let membership = Arc::new(thread.registry.add_paused(token, watch.clone())?);
        if let Some(bell) = lock(&thread.shared.bells).bells.get_mut(&token) {
            bell.membership = Some(Arc::clone(&membership));
        }
        Ok(Place { watch, token, membership, thread })
    }

    /// From now on, only what comes later rings.
    pub(super) fn mark(&self) {
        self.watch.mark();
    }

    /// Arms the bell, for one ring. At most one system call.
    pub(super) fn resume(&self) {
        self.membership.resume();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.token).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fork::is_child_of(self.thread.born) {
            return;
        }
        self.thread.registry.remove(self.token);
        let bell = lock(&self.thread.shared.bells).bells.remove(&self.token);
        drop(bell); // with no lock held: a bell that sends a frame closes its sender
    }
}

impl BellThread {
    fn start() -> Result<Self> {
        let mut set = WaitSet::new()?;
        let (registry, stop) = (set.registry(), set.waker(STOP)?);
        let shared = Arc::<Shared>::default();
        let ours = Arc::clone(&shared);
        let handle = spawn_with_signals_blocked("slipring-bell", move || ours.run(set))
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(BellThread { registry, stop, shared, handle: Some(handle), born: fork::generation() })
    }
}

impl Drop for BellThread {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        if fork::is_child_of(self.born) {
            std::mem::forget(handle); // it runs in the parent only
            return;
        }
        self.shared.stopped.store(true, Ordering::Relaxed); // before the wake, which orders it
        self.stop.wake();
        let _ = handle.join(); // it does not panic
    }
}

impl Shared {
    fn run(&self, mut set: WaitSet) {
        while !self.stopped.load(Ordering::Relaxed) {
            let tokens: Vec<_> = match set.wait() {
                Ok(ready) => ready.collect(),
                Err(_) => {
                    // A thread that the set needs could not be started.
                    std::thread::sleep(POLL);
                    set.try_wait().map(Iterator::collect).unwrap_or_default()
                }
            };
            for token in tokens {
                let bell = lock(&self.bells).bells.get(&token).cloned();
                if let Some(Bell { target, membership: Some(membership) }) = bell {
                    // Before it rings: its consumer may arm it again at once.
                    membership.pause();
                    target.ring();
                }
            }
        }
    }
}
