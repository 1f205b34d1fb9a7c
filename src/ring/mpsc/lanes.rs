//! Taking a lane and giving it back. `loom-tests` compiles and checks this file.
//!
//! Used by the handle in `producer.rs`, and by who reaps dead producers. Relies on `layout.rs`;
//! `core.rs` has the protocol and its proof.

use super::layout::{Phase, Shared, State};
use crate::ring::spsc::core::Producer;
use crate::ring::spsc::layout::Fault;

/// A producer's hold on a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) lane: u16,
    state: State,
    /// The position at which its producer began.
    began: u64,
}

/// Why there is no lane for a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoLane {
    /// None is free.
    AllTaken,
    /// None is free but damaged ones.
    Damaged(Fault),
}

impl Shared {
    /// Takes the first free lane for the participant `id`, and continues behind its last frame.
    pub(crate) fn take(&self, id: u16) -> Result<(Lease, Producer), NoLane> {
        let mut refused = NoLane::AllTaken;
        for lane in self.lanes() {
            let free = self.get(lane);
            let held = free.next(id);
            if !free.is_free() || !self.change(lane, free, held) {
                continue;
            }
            match Producer::attach(self.lane(lane)) {
                Ok(producer) => {
                    let began = producer.tail();
                    self.announce();
                    return Ok((Lease { lane, state: held, began }, producer));
                }
                Err(fault) => {
                    refused = NoLane::Damaged(fault);
                    self.change(lane, held, held.with(Phase::Free));
                }
            }
        }
        Err(refused)
    }

    /// Ends a producer's hold in an orderly way; `tail` is that of its producer. The consumer is
    /// told when it has received everything, but not of a producer that has sent nothing.
    pub(crate) fn give_back(&self, lease: Lease, tail: u64) {
        let phase = if tail == lease.began { Phase::Free } else { Phase::Closed };
        self.change(lease.lane, lease.state, lease.state.with(phase));
        self.announce();
    }

    /// The participant `id` is dead, and the caller holds its lock. Returns whether it held a lane.
    pub(crate) fn recover(&self, id: u16) -> bool {
        let mut held = false;
        for lane in self.lanes() {
            let state = self.get(lane);
            if state.phase() == Phase::Held && state.owner() == id {
                held |= self.change(lane, state, state.with(Phase::Dead));
            }
        }
        // Whatever was found: the dead producer, or another reaper, may have changed a state and died
        // before it told of that.
        self.announce();
        held
    }
}
