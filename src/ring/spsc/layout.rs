//! The memory of an SPSC byte ring: the words that both sides share, and the records between them.
//!
//! Used by the two sides in `core.rs`, which proves the algorithm, and by observers. Relies on
//! `sync` for memory and on `frame::header` for the header of a record.
//!
//! ```text
//! producer page            consumer page                         data: capacity bytes, a power of two, mapped twice
//! +0 tail  (observers)     +0    head   polled by a full producer   ┌────────┬─────────────┬────────┬───┬───────────
//!                          +LINE exact  every release               │ header │ payload pad │ header │ … │ 0 0 0 0 …
//!                          +LINE+8 taken  before a view is shown    └────────┴─────────────┴────────┴───┴───────────
//!                                                                   ↑ exact ≤ taken                      ↑ tail
//! ```
//!
//! Positions are free-running byte counts (u64, never wrap in practice: 2^64 bytes at 100 GB/s are
//! six years); a position's place in memory is `position & (capacity - 1)`. Records are 8-byte
//! aligned: a short frame header, then the payload, padded with zeros. The word at the tail is
//! zero; the bytes behind it may have any value.

use crate::error::{Error, Result};
use crate::frame::header::{Flags, Header, Refusal, SHORT, is_short, padded, refusal};
use crate::memory::{Area, Data, LINE};
use crate::ring::position::later;
use crate::sync::{AtomicU64, Ordering, fence};

/// Producer page: the position of the next record. Written at every commit for observers; no waiter
/// depends on it.
pub(crate) const TAIL: usize = 0;
/// Consumer page: the lazily published head, which a full producer polls.
pub(crate) const HEAD: usize = 0;
/// Consumer page: the exact head, on a line that in a busy stream only the consumer touches.
pub(crate) const EXACT: usize = LINE;
/// Consumer page: end of the frames that the application has been shown.
pub(crate) const TAKEN: usize = LINE + 8;

/// The bytes behind a record that must be free as well: the next header's first word, which commit
/// zeroes.
pub(in crate::ring) const SUCCESSOR: u64 = 8;

/// The flag's bit in a commit word.
pub(in crate::ring) const REDELIVERED: u64 = Flags::REDELIVERED.in_word();

/// Why there is no frame at a position. It fits into a register; the handles convert it into an
/// [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No frame is committed there yet.
    Empty,
    /// The bytes there are no header of this ring.
    Header(Refusal),
    /// A frame longer than the ring, or a chain of frames longer than the ring.
    TooLong,
    Endless,
    Unaligned,
}

const _: () = assert!(size_of::<Fault>() <= 8);

impl Fault {
    /// The error for the user. (For the missing `From` see [`Refusal::error`].)
    #[cold]
    pub(crate) fn error(self) -> Error {
        match self {
            Fault::Empty => Error::Empty,
            Fault::Header(refusal) => refusal.error(),
            Fault::TooLong => Error::Corrupt { what: "a frame longer than its ring" },
            Fault::Endless => Error::Corrupt { what: "the chain of frames is longer than its ring" },
            Fault::Unaligned => Error::Corrupt { what: "the consumer's position is not aligned" },
        }
    }
}

/// The three spans of a ring's memory, and its geometry, which is copied into the handle and not
/// read again. `D` is how the data is accessed: a broadcast ring has its own way.
#[derive(Clone)]
pub(crate) struct Shared<D = Area> {
    pub(in crate::ring) producer: Area,
    pub(in crate::ring) consumer: Area,
    pub(in crate::ring) data: D,
    pub(in crate::ring) capacity: u64,
    /// The capacity less one: the mask that gives the place of a position.
    mask: usize,
    max_payload: usize,
}

impl<D: Data> Shared<D> {
    /// `data` holds `capacity` bytes, or twice that if it is mapped twice back to back.
    pub(crate) fn new(producer: Area, consumer: Area, data: D, capacity: usize, max_payload: usize) -> Self {
        assert!(
            capacity.is_power_of_two() && capacity >= 32 && data.area().len() >= capacity,
            "geometry was validated"
        );
        assert!(padded(SHORT + max_payload) + SUCCESSOR as usize <= capacity, "geometry was validated");
        assert!(producer.len() > TAIL && consumer.len() > TAKEN, "geometry was validated");
        Shared { producer, consumer, data, capacity: capacity as u64, mask: capacity - 1, max_payload }
    }

