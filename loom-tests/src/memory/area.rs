//! The model of `memory/area.rs`: shared memory in units of 8 bytes.
//!
//! Every unit is an atomic *and* an `UnsafeCell`, and writing payload over a unit poisons its
//! atomic. The models thus detect payload races and headers that were not zeroed.

use std::sync::Arc;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Under loom nothing shares lines, and every unit costs model time.
pub(crate) const LINE: usize = 8;

/// The value that a payload write leaves in a unit's atomic: never zero, never a valid commit
/// word.
const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;

struct Unit {
    word: AtomicU64,
    halves: [AtomicU32; 2],
    payload: loom::cell::UnsafeCell<[u8; 8]>,
}

/// The model of a shared span: units of 8 bytes, each usable as one word, two halves, or
/// tracked payload.
#[derive(Clone)]
pub(crate) struct Area {
    units: Arc<Vec<Unit>>,
    first: usize,
    len: usize,
}

impl Area {
    pub(crate) fn model(len: usize) -> Self {
        let unit = |_| Unit {
            word: AtomicU64::new(0),
            halves: [AtomicU32::new(0), AtomicU32::new(0)],
            payload: loom::cell::UnsafeCell::new([0; 8]),
        };
        Area { units: Arc::new((0..len / 8).map(unit).collect()), first: 0, len }
    }

    pub(crate) fn part(&self, offset: usize, len: usize) -> Self {
        assert!(offset % 8 == 0 && offset + len <= self.len);
        Area { units: Arc::clone(&self.units), first: self.first + offset / 8, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn unit(&self, offset: usize) -> &Unit {
        assert!(offset < self.len);
        &self.units[self.first + offset / 8]
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.unit(offset).word
    }

    pub(crate) fn prefetch_to_write(&self, _: usize) {}

    pub(crate) fn prefetch_to_read(&self, _: usize) {}

    /// Fails the model unless the unit is padding: the value is wrong in a commit word or a header,
    /// and the access is a race in a payload.
    ///
    /// # Safety
    /// None needed here: see above.
    pub(crate) unsafe fn touch(&self, offset: usize) {
        let unit = self.unit(offset);
        unit.word.store(POISON, Ordering::Relaxed);
        unit.payload.with(|_| ());
    }

    /// # Safety
    /// None needed here: the model checks its bounds.
    pub(crate) unsafe fn word_unchecked(&self, offset: usize) -> &AtomicU64 {
        self.word(offset)
    }

    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        &self.unit(offset).halves[(offset / 4) % 2]
    }

    /// # Safety
    /// None needed here: the model checks its bounds.
    pub(crate) unsafe fn half_unchecked(&self, offset: usize) -> &AtomicU32 {
        self.half(offset)
    }

    /// # Safety
    /// Checked by loom: a race on any touched unit fails the model.
    pub(crate) unsafe fn write(&self, offset: usize, src: &[u8]) {
        for (i, byte) in src.iter().enumerate() {
            let unit = self.unit(offset + i);
            if i == 0 || (offset + i) % 8 == 0 {
                unit.word.store(POISON, Ordering::Relaxed);
            }
            // SAFETY: loom verifies that no other thread touches the cell meanwhile.
            unit.payload.with_mut(|p| unsafe { (*p)[(offset + i) % 8] = *byte });
        }
    }

    /// # Safety
    /// As for `write`.
    pub(crate) unsafe fn zero(&self, offset: usize, len: usize) {
        for i in offset..offset + len {
            if i % 8 == 0 && i + 8 <= offset + len {
                self.unit(i).word.store(0, Ordering::Relaxed); // all of it
            }
            // SAFETY: loom verifies that no other thread touches the cell meanwhile.
            self.unit(i).payload.with_mut(|p| unsafe { (*p)[i % 8] = 0 });
        }
    }

    /// As the real one, except that a race fails the model.
    pub(crate) fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        // SAFETY: none needed here: loom verifies that no other thread writes the cells
        // meanwhile.
        unsafe { self.read(offset, dst) };
    }

    /// As the real one: words of their own, which no payload is written into.
    pub(crate) fn load_words(&self, offset: usize, dst: &mut [u8]) {
        for (i, bytes) in dst.chunks_mut(8).enumerate() {
            let word = self.word(offset + 8 * i).load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }

    /// As the real one. Also writes payload, so that a race with a reader in place fails the model.
    pub(crate) fn store_words(&self, offset: usize, src: &[u8]) {
        for (i, bytes) in src.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            let unit = self.unit(offset + 8 * i);
            unit.word.store(u64::from_ne_bytes(word), Ordering::Relaxed);
            // SAFETY: loom verifies that no other thread touches the cell meanwhile.
            unit.payload.with_mut(|p| unsafe { *p = word });
        }
    }

    /// # Safety
    /// As for `write`.
    pub(crate) unsafe fn read(&self, offset: usize, dst: &mut [u8]) {
        for (i, byte) in dst.iter_mut().enumerate() {
            let unit = self.unit(offset + i);
            // SAFETY: loom verifies that no other thread writes the cell meanwhile.
            *byte = unit.payload.with(|p| unsafe { (*p)[(offset + i) % 8] });
        }
    }
}
