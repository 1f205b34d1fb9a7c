//! Floor 2: a mapped segment, its layout and geometry, its participants and their liveness.
//!
//! Used by `ring/` and `named/` (pages, data, participants), by the transports and the command line
//! (by name). Relies on `memory/` for the bytes, on `os/lock.rs` to notice deaths, and on `wait/`
//! for the barrier that a wake mode stands for.
//!
//! `layout`, `geometry`, `counters` and most of `liveness` are pure algorithms and are
//! model-checked; the others call the operating system.

pub(crate) mod counters;
pub(crate) mod geometry;
pub(crate) mod layout;
pub(crate) mod liveness;
pub(crate) mod message_type;

#[cfg(not(slipring_loom))]
mod create;
#[cfg(not(slipring_loom))]
pub(crate) mod directory;
#[cfg(not(slipring_loom))]
pub(crate) mod header;
#[cfg(not(slipring_loom))]
mod mapping;
#[cfg(not(slipring_loom))]
mod open;
#[cfg(not(slipring_loom))]
mod read_only;
#[cfg(not(slipring_loom))]
mod removal;
#[cfg(not(slipring_loom))]
mod set_bits;
#[cfg(all(test, not(slipring_loom), not(miri)))]
pub(crate) mod tests;

#[cfg(not(slipring_loom))]
pub use {
    counters::Counts,
    geometry::{Kind, Redelivery, WakeMode},
    liveness::inspect::{Held, ParticipantInfo},
    liveness::record::{Role, State},
};
#[cfg(not(slipring_loom))]
pub(crate) use {
    directory::Directory,
    geometry::{Geometry, Settings},
    liveness::inspect::Reaper,
    liveness::lifecycle::Ends,
    liveness::participant::{Participant, Told},
    mapping::{Options, Segment},
    open::wrong_kind,
    read_only::ReadOnly,
    removal::open_and_join,
};