    /// Largest payload of one frame, in bytes.
    #[inline(always)]
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload
    }

    #[inline(always)]
    pub(crate) fn offset(&self, position: u64) -> usize {
        position as usize & self.mask
    }

    #[inline(always)]
    pub(in crate::ring) fn tail(&self) -> &AtomicU64 {
        // SAFETY: `new` checked that the area is long enough; a multiple of 8.
        unsafe { self.producer.word_unchecked(TAIL) }
    }

    #[inline(always)]
    pub(in crate::ring) fn head(&self) -> &AtomicU64 {
        // SAFETY: as above: HEAD lies before TAKEN.
        unsafe { self.consumer.word_unchecked(HEAD) }
    }

    #[inline(always)]
    pub(in crate::ring) fn exact(&self) -> &AtomicU64 {
        // SAFETY: as above: EXACT lies before TAKEN.
        unsafe { self.consumer.word_unchecked(EXACT) }
    }

    #[inline(always)]
    pub(in crate::ring) fn taken(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { self.consumer.word_unchecked(TAKEN) }
    }

    /// The first header word at `position`, which is a multiple of 8.
    #[inline(always)]
    pub(in crate::ring) fn word(&self, position: u64) -> &AtomicU64 {
        debug_assert!(position % 8 == 0);
        // SAFETY: positions are multiples of 8 (records are padded, attach checks the start), the
        // offset is masked below the capacity, and the data area is at least that long.
        unsafe { self.data().word_unchecked(self.offset(position)) }
    }

    /// Offset of a payload that begins at `position`. With the mirror every payload is contiguous.
    #[inline(always)]
    pub(crate) fn payload_offset(&self, position: u64) -> usize {
        self.offset(position.wrapping_add(SHORT as u64))
    }

    /// The data area, for the handles that lend views.
    #[inline(always)]
    pub(crate) fn data(&self) -> &Area {
        self.data.area()
    }

    /// The positions (exact head, tail), for observers. Each is correct by itself; together they
    /// are a snapshot only of a ring that is not in use. Relaxed, because nothing is read by them.
    pub(crate) fn observe(&self) -> (u64, u64) {
        let head = self.exact().load(Ordering::Relaxed);
        (head, later(self.tail().load(Ordering::Relaxed), head))
    }

    /// Whether the consumer has something to look at, by the positions alone, which are only ever
    /// accessed atomically. Relaxed, as in [`Shared::observe`].
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        let (head, tail) = self.observe();
        head != tail
    }

    /// Whether a record for `len` bytes fits, by the exact head. For the side of the producer,
    /// whose tail it is.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let (head, tail) = self.observe();
        len <= self.max_payload && tail.wrapping_sub(head) + record_size(len) + SUCCESSOR <= self.capacity
    }

    /// Walks the committed chain from the exact head to its end, and returns the position there.
    /// Passes the header of every frame, and with `payloads` a copy of its payload, to `show` until
    /// that returns false. Bounded by the capacity.
    ///
    /// Frames that are released meanwhile are left out: each is shown only if the exact head had
    /// not passed it after it was read. Until then no producer writes there. A producer writes
    /// there only after it has seen the newer head, so a reader that got a byte of the new frame
    /// would see that head, too.
    pub(crate) fn walk(&self, payloads: bool, mut show: impl FnMut(Header, &[u8]) -> bool) -> Result<u64, Fault> {
        // SYNC(release): the consumer had seen the zero behind the last frame before it, so we do
        // not see the bytes of a lap ago.
        let head = self.exact().load(Ordering::Acquire);
        let mut position = head;
        let mut payload = Vec::new();
        loop {
            if position % 8 != 0 {
                return Err(Fault::Unaligned);
            }
            if position.wrapping_sub(head) + SUCCESSOR > self.capacity {
                return Err(Fault::Endless);
            }
            // SYNC(commit): a non-zero word publishes its record and the next word.
            let first = self.word(position).load(Ordering::Acquire);
            let frame = self.copy_record(position, first);
            if payloads {
                payload.resize(frame.map_or(0, |frame| frame.len()), 0);
                self.copy_payload(position, &mut payload);
            }
            // SYNC(copied): the record was read before the second load of the head.
            fence(Ordering::Acquire);
            // SYNC(release): as above.
            let exact = self.exact().load(Ordering::Acquire);
            if later(exact, position) != position {
                position = exact;
                continue;
            }
            match frame {
                Err(Fault::Empty) => return Ok(position),
                Err(fault) => return Err(fault),
                Ok(frame) if frame.end().wrapping_sub(head) + SUCCESSOR > self.capacity => return Err(Fault::Endless),
                Ok(frame) if !show(frame.header(), &payload) => return Ok(position),
                Ok(frame) => position = frame.end(),
            }
        }
    }

    /// [`Shared::walk`] for an observer of a ring in use, which may stay ahead of the walk: `None`
    /// after one ring full.
    pub(crate) fn watch(&self, payloads: bool, show: impl FnMut(Header, &[u8]) -> bool) -> Result<Option<u64>, Fault> {
        let head = self.observe().0;
        match self.walk(payloads, show) {
            Err(Fault::Endless) if self.observe().0 != head => Ok(None),
            end => end.map(Some),
        }
    }

    /// The record at `position`, whose first word was loaded as `first`, read by relaxed words.
    pub(in crate::ring) fn copy_record(&self, position: u64, first: u64) -> Result<Peeked, Fault> {
        if !self.is_record(first) {
            return Err(self.refuse(first));
        }
        let mut second = [0; 8];
        self.data.copy_words(self.offset(position.wrapping_add(8)), &mut second);
        Ok(Peeked { first, second: u64::from_le_bytes(second), position })
    }

    /// Copies the payload of the record at `position` by relaxed words, in two parts if it lies
    /// across the end.
    pub(in crate::ring) fn copy_payload(&self, position: u64, into: &mut [u8]) {
        let at = self.payload_offset(position);
        let until_end = (self.capacity as usize - at).min(into.len());
        let (first, rest) = into.split_at_mut(until_end);
        self.data.copy_words(at, first);
        self.data.copy_words(0, rest);
    }

    /// The `len` bytes from `position` on, in an area that is mapped twice.
    ///
    /// # Safety
    /// The area is twice a capacity long, and `len` is at most a capacity. The bytes are committed
    /// records, or a part of one, which the caller has read by `look` and does not release as long
    /// as the slice lives.
    #[cfg(not(slipring_loom))]
    #[inline(always)]
    pub(in crate::ring) unsafe fn slice(&self, position: u64, len: usize) -> &[u8] {
        // SAFETY: the offset is masked below the capacity, and the area is twice that long by
        // contract.
        let start = unsafe { self.data().base().add(self.offset(position)) };
        // SAFETY: ends inside the area of two capacities. The words of committed records were loaded
        // with Acquire, and the producer writes neither header nor payload again before they are
        // released.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Copies `bytes` to `position` in an area that is mapped twice.
    ///
    /// # Safety
    /// As for [`Shared::copy_in`]; and the area is twice a capacity long.
    #[inline(always)]
    pub(in crate::ring) unsafe fn copy_in_whole(&self, position: u64, bytes: &[u8]) {
        debug_assert!(self.data().len() as u64 == 2 * self.capacity);
        // SAFETY: at most a capacity of bytes from an offset below the capacity; ours by contract.
        unsafe { self.data.write(self.offset(position), bytes) };
    }

    /// Copies `bytes` to `offset`, in two parts if an unmirrored area ends in between.
    ///
    /// # Safety
    /// The bytes belong to the caller by the protocol, and there are at most `capacity` of them.
    #[inline(always)]
    pub(in crate::ring) unsafe fn copy_in(&self, offset: usize, bytes: &[u8]) {
        if offset + bytes.len() <= self.data().len() {
            // SAFETY: in bounds by the line above, ours by contract.
            return unsafe { self.data.write(offset, bytes) };
        }
        let (first, rest) = bytes.split_at(self.data().len() - offset);
        // SAFETY: `first` ends exactly at the end of the area; ours by contract.
        unsafe { self.data.write(offset, first) };
        // SAFETY: no mirror here, so the area is one capacity long and the rest continues at its
        // start; it fits because the whole is no longer than the capacity.
        unsafe { self.data.write(0, rest) };
    }

    /// Copies from `offset`, in two parts if an unmirrored area ends in between.
    ///
    /// # Safety
    /// The bytes are a committed, unreleased payload, and there are at most `capacity` of them.
    #[inline(always)]
    pub(in crate::ring) unsafe fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        if offset + bytes.len() <= self.data().len() {
            // SAFETY: in bounds by the line above, stable by contract.
            return unsafe { self.data.read(offset, bytes) };
        }
        let (first, rest) = bytes.split_at_mut(self.data().len() - offset);
        // SAFETY: `first` ends exactly at the end of the area; stable by contract.
        unsafe { self.data.read(offset, first) };
        // SAFETY: as in `copy_in`.
        unsafe { self.data.read(0, rest) };
    }

    /// Whether `first` begins a record of this ring. Zero, which means "no frame yet", does not.
    #[inline(always)]
    pub(in crate::ring) fn is_record(&self, first: u64) -> bool {
        is_short(first) && (first >> 32) as usize <= self.max_payload
    }

    /// Why `first` does not begin a record of this ring.
    #[cold]
    #[inline(never)]
    pub(in crate::ring) fn refuse(&self, first: u64) -> Fault {
        match first {
            0 => Fault::Empty,
            _ if !is_short(first) => Fault::Header(refusal(first)),
            _ if (first >> 32) as usize > self.max_payload => Fault::TooLong,
            _ => Fault::Endless,
        }
    }

    /// Zeroes the words from one position up to another, which is less than a capacity ahead. They
    /// are in free space.
    #[inline(always)]
    pub(in crate::ring) fn zero(&self, from: u64, to: u64) {
        let (at, len) = (self.offset(from), to.wrapping_sub(from) as usize);
        debug_assert!(len as u64 <= self.capacity);
        let first = len.min(self.data().len() - at);
        // SAFETY: ends inside the area; the caller passes only what the consumer has released, and
        // is the only producer.
        unsafe { self.data.zero(at, first) };
        if first < len {
            // SAFETY: an unmirrored area continues at its start; the whole is no longer than a
            // capacity.
            unsafe { self.data.zero(0, len - first) };
        }
    }

    /// Zeroes the `N` bytes from a multiple of `N` on, a power of two up to the capacity. They are
    /// in free space.
    #[inline(always)]
    pub(in crate::ring) fn zero_piece<const N: usize>(&self, from: u64) {
        debug_assert!(from as usize % N == 0 && self.capacity as usize % N == 0);
        // SAFETY: a whole piece of the area, whose length is a multiple of one; otherwise as in
        // `zero`.
        unsafe { self.data.zero(self.offset(from), N) };
    }

    /// The record whose first word was loaded as `first`, for which [`Shared::is_record`] holds.
    #[inline(always)]
    pub(in crate::ring) fn record(&self, position: u64, first: u64) -> Peeked {
        let mut second = [0; 8];
        // SAFETY: the second word of a header: 8 bytes at a multiple of 8 below the capacity. The
        // first word was loaded non-zero with Acquire, so the producer has finished it.
        unsafe { self.data.read(self.offset(position.wrapping_add(8)), &mut second) };
        Peeked { first, second: u64::from_le_bytes(second), position }
    }
}

