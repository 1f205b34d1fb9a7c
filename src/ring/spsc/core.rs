//! The SPSC byte ring: the algorithm, and nothing else. Checked by loom as it stands here.
//!
//! Used by the handles in `spsc/mod.rs`. Relies on `shared.rs` for the memory that both sides share.
//!
//! # Layout
//!
//! ```text
//! producer page            consumer page                         data: capacity bytes, a power of two, mapped twice
//! +0 tail  (observers)     +0    head   polled by a full producer   ┌────────┬─────────────┬────────┬───┬───────────
//!                          +LINE exact  every release               │ header │ payload pad │ header │ … │ 0 0 0 0 …
//!                          +LINE+8 taken  before a view is shown    └────────┴─────────────┴────────┴───┴───────────
//!                                                                   ↑ exact ≤ taken                      ↑ tail
//! ```
//!
//! Positions are free-running byte counts (u64, never wrap in practice: 2^64 bytes at 100 GB/s are six years); a position's
//! place in memory is `position & (capacity - 1)`. Records are 8-byte aligned: a short frame header, then the payload,
//! padded with zeros.
//!
//! # Protocol
//!
//! A header's first word is the commit word. It is zero until the frame is whole, and never zero afterwards, so the
//! consumer polls the very line that carries the data: no index to fetch, two line transfers per small frame, the least
//! there can be.
//!
//! * **commit**: write payload and second header word; zero the first word of the *next* header; store this header's first
//!   word with Release. Everything before `tail` is a chain of headers that ends in a zero word.
//! * **peek**: load the first word at `head` with Acquire. Zero: empty. Otherwise the frame and the zero behind it are visible.
//! * **release**: store `exact` (and, lazily, `head`) with Release: the bytes before it may be overwritten.
//! * **batch**: later frames are written with plain stores; the *first* header is released last and uncovers them all. What
//!   is staged belongs to the batch ([`Staged`]), and the producer's tail stays where it is until then.
//! * **abort**: nothing to do: the header is still zero, and the tail has not moved. So a batch or grant that is forgotten
//!   (`mem::forget`) is aborted, too, and nothing that was staged is read back from shared memory.
//!
//! # Why it is right
//!
//! *The chain ends.* A record is written only where `tail + size + 8 - head ≤ capacity`: the zero word behind it fits into
//! free space too, so zeroing it never touches what the consumer still owns.
//!
//! *No torn frame.* SYNC(commit) orders every payload byte before the word that uncovers it.
//!
//! *No overwrite of what is being read.* SYNC(release) orders the consumer's reads before the position that frees them.
//!
//! *Death.* A producer killed before its commit store leaves a zero word: the frame never was, and the next producer finds
//! `tail` by walking the chain from `exact`. A consumer killed between `taken` and `exact` leaves at most the frames it had
//! in hand, `exact .. taken`; its successor starts there and marks them REDELIVERED. `taken` does not go back as long as
//! somebody may die, so the marks outlive the successor as well.
//!
//! *The mirror.* A grant writes through both mappings, headers are stored through the first: to the compiler, different
//! memory. A compiler fence in `finish` keeps the two in order; the processor, which knows physical addresses, does so
//! anyway.
//!
//! Progress: every function here is wait-free; the walk at attach is bounded by the capacity.

use super::shared::{Peeked, REDELIVERED, SUCCESSOR, Shared, record_size};
use crate::error::{Error, Result};
use crate::frame::header::{Header, SHORT};
use crate::sync::{Ordering, compiler_fence, later};

/// How far ahead of the tail the producer asks for its lines.
const AHEAD: u64 = 512;

/// Frames that have been written behind the producer's tail and are not published. It belongs to the batch, not to the
/// producer, so a batch that is dropped or forgotten is aborted: the tail has not moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    /// Where the next record of the batch goes.
    tail: u64,
    /// Commit word of the first frame, withheld until the batch is published; 0 while there is none.
    withheld: u64,
}

/// The producer's private half.
pub(crate) struct Producer {
    shared: Shared,
    /// Where the next record goes.
    tail: u64,
    /// The consumer's position as last seen.
    head: u64,
    /// Fill level at which to look at the consumer again: the capacity, or less while the high-water mark is being learnt.
    limit: u64,
    high_water: u64,
}

