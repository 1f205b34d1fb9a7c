//! The algorithm of the MPMC slot ring. `loom-tests` compiles and checks this file.
//!
//! Used by the handles in `mpmc/mod.rs`. Relies on `layout.rs` for the words, on `frame::header`
//! for the header inside a slot, and on the caller to say which participants are dead (by the
//! kernel, through `segment::liveness`). `recovery.rs` recovers what the dead held;
//! `inspect.rs` is for observers.
//!
//! # Protocol
//!
//! For position p, which is lap l of slot s (`layout.rs` describes the words):
//!
//! ```text
//! producers[s]  l−1, x ──claim: CAS──→ l, me                                            until the claim of lap l+1
//! commit word   l−1, … ──commit: store──→ READY l
//!                      └─abort: store; the owner died: CAS──→ VOID l
//! consumers[s]  l−1 ──take: CAS──→ l−1, read by me ──release: store──→ l
//!               l−1 ←─┐                 │ the reader died: CAS
//!               l−1, again ←────────────┤   at least once: and from there taken by CAS like any other
//!               l ←─────────────────────┘   at most once
//!               l−1 ──skip: CAS, if the slot is VOID l──→ l
//! ```
//!
//! claim(p) needs `producers[s]` at l−1 and `consumers[s]` released up to l−1. take(p) needs READY
//! l and `consumers[s]` at l−1, not being read. One CAS on one word claims the slot and records the
//! owner; another takes the frame and records the reader. So at every instant the holder of a slot
//! is known.
//!
//! A producer polls `consumers[]` and stores into slots, a consumer polls slots and stores into
//! `consumers[]`; each array has eight words to a cache line. So a producer reads a line of
//! `consumers[]` once per eight claims: **a slot that was found free stays free until a producer
//! claims it**, because no consumer writes `consumers[s]` before READY l or VOID l. A handle
//! remembers the position up to which it has found slots free ([`Shared::claim`]).
//!
//! **The next slot's lines**: after a commit a producer stores into two padding words of the next
//! slot ([`Shared::touch_next`]), so that its core owns the cache lines when it fills that slot. No
//! participant reads these words, so it does not matter which one owns the slot.
//!
//! `tail` and `head` are hints. They are stored after the claim or the take that proves them, so
//! they may lag (and even move backwards, when the store of a slow thread comes late), but they do
//! not lead. A participant that finds a hint behind searches from there, at most once around the
//! ring: one word of a later lap shows up to where the positions before it are finished.
//!
//! # Why it is correct
//!
//! *Positions are claimed in order.* A producer reaches p from the hint, having seen each position
//! in between claimed, and claims p by a CAS from lap l−1. So if p is claimed, all positions before
//! it are; and p−N is finished, because `consumers[s]` was released up to l−1, which only follows a
//! take of READY l−1, or VOID l−1. Therefore, if position q is claimed, every position up to q−N is
//! finished. Consumers use this to skip positions.
//!
//! *One at a time in a slot.* Lap l of a slot is written by the owner of the one CAS to (l, owner),
//! after the release of l−1 (SYNC(release)); read by the owner of the one CAS to (l−1, read by
//! owner), after READY l (SYNC(commit)); and the next lap is claimed after the release of l.
//!
//! *Commit, abort and release are plain stores.* Between the claim and the commit no other
//! participant stores the commit word unless the owner is dead, and a dead owner does not store.
//! The same holds for `consumers[s]` while the frame is being read.
//!
//! *VOID.* The owner's abort or the recovery of a dead owner leaves VOID l. A participant that
//! finds it (a consumer, or a producer that needs the slot for l+1) moves `consumers[s]` from l−1
//! to l by CAS. This is idempotent: one CAS succeeds, because l−1 unread does not occur again. If
//! the writer of VOID dies before that, the next participant at the slot does it.
//!
//! *A recoverer that dies or is stopped.* Each step of recovery is a CAS that expects the word it
//! has read, on a word that names the dead owner or, for VOID, on a commit word of an older lap.
//! Other recoverers may do the same at the same time or later, and one CAS of each step succeeds.
//! The id is not issued again before a complete pass has found nothing of it. A recoverer that was
//! stopped in between, for any number of laps, expects a word that has been replaced, so its CAS
//! changes nothing. See `recovery.rs`.
//!
//! *A stalled CAS.* A claim expects (l−1, x): the word says l or more for the next 2^40 laps. A
//! take expects (l−1, unread, not again): afterwards it is being read, again, or of a later lap.
//! The CAS of a claimant that saw the slot free and was stopped fails in the same way; until then,
//! the slot stays free.
//!
//! *Laps that wrap.* Laps are compared by their distance modulo 2^40; words that are compared
//! belong to laps at most N apart in claims, that is, one lap. A participant would have to be
//! stopped for 2^40 laps of the ring to mistake one for another.
//!
//! *Empty means empty.* A consumer stops at p because it sees neither READY l nor VOID l, and has
//! seen that every earlier position is taken, void or to be redelivered. If it has synchronised
//! with the commit of a later position (by a fence, or by an end that was reported to it), p's
//! owner has not committed, and will notify when it does. Once it has synchronised with the ends of
//! all producers, everything is committed or void.
//!
//! *Full means full.* A producer stops at p because `consumers[s]` is not released up to l−1: p−N
//! holds an unread frame, or its producer or reader is working, or is dead (then [`Shared::sweep`]
//! recovers it). If p−N is VOID, it skips it instead.
//!
//! Progress: lock-free among living participants, because a failed CAS means that another one got
//! the slot. FIFO per producer. A living but *stopped* producer at the head delays consumers; a
//! dead one does not. Every loop is bounded for any contents of the words.

