//! How many processors there are.

use std::sync::OnceLock;

/// Processors online at first use; 1 means that spinning can only delay the peer.
///
/// Not the affinity mask: a thread that is pinned to a core of its own is just the one that wants to spin, and its mask says
/// nothing about where the peer runs.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        // SAFETY: takes a constant and returns a number.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        usize::try_from(online).unwrap_or(1)
    })
}
