//! The algorithm of the SPSC byte ring. `loom-tests` compiles and checks this file.
//!
//! Used by the handles in `spsc/mod.rs`. Relies on `layout.rs` for the memory that both sides
//! share, on `ahead.rs` for the lines ahead of the producer.
//!
//! # Protocol
//!
//! A header's first word is the commit word. It is zero until the frame is whole, and not zero
//! afterwards. So the consumer polls the line that carries the data, and fetches no index. A small
//! frame takes two line transfers, which is the minimum.
//!
//! * **commit**: write payload and second header word; make sure that the first word of the *next*
//!   header is zero; store this header's first word with Release. Everything before `tail` is a
//!   chain of headers that ends in a zero word.
//! * **lines ahead** (`ahead.rs`): after the commit, store zeros into the lines behind the tail, so
//!   that the producer's core owns them when the next frame comes. For small frames these zeros are
//!   a window, in which the next header's first word is already zero.
//! * **look**: load the first word at `head` with Acquire. Zero: empty. Otherwise the frame and the
//!   zero behind it are visible.
//! * **release**: store `exact` (and, lazily, `head`) with Release: the bytes before it may be
//!   overwritten.
//! * **batch**: later frames are written with plain stores. The *first* header is stored last, with
//!   Release, and publishes all of them. Until then the frames belong to the batch ([`Staged`]),
//!   and the producer's tail does not move.
//! * **abort**: does nothing, because the header is still zero, and the tail has not moved. So a
//!   forgotten batch or grant (`mem::forget`) is aborted, too, and nothing of a batch is read back
//!   from shared memory.
//!
//! # Why it is correct
//!
//! *The chain ends.* A record is written only where `tail + size + 8 - head ≤ capacity`: the word
//! behind it lies in free space too. It is zero before the record is published: either it lies in
//! the window (`Ahead::covers`), whose zeros this producer stored after the consumer had released
//! that space, and which nothing has overwritten since; or it is stored now. Both stores come
//! before the commit's in program order, so SYNC(commit) at `p` publishes the zero at the word
//! behind `p`, from either store. Then the tail, and with it "the word at the tail is zero", moves
//! on.
//!
//! *The window is zero.* Between calls every word from `tail` up to `zero_end` is zero. A committed
//! record ends at the new tail, so it wrote only before that. Only a grant or a batch writes behind
//! the tail without committing, and it has taken the window with it. A new producer relies on the
//! word at its tail only. The window ends a line before the first record that is not released. If
//! that leaves no room, there is no window; so the window does not make a ring full.
//!
//! *No torn frame.* SYNC(commit) orders every payload byte before the word that publishes it.
//!
//! *No overwrite of what is being read.* SYNC(release) orders the consumer's reads before the
//! position that frees them.
//!
//! *Death.* A producer killed before its commit store leaves a zero word: the frame is not sent,
//! and the next producer finds `tail` by walking the chain from `exact`. What it stored behind that
//! word is not read. A consumer killed between `taken` and `exact` leaves at most the frames it
//! held, `exact .. taken`; its successor starts there and marks them REDELIVERED. `taken` moves
//! back only in an orderly close, so the marks outlive the successor as well.
//!
//! *The mirror.* A grant, and a payload or a window across the end, write through both mappings;
//! headers are stored through the first. To the compiler these are different memory. Compiler
//! fences in `finish` and after the stores of `ahead.rs` keep the stores in order; the processor,
//! which knows physical addresses, keeps it by itself.
//!
//! Progress: every function here is wait-free; the walk at attach is bounded by the capacity.

use super::ahead::{Ahead, Lent};
use super::layout::{Fault, Peeked, REDELIVERED, SUCCESSOR, Shared, record_size};
use crate::frame::header::{Header, SHORT, is_short};
use crate::memory::{Area, Data};
use crate::ring::position::{is_before, later};
use crate::sync::{AtomicU64, Ordering, compiler_fence};

/// Frames that are written behind the producer's tail and not published. They belong to the batch,
/// not to the producer, so a batch that is dropped or forgotten is aborted: the tail has not moved.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The position of the batch's next record.
    tail: u64,
    /// Commit word of the first frame, withheld until the batch is published; 0 while there is
    /// none.
    withheld: u64,
    ahead: Ahead,
}

