//! The number of processors.

use std::sync::OnceLock;

/// Processors online at first use. With 1, spinning can only delay the peer.
///
/// This is not the affinity mask. A thread pinned to a core of its own is the one that wants to
/// spin, and its mask says nothing about where the peer runs.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        // SAFETY: takes a constant and returns a number.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        usize::try_from(online).unwrap_or(1)
    })
}
