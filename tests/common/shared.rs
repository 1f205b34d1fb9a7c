//! Memory that a hostile peer has mapped as well.
//!
//! Used by the fuzz targets that corrupt segments (`fuzz/src`), and by tests that do. Relies on
//! `memmap2`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memmap2::MmapRaw;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

/// Size of a page of the layout (`src/segment/layout.rs`), whose offsets any member knows.
pub const PAGE: usize = 4096;
/// The page that the producer writes.
pub const PRODUCER_PAGE: usize = PAGE;
/// The page that the consumer writes.
pub const CONSUMER_PAGE: usize = 2 * PAGE;
/// Distance between two words that are written often.
pub const LINE: usize = 128;
/// The seals that a receiver requires.
pub const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// A writable mapping of a whole file.
pub struct Shared(MmapRaw);

impl Shared {
    /// Maps all of `fd`.
    pub fn map(fd: BorrowedFd<'_>) -> Self {
        Shared(MmapRaw::map_raw(&fd).unwrap())
    }

    /// Length of the mapping in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Copies bytes out, starting at byte `at`.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        assert!(at + into.len() <= self.len());
        // SAFETY: `at` is inside the mapping, by the assertion.
        let from = unsafe { self.0.as_ptr().add(at) };
        // SAFETY: the bytes are inside the mapping, `into` is not, and no other thread writes them
        // now.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    /// Copies bytes in, starting at byte `at`.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len());
        // SAFETY: `at` is inside the mapping, by the assertion.
        let to = unsafe { self.0.as_mut_ptr().add(at) };
        // SAFETY: the bytes are inside the mapping, `bytes` is not, and no other thread accesses
        // them now.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// The little-endian word at byte `at`.
    pub fn word(&self, at: usize) -> u64 {
        u64::from_le(self.atomic(at).load(Relaxed))
    }

    /// Sets the little-endian word at byte `at`.
    pub fn set_word(&self, at: usize, word: u64) {
        self.atomic(at).store(word.to_le(), Relaxed);
    }

    /// One word, for writers that run beside readers.
    pub fn atomic(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.len());
        // SAFETY: inside the mapping by the assertion.
        let at = unsafe { self.0.as_mut_ptr().add(at) };
        // SAFETY: aligned (a mapping is page aligned, the offset a multiple of 8), mapped as long
        // as `self`, and accessed atomically by all that run beside others.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    /// A copy of the whole mapping.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read(0, &mut bytes);
        bytes
    }
}

/// A memfd with these contents and this length, sealed as a receiver requires it.
pub fn sealed(image: &[u8], len: usize) -> OwnedFd {
    let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, len as u64).unwrap();
    let image = &image[..image.len().min(len)];
    assert_eq!(rustix::io::pwrite(&fd, image, 0).unwrap(), image.len());
    fcntl_add_seals(&fd, SEALS).unwrap();
    fd
}

/// The length of a file.
pub fn len_of(fd: impl AsFd) -> usize {
    fstat(fd).unwrap().st_size as usize
}

/// Recomputes the checksum of a header, as a forger can.
pub fn reseal_header(image: &mut [u8]) {
    let crc = crc32c::crc32c(&image[..124]);
    image[124..128].copy_from_slice(&crc.to_le_bytes());
}
