//! A board of latest values as a source of frames: each change is a frame, whose stream is the cell
//! and whose sequence number is the version. Values that were skipped are a gap.
//!
//! Used by `receiver.rs`. Relies on `ring/latest`.

use super::gap::Gap;
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header};
use crate::ring::latest::Reader;
use crate::wait::deadline::Deadline;

/// A reader, and the copy of the value that it returned last.
pub(super) struct Board {
    pub(super) reader: Reader,
    buffer: Box<[u8]>,
    header: Option<Header>,
    /// The values that were skipped before the current one.
    skipped: Gap,
    /// The current frame is to be returned again.
    again: bool,
}

impl Board {
    pub(super) fn new(reader: Reader) -> Self {
        let buffer = vec![0; reader.max_len()].into_boxed_slice();
        Board { reader, buffer, header: None, skipped: Gap::default(), again: false }
    }

    /// Makes the next change the current event, if there is one. After a gap, the frame behind it.
    pub(super) fn try_advance(&mut self) -> Result<()> {
        self.step(Reader::try_changed)
    }

    /// As [`Board::try_advance`], waiting until the deadline.
    pub(super) fn advance(&mut self, deadline: Deadline) -> Result<()> {
        loop {
            match self.step(|reader| reader.changed_deadline(deadline)) {
                // The writer is faster: its next value may be a slower one.
                Err(Error::Empty) if !deadline.has_passed() => std::thread::yield_now(),
                Err(Error::Empty) => return Err(Error::Timeout),
                stepped => return stepped,
            }
        }
    }

    fn step(&mut self, changed: impl FnOnce(&mut Reader) -> Result<usize>) -> Result<()> {
        if std::mem::take(&mut self.again) {
            return Ok(());
        }
        if self.skipped.is_open() {
            self.skipped.reported();
            return Ok(());
        }
        self.header = None;
        let cell = changed(&mut self.reader)?;
        let (version, shape, skipped) = match self.reader.try_copy::<false>(cell, &mut self.buffer) {
            Err(Error::Overtaken) => return Err(Error::Empty),
            copied => copied?,
        };
        self.header = Some(shape.header(cell, version));
        self.skipped.add(skipped);
        Ok(())
    }

    /// The current event, after an advance.
    pub(super) fn event(&self) -> Option<Event<'_>> {
        let header = self.header?;
        if self.skipped.is_open() {
            return Some(self.skipped.event(header.stream, header.seq));
        }
        Some(Event::Frame(Frame { header, stamp: 0, payload: &self.buffer[..header.len as usize] }))
    }

    /// Returns the current frame again, if there is one.
    pub(super) fn keep(&mut self) {
        self.again = self.header.is_some();
    }
}
