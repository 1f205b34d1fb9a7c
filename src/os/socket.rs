//! Socket calls that rustix lacks.
//!
//! Used by `transport/udp.rs`, by `transport/stream/` for TCP, and for the credentials of peers by
//! the transports over Unix sockets. rustix has those as well, but with a pid that is never 0; the
//! kernel gives 0 for a process of a pid namespace that cannot be seen from here.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SocketAddrUnix};

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

/// The process at the other end of a Unix socket (`SO_PEERCRED`, unix(7)); pid 0 if it cannot be
/// seen from this pid namespace. One system call.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: writes at most `len` bytes to `found`, which are its size.
    let got = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut found).cast(), &raw mut len)
    };
    match got {
        0 if len as usize == size_of::<libc::ucred>() => Ok(found),
        0 => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A datagram that [`receive`] has put into a buffer.
pub(crate) struct Received {
    /// Its length; with `MSG_TRUNC` also if it is longer than the buffer.
    pub(crate) len: usize,
    /// The address of its socket.
    pub(crate) source: Option<SocketAddrUnix>,
    /// The user who sent it.
    pub(crate) uid: Option<u32>,
}

/// Receives a datagram from a Unix socket, with its sender's credentials (`SCM_CREDENTIALS`,
/// unix(7)), for which `SO_PASSCRED` must be set. One system call.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> Result<Received, Errno> {
    /// A buffer that is aligned as a `cmsghdr`, with room for one of credentials.
    #[repr(C)]
    union Control {
        _align: libc::cmsghdr,
        bytes: [u8; 64],
    }
    // SAFETY: `CMSG_SPACE` only computes.
    let space = unsafe { libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) } as usize;
    debug_assert!(space <= size_of::<Control>());
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: all zeros are an empty address.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a message without parts. (It has private padding on some targets.)
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = space as _;
    // SAFETY: every pointer in `message` is to a local of at least the length beside it, or to
    // `buffer`, all of which live through the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags.bits() as c_int) };
    let len = usize::try_from(received)
        .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))?;
    let source = address_of(&address, message.msg_namelen as usize);
    // SAFETY: `message` is as the kernel left it, and its control buffer lives.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Ok(Received { len, source, uid: None });
    }
    // SAFETY: not null, so it is a whole header inside `control`, which is aligned for it.
    let libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. } = unsafe { *header };
    // SAFETY: `CMSG_LEN` only computes.
    let needed = u64::from(unsafe { libc::CMSG_LEN(size_of::<libc::ucred>() as u32) });
    if (cmsg_level, cmsg_type) != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) || (cmsg_len as u64) < needed {
        return Ok(Received { len, source, uid: None });
    }
    // SAFETY: `header` is a header, by which the data's place is computed.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: the kernel wrote a `ucred` there, by the type and the length, inside `control`; it may
    // be unaligned.
    let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
    Ok(Received { len, source, uid: Some(credentials.uid) })
}

/// The address of a Unix socket that has one.
fn address_of(address: &libc::sockaddr_un, len: usize) -> Option<SocketAddrUnix> {
    let len = len.checked_sub(offset_of!(libc::sockaddr_un, sun_path))?;
    let name: Vec<u8> = address.sun_path.get(..len)?.iter().map(|byte| *byte as u8).collect();
    match name.split_first()? {
        (0, []) => None,
        (0, name) => SocketAddrUnix::new_abstract_name(name).ok(),
        _ => SocketAddrUnix::new(name.split(|byte| *byte == 0).next()?).ok(),
    }
}
