//! What is done for the dead: claims that are voided, frames that are delivered again or given up.
//! Cold.
//!
//! Used by the handles and by `Ring::sweep`. Relies on the caller's word, which is the kernel's,
//! that the owner of an id is dead. Any number of recoverers may work at once on the same id or on
//! different ones, and each may be stopped or killed anywhere (`core.rs` says why).
//!
//! *Whose claim is it?* A word names an id, and ids are issued again. So a recoverer that does not
//! keep the id from being issued again, by holding its lock, asks after reading the word, and
//! before its CAS, whether the dead participant still has the id (`is_still_dead`). If so, the
//! claim that it read is the dead participant's, and the CAS is right or fails.

use super::core::Taken;
use super::layout::{ClaimWord, CommitWord, ReadWord, Shared, Stop, before, is_at_least};
use crate::frame::header::Flags;
use crate::segment::geometry::Redelivery;
use crate::sync::Ordering;

/// What recovery did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Recovered {
    /// Claims of dead producers, voided: their frames were not sent.
    pub(crate) voided: u64,
    /// Frames taken back from dead consumers.
    pub(crate) redeliver: u64,
    /// Frames that were given up with their dead consumers (at most once).
    pub(crate) lost: u64,
}

impl Shared {
    /// Removes the dead participant `id` from every slot: after a pass that was not cut short by
    /// `is_still_dead`, its id may be issued again. Idempotent, also while others do the same.
    /// Looks at the two arrays, and at the slots of unfinished claims.
    ///
    /// `is_still_dead` says whether the dead holder of `id` still has it; a caller that holds the
    /// lock on `id` need not ask.
    #[cold]
    pub(crate) fn sweep(&self, id: u16, policy: Redelivery, mut is_still_dead: impl FnMut() -> bool) -> Recovered {
        let mut total = Recovered::default();
        let mut again = false;
        for slot in 0..self.slots() as usize {
            // SYNC(issued): pairs with the CASes in `claim_at`, `take_at` and `take_again`. If it
            // is the next holder of the id that claimed or took, we see that the id was issued to
            // it. (All that the dead participant did is visible anyway, by the kernel's word for
            // its death.)
            let claimed = ClaimWord(self.claim_word(slot).load(Ordering::Acquire));
            if claimed.owner() == id {
                if let Some(seen) = self.unfinished(slot, claimed.lap()) {
                    if is_still_dead() {
                        total.voided += u64::from(self.void(slot, claimed.lap(), seen));
                    }
                }
            }
            let read = ReadWord(self.read_word(slot).load(Ordering::Acquire));
            if read.is_reading() && read.owner() == id && is_still_dead() {
                let (next, count) = match policy {
                    Redelivery::AtMostOnce => (ReadWord::released(read.lap().wrapping_add(1)), &mut total.lost),
                    Redelivery::AtLeastOnce => (read.taken_back(), &mut total.redeliver),
                };
                // SYNC(release), SYNC(again): pair with the loads in `is_free` and in `take_again`;
                // what the dead participant read, known to us by the kernel's word, comes before
                // what the next one writes.
                let word = self.read_word(slot);
                let won = word.compare_exchange(read.0, next.0, Ordering::Release, Ordering::Relaxed).is_ok();
                *count += u64::from(won);
            }
            again |= read.is_again();
        }
        if again || total.redeliver > 0 {
            // SYNC(redeliver): pairs with `redeliveries`. Also for what we only found: the
            // recoverer that put it there may have been killed before saying so.
            self.redelivery_count().fetch_add(1, Ordering::Release);
        }
        total
    }

    /// The commit word of an older lap that a claim of `lap` has left there, if the claim is
    /// neither committed nor void.
    fn unfinished(&self, slot: usize, lap: u64) -> Option<CommitWord> {
        // A slot that was released up to `lap` is finished: no need to load a line of the slot.
        if ReadWord(self.read_word(slot).load(Ordering::Relaxed)).lap() != before(lap) {
            return None;
        }
        let seen = CommitWord(self.commit_word(slot).load(Ordering::Relaxed));
        if is_at_least(seen.lap(), lap) { None } else { Some(seen) }
    }

    /// Gives the claim of `lap` up for its dead owner; false if another recoverer was faster.
    fn void(&self, slot: usize, lap: u64, seen: CommitWord) -> bool {
        let (word, void) = (self.commit_word(slot), CommitWord::void(lap).0);
        // SYNC(void): pairs with the loads in `skip_before` and `next_ready`; what the dead
        // participant wrote, known to us by the kernel's word, comes before what the next owner of
        // the slot writes.
        let won = word.compare_exchange(seen.0, void, Ordering::Release, Ordering::Relaxed).is_ok();
        if won {
            self.skip(slot, lap);
        }
        won
    }

    /// The value that changes whenever there may be a frame to deliver again.
    #[inline(always)]
    pub(crate) fn redeliveries(&self) -> u64 {
        // SYNC(redeliver): pairs with `sweep`: a consumer that sees the count sees the words.
        self.redelivery_count().load(Ordering::Acquire)
    }

    /// Takes a frame that a dead consumer left behind, if there is one. Looks at all of
    /// `consumers[]`: a cold path.
    #[cold]
    pub(crate) fn take_again(&self, me: u16) -> Result<Taken, Stop> {
        for slot in 0..self.slots() as usize {
            let word = self.read_word(slot);
            // SYNC(again): pairs with the CAS in `sweep`. The dead reader's view of the frame is
            // ours, and its reads come before our release.
            let seen = ReadWord(word.load(Ordering::Acquire));
            // SYNC(issued): as in `take_at`. No Acquire: a word occurs once, so this is the very
            // store that the load above has synchronised with.
            let take = || word.compare_exchange(seen.0, seen.taken_again(me).0, Ordering::Release, Ordering::Relaxed);
            if seen.is_again() && take().is_ok() {
                let mut header = self.header(slot)?;
                header.flags = header.flags | Flags::REDELIVERED;
                return Ok(Taken::new(header, seen.lap().wrapping_add(1), slot));
            }
        }
        Err(Stop::Empty)
    }
}
