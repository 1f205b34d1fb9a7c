//! A segment's participants, for observers.
//!
//! Used by `Ring`, and through it by the command line. Relies on `table.rs` for the records, and on
//! the locks of a separate open file description.

use std::sync::{Arc, Mutex, PoisonError};

use super::locks::HeldLocks;
use super::record::{Role, State};
use super::table::Locks;
use crate::error::Result;
use crate::os::process::{self, Identity, PidNamespace, ProcessState, Seen};
use crate::segment::counters::Counts;
use crate::segment::mapping::Segment;

impl Segment {
    /// Whether no living participant is attached. That may change at any moment.
    pub(crate) fn is_idle(&self) -> Result<bool> {
        let locks = self.locks_to_examine()?;
        for id in self.table().ids() {
            let word = self.table().get(id);
            // If the word has changed, the participant has left meanwhile, or another one has
            // joined.
            if word.state != Some(State::Free) && locks.is_locked(u64::from(id))? && self.table().get(id) == word {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All participants that hold an id, alive or not yet reaped. Two lock calls and some reads of
    /// `/proc` each; never blocks.
    pub(crate) fn participants(&self) -> Result<Vec<ParticipantInfo>> {
        let locks = self.locks_to_examine()?;
        let mut found = Vec::new();
        for id in self.table().ids() {
            let word = self.table().get(id);
            if word.state == Some(State::Free) {
                continue;
            }
            let alive = locks.is_locked(u64::from(id))?;
            let [identity @ .., joined] = self.table().identity(id);
            let counts = self.table().counters(id).read();
            if self.table().get(id) != word {
                continue; // it has left meanwhile, or another one has joined
            }
            let identity = Identity::decode(identity);
            let Identity { pid, start_time, pidfd_inode, .. } = identity;
            let Seen { namespace: pid_namespace, comm, state: process } = process::look(identity);
            let comm = comm.filter(|_| alive);
            let (role, state) = (word.role, word.state);
            let held = Held::default();
            let info = ParticipantInfo {
                id,
                role,
                state,
                alive,
                pid,
                pid_namespace,
                start_time,
                pidfd_inode,
                joined,
                comm,
                process,
                counts,
                held,
            };
            found.push(info);
        }
        Ok(found)
    }
}

/// Reaps dead participants for a caller that is none: a holder of locks of its own.
pub(crate) struct Reaper {
    segment: Arc<Segment>,
    /// One caller at a time: threads that share a description do not exclude each other by its
    /// locks.
    locks: Mutex<HeldLocks>,
}

impl Reaper {
    /// Opens the segment once more: a few system calls, and a descriptor.
    pub(crate) fn new(segment: &Arc<Segment>) -> Result<Self> {
        Ok(Reaper { segment: Arc::clone(segment), locks: Mutex::new(segment.new_locks()?) })
    }

    /// [`Participant::reap_dead`](super::participant::Participant::reap_dead). A system call for
    /// each id in use.
    pub(crate) fn reap(&self, recover: impl FnMut(u16)) -> Result<usize> {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.segment.table().reap(&*locks, 0, recover)
    }
}

/// The state of a participant. All fields except `alive` are what the participant wrote itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParticipantInfo {
    /// Its id, from 1.
    pub id: u16,
    /// Its role; `None` if the record is corrupt.
    pub role: Option<Role>,
    /// The state in its record; `None` if the record is corrupt.
    pub state: Option<State>,
    /// Whether it holds its lock, according to the kernel.
    pub alive: bool,
    /// The pid of its process, in its own pid namespace.
    pub pid: u32,
    /// Whether that namespace is the one of the observer, and so whether `pid` means anything here.
    pub pid_namespace: PidNamespace,
    /// When that process started, in clock ticks since boot; 0 if unknown.
    pub start_time: u64,
    /// The inode of its pidfd; 0 if unknown.
    pub pidfd_inode: u64,
    /// When it joined, in nanoseconds of `CLOCK_MONOTONIC`.
    pub joined: u64,
    /// The command name, if the process still exists and is visible.
    pub comm: Option<String>,
    /// Whether the process runs; `None` if it does not exist, or is not visible from this pid
    /// namespace: then only `alive` tells.
    pub process: Option<ProcessState>,
    /// The activity of all holders of this id since the segment was created.
    pub counts: Counts,
    /// The slots of a slot ring that it holds.
    pub held: Held,
}

/// The slots that a participant holds: frames that it fills or reads. While it is stopped, they
/// stay held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Slots that it has reserved and not yet committed.
    pub writing: u64,
    /// Frames that it has received and not yet released.
    pub reading: u64,
    /// How many positions the ring has advanced since the oldest of them. If it is near the number
    /// of slots, the other participants wait for that slot. A ring records no times: to find out
    /// how long a slot is held, read this twice.
    pub lag: u64,
}

impl Held {
    /// The number of slots that it holds.
    #[must_use]
    pub fn slots(&self) -> u64 {
        self.writing + self.reading
    }
}
