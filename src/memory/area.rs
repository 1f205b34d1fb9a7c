//! [`Area`]: shared memory in 8-byte units.
//!
//! Used by all code that accesses a mapped segment; `memory/` makes them. Relies on `sync.rs` for
//! the atomics.
//!
//! Control words are accessed as atomics ([`Area::word`], [`Area::half`]), payload by copies
//! ([`Area::write`], [`Area::read`]). Models have an area of their own with the same functions,
//! which detects payload races (`loom-tests/src/memory/area.rs`).

use std::any::Any;
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
use std::arch::asm;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Distance between two hot words, so that no two share a cache line or an adjacent-line prefetch
/// pair.
///
/// 128 on every target, because the layout must not depend on the compiling machine: x86-64
/// prefetches pairs of 64-byte lines, and some AArch64 cores have lines of 128.
pub(crate) const LINE: usize = 128;

/// A span of shared memory, 8-byte aligned, alive as long as this value or a clone of it.
#[derive(Clone)]
pub(crate) struct Area {
    base: NonNull<u8>,
    len: usize,
    /// Unmaps or frees the memory when the last area over it is dropped.
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: an area is a plain address range kept alive by `_owner`; which code may access its
// bytes is stated by the callers of its unsafe methods.
unsafe impl Send for Area {}
// SAFETY: as above; the safe methods only return atomics.
unsafe impl Sync for Area {}

impl Area {
    /// # Safety
    /// `base .. base + len` is readable memory for as long as `owner` lives, and writable unless
    /// its users only load relaxed atomics from it;
    /// `base` is 8-byte aligned, and everything in this process that touches it does so through
    /// areas or under the same protocol.
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        assert!(base.addr().get() % 8 == 0 && len % 8 == 0, "an area consists of whole 8-byte units");
        Area { base, len, _owner: owner }
    }

