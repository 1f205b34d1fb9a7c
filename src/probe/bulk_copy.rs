//! [`BulkCopy`]: blocks of memory written on one processor and read on another, at the machine's full speed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::param::page_size;

use super::{await_that, is_sealed, map, sealed};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::memory::blocks::{BlockReader, BlockWriter, control_len};

/// Blocks that one process writes and another reads, alternately and in place: the least time that
/// a transfer of much data takes.
///
/// One process creates it and passes [`BulkCopy::as_fd`] to the other, which attaches with
/// [`BulkCopy::from_fd`] and the same sizes. Then one takes [`BulkCopy::writer`], the other
/// [`BulkCopy::reader`]. Both spin while they wait.
///
/// ```
/// use slipring::probe::BulkCopy;
/// let here = BulkCopy::new(4096, 4)?;
/// let there = BulkCopy::from_fd(here.as_fd().try_clone_to_owned().unwrap(), 4096, 4)?;
/// std::thread::scope(|scope| {
///     scope.spawn(move || there.writer().unwrap().write(100, |block| block.fill(7)).unwrap());
///     here.reader()?.read(100, |block| assert!(block.iter().all(|byte| *byte == 7)))
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct BulkCopy {
    memory: Memory,
    block: usize,
    memfd: OwnedFd,
}

impl std::fmt::Debug for BulkCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkCopy").field("memfd", &self.memfd).field("block", &self.block).finish_non_exhaustive()
    }
}

/// The file: a page or more of turn words, then the blocks.
#[derive(Clone, Copy)]
struct Sizes {
    control: usize,
    data: usize,
}

impl Sizes {
    fn of(block: usize, blocks: usize) -> Result<Self> {
        let wrong = Error::Invalid { what: "size of a bulk copy: whole pages in a block, and at most 1 GiB in all" };
        match block.checked_mul(blocks) {
            Some(data @ 1..=0x4000_0000) if block % page_size() == 0 => {
                Ok(Sizes { control: control_len(blocks).next_multiple_of(page_size()), data })
            }
            _ => Err(wrong),
        }
    }

    fn total(self) -> usize {
        self.control + self.data
    }
}

impl BulkCopy {
    /// Creates `blocks` blocks of `block` bytes, in a new sealed memfd. Some system calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless a block is whole pages and all blocks together are at most 1 GiB;
    /// [`Error::Io`].
    pub fn new(block: usize, blocks: usize) -> Result<Self> {
        let sizes = Sizes::of(block, blocks)?;
        Self::over(sealed(sizes.total())?, sizes, block)
    }

    /// Attaches to the blocks that a peer created and passed.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is no memfd of the right size that is sealed against shrinking;
    /// as [`BulkCopy::new`].
    pub fn from_fd(memfd: OwnedFd, block: usize, blocks: usize) -> Result<Self> {
        let sizes = Sizes::of(block, blocks)?;
        if is_sealed(&memfd, sizes.total()) {
            Self::over(memfd, sizes, block)
        } else {
            Err(Error::Untrusted { what: "not the memfd of a bulk copy of that size" })
        }
    }

    fn over(memfd: OwnedFd, Sizes { control, data }: Sizes, block: usize) -> Result<Self> {
        Ok(BulkCopy { memory: map(&memfd, control, data)?, block, memfd })
    }

    /// The memfd, to be passed to the other process.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    /// Takes the side that writes, which is possible once in all processes together.
    ///
    /// # Errors
    /// [`Error::Exists`] if it has been taken, or the other side has blocks of another size.
    pub fn writer(&self) -> Result<Writer> {
        let side = BlockWriter::take(&self.memory.control, &self.memory.data, self.block);
        side.map(Writer).ok_or(Error::Exists)
    }

    /// Takes the side that reads, which is possible once in all processes together.
    ///
    /// # Errors
    /// [`Error::Exists`] if it has been taken, or the other side has blocks of another size.
    pub fn reader(&self) -> Result<Reader> {
        let side = BlockReader::take(&self.memory.control, &self.memory.data, self.block);
        side.map(Reader).ok_or(Error::Exists)
    }
}

/// The side of a [`BulkCopy`] that writes.
pub struct Writer(BlockWriter);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bulk_copy::Writer")
    }
}

impl Writer {
    /// Lets `fill` write `count` blocks, each as soon as it is free. Blocking (spins); no system
    /// calls.
    ///
    /// # Errors
    /// [`Error::Timeout`] if no block becomes free for ten seconds.
    pub fn write(&mut self, count: u64, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        (0..count).try_for_each(|_| await_that(true, || self.0.try_write(&mut fill)))
    }
}

/// The side of a [`BulkCopy`] that reads.
pub struct Reader(BlockReader);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bulk_copy::Reader")
    }
}

impl Reader {
    /// Passes `count` blocks to `look`, each as soon as it is written. Blocking (spins); no system
    /// calls.
    ///
    /// # Errors
    /// [`Error::Timeout`] if no block comes for ten seconds.
    pub fn read(&mut self, count: u64, mut look: impl FnMut(&[u8])) -> Result<()> {
        (0..count).try_for_each(|_| await_that(true, || self.0.try_read(&mut look)))
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_strangers_are_refused() {
        assert!(matches!(BulkCopy::new(100, 4), Err(Error::Invalid { .. })));
        assert!(matches!(BulkCopy::new(page_size(), 0), Err(Error::Invalid { .. })));
        assert!(matches!(BulkCopy::new(usize::MAX, 2), Err(Error::Invalid { .. })));
        let small = sealed(page_size()).unwrap();
        assert!(matches!(BulkCopy::from_fd(small, page_size(), 4), Err(Error::Untrusted { .. })));
    }

    #[test]
    fn each_side_is_taken_once() {
        let copy = BulkCopy::new(page_size(), 2).unwrap();
        let again = BulkCopy::from_fd(copy.as_fd().try_clone_to_owned().unwrap(), page_size(), 2).unwrap();
        let (_writer, _reader) = (copy.writer().unwrap(), copy.reader().unwrap());
        assert!(matches!(again.writer(), Err(Error::Exists)));
        assert!(matches!(again.reader(), Err(Error::Exists)));
    }
}
