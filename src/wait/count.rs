//! The core of the signalling semaphore: a count that any participant raises, and each wait lowers
//! by one.
//!
//! Used by the named signalling semaphore. Relies on `eventcount.rs` for sleeping. Beside it,
//! `semaphore.rs` has permits that their holders own.
//!
//! ```text
//! post n   CAS count → count + n, unless that is above MAX; then wake up to n sleepers
//! wait     CAS count → count − 1, unless it is 0
//! ```
//!
//! **No post is lost while a waiter sleeps.** A sleeper registers, then looks at the count. Either
//! it sees the post, or the poster sees the registration (Dekker, `eventcount.rs`). A post of n
//! wakes n sleepers, and each woken one looks at the count before it sleeps again. If another
//! waiter has lowered the count to 0 meanwhile, that waiter had the post.
//!
//! **A dead participant** holds nothing, so nothing is recovered. A post is one CAS: of a poster
//! that dies, it is there or not. A poster killed before its wake leaves a count above 0 and
//! perhaps a sleeper, which finds it when its capped sleep ends. A waiter that dies before its CAS
//! has taken nothing, and after it exactly one.
//!
//! Progress: `post` and `try_wait` are lock-free: a CAS fails only if another one succeeded. Not
//! fair.

use std::time::Duration;

use super::eventcount::{Many, Sleep};
use crate::memory::Area;
use crate::sync::{AtomicU32, Ordering::*};

/// The highest count, as POSIX's `SEM_VALUE_MAX` on Linux.
pub(crate) const MAX: u32 = i32::MAX as u32;

/// The count, in the first word of an area, zero when new, and the eventcount of its waiters.
#[derive(Clone)]
pub(crate) struct Count {
    area: Area,
    posted: Many,
}

impl Count {
    pub(crate) fn attach(area: Area, posted: Many) -> Self {
        Count { area, posted }
    }

    fn word(&self) -> &AtomicU32 {
        self.area.half(0)
    }

    /// Adds `n` and wakes up to as many waiters; false, and nothing is added, if the count would
    /// exceed [`MAX`]. A system call only if a waiter sleeps.
    pub(crate) fn post(&self, n: u32) -> bool {
        let mut seen = self.word().load(Relaxed);
        loop {
            let Some(next) = seen.checked_add(n).filter(|next| *next <= MAX) else { return false };
            // SYNC(post): pairs with the CAS in `try_wait`.
            match self.word().compare_exchange_weak(seen, next, Release, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.posted.notify(n);
        true
    }

    /// Takes one, if the count is not 0.
    pub(crate) fn try_wait(&self) -> bool {
        let mut seen = self.word().load(Relaxed);
        while seen != 0 {
            // SYNC(post): pairs with the CAS in `post`. Between them lie RMWs only, so what every
            // earlier poster did comes before what this waiter does.
            match self.word().compare_exchange_weak(seen, seen - 1, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// The count at about this moment.
    pub(crate) fn now(&self) -> u32 {
        self.word().load(Relaxed)
    }

    /// What waiters sleep on.
    pub(crate) fn posted(&self) -> &Many {
        &self.posted
    }
}

/// Sleeps until the count is raised.
impl Sleep for Count {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.posted.sleep(timeout, ready)
    }
}