use super::layout::{ClaimWord, CommitWord, LAP_MASK, ReadWord, Shared, Stop, ahead, before, is_at_least};
use crate::frame::header::{Header, is_short};
use crate::ring::position::is_before;
use crate::sync::{AtomicU64, Ordering, spin_loop};

/// The number of positions that a producer checks together: those of one line of `consumers[]`.
const GROUP: u64 = if cfg!(slipring_loom) { 2 } else { 8 };

/// A claimed slot, which the producer fills and then commits or aborts.
#[derive(Debug)]
#[must_use = "a claim that is neither committed nor aborted blocks the ring"]
pub(crate) struct Claim {
    position: u64,
    lap: u64,
    slot: usize,
    /// Offset of the slot in the data area.
    offset: usize,
}

/// The reason why a position was not claimed.
enum Missed {
    /// It is claimed already, by this word, or an earlier position has to be claimed first.
    Claimed(ClaimWord),
    /// The slot is not released, as far as this thread sees.
    NotFree,
    /// Another producer was faster.
    Raced,
}

/// A taken slot, which the consumer reads and then releases.
#[derive(Debug)]
#[must_use = "a taken slot that is not released blocks the ring"]
pub(crate) struct Taken {
    /// The frame's header; REDELIVERED is set if a dead consumer had taken it before.
    pub(crate) header: Header,
    lap: u64,
    slot: usize,
}

impl Taken {
    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    pub(super) fn new(header: Header, lap: u64, slot: usize) -> Self {
        Taken { header, lap, slot }
    }
}

impl Shared {
    /// More steps than a call needs among correct peers, so that a forged segment does not cause an
    /// endless loop.
    #[inline(always)]
    pub(super) fn budget(&self) -> u64 {
        4 * self.slots() + 64
    }

    // ---- producer ----

    /// Where a new handle starts to remember free slots.
    pub(crate) fn first_free(&self) -> AtomicU64 {
        // Relaxed: positions before the tail are claimed, so claims of them fail.
        AtomicU64::new(self.tail().load(Ordering::Relaxed))
    }

