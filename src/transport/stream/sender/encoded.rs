//! Sending encoded frames, as a relay does.
//!
//! Used by the sender. Relies on `core.rs` to write them.

use std::io::IoSlice;

use super::core::Core;
use super::{BATCH, NOT_YOURS, is_ours_to_say};
use crate::error::{Error, Result};
use crate::frame::{Form, Frame, Header, SHORT, first_encoded, padded};
use crate::os::bytes::PIPE_BUF;
use crate::transport::stream::Wait;

impl Core {
    pub(super) fn send_encoded(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        let mut sent = 0;
        while sent < frames.len() {
            match self.send_piece(&frames[sent..], max, wait) {
                Ok(bytes) => sent += bytes,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break, // the next call reports it
            }
        }
        self.has_accepted();
        Ok(sent)
    }

    /// As many of the frames as are written at once, at least one.
    fn send_piece(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        self.check()?;
        let (first, len) = encoded(frames, max)?;
        let limit = if self.several { PIPE_BUF } else { usize::MAX };
        if !self.several && !first.is_control() && first.seq != self.sequencer.next(first.stream) {
            // Another sender's numbers, so a jump from ours is no gap.
            self.say_hello(first.stream, first.seq)?;
            self.sequencer.advance(first.stream, first.seq.wrapping_sub(self.sequencer.next(first.stream)));
        }
        if self.wire.form == Form::Long {
            return self.send_copies(frames, max, wait);
        }
        if len > limit {
            self.accept(&Frame::new(first, &frames[SHORT..SHORT + first.len as usize])?, wait)?;
            self.count_on(first);
            return Ok(len);
        }
        self.drain(wait)?;
        let mut end = len;
        while end < frames.len() {
            match encoded(&frames[end..], max) {
                Ok((_, len)) if end + len <= limit => end += len,
                _ => break, // the next call reports it
            }
        }
        let mut done = 0;
        while done < end {
            match self.write_once(&[IoSlice::new(&frames[done..end])], wait) {
                Ok(n) => done += n,
                Err(error) if error.is_temporary() && done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        // The frames that are with the kernel, and the one that is there in part.
        let mut sent = 0;
        while sent < done {
            let (header, len) = encoded(&frames[sent..], max)?;
            self.count_on(header);
            sent += len;
        }
        self.out.extend_from_slice(&frames[done..sent]);
        Ok(sent)
    }

    /// The same in the long form, for which the frames are copied. Frames that the kernel does not
    /// take are not sent.
    fn send_copies(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        self.drain(wait)?;
        let mut end = 0;
        while end < frames.len() && self.out.len() < BATCH {
            let Ok((header, len)) = encoded(&frames[end..], max) else { break }; // the next call reports it
            let payload = &frames[end + SHORT..][..header.len as usize];
            Frame::new(header, payload)?.encode(self.wire.form, &mut self.out)?;
            end += len;
        }
        let drained = self.drain(wait);
        let taken = if drained.is_ok() { usize::MAX } else { self.at };
        // The frames that are with the kernel, and the one that is there in part.
        let (mut sent, mut copied) = (0, 0);
        while sent < end && copied < taken {
            let (header, len) = encoded(&frames[sent..], max)?;
            sent += len;
            copied += self.wire.form.header_len() + padded(header.len as usize);
        }
        if let Err(error) = drained {
            // If the connection breaks without a successor, they are all lost; otherwise the rest
            // of the last frame follows over the next one.
            if sent == 0 || self.broken.is_some() && !self.repeats {
                self.out.clear();
                self.at = 0;
                return Err(error);
            }
            self.out.truncate(copied);
        }
        let mut at = 0;
        while at < sent {
            let (header, len) = encoded(&frames[at..], max)?;
            self.count_on(header);
            at += len;
        }
        Ok(sent)
    }

    fn count_on(&mut self, header: Header) {
        if !header.is_control() {
            let next = header.seq.wrapping_add(1);
            self.sequencer.advance(header.stream, next.wrapping_sub(self.sequencer.next(header.stream)));
        }
    }
}

/// The header and the size of the first of some encoded frames.
fn encoded(frames: &[u8], max: usize) -> Result<(Header, usize)> {
    let (header, end) = first_encoded(frames)?;
    match header.len as usize > max {
        true => Err(Error::TooLarge { max }),
        false if is_ours_to_say(header.checked()?) => Err(NOT_YOURS),
        false => Ok((header, end)),
    }
}
