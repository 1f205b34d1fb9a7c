//! Gaps that are counted in 64 bits, as events, whose sequence numbers have 32.
//!
//! Used by `lossy.rs` and `board.rs`. Relies on `frame/`.

use crate::frame::Event;

/// The frames that are missing before the current one, and have not been reported yet.
#[derive(Default)]
pub(super) struct Gap {
    missed: u64,
}

impl Gap {
    pub(super) fn add(&mut self, missed: u64) {
        self.missed += missed;
    }

    pub(super) fn is_open(&self) -> bool {
        self.missed > 0
    }

    /// As much of it as one event can report. The sizes of all events add up to the gap.
    fn piece(&self) -> u32 {
        u32::try_from(self.missed).unwrap_or(u32::MAX)
    }

    /// The next event; `found` is the number of the current frame.
    pub(super) fn event(&self, stream: u16, found: u32) -> Event<'static> {
        let expected = found.wrapping_sub(self.missed as u32);
        Event::Gap { stream, expected, found: expected.wrapping_add(self.piece()) }
    }

    /// The event has been received.
    pub(super) fn reported(&mut self) {
        self.missed -= u64::from(self.piece());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_of_more_than_32_bits_adds_up() {
        for missed in [1, 7, u64::from(u32::MAX), 1 << 32, (1 << 32) + 5, (3 << 32) + 1] {
            let (mut gap, mut sum, mut last) = (Gap::default(), 0, None);
            gap.add(missed);
            while gap.is_open() {
                let Event::Gap { stream: 3, expected, found } = gap.event(3, 1000) else { unreachable!() };
                assert!(last.is_none_or(|last| last == expected), "the pieces are next to each other");
                sum += u64::from(found.wrapping_sub(expected));
                last = Some(found);
                gap.reported();
            }
            assert_eq!((sum, last), (missed, Some(1000)));
        }
    }
}
