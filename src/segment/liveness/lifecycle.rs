//! The words that record joins, closes and deaths. By them a receiver distinguishes "no frame yet"
//! from "no frame any more".
//!
//! Used by `table.rs`, which writes them, and by the rings, which call [`Lifecycle::ended`].
//!
//! Every join takes a *ticket* from its role's `LAST_JOIN`; a close or a death raises `LAST_CLOSE`
//! or `LAST_DEATH` to at least that ticket. A maximum may be raised twice, so a participant that
//! finishes the work of a killed reaper does not count a death twice. Receivers keep the pair of
//! maxima that they have reported, and report a newer one when no participant of the role is left.
//! What the last receiver has reported is stored (`…_SEEN`) for its successor.
//!
//! *Why no end is missed or invented.* A joiner stores JOINING before it takes its ticket t, and
//! tickets are taken by read-modify-writes of one word. So a reader of a maximum m ≥ t sees t's
//! record JOINING or later (SYNC(ticket)). If the record then reads FREE, t has ended, and its own
//! maximum is visible (SYNC(free)). [`Lifecycle::ended`] reads the maxima before and after reading
//! the records and accepts only equal readings: every ticket up to them has ended and is in them,
//! and every later ticket that has ended would be in the second reading.

use super::record::{MAX_TICKET, Role};
use crate::error::{Error, Result};
use crate::memory::Area;
use crate::segment::layout::{
    CLOSE_SEEN, DEATH_SEEN, LAST_CLOSE, LAST_DEATH, LAST_JOIN, LIFECYCLE, MEMBERSHIP, ROLE_SIZE,
};
use crate::sync::{AtomicU64, Ordering};

/// The newest tickets of a role that ended by closing and by death.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) close: u64,
    pub(crate) death: u64,
}

impl Ends {
    pub(super) fn is_newer_than(self, reported: Ends) -> bool {
        self.close > reported.close || self.death > reported.death
    }
}

/// The lifecycle words of the shared page.
#[derive(Clone)]
pub(crate) struct Lifecycle {
    page: Area,
}

impl Lifecycle {
    /// The words of a segment's shared page.
    pub(crate) fn new(shared_page: Area) -> Self {
        Lifecycle { page: shared_page }
    }

    /// A number that changes after every join, leave and reaping. A leaver that is killed may not
    /// get that far. So a bounded sleep checks [`Lifecycle::ended`] in any case, and uses this only
    /// to check sooner.
    pub(crate) fn membership(&self) -> u64 {
        // SYNC(membership): pairs with `announce`.
        self.page.word(MEMBERSHIP).load(Ordering::Acquire)
    }

    pub(super) fn announce(&self) {
        // SYNC(membership): pairs with `membership`.
        self.page.word(MEMBERSHIP).fetch_add(1, Ordering::Release);
    }

    /// Takes the next ticket of `role`, from 1. [`Error::Corrupt`] if it is larger than any number
    /// of joins can explain.
    pub(super) fn take_ticket(&self, role: Role) -> Result<u64> {
        // SYNC(ticket): the release orders our JOINING before the ticket; the acquire passes on
        // that of earlier tickets, so that our own close or death publishes them all to `ends`.
        let last = self.word(role, LAST_JOIN).fetch_add(1, Ordering::AcqRel);
        if last < MAX_TICKET {
            Ok(last + 1)
        } else {
            Err(Error::Corrupt { what: "join counter: larger than any number of joins" })
        }
    }

    pub(super) fn note_close(&self, role: Role, ticket: u64) {
        // SYNC(ticket): pairs with `ends`.
        self.word(role, LAST_CLOSE).fetch_max(ticket, Ordering::Release);
    }

    pub(super) fn note_death(&self, role: Role, ticket: u64) {
        // SYNC(ticket): pairs with `ends`.
        self.word(role, LAST_DEATH).fetch_max(ticket, Ordering::Release);
    }

    /// The newest ends of `role`, whether or not other participants of it are left.
    pub(crate) fn ends(&self, role: Role) -> Ends {
        // SYNC(ticket): pairs with `note_close` and `note_death`.
        let load = |word| self.word(role, word).load(Ordering::Acquire);
        Ends { close: load(LAST_CLOSE), death: load(LAST_DEATH) }
    }

    /// The ends of `role`, of which one participant at a time is attached, without that of the last
    /// one that joined.
    pub(crate) fn ends_before_last(&self, role: Role) -> Ends {
        let ends = self.ends(role);
        let Ends { close, death } = ends;
        // Relaxed: an old number repeats a report.
        let last = self.word(role, LAST_JOIN).load(Ordering::Relaxed);
        if last > close.max(death) {
            return ends; // it has not ended
        }
        if death < close { Ends { close: 0, death } } else { Ends { close, death: 0 } }
    }

    /// The ends of `role` if they are newer than `reported` and no participant of the role is left.
    /// `present` counts those that are.
    ///
    /// After `Some`, check the ring once more before reporting: everything that the ended
    /// participants committed is visible now. Then keep the result as the new `reported`.
    /// Lock-free: retried only when another end happens meanwhile.
    pub(crate) fn ended(&self, role: Role, reported: Ends, mut present: impl FnMut() -> usize) -> Option<Ends> {
        let mut ends = self.ends(role);
        loop {
            if !ends.is_newer_than(reported) || present() != 0 {
                return None;
            }
            let again = self.ends(role);
            if again == ends {
                return Some(ends);
            }
            ends = again;
        }
    }

    /// The ends that the last of `role`'s peers to leave had reported, where a new receiver starts.
    pub(crate) fn acknowledged(&self, role: Role) -> Ends {
        // Relaxed, here and below: the numbers are only compared, and an old one repeats a report.
        let load = |word| self.word(role, word).load(Ordering::Relaxed);
        Ends { close: load(CLOSE_SEEN), death: load(DEATH_SEEN) }
    }

    /// Stores the ends of `role` that were reported, for successors.
    pub(super) fn acknowledge(&self, role: Role, reported: Ends) {
        self.word(role, CLOSE_SEEN).fetch_max(reported.close, Ordering::Relaxed);
        self.word(role, DEATH_SEEN).fetch_max(reported.death, Ordering::Relaxed);
    }

    fn word(&self, role: Role, word: usize) -> &AtomicU64 {
        self.page.word(LIFECYCLE + role as usize * ROLE_SIZE + word)
    }
}
