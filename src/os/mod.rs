//! Floor 0: safe wrappers of the kernel's interfaces, one file per mechanism.
//!
//! Used by every floor above. Each wrapper makes the call and handles its errno; the callers decide
//! what to do with the result.

#[cfg(feature = "tokio")]
pub(crate) mod async_fd;
#[cfg(feature = "transports")]
pub(crate) mod bytes;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod explained;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod membarrier;
#[cfg(feature = "transports")]
pub(crate) mod mq;
pub(crate) mod owner;
pub(crate) mod owner_thread;
pub(crate) mod pauses;
#[cfg(feature = "transports")]
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod random;
#[cfg(feature = "transports")]
pub(crate) mod signal;
#[cfg(feature = "transports")]
pub(crate) mod sigpipe;
#[cfg(feature = "transports")]
pub(crate) mod socket;
#[cfg(feature = "transports")]
pub(crate) mod spawn;
#[cfg(feature = "transports")]
pub(crate) mod sysv;
pub(crate) mod thread;
