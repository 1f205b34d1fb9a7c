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

impl Words {
    #[inline(always)]
    fn store(&self, offset: usize, value: u64) {
        debug_assert!(offset % 8 == 0 && offset < self.0.len());
        // SAFETY: the callers below pass multiples of 8 inside the area.
        let word = unsafe { self.0.word_unchecked(offset) };
        word.store(value, Ordering::Relaxed);
    }
}

impl Data for Words {
    #[inline(always)]
    fn area(&self) -> &Area {
        &self.0
    }

    #[inline(always)]
    unsafe fn write(&self, offset: usize, src: &[u8]) {
        // Payloads begin at multiples of 8, and the area ends at one, so the last unit is inside.
        debug_assert!(offset % 8 == 0 && offset + src.len() <= self.0.len());
        let mut at = offset;
        let mut units = src.chunks_exact(8);
        for unit in &mut units {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(unit);
            self.store(at, u64::from_ne_bytes(bytes));
            at += 8;
        }
        let rest = units.remainder();
        if !rest.is_empty() {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            self.store(at, u64::from_ne_bytes(bytes));
        }
    }

    #[inline(always)]
    unsafe fn zero(&self, offset: usize, len: usize) {
        debug_assert!((offset + len) % 8 == 0 && offset + len <= self.0.len());
        let mut at = offset.next_multiple_of(8);
        while at < offset + len {
            self.store(at, 0);
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

    fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        let mut units = dst.chunks_exact_mut(8);
        let mut at = offset;
        for unit in &mut units {
            unit.copy_from_slice(&self.0.word(at).load(Ordering::Relaxed).to_ne_bytes());
            at += 8;
        }
        let rest = units.into_remainder();
        if !rest.is_empty() {
            let bytes = self.0.word(at).load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&bytes[..rest.len()]);
        }
    }
}
