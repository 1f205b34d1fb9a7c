//! Frames to messages: HELLO, fragments, sequence numbers, BYE.
//!
//! Used by the senders of every message transport. Relies on `frame/`.
//!
//! A frame is refused or accepted as a whole: if the channel is full after the first of its
//! fragments, the rest is kept here and is sent before anything else.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result};
use crate::frame::{Clock, Flags, Form, Frame, Header, Hello, IDENTIFIED, MAX_LEN, Sequencer, control, fragments};
use crate::os::{clock, fork, random};
use crate::wait::deadline::Deadline;

/// Carries messages: one queue, socket or process.
pub(in crate::transport) trait Outlet: Send {
    /// Sends one message without waiting, whole or not at all: `head`, then `payload`, which are
    /// the frame of `header`. If the mechanism takes it in parts, this may keep a part and send it
    /// later.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no room now.
    fn push(&mut self, header: Header, head: &[u8], payload: &[u8]) -> Result<()>;

    /// Waits until `push` may succeed. Returns at the deadline at the latest, and may return
    /// earlier.
    fn wait(&mut self, deadline: Deadline) -> Result<()>;

    /// Sends the part that `push` has kept, as far as there is room.
    ///
    /// # Errors
    /// [`Error::Full`] if a part is left.
    fn drain(&mut self) -> Result<()> {
        Ok(())
    }

    /// Called after BYE, when nothing more will be sent.
    fn shut(&mut self) {}

    /// The largest payload that the peer accepts, if known.
    fn peer_limit(&self) -> usize {
        usize::MAX
    }

    /// Whether a departed peer had read everything except the BYE.
    fn has_peer_read_all(&self) -> bool {
        false
    }

    /// Polls writable when there may be room.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// How frames are encoded on a transport.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Wire {
    /// The header of whole frames.
    pub(in crate::transport) form: Form,
    /// Whether control frames and fragments name their sender, because nothing else identifies it.
    pub(in crate::transport) identified: bool,
    /// Bytes of the largest message, header included: at least [`Wire::MIN_MESSAGE`].
    pub(in crate::transport) message: usize,
}

impl Wire {
    /// In less than this a HELLO does not fit, and headers would be larger than payloads.
    pub(in crate::transport) const MIN_MESSAGE: usize = 128;
}

/// The sending end of a message transport.
pub(in crate::transport) struct Outbox<O: Outlet> {
    outlet: O,
    wire: Wire,
    max_payload: usize,
    hello: Hello,
    greeted: bool,
    closed: bool,
    sequencer: Sequencer,
    rest: Rest,
    born: u32,
}

/// The rest of a frame whose first fragments have been sent.
#[derive(Default)]
struct Rest {
    /// The header of the next fragment; `None` if there is no rest.
    header: Option<Header>,
    payload: Vec<u8>,
    at: usize,
}

impl<O: Outlet> Outbox<O> {
    /// Sends HELLO, if there is room; otherwise it is sent before the first frame. `outlet` is
    /// created from the epoch of the HELLO.
    pub(in crate::transport) fn open(
        wire: Wire,
        max_payload: usize,
        outlet: impl FnOnce(u64) -> Result<O>,
    ) -> Result<Self> {
        let mut outbox = Self::silent(wire, max_payload, outlet)?;
        match outbox.settle() {
            Ok(()) | Err(Error::Full) => Ok(outbox),
            Err(error) => Err(error),
        }
    }

    /// As [`Outbox::open`], to a peer that may have left already: then every call returns
    /// [`Error::Closed`].
    pub(in crate::transport) fn answer(
        wire: Wire,
        max_payload: usize,
        outlet: impl FnOnce(u64) -> Result<O>,
    ) -> Result<Self> {
        let mut outbox = Self::silent(wire, max_payload, outlet)?;
        match outbox.settle() {
            Ok(()) | Err(Error::Full | Error::Closed) => Ok(outbox),
            Err(error) => Err(error),
        }
    }

    fn silent(wire: Wire, max_payload: usize, outlet: impl FnOnce(u64) -> Result<O>) -> Result<Self> {
        debug_assert!(wire.message >= Wire::MIN_MESSAGE);
        let epoch = random::number().map_err(|e| Error::io("get a random number", e))?;
        let max_payload = max_payload.min(MAX_LEN as usize);
        let hello = Hello { clock: Clock::Monotonic, epoch, ..Hello::new(max_payload as u32) };
        Ok(Outbox {
            outlet: outlet(epoch)?,
            wire,
            max_payload,
            hello,
            greeted: false,
            closed: false,
            sequencer: Sequencer::new(),
            rest: Rest::default(),
            born: fork::generation(),
        })
    }

    /// Sends a frame: now or, with a deadline, when there is room.
    pub(in crate::transport) fn send(
        &mut self,
        header: Header,
        payload: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<()> {
        self.check()?;
        let max = self.max_payload();
        if payload.len() > max {
            return Err(Error::TooLarge { max });
        }
        if header.checked()?.is_control() && matches!(header.kind, control::HELLO | control::BYE) {
            return Err(Error::Invalid { what: "frame kind: the transport sends HELLO and BYE itself" });
        }
        self.waiting(deadline, Self::settle)?;
        let seq = if header.is_control() { 0 } else { self.sequencer.next(header.stream) };
        let header = Header { seq, ..header };
        if payload.len() <= self.room(header) {
            self.waiting(deadline, |outbox| outbox.push(header, payload))?;
            if !header.is_control() {
                self.sequencer.advance(header.stream, 1);
            }
            return Ok(());
        }
        self.send_parts(header, payload, deadline)
    }

    /// Sends what was accepted and is still here, until the deadline.
    pub(in crate::transport) fn flush(&mut self, deadline: Deadline) -> Result<()> {
        self.check()?;
        self.waiting(Some(deadline), Self::settle)
    }

    /// Flushes and sends BYE.
    pub(in crate::transport) fn close(&mut self, deadline: Deadline) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        match self.flush(deadline).and_then(|()| self.say_bye(deadline)) {
            Err(Error::Closed) if self.rest.header.is_none() && self.outlet.has_peer_read_all() => {}
            said => said?,
        }
        self.closed = true;
        self.outlet.shut();
        Ok(())
    }

