//! The algorithm of the board of latest values. `loom-tests` compiles and checks this file.
//!
//! Used by the handles. Relies on `layout.rs` for the words.
//!
//! # Protocol
//!
//! Each cell has four slots and a head, the version of its newest value. Version v is in slot
//! v % 4.
//!
//! ```text
//! writer                                   reader
//! W1  v := head + 1                        R1  v := head, Acquire
//! W2  mark of slot v % 4 := v              R2  copy the value of slot v % 4, relaxed
//! W3  Release fence                        R3  Acquire fence
//! W4  store the value, relaxed             R4  mark of slot v % 4 is v? done: else R1
//! W5  head := v, Release
//! ```
//!
//! **Whole.** R1 reads what W5 stored (SYNC(latest-publish)), so R2 sees the value of v or of a
//! later version, and R4 sees the mark of v or of a later one. If R2 read a word that W4 stored for
//! a later version w in the same slot, then the fences W3 and R3 pair (SYNC(latest-mark)), and R4
//! sees the mark of w or of a later one, which is not v. So a copy that passes R4 is the value of v
//! and of no other version.
//!
//! **Death.** A writer that dies before W5 has changed a slot that holds no value which is still
//! newest: the newest one stays. Its successor begins at W1 with the same version and slot. A
//! reader gets that version only after W5 of the successor, whose stores to the slot come later
//! than those of the dead one.
//!
//! **Progress.** Writing is wait-free. Reading is lock-free: a copy fails only if the writer has
//! begun the fourth value after it meanwhile, so a failure means that at least three values were
//! published. After [`ATTEMPTS`] failures the call fails.
//!
//! **Forged bytes.** Slots are computed from masked versions, and lengths are limited to the slot
//! and to the buffer before they are used. Nothing that is in shared memory leads outside of it.

use super::layout::{FORGED, Shape, Shared};
use crate::error::{Error, Result};
use crate::ring::position::is_before;
use crate::sync::{Ordering, fence, spin_loop};

/// Copies that may fail before a reader gives up.
#[cfg(not(slipring_loom))]
pub(crate) const ATTEMPTS: usize = 1000;
/// A model explores all of them.
#[cfg(slipring_loom)]
pub(crate) const ATTEMPTS: usize = 2;

/// The writer's half.
pub(crate) struct Writer {
    shared: Shared,
}

impl Writer {
    /// Continues behind the newest value of each cell. The caller holds the producer role.
    pub(crate) fn attach(shared: Shared) -> Result<Self> {
        if (0..shared.cells()).any(|cell| shared.version(cell) >= FORGED) {
            return Err(Error::Corrupt { what: "version of a latest value" });
        }
        Ok(Writer { shared })
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Publishes `value`, which is at most [`Shared::max`] bytes long, as the newest one of `cell`,
    /// and returns its version.
    #[inline(always)]
    pub(crate) fn write(&mut self, cell: usize, kind: u16, value: &[u8]) -> u64 {
        let version = self.fill(cell, kind, value);
        // SYNC(latest-publish): pairs with the load in `copy`.
        self.shared.head(cell).store(version, Ordering::Release);
        version
    }

    /// Stores `value` where the next one of `cell` goes, and returns its version. Until it is
    /// published, it does not exist.
    #[inline(always)]
    pub(crate) fn fill(&mut self, cell: usize, kind: u16, value: &[u8]) -> u64 {
        // Relaxed: only this writer stores it, or a predecessor whose end came before it attached.
        let version = self.shared.head(cell).load(Ordering::Relaxed).wrapping_add(1);
        let slot = self.shared.slot(cell, version);
        self.shared.mark(slot).store(version, Ordering::Relaxed);
        // SYNC(latest-mark): pairs with the fence in `copy`.
        fence(Ordering::Release);
        let shape = Shape { len: value.len() as u32, kind };
        self.shared.shape(slot).store(shape.word(), Ordering::Relaxed);
        self.shared.data().store_words(slot.value(), value);
        version
    }
}

/// Why there is no copy of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No value was written yet.
    Nothing,
    /// The writer was faster than each of the copies.
    Overtaken,
    /// The value is longer than the buffer: this many bytes.
    Long(usize),
    /// The words of the cell are not what a writer stores.
    Forged,
}

/// Copies the newest value of `cell` into `buffer`, and returns its version and shape; its length
/// is at most that of the buffer. With `WHOLE`, copies as many bytes as the buffer has, which is at
/// most [`Shared::max`], whatever the length is.
#[inline(always)]
pub(crate) fn copy<const WHOLE: bool>(shared: &Shared, cell: usize, buffer: &mut [u8]) -> Result<(u64, Shape), Miss> {
    for _ in 0..ATTEMPTS {
        // SYNC(latest-publish): the value of this version, or a later one in its slot, is visible.
        let version = shared.head(cell).load(Ordering::Acquire);
        if version == 0 {
            return Err(Miss::Nothing);
        }
        let slot = shared.slot(cell, version);
        let shape = Shape::of(shared.shape(slot).load(Ordering::Relaxed));
        // The length may belong to another version, or be forged.
        let len = if WHOLE { buffer.len() } else { (shape.len as usize).min(shared.max()).min(buffer.len()) };
        shared.data().load_words(slot.value(), &mut buffer[..len]);
        // SYNC(latest-mark): if a later value was seen, its mark is seen, too.
        fence(Ordering::Acquire);
        let mark = shared.mark(slot).load(Ordering::Relaxed);
        if mark == version {
            let len = shape.len as usize;
            return match len {
                _ if len > shared.max() => Err(Miss::Forged),
                _ if len > buffer.len() => Err(Miss::Long(len)),
                _ => Ok((version, shape)),
            };
        }
        if is_before(mark, version) {
            return Err(Miss::Forged); // the writer stores the mark before the head
        }
        spin_loop();
    }
    Err(Miss::Overtaken)
}
