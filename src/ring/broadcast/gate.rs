//! The publisher's algorithm: what it may overwrite, and whom it waits for. `loom-tests` compiles
//! and checks this file.
//!
//! Used by the handle in `publisher.rs`. Relies on the producer of the byte ring for writing and
//! committing frames, and on `layout.rs`.
//!
//! # Protocol
//!
//! * **floor**: positions before it may be overwritten at any time; everything from it up to the
//!   tail stays. The publisher stores only before `floor + capacity`: frames, and the zeros ahead
//!   of them. So the floor is to it what the consumer's position is to the producer of a byte ring.
//! * **move the floor** (F1 to F4), when a frame needs room: look at the positions of all reliable
//!   subscribers; store the floor, by a chunk at a time, but not beyond the least of them; a full
//!   fence; look at them again. If a subscriber that joined meanwhile is before the new floor, the
//!   floor goes back to it. Nothing is overwritten before that.
//! * **boundaries**: after a commit that enters another chunk, the publisher records where the next
//!   frame begins, and how many frames come before it. Before it moves the floor beyond the last
//!   record, it records its tail. So there is always a boundary at or behind the floor.
//! * **join** (`join.rs`, J1 to J3): a reliable subscriber stores its position and its state; a
//!   full fence; if the floor is not beyond its position, it is admitted.
//! * **lossy reading** (`lossy.rs`): copy a frame by relaxed words, acquire fence, load the floor.
//!   The copy counts if the floor is not beyond the frame's position.
//! * **hold, release** (`seat.rs`): a reliable subscriber changes its guard from idle to held by a
//!   CAS before it looks at frames in place, and stores idle when it has released them.
//! * **evict**: the publisher changes a guard from idle to evicted by a CAS.
//!
//! # Why it is correct
//!
//! *No admitted subscriber is overwritten.* F2 (store the floor), F3 (fence), F4 (look again)
//! against J1 (store position and state), J2 (fence), J3 (load the floor): either F4 sees the
//! subscriber, and the floor goes back; or J3 sees the floor, and the subscriber is not admitted. A
//! subscriber that was admitted before is seen by F1, and its position only grows. SYNC(release)
//! orders its reads of a frame before the position that frees it.
//!
//! *No torn copy.* SYNC(floor): the floor is stored before the fence, what overwrites is stored
//! after it. A reader that got a byte of a later lap sees, after its acquire fence, a floor beyond
//! that byte's position, and so beyond the frame's. It reads a length from the same memory, so it
//! checks it before it uses it, and again by the floor.
//!
//! *No view is overwritten.* An evicted subscriber was idle, so it held no view, and its next CAS
//! fails. A guard carries the epoch of its subscriber, so an eviction does not hit a successor with
//! the same id.
//!
//! *What peers store does not matter to others.* A position before the floor belongs to a
//! subscriber that is not admitted; one beyond the tail is forged. Both are ignored: at worst, the
//! frames of the subscriber that stored it are overwritten. The publisher writes where its own
//! tail and floor say.
//!
//! *Death.* A publisher that was killed leaves a zero word at its tail, as in the byte ring. Its
//! successor walks from the last boundary to that word and counts the frames. A floor that was
//! stored and not used yet costs history only. A boundary that was being changed is skipped: the
//! one recorded before it is still behind the floor.
//!
//! Progress: wait-free but for policies that wait; moving the floor looks at every id.

use super::layout::{Guard, KEPT, Mode, Position, Shared, State, is_within};
use crate::memory::Words;
use crate::ring::position::{is_before, later};
use crate::ring::spsc::core::Producer;
use crate::ring::spsc::layout::{Fault, SUCCESSOR, record_size};
use crate::sync::{Ordering, fence};

/// A reliable subscriber that leaves no room for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    pub(crate) id: u16,
    state: State,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The frame and the batch before it do not fit into the ring together.
    Batch,
    /// A subscriber has not released what would be overwritten.
    By(Slow),
}

/// The publisher's private half.
pub(crate) struct Publisher {
    ring: Shared,
    pub(crate) bytes: Producer<Words>,
    floor: u64,
    /// The last boundary that was recorded: the frames before it, and its position.
    last: Position,
    /// The place of the next one.
    place: usize,
    /// A tail at or behind this is in a chunk without a boundary.
    record_at: u64,
    /// Frames published, over all publishers.
    frames: u64,
}

impl Publisher {
    /// Takes the role over: finds the end of the chain, and how many frames there are.
    ///
    /// The caller holds the publisher's role.
    pub(crate) fn attach(ring: Shared) -> Result<Self, Fault> {
        // Relaxed: the role's lock ordered everything that its last holder did before this.
        let floor = ring.floor().load(Ordering::Relaxed);
        if floor % 8 != 0 {
            return Err(Fault::Unaligned);
        }
        let last = ring.boundaries(floor).max_by_key(|(_, boundary)| boundary.at.wrapping_sub(floor));
        let Some((place, last)) = last else { return Err(Fault::Endless) };
        let bytes = ring.bytes(0);
        let Position { at: mut tail, mut frames } = last;
        loop {
            // Relaxed, as the floor.
            let first = bytes.word(tail).load(Ordering::Relaxed);
            match bytes.copy_record(tail, first) {
                Err(Fault::Empty) => break,
                Err(fault) => return Err(fault),
                Ok(frame) => tail = frame.end(),
            }
            frames = frames.wrapping_add(1);
            if tail.wrapping_sub(floor) + SUCCESSOR > ring.capacity() {
                return Err(Fault::Endless);
            }
        }
        let bytes = Producer::attach_at(bytes, floor, tail);
        let place = (place + 1) % KEPT;
        let mut publisher = Publisher { ring, bytes, floor, last, place, record_at: tail, frames };
        publisher.record();
        Ok(publisher)
    }

