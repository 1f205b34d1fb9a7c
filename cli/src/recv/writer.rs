//! Encodes received frames into a buffer and writes it, and says at the end what became of them.
//!
//! Used by `mod.rs`, which receives them. Frames of a ring are released when they have been
//! written, so this knows which sources keep what was not.

use std::io::{self, ErrorKind, IsTerminal};
use std::time::{Duration, Instant};

use slipring::Error;
use slipring::frame::{Event, Flags, Frame};
use slipring::mpsc::Ended;

use super::Recv;
use crate::failure::{self, FAILED, Failure, LOST, Outcome, TIMEOUT};
use crate::framing::{self, Framing};
use crate::interrupt::{Interrupt, Wait};
use crate::output::Output;
use crate::progress::Progress;
use crate::reports::Reports;
use crate::{Context, units};

/// How long a burst may take to fill the buffer before its frames are written.
const GATHER: Duration = Duration::from_micros(50);
/// Bytes in one write, approximately.
pub(super) const WRITE: usize = 256 << 10;
/// The interval of checks for the next sender, with --follow.
const FOLLOW: Duration = Duration::from_millis(10);

/// What follows the end of a sender.
pub(super) enum Next {
    Wait,
    Stop,
}

/// Encodes frames into a buffer and writes it.
pub(super) struct Writer<'a> {
    pub(super) options: &'a Recv,
    pub(super) context: &'a Context,
    pub(super) interrupt: &'a Interrupt,
    pub(super) framing: Framing,
    pub(super) output: Output,
    /// Frames that were received and not written may be redelivered, even if a part of them has
    /// been written: the source is a ring that delivers at least once.
    pub(super) may_repeat: bool,
    /// Frames that were received are put back if nothing of them has been written: the source is a
    /// ring, and not a slot ring that delivers at most once.
    pub(super) gives_back: bool,
    /// Several frames at a time are received from the source, which cannot put any back.
    pub(super) reads_ahead: bool,
    /// The output failed: a part of the received frames may have been written.
    pub(super) is_torn: bool,
    /// Frames that the ring counts as lost with this receiver.
    pub(super) lost: u64,
    /// How many of several senders have died.
    pub(super) deaths: u64,
    /// The death of a sender was reported, and no other sender has come since.
    pub(super) said_death: bool,
    pub(super) out: Vec<u8>,
    /// Number of frames left until `--count`.
    pub(super) left: u64,
    /// Frames in `out`, and their bytes.
    pub(super) pending: (u64, u64),
    /// The number of bytes that are written at once, so that the sender has most of the ring to
    /// continue.
    pub(super) enough: usize,
    pub(super) redelivered: u64,
    pub(super) reports: Reports<'a>,
    /// The source keeps the newest values only: those that were replaced are not missing.
    pub(super) is_latest: bool,
    pub(super) replaced: u64,
    /// Frames that are missing, and bytes that were no frame.
    pub(super) missing: u64,
    pub(super) skipped: u64,
    pub(super) start: Instant,
    pub(super) progress: Progress,
}

