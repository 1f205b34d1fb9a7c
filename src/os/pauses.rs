//! Pauses between attempts, where the kernel has no call that waits. Each is twice as long as the
//! one before, up to a limit.
//!
//! Used by `lock.rs` and by the transports.

use std::time::Duration;

/// The pauses of one wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Pauses { next: first, longest }
    }

    /// The length of the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Sleeps for the next pause, but no longer than `left`.
    pub(crate) fn sleep(&mut self, left: Duration) {
        std::thread::sleep(self.next().min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_the_longest() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new(ms(1), ms(6));
        assert_eq!([(); 5].map(|()| pauses.next()), [ms(1), ms(2), ms(4), ms(6), ms(6)]);
    }
}
