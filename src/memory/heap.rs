//! Memory of this process alone: for tests, for Miri, and for rings between threads.
//!
//! Used by `segment/`. Relies on the allocator.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use super::Memory;
use crate::error::{Error, Result};
use crate::memory::Area;

/// Pages are aligned as in a mapped segment, and so are pairs of cache lines.
const ALIGN: usize = 4096;

/// An allocation, freed when its last area is dropped.
struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is a plain address range; it is touched only through areas, and freed once,
// with the last of them.
unsafe impl Send for Block {}
// SAFETY: as above; `&Block` gives no access to the memory.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this very layout, and every area over it
        // held an `Arc` of us.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// Allocates zeroed control and data spans of the given lengths (multiples of 8, not zero). The
/// data is not mirrored.
pub(crate) fn heap(control_len: usize, data_len: usize) -> Result<Memory> {
    Ok(Memory { control: allocate(control_len)?, data: allocate(data_len)?, downgrades: Vec::new() })
}

fn allocate(len: usize) -> Result<Area> {
    let invalid = Error::Invalid { what: "size: must be a positive multiple of 8 that fits the address space" };
    let layout = match Layout::from_size_align(len, ALIGN) {
        Ok(layout) if len != 0 && len % 8 == 0 => layout,
        _ => return Err(invalid),
    };
    // SAFETY: the layout has a size other than zero.
    let base = unsafe { alloc_zeroed(layout) };
    let base = NonNull::new(base).ok_or_else(|| Error::io("allocate", std::io::ErrorKind::OutOfMemory))?;
    let block = Arc::new(Block { base, layout });
    // SAFETY: `base .. base + len` is the block, readable, writable, zeroed, page aligned, and
    // freed only when `block` is.
    Ok(unsafe { Area::new(base, len, block) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn zeroed_aligned_and_alive_through_any_part() {
        let memory = heap(4096, 8192).unwrap();
        assert_eq!((memory.control.len(), memory.data.len()), (4096, 8192));
        assert_eq!(memory.data.base().addr() % 128, 0);
        let tail = memory.data.part(8192 - 8, 8);
        drop(memory);
        assert_eq!(tail.word(0).fetch_add(1, Ordering::Relaxed), 0);
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [0, 7, usize::MAX, isize::MAX as usize] {
            assert!(matches!(heap(len, 4096), Err(Error::Invalid { .. })), "{len}");
        }
    }
}
