//! Whether this process is a forked child of the one that opened a handle.
//!
//! The library's own calls find that out; this is for frames that a batch has read before the fork,
//! and for grants that were open: in the child they are the parent's. Relies on `pthread_atfork`.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use slipring::{Error, Result};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that something belongs to.
#[derive(Clone, Copy)]
pub struct Home(u32);

impl Home {
    /// This process.
    pub fn here() -> Self {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| {
            // SAFETY: the handler adds to an atomic, which may be done after a fork. It fails only
            // for lack of memory; then forks are not noticed here.
            unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        });
        Home(FORKS.load(Relaxed))
    }

    /// An error in a child that was forked later.
    pub fn check(self) -> Result<()> {
        if self.0 == FORKS.load(Relaxed) { Ok(()) } else { Err(Error::Forked) }
    }
}

unsafe extern "C" fn forked() {
    FORKS.fetch_add(1, Relaxed);
}
