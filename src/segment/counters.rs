//! The counters of a participant: twice eleven words of its record.
//!
//! Used by the rings, which count, and by `stat`, which sums up. Counters belong to the id, not to
//! its holder. They are never reset, so the sum over all ids is the segment's history, including
//! dead participants.

use super::layout::{COUNTER_COUNT, COUNTERS, OTHER_COUNTERS, RECORD};
use crate::memory::Area;
use crate::sync::{AtomicU64, Ordering};

/// The counters, in their order in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    Sent,
    Received,
    Bytes,
    Full,
    Empty,
    Sleeps,
    Wakes,
    HighWater,
    Recovered,
    Redelivered,
    Lost,
}

static_assertions::const_assert!(Counter::Lost as usize + 1 == COUNTER_COUNT);

/// One participant's counters. The owner thread counts with plain relaxed loads and stores. Where
/// several threads share a participant, the others count by read-modify-writes, in words of their
/// own.
#[derive(Clone)]
pub(crate) struct Counters {
    words: Area,
    others: Area,
}

impl Counters {
    pub(super) fn new(record: &Area) -> Self {
        assert!(record.len() == RECORD, "a whole record");
        let part = |at| record.part(at, 8 * COUNTER_COUNT);
        Counters { words: part(COUNTERS), others: part(OTHER_COUNTERS) }
    }

    #[inline(always)]
    fn get(&self, counter: Counter) -> &AtomicU64 {
        // SAFETY: a multiple of 8 below 8 * COUNTER_COUNT (the assertion above), which is the
        // length of `words`.
        unsafe { self.words.word_unchecked(8 * counter as usize) }
    }

    /// Adds `n`, in the owner thread only.
    #[inline(always)]
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        let word = self.get(counter);
        word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds `frames` to `counter`, and their bytes; in the owner thread only.
    #[inline(always)]
    pub(crate) fn add_traffic(&self, counter: Counter, frames: u64, bytes: u64) {
        // Both words are resolved before either is stored: their address is computed once.
        let (count, sum) = (self.get(counter), self.get(Counter::Bytes));
        count.store(count.load(Ordering::Relaxed).wrapping_add(frames), Ordering::Relaxed);
        sum.store(sum.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }

    /// Adds `n`, in any other thread.
    #[cold]
    pub(crate) fn add_in_other_thread(&self, counter: Counter, n: u64) {
        self.others.word(8 * counter as usize).fetch_add(n, Ordering::Relaxed);
    }

    /// The count of the owner thread.
    pub(crate) fn counted(&self, counter: Counter) -> u64 {
        self.get(counter).load(Ordering::Relaxed)
    }

    /// Raises a high-water mark. If two threads raise it at the same time, the higher value may be
    /// lost.
    #[inline(always)]
    pub(crate) fn raise(&self, counter: Counter, level: u64) {
        let word = self.get(counter);
        if level > word.load(Ordering::Relaxed) {
            word.store(level, Ordering::Relaxed);
        }
    }

    /// All counters at about this moment.
    pub(crate) fn read(&self) -> Counts {
        let at = |counter| {
            let other = self.others.word(8 * counter as usize).load(Ordering::Relaxed);
            self.get(counter).load(Ordering::Relaxed).wrapping_add(other)
        };
        Counts {
            sent: at(Counter::Sent),
            received: at(Counter::Received),
            bytes: at(Counter::Bytes),
            full: at(Counter::Full),
            empty: at(Counter::Empty),
            sleeps: at(Counter::Sleeps),
            wakes: at(Counter::Wakes),
            high_water: at(Counter::HighWater),
            recovered: at(Counter::Recovered),
            redelivered: at(Counter::Redelivered),
            lost: at(Counter::Lost),
        }
    }
}

/// The activity of all participants since the segment was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Frames committed.
    pub sent: u64,
    /// Frames released.
    pub received: u64,
    /// Payload bytes sent plus payload bytes received: a frame that has passed through the ring
    /// counts twice.
    pub bytes: u64,
    /// Times a producer found the ring full.
    pub full: u64,
    /// Times a consumer found the ring empty.
    pub empty: u64,
    /// Times a participant slept in the kernel.
    pub sleeps: u64,
    /// Times a participant was woken through the kernel.
    pub wakes: u64,
    /// The highest backlog seen, in bytes (byte rings) or slots (slot rings). A producer records it
    /// when it finds the ring full, in byte rings also now and then and when it leaves;
    /// [`Ring::stats`](crate::Ring::stats) adds the present backlog. So this is a lower bound, but
    /// exact for a ring that was ever full.
    pub high_water: u64,
    /// Slots reclaimed from dead participants.
    pub recovered: u64,
    /// Frames delivered again after their consumer died.
    pub redelivered: u64,
    /// Frames lost because their consumer died, or by a policy that allows loss.
    pub lost: u64,
}

impl Counts {
    /// Adds the counters; takes the larger of the high-water marks.
    #[must_use]
    pub fn merge(self, other: Counts) -> Counts {
        Counts {
            sent: self.sent.wrapping_add(other.sent),
            received: self.received.wrapping_add(other.received),
            bytes: self.bytes.wrapping_add(other.bytes),
            full: self.full.wrapping_add(other.full),
            empty: self.empty.wrapping_add(other.empty),
            sleeps: self.sleeps.wrapping_add(other.sleeps),
            wakes: self.wakes.wrapping_add(other.wakes),
            high_water: self.high_water.max(other.high_water),
            recovered: self.recovered.wrapping_add(other.recovered),
            redelivered: self.redelivered.wrapping_add(other.redelivered),
            lost: self.lost.wrapping_add(other.lost),
        }
    }
}
