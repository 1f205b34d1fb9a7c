//! The state of a sender: what has been accepted, and writing it.
//!
//! Used by the sender, and by the receiver of the same connection, which answers a PING through it
//! and renews it when it reconnects. Relies on `os/bytes.rs`.
//!
//! `out[at..]` has been accepted and is not yet with the kernel: HELLO, collected frames, the rest
//! of a frame that was taken in part. It consists of whole frames, except for its beginning.
//!
//! In a FIFO with several writers, each write is at most `PIPE_BUF` long and consists of whole
//! frames, so that bytes of other writers do not mix and a dead writer leaves no part of a frame.
//! There `out` consists of pieces, each of exactly `PIPE_BUF` bytes except the last.

use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{BATCH, SMALL};
use crate::error::{Error, Result};
use crate::frame::{Frame, Header, Hello, IDENTIFIED, Sequencer, control, fragments, padding};
use crate::os::bytes::{ByteFd, PIPE_BUF};
use crate::os::poll::Ready;
use crate::transport::ending::Ending;
use crate::transport::stream::reconnect::sender::{Resumption, taken_whole};
use crate::transport::stream::{Link, Wait, Wire, is_lost};

/// The sender's state, which a receiver of the same connection uses to answer a PING and to
/// reconnect.
pub(in crate::transport::stream) type Shared = Arc<Mutex<Core>>;

#[derive(Debug)]
pub(in crate::transport::stream) struct Core {
    pub(super) fd: Option<Arc<ByteFd>>,
    pub(super) link: Arc<Link>,
    pub(super) wire: Wire,
    pub(super) hello: Hello,
    pub(super) sequencer: Sequencer,
    pub(super) out: Vec<u8>,
    pub(super) at: usize,
    pub(super) batch: bool,
    /// Several senders may write to this stream.
    pub(super) several: bool,
    /// Frames that one socket has not taken completely are sent again over the next, so they stay
    /// in `out` from their beginning.
    pub(super) repeats: bool,
    pub(super) said_bye: bool,
    /// Whether a frame of the caller was accepted.
    pub(super) accepted: bool,
    /// Whether the kernel has all accepted frames.
    pub(super) settled: bool,
    /// The reason why nothing can be sent any more.
    pub(super) broken: Option<Ending>,
}

