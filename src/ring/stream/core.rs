//! The algorithm of the SPSC byte stream: bytes in order, without headers or frames. `loom-tests`
//! compiles and checks this file.
//!
//! Used by the handles. Relies on `layout.rs` for the words.
//!
//! # Protocol
//!
//! Lamport's ring with cached peer indices. The producer writes bytes behind `tail`, then stores
//! `tail` with Release; the consumer loads it with Acquire, reads, then stores `head` with Release,
//! which the producer loads with Acquire before it writes there again. Each side keeps its own
//! index and a copy of the other's in private memory, and reads the other's again only when the
//! copy is not enough. A copy does not show more than there is.
//!
//! Without headers there is no commit word in the data, so here, unlike in the other rings, the
//! peer polls an index.
//!
//! Bytes behind `tail` that a killed producer left are discarded; a killed consumer's successor
//! starts at `head`. Progress: wait-free.

use super::layout::Shared;
use crate::error::{Error, Result};
use crate::sync::Ordering;

/// The producer's private half.
pub(crate) struct Producer {
    shared: Shared,
    tail: u64,
    head: u64,
    high_water: u64,
}

impl Producer {
    /// Continues where the previous producer's last commit ended. The caller holds the producer
    /// role.
    pub(crate) fn attach(shared: Shared) -> Result<Self> {
        let (head, tail) = shared.positions()?;
        Ok(Producer { shared, tail, head, high_water: tail.wrapping_sub(head) })
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The bytes that can be written now. Reads the consumer's position only if fewer than `wanted`
    /// are known to be free.
    #[inline(always)]
    pub(crate) fn free(&mut self, wanted: usize) -> usize {
        let mut used = self.tail.wrapping_sub(self.head);
        if used + wanted as u64 > self.shared.capacity {
            // SYNC(stream-release): the consumer has finished reading everything before this.
            let head = self.shared.head().load(Ordering::Acquire);
            if self.tail.wrapping_sub(head) <= used {
                self.head = head;
                used = self.tail.wrapping_sub(head);
            }
            self.high_water = self.high_water.max(used);
        }
        (self.shared.capacity - used) as usize
    }

    /// The largest fill level at all readings of the consumer's position.
    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Offset in the data area at which the next byte goes.
    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.shared.offset(self.tail)
    }

    /// Writes `bytes`, for which [`Producer::free`] has just returned enough room; split where an
    /// unmirrored area ends.
    #[inline(always)]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        debug_assert!(self.tail.wrapping_sub(self.head) + bytes.len() as u64 <= self.shared.capacity);
        let at = self.offset();
        let room = (self.shared.data().len() - at).min(bytes.len());
        // SAFETY: inside the area by `room`; free by the caller's check, hence released by the only
        // consumer.
        unsafe { self.shared.data().write(at, &bytes[..room]) };
        if room < bytes.len() {
            // SAFETY: an unmirrored area continues at its start; the whole is no longer than the
            // free space.
            unsafe { self.shared.data().write(0, &bytes[room..]) };
        }
    }

    /// Publishes the next `n` bytes.
    #[inline(always)]
    pub(crate) fn commit(&mut self, n: usize) {
        self.tail = self.tail.wrapping_add(n as u64);
        // SYNC(stream-commit): pairs with the Acquire load of the tail in `available`.
        self.shared.tail().store(self.tail, Ordering::Release);
    }
}

/// The consumer's private half.
pub(crate) struct Consumer {
    shared: Shared,
    head: u64,
    tail: u64,
}

impl Consumer {
    /// Continues at the first byte that no consumer released. The caller holds the consumer role.
    pub(crate) fn attach(shared: Shared) -> Result<Self> {
        let (head, tail) = shared.positions()?;
        Ok(Consumer { shared, head, tail })
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The bytes that can be read now. Reads the producer's position only if fewer than `wanted`
    /// are known to be there.
    #[inline(always)]
    pub(crate) fn available(&mut self, wanted: usize) -> Result<usize> {
        let known = self.tail.wrapping_sub(self.head);
        if known >= wanted as u64 {
            return Ok(known as usize);
        }
        // SYNC(stream-commit): everything before this has been written.
        let tail = self.shared.tail().load(Ordering::Acquire);
        let there = tail.wrapping_sub(self.head);
        if there > self.shared.capacity {
            return Err(Error::Corrupt { what: "stream positions further apart than the capacity" });
        }
        self.tail = tail; // stored only now, so that the next call does not use a forged tail
        Ok(there as usize)
    }

    /// Offset in the data area of the next byte.
    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.shared.offset(self.head)
    }

    /// Copies the next bytes, which are there by the last [`Consumer::available`].
    #[inline(always)]
    pub(crate) fn read(&self, into: &mut [u8]) {
        debug_assert!(into.len() as u64 <= self.tail.wrapping_sub(self.head));
        let at = self.offset();
        let room = (self.shared.data().len() - at).min(into.len());
        let (first, rest) = into.split_at_mut(room);
        // SAFETY: inside the area by `room`; committed and unreleased by the caller's check.
        unsafe { self.shared.data().read(at, first) };
        if !rest.is_empty() {
            // SAFETY: an unmirrored area continues at its start.
            unsafe { self.shared.data().read(0, rest) };
        }
    }

    /// Frees the next `n` bytes.
    #[inline(always)]
    pub(crate) fn release(&mut self, n: usize) {
        self.head = self.head.wrapping_add(n as u64);
        // SYNC(stream-release): pairs with the Acquire load of the head in `free`; our reads come
        // before it.
        self.shared.head().store(self.head, Ordering::Release);
    }
}
