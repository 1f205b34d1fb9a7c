//! The barrier between publishing and checking for sleepers, and an eventcount's line of shared
//! memory.
//!
//! Used by `eventcount.rs`, which defines the steps S1 to S4 and N1 to N4. Relies on `os/futex.rs`
//! for sleeping, and on `os/membarrier.rs` for the asymmetric barrier.
//!
//! A fence at N2 would be the most expensive instruction of a whole send. Sleeping is rare and
//! expensive already, so the sleeper executes both barriers: `membarrier(GLOBAL_EXPEDITED)` returns
//! after every running thread of every *registered* process has passed a full barrier (a thread
//! that does not run passed one when it was switched out). Say the notifier's thread passes it at
//! time B. If N1 precedes B, S3 sees it; if not, N3, which follows N1, follows B and sees S1. The
//! compiler must keep N1 before N3: hence the `compiler_fence`. See [`Barrier`] for the modes.
//!
//! Every handle decides for itself at attach, before it publishes anything; the handles need not
//! agree:
//! - A notifier that cannot register uses a fence at N2: [`Barrier::Fenced`]. A sleeper's call of
//!   membarrier is a full barrier for the sleeper, too, so it pairs with such fences as well.
//! - A sleeper that cannot call membarrier sets `needs_fence`. Asymmetric notifiers read it beside
//!   the word, in the same cache line, and fence from then on.
//! - One window remains: a notifier has read `needs_fence` as 0 just before it was set, and its
//!   publication is still in its store buffer while the newcomer completes a whole attach and falls
//!   asleep. In that case, once, the sleep cap wakes the newcomer.
//!
//! **The bounded first wait.** `membarrier` is not reliable on every kernel: since Linux 5.10 it
//! leaves out a processor on which a thread of the notifier's process ended, and on which no other
//! process has run since (`docs/memory-model.md` has the reason and the figures). So the sleeper
//! that raises the flag sleeps [`FIRST_WAIT`] at first, and then checks once more. A notifier that
//! did not see the flag had published before the flag was raised; by then the publication has left
//! any store buffer. A sleeper that finds the flag raised needs no first wait: the sleeper that
//! raised it makes one, or a notifier saw the flag.

use std::time::Duration;

use crate::memory::{Area, LINE};
use crate::os::futex;
use crate::sync::{AtomicU32, Ordering::*, compiler_fence, fence};

/// The longest sleep of one of many sleepers, of which another one checks for all
/// (`segment/liveness/checks.rs`).
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long one sleep takes in [`Barrier::Poll`] mode, where no notifier wakes.
pub(super) const POLL_SLEEP: Duration = Duration::from_micros(200);

/// The first part of a sleep in [`Barrier::Asymmetric`] mode ("The bounded first wait", above). A
/// store buffer drains a thousand times faster. But a timer that is due before the kernel's next
/// tick has to be programmed, which cost 15 µs each sleep.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The barrier between publishing and checking for sleepers: the requested wake mode, and the one
/// that a handle got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// Notifiers do not check and do not wake; sleepers poll at short intervals. For real-time
    /// threads that spin.
    Poll,
    /// Notifiers execute a compiler fence and a load; sleepers call `membarrier(2)`.
    Asymmetric,
    /// Both sides execute a full fence.
    Fenced,
}

impl Barrier {
    /// The best mode up to `self` that this process supports; requests fences from the other side
    /// if that is less than asymmetric.
    #[cfg(not(slipring_loom))]
    fn negotiate(self, needs_fence: &AtomicU32) -> Self {
        if self != Barrier::Asymmetric || crate::os::membarrier::register() {
            return self;
        }
        needs_fence.store(1, Relaxed); // ordered by the barrier S2 of our first sleep
        Barrier::Fenced
    }

    /// loom has no membarrier.
    #[cfg(slipring_loom)]
    fn negotiate(self, _: &AtomicU32) -> Self {
        if self == Barrier::Asymmetric { Barrier::Fenced } else { self }
    }
}

