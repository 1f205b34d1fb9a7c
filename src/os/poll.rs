//! `poll(2)`: waiting for descriptors until a deadline.
//!
//! Used by `transport/`. Signals do not end the wait.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Readable, or the other side has hung up.
    Read,
    /// Writable, or the other side has hung up.
    Write,
}

impl Ready {
    fn flags(self) -> PollFlags {
        match self {
            Ready::Read => PollFlags::IN,
            Ready::Write => PollFlags::OUT,
        }
    }
}

/// Waits until `fd` is ready or in error. False if `timeout` ends first; [`Duration::MAX`] means no
/// limit. One system call, more after signals.
pub(crate) fn wait(fd: BorrowedFd<'_>, ready: Ready, timeout: Duration) -> Result<bool, Errno> {
    wait_for(&mut [PollFd::from_borrowed_fd(fd, ready.flags())], timeout)
}

/// As [`wait`], for the first of several descriptors. Allocates.
pub(crate) fn wait_any<'f>(
    fds: impl Iterator<Item = BorrowedFd<'f>>,
    ready: Ready,
    timeout: Duration,
) -> Result<bool, Errno> {
    let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, ready.flags())).collect();
    wait_for(&mut fds, timeout)
}

fn wait_for(fds: &mut [PollFd<'_>], timeout: Duration) -> Result<bool, Errno> {
    let start = std::time::Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let timeout = (timeout != Duration::MAX).then_some(&left);
        match poll(fds, timeout) {
            Err(Errno::INTR) => {}
            polled => return polled.map(|ready| ready > 0),
        }
    }
}

/// Whether the peer of a socket has closed it, in both directions. One system call.
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
    loop {
        match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        }
    }
}
