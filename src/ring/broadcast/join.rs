//! Subscribing: where a subscriber starts, and when the publisher is certain to see it.
//! `loom-tests` compiles and checks this file.
//!
//! Used by the handles of the subscribers. Relies on `layout.rs` for the boundaries, and on
//! `lossy.rs` to walk from one. `gate.rs` has the protocol and its proof.

use super::layout::{Guard, Mode, Position, Shared, State};
use super::lossy::{Lossy, Step};
use super::seat::Seat;
use crate::memory::Words;
use crate::ring::position::is_before;
use crate::ring::spsc::core::Consumer;
use crate::ring::spsc::layout::Fault;
use crate::sync::{Ordering, fence};

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Behind the last frame that is published at that time.
    #[default]
    Latest,
    /// At the oldest frame that is certain to be there. Up to a sixteenth of the ring before it may
    /// be there, too, and is left out.
    Oldest,
    /// Where an earlier subscriber was: see
    /// [`Subscriber::position`](crate::broadcast::Subscriber::position). Up to a sixteenth of the
    /// ring behind what was overwritten counts as overwritten.
    At(Position),
}

/// Why a subscriber cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Fault(Fault),
    /// No frame begins at the position, or it may have been overwritten.
    NotThere,
}

/// Tries to find a place before the publisher overwrites it. A publisher that laps the ring
/// between two loads, that often, is forged.
const TRIES: usize = if cfg!(slipring_loom) { 4 } else { 10_000 };

impl Shared {
    /// The floor. There is a boundary at or behind it.
    fn load_floor(&self) -> u64 {
        let floor = self.floor().load(Ordering::Relaxed);
        // SYNC(floor): pairs with the store in `make_room`. A fence, as in `read_at`.
        fence(Ordering::Acquire);
        floor
    }

    /// The boundary from which a subscriber can come to its start.
    fn nearest(&self, floor: u64, start: Start) -> Option<Position> {
        let distance = |boundary: &Position| boundary.at.wrapping_sub(floor);
        let boundaries = self.boundaries(floor).map(|(_, boundary)| boundary);
        match start {
            Start::Oldest => boundaries.min_by_key(distance),
            Start::Latest => boundaries.max_by_key(distance),
            Start::At(start) if is_before(start.at, floor) => None,
            Start::At(start) => {
                let limit = start.at.wrapping_sub(floor);
                boundaries.filter(|boundary| distance(boundary) <= limit).max_by_key(distance)
            }
        }
    }

    /// [`Shared::nearest`] for a start that there is.
    pub(super) fn find(&self, start: Start) -> Result<Position, Refused> {
        let found = (0..TRIES).find_map(|_| self.nearest(self.load_floor(), start));
        found.ok_or(Refused::Fault(Fault::Endless))
    }

    /// Where a subscriber goes on after it was overrun: the oldest boundary.
    pub(super) fn oldest(&self) -> Option<Position> {
        self.find(Start::Oldest).ok()
    }

    /// Subscribes `id`, which the caller holds, as a reliable subscriber. Also returns its seat,
    /// and the frames before its start.
    pub(crate) fn subscribe_reliable(&self, id: u16, start: Start) -> Result<(Consumer<Words>, Seat, u64), Refused> {
        let state = self.get(id).next(Mode::Reliable);
        // Held, so that the publisher does not evict it while it walks. A swap, so that a late CAS
        // of the publisher, which expects an earlier subscriber, comes before it or fails.
        self.guard(id).swap(state.guard(Guard::Held), Ordering::Relaxed);
        let admitted = self.admit(id, state, start).and_then(|boundary| {
            let consumer = Consumer::attach(self.bytes(id)).map_err(Refused::Fault)?;
            self.walk_to(consumer, boundary, start)
        });
        match admitted {
            Ok((consumer, frames)) => {
                let seat = Seat::new(self.clone(), id, state);
                seat.release();
                Ok((consumer, seat, frames))
            }
            Err(refused) => {
                self.forget(id);
                Err(refused)
            }
        }
    }

