//! Whether a file, a queue or a peer belongs to the user of this process, or to one of its groups.
//!
//! Used by `segment/` and the transports to decide whom they trust.
//!
//! In a user namespace (containers of a user without root, `userns-remap`), every uid that the
//! namespace does not map looks the same: 65534, the overflow uid. A process that is uid 65534 in
//! such a namespace cannot tell by the number whether a file is its own, so the kernel is asked.

use std::os::fd::BorrowedFd;

use rustix::fs::{OFlags, Stat, fcntl_getfl, fcntl_setfl};
use rustix::process::{getegid, geteuid, getgroups};

/// What unmapped uids and gids look like, unless a sysctl changes it (user_namespaces(7)).
const OVERFLOW: u32 = 65534;
/// The map of the first user namespace, which maps all ids.
const ALL: [&str; 3] = ["0", "0", "4294967295"];

/// Whether the open file belongs to this user. No system call, unless our uid is the overflow uid.
pub(crate) fn owns(fd: BorrowedFd<'_>, stat: &Stat) -> bool {
    stat.st_uid == geteuid().as_raw() && (is_certain(stat.st_uid) || is_own(fd))
}

/// Whether the open file belongs to this user, or else to a trusted group of which this process is a
/// member.
pub(crate) fn is_trusted(fd: BorrowedFd<'_>, stat: &Stat, trust_group: bool) -> bool {
    owns(fd, stat) || (trust_group && is_in(stat.st_gid))
}

/// Whether `uid` is this user: of a peer, or of a file that is not open. False if it may as well be
/// a user that this namespace does not map.
#[cfg_attr(not(feature = "transports"), allow(dead_code, reason = "only transports have peers"))]
pub(crate) fn is_us(uid: u32) -> bool {
    uid == geteuid().as_raw() && is_certain(uid)
}

/// Whether this number stands for one user.
pub(crate) fn is_certain(uid: u32) -> bool {
    !is_ambiguous(uid, "uid_map")
}

/// Whether this process is a member of the group. One system call.
pub(crate) fn is_in(gid: u32) -> bool {
    let is_member =
        gid == getegid().as_raw() || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid));
    is_member && !is_ambiguous(gid, "gid_map")
}

/// Whether this number stands for several users or groups here, as far as can be told.
fn is_ambiguous(id: u32, map: &str) -> bool {
    if id != OVERFLOW {
        return false;
    }
    let map = std::fs::read_to_string(format!("/proc/self/{map}")).unwrap_or_default();
    !map.split_ascii_whitespace().eq(ALL)
}

/// Whether the kernel takes us for the owner: only an owner, or one who may act as one, may set
/// `O_NOATIME` (open(2)). It compares users, not the numbers that they have in this namespace.
fn is_own(fd: BorrowedFd<'_>) -> bool {
    let flags = fcntl_getfl(fd).unwrap_or(OFlags::empty());
    fcntl_setfl(fd, flags | OFlags::NOATIME).is_ok()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use rustix::fs::{Mode, fstat, open};
    use std::os::fd::AsFd;

    #[test]
    fn the_kernel_tells_an_owner_from_others() {
        let ours = rustix::fs::memfd_create("owner", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(owns(ours.as_fd(), &fstat(&ours).unwrap()) && is_own(ours.as_fd()));
        assert!(is_us(geteuid().as_raw()) && is_in(getegid().as_raw()));
        assert!(!is_us(geteuid().as_raw() + 1));
        if !geteuid().is_root() {
            let roots = open("/proc/version", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            assert!(!is_own(roots.as_fd()));
        }
    }
}