    /// Claims the next free slot for participant `me`. `free` is the position up to which its
    /// handle has found slots free.
    ///
    /// `Full` if the slot of the lap before is not finished: it holds an unread frame, or its owner
    /// is working, or is dead (then [`Shared::sweep`] recovers it).
    #[inline(always)]
    pub(crate) fn claim(&self, me: u16, free: &AtomicU64) -> Result<Claim, Stop> {
        match self.claim_next(me, free) {
            Some(claim) => Ok(claim),
            None => self.claim_behind(me, free),
        }
    }

    /// [`Shared::claim`] for the common case that the tail is the position to claim, and its slot
    /// is free. Otherwise call [`Shared::claim_behind`].
    #[inline(always)]
    pub(crate) fn claim_next(&self, me: u16, free: &AtomicU64) -> Option<Claim> {
        // SYNC(tail): pairs with the Release store in `claim_at`; we see the claims that the
        // storing thread saw.
        self.claim_at(self.tail().load(Ordering::Acquire), me, free).ok()
    }

    /// [`Shared::claim`] from the tail on.
    #[cold]
    #[inline(never)]
    pub(crate) fn claim_behind(&self, me: u16, free: &AtomicU64) -> Result<Claim, Stop> {
        // SYNC(tail): as in `claim_next`.
        let mut position = self.tail().load(Ordering::Acquire);
        for _ in 0..self.budget() {
            match self.claim_at(position, me, free) {
                Ok(claim) => return Ok(claim),
                Err(Missed::Claimed(seen)) => position = self.behind_claims(position, seen)?,
                // SYNC(free): as in `find_free`.
                Err(Missed::NotFree) => free.store(self.skip_before(position)?, Ordering::Release),
                Err(Missed::Raced) => spin_loop(), // another producer has claimed it; try the next
            }
        }
        Err(Stop::Full)
    }

    /// Claims `position`, if it is the next to be claimed and its slot is free.
    #[inline(always)]
    fn claim_at(&self, position: u64, me: u16, free: &AtomicU64) -> Result<Claim, Missed> {
        let (slot, lap) = self.split(position);
        let word = self.claim_word(slot);
        // SYNC(claim): pairs with the CAS of the slot's claimant; we see the earlier claims that it
        // saw.
        let seen = ClaimWord(word.load(Ordering::Acquire));
        if !seen.is_of(before(lap)) {
            return Err(Missed::Claimed(seen));
        }
        // SYNC(free): pairs with the Release store in `find_free`, of another thread with this
        // handle.
        if !is_before(position, free.load(Ordering::Acquire)) && !self.find_free(position, free) {
            return Err(Missed::NotFree);
        }
        // SYNC(claim): passes on the earlier claims that we see. SYNC(issued): pairs with the loads
        // in `sweep`; our id was issued to us before. No Acquire: a word occurs once, so this is
        // the very store that the load above has synchronised with.
        let mine = ClaimWord::new(lap, me);
        if word.compare_exchange(seen.0, mine.0, Ordering::Release, Ordering::Relaxed).is_err() {
            return Err(Missed::Raced);
        }
        // SYNC(tail): passes it on as well. Stored after the claim, so it may lag, but does not
        // lead.
        self.tail().store(position.wrapping_add(1), Ordering::Release);
        Ok(Claim { position, lap, slot, offset: self.slot(slot) })
    }

    /// The position after the newest known claim of this slot; the word at `position` is not that
    /// of the lap before.
    #[cold]
    pub(super) fn behind_claims(&self, position: u64, seen: ClaimWord) -> Result<u64, Stop> {
        let laps = ahead(seen.lap(), self.split(position).1);
        if laps > LAP_MASK / 2 { Err(Stop::Behind) } else { Ok(self.laps_later(position, laps).wrapping_add(1)) }
    }

