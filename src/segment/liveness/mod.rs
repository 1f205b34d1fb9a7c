//! The participants of a segment, and the proof that one is alive or dead.
//!
//! Used by the rings, semaphores and mutexes. A participant holds a lock on one byte of the
//! segment's file, and the kernel releases it if and only if its process ends. So the lock proves a
//! death; a time-out or a process id does not.
//!
//! - `record`: a participant's role and state, one word
//! - `lifecycle`: joins, closes and deaths as numbers: how a peer's end is noticed, and reported
//!   once
//! - `table`: the algorithm: joining, leaving, reaping the dead
//! - `checks`: when to check, so that many sleepers share one check
//! - `locks`: the locks themselves
//! - `participant`: an attached participant
//! - `inspect`: the participants, for observers
//!
//! `record`, `lifecycle`, `table` and `checks` are model-checked (`loom-tests/src/liveness.rs`).

pub(crate) mod checks;
pub(crate) mod lifecycle;
pub(crate) mod record;
pub(crate) mod table;

#[cfg(not(slipring_loom))]
pub(crate) mod inspect;
#[cfg(not(slipring_loom))]
pub(super) mod locks;
#[cfg(not(slipring_loom))]
pub(crate) mod participant;
