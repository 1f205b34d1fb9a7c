//! The receiving end of a byte stream: reads what is there, and returns one whole frame after the
//! other.
//!
//! Used through the transports that open the stream. Relies on the decoder, and on `os/bytes.rs`.
//!
//! Bytes are read into one buffer and decoded there in place. An incomplete frame of the short form
//! stays in that buffer, which grows with the received bytes up to the largest frame, so large
//! frames are not copied. A frame of the long form goes to the decoder's own buffer, because its
//! header must be checked before its length is trusted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{Shutdown, shutdown};

use super::ahead::Ahead;
use super::open_senders::OpenSenders;
use super::reconnect::receiver::Before;
use super::sender::{self, Sender, Shared, pong};
use super::{Link, Options, Wait, Wire, is_lost, our_fifo};
use crate::error::{Error, Result};
use crate::frame::{Decoder, Event, Frame, Header, Hello, OnCorrupt, Reassembler, SHORT, SYNC, Step, control, padded};
use crate::os::bytes::{ByteFd, PIPE_BUF};
use crate::os::poll::{Ready, has_hung_up};
use crate::transport::ending::Ending;
use crate::transport::{Capabilities, FrameReceiver};
use crate::wait::deadline::Deadline;

/// The size of a read, unless a frame needs more.
const CHUNK: usize = 64 << 10;
const TOO_LARGE: &str = "a frame larger than this end accepts";
const UNFINISHED: &str = "the beginning of a frame whose sender has departed";
const PARTS: &str = "parts of a frame of which others are missing, or were dropped: too many unfinished frames";
/// Up to this many bytes are moved to the front, so that the next read has much room.
const LITTLE: usize = 1024;

/// The receiving end of a byte stream. The transports open it: [`pipe`](crate::transport::pipe) and
/// others.
#[derive(Debug)]
pub struct Receiver {
    fd: Arc<ByteFd>,
    link: Arc<Link>,
    /// The sending side of the same connection, to answer PINGs.
    back: Option<Shared>,
    wire: Wire,
    max_payload: usize,
    buffer: Vec<u8>,
    /// Bytes that were read and not decoded yet.
    at: usize,
    end: usize,
    decoder: Decoder,
    reassembler: Reassembler,
    senders: OpenSenders,
    /// Several senders may write, join and leave, so reception can continue after an end.
    many: bool,
    /// The largest payload that is accepted at present.
    limit: usize,
    /// Whether something has come since the last end.
    active: bool,
    /// Whether a frame of a sender without HELLO and name has come since the last end.
    unnamed: bool,
    /// Nothing more can be read, and the result for the bytes that were read is decided.
    eof: bool,
    finished: bool,
    /// The end that is reported, until more comes.
    ended: Option<Ending>,
    /// The peer violated the protocol, on a stream that ends with that.
    refused: bool,
    ahead: Ahead,
    /// Whether the bytes that the sending side had read of this socket are in the buffer.
    claimed: bool,
    /// We have shut the socket's receiving side.
    shut: bool,
    /// The number of frames that came before this socket, if it follows another.
    heard: u64,
    /// The sender of the frames of the sockets before this one.
    before: Option<Before>,
}

/// The result of handling a step of the decoder.
enum Outcome {
    Show,
    /// The last fragment came; this is the header of the whole frame, whose payload the reassembler
    /// has.
    Whole(Header, u64),
    Swallowed,
    /// Frames are missing, which this reports.
    Missing(Step),
}

impl Receiver {
    pub(super) fn over(fd: Arc<ByteFd>, link: Arc<Link>, back: Option<&Sender>, wire: Wire, options: &Options) -> Self {
        Receiver {
            fd,
            link,
            back: back.map(Sender::shared),
            wire,
            max_payload: options.max_payload,
            buffer: vec![0; CHUNK],
            at: 0,
            end: 0,
            decoder: Decoder::new(options.max_payload, wire.on_corrupt),
            reassembler: Reassembler::new(options.max_payload),
            senders: OpenSenders::default(),
            many: false,
            limit: options.max_payload,
            active: false,
            unnamed: false,
            eof: false,
            finished: false,
            ended: None,
            refused: false,
            ahead: Ahead::Free,
            claimed: false,
            shut: false,
            heard: 0,
            before: None,
        }
    }

