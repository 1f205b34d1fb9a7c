//! An mpsc ring as an observer sees it: its lanes, and copies of their frames.
//!
//! Used by `observe.rs`. Writes nothing.

use super::layout::{Phase, Shared};
use crate::error::Result;
use crate::frame::Header;
use crate::memory::Area;
use crate::ring::spsc::layout::Fault;

/// What a lane of an mpsc ring is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneState {
    /// By a producer: alive, or dead and not noticed yet.
    Held,
    /// Its producer has closed, and the consumer has not been told yet.
    Closed,
    /// Its producer has died, and the consumer has not been told yet.
    Dead,
}

/// A lane of an mpsc ring that is not free: see [`Ring::lanes`](crate::Ring::lanes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneInfo {
    /// Its number, from 0.
    pub lane: u16,
    /// What it is used for.
    pub state: LaneState,
    /// Its producer's id as a participant: see
    /// [`ParticipantInfo::id`](crate::ParticipantInfo::id).
    pub producer: u16,
    /// The consumer's position in it, in bytes since the ring was created.
    pub position: u64,
    /// The bytes that the consumer has not released, headers included.
    pub lag: u64,
}

impl Shared {
    /// What there is to know of the lanes that are not free.
    pub(crate) fn describe(&self) -> impl Iterator<Item = LaneInfo> + '_ {
        self.lanes().filter_map(|lane| {
            let state = self.get(lane);
            let phase = match state.phase() {
                Phase::Held => LaneState::Held,
                Phase::Closed => LaneState::Closed,
                Phase::Dead => LaneState::Dead,
                Phase::Free | Phase::ClosedTold | Phase::DeadTold => return None,
            };
            let (position, tail) = self.positions(lane);
            let lag = tail.wrapping_sub(position);
            Some(LaneInfo { lane, state: phase, producer: state.owner(), position, lag })
        })
    }

    /// Bytes in all lanes.
    pub(crate) fn used(&self) -> u64 {
        let used = self.lanes().map(|lane| {
            let (head, tail) = self.positions(lane);
            tail.wrapping_sub(head).min(self.capacity() as u64)
        });
        used.sum()
    }

    /// Passes the frames of one lane after the other to `show`, until it returns false: as
    /// [`watch`](crate::ring::spsc::layout::Shared::watch), over another mapping of the data.
    pub(crate) fn watch(&self, data: &Area, mut show: impl FnMut(Header, &[u8]) -> bool) -> Result<(), Fault> {
        for lane in self.lanes() {
            let mut goes_on = true;
            self.lane_over(lane, data).watch(true, |header, payload| {
                goes_on = show(header, payload);
                goes_on
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }
}
