//! How the data of a ring is accessed: by copies ([`Area`]), or by relaxed words ([`Words`]).
//!
//! Used by `ring/spsc`, whose algorithms are the same for both. In a broadcast ring, what the
//! publisher overwrites may be read at the same time by subscribers that check afterwards whether
//! they were overrun; so both access it by relaxed 8-byte atomics.

use crate::memory::Area;
use crate::sync::Ordering;

/// The data of a byte ring.
pub(crate) trait Data: Clone {
    /// The bytes, for atomics and for views of what is not overwritten.
    fn area(&self) -> &Area;

    /// Copies `src` to `offset`.
    ///
    /// # Safety
    /// As for [`Area::write`]; but code that checks afterwards may read the bytes of [`Words`].
    unsafe fn write(&self, offset: usize, src: &[u8]);

    /// Fills `len` bytes at `offset` with zeros.
    ///
    /// # Safety
    /// As for [`Data::write`]. Of [`Words`], a part of a unit is only zeroed where the preceding
    /// part was written by [`Data::write`].
    unsafe fn zero(&self, offset: usize, len: usize);

    /// Copies from `offset` into `dst`.
    ///
    /// # Safety
    /// As for [`Area::read`].
    unsafe fn read(&self, offset: usize, dst: &mut [u8]);

    /// Copies from `offset`, a multiple of 8, by relaxed word loads.
    fn copy_words(&self, offset: usize, dst: &mut [u8]);
}

impl Data for Area {
    #[inline(always)]
    fn area(&self) -> &Area {
        self
    }

    #[inline(always)]
    unsafe fn write(&self, offset: usize, src: &[u8]) {
        // SAFETY: by the same contract.
        unsafe { Area::write(self, offset, src) };
    }

    #[inline(always)]
    unsafe fn zero(&self, offset: usize, len: usize) {
        // SAFETY: by the same contract.
        unsafe { Area::zero(self, offset, len) };
    }

    #[inline(always)]
    unsafe fn read(&self, offset: usize, dst: &mut [u8]) {
        // SAFETY: by the same contract.
        unsafe { Area::read(self, offset, dst) };
    }

    fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        Area::copy_words(self, offset, dst);
    }
}

/// Data that is written by relaxed words, a part of a unit as a whole one with zeros behind.
#[derive(Clone)]
pub(crate) struct Words(pub(crate) Area);

impl Data for Words {
    #[inline(always)]
    fn area(&self) -> &Area {
        &self.0
    }

    #[inline(always)]
    unsafe fn write(&self, offset: usize, src: &[u8]) {
        self.0.store_words(offset, src);
    }

    #[inline(always)]
    unsafe fn zero(&self, offset: usize, len: usize) {
        debug_assert!((offset + len) % 8 == 0 && offset + len <= self.0.len());
        let mut at = offset.next_multiple_of(8);
        while at < offset + len {
            // SAFETY: a multiple of 8 before the end, which is inside by contract.
            let word = unsafe { self.0.word_unchecked(at) };
            word.store(0, Ordering::Relaxed);
            at += 8;
        }
    }

    #[inline(always)]
    unsafe fn read(&self, offset: usize, dst: &mut [u8]) {
        // In a model, words and bytes are different memory.
        if cfg!(slipring_loom) {
            self.copy_words(offset, dst);
        } else {
            // SAFETY: by the same contract.
            unsafe { self.0.read(offset, dst) };
        }
    }

    #[inline(always)]
    fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        self.0.load_words(offset, dst);
    }
}