    /// What the decoder has counted: frames, bytes skipped, and so on.
    #[must_use]
    pub fn stats(&self) -> crate::frame::Stats {
        self.decoder.stats()
    }

    /// Several senders may write. Their sequence numbers cannot be distinguished, and the kernel
    /// loses nothing.
    pub(super) fn expect_many(&mut self) {
        self.many = true;
        self.decoder.stop_tracking();
    }

    /// Whether the last result was an end.
    pub(in crate::transport) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Continues with another descriptor of the same FIFO, which has not seen the departed writers.
    pub(in crate::transport) fn renew(&mut self, fd: OwnedFd) -> Result<()> {
        self.fd = our_fifo(fd)?.into();
        (self.eof, self.finished) = (false, false);
        self.unnamed = false;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn buffer_len(&self) -> usize {
        self.buffer.len()
    }

    fn next(&mut self, wait: Wait) -> Result<Event<'_>> {
        let (step, start) = loop {
            if self.refused {
                return Err(Error::Corrupt { what: "byte stream: unusable after an earlier error" });
            }
            let start = self.at;
            let chunk = &self.buffer[start..self.end];
            let mut rest = if self.is_unfinished(chunk) { &[][..] } else { chunk };
            let handed = rest.len();
            let step = self.decoder.advance(&mut rest, false);
            self.at += handed - rest.len();
            let step = match step {
                // One writer of several: the decoder searches for the next frame, and reports what
                // it skips.
                Err(Error::Incompatible { .. }) if self.many => continue,
                Err(error) => break (self.disown(error, start)?, self.at),
                Ok(step) => step,
            };
            let Some(step) = step else {
                if self.eof {
                    match self.finish() {
                        Some(step) => break (step, self.at),
                        None if self.ended == Some(Ending::PeerDead)
                            && self.link.reconnect.is_some()
                            && !self.ahead.is_stopped() =>
                        {
                            self.go_on(wait)?;
                            continue;
                        }
                        None => return Err(self.ended_or(Error::Closed)),
                    }
                }
                self.fill(wait)?;
                continue;
            };
            match self.consider(step, start) {
                Ok(Outcome::Show) => break (step, start),
                Ok(Outcome::Swallowed) => {}
                Ok(Outcome::Missing(gap)) => break (gap, start),
                Err(error) => break (self.disown(error, start)?, self.at),
                Ok(Outcome::Whole(header, stamp)) => {
                    self.ahead.gave();
                    return Ok(Event::Frame(Frame { header, stamp, payload: self.reassembler.last() }));
                }
            }
        };
        if matches!(step, Step::Frame { .. }) {
            self.ahead.gave();
        }
        Ok(self.decoder.event(step, &self.buffer[start..self.end]))
    }

    /// Whether `chunk` is the beginning of a frame of the short form, for which the decoder would
    /// only need more bytes.
    fn is_unfinished(&self, chunk: &[u8]) -> bool {
        if !self.decoder.is_idle() {
            return false;
        }
        let Some(head) = chunk.first_chunk::<SHORT>() else { return true };
        match Header::from_bytes(head) {
            Ok((header, SHORT)) => {
                let len = header.len as usize;
                len <= self.limit && chunk.len() < SHORT + padded(len)
            }
            _ => false,
        }
    }