    /// Finds free slots from `position` on, at most up to the end of its group, which is within one
    /// lap, and stores the result in `free`. False if there is none.
    #[inline(never)]
    fn find_free(&self, position: u64, free: &AtomicU64) -> bool {
        let (first, lap) = self.split(position);
        let word = ReadWord::released(before(lap)).0;
        // SYNC(release): as in `is_free`.
        let is_free = |slot: usize| self.read_word(slot).load(Ordering::Acquire) == word;
        let group = GROUP.min(self.slots()) as usize;
        // Mostly a whole group, whose length the compiler knows.
        let is_whole = group as u64 == GROUP && first % group == 0 && (0..GROUP as usize).all(|i| is_free(first + i));
        let count = if is_whole {
            GROUP
        } else {
            (first..(first | (group - 1)) + 1).take_while(|&slot| is_free(slot)).count() as u64
        };
        if count > 0 {
            // SYNC(free): the next thread sees the releases that this one saw. The value may move
            // back, which does no harm.
            free.store(position.wrapping_add(count), Ordering::Release);
        }
        count > 0
    }

    /// Whether the slot at the tail is free, as far as can be seen.
    pub(crate) fn has_room(&self) -> bool {
        // Relaxed: a hint.
        self.is_free(self.tail().load(Ordering::Relaxed))
    }

    /// Whether the lap before that of `position` was released.
    #[inline(always)]
    pub(super) fn is_free(&self, position: u64) -> bool {
        let (slot, lap) = self.split(position);
        // SYNC(release): pairs with the stores and CASes that free a slot; its last user has
        // finished.
        let seen = ReadWord(self.read_word(slot).load(Ordering::Acquire));
        is_at_least(seen.lap(), before(lap))
    }

    /// The slot of `position` is not free, as far as this thread sees. Frees it if the lap before
    /// is void.
    #[cold]
    fn skip_before(&self, position: u64) -> Result<u64, Stop> {
        let (slot, lap) = self.split(position);
        // SYNC(void): pairs with the store in `abort` and the CAS in `void`: what the claim's owner
        // wrote comes before what the next one writes.
        if CommitWord(self.commit_word(slot).load(Ordering::Acquire)) == CommitWord::void(before(lap)) {
            self.skip(slot, before(lap));
        }
        // It may have been freed now, by this thread or by another participant, and claimed after
        // that.
        if self.is_free(position) { Ok(position.wrapping_add(1)) } else { Err(Stop::Full) }
    }

    /// Frees the slot of `lap`, which is void, unless another participant has done so.
    pub(super) fn skip(&self, slot: usize, lap: u64) {
        let (unread, free) = (ReadWord::released(before(lap)).0, ReadWord::released(lap).0);
        // SYNC(release): pairs with the load in `is_free`.
        let _ = self.read_word(slot).compare_exchange(unread, free, Ordering::Release, Ordering::Relaxed);
    }

    /// Offset of the claimed slot's payload in the data area; the claimant owns `max_payload` bytes
    /// there.
    #[inline(always)]
    pub(crate) fn claimed_payload(&self, claim: &Claim) -> usize {
        self.payload_at(claim.offset)
    }

    /// The sequence number of the frame in this claim: the low half of its position, because the
    /// ring counts as one sender.
    #[inline(always)]
    pub(crate) fn sequence(claim: &Claim) -> u32 {
        claim.position as u32
    }

    /// Copies payload into the claimed slot.
    #[inline(always)]
    pub(crate) fn write(&self, claim: &Claim, payload: &[u8]) {
        debug_assert!(payload.len() <= self.max_payload());
        // SAFETY: inside the slot by the check that the handles make before they claim. `claim`
        // proves that this lap of the slot is claimed with our id: no other participant reads or
        // writes the payload before we store READY or VOID.
        unsafe { self.data.write(self.payload_at(claim.offset), payload) };
    }

    /// Publishes the claimed slot.
    #[inline(always)]
    pub(crate) fn commit(&self, claim: Claim, header: Header) {
        // All words are located before one is stored, so that their addresses are computed once.
        let (word, (first, second)) = (self.commit_word_at(claim.offset), self.header_words_at(claim.offset));
        first.store(header.commit_word().to_le(), Ordering::Relaxed);
        second.store(header.tail_word().to_le(), Ordering::Relaxed);
        // SYNC(commit): pairs with the load in `next_ready`; header and payload come before it. A
        // plain store, because no other participant stores this word while we are alive.
        word.store(CommitWord::ready(claim.lap).0, Ordering::Release);
        self.touch_next(claim.offset);
    }

