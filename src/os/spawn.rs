//! Descriptors across `exec`: the parent passes them, and the child adopts them.
//!
//! Used by `transport/pipe.rs`. An environment variable carries the descriptor numbers, the
//! parent's pid, and the device and inode of each descriptor. The numbers alone are not enough,
//! because a number may belong to another file by then: a grandchild may have inherited the
//! variable, the process may have called `exec` itself, or a parent that passed no descriptors may
//! have set the variable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};

const VARIABLE: &str = "SLIPRING_INHERIT";

/// Passes `fds` to the child of `command`, under their numbers. The command owns them from then on
/// and closes them when dropped.
///
/// # Errors
/// The error of fstat(2).
pub(crate) fn hand_over(command: &mut Command, fds: Vec<OwnedFd>) -> io::Result<()> {
    let mut passed = Vec::new();
    for fd in &fds {
        let Identity { device, inode } = Identity::of(fd.as_fd())?;
        passed.push(format!("{}:{device}:{inode}", fd.as_raw_fd()));
    }
    command.env(VARIABLE, format!("{}:{}", std::process::id(), passed.join(",")));
    let keep_open = move || -> io::Result<()> {
        for fd in &fds {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: runs in the child between fork and exec, where only async-signal-safe work is
    // allowed: fcntl(2) is, and the closure allocates nothing and takes no lock. The descriptors
    // are open there, because the closure owns them.
    unsafe { command.pre_exec(keep_open) };
    Ok(())
}

/// Adopts the descriptors that the parent passed; `None` on every later call.
pub(crate) fn take_over() -> Option<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let value = std::env::var(VARIABLE).ok()?;
    let (parent, passed) = value.split_once(':')?;
    if parent.parse() != Ok(parent_id()) {
        return None;
    }
    let passed = passed.split(',').map(Passed::parse).collect::<Option<Vec<_>>>()?;
    let distinct =
        passed.iter().enumerate().all(|(at, one)| passed[..at].iter().all(|other| other.number != one.number));
    if !distinct || !passed.iter().all(Passed::is_there) || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    passed.iter().map(Passed::adopt).collect()
}

/// The file behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let stat = fstat(fd)?;
        Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// What the variable records for one descriptor.
#[derive(Clone, Copy, Debug)]
struct Passed {
    number: RawFd,
    identity: Identity,
}

impl Passed {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let number = parts.next()?.parse().ok().filter(|number| *number > 2)?;
        let identity = Identity { device: parts.next()?.parse().ok()?, inode: parts.next()?.parse().ok()? };
        parts.next().is_none().then_some(Passed { number, identity })
    }

    /// Whether the number still is the descriptor that was passed: it leads to the recorded file,
    /// which is a pipe, and survives exec. A passed descriptor must survive exec; one that a Rust
    /// program opens itself does not.
    fn is_there(&self) -> bool {
        // SAFETY: fcntl(2) with F_GETFD takes and returns numbers only; one that is no descriptor
        // gives EBADF.
        let flags = unsafe { libc::fcntl(self.number, libc::F_GETFD) };
        if flags == -1 || flags & libc::FD_CLOEXEC != 0 {
            return false;
        }
        // SAFETY: it is open, as the call has just shown, and borrowed for one fstat(2), which
        // changes nothing.
        let fd = unsafe { BorrowedFd::borrow_raw(self.number) };
        let is_pipe = fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        is_pipe && Identity::of(fd).is_ok_and(|identity| identity == self.identity)
    }

    fn adopt(&self) -> Option<OwnedFd> {
        // SAFETY: fcntl(2) with F_SETFD takes and returns numbers only; one that is no descriptor
        // gives EBADF.
        if unsafe { libc::fcntl(self.number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return None;
        }
        // SAFETY: open, as the call has just shown, and not owned elsewhere: it leads to the very
        // pipe that our parent made for us and left open under this number when we were executed
        // (`is_there`). It is taken over only through `take_over`, once.
        Some(unsafe { OwnedFd::from_raw_fd(self.number) })
    }
}

/// Duplicates a descriptor of which only the number is known, as `/dev/fd/N` gives; the original
/// stays open. For numbers that the user wrote: what is behind them is the user's choice.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes and returns numbers only; one that is no
    // descriptor gives EBADF.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created it for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