/// The producer's private half.
pub(crate) struct Producer<D = Area> {
    shared: Shared<D>,
    /// Where the next record goes.
    tail: u64,
    ahead: Ahead,
    /// What the open grant has taken from `ahead`.
    lent: Lent,
    /// The consumer's position as last read.
    head: u64,
    /// Fill level at which to read the consumer's position again: at most the capacity, and less
    /// until the high-water mark reaches it.
    limit: u64,
    high_water: u64,
}

impl<D: Data> Producer<D> {
    /// Takes the role over from its previous holder: walks the committed chain from the consumer's
    /// position to its end.
    ///
    /// The caller holds the producer role, so no other thread writes records.
    pub(crate) fn attach(shared: Shared<D>) -> Result<Self, Fault> {
        // Relaxed: a lower bound. With a limit of 0, the first call that needs room reads the
        // consumer's position.
        let head = shared.exact().load(Ordering::Relaxed);
        let tail = shared.walk(false, |_, _| true)?;
        shared.tail().store(tail, Ordering::Relaxed);
        let (ahead, lent) = (Ahead::nothing(tail), Lent::default());
        Ok(Producer { shared, tail, ahead, lent, head, limit: 0, high_water: 0 })
    }

    /// A producer at the end of a chain that its caller knows, which the gate of a broadcast ring
    /// moves on ([`Producer::free_before`]).
    pub(crate) fn attach_at(shared: Shared<D>, head: u64, tail: u64) -> Self {
        shared.tail().store(tail, Ordering::Relaxed);
        let (ahead, lent, limit) = (Ahead::nothing(tail), Lent::default(), shared.capacity);
        Producer { shared, tail, ahead, lent, head, limit, high_water: 0 }
    }

    /// Whether a record for `len ≤ max_payload` bytes fits at `tail`, by the head as last known.
    #[inline(always)]
    pub(crate) fn has_known_room(&self, tail: u64, len: usize) -> bool {
        tail.wrapping_add(record_size(len) + SUCCESSOR).wrapping_sub(self.head) <= self.limit
    }

    /// Everything before `head` is free.
    pub(crate) fn free_before(&mut self, head: u64) {
        self.head = head;
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared<D> {
        &self.shared
    }

    /// The largest fill level, in bytes, at all readings of the consumer's position.
    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// [`Producer::high_water`] after reading the consumer's position once more.
    pub(crate) fn last_high_water(&mut self) -> u64 {
        self.fetch_head(true);
        self.high_water
    }

    /// The position of the next record, unless a batch is open.
    #[inline(always)]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Whether a record for `len ≤ max_payload` bytes fits at `tail`, by the published head. `tail`
    /// is that of the producer or of a batch.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, tail: u64, len: usize) -> bool {
        let end = tail.wrapping_add(record_size(len) + SUCCESSOR);
        end.wrapping_sub(self.head) <= self.limit || self.look(end)
    }

    /// The fill level has reached `limit`: reads the consumer's position.
    #[cold]
    #[inline(never)]
    fn look(&mut self, end: u64) -> bool {
        // While the limit is below the capacity, the ring is not full, and the exact position gives
        // the correct fill level. A full ring is polled through the published head, which does not
        // fetch the consumer's line.
        let exactly = self.limit < self.shared.capacity;
        self.fetch_head(exactly);
        self.fits(end)
    }

    /// As [`Producer::has_room`], by the exact head: the result is exact, but this fetches the
    /// consumer's line.
    #[cold]
    #[inline(never)]
    pub(crate) fn has_room_exactly(&mut self, tail: u64, len: usize) -> bool {
        self.fetch_head(true);
        self.fits(tail.wrapping_add(record_size(len) + SUCCESSOR))
    }

    fn fetch_head(&mut self, exactly: bool) {
        let word = if exactly { self.shared.exact() } else { self.shared.head() };
        // SYNC(release): pairs with the stores in `free` and `store_head`; the consumer has
        // finished reading everything before this position.
        let head = word.load(Ordering::Acquire);
        // The exact head is ahead of the published one, and a corrupt one may have any value. So
        // the position moves only forward, and only within what has been published.
        if head.wrapping_sub(self.head) <= self.tail.wrapping_sub(self.head) {
            self.head = head;
        }
        self.high_water = self.high_water.max(self.tail.wrapping_sub(self.head));
    }

    fn fits(&mut self, end: u64) -> bool {
        let level = end.wrapping_sub(self.head);
        self.limit = self.limit.max(level.saturating_add(self.shared.capacity / 8)).min(self.shared.capacity);
        level <= self.shared.capacity
    }

