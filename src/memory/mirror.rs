//! The mirrored mapping: the same pages twice, back to back, so that bytes that wrap around are
//! still one slice. Where a segment has several rings one after the other (lanes), each of them is
//! mirrored by itself.
//!
//! ```text
//! file        0   1   2            one piece for each ring
//! mapping     0 0 1 1 2 2          each with its copy; a copy and the next piece follow each other in the
//!               └─┘ └─┘            file, too, so they are one mapping: one more mapping than there are pieces
//! ```
//!
//! Used by `mapped.rs` for byte rings. Address space is reserved first and then replaced piecewise
//! with `MAP_FIXED`. No other mapping can be overwritten, and the reservation is unmapped as a
//! whole.

use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, null_mut};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::error::{Error, Result};

/// `len` bytes of a file: each piece of them mapped twice, back to back, from `base` on.
pub(super) struct Mirror {
    base: NonNull<u8>,
    len: usize,
    reserved: NonNull<u8>,
    reserved_len: usize,
}

// SAFETY: an address range; it is touched only through areas, and unmapped once, with the last of
// them.
unsafe impl Send for Mirror {}
// SAFETY: as above; `&Mirror` gives access to nothing but addresses.
unsafe impl Sync for Mirror {}

impl Mirror {
    /// Maps each of `pieces` equal pieces of `offset .. offset + len` of `fd` twice, all ends on
    /// multiples of `align` (a power of two, at least a page, which divides `offset` and the length
    /// of a piece: 2 MiB for huge pages).
    pub(super) fn new(fd: BorrowedFd<'_>, offset: usize, len: usize, pieces: usize, align: usize) -> Result<Self> {
        assert!(pieces > 0 && len % pieces == 0, "geometry was validated");
        let too_large = Error::Invalid { what: "capacity: twice its size does not fit into the address space" };
        let slack = if align > rustix::param::page_size() { align } else { 0 };
        let Some(reserved_len) = len.checked_mul(2).and_then(|twice| twice.checked_add(slack)) else {
            return Err(too_large);
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory
        // that exists.
        let reserved = unsafe { mmap_anonymous(null_mut(), reserved_len, ProtFlags::empty(), flags) }
            .map_err(|e| Error::io("reserve address space for the ring", e))?;
        let Some(reserved) = NonNull::new(reserved.cast::<u8>()) else {
            return Err(too_large); // the kernel never maps page zero without being asked to
        };
        let padding = reserved.align_offset(align);
        // SAFETY: with slack, padding < align = slack; without, the address is page aligned and
        // padding is 0. Either way base + 2 * len <= reserved + reserved_len.
        let base = unsafe { reserved.add(padding) };
        let mirror = Mirror { base, len, reserved, reserved_len }; // unmaps what it has if a step below fails
        let piece = len / pieces;
        // The first piece; then each copy, with the piece that follows it in the file.
        let copies = (0..pieces).map(|i| ((2 * i + 1) * piece, i * piece, (2 * piece).min(len - i * piece)));
        for (to, from, part) in std::iter::once((0, 0, piece)).chain(copies) {
            // SAFETY: to + part <= 2 * len, which lies inside the reservation (above): the last
            // copy begins a piece before that, and is one piece long.
            let at = unsafe { base.add(to) };
            let prot = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: `at .. at + part` lies inside our own reservation, known to no other code:
            // MAP_FIXED replaces only it.
            unsafe { mmap(at.as_ptr().cast(), part, prot, flags, fd, (offset + from) as u64) }
                .map_err(|e| Error::io("map the ring's data", e))?;
        }
        Ok(mirror)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// All pieces and their copies together.
    pub(super) fn len(&self) -> usize {
        2 * self.len
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: the whole reservation is ours, and every area over it held an `Arc` of us. An
        // error leaves it mapped, which is harmless.
        let _ = unsafe { munmap(self.reserved.as_ptr().cast(), self.reserved_len) };
    }
}
