//! Writes remarks to stderr, without a panic when its reader has closed it.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Prints a line on stderr; an error is ignored.
pub(crate) fn remark(text: impl Display) {
    let _ = write_waiting(io::stderr().lock().as_fd(), format!("{text}\n").as_bytes());
}

/// Writes all of `bytes`, even if the descriptor is `O_NONBLOCK`.
pub(crate) fn write_waiting(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            },
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
