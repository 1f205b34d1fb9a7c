//! Sleeping on several eventcounts at once: one pass of a set of waits.
//!
//! Used by `set/`. Relies on `eventcount.rs`, whose proof holds for each word by itself, and on
//! `FUTEX_WAITV`.
//!
//! ```text
//! S1  arm every word                       (a bit of a One that is raised since an earlier pass: a load)
//! S2  one barrier for all of them
//! S3  check every member; any ready? do not sleep
//! S4  futex_waitv(all words, what S1 wrote)
//! ```
//!
//! **No wake-up is lost.** Take any word. Its S1 comes before S2, and S2 before the check of its
//! member in S3, as with a sleep on this word alone: so either S3 sees the publication, or its
//! notifier sees the word armed and goes on to N4. `futex_waitv` takes the words one after the
//! other, each compared and queued under the lock that `futex_wake` takes. If N4 came before this
//! word's turn, the comparison fails and the call returns; if it comes later, the sleeper is queued
//! and is woken, even if other words still have to be queued then: the kernel looks for that before
//! it sleeps. A wake that meets a sleeper on its way out (another word has woken it) is spent on
//! it; that is why the caller checks *all* members after a sleep, whatever index the call returns.
//!
//! **What stays armed.** After a pass the words of [`One`](super::eventcount::One)s stay armed. A
//! notifier that meets such a word while the set is awake makes one system call for nothing, and
//! clears it. So a set in which one member is busy arms that member again for each sleep, and for
//! the others pays one load each. The word of a [`Many`](super::eventcount::Many) is registered for
//! each pass: without a registration, a notifier that finds its queue empty could clear the flag
//! behind a sleeper that it has not seen.
//!
//! **The bounded first wait** (`eventcount.rs`) is due until one has passed undisturbed since any
//! word was raised, for a word may have been raised in a pass that did not sleep.

use std::time::Duration;

use super::barrier::{Barrier, FIRST_WAIT, POLL_SLEEP};
use super::eventcount::{Event, Key};
use crate::os::futex::{self, Ended};
use crate::sync::{Ordering::*, fence};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// `ready` said so, before a sleep or in the middle of one.
    Ready,
    /// It slept. Look at all members, first at this one.
    Slept(Option<usize>),
}

/// What a sleeper on several words keeps between its passes.
#[derive(Default)]
pub(crate) struct Sleeper {
    keys: Vec<Key>,
    /// Whether a word was raised since the last first wait that passed undisturbed.
    raised: bool,
}

impl Sleeper {
    /// One pass over `count` eventcounts, from 1 to [`futex::MOST_WORDS`] (one only where the
    /// kernel does not have the call). At most `timeout`, and briefly in [`Barrier::Poll`] mode. May
    /// end spuriously.
    ///
    /// `ready` checks every member. It is not called again once it has returned true. System calls:
    /// `membarrier`, `FUTEX_WAITV` twice; more only if other sleepers come and go.
    pub(crate) fn pass<'e>(
        &mut self,
        count: usize,
        event: impl Fn(usize) -> Event<'e>,
        timeout: Duration,
        ready: &mut dyn FnMut() -> bool,
    ) -> Pass {
        let (mut asymmetric, mut polls) = (false, false);
        self.keys.clear();
        for event in (0..count).map(&event) {
            match event.barrier() {
                // No notifier will change this word: it is slept on as it is.
                Barrier::Poll => {
                    polls = true;
                    self.keys.push(Key { word: event.word().load(Relaxed), others: u32::MAX });
                    continue;
                }
                Barrier::Asymmetric => asymmetric = true,
                Barrier::Fenced => {}
            }
            let (key, raised) = event.arm();
            self.keys.push(key);
            self.raised |= raised;
        }
        #[cfg(not(slipring_loom))]
        if asymmetric && !crate::os::membarrier::barrier() {
            // As in `Line::settle`.
            (0..count).map(&event).filter(|e| e.barrier() == Barrier::Asymmetric).for_each(Event::ask_for_fence);
        }
        // SYNC(sleep): pairs with SYNC(notify), of every member.
        fence(SeqCst);
        if ready() {
            return Pass::Ready;
        }
        let mut rest = if polls { timeout.min(POLL_SLEEP) } else { timeout };
        if asymmetric && self.raised && rest > FIRST_WAIT {
            let (ended, undisturbed) = self.wait(&event, FIRST_WAIT);
            self.raised &= !undisturbed;
            if ready() {
                return Pass::Ready;
            }
            if !undisturbed {
                return Pass::Slept(ended);
            }
            rest -= FIRST_WAIT;
        }
        Pass::Slept(self.wait(&event, rest).0)
    }

    /// S4: which word ended the sleep, and whether none did. Sleeps on while only the bits of other
    /// sleepers change.
    fn wait<'e>(&mut self, event: &impl Fn(usize) -> Event<'e>, timeout: Duration) -> (Option<usize>, bool) {
        loop {
            let keys = &self.keys;
            let ended = if let [key] = keys[..] {
                // One word needs no call for several.
                let slept = futex::wait(event(0).word(), key.word, Some(timeout));
                let now = event(0).word().load(Relaxed);
                if slept && (now ^ key.word) & !key.others == 0 {
                    return (None, true);
                }
                Ended::Changed
            } else {
                futex::wait_any(keys.iter().enumerate().map(|(i, key)| (event(i).word(), key.word)), timeout)
            };
            match ended {
                Ended::Woken(index) => return (Some(index), false),
                Ended::Otherwise => return (None, true),
                Ended::Changed => {}
            }
            for (i, key) in self.keys.iter_mut().enumerate() {
                let now = event(i).word().load(Relaxed);
                if (now ^ key.word) & !key.others != 0 {
                    return (Some(i), false);
                }
                key.word = now;
            }
        }
    }
}
