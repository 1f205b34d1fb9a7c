//! The mutex's core: one futex word that names its holder.
//!
//! Used by the named mutex. Relies on `os/futex.rs`; the floor above decides who is dead.
//!
//! ```text
//! bit 31 WAITERS   a waiter may sleep on the word       bit 30 OWNER_DIED   a holder died, not repaired since
//! bits 12..29 zero                                      bits 0..11          participant id of the holder, 0 free
//!
//! lock     CAS free → me, OWNER_DIED kept               unlock   and OWNER_DIED; wake one if WAITERS was set
//! sleep    set WAITERS, futex_wait                      recover  CAS dead → OWNER_DIED; wake one likewise
//! ```
//!
//! Sets of waits sleep on an eventcount beside the word, `released`, which unlock and recovery
//! notify after their store: they have no claim by which to set WAITERS for others again. While no
//! set sleeps, that costs an unlock one load.
//!
//! **Wake-ups.** Both sides use one word, so there is no Dekker problem and no fence. A waiter
//! sleeps on a word that names a holder and has WAITERS; `futex_wait` compares it. The holder's
//! unlock is an RMW on that word: it sees WAITERS, clears it and wakes one. Other waiters may still
//! sleep, so a waiter that has slept sets WAITERS again *whatever it finds afterwards*: together
//! with its claim, or on top of another's, should it find the mutex taken and time out. Two cases
//! remain, which the sleep cap ends: an unlocker killed between the two steps, and a woken sleeper
//! killed before it acts.
//!
//! **A dead holder** may leave the guarded data half-changed. As with POSIX's robust mutexes the
//! next holder gets the lock *and* is told. Unlike those, an unlock without a repair does not make
//! the mutex unusable: OWNER_DIED stays until a holder reports that the data is consistent, and
//! every holder before that gets it, too (as with Rust's own poisoning).
//!
//! Progress: `try_lock` is lock-free and `unlock` wait-free; no fairness (a running thread may
//! overtake a woken one).

use std::cell::Cell;
use std::time::Duration;

use super::eventcount::{Many, SLEEP_CAP, Sleep};
use crate::memory::Area;
use crate::os::futex;
use crate::sync::{AtomicU32, Ordering::*};

const OWNER: u32 = 0xFFF;
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// The lock word, in the first unit of an area, zero when new, and the eventcount of the sets that
/// wait for it.
#[derive(Clone)]
pub(crate) struct Lock {
    area: Area,
    released: Many,
}

impl Lock {
    pub(crate) fn attach(area: Area, released: Many) -> Self {
        Lock { area, released }
    }

    fn word(&self) -> &AtomicU32 {
        self.area.half(0)
    }

    /// Begins an attempt to lock, as participant `me` (1..=4095).
    pub(crate) fn claim(&self, me: u16) -> Claim<'_> {
        debug_assert!(me != 0 && u32::from(me) <= OWNER);
        Claim { lock: self, me: u32::from(me), slept: Cell::new(false) }
    }

    /// The holder at about this moment, 0 if there is none.
    pub(crate) fn owner(&self) -> u16 {
        (self.word().load(Relaxed) & OWNER) as u16
    }

    /// Releases the lock, which the caller must hold, and wakes one waiter, and one set. A system
    /// call for each, only if there is one.
    pub(crate) fn unlock(&self) {
        // SYNC(lock): pairs with the CAS in `try_lock`.
        let before = self.word().fetch_and(OWNER_DIED, Release);
        self.pass_on(before);
    }

    /// Records that the data of a dead holder is repaired. For the holder only.
    pub(crate) fn mark_consistent(&self) {
        self.word().fetch_and(!OWNER_DIED, Relaxed);
    }

    /// Takes the lock from participant `dead` and returns whether it held it. Only for participants
    /// proven dead, whose id is not reissued before this returns; any number of callers at once.
    pub(crate) fn recover(&self, dead: u16) -> bool {
        let mut seen = self.word().load(Relaxed);
        while seen & OWNER == u32::from(dead) {
            // SYNC(lock): pairs with the CAS in `try_lock`; all that the dead one did, known to us
            // by the kernel's report of its death, comes before what the next holder does.
            match self.word().compare_exchange_weak(seen, OWNER_DIED, Release, Relaxed) {
                Ok(_) => {
                    self.pass_on(seen);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Wakes all sleepers, which check the word again. Misses a waiter that is about to sleep.
    #[cfg(not(slipring_loom))]
    pub(crate) fn wake_all(&self) {
        futex::wake(self.word(), super::eventcount::ALL);
    }

    /// What sets of waits sleep on.
    pub(crate) fn released(&self) -> &Many {
        &self.released
    }

    fn pass_on(&self, before: u32) {
        if before & WAITERS != 0 {
            futex::wake(self.word(), 1);
        }
        self.released.notify(1);
    }
}

/// One caller's attempt to lock; remembers whether it slept, and so must set WAITERS for the
/// others.
pub(crate) struct Claim<'a> {
    lock: &'a Lock,
    me: u32,
    slept: Cell<bool>,
}

impl Claim<'_> {
    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Option<Locked> {
        let word = self.lock.word();
        let owed = if self.slept.get() { WAITERS } else { 0 };
        let mut seen = word.load(Relaxed);
        loop {
            let free = seen & OWNER == 0;
            let next = seen | owed | if free { self.me } else { 0 };
            if next == seen {
                return None;
            }
            // SYNC(lock): pairs with the stores in `unlock` and `recover`.
            match word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) if free => return Some(Locked { owner_died: seen & OWNER_DIED != 0 }),
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }
}

/// The result of a successful lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// A holder died, and the data has not been repaired since.
    pub(crate) owner_died: bool,
}

/// Sleeps until the lock is released; `ready` is (or contains) this claim's [`Claim::try_lock`].
impl Sleep for Claim<'_> {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.slept.set(true);
        if ready() {
            return false;
        }
        // A word without holder or flag has changed since `ready`: check again.
        let seen = self.lock.word().load(Relaxed);
        if seen & OWNER != 0 && seen & WAITERS != 0 {
            futex::wait(self.lock.word(), seen, Some(timeout.min(SLEEP_CAP)));
        }
        true
    }
}
