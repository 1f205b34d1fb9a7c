//! The table of participants: the algorithm for joining, leaving, and reaping the dead.
//! `participant.rs` has the handle.
//!
//! Used by `participant.rs` in production and by `loom-tests/src/liveness.rs`. Relies on
//! [`Locks`] that the system releases if and only if their holder is dead.
//!
//! Only the holder of an id's lock writes the id's record:
//!
//! ```text
//! FREE → JOINING → LIVE → LEAVING → FREE       by its owner
//!        JOINING ────────────────→ FREE        by the reaper, which holds the dead owner's lock: nothing had begun
//!                  LIVE → DEAD ──→ FREE        by the reaper: slots recovered, death noted
//!                         LEAVING → FREE       by the reaper: close noted
//! ```
//!
//! Every step is idempotent: if a reaper is killed, it drops the lock, and another one repeats the
//! steps. A state word carries the owner's ticket, unique per role: two equal words are the same
//! participant. An owner frees its record before it drops its lock, so *not FREE, lock free, and
//! still the same word* means dead ([`Table::is_dead`]).

use super::checks::Checks;
use super::lifecycle::{Ends, Lifecycle};
use super::record::{Role, State, Word};
use crate::error::{Error, Result};
use crate::memory::Area;
use crate::segment::counters::{Counters, Counts};
use crate::segment::layout::{PID, RECORD, STATE};
use crate::sync::{AtomicU64, Ordering, fence, yield_now};

/// Locks on single bytes, held by one participant. The system releases all of them when it dies.
pub(crate) trait Locks {
    /// Takes `byte`; false if another participant holds it. Never blocks.
    fn try_lock(&self, byte: u64) -> Result<bool>;
    /// Releases `byte`.
    fn unlock(&self, byte: u64) -> Result<()>;
    /// Whether another participant holds `byte`.
    fn is_locked(&self, byte: u64) -> Result<bool>;
}

/// A held id and the contents of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// 1..=participants, unique among living participants.
    pub(crate) id: u16,
    pub(crate) role: Role,
    /// Unique per role, and not reused.
    pub(crate) ticket: u64,
}

/// The records and the lifecycle words of one segment.
#[derive(Clone)]
pub(crate) struct Table {
    records: Area,
    count: u16,
    lifecycle: Lifecycle,
    checks: Checks,
}

/// How often a joiner retries when all ids that it saw were in transition.
const PASSES: usize = if cfg!(slipring_loom) { 2 } else { 64 };

impl Table {
    /// A table over the participants' part of a segment (`participants + 1` records) and its shared
    /// page.
    pub(crate) fn new(records: Area, shared_page: Area, participants: usize) -> Self {
        let count = u16::try_from(participants).unwrap_or(u16::MAX);
        assert!(records.len() >= (usize::from(count) + 1) * RECORD, "a record for every id");
        Table { records, count, lifecycle: Lifecycle::new(shared_page.clone()), checks: Checks::new(shared_page) }
    }

    /// The words that record joins and ends.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The time of the last liveness check.
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Takes a free id for `role`. `recover(id)` must reclaim all that the dead `id` holds in the
    /// ring. An `exclusive` role is refused while a living participant holds it.
    ///
    /// A `thorough` join reaps every dead participant first, for one lock call per id in use;
    /// otherwise a join reaps only if no id is free. An exclusive join must be thorough, because
    /// its predecessor may be dead.
    ///
    /// `identity` fills the record's words from `PID` on: pid and namespace, start time, pidfd
    /// inode, join time. After an error, drop `locks`. Lock-free, apart from what `recover` does.
    pub(crate) fn join(
        &self,
        locks: &impl Locks,
        role: Role,
        exclusive: bool,
        thorough: bool,
        identity: [u64; 4],
        mut recover: impl FnMut(u16),
    ) -> Result<Seat> {
        if exclusive && !locks.try_lock(role.lock())? {
            return Err(Error::RoleTaken { role: role.name() });
        }
        if thorough {
            self.reap(locks, 0, &mut recover)?;
        }
        let id = self.take_id(locks, recover)?;
        // We hold the lock on `id`, hence the record is ours. Relaxed suffices for JOINING:
        // SYNC(ticket) publishes it.
        self.word(id).store(Word::encode(State::Joining, role, 0), Ordering::Relaxed);
        for (i, value) in identity.into_iter().enumerate() {
            self.record(id).word(PID + 8 * i).store(value, Ordering::Relaxed);
        }
        let ticket = self.lifecycle.take_ticket(role)?;
        // SYNC(live): pairs with `get`: a reader that sees LIVE sees the identity.
        self.word(id).store(Word::encode(State::Live, role, ticket), Ordering::Release);
        self.lifecycle.announce();
        Ok(Seat { id, role, ticket })
    }

