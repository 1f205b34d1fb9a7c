//! The MPMC slot ring: the algorithm, and nothing else. Checked by loom as it stands here.
//!
//! Used by the handles in `mpmc/mod.rs`. Relies on `sync` for memory, `frame::header` for the header inside a slot, and on
//! the caller's word for who is dead (the kernel's, through `segment::participants`).
//!
//! # Layout
//!
//! ```text
//! slot   ┌──────────────┬──────────────┬───────────────┬───  stride: a multiple of 64
//!        │ control word │ short header │ payload       │
//!        └──────────────┴──────────────┴───────────────┴───
//!        +0             +8             +24
//! control word   63 … 24  23 … 20  19 … 8   7 … 0
//!                lap      state    owner    attempt
//! position p: slot p mod N, lap p div N          producer page +0 tail (hint), +LINE redeliveries
//!                                                consumer page +0 head (hint)
//! ```
//!
//! # Protocol
//!
//! ```text
//! FREE(l) ─claim→ WRITING(l, producer) ─commit→ READY(l) ─take→ READING(l, consumer, a) ─release→ FREE(l+1)
//!    ▲                 │ abort, or its owner died                 │ its owner died
//!    └── FREE(l+1) ◄───┘                                          ├→ REDELIVER(l, a+1)  ─take→ READING(l, other, a+1)
//!                                                                 └→ FREE(l+1)  if frames go out at most once
//! ```
//!
//! Claiming a slot and writing down who owns it are one CAS on one word: there is no instant at which a position belongs to
//! nobody known. `tail` and `head` are hints: they are stored only after a claim that proves them, so they may lag (even
//! move backwards, when a slow thread's store lands late) but never lead, and whoever finds a hint stale walks on.
//!
//! # Why it is right
//!
//! *Positions are claimed in order.* A producer reaches position p from the hint, having seen every position in between
//! claimed; it claims p only by CAS from FREE(lap of p). So if p is claimed, all before it are, and p−N is finished.
//!
//! *Empty means empty.* A consumer that finds FREE(l) at position (l, slot) has seen everything before taken or void, and
//! by the order of claims nothing behind it is claimed. It may see the past, but not a past before a commit that it has
//! synchronised with (by a fence, or by an end it was told of): that commit's producer had seen every claim before its own
//! (SYNC(claim), SYNC(tail)). What takers know is nobody's business: the head is a hint like any number.
//!
//! *Commit and release are plain stores.* Only the dead are recovered, and the dead do not store: while its owner lives
//! nobody else changes WRITING or READING.
//!
//! *The lap is the tombstone.* Voiding a position is FREE(l+1): whoever comes for (l, slot) sees a newer lap and walks on.
//! A stale CAS needs the identical word; FREE(l) of a slot returns only after 2^40 laps, and an owner id is reissued only
//! after a sweep has removed it from every slot, by whoever holds the id's lock.
//!
//! Progress: lock-free among the living: a failed CAS means that another participant got the slot. FIFO per producer; a
//! live but *stopped* producer at the head delays consumers, a dead one does not. Every loop is bounded.

use crate::error::{Error, Result};
use crate::frame::header::{Flags, Header, SHORT};
use crate::segment::geometry::Redelivery;
use crate::sync::{Area, AtomicU64, LINE, Ordering, spin_loop};

/// Producer page: a position at or before the next one to claim.
pub(crate) const TAIL: usize = 0;
/// Producer page: bumped after every transition to REDELIVER, so that consumers know to look for one.
pub(crate) const REDELIVERIES: usize = LINE;
/// Consumer page: a position at or before the next one to take.
pub(crate) const HEAD: usize = 0;

/// Bytes of a slot before the payload.
pub(crate) const SLOT_HEADER: usize = 8 + SHORT;

/// The five states of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Waiting for the producer of this lap.
    Free,
    /// Claimed by a producer that is filling it.
    Writing,
    /// Committed.
    Ready,
    /// Taken by a consumer that is reading it.
    Reading,
    /// Taken back from a dead consumer, to be delivered again.
    Redeliver,
}

