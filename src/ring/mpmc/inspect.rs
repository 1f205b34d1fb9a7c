//! Inspects a slot ring for observers: the state of each slot, and the committed frames. Writes
//! nothing.
//!
//! Used by `ring/observe.rs` and by tests. A slot is described by three words, which its users
//! change one at a time. So an observer reads all of them, and then reads the words that show a
//! change once more. Frames are copied by relaxed words and shown only if the slot did not change
//! meanwhile.

use super::layout::{ClaimWord, CommitWord, ReadWord, Shared, Stop, ahead, before, is_at_least};
use crate::frame::header::Header;
use crate::sync::{Ordering, fence};

/// The state of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Waiting for a producer.
    Free,
    /// Claimed by a producer that is filling it.
    Writing,
    /// Committed.
    Ready,
    /// Taken by a consumer that is reading it.
    Reading,
    /// Recovered from a dead consumer, to be redelivered.
    Redeliver,
    /// Aborted by its producer; the next participant at the slot frees it.
    Void,
    /// It changed too often while it was read.
    Busy,
}

/// The state of a slot at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The lap that was claimed last.
    pub(crate) lap: u64,
    pub(crate) state: State,
    /// The id of its owner, in the states Writing and Reading; else 0.
    pub(crate) owner: u16,
}

/// How often a slot that changes is read again.
const LOOKS: usize = if cfg!(slipring_loom) { 1 } else { 16 };

impl Shared {
    /// The hints (head, tail), for observers. Relaxed, because nothing is read by them.
    pub(crate) fn observe(&self) -> (u64, u64) {
        let head = self.head().load(Ordering::Relaxed);
        (head, crate::ring::position::later(self.tail().load(Ordering::Relaxed), head))
    }

    /// Whether a consumer that looks now finds something: a frame, or what is wrong in the ring.
    pub(crate) fn is_readable(&self) -> bool {
        let position = self.head().load(Ordering::Relaxed);
        self.next_ready(position, &mut self.budget()) != Err(Stop::Empty)
    }

    /// Whether a frame is to be delivered again. Looks at all of `consumers[]`.
    #[cold]
    pub(crate) fn has_again(&self) -> bool {
        (0..self.slots() as usize).any(|slot| ReadWord(self.read_word(slot).load(Ordering::Relaxed)).is_again())
    }

    /// Whether a producer that claims now finds a slot, or what is wrong in the ring.
    pub(crate) fn is_writable(&self) -> bool {
        // Relaxed: the tail is a hint, and only the claim itself gives a slot away.
        let mut position = self.tail().load(Ordering::Relaxed);
        for _ in 0..self.budget() {
            let (slot, lap) = self.split(position);
            let seen = ClaimWord(self.claim_word(slot).load(Ordering::Relaxed));
            if seen.is_of(before(lap)) {
                let void = CommitWord::void(before(lap)).0;
                return self.is_free(position) || self.commit_word(slot).load(Ordering::Relaxed) == void;
            }
            match self.behind_claims(position, seen) {
                Ok(next) => position = next,
                Err(_) => return true,
            }
        }
        false
    }

    /// The state of `slot`. Loads three words on three lines, and two of them again.
    pub(crate) fn inspect(&self, slot: usize) -> Result<Seen, Stop> {
        for _ in 0..LOOKS {
            // SYNC(observe): pairs with the Release stores of these words. They are read in this
            // order, and the first two again after that. So a release is not seen without the claim
            // that it ends, and a claim or a commit after the first reading shows in the second.
            // SYNC(commit): a frame that is READY is whole.
            let read = ReadWord(self.read_word(slot).load(Ordering::Acquire));
            let claimed = ClaimWord(self.claim_word(slot).load(Ordering::Acquire));
            let commit = CommitWord(self.commit_word(slot).load(Ordering::Acquire));
            if self.is_unchanged(slot, read, claimed) {
                return judge(read, claimed, commit);
            }
        }
        Ok(Seen { lap: ClaimWord(self.claim_word(slot).load(Ordering::Relaxed)).lap(), state: State::Busy, owner: 0 })
    }

    /// Whether the words that change with every use of `slot` are still these. No word occurs again
    /// for 2^40 laps, so the slot stayed in one state, except for a commit.
    fn is_unchanged(&self, slot: usize, read: ReadWord, claimed: ClaimWord) -> bool {
        self.read_word(slot).load(Ordering::Relaxed) == read.0
            && self.claim_word(slot).load(Ordering::Relaxed) == claimed.0
    }

