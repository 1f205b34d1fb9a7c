//! The best possible figures of this machine, as a floor for measurements of a ring.
//!
//! `slipring demo` and `slipring bench` compare their figures with these. No ring takes part in
//! them.
//!
//! - [`PingPong`]: the round trip of one cache line to another processor and back; awake or asleep.
//! - [`BulkCopy`]: blocks of memory written on one processor and read on another.
//! - [`copy_time`]: how fast one processor copies memory.
//! - [`MqCalls`], [`SysvCalls`], [`SignalSends`] and [`SignalReceives`]: the bare system calls
//!   under frames over queues and signals.

// Floor 5. Relies on `memory/` for shared mappings and on `os/` for the calls.

#![forbid(unsafe_code)]

mod bulk_copy;
mod calls;
mod ping_pong;

use std::hint::black_box;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use crate::error::{Error, Result};
use crate::memory::{self, Memory, MemoryOptions};
use crate::os::clock::monotonic_ns;
use crate::sync::spin_loop;

pub use bulk_copy::{BulkCopy, Reader, Writer};
pub use calls::{MqCalls, SignalReceives, SignalSends, SysvCalls};
pub use ping_pong::PingPong;

/// Polls without a result between two readings of the clock.
const LOOKS_PER_READING: u32 = 4096;
/// How long to wait for a peer's answer.
const PATIENCE_NS: u64 = 10_000_000_000;

/// A sealed memfd of `len` zeros.
fn sealed(len: usize) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("slipring-probe", flags).map_err(|e| Error::io("create a memfd", e))?;
    ftruncate(&memfd, len as u64).map_err(|e| Error::io("size the memfd", e))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&memfd, seals).map_err(|e| Error::io("seal the memfd", e))?;
    Ok(memfd)
}

/// Whether a peer passed a memfd of `len` bytes that cannot be shrunk.
fn is_sealed(memfd: &OwnedFd, len: usize) -> bool {
    match (fcntl_get_seals(memfd), fstat(memfd)) {
        (Ok(seals), Ok(stat)) => seals.contains(SealFlags::SHRINK) && u64::try_from(stat.st_size) == Ok(len as u64),
        _ => false,
    }
}

/// Maps all of `memfd`, touched once so that no later access faults: the first `control` bytes, and
/// `data` bytes.
fn map(memfd: &OwnedFd, control: usize, data: usize) -> Result<Memory> {
    let options = MemoryOptions { prefault: true, best_effort: true, ..MemoryOptions::default() };
    memory::map(memfd.as_fd(), control, data, rustix::param::page_size(), 0, &options)
}

/// Spins until `ready`, with a `PAUSE` between two polls if `pause` is set.
#[inline]
fn await_that(pause: bool, mut ready: impl FnMut() -> bool) -> Result<()> {
    let mut looks = 0u32;
    let mut give_up = None;
    while !ready() {
        if pause {
            spin_loop();
        }
        looks = looks.wrapping_add(1);
        if looks % LOOKS_PER_READING == 0 {
            let now = monotonic_ns();
            if now > *give_up.get_or_insert(now + PATIENCE_NS) {
                return Err(Error::Timeout);
            }
        }
    }
    Ok(())
}

/// The median time of nine copies of `len` bytes from one place in memory to another, on this
/// processor: the least time that a transfer by copying takes. Allocates twice `len`.
///
/// ```
/// let time = slipring::probe::copy_time(1 << 20);
/// println!("{:.1} GB/s", (1 << 20) as f64 / time.as_secs_f64() / 1e9);
/// ```
#[must_use]
pub fn copy_time(len: usize) -> Duration {
    let from = vec![1u8; len];
    let mut to = vec![0u8; len];
    let mut times: [u64; 9] = std::array::from_fn(|_| {
        let start = monotonic_ns();
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
        monotonic_ns() - start
    });
    times.sort_unstable();
    Duration::from_nanos(times[times.len() / 2])
}