/// A control word, unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Control {
    pub(crate) lap: u64,
    pub(crate) state: State,
    pub(crate) owner: u16,
    pub(crate) attempt: u8,
}

const LAP_MASK: u64 = (1 << 40) - 1;

impl Control {
    const fn new(lap: u64, state: State, owner: u16, attempt: u8) -> Self {
        Control { lap: lap & LAP_MASK, state, owner, attempt }
    }

    const fn free(lap: u64) -> Self {
        Control::new(lap, State::Free, 0, 0)
    }

    #[inline(always)]
    pub(crate) const fn pack(self) -> u64 {
        let state = match self.state {
            State::Free => 0,
            State::Writing => 1,
            State::Ready => 2,
            State::Reading => 3,
            State::Redeliver => 4,
        };
        (self.lap << 24) | (state << 20) | ((self.owner as u64) << 8) | self.attempt as u64
    }

    #[inline(always)]
    pub(crate) fn unpack(word: u64) -> Result<Self> {
        let state = match (word >> 20) & 0xF {
            0 => State::Free,
            1 => State::Writing,
            2 => State::Ready,
            3 => State::Reading,
            4 => State::Redeliver,
            _ => return Err(Error::Corrupt { what: "a slot in no known state" }),
        };
        Ok(Control { lap: word >> 24, state, owner: (word >> 8) as u16 & 0xFFF, attempt: word as u8 })
    }
}

/// What recovery did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Recovered {
    /// Claims of dead producers, voided: the frames never were.
    pub(crate) voided: u64,
    /// Frames taken back from dead consumers.
    pub(crate) redeliver: u64,
    /// Frames that dead consumers took with them (at most once).
    pub(crate) lost: u64,
}

impl std::ops::AddAssign for Recovered {
    fn add_assign(&mut self, other: Self) {
        self.voided += other.voided;
        self.redeliver += other.redeliver;
        self.lost += other.lost;
    }
}

/// A claimed slot: the producer's to fill, then to commit or to abort.
#[derive(Debug)]
#[must_use = "a claim that is neither committed nor aborted blocks the ring"]
pub(crate) struct Claim {
    position: u64,
    slot: usize,
}

/// A taken slot: the consumer's to read, then to release.
#[derive(Debug)]
#[must_use = "a taken slot that is not released blocks the ring"]
pub(crate) struct Taken {
    /// The frame's header; REDELIVERED is set if a dead consumer had taken it before.
    pub(crate) header: Header,
    lap: u64,
    slot: usize,
}

/// The memory of a slot ring and its geometry, copied into the handle once. Both roles work on it, by `&self`.
#[derive(Clone)]
pub(crate) struct Shared {
    producer: Area,
    consumer: Area,
    data: Area,
    slots: u64,
    shift: u32,
    stride: usize,
    max_payload: usize,
}

impl Shared {
    pub(crate) fn new(producer: Area, consumer: Area, data: Area, slots: usize, stride: usize) -> Self {
        assert!(slots.is_power_of_two() && stride % 8 == 0 && stride > SLOT_HEADER, "geometry was validated");
        assert!(data.len() >= slots * stride, "geometry was validated");
        let (slots, shift) = (slots as u64, slots.trailing_zeros());
        Shared { producer, consumer, data, slots, shift, stride, max_payload: stride - SLOT_HEADER }
    }

    /// Number of slots.
    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    /// Largest payload, in bytes.
    #[inline(always)]
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// The data area itself, for the handles that hand out views.
    #[inline(always)]
    pub(crate) fn data(&self) -> &Area {
        &self.data
    }

    #[inline(always)]
    fn split(&self, position: u64) -> (usize, u64) {
        ((position & (self.slots - 1)) as usize, (position >> self.shift) & LAP_MASK)
    }

    #[inline(always)]
    fn control(&self, slot: usize) -> &AtomicU64 {
        // SAFETY: `slot` is below the number of slots (masked by `split`, or counted up to it), the stride is a multiple
        // of 8, and the area holds all slots.
        unsafe { self.data.word_unchecked(slot * self.stride) }
    }