    /// Whether `hint` does not lead: the position before it was claimed, or it is the first
    /// position.
    pub(crate) fn is_proven(&self, hint: u64) -> bool {
        let (slot, lap) = self.split(hint.wrapping_sub(1));
        // Relaxed, as is the load of the hint: `verify` checks again before it reports a missing
        // claim.
        let claimed = ClaimWord(self.claim_word(slot).load(Ordering::Relaxed));
        hint == 0 || is_at_least(claimed.lap(), lap)
    }

    /// Whether a participant is working in the slot at the head, or in the slot at the tail, which
    /// the next lap needs. For a caller that decides how long to sleep: the hints may lag, so this
    /// is a guess.
    pub(crate) fn is_next_slot_busy(&self) -> bool {
        [self.head(), self.tail()].into_iter().any(|hint| {
            let (slot, _) = self.split(hint.load(Ordering::Relaxed));
            self.inspect(slot).is_ok_and(|seen| matches!(seen.state, State::Writing | State::Reading))
        })
    }

    /// The slots of the committed frames, with their laps, in the order of their positions.
    fn waiting(&self) -> Result<Vec<(usize, u64)>, Stop> {
        let mut found = Vec::new();
        let mut first = None;
        for slot in 0..self.slots() as usize {
            let seen = self.inspect(slot)?;
            // Laps wrap, so sort by the distance from a lap that is older than all of these.
            let oldest = *first.get_or_insert(seen.lap.wrapping_sub(2));
            if matches!(seen.state, State::Ready | State::Redeliver) {
                found.push((ahead(seen.lap, oldest), slot, seen.lap));
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, slot, lap)| (slot, lap)).collect())
    }

    /// Passes copies of the committed frames to `show`, in the order of their positions, until it
    /// returns false. Frames that are taken before or while they are copied are left out.
    pub(crate) fn frames(&self, mut show: impl FnMut(Header, &[u8]) -> bool) -> Result<(), Stop> {
        let mut copy = Vec::new();
        for (slot, lap) in self.waiting()? {
            let header = self.header(slot);
            copy.resize(header.map_or(0, |header| header.len as usize), 0);
            self.data.copy_words(self.payload(slot), &mut copy);
            let is_whole = self.is_still_claimed(slot, lap);
            let read = ReadWord(self.read_word(slot).load(Ordering::Relaxed));
            if !is_whole || read.lap() != before(lap) || read.is_reading() {
                continue;
            }
            if !show(header?, &copy) {
                break;
            }
        }
        Ok(())
    }

    /// The header of the frame that [`Shared::inspect`] has seen in `slot` in this `lap`; `None` if
    /// the slot has been claimed since, so that the frame may be torn.
    pub(crate) fn inspect_header(&self, slot: usize, lap: u64) -> Option<Result<Header, Stop>> {
        let header = self.header(slot);
        self.is_still_claimed(slot, lap).then_some(header)
    }

    /// Whether `lap` is still the newest claim of `slot`, after its contents were read. Its frame
    /// was committed, and claims are made in order, so there was no claim in between.
    fn is_still_claimed(&self, slot: usize, lap: u64) -> bool {
        // SYNC(copied): the contents of the slot were read before this load of its claim.
        fence(Ordering::Acquire);
        ClaimWord(self.claim_word(slot).load(Ordering::Relaxed)).lap() == lap
    }
}

/// The state that the three words of a slot show.
fn judge(read: ReadWord, claimed: ClaimWord, commit: CommitWord) -> Result<Seen, Stop> {
    let lap = claimed.lap();
    let state = if read.lap() == lap {
        State::Free
    } else if read.lap() != before(lap) {
        return Err(Stop::Behind);
    } else if read.is_reading() {
        State::Reading
    } else if read.attempt() > 0 {
        State::Redeliver
    } else if commit == CommitWord::ready(lap) {
        State::Ready
    } else if commit == CommitWord::void(lap) {
        State::Void
    } else if is_at_least(commit.lap(), lap) {
        return Err(Stop::UnknownState);
    } else {
        State::Writing
    };
    let owner = match state {
        State::Writing => claimed.owner(),
        State::Reading => read.owner(),
        _ => 0,
    };
    Ok(Seen { lap, state, owner })
}
