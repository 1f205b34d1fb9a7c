//! Messages to frames: who talks, what is missing, what is unreadable, when it is over.
//!
//! Used by the receivers of every message transport. Relies on `frame/`.
//!
//! # The end
//! A **talker** is a sender that was heard of. It is *open* from its HELLO to its BYE. When the last open one leaves and no
//! message is left, the talk has ended: [`Error::PeerDead`] if one of them died since the talk began, else
//! [`Error::Closed`]; again and again, until another talker begins. A death is looked for while nothing comes, at most every
//! [`Inlet::LOOK`]: what the dead have sent before is received first.
//!
//! # Bounds
//! 256 talkers; the reassembler's limits on unfinished frames.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::NAP;
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header, Hello, Order, Reassembler, Tracker, control};
use crate::os::{clock, fork};
use crate::wait::deadline::Deadline;

/// Carries messages to an [`Inbox`].
pub(in crate::transport) trait Inlet: Send {
    /// By what the mechanism tells senders apart.
    type Source: Clone + PartialEq + Send;

    /// Whether all frames of a sender can be told from those of others, so that their sequence can be checked.
    const TRACKED: bool;

    /// Whether the end of the channel is the end of a sender.
    const CONNECTED: bool = false;

    /// How long one `pull` may wait while somebody could die.
    const PATIENCE: Duration = NAP;

    /// How often to look for dead senders while nothing comes.
    const LOOK: Duration = NAP;

    /// Takes one message, waiting for it at most `patience` (and maybe less).
    ///
    /// # Errors
    /// [`Error::Empty`] if there is none; [`Error::Closed`] if there never will be another one, [`Error::PeerDead`] if that is
    /// because the connection broke.
    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<Self::Source>>;

    /// Whether the kernel says that this sender, which said HELLO and not BYE, is no more.
    fn is_gone(&mut self, _source: &Self::Source) -> Result<bool> {
        Ok(false)
    }

    /// Gives up what has come of a message whose rest will not, and says how many bytes that were.
    fn forget(&mut self, _source: &Self::Source) -> u64 {
        0
    }

    /// What a peer says of itself.
    fn greeted(&mut self, _hello: &Hello) {}

    /// Answers a PING; false if it cannot be answered, and is delivered instead.
    fn answer(&mut self, _payload: &[u8]) -> bool {
        false
    }

    /// Takes no more messages from senders, if they can be told, and says what becomes of those that wait.
    fn stop(&mut self) -> Waiting {
        Waiting::Lost
    }

    /// Polls readable when there may be a message.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What becomes of the messages that wait when the receiver leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) enum Waiting {
    /// The channel keeps them for the next receiver.
    Kept,
    /// They go with this end.
    Lost,
    /// The same, and no others will follow: the channel is shut.
    Last,
}

/// One message, in the buffer that was lent to the inlet.
pub(in crate::transport) struct Pulled<S> {
    /// Where it begins there.
    pub(in crate::transport) start: usize,
    /// Its bytes; more than fit if it was cut.
    pub(in crate::transport) len: usize,
    /// Its sender, if that is known.
    pub(in crate::transport) source: Option<S>,
}

/// The receiving end of a message transport.
pub(in crate::transport) struct Inbox<I: Inlet> {
    inlet: I,
    buffer: Vec<u8>,
    max_payload: usize,
    reassembler: Reassembler,
    talkers: Vec<Talker<I::Source>>,
    /// Numbers given to talkers; 0 is for frames of unknown senders.
    numbers: u64,
    /// The frame whose gap was reported by the last call.
    after_gap: Option<Piece>,
    /// Whether an open talker has died since the talk began.
    died: bool,
    /// How the talk has ended, if it has: whether in death.
    end: Option<bool>,
    /// When to look for the dead again, in ns of the monotonic clock.
    next_look: u64,
    /// Stopped: only what would be lost is still received.
    stopped: Option<Waiting>,
    born: u32,
}

/// A sender that was heard of.
struct Talker<S> {
    /// `None`: all those whom nothing tells apart.
    source: Option<S>,
    /// For the reassembler.
    number: u64,
    standing: Standing,
    tracker: Tracker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Sends, and never said HELLO.
    Foreign,
    /// Said HELLO with this epoch, and not BYE.
    Open(u64),
    /// Said BYE.
    Left,
}

/// A frame of the message in the buffer: where its payload lies, and whose it is.
#[derive(Clone, Copy)]
struct Piece {
    header: Header,
    stamp: u64,
    start: usize,
    end: usize,
    number: u64,
}

