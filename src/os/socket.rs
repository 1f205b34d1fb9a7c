//! Socket calls that rustix lacks.
//!
//! Used by `transport/udp.rs`, and by `transport/stream/` for TCP.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

/// Makes the socket keep the errors that its datagrams caused, with the address of each
/// (`IP_RECVERR`, ip(7)). One system call.
pub(crate) fn keep_errors(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let (level, option) =
        if is_v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) } else { (libc::IPPROTO_IP, libc::IP_RECVERR) };
    let on: c_int = 1;
    // SAFETY: reads one `int` from `on`, of the size that is passed.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many sent bytes the peer has not acknowledged yet (`SIOCOUTQ`, tcp(7)). One system call.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one `int` through the pointer, and `bytes` is
    // one.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if asked == 0 { Ok(usize::try_from(bytes).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}
