//! Messages to frames: the open senders, missing frames, unreadable messages, and the end.
//!
//! Used by the receivers of every message transport. Relies on `frame/`.
//!
//! # The end
//! A **talker** is a known sender. It is *open* from its HELLO to its BYE. When the last open
//! talker has left and no message is left, the talk has ended: every call returns
//! [`Error::PeerDead`] if one of them died since the talk began, else [`Error::Closed`], until
//! another talker begins. While no message comes, the receiver checks for dead talkers, at most
//! every [`Inlet::LOOK`]. So what a dead talker has sent is received first.
//!
//! A BYE ends the talk only if its sender is known, or if frames of unknown senders have come,
//! which may have been its own. The BYE of an unknown program ends nothing.
//!
//! # Foreign messages
//! A message that is no frame, or of another version, or of a sender without access, is dropped and
//! reported as [`Event::Skipped`]. Only errors of the mechanism itself are returned.
//!
//! # Bounds
//! The bounds of `talkers.rs`, and the reassembler's limits on unfinished frames. What is dropped
//! because of them is reported.

use std::hash::Hash;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::WAIT_LIMIT;
use super::talkers::{MAX_OPEN, Standing, Talkers};
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header, Hello, Lost, Order, Reassembler, Tracker, control};
use crate::os::{clock, fork};
use crate::transport::ending::Ending;
use crate::wait::deadline::Deadline;

/// Carries messages to an [`Inbox`].
pub(in crate::transport) trait Inlet: Send {
    /// What identifies a sender of this mechanism.
    type Source: Clone + Eq + Hash + Send;

    /// Whether all frames of a sender can be distinguished from those of others, so that their
    /// sequence can be checked.
    const TRACKED: bool;

    /// Whether the end of the channel is the end of a sender.
    const CONNECTED: bool = false;

    /// How long one `pull` may wait while a sender could die.
    const PATIENCE: Duration = WAIT_LIMIT;

    /// The interval of checks for dead senders while no message comes.
    const LOOK: Duration = WAIT_LIMIT;

    /// Receives one message, waiting for it at most `patience`, or less.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is none; [`Error::Closed`] if no other message can come,
    /// [`Error::PeerDead`] if the reason is that the connection broke.
    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<Self::Source>>;

    /// Whether the kernel reports that this sender, which has sent HELLO and not BYE, has departed.
    fn is_gone(&mut self, _source: &Self::Source) -> Result<bool> {
        Ok(false)
    }

    /// Drops the beginning of messages whose rest will not come, and returns the number of bytes.
    fn forget(&mut self, _source: &Self::Source) -> u64 {
        0
    }

    /// Called with the HELLO of a peer.
    fn greeted(&mut self, _hello: &Hello) {}

    /// Answers a PING; false if it cannot be answered, and is delivered instead.
    fn answer(&mut self, _payload: &[u8]) -> bool {
        false
    }

    /// Refuses further messages, if the mechanism can, and returns what happens to those that wait.
    fn stop(&mut self) -> Waiting {
        Waiting::Lost
    }

    /// Polls readable when there may be a message.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What happens to waiting messages when the receiver leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Waiting {
    /// The channel keeps them for the next receiver.
    Kept,
    /// They are lost with this end.
    Lost,
    /// The same, and the channel is shut, so no others will follow.
    Last,
}

/// One message, in the buffer that was lent to the inlet.
pub(in crate::transport) struct Pulled<S> {
    /// Where it begins there.
    pub(in crate::transport) start: usize,
    /// Its number of bytes; more than the room if it was truncated.
    pub(in crate::transport) len: usize,
    /// Its sender, if known.
    pub(in crate::transport) source: Option<S>,
    /// Why it is dropped unread, if it is.
    pub(in crate::transport) refused: Option<&'static str>,
}

impl<S> Pulled<S> {
    /// `len` bytes at the beginning of the buffer.
    pub(in crate::transport) fn new(len: usize, source: Option<S>) -> Self {
        Pulled { start: 0, len, source, refused: None }
    }

    /// A message that is dropped.
    pub(in crate::transport) fn refused(len: usize, what: &'static str) -> Self {
        Pulled { start: 0, len, source: None, refused: Some(what) }
    }
}

