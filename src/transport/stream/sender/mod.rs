//! The sending end of a byte stream: one write a frame, or one for many; what the kernel took only
//! a part of is finished first.
//!
//! Used through the transports that open the stream. Relies on `os/bytes.rs`. `renew.rs` goes on
//! after a break, `close.rs` tells at the end whether everything arrived.
//!
//! `out[at..]` is what has been accepted and is not yet with the kernel: HELLO, collected frames,
//! the rest of a frame that was taken in part. Frames always begin and end in it as wholes but for
//! its very beginning.
//!
//! In a FIFO, where several writers meet, whatever is written in one go is at most `PIPE_BUF` long
//! and consists of whole frames, so that no other writer's bytes can come in between and no
//! writer's death leaves a part. There `out` consists of pieces: all of exactly `PIPE_BUF` bytes,
//! but the last.

mod close;
mod renew;

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::reconnect::Reconnect;
use super::{Link, Options, Wait, Wire, hello, is_lost};
use crate::error::{Error, Result};
use crate::frame::{Form, Frame, Header, Hello, IDENTIFIED, SHORT, Sequencer, control, fragments, padded, padding};
use crate::os::bytes::{ByteFd, PIPE_BUF};
use crate::os::poll::Ready;
use crate::transport::{Capabilities, FrameSender};
use crate::wait::deadline::Deadline;

/// How much is collected.
const BATCH: usize = 64 << 10;
/// Up to this size it is cheaper to copy a frame together than to hand the kernel its parts.
const SMALL: usize = 1024;
/// Answers to PINGs that wait for the sending side, in bytes; more are dropped.
const MAX_PONGS: usize = 4096;

/// The sending end of a byte stream. Made by the transports: [`pipe`](crate::transport::pipe) and
/// others.
#[derive(Debug)]
pub struct Sender {
    /// None once it is closed.
    fd: Option<Arc<ByteFd>>,
    core: Shared,
    link: Arc<Link>,
    max_payload: usize,
    capabilities: &'static Capabilities,
    closing: bool,
    /// Frames were accepted and did not arrive: what `close` has to say of them.
    lost: Option<Broken>,
}

/// The sender's state, which a receiver of the same connection uses to answer a PING.
pub(super) type Shared = Arc<Mutex<Core>>;

#[derive(Debug)]
pub(super) struct Core {
    fd: Option<Arc<ByteFd>>,
    link: Arc<Link>,
    wire: Wire,
    hello: Hello,
    sequencer: Sequencer,
    out: Vec<u8>,
    at: usize,
    batch: bool,
    /// Several writers may meet in this stream.
    several: bool,
    /// What was not taken whole by one socket is sent again over the next: frames stay in `out`
    /// from their beginning.
    repeats: bool,
    said_bye: bool,
    /// At least one frame of the caller's was accepted.
    accepted: bool,
    /// The kernel has all frames that were accepted.
    settled: bool,
    /// Why nothing can be sent any more.
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug)]
enum Broken {
    Closed,
    PeerDead,
}

impl Broken {
    fn error(self) -> Error {
        match self {
            Broken::Closed => Error::Closed,
            Broken::PeerDead => Error::PeerDead,
        }
    }
}

impl Sender {
    /// Says HELLO, without waiting: if there is no room, it goes ahead of the first frame.
    pub(super) fn begin(
        fd: Arc<ByteFd>,
        link: Arc<Link>,
        wire: Wire,
        options: &Options,
        several: bool,
    ) -> Result<Self> {
        let sender = Self::after_hello(hello(wire, options)?, fd, link, wire, options, several);
        let mut core = lock(&sender.core);
        core.say_hello(0, 0)?;
        match core.drain(Wait::No) {
            // Nobody receives; but there may be something to receive, and the first frame will say
            // it again.
            Ok(()) | Err(Error::Full | Error::Closed | Error::PeerDead) => {}
            Err(error) => return Err(error),
        }
        drop(core);
        Ok(sender)
    }