    /// Ends `seat` in an orderly way. The seat must hold nothing in the ring any more. `reported`
    /// are the ends of its peers that were reported to its user; if no other participant of its
    /// role is left, successors will not report them again.
    ///
    /// Wake the peers afterwards.
    pub(crate) fn leave(&self, locks: &impl Locks, seat: Seat, reported: Ends) -> Result<()> {
        let Seat { id, role, ticket } = seat;
        // Relaxed: LEAVING matters only to the fence below and to a reaper, which gets our lock
        // after our death.
        self.word(id).store(Word::encode(State::Leaving, role, ticket), Ordering::Relaxed);
        // SYNC(leave): pairs with itself; if two leave at the same time, at least one sees the
        // other LEAVING, and acknowledges for both.
        fence(Ordering::SeqCst);
        if !self.others(seat).any(|state| matches!(state, Some(State::Joining | State::Live))) {
            self.lifecycle.acknowledge(role.peer(), reported);
        }
        self.lifecycle.note_close(role, ticket);
        self.free(id);
        locks.unlock(u64::from(id))?;
        locks.unlock(role.lock()) // harmless if not held: a participant can only unlock its own locks
    }

    /// Reaps every dead participant except `own` (0 if the caller is not a participant), and
    /// returns how many there were: `recover(id)` as for [`Table::join`]. One lock call per id in
    /// use. One caller at a time per `locks`. Wake all waiters afterwards.
    pub(crate) fn reap(&self, locks: &impl Locks, own: u16, mut recover: impl FnMut(u16)) -> Result<usize> {
        let (mut reaped, mut in_use) = (0, 0);
        for id in self.ids() {
            if self.get(id).state == Some(State::Free) {
                continue;
            }
            in_use += 1;
            if id != own && locks.try_lock(u64::from(id))? {
                reaped += usize::from(self.reap_id(id, &mut recover));
                locks.unlock(u64::from(id))?;
            }
        }
        self.checks.made(in_use);
        Ok(reaped)
    }

    /// Whether a participant that is proven dead holds `id`. Always false for the caller's own id.
    /// One lock call.
    pub(crate) fn is_dead(&self, locks: &impl Locks, id: u16) -> Result<bool> {
        if id == 0 || id > self.count {
            return Ok(false);
        }
        // Relaxed, twice: the lock calls order them. A participant that was seen to hold no lock
        // had freed its record before.
        let before = self.word(id).load(Ordering::Relaxed);
        // JOINING has no ticket yet, so it cannot tell one joiner from the next; a joiner holds
        // nothing in the ring.
        if matches!(Word::decode(before).state, Some(State::Free | State::Joining)) {
            return Ok(false);
        }
        // The lock was free, and the record said before and after that its owner had not finished.
        Ok(!locks.is_locked(u64::from(id))? && self.word(id).load(Ordering::Relaxed) == before)
    }

    /// How many of `role` hold a record: joining, living, leaving, or dead and not yet reaped.
    pub(crate) fn present(&self, role: Role) -> usize {
        self.ids()
            .map(|id| self.get(id))
            .filter(|word| word.state != Some(State::Free) && word.role == Some(role))
            .count()
    }

