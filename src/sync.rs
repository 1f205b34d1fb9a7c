//! Ground floor: atomics, shared memory in 8-byte units, and the futex. std in production, loom
//! under model checking.
//!
//! This is the only file that depends on loom. All other modules take their atomics, fences and
//! memory from here, so `loom-tests` checks the real sources of the algorithms.
//!
//! An [`Area`] is a span of memory that other processes may share. Control words are accessed as
//! atomics ([`Area::word`], [`Area::half`]), payload by copies ([`Area::write`], [`Area::read`]).
//! Under loom every unit is an atomic *and* an `UnsafeCell`, and writing payload over a unit
//! poisons its atomic. The model thus detects payload races and headers that were not zeroed.

#[cfg(not(slipring_loom))]
pub(crate) use std_backend::*;

#[cfg(slipring_loom)]
pub(crate) use loom_backend::*;

/// Distance between two hot words, so that no two share a cache line or an adjacent-line prefetch
/// pair.
///
/// 128 on every target, because the layout must not depend on the compiling machine: x86-64
/// prefetches pairs of 64-byte lines, and some AArch64 cores have lines of 128. (Under loom nothing
/// shares lines, and every unit costs model time.)
pub(crate) const LINE: usize = if cfg!(slipring_loom) { 8 } else { 128 };

/// The later of two free-running positions that are less than 2^63 apart: also correct where they
/// wrap around 2^64.
#[inline(always)]
pub(crate) const fn later(a: u64, b: u64) -> u64 {
    if (a.wrapping_sub(b) as i64) < 0 { b } else { a }
}

#[cfg(not(slipring_loom))]
mod std_backend {
    use std::any::Any;
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    use std::arch::asm;
    use std::ptr::NonNull;
    use std::sync::Arc;

    pub(crate) use crate::os::futex;
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
    pub(crate) use std::thread::yield_now;

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
        /// `base .. base + len` is readable and writable memory for as long as `owner` lives,
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
}

#[cfg(slipring_loom)]
mod loom_backend {
    use std::sync::Arc;

    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(crate) use loom::thread::yield_now;

    /// loom has no asymmetric fences; the models run the fenced protocol (docs/memory-model.md
    /// argues the asymmetric one).
    pub(crate) fn compiler_fence(_: Ordering) {}

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

    /// The futex, modelled: compare and queue under one lock, as the kernel does under its
    /// hash-bucket lock.
    pub(crate) mod futex {
        use super::{AtomicU32, Ordering};
        use loom::sync::Mutex;
        use loom::thread::{self, Thread};
        use std::time::Duration;

        loom::lazy_static! {
            /// The sleeping threads and the addresses they sleep on, in the order of arrival.
            static ref QUEUE: Mutex<Vec<(usize, Thread)>> = Mutex::new(Vec::new());
        }

        /// Sleeps while `*word == expected`; false if it did not sleep. Never times out: in the
        /// model a lost wake-up must show as a deadlock.
        pub(crate) fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) -> bool {
            let me = thread::current();
            let mut queue = QUEUE.lock().unwrap();
            if word.load(Ordering::Relaxed) != expected {
                return false;
            }
            queue.push((std::ptr::from_ref(word).addr(), me.clone()));
            drop(queue);
            loop {
                thread::park();
                if !QUEUE.lock().unwrap().iter().any(|(_, sleeper)| sleeper.id() == me.id()) {
                    return true;
                }
            }
        }

        /// Wakes up to `count` sleepers and returns how many.
        pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
            let key = std::ptr::from_ref(word).addr();
            let mut queue = QUEUE.lock().unwrap();
            let mut woken = 0;
            while woken < count {
                let Some(at) = queue.iter().position(|(k, _)| *k == key) else { break };
                let (_, sleeper) = queue.remove(at);
                sleeper.unpark();
                woken += 1;
            }
            woken
        }
    }
}