    /// Offset of a slot's payload in the data area.
    #[inline(always)]
    fn payload(&self, slot: usize) -> usize {
        slot * self.stride + SLOT_HEADER
    }

    /// The hints: (head, tail), for observers. Numbers to show, by which nothing is read: Relaxed.
    pub(crate) fn observe(&self) -> (u64, u64) {
        let head = self.consumer.word(HEAD).load(Ordering::Relaxed);
        (head, crate::sync::later(self.producer.word(TAIL).load(Ordering::Relaxed), head))
    }

    /// The control word of `slot`, for observers.
    pub(crate) fn inspect(&self, slot: usize) -> Result<Control> {
        Control::unpack(self.control(slot).load(Ordering::Acquire))
    }

    /// The header in `slot`, for observers who saw it READY, READING or REDELIVER: unstable unless the ring is quiet.
    pub(crate) fn inspect_header(&self, slot: usize) -> Result<Header> {
        self.header(slot)
    }

    /// Whether `hint` does not lead: the position before it has been claimed, or it is the very first.
    pub(crate) fn is_proven(&self, hint: u64) -> bool {
        let (slot, lap) = self.split(hint.wrapping_sub(1));
        // A slot in no known state is reported as such.
        let Ok(seen) = self.inspect(slot) else { return true };
        let ahead = seen.lap.wrapping_sub(lap) & LAP_MASK;
        hint == 0 || (ahead == 0 && seen.state != State::Free) || (1..=LAP_MASK / 2).contains(&ahead)
    }

    /// Slots and headers of the frames that wait, in the order of their positions.
    pub(crate) fn waiting(&self) -> Result<Vec<(usize, Header)>> {
        let mut found = Vec::new();
        let mut first = None;
        for slot in 0..self.slots as usize {
            let control = self.inspect(slot)?;
            // Laps wrap: what sorts is the distance from one that is older than all that wait.
            let oldest = *first.get_or_insert(control.lap.wrapping_sub(2));
            if matches!(control.state, State::Ready | State::Redeliver) {
                found.push((control.lap.wrapping_sub(oldest) & LAP_MASK, slot));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, slot)| Ok((slot, self.header(slot)?))).collect()
    }

    /// Copies the payload of a slot that [`Shared::waiting`] showed. An observer's copy: torn if the ring is not quiet.
    pub(crate) fn copy_slot(&self, slot: usize, into: &mut [u8]) {
        assert!(slot < self.slots as usize && into.len() <= self.max_payload);
        // SAFETY: inside the slot by the assertion. Stable only if the ring is quiet, which the caller's contract says; the
        // bytes are plain data either way.
        unsafe { self.data.read(self.payload(slot), into) };
    }

    /// More steps than any call needs among correct peers; a forged segment ends here instead of looping.
    #[inline(always)]
    fn budget(&self) -> u64 {
        4 * self.slots + 64
    }

    // ---- producer ----------------------------------------------------------------------------------------------------

    /// Claims the next free slot for participant `me`.
    ///
    /// `Full` when the slot one lap back is not finished: it holds an unread frame, or its owner is at work, or dead
    /// (then a [`Shared::sweep`] helps).
    #[inline(always)]
    pub(crate) fn claim(&self, me: u16) -> Result<Claim> {
        let hint = self.producer.word(TAIL);
        // SYNC(tail): pairs with the Release store below; what the storer saw claimed, we see claimed.
        let mut position = hint.load(Ordering::Acquire);
        for _ in 0..self.budget() {
            let (slot, lap) = self.split(position);
            let control = self.control(slot);
            // SYNC(claim): pairs with the CAS of whoever claimed it; its view of earlier claims is ours now.
            // SYNC(release): pairs with the store that freed it; whoever used it is done with it.
            let word = control.load(Ordering::Acquire);
            if word == Control::free(lap).pack() {
                let mine = Control::new(lap, State::Writing, me, 0).pack();
                // SYNC(claim): hands on what we know of earlier claims. No Acquire: a word occurs once, so this is the very
                // store that the load above has synchronised with.
                if control.compare_exchange(word, mine, Ordering::Release, Ordering::Relaxed).is_ok() {
                    // SYNC(tail): hands it on as well. Stored only after the claim it reports: it may lag, it cannot lead.
                    hint.store(position.wrapping_add(1), Ordering::Release);
                    return Ok(Claim { position, slot });
                }
                spin_loop(); // somebody else has it; look again
                continue;
            }
            let seen = Control::unpack(word)?;
            let ahead = seen.lap.wrapping_sub(lap) & LAP_MASK;
            if ahead == 0 && seen.state == State::Free {
                return Err(Error::Corrupt { what: "a free slot that has an owner" });
            } else if ahead == 0 {
                position = position.wrapping_add(1);
            } else if ahead <= LAP_MASK / 2 {
                position = self.last_claim(position, ahead, seen).wrapping_add(1);
            } else if ahead == LAP_MASK && seen.state != State::Free {
                return Err(Error::Full);
            } else {
                return Err(Error::Corrupt { what: "a slot more than one lap behind the tail" });
            }
        }
        Err(Error::Full)
    }

