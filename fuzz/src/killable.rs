//! Handles that can be killed without a process to kill.
//!
//! Used by the targets with histories. What the others see of a death is that the kernel has dropped the dead one's locks,
//! because the open file description that held them is gone. So the descriptor is made to mean something else under the
//! handle, which is then never used again.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::fs::fstat;
use slipring::{Result, Ring};

/// What proves that a handle's holder lives: a descriptor that the handle owns.
pub struct Life(RawFd);

/// Attaches a handle to `ring`.
pub fn attach<T>(ring: &Ring, attach: impl Fn(&Ring) -> Result<T>) -> Result<(T, Life)> {
    loop {
        // The first thing that a handle opens is the description for its locks, and numbers are given out from below.
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        let handle = attach(ring)?;
        if is_descriptor_of(next, ring) {
            return Ok((handle, Life(next)));
        }
        // Another thread of a test was given the number. Coming and going once changes nothing that a model knows of.
    }
}

fn is_descriptor_of(fd: RawFd, ring: &Ring) -> bool {
    let wanted = fstat(ring.as_memfd().unwrap()).unwrap();
    // SAFETY: it is only asked about, at once; a number that is no descriptor is answered with an error.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fstat(fd).is_ok_and(|stat| (stat.st_ino, stat.st_dev) == (wanted.st_ino, wanted.st_dev))
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
