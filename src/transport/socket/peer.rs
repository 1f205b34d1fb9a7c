//! The process at the other end of a Unix socket, and whether it may communicate with us.
//!
//! Used by the transports over Unix sockets, and by `signal/`, whose senders the kernel identifies,
//! too.

use std::os::fd::AsFd;

use rustix::process::{Uid, geteuid, getuid};

use crate::error::{Error, Result};
use crate::os::owner;
use crate::os::socket::peer_credentials;

/// The process at the other end of a connection, as it was when it connected or began to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its pid; 0 if it is in a pid namespace that cannot be seen from here.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// The process at the other end of a Unix socket (`SO_PEERCRED`, unix(7)). One system call.
///
/// # Errors
/// [`Error::Io`], also if it is not a Unix socket.
///
/// ```
/// use slipring::transport::unix;
/// let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
/// assert_eq!(unix::credentials(&one)?.pid, std::process::id());
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn credentials(socket: impl AsFd) -> Result<Credentials> {
    let libc::ucred { pid, uid, gid } =
        peer_credentials(socket.as_fd()).map_err(|e| Error::io("read the peer's credentials", e))?;
    Ok(Credentials { pid: pid.unsigned_abs(), uid, gid })
}

/// Whether a process of user `uid` may communicate with us: this user, root, and the allowed ones.
pub(in crate::transport) fn is_allowed(uid: u32, uids: &[u32]) -> bool {
    uid == 0 || uids.contains(&uid) || ([geteuid(), getuid()].map(Uid::as_raw).contains(&uid) && owner::is_certain(uid))
}

/// Refuses the peer of a connected socket unless it is allowed.
///
/// # Errors
/// [`Error::Untrusted`]; [`Error::Io`].
pub(super) fn check(socket: impl AsFd, uids: &[u32]) -> Result<()> {
    match is_allowed(credentials(socket)?.uid, uids) {
        true => Ok(()),
        false => Err(Error::Untrusted { what: "the peer is a process of another user: allow its uid" }),
    }
}
