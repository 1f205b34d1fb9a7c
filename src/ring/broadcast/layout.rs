//! The memory of a broadcast ring: the words of the publisher, the table of subscribers, and the
//! records of frame boundaries.
//!
//! Used by `gate.rs` (the publisher), `join.rs`, `lossy.rs`, and observers. Relies on
//! `spsc/layout.rs`: frames lie in the data as in the byte ring.
//!
//! ```text
//! producer page                                  subscribers, behind the participants (id 0 unused)
//! +0       tail     every commit, observers      states: 8 bytes for each id     epoch 62 | mode 2
//! +LINE    floor    what is before it may be     entries: 2 LINEs for each id
//!                   overwritten at any time        +0       head    lazily: a blocked publisher polls it
//! +2 LINE  boundaries: 64 pairs                    +LINE    exact   every release (lossy: every frame)
//!            +0 position, 1 while it changes       +LINE+8  taken   before a view is shown
//!            +8 frames before that position        +LINE+16 guard   epoch 62 | idle, held or evicted
//!                                                  +LINE+24 overruns (lossy)
//! evictions: a count, behind the boundaries
//! data: as in the byte ring                                floor ≤ head ≤ exact ≤ tail ≤ floor + capacity
//! ```
//!
//! Only the publisher writes its page. An entry is written by its subscriber; the publisher changes
//! a guard from idle to evicted, and then the mode. Positions are those of the byte ring.

use crate::memory::{Area, LINE, Words};
use crate::ring::position::is_before;
use crate::ring::spsc::layout as spsc;
use crate::segment::layout::{SUBSCRIBER, states_len, subscribers_len};
use crate::sync::{AtomicU64, Ordering, fence};

/// Producer page: positions before this may be overwritten.
const FLOOR: usize = LINE;
/// Producer page: the boundaries.
const BOUNDARIES: usize = 2 * LINE;
/// How many boundaries are kept: twice as many as there are chunks in the ring, because one is
/// added for each chunk, and at most one more for each move of the floor.
pub(super) const KEPT: usize = if cfg!(slipring_loom) { 4 } else { 64 };
/// The position of a boundary that is being changed.
const CHANGING: u64 = 1;
/// Producer page: how many subscribers have been evicted.
const EVICTIONS: usize = BOUNDARIES + 16 * KEPT;
/// Bytes of the producer page in use.
pub(crate) const PUBLISHER_USED: usize = EVICTIONS + 8;

/// Offsets inside an entry; `HEAD`, `EXACT` and `TAKEN` are those of the byte ring's consumer page.
const GUARD: usize = spsc::TAKEN + 8;
const OVERRUNS: usize = GUARD + 8;
const _: () = assert!(OVERRUNS < SUBSCRIBER && spsc::TAIL < FLOOR);

/// Chunks of a ring: the floor moves, and boundaries are recorded, by about this part of it.
const CHUNKS: u64 = 16;

/// What a participant is to a broadcast ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// It is no subscriber.
    None = 0,
    /// The publisher waits for it.
    Reliable = 1,
    /// It may be overrun.
    Lossy = 2,
    /// It was reliable and has been evicted; it has not left yet.
    Evicted = 3,
}

/// A state word: the mode of a subscriber, and an epoch that every subscriber of that id has for
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u64);

impl State {
    pub(crate) fn mode(self) -> Mode {
        match self.0 & 3 {
            0 => Mode::None,
            1 => Mode::Reliable,
            2 => Mode::Lossy,
            _ => Mode::Evicted,
        }
    }

    pub(super) fn with(self, mode: Mode) -> Self {
        State(self.0 & !3 | mode as u64)
    }

    /// The state of the next subscriber with this id.
    pub(super) fn next(self, mode: Mode) -> Self {
        State(self.0.wrapping_add(4)).with(mode)
    }

    /// The guard of this subscriber.
    pub(super) fn guard(self, guard: Guard) -> u64 {
        self.0 & !3 | guard as u64
    }
}

/// Whether a reliable subscriber may hold views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It holds none.
    Idle = 0,
    /// It holds views, or is about to.
    Held = 1,
    /// It has been evicted, and may not look at frames again.
    Evicted = 2,
}