    pub(crate) fn ring(&self) -> &Shared {
        &self.ring
    }

    /// The frames that were published, over all publishers.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether a record for `len ≤ max_payload` bytes fits at `tail`, without a look at the
    /// subscribers.
    #[inline(always)]
    pub(crate) fn has_room(&self, tail: u64, len: usize) -> bool {
        self.bytes.has_known_room(tail, len)
    }

    /// Makes room for a record of `len ≤ max_payload` bytes at `tail`, which is that of the
    /// publisher or of a batch.
    #[cold]
    #[inline(never)]
    pub(crate) fn make_room(&mut self, tail: u64, len: usize) -> Result<(), Blocked> {
        let end = tail.wrapping_add(record_size(len) + SUCCESSOR);
        let (floor, sent) = (self.floor, self.bytes.tail());
        let needed = end.wrapping_sub(self.ring.capacity());
        if !is_before(floor, needed) {
            return Ok(());
        }
        if is_before(sent, needed) {
            return Err(Blocked::Batch);
        }
        let chunk = self.ring.chunk();
        let chunk_end = needed.wrapping_add(chunk - 1) & !(chunk - 1);
        let wanted = if is_before(sent, chunk_end) { sent } else { chunk_end };
        // F1
        let (first, slowest) = self.least(floor, wanted);
        if let (true, Some(slow)) = (is_before(first, needed), slowest) {
            return Err(Blocked::By(slow));
        }
        if is_before(self.last.at, first) {
            self.record();
        }
        // F2. SYNC(floor): Release, so that a reader of the floor sees a boundary behind it.
        self.ring.floor().store(first, Ordering::Release);
        // F3. SYNC(floor): everything that is stored into the data from now on comes after it.
        // SYNC(join): pairs with the fence in `join.rs`.
        // SYNC(evict): pairs with the store in `release`: what an evicted subscriber read in place
        // comes before what overwrites it.
        fence(Ordering::SeqCst);
        // F4
        let (again, slowest) = self.least(floor, first);
        if again != first {
            // Relaxed: F3 orders the boundaries before this store, too.
            self.ring.floor().store(again, Ordering::Relaxed);
        }
        self.floor = again;
        self.bytes.free_before(again);
        match slowest {
            Some(slow) if is_before(again, needed) => Err(Blocked::By(slow)),
            _ => Ok(()),
        }
    }

    /// The least position of a reliable subscriber from `floor` up to `bound`, and whose it is; or
    /// else `bound`.
    fn least(&self, floor: u64, bound: u64) -> (u64, Option<Slow>) {
        let tail = self.bytes.tail();
        let (mut least, mut slowest) = (bound, None);
        for id in self.ring.ids() {
            let state = self.ring.get(id);
            if state.mode() != Mode::Reliable {
                continue;
            }
            // SYNC(release): the subscriber has read everything before either position.
            let head = self.ring.head(id).load(Ordering::Acquire);
            if is_within(head, bound, tail) {
                continue;
            }
            // The published position lags. The exact one of an admitted subscriber is not before
            // the floor.
            let exact = self.ring.exact(id).load(Ordering::Acquire);
            if is_within(exact, floor, tail) && is_before(exact, least) {
                (least, slowest) = (exact & !7, Some(Slow { id, state }));
            }
        }
        (least, slowest)
    }

    /// Evicts a subscriber that leaves no room, unless it holds views. Returns whether it does not
    /// hold the publisher back any more.
    pub(crate) fn evict(&self, slow: Slow) -> bool {
        let guard = self.ring.guard(slow.id);
        let [idle, evicted] = [Guard::Idle, Guard::Evicted].map(|guard| slow.state.guard(guard));
        // This CAS, or that of `hold`, comes first. Relaxed: F3 follows before anything is
        // overwritten.
        match guard.compare_exchange(idle, evicted, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {}
            // By a publisher that died before it changed the state.
            Err(now) if now == evicted => {}
            Err(_) => return false,
        }
        if self.ring.change(slow.id, slow.state, Mode::Evicted) {
            self.ring.count_eviction();
        }
        true
    }

    /// Ignores an entry that belongs to no participant.
    pub(crate) fn disown(&self, slow: Slow) {
        self.ring.change(slow.id, slow.state, Mode::None);
    }

    /// Whether a publisher that died has evicted the subscriber, and not changed its state.
    pub(crate) fn is_evicted(&self, slow: Slow) -> bool {
        self.ring.guard(slow.id).load(Ordering::Relaxed) == slow.state.guard(Guard::Evicted)
    }

    /// Counts frames that were just published, and records where the next one begins if that is in
    /// another chunk.
    #[inline(always)]
    pub(crate) fn published(&mut self, frames: u64) {
        self.frames = self.frames.wrapping_add(frames);
        if !is_before(self.bytes.tail(), self.record_at) {
            self.record();
        }
    }

    #[cold]
    #[inline(never)]
    fn record(&mut self) {
        let (at, chunk) = (self.bytes.tail(), self.ring.chunk());
        self.last = Position { at, frames: self.frames };
        self.ring.record(self.place, self.last);
        self.place = (self.place + 1) % KEPT;
        self.record_at = later(at.wrapping_add(8), at.wrapping_add(chunk) & !(chunk - 1));
    }
}
