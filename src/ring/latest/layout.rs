//! The words of a board of latest values.
//!
//! Used by `core.rs`, and by calls that inspect a board without a role. Relies on `memory/area.rs`.
//!
//! ```text
//! data    heads: a u64 per cell, the version of its newest value, 0 before the first; in whole lines
//!         slots: four per cell, the value of version v in slot v % 4
//!
//! slot    +0 version whose value is, or will be, in the slot 8     +8 length 4 | kind 2 | zero 2     +16 value
//! ```
//!
//! Every word is an atomic, also those of the values: readers copy them while they may be
//! overwritten.

use crate::error::{Error, Result};
#[cfg(not(slipring_loom))]
use crate::frame::{Flags, Header};
use crate::memory::{Area, LINE};
use crate::sync::{AtomicU64, Ordering};

/// Slots per cell, a power of two. A reader has the time in which the writer writes three values to
/// copy one.
#[cfg(not(slipring_loom))]
pub(crate) const SLOTS: usize = 4;
/// The fewest with which the protocol holds: a model reaches a slot's next use sooner.
#[cfg(slipring_loom)]
pub(crate) const SLOTS: usize = 2;
/// Bytes of a slot before the value.
pub(crate) const SLOT_HEADER: usize = 16;
const SHAPE: usize = 8;

/// Bytes of the heads of `cells` cells.
pub(crate) const fn heads_len(cells: usize) -> usize {
    (8 * cells).next_multiple_of(LINE)
}

/// The memory of a board and its geometry.
#[derive(Clone)]
pub(crate) struct Shared {
    data: Area,
    cells: usize,
    stride: usize,
    /// Offset of the first slot.
    slots: usize,
}

/// Where a version of a value lies.
#[derive(Clone, Copy)]
pub(super) struct Slot(usize);

impl Slot {
    /// Offset of the value.
    #[inline(always)]
    pub(super) fn value(self) -> usize {
        self.0 + SLOT_HEADER
    }
}

/// The length and kind of a value, as they are in shared memory: not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) len: u32,
    pub(crate) kind: u16,
}

impl Shape {
    #[inline(always)]
    pub(super) fn word(self) -> u64 {
        u64::from(self.len) | u64::from(self.kind) << 32
    }

    /// The header of the value as a frame: its cell is the stream, its version the sequence number.
    #[cfg(not(slipring_loom))]
    pub(crate) fn header(self, cell: usize, version: u64) -> Header {
        let is_control = self.kind < Header::DEFAULT_KIND;
        let flags = if is_control { Flags::WHOLE | Flags::CONTROL } else { Flags::WHOLE };
        Header { flags, len: self.len, kind: self.kind, stream: cell as u16, seq: version as u32 }
    }

    #[inline(always)]
    pub(super) fn of(word: u64) -> Self {
        Shape { len: word as u32, kind: (word >> 32) as u16 }
    }
}

impl Shared {
    /// `data` holds the heads, and `cells` times four slots of `stride` bytes.
    pub(crate) fn new(data: Area, cells: usize, stride: usize) -> Self {
        assert!(stride % 8 == 0 && stride >= SLOT_HEADER, "geometry was validated");
        assert!(data.len() >= heads_len(cells) + cells * SLOTS * stride, "geometry was validated");
        Shared { data, cells, stride, slots: heads_len(cells) }
    }

    /// Number of cells.
    #[inline(always)]
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// Largest value in bytes.
    #[inline(always)]
    pub(crate) fn max(&self) -> usize {
        self.stride - SLOT_HEADER
    }

    #[inline(always)]
    pub(super) fn data(&self) -> &Area {
        &self.data
    }

    /// Fails unless there is such a cell.
    #[inline(always)]
    pub(crate) fn check(&self, cell: usize) -> Result<()> {
        if cell < self.cells { Ok(()) } else { Err(Error::Invalid { what: NO_CELL }) }
    }

    /// The version of the newest value of `cell`.
    #[inline(always)]
    pub(super) fn head(&self, cell: usize) -> &AtomicU64 {
        assert!(cell < self.cells, "cells are checked by the handles");
        // SAFETY: the heads of all cells are inside the area (`new`).
        unsafe { self.data.word_unchecked(8 * cell) }
    }

    /// The slot of `version` of `cell`.
    #[inline(always)]
    pub(super) fn slot(&self, cell: usize, version: u64) -> Slot {
        assert!(cell < self.cells, "cells are checked by the handles");
        Slot(self.slots + (cell * SLOTS + version as usize % SLOTS) * self.stride)
    }

    /// The version whose value is in the slot, or is being written there.
    #[inline(always)]
    pub(super) fn mark(&self, slot: Slot) -> &AtomicU64 {
        // SAFETY: slots come from `slot`, and lie inside the area with their headers (`new`).
        unsafe { self.data.word_unchecked(slot.0) }
    }

    /// The slot's [`Shape`].
    #[inline(always)]
    pub(super) fn shape(&self, slot: Slot) -> &AtomicU64 {
        // SAFETY: as in `mark`.
        unsafe { self.data.word_unchecked(slot.0 + SHAPE) }
    }

    /// The version of the newest value of `cell`, for observers and for questions that copy
    /// nothing.
    #[inline(always)]
    pub(crate) fn version(&self, cell: usize) -> u64 {
        self.head(cell).load(Ordering::Relaxed)
    }

    /// How many values were written, and how many cells have one. Wait-free: a load for each cell.
    pub(crate) fn observe(&self) -> (u64, u64) {
        (0..self.cells).map(|cell| self.version(cell)).fold((0, 0), |(values, cells): (u64, u64), version| {
            (values.wrapping_add(version), cells + u64::from(version != 0))
        })
    }

    /// The length of the newest value of `cell`, if it has one: a hint.
    pub(crate) fn newest_len(&self, cell: usize) -> Option<u64> {
        let version = self.version(cell);
        let shape = || Shape::of(self.shape(self.slot(cell, version)).load(Ordering::Relaxed));
        (version != 0).then(|| u64::from(shape().len))
    }

    /// What is wrong with `cell`, which is not being written, if anything.
    pub(crate) fn problem(&self, cell: usize) -> Option<&'static str> {
        let head = self.version(cell);
        if head >= FORGED {
            return Some("version out of range");
        }
        for version in head.saturating_sub(SLOTS as u64 - 2)..=head {
            if version == 0 {
                continue;
            }
            let slot = self.slot(cell, version);
            if self.mark(slot).load(Ordering::Relaxed) != version {
                return Some("its slots do not have the newest versions");
            }
            if Shape::of(self.shape(slot).load(Ordering::Relaxed)).len as usize > self.max() {
                return Some("a value is longer than its slot");
            }
        }
        None
    }
}

/// No writer comes this far in centuries: a version from here on is forged.
pub(super) const FORGED: u64 = 1 << 63;

pub(crate) const NO_CELL: &str = "cell: must be below the number of cells of the board";
