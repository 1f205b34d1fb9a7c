//! The number of processors.

use std::sync::OnceLock;

/// The number of processors online at first use. With 1, spinning only delays the peer.
///
/// This is not the number in the affinity mask. A thread that is pinned to its own core is the one
/// that should spin, and its mask does not say where the peer runs.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        // SAFETY: takes a constant and returns a number.
        let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
        usize::try_from(online).unwrap_or(1)
    })
}
