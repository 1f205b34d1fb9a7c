//! The table of participants: joining, leaving, and the burial of the dead. The algorithm only; `participant.rs` is the handle.
//!
//! Used by `participant.rs` in production and by `loom-tests/src/participants.rs`. Relies on a [`Locks`] whose locks the
//! system drops when, and only when, their holder is dead.
//!
//! An id's record is written by the holder of the id's lock, and by nobody else:
//!
//! ```text
//! FREE → JOINING → LIVE → LEAVING → FREE       by its owner
//!        JOINING ────────────────→ FREE        by whoever got a dead owner's lock: nothing had begun
//!                  LIVE → DEAD ──→ FREE        by whoever got a dead owner's lock: slots recovered, death noted
//!                         LEAVING → FREE       by whoever got a dead owner's lock: close noted
//! ```
//!
//! Every step is idempotent, so a reaper that is killed (which drops the lock it held) is simply followed by another. A
//! state word carries the owner's ticket, unique per role: two equal words are the same participant. An owner frees its
//! record before it drops its lock, so *not FREE, lock free, and still the same word* means dead ([`Table::is_dead`]).

use super::checks::Checks;
use super::counters::{Counters, Counts};
use super::layout::{PID, RECORD, ROLE_LOCK, STATE};
use super::lifecycle::{Ends, Lifecycle};
use crate::error::{Error, Result};
use crate::sync::{Area, AtomicU64, Ordering, fence, yield_now};

/// Which end of the ring a participant holds. Semaphores and mutexes know one role only: the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Puts frames in.
    Producer = 0,
    /// Takes frames out.
    Consumer = 1,
}

impl Role {
    /// The other end.
    #[must_use]
    pub fn peer(self) -> Role {
        match self {
            Role::Producer => Role::Consumer,
            Role::Consumer => Role::Producer,
        }
    }

    /// "producer" or "consumer".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
        }
    }

    /// The lock byte of whoever holds this role alone.
    pub(super) fn lock(self) -> u64 {
        ROLE_LOCK + self as u64
    }
}

/// Locks on single bytes, held by one participant. The system drops them all when it dies.
pub(crate) trait Locks {
    /// Takes `byte`; false if another participant holds it. Never blocks.
    fn try_lock(&self, byte: u64) -> Result<bool>;
    /// Gives `byte` back.
    fn unlock(&self, byte: u64) -> Result<()>;
    /// Whether another participant holds `byte`.
    fn is_locked(&self, byte: u64) -> Result<bool>;
}

/// Where a participant is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum State {
    /// Nobody holds the id.
    Free = 0,
    /// Its record is being filled in.
    Joining = 1,
    /// Attached.
    Live = 2,
    /// Closing.
    Leaving = 3,
    /// Dead, its slots recovered, its death about to be noted.
    Dead = 4,
}

/// Tickets have 48 bits in a state word.
pub(crate) const MAX_TICKET: u64 = (1 << 48) - 1;

/// A state word, decoded: state 8 | role 8 | ticket 48. `None` is what no correct participant writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: Option<State>,
    pub(crate) role: Option<Role>,
    pub(crate) ticket: u64,
}

impl Word {
    fn encode(state: State, role: Role, ticket: u64) -> u64 {
        (state as u64) << 56 | (role as u64) << 48 | ticket & MAX_TICKET
    }

    fn decode(word: u64) -> Self {
        let state = match word >> 56 {
            0 => Some(State::Free),
            1 => Some(State::Joining),
            2 => Some(State::Live),
            3 => Some(State::Leaving),
            4 => Some(State::Dead),
            _ => None,
        };
        let role = match word >> 48 & 0xFF {
            0 => Some(Role::Producer),
            1 => Some(Role::Consumer),
            _ => None,
        };
        Word { state, role, ticket: word & MAX_TICKET }
    }
}

/// An id that is held, and what its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// 1..=participants: unique among the living.
    pub(crate) id: u16,
    pub(crate) role: Role,
    /// Unique per role for ever.
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

/// How often a joiner looks again when all it saw was ids in transition.
const PASSES: usize = if cfg!(slipring_loom) { 2 } else { 64 };

impl Table {
    /// Over the participants' part of a segment (`participants + 1` records) and its shared page.
    pub(crate) fn new(records: Area, shared_page: Area, participants: usize) -> Self {
        let count = u16::try_from(participants).unwrap_or(u16::MAX);
        assert!(records.len() >= (usize::from(count) + 1) * RECORD, "a record for every id");
        Table { records, count, lifecycle: Lifecycle::new(shared_page.clone()), checks: Checks::new(shared_page) }
    }