impl<'a> Writer<'a> {
    pub(super) fn new(options: &'a Recv, output: Output, interrupt: &'a Interrupt, context: &'a Context) -> Self {
        let on_terminal = options.file.is_none() && io::stdout().is_terminal();
        Writer {
            options,
            context,
            framing: options.framing.unwrap_or(Framing::Lines),
            interrupt,
            output,
            may_repeat: false,
            gives_back: false,
            reads_ahead: false,
            is_torn: false,
            lost: 0,
            deaths: 0,
            said_death: false,
            out: Vec::with_capacity(WRITE),
            left: options.count.unwrap_or(u64::MAX),
            pending: (0, 0),
            enough: WRITE / 4,
            redelivered: 0,
            reports: Reports::new(context),
            is_latest: false,
            replaced: 0,
            missing: 0,
            skipped: 0,
            start: Instant::now(),
            progress: Progress::new(context, None, on_terminal),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Whether all is done, or an end was requested.
    pub(super) fn is_over(&self) -> bool {
        self.is_done() || self.interrupt.asked()
    }

    /// Whether another frame may be received before the buffer is written.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.left > 0 && self.out.len() < WRITE && self.options.rate.is_none_or(|_| self.pending.0 == 0)
    }

    /// How many frames to request, at most `most`.
    pub(super) fn wanted(&self, most: usize) -> usize {
        let limit = if self.options.rate.is_some() { 1 } else { most };
        usize::try_from(self.left).unwrap_or(usize::MAX).clamp(1, limit)
    }

    /// Whether there are frames that cannot be written.
    pub(super) fn may_refuse(&self) -> bool {
        matches!(self.framing, Framing::Fixed(_)) && !self.context.json
    }

    /// Encodes a frame.
    #[inline]
    pub(super) fn take(&mut self, frame: Frame<'_>) -> Outcome {
        let header = frame.header;
        let is_other = |wanted: Option<u16>, is: u16| wanted.is_some_and(|wanted| wanted != is);
        if is_other(self.options.kind, header.kind) || is_other(self.options.stream, header.stream) {
            return Ok(());
        }
        if self.context.json {
            framing::encode_json(header, frame.payload, &mut self.out);
        } else if !self.framing.encode(frame.payload, &mut self.out) {
            let (framing, len) = (self.framing, header.len);
            let code = if self.gives_back { FAILED } else { LOST };
            let fate = match code {
                FAILED => "it stays in the ring",
                _ if self.reads_ahead => "it is lost, and all that had been read after it",
                _ => "it is lost",
            };
            let message = format_args!("a frame of {len} bytes cannot be written as {framing}; {fate}");
            return Err(Failure::new(code, message));
        }
        self.said_death = false;
        self.redelivered += u64::from(header.flags.contains(Flags::REDELIVERED));
        self.pending.0 += 1;
        self.pending.1 += u64::from(header.len);
        self.left -= 1;
        Ok(())
    }

    /// Encodes frames while there is room for them. Returns whether there may be more.
    pub(super) fn take_all<'f>(&mut self, mut frames: impl Iterator<Item = Frame<'f>>) -> Outcome<bool> {
        while self.has_room() {
            match frames.next() {
                Some(frame) => self.take(frame)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reports the end of one of several senders, if it has died.
    pub(super) fn take_end(&mut self, end: Ended) {
        if end.died {
            let Ended { lane, producer, .. } = end;
            self.deaths += 1;
            self.said_death = true;
            self.context.note(format_args!(
                "sender {producer}, on lane {lane}, died without closing; its committed frames were delivered"
            ));
        }
    }

    /// Encodes a frame, or reports what is wrong with what was received instead.
    pub(super) fn take_event(&mut self, event: Event<'_>) -> Outcome {
        match event {
            Event::Frame(frame) if frame.header.is_control() => Ok(()), // control frames are not written
            Event::Frame(frame) | Event::Duplicate { frame, .. } => self.take(frame),
            Event::Gap { expected, found, .. } if self.is_latest => {
                self.replaced += u64::from(found.wrapping_sub(expected));
                Ok(())
            }
            Event::Gap { stream, expected, found } => {
                let missing = found.wrapping_sub(expected);
                self.missing += u64::from(missing);
                let frames = units::many_are(missing.into(), "frame");
                self.reports.add(format_args!("{frames} missing from stream {stream}"));
                Ok(())
            }
            Event::Skipped { bytes, what } => {
                self.skipped += bytes;
                self.reports.add(format_args!("{} skipped: {what}", units::counted(bytes as usize, "byte")));
                Ok(())
            }
        }
    }

    /// A failure if data is missing.
    pub(super) fn check_gaps(&self) -> Outcome {
        if self.missing + self.skipped == 0 {
            return Ok(());
        }
        Err(failure::missing(self.missing, self.skipped))
    }

    /// Calls `take_some`, which receives frames until there is no room (true) or no frame (false),
    /// as long as waiting for more pays off. Then writes them.
    pub(super) fn gather(&mut self, mut take_some: impl FnMut(&mut Self) -> Outcome<bool>) -> Outcome {
        let mut since = None;
        while !take_some(self).or_else(|failure| {
            // Frames that a ring redelivers may be dropped; others are written first.
            if self.gives_back { Ok(()) } else { self.write() }.and(Err(failure))
        })? {
            // A single frame should not wait, and a large number of frames need not.
            if self.pending.0 < 2 || self.out.len() > self.enough {
                break;
            }
            let now = Instant::now();
            if now - *since.get_or_insert(now) > GATHER {
                break;
            }
            std::thread::yield_now();
        }
        self.write()
    }

    pub(super) fn write(&mut self) -> Outcome {
        if let Err(error) = self.output.write_all(&self.out, self.interrupt) {
            self.is_torn = true;
            return Err(self.not_written(error));
        }
        self.out.clear();
        let (frames, bytes) = std::mem::take(&mut self.pending);
        self.progress.add(frames, bytes);
        self.pace();
        Ok(())
    }

    /// Waits until the next frame is due.
    pub(super) fn pace(&self) {
        if let Some(rate) = self.options.rate {
            let due = Duration::try_from_secs_f64(self.progress.frames as f64 / rate).unwrap_or(Duration::MAX);
            self.interrupt.sleep(due.saturating_sub(self.start.elapsed()));
        }
    }

    /// Why the output could not be written, and what happens to the frames.
    pub(super) fn not_written(&self, error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::TimedOut if self.may_repeat => Failure::silent(self.interrupt.code()),
            ErrorKind::TimedOut => {
                let frames = units::many_are(self.pending.0, "frame");
                let message = format_args!("interrupted, and the output takes nothing: {frames} lost");
                Failure::new(LOST, message)
            }
            _ if self.may_repeat || self.pending.0 == 0 => Failure::output(error),
            _ => {
                let frames = units::many_are(self.pending.0, "frame");
                let message = format_args!("cannot write the output: {error}; up to {frames} lost");
                Failure::new(LOST, message)
            }
        }
    }

    /// Whether this is the end of a sender that another one may follow.
    pub(super) fn is_followed(&self, error: &Error) -> bool {
        if !self.options.follow || !matches!(error, Error::Closed | Error::PeerDead) {
            return false;
        }
        if matches!(error, Error::PeerDead) {
            self.context.note("a sender died without closing; waiting for the next one");
        }
        true
    }

    /// Called at the end: returns the result, or waits for the next sender.
    pub(super) fn end(&mut self, error: Error, wait: &mut Wait) -> Outcome<Next> {
        if self.options.follow && matches!(error, Error::Closed | Error::PeerDead) {
            let is_dead = matches!(error, Error::PeerDead);
            if is_dead && !std::mem::replace(&mut self.said_death, is_dead) {
                self.is_followed(&error);
            }
            if wait.goes_on() {
                self.interrupt.sleep(FOLLOW);
                return Ok(Next::Wait);
            }
            return self.finish(Error::Timeout, wait).map(|()| Next::Stop);
        }
        self.finish(error, wait).map(|()| Next::Stop)
    }

    fn finish(&self, error: Error, wait: &Wait) -> Outcome {
        if self.redelivered > 0 {
            let n = self.redelivered;
            self.context.note(format_args!("{n} of the frames were redelivered after their consumer died"));
        }
        if self.replaced > 0 {
            let values = units::counted(self.replaced as usize, "value");
            self.context.note(format_args!("skipped {values}: newer ones had replaced them"));
        }
        match error {
            Error::Closed if self.deaths > 0 => Err(self.failure(Error::PeerDead)),
            Error::Closed => self.check_gaps(),
            Error::Timeout | Error::Cancelled if wait.is_interrupted() => self.check_gaps(),
            error => Err(self.failure(error)),
        }
    }

    pub(super) fn failure(&self, error: Error) -> Failure {
        let frames = self.progress.frames;
        match error {
            Error::PeerDead if self.deaths > 0 => {
                let died = units::counted(self.deaths as usize, "sender");
                let message =
                    format_args!("{died} died without closing; all committed frames were delivered ({frames} frames)");
                Failure::new(FAILED, message)
            }
            Error::PeerDead => {
                let message = format_args!(
                    "the sender died without closing; its committed frames were delivered ({frames} frames)"
                );
                Failure::new(FAILED, message)
            }
            Error::Timeout => {
                let waited = units::nanoseconds(self.options.timeout.unwrap_or_default().as_nanos() as f64);
                Failure::new(TIMEOUT, format_args!("nothing arrived for {waited} (after {frames} frames)"))
            }
            error => error.into(),
        }
    }
}
