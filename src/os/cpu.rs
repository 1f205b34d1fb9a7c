//! How many processors this process may run on.

use std::sync::OnceLock;

/// Processors in this thread's affinity mask at first use; 1 means that spinning can only delay the peer.
pub(crate) fn available() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