    /// Control frames for this end are handled and not returned.
    fn consider(&mut self, step: Step, start: usize) -> Result<Outcome> {
        self.active = true;
        if !self.many {
            self.ended = None;
        }
        let chunk = &self.buffer[start..self.end];
        let sender = self.decoder.sender(step, chunk);
        let frame = match self.decoder.event(step, chunk) {
            Event::Frame(frame) if self.is_first_of_another(frame.header) => {
                self.refused = true;
                return Err(Error::Corrupt { what: "a connection that follows another: it begins with HELLO" });
            }
            Event::Frame(frame) => frame,
            Event::Duplicate { frame, .. } if frame.header.is_whole() => return Ok(Outcome::Show),
            Event::Duplicate { .. } => return Ok(Outcome::Swallowed),
            Event::Gap { .. } | Event::Skipped { .. } => return Ok(Outcome::Show),
        };
        let header = frame.header;
        if !header.is_control() {
            self.ended = None;
            self.unnamed |= self.senders.is_empty() && sender.is_none();
            if header.is_whole() {
                return Ok(Outcome::Show);
            }
            let len = frame.payload.len() as u64;
            let (refused, what) = match self.reassembler.push_from(sender.unwrap_or(0), frame) {
                Ok(Some(whole)) => return Ok(Outcome::Whole(whole.header, whole.stamp)),
                Ok(None) => (0, PARTS),
                Err(Error::TooLarge { .. }) if self.many => (len, TOO_LARGE),
                Err(error) => return Err(error),
            };
            let lost = self.reassembler.take_lost();
            // Where the sequence is checked, a gap has reported the torn frame.
            let bytes = refused + lost.crowded + if self.many { lost.torn } else { 0 };
            return Ok(if bytes > 0 { Outcome::Missing(Step::Skipped { bytes, what }) } else { Outcome::Swallowed });
        }
        match header.kind {
            control::HELLO => match Hello::decode(frame.payload) {
                Ok(hello) => return self.greet(header.stream, &hello, sender),
                Err(Error::Incompatible { what, .. } | Error::Corrupt { what }) if self.many => {
                    return Ok(Outcome::Missing(Step::Skipped { bytes: step.frame_bytes(), what }));
                }
                Err(error) => {
                    self.refused = self.wire.on_corrupt == OnCorrupt::Close;
                    return Err(error);
                }
            },
            control::BYE => {
                let is_known = self.senders.end(sender) || self.unnamed && sender.is_none();
                self.set_limit();
                // Where several may write, that of an unknown program ends nothing.
                if self.senders.is_empty() && (is_known || !self.many) {
                    self.ended = Some(Ending::Closed);
                    (self.active, self.unnamed) = (false, false);
                    self.before = None;
                }
            }
            control::PING => match &self.back {
                Some(back) => pong(back, &self.link, self.wire.form, frame)?,
                None => return Ok(Outcome::Show),
            },
            _ => return Ok(Outcome::Show),
        }
        Ok(Outcome::Swallowed)
    }

    fn greet(&mut self, stream: u16, hello: &Hello, sender: Option<u64>) -> Result<Outcome> {
        self.ended = None;
        let is_named = self.many && sender == Some(hello.epoch);
        if self.senders.begin(hello.epoch, is_named) && !self.many {
            self.decoder.begin(stream, hello.first_seq);
        }
        self.set_limit();
        if self.link.duplex {
            self.link.peer_max.store(hello.max_payload as usize, Ordering::Relaxed);
        }
        let Some(before) = &mut self.before else { return Ok(Outcome::Swallowed) };
        let gap = before.resume(&mut self.decoder, stream, hello).inspect_err(|_| self.before = None)?;
        Ok(gap.map_or(Outcome::Swallowed, Outcome::Missing))
    }

    /// A sender that names itself writes no frame that is longer than one write. While there is
    /// such a sender, a header of a longer frame is not a header, and the bytes behind it are not
    /// its payload.
    fn set_limit(&mut self) {
        let most = if self.senders.has_named() { PIPE_BUF - SHORT } else { usize::MAX };
        self.limit = self.max_payload.min(most);
        self.decoder.set_max_payload(self.limit);
    }

    /// Whether this is the first frame of a socket that follows another, and is no HELLO.
    fn is_first_of_another(&self, header: Header) -> bool {
        let is_hello = header.is_control() && header.kind == control::HELLO;
        self.senders.is_empty() && self.before.as_ref().is_some_and(Before::expects_hello) && !is_hello
    }

    /// Changes to the next socket: see `reconnect/`.
    fn go_on(&mut self, wait: Wait) -> Result<()> {
        let (Some(reconnect), Some(core)) = (&self.link.reconnect, &self.back) else { return Err(Error::PeerDead) };
        self.fd = reconnect.next(&self.fd, wait, Error::Empty, |fd| sender::lock(core).renew(fd))?;
        (self.eof, self.finished, self.ended, self.claimed) = (false, false, None, false);
        self.heard = self.decoder.stats().frames;
        Ok(())
    }