/// If a thread panicked while it held the lock, the state is still usable.
pub(in crate::transport::stream) fn lock(core: &Shared) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn pending(&self) -> usize {
        self.out.len() - self.at
    }

    /// A HELLO: the next frame of `stream` has the number `first_seq`.
    pub(super) fn say_hello(&mut self, stream: u16, first_seq: u32) -> Result<()> {
        let payload = Hello { first_seq, ..self.hello }.encode();
        let header = Header { stream, ..Header::control(control::HELLO, payload.len())? };
        self.say(&Frame::new(header, &payload)?)
    }

    pub(super) fn say_bye(&mut self) -> Result<()> {
        self.say(&Frame::new(Header::control(control::BYE, 0)?, &[])?)
    }

    /// Appends a control frame to `out`. With several senders, it names its sender.
    fn say(&mut self, frame: &Frame<'_>) -> Result<()> {
        if !self.several {
            return frame.encode(self.wire.form, &mut self.out);
        }
        self.out.extend_from_slice(&frame.head_from(self.hello.epoch)?);
        self.out.extend_from_slice(frame.payload);
        self.out.extend_from_slice(padding(frame.payload.len()));
        Ok(())
    }

    /// Frames of the caller are with the kernel, or at the end of `out`.
    pub(super) fn has_accepted(&mut self) {
        self.accepted = true;
        self.settled = self.pending() == 0;
    }

    pub(super) fn submit(&mut self, header: Header, payload: &[u8], wait: Wait) -> Result<()> {
        let seq = if header.is_control() { 0 } else { self.sequencer.next(header.stream) };
        let frame = Frame::new(header.sent(payload.len(), seq), payload)?;
        let frames = self.accept(&frame, wait)?;
        self.has_accepted();
        if !header.is_control() {
            self.sequencer.advance(header.stream, frames);
        }
        Ok(())
    }

    /// Sends or collects a numbered frame, whole or not at all. Returns the number of fragments, or
    /// 1.
    pub(super) fn accept(&mut self, frame: &Frame<'_>, wait: Wait) -> Result<u32> {
        self.check()?;
        let total = frame.encoded_len(self.wire.form);
        let piece = if self.several { PIPE_BUF } else { BATCH };
        if self.batch && total <= piece {
            if !self.has_room(total, piece) {
                match self.drain(wait) {
                    Err(error) if error.is_temporary() && self.has_room(total, piece) => {}
                    drained => drained?,
                }
            }
            return frame.encode(self.wire.form, &mut self.out).map(|()| 1);
        }
        self.drain(wait)?;
        if self.several && total > PIPE_BUF {
            return self.write_fragments(frame, wait);
        }
        self.write_frame(frame, total, wait).map(|()| 1)
    }

    /// Whether a frame can be collected now; moves the rest to the front if that makes room.
    fn has_room(&mut self, total: usize, piece: usize) -> bool {
        if self.several && (self.at > 0 || self.out.len() > piece) {
            return false; // pieces keep their boundaries
        }
        let fits = self.pending() + total <= piece;
        if fits && self.out.len() + total > piece {
            let done = if self.repeats { taken_whole(&self.out, self.at) } else { self.at };
            self.out.drain(..done);
            self.at -= done;
        }
        fits
    }

    /// Nothing is pending.
    fn write_frame(&mut self, frame: &Frame<'_>, total: usize, wait: Wait) -> Result<()> {
        if total <= SMALL {
            let mut whole = [0; SMALL];
            let total = frame.encode_into(self.wire.form, &mut whole)?;
            return self.write_parts([&whole[..total]], wait);
        }
        let head = frame.head(self.wire.form)?;
        self.write_parts([&head, frame.payload, padding(frame.payload.len())], wait)
    }

    /// Writes all of it, or as much as the kernel takes until the deadline, and keeps the rest; or
    /// writes nothing.
    fn write_parts<const N: usize>(&mut self, parts: [&[u8]; N], wait: Wait) -> Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut done = 0;
        while done < total {
            match self.write_once(&rest_of(parts, done), wait) {
                Ok(n) => done += n,
                Err(error) if error.is_temporary() && done > 0 => {
                    self.at = if self.repeats { done } else { 0 };
                    for part in rest_of(parts, done - self.at) {
                        self.out.extend_from_slice(&part);
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a frame that is too long for one piece as fragments. Each fragment is one piece, and
    /// names its sender.
    fn write_fragments(&mut self, frame: &Frame<'_>, wait: Wait) -> Result<u32> {
        let parts = fragments(frame.header, frame.payload, PIPE_BUF - IDENTIFIED)?;
        let count = parts.len() as u32;
        for (header, part) in parts {
            self.say(&Frame::new(header, part)?)?;
        }
        match self.drain(wait) {
            Err(error) if self.at == 0 => {
                self.out.clear();
                Err(error)
            }
            Err(error) if !error.is_temporary() => Err(error),
            _ => Ok(count),
        }
    }

    /// Passes everything pending to the kernel.
    pub(super) fn drain(&mut self, wait: Wait) -> Result<()> {
        self.check()?;
        while self.at < self.out.len() {
            let end = if self.several { self.out.len().min(self.at + PIPE_BUF) } else { self.out.len() };
            let out = std::mem::take(&mut self.out);
            let written = self.write_once(&[IoSlice::new(&out[self.at..end])], wait);
            self.out = out;
            self.at += written?;
        }
        self.out.clear();
        self.at = 0;
        self.settled = true;
        Ok(())
    }

    /// One successful write, after waiting if necessary.
    pub(super) fn write_once(&mut self, parts: &[IoSlice<'_>], wait: Wait) -> Result<usize> {
        let Some(fd) = &self.fd else { return Err(Error::Closed) };
        let mut is_late = false;
        loop {
            match fd.write(parts, wait.is_endless()) {
                Ok(n) => return Ok(n),
                Err(Errno::AGAIN) => match wait.wait(fd, Ready::Write, Error::Full) {
                    // A socket polls writable only when most of its buffer is free; there may be
                    // room before that.
                    Err(Error::Timeout) if !is_late => is_late = true,
                    waited => waited?,
                },
                Err(Errno::PIPE) => return Err(self.breaks(Ending::Closed)),
                Err(e) if is_lost(e) => {
                    self.link.was_reset.store(true, Ordering::Relaxed);
                    return Err(self.breaks(Ending::PeerDead));
                }
                Err(e) => return Err(Error::io("write to the stream", e)),
            }
        }
    }

    fn breaks(&mut self, broken: Ending) -> Error {
        self.broken = Some(broken);
        broken.error()
    }

    /// This socket is broken, if it is still the one in use.
    pub(super) fn lose(&mut self, fd: &Arc<ByteFd>) {
        if self.fd.as_ref().is_some_and(|own| Arc::ptr_eq(own, fd)) {
            self.broken = Some(Ending::PeerDead);
        }
    }

    /// Continues over another socket: sends the next number of every stream, and repeats what the
    /// last socket did not take completely.
    pub(in crate::transport::stream) fn renew(&mut self, fd: Arc<ByteFd>) -> Result<()> {
        let is_closed = self.fd.is_none();
        let Resumption { firsts, repeated } = Resumption::new(&std::mem::take(&mut self.out), self.at, &self.sequencer);
        for (stream, first) in firsts {
            self.say_hello(stream, first)?;
        }
        self.out.extend_from_slice(&repeated);
        // Nothing follows BYE, so if it has been sent and anything is repeated, BYE is part of it.
        if (is_closed && !self.said_bye) || (self.said_bye && repeated.is_empty()) {
            self.say_bye()?;
            self.said_bye = true;
        }
        (self.fd, self.broken, self.at) = (Some(fd), None, 0);
        self.link.was_reset.store(false, Ordering::Relaxed);
        self.settled = repeated.is_empty();
        // Without waiting: bytes without room are sent before the next frame.
        match self.drain(Wait::No) {
            Ok(()) | Err(Error::Full | Error::Closed | Error::PeerDead) => {}
            Err(error) => return Err(error),
        }
        if is_closed {
            self.hang_up();
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        self.broken.map_or(Ok(()), |broken| Err(broken.error()))
    }
}

/// The parts without their first `done` bytes.
fn rest_of<const N: usize>(parts: [&[u8]; N], mut done: usize) -> [IoSlice<'_>; N] {
    parts.map(|part| {
        let skip = done.min(part.len());
        done -= skip;
        IoSlice::new(&part[skip..])
    })
}