    /// Stores into the pads of the slot after the one at `offset`: its lines are transferred now,
    /// while no call waits for them.
    #[inline(always)]
    fn touch_next(&self, offset: usize) {
        if let Some([first, last]) = self.next_pads(offset) {
            // SAFETY: the pads of a slot, hence inside the area; no participant reads them, or
            // stores anything else there.
            unsafe { self.data.touch(first) };
            // SAFETY: as above.
            unsafe { self.data.touch(last) };
        }
    }

    /// Aborts the claim: consumers skip its position, and the slot is free for the next lap.
    pub(crate) fn abort(&self, claim: Claim) {
        let lap = claim.lap;
        // SYNC(void): pairs with the loads in `skip_before` and `next_ready`. A plain store, as in
        // `commit`.
        self.commit_word(claim.slot).store(CommitWord::void(lap).0, Ordering::Release);
        self.skip(claim.slot, lap);
    }

    // ---- consumer ----

    /// Takes the next committed slot for participant `me`.
    ///
    /// `Empty` if no frame is committed at the head, also if one is still being written.
    #[inline(always)]
    pub(crate) fn take(&self, me: u16) -> Result<Taken, Stop> {
        // Relaxed: positions before the head are taken, and this needs nothing that the taker saw.
        let position = self.head().load(Ordering::Relaxed);
        let (slot, lap) = self.split(position);
        // SYNC(commit): as in `next_ready`.
        if CommitWord(self.commit_word(slot).load(Ordering::Acquire)) == CommitWord::ready(lap) {
            // The CAS of the take waits for its line; meanwhile the rest of the frame is
            // prefetched.
            self.prefetch_rest(slot);
            if let Some(outcome) = self.take_at(position, me) {
                return outcome;
            }
        }
        self.take_behind(position, me)
    }

    /// [`Shared::take`] if the head is not the position to take.
    #[cold]
    #[inline(never)]
    fn take_behind(&self, mut position: u64, me: u16) -> Result<Taken, Stop> {
        let mut budget = self.budget();
        loop {
            position = self.next_ready(position, &mut budget)?;
            if let Some(outcome) = self.take_at(position, me) {
                return outcome;
            }
            spin_loop(); // another consumer has taken it; try the next
        }
    }

    /// Takes the frame of `position`, which is READY, unless another consumer has taken it.
    #[inline(always)]
    fn take_at(&self, position: u64, me: u16) -> Option<Result<Taken, Stop>> {
        let (slot, lap) = self.split(position);
        let (unread, mine) = (ReadWord::released(before(lap)).0, ReadWord::reading(before(lap), me).0);
        // SYNC(issued): pairs with the loads in `sweep`; our id was issued to us before. No
        // Acquire: header and payload are visible by SYNC(commit), and the slot's last user had
        // finished before that.
        if self.read_word(slot).compare_exchange(unread, mine, Ordering::Release, Ordering::Relaxed).is_err() {
            return None;
        }
        // Stored after the take, so it may lag, but does not lead.
        self.head().store(position.wrapping_add(1), Ordering::Relaxed);
        Some(match self.header(slot) {
            Ok(header) => Ok(Taken { header, lap, slot }),
            Err(stop) => Err(stop),
        })
    }

    /// Whether a committed slot is at the head. A consumer that was woken for one frame wakes
    /// another consumer for the next.
    pub(crate) fn has_more(&self) -> bool {
        let position = self.head().load(Ordering::Relaxed);
        self.next_ready(position, &mut self.budget()).is_ok()
    }