    /// The words that tell of joins and ends.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// When the participants were last checked for deaths.
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Takes a free id for `role`: `recover(id)` must take back all that the dead `id` holds in the ring. An `exclusive`
    /// role is refused while a living participant holds it.
    ///
    /// Reaps every dead participant first if the join is `thorough`, for one lock call per id in use; otherwise only if no
    /// id is free. An exclusive join must be thorough, since its predecessor may be dead.
    ///
    /// `identity` fills the record's words from `PID` on: pid, start time, pidfd inode, join time. After an error, drop
    /// `locks`. Lock-free, apart from what `recover` does.
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
        // The lock on `id` is ours, hence its record too. Relaxed suffices for JOINING: SYNC(ticket) publishes it.
        self.word(id).store(Word::encode(State::Joining, role, 0), Ordering::Relaxed);
        for (i, value) in identity.into_iter().enumerate() {
            self.record(id).word(PID + 8 * i).store(value, Ordering::Relaxed);
        }
        let ticket = self.lifecycle.take_ticket(role)?;
        // SYNC(live): pairs with `get`: who sees LIVE sees the identity.
        self.word(id).store(Word::encode(State::Live, role, ticket), Ordering::Release);
        self.lifecycle.announce();
        Ok(Seat { id, role, ticket })
    }

    /// Ends `seat` in an orderly way. The seat holds nothing in the ring any more. `reported` is what its holder has told
    /// its user of its peers' ends; if nobody else of its role is left, successors will not be told again.
    ///
    /// Wake the peers afterwards.
    pub(crate) fn leave(&self, locks: &impl Locks, seat: Seat, reported: Ends) -> Result<()> {
        let Seat { id, role, ticket } = seat;
        // Relaxed: nobody draws conclusions from LEAVING but the fence below and whoever gets our lock after our death.
        self.word(id).store(Word::encode(State::Leaving, role, ticket), Ordering::Relaxed);
        // Of two that leave at once, at least one sees the other LEAVING, and acknowledges for both.
        fence(Ordering::SeqCst);
        if !self.others(seat).any(|state| matches!(state, Some(State::Joining | State::Live))) {
            self.lifecycle.acknowledge(role.peer(), reported);
        }
        self.lifecycle.note_close(role, ticket);
        self.free(id);
        locks.unlock(u64::from(id))?;
        locks.unlock(role.lock()) // no harm where it was not ours: a participant can only unlock what it holds
    }

    /// Buries every dead participant except `own` (0 if the caller is none), and says how many there were: `recover(id)`
    /// as for [`Table::join`]. One lock call per id in use. One caller at a time per `locks`. Wake everybody afterwards.
    pub(crate) fn reap(&self, locks: &impl Locks, own: u16, mut recover: impl FnMut(u16)) -> Result<usize> {
        let (mut buried, mut in_use) = (0, 0);
        for id in self.ids() {
            if self.get(id).state == Some(State::Free) {
                continue;
            }
            in_use += 1;
            if id != own && locks.try_lock(u64::from(id))? {
                buried += usize::from(self.bury(id, &mut recover));
                locks.unlock(u64::from(id))?;
            }
        }
        self.checks.made(in_use);
        Ok(buried)
    }

    /// Whether `id` is held by a participant that is proven dead. Never true of a caller's own id. One lock call.
    pub(crate) fn is_dead(&self, locks: &impl Locks, id: u16) -> Result<bool> {
        if id == 0 || id > self.count {
            return Ok(false);
        }
        // Relaxed, twice: the lock calls order them. Whoever was seen to hold no lock had freed its record before.
        let before = self.word(id).load(Ordering::Relaxed);
        // JOINING has no ticket yet, so it cannot tell one joiner from the next; a joiner holds nothing in the ring.
        if matches!(Word::decode(before).state, Some(State::Free | State::Joining)) {
            return Ok(false);
        }
        // The lock was free at a moment at which, before and after, the record said that its owner had not finished.
        Ok(!locks.is_locked(u64::from(id))? && self.word(id).load(Ordering::Relaxed) == before)
    }

    /// How many of `role` hold a record: joining, living, leaving, or dead and not yet buried.
    pub(crate) fn present(&self, role: Role) -> usize {
        self.ids()
            .map(|id| self.get(id))
            .filter(|word| word.state != Some(State::Free) && word.role == Some(role))
            .count()
    }

    /// How many of `role` are LIVE by their records; the dead count until somebody buries them.
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

    /// What the record of `id` says.
    pub(crate) fn get(&self, id: u16) -> Word {
        // SYNC(free), SYNC(live): pairs with `free` and `join`.
        Word::decode(self.word(id).load(Ordering::Acquire))
    }

    /// The identity that the holder of `id` wrote; meaningful while [`Table::get`] says the same before and after.
    pub(crate) fn identity(&self, id: u16) -> [u64; 4] {
        let record = self.record(id);
        std::array::from_fn(|i| record.word(PID + 8 * i).load(Ordering::Relaxed))
    }

    /// The counters of `id`.
    pub(crate) fn counters(&self, id: u16) -> Counters {
        Counters::new(&self.record(id))
    }

    /// All counters together.
    pub(crate) fn counts(&self) -> Counts {
        self.ids().map(|id| self.counters(id).read()).fold(Counts::default(), Counts::merge)
    }

    /// Every id there is.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.count
    }

    /// Locks one id whose record is FREE; that of a dead participant if there is no other. Lock calls for the ids that
    /// look free, and for all of them if none is.
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
                        // It may have been used, and its holder killed, since we looked.
                        self.bury(id, &mut recover);
                        return Ok(id);
                    }
                    // Its last holder still has to unlock it, or the next one to fill in the record.
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

    /// Finishes whatever the former holder of `id` had begun. The caller holds the lock on `id`; false if it is FREE.
    fn bury(&self, id: u16, recover: &mut impl FnMut(u16)) -> bool {
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

    /// Whoever sees the record FREE sees all that its last owner, and whoever buried it, did before.
    fn free(&self, id: u16) {
        // SYNC(free): pairs with `get`.
        self.word(id).store(0, Ordering::Release);
        self.lifecycle.announce();
    }

    /// The states of everybody else in the role of `seat`.
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