    /// A sender whose HELLO has been said.
    pub(super) fn after_hello(
        hello: Hello,
        fd: Arc<ByteFd>,
        link: Arc<Link>,
        wire: Wire,
        options: &Options,
        several: bool,
    ) -> Self {
        let core = Core {
            fd: Some(fd.clone()),
            link: link.clone(),
            wire,
            hello,
            sequencer: Sequencer::new(),
            out: Vec::with_capacity(if several { PIPE_BUF } else { BATCH }),
            at: 0,
            batch: options.batch,
            several,
            repeats: link.reconnect.is_some(),
            said_bye: false,
            accepted: false,
            settled: true,
            broken: None,
        };
        Sender {
            fd: Some(fd),
            core: Arc::new(Mutex::new(core)),
            link,
            max_payload: options.max_payload,
            capabilities: wire.capabilities,
            closing: false,
            lost: None,
        }
    }

    /// How often the connection has been made anew: each time, what the kernel had taken may have
    /// been lost, of which the receiver knows. 0 where connections that break are not mended.
    #[must_use]
    pub fn reconnections(&self) -> u64 {
        self.link.reconnect.as_ref().map_or(0, Reconnect::count)
    }

    pub(super) fn shared(&self) -> Shared {
        self.core.clone()
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        lock(&self.core).pending()
    }

    /// Does it, and what the receiving side asked for meanwhile.
    fn locked<T>(&self, action: impl FnOnce(&mut Core) -> T) -> T {
        let done = action(&mut lock(&self.core));
        answer(&self.core, &self.link);
        done
    }

    /// Does it; over the next socket, if this one breaks and another is to follow.
    fn on_line<T>(&mut self, wait: Wait, mut action: impl FnMut(&mut Core) -> Result<T>) -> Result<T> {
        if self.link.reconnect.is_none() {
            return self.locked(action);
        }
        loop {
            let (done, fd) = self.locked(|core| (action(core), core.fd.clone()));
            self.fd = fd; // the receiving end may have gone over to another
            match (&done, &self.fd, &self.link.reconnect) {
                (Err(Error::Closed | Error::PeerDead), Some(lost), Some(reconnect)) => {
                    self.fd = Some(reconnect.next(lost, &self.core, wait, Error::Full)?);
                }
                _ => return done,
            }
        }
    }

    fn submit(&mut self, header: Header, payload: &[u8], wait: Wait) -> Result<()> {
        if payload.len() > self.max_payload() {
            return Err(Error::TooLarge { max: self.max_payload() });
        }
        if is_ours_to_say(header.checked()?) {
            return Err(NOT_YOURS);
        }
        if self.closing {
            return Err(Error::Closed);
        }
        self.on_line(wait, |core| core.submit(header, payload, wait))
    }
}

impl FrameSender for Sender {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.submit(header, payload, Wait::No)
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        self.submit(header, payload, Wait::Until(deadline))
    }

    /// In one system call, if there is room, and from where they lie.
    fn send_encoded_until(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        if self.closing {
            return Err(Error::Closed);
        }
        let (max, wait) = (self.max_payload(), Wait::Until(deadline));
        self.on_line(wait, |core| core.send_encoded(frames, max, wait))
    }

    fn takes_encoded(&self) -> bool {
        true
    }

    fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        let wait = Wait::Until(deadline);
        self.on_line(wait, |core| core.drain(wait))
    }

    fn close_until(&mut self, deadline: Deadline) -> Result<()> {
        self.finish(deadline)
    }

    fn max_payload(&self) -> usize {
        self.max_payload.min(self.link.peer_max())
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.capabilities
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.link.is_between()).map(|fd| fd.as_fd())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.fd.as_ref().is_none_or(|fd| fd.is_the_parents()) {
            return; // closed, or not ours to close
        }
        let mut core = lock(&self.core);
        let _ = core.finish(Wait::No); // dropping reports no error
        core.hang_up();
    }
}