    /// The newest position at the slot of `position` that is known to have been claimed, from a control word that is `ahead`
    /// of it by at least one lap. Never before `position`.
    fn last_claim(&self, position: u64, ahead: u64, seen: Control) -> u64 {
        let laps = if seen.state == State::Free { ahead - 1 } else { ahead };
        position.wrapping_add(laps << self.shift)
    }

    /// Offset of the claimed slot's payload in the data area; `max_payload` bytes are the claimant's.
    #[inline(always)]
    pub(crate) fn claimed_payload(&self, claim: &Claim) -> usize {
        self.payload(claim.slot)
    }

    /// The sequence number of the frame in this claim: the low half of its position, for the ring is one sender.
    #[inline(always)]
    pub(crate) fn sequence(claim: &Claim) -> u32 {
        claim.position as u32
    }

    /// Copies payload into the claimed slot.
    #[inline(always)]
    pub(crate) fn write(&self, claim: &Claim, payload: &[u8]) {
        debug_assert!(payload.len() <= self.max_payload);
        // SAFETY: `claim` proves that the slot is WRITING with our id: nobody else touches it before we store READY.
        unsafe { self.data.write(self.payload(claim.slot), payload) };
    }

    /// Publishes the claimed slot.
    #[inline(always)]
    pub(crate) fn commit(&self, claim: Claim, header: Header) {
        let at = claim.slot * self.stride + 8;
        // SAFETY: as in `write`; the header lies before the payload inside the slot.
        unsafe { self.data.write(at, &header.commit_word().to_le_bytes()) };
        // SAFETY: as above.
        unsafe { self.data.write(at + 8, &header.tail_word().to_le_bytes()) };
        let (_, lap) = self.split(claim.position);
        let ready = Control::new(lap, State::Ready, 0, 0).pack();
        // SYNC(commit): pairs with the CAS in `take` and in `take_redelivered`; header and payload come before it. A plain store,
        // because while we live nobody else changes WRITING(lap, us).
        self.control(claim.slot).store(ready, Ordering::Release);
    }

    /// Gives the claimed position up; consumers walk past it.
    pub(crate) fn abort(&self, claim: Claim) {
        let (_, lap) = self.split(claim.position);
        // SYNC(release): pairs with the load in `claim`; what we wrote comes before what its next owner writes.
        self.control(claim.slot).store(Control::free(lap.wrapping_add(1)).pack(), Ordering::Release);
    }

    // ---- consumer ----------------------------------------------------------------------------------------------------

