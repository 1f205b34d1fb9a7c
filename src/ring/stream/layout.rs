//! The words of a byte stream.
//!
//! Used by `core.rs`, and by calls that inspect a ring without a role. Relies on `memory/area.rs`.
//!
//! ```text
//! producer page: +0 tail     consumer page: +0 head     data: capacity bytes, a power of two, mapped twice
//! ```

use crate::error::{Error, Result};
use crate::memory::Area;
use crate::ring::position::later;
use crate::sync::{AtomicU64, Ordering};

/// Producer page: bytes written.
pub(crate) const TAIL: usize = 0;
/// Consumer page: bytes read.
pub(crate) const HEAD: usize = 0;

/// The memory of a stream and its capacity.
#[derive(Clone)]
pub(crate) struct Shared {
    producer: Area,
    consumer: Area,
    data: Area,
    pub(super) capacity: u64,
}

impl Shared {
    /// `data` holds `capacity` bytes, or twice that if it is mapped twice back to back.
    pub(crate) fn new(producer: Area, consumer: Area, data: Area, capacity: usize) -> Self {
        assert!(capacity.is_power_of_two() && data.len() >= capacity, "geometry was validated");
        Shared { producer, consumer, data, capacity: capacity as u64 }
    }

    /// Capacity in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    #[inline(always)]
    pub(crate) fn data(&self) -> &Area {
        &self.data
    }

    #[inline(always)]
    pub(crate) fn offset(&self, position: u64) -> usize {
        (position & (self.capacity - 1)) as usize
    }

    pub(super) fn tail(&self) -> &AtomicU64 {
        self.producer.word(TAIL)
    }

    pub(super) fn head(&self) -> &AtomicU64 {
        self.consumer.word(HEAD)
    }

    /// The positions (head, tail), for observers. Nothing is read by them.
    pub(crate) fn observe(&self) -> (u64, u64) {
        let head = self.head().load(Ordering::Relaxed);
        (head, later(self.tail().load(Ordering::Relaxed), head))
    }

    /// Bytes that wait, for observers.
    pub(crate) fn used(&self) -> u64 {
        let (head, tail) = self.observe();
        tail.wrapping_sub(head)
    }

    /// Both positions, checked, where either side starts.
    pub(super) fn positions(&self) -> Result<(u64, u64)> {
        // Each index moves forward only, so if the head is read first, the distance may be too
        // large by what is consumed meanwhile, but is not negative. SYNC(stream-release),
        // SYNC(stream-commit): a participant that attaches may write before the one and read before
        // the other at once.
        let head = self.head().load(Ordering::Acquire);
        let tail = self.tail().load(Ordering::Acquire);
        if tail.wrapping_sub(head) > self.capacity {
            return Err(Error::Corrupt { what: "stream positions further apart than the capacity" });
        }
        Ok((head, tail))
    }
}
