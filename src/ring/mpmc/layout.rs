//! The layout of an MPMC slot ring: a diagram, the words and their meaning, and their accessors.
//!
//! Used by `core.rs`, `recovery.rs` and `inspect.rs`, which share [`Shared`]. Relies on `sync` for
//! memory, and on `segment::geometry` to have validated the sizes.
//!
//! ```text
//! slot        ┌─────────────┬──────────────┬─────────┬───  stride: a multiple of 64
//!             │ commit word │ short header │ payload │
//!             └─────────────┴──────────────┴─────────┴───
//!             +0            +8             +24
//! with pads   ┌─────────────┬──────────────┬─────┬─────────┬─────┐  where they take no further line
//!             │ commit word │ short header │ pad │ payload │ pad │
//!             └─────────────┴──────────────┴─────┴─────────┴─────┘
//!             +0            +8             +24   +32       stride − 8
//!
//! producers[] 8 words to a line of 64   63 … 24  lap     23 … 12  0              11 … 0  owner
//! consumers[] 8 words to a line of 64   63 … 24  lap     23       being read     22 … 12 attempt    11 … 0  owner
//! commit word in each slot              63 … 24  lap     23 … 0   0 unused, 1 READY, 2 VOID
//!
//! position p: slot p mod N, lap p div N + 1 (lap 0: before the first)
//! producer page +0 tail (hint), +LINE redeliveries       consumer page +0 head (hint)
//! ```
//!
//! | word | written by | publishes |
//! |---|---|---|
//! | `producers[s]` | the producer that claims, by CAS | which lap of the slot was claimed, and by which id |
//! | commit word | the claim's owner, by a plain store; for a dead owner a recoverer, by CAS | header and payload, or that the slot has no frame |
//! | `consumers[s]` | the consumer that takes, by CAS, then by a plain store; recoverers, and a participant that finds VOID, by CAS | that the slot is free for the next lap |
//! | header, payload | the claim's owner | |
//! | pads | a producer that has filled the slot before | nothing: its core then owns their lines |
//! | tail, head | the producer that claimed, the consumer that took | nothing beyond the arrays: hints |
//! | redeliveries | recoverers | that there may be a frame to redeliver |

use crate::error::Error;
use crate::frame::header::SHORT;
use crate::memory::{Area, LINE};
use crate::sync::AtomicU64;

/// Producer page: a position at or before the next one to claim.
pub(crate) const TAIL: usize = 0;
/// Producer page: incremented after every frame that is to be redelivered, so that consumers search
/// for it.
pub(crate) const REDELIVERIES: usize = LINE;
/// Consumer page: a position at or before the next one to take.
pub(crate) const HEAD: usize = 0;

/// Bytes of a slot before the payload, and before the pad if there is one.
pub(crate) const SLOT_HEADER: usize = 8 + SHORT;
/// Bytes of a pad: a word that a producer stores to, and no participant reads.
pub(crate) const PAD: usize = 8;
/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Laps are counted modulo 2^40.
pub(crate) const LAP_MASK: u64 = (1 << 40) - 1;
const LAP_SHIFT: u32 = 24;
const OWNER_MASK: u64 = 0xFFF;

/// How many laps `lap` is ahead of `of`; more than half of all laps means behind.
#[inline(always)]
pub(crate) const fn ahead(lap: u64, of: u64) -> u64 {
    lap.wrapping_sub(of) & LAP_MASK
}

/// Whether `lap` is `of` or a later one.
#[inline(always)]
pub(crate) const fn is_at_least(lap: u64, of: u64) -> bool {
    ahead(lap, of) <= LAP_MASK / 2
}

/// The lap before `lap`.
#[inline(always)]
pub(crate) const fn before(lap: u64) -> u64 {
    lap.wrapping_sub(1) & LAP_MASK
}

/// A word of `producers[]`: the newest lap of the slot that was claimed, and the id that claimed
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClaimWord(pub(crate) u64);

impl ClaimWord {
    #[inline(always)]
    pub(crate) const fn new(lap: u64, owner: u16) -> Self {
        ClaimWord(lap << LAP_SHIFT | owner as u64)
    }

    #[inline(always)]
    pub(crate) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    /// Whether `lap` is the newest.
    #[inline(always)]
    pub(crate) const fn is_of(self, lap: u64) -> bool {
        self.0 ^ (lap << LAP_SHIFT) < 1 << LAP_SHIFT
    }

    pub(crate) const fn owner(self) -> u16 {
        (self.0 & OWNER_MASK) as u16
    }
}

/// A commit word: the newest lap of the slot that its producer has finished, by a commit or an
/// abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CommitWord(pub(crate) u64);

impl CommitWord {
    /// A frame is in the slot.
    #[inline(always)]
    pub(crate) const fn ready(lap: u64) -> Self {
        CommitWord(lap << LAP_SHIFT | 1)
    }

    /// The claim was aborted: the slot has no frame.
    pub(crate) const fn void(lap: u64) -> Self {
        CommitWord(lap << LAP_SHIFT | 2)
    }

    #[inline(always)]
    pub(crate) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }
}

