//! Simulates the death of a handle without killing a process.
//!
//! Used by the targets with histories. The other participants notice a death because the kernel has
//! released the locks of the handle's open file description. So the number of that descriptor is
//! made to refer to another description, and the handle is not used again.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::fs::fstat;
use slipring::{Result, Ring};

/// The descriptor that proves that a handle's holder lives, and that the handle owns.
pub struct Life(RawFd);

/// Attaches a handle to `ring`.
pub fn attach<T>(ring: &Ring, attach: impl Fn(&Ring) -> Result<T>) -> Result<(T, Life)> {
    loop {
        // A handle first opens the description for its locks, and the kernel assigns the lowest
        // free number.
        let next = File::open("/dev/null").unwrap().as_raw_fd();
        let handle = attach(ring)?;
        if is_descriptor_of(next, ring) {
            return Ok((handle, Life(next)));
        }
        // Another thread of a test got the number. Attaching and leaving once changes nothing that
        // the models contain.
    }
}

fn is_descriptor_of(fd: RawFd, ring: &Ring) -> bool {
    let wanted = fstat(ring.as_fd()).unwrap();
    // SAFETY: only queried, at once; a number that is no descriptor causes an error.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fstat(fd).is_ok_and(|stat| (stat.st_ino, stat.st_dev) == (wanted.st_ino, wanted.st_dev))
}

impl Life {
    /// Has the effect of `SIGKILL`, as far as the ring can tell. The handle must not be used again,
    /// nor dropped before the ring is: its drop would leave in an orderly way.
    pub fn end(self) {
        let null = File::open("/dev/null").unwrap();
        // SAFETY: both are open descriptors. The second belongs to a handle that is not used again,
        // and whose drop closes the descriptor that has the number now.
        let done = unsafe { libc::dup3(null.as_raw_fd(), self.0, libc::O_CLOEXEC) };
        assert_eq!(done, self.0);
    }
}