    /// Takes the next committed slot for participant `me`.
    ///
    /// `Empty` when nothing is committed at the head; that includes a claim still being written.
    #[inline(always)]
    pub(crate) fn take(&self, me: u16) -> Result<Taken> {
        let hint = self.consumer.word(HEAD);
        let mut budget = self.budget();
        // Relaxed, as in `next_ready`: what others took is a fact, however little we know of what they saw.
        let mut position = hint.load(Ordering::Relaxed);
        loop {
            let word;
            (position, word) = self.next_ready(position, &mut budget)?;
            let (slot, lap) = self.split(position);
            let mine = Control::new(lap, State::Reading, me, 0).pack();
            // SYNC(commit): pairs with the store of READY: header and payload are visible.
            if self.control(slot).compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                // Stored only after the take it reports: it may lag, it cannot lead.
                hint.store(position.wrapping_add(1), Ordering::Relaxed);
                return self.taken(slot, lap, 0);
            }
            spin_loop(); // somebody else has it; look again
        }
    }

    /// Whether a producer is filling the slot at the head, or somebody works in the slot at the tail, which the next lap
    /// needs. For whoever decides how long to sleep: the hints may lag, so this is a guess.
    pub(crate) fn is_somebody_at_work(&self) -> bool {
        [self.consumer.word(HEAD), self.producer.word(TAIL)].into_iter().any(|hint| {
            let (slot, _) = self.split(hint.load(Ordering::Relaxed));
            self.inspect(slot).is_ok_and(|control| matches!(control.state, State::Writing | State::Reading))
        })
    }

    /// Whether a committed slot is waiting at the head: whoever was woken for one frame wakes another consumer for the next.
    pub(crate) fn has_more(&self) -> bool {
        let position = self.consumer.word(HEAD).load(Ordering::Relaxed);
        self.next_ready(position, &mut self.budget()).is_ok()
    }

    /// The first READY position at or after `position`, before which everything is taken or void, and its control word.
    #[inline(always)]
    fn next_ready(&self, mut position: u64, budget: &mut u64) -> Result<(u64, u64)> {
        while *budget > 0 {
            *budget -= 1;
            let (slot, lap) = self.split(position);
            let word = self.control(slot).load(Ordering::Relaxed);
            if word == Control::new(lap, State::Ready, 0, 0).pack() {
                return Ok((position, word));
            }
            let seen = Control::unpack(word)?;
            let ahead = seen.lap.wrapping_sub(lap) & LAP_MASK;
            if ahead == 0 {
                match seen.state {
                    // With an owner, as nobody leaves it: no reason to leave it lying.
                    State::Ready => return Ok((position, word)),
                    State::Reading | State::Redeliver => position = position.wrapping_add(1),
                    State::Free | State::Writing => return Err(Error::Empty),
                }
            } else if ahead <= LAP_MASK / 2 {
                // The newest claim here is P, so everything up to P - N is finished (see the module's proof); nothing more
                // is known of the positions in between, for recovery voids out of order.
                let claimed = self.last_claim(position, ahead, seen).wrapping_sub(position) + 1;
                position = position.wrapping_add(claimed.saturating_sub(self.slots).max(1));
            } else {
                // As far as we can see, the slot is still busy with the lap before: nothing is there.
                return Err(Error::Empty);
            }
        }
        Err(Error::Empty)
    }

    #[inline(always)]
    fn header(&self, slot: usize) -> Result<Header> {
        let at = slot * self.stride + 8;
        let (mut first, mut second) = ([0; 8], [0; 8]);
        // SAFETY: inside the slot; it is ours to read (taken), or the caller is an observer who accepts garbage.
        unsafe { self.data.read(at, &mut first) };
        // SAFETY: as above.
        unsafe { self.data.read(at + 8, &mut second) };
        let header = Header::from_words(u64::from_le_bytes(first), u64::from_le_bytes(second))?;
        if header.len as usize > self.max_payload {
            return Err(Error::Corrupt { what: "a frame longer than its slot" });
        }
        Ok(header)
    }

    #[inline(always)]
    fn taken(&self, slot: usize, lap: u64, attempt: u8) -> Result<Taken> {
        let mut header = self.header(slot)?;
        if attempt > 0 {
            header.flags = header.flags | Flags::REDELIVERED;
        }
        Ok(Taken { header, lap, slot })
    }

    /// The value that changes whenever there may be a frame to deliver again.
    #[inline(always)]
    pub(crate) fn redeliveries(&self) -> u64 {
        // SYNC(redeliver): pairs with `sweep`; who sees the count sees the slots.
        self.producer.word(REDELIVERIES).load(Ordering::Acquire)
    }

    /// Takes a frame that a dead consumer left behind, if there is one. Looks at every slot: a cold path.
    #[cold]
    pub(crate) fn take_redelivered(&self, me: u16) -> Result<Taken> {
        for slot in 0..self.slots as usize {
            let control = self.control(slot);
            let word = control.load(Ordering::Relaxed);
            let seen = Control::unpack(word)?;
            if seen.state != State::Redeliver {
                continue;
            }
            let mine = Control { state: State::Reading, owner: me, ..seen }.pack();
            // SYNC(commit): pairs with the store of READY, for the CASes since then continue its release sequence.
            if control.compare_exchange(word, mine, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return self.taken(slot, seen.lap, seen.attempt);
            }
        }
        Err(Error::Empty)
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
        // SAFETY: `taken` proves that the slot is READING with our id, so nobody writes it; its length was bounded.
        unsafe { self.data.read(self.payload(taken.slot), into) };
    }

    /// Whether releasing this slot completes a quarter of the ring.
    #[inline(always)]
    pub(crate) fn is_quarter(&self, taken: &Taken) -> bool {
        (taken.slot as u64 + 1) & (self.slots / 4).max(1).wrapping_sub(1) == 0
    }

    /// Gives the slot back to the producers.
    #[inline(always)]
    pub(crate) fn release(&self, taken: Taken) {
        // SYNC(release): pairs with the load in `claim`; our reads come before it. A plain store, because
        // while we live nobody else changes READING(lap, us).
        self.control(taken.slot).store(Control::free(taken.lap.wrapping_add(1)).pack(), Ordering::Release);
    }

    /// Moves both hints back to the beginning, as far as a hint can lag.
    #[cfg(slipring_loom)]
    pub(crate) fn rewind_hints_for_test(&self) {
        self.producer.word(TAIL).store(0, Ordering::Relaxed);
        self.consumer.word(HEAD).store(0, Ordering::Relaxed);
    }

    // ---- recovery ----------------------------------------------------------------------------------------------------

    /// Removes the dead participant `id` from every slot: after this its id may be reissued. Idempotent: whoever is killed
    /// in here is followed by another, because the id is not reissued before.
    #[cold]
    pub(crate) fn sweep(&self, id: u16, policy: Redelivery) -> Result<Recovered> {
        let mut total = Recovered::default();
        let mut redeliver = false;
        for slot in 0..self.slots as usize {
            // Relaxed: all that the dead one did comes before the kernel's word for its death.
            let word = self.control(slot).load(Ordering::Relaxed);
            let seen = Control::unpack(word)?;
            if matches!(seen.state, State::Writing | State::Reading) && seen.owner == id {
                total += self.recover_word(slot, word, seen, policy);
            }
            redeliver |= seen.state == State::Redeliver;
        }
        if redeliver || total.redeliver > 0 {
            // SYNC(redeliver): pairs with `redeliveries`. Also for what we only found: who put it there may have been killed
            // before saying so.
            self.producer.word(REDELIVERIES).fetch_add(1, Ordering::Release);
        }
        Ok(total)
    }

    #[cold]
    fn recover_word(&self, slot: usize, word: u64, seen: Control, policy: Redelivery) -> Recovered {
        let free = Control::free(seen.lap.wrapping_add(1));
        let (next, done) = match (seen.state, policy) {
            (State::Writing, _) => (free, Recovered { voided: 1, ..Recovered::default() }),
            (_, Redelivery::AtMostOnce) => (free, Recovered { lost: 1, ..Recovered::default() }),
            (_, Redelivery::AtLeastOnce) => {
                let again = Control::new(seen.lap, State::Redeliver, 0, seen.attempt.saturating_add(1));
                (again, Recovered { redeliver: 1, ..Recovered::default() })
            }
        };
        // SYNC(release): pairs with the load in `claim`; what the dead owner read or wrote, known to us by the kernel's word,
        // comes before what the next owner writes.
        let won = self.control(slot).compare_exchange(word, next.pack(), Ordering::Release, Ordering::Relaxed).is_ok();
        if won { done } else { Recovered::default() }
    }
}
