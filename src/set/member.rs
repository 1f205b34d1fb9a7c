//! The members of a set, and what its threads share: the registered members, the bell, the changes.
//!
//! Used by `set/mod.rs`, `helper.rs` and `descriptors.rs`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use super::Token;
use super::descriptors::Descriptors;
use super::source::Source;
use super::watcher::Watch;
use crate::error::{Error, Result};
use crate::memory::{self, LINE};
use crate::os::{fork, futex};
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{Event, ONLY_SET, One};

/// A bell: an eventcount of this process alone, by which its threads wake one another.
pub(crate) struct Bell(One);

impl Bell {
    pub(crate) fn new() -> Result<Self> {
        // Fenced: both sides are ours, so neither needs a system call where a fence will do.
        Ok(Bell(One::attach(memory::heap(LINE, 8)?.control, Barrier::Fenced)))
    }

    /// Wakes the thread that waits for what was published before. At most one system call;
    /// async-signal-safe.
    pub(crate) fn ring(&self) {
        self.0.notify();
    }

    pub(crate) fn event(&self) -> Event<'_> {
        Event::One(&self.0, ONLY_SET)
    }
}

/// One member: its token, and what it waits for.
pub(super) struct Member {
    pub(super) token: Token,
    pub(super) what: What,
    /// No longer a member: not reported again, although the waiting thread may still know it.
    pub(super) removed: AtomicBool,
    /// Not waited for at present: see [`Membership`](super::Membership).
    pub(super) paused: AtomicBool,
    /// The deaths of its peers, reported by the watcher.
    pub(super) watch: Option<Arc<Watch>>,
    /// A sleep here may have got a wake-up that another waiter needs, if the user does not take
    /// what was reported.
    owes: AtomicBool,
}

pub(super) enum What {
    Source(Arc<dyn Source>),
    /// Told by the epoll instance of the set.
    Descriptor(OwnedFd, EventFlags),
    /// Whether its waker was used since it was last reported.
    Waker(Arc<AtomicBool>),
}

impl Member {
    pub(super) fn new(token: Token, what: What, watch: Option<Arc<Watch>>) -> Self {
        let no = || AtomicBool::new(false);
        Member { token, what, removed: no(), paused: no(), watch, owes: no() }
    }

    pub(super) fn source(&self) -> Option<&Arc<dyn Source>> {
        match &self.what {
            What::Source(source) => Some(source),
            _ => None,
        }
    }

    /// Whether to report it now; `reporting` if that is done. A waker is reported once for all its
    /// uses until then.
    pub(super) fn is_ready(&self, reporting: bool) -> bool {
        self.is_active()
            && match &self.what {
                // One whose handle is gone is removed before the next sleep.
                What::Source(source) => source.is_ready(reporting) && !source.is_abandoned(),
                // SYNC(waker): pairs with `wake`.
                What::Waker(used) => used.load(Ordering::Relaxed) && used.swap(false, Ordering::Acquire),
                What::Descriptor(..) => false,
            }
    }

    /// Wakes another waiter if this one slept here, and its user left something.
    fn pass_on(&self) {
        if self.owes.swap(false, Ordering::Relaxed) {
            if let Some(source) = self.source() {
                source.pass_on();
            }
        }
    }

    /// Whether participants have joined or left since the peers were last looked for.
    pub(super) fn has_new_peers(&self) -> bool {
        self.is_active() && self.watch.as_ref().is_some_and(|watch| watch.is_old())
    }

    pub(super) fn is_active(&self) -> bool {
        // Relaxed, as their stores: a ring of the set follows where it matters.
        !self.removed.load(Ordering::Relaxed) && !self.paused.load(Ordering::Relaxed)
    }
}

/// What all threads that use a set share.
pub(crate) struct Shared {
    /// Wakes the waiting thread.
    pub(super) bell: Bell,
    /// Changes with `members`, and when a member is paused or goes on.
    pub(super) changes: AtomicU64,
    /// Something happened that only a look at all members can find.
    pub(super) rung: AtomicBool,
    /// A notifier may have died before it woke a helper: all helpers are to arm again.
    pub(super) rearm: AtomicBool,
    members: Mutex<BTreeMap<Token, Arc<Member>>>,
    descriptors: Mutex<Option<Arc<Descriptors>>>,
    /// The members that owe a wake-up.
    owing: Mutex<Vec<Arc<Member>>>,
    /// Whether there are such members.
    owes: AtomicBool,
    /// How many words one system call can sleep on: 1 without `FUTEX_WAITV`.
    pub(super) words: usize,
    /// The longest sleep of a small set.
    longest: Duration,
    pub(super) born: u32,
}

