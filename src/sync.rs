//! Floor 0: atomics, fences and the spin hint, from std in production and from loom under model
//! checking.
//!
//! This is the only file that depends on loom. All other modules take their atomics and fences from
//! here, so `loom-tests` checks the real sources of the algorithms.

#[cfg(not(slipring_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence},
    thread::yield_now,
};

#[cfg(slipring_loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::yield_now,
};

/// loom has no asymmetric fences; the models run the fenced protocol (docs/memory-model.md argues
/// the asymmetric one).
#[cfg(slipring_loom)]
pub(crate) fn compiler_fence(_: Ordering) {}
