//! The memory of an mpsc ring: the states of its lanes, and the words of each lane.
//!
//! Used by `lanes.rs` (producers), `core.rs` (the consumer), and observers. Relies on
//! `spsc/layout.rs`: each lane is a byte ring.
//!
//! ```text
//! producer page                            lanes, behind the participants
//! +0  changes  +1 with every change        states: 8 bytes for each lane      epoch 49 | owner 12 | phase 3
//!              of a state by a producer    words: 4 LINEs for each lane
//!              or a reaper                   +0       tail    its producer, every commit
//!                                            +LINE    head    the consumer, lazily: a full producer polls it
//!                                            +2 LINE  exact   the consumer, every release
//!                                            +2 LINE+8 taken  before a view is shown
//!                                            +3 LINE  room    eventcount: its producer sleeps here
//! data: a byte ring for each lane, one after the other, each mirrored by itself
//! ```
//!
//! No line has two writers while frames are sent: a lane's words belong to its producer or to the
//! consumer, and the states change only when producers come and go.
//!
//! ```text
//! FREE ─────→ HELD ─────→ CLOSED ─────→ CLOSED_TOLD ─────→ FREE
//!   ↑           │  └────→ DEAD ───────→ DEAD_TOLD ──────────┘
//!   └───────────┘               HELD ←─── from either of them
//! take, give back: the producer   drained, told: the consumer      died: who reaps its owner
//! ```

use crate::memory::{Area, LINE};
use crate::ring::position::later;
use crate::ring::spsc::layout as spsc;
use crate::segment::layout::{LANE, claims_len, lanes_len};
use crate::sync::{AtomicU64, Ordering};

/// Producer page: changes with every change of a state that the consumer has to know of.
const CHANGES: usize = 0;
/// Bytes of the producer page in use.
pub(crate) const CHANGES_USED: usize = LINE;

/// Offsets inside the words of a lane: the pages of a byte ring, and the eventcount.
const PRODUCER: usize = 0;
const CONSUMER: usize = LINE;
const ROOM: usize = LANE - LINE;
const _: () = assert!(spsc::TAIL < CONSUMER && CONSUMER + spsc::TAKEN + 8 <= ROOM);

/// What a lane is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// By no producer, and there is nothing to tell.
    Free = 0,
    /// By its owner.
    Held = 1,
    /// Its owner has closed; the consumer has not been told.
    Closed = 2,
    /// Its owner has died; the consumer has not been told.
    Dead = 3,
    /// The consumer was told, and has not come back. A producer can take the lane; but if the
    /// consumer dies, its successor is told again.
    ClosedTold = 4,
    DeadTold = 5,
}

/// A state word. Every owner of a lane has an epoch for itself, so that a CAS which expects an
/// earlier one changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    const PHASE: u64 = 7;
    const OWNER: u64 = 0xFFF;

    /// What no correct participant writes counts as held: the lane is looked at and not taken.
    pub(crate) fn phase(self) -> Phase {
        match self.0 & Self::PHASE {
            0 => Phase::Free,
            2 => Phase::Closed,
            3 => Phase::Dead,
            4 => Phase::ClosedTold,
            5 => Phase::DeadTold,
            _ => Phase::Held,
        }
    }

    /// The producer that has the lane, or had it last; 0 before the first.
    pub(crate) fn owner(self) -> u16 {
        (self.0 >> 3 & Self::OWNER) as u16
    }

    pub(super) fn with(self, phase: Phase) -> Self {
        State(self.0 & !Self::PHASE | phase as u64)
    }

    /// The state of the next owner.
    pub(super) fn next(self, owner: u16) -> Self {
        let epoch = (self.0 >> 15).wrapping_add(1);
        State(epoch << 15 | u64::from(owner) << 3 | Phase::Held as u64)
    }

    /// Whether a producer can take the lane.
    pub(super) fn is_free(self) -> bool {
        matches!(self.phase(), Phase::Free | Phase::ClosedTold | Phase::DeadTold)
    }

    /// Whether its owner has ended, and the consumer has not been told.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.phase(), Phase::Closed | Phase::Dead)
    }
}

/// The words of an mpsc ring, and its geometry, which is not read again.
#[derive(Clone)]
pub(crate) struct Shared {
    page: Area,
    words: Area,
    data: Area,
    count: u16,
    capacity: usize,
    max_payload: usize,
}

