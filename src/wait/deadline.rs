//! Deadlines: absolute points of `CLOCK_MONOTONIC`.
//!
//! Used by every blocking call and by `block.rs`. Relies on `os/clock.rs`.

use std::time::{Duration, Instant};

use crate::os::clock::monotonic_ns;

/// How long a blocking call may wait: a point of `CLOCK_MONOTONIC`, in nanoseconds.
///
/// It is absolute, so a call that retries, or a sequence of calls, does not wait longer than
/// intended. Blocking calls take `impl Into<Deadline>`: pass a [`Duration`] (from now), an
/// [`Instant`], or [`Deadline::never`].
///
/// ```
/// use slipring::Deadline;
/// use std::time::{Duration, Instant};
///
/// let both = Deadline::after(Duration::from_millis(250)); // one deadline for two receives
/// assert!(!both.has_passed());
/// assert!(both.remaining() <= Duration::from_millis(250));
///
/// assert!(Deadline::from(Duration::ZERO).has_passed()); // tries once, never waits
/// assert!(Deadline::from(Instant::now()) < both);
/// assert!(both < Deadline::never());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(u64);

impl Deadline {
    /// No deadline: wait without a time limit.
    ///
    /// ```
    /// assert!(!slipring::Deadline::never().has_passed());
    /// ```
    #[must_use]
    pub const fn never() -> Self {
        Deadline(u64::MAX)
    }

    /// `delay` from now; [`Deadline::never`] if that is more than 584 years.
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert!(slipring::Deadline::after(Duration::from_secs(1)).remaining() > Duration::ZERO);
    /// ```
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        let ns = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        Deadline(monotonic_ns().saturating_add(ns))
    }

    /// The same moment as `instant`; one in the past has passed already.
    ///
    /// ```
    /// # use std::time::{Duration, Instant};
    /// let deadline = slipring::Deadline::at(Instant::now() + Duration::from_secs(1));
    /// assert!(!deadline.has_passed());
    /// ```
    #[must_use]
    pub fn at(instant: Instant) -> Self {
        Deadline::after(instant.saturating_duration_since(Instant::now()))
    }

    /// The time left; zero once it has passed, [`Duration::MAX`] for [`Deadline::never`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert_eq!(slipring::Deadline::after(Duration::ZERO).remaining(), Duration::ZERO);
    /// ```
    #[must_use]
    pub fn remaining(self) -> Duration {
        if self == Deadline::never() {
            return Duration::MAX;
        }
        Duration::from_nanos(self.0.saturating_sub(monotonic_ns()))
    }

    /// Whether it is in the past. Reads the clock (vDSO, no system call), unless it is
    /// [`Deadline::never`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// assert!(slipring::Deadline::after(Duration::ZERO).has_passed());
    /// ```
    #[must_use]
    pub fn has_passed(self) -> bool {
        self != Deadline::never() && self.is_behind(monotonic_ns())
    }

    /// The point of `CLOCK_MONOTONIC`, in nanoseconds; `u64::MAX` means never.
    pub(crate) const fn as_ns(self) -> u64 {
        self.0
    }

    /// The opposite of [`Deadline::as_ns`].
    pub(crate) const fn from_ns(ns: u64) -> Self {
        Deadline(ns)
    }

    /// Whether it is before a reading of the clock.
    #[inline]
    pub(crate) fn is_behind(self, now_ns: u64) -> bool {
        self.0 <= now_ns
    }
}

impl From<Duration> for Deadline {
    /// The moment that long from now.
    fn from(delay: Duration) -> Self {
        Deadline::after(delay)
    }
}

impl From<Instant> for Deadline {
    fn from(instant: Instant) -> Self {
        Deadline::at(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_too_long_for_the_clock_mean_never() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::never());
        assert_eq!(Deadline::never().remaining(), Duration::MAX);
    }

    #[test]
    fn an_instant_in_the_past_has_passed() {
        let past = Instant::now();
        assert!(Deadline::at(past).has_passed());
        assert_eq!(Deadline::at(past).remaining(), Duration::ZERO);
    }

    #[test]
    fn later_deadlines_compare_greater() {
        let near = Deadline::after(Duration::from_secs(1));
        let far = Deadline::at(Instant::now() + Duration::from_secs(60));
        assert!(near < far && far < Deadline::never());
    }
}