impl Producer {
    /// Takes the role over from whoever held it: walks the committed chain from the consumer's position to its end.
    ///
    /// The caller holds the producer role, so nobody else writes records.
    pub(crate) fn attach(shared: Shared) -> Result<Self> {
        // Relaxed: a lower bound. With the limit at 0, whoever asks for room looks for itself first.
        let head = shared.exact().load(Ordering::Relaxed);
        let tail = shared.walk(|_, _, _| true)?;
        shared.tail().store(tail, Ordering::Relaxed);
        Ok(Producer { shared, tail, head, limit: 0, high_water: 0 })
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The largest fill level seen, in bytes; never less than it was at any look at the consumer.
    pub(crate) fn high_water(&self) -> u64 {
        self.high_water
    }

    /// Where the next record goes, unless a batch is open.
    #[inline(always)]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }

    /// Whether a record for `len ≤ max_payload` bytes fits at `tail`, by the published head. `tail` is the producer's, or
    /// that of a batch.
    #[inline(always)]
    pub(crate) fn has_room(&mut self, tail: u64, len: usize) -> bool {
        let end = tail.wrapping_add(record_size(len) + SUCCESSOR);
        end.wrapping_sub(self.head) <= self.limit || self.look(end)
    }

    /// The fill level has reached `limit`: look at the consumer.
    #[cold]
    #[inline(never)]
    fn look(&mut self, end: u64) -> bool {
        // While learning the high-water mark the ring is far from full, and the exact position tells the truth; a full ring
        // is polled through the lazily published one, which leaves the consumer's own line alone.
        let exactly = self.limit < self.shared.capacity;
        self.fetch_head(exactly);
        self.fits(end)
    }

    /// As [`Producer::has_room`], by the exact head: tells a full ring for certain, at the price of the consumer's line.
    #[cold]
    #[inline(never)]
    pub(crate) fn has_room_exactly(&mut self, tail: u64, len: usize) -> bool {
        self.fetch_head(true);
        self.fits(tail.wrapping_add(record_size(len) + SUCCESSOR))
    }

    fn fetch_head(&mut self, exactly: bool) {
        let word = if exactly { self.shared.exact() } else { self.shared.head() };
        // SYNC(release): the consumer has finished reading everything before this position.
        let head = word.load(Ordering::Acquire);
        // The exact head runs ahead of the published one, and a corrupt one may be anywhere: move forward only, and only
        // within what has been published.
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
    /// The caller has just got `true` from [`Producer::has_room`] for this tail and at least `payload.len()` bytes.
    #[inline(always)]
    pub(crate) fn write(&mut self, tail: u64, payload: &[u8]) {
        debug_assert!(payload.len() <= self.shared.max_payload());
        // SAFETY: `has_room` established that the bytes behind `tail` are free, i.e. already released by the consumer, and
        // we hold the only producer.
        unsafe { self.shared.copy_in(self.shared.payload_offset(tail), payload) };
    }

    /// Finishes the record at `tail` (padding, second word, the zero behind it) and returns its commit word and size.
    #[inline(always)]
    fn finish(&mut self, tail: u64, header: Header) -> (u64, u64) {
        let len = header.len as usize;
        let size = record_size(len);
        let padding = size as usize - SHORT - len;
        // A longer grant may have been written through the mirror to where the padding, and the zero behind it, go now.
        compiler_fence(Ordering::Release);
        if padding > 0 {
            // The padding lies inside the record's last 8-byte unit, so it never straddles the end of the area.
            let at = self.shared.offset(tail.wrapping_add((SHORT + len) as u64));
            // SAFETY: `at + padding` is the end of a unit inside the area; free and ours as in `write`.
            unsafe { self.shared.data.zero(at, padding) };
        }
        let second = header.tail_word().to_le_bytes();
        // SAFETY: the second word of the record at `tail`: 8 bytes at a multiple of 8 below the capacity, free and ours as
        // in `write`.
        unsafe { self.shared.data.write(self.shared.offset(tail.wrapping_add(8)), &second) };
        // Ordered before whatever uncovers this record by SYNC(commit).
        self.shared.word(tail.wrapping_add(size)).store(0, Ordering::Relaxed);
        (header.commit_word(), size)
    }

    /// Publishes the record at the tail, whose payload has been written.
    #[inline(always)]
    pub(crate) fn commit(&mut self, header: Header) {
        let (word, size) = self.finish(self.tail, header);
        // SYNC(commit): pairs with the loads in `peek` and `walk`; publishes payload, second word and successor.
        self.shared.word(self.tail).store(word, Ordering::Release);
        self.tail = self.tail.wrapping_add(size);
        self.shared.tail().store(self.tail, Ordering::Relaxed);
        self.fetch_lines(self.tail);
    }

    /// The lines of the frames to come were read by the consumer last. Stores leave in order, so one that has to wait for its
    /// line holds up all that follow: ask for the lines some frames early (docs/benchmarks.md).
    #[inline(always)]
    fn fetch_lines(&self, tail: u64) {
        self.shared.data.prefetch_to_write(self.shared.offset(tail.wrapping_add(AHEAD)));
    }

    /// An empty batch, which begins at the tail.
    #[inline(always)]
    pub(crate) fn begin(&self) -> Staged {
        Staged { tail: self.tail, withheld: 0 }
    }

    /// Adds the record at the batch's tail to the batch, invisible until [`Producer::publish`].
    #[inline(always)]
    pub(crate) fn stage(&mut self, batch: &mut Staged, header: Header) {
        let (word, size) = self.finish(batch.tail, header);
        if batch.withheld == 0 {
            batch.withheld = word;
        } else {
            // Hidden behind the first header of the batch, which is still zero; published by its release.
            self.shared.word(batch.tail).store(word, Ordering::Relaxed);
        }
        batch.tail = batch.tail.wrapping_add(size);
        self.fetch_lines(batch.tail);
    }

    /// Publishes the whole batch at once.
    #[inline(always)]
    pub(crate) fn publish(&mut self, batch: Staged) {
        if batch.withheld != 0 {
            // SYNC(commit): as in `commit`, for every frame of the batch.
            self.shared.word(self.tail).store(batch.withheld, Ordering::Release);
            self.tail = batch.tail;
            self.shared.tail().store(self.tail, Ordering::Relaxed);
        }
    }
}

impl Staged {
    /// Where the batch's next record goes.
    #[inline(always)]
    pub(crate) fn tail(&self) -> u64 {
        self.tail
    }
}

/// The consumer's private half.
pub(crate) struct Consumer {
    shared: Shared,
    /// The next record to look at.
    next: u64,
    /// Everything before this is released.
    released: u64,
    /// What the producer has been told.
    published: u64,
    /// Frames before this position were in a dead consumer's hands.
    redelivered_before: u64,
    /// Frames before this position have been shown to an application: what `taken` says.
    shown: u64,
    /// How far behind `released` the published head may lag.
    lag: u64,
}

impl Consumer {
    /// Takes the role over. Frames that a dead predecessor had in hand come again, marked, unless they are skipped
    /// ([`Consumer::skip_shown`]).
    ///
    /// The caller holds the consumer role, so nobody else releases.
    pub(crate) fn attach(shared: Shared) -> Result<Self> {
        // Relaxed: with the role's lock we got all that its last holder did and saw.
        let exact = shared.exact().load(Ordering::Relaxed);
        let taken = shared.taken().load(Ordering::Relaxed);
        if exact % 8 != 0 {
            return Err(Error::Corrupt { what: "the consumer's position is not aligned" });
        }
        // `taken` is stored before `exact`, so it lags behind it only if it is not to be believed.
        let taken = if taken.wrapping_sub(exact) <= shared.capacity { taken } else { exact };
        let lag = shared.capacity / 8;
        let (next, released, published) = (exact, exact, exact);
        let (redelivered_before, shown) = (taken, taken);
        let consumer = Consumer { shared, next, released, published, redelivered_before, shown, lag };
        // A predecessor may have died between the two stores.
        consumer.store_head();
        Ok(consumer)
    }

    /// Releases, unread, the frames that a dead predecessor had in hand. Calls `lost` after each: whoever is killed on the way
    /// has counted all but one.
    pub(crate) fn skip_shown(&mut self, mut lost: impl FnMut()) -> Result<()> {
        // Forged positions need not meet; passing is enough.
        while later(self.next, self.redelivered_before) != self.next {
            let Some(frame) = self.peek()? else { break };
            let _ = self.release(frame.end());
            lost();
        }
        self.redelivered_before = self.next;
        self.publish();
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The next committed frame, if there is one. Looking again without releasing shows the frame after it.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> Result<Option<Peeked>> {
        // SYNC(commit): pairs with the Release store in `commit` and `publish`.
        match self.shared.word(self.next).load(Ordering::Acquire) {
            0 => Ok(None),
            first if self.shared.is_record(first) => Ok(Some(self.show(first))),
            first => Err(self.shared.refuse(first)),
        }
    }

    /// [`Consumer::peek`], which finds nothing in what is no frame either: whoever gets nothing asks `peek` why. So the
    /// answer fits into registers.
    #[inline(always)]
    pub(crate) fn glimpse(&mut self) -> Option<Peeked> {
        // SYNC(commit): as in `peek`.
        let first = self.shared.word(self.next).load(Ordering::Acquire);
        if self.shared.is_record(first) { Some(self.show(first)) } else { None }
    }

    /// Whether what [`Consumer::glimpse`] did not take for a frame was nothing at all.
    #[cold]
    pub(crate) fn check(&self) -> Result<()> {
        match self.shared.word(self.next).load(Ordering::Relaxed) {
            0 => Ok(()),
            first if self.shared.is_record(first) => Ok(()),
            first => Err(self.shared.refuse(first)),
        }
    }

    /// Shows the record at `next`, whose first word is `first`.
    #[inline(always)]
    fn show(&mut self, first: u64) -> Peeked {
        let mut frame = self.shared.record(self.next, first);
        self.next = frame.end();
        if (self.next.wrapping_sub(self.shown) as i64) > 0 {
            // Recorded before the application sees a byte: if we die now, our successor knows what was in our hands. Never
            // moved back: what a dead predecessor had in hand stays recorded until it is released.
            self.shown = self.next;
            self.shared.taken().store(self.next, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
        } else if (frame.position.wrapping_sub(self.redelivered_before) as i64) < 0 {
            // Only what was shown before can be shown again: `redelivered_before` never lies behind `shown`.
            frame.first |= REDELIVERED;
        }
        frame
    }

    /// [`Consumer::peek`] for whoever looks at one frame after another without releasing: ends where a ring full does, also if
    /// somebody forged a chain without an end.
    #[inline(always)]
    pub(crate) fn peek_on(&mut self) -> Result<Option<Peeked>> {
        let before = self.next;
        let frame = self.peek()?;
        if self.next.wrapping_sub(self.released) + SUCCESSOR > self.shared.capacity {
            self.next = before;
            return Err(Error::Corrupt { what: "the chain of frames is longer than its ring" });
        }
        Ok(frame)
    }

    /// Goes back to the first frame that is not released: what was looked at will be seen again.
    #[inline(always)]
    pub(crate) fn rewind(&mut self) {
        self.next = self.released;
    }

    /// Copies a peeked payload out; `into` is exactly as long as the payload.
    #[inline(always)]
    pub(crate) fn read(&self, frame: &Peeked, into: &mut [u8]) {
        debug_assert!(into.len() == frame.len());
        // SAFETY: the frame is committed (its word was loaded with Acquire) and not released, so the producer leaves it
        // alone; its length was bounded by the ring.
        unsafe { self.shared.copy_out(self.shared.payload_offset(frame.position), into) };
    }

    /// Frees everything before `end`. Returns true if the producer was told, and so should be woken if it sleeps.
    #[inline(always)]
    #[must_use = "a sleeping producer must be woken when the head was published"]
    pub(crate) fn release(&mut self, end: u64) -> bool {
        self.released = end;
        // SYNC(release): pairs with the loads in `fetch_head` and `walk`; our reads of the frame come before it.
        self.shared.exact().store(end, Ordering::Release);
        if end.wrapping_sub(self.published) < self.lag { false } else { self.publish() }
    }

    /// Tells the producer everything that has been released. True if there was something to tell.
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
        // SYNC(release): as in `release`.
        self.shared.head().store(self.published, Ordering::Release);
    }

    /// The orderly end: tells the producer everything, and the successor that what we looked at and did not release died
    /// with nobody. (What a dead predecessor had in hand did.)
    pub(crate) fn hand_back(&mut self) {
        self.shown = later(self.released, self.redelivered_before);
        self.shared.taken().store(self.shown, Ordering::Relaxed);
        self.publish();
    }

    /// By how much the producer is ahead. For a policy only: the word is the producer's, and may say anything.
    #[cold]
    pub(crate) fn lead(&self) -> u64 {
        self.shared.tail().load(Ordering::Relaxed).wrapping_sub(self.released)
    }

    /// Position behind the last frame that was looked at.
    #[inline(always)]
    pub(crate) fn looked_at(&self) -> u64 {
        self.next
    }
}