    fn say_bye(&mut self, deadline: Deadline) -> Result<()> {
        let bye = Header::control(control::BYE, 0)?;
        self.waiting(Some(deadline), |outbox| outbox.push(bye, &[]))?;
        self.waiting(Some(deadline), |outbox| outbox.outlet.drain())
    }

    /// Drops it without a BYE, because its HELLO did not arrive.
    pub(in crate::transport) fn abandon(mut self) {
        self.closed = true;
    }

    /// The largest payload that both sides accept.
    pub(in crate::transport) fn max_payload(&self) -> usize {
        self.max_payload.min(self.outlet.peer_limit())
    }

    pub(in crate::transport) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.outlet.poll_fd()
    }

    pub(in crate::transport) fn outlet(&self) -> &O {
        &self.outlet
    }

    fn check(&self) -> Result<()> {
        if self.born != fork::generation() {
            return Err(Error::Forked);
        }
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Repeats `step` while the channel is full, until the deadline; without one, calls it once.
    fn waiting(&mut self, deadline: Option<Deadline>, mut step: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        loop {
            match (step(self), deadline) {
                (Err(Error::Full), Some(deadline)) if deadline.has_passed() => return Err(Error::Timeout),
                (Err(Error::Full), Some(deadline)) => self.outlet.wait(deadline)?,
                (done, _) => return done,
            }
        }
    }

    /// Sends HELLO, and everything that an earlier call has left.
    fn settle(&mut self) -> Result<()> {
        self.outlet.drain()?;
        if !self.greeted {
            let hello = Hello { first_seq: self.sequencer.next(0), ..self.hello }.encode();
            self.push(Header::control(control::HELLO, hello.len())?, &hello)?;
            self.greeted = true;
        }
        while let Some(header) = self.rest.header {
            let rest = std::mem::take(&mut self.rest.payload);
            let sent = self.push_next(header, &rest[self.rest.at..]);
            self.rest.payload = rest;
            let (next, bytes) = sent?;
            self.rest.header = next;
            self.rest.at += bytes;
        }
        Ok(())
    }

    /// Sends a frame in fragments. Once the first of them is sent, the frame counts as sent.
    fn send_parts(&mut self, header: Header, payload: &[u8], deadline: Option<Deadline>) -> Result<()> {
        let parts = fragments(header, payload, self.fragment())?.len() as u32;
        let (mut next, mut at) = (Some(header), 0);
        while let Some(part) = next {
            match self.push_next(part, &payload[at..]) {
                Ok((following, bytes)) => {
                    if at == 0 {
                        self.sequencer.advance(header.stream, parts);
                    }
                    next = following;
                    at += bytes;
                }
                Err(Error::Full) => match deadline {
                    Some(deadline) if !deadline.has_passed() => self.outlet.wait(deadline)?,
                    _ if at > 0 => {
                        self.rest.payload.clear();
                        self.rest.payload.extend_from_slice(&payload[at..]);
                        (self.rest.header, self.rest.at) = (next, 0);
                        return Ok(());
                    }
                    Some(_) => return Err(Error::Timeout),
                    None => return Err(Error::Full),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the next fragment of the rest of a frame. Returns the header of the one after it, if
    /// there is one, and the number of bytes sent.
    fn push_next(&mut self, header: Header, left: &[u8]) -> Result<(Option<Header>, usize)> {
        let mut parts = fragments(header, left, self.fragment())?;
        let Some((part, payload)) = parts.next() else { return Ok((None, 0)) };
        self.push(part, payload)?;
        let next = parts.next().map(|(following, _)| Header {
            // The rest ends where the frame ends.
            flags: header.flags.without(Flags::BEGIN),
            ..following
        });
        Ok((next, payload.len()))
    }

    fn push(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        let mut frame = Frame::new(header, payload)?;
        let head = if self.names_sender(header) {
            frame.stamp = clock::monotonic_ns();
            frame.head_from(self.hello.epoch)?
        } else {
            if self.wire.form == Form::Long {
                frame.stamp = clock::monotonic_ns();
            }
            frame.head(self.wire.form)?
        };
        let pushed = self.outlet.push(header, &head, payload);
        if matches!(pushed, Err(Error::Closed)) {
            self.greeted = false; // the next receiver has no HELLO from us
        }
        pushed
    }

    fn names_sender(&self, header: Header) -> bool {
        self.wire.identified && (header.is_control() || !header.is_whole())
    }

    /// Payload bytes that a message with this header has room for; a control frame is never split.
    fn room(&self, header: Header) -> usize {
        let head = if self.names_sender(header) { IDENTIFIED } else { self.wire.form.header_len() };
        self.wire.message - head
    }

    fn fragment(&self) -> usize {
        self.wire.message - if self.wire.identified { IDENTIFIED } else { self.wire.form.header_len() }
    }
}

impl<O: Outlet> Drop for Outbox<O> {
    /// A BYE that cannot be sent without waiting is not sent; the receiver then gets a death.
    fn drop(&mut self) {
        if self.born == fork::generation() {
            let _ = self.close(Deadline::at(std::time::Instant::now()));
        }
    }
}