    /// Reads more, and waits if necessary.
    fn fill(&mut self, wait: Wait) -> Result<()> {
        // A receiver that has got an end does not wait here for another beginning.
        let wait = if self.ended.is_some() { Wait::No } else { wait };
        if self.at == self.end {
            (self.at, self.end) = (0, 0);
        } else if self.end == self.buffer.len() || (self.at > 0 && self.end - self.at < LITTLE) {
            self.make_room();
        }
        if self.claim() {
            return Ok(());
        }
        loop {
            let most = self.most();
            if most == 0 {
                return Err(self.ended_or(Error::Closed)); // stopped, and no frame has begun
            }
            let until = self.end + most.min(self.buffer.len() - self.end);
            match self.fd.read(&mut self.buffer[self.end..until], wait.is_endless()) {
                Ok(0) if self.many && !self.active => {
                    // No process has the FIFO open for writing: none has yet, or one left without
                    // writing.
                    let waited = match wait {
                        Wait::Until(_) => wait.wait(&self.fd, Ready::Read, Error::Empty),
                        Wait::No => match self.fd.poll(Ready::Read, Duration::ZERO) {
                            Ok(false) => Err(Error::Empty),
                            looked => looked.map(drop).map_err(|e| Error::io("look at the stream", e)),
                        },
                    };
                    waited.map_err(|e| self.ended_or(e))?;
                    self.active = true;
                }
                Ok(0) => {
                    self.eof = true;
                    return Ok(());
                }
                Ok(n) => {
                    self.active = true;
                    if !self.many {
                        self.ended = None; // bytes of foreign programs in a FIFO do not change the end
                    }
                    self.end += n;
                    self.ahead.read(n);
                    return Ok(());
                }
                // Another reader has taken what the kernel had when we stopped.
                Err(Errno::AGAIN) if matches!(self.ahead, Ahead::Stopped(1..)) => self.ahead = Ahead::Stopped(0),
                Err(Errno::AGAIN) => {
                    wait.wait(&self.fd, Ready::Read, Error::Empty).map_err(|e| self.ended_or(e))?;
                }
                // Everything that the kernel had received from the peer has been read.
                Err(e) if is_lost(e) => {
                    self.link.was_reset.store(true, Ordering::Relaxed);
                    self.eof = true;
                    return Ok(());
                }
                Err(e) => return Err(Error::io("read from the stream", e)),
            }
        }
    }

    /// Before the first read of this socket: copies the HELLO into the buffer, if the sending side
    /// has read it, and returns whether it has.
    fn claim(&mut self) -> bool {
        if std::mem::replace(&mut self.claimed, true) || !self.wire.capabilities.remote || !self.link.duplex {
            return false;
        }
        let early = self.link.early.claim(&self.fd);
        self.buffer[self.end..self.end + early.len()].copy_from_slice(&early); // the buffer is empty
        self.end += early.len();
        !early.is_empty()
    }

    /// How many bytes the next read may take, 0 for none.
    fn most(&self) -> usize {
        if self.ahead == Ahead::Free {
            return usize::MAX;
        }
        let chunk = &self.buffer[self.at..self.end];
        let (held, missing) = match (self.decoder.is_idle(), chunk.first_chunk::<SHORT>().map(Header::from_bytes)) {
            (true, Some(Ok((header, SHORT)))) => (0, (SHORT + padded(header.len as usize)).saturating_sub(chunk.len())),
            (true, _) => (0, SHORT.saturating_sub(chunk.len())),
            (false, _) => self.decoder.wanting(),
        };
        let held = held + chunk.len();
        self.ahead.most(held, missing.max(1), held > 0 || !self.reassembler.is_idle())
    }

    /// Behind the unfinished bytes.
    fn make_room(&mut self) {
        if self.at > 0 {
            self.buffer.copy_within(self.at..self.end, 0);
            self.end -= self.at;
            self.at = 0;
        } else {
            // An unfinished frame is within the limit, so it fits.
            let limit = CHUNK.max(SHORT + padded(self.max_payload));
            self.buffer.resize((2 * self.buffer.len()).min(limit), 0);
        }
    }

    fn ended_or(&self, error: Error) -> Error {
        self.ended.map_or(error, Ending::error)
    }

