//! Inspecting a ring without a role: statistics, a read-only check, copies of the waiting frames.
//!
//! Used by the command line and by tests. Writes nothing. On a busy ring the results are of a
//! moment that has passed.
//!
//! Positions and the words of slots are read where the participants access them, always atomically.
//! Frames of a byte ring and payloads are accessed without atomics; so they are read through a
//! separate mapping (docs/memory-model.md, "Observers").

use std::time::{Duration, Instant};

use super::broadcast::SubscriberInfo;
use super::broadcast::inspect::Walk;
use super::latest::core::Miss;
use super::mpmc::inspect::{Seen, State};
use super::mpmc::layout::Stop;
use super::mpsc::LaneInfo;
use super::spsc::layout::Fault;
use super::{Ring, latest, spsc};
use crate::error::{Error, Result};
use crate::frame::{Frame, Header};
use crate::memory::Area;
use crate::segment::{Counts, Kind, ParticipantInfo, Role};

/// The counters and the fill level of a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The sum of the counters of all participants that were ever attached.
    pub counts: Counts,
    /// Position of the consumers: bytes (byte rings) or frames (slot rings) since creation. Of a
    /// broadcast ring that of the slowest reliable subscriber, or else that of the publisher; of an
    /// mpsc ring the sum over all lanes.
    pub head: u64,
    /// Position of the producers.
    pub tail: u64,
    /// The largest distance between the two positions.
    pub limit: u64,
    /// Bytes in the ring (byte rings), or slots that are not free (slot rings): slots that wait,
    /// are being filled, or are being read, also by a stopped participant.
    pub occupied: u64,
    /// Slots that participants hold, as writers or readers; 0 for byte rings.
    pub held: u64,
    /// Producers attached, by their records.
    pub producers: usize,
    /// Consumers attached, by their records.
    pub consumers: usize,
    /// Subscribers of a broadcast ring that were evicted since its creation; 0 for other kinds. A
    /// publisher that is killed while it evicts one may not have counted that.
    pub evicted: u64,
}

impl Stats {
    /// How much of the ring is in use, in the unit of the positions: [`Stats::occupied`].
    #[must_use]
    pub fn used(&self) -> u64 {
        self.occupied
    }
}

/// Checks the chain of frames of a byte ring, of which a finding begins with `of`.
fn verify_chain(shared: &spsc::layout::Shared, report: &mut Report, of: &str) {
    let end = shared.watch(false, |header, _| {
        report.frames += 1;
        report.bytes += u64::from(header.len);
        true
    });
    let (head, tail) = shared.observe();
    match end {
        Err(fault) => report.problems.push(format!("{of}{}", fault.error())),
        // The tail is written after the commit, and a producer may have died between the two.
        Ok(Some(end))
            if end.wrapping_sub(head) < tail.wrapping_sub(head) && tail.wrapping_sub(head) <= shared.capacity =>
        {
            report.problems.push(format!("{of}the chain of frames ends at {end}, before the tail {tail}"));
        }
        Ok(_) => {}
    }
}

/// How long a ring with a finding is checked again while its positions move.
const LOOKING: Duration = Duration::from_secs(1);