    /// Offset in the data area of the payload of the record being written.
    #[inline(always)]
    pub(crate) fn payload_offset(&self) -> usize {
        self.shared.payload_offset(self.tail)
    }

    /// Writes payload into the record being built at `tail`.
    ///
    /// The caller has just got `true` from [`Producer::has_room`] for this tail and at least
    /// `payload.len()` bytes.
    #[inline(always)]
    pub(crate) fn write(&mut self, tail: u64, payload: &[u8]) {
        debug_assert!(payload.len() <= self.shared.max_payload());
        // SAFETY: `has_room` established that the bytes behind `tail` are free, i.e. already
        // released by the consumer, and we hold the only producer.
        unsafe { self.shared.copy_in(self.shared.payload_offset(tail), payload) };
    }

    /// [`Producer::write`] into a ring that is mapped twice.
    ///
    /// # Safety
    /// As for `write`; and the data area is twice a capacity long.
    #[inline(always)]
    pub(crate) unsafe fn write_whole(&mut self, tail: u64, payload: &[u8]) {
        debug_assert!(payload.len() <= self.shared.max_payload());
        // SAFETY: as in `write`; the mirror by contract.
        unsafe { self.shared.copy_in_whole(tail.wrapping_add(SHORT as u64), payload) };
    }

    /// Finishes the record at `tail` (padding, second word), and returns its commit word and its
    /// end. The word at its end may not be zero yet.
    #[inline(always)]
    fn finish(&self, tail: u64, header: Header) -> (u64, u64) {
        let len = header.len as usize;
        let size = record_size(len);
        let padding = size as usize - SHORT - len;
        // A longer grant, or a payload across the end, may have been written through the mirror to
        // the place of the padding and of the zero behind it.
        compiler_fence(Ordering::Release);
        if padding > 0 {
            // The padding lies inside the record's last 8-byte unit, so it never straddles the end
            // of the area.
            let at = self.shared.offset(tail.wrapping_add((SHORT + len) as u64));
            // SAFETY: `at + padding` is the end of a unit inside the area; free and ours as in
            // `write`.
            unsafe { self.shared.data.zero(at, padding) };
        }
        let second = header.tail_word().to_le_bytes();
        // SAFETY: the second word of the record at `tail`: 8 bytes at a multiple of 8 below the
        // capacity, free and ours as in `write`.
        unsafe { self.shared.data.write(self.shared.offset(tail.wrapping_add(8)), &second) };
        (header.commit_word(), tail.wrapping_add(size))
    }

    /// Makes sure that the word at `next`, where a record ends, is zero.
    #[inline(always)]
    fn end_chain(&self, next: u64, ahead: &Ahead) {
        if !ahead.covers(next) {
            // Ordered before the store that publishes the record by SYNC(commit), as are the zeros
            // of the window.
            self.shared.word(next).store(0, Ordering::Relaxed);
        }
    }

    /// Publishes the record at the tail, whose payload has been written.
    #[inline(always)]
    pub(crate) fn commit(&mut self, header: Header) {
        self.commit_at(self.tail, header);
    }

    /// [`Producer::commit`] for a caller that knows the producer's `tail`.
    #[inline(always)]
    pub(crate) fn commit_at(&mut self, tail: u64, header: Header) {
        debug_assert!(tail == self.tail);
        // Both words are located before anything is stored, so that their addresses are computed
        // once.
        let words = (self.shared.word(tail), self.shared.tail());
        let (word, next) = self.finish(tail, header);
        if self.ahead.reaches(next) {
            self.tail = next;
            publish_record(words, word, next);
        } else {
            self.commit_beyond(word, next);
        }
    }

    /// [`Producer::commit`] where a refill is due. (It has only the two common cases, and calls the
    /// rest at its end, so that no register has to be saved.)
    #[inline(never)]
    fn commit_beyond(&mut self, word: u64, next: u64) {
        let size = next.wrapping_sub(self.tail);
        if !self.ahead.goes_on(&self.shared, self.head, next, size) {
            return self.commit_without(word, next);
        }
        let words = (self.shared.word(self.tail), self.shared.tail());
        self.tail = next;
        publish_record(words, word, next);
        self.ahead.go_on(&self.shared, size);
    }

