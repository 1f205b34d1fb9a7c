//! Handles that can be killed without a process to kill.
//!
//! Used by the targets with histories. What the others see of a death is that the kernel has dropped the dead one's locks,
//! because the open file description that held them is gone. So the descriptor is made to mean something else under the
//! handle, which is then never used again.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::fstat;
use slipring::{Result, Ring};

/// The descriptors of this process for the file behind `ring`.
fn descriptors(ring: &Ring) -> HashSet<RawFd> {
    let memfd = ring.as_memfd().unwrap();
    let wanted = fstat(memfd).unwrap();
    // Numbers are given out from below, so a new one is never far above an old one.
    (0..memfd.as_raw_fd() + 128)
        .filter(|fd| {
            // SAFETY: it is only asked about, at once; a number that is no descriptor is answered with an error.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fstat(fd.as_fd()).is_ok_and(|stat| (stat.st_ino, stat.st_dev) == (wanted.st_ino, wanted.st_dev))
        })
        .collect()
}

/// What proves that a handle's holder lives: a descriptor that the handle owns.
pub struct Life(RawFd);

/// Attaches a handle to `ring`.
pub fn attach<T>(ring: &Ring, attach: impl FnOnce(&Ring) -> Result<T>) -> Result<(T, Life)> {
    let before = descriptors(ring);
    let handle = attach(ring)?;
    let after = descriptors(ring);
    let new: Vec<_> = after.difference(&before).collect();
    assert_eq!(new.len(), 1, "a handle opens one description");
    Ok((handle, Life(*new[0])))
}

impl Life {
    /// What `SIGKILL` does, as far as the ring can tell. The handle must not be used again, nor dropped before the ring has
    /// served its turn: its drop would leave in an orderly way.
    pub fn end(self) {
        let null = File::open("/dev/null").unwrap();
        // SAFETY: both are open descriptors; the second belongs to a handle that is never used again, and whose drop closes
        // what the number means now.
        let done = unsafe { libc::dup3(null.as_raw_fd(), self.0, libc::O_CLOEXEC) };
        assert_eq!(done, self.0);
    }
}
