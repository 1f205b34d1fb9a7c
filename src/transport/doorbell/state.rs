//! The state of a doorbell: who arms it, who resets it, and when.
//!
//! Used by `doorbell/mod.rs`. Relies on atomics alone, so `loom-tests/src/doorbell.rs` checks it.
//!
//! ```text
//! consumer                                  reactor
//! C1  finds the ring empty                  W1  waits for those that are armed
//! C2  armed? polls                          W2  finds a frame, or that a participant joined or
//!     quiet? resets the bell, notes             departed; stops waiting
//!       membership, quiet → armed; has      W3  armed → ringing
//!       the reactor wait                    W4  rings
//!     ringing? resets, notes,               W5  ringing → quiet. Rearm? resets the bell,
//!       ringing → rearm                         rearm → armed, waits again
//!     rearm? resets; still so? polls
//! C3  checks once more; empty? polls
//! ```
//!
//! **No ring is lost.** Once armed, W2 finds what is in the ring, not what is new. So the reactor
//! rings for all that is published after C1, whether C2 or W5 armed the bell; C3 is needed for what
//! happened between C1 and the note of the membership. A reset takes no ring that is not known: C2
//! resets before its exchange, which fails if the state has changed meanwhile, and C2 begins again.
//! The state leaves ringing or rearm only by W5, so what such a reset has undone is W4 of the same
//! round; with rearm W5 arms the bell after it, and W2 looks again.
//!
//! **Each ring ends at most one poll.** A bell that is armed has not rung: both who arm it reset it
//! first, when no W4 can follow. In all other states C2 resets it. So a consumer that polled, found
//! nothing and comes here again does not find the same ring, whatever the reactor does meanwhile: an
//! edge-triggered poll and a level-triggered one end equally often.
//!
//! **Each frame ends at most one poll that finds nothing**: if the consumer takes it between W2 and
//! W4. A second ring for the same frame, which comes between C1 and C2 while the bell is armed, needs
//! a C2 after the first one, which resets that.

use crate::sync::{AtomicU32, Ordering};

/// The reactor does not wait, and does not ring.
const QUIET: u32 = 0;
/// The reactor waits, or is about to.
const ARMED: u32 = 1;
/// The reactor rings: it is not known whether it has rung already.
const RINGING: u32 = 2;
/// The same, and the reactor has to arm the bell afterwards.
const REARM: u32 = 3;

/// The effect of ringing.
pub(crate) trait Bell {
    /// Undoes it.
    fn reset(&self) {}

    /// Must not block.
    fn announce(&self);
}

/// The state shared by the consumer's side and the reactor.
#[derive(Debug)]
pub(crate) struct State(AtomicU32);

impl State {
    pub(crate) fn new() -> Self {
        State(AtomicU32::new(QUIET))
    }

    /// C2. `mark` notes the membership; `resume` has the reactor wait. False if it was armed
    /// already, by itself or by the reactor that will arm it: nothing is to be checked again.
    pub(crate) fn arm(&self, bell: &impl Bell, mark: impl Fn(), resume: impl FnOnce()) -> bool {
        loop {
            // SYNC(bell): pairs with `ring`; what was rung, before it is reset.
            let before = self.0.load(Ordering::Acquire);
            match before {
                ARMED => return false,
                REARM => {
                    bell.reset();
                    // SYNC(bell): pairs with `ring`. What was reset is a ring of this round, or
                    // this is no longer the round.
                    if self.0.load(Ordering::Acquire) == REARM {
                        return false;
                    }
                }
                quiet_or_ringing => {
                    bell.reset();
                    mark();
                    let after = if quiet_or_ringing == QUIET { ARMED } else { REARM };
                    // SYNC(bell): pairs with `ring`; the mark, before the reactor looks.
                    if self.0.compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                        if after == ARMED {
                            resume();
                        }
                        return true;
                    }
                }
            }
        }
    }

    /// W3 to W5: the reactor has stopped waiting. `resume` has it wait again.
    pub(crate) fn ring(&self, bell: &impl Bell, resume: impl FnOnce()) {
        // SYNC(bell): pairs with `arm`.
        let change = |from, to| self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if change(ARMED, RINGING) {
            bell.announce();
            if !change(RINGING, QUIET) {
                // The consumer came before this ring, or after it.
                bell.reset();
                // SYNC(bell): pairs with `arm`, which does not reset an armed bell.
                self.0.store(ARMED, Ordering::Release);
                resume();
            }
        }
    }

    #[cfg(all(test, not(any(miri, slipring_loom))))]
    pub(crate) fn is_armed(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ARMED
    }
}
