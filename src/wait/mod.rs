//! Floor 2: everything that sleeps. Eventcounts, idle strategies, deadlines, the blocking loop.
//!
//! Used by the rings and the transports. Relies on `sync.rs` and `os/`.

pub(crate) mod block;
pub(crate) mod deadline;
pub(crate) mod eventcount;
pub(crate) mod idle;
