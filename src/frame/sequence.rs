//! Sequence numbers: allocated by the sender, checked by the receiver, per stream.
//!
//! Used by the decoder and by transports whose messages need no decoder (UDP, message queues).
//! Relies on the header.
//!
//! Only application frames are numbered. Control frames carry `seq` 0 and are not checked: they may
//! overtake data (a message queue sorts by priority), and losing one loses no data.

use std::collections::HashMap;

use super::header::{Flags, Header};

/// The sender's side: the next sequence number of each stream, starting at 0 and wrapping.
///
/// Stream 0 is kept inline. The first use of another stream allocates a table, which grows with the
/// number of streams in use. Real-time senders with several streams call [`Sequencer::advance`] by
/// 0 for each of them in advance.
///
/// ```
/// use slipring::frame::Sequencer;
/// let mut sequencer = Sequencer::new();
/// assert_eq!(sequencer.next(0), 0);
/// sequencer.advance(0, 1); // only after the frame was sent: a number used twice is a duplicate
/// assert_eq!((sequencer.next(0), sequencer.next(7)), (1, 0));
/// ```
#[derive(Debug, Default)]
pub struct Sequencer {
    zero: u32,
    others: HashMap<u16, u32>,
}

impl Sequencer {
    /// A sequencer with every stream at 0. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of the next frame of `stream`. Does not count it: see [`Sequencer::advance`].
    #[inline]
    #[must_use]
    pub fn next(&self, stream: u16) -> u32 {
        if stream == 0 { self.zero } else { self.others.get(&stream).copied().unwrap_or(0) }
    }

    /// Counts `frames` frames of `stream` as sent. A frame sent in fragments counts once per
    /// fragment.
    #[inline]
    pub fn advance(&mut self, stream: u16, frames: u32) {
        if stream == 0 {
            self.zero = self.zero.wrapping_add(frames);
        } else {
            self.advance_other(stream, frames);
        }
    }

    #[inline(never)]
    fn advance_other(&mut self, stream: u16, frames: u32) {
        let next = self.others.entry(stream).or_insert(0);
        *next = next.wrapping_add(frames);
    }
}

impl Sequencer {
    /// Every stream in use, and stream 0, with its next number.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        std::iter::once((0, self.zero)).chain(self.others.iter().map(|(stream, next)| (*stream, *next)))
    }

    /// The number for a frame with this header, counted as sent: 0 for control frames, which are
    /// not numbered.
    #[inline(always)]
    pub(crate) fn allocate(&mut self, header: Header) -> u32 {
        if header.is_control() {
            return 0;
        }
        let seq = self.next(header.stream);
        self.advance(header.stream, 1);
        seq
    }
}

/// Numbers for frames that are sent all together or not at all. The [`Sequencer`] counts them at
/// the commit, so a batch that is aborted, dropped or forgotten leaves no gap.
///
/// Stream 0 is kept inline; the table of the others allocates at its first use and keeps its
/// memory.
#[derive(Debug, Default)]
pub(crate) struct StagedNumbers {
    zero: u32,
    others: HashMap<u16, u32>,
}

impl StagedNumbers {
    /// Starts a batch: discards the numbers that an earlier one staged and did not commit.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.zero = 0;
        if !self.others.is_empty() {
            self.others.clear();
        }
    }

    /// The number for the batch's next frame, which has this header.
    #[inline]
    pub(crate) fn stage(&mut self, sequencer: &Sequencer, header: Header) -> u32 {
        if header.is_control() {
            return 0;
        }
        let staged = if header.stream == 0 { &mut self.zero } else { self.others.entry(header.stream).or_insert(0) };
        let seq = sequencer.next(header.stream).wrapping_add(*staged);
        *staged = staged.wrapping_add(1);
        seq
    }

    /// Takes the number of this header as the batch's next of its stream.
    #[cfg(feature = "transports")]
    #[inline]
    pub(crate) fn stage_as(&mut self, sequencer: &Sequencer, header: Header) -> u32 {
        if header.is_control() {
            return 0;
        }
        let staged = if header.stream == 0 { &mut self.zero } else { self.others.entry(header.stream).or_insert(0) };
        *staged = header.seq.wrapping_add(1).wrapping_sub(sequencer.next(header.stream));
        header.seq
    }

    /// Counts the whole batch as sent.
    #[inline]
    pub(crate) fn commit(&mut self, sequencer: &mut Sequencer) {
        sequencer.advance(0, std::mem::take(&mut self.zero));
        if !self.others.is_empty() {
            for (stream, frames) in self.others.drain() {
                sequencer.advance(stream, frames);
            }
        }
    }
}

/// How a frame's sequence number relates to the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The expected number, or the first of its stream.
    Next,
    /// Frames `expected ..` up to this one are missing.
    Gap {
        /// The first missing number.
        expected: u32,
    },
    /// Before `expected`: received earlier, or reported as missing earlier.
    Duplicate {
        /// The number that would have been new.
        expected: u32,
    },
}

impl Order {
    /// Compares `seq` with `expected`: less than 2^31 ahead is a gap.
    #[inline]
    pub(super) fn of(seq: u32, expected: u32) -> Self {
        match seq.wrapping_sub(expected) {
            0 => Order::Next,
            ahead if ahead < 1 << 31 => Order::Gap { expected },
            _ => Order::Duplicate { expected },
        }
    }
}

