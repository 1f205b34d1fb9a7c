//! The process's watcher: one thread with one epoll instance, which wakes sets for what no futex
//! reports: deaths of peers, and descriptors.
//!
//! Used by `set/mod.rs` and `descriptors.rs`. Started by its first user, ended with its last one.
//! The thread blocks all signals.
//!
//! **Deaths by event.** A participant's record names its process: pid and pid namespace, start
//! time, inode of its pidfd. If `pidfd_open` gives a descriptor of that very process, its death is
//! an event: the pidfd becomes readable. That is only a hint. What proves a death is, as
//! everywhere, that the kernel has dropped the participant's lock; the kernel does so before it
//! makes the pidfd readable, unless a descriptor of the dead process lives on elsewhere, so the
//! watcher tries again for a second. Then it rings the sets, whatever it found: a notifier that is
//! killed between changing a word and waking its sleepers leaves a sleeper that no other notifier
//! would wake.
//!
//! A process that cannot be reached so (another pid namespace, too many descriptors) is checked by
//! the clock; and so is every peer, but seldom, because an exec ends a participant and not its
//! process.
//!
//! **Forks.** An epoll instance is shared with children. A child's copies do nothing when they are
//! dropped; a set that is made in the child starts a watcher there.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use super::descriptors::Descriptors;
use super::member::Shared;
use super::source::Source;
use crate::error::{Error, Result};
use crate::os::fork::{self, PerProcess};
use crate::os::pauses::Pauses;
use crate::os::process::{self, Identity};
use crate::os::thread::spawn_with_signals_blocked;
use crate::segment::State;
use crate::segment::liveness::table::Table;

/// The eventfd that ends the thread.
const STOP: u64 = 0;
/// How long a lock is waited for whose holder's process has exited.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_micros(250);

pub(crate) struct Watcher {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    epoll: OwnedFd,
    stop: OwnedFd,
    entries: Mutex<Entries>,
    born: u32,
}

#[derive(Default)]
struct Entries {
    next: u64,
    by_number: HashMap<u64, Entry>,
    by_process: HashMap<Identity, Weak<Process>>,
}

#[derive(Clone)]
enum Entry {
    Process(Weak<Process>),
    Descriptors(Weak<Descriptors>),
}

/// A process in which peers live.
struct Process {
    identity: Identity,
    pidfd: OwnedFd,
    number: u64,
    inner: Arc<Inner>,
    watches: Mutex<Vec<Weak<Watch>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// The watcher of this process; starts it if there is none. Some system calls and a thread
    /// then.
    pub(super) fn get() -> Result<Arc<Self>> {
        static RUNNING: PerProcess<Weak<Watcher>> = PerProcess::new();
        let mut watcher = RUNNING.lock();
        if let Some(running) = watcher.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start()?);
        *watcher = Arc::downgrade(&started);
        Ok(started)
    }

    fn start() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|e| Error::io("create an epoll instance", e))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = eventfd(0, flags).map_err(|e| Error::io("create an eventfd", e))?;
        epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)
            .map_err(|e| Error::io("add to an epoll instance", e))?;
        let entries = Mutex::new(Entries { next: STOP + 1, ..Entries::default() });
        let inner = Arc::new(Inner { epoll, stop, entries, born: fork::generation() });
        let ours = Arc::clone(&inner);
        let thread = spawn_with_signals_blocked("slipring-watch", move || ours.run())
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Watcher { inner, thread: Some(thread) })
    }

    pub(super) fn is_of_parent(&self) -> bool {
        fork::is_child_of(self.inner.born)
    }

    /// The number under which events of `descriptors` arrive, and are armed.
    pub(super) fn register(&self, descriptors: Weak<Descriptors>, fd: &OwnedFd) -> Result<u64> {
        let number = lock(&self.inner.entries).insert(Entry::Descriptors(descriptors));
        // Not armed yet: no event, not even of an error, comes before `arm`.
        let flags = EventFlags::ONESHOT;
        epoll::add(&self.inner.epoll, fd, EventData::new_u64(number), flags)
            .map_err(|e| Error::io("add to an epoll instance", e))?;
        Ok(number)
    }

    /// Has the next event of `fd` reported, once. One system call.
    pub(super) fn arm(&self, number: u64, fd: &OwnedFd) -> Result<()> {
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        epoll::modify(&self.inner.epoll, fd, EventData::new_u64(number), flags)
            .map_err(|e| Error::io("change an epoll instance", e))
    }

    pub(super) fn forget(&self, number: u64, fd: &OwnedFd) {
        if !self.is_of_parent() {
            let _ = epoll::delete(&self.inner.epoll, fd);
            lock(&self.inner.entries).by_number.remove(&number);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.is_of_parent() {
            std::mem::forget(thread); // it runs in the parent only
            return;
        }
        let _ = rustix::io::write(&self.inner.stop, &1u64.to_ne_bytes());
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join(); // it does not panic
        }
    }
}

