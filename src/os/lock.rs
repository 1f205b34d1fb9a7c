//! Open-file-description locks on single bytes (`F_OFD_SETLK`, Linux 3.15), which the kernel
//! releases when their holder dies.
//!
//! Used by `segment/` and `transport/mq/` to find out whether a participant is alive. The kernel
//! drops the lock when the last descriptor of the description is closed, at exit and at `SIGKILL`
//! alike, in every pid namespace. Two descriptions conflict even inside one process; one
//! description never conflicts with itself. rustix has no OFD locks, hence libc.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use libc::{F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK};

use super::pauses::Pauses;

/// Tries to write-lock `byte`. False if another description holds it. One system call, never
/// blocks.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    acquire(fd, F_WRLCK, byte)
}

/// Tries to read-lock `byte`; other descriptions may hold read locks as well. False if one has
/// write-locked it. One system call, never blocks.
pub(crate) fn try_lock_shared(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    acquire(fd, F_RDLCK, byte)
}

/// Retries `lock`, for locks that are held for only a few system calls. `TimedOut` after 5 s, which
/// means that the holder is stopped.
pub(crate) fn insist(lock: impl Fn() -> io::Result<bool>) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let (start, mut pauses) = (Instant::now(), Pauses::new(Duration::from_micros(50), Duration::from_millis(2)));
    while !lock()? {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "another process holds the lock and does not release it: it may be stopped",
            ));
        }
        pauses.sleep(PATIENCE);
    }
    Ok(())
}

/// Unlocks `byte`, whether or not this description held it. One system call.
pub(crate) fn unlock(fd: BorrowedFd<'_>, byte: u64) -> io::Result<()> {
    command(fd, F_OFD_SETLK, F_UNLCK, byte, 1).map(drop)
}

/// Unlocks all bytes that this description holds. One system call.
pub(crate) fn unlock_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    command(fd, F_OFD_SETLK, F_UNLCK, 0, TO_THE_END).map(drop)
}

/// Whether *another* description holds `byte`. One system call; works on read-only descriptors.
pub(crate) fn is_locked(fd: BorrowedFd<'_>, byte: u64) -> io::Result<bool> {
    command(fd, F_OFD_GETLK, F_WRLCK, byte, 1).map(|found| found != F_UNLCK)
}

/// Whether *another* description holds any byte. One system call; works on read-only descriptors.
#[cfg(any(test, feature = "transports"))]
pub(crate) fn is_any_locked(fd: BorrowedFd<'_>) -> io::Result<bool> {
    command(fd, F_OFD_GETLK, F_WRLCK, 0, TO_THE_END).map(|found| found != F_UNLCK)
}

fn acquire(fd: BorrowedFd<'_>, kind: i32, byte: u64) -> io::Result<bool> {
    match command(fd, F_OFD_SETLK, kind, byte, 1) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The length that means "all bytes from the first one on" (fcntl(2)).
const TO_THE_END: i64 = 0;

/// Calls `fcntl` and returns the lock type that it left in the structure.
fn command(fd: BorrowedFd<'_>, command: i32, kind: i32, byte: u64, len: i64) -> io::Result<i32> {
    let start = i64::try_from(byte).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: len,
        l_pid: 0, // the kernel refuses OFD commands with anything else
    };
    loop {
        // SAFETY: the three commands used here read and write one `struct flock`: `lock`, which is
        // alive for the call.
        let done = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) };
        if done != -1 {
            return Ok(i32::from(lock.l_type));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
    use std::os::fd::AsFd;

    #[test]
    fn descriptions_conflict_even_in_one_process() {
        let one = memfd_create("lock", MemfdFlags::CLOEXEC).unwrap();
        let path = format!("/proc/self/fd/{}", one.as_raw_fd());
        let two = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();

        assert!(try_lock(one.as_fd(), 5).unwrap());
        assert!(try_lock(one.as_fd(), 5).unwrap(), "a description never conflicts with itself");
        assert!(!try_lock(two.as_fd(), 5).unwrap());
        assert!(try_lock(two.as_fd(), 6).unwrap(), "bytes are independent");
        assert!(is_locked(two.as_fd(), 5).unwrap());
        assert!(is_any_locked(one.as_fd()).unwrap());
        assert!(!is_locked(one.as_fd(), 5).unwrap(), "a description's own lock does not count");
        assert!(try_lock_shared(one.as_fd(), 7).unwrap() && try_lock_shared(two.as_fd(), 7).unwrap());
        assert!(!try_lock(two.as_fd(), 7).unwrap(), "a read lock excludes a write lock");
        unlock(one.as_fd(), 7).unwrap();
        assert!(try_lock(two.as_fd(), 7).unwrap() && !try_lock_shared(one.as_fd(), 7).unwrap());
        drop(one);
        // Closing the last descriptor releases. A child that another test is starting has a copy
        // of it until its `execve`.
        while is_locked(two.as_fd(), 5).unwrap() {
            std::thread::yield_now();
        }
        assert!(try_lock(two.as_fd(), 5).unwrap());
        unlock(two.as_fd(), 5).unwrap();
    }
}