/// The receiver's side: the expected sequence number of each stream.
///
/// The first frame of a stream sets the expectation, so a receiver may join a running stream.
/// Stream 0 is kept inline; other streams allocate a table on first use, bounded by 65,535 entries.
///
/// ```
/// use slipring::frame::{Header, Order, Tracker};
/// let mut tracker = Tracker::new();
/// let frame = |seq| Header { seq, ..Header::new(0x0100, 0).unwrap() };
/// assert_eq!(tracker.check(frame(4)), Order::Next);
/// assert_eq!(tracker.check(frame(7)), Order::Gap { expected: 5 });
/// assert_eq!(tracker.check(frame(5)), Order::Duplicate { expected: 8 });
/// assert_eq!(tracker.check(frame(8)), Order::Next);
/// ```
#[derive(Debug, Default)]
pub struct Tracker {
    zero: Option<u32>,
    others: HashMap<u16, u32>,
}

impl Tracker {
    /// A tracker without any stream. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the expected number of `stream` to `seq`, as a HELLO announced.
    pub fn expect(&mut self, stream: u16, seq: u32) {
        if stream == 0 {
            self.zero = Some(seq);
        } else {
            self.others.insert(stream, seq);
        }
    }

    /// Removes and returns the expectation of `stream`; the next frame sets it anew.
    pub(crate) fn forget(&mut self, stream: u16) -> Option<u32> {
        if stream == 0 { self.zero.take() } else { self.others.remove(&stream) }
    }

    /// Copies the expected numbers of `newer`, for the streams that it knows.
    pub(crate) fn update(&mut self, newer: Tracker) {
        self.zero = newer.zero.or(self.zero);
        self.others.extend(newer.others);
    }

    /// Classifies a received frame. Unless it is a duplicate, the next number is expected from then
    /// on.
    ///
    /// Control frames are always [`Order::Next`]; so are frames marked [`Flags::REDELIVERED`] with
    /// an earlier number, as redelivered frames have.
    #[inline]
    pub fn check(&mut self, header: Header) -> Order {
        if header.is_control() {
            return Order::Next;
        }
        let expected = match header.stream {
            0 => self.zero.get_or_insert(header.seq),
            stream => self.others.entry(stream).or_insert(header.seq),
        };
        match Order::of(header.seq, *expected) {
            Order::Duplicate { .. } if header.flags.contains(Flags::REDELIVERED) => Order::Next,
            duplicate @ Order::Duplicate { .. } => duplicate,
            order => {
                *expected = header.seq.wrapping_add(1);
                order
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u16, seq: u32) -> Header {
        Header { stream, seq, ..Header::new(Header::DEFAULT_KIND, 0).unwrap() }
    }

    #[test]
    fn sequence_numbers_wrap_without_a_gap() {
        let mut sequencer = Sequencer::new();
        let mut tracker = Tracker::new();
        for stream in [0, 9] {
            sequencer.advance(stream, u32::MAX - 2);
            for _ in 0..6 {
                assert_eq!(tracker.check(frame(stream, sequencer.next(stream))), Order::Next);
                sequencer.advance(stream, 1);
            }
            assert_eq!(sequencer.next(stream), 3);
            assert_eq!(tracker.check(frame(stream, u32::MAX)), Order::Duplicate { expected: 3 });
        }
    }

    #[test]
    fn staged_numbers_count_only_once_committed() {
        let (mut sequencer, mut staged) = (Sequencer::new(), StagedNumbers::default());
        for committed in [false, true, false, true] {
            staged.clear();
            let first = [sequencer.next(0), sequencer.next(7)];
            let seen = [0, 7, 7, 0].map(|stream| staged.stage(&sequencer, frame(stream, 0)));
            assert_eq!(seen, [first[0], first[1], first[1] + 1, first[0] + 1]);
            if committed {
                staged.commit(&mut sequencer);
            }
        }
        assert_eq!((sequencer.next(0), sequencer.next(7)), (4, 4));
    }

    #[test]
    fn streams_do_not_disturb_each_other_and_hello_resets_one() {
        let mut tracker = Tracker::new();
        assert_eq!(tracker.check(frame(1, 10)), Order::Next);
        assert_eq!(tracker.check(frame(2, 90)), Order::Next);
        assert_eq!(tracker.check(frame(1, 11)), Order::Next);
        tracker.expect(1, 0);
        assert_eq!(tracker.check(frame(1, 0)), Order::Next);
        assert_eq!(tracker.check(frame(2, 91)), Order::Next);
    }

    #[test]
    fn control_and_redelivered_frames_are_never_duplicates() {
        let mut tracker = Tracker::new();
        tracker.expect(0, 100);
        assert_eq!(tracker.check(Header::control(super::super::control::PING, 0).unwrap()), Order::Next);
        let again = Header { flags: Flags::WHOLE | Flags::REDELIVERED, ..frame(0, 40) };
        assert_eq!(tracker.check(again), Order::Next);
        assert_eq!(tracker.check(frame(0, 100)), Order::Next);
    }
}