    /// The bytes of this socket from `start` on are not those of a correct peer. That ends the
    /// stream. If other sockets follow, it ends only this one, and is reported.
    fn disown(&mut self, error: Error, start: usize) -> Result<Step> {
        let what = match error {
            _ if self.link.reconnect.is_none() => return Err(error),
            Error::Corrupt { what } | Error::Incompatible { what, .. } => what,
            Error::TooLarge { .. } => TOO_LARGE,
            error => return Err(error), // PeerDead: the sender before this one
        };
        let bytes = (self.decoder.undecided() + self.end - start) as u64;
        self.decoder.abandon(0);
        (self.at, self.end) = (0, 0);
        (self.eof, self.refused) = (true, false);
        self.settle(true);
        Ok(Step::Skipped { bytes, what })
    }

    /// The stream has ended: reports the bytes that were no whole frame, if any.
    fn finish(&mut self) -> Option<Step> {
        if std::mem::replace(&mut self.finished, true) {
            return None;
        }
        let rest = &self.buffer[self.at..self.end];
        let torn = !rest.is_empty() || !self.decoder.is_idle();
        let begins = !self.decoder.is_idle() || rest.iter().zip(SYNC).all(|(byte, sync)| *byte == sync);
        let no_frame = Step::Skipped { bytes: rest.len() as u64, what: "frame header: no sync bytes" };
        let unfinished = (self.decoder.undecided() + rest.len()) as u64;
        let report = self.decoder.abandon(rest.len());
        // Less than a header, and not the beginning of one.
        let report = report.or((self.wire.on_corrupt == OnCorrupt::Resync && !begins).then_some(no_frame));
        (self.at, self.end) = (0, 0);
        let parts = self.settle(torn && report.is_none());
        // The death of a single writer is reported as such. With several writers, others may have
        // written behind the bytes that it left.
        match report {
            Some(Step::Skipped { bytes, what }) => Some(Step::Skipped { bytes: bytes + parts, what }),
            None if self.many && unfinished + parts > 0 => {
                Some(Step::Skipped { bytes: unfinished + parts, what: UNFINISHED })
            }
            report => report,
        }
    }

    /// Handles the end of this socket. `torn`: it ended in the middle of a frame, or because of
    /// one. Returns the bytes of unfinished fragmented frames of several senders.
    fn settle(&mut self, torn: bool) -> u64 {
        self.finished = true;
        // If another socket is to follow, one that closed without sending is not a sender that has
        // closed.
        let follows = self.link.reconnect.is_some();
        let no_word = follows && self.decoder.stats().frames == self.heard;
        // A reset is an orderly end only after a BYE.
        let was_reset = self.link.was_reset.load(Ordering::Relaxed) && self.ended != Some(Ending::Closed);
        let cut = !self.senders.is_empty() || torn || no_word || was_reset;
        let dead = cut && !self.shut; // not by the peer, if we have shut the socket
        self.ended = Some(if dead { Ending::PeerDead } else { Ending::Closed });
        let mut last = None;
        let mut parts = self.reassembler.forget(0);
        for epoch in self.senders.take() {
            parts += self.reassembler.forget(epoch);
            last = Some(epoch);
        }
        self.set_limit();
        if dead && follows {
            self.before.get_or_insert_default().set_aside(&mut self.decoder, last);
        }
        self.active = false;
        if self.many { parts } else { 0 }
    }
}

impl FrameReceiver for Receiver {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        self.next(Wait::No)
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.next(Wait::Until(deadline))
    }

    fn expect_at_most(&mut self, frames: u64) {
        self.ahead = Ahead::Frames(frames);
    }

    fn stop(&mut self) -> bool {
        self.claim();
        // A socket whose peer has departed still reports how.
        if self.fd.is_socket() && !self.wire.capabilities.remote && !has_hung_up(self.fd.as_fd()).unwrap_or(true) {
            self.shut = shutdown(&self.fd, Shutdown::Read).is_ok();
        }
        let is_flow = self.fd.is_socket() || self.fd.is_pipe();
        let left = if is_flow { ioctl_fionread(&self.fd).unwrap_or(0) } else { 0 }; // a file keeps what is in it
        self.ahead = Ahead::Stopped(left);
        true
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.wire.capabilities
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.link.is_between()).then(|| self.fd.as_fd())
    }
}
