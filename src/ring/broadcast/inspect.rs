//! A broadcast ring as an observer sees it: the subscribers, and copies of the frames.
//!
//! Used by `observe.rs`. Relies on `lossy.rs` to read frames, as a lossy subscriber does. Writes
//! nothing.

use super::join::Start;
use super::layout::{Mode, Shared, is_within};
use crate::frame::Header;
use crate::memory::{Area, Words};
use crate::ring::spsc::layout::Fault;
use crate::segment::counters::Counters;
use crate::sync::Ordering;

/// A subscriber of a broadcast ring: see [`Ring::subscribers`](crate::Ring::subscribers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberInfo {
    /// Its id as a participant: see [`ParticipantInfo::id`](crate::ParticipantInfo::id).
    pub id: u16,
    /// Whether the publisher waits for it.
    pub mode: Mode,
    /// Its position, in bytes since the ring was created.
    pub position: u64,
    /// How many bytes it is behind the publisher, headers included.
    pub lag: u64,
    /// How often it was overrun. Always 0 for reliable subscribers.
    pub overruns: u64,
    /// Frames that it received; with those of earlier participants of the same id.
    pub received: u64,
    /// Frames that it missed; with those of earlier participants of the same id.
    pub missed: u64,
}

/// What a walk has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk {
    /// Where the frames end, unless the publisher stayed ahead.
    pub(crate) end: Option<u64>,
    /// The positions before it.
    pub(crate) floor: u64,
    pub(crate) tail: u64,
}

impl Shared {
    /// What there is to know of a participant that is a subscriber.
    pub(crate) fn describe(&self, id: u16, counters: &Counters) -> Option<SubscriberInfo> {
        let mode = self.get(id).mode();
        if mode == Mode::None {
            return None;
        }
        let position = self.exact(id).load(Ordering::Relaxed);
        let lag = self.tail().load(Ordering::Relaxed).wrapping_sub(position);
        let lag = if lag as i64 >= 0 { lag } else { 0 };
        let overruns = if mode == Mode::Lossy { self.overruns(id).load(Ordering::Relaxed) } else { 0 };
        let counts = counters.read();
        Some(SubscriberInfo { id, mode, position, lag, overruns, received: counts.received, missed: counts.lost })
    }

    /// The reliable subscribers whose positions are not between the floor and the tail.
    pub(crate) fn misplaced(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids().filter(|id| self.get(*id).mode() == Mode::Reliable).filter(|id| {
            // The tail is written after the commit, so a position may be ahead of it for a moment.
            let tail = self.tail().load(Ordering::Relaxed).wrapping_add(self.capacity());
            !is_within(self.exact(*id).load(Ordering::Relaxed), self.floor().load(Ordering::Relaxed), tail)
        })
    }

    /// Passes the header of every frame from the oldest boundary on, and with `payloads` a copy of
    /// its payload, to `show` until that returns false. Frames that are overwritten meanwhile are
    /// left out. Ends after one ring full.
    pub(crate) fn watch(
        &self,
        data: Area,
        payloads: bool,
        mut show: impl FnMut(Header, &[u8]) -> bool,
    ) -> Result<Walk, Fault> {
        let bytes = self.bytes_over(0, Words(data));
        let (floor, tail) = (self.floor().load(Ordering::Relaxed), self.tail().load(Ordering::Relaxed));
        let walk = |end| Walk { end, floor, tail };
        let mut payload = Vec::new();
        let mut position = self.find(Start::Oldest).map_err(|_| Fault::Endless)?.at;
        let last = position.wrapping_add(self.capacity());
        while is_within(position, floor, last) {
            let read = self.read_at(&bytes, position, |bytes, frame| {
                if payloads {
                    payload.resize(frame.len(), 0);
                    bytes.copy_payload(frame.position(), &mut payload);
                }
            });
            match read {
                Ok(Some(frame)) if !show(frame.header(), &payload) => return Ok(walk(None)),
                Ok(Some(frame)) => position = frame.end(),
                Ok(None) => position = self.find(Start::Oldest).map_err(|_| Fault::Endless)?.at,
                Err(Fault::Empty) => return Ok(walk(Some(position))),
                Err(fault) => return Err(fault),
            }
        }
        Ok(walk(None))
    }
}
