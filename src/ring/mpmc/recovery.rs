//! Recovery: voids the claims of dead producers, and redelivers or drops the frames of dead
//! consumers. A cold path.
//!
//! Used by the handles and by `Ring::reap_dead`. Relies on the caller, who has asked the kernel, to
//! say that the owner of an id is dead. Any number of recoverers may recover the same id or
//! different ids at once, and each may be stopped or killed at any point (`core.rs` proves it).
//!
//! *The owner of a claim.* A word names an id, and ids are reused. A recoverer that holds the lock
//! of the id prevents that. Any other recoverer asks, after reading the word and before its CAS,
//! whether the dead participant still has the id (`is_still_dead`). If so, the claim that it read
//! belongs to the dead participant, and the CAS is correct or fails.

use super::core::Taken;
use super::layout::{ClaimWord, CommitWord, ReadWord, Shared, Stop, before, is_at_least};
use crate::frame::header::Flags;
use crate::segment::counters::{Counter, Counters};
use crate::segment::geometry::Redelivery;
use crate::sync::Ordering;

/// The result of recovery.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Recovered {
    /// Claims of dead producers, voided: their frames were not sent.
    pub(crate) voided: u64,
    /// Frames of dead consumers that are to be redelivered.
    pub(crate) redeliver: u64,
    /// Frames that were lost with dead consumers (at most once).
    pub(crate) lost: u64,
}

impl Shared {
    /// Recovers what the dead participant `id` holds, and counts it in that participant's record,
    /// because a recoverer need not be a participant. Several may recover at once, if each notices
    /// that `id` was reused. Returns whether there was anything to recover.
    pub(crate) fn recover(
        &self,
        counters: &Counters,
        id: u16,
        policy: Redelivery,
        is_still_dead: impl FnMut() -> bool,
    ) -> bool {
        let Recovered { voided, redeliver, lost } = self.sweep(id, policy, is_still_dead);
        for (counter, n) in [(Counter::Recovered, voided + redeliver + lost), (Counter::Lost, lost)] {
            if n > 0 {
                counters.add_in_other_thread(counter, n);
            }
        }
        voided + redeliver + lost > 0
    }

    /// Removes the dead participant `id` from every slot. After a complete pass (not ended by
    /// `is_still_dead`), its id may be reused. Idempotent, also while others do the same. Reads the
    /// two arrays, and the slots of unfinished claims.
    ///
    /// `is_still_dead` returns whether the dead holder of `id` still has it; a caller that holds
    /// the lock on `id` can return true.
    #[cold]
    pub(crate) fn sweep(&self, id: u16, policy: Redelivery, mut is_still_dead: impl FnMut() -> bool) -> Recovered {
        let mut total = Recovered::default();
        let mut again = false;
        for slot in 0..self.slots() as usize {
            // SYNC(issued): pairs with the CASes in `claim_at`, `take_at` and `take_redelivered`.
            // If the next holder of the id claimed or took the slot, we see that the id was issued
            // to it. (Everything that the dead participant did is visible, because the kernel has
            // reported its death.)
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
                // SYNC(release), SYNC(again): pair with the loads in `is_free` and in
                // `take_redelivered`; the reads of the dead participant, which ended before the
                // kernel reported its death, come before the writes of the next one.
                let word = self.read_word(slot);
                let won = word.compare_exchange(read.0, next.0, Ordering::Release, Ordering::Relaxed).is_ok();
                *count += u64::from(won);
            }
            again |= read.is_again();
        }
        if again || total.redeliver > 0 {
            // SYNC(redeliver): pairs with `redeliveries`. This includes a frame that another
            // recoverer has recovered, because it may have been killed before announcing it.
            self.redelivery_count().fetch_add(1, Ordering::Release);
        }
        total
    }

    /// The commit word, which is of an older lap, if the claim of `lap` is neither committed nor
    /// void.
    fn unfinished(&self, slot: usize, lap: u64) -> Option<CommitWord> {
        // A slot that was released up to `lap` is finished, so its line need not be loaded.
        if ReadWord(self.read_word(slot).load(Ordering::Relaxed)).lap() != before(lap) {
            return None;
        }
        let seen = CommitWord(self.commit_word(slot).load(Ordering::Relaxed));
        if is_at_least(seen.lap(), lap) { None } else { Some(seen) }
    }

    /// Voids the claim of `lap` of its dead owner; false if another recoverer has done so.
    fn void(&self, slot: usize, lap: u64, seen: CommitWord) -> bool {
        let (word, void) = (self.commit_word(slot), CommitWord::void(lap).0);
        // SYNC(void): pairs with the loads in `skip_before` and `next_ready`; the writes of the
        // dead participant, which ended before the kernel reported its death, come before those of
        // the next owner of the slot.
        let won = word.compare_exchange(seen.0, void, Ordering::Release, Ordering::Relaxed).is_ok();
        if won {
            self.skip(slot, lap);
        }
        won
    }

    /// A value that changes whenever there may be another frame to redeliver.
    #[inline(always)]
    pub(crate) fn redeliveries(&self) -> u64 {
        // SYNC(redeliver): pairs with `sweep`: a consumer that sees the count sees the words.
        self.redelivery_count().load(Ordering::Acquire)
    }

    /// Gives back a frame that its living reader has taken: it is delivered again, before others.
    pub(crate) fn put_back(&self, taken: Taken) {
        let word = self.read_word(taken.slot());
        // Relaxed: we stored it, and while we live no other participant does.
        let seen = ReadWord(word.load(Ordering::Relaxed));
        // SYNC(again): pairs with the load in `take_redelivered`: what we read comes before the
        // release of the next reader.
        word.store(seen.taken_back().0, Ordering::Release);
        // SYNC(redeliver): as in `sweep`. One who is killed before this has its frame found by the
        // `sweep` for it.
        self.redelivery_count().fetch_add(1, Ordering::Release);
    }

    /// Takes a frame that a dead consumer held, if there is one. Reads all of `consumers[]`: a cold
    /// path.
    #[cold]
    pub(crate) fn take_redelivered(&self, me: u16) -> Result<Taken, Stop> {
        for slot in 0..self.slots() as usize {
            let word = self.read_word(slot);
            // SYNC(again): pairs with the CAS in `sweep`. We see the frame as the dead reader did,
            // and its reads come before our release.
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
