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

    /// Zeros the rest of the unit in which a payload ends at `offset` that was written in parts
    /// ([`Words::write_part`]). No other code stores there.
    fn end_parts(&self, offset: usize);

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

    /// Nothing: the bytes behind a payload are zeroed by [`Data::zero`].
    #[inline(always)]
    fn end_parts(&self, _: usize) {}

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
    fn end_parts(&self, offset: usize) {
        if offset % 8 != 0 {
            self.merge(offset, &[0; 8][offset % 8..]);
        }
    }

    #[inline(always)]
    unsafe fn read(&self, offset: usize, dst: &mut [u8]) {
        // SAFETY: by the same contract.
        unsafe { self.0.read(offset, dst) };
    }

    #[inline(always)]
    fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        self.0.load_words(offset, dst);
    }
}

impl Words {
    /// Copies `src` to `offset`, which need not be a multiple of 8, and leaves the other bytes of
    /// the units as they are. No other code stores there.
    ///
    /// # Panics
    /// If that is outside.
    #[inline]
    pub(crate) fn write_part(&self, offset: usize, src: &[u8]) {
        let (first, rest) = src.split_at(src.len().min(offset.wrapping_neg() % 8));
        let (words, last) = rest.split_at(rest.len() / 8 * 8);
        let at = offset + first.len();
        self.merge(offset, first);
        if !words.is_empty() {
            self.0.store_words(at, words);
        }
        self.merge(at + words.len(), last);
    }

    /// [`Words::write_part`] inside one unit.
    #[inline(always)]
    fn merge(&self, offset: usize, src: &[u8]) {
        if src.is_empty() {
            return;
        }
        let (word, at) = (self.0.word(offset & !7), offset % 8);
        let mut bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        bytes[at..at + src.len()].copy_from_slice(src);
        word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
}

#[cfg(all(test, not(slipring_loom)))]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn a_part_leaves_the_bytes_around_it() {
        for offset in 0..17 {
            for len in 0..=(32 - offset) {
                let words = Words(memory::heap(64, 64).unwrap().control);
                words.0.store_words(0, &[7; 32]);
                let part: Vec<u8> = (1..=len as u8).collect();
                words.write_part(offset, &part);
                let mut expected = [7; 32];
                expected[offset..offset + len].copy_from_slice(&part);
                let mut found = [0; 32];
                words.copy_words(0, &mut found);
                assert_eq!(found, expected, "{len} bytes at {offset}");
                words.end_parts(offset + len);
                expected[offset + len..(offset + len).next_multiple_of(8)].fill(0);
                words.copy_words(0, &mut found);
                assert_eq!(found, expected, "the end of {len} bytes at {offset}");
            }
        }
    }
}
