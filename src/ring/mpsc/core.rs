//! The consumer's algorithm: which lane it reads from, and which ends it tells. `loom-tests`
//! compiles and checks this file.
//!
//! Used by the handle in `consumer.rs`. Relies on the consumer of the byte ring for each lane, on
//! `layout.rs` for the states of lanes.
//!
//! # Protocol
//!
//! * **take** (`lanes.rs`): a producer changes a free lane to held by a CAS that carries its id,
//!   walks to the end of the lane's chain, and announces the change. Then it is the only producer
//!   of a byte ring.
//! * **give back**: it changes its lane to closed, announces that, and wakes the consumer. A lane
//!   into which it has sent nothing is free at once.
//! * **recover**: who reaps a dead producer changes its lane to dead, and announces that.
//! * **look**: as long as the lane that the consumer reads from has frames, it looks only there, as
//!   in a byte ring, for a *turn*: some 64 frames, or an eighth of the lane. Then it looks at the
//!   next lanes; at the end of a lane's frames, at all others.
//! * **tell**: an ended lane that has no frames left is told to the application. Then a producer can
//!   take it again. The consumer's next search records that it was told.
//!
//! The consumer looks at each lane that is not free, at the word where the lane's next frame will
//! begin. So a producer does nothing for a frame but what it does in a byte ring; an idle lane
//! costs the consumer one load of a line that stays in its cache.
//!
//! # Why it is correct
//!
//! *One producer for each lane.* Only a CAS from free makes it held, and only its owner's CAS, or
//! the CAS of a process that holds the lock of the dead owner, ends that. Epochs make the states of
//! two owners different, so a late CAS fails.
//!
//! *The next owner starts behind the last.* SYNC(lane): its CAS sees the end of the last owner, and
//! the position that the consumer released there.
//!
//! *No lane is missed.* SYNC(lanes): a state is changed before it is announced. A consumer that
//! arms its eventcount looks at the announcements and at the lanes after its barrier, and a producer
//! takes its lane and commits before its own; so one of them sees the other (`wait/eventcount.rs`).
//! A producer that dies before it announces has sent nothing, or has closed; its reaper announces.
//!
//! *No frame is lost at an end, and each end is told after them.* SYNC(lane): the end of a producer
//! is loaded before the lane is looked at, so a lane that is empty then stays empty. Until the end
//! is told, the lane is not taken. So frames of two producers never mix in a lane, and the state
//! names the producer of each frame that was received.
//!
//! *Death of the consumer.* Its successor finds each lane as the consumer of a byte ring does. An
//! end that was told and not recorded is told again.
//!
//! *Fairness.* Every turn ends, and is followed by a look at the next [`SLICE`] lanes, in a circle.
//! A lane with frames waits for at most one turn of each other lane with frames, and for one turn
//! for each `SLICE` idle lanes.

use super::layout::{Phase, Shared, State};
use crate::ring::spsc::core::Consumer;
use crate::ring::spsc::layout::Fault;
use crate::wait::eventcount::One;

/// Idle lanes that are looked at between two looks at the lane that had frames last.
const SLICE: usize = if cfg!(slipring_loom) { 2 } else { 16 };

/// The end of a producer. Everything that it has committed was received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Its lane, which another producer can take from now on.
    pub lane: u16,
    /// Its id as a participant: see [`ParticipantInfo::id`](crate::ParticipantInfo::id).
    pub producer: u16,
    /// Whether it died without closing.
    pub died: bool,
}

/// What a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There may be a frame in the lane from which the consumer reads now.
    Frame,
    Ended(Ended),
}

/// A lane, as the consumer sees it.
struct Lane {
    number: u16,
    bytes: Consumer,
    /// Where its producer waits for room.
    room: One,
    state: State,
    is_damaged: bool,
}

impl Lane {
    /// Publishes what was released; returns whether there was anything, and whether that woke the
    /// producer.
    fn publish(&mut self) -> (bool, bool) {
        let is_news = self.bytes.publish();
        (is_news, is_news && self.room.notify())
    }
}