/// The receiving end of a message transport.
pub(in crate::transport) struct Inbox<I: Inlet> {
    inlet: I,
    buffer: Vec<u8>,
    max_payload: usize,
    reassembler: Reassembler,
    talkers: Talkers<I::Source>,
    /// Whether frames of unknown senders have come since the last end.
    unnamed: bool,
    /// Lost bytes that the next report contains.
    lost: Option<(u64, &'static str)>,
    /// The frame whose gap was reported by the last call.
    after_gap: Option<Piece>,
    /// Whether an open talker has died since the talk began.
    died: bool,
    /// How the talk has ended, if it has.
    end: Option<Ending>,
    /// When to check for dead talkers again, in ns of the monotonic clock.
    next_look: u64,
    /// Stopped: only frames that would be lost are still received.
    stopped: Option<Waiting>,
    born: u32,
}

/// A frame of the message in the buffer: the place of its payload, and its sender.
#[derive(Clone, Copy)]
struct Piece {
    header: Header,
    stamp: u64,
    start: usize,
    end: usize,
    number: u64,
}

/// An [`Event`] without borrows.
enum Report {
    Whole(Piece),
    Late(Piece, u32),
    Joined { header: Header, stamp: u64 },
    Gap { stream: u16, expected: u32, found: u32 },
    Skipped { bytes: u64, what: &'static str },
}

/// The number of messages without a frame after which a call checks its deadline: a sender may send
/// them for ever.
const MAX_SILENT: usize = 1024;
/// The number after which a call without a deadline returns. All open senders may come and leave
/// within one call.
const MAX_EMPTY: usize = 4 * MAX_OPEN;
/// The payload limit of control frames, even if that of application frames is lower.
const CONTROL_ROOM: usize = 1024;
/// Frames that can be missing at once from a sender without HELLO.
const MAX_FOREIGN_GAP: u32 = 65_536;
/// The number of senders in one check for dead ones.
const MAX_LOOKED_AT: usize = 256;

/// The messages of one call that were no event.
#[derive(Default)]
struct Silent {
    messages: usize,
    /// Those that were no fragments of frames that are still expected, and their bytes.
    empty: usize,
    bytes: u64,
}

impl<I: Inlet> Inbox<I> {
    /// `message`: bytes of the largest message to expect.
    pub(in crate::transport) fn new(inlet: I, message: usize, max_payload: usize) -> Self {
        Inbox {
            inlet,
            buffer: vec![0; message],
            max_payload,
            reassembler: Reassembler::new(max_payload),
            talkers: Talkers::new(),
            unnamed: false,
            lost: None,
            after_gap: None,
            died: false,
            end: None,
            next_look: 0,
            stopped: None,
            born: fork::generation(),
        }
    }

    pub(in crate::transport) fn max_payload(&self) -> usize {
        self.max_payload
    }

    pub(in crate::transport) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inlet.poll_fd()
    }

    pub(in crate::transport) fn inlet(&self) -> &I {
        &self.inlet
    }

    /// Stops: see [`FrameReceiver::stop`](crate::transport::FrameReceiver::stop).
    pub(in crate::transport) fn stop(&mut self) -> bool {
        let waiting = self.inlet.stop();
        self.stopped = Some(waiting);
        waiting != Waiting::Kept || self.after_gap.is_some() || self.lost.is_some() || !self.reassembler.is_idle()
    }

    /// The next event, if there is one or, with a deadline, one comes until then.
    pub(in crate::transport) fn receive(&mut self, deadline: Option<Deadline>) -> Result<Event<'_>> {
        if self.born != fork::generation() {
            return Err(Error::Forked);
        }
        let report = self.next_report(deadline)?;
        Ok(self.lend(report))
    }

