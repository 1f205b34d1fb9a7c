//! Threads that sleep for a set on more words than one call takes: each for a group of members,
//! whose notifiers wake it, and it rings the set's bell.
//!
//! Used by `set/mod.rs` for members beyond the first 127, and for all of them where the kernel has
//! no `FUTEX_WAITV`: then each helper has one member.
//!
//! ```text
//! set                                          helper
//! told := yes; rings the helper's bell         waits until told
//! sleeps on its own bell and its own members   arms its members, checks them, sleeps on them
//!                                              told := no; rings the set's bell
//! ```
//!
//! The flags are Relaxed: they carry nothing, bells order them against sleeps, and the group lies
//! behind a lock.
//!
//! A helper that sleeps stays as it is while the set is awake, so a busy member costs the rest of
//! its group nothing and the other groups neither. The set checks all members itself before it
//! sleeps and after each ring; what is published after that check wakes the helper, which was told
//! before it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::member::{Bell, Member, Shared};
use crate::error::{Error, Result};
use crate::os::thread::spawn_with_signals_blocked;
use crate::wait::eventcount::SLEEP_CAP;
use crate::wait::several::Sleeper;

pub(super) struct Helper {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    set: Arc<Shared>,
    bell: Bell,
    told: AtomicBool,
    /// The group is another one, or the helper is to end: it goes back to waiting until told.
    recalled: AtomicBool,
    stopped: AtomicBool,
    group: Mutex<Vec<Arc<Member>>>,
}

impl Helper {
    pub(super) fn start(set: &Arc<Shared>) -> Result<Self> {
        let state = Arc::new(State {
            set: Arc::clone(set),
            bell: Bell::new()?,
            told: AtomicBool::new(false),
            recalled: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            group: Mutex::default(),
        });
        let ours = Arc::clone(&state);
        let thread = spawn_with_signals_blocked("slipring-set", move || ours.run())
            .map_err(|e| Error::io("start a thread", e))?;
        Ok(Helper { state, thread: Some(thread) })
    }

    /// Gives it another group. It is to be told again.
    pub(super) fn assign(&self, group: Vec<Arc<Member>>) {
        let before = std::mem::replace(&mut *self.state.group(), group);
        self.recall(&before);
    }

    /// Has it sleep on its group until one is notified. A system call if it does not do so already.
    pub(super) fn tell(&self) {
        if !self.state.told.swap(true, Ordering::Relaxed) {
            self.state.bell.ring();
        }
    }

    fn recall(&self, group: &[Arc<Member>]) {
        self.state.recalled.store(true, Ordering::Relaxed);
        self.state.bell.ring();
        if let [only] = group {
            // It may sleep on this member's word alone.
            if let Some(source) = only.source() {
                source.event().disturb();
            }
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
        let group = self.state.group().clone();
        self.recall(&group);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic, and ends within a capped sleep
        }
    }
}

impl State {
    fn group(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Member>>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut sleeper = Sleeper::default();
        loop {
            let must_act = || self.told.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed);
            while !must_act() {
                sleeper.pass(1, |_| self.bell.event(), Duration::MAX, &mut || must_act());
            }
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.recalled.store(false, Ordering::Relaxed);
            let group = self.group().clone();
            self.watch(&group);
            self.told.store(false, Ordering::Relaxed);
            self.set.ring();
        }
    }

    /// Sleeps on the group until a member is ready, or the helper is recalled.
    fn watch(&self, group: &[Arc<Member>]) {
        let mut sleeper = Sleeper::default();
        let is_over = || {
            let is_over = self.recalled.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed);
            is_over || group.iter().any(|member| member.is_active() && member.is_ready(false))
        };
        let mut over = false;
        let mut is_over = || {
            over = over || is_over();
            over
        };
        while !is_over() {
            let active: Vec<_> = group.iter().filter(|m| m.is_active()).filter_map(|m| m.source()).collect();
            let event = |i: usize| active.get(i).map_or(self.bell.event(), |source| source.event());
            if let ([only], false) = (&active[..], self.set.words > 1) {
                // Not woken when it is recalled just now, but by the cap.
                sleeper.pass(1, |_| only.event(), SLEEP_CAP, &mut is_over);
            } else {
                sleeper.pass(active.len() + 1, event, Duration::MAX, &mut is_over);
            }
        }
    }
}