/// The consumer's private half: all lanes.
pub(crate) struct Lanes {
    ring: Shared,
    /// Those that were not damaged when the consumer attached; at least one.
    lanes: Vec<Lane>,
    /// The others, until they are reported.
    damaged: Vec<Fault>,
    /// The places in `lanes` of those that are not free.
    active: Vec<usize>,
    /// The changes that `active` includes.
    changes: Option<u64>,
    /// The place in `lanes` of the one that is read from.
    current: usize,
    /// The place in `active` of the one to look at next.
    next: usize,
    /// The lane whose end was told last, and its state since then.
    told: Option<(u16, State)>,
    /// Whether a release was published since the last [`Lanes::take_news`].
    has_news: bool,
    /// Producers woken since the last [`Lanes::take_wakes`].
    wakes: u64,
}

impl Lanes {
    /// Takes the role over. With `lost`, the frames that a dead predecessor held are skipped, and
    /// it is called for each of them.
    ///
    /// The caller holds the consumer's role.
    pub(crate) fn attach(
        ring: Shared,
        room: impl Fn(u16) -> One,
        mut lost: Option<&mut dyn FnMut()>,
    ) -> Result<Self, Fault> {
        let (mut lanes, mut damaged) = (Vec::with_capacity(ring.count().into()), Vec::new());
        for number in ring.lanes() {
            let state = ring.get(number);
            // The predecessor died before its application came back.
            match state.phase() {
                Phase::ClosedTold => drop(ring.change(number, state, state.with(Phase::Closed))),
                Phase::DeadTold => drop(ring.change(number, state, state.with(Phase::Dead))),
                _ => {}
            }
            let attached = Consumer::attach(ring.lane(number)).and_then(|mut bytes| {
                if let Some(lost) = &mut lost {
                    bytes.skip_shown(lost)?;
                }
                Ok(bytes)
            });
            match attached {
                Ok(bytes) => lanes.push(Lane { number, bytes, room: room(number), state, is_damaged: false }),
                Err(fault) => damaged.push(fault),
            }
        }
        if lanes.is_empty() {
            return Err(damaged.pop().unwrap_or(Fault::Endless));
        }
        Ok(Lanes {
            ring,
            lanes,
            damaged,
            active: Vec::new(),
            changes: None,
            current: 0,
            next: 0,
            told: None,
            has_news: false,
            wakes: 0,
        })
    }

    pub(crate) fn ring(&self) -> &Shared {
        &self.ring
    }

    /// The lane that is read from.
    #[inline(always)]
    pub(crate) fn here(&mut self) -> &mut Consumer {
        &mut self.lanes[self.current].bytes
    }

    /// [`Lanes::here`], to read.
    #[inline(always)]
    pub(crate) fn at(&self) -> &Consumer {
        &self.lanes[self.current].bytes
    }

    /// The number of the lane that is read from.
    #[inline(always)]
    pub(crate) fn number(&self) -> u16 {
        self.lanes[self.current].number
    }

    /// The producer of a lane, as long as a frame that was found there is the last thing that was
    /// found.
    pub(crate) fn producer(&self, lane: u16) -> u16 {
        self.ring.get(lane).owner()
    }

    /// Publishes what was released in this lane if that is due: see
    /// [`tell`](Consumer::tell).
    pub(crate) fn tell(&mut self, soon: u64) {
        let lane = &mut self.lanes[self.current];
        if lane.bytes.tell(soon) && lane.room.notify() {
            self.wakes += 1;
        }
    }

    /// Whether something was published since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// How many producers were woken since the last call.
    pub(crate) fn take_wakes(&mut self) -> u64 {
        std::mem::take(&mut self.wakes)
    }

