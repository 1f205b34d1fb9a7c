//! slipring
#![allow(dead_code, unused_imports, reason = "the floors above come later")]
pub mod error;
pub(crate) mod memory;
pub(crate) mod os;
pub(crate) mod segment;
pub(crate) mod sync;
pub(crate) mod wait;

pub use error::{Error, Result};
pub use wait::{
    deadline::Deadline,
    idle::Idle,
    named::{
        mutex::{Locked, Mutex, MutexGuard},
        semaphore::{Permit, Semaphore},
    },
};
