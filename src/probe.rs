//! What this machine can do at best: the yardsticks that a ring is measured with.
//!
//! Used by `slipring demo`, by the benchmarks, and by anybody who wants to know how far from the floor a measured figure
//! is. Relies on `memory/` for a shared mapping; there is no ring in it.
//!
//! - [`PingPong`]: the round trip of one cache line to another processor and back, and nothing else.
//! - [`copy_time`]: how fast one processor copies memory.

#![forbid(unsafe_code)]

use std::hint::black_box;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::param::page_size;

use crate::error::{Error, Result};
use crate::memory::{self, MemoryOptions};
use crate::os::clock::monotonic_ns;
use crate::sync::{Area, AtomicU64, Ordering, spin_loop};

/// Fruitless looks between two readings of the clock.
const LOOKS_PER_READING: u32 = 4096;
/// A peer that has not answered for so long never will.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Two cache lines that two processes play ping-pong with: what any exchange through shared memory takes at least.
///
/// One process makes it and passes [`PingPong::as_fd`] to the other, which attaches with [`PingPong::from_fd`]. Then one
/// calls [`PingPong::ping`], the other [`PingPong::pong`] with the same number of rounds. Both are busy meanwhile: without
/// a processor for each, what is measured is the scheduler.
///
/// ```
/// use slipring::probe::PingPong;
/// let here = PingPong::new()?;
/// let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap())?;
/// std::thread::scope(|scope| {
///     scope.spawn(move || there.pong(10).unwrap());
///     let mut round_trips = 0;
///     here.ping(10, |_nanoseconds| round_trips += 1)?;
///     assert_eq!(round_trips, 10);
///     Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct PingPong {
    /// A page each, so that nothing but the line itself is shared; the word is at its start.
    ping: Area,
    pong: Area,
    memfd: OwnedFd,
}

impl std::fmt::Debug for PingPong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PingPong").field("memfd", &self.memfd).finish_non_exhaustive()
    }
}

impl PingPong {
    /// Makes the two lines, in a sealed memfd of their own. Some system calls.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new() -> Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create("slipring-probe", flags).map_err(|e| Error::io("create a memfd", e))?;
        ftruncate(&memfd, size()).map_err(|e| Error::io("size the memfd", e))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&memfd, seals).map_err(|e| Error::io("seal the memfd", e))?;
        Self::over(memfd)
    }

    /// Attaches to the lines that a peer made and passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is no memfd of the right size that is sealed against shrinking; [`Error::Io`].
    pub fn from_fd(memfd: OwnedFd) -> Result<Self> {
        match (fcntl_get_seals(&memfd), fstat(&memfd)) {
            (Ok(seals), Ok(stat)) if seals.contains(SealFlags::SHRINK) && u64::try_from(stat.st_size) == Ok(size()) => {
                Self::over(memfd)
            }
            _ => Err(Error::Untrusted { what: "not the memfd of a ping-pong" }),
        }
    }

    fn over(memfd: OwnedFd) -> Result<Self> {
        let options = MemoryOptions { prefault: true, best_effort: true, ..MemoryOptions::default() };
        let page = page_size();
        let memory = memory::map(memfd.as_fd(), page, page, page, false, &options)?;
        Ok(PingPong { ping: memory.control, pong: memory.data, memfd })
    }

    /// The memfd, to be passed to the other process.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Serves `rounds` times and waits for each answer. `observe` gets the nanoseconds of each round trip, which contain one
    /// reading of the clock. Blocking (busy); no system calls.
    ///
    /// # Errors
    /// [`Error::Timeout`] if an answer has not come after ten seconds.
    pub fn ping(&self, rounds: u64, mut observe: impl FnMut(u64)) -> Result<()> {
        for round in 1..=rounds {
            let start = monotonic_ns();
            // SYNC(ping): pairs with `await_value` in `pong`.
            self.ping.word(0).store(round, Ordering::Release);
            await_value(self.pong.word(0), round)?;
            observe(monotonic_ns() - start);
        }
        self.reset()
    }

    /// Answers `rounds` times. Blocking (busy); no system calls.
    ///
    /// # Errors
    /// As [`PingPong::ping`].
    pub fn pong(&self, rounds: u64) -> Result<()> {
        for round in 1..=rounds {
            await_value(self.ping.word(0), round)?;
            // SYNC(pong): pairs with `await_value` in `ping`.
            self.pong.word(0).store(round, Ordering::Release);
        }
        await_value(self.ping.word(0), 0)?;
        self.pong.word(0).store(0, Ordering::Release);
        Ok(())
    }

    /// Both words back to 0, so that another game can follow.
    fn reset(&self) -> Result<()> {
        self.ping.word(0).store(0, Ordering::Release);
        await_value(self.pong.word(0), 0)
    }
}

fn size() -> u64 {
    2 * page_size() as u64
}

/// Busy until `word` is `value`, whose writer stored it with release.
#[inline]
fn await_value(word: &AtomicU64, value: u64) -> Result<()> {
    let mut looks = 0u32;
    let mut give_up = None;
    // SYNC(ping), SYNC(pong): pairs with the stores in `ping`, `pong` and `reset`.
    while word.load(Ordering::Acquire) != value {
        spin_loop();
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

/// The median time to copy `len` bytes from one place in memory to another, out of nine copies, on this processor: no
/// transfer of that much data by copying can take less. Allocates twice `len`.
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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn one_game_follows_another() {
        let here = PingPong::new().unwrap();
        let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..4).try_for_each(|rounds| there.pong(rounds)).unwrap());
            (1..4).try_for_each(|rounds| here.ping(rounds, |_| ())).unwrap();
        });
    }

    #[test]
    fn strangers_are_refused() {
        let file = memfd_create("stranger", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, size()).unwrap();
        assert!(matches!(PingPong::from_fd(file), Err(Error::Untrusted { .. })), "not sealed");
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(PingPong::from_fd(reader), Err(Error::Untrusted { .. })), "a pipe");
    }
}
