//! Blocks of shared memory that pass from a writer to a reader and back, in order.
//!
//! Used by `probe/` to measure the best possible bulk transfer between two processors. One turn
//! word per block, each on a line of its own, says which side owns the block. There are no frames,
//! no positions and no recovery.
//! ```text
//! control   line 0: the writer is taken   line 1: the reader is taken   line 2: bytes in a block   line 3 + b: turn of block b
//! data      block 0 | block 1 | …
//! ```
//! In lap l, the writer owns block b while its turn is 2l, and the reader owns it while its turn is
//! 2l + 1.

use crate::memory::{Area, LINE};
use crate::sync::{AtomicU64, Ordering};

/// The line of the block size: the first side sets it, and a side with another size cannot join.
const SIZE: usize = 2;
/// The line of block 0's turn word.
const FIRST_TURN: usize = 3;

/// Bytes of control that `blocks` blocks need.
pub(crate) const fn control_len(blocks: usize) -> usize {
    (FIRST_TURN + blocks) * LINE
}

/// What both sides have: the blocks, and the index of the next one.
struct Side {
    control: Area,
    data: Area,
    block: usize,
    blocks: usize,
    next: u64,
}

impl Side {
    /// Claims a side. `None` if the other side has blocks of another size, or if `line` says that
    /// this side has been claimed before (for ever): overlapping blocks or two writers would be
    /// data races.
    fn take(control: &Area, data: &Area, block: usize, line: usize) -> Option<Self> {
        let blocks = data.len().checked_div(block).filter(|n| *n > 0 && control.len() >= control_len(*n))?;
        // SYNC(side): pairs with itself; each word is claimed once, by one side.
        let size = control.word(SIZE * LINE).compare_exchange(0, block as u64, Ordering::AcqRel, Ordering::Acquire);
        if size.is_err_and(|size| size != block as u64) {
            return None;
        }
        let taken = control.word(line * LINE).swap(1, Ordering::AcqRel) != 0;
        (!taken).then(|| Side { control: control.clone(), data: data.clone(), block, blocks, next: 0 })
    }

    fn turn(&self) -> (&AtomicU64, u64) {
        let (lap, index) = (self.next / self.blocks as u64, self.next % self.blocks as u64);
        (self.control.word((FIRST_TURN + index as usize) * LINE), 2 * lap)
    }

    /// The next block.
    fn start(&self) -> *mut u8 {
        let offset = (self.next % self.blocks as u64) as usize * self.block;
        // SAFETY: the index is below the number of whole blocks in the area, so the block lies
        // inside it.
        unsafe { self.data.base().add(offset) }
    }
}

/// The side that writes. There is one per pair of areas.
pub(crate) struct BlockWriter(Side);

impl BlockWriter {
    pub(crate) fn take(control: &Area, data: &Area, block: usize) -> Option<Self> {
        Side::take(control, data, block, 0).map(BlockWriter)
    }

    /// Lets `fill` write the next block and passes it to the reader; false if the reader has not
    /// returned it yet.
    #[inline]
    pub(crate) fn try_write(&mut self, fill: impl FnOnce(&mut [u8])) -> bool {
        let BlockWriter(side) = self;
        let (turn, ours) = side.turn();
        // SYNC(block back): pairs with the store in `try_read`.
        if turn.load(Ordering::Acquire) != ours {
            return false;
        }
        // SAFETY: `start` is that of a whole block inside the mapping, initialised as all shared
        // memory is. The turn word says that it is the writer's: the reader does not access it
        // before the store below. There is one writer (`take`), and it is borrowed mutably.
        let block = unsafe { std::slice::from_raw_parts_mut(side.start(), side.block) };
        fill(block);
        // SYNC(block): pairs with the load in `try_read`.
        turn.store(ours + 1, Ordering::Release);
        side.next += 1;
        true
    }
}

/// The side that reads. There is one per pair of areas.
pub(crate) struct BlockReader(Side);

impl BlockReader {
    pub(crate) fn take(control: &Area, data: &Area, block: usize) -> Option<Self> {
        Side::take(control, data, block, 1).map(BlockReader)
    }

    /// Passes the next block to `look` and returns it to the writer; false if it is not written
    /// yet.
    #[inline]
    pub(crate) fn try_read(&mut self, look: impl FnOnce(&[u8])) -> bool {
        let BlockReader(side) = self;
        let (turn, theirs) = side.turn();
        // SYNC(block): pairs with the store in `try_write`.
        if turn.load(Ordering::Acquire) != theirs + 1 {
            return false;
        }
        // SAFETY: as in `try_write`; the turn word says that the block is the reader's, so the
        // writer does not touch it before the store below.
        let block = unsafe { std::slice::from_raw_parts(side.start(), side.block) };
        look(block);
        // SYNC(block back): pairs with the load in `try_write`.
        turn.store(theirs + 2, Ordering::Release);
        side.next += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::heap;

    #[test]
    fn blocks_are_passed_and_returned_in_order() {
        let memory = heap(control_len(3), 3 * 64).unwrap();
        let mut writer = BlockWriter::take(&memory.control, &memory.data, 64).unwrap();
        assert!(BlockReader::take(&memory.control, &memory.data, 96).is_none(), "blocks of another size");
        let mut reader = BlockReader::take(&memory.control, &memory.data, 64).unwrap();
        assert!(BlockWriter::take(&memory.control, &memory.data, 64).is_none(), "two writers");
        assert!(BlockReader::take(&memory.control, &memory.data, 64).is_none(), "two readers");
        assert!(!reader.try_read(|_| unreachable!()), "nothing was written");
        for lap in 0..4u8 {
            (0..3).for_each(|i| assert!(writer.try_write(|block| block.fill(3 * lap + i))));
            assert!(!writer.try_write(|_| unreachable!()), "none is back");
            (0..3).for_each(|i| assert!(reader.try_read(|block| assert_eq!(block, [3 * lap + i; 64]))));
        }
    }

    #[test]
    fn areas_that_are_too_small_have_no_sides() {
        let memory = heap(control_len(1), 128).unwrap();
        assert!(BlockWriter::take(&memory.control, &memory.data, 0).is_none());
        assert!(BlockWriter::take(&memory.control, &memory.data, 256).is_none());
        assert!(BlockWriter::take(&memory.control, &memory.data, 64).is_none(), "two blocks, one turn word");
        assert!(BlockWriter::take(&memory.control, &memory.data, 128).is_some());
    }
}
