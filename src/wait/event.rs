//! The core of the event: a flag that any participant sets and resets, and on which any number wait.
//!
//! Used by the named event. Relies on `eventcount.rs` for sleeping.
//!
//! ```text
//! bit 0  set          bits 1..63  number of resets
//!
//! set    OR 1 (RMW, always); wake all sleepers      wait  until bit 0 is set, or the word was reset since the wait
//! reset  CAS word → word + 1, if bit 0 is set             began
//! ```
//!
//! Adding 1 to a word whose lowest bit is set clears that bit and counts the reset. So one CAS does
//! both, and a waiter detects by the number that the event was set while it was on its way: `set`
//! followed at once by `reset` releases every wait that began before.
//!
//! **No set is lost while a waiter sleeps.** A sleeper registers, then looks at the word. Either it
//! sees the set, or the setter sees the registration (Dekker, `eventcount.rs`).
//!
//! **`set` is an RMW even if the flag is set already**, so that what each setter published comes
//! before what the released waiters do, and before what follows the reset that clears it; and it
//! notifies even then, so that it wakes sleepers that an earlier setter, killed before its wake, has
//! left.
//!
//! **Reset, then look at the data, then wait**: that is how a consumer of events misses nothing. So
//! a reset that clears the flag acquires: the look sees what the cleared sets published. What is
//! published later sets the flag again, which the wait sees. This takes one participant that
//! resets: a set that another one clears between the look and the wait is missed.
//!
//! Progress: `set` is wait-free (one RMW, one load). `reset` is wait-free: its CAS fails only if
//! another reset succeeded, which did the same. Both are one step, so a participant that dies has
//! set it or not; one killed between the RMW and the wake leaves sleepers to their capped sleep.

use std::time::Duration;

use super::eventcount::{ALL, Many, Sleep};
use crate::memory::Area;
use crate::sync::{AtomicU64, Ordering::*};

const SET: u64 = 1;

/// The flag, in the first word of an area, zero when new, and the eventcount of its waiters.
#[derive(Clone)]
pub(crate) struct Flag {
    area: Area,
    changed: Many,
}

/// What the flag was when a wait began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) u64);

impl Flag {
    pub(crate) fn attach(area: Area, changed: Many) -> Self {
        Flag { area, changed }
    }

    fn word(&self) -> &AtomicU64 {
        self.area.word(0)
    }

    /// Sets it and wakes all waiters. A system call only if there are any.
    pub(crate) fn set(&self) {
        // SYNC(event): pairs with the load in `now`, and with the CAS in `reset`.
        self.word().fetch_or(SET, Release);
        self.changed.notify(ALL);
    }

    /// Resets it, and returns whether it was set.
    pub(crate) fn reset(&self) -> bool {
        let seen = self.word().load(Relaxed);
        // SYNC(event): pairs with the RMW in `set`. It fails only if another reset came first.
        seen & SET != 0 && self.word().compare_exchange(seen, seen.wrapping_add(1), Acquire, Relaxed).is_ok()
    }

    /// Begins a wait.
    pub(crate) fn begin(&self) -> Seen {
        Seen(self.word().load(Relaxed))
    }

    /// As if a wait began after the next reset; or now, if it is reset.
    #[cfg(not(slipring_loom))]
    pub(crate) fn begin_after_reset(&self) -> Seen {
        Seen(self.word().load(Relaxed).wrapping_add(SET) & !SET)
    }

    /// Whether a wait that began at `seen` is over: the flag is set, or was since then.
    pub(crate) fn is_over(&self, seen: Seen) -> bool {
        let now = self.now();
        now & SET != 0 || now != seen.0 & !SET
    }

    /// Whether it is set now.
    pub(crate) fn is_set(&self) -> bool {
        self.now() & SET != 0
    }

    fn now(&self) -> u64 {
        // SYNC(event): pairs with the RMW in `set`; also through resets, which are RMWs, too.
        self.word().load(Acquire)
    }

    /// What waiters sleep on.
    pub(crate) fn changed(&self) -> &Many {
        &self.changed
    }
}

/// Sleeps until the flag is set.
impl Sleep for Flag {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.changed.sleep(timeout, ready)
    }
}