/// A panic while it was held cannot have left it in a state that matters more than the bytes
/// already sent.
pub(super) fn lock(core: &Shared) -> MutexGuard<'_, Core> {
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves the answer to a PING for the sending side, or does its work if it has none.
pub(super) fn pong(core: &Shared, link: &Link, form: Form, ping: Frame<'_>) -> Result<()> {
    let header = Header { kind: control::PONG, ..ping.header };
    let pong = Frame::new(header, ping.payload)?;
    let mut pongs = link.pongs.lock().unwrap_or_else(PoisonError::into_inner);
    if pongs.len() + pong.encoded_len(form) <= MAX_PONGS {
        pong.encode(form, &mut pongs)?;
        // SYNC(pong): pairs with the load in `answer`.
        link.pongs_wait.store(true, Ordering::Release);
    }
    drop(pongs);
    answer(core, link);
    Ok(())
}

/// An answer is sent by the thread that holds the sending side when it is left, or by the next one
/// that does.
fn answer(core: &Shared, link: &Link) {
    // SYNC(pong): pairs with the stores here and in `pong`. The bytes themselves lie behind a lock.
    while link.pongs_wait.load(Ordering::Acquire) {
        let Ok(mut core) = core.try_lock() else { return };
        if core.pending() > BATCH {
            return; // the peer reads nothing
        }
        link.pongs_wait.store(false, Ordering::Release);
        let mut pongs = link.pongs.lock().unwrap_or_else(PoisonError::into_inner);
        if core.broken.is_none() && !core.said_bye {
            core.out.extend_from_slice(&pongs);
        }
        pongs.clear();
        drop(pongs);
        let _ = core.drain(Wait::No); // what is wrong with it, the next send will say
    }
}

impl Core {
    fn pending(&self) -> usize {
        self.out.len() - self.at
    }

    /// The next frame of `stream` will bear `first_seq`.
    fn say_hello(&mut self, stream: u16, first_seq: u32) -> Result<()> {
        let payload = Hello { first_seq, ..self.hello }.encode();
        let header = Header { stream, ..Header::control(control::HELLO, payload.len())? };
        self.say(&Frame::new(header, &payload)?)
    }

    fn say_bye(&mut self) -> Result<()> {
        self.say(&Frame::new(Header::control(control::BYE, 0)?, &[])?)
    }

    /// Leaves a frame of the transport's own in `out`. Where several meet, it names its sender.
    fn say(&mut self, frame: &Frame<'_>) -> Result<()> {
        if !self.several {
            return frame.encode(self.wire.form, &mut self.out);
        }
        self.out.extend_from_slice(&frame.head_from(self.hello.epoch)?);
        self.out.extend_from_slice(frame.payload);
        self.out.extend_from_slice(padding(frame.payload.len()));
        Ok(())
    }

    /// Frames of the caller's are with the kernel now, or in `out`, with nothing else behind them.
    fn has_accepted(&mut self) {
        self.accepted = true;
        self.settled = self.pending() == 0;
    }

    fn submit(&mut self, header: Header, payload: &[u8], wait: Wait) -> Result<()> {
        let seq = if header.is_control() { 0 } else { self.sequencer.next(header.stream) };
        let frame = Frame::new(header.sent(payload.len(), seq), payload)?;
        let frames = self.accept(&frame, wait)?;
        self.has_accepted();
        if !header.is_control() {
            self.sequencer.advance(header.stream, frames);
        }
        Ok(())
    }

