//! Floor 1: waiting. Eventcounts, semaphores, mutex, event, idle strategies, deadlines, the blocking
//! loop.
//!
//! Used by the rings, the semaphores, the mutex, the event, and the transports. Relies on `sync.rs`,
//! `memory/area.rs` and `os/`. The files that are compiled for loom, too, are model-checked
//! (`loom-tests`); the other files need a clock.

pub(crate) mod barrier;
pub(crate) mod count;
pub(crate) mod event;
pub(crate) mod eventcount;
pub(crate) mod mutex;
pub(crate) mod semaphore;
pub(crate) mod several;

#[cfg(not(slipring_loom))]
pub(crate) mod block;
#[cfg(not(slipring_loom))]
pub(crate) mod cancel;
#[cfg(not(slipring_loom))]
pub(crate) mod deadline;
#[cfg(not(slipring_loom))]
pub(crate) mod idle;
