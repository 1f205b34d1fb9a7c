//! Decodes frames from a byte stream in chunks of any size, with optional resynchronisation.
//!
//! Used by every transport of byte streams and by the player of recordings. Relies on `inspect.rs`
//! for the checks of a frame, and on the sequence tracker, whose check comes last.
//!
//! # Work
//! Every byte is examined a bounded number of times, counted in [`Stats::work`]. One case needs a
//! limit: a frame whose payload fails its checksum. The bytes inside may be good frames (one writer
//! died in the middle, others continued), so they are searched. But each of them may begin another
//! false frame of 16 MiB. Searching is therefore limited by credit: every received byte earns
//! credit, up to four times the largest frame, and searching a failed payload costs its size.
//! Without credit the payload is skipped as a whole.

use super::encode::Frame;
use super::grow;
use super::header::{MAX_HEADER, MAX_LEN, SHORT, SYNC, control, padded};
use super::hello::Hello;
use super::inspect::{Boundary, DAMAGED, Found, Shape, inspect, sender_of};
use super::sequence::{Order, Tracker};
use crate::error::{Error, Result};

/// What a [`Decoder`] does with bytes that are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCorrupt {
    /// Refuse the rest of the stream: for TCP and Unix streams, where corruption means a broken or
    /// hostile peer.
    Close,
    /// Search for the next frame and report the skipped bytes: for pipes, FIFOs and files.
    ///
    /// A *long* header is recognised by its checksum. A *short* one is recognised by 28 bits and a
    /// plausible length, so about one garbage byte in 2^34 (with the default limit) begins a false
    /// frame. A payload that contains frames yields them when the frame around it is lost. Streams
    /// that may be damaged should use the long form.
    Resync,
}

/// A result of a [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A frame, in order. Fragments and known control frames are frames too.
    Frame(Frame<'a>),
    /// Frames `expected .. found` of the stream are missing. The frame `found` is the next event.
    Gap {
        /// The stream.
        stream: u16,
        /// The first missing sequence number.
        expected: u32,
        /// The sequence number that came instead.
        found: u32,
    },
    /// A frame before the expected one: sent twice, or late after an [`Event::Gap`]. Use or ignore
    /// it.
    Duplicate {
        /// The frame.
        frame: Frame<'a>,
        /// The sequence number that would have been new.
        expected: u32,
    },
    /// Bytes that were not a frame; only with [`OnCorrupt::Resync`], reported before the next good
    /// frame or at the end.
    Skipped {
        /// The number of bytes.
        bytes: u64,
        /// What was wrong with the first of them.
        what: &'static str,
    },
}

/// What a [`Decoder`] has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames delivered, duplicates included.
    pub frames: u64,
    /// Gaps reported (not frames missing).
    pub gaps: u64,
    /// Duplicates delivered.
    pub duplicates: u64,
    /// Control frames of a kind that this version does not know; they are skipped.
    pub unknown_control: u64,
    /// Bytes skipped because they were not a frame.
    pub skipped: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes examined: searched, checksummed, copied. Bounded by a constant multiple of `received`.
    pub work: u64,
}

/// The result of [`Decoder::advance`]: an [`Event`] that borrows nothing yet.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Frame { place: Place, duplicate_of: Option<u32> },
    Gap { stream: u16, expected: u32, found: u32 },
    Skipped { bytes: u64, what: &'static str },
}

impl Step {
    /// How many bytes the frame takes on a stream, header and padding included.
    pub(crate) fn frame_bytes(self) -> u64 {
        match self {
            Step::Frame { place, .. } => place.shape.total as u64,
            Step::Gap { .. } | Step::Skipped { .. } => 0,
        }
    }
}

/// The place of a frame: in the decoder's buffer or in the chunk, and its first byte.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    shape: Shape,
    carried: bool,
    start: usize,
}