    /// The part `offset .. offset + len`.
    ///
    /// # Panics
    /// If that is not whole units inside this area: callers pass constants or validated
    /// geometry.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Self {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "part outside its area");
        // SAFETY: offset <= self.len, so the pointer stays inside (or one past) the same
        // allocation.
        let base = unsafe { self.base.add(offset) };
        // SAFETY: a sub-range of a valid area, with the same owner; alignment is asserted by
        // `new`.
        unsafe { Area::new(base, len, Arc::clone(&self._owner)) }
    }

    /// Length in bytes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte. Only for the floors that create grants.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The 8-byte atomic at `offset`.
    ///
    /// # Panics
    /// If `offset` is unaligned or outside. Hot paths resolve their words once, or use
    /// [`Area::word_unchecked`].
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < self.len, "word outside its area");
        // SAFETY: just checked; the length is a multiple of 8, so all eight bytes are inside.
        unsafe { self.word_unchecked(offset) }
    }

    /// The 8-byte atomic at `offset`, without a check.
    ///
    /// # Safety
    /// `offset` is a multiple of 8 below [`Area::len`].
    #[inline(always)]
    pub(crate) unsafe fn word_unchecked(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset < self.len);
        // SAFETY: in bounds by contract, so the addition stays inside the allocation.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: aligned (base and offset are multiples of 8), alive as long as `self`, and
        // every access is atomic or follows the ring's ownership protocol.
        unsafe { AtomicU64::from_ptr(at.as_ptr().cast()) }
    }

    /// The 4-byte atomic at `offset` (futex words). A location is always used with the same
    /// size.
    ///
    /// # Panics
    /// If `offset` is unaligned or outside.
    #[inline]
    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % 4 == 0 && offset < self.len, "half word outside its area");
        // SAFETY: just checked; the length is a multiple of 8, so all four bytes are inside.
        unsafe { self.half_unchecked(offset) }
    }

    /// The 4-byte atomic at `offset`, without a check.
    ///
    /// # Safety
    /// `offset` is a multiple of 4, and `offset + 4 <= self.len()`.
    #[inline(always)]
    pub(crate) unsafe fn half_unchecked(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset % 4 == 0 && offset < self.len);
        // SAFETY: in bounds by contract, so the addition stays inside the allocation.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: aligned, in bounds, alive as long as `self`, always accessed as a 4-byte
        // atomic.
        unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
    }

    /// Prefetches the two cache lines from `offset` on for writing. Only a hint: valid for any
    /// address.
    #[inline(always)]
    pub(crate) fn prefetch_to_write(&self, offset: usize) {
        let line = self.base.as_ptr().wrapping_add(offset).addr(); // a number: nothing is accessed through it
        // SAFETY: a prefetch accesses no memory as far as the program can tell, and faults
        // nowhere (AMD64 manual, volume 3; a processor that does not know PREFETCHW takes it
        // for a NOP).
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            asm!("prefetchw [{0}]", "prefetchw [{0} + 64]", in(reg) line, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: as above (Arm Architecture Reference Manual, PRFM: "does not generate a
        // synchronous abort").
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        unsafe {
            asm!("prfm pstl1keep, [{0}]", "prfm pstl1keep, [{0}, #64]", in(reg) line, options(nomem, nostack, preserves_flags));
        }
        let _ = line;
    }

    /// Prefetches the cache line at `offset` for reading. Only a hint: valid for any address.
    #[inline(always)]
    pub(crate) fn prefetch_to_read(&self, offset: usize) {
        let line = self.base.as_ptr().wrapping_add(offset).addr();
        // SAFETY: as in `prefetch_to_write`.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            asm!("prefetcht0 [{0}]", in(reg) line, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: as above.
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        unsafe {
            asm!("prfm pldl1keep, [{0}]", in(reg) line, options(nomem, nostack, preserves_flags));
        }
        let _ = line;
    }

    /// Stores zero into the padding at `offset`, so that this processor gets its cache line.
    ///
    /// # Safety
    /// `offset` is a multiple of 8 below [`Area::len`], and the word there holds nothing that is
    /// read, or stored by other code.
    #[inline(always)]
    pub(crate) unsafe fn touch(&self, offset: usize) {
        // SAFETY: in bounds and aligned by contract.
        let word = unsafe { self.word_unchecked(offset) };
        // Relaxed: the value is not read.
        word.store(0, Ordering::Relaxed);
    }

    /// Copies `src` to `offset`.
    ///
    /// # Safety
    /// `offset + src.len() <= self.len()`, and by the caller's protocol no other code reads or
    /// writes those bytes now.
    #[inline(always)]
    pub(crate) unsafe fn write(&self, offset: usize, src: &[u8]) {
        debug_assert!(offset + src.len() <= self.len);
        // SAFETY: in bounds by contract.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: in bounds by contract. They do not overlap: by contract no other code reads
        // the bytes written to, and a live slice is being read. `src` may be a frame in this
        // very ring: that is committed and not released, and the bytes written to are free.
        unsafe { std::ptr::copy_nonoverlapping(src.as_ptr(), at.as_ptr(), src.len()) };
    }

    /// Fills `len` bytes at `offset` with zeros.
    ///
    /// # Safety
    /// As for [`Area::write`].
    #[inline(always)]
    pub(crate) unsafe fn zero(&self, offset: usize, len: usize) {
        debug_assert!(offset + len <= self.len);
        // SAFETY: in bounds by contract.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: in bounds and exclusively ours by contract.
        unsafe { std::ptr::write_bytes(at.as_ptr(), 0, len) };
    }

    /// Copies from `offset`, a multiple of 8, into `dst`, by relaxed word loads. For observers:
    /// the bytes are torn if they are being written.
    ///
    /// # Panics
    /// If that is outside.
    pub(crate) fn copy_words(&self, offset: usize, dst: &mut [u8]) {
        for (i, bytes) in dst.chunks_mut(8).enumerate() {
            let word = self.word(offset + 8 * i).load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
        }
    }

    /// Loads whole words from `offset`, a multiple of 8, into `dst`, each by a relaxed load or as
    /// half of a wider one: for bytes that another participant may store meanwhile by
    /// [`Area::store_words`]. Then they are torn.
    ///
    /// # Panics
    /// If that is outside.
    #[inline(always)]
    pub(crate) fn load_words(&self, offset: usize, dst: &mut [u8]) {
        assert!(offset % 8 == 0 && offset <= self.len && dst.len() <= self.len - offset, "words outside their area");
        let mut at = offset;
        let (pairs, rest) = dst.split_at_mut(dst.len() / 16 * 16);
        for bytes in pairs.chunks_exact_mut(16) {
            // SAFETY: `at` is a multiple of 8, and 16 bytes before the end (the assertion).
            bytes.copy_from_slice(&unsafe { self.load_pair(at) });
            at += 16;
        }
        for bytes in rest.chunks_mut(8) {
            let word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
            bytes.copy_from_slice(&word[..bytes.len()]);
            at += 8;
        }
    }

    /// Two words from `offset` on, not necessarily of the same moment.
    ///
    /// # Safety
    /// `offset` is a multiple of 8, and `offset + 16 <= self.len()`.
    #[inline(always)]
    unsafe fn load_pair(&self, offset: usize) -> [u8; 16] {
        debug_assert!(offset % 8 == 0 && offset + 16 <= self.len);
        // One load of 16 bytes. Two words would be stored one by one, and a move of the value by 16
        // bytes would wait until both stores have reached the cache: longer than the copy takes.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            // SAFETY: in bounds by contract.
            let at = unsafe { self.base.add(offset) };
            let pair: std::arch::x86_64::__m128i;
            // SAFETY: loads 16 readable bytes. To the compiler it is unknown code that loads from
            // memory, as two relaxed loads in it would: no fence moves across it. The processor
            // orders it with other loads as it does those of 8 bytes.
            unsafe {
                asm!("movups {}, [{}]", out(xmm_reg) pair, in(reg) at.as_ptr(), options(readonly, nostack, preserves_flags))
            };
            // SAFETY: both types are 16 bytes, of which every value is valid.
            unsafe { std::mem::transmute(pair) }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        {
            let mut pair = [0; 16];
            for (i, bytes) in pair.chunks_exact_mut(8).enumerate() {
                // SAFETY: multiples of 8 below the end by contract.
                let word = unsafe { self.word_unchecked(offset + 8 * i) };
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
            pair
        }
    }

    /// Stores `src` at `offset`, a multiple of 8, each word by a relaxed store: for bytes that
    /// another participant may load meanwhile by [`Area::load_words`]. The last word is filled up
    /// with zeros.
    ///
    /// # Panics
    /// If that is outside.
    #[inline(always)]
    pub(crate) fn store_words(&self, offset: usize, src: &[u8]) {
        assert!(offset % 8 == 0 && offset <= self.len && src.len() <= self.len - offset, "words outside their area");
        let (words, rest) = src.split_at(src.len() / 8 * 8);
        for (i, bytes) in words.chunks_exact(8).enumerate() {
            // SAFETY: a multiple of 8 below the end (the assertion).
            let word = unsafe { self.word_unchecked(offset + 8 * i) };
            word.store(u64::from_ne_bytes(std::array::from_fn(|k| bytes[k])), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(offset + words.len()).store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
    }

    /// Copies from `offset` into `dst`.
    ///
    /// # Safety
    /// `offset + dst.len() <= self.len()`, and by the caller's protocol no other code writes
    /// those bytes now.
    #[inline(always)]
    pub(crate) unsafe fn read(&self, offset: usize, dst: &mut [u8]) {
        debug_assert!(offset + dst.len() <= self.len);
        // SAFETY: in bounds by contract.
        let at = unsafe { self.base.add(offset) };
        // SAFETY: in bounds by contract. They do not overlap: by contract no other code writes
        // the bytes read, and `dst` is a slice to be written. It may be a grant in this very
        // ring: that is free, and the bytes read are committed.
        unsafe { std::ptr::copy_nonoverlapping(at.as_ptr(), dst.as_mut_ptr(), dst.len()) };
    }
}