    /// [`Producer::commit`] without a window.
    #[inline(never)]
    fn commit_without(&mut self, word: u64, next: u64) {
        let size = next.wrapping_sub(self.tail);
        self.end_chain(next, &self.ahead);
        let words = (self.shared.word(self.tail), self.shared.tail());
        self.tail = next;
        publish_record(words, word, next);
        self.ahead.begin(&self.shared, self.head, next, size);
    }

    /// Opens a grant, which may write anything behind the tail: takes the window away.
    #[inline(always)]
    pub(crate) fn lend_ahead(&mut self) {
        self.lent = self.ahead.lend(self.tail);
    }

    /// [`Producer::commit`] of a grant of `granted` bytes. If the whole grant is committed, nothing
    /// was written behind its record, so the window is as it was.
    #[inline(always)]
    pub(crate) fn commit_grant(&mut self, granted: usize, header: Header) {
        if record_size(header.len as usize) == record_size(granted) {
            self.ahead.give_back(self.lent);
        }
        // Through the mapping by which the payload was written.
        self.shared.data.end_parts(self.payload_offset() + header.len as usize);
        self.commit(header);
    }

    /// An empty batch, which begins at the tail.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> Staged {
        Staged { tail: self.tail, withheld: 0, ahead: std::mem::replace(&mut self.ahead, Ahead::nothing(self.tail)) }
    }

    /// Adds the record at the batch's tail to the batch, invisible until [`Producer::publish`].
    #[inline(always)]
    pub(crate) fn stage(&mut self, batch: &mut Staged, header: Header) {
        let (word, next) = self.finish(batch.tail, header);
        self.end_chain(next, &batch.ahead);
        if batch.withheld == 0 {
            batch.withheld = word;
        } else {
            // Invisible behind the first header of the batch, which is still zero; published by the
            // release store of that header.
            self.shared.word(batch.tail).store(word, Ordering::Relaxed);
        }
        let size = next.wrapping_sub(batch.tail);
        batch.tail = next;
        if !batch.ahead.reaches(next) {
            batch.ahead.refill(&self.shared, self.head, next, size);
        }
    }

    /// Publishes the whole batch at once.
    #[inline(always)]
    pub(crate) fn publish(&mut self, batch: Staged) {
        if batch.withheld != 0 {
            // SYNC(commit): as in `publish_record`, for every frame of the batch.
            self.shared.word(self.tail).store(batch.withheld, Ordering::Release);
            self.tail = batch.tail;
            self.shared.tail().store(self.tail, Ordering::Relaxed);
        }
        self.ahead = batch.ahead;
    }
}

/// Publishes a record that ends at `next`: stores its commit word, and the tail for observers.
#[inline(always)]
fn publish_record((first, tail): (&AtomicU64, &AtomicU64), word: u64, next: u64) {
    // SYNC(commit): pairs with the loads in `look`, `first_word` and `walk`; publishes payload,
    // second word and the zero behind them.
    first.store(word, Ordering::Release);
    tail.store(next, Ordering::Relaxed);
}

#[cfg(test)]
impl<D: Data> Producer<D> {
    /// Checks the invariant of `Ahead`, and returns how many bytes behind the tail are known to be
    /// zero.
    pub(crate) fn assert_window_is_zero(&self) -> usize {
        assert_eq!(self.shared.word(self.tail).load(Ordering::Relaxed), 0, "the word at the tail");
        let mut position = self.tail;
        while self.ahead.covers(position) {
            assert_eq!(self.shared.word(position).load(Ordering::Relaxed), 0, "{position}, the tail is {}", self.tail);
            position = position.wrapping_add(8);
        }
        self.ahead.assert_reach(self.tail);
        position.wrapping_sub(self.tail) as usize
    }
}

impl Staged {
    /// The position of the batch's next record.
    #[inline(always)]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }
}

/// The consumer's private half.
pub(crate) struct Consumer<D = Area> {
    shared: Shared<D>,
    /// The next record to read.
    next: u64,
    /// Everything before this is released.
    released: u64,
    /// The published head.
    published: u64,
    /// A dead consumer held the frames before this position.
    redelivered_before: u64,
    /// Frames before this position have been shown to an application: the value of `taken`.
    shown: u64,
    /// How far behind `released` the published head may lag.
    lag: u64,
    /// A release up to here needs further work ([`Consumer::is_stop`]).
    stop: u64,
}