/// Decodes a byte stream into frames.
///
/// Accepts chunks of any size. A frame that lies inside one chunk is borrowed from it. A frame that
/// is spread over chunks is gathered in one buffer, which grows with the received bytes and never
/// exceeds the largest frame (`max_payload` + 127 bytes). Makes no system calls; wait-free, in time
/// linear in the bytes received.
///
/// ```
/// use slipring::frame::{Decoder, Event, Form, Frame, Header, OnCorrupt};
/// let mut wire = b"noise".to_vec();
/// for seq in [0, 1, 4] {
///     Frame::new(Header { seq, ..Header::new(0x0100, 0)? }, b"tick")?.encode(Form::Long, &mut wire)?;
/// }
/// let mut decoder = Decoder::new(1024, OnCorrupt::Resync);
/// let mut input = &wire[..];
/// assert!(matches!(decoder.decode(&mut input)?, Some(Event::Skipped { bytes: 5, .. })));
/// assert!(matches!(decoder.decode(&mut input)?, Some(Event::Frame(f)) if f.payload == b"tick"));
/// assert!(matches!(decoder.decode(&mut input)?, Some(Event::Frame(f)) if f.header.seq == 1));
/// assert!(matches!(decoder.decode(&mut input)?, Some(Event::Gap { expected: 2, found: 4, .. })));
/// assert!(matches!(decoder.decode(&mut input)?, Some(Event::Frame(f)) if f.header.seq == 4));
/// assert!(decoder.decode(&mut input)?.is_none()); // all consumed: feed the next chunk
/// assert!(decoder.finish()?.is_none());           // the stream may end here
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    max_payload: usize,
    on_corrupt: OnCorrupt,
    /// Bytes from before the caller's chunk; those from `at` on are still undecided.
    carry: Vec<u8>,
    at: usize,
    /// The number of undecided bytes below which nothing new can be decided.
    need: usize,
    /// While searching for a frame: the reason, and the bytes skipped since.
    lost: Option<(&'static str, u64)>,
    credit: u64,
    refused: bool,
    /// `None` while several senders share the stream and cannot be told apart.
    tracker: Option<Tracker>,
    stats: Stats,
}

impl Decoder {
    /// A decoder at the beginning of a stream. `max_payload` is capped at 2^30. Allocates nothing
    /// yet.
    #[must_use]
    pub fn new(max_payload: usize, on_corrupt: OnCorrupt) -> Self {
        let max_payload = max_payload.min(MAX_LEN as usize);
        Decoder {
            max_payload,
            on_corrupt,
            carry: Vec::new(),
            at: 0,
            need: SHORT,
            lost: None,
            credit: credit_limit(max_payload),
            refused: false,
            tracker: Some(Tracker::new()),
            stats: Stats::default(),
        }
    }

