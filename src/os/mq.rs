//! POSIX message queues (mq_overview(7)), which on Linux are file descriptors: `poll`, `fstat` and
//! OFD locks work on them.
//!
//! Used by `transport/mq/`. rustix has no message queues, hence libc. Every queue is opened
//! nonblocking; callers may change that.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The limits of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Messages that it can hold.
    pub(crate) messages: usize,
    /// Bytes of the largest message.
    pub(crate) message_size: usize,
}

/// Opens the queue for sending and receiving. With `create` it must not exist yet, and gets mode
/// 0600. One system call.
pub(crate) fn open(name: &CStr, create: Option<Attributes>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let opened = match create {
        // SAFETY: `name` is a string that ends in NUL; without O_CREAT no further argument is read.
        None => unsafe { libc::mq_open(name.as_ptr(), flags) },
        Some(Attributes { messages, message_size }) => {
            let long = |value: usize| libc::c_long::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
            let mut attributes = raw_attributes();
            attributes.mq_maxmsg = long(messages)?;
            attributes.mq_msgsize = long(message_size)?;
            let (flags, mode): (_, libc::mode_t) = (flags | libc::O_CREAT | libc::O_EXCL, 0o600);
            // SAFETY: with O_CREAT a mode and a pointer to a `struct mq_attr` follow; `attributes`
            // lives through the call.
            unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const attributes) }
        }
    };
    if opened == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a message queue descriptor is a file descriptor on Linux (mq_overview(7)); this one
    // is new and owned by this call.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// Unlinks the name; open queues keep working. One system call.
pub(crate) fn unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a string that ends in NUL.
    done(unsafe { libc::mq_unlink(name.as_ptr()) } as isize).map(drop)
}

/// The limits that the queue was created with. One system call.
pub(crate) fn attributes(queue: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = raw_attributes();
    // SAFETY: `attributes` is written, and lives through the call.
    done(unsafe { libc::mq_getattr(queue.as_raw_fd(), &raw mut attributes) } as isize)?;
    let size = |value: libc::c_long| usize::try_from(value).unwrap_or(0);
    Ok(Attributes { messages: size(attributes.mq_maxmsg), message_size: size(attributes.mq_msgsize) })
}

/// Sends one message; `WouldBlock` if the queue is full. One system call.
pub(crate) fn send(queue: BorrowedFd<'_>, message: &[u8], priority: u32) -> io::Result<()> {
    // SAFETY: `message.len()` bytes are read from `message`.
    let sent = unsafe { libc::mq_send(queue.as_raw_fd(), message.as_ptr().cast(), message.len(), priority) };
    done(sent as isize).map(drop)
}

/// Receives the oldest message of the highest priority; `WouldBlock` if there is none. `buffer`
/// must have room for the queue's largest message. One system call.
#[cfg(feature = "probe")]
pub(crate) fn receive(queue: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: at most `buffer.len()` bytes are written to `buffer`; the priority is not asked for.
    let received =
        unsafe { libc::mq_receive(queue.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), std::ptr::null_mut()) };
    done(received)
}

/// As [`receive`], on a queue that is not nonblocking: waits at most `patience` for a message
/// (`TimedOut`). The call measures by `CLOCK_REALTIME`: if that clock is set back meanwhile, the
/// wait takes that much longer. One system call.
pub(crate) fn receive_within(queue: BorrowedFd<'_>, buffer: &mut [u8], patience: Duration) -> io::Result<usize> {
    let (room, now) = (buffer.len(), clock_gettime(ClockId::Realtime));
    let nanoseconds = now.tv_nsec + i64::from(patience.subsec_nanos());
    let seconds = now.tv_sec.saturating_add(i64::try_from(patience.as_secs()).unwrap_or(i64::MAX));
    let until = libc::timespec {
        tv_sec: seconds.saturating_add(nanoseconds / 1_000_000_000),
        tv_nsec: nanoseconds % 1_000_000_000,
    };
    let (fd, to) = (queue.as_raw_fd(), buffer.as_mut_ptr().cast());
    // SAFETY: at most `room` bytes are written to `buffer`, which has them; `until` is read; the
    // priority is not asked for.
    done(unsafe { libc::mq_timedreceive(fd, to, room, std::ptr::null_mut(), &raw const until) })
}

fn raw_attributes() -> libc::mq_attr {
    // SAFETY: a structure of integers, for which all zeros is a valid value. (It has padding that
    // cannot be named.)
    unsafe { std::mem::zeroed() }
}

fn done(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