/// The part common to both forms: the line, and the two barriers S2 and N2.
#[derive(Clone)]
pub(super) struct Line {
    area: Area,
    pub(super) barrier: Barrier,
    /// Whether the barrier is not the asymmetric one; notifiers check this.
    symmetric: bool,
}

impl Line {
    pub(super) fn attach(area: Area, mode: Barrier) -> Self {
        assert!(area.len() >= LINE, "an eventcount has a line of its own");
        let barrier = mode.negotiate(area.half(4));
        Line { area, barrier, symmetric: barrier != Barrier::Asymmetric }
    }

    #[inline(always)]
    pub(super) fn word(&self) -> &AtomicU32 {
        // SAFETY: `attach` checked that the area holds a whole line, and 0 is aligned.
        unsafe { self.area.half_unchecked(0) }
    }

    #[inline(always)]
    pub(super) fn needs_fence(&self) -> &AtomicU32 {
        // SAFETY: as above; a line has at least 8 bytes.
        unsafe { self.area.half_unchecked(4) }
    }

    /// N2 and N3: whether a participant may sleep (or an unregistered sleeper asks for the fence
    /// that [`Line::recheck`] executes). `flags` are the bits of the word that say so.
    #[inline(always)]
    pub(super) fn is_awaited(&self, flags: u32) -> bool {
        if self.symmetric {
            return self.barrier == Barrier::Fenced && self.recheck(flags);
        }
        // SYNC(notify): pairs with SYNC(sleep), where the sleeper makes this a full barrier when it
        // matters.
        compiler_fence(SeqCst);
        (self.word().load(Relaxed) & flags) | self.needs_fence().load(Relaxed) != 0
    }

    /// N2 and N3 with a fence of our own: always in fenced mode; in asymmetric mode only on the
    /// cold path, for sleepers without membarrier.
    pub(super) fn recheck(&self, flags: u32) -> bool {
        // SYNC(notify): pairs with SYNC(sleep).
        fence(SeqCst);
        self.word().load(Relaxed) & flags != 0
    }

    /// S2.
    pub(super) fn settle(&self) {
        #[cfg(not(slipring_loom))]
        if self.barrier == Barrier::Asymmetric && !crate::os::membarrier::barrier() {
            // membarrier was forbidden after attach (by a seccomp filter): from now on, notifiers
            // fence.
            self.needs_fence().store(1, Relaxed);
        }
        // SYNC(sleep): pairs with SYNC(notify).
        fence(SeqCst);
    }

    /// S4, with the bounded first wait if this sleeper `raised` the flag. The bits of the word in
    /// `others` belong to other sleepers.
    pub(super) fn park(&self, key: u32, others: u32, raised: bool, timeout: Duration, ready: &mut dyn FnMut() -> bool) {
        let mut rest = timeout.min(LONGEST_SLEEP);
        if raised && self.barrier == Barrier::Asymmetric && rest > FIRST_WAIT {
            self.wait(key, others, FIRST_WAIT);
            if ready() {
                return;
            }
            rest -= FIRST_WAIT;
        }
        // Returns at once if a notifier has changed the word since S1.
        self.wait(key, others, rest);
    }

    /// Sleeps while the word is `key`, apart from the bits in `others`.
    fn wait(&self, key: u32, others: u32, timeout: Duration) {
        let mut now = key;
        while !futex::wait(self.word(), now, Some(timeout)) {
            now = self.word().load(Relaxed);
            if (now ^ key) & !others != 0 {
                return;
            }
        }
    }

    /// [`Barrier::Poll`]: no notifier will change the word, so this only sleeps for a short time.
    pub(super) fn sleep_briefly(&self, timeout: Duration) {
        futex::wait(self.word(), self.word().load(Relaxed), Some(timeout.min(POLL_SLEEP)));
    }
}