/// A place between two frames of a broadcast ring: see
/// [`Subscriber::position`](crate::broadcast::Subscriber::position).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    // Where a frame begins, and how many frames were published before it.
    pub(crate) at: u64,
    pub(crate) frames: u64,
}

/// The words of a broadcast ring, and its geometry, which is not read again.
#[derive(Clone)]
pub(crate) struct Shared {
    publisher: Area,
    subscribers: Area,
    data: Words,
    participants: u16,
    capacity: usize,
    max_payload: usize,
}

impl Shared {
    pub(crate) fn new(
        publisher: Area,
        subscribers: Area,
        data: Words,
        participants: usize,
        capacity: usize,
        max_payload: usize,
    ) -> Self {
        assert!(publisher.len() >= PUBLISHER_USED, "geometry was validated");
        assert!(subscribers.len() >= subscribers_len(participants), "geometry was validated");
        let participants = u16::try_from(participants).expect("geometry was validated");
        Shared { publisher, subscribers, data, participants, capacity, max_payload }
    }

    /// The byte ring as the subscriber `id` sees it. That of id 0, which no subscriber has, is for
    /// the publisher and for observers.
    pub(crate) fn bytes(&self, id: u16) -> spsc::Shared<Words> {
        self.bytes_over(id, self.data.clone())
    }

    /// [`Shared::bytes`] over another mapping of the data.
    pub(crate) fn bytes_over(&self, id: u16, data: Words) -> spsc::Shared<Words> {
        let (publisher, entry) = (self.publisher.clone(), self.entry(id));
        spsc::Shared::new(publisher, entry, data, self.capacity, self.max_payload)
    }

    fn entry(&self, id: u16) -> Area {
        self.subscribers.part(self.entry_at(id), SUBSCRIBER)
    }

    fn entry_at(&self, id: u16) -> usize {
        states_len(usize::from(self.participants)) + usize::from(id) * SUBSCRIBER
    }

    /// Bytes of a chunk.
    pub(super) fn chunk(&self) -> u64 {
        (self.capacity as u64 / CHUNKS).max(8)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// All ids that a subscriber can have.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.participants
    }

    pub(in crate::ring) fn tail(&self) -> &AtomicU64 {
        self.publisher.word(spsc::TAIL)
    }

    pub(crate) fn floor(&self) -> &AtomicU64 {
        self.publisher.word(FLOOR)
    }

    pub(super) fn state(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(8 * usize::from(id))
    }

    /// The state of the subscriber `id`.
    pub(crate) fn get(&self, id: u16) -> State {
        // SYNC(subscribe): pairs with the store in `set`.
        State(self.state(id).load(Ordering::Acquire))
    }

    /// Stores the state of `id`. For its owner, or its reaper.
    pub(super) fn set(&self, id: u16, state: State) {
        // SYNC(subscribe): a reader of the state sees the entry. A swap, as in `subscribe_reliable`.
        self.state(id).swap(state.0, Ordering::Release);
    }

