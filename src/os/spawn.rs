//! Descriptors across `exec`: handing them to a child that is another program, and taking them over there.
//!
//! Used by `transport/pipe.rs`. The numbers travel in an environment variable, together with the parent's pid, and with the
//! device and inode of what each descriptor leads to: the variable alone proves nothing. It may have come to a grandchild,
//! outlived an exec in place, or been set by a parent that passed nothing, while the number is another one's by now.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::fstat;
use rustix::io::{FdFlags, fcntl_setfd};

const VARIABLE: &str = "SLIPRING_INHERIT";

/// Lets the child of `command` have `fds`, under their numbers. They are the command's from then on, and close with it.
///
/// # Errors
/// What fstat(2) says.
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
    // SAFETY: runs in the child between fork and exec, where only async-signal-safe work is allowed: fcntl(2) is, and the
    // closure allocates nothing and takes no lock. The descriptors are open there, because the closure owns them.
    unsafe { command.pre_exec(keep_open) };
    Ok(())
}

/// What the parent handed over, once.
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

/// What a descriptor leads to.
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

/// What the variable says of one descriptor.
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

    /// Whether the number is that of the descriptor that was passed: it leads where the parent said, and it survives exec, as
    /// what was passed must, and what a Rust program opens itself does not.
    fn is_there(&self) -> bool {
        // SAFETY: fcntl(2) with F_GETFD takes and returns numbers only; one that is no descriptor gives EBADF.
        let flags = unsafe { libc::fcntl(self.number, libc::F_GETFD) };
        if flags == -1 || flags & libc::FD_CLOEXEC != 0 {
            return false;
        }
        // SAFETY: it is open, as the call has just shown, and borrowed for one fstat(2), which changes nothing.
        let fd = unsafe { BorrowedFd::borrow_raw(self.number) };
        Identity::of(fd).is_ok_and(|identity| identity == self.identity)
    }

    fn adopt(&self) -> Option<OwnedFd> {
        // SAFETY: fcntl(2) with F_SETFD takes and returns numbers only; one that is no descriptor gives EBADF.
        if unsafe { libc::fcntl(self.number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return None;
        }
        // SAFETY: open, as the call has just shown, and nobody else's: it leads to the very pipe that our parent made for us and left
        // open under this number when we were executed (`is_there`), and whoever takes it over comes through `take_over`, once.
        Some(unsafe { OwnedFd::from_raw_fd(self.number) })
    }
}

/// A descriptor of our own beside one of which only the number is known, as `/dev/fd/N` gives; that one stays open. For numbers
/// that the user wrote down: what is behind them is the user's choice.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes and returns numbers only; one that is no descriptor gives EBADF.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
