//! The record of a participant: its role, and its state word.
//!
//! Used by `table.rs`, which writes the records, and by `lifecycle.rs` for the roles. The offsets
//! are in `segment/layout.rs`.

use crate::segment::layout::ROLE_LOCK;

/// The end of the ring that a participant uses. Participants of semaphores and mutexes are
/// consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends frames.
    Producer = 0,
    /// Receives frames.
    Consumer = 1,
}

impl Role {
    /// The opposite role.
    #[must_use]
    pub fn peer(self) -> Role {
        match self {
            Role::Producer => Role::Consumer,
            Role::Consumer => Role::Producer,
        }
    }

    /// The role's name: "producer" or "consumer".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Consumer => "consumer",
        }
    }

    /// The lock byte of a participant that holds this role exclusively.
    pub(in crate::segment) fn lock(self) -> u64 {
        ROLE_LOCK + self as u64
    }
}

/// The phase of a participant's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum State {
    /// The id is free.
    Free = 0,
    /// Its record is being filled in.
    Joining = 1,
    /// It is attached.
    Live = 2,
    /// It is leaving.
    Leaving = 3,
    /// It is dead, its slots are recovered, and its death is about to be noted.
    Dead = 4,
}

/// Tickets have 48 bits in a state word.
pub(crate) const MAX_TICKET: u64 = (1 << 48) - 1;

/// A decoded state word: state 8 | role 8 | ticket 48. `None` is a value that no correct
/// participant writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) state: Option<State>,
    pub(crate) role: Option<Role>,
    pub(crate) ticket: u64,
}

impl Word {
    pub(super) fn encode(state: State, role: Role, ticket: u64) -> u64 {
        (state as u64) << 56 | (role as u64) << 48 | ticket & MAX_TICKET
    }

    pub(super) fn decode(word: u64) -> Self {
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
