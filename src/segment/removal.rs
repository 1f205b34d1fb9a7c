//! Removing a segment's name without losing a participant that joins at the same time.
//!
//! Used by rings, semaphores and mutexes to open and to remove, and by `participant.rs` to join.
//! Relies on the kernel to drop the locks of dead processes.
//!
//! Checking that a segment is unused and then unlinking its name would be a race: a participant
//! that joins in between would use a file that no later process can find, and its frames would be
//! lost. Hence the *gate*, a lock byte of the segment's file:
//!
//! * A joiner holds it shared while it takes its id. If the name has been unlinked by then and no
//!   living participant is attached, the join fails with [`Error::NotFound`], and the caller opens
//!   or creates the segment again.
//! * A remover holds it exclusively while it checks for participants, checks that the name still
//!   leads to this file, and unlinks it.
//!
//! So either the remover sees the joiner, or the joiner sees that the name is unlinked. Each side
//! waits for the other for at most a few seconds ([`lock::insist`]), which only a stopped process
//! (`SIGSTOP`) exceeds.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, fstat, statat};
use rustix::io::Errno;

use super::directory::Directory;
use super::layout::GATE;
use super::liveness::locks::HeldLocks;
use super::mapping::Segment;
use crate::error::{Error, Result};
use crate::os::lock;

const AT_GATE: &str = "lock the name of the segment";

/// How often [`open_and_join`] retries when other processes keep creating and removing the name.
const ATTEMPTS: usize = 100;

/// Opens something by its name and joins it; retries if the name was removed in between.
///
/// # Errors
/// Those of `open` and `join`.
pub(crate) fn open_and_join<S, T>(open: impl Fn() -> Result<S>, join: impl Fn(&S) -> Result<T>) -> Result<T> {
    for _ in 0..ATTEMPTS {
        match join(&open()?) {
            Err(Error::NotFound) => {}
            joined => return joined,
        }
    }
    Err(Error::NotFound)
}

impl Segment {
    /// Runs `join` while the segment's name cannot be removed.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the name has been removed and no living participant is attached; the
    /// errors of `join`; [`Error::Io`].
    pub(super) fn while_named<T>(&self, locks: &HeldLocks, join: impl FnOnce() -> Result<T>) -> Result<T> {
        let (Some(_), Some(file)) = (self.name(), locks.file()) else { return join() };
        lock::insist(|| lock::try_lock_shared(file, GATE)).map_err(|e| Error::io(AT_GATE, e))?;
        let joined = self.check_reachable(file).and_then(|()| join());
        let left = lock::unlock(file, GATE).map_err(|e| Error::io("leave the segment's gate", e));
        joined.and_then(|joined| left.map(|()| joined))
    }

    fn check_reachable(&self, file: BorrowedFd<'_>) -> Result<()> {
        let stat = fstat(file).map_err(|e| Error::io("examine the segment", e))?;
        if stat.st_nlink == 0 && self.is_idle()? { Err(Error::NotFound) } else { Ok(()) }
    }

    /// Unlinks `name` in `directory` if it leads to this segment and `wanted` returns true. No
    /// participant can join meanwhile. Returns whether it was unlinked.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the name does not exist or leads to another file; the errors of
    /// `wanted`; [`Error::Io`].
    pub(crate) fn unlink(
        &self,
        directory: &Directory,
        name: &str,
        wanted: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let locks = self.new_locks()?;
        let Some(file) = locks.file() else { return Err(Error::NotFound) };
        lock::insist(|| lock::try_lock(file, GATE)).map_err(|e| Error::io(AT_GATE, e))?; // held until `locks` is dropped
        let ours = fstat(file).map_err(|e| Error::io("examine the segment", e))?;
        match statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) => {}
            Ok(_) | Err(Errno::NOENT) => return Err(Error::NotFound),
            Err(e) => return Err(Error::io("examine the segment", e)),
        }
        let wanted = wanted()?;
        if wanted {
            directory.remove(name)?;
        }
        Ok(wanted)
    }
}