/// An [`Event`] that borrows nothing yet.
enum Report {
    Whole(Piece),
    Late(Piece, u32),
    Joined { header: Header, stamp: u64 },
    Gap { stream: u16, expected: u32, found: u32 },
    Skipped { bytes: u64, what: &'static str },
}

const MAX_TALKERS: usize = 256;
/// Messages without a frame after which a call looks at its deadline.
const MAX_SILENT: usize = 1024;
/// What control frames may hold, however little the application's may.
const CONTROL_ROOM: usize = 1024;

impl<I: Inlet> Inbox<I> {
    /// `message`: bytes of the largest message to expect.
    pub(in crate::transport) fn new(inlet: I, message: usize, max_payload: usize) -> Self {
        Inbox {
            inlet,
            buffer: vec![0; message],
            max_payload,
            reassembler: Reassembler::new(max_payload),
            talkers: Vec::new(),
            numbers: 0,
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
        waiting != Waiting::Kept || self.after_gap.is_some() || !self.reassembler.is_idle()
    }

    /// The next event: what is there now or, with a deadline, what comes until then.
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
        let late = |deadline: Option<Deadline>| if deadline.is_some() { Error::Timeout } else { Error::Empty };
        if self.stopped == Some(Waiting::Kept) && self.reassembler.is_idle() {
            return Err(Error::Closed);
        }
        let mut dead = Vec::new(); // allocates only when somebody has died
        let mut silent = 0;
        loop {
            let patience = match deadline {
                Some(deadline) if self.end.is_none() && dead.is_empty() => deadline.remaining(),
                _ => Duration::ZERO,
            };
            let patience = if self.is_open() { patience.min(I::PATIENCE) } else { patience };
            match self.inlet.pull(&mut self.buffer, patience) {
                Ok(message) => {
                    dead.clear();
                    if let Some(report) = self.digest(message)? {
                        return Ok(report);
                    }
                    // Somebody may talk for ever without saying anything.
                    silent += 1;
                    if silent % MAX_SILENT == 0 && deadline.is_none_or(Deadline::has_passed) {
                        return Err(late(deadline));
                    }
                }
                Err(Error::Empty) => {
                    if !dead.is_empty() {
                        // They were dead before we looked the last time: nothing more can come from them.
                        let bytes = self.bury(&dead);
                        dead.clear();
                        if bytes > 0 {
                            return Ok(Report::Skipped { bytes, what: UNFINISHED });
                        }
                    }
                    if let Some(died) = self.end {
                        return Err(ended(died));
                    }
                    if self.stopped.is_some() && self.reassembler.is_idle() {
                        return Err(Error::Closed);
                    }
                    self.look_for_dead(&mut dead)?;
                    if dead.is_empty() && deadline.is_none_or(Deadline::has_passed) {
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

    /// What a message means; `None` if nothing for the caller.
    fn digest(&mut self, message: Pulled<I::Source>) -> Result<Option<Report>> {
        let Pulled { start, len, source } = message;
        let skipped = |what| Ok(Some(Report::Skipped { bytes: len as u64, what }));
        let Some(bytes) = self.buffer.get(start..start + len) else {
            return skipped("a message larger than this end takes");
        };
        let frame = match Frame::from_message(bytes, self.max_payload.max(CONTROL_ROOM)) {
            Ok(frame) => frame,
            Err(Error::Corrupt { what }) => return skipped(what),
            Err(Error::TooLarge { .. }) => return skipped(TOO_LARGE),
            Err(error) => return Err(error),
        };
        let (header, stamp, end) = (frame.header, frame.stamp, start + len);
        let piece = Piece { header, stamp, start: end - frame.payload.len(), end, number: 0 };
        if !header.is_control() {
            return Ok(self.application_frame(piece, source));
        }
        match header.kind {
            control::HELLO => match Hello::decode(frame.payload) {
                Ok(hello) => Ok(self.hello(source, header.stream, &hello)),
                Err(Error::Corrupt { what }) => skipped(what),
                Err(error) => Err(error),
            },
            control::BYE => Ok(self.bye(source.as_ref())),
            control::PING if self.inlet.answer(frame.payload) => Ok(None),
            kind if control::is_known(kind) => Ok(Some(Report::Whole(piece))),
            _ => Ok(None),
        }
    }

    /// Judges the sequence, where it can be judged.
    fn application_frame(&mut self, mut piece: Piece, source: Option<I::Source>) -> Option<Report> {
        let header = piece.header;
        let known = self.talkers.iter().position(|talker| talker.source == source);
        if known.is_none_or(|at| self.talkers[at].standing != Standing::Left) {
            self.end = None;
        }
        if known.is_none() && source.is_none() {
            return self.assemble(piece); // number 0: those whom nothing tells apart, and who said no HELLO
        }
        let at = known.unwrap_or_else(|| self.admit(source, Standing::Foreign));
        let talker = &mut self.talkers[at];
        piece.number = talker.number;
        if !I::TRACKED || talker.source.is_none() {
            return self.assemble(piece);
        }
        match talker.tracker.check(header) {
            Order::Next => self.assemble(piece),
            Order::Gap { expected } => {
                self.after_gap = Some(piece);
                Some(Report::Gap { stream: header.stream, expected, found: header.seq })
            }
            // A late fragment has nothing left to belong to.
            Order::Duplicate { expected } => header.is_whole().then_some(Report::Late(piece, expected)),
        }
    }

    fn assemble(&mut self, piece: Piece) -> Option<Report> {
        let frame = Frame { header: piece.header, stamp: piece.stamp, payload: &self.buffer[piece.start..piece.end] };
        let bytes = frame.payload.len() as u64;
        match self.reassembler.push_from(piece.number, frame) {
            Ok(Some(whole)) if piece.header.is_whole() => {
                debug_assert_eq!(whole.payload.len() as u64, bytes);
                Some(Report::Whole(piece))
            }
            Ok(Some(joined)) => Some(Report::Joined { header: joined.header, stamp: joined.stamp }),
            Ok(None) => None,
            Err(_) => Some(Report::Skipped { bytes, what: TOO_LARGE }),
        }
    }

    fn hello(&mut self, source: Option<I::Source>, stream: u16, hello: &Hello) -> Option<Report> {
        self.inlet.greeted(hello);
        let open = Standing::Open(hello.epoch);
        let mut lost = 0;
        let at = match self.talkers.iter().position(|talker| talker.source == source) {
            Some(at) if self.talkers[at].standing == open => return None,
            Some(at) => {
                // Another life under the same address: what the former one has left unfinished stays so.
                lost = self.reassembler.forget(self.talkers[at].number);
                self.talkers[at].standing = open;
                at
            }
            None => self.admit(source, open),
        };
        let tracker = &mut self.talkers[at].tracker;
        *tracker = Tracker::new();
        tracker.expect(stream, hello.first_seq);
        self.end = None;
        (lost > 0).then_some(Report::Skipped { bytes: lost, what: UNFINISHED })
    }

    fn bye(&mut self, source: Option<&I::Source>) -> Option<Report> {
        let Some(at) = self.talkers.iter().position(|talker| talker.source.as_ref() == source) else {
            self.end_if_deserted(); // all that it had to say was received before our time
            return None;
        };
        let lost = self.reassembler.forget(self.talkers[at].number);
        if I::TRACKED {
            self.talkers[at].standing = Standing::Left; // its late frames may still come
        } else {
            self.talkers.swap_remove(at);
        }
        self.end_if_deserted();
        (lost > 0).then_some(Report::Skipped { bytes: lost, what: UNFINISHED })
    }

    /// The end of the channel itself.
    fn hang_up(&mut self, broke: bool) -> Result<Report> {
        let lost: u64 = self.talkers.iter().map(|talker| self.reassembler.forget(talker.number)).sum();
        let cut = self.is_open() && self.stopped != Some(Waiting::Last); // by the peer, not by us
        let died = self.died || broke || I::CONNECTED && (cut || lost > 0);
        self.talkers.clear();
        let died = *self.end.get_or_insert(died);
        if lost > 0 { Ok(Report::Skipped { bytes: lost, what: UNFINISHED }) } else { Err(ended(died)) }
    }

    fn is_open(&self) -> bool {
        self.talkers.iter().any(|talker| matches!(talker.standing, Standing::Open(_)))
    }

    fn end_if_deserted(&mut self) {
        if !self.is_open() {
            self.end = Some(std::mem::take(&mut self.died));
        }
    }

    /// Collects the numbers of those open talkers that are gone.
    fn look_for_dead(&mut self, dead: &mut Vec<u64>) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        let now = clock::monotonic_ns();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + I::LOOK.as_nanos() as u64;
        for talker in &self.talkers {
            if let (Standing::Open(_), Some(source)) = (talker.standing, &talker.source) {
                if self.inlet.is_gone(source)? {
                    dead.push(talker.number);
                }
            }
        }
        Ok(())
    }

    /// Takes the dead off the list, and gives the bytes of the frames that they did not finish.
    fn bury(&mut self, dead: &[u64]) -> u64 {
        let mut lost = 0;
        self.talkers.retain(|talker| {
            let lives = !dead.contains(&talker.number);
            if !lives {
                lost += talker.source.as_ref().map_or(0, |source| self.inlet.forget(source));
                lost += self.reassembler.forget(talker.number);
            }
            lives
        });
        self.died = true;
        self.end_if_deserted();
        lost
    }

    /// A new talker; if there are too many, in the place of the one that is missed least.
    fn admit(&mut self, source: Option<I::Source>, standing: Standing) -> usize {
        self.numbers += 1;
        let talker = Talker { source, number: self.numbers, standing, tracker: Tracker::new() };
        if self.talkers.len() < MAX_TALKERS {
            self.talkers.push(talker);
            return self.talkers.len() - 1;
        }
        let rank = |talker: &Talker<I::Source>| match talker.standing {
            Standing::Left => (0, talker.number),
            Standing::Foreign => (1, talker.number),
            Standing::Open(_) => (2, talker.number),
        };
        let at = (0..MAX_TALKERS).min_by_key(|at| rank(&self.talkers[*at])).unwrap_or(0);
        self.reassembler.forget(self.talkers[at].number);
        self.talkers[at] = talker;
        at
    }
}

const TOO_LARGE: &str = "a frame larger than this end takes";
const UNFINISHED: &str = "the beginning of a frame whose sender is gone";

fn ended(died: bool) -> Error {
    if died { Error::PeerDead } else { Error::Closed }
}