    fn next_report(&mut self, deadline: Option<Deadline>) -> Result<Report> {
        if let Some(piece) = self.after_gap.take() {
            if let Some(report) = self.assemble(piece) {
                return Ok(report);
            }
        }
        if let Some((bytes, what)) = self.lost.take() {
            return Ok(Report::Skipped { bytes, what });
        }
        let late = |deadline: Option<Deadline>| if deadline.is_some() { Error::Timeout } else { Error::Empty };
        if self.stopped == Some(Waiting::Kept) && self.reassembler.is_idle() {
            return Err(Error::Closed);
        }
        let mut dead = Vec::new();
        let mut silent = Silent::default();
        loop {
            let left = deadline.map_or(Duration::ZERO, Deadline::remaining);
            let patience = if self.end.is_none() && dead.is_empty() { left } else { Duration::ZERO };
            let patience = if self.talkers.is_open() { patience.min(I::PATIENCE) } else { patience };
            match self.inlet.pull(&mut self.buffer, patience) {
                Ok(message) => {
                    dead.clear();
                    let (len, held) = (message.len, self.reassembler.held());
                    if let Some(report) = self.digest(message)? {
                        return Ok(report);
                    }
                    silent.messages += 1;
                    // The reassembler's limits bound the fragments that it holds.
                    if self.reassembler.held() <= held {
                        silent.empty += 1;
                        silent.bytes += len as u64;
                    }
                    match deadline {
                        Some(deadline) if silent.messages % MAX_SILENT == 0 && deadline.has_passed() => {
                            return Err(Error::Timeout);
                        }
                        // Not `Empty`: messages may be left, which no edge of the descriptor
                        // announces again.
                        None if silent.empty == MAX_EMPTY => {
                            return Ok(Report::Skipped { bytes: silent.bytes, what: NO_FRAMES });
                        }
                        _ => {}
                    }
                }
                Err(Error::Empty) => {
                    if !dead.is_empty() {
                        // They were dead before the last attempt to receive, so no message of
                        // theirs is left.
                        let bytes = self.reap(&dead);
                        dead.clear();
                        if bytes > 0 {
                            return Ok(Report::Skipped { bytes, what: UNFINISHED });
                        }
                    }
                    if let Some(end) = self.end {
                        return Err(end.error());
                    }
                    if self.stopped.is_some() && self.reassembler.is_idle() {
                        return Err(Error::Closed);
                    }
                    self.look_for_dead(&mut dead)?;
                    // The last attempt must be after the deadline, because this process may have
                    // been stopped before.
                    if dead.is_empty() && left.is_zero() {
                        return Err(late(deadline));
                    }
                }
                Err(Error::Closed) => return self.hang_up(false),
                Err(Error::PeerDead) => return self.hang_up(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn lend(&self, report: Report) -> Event<'_> {
        let view = |piece: Piece| Frame {
            header: piece.header,
            stamp: piece.stamp,
            payload: &self.buffer[piece.start..piece.end],
        };
        match report {
            Report::Whole(piece) => Event::Frame(view(piece)),
            Report::Late(piece, expected) => Event::Duplicate { frame: view(piece), expected },
            Report::Joined { header, stamp } => Event::Frame(Frame { header, stamp, payload: self.reassembler.last() }),
            Report::Gap { stream, expected, found } => Event::Gap { stream, expected, found },
            Report::Skipped { bytes, what } => Event::Skipped { bytes, what },
        }
    }

    /// Handles a message; `None` if there is no event for the caller.
    fn digest(&mut self, message: Pulled<I::Source>) -> Result<Option<Report>> {
        let Pulled { start, len, source, refused } = message;
        let skipped = |what| Ok(Some(Report::Skipped { bytes: len as u64, what }));
        if let Some(what) = refused {
            return skipped(what);
        }
        let Some(bytes) = self.buffer.get(start..start + len) else {
            return skipped("a message larger than this end accepts");
        };
        let frame = match Frame::from_message(bytes, self.max_payload.max(CONTROL_ROOM)) {
            Ok(frame) => frame,
            Err(error) => return what_is_wrong(error).map_or_else(Err, skipped),
        };
        let (header, stamp, end) = (frame.header, frame.stamp, start + len);
        let piece = Piece { header, stamp, start: end - frame.payload.len(), end, number: 0 };
        if !header.is_control() {
            return Ok(self.application_frame(piece, source));
        }
        match header.kind {
            control::HELLO => match Hello::decode(frame.payload) {
                Ok(hello) => Ok(self.hello(source, header.stream, &hello, len as u64)),
                Err(error) => what_is_wrong(error).map_or_else(Err, skipped),
            },
            control::BYE => Ok(self.bye(&source)),
            control::PING if self.inlet.answer(frame.payload) => Ok(None),
            kind if control::is_known(kind) => Ok(Some(Report::Whole(piece))),
            _ => Ok(None),
        }
    }

    /// Checks the sequence, where it can be checked.
    fn application_frame(&mut self, mut piece: Piece, source: Option<I::Source>) -> Option<Report> {
        let header = piece.header;
        let known = self.talkers.position(&source);
        let is_late = known.is_some_and(|at| self.talkers.get_mut(at).standing() == Standing::Left);
        if !is_late {
            self.end = None;
        }
        let talker = match (known, source) {
            (Some(at), _) => self.talkers.get_mut(at),
            (None, None) => {
                self.unnamed = true; // and no HELLO: number 0
                return self.assemble(piece);
            }
            (None, source) => {
                let (reassembler, lost) = (&mut self.reassembler, &mut self.lost);
                self.talkers
                    .admit(source, Standing::Foreign, |gone| lose(lost, reassembler.forget(gone.number), CROWDED))
            }
        };
        piece.number = talker.number;
        let is_foreign = talker.standing() == Standing::Foreign;
        if !I::TRACKED || talker.source.is_none() {
            return self.assemble(piece);
        }
        match talker.tracker.check(header) {
            Order::Next => self.assemble(piece),
            // A sender without HELLO need not number its frames: so large a jump is no loss.
            Order::Gap { expected } if is_foreign && header.seq.wrapping_sub(expected) > MAX_FOREIGN_GAP => {
                self.assemble(piece)
            }
            Order::Gap { expected } => {
                self.after_gap = Some(piece);
                Some(Report::Gap { stream: header.stream, expected, found: header.seq })
            }
            // The frame of a late fragment is already dropped.
            Order::Duplicate { expected } => header.is_whole().then_some(Report::Late(piece, expected)),
        }
    }

    fn assemble(&mut self, piece: Piece) -> Option<Report> {
        let frame = Frame { header: piece.header, stamp: piece.stamp, payload: &self.buffer[piece.start..piece.end] };
        let mut bytes = frame.payload.len() as u64;
        let pushed = match self.reassembler.push_from(piece.number, frame) {
            Ok(Some(whole)) if piece.header.is_whole() => {
                debug_assert_eq!(whole.payload.len() as u64, bytes);
                Ok(Some(Report::Whole(piece)))
            }
            Ok(Some(joined)) => Ok(Some(Report::Joined { header: joined.header, stamp: joined.stamp })),
            Ok(None) => Ok(None),
            Err(_) => Err(TOO_LARGE),
        };
        let Lost { torn, crowded } = self.reassembler.take_lost();
        lose(&mut self.lost, crowded, CROWDED);
        // Where the sequence is checked, a gap has reported it.
        if !I::TRACKED && pushed.is_ok() {
            lose(&mut self.lost, torn, TORN);
        }
        match pushed {
            Ok(Some(report)) => Some(report),
            Ok(None) => self.lost.take().map(|(bytes, what)| Report::Skipped { bytes, what }),
            Err(what) => {
                bytes += torn;
                Some(Report::Skipped { bytes, what })
            }
        }
    }

    fn hello(&mut self, source: Option<I::Source>, stream: u16, hello: &Hello, len: u64) -> Option<Report> {
        self.inlet.greeted(hello);
        if source.is_none() {
            self.unnamed = true; // its death could not be noticed, so its end is not awaited
            return None;
        }
        let open = Standing::Open(hello.epoch);
        let known = self.talkers.position(&source);
        let standing = known.map(|at| self.talkers.get_mut(at).standing());
        if standing == Some(open) {
            return None;
        }
        let is_open = matches!(standing, Some(Standing::Open(_)));
        if !is_open && !self.talkers.may_open() {
            self.died = true; // the end of this sender cannot be noticed
            return Some(Report::Skipped { bytes: len, what: TOO_MANY });
        }
        let talker = match known {
            Some(at) => {
                // Another sender has the same address; the unfinished frames of the former one stay
                // unfinished.
                let bytes = self.reassembler.forget(self.talkers.get_mut(at).number);
                lose(&mut self.lost, bytes, UNFINISHED);
                self.talkers.set_standing(at, open);
                self.talkers.get_mut(at)
            }
            None => {
                let (reassembler, lost) = (&mut self.reassembler, &mut self.lost);
                self.talkers.admit(source, open, |gone| lose(lost, reassembler.forget(gone.number), CROWDED))
            }
        };
        talker.tracker = Tracker::new();
        talker.tracker.expect(stream, hello.first_seq);
        self.end = None;
        self.lost.take().map(|(bytes, what)| Report::Skipped { bytes, what })
    }

    fn bye(&mut self, source: &Option<I::Source>) -> Option<Report> {
        let Some(at) = self.talkers.position(source) else {
            if self.unnamed {
                self.end_if_deserted();
            }
            return None;
        };
        let talker = self.talkers.get_mut(at);
        if talker.standing() == Standing::Left {
            return None; // said twice
        }
        let lost = self.reassembler.forget(talker.number);
        if I::TRACKED {
            self.talkers.set_standing(at, Standing::Left); // late frames of it may still come
        } else {
            self.talkers.remove(at);
        }
        self.end_if_deserted();
        (lost > 0).then_some(Report::Skipped { bytes: lost, what: UNFINISHED })
    }

    /// The end of the channel itself.
    fn hang_up(&mut self, broke: bool) -> Result<Report> {
        let cut = (broke || self.talkers.is_open()) && self.stopped != Some(Waiting::Last); // by the peer, not by us
        let lost: u64 = self.talkers.take().iter().map(|talker| self.reassembler.forget(talker.number)).sum();
        let died = self.died || I::CONNECTED && (cut || lost > 0);
        let end = *self.end.get_or_insert(ending(died));
        if lost > 0 { Ok(Report::Skipped { bytes: lost, what: UNFINISHED }) } else { Err(end.error()) }
    }

    fn end_if_deserted(&mut self) {
        if !self.talkers.is_open() {
            self.end = Some(ending(std::mem::take(&mut self.died)));
            self.unnamed = false;
        }
    }

    /// Collects open talkers that have departed. One check covers a limited number, in rotation.
    fn look_for_dead(&mut self, dead: &mut Vec<I::Source>) -> Result<()> {
        if !self.talkers.is_open() {
            return Ok(());
        }
        let now = clock::monotonic_ns();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + I::LOOK.as_nanos() as u64;
        for source in self.talkers.next_open(MAX_LOOKED_AT) {
            if self.inlet.is_gone(&source)? {
                dead.push(source);
            }
        }
        Ok(())
    }

    /// Removes dead talkers from the list, and returns the bytes of their unfinished frames.
    fn reap(&mut self, dead: &[I::Source]) -> u64 {
        let mut lost = 0;
        for source in dead {
            lost += self.inlet.forget(source);
            if let Some(at) = self.talkers.position(&Some(source.clone())) {
                lost += self.reassembler.forget(self.talkers.remove(at).number);
            }
        }
        self.died = true;
        self.end_if_deserted();
        lost
    }
}

/// Adds to the next report.
fn lose(lost: &mut Option<(u64, &'static str)>, bytes: u64, what: &'static str) {
    if bytes > 0 {
        lost.get_or_insert((0, what)).0 += bytes;
    }
}

/// The reason to report for a message that is no valid frame.
fn what_is_wrong(error: Error) -> Result<&'static str> {
    match error {
        Error::Corrupt { what } | Error::Incompatible { what, .. } => Ok(what),
        Error::TooLarge { .. } => Ok(TOO_LARGE),
        error => Err(error),
    }
}

const TOO_LARGE: &str = "a frame larger than this end accepts";
const UNFINISHED: &str = "the beginning of a frame whose sender has departed";
const NO_FRAMES: &str = "messages in a row without a frame, such as HELLO: too many for one call";
const TORN: &str = "parts of a frame of which others are missing";
const CROWDED: &str = "the beginning of a frame, dropped: too many unfinished frames at once";
const TOO_MANY: &str = "HELLO of a sender beyond 65,536 open ones: its end cannot be noticed";

fn ending(died: bool) -> Ending {
    if died { Ending::PeerDead } else { Ending::Closed }
}