impl Shared {
    /// `data` holds `lanes` times `capacity` bytes, or twice that if each lane is mapped twice back
    /// to back.
    pub(crate) fn new(page: Area, words: Area, data: Area, lanes: usize, capacity: usize, max_payload: usize) -> Self {
        assert!(page.len() >= CHANGES_USED && words.len() >= lanes_len(lanes), "geometry was validated");
        assert!(data.len() >= lanes * capacity, "geometry was validated");
        let count = u16::try_from(lanes).expect("geometry was validated");
        Shared { page, words, data, count, capacity, max_payload }
    }

    /// All lanes.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = u16> + use<> {
        0..self.count
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of a lane.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The byte ring of a lane.
    pub(crate) fn lane(&self, lane: u16) -> spsc::Shared {
        self.lane_over(lane, &self.data)
    }

    /// [`Shared::lane`] over another mapping of the data.
    pub(crate) fn lane_over(&self, lane: u16, data: &Area) -> spsc::Shared {
        let mapped = data.len() / usize::from(self.count);
        let data = data.part(usize::from(lane) * mapped, mapped);
        let words = |at, len| self.words.part(self.words_at(lane) + at, len);
        let (producer, consumer) = (words(PRODUCER, CONSUMER - PRODUCER), words(CONSUMER, ROOM - CONSUMER));
        spsc::Shared::new(producer, consumer, data, self.capacity, self.max_payload)
    }

    /// The line of the eventcount at which the producer of a lane waits for room.
    pub(crate) fn room(&self, lane: u16) -> Area {
        self.words.part(self.words_at(lane) + ROOM, LINE)
    }

    fn words_at(&self, lane: u16) -> usize {
        claims_len(usize::from(self.count)) + usize::from(lane) * LANE
    }

    /// A number that changes after a state has changed.
    pub(crate) fn changes(&self) -> u64 {
        // SYNC(lanes): pairs with `announce`.
        self.page.word(CHANGES).load(Ordering::Acquire)
    }

    pub(super) fn announce(&self) {
        // SYNC(lanes): pairs with `changes`: a consumer that sees the new number sees the states.
        self.page.word(CHANGES).fetch_add(1, Ordering::Release);
    }

    pub(super) fn state(&self, lane: u16) -> &AtomicU64 {
        self.words.word(8 * usize::from(lane))
    }

    /// The state of a lane.
    pub(crate) fn get(&self, lane: u16) -> State {
        // SYNC(lane): pairs with the CAS in `change`: a reader that sees the end of a producer sees
        // all its frames.
        State(self.state(lane).load(Ordering::Acquire))
    }

    /// Changes the state of a lane, if it is still `from`, which [`Shared::get`] returned, or which
    /// the caller stored.
    pub(super) fn change(&self, lane: u16, from: State, to: State) -> bool {
        // SYNC(lane): pairs with `get`: all frames of a producer come before its end, and the
        // consumer's reads before the lane is free. A state occurs once, so this need not acquire
        // again what `get` has.
        self.state(lane).compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// The positions (exact head, tail) of a lane, for observers: as [`spsc::Shared::observe`].
    pub(crate) fn positions(&self, lane: u16) -> (u64, u64) {
        let load = |at| self.words.word(self.words_at(lane) + at).load(Ordering::Relaxed);
        let head = load(CONSUMER + spsc::EXACT);
        (head, later(load(PRODUCER + spsc::TAIL), head))
    }

    /// The sums of the positions of all lanes.
    pub(crate) fn observe(&self) -> (u64, u64) {
        let positions = self.lanes().map(|lane| self.positions(lane));
        positions.fold((0, 0), |sums, (head, tail)| (sums.0.wrapping_add(head), sums.1.wrapping_add(tail)))
    }

    /// Whether there is a lane with frames, or with an end to tell, by atomics alone: as
    /// [`spsc::Shared::is_readable`].
    pub(crate) fn is_readable(&self) -> bool {
        self.lanes().any(|lane| {
            let (state, (head, tail)) = (self.get(lane), self.positions(lane));
            !state.is_free() && (state.has_ended() || head != tail)
        })
    }
}