    /// J1 to J3: stores the position of `id` at a boundary, until the publisher is certain to see
    /// it before it overwrites that.
    fn admit(&self, id: u16, state: State, start: Start) -> Result<Position, Refused> {
        for _ in 0..TRIES {
            let Some(boundary) = self.nearest(self.load_floor(), start) else {
                match start {
                    Start::At(_) => return Err(Refused::NotThere),
                    _ => continue,
                }
            };
            // J1
            for word in [self.exact(id), self.taken(id), self.head(id)] {
                word.store(boundary.at, Ordering::Relaxed);
            }
            self.set(id, state);
            // J2. SYNC(join): pairs with the fence in `make_room`.
            fence(Ordering::SeqCst);
            // J3
            if !is_before(boundary.at, self.load_floor()) {
                return Ok(boundary);
            }
        }
        Err(Refused::Fault(Fault::Endless))
    }

    /// Where to stop walking.
    fn goal(&self, boundary: Position, start: Start) -> u64 {
        match start {
            Start::Oldest => boundary.at,
            // The frames before the tail are published, or about to be.
            Start::Latest => self.tail().load(Ordering::Relaxed),
            Start::At(start) => start.at,
        }
    }

    /// Releases the frames between a boundary and the start. The subscriber is admitted, so they
    /// stay.
    fn walk_to(
        &self,
        mut consumer: Consumer<Words>,
        boundary: Position,
        start: Start,
    ) -> Result<(Consumer<Words>, u64), Refused> {
        let (goal, mut here) = (self.goal(boundary, start), boundary);
        while is_ahead(goal, here.at, self.capacity()) {
            match consumer.look_first() {
                Ok(frame) => {
                    here = Position { at: frame.end(), frames: here.frames.wrapping_add(1) };
                    let _ = consumer.release(here.at);
                }
                Err(Fault::Empty) => break,
                Err(fault) => return Err(Refused::Fault(fault)),
            }
        }
        consumer.publish();
        if is_there(start, here) { Ok((consumer, here.frames)) } else { Err(Refused::NotThere) }
    }

    /// Subscribes `id`, which the caller holds, as a lossy subscriber, which reads `data`.
    pub(crate) fn subscribe_lossy(&self, id: u16, data: Words, start: Start) -> Result<Lossy, Refused> {
        let state = self.get(id).next(Mode::Lossy);
        self.overruns(id).store(0, Ordering::Relaxed);
        let lossy = self.find_start(id, &data, start)?;
        self.set(id, state);
        Ok(lossy)
    }

    /// A lossy reader that is no participant: it writes nothing.
    pub(crate) fn monitor(&self, data: Words, start: Start) -> Result<Lossy, Refused> {
        self.find_start(0, &data, start)
    }

    fn find_start(&self, id: u16, data: &Words, start: Start) -> Result<Lossy, Refused> {
        let lossy = (0..TRIES).find_map(|_| self.try_subscribe_lossy(id, data, start).transpose());
        lossy.unwrap_or(Err(Refused::Fault(Fault::Endless)))
    }

    /// `None` if it was overrun on the way to its start.
    fn try_subscribe_lossy(&self, id: u16, data: &Words, start: Start) -> Result<Option<Lossy>, Refused> {
        let boundary = match (start, self.nearest(self.load_floor(), start)) {
            (_, Some(boundary)) => boundary,
            (Start::At(start), None) => {
                let oldest = self.find(Start::Oldest)?;
                if start.frames > oldest.frames {
                    return Err(Refused::NotThere);
                }
                // A place before the floor: the first call tells what was missed.
                let overrun = Position { at: self.load_floor().wrapping_sub(8), ..start };
                return Ok(Some(Lossy::new(self.clone(), id, data.clone(), overrun)));
            }
            (_, None) => return Ok(None),
        };
        let goal = self.goal(boundary, start);
        let mut lossy = Lossy::new(self.clone(), id, data.clone(), boundary);
        while is_ahead(goal, lossy.position().at, self.capacity()) {
            match lossy.skip() {
                Ok(Step::Frame(_)) => {}
                Ok(Step::Gap(_)) => return Ok(None),
                Err(Fault::Empty) => break,
                Err(fault) => return Err(Refused::Fault(fault)),
            }
        }
        if is_there(start, lossy.position()) { Ok(Some(lossy)) } else { Err(Refused::NotThere) }
    }
}

/// Whether `goal` is behind `position`, by no more than a ring.
fn is_ahead(goal: u64, position: u64, capacity: u64) -> bool {
    let distance = goal.wrapping_sub(position);
    distance != 0 && distance <= capacity
}

fn is_there(start: Start, here: Position) -> bool {
    match start {
        Start::At(start) => here == start,
        _ => true,
    }
}
