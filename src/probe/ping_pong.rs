//! [`PingPong`]: the round trip of one cache line to another processor and back.
//!
//! Awake, it is the least time of an exchange through shared memory; asleep, the least time between
//! two processes that sleep. Relies on `os/futex.rs` for the latter.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::param::page_size;

use super::{PATIENCE_NS, await_that, is_sealed, map, sealed};
use crate::error::{Error, Result};
use crate::memory::{Area, LINE};
use crate::os::clock::monotonic_ns;
use crate::os::futex;
use crate::sync::{AtomicU32, Ordering};

/// Longest sleep of one call, because a dead peer does not wake it.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Where the second line of a page begins: the cache line after the first, as in a frame that lies
/// across two lines.
const SECOND: usize = 64;

/// A cache line in each direction that two processes exchange: the floor of an exchange through
/// shared memory.
///
/// One process creates it and passes [`PingPong::as_fd`] to the other, which attaches with
/// [`PingPong::from_fd`]. Then one calls [`PingPong::ping`], the other [`PingPong::pong`] with the
/// same number of rounds. Both spin meanwhile: without a processor for each, the result is that of
/// the scheduler.
///
/// [`PingPong::two_lines`] makes a message two lines long, [`PingPong::without_pause`] polls
/// without `PAUSE`.
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
    /// A page for each line, so that only the line itself is shared; the word is at its start.
    ping: Area,
    pong: Area,
    memfd: OwnedFd,
    lines: Lines,
    pause: bool,
}

/// The contents of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    Two,
}

impl std::fmt::Debug for PingPong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PingPong").field("memfd", &self.memfd).finish_non_exhaustive()
    }
}

impl PingPong {
    /// Creates the two lines, in a new sealed memfd. Some system calls.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new() -> Result<Self> {
        Self::over(sealed(size())?)
    }

    /// Attaches to the lines that a peer created and passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is no memfd of the right size that is sealed against shrinking;
    /// [`Error::Io`].
    pub fn from_fd(memfd: OwnedFd) -> Result<Self> {
        if is_sealed(&memfd, size()) {
            Self::over(memfd)
        } else {
            Err(Error::Untrusted { what: "not the memfd of a ping-pong" })
        }
    }

    fn over(memfd: OwnedFd) -> Result<Self> {
        let memory = map(&memfd, page_size(), page_size())?;
        Ok(PingPong { ping: memory.control, pong: memory.data, memfd, lines: Lines::One, pause: true })
    }

    /// The memfd, to be passed to the other process.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Makes each message two cache lines long. Both sides must agree.
    ///
    /// ```
    /// use slipring::probe::PingPong;
    /// let here = PingPong::new()?.two_lines();
    /// let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap())?.two_lines();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(move || there.pong(10).unwrap());
    ///     here.ping(10, |nanoseconds| assert!(nanoseconds > 0))
    /// })?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn two_lines(mut self) -> Self {
        self.lines = Lines::Two;
        self
    }

    /// Polls without `PAUSE`, as often as possible.
    ///
    /// ```
    /// use slipring::probe::PingPong;
    /// let here = PingPong::new()?.without_pause();
    /// let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap())?.without_pause();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(move || there.pong(10).unwrap());
    ///     here.ping(10, |nanoseconds| assert!(nanoseconds > 0))
    /// })?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn without_pause(mut self) -> Self {
        self.pause = false;
        self
    }

    /// Sends `rounds` times and waits for each answer. `observe` gets the nanoseconds of each round
    /// trip, which include one reading of the clock. Blocking (spins); no system calls.
    ///
    /// # Errors
    /// [`Error::Timeout`] if an answer does not come within ten seconds.
    pub fn ping(&self, rounds: u64, mut observe: impl FnMut(u64)) -> Result<()> {
        for round in 1..=rounds {
            let start = monotonic_ns();
            self.serve(&self.ping, round);
            self.receive(&self.pong, round)?;
            observe(monotonic_ns() - start);
        }
        self.reset()
    }

    /// Answers `rounds` times. Blocking (spins); no system calls.
    ///
    /// # Errors
    /// As [`PingPong::ping`].
    pub fn pong(&self, rounds: u64) -> Result<()> {
        for round in 1..=rounds {
            self.receive(&self.ping, round)?;
            self.serve(&self.pong, round);
        }
        self.receive(&self.ping, 0)?;
        self.serve(&self.pong, 0);
        Ok(())
    }

    #[inline]
    fn serve(&self, page: &Area, round: u64) {
        if self.lines == Lines::Two {
            page.word(SECOND).store(round, Ordering::Relaxed);
        }
        // SYNC(ball): pairs with the load in `receive`.
        page.word(0).store(round, Ordering::Release);
    }

    /// Spins until the message of `round` is there, and reads all of it.
    #[inline]
    fn receive(&self, page: &Area, round: u64) -> Result<()> {
        // SYNC(ball): pairs with the store in `serve`.
        await_that(self.pause, || page.word(0).load(Ordering::Acquire) == round)?;
        if self.lines == Lines::Two && page.word(SECOND).load(Ordering::Relaxed) != round {
            return Err(Error::Corrupt { what: "the second line of a ping-pong" });
        }
        Ok(())
    }

    /// Resets both words to 0, for the next measurement.
    fn reset(&self) -> Result<()> {
        self.serve(&self.ping, 0);
        self.receive(&self.pong, 0)
    }

    /// [`PingPong::ping`] between two sides that sleep while they wait: each sends with one
    /// `FUTEX_WAKE` and waits with one `FUTEX_WAIT`, without polling before it. The peer calls
    /// [`PingPong::pong_asleep`].
    ///
    /// # Errors
    /// As [`PingPong::ping`].
    ///
    /// ```
    /// use slipring::probe::PingPong;
    /// let here = PingPong::new()?;
    /// let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap())?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(move || there.pong_asleep(10).unwrap());
    ///     here.ping_asleep(10, |nanoseconds| assert!(nanoseconds > 0))
    /// })?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn ping_asleep(&self, rounds: u32, mut observe: impl FnMut(u64)) -> Result<()> {
        let (ping, pong) = (self.ping.half(LINE), self.pong.half(LINE));
        for round in 1..=rounds {
            let start = monotonic_ns();
            wake_with(ping, round);
            sleep_until(pong, round)?;
            observe(monotonic_ns() - start);
        }
        wake_with(ping, 0);
        sleep_until(pong, 0)
    }

    /// Answers `rounds` times, and sleeps in between.
    ///
    /// # Errors
    /// As [`PingPong::ping`].
    pub fn pong_asleep(&self, rounds: u32) -> Result<()> {
        let (ping, pong) = (self.ping.half(LINE), self.pong.half(LINE));
        for round in 1..=rounds {
            sleep_until(ping, round)?;
            wake_with(pong, round);
        }
        sleep_until(ping, 0)?;
        wake_with(pong, 0);
        Ok(())
    }
}