    /// Sends or collects a frame whose number has been chosen: all of it, or nothing. Says how many
    /// frames it became.
    fn accept(&mut self, frame: &Frame<'_>, wait: Wait) -> Result<u32> {
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

    /// Whether a frame can be collected now; moves what is left to the front if that makes the
    /// room.
    fn has_room(&mut self, total: usize, piece: usize) -> bool {
        if self.several && (self.at > 0 || self.out.len() > piece) {
            return false; // pieces keep their boundaries
        }
        let fits = self.pending() + total <= piece;
        if fits && self.out.len() + total > piece {
            let done = if self.repeats { self.taken_whole() } else { self.at };
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

    /// Writes all of it, or as much as the kernel takes until the deadline and keeps the rest; or
    /// nothing.
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

    /// A frame that is too long for one piece. Each fragment is one, and says whose it is.
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

    fn send_encoded(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        let mut sent = 0;
        while sent < frames.len() {
            match self.send_piece(&frames[sent..], max, wait) {
                Ok(bytes) => sent += bytes,
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break, // a matter for the next call
            }
        }
        self.has_accepted();
        Ok(sent)
    }

    /// As many of the frames, at least one, as are written in one go.
    fn send_piece(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        self.check()?;
        let (first, len) = encoded(frames, max)?;
        let limit = if self.several { PIPE_BUF } else { usize::MAX };
        if !self.several && !first.is_control() && first.seq != self.sequencer.next(first.stream) {
            // Numbers of another sender: no gap, whatever ours were.
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
                _ => break, // a matter for the next call
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

    /// The same in the long form, for which the frames are copied. What the kernel does not take is
    /// not sent.
    fn send_copies(&mut self, frames: &[u8], max: usize, wait: Wait) -> Result<usize> {
        self.drain(wait)?;
        let mut end = 0;
        while end < frames.len() && self.out.len() < BATCH {
            let Ok((header, len)) = encoded(&frames[end..], max) else { break }; // a matter for the next call
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
            // A connection that breaks for good takes them all with it; over the next one, the rest
            // of the last one follows.
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

    /// Hands the kernel all that is pending.
    fn drain(&mut self, wait: Wait) -> Result<()> {
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

    /// One write that succeeds, after waiting if need be.
    fn write_once(&mut self, parts: &[IoSlice<'_>], wait: Wait) -> Result<usize> {
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
                Err(Errno::PIPE) => return Err(self.breaks(Broken::Closed)),
                Err(e) if is_lost(e) => {
                    self.link.was_reset.store(true, Ordering::Relaxed);
                    return Err(self.breaks(Broken::PeerDead));
                }
                Err(e) => return Err(Error::io("write to the stream", e)),
            }
        }
    }

    fn breaks(&mut self, broken: Broken) -> Error {
        self.broken = Some(broken);
        broken.error()
    }

    fn check(&self) -> Result<()> {
        self.broken.map_or(Ok(()), |broken| Err(broken.error()))
    }
}

/// The header of the first of some encoded frames, and the bytes that it takes.
fn encoded(frames: &[u8], max: usize) -> Result<(Header, usize)> {
    let head = frames.first_chunk().ok_or(Error::Corrupt { what: "encoded frames: cut off" })?;
    let (header, header_len) = Header::from_bytes(head)?;
    let (len, end) = (header.len as usize, SHORT + padded(header.len as usize));
    if header_len != SHORT || frames.len() < end {
        return Err(Error::Corrupt { what: "encoded frames: cut off, or not of the short form" });
    }
    match len > max {
        true => Err(Error::TooLarge { max }),
        false if is_ours_to_say(header.checked()?) => Err(NOT_YOURS),
        false => Ok((header, end)),
    }
}

const NOT_YOURS: Error = Error::Invalid { what: "control kind: the transport says HELLO and BYE itself" };

fn is_ours_to_say(header: Header) -> bool {
    header.is_control() && matches!(header.kind, control::HELLO | control::BYE)
}

/// The parts without their first `done` bytes.
fn rest_of<const N: usize>(parts: [&[u8]; N], mut done: usize) -> [IoSlice<'_>; N] {
    parts.map(|part| {
        let skip = done.min(part.len());
        done -= skip;
        IoSlice::new(&part[skip..])
    })
}