    /// The first position at or after `position` that is READY and unread. Everything before it is
    /// taken or void.
    #[inline(always)]
    pub(super) fn next_ready(&self, mut position: u64, budget: &mut u64) -> Result<u64, Stop> {
        while *budget > 0 {
            *budget -= 1;
            let (slot, lap) = self.split(position);
            // SYNC(commit), SYNC(void): pair with the stores in `commit`, `abort` and `void`:
            // everything before them is visible.
            let word = CommitWord(self.commit_word(slot).load(Ordering::Acquire));
            if word != CommitWord::ready(lap) {
                position = self.behind_finished(position, lap, word)?;
            } else if self.read_word(slot).load(Ordering::Relaxed) == ReadWord::released(before(lap)).0 {
                return Ok(position);
            } else {
                // It is taken, or to be redelivered; this search does not return it.
                position = position.wrapping_add(1);
            }
        }
        Err(Stop::Empty)
    }

    /// The position after `position` up to which everything is finished; the slot of `position` is
    /// not READY of its `lap`.
    #[cold]
    fn behind_finished(&self, position: u64, lap: u64, word: CommitWord) -> Result<u64, Stop> {
        let laps = ahead(word.lap(), lap);
        if laps == 0 {
            if word != CommitWord::void(lap) {
                return Err(Stop::UnknownState);
            }
            // Ordered by the load in `next_ready`, SYNC(void). A producer would free the slot as
            // well, but statistics should count no slot of an empty ring as in use.
            self.skip(self.split(position).0, lap);
            Ok(position.wrapping_add(1))
        } else if laps <= LAP_MASK / 2 {
            // The newest claim here is q, so everything up to q−N is finished (see the module's
            // proof). The positions in between may or may not be finished.
            let finished = self.laps_later(position, laps - 1);
            Ok(finished.wrapping_add(1))
        } else {
            // As far as this thread sees, the slot is still in use by the lap before, so there is
            // no frame.
            Err(Stop::Empty)
        }
    }

    /// The header in `slot`, of a frame that the caller has taken. For an observer it may be torn.
    #[inline(always)]
    pub(super) fn header(&self, slot: usize) -> Result<Header, Stop> {
        let (first, second) = self.header_words(slot);
        // Relaxed: ordered by SYNC(commit).
        let [first, second] = [first, second].map(|word| u64::from_le(word.load(Ordering::Relaxed)));
        if !is_short(first) {
            return Err(Stop::NoHeader);
        }
        if first >> 32 > self.max_payload() as u64 { Err(Stop::TooLong) } else { Ok(Header::unpack(first, second)) }
    }

    /// Offset of the taken slot's payload in the data area.
    #[inline(always)]
    pub(crate) fn taken_payload(&self, taken: &Taken) -> usize {
        self.payload(taken.slot)
    }

    /// Copies the payload out; `into` is exactly as long as the payload.
    #[inline(always)]
    pub(crate) fn read(&self, taken: &Taken, into: &mut [u8]) {
        debug_assert!(into.len() == taken.header.len as usize);
        // SAFETY: inside the slot, because the length was checked when the frame was taken. `taken`
        // proves that our id reads the slot, so no producer writes it before we release it.
        unsafe { self.data.read(self.payload(taken.slot), into) };
    }

    /// Whether releasing this slot completes a quarter of the ring.
    #[inline(always)]
    pub(crate) fn is_quarter(&self, taken: &Taken) -> bool {
        (taken.slot as u64 + 1) & (self.slots() / 4).max(1).wrapping_sub(1) == 0
    }

    /// Frees the slot for the producers.
    #[inline(always)]
    pub(crate) fn release(&self, taken: Taken) {
        // SYNC(release): pairs with the load in `is_free`; our reads come before it. A plain store,
        // because no other participant stores this word while we are alive.
        self.read_word(taken.slot).store(ReadWord::released(taken.lap).0, Ordering::Release);
    }

    /// Moves both hints back to the beginning, for tests of hints that lag.
    #[cfg(slipring_loom)]
    pub(crate) fn rewind_hints_for_test(&self) {
        self.tail().store(0, Ordering::Relaxed);
        self.head().store(0, Ordering::Relaxed);
    }
}