/// A word of `consumers[]`: up to which lap the slot was released, and which id reads the frame of
/// the lap after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReadWord(pub(crate) u64);

impl ReadWord {
    const READING: u64 = 1 << 23;
    const ATTEMPT_SHIFT: u32 = 12;
    const ATTEMPTS: u64 = (1 << 11) - 1;

    /// Released up to `lap`; the frame of the next lap, if there is one, is not taken yet.
    #[inline(always)]
    pub(crate) const fn released(lap: u64) -> Self {
        ReadWord(lap << LAP_SHIFT)
    }

    /// Released up to `lap`; `owner` reads the next lap.
    #[inline(always)]
    pub(crate) const fn reading(lap: u64, owner: u16) -> Self {
        ReadWord(lap << LAP_SHIFT | Self::READING | owner as u64)
    }

    #[inline(always)]
    pub(crate) const fn lap(self) -> u64 {
        self.0 >> LAP_SHIFT
    }

    pub(crate) const fn is_reading(self) -> bool {
        self.0 & Self::READING != 0
    }

    pub(crate) const fn owner(self) -> u16 {
        (self.0 & OWNER_MASK) as u16
    }

    /// How many consumers died while they held this frame; the count wraps from 2047 to 1. 0 only
    /// if none died.
    pub(crate) const fn attempt(self) -> u64 {
        self.0 >> Self::ATTEMPT_SHIFT & Self::ATTEMPTS
    }

    /// Whether the frame is to be redelivered.
    pub(crate) const fn is_again(self) -> bool {
        !self.is_reading() && self.attempt() > 0
    }

    /// The frame is recovered from its dead reader. The count wraps from its maximum to 1, so the
    /// word differs from each of the 2047 before it, and a CAS that was stalled meanwhile fails.
    pub(crate) const fn taken_back(self) -> Self {
        let next = self.attempt() % Self::ATTEMPTS + 1;
        ReadWord(self.lap() << LAP_SHIFT | next << Self::ATTEMPT_SHIFT)
    }

    /// `owner` takes a frame that is to be redelivered.
    pub(crate) const fn taken_again(self, owner: u16) -> Self {
        ReadWord(self.0 | Self::READING | owner as u64)
    }
}

/// Why a call of the core did nothing. It fits into a register; the handles convert it into an
/// [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The slot of the lap before is not finished.
    Full,
    /// Nothing is committed at the head.
    Empty,
    /// A commit word that is neither READY nor VOID.
    UnknownState,
    /// A word that is further behind than the order of claims allows.
    Behind,
    /// A committed frame without a header.
    NoHeader,
    /// A header with a length that exceeds the slot.
    TooLong,
}

impl Stop {
    /// The error for the user. (There is no `From`, because an implementation for the public type
    /// would make `?` ambiguous in programs that use it.)
    #[cold]
    pub(crate) fn error(self) -> Error {
        let what = match self {
            Stop::Full => return Error::Full,
            Stop::Empty => return Error::Empty,
            Stop::UnknownState => "a slot in no known state",
            Stop::Behind => "a slot more than one lap behind the tail",
            Stop::NoHeader => "a committed slot without a frame header of this version",
            Stop::TooLong => "a frame longer than its slot",
        };
        Error::Corrupt { what }
    }
}

/// The parts of a segment that a slot ring uses.
pub(crate) struct Parts {
    pub(crate) producer_page: Area,
    pub(crate) consumer_page: Area,
    /// `producers[]`
    pub(crate) producers: Area,
    /// `consumers[]`
    pub(crate) consumers: Area,
    pub(crate) data: Area,
}

/// The memory of a slot ring and its geometry, copied into the handle once. Both roles work on it,
/// by `&self`.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(super) producer_page: Area,
    pub(super) consumer_page: Area,
    producers: Area,
    consumers: Area,
    pub(super) data: Area,
    slots: u64,
    /// The number of slots less one: the mask that gives the slot of a position.
    mask: u64,
    shift: u32,
    stride: usize,
    /// Offset of the payload in a slot.
    payload: usize,
    /// Slots before this offset have a next one with pads.
    touched_before: usize,
    /// Offset of a slot's second cache line; 0 if there is none.
    second_line: usize,
    max_payload: usize,
}

impl Shared {
    /// A ring of `slots`, each of `stride` bytes, with payloads of at most `max_payload` bytes.
    pub(crate) fn new(parts: Parts, slots: usize, stride: usize, max_payload: usize) -> Self {
        let Parts { producer_page, consumer_page, producers, consumers, data } = parts;
        assert!(
            slots.is_power_of_two() && stride % 8 == 0 && SLOT_HEADER + max_payload <= stride,
            "geometry was validated"
        );
        assert!(data.len() >= slots * stride, "geometry was validated");
        assert!(producers.len() >= 8 * slots && consumers.len() >= 8 * slots, "geometry was validated");
        assert!(producer_page.len() > REDELIVERIES && consumer_page.len() > HEAD, "geometry was validated");
        // With or without pads, as in `segment::geometry`.
        let has_pads = stride - max_payload >= SLOT_HEADER + 2 * PAD;
        let payload = if has_pads { SLOT_HEADER + PAD } else { SLOT_HEADER };
        let touched_before = if has_pads { (slots - 1) * stride } else { 0 };
        let second_line = if stride > CACHE_LINE { CACHE_LINE } else { 0 };
        let (slots, shift) = (slots as u64, slots.trailing_zeros());
        Shared {
            producer_page,
            consumer_page,
            producers,
            consumers,
            data,
            slots,
            mask: slots - 1,
            shift,
            stride,
            payload,
            touched_before,
            second_line,
            max_payload,
        }
    }