impl Shared {
    pub(super) fn new(words: usize, longest: Duration) -> Result<Arc<Self>> {
        Ok(Arc::new(Shared {
            words,
            longest,
            bell: Bell::new()?,
            changes: AtomicU64::new(0),
            rung: AtomicBool::new(false),
            rearm: AtomicBool::new(false),
            members: Mutex::default(),
            descriptors: Mutex::default(),
            owing: Mutex::default(),
            owes: AtomicBool::new(false),
            born: fork::generation(),
        }))
    }

    /// The longest sleep with so many members. A large set sleeps longer, so that all its threads
    /// together wake up for nothing about twice a second.
    pub(super) fn longest_sleep(&self, members: usize) -> Duration {
        self.longest * (1 + members / futex::MOST_WORDS).min(10) as u32
    }

    /// The pause between two checks of all peers.
    pub(super) fn pause(&self) -> Duration {
        2 * self.longest
    }

    pub(super) fn check_fork(&self) -> Result<()> {
        if fork::is_child_of(self.born) { Err(Error::Forked) } else { Ok(()) }
    }

    pub(super) fn members(&self) -> MutexGuard<'_, BTreeMap<Token, Arc<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn descriptors(&self) -> MutexGuard<'_, Option<Arc<Descriptors>>> {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cleans up after a member that was removed.
    pub(super) fn forget(&self, member: &Member) {
        member.removed.store(true, Ordering::Relaxed);
        self.end_polling(member);
        member.pass_on();
    }

    /// Has the epoll instance report the member, if it is a descriptor.
    pub(super) fn begin_polling(&self, member: &Member) -> Result<()> {
        match (&member.what, &*self.descriptors()) {
            (What::Descriptor(fd, flags), Some(descriptors)) => descriptors.add(fd, member.token, *flags),
            _ => Ok(()),
        }
    }

    pub(super) fn end_polling(&self, member: &Member) {
        if let (What::Descriptor(fd, _), Some(descriptors)) = (&member.what, &*self.descriptors()) {
            descriptors.remove(fd);
        }
    }

    /// Removes the members whose handles are gone.
    pub(super) fn remove_abandoned(&self) {
        self.members().retain(|_, member| {
            let keep = !member.source().is_some_and(|source| source.is_abandoned());
            member.removed.fetch_or(!keep, Ordering::Relaxed);
            keep
        });
        self.changed();
    }

    /// Notes that a sleep here may have got a wake-up that was meant for another waiter.
    pub(super) fn owe(&self, member: &Arc<Member>) {
        if matches!(member.source().map(|source| source.event()), Some(Event::Many(_))) {
            member.owes.store(true, Ordering::Relaxed);
            self.owing.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(member));
            self.owes.store(true, Ordering::Relaxed);
        }
    }

    /// Passes on what the user has left since then. A load if no member owes anything.
    #[inline]
    pub(super) fn pass_on_owed(&self) {
        if self.owes.load(Ordering::Relaxed) {
            self.owes.store(false, Ordering::Relaxed);
            let owing = std::mem::take(&mut *self.owing.lock().unwrap_or_else(PoisonError::into_inner));
            owing.iter().for_each(|member| member.pass_on());
        }
    }

    /// Tells the waiting thread to look at the list of members again.
    pub(super) fn changed(&self) {
        // Relaxed: the members lie behind a lock.
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.bell.ring();
    }

    /// A peer has died, perhaps between changing a word and waking its sleepers.
    pub(super) fn died(&self) {
        self.rearm.store(true, Ordering::Relaxed); // before the ring, which orders it
        self.ring();
    }

    /// Tells the waiting thread to look at all members.
    pub(crate) fn ring(&self) {
        // SYNC(rung): pairs with the swap in `block`; what happened, before the look that it asks
        // for.
        self.rung.store(true, Ordering::Release);
        self.bell.ring();
    }
}