/// The result of a check of a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Waiting frames (0 for streams).
    pub frames: u64,
    /// Payload bytes of the waiting frames.
    pub bytes: u64,
    /// Slots that a producer is filling.
    pub writing: u64,
    /// Slots that a consumer is reading.
    pub reading: u64,
    /// Frames to be redelivered.
    pub redeliver: u64,
    /// Whether the ring changed during every check, so that its frames could not be checked or
    /// counted.
    pub changed: bool,
    /// What is wrong.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Ring {
    /// The counters and the fill level. Reads shared memory only; no system call. Some loads for
    /// each slot of a slot ring.
    ///
    /// ```
    /// let (mut tx, _rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(b"12345678")?;
    /// let stats = tx.ring().stats();
    /// assert_eq!((stats.counts.sent, stats.used()), (1, 24));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (head, tail) = self.positions();
        let limit = if self.slots() > 0 { self.slots() } else { self.capacity() } as u64;
        let (occupied, held) = match self.kind() {
            Kind::Mpmc => self.count_slots(),
            Kind::Latest => (self.latest_shared().observe().1, 0),
            Kind::Mpsc => (self.mpsc_shared().used(), 0),
            _ => (tail.wrapping_sub(head).min(limit), 0),
        };
        let table = self.segment().table();
        let (producers, consumers) = (table.live(Role::Producer), table.live(Role::Consumer));
        let mut counts = self.segment().counts();
        counts.high_water = counts.high_water.max(occupied);
        let evicted = if self.kind() == Kind::Broadcast { self.broadcast_shared().evictions() } else { 0 };
        Stats { counts, head, tail, limit, occupied, held, producers, consumers, evicted }
    }

    /// The positions of the consumers and of the producers; of a slot ring, hints that may lag.
    pub(crate) fn positions(&self) -> (u64, u64) {
        match self.kind() {
            Kind::Spsc => self.spsc_shared().observe(),
            Kind::Stream => self.stream_shared().observe(),
            Kind::Mpmc => self.mpmc_shared().observe(),
            Kind::Latest => {
                let values = self.latest_shared().observe().0;
                (values, values)
            }
            Kind::Broadcast => self.broadcast_shared().slowest(),
            Kind::Mpsc => self.mpsc_shared().observe(),
            _ => (0, 0),
        }
    }

    /// Slots that are not free, and those of them that participants hold. A slot in an unknown
    /// state counts as not free.
    fn count_slots(&self) -> (u64, u64) {
        let shared = self.mpmc_shared();
        (0..self.slots()).map(|slot| shared.inspect(slot)).fold((0, 0), |(occupied, held), seen| match seen {
            Ok(seen) if seen.state == State::Free => (occupied, held),
            Ok(seen) => (occupied + 1, held + u64::from(matches!(seen.state, State::Writing | State::Reading))),
            Err(_) => (occupied + 1, held),
        })
    }

    /// Adds to each of the `participants` of a slot ring the slots that it holds.
    pub(super) fn count_held(&self, participants: &mut [ParticipantInfo]) {
        if self.kind() != Kind::Mpmc {
            return;
        }
        let shared = self.mpmc_shared();
        let slots = self.slots() as u64;
        for slot in 0..self.slots() {
            let Ok(seen) = shared.inspect(slot) else { continue };
            if !matches!(seen.state, State::Writing | State::Reading) {
                continue;
            }
            let Ok(at) = participants.binary_search_by_key(&seen.owner, |participant| participant.id) else { continue };
            let held = &mut participants[at].held;
            match seen.state {
                State::Writing => held.writing += 1,
                _ => held.reading += 1,
            }
            // Laps wrap at 2^40. The tail is a hint: it may lag behind the slot.
            let (tail_slot, tail_lap) = shared.split(shared.observe().1);
            let laps = (tail_lap.wrapping_sub(seen.lap) << 24) as i64 >> 24;
            let lag = laps.wrapping_mul(slots as i64).wrapping_add(tail_slot as i64 - slot as i64);
            held.lag = held.lag.max(u64::try_from(lag).unwrap_or(0));
        }
    }

    /// Checks everything that can be checked without writing: the chain of frames of a byte ring,
    /// every slot of a slot ring, and the participants of every ring.
    ///
    /// On a busy ring it checks again while the positions move: a finding counts only if they did
    /// not move meanwhile. If they move for a second, [`Report::changed`] is set instead. Makes the
    /// system calls of [`Ring::participants`], and three more for an SPSC ring.
    ///
    /// # Errors
    /// [`Error::Io`] if the participants' locks cannot be examined, or the ring cannot be mapped
    /// once more.
    pub fn verify(&self) -> Result<Report> {
        let mut problems = Vec::new();
        for participant in self.participants()? {
            if participant.state.is_none() || participant.role.is_none() {
                problems.push(format!("participant {}: its record is in no known state", participant.id));
            }
        }
        let mut report = match self.kind() {
            Kind::Mpmc => self.at_rest(|| self.verify_slots()),
            Kind::Spsc => {
                let shared = self.spsc_observed()?;
                self.at_rest(|| {
                    let mut report = Report::default();
                    verify_chain(&shared, &mut report, "");
                    report
                })
            }
            Kind::Mpsc => {
                let data = self.segment().map_data_to_read()?;
                self.at_rest(|| self.verify_lanes(&data))
            }
            Kind::Broadcast => {
                let data = self.segment().map_data_to_read()?;
                self.at_rest(|| self.verify_broadcast(&data))
            }
            Kind::Stream => self.at_rest(|| self.verify_distance()),
            Kind::Latest => self.at_rest(|| self.verify_cells()),
            _ => Report::default(),
        };
        report.problems.splice(..0, problems);
        Ok(report)
    }

    /// The report of `look` if it has no finding, or if the positions did not move between two
    /// calls: a ring in use changes while it is checked.
    fn at_rest(&self, mut look: impl FnMut() -> Report) -> Report {
        let start = Instant::now();
        let mut resting_at = None;
        loop {
            let before = self.positions();
            let found = look();
            let is_at_rest = self.positions() == before;
            if found.is_clean() || (is_at_rest && resting_at == Some(before)) {
                return found;
            }
            if start.elapsed() > LOOKING {
                return Report { changed: true, ..Report::default() };
            }
            resting_at = is_at_rest.then_some(before);
            std::thread::yield_now();
        }
    }

    /// A stream has only its positions.
    fn verify_distance(&self) -> Report {
        let (head, tail) = self.positions();
        let mut report = Report { bytes: tail.wrapping_sub(head), ..Report::default() };
        if report.bytes > self.capacity() as u64 {
            report.problems.push(format!("tail {tail} is more than a ring ahead of head {head}"));
        }
        report
    }

    /// The newest three values of every cell are never being written.
    fn verify_cells(&self) -> Report {
        let shared = self.latest_shared();
        let mut report = Report::default();
        for cell in 0..shared.cells() {
            if let Some(problem) = shared.problem(cell) {
                report.problems.push(format!("cell {cell}: {problem}"));
            } else if let Some(len) = shared.newest_len(cell) {
                report.frames += 1;
                report.bytes += len;
            }
        }
        report
    }

    /// The chain of frames of every lane.
    fn verify_lanes(&self, data: &Area) -> Report {
        let (mut report, shared) = (Report::default(), self.mpsc_shared());
        for lane in shared.lanes() {
            verify_chain(&shared.lane_over(lane, data), &mut report, &format!("lane {lane}: "));
        }
        for info in shared.describe() {
            if usize::from(info.producer) > self.max_participants() || info.producer == 0 {
                let LaneInfo { lane, producer, .. } = info;
                report.problems.push(format!("lane {lane}: owned by {producer}, who cannot exist"));
            }
        }
        report
    }

    /// The lanes of an mpsc ring that are not free. Empty for other kinds. Reads shared memory only;
    /// some loads for each lane.
    ///
    /// ```
    /// use slipring::mpsc::{self, LaneState};
    /// let (mut tx, _rx) = mpsc::pair(4096, 16)?;
    /// tx.send(b"12345678")?;
    /// let lanes = tx.ring().lanes();
    /// assert_eq!((lanes.len(), tx.ring().max_lanes()), (1, 16));
    /// assert_eq!((lanes[0].state, lanes[0].lag), (LaneState::Held, 24));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn lanes(&self) -> Vec<LaneInfo> {
        if self.kind() == Kind::Mpsc { self.mpsc_shared().describe().collect() } else { Vec::new() }
    }

    /// The frames that are still there, and the positions of the subscribers.
    fn verify_broadcast(&self, data: &Area) -> Report {
        let (mut report, shared) = (Report::default(), self.broadcast_shared());
        let end = shared.watch(data.clone(), false, |header, _| {
            report.frames += 1;
            report.bytes += u64::from(header.len);
            true
        });
        match end {
            Err(fault) => report.problems.push(fault.error().to_string()),
            Ok(Walk { end: Some(end), floor, tail }) if end.wrapping_sub(floor) < tail.wrapping_sub(floor) => {
                report.problems.push(format!("the chain of frames ends at {end}, before the tail {tail}"));
            }
            Ok(Walk { floor, tail, .. }) if tail.wrapping_sub(floor) > self.capacity() as u64 => {
                report.problems.push(format!("the tail {tail} is more than a ring ahead of the floor {floor}"));
            }
            Ok(_) => {}
        }
        for id in shared.misplaced() {
            report.problems.push(format!("subscriber {id}: its position is not in the ring"));
        }
        report
    }

    /// The subscribers of a broadcast ring, by their entries; a dead one counts until it is
    /// noticed. Empty for other kinds. Reads shared memory only; some loads for each participant
    /// that there can be.
    ///
    /// ```
    /// use slipring::broadcast::{self, LossySubscriber, Mode, Start};
    /// let (mut tx, _rx) = broadcast::pair(4096)?;
    /// let _monitor = LossySubscriber::attach(tx.ring(), Start::Latest)?;
    /// tx.send(b"12345678")?;
    /// let subscribers = tx.ring().subscribers();
    /// assert_eq!((subscribers[0].mode, subscribers[0].lag), (Mode::Reliable, 24));
    /// assert_eq!((subscribers[1].mode, subscribers[1].missed), (Mode::Lossy, 0));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn subscribers(&self) -> Vec<SubscriberInfo> {
        if self.kind() != Kind::Broadcast {
            return Vec::new();
        }
        let (shared, table) = (self.broadcast_shared(), self.segment().table());
        shared.ids().filter_map(|id| shared.describe(id, &table.counters(id))).collect()
    }

    fn verify_slots(&self) -> Report {
        let mut report = Report::default();
        let shared = self.mpmc_shared();
        // The hints are read first, so the claims that they show happened before the slots are
        // read.
        let (head, tail) = shared.observe();
        for (hint, position) in [("head", head), ("tail", tail)] {
            if !shared.is_proven(position) {
                report.problems.push(format!("the {hint}, {position}, is ahead of what was claimed"));
            }
        }
        let (mut first_lap, mut behind, mut ahead) = (None, 0, 0);
        for slot in 0..self.slots() {
            let Seen { state, owner, lap } = match shared.inspect(slot) {
                Ok(seen) => seen,
                Err(stop) => {
                    report.problems.push(format!("slot {slot}: {}", stop.error()));
                    continue;
                }
            };
            // The same distance from the first slot's lap, which wraps at 2^40.
            let from_first = (lap.wrapping_sub(*first_lap.get_or_insert(lap)) << 24) as i64 >> 24;
            (behind, ahead) = (behind.min(from_first), ahead.max(from_first));
            match state {
                State::Free | State::Void | State::Busy => {}
                State::Writing => report.writing += 1,
                State::Reading => report.reading += 1,
                State::Redeliver => report.redeliver += 1,
                State::Ready => report.frames += 1,
            }
            if matches!(state, State::Writing | State::Reading) && usize::from(owner) > self.max_participants() {
                report.problems.push(format!("slot {slot}: owned by {owner}, who cannot exist"));
            }
            if matches!(state, State::Ready | State::Reading | State::Redeliver) {
                match shared.inspect_header(slot, lap) {
                    Some(Ok(header)) => report.bytes += u64::from(header.len),
                    Some(Err(stop)) => report.problems.push(format!("slot {slot}: {}", stop.error())),
                    None => {}
                }
            }
        }
        // Claims are made in order: as long as the first slot is in one lap, the others are in the
        // same lap or in the one before.
        let is_first_unchanged = shared.inspect(0).is_ok_and(|seen| Some(seen.lap) == first_lap);
        if (behind < -1 || ahead > 0) && is_first_unchanged {
            report.problems.push(format!("slots are up to {} laps apart", ahead - behind));
        }
        report
    }

    /// Passes copies of the waiting frames to `show`, in order, until it returns false; of a board
    /// of latest values, the value of every cell. Consumes nothing.
    ///
    /// On a busy ring, every copy is a whole frame; frames that are received before they are copied
    /// are left out. At most one ring full is copied. Three system calls.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; [`Error::Invalid`] for a stream, which has no frames; [`Error::Io`] if
    /// the ring cannot be mapped a second time.
    ///
    /// ```
    /// let (mut tx, _rx) = slipring::spsc::pair(4096)?;
    /// tx.try_send(b"hello")?;
    /// let mut lengths = Vec::new();
    /// tx.ring().inspect(|frame| {
    ///     lengths.push(frame.payload.len());
    ///     true
    /// })?;
    /// assert_eq!(lengths, [5]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn inspect(&self, mut show: impl FnMut(Frame<'_>) -> bool) -> Result<()> {
        let show = |header: Header, payload: &[u8]| show(Frame { header, stamp: 0, payload });
        match self.kind() {
            Kind::Spsc => {
                let shared = self.spsc_observed()?;
                shared.watch(true, show).map(drop).map_err(Fault::error)
            }
            Kind::Mpmc => self.mpmc_observed()?.frames(show).map_err(Stop::error),
            Kind::Broadcast => {
                let data = self.segment().map_data_to_read()?;
                self.broadcast_shared().watch(data, true, show).map(drop).map_err(Fault::error)
            }
            Kind::Mpsc => {
                let data = self.segment().map_data_to_read()?;
                self.mpsc_shared().watch(&data, show).map_err(Fault::error)
            }
            Kind::Latest => self.inspect_cells(show),
            _ => Err(Error::Invalid { what: "kind: streams have no frames" }),
        }
    }

    /// The value of every cell that has one, as a frame of the stream of that number, with the
    /// version as sequence number.
    fn inspect_cells(&self, mut show: impl FnMut(Header, &[u8]) -> bool) -> Result<()> {
        let shared = self.latest_shared();
        let mut buffer = vec![0; shared.max()];
        for cell in 0..shared.cells() {
            let (version, shape) = match latest::core::copy::<false>(&shared, cell, &mut buffer) {
                Ok(copied) => copied,
                Err(Miss::Nothing | Miss::Overtaken) => continue,
                Err(_) => return Err(Error::Corrupt { what: "a latest value" }),
            };
            if !show(shape.header(cell, version), &buffer[..shape.len as usize]) {
                break;
            }
        }
        Ok(())
    }
}