impl<D: Data> Consumer<D> {
    /// Takes the role over. Frames that a dead predecessor held are redelivered with a mark, unless
    /// they are skipped ([`Consumer::skip_shown`]).
    ///
    /// The caller holds the consumer role, so no other thread releases.
    pub(crate) fn attach(shared: Shared<D>) -> Result<Self, Fault> {
        // Relaxed: the role's lock ordered everything that its last holder did and saw before this.
        let exact = shared.exact().load(Ordering::Relaxed);
        let taken = shared.taken().load(Ordering::Relaxed);
        if exact % 8 != 0 {
            return Err(Fault::Unaligned);
        }
        // `taken` is stored before `exact`, so only a forged one is behind it.
        let taken = if taken.wrapping_sub(exact) <= shared.capacity { taken } else { exact };
        let lag = shared.capacity / 8;
        let (next, released, published) = (exact, exact, exact);
        let (redelivered_before, shown) = (taken, taken);
        let consumer = Consumer { shared, next, released, published, redelivered_before, shown, lag, stop: exact };
        // A predecessor may have died between the two stores.
        consumer.store_head();
        Ok(consumer)
    }

    /// Releases, unread, the frames that a dead predecessor held. Calls `lost` after each, so a
    /// consumer killed in between has counted all but one.
    pub(crate) fn skip_shown(&mut self, mut lost: impl FnMut()) -> Result<(), Fault> {
        // Forged positions need not be equal, so the loop ends when one passes the other.
        while later(self.next, self.redelivered_before) != self.next {
            let frame = match self.look() {
                Ok(frame) => frame,
                Err(Fault::Empty) => break,
                Err(fault) => return Err(fault),
            };
            let _ = self.release(frame.end());
            lost();
        }
        self.redelivered_before = self.next;
        self.publish();
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared<D> {
        &self.shared
    }

    /// Whether there may be a frame that is not released. One load.
    #[inline(always)]
    pub(crate) fn has_next(&self) -> bool {
        // Relaxed: `first_word` loads it again.
        self.shared.word(self.released).load(Ordering::Relaxed) != 0
    }

    /// The first committed frame that is not released, or the reason why there is none.
    #[inline(always)]
    pub(crate) fn look_first(&mut self) -> Result<Peeked, Fault> {
        let position = self.released;
        let first = self.first_word(position);
        if self.shared.is_record(first) {
            Ok(self.show(position, first))
        } else {
            self.next = position;
            Err(self.shared.refuse(first))
        }
    }

    /// [`Consumer::look_first`] without a reason.
    #[inline(always)]
    pub(crate) fn look_first_if_ready(&mut self) -> Option<Peeked> {
        let position = self.released;
        let first = self.first_word(position);
        if self.shared.is_record(first) { Some(self.show(position, first)) } else { None }
    }

    /// Frees the frame that was read last, and shows the one behind it. `None` if that is not there,
    /// or if the release needs further work ([`Consumer::free`]): then nothing has changed.
    #[inline(always)]
    pub(crate) fn free_and_look(&mut self) -> Option<Peeked> {
        let end = self.next;
        let first = self.first_word(end);
        // As in `look_first`: the frame begins at the position that is about to be released.
        if self.is_stop(end) || !self.shared.is_record(first) {
            return None;
        }
        let _is_no_stop = self.free(end);
        Some(self.show(end, first))
    }

    /// The commit word at `position`. A payload within the limit ([`Shared::is_record`]) fits into
    /// the ring behind everything that was released before `position`.
    #[inline(always)]
    fn first_word(&self, position: u64) -> u64 {
        // SYNC(commit): as in `look`.
        self.shared.word(position).load(Ordering::Acquire)
    }

    /// The next committed frame, or the reason why there is none. The next call returns the frame
    /// after it, even without a release. This ends after one ring full, also if a forged chain has
    /// no end.
    #[inline(always)]
    pub(crate) fn look(&mut self) -> Result<Peeked, Fault> {
        // SYNC(commit): pairs with the Release stores in `publish_record` and `publish`.
        let first = self.shared.word(self.next).load(Ordering::Acquire);
        let end = self.next.wrapping_add(record_size((first >> 32) as usize));
        // This bounds the length of the first frame that is not released, and the sum of the
        // lengths of those behind it.
        if is_short(first) && end.wrapping_sub(self.released) + SUCCESSOR <= self.shared.capacity {
            Ok(self.show(self.next, first))
        } else {
            Err(self.shared.refuse(first))
        }
    }

    /// Whether a committed frame follows those that were read, without reading it.
    pub(crate) fn look_ahead(&mut self) -> Result<(), Fault> {
        let next = self.next;
        let found = self.look().map(|_| ());
        self.next = next;
        found
    }

    /// Shows the record at `position`, whose first word is `first`.
    #[inline(always)]
    fn show(&mut self, position: u64, first: u64) -> Peeked {
        let (mut frame, taken) = (self.shared.record(position, first), self.shared.taken());
        let end = frame.end();
        self.next = end;
        if is_before(self.shown, end) {
            // Recorded before the application sees a byte, so if we die now, our successor knows
            // what we held. It does not move back: what a dead predecessor held stays recorded
            // until it is released.
            self.shown = end;
            taken.store(end, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        } else if is_before(frame.position, self.redelivered_before) {
            // Only frames that were shown can be redelivered, so `redelivered_before` is not behind
            // `shown`.
            frame.first |= REDELIVERED;
        }
        frame
    }

    /// Goes back to the first frame that is not released, so the frames that were read are returned
    /// again.
    #[inline(always)]
    pub(crate) fn rewind(&mut self) {
        self.next = self.released;
    }

    /// Copies the payload of a frame; `into` is exactly as long as the payload.
    #[inline(always)]
    pub(crate) fn read(&self, frame: &Peeked, into: &mut [u8]) {
        debug_assert!(into.len() == frame.len());
        // SAFETY: the frame is committed (its word was loaded with Acquire) and not released, so
        // the producer does not write it; its length was bounded by the ring.
        unsafe { self.shared.copy_out(self.shared.payload_offset(frame.position), into) };
    }

    /// Frees everything before `end`. True if it is time for [`Consumer::tell`] and the other work
    /// that is not needed for every frame.
    #[inline(always)]
    #[must_use = "the producer must be told in time"]
    pub(crate) fn free(&mut self, end: u64) -> bool {
        self.released = end;
        let is_stop = self.is_stop(end);
        // SYNC(release): pairs with the loads in `fetch_head` and `walk`; our reads of the frame
        // come before it.
        self.shared.exact().store(end, Ordering::Release);
        is_stop
    }

    /// Whether `end` is at the stop or behind it.
    #[inline(always)]
    fn is_stop(&self, end: u64) -> bool {
        !is_before(end, self.stop)
    }

    /// Publishes the head if it lags by enough. True if it was published, so that the producer
    /// should be woken if it sleeps. The next stop is when that is due again, or after `soon`
    /// bytes.
    #[must_use = "a sleeping producer must be woken when the head was published"]
    pub(crate) fn tell(&mut self, soon: u64) -> bool {
        let told = self.released.wrapping_sub(self.published) >= self.lag && self.publish();
        let left = self.lag.saturating_sub(self.released.wrapping_sub(self.published));
        self.stop = self.released.wrapping_add(left.min(soon));
        told
    }

    /// Frees everything before `end`. True if the head was published, so that the producer should
    /// be woken if it sleeps.
    #[must_use = "a sleeping producer must be woken when the head was published"]
    pub(crate) fn release(&mut self, end: u64) -> bool {
        self.free(end) && self.tell(u64::MAX)
    }

    /// Whether a dead consumer held the frames at the released position.
    pub(crate) fn is_redelivering(&self) -> bool {
        is_before(self.released, self.redelivered_before)
    }

    /// Publishes everything that has been released. True if there was something to publish.
    #[cold]
    pub(crate) fn publish(&mut self) -> bool {
        let news = self.published != self.released;
        if news {
            self.published = self.released;
            self.store_head();
        }
        news
    }

    fn store_head(&self) {
        // SYNC(release): as in `free`.
        self.shared.head().store(self.published, Ordering::Release);
    }

    /// The orderly end: publishes the position, and records that no dead consumer held the frames
    /// that were read and not released. (Frames that a dead predecessor held stay marked.)
    pub(crate) fn hand_back(&mut self) {
        self.shown = later(self.released, self.redelivered_before);
        self.shared.taken().store(self.shown, Ordering::Relaxed);
        self.publish();
    }

    /// By how much the producer is ahead. For a policy only, because the word is the producer's and
    /// may have any value.
    #[cold]
    pub(crate) fn lead(&self) -> u64 {
        self.shared.tail().load(Ordering::Relaxed).wrapping_sub(self.released)
    }

    /// The position behind the last frame that was read.
    #[inline(always)]
    pub(crate) fn looked_at(&self) -> u64 {
        self.next
    }
}