    /// Decodes the next event from this decoder's bytes and `input`, which is advanced past the
    /// consumed bytes.
    ///
    /// `None` means that all of `input` is consumed and more is needed: call with the next chunk.
    /// After an event, call again with the rest of the same chunk (even if that is empty: an event
    /// may still lie in the buffer).
    ///
    /// A HELLO is delivered, and also resets the expected sequence number of its stream.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::TooLarge`] for a frame above `max_payload`,
    /// [`Error::Incompatible`] for another version, or for a flag or an extension that must be
    /// understood. With [`OnCorrupt::Close`] any error is final. With [`OnCorrupt::Resync`] only
    /// `Incompatible` is returned, once where a frame was due, and decoding may continue: what
    /// looks like another version may be damage.
    pub fn decode<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Event<'a>>> {
        let chunk = *input;
        let Some(step) = self.advance(input, false)? else { return Ok(None) };
        Ok(Some(self.event(step, chunk)))
    }

    /// Ends the stream. Call until it returns `None`.
    ///
    /// With [`OnCorrupt::Resync`] the bytes of an unfinished frame are searched for frames inside,
    /// and the rest is reported as [`Event::Skipped`].
    ///
    /// # Errors
    /// [`Error::Corrupt`] with [`OnCorrupt::Close`], if the stream ended inside a frame; otherwise
    /// as [`Decoder::decode`].
    pub fn finish(&mut self) -> Result<Option<Event<'_>>> {
        let Some(step) = self.advance(&mut &[][..], true)? else { return Ok(None) };
        Ok(Some(self.event(step, &[])))
    }

    /// The event of a step. `chunk` is `input` as it was when [`Decoder::advance`] was called.
    #[inline]
    pub(crate) fn event<'a>(&'a self, step: Step, chunk: &'a [u8]) -> Event<'a> {
        match step {
            Step::Frame { place, duplicate_of } => {
                let bytes = if place.carried { &self.carry[..] } else { chunk };
                let frame = place.shape.view(&bytes[place.start..]);
                match duplicate_of {
                    None => Event::Frame(frame),
                    Some(expected) => Event::Duplicate { frame, expected },
                }
            }
            Step::Gap { stream, expected, found } => Event::Gap { stream, expected, found },
            Step::Skipped { bytes, what } => Event::Skipped { bytes, what },
        }
    }

    /// The sender of a step's frame, if its header identifies it; see [`sender_of`].
    pub(crate) fn sender(&self, step: Step, chunk: &[u8]) -> Option<u64> {
        let Step::Frame { place, .. } = step else { return None };
        let bytes = if place.carried { &self.carry[..] } else { chunk };
        sender_of(&bytes[place.start..])
    }

    /// Whether no byte is undecided, and none is being skipped.
    pub(crate) fn is_idle(&self) -> bool {
        self.at == self.carry.len() && self.lost.is_none()
    }

    /// The number of undecided bytes.
    pub(crate) fn undecided(&self) -> usize {
        self.carry.len() - self.at
    }

    /// The number of undecided bytes, and how many more are needed to decide anything.
    pub(crate) fn wanting(&self) -> (usize, usize) {
        let held = self.carry.len() - self.at;
        (held, self.need.saturating_sub(held).max(1))
    }

    /// Discards the undecided bytes of a sender that has departed, and returns how many of them
    /// were being skipped (with `more`, which follow them). Unlike [`Decoder::finish`] it never
    /// interprets them as frames.
    pub(crate) fn abandon(&mut self, more: usize) -> Option<Step> {
        let undecided = (self.undecided() + more) as u64;
        self.carry.clear();
        self.at = 0;
        self.need = SHORT;
        self.refused = false;
        self.lost.take().map(|(what, bytes)| Step::Skipped { bytes: bytes + undecided, what })
    }

    /// Starts a new sender: its sequence numbers are checked from the beginning, those of its
    /// HELLO's stream from `first` on.
    pub(crate) fn begin(&mut self, stream: u16, first: u32) {
        let mut tracker = Tracker::new();
        tracker.expect(stream, first);
        self.tracker = Some(tracker);
    }

    /// Forgets the expected numbers, for the next sender, and returns them.
    pub(crate) fn set_aside(&mut self) -> Tracker {
        self.tracker.replace(Tracker::new()).unwrap_or_default()
    }

    /// Handles a sender that announces another sequence number than expected: a gap to report, if
    /// it is ahead. If it is behind, duplicates will follow.
    pub(crate) fn go_on(&mut self, stream: u16, expected: u32, found: u32) -> Option<Step> {
        match Order::of(found, expected) {
            Order::Next => None,
            Order::Duplicate { .. } => {
                self.tracker.get_or_insert_default().expect(stream, expected);
                None
            }
            Order::Gap { .. } => {
                self.stats.gaps += 1;
                Some(Step::Gap { stream, expected, found })
            }
        }
    }

    /// Sets the limit from the next frame on.
    pub(crate) fn set_max_payload(&mut self, bytes: usize) {
        self.max_payload = bytes.min(MAX_LEN as usize);
    }

    /// Stops checking sequence numbers, because several senders number the same streams, until one
    /// begins alone.
    pub(crate) fn stop_tracking(&mut self) {
        self.tracker = None;
    }

    /// The counters so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The setting for corruption, and the capacity of the buffer. For tests of its bounds.
    #[cfg(test)]
    pub(super) fn on_corrupt(&self) -> OnCorrupt {
        self.on_corrupt
    }

    #[cfg(test)]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.carry.capacity()
    }

    /// [`Decoder::decode`], or [`Decoder::finish`] if the stream has ended, for callers that
    /// examine the result before they borrow it.
    pub(crate) fn advance(&mut self, input: &mut &[u8], ended: bool) -> Result<Option<Step>> {
        let chunk_len = input.len();
        if self.refused {
            return Err(Error::Corrupt { what: "byte stream: unusable after an earlier error" });
        }
        let (shape, duplicate_of) = loop {
            if !self.gather(input) {
                if !ended {
                    return Ok(None);
                }
                if self.at == self.carry.len() {
                    return Ok(self.lost.take().map(|(what, bytes)| Step::Skipped { bytes, what }));
                }
                self.reject(Error::Corrupt { what: "byte stream: ended inside a frame" }, input)?;
                continue;
            }
            let shape = match inspect(
                front(&self.carry[self.at..], input),
                self.max_payload,
                Boundary::Stream,
                &mut self.stats.work,
            ) {
                Ok(Found::Whole(shape)) => shape,
                Ok(Found::Prefix { need }) => {
                    self.need = need;
                    continue;
                }
                Ok(Found::Damaged { total }) => {
                    self.reject_damaged(total, input)?;
                    continue;
                }
                Err(error) => {
                    self.reject(error, input)?;
                    continue;
                }
            };
            // A report that precedes a frame leaves the frame in place; the next call inspects it
            // again.
            if let Some((what, bytes)) = self.lost.take() {
                return Ok(Some(Step::Skipped { bytes, what }));
            }
            let header = shape.header;
            if header.is_control() && !control::is_known(header.kind) {
                self.stats.unknown_control += 1;
                self.take(shape.total, input);
                continue;
            }
            let Some(tracker) = &mut self.tracker else { break (shape, None) };
            match tracker.check(header) {
                Order::Next => break (shape, None),
                Order::Duplicate { expected } => break (shape, Some(expected)),
                Order::Gap { expected } => {
                    tracker.expect(header.stream, header.seq);
                    self.stats.gaps += 1;
                    return Ok(Some(Step::Gap { stream: header.stream, expected, found: header.seq }));
                }
            }
        };
        self.stats.frames += 1;
        self.stats.duplicates += u64::from(duplicate_of.is_some());
        if let (true, control::HELLO, Some(tracker)) = (shape.header.is_control(), shape.header.kind, &mut self.tracker)
        {
            if let Ok(hello) = Hello::decode(shape.view(front(&self.carry[self.at..], input)).payload) {
                tracker.expect(shape.header.stream, hello.first_seq);
            }
        }
        let carried = self.at < self.carry.len();
        let start = if carried { self.at } else { chunk_len - input.len() };
        self.take(shape.total, input);
        Ok(Some(Step::Frame { place: Place { shape, carried, start }, duplicate_of }))
    }

    /// Makes `need` undecided bytes contiguous: in `input`, if they begin there, else in the
    /// buffer. False if there are not enough; then `input` has been consumed.
    fn gather(&mut self, input: &mut &[u8]) -> bool {
        let held = self.carry.len() - self.at;
        if held == 0 {
            self.carry.clear();
            self.at = 0;
        }
        if held >= self.need || (held == 0 && input.len() >= self.need) {
            return true;
        }
        let (more, rest) = input.split_at(input.len().min(self.need - held));
        if self.at > 0 && self.carry.len() + more.len() > self.carry.capacity() {
            // Moves fewer bytes than the current frame has, and once for that frame: linear.
            self.carry.drain(..self.at);
            self.at = 0;
            self.stats.work += held as u64;
        }
        grow(&mut self.carry, self.at + held + more.len(), largest_frame(self.max_payload));
        self.carry.extend_from_slice(more);
        self.received(more.len());
        self.stats.work += more.len() as u64;
        *input = rest;
        held + more.len() >= self.need
    }

    /// Consumes `n` of the undecided bytes, which are known to be contiguous.
    fn take(&mut self, n: usize, input: &mut &[u8]) {
        self.need = SHORT;
        if self.at < self.carry.len() {
            self.at += n;
        } else {
            *input = &input[n..];
            self.received(n);
        }
    }

    fn received(&mut self, n: usize) {
        self.stats.received += n as u64;
        self.credit = (self.credit + n as u64).min(credit_limit(self.max_payload));
    }

    /// Handles bytes that begin no frame: refuses the stream, or continues the search behind the
    /// first of them.
    fn reject(&mut self, error: Error, input: &mut &[u8]) -> Result<()> {
        let what = match error {
            _ if self.on_corrupt == OnCorrupt::Close => {
                self.refused = true;
                return Err(error);
            }
            Error::Corrupt { what } | Error::Incompatible { what, .. } => what,
            _ => "frame header: length above the limit",
        };
        let expected_a_frame = self.lost.is_none();
        let rest = &front(&self.carry[self.at..], input)[1..];
        let skip = 1 + next_sync(rest);
        self.stats.work += skip as u64;
        self.skip(skip, what, input);
        if expected_a_frame && matches!(error, Error::Incompatible { .. }) { Err(error) } else { Ok(()) }
    }

    /// Handles a damaged payload: searches inside it if there is credit, else continues behind it.
    fn reject_damaged(&mut self, total: usize, input: &mut &[u8]) -> Result<()> {
        if self.on_corrupt == OnCorrupt::Resync && self.credit < total as u64 {
            self.skip(total, DAMAGED, input);
            return Ok(());
        }
        self.credit = self.credit.saturating_sub(total as u64);
        self.reject(Error::Corrupt { what: DAMAGED }, input)
    }

    fn skip(&mut self, n: usize, what: &'static str, input: &mut &[u8]) {
        self.take(n, input);
        self.lost.get_or_insert((what, 0)).1 += n as u64;
        self.stats.skipped += n as u64;
    }
}

/// The undecided bytes: in the buffer, if it holds any, else in the caller's chunk.
fn front<'a>(carry: &'a [u8], input: &'a [u8]) -> &'a [u8] {
    if carry.is_empty() { input } else { carry }
}

/// The first place where a frame may begin; a lone first sync byte at the very end may be one, too.
fn next_sync(bytes: &[u8]) -> usize {
    let may_begin = |at: &usize| bytes[*at] == SYNC[0] && bytes.get(at + 1).is_none_or(|next| *next == SYNC[1]);
    (0..bytes.len()).find(may_begin).unwrap_or(bytes.len())
}

/// The largest number of bytes that the buffer may hold.
fn largest_frame(max_payload: usize) -> usize {
    MAX_HEADER + padded(max_payload)
}

fn credit_limit(max_payload: usize) -> u64 {
    4 * largest_frame(max_payload) as u64
}
