//! The lines ahead: after a commit, the SPSC producer stores behind its tail, so that its core owns
//! the cache lines of the next frames when it writes them.
//!
//! Used by `core.rs`, at commits that reach the end of these lines. Relies on `layout.rs`.
//!
//! The consumer read those lines a lap ago, or polls one of them, so the first store to each line
//! waits for its transfer. On x86, stores complete in order, so a commit waits for all stores
//! before it. Storing zeros after the commit keeps that wait out of the next commit. The method
//! depends on the size of the last record (measured in docs/benchmarks.md):
//!
//! * **Window**, for small frames: whole lines of zeros. They also save the store of the zero
//!   behind each frame: [`Ahead::covers`].
//! * **Touch**, for medium frames: one word in each line, so that the rest is written only once.
//! * **Prefetch**, for large frames: the lines are prefetched. In a stream of large frames, stores
//!   that wait for their lines cost more than they save. In round trips they save more, so frames
//!   of up to 2 KiB are touched as well after some of them have found the ring drained. The hint is
//!   the consumer's published head: a consumer that finds the ring empty publishes what it has
//!   released, and one that lags seldom publishes.
//!
//! # Invariant
//!
//! Every word from the tail up to `zero_end` is zero; and `refill_at` lies before `zero_end`, or
//! not behind the tail. So one comparison shows that a record that ends at `refill_at` or before
//! needs no zero behind it and no more lines ([`Ahead::reaches`]). `end` is a hint.
//!
//! These stores go to free space behind the zero word at the tail; [`Ahead::refill`] keeps a
//! distance of one line from everything that the consumer has not released. Payload overwrites
//! them, or a zero is needed there. So nothing that a peer or a successor reads depends on them, at
//! whatever instruction the producer dies.
//!
//! A grant and a batch write behind the tail before they are committed. A batch takes the `Ahead`,
//! and a grant its zeros ([`Ahead::lend`]), until the commit; meanwhile the producer knows of no
//! zeros. So a grant that is dropped or forgotten leaves no bytes that a reader would take for a
//! record.

use super::layout::Shared;
use crate::memory::Data;
use crate::ring::position::{is_before, later};
use crate::sync::{Ordering, compiler_fence};

/// Bytes of a cache line. Under loom a line is one word.
pub(super) const CACHE_LINE: u64 = if cfg!(slipring_loom) { 8 } else { 64 };
/// Records up to this size get a window of zeros. The window grows by pieces of this size.
const SMALL: u64 = 128;
const PIECE: u64 = if cfg!(slipring_loom) { 8 } else { 4 } * CACHE_LINE;
/// Records up to this size are touched, this far ahead; larger ones are prefetched this far ahead.
const MEDIUM: u64 = 512;
const REACH: u64 = 512;
/// Records up to this size are touched after so many of them have found the ring drained: as far
/// ahead as one of them reaches, but at most this far. (A stream of 4 KiB finds it drained, too,
/// where the processors are far apart.)
const LARGE: u64 = 2048;
const DRAINED: u32 = 4;
const LARGE_REACH: u64 = 1024;

/// The state of the lines ahead of a tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// Every word from the tail up to here is zero. If this is before the tail, only the word at
    /// the tail is known to be zero.
    zero_end: u64,
    /// The lines before this have been touched.
    end: u64,
    /// A tail beyond this needs a refill.
    refill_at: u64,
    /// The number of large records in succession that found the ring drained.
    drained: u32,
}

/// The window, while a grant is open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lent {
    zero_end: u64,
    refill_at: u64,
}

impl Ahead {
    /// Nothing is known of the bytes behind `tail`.
    #[inline(always)]
    pub(super) fn nothing(tail: u64) -> Self {
        Ahead { zero_end: tail, end: tail, refill_at: tail, drained: 0 }
    }

    /// Takes the window away: from now on nothing is known of the bytes behind `tail`.
    #[inline(always)]
    pub(super) fn lend(&mut self, tail: u64) -> Lent {
        let lent = Lent { zero_end: self.zero_end, refill_at: self.refill_at };
        (self.zero_end, self.refill_at) = (tail, tail);
        lent
    }

    /// Gives the window back, into which nothing was written meanwhile.
    #[inline(always)]
    pub(super) fn give_back(&mut self, lent: Lent) {
        (self.zero_end, self.refill_at) = (lent.zero_end, lent.refill_at);
    }

    /// Whether the word at `next`, a position behind the tail, is known to be zero.
    #[inline(always)]
    pub(super) fn covers(&self, next: u64) -> bool {
        is_before(next, self.zero_end)
    }

    /// Whether the word at `next`, a position behind the tail, is known to be zero, and no refill
    /// is due for a record that ends there.
    #[inline(always)]
    pub(super) fn reaches(&self, next: u64) -> bool {
        !is_before(self.refill_at, next)
    }