fn size() -> usize {
    2 * page_size()
}

fn wake_with(word: &AtomicU32, value: u32) {
    // SYNC(wake): pairs with the load in `sleep_until`.
    word.store(value, Ordering::Release);
    futex::wake(word, 1);
}

/// Sleeps until `word` is `value`. The kernel compares before it lets the thread sleep, so no
/// wake-up is missed.
fn sleep_until(word: &AtomicU32, value: u32) -> Result<()> {
    let give_up = monotonic_ns() + PATIENCE_NS;
    loop {
        // SYNC(wake): pairs with the store in `wake_with`.
        let seen = word.load(Ordering::Acquire);
        if seen == value {
            return Ok(());
        }
        if monotonic_ns() > give_up {
            return Err(Error::Timeout);
        }
        futex::wait(word, seen, Some(LONGEST_SLEEP));
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;

    #[test]
    fn one_measurement_follows_another() {
        let here = PingPong::new().unwrap();
        let there = PingPong::from_fd(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..4).try_for_each(|rounds| there.pong(rounds)).unwrap());
            (1..4).try_for_each(|rounds| here.ping(rounds, |_| ())).unwrap();
        });
        std::thread::scope(|scope| {
            scope.spawn(|| (1..4).try_for_each(|rounds| there.pong_asleep(rounds)).unwrap());
            (1..4).try_for_each(|rounds| here.ping_asleep(rounds, |_| ())).unwrap();
        });
    }

    #[test]
    fn strangers_are_refused() {
        let file = memfd_create("stranger", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, size() as u64).unwrap();
        assert!(matches!(PingPong::from_fd(file), Err(Error::Untrusted { .. })), "not sealed");
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(PingPong::from_fd(reader), Err(Error::Untrusted { .. })), "a pipe");
    }
}
