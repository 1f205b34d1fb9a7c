//! The mutex's core: one futex word that names its holder.
//!
//! Used by the named mutex. Relies on `sync.rs`; who is dead is decided by the floor above.
//!
//! ```text
//! bit 31 WAITERS   somebody may sleep on the word       bit 30 OWNER_DIED   a holder died, nobody has repaired since
//! bits 12..29 zero                                      bits 0..11          participant id of the holder, 0 free
//!
//! lock     CAS free → me, OWNER_DIED kept               unlock   and OWNER_DIED; wake one if WAITERS was set
//! sleep    set WAITERS, futex_wait                      recover  CAS dead → OWNER_DIED; wake one likewise
//! ```
//!
//! **Wake-ups.** Everything happens to one word, so there is no Dekker problem and no fence. Whoever sleeps does so on
//! a word that names a holder and has WAITERS; `futex_wait` compares it. The holder's unlock is an RMW on that word: it
//! sees WAITERS, clears it and wakes one. Others may still sleep, so whoever has slept sets WAITERS *whatever it finds
//! afterwards*: together with its claim, or on top of another's, should it find the mutex taken and give up. What
//! remains is an unlocker killed between the two, or a woken sleeper killed before it acts: the sleep cap ends that.
//!
//! **A dead holder** leaves what it guarded half-changed, perhaps. As with POSIX's robust mutexes the next one gets the
//! lock *and* is told. Unlike there, an unlock without a repair does not make the mutex unusable for ever: OWNER_DIED
//! stays until a holder says that the data are consistent, and everybody who locks it before is told the same (as
//! Rust's own poisoning does).
//!
//! Progress: `try_lock` is lock-free and `unlock` wait-free; no fairness (a running thread may overtake a woken one).

use std::cell::Cell;
use std::time::Duration;

use super::eventcount::{SLEEP_CAP, Sleep};
use crate::sync::{Area, AtomicU32, Ordering::*, futex};

const OWNER: u32 = 0xFFF;
const OWNER_DIED: u32 = 1 << 30;
const WAITERS: u32 = 1 << 31;

/// The lock word, in the first unit of an area, zero when new.
#[derive(Clone)]
pub(crate) struct Lock {
    area: Area,
}

impl Lock {
    pub(crate) fn attach(area: Area) -> Self {
        Lock { area }
    }

    fn word(&self) -> &AtomicU32 {
        self.area.half(0)
    }

    /// One caller's wish to lock, as participant `me` (1..=4095).
    pub(crate) fn claim(&self, me: u16) -> Claim<'_> {
        debug_assert!(me != 0 && u32::from(me) <= OWNER);
        Claim { lock: self, me: u32::from(me), slept: Cell::new(false) }
    }

    /// The holder at about this moment, 0 if there is none.
    pub(crate) fn owner(&self) -> u16 {
        (self.word().load(Relaxed) & OWNER) as u16
    }

    /// For the holder only: gives the lock back and wakes one who waits. A system call only if somebody does.
    pub(crate) fn unlock(&self) {
        // SYNC(unlock): pairs with SYNC(lock).
        let before = self.word().fetch_and(OWNER_DIED, Release);
        self.pass_on(before);
    }

    /// For the holder only: what a dead one left has been repaired.
    pub(crate) fn mark_consistent(&self) {
        self.word().fetch_and(!OWNER_DIED, Relaxed);
    }

    /// Takes the lock from participant `dead` and says whether it held it. Only for participants proven dead, whose id
    /// is not reissued before this returns; any number of callers at once.
    pub(crate) fn recover(&self, dead: u16) -> bool {
        let mut seen = self.word().load(Relaxed);
        while seen & OWNER == u32::from(dead) {
            // SYNC(recover lock): pairs with SYNC(lock); all that the dead one did, known to us by the kernel's word for
            // its death, comes before what the next holder does.
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

    /// Wakes all who sleep on the word, in vain: they look at it again. A waiter on its way to
    /// sleep is missed.
    #[cfg(not(slipring_loom))]
    pub(crate) fn wake_all(&self) {
        futex::wake(self.word(), super::eventcount::ALL);
    }

    fn pass_on(&self, before: u32) {
        if before & WAITERS != 0 {
            futex::wake(self.word(), 1);
        }
    }
}

/// One caller on its way to the lock: remembers whether it slept, and so owes the others their WAITERS bit.
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
            // SYNC(lock): pairs with SYNC(unlock) and SYNC(recover lock).
            match word.compare_exchange_weak(seen, next, Acquire, Relaxed) {
                Ok(_) if free => return Some(Locked { owner_died: seen & OWNER_DIED != 0 }),
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }
}

/// The lock is ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// A holder died, and nobody has repaired since.
    pub(crate) owner_died: bool,
}

/// Sleeps until the lock is given back; `ready` is (or contains) this claim's [`Claim::try_lock`].
impl Sleep for Claim<'_> {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.slept.set(true);
        if ready() {
            return false;
        }
        // A word without holder or flag has changed since `ready`: look again.
        let seen = self.lock.word().load(Relaxed);
        if seen & OWNER != 0 && seen & WAITERS != 0 {
            futex::wait(self.lock.word(), seen, Some(timeout.min(SLEEP_CAP)));
        }
        true
    }
}