/// Bytes of the record that carries `len` bytes of payload.
#[inline(always)]
pub(in crate::ring) fn record_size(len: usize) -> u64 {
    padded(SHORT + len) as u64
}

/// A committed frame that the consumer has read and not released: its two header words, and its
/// position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peeked {
    /// The commit word; with REDELIVERED if a dead consumer had seen the frame.
    pub(in crate::ring) first: u64,
    pub(in crate::ring) second: u64,
    pub(in crate::ring) position: u64,
}

impl Peeked {
    /// The frame's header; REDELIVERED is set if a dead consumer had seen the frame.
    #[inline(always)]
    pub(crate) fn header(&self) -> Header {
        Header::unpack(self.first, self.second)
    }

    /// Bytes of its payload.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        (self.first >> 32) as usize
    }

    /// Whether a dead consumer had seen the frame.
    #[inline(always)]
    pub(crate) fn is_redelivered(&self) -> bool {
        self.first & REDELIVERED != 0
    }

    /// The position behind the record: release up to here.
    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        self.position.wrapping_add(record_size(self.len()))
    }

    /// The position of its record.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The position of its payload.
    #[inline(always)]
    pub(crate) fn payload_position(&self) -> u64 {
        self.position.wrapping_add(SHORT as u64)
    }
}