    /// The tail has moved to `next` by a record of `size` bytes, and the consumer has released
    /// everything before `head`.
    #[inline(always)]
    pub(super) fn refill(&mut self, shared: &Shared<impl Data>, head: u64, next: u64, size: u64) {
        if self.goes_on(shared, head, next, size) {
            self.go_on(shared, size);
        } else {
            self.begin(shared, head, next, size);
        }
    }

    /// Whether the tail, about to move to `next` by a record of `size` bytes, stays in the window,
    /// and there is room for one more piece of it.
    #[inline(always)]
    pub(super) fn goes_on(&self, shared: &Shared<impl Data>, head: u64, next: u64, size: u64) -> bool {
        let end = self.zero_end.wrapping_add(PIECE);
        size <= SMALL && self.covers(next) && end % PIECE == 0 && has_room(shared, head, end)
    }

    /// [`Ahead::goes_on`]: adds a piece to the window. The last record had `size` bytes.
    #[inline(always)]
    pub(super) fn go_on(&mut self, shared: &Shared<impl Data>, size: u64) {
        // There was room, so the capacity, a power of two, is not less than a piece.
        shared.zero_piece::<{ PIECE as usize }>(self.zero_end);
        self.zeroed(self.zero_end.wrapping_add(PIECE), size);
    }

    /// [`Ahead::refill`] without a window.
    #[cold]
    #[inline(never)]
    pub(super) fn begin(&mut self, shared: &Shared<impl Data>, head: u64, next: u64, size: u64) {
        if size > SMALL {
            return self.touch(shared, head, next, size);
        }
        let unit = PIECE.min(shared.capacity / 4).max(CACHE_LINE);
        let end = later(self.zero_end, up_to(next.wrapping_add(unit / 2), unit));
        if has_room(shared, head, end) {
            // The word at `next` is zero, and need not be written again: the consumer may be
            // polling it.
            shared.zero(later(self.zero_end, next.wrapping_add(8)), end);
            self.zeroed(end, size);
        }
        // Otherwise there is no window, and frames are written without it.
    }

    /// Sets the end of the window to `end`. The last record had `size` bytes.
    #[inline(always)]
    fn zeroed(&mut self, end: u64, size: u64) {
        // The next payload may be written through the mirror to the place of these zeros.
        compiler_fence(Ordering::Release);
        self.zero_end = end;
        self.refill_at = end.wrapping_sub(size.wrapping_add(8));
    }

    #[inline(never)]
    fn touch(&mut self, shared: &Shared<impl Data>, head: u64, next: u64, size: u64) {
        let reach = if size <= MEDIUM {
            REACH
        } else if size <= LARGE && self.is_round_trip(shared, next.wrapping_sub(size)) {
            size.min(LARGE_REACH)
        } else {
            return shared.data().prefetch_to_write(shared.offset(next.wrapping_add(REACH)));
        };
        let end = up_to(next.wrapping_add(reach.min(shared.capacity / 4)), CACHE_LINE);
        if !has_room(shared, head, end) {
            return;
        }
        let mut at = up_to(later(self.end, next.wrapping_add(8)), CACHE_LINE);
        while is_before(at, end) {
            shared.zero(at, at.wrapping_add(8));
            at = at.wrapping_add(CACHE_LINE);
        }
        // As in `zeroed`.
        compiler_fence(Ordering::Release);
        self.end = end;
    }

    /// Whether the record at `tail` and those before it found the ring drained.
    fn is_round_trip(&mut self, shared: &Shared<impl Data>, tail: u64) -> bool {
        // Relaxed: a hint.
        let is_drained = shared.head().load(Ordering::Relaxed) == tail;
        self.drained = if is_drained { self.drained.saturating_add(1) } else { 0 };
        self.drained >= DRAINED
    }
}

#[cfg(test)]
impl Ahead {
    /// Whether [`Ahead::reaches`] is correct about the word at a record's end.
    pub(super) fn assert_reach(&self, tail: u64) {
        assert!(!is_before(tail, self.refill_at) || self.covers(self.refill_at), "{self:?}, the tail is {tail}");
    }
}

/// Whether stores before `end` keep a distance of one line from what is not released, from `head`
/// on.
#[inline(always)]
fn has_room(shared: &Shared<impl Data>, head: u64, end: u64) -> bool {
    end.wrapping_add(CACHE_LINE).wrapping_sub(head) <= shared.capacity
}

/// The first multiple of `unit`, a power of two, at or after `position`.
#[inline(always)]
fn up_to(position: u64, unit: u64) -> u64 {
    position.wrapping_add(unit - 1) & !(unit - 1)
}
