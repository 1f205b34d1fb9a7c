//! Plain shared memory between the ends: some words, and some blocks.
//!
//! Used by the floors, by peers to which the harness has to add something, and to tell receivers
//! that a sender which does not wait for them has finished.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::job::{Link, Result};

/// Bytes before the first block, for the flags, each on a line of its own.
const FLAGS: usize = 4096;
const LINE: usize = 128;
const WORDS: usize = FLAGS / LINE;

/// Shared memory: some words, each on lines of its own, and some blocks.
pub(crate) struct Shared {
    map: MmapRaw,
    block: usize,
    blocks: usize,
}

impl Shared {
    pub(crate) fn create(len: usize) -> Result<Vec<OwnedFd>> {
        let memfd = memfd_create("slipring-peers", MemfdFlags::CLOEXEC)?;
        ftruncate(&memfd, (FLAGS + len) as u64)?;
        Ok(vec![memfd])
    }

    /// From descriptor number `fd` of the link.
    pub(crate) fn open(link: &Link, fd: usize, block: usize, blocks: usize) -> Result<Self> {
        assert!(blocks <= WORDS);
        let memfd = link.inherited(fd)?;
        let len = FLAGS + block * blocks;
        if usize::try_from(rustix::fs::fstat(memfd.as_fd())?.st_size)? < len {
            return Err("the shared memory is too small".into());
        }
        let map = memmap2::MmapOptions::new().len(len).populate().map_raw(&memfd)?;
        Ok(Shared { map, block, blocks })
    }

    #[inline(always)]
    pub(crate) fn word(&self, i: usize) -> &AtomicU32 {
        assert!(i < self.blocks);
        // SAFETY: at most WORDS words, so the offset is inside the mapping, which has at
        // least FLAGS bytes.
        let word = unsafe { self.map.as_mut_ptr().add(i * LINE) };
        // SAFETY: aligned to 128 bytes within a mapping that lives as long as `self`, and accessed
        // only as this atomic.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The 8-byte word `i` of the blocks.
    #[inline(always)]
    pub(crate) fn data(&self, i: usize) -> &AtomicU64 {
        assert!(8 * i + 8 <= self.block * self.blocks);
        // SAFETY: `open` has mapped FLAGS bytes and all blocks.
        let word = unsafe { self.map.as_mut_ptr().add(FLAGS + 8 * i) };
        // SAFETY: aligned to 8 bytes within a mapping that lives as long as `self`; peers that use
        // this access the blocks only as these atomics.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }

    /// Block `i`, whose word shows whether it belongs to the sender or to the receiver.
    #[inline(always)]
    fn block(&self, i: usize) -> *mut [u8] {
        assert!(i < self.blocks);
        // SAFETY: `open` has mapped FLAGS bytes and all blocks.
        let start = unsafe { self.map.as_mut_ptr().add(FLAGS + i * self.block) };
        std::ptr::slice_from_raw_parts_mut(start, self.block)
    }

    /// Writes a block that this end owns.
    #[inline(always)]
    pub(crate) fn write(&self, i: usize, write: impl FnOnce(&mut [u8])) {
        // SAFETY: within the mapping. The caller has read from the block's word, with acquire, that
        // this end owns it, and the other end touches it only after this end has stored to the
        // word, with release; neither end has two threads.
        write(unsafe { &mut *self.block(i) });
    }

    /// Reads a block that this end owns.
    #[inline(always)]
    pub(crate) fn read(&self, i: usize, read: impl FnOnce(&[u8])) {
        // SAFETY: as in `write`.
        read(unsafe { &*self.block(i) });
    }
}