impl Entries {
    fn insert(&mut self, entry: Entry) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, entry);
        number
    }
}

impl Inner {
    fn run(self: &Arc<Self>) {
        let mut buffer = [MaybeUninit::<epoll::Event>::uninit(); 64];
        let mut unproven: Vec<Unproven> = Vec::new();
        loop {
            let timeout = unproven.iter().map(|death| death.due).min().map(|due| {
                let left = due.saturating_duration_since(Instant::now());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
            });
            let Ok((events, _)) = epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) else { continue }; // EINTR
            for event in events {
                let number = event.data.u64();
                if number == STOP {
                    return;
                }
                // What is upgraded is dropped with no lock held.
                let entry = lock(&self.entries).by_number.get(&number).cloned();
                match entry {
                    Some(Entry::Process(process)) => {
                        if let Some(process) = process.upgrade() {
                            unproven.push(Unproven::new(process));
                        }
                    }
                    Some(Entry::Descriptors(descriptors)) => {
                        if let Some(descriptors) = descriptors.upgrade() {
                            descriptors.fired();
                        }
                    }
                    None => {}
                }
            }
            let now = Instant::now();
            unproven.retain_mut(|death| death.due > now || !death.report(now));
        }
    }

    /// The process that `identity` names, if its death is going to be an event.
    fn process(self: &Arc<Self>, identity: Identity) -> Option<Arc<Process>> {
        let mut entries = lock(&self.entries);
        if let Some(known) = entries.by_process.get(&identity).and_then(Weak::upgrade) {
            return Some(known);
        }
        let pidfd = process::open(identity)?;
        let process = Arc::new_cyclic(|this| {
            let number = entries.insert(Entry::Process(this.clone()));
            Process { identity, pidfd, number, inner: Arc::clone(self), watches: Mutex::default() }
        });
        let number = process.number;
        entries.by_process.insert(identity, Arc::downgrade(&process));
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let added = epoll::add(&self.epoll, &process.pidfd, EventData::new_u64(number), flags).is_ok();
        drop(entries); // before the process may be dropped
        added.then_some(process)
    }
}

/// A process that has exited, while a lock of it may still be held.
struct Unproven {
    process: Arc<Process>,
    since: Instant,
    due: Instant,
    pauses: Pauses,
}

impl Unproven {
    fn new(process: Arc<Process>) -> Self {
        let now = Instant::now();
        Unproven { process, since: now, due: now, pauses: Pauses::new(FIRST_PAUSE, PATIENCE) }
    }

    /// Reaps what has died, wakes the sets, and says whether nothing more is to be expected.
    fn report(&mut self, now: Instant) -> bool {
        let mut watches = Vec::new();
        lock(&self.process.watches).retain(|watch| match watch.upgrade() {
            Some(watch) => {
                watches.push(watch);
                true
            }
            None => false,
        });
        let mut proven = true;
        for watch in watches {
            proven &= watch.died(self.process.identity);
        }
        self.due = now + self.pauses.next();
        proven || now.duration_since(self.since) > PATIENCE
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if fork::is_child_of(self.inner.born) {
            return;
        }
        let _ = epoll::delete(&self.inner.epoll, self.pidfd.as_fd());
        let mut entries = lock(&self.inner.entries);
        entries.by_number.remove(&self.number);
        // Another one may have taken its place meanwhile.
        if entries.by_process.get(&self.identity).is_some_and(|process| process.strong_count() == 0) {
            entries.by_process.remove(&self.identity);
        }
    }
}

