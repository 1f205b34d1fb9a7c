//! Ground floor: safe wrappers over what the kernel offers, one file per mechanism.
//!
//! Used by every floor above. Each wrapper is the call, its errno handling and nothing else; policy lives upstairs.

pub(crate) mod bytes;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod home;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod mq;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod sysv;
pub(crate) mod thread;
