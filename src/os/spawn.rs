//! Descriptors across `exec`: handing them to a child that is another program, and taking them over there.
//!
//! Used by `transport/pipe.rs`. The numbers travel in an environment variable, together with the parent's pid: a grandchild
//! that inherits the variable is not meant, and whoever sets the environment of a process could do worse.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, parent_id};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

const VARIABLE: &str = "SLIPRING_INHERIT";

/// Lets the child of `command` have `fds`, under their numbers. They are the command's from then on, and close with it.
pub(crate) fn hand_over(command: &mut Command, fds: Vec<OwnedFd>) {
    let numbers: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    command.env(VARIABLE, format!("{}:{}", std::process::id(), numbers.join(",")));
    let keep_open = move || -> io::Result<()> {
        for fd in &fds {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: runs in the child between fork and exec, where only async-signal-safe work is allowed: fcntl(2) is, and the
    // closure allocates nothing and takes no lock. The descriptors are open there, because the closure owns them.
    unsafe { command.pre_exec(keep_open) };
}

/// What the parent handed over, once.
pub(crate) fn take_over() -> Option<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let value = std::env::var(VARIABLE).ok()?;
    let (parent, numbers) = value.split_once(':')?;
    if parent.parse() != Ok(parent_id()) {
        return None;
    }
    let numbers =
        numbers.split(',').map(|number| number.parse().ok().filter(|fd| *fd > 2)).collect::<Option<Vec<RawFd>>>()?;
    let distinct = numbers.iter().enumerate().all(|(at, fd)| !numbers[..at].contains(fd));
    if !distinct || TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    numbers.iter().map(|fd| adopt(*fd)).collect()
}

fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl(2) with F_SETFD takes and returns numbers only; one that is no descriptor gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: open, as the call has just shown, and nobody else's: our parent left it open for us under this number when we were
    // executed, so nothing in this program opened it, and whoever takes it over comes through `take_over`, once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor of our own beside one of which only the number is known; that one stays open.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_DUPFD_CLOEXEC takes and returns numbers only; one that is no descriptor gives EBADF.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