/// The watching over the participants of one source.
pub(super) struct Watch {
    source: Arc<dyn Source>,
    set: Weak<Shared>,
    /// The membership when the processes were last looked for.
    seen: AtomicU64,
    /// Whether they are to be looked for again in any case: a participant was about to join.
    is_unsettled: AtomicBool,
    /// Whether every participant's death is an event.
    is_complete: AtomicBool,
    processes: Mutex<Vec<Arc<Process>>>,
    /// From the first peer in another process on.
    watcher: OnceLock<Arc<Watcher>>,
}

/// This process, whose participants need no watching.
fn own_identity() -> Identity {
    static US: PerProcess<Option<Identity>> = PerProcess::new();
    *US.lock().get_or_insert_with(process::identity)
}

/// The process that the record of `id` names.
fn identity_of(table: &Table, id: u16) -> Identity {
    let [identity @ .., _joined] = table.identity(id);
    Identity::decode(identity)
}

/// No membership has this number.
const UNKNOWN: u64 = u64::MAX;

impl Watch {
    pub(super) fn new(source: &Arc<dyn Source>, set: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Watch {
            source: Arc::clone(source),
            set: Arc::downgrade(set),
            seen: AtomicU64::new(UNKNOWN),
            is_unsettled: AtomicBool::new(false),
            is_complete: AtomicBool::new(false),
            processes: Mutex::default(),
            watcher: OnceLock::new(),
        })
    }

    /// Finds the processes of the participants, if any has joined or left, and says whether all of
    /// them are watched. One load if nothing has changed.
    pub(super) fn refresh(self: &Arc<Self>) -> bool {
        let table = self.source.segment().table();
        let membership = table.lifecycle().membership();
        if membership == self.seen.load(Ordering::Relaxed) && !self.is_unsettled.load(Ordering::Relaxed) {
            return self.is_complete.load(Ordering::Relaxed);
        }
        let us = own_identity();
        let (mut found, mut is_complete, mut is_settled): (Vec<Arc<Process>>, _, _) = (Vec::new(), true, true);
        for id in table.ids() {
            let word = table.get(id);
            if word.state == Some(State::Free) {
                continue;
            }
            let identity = identity_of(table, id);
            if word.state == Some(State::Joining) || table.get(id) != word {
                (is_complete, is_settled) = (false, false);
            } else if identity != us && !found.iter().any(|process| process.identity == identity) {
                match self.watcher().and_then(|watcher| watcher.inner.process(identity)) {
                    Some(process) => found.push(process),
                    None => is_complete = false,
                }
            }
        }
        for process in &found {
            let mut watches = lock(&process.watches);
            watches.retain(|watch| watch.strong_count() > 0);
            if !watches.iter().any(|watch| std::ptr::eq(watch.as_ptr(), Arc::as_ptr(self))) {
                watches.push(Arc::downgrade(self));
            }
        }
        let before = std::mem::replace(&mut *lock(&self.processes), found);
        drop(before); // those that have left
        self.is_complete.store(is_complete, Ordering::Relaxed);
        // Those that cannot be watched are not looked for again before the membership changes.
        self.is_unsettled.store(!is_settled, Ordering::Relaxed);
        self.seen.store(membership, Ordering::Relaxed);
        is_complete
    }

    /// Whether a participant has joined or left since the last [`refresh`](Watch::refresh).
    pub(super) fn is_old(&self) -> bool {
        self.source.segment().table().lifecycle().membership() != self.seen.load(Ordering::Relaxed)
    }

    /// Started if there is none. `None` where no descriptor or thread is left: then the peers are
    /// checked by the clock.
    fn watcher(&self) -> Option<&Arc<Watcher>> {
        if self.watcher.get().is_none() {
            let _ = self.watcher.set(Watcher::get().ok()?);
        }
        self.watcher.get()
    }

    /// A process of a participant has exited. Reaps it, wakes the set, and says whether no record
    /// names it any more.
    fn died(&self, process: Identity) -> bool {
        self.source.reap();
        if let Some(set) = self.set.upgrade() {
            set.died();
        }
        let table = self.source.segment().table();
        !table.ids().any(|id| {
            let identity = identity_of(table, id);
            table.get(id).state != Some(State::Free) && identity == process
        })
    }
}