    /// Number of slots.
    #[inline(always)]
    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    /// Largest payload, in bytes.
    #[inline(always)]
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// The data area, for the handles that lend views.
    #[inline(always)]
    pub(crate) fn data(&self) -> &Area {
        &self.data
    }

    /// Slot and lap of a position.
    #[inline(always)]
    pub(in crate::ring) fn split(&self, position: u64) -> (usize, u64) {
        ((position & self.mask) as usize, (position >> self.shift).wrapping_add(1) & LAP_MASK)
    }

    /// The position `laps` after `position` at the same slot.
    #[inline(always)]
    pub(super) fn laps_later(&self, position: u64, laps: u64) -> u64 {
        position.wrapping_add(laps << self.shift)
    }

    #[inline(always)]
    pub(super) fn tail(&self) -> &AtomicU64 {
        // SAFETY: `new` checked that the page is long enough; a multiple of 8.
        unsafe { self.producer_page.word_unchecked(TAIL) }
    }

    #[inline(always)]
    pub(super) fn head(&self) -> &AtomicU64 {
        // SAFETY: as in `tail`.
        unsafe { self.consumer_page.word_unchecked(HEAD) }
    }

    #[inline(always)]
    pub(super) fn redelivery_count(&self) -> &AtomicU64 {
        // SAFETY: as in `tail`.
        unsafe { self.producer_page.word_unchecked(REDELIVERIES) }
    }

    /// `producers[slot]`
    #[inline(always)]
    pub(super) fn claim_word(&self, slot: usize) -> &AtomicU64 {
        debug_assert!((slot as u64) < self.slots);
        // SAFETY: `slot` is below the number of slots (masked by `split`, or counted up to it), and
        // the array has a word for each of them.
        unsafe { self.producers.word_unchecked(8 * slot) }
    }

    /// `consumers[slot]`
    #[inline(always)]
    pub(super) fn read_word(&self, slot: usize) -> &AtomicU64 {
        debug_assert!((slot as u64) < self.slots);
        // SAFETY: as in `claim_word`.
        unsafe { self.consumers.word_unchecked(8 * slot) }
    }

    /// Offset of `slot` in the data area.
    #[inline(always)]
    pub(super) fn slot(&self, slot: usize) -> usize {
        debug_assert!((slot as u64) < self.slots);
        slot * self.stride
    }

    /// The commit word of `slot`.
    #[inline(always)]
    pub(super) fn commit_word(&self, slot: usize) -> &AtomicU64 {
        self.commit_word_at(self.slot(slot))
    }

    /// The commit word of the slot at `offset`.
    #[inline(always)]
    pub(super) fn commit_word_at(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: offsets of slots are multiples of the stride, hence of 8, and the area holds all
        // slots.
        unsafe { self.data.word_unchecked(offset) }
    }

    /// The two words of the header in `slot`.
    #[inline(always)]
    pub(super) fn header_words(&self, slot: usize) -> (&AtomicU64, &AtomicU64) {
        self.header_words_at(self.slot(slot))
    }

    /// [`Shared::header_words`] of the slot at `offset`.
    #[inline(always)]
    pub(super) fn header_words_at(&self, offset: usize) -> (&AtomicU64, &AtomicU64) {
        // SAFETY: as in `commit_word_at`: a slot begins with SLOT_HEADER bytes, of which these are
        // the second 8.
        let first = unsafe { self.data.word_unchecked(offset + 8) };
        // SAFETY: as above, the last 8.
        let second = unsafe { self.data.word_unchecked(offset + 16) };
        (first, second)
    }

    /// Offset of a slot's payload in the data area.
    #[inline(always)]
    pub(super) fn payload(&self, slot: usize) -> usize {
        self.payload_at(self.slot(slot))
    }

    /// Offset of the payload of the slot at `offset`.
    #[inline(always)]
    pub(super) fn payload_at(&self, offset: usize) -> usize {
        offset + self.payload
    }

    /// Offsets of the two pads in the slot after the one at `offset`: in its first line and in its
    /// last. `None` if there are none, or `offset` is that of the last slot.
    #[inline(always)]
    pub(super) fn next_pads(&self, offset: usize) -> Option<[usize; 2]> {
        let next = offset + self.stride;
        (offset < self.touched_before).then_some([next + SLOT_HEADER, next + self.stride - PAD])
    }

    /// Prefetches the second line of `slot`, which is read soon.
    #[inline(always)]
    pub(super) fn prefetch_rest(&self, slot: usize) {
        self.data.prefetch_to_read(self.slot(slot) + self.second_line);
    }
}