    /// How many of `role` are LIVE by their records; dead participants count until they are reaped.
    pub(crate) fn live(&self, role: Role) -> usize {
        self.ids()
            .map(|id| self.get(id))
            .filter(|word| word.state == Some(State::Live) && word.role == Some(role))
            .count()
    }

    /// [`Lifecycle::ended`] over this table's records.
    pub(crate) fn ended(&self, role: Role, reported: Ends) -> Option<Ends> {
        self.lifecycle.ended(role, reported, || self.present(role))
    }

    /// The decoded record of `id`.
    pub(crate) fn get(&self, id: u16) -> Word {
        // SYNC(free), SYNC(live): pair with the stores in `free` and `join`.
        Word::decode(self.word(id).load(Ordering::Acquire))
    }

    /// The identity that the holder of `id` wrote; valid only if [`Table::get`] returns the same
    /// before and after.
    pub(crate) fn identity(&self, id: u16) -> [u64; 4] {
        let record = self.record(id);
        std::array::from_fn(|i| record.word(PID + 8 * i).load(Ordering::Relaxed))
    }

    /// The counters of `id`.
    pub(crate) fn counters(&self, id: u16) -> Counters {
        Counters::new(&self.record(id))
    }

    /// The sum of all counters.
    pub(crate) fn counts(&self) -> Counts {
        self.ids().map(|id| self.counters(id).read()).fold(Counts::default(), Counts::merge)
    }

    /// All ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.count
    }

    /// Locks an id whose record is FREE, or else that of a dead participant. Lock calls for the ids
    /// that look free, and for all ids if none is.
    fn take_id(&self, locks: &impl Locks, mut recover: impl FnMut(u16)) -> Result<u16> {
        let is_free = |id: u16| self.get(id).state == Some(State::Free);
        for _ in 0..PASSES {
            let mut in_transition = false;
            for of_the_dead in [false, true] {
                for id in self.ids() {
                    if is_free(id) == of_the_dead {
                        continue;
                    }
                    if locks.try_lock(u64::from(id))? {
                        // Another participant may have used the id and died after the check.
                        self.reap_id(id, &mut recover);
                        return Ok(id);
                    }
                    // Its last holder has not unlocked it yet, or the next one has not filled in
                    // the record yet.
                    in_transition |= !of_the_dead || is_free(id);
                }
            }
            if !in_transition {
                break;
            }
            yield_now();
        }
        Err(Error::TooManyParticipants { max: u32::from(self.count) })
    }

    /// Finishes what the dead holder of `id` had begun. The caller holds the lock on `id`. False if
    /// it is FREE.
    fn reap_id(&self, id: u16, recover: &mut impl FnMut(u16)) -> bool {
        let Word { state, role, ticket } = self.get(id);
        match state {
            Some(State::Free) => return false,
            Some(State::Joining) => {}
            Some(State::Leaving) => {
                recover(id);
                if let Some(role) = role {
                    self.lifecycle.note_close(role, ticket);
                }
            }
            Some(State::Live | State::Dead) | None => {
                recover(id);
                if let Some(role) = role {
                    self.word(id).store(Word::encode(State::Dead, role, ticket), Ordering::Relaxed);
                    self.lifecycle.note_death(role, ticket);
                }
            }
        }
        self.free(id);
        true
    }

    /// Frees the record. A reader that sees FREE sees all that its last owner and its reaper did
    /// before.
    fn free(&self, id: u16) {
        // SYNC(free): pairs with `get`.
        self.word(id).store(0, Ordering::Release);
        self.lifecycle.announce();
    }

    /// The states of the other participants in the role of `seat`.
    fn others(&self, seat: Seat) -> impl Iterator<Item = Option<State>> + '_ {
        let same_role = move |word: &Word| word.role == Some(seat.role);
        self.ids().filter(move |id| *id != seat.id).map(|id| self.get(id)).filter(same_role).map(|word| word.state)
    }

    fn record(&self, id: u16) -> Area {
        self.records.part(usize::from(id) * RECORD, RECORD)
    }

    fn word(&self, id: u16) -> &AtomicU64 {
        self.records.word(usize::from(id) * RECORD + STATE)
    }
}