    /// Changes the state of `id` from what it was seen to be. Returns whether it was that.
    pub(super) fn change(&self, id: u16, from: State, mode: Mode) -> bool {
        self.state(id).compare_exchange(from.0, from.with(mode).0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts an eviction. For the publisher.
    pub(super) fn count_eviction(&self) {
        let count = self.publisher.word(EVICTIONS);
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How many subscribers have been evicted since the ring was created. A publisher that is
    /// killed while it evicts one may not have counted that.
    pub(crate) fn evictions(&self) -> u64 {
        self.publisher.word(EVICTIONS).load(Ordering::Relaxed)
    }

    pub(super) fn head(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(self.entry_at(id) + spsc::HEAD)
    }

    pub(super) fn exact(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(self.entry_at(id) + spsc::EXACT)
    }

    pub(super) fn taken(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(self.entry_at(id) + spsc::TAKEN)
    }

    pub(super) fn guard(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(self.entry_at(id) + GUARD)
    }

    pub(super) fn overruns(&self, id: u16) -> &AtomicU64 {
        self.subscribers.word(self.entry_at(id) + OVERRUNS)
    }

    /// The subscriber `id` has left, or is dead: the caller is it, or holds its lock. Returns
    /// whether it held the publisher back.
    pub(crate) fn forget(&self, id: u16) -> bool {
        let state = self.get(id);
        if state.mode() == Mode::None {
            return false;
        }
        self.set(id, state.with(Mode::None));
        state.mode() == Mode::Reliable
    }

    /// Records a boundary in one of the places. For the publisher.
    pub(crate) fn record(&self, place: usize, boundary: Position) {
        let at = BOUNDARIES + 16 * (place % KEPT);
        let (position, frames) = (self.publisher.word(at), self.publisher.word(at + 8));
        position.store(CHANGING, Ordering::Relaxed);
        // SYNC(boundary): a reader that sees the new count sees that the position changed.
        fence(Ordering::Release);
        frames.store(boundary.frames, Ordering::Relaxed);
        // SYNC(boundary): a reader that sees the new position sees the new count, and the frames
        // before it.
        position.store(boundary.at, Ordering::Release);
    }

    /// What a publisher that dies in [`Shared::record`] leaves.
    #[cfg(test)]
    pub(super) fn begin_record_for_test(&self, place: usize) {
        self.publisher.word(BOUNDARIES + 16 * (place % KEPT)).store(CHANGING, Ordering::Relaxed);
    }

    /// The boundary at a place, unless it is being changed.
    fn boundary(&self, place: usize) -> Option<Position> {
        let at = BOUNDARIES + 16 * place;
        let (position, frames) = (self.publisher.word(at), self.publisher.word(at + 8));
        let before = position.load(Ordering::Relaxed);
        // SYNC(boundary): as in `record`. A fence, as in `read_at`.
        fence(Ordering::Acquire);
        let frames = frames.load(Ordering::Relaxed);
        // SYNC(boundary): as in `record`.
        fence(Ordering::Acquire);
        let is_whole = before % 8 == 0 && position.load(Ordering::Relaxed) == before;
        is_whole.then_some(Position { at: before, frames })
    }

    /// The boundaries at or behind `floor`, with their places.
    pub(crate) fn boundaries(&self, floor: u64) -> impl Iterator<Item = (usize, Position)> + '_ {
        let is_there = move |at: u64| at.wrapping_sub(floor) <= self.capacity as u64;
        (0..KEPT)
            .filter_map(|place| self.boundary(place).map(|boundary| (place, boundary)))
            .filter(move |(_, boundary)| is_there(boundary.at))
    }

    /// Whether a subscriber has something to look at, by the positions alone. Relaxed, because
    /// nothing is read by them.
    #[inline]
    pub(crate) fn is_readable(&self, id: u16) -> bool {
        self.exact(id).load(Ordering::Relaxed) != self.tail().load(Ordering::Relaxed)
    }

    /// The position of the slowest reliable subscriber, or the tail, and the tail. For observers.
    pub(crate) fn slowest(&self) -> (u64, u64) {
        let tail = self.tail().load(Ordering::Relaxed);
        let reliable = self.ids().filter(|id| self.get(*id).mode() == Mode::Reliable);
        let lag = |id: u16| tail.wrapping_sub(self.exact(id).load(Ordering::Relaxed));
        let furthest = reliable.map(lag).filter(|lag| *lag <= self.capacity as u64).max();
        (tail.wrapping_sub(furthest.unwrap_or(0)), tail)
    }

    /// Whether a record for `len` bytes fits, by the exact positions. For the side of the
    /// publisher.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let (slowest, tail) = self.slowest();
        let used = tail.wrapping_sub(slowest);
        len <= self.max_payload && used + spsc::record_size(len) + spsc::SUCCESSOR <= self.capacity as u64
    }
}

/// Whether `position` lies between two others, or is one of them; they are less than 2^63 apart.
pub(super) fn is_within(position: u64, first: u64, last: u64) -> bool {
    !is_before(position, first) && !is_before(last, position)
}
