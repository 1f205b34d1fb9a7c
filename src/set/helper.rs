//! Threads that sleep for a set on more words than one call takes: each for a group of members,
//! whose notifiers wake it, and it rings the set's bell.
//!
//! Used by `set/mod.rs` for members beyond the first 127, and for all of them where the kernel has
//! no `FUTEX_WAITV`: then each helper has one member.
//!
//! ```text
//! set                                          helper
//! watching := yes; rings the helper's bell     waits for that
//! sleeps on its own bell and its own members   arms its members, checks them, sleeps on them
//!                                              watching := no; rings the set's bell
//! ```
//!
//! The flags are Relaxed: they carry nothing, bells order them against sleeps, and the group lies
//! behind a lock.
//!
//! A helper that sleeps stays asleep while the set is awake, so a busy member costs nothing for the
//! other members of its group, or for other groups. The set starts its helpers before its last check
//! of all members, so what is published after that check wakes a helper.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::member::{Bell, Member, Shared};
use crate::error::{Error, Result};
use crate::os::thread::spawn_with_signals_blocked;
use crate::wait::several::Sleeper;

pub(super) struct Helper {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    set: Arc<Shared>,
    bell: Bell,
    /// Whether it is to sleep on its group.
    watching: AtomicBool,
    /// The group is another one, or the helper is to end: its watch ends.
    recalled: AtomicBool,
    stopped: AtomicBool,
    group: Mutex<Group>,
}

/// What a helper sleeps on, and for how long at most.
#[derive(Clone, Default)]
struct Group {
    members: Vec<Arc<Member>>,
    longest: Duration,
}

impl Helper {
    pub(super) fn start(set: &Arc<Shared>) -> Result<Self> {
        let state = Arc::new(State {
            set: Arc::clone(set),
            bell: Bell::new()?,
            watching: AtomicBool::new(false),
            recalled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            group: Mutex::default(),
        });
        let ours = Arc::clone(&state);
        let thread = spawn_with_signals_blocked("slipring-set", move || ours.run())
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Helper { state, thread: Some(thread) })
    }

    /// Gives it another group, and ends its watch.
    pub(super) fn assign(&self, members: Vec<Arc<Member>>, longest: Duration) {
        let before = std::mem::replace(&mut *self.state.group(), Group { members, longest });
        self.state.recall(&before);
    }

    /// Ends its watch: the next one arms all its words again.
    pub(super) fn recall(&self) {
        let group = self.state.group().clone();
        self.state.recall(&group);
    }

    /// Has it sleep on its group until one is notified. A system call if it does not do so already.
    pub(super) fn watch(&self) {
        if !self.state.watching.swap(true, Ordering::Relaxed) {
            self.state.bell.ring();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if crate::os::fork::is_child_of(self.state.set.born) {
            std::mem::forget(self.thread.take()); // it runs in the parent only
            return;
        }
        self.state.stopped.store(true, Ordering::Relaxed);
        self.recall();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic
        }
    }
}

impl State {
    fn group(&self) -> std::sync::MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its sleep on `group`.
    fn recall(&self, group: &Group) {
        self.recalled.store(true, Ordering::Relaxed);
        self.bell.ring();
        if self.set.words == 1 {
            // It may sleep on its member's word alone.
            group.members.iter().filter_map(|member| member.source()).for_each(|source| source.event().interrupt());
        }
    }

    fn run(&self) {
        let mut sleeper = Sleeper::default();
        loop {
            let must_act = || self.watching.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed);
            while !must_act() {
                sleeper.pass(1, |_| self.bell.event(), Duration::MAX, &mut || must_act());
            }
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.recalled.store(false, Ordering::Relaxed);
            let group = self.group().clone();
            self.watch_group(&group);
            self.watching.store(false, Ordering::Relaxed);
            self.set.ring();
        }
    }

    /// Sleeps on the group until a member is ready, or has peers that are not watched yet, or the
    /// helper is recalled.
    fn watch_group(&self, group: &Group) {
        let Group { members, longest } = group;
        let mut sleeper = Sleeper::default();
        let is_over = || {
            let is_over = self.recalled.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed);
            is_over || members.iter().any(|member| member.is_ready(false) || member.has_new_peers())
        };
        let mut over = false;
        let mut is_over = || {
            over = over || is_over();
            over
        };
        while !is_over() {
            let active: Vec<_> = members.iter().filter(|m| m.is_active()).filter_map(|m| m.source()).collect();
            let event = |i: usize| active.get(i).map_or(self.bell.event(), |source| source.event());
            if let ([only], false) = (&active[..], self.set.words > 1) {
                sleeper.pass(1, |_| only.event(), *longest, &mut is_over);
            } else {
                sleeper.pass(active.len() + 1, event, *longest, &mut is_over);
            }
        }
    }
}