    /// Whether no other lane than the one that is read from can have frames or an end to tell.
    pub(crate) fn is_alone(&mut self) -> bool {
        self.refresh();
        matches!(self.active[..], [] | [_]) && self.active.first().is_none_or(|only| *only == self.current)
    }

    /// The end of a turn: goes on to one of the next lanes if that has something.
    pub(crate) fn rotate(&mut self) {
        self.refresh();
        for _ in 0..self.active.len().min(SLICE) {
            let at = self.active[self.next];
            let lane = &self.lanes[at];
            if lane.bytes.has_next() {
                self.step();
                self.current = at;
                return;
            }
            if lane.state.has_ended() {
                // There is no frame, so a search follows, and begins with this lane.
                self.current = at;
                return;
            }
            // It may have become empty at the end of its last turn.
            self.publish(at);
            self.step();
        }
    }

    /// Searches all lanes for a frame or an end, and publishes what was released in those that have
    /// nothing. Called when the lane that is read from has no frame.
    pub(crate) fn find(&mut self) -> Option<Found> {
        self.record_told();
        self.publish(self.current);
        self.refresh();
        for looked in 1..=self.active.len() {
            let at = self.active[self.next];
            let lane = &self.lanes[at];
            // The state was loaded before the lane is looked at.
            if lane.bytes.has_next() {
                self.step();
                self.current = at;
                return Some(Found::Frame);
            }
            if lane.state.has_ended() {
                return Some(Found::Ended(self.end(at)));
            }
            self.publish(at);
            self.step();
            if looked % SLICE == 0 && self.at().has_next() {
                return Some(Found::Frame);
            }
        }
        None
    }

    /// A lane that was found damaged when the consumer attached.
    pub(crate) fn pop_damaged(&mut self) -> Option<Fault> {
        self.damaged.pop()
    }

    /// The lane that is read from is damaged: it is not looked at again, unless there is no other.
    #[cold]
    pub(crate) fn condemn(&mut self) {
        self.lanes[self.current].is_damaged = true;
        self.changes = None;
        if let Some(other) = self.lanes.iter().position(|lane| !lane.is_damaged) {
            self.current = other;
        }
    }

    /// The orderly end.
    pub(crate) fn hand_back(&mut self) {
        self.record_told();
        for lane in &mut self.lanes {
            lane.bytes.hand_back();
        }
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next == self.active.len() {
            self.next = 0;
        }
    }

    fn publish(&mut self, at: usize) {
        let (is_news, has_woken) = self.lanes[at].publish();
        self.has_news |= is_news;
        self.wakes += u64::from(has_woken);
    }

    /// Reads the states again if one has changed.
    #[inline(always)]
    fn refresh(&mut self) {
        let changes = self.ring.changes();
        if self.changes != Some(changes) {
            self.read_states(changes);
        }
    }

    #[cold]
    #[inline(never)]
    fn read_states(&mut self, changes: u64) {
        self.changes = Some(changes);
        self.active.clear();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.state = self.ring.get(lane.number);
            if !lane.is_damaged && !lane.state.is_free() {
                self.active.push(at);
            }
        }
        // The first behind the current one.
        self.next = self.active.partition_point(|at| *at <= self.current);
        if self.next == self.active.len() {
            self.next = 0;
        }
    }

    /// Tells the end of a lane's producer, all of whose frames were received.
    #[cold]
    fn end(&mut self, at: usize) -> Ended {
        let Lane { number, state, .. } = self.lanes[at];
        let died = state.phase() == Phase::Dead;
        let told = state.with(if died { Phase::DeadTold } else { Phase::ClosedTold });
        self.ring.change(number, state, told);
        self.told = Some((number, told));
        self.changes = None;
        Ended { lane: number, producer: state.owner(), died }
    }

    /// The application came back, so it knows of the end that it was told last.
    fn record_told(&mut self) {
        if let Some((lane, told)) = self.told.take() {
            // A producer may have taken it meanwhile.
            self.ring.change(lane, told, told.with(Phase::Free));
        }
    }
}
