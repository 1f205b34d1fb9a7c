//! The algorithm of a lossy subscriber: copy, then check. `loom-tests` compiles and checks this
//! file.
//!
//! Used by the handle in `lossy_subscriber.rs`, and by `join.rs` to walk. Relies on `layout.rs`;
//! `gate.rs` has the protocol and its proof. It only loads from the data, and without an id from
//! everything else, by relaxed loads and fences: only those are certain to work on memory that is
//! mapped read-only.

use super::layout::{Position, Shared};
use crate::memory::Words;
use crate::ring::position::is_before;
use crate::ring::spsc::layout::{self as spsc, Fault, Peeked};
use crate::sync::{Ordering, fence};

/// What a lossy subscriber finds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A whole frame.
    Frame(Peeked),
    /// So many frames were overwritten before they were read.
    Gap(u64),
}

/// The private half of a lossy subscriber.
pub(crate) struct Lossy {
    ring: Shared,
    bytes: spsc::Shared<Words>,
    /// 0: it is no participant, and writes nothing.
    id: u16,
    /// The next frame, and the frames before it.
    next: Position,
}

impl Shared {
    /// Reads the frame at `position`: `copy` gets its header, and copies what it wants. `None` if
    /// it may have been overwritten meanwhile; then what was copied is of no use.
    #[inline(always)]
    pub(super) fn read_at(
        &self,
        bytes: &spsc::Shared<Words>,
        position: u64,
        copy: impl FnOnce(&spsc::Shared<Words>, &Peeked),
    ) -> Result<Option<Peeked>, Fault> {
        let first = bytes.word(position).load(Ordering::Relaxed);
        // SYNC(commit): pairs with the store of the first word, if it is of this lap. (A fence,
        // because only relaxed loads are certain to work on memory that is mapped read-only.)
        fence(Ordering::Acquire);
        // This checks the length, which may be payload of the next lap.
        let frame = bytes.copy_record(position, first);
        if let Ok(frame) = &frame {
            copy(bytes, frame);
        }
        // SYNC(floor): pairs with the fence between the floor and what overwrites. If anything that
        // was read above is of a later lap, the floor is seen to be beyond `position`.
        fence(Ordering::Acquire);
        if is_before(position, self.floor().load(Ordering::Relaxed)) { Ok(None) } else { frame.map(Some) }
    }
}

impl Lossy {
    pub(super) fn new(ring: Shared, id: u16, data: Words, next: Position) -> Self {
        let bytes = ring.bytes_over(id, data);
        let lossy = Lossy { ring, bytes, id, next };
        lossy.show_position();
        lossy
    }

    pub(crate) fn bytes(&self) -> &spsc::Shared<Words> {
        &self.bytes
    }

    /// The next frame's position.
    pub(crate) fn position(&self) -> Position {
        self.next
    }

    /// For observers, and for sets of waits.
    #[inline(always)]
    fn show_position(&self) {
        if self.id != 0 {
            self.bytes.exact().store(self.next.at, Ordering::Relaxed);
        }
    }

    /// Copies the payload of the next frame into `buffer` and goes on behind it. A frame that is
    /// longer than `buffer` is returned all the same and stays: [`Peeked::len`] tells.
    #[inline(always)]
    pub(crate) fn step(&mut self, buffer: &mut [u8]) -> Result<Step, Fault> {
        self.take(|bytes, frame| {
            let Some(into) = buffer.get_mut(..frame.len()) else { return false };
            bytes.copy_payload(frame.position(), into);
            true
        })
    }

    /// Goes on behind the next frame without a copy of it.
    pub(super) fn skip(&mut self) -> Result<Step, Fault> {
        self.take(|_, _| true)
    }

    #[inline(always)]
    fn take(&mut self, copy: impl FnOnce(&spsc::Shared<Words>, &Peeked) -> bool) -> Result<Step, Fault> {
        let mut is_copied = false;
        let read = self.ring.read_at(&self.bytes, self.next.at, |bytes, frame| is_copied = copy(bytes, frame));
        let Some(frame) = read? else { return self.go_on() };
        if is_copied {
            self.next = Position { at: frame.end(), frames: self.next.frames.wrapping_add(1) };
            self.show_position();
        }
        Ok(Step::Frame(frame))
    }

    /// Overrun: goes on at the oldest boundary, and tells how many frames come before it that were
    /// not read.
    #[cold]
    #[inline(never)]
    fn go_on(&mut self) -> Result<Step, Fault> {
        let Some(oldest) = self.ring.oldest() else { return Err(Fault::Endless) };
        let missed = oldest.frames.wrapping_sub(self.next.frames);
        self.next = oldest;
        self.show_position();
        if self.id != 0 {
            let overruns = self.ring.overruns(self.id);
            overruns.store(overruns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        Ok(Step::Gap(missed))
    }

    /// Whether a call of [`Lossy::step`] would return something. Loads only.
    pub(crate) fn is_readable(&self) -> bool {
        self.bytes.word(self.next.at).load(Ordering::Relaxed) != 0
            || is_before(self.next.at, self.ring.floor().load(Ordering::Relaxed))
    }
}
