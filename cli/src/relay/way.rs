//! One direction of a relay: passing frames on, and what becomes of those that do not arrive.
//!
//! Used by `mod.rs`, which opens both endpoints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use slipring::frame::{Event, Flags, Frame, Header};
use slipring::transport::ring::LATEST;
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

use super::Relay;
use crate::failure::{self, FAILED, Failure, LOST, Outcome, TIMEOUT};
use crate::interrupt::{GRACE, Interrupt};
use crate::progress::Progress;
use crate::reports::Reports;
use crate::{Context, output, stderr, units};

/// How long DST may take, after a failure, for the frames that it has collected.
const FLUSH: Duration = Duration::from_secs(1);
/// The interval of --stats.
const STATS: Duration = Duration::from_secs(1);

/// What happens at the end to the frame that was received last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Released,
    /// It was not passed on, and must stay in the ring.
    Held,
}

/// Why DST did not take a frame.
enum Stuck {
    /// An end was requested.
    Interrupted,
    /// `--timeout`
    TimedOut,
    Failed(Error),
}

/// One direction.
pub(super) struct Way<'a> {
    options: &'a Relay,
    context: &'a Context,
    names: [&'a str; 2],
    /// Frames that were not passed on stay in SRC, which is a ring that delivers at least once.
    keeps: bool,
    interrupt: &'a Interrupt,
    /// The other direction has failed.
    stop: &'a AtomicBool,
    /// Whether many frames go in one write, as far as SRC supports that.
    encoded: bool,
    progress: Progress,
    reports: Reports<'a>,
    tally: Tally,
    start: Instant,
    said: Instant,
}

#[derive(Default)]
struct Tally {
    gaps: u64,
    /// Latest values that newer ones had replaced.
    replaced: u64,
    /// Frames that are missing.
    missing: u64,
    duplicates: u64,
    skipped_bytes: u64,
}

impl<'a> Way<'a> {
    pub(super) fn new(
        options: &'a Relay,
        names: [&'a str; 2],
        keeps: bool,
        interrupt: &'a Interrupt,
        stop: &'a AtomicBool,
        context: &'a Context,
    ) -> Self {
        let start = Instant::now();
        let progress = Progress::new(context, None, options.stats);
        let (tally, reports) = (Tally::default(), Reports::new(context));
        Way {
            options,
            context,
            names,
            keeps,
            interrupt,
            stop,
            encoded: false,
            progress,
            reports,
            tally,
            start,
            said: start,
        }
    }

    pub(super) fn run(mut self, mut rx: Box<dyn FrameReceiver>, mut tx: Box<dyn FrameSender>) -> Outcome {
        self.encoded = tx.takes_encoded();
        let pumped = self.pump(rx.as_mut(), tx.as_mut());
        self.stop.store(pumped.is_err(), Ordering::Relaxed);
        if !matches!(pumped, Ok(End::Released)) {
            rx.keep(); // a ring keeps the frame that was not passed on
        }
        let outcome = match pumped {
            Ok(_) => self.finish(tx.as_mut()),
            Err(failure) => Err(self.with_what_is_lost(failure, tx.as_mut())),
        };
        if outcome.is_err() {
            std::mem::forget(tx); // no BYE: DST learns that this was no orderly end
        }
        self.say(true)?;
        outcome.and_then(|()| match self.tally.missing + self.tally.skipped_bytes {
            0 => Ok(()),
            _ => {
                let Tally { missing, skipped_bytes, .. } = self.tally;
                Err(failure::missing(missing, skipped_bytes).at(self.names[0]))
            }
        })
    }

    /// Passes frames on until there are no more, or DST takes no more.
    fn pump(&mut self, rx: &mut dyn FrameReceiver, tx: &mut dyn FrameSender) -> Outcome<End> {
        if let Some(canceller) = rx.canceller() {
            self.interrupt.cancels(canceller)?;
        }
        let mut wait = self.interrupt.wait(self.options.timeout);
        let mut left = self.options.count.unwrap_or(u64::MAX);
        let mut is_flushed = false;
        let is_latest = *rx.capabilities() == LATEST;
        // After an end was requested: how long SRC may deliver frames that would be lost with this
        // process.
        let mut stopping: Option<Deadline> = None;
        while left > 0 && !self.stop.load(Ordering::Relaxed) {
            if self.interrupt.asked() && stopping.is_none() {
                if !rx.stop() {
                    break;
                }
                let time = if rx.capabilities().lossless { 10 * GRACE } else { GRACE };
                stopping = Some(Deadline::after(time));
            }
            // Many at once, if SRC has them encoded.
            if self.encoded {
                match self.pass_on_encoded(rx, tx, left) {
                    Ok(0) => {}
                    Ok(frames) => {
                        left -= frames;
                        wait.done();
                        self.say(false)?;
                        is_flushed = false;
                        continue;
                    }
                    Err(stuck) => return self.stuck(stuck, true),
                }
            }
            // As long as frames arrive, they are collected.
            let received = match stopping {
                _ if !is_flushed => rx.try_recv(),
                Some(end) => rx.recv_deadline(end.min(Deadline::after(GRACE))),
                // The failure of the other direction is looked for, or there is something to say.
                None if self.options.duplex || self.options.stats => rx.recv_deadline(wait.slice()),
                None => {
                    let until = wait.for_frame(rx);
                    rx.recv_deadline(until)
                }
            };
            match received {
                // It is still in the ring, and is the first of those that go at once.
                Ok(Event::Frame(frame)) if self.encoded && !frame.header.flags.contains(Flags::REDELIVERED) => continue,
                Ok(Event::Frame(frame)) => {
                    left -= 1;
                    if let Err(stuck) = self.pass_on(tx, frame) {
                        return self.stuck(stuck, self.keeps);
                    }
                    if self.encoded {
                        // It was marked, and was sent by itself: otherwise it would be the first of
                        // the next ones.
                        if let Err(stuck) = self.patiently(self.grace(), |until| tx.flush(until)) {
                            return self.stuck(stuck, self.keeps);
                        }
                        rx.release();
                    }
                    is_flushed = false;
                }
                Ok(Event::Duplicate { frame, .. }) => {
                    self.tally.duplicates += 1;
                    if let Err(stuck) = self.pass_on(tx, frame) {
                        return self.stuck(stuck, self.keeps);
                    }
                    is_flushed = false;
                }
                Ok(Event::Gap { expected, found, .. }) if is_latest => {
                    self.tally.replaced += u64::from(found.wrapping_sub(expected));
                    continue;
                }
                Ok(Event::Gap { stream, expected, found }) => {
                    let missing = found.wrapping_sub(expected);
                    self.tally.gaps += 1;
                    self.tally.missing += u64::from(missing);
                    let frames = units::many_are(missing.into(), "frame");
                    self.reports.add(format_args!("{}: {frames} missing from stream {stream}", self.names[0]));
                    continue;
                }
                Ok(Event::Skipped { bytes, what }) => {
                    self.tally.skipped_bytes += bytes;
                    let bytes = units::counted(bytes as usize, "byte");
                    self.reports.add(format_args!("{}: {bytes} skipped: {what}", self.names[0]));
                    continue;
                }
                Err(Error::Empty) => {
                    match self.patiently(GRACE, |until| tx.flush(until)) {
                        // Closing reports whether anything is lost with it.
                        Err(Stuck::Failed(error)) => return Err(Failure::from(error).at(self.names[1])),
                        Err(stuck) => return Err(self.lost(stuck)),
                        Ok(()) => is_flushed = true,
                    }
                    continue;
                }
                Err(Error::Timeout | Error::Cancelled) if stopping.is_some() => {
                    if !rx.capabilities().lossless {
                        break;
                    }
                    let text = "interrupted inside a frame, whose sender does not finish it";
                    return Err(Failure::new(LOST, text).at(self.names[0]));
                }
                Err(Error::Cancelled) => continue, // an end was requested
                Err(Error::Timeout) if wait.goes_on() || self.interrupt.asked() => {
                    self.say(false)?;
                    continue;
                }
                Err(Error::Timeout) => {
                    let text = format_args!("nothing arrived for {}", self.timeout());
                    return Err(Failure::new(TIMEOUT, text).at(self.names[0]));
                }
                Err(Error::Closed) => return Ok(End::Released),
                Err(error) => return Err(Failure::from(error).at(self.names[0])),
            }
            wait.done();
            self.say(false)?;
            if stopping.is_some_and(Deadline::has_passed) {
                break;
            }
        }
        // Frames that were sent at once have been released, or stay in the ring.
        if self.encoded && rx.keep() {
            return Ok(End::Released);
        }
        rx.release();
        Ok(End::Released)
    }

    /// DST did not take frames: the failure, and what happens to them. `keeps`: they stay in SRC.
    fn stuck(&self, stuck: Stuck, keeps: bool) -> Outcome<End> {
        if !keeps {
            return Err(self.lost(stuck));
        }
        match stuck {
            Stuck::Interrupted => Ok(End::Held),
            Stuck::TimedOut => {
                let text = format_args!("no frame could be passed on for {}", self.timeout());
                Err(Failure::new(TIMEOUT, text).at(self.names[1]))
            }
            Stuck::Failed(error) => Err(Failure::from(error).at(self.names[1])),
        }
    }

    /// The failure if DST did not take frames that only this process has.
    fn lost(&self, stuck: Stuck) -> Failure {
        Failure::new(LOST, format_args!("{}; {}", self.why(stuck), self.what_is_lost())).at(self.names[1])
    }

    fn why(&self, stuck: Stuck) -> String {
        match stuck {
            Stuck::Failed(error) => Failure::from(error).message().to_owned(),
            Stuck::Interrupted => "interrupted, and no frame could be passed on any more".to_owned(),
            Stuck::TimedOut => format!("no frame could be passed on for {}", self.timeout()),
        }
    }

    fn what_is_lost(&self) -> String {
        format!("frames that were received from {} and did not arrive are lost", self.names[0])
    }

    /// Lets DST send what it has collected, and closes it.
    fn finish(&self, tx: &mut dyn FrameSender) -> Outcome {
        match self.patiently(GRACE, |until| tx.flush(until)) {
            // Closing reports whether anything is lost with it.
            Ok(()) | Err(Stuck::Failed(Error::Closed | Error::PeerDead)) => {}
            Err(_) if self.progress.frames == 0 => {} // no more than a HELLO is lost
            Err(stuck) => return Err(self.lost(stuck)),
        }
        match self.patiently(GRACE, |until| tx.close(until)) {
            Ok(()) => Ok(()),
            // On this machine, the kernel has all frames.
            Err(stuck @ (Stuck::TimedOut | Stuck::Interrupted)) if !tx.capabilities().remote => {
                let text = format_args!("{}: it has all frames, but has not received the end", self.why(stuck));
                Err(Failure::new(FAILED, text).at(self.names[1]))
            }
            Err(stuck) => Err(self.lost(stuck)),
        }
    }

    /// Lets DST send what it has collected, and adds to the failure what is lost.
    fn with_what_is_lost(&self, failure: Failure, tx: &mut dyn FrameSender) -> Failure {
        if failure.code() == LOST || self.progress.frames == 0 {
            let _ = tx.flush(Deadline::after(FLUSH)); // lost anyway, or no more than a HELLO
            return failure;
        }
        match tx.flush(Deadline::after(FLUSH)) {
            Ok(()) => failure,
            // DST has left, and receives no BYE: closing reports whether anything is lost with it.
            Err(Error::Closed | Error::PeerDead) if tx.close(Deadline::after(Duration::ZERO)).is_ok() => failure,
            Err(_) => Failure::new(LOST, format_args!("{}; {}", failure.message(), self.what_is_lost())),
        }
    }

    fn timeout(&self) -> String {
        units::nanoseconds(self.options.timeout.unwrap_or_default().as_nanos() as f64)
    }

    fn pass_on(&mut self, tx: &mut dyn FrameSender, frame: Frame<'_>) -> Result<(), Stuck> {
        let Header { kind, .. } = frame.header;
        if (kind < Header::DEFAULT_KIND) != frame.header.is_control() {
            // A foreign sender's mistake: the library's senders refuse such kinds.
            self.tally.skipped_bytes += frame.payload.len() as u64;
            self.reports.add(format_args!("{}: a frame of the reserved kind {kind:#06x} is skipped", self.names[0]));
            return Ok(());
        }
        if self.encoded && !frame.header.is_control() {
            // A byte ring numbers it as those that go at once.
            tx.number_from(frame.header.stream, frame.header.seq);
        }
        match tx.try_send(frame.header, frame.payload) {
            Err(Error::Full) => {
                self.patiently(self.grace(), |until| tx.send_deadline(frame.header, frame.payload, until))?;
            }
            sent => sent.map_err(Stuck::Failed)?,
        }
        self.progress.add(1, frame.payload.len() as u64);
        Ok(())
    }

    /// Passes on the frames in a ring, at most `most`, at once, and returns their number. Returns 0
    /// if there are none, or if SRC does not support it, which is then remembered.
    fn pass_on_encoded(
        &mut self,
        rx: &mut dyn FrameReceiver,
        tx: &mut dyn FrameSender,
        most: u64,
    ) -> Result<u64, Stuck> {
        let Some(frames) = rx.encoded() else {
            self.encoded = false;
            return Ok(0);
        };
        let frames = first_frames(frames, most);
        if frames.is_empty() {
            return Ok(0);
        }
        let mut sent = 0;
        self.patiently(Duration::ZERO, |until| {
            sent = tx.send_encoded(frames, until)?;
            Ok(())
        })?;
        let released = rx.release_encoded(sent);
        self.progress.add(released.frames, released.payload);
        Ok(released.frames)
    }

    /// How long DST may still refuse a frame after an end was requested: not at all if the frame
    /// stays in its ring.
    fn grace(&self) -> Duration {
        if self.keeps { Duration::ZERO } else { GRACE }
    }

    /// Waits for DST until `--timeout` or, once an end was requested, `grace`.
    fn patiently(&self, grace: Duration, mut how: impl FnMut(Deadline) -> slipring::Result<()>) -> Result<(), Stuck> {
        let mut wait = self.interrupt.wait_for_room(self.options.timeout, grace);
        loop {
            match how(wait.slice()) {
                Err(Error::Timeout) if wait.goes_on() => {}
                Err(Error::Timeout) if self.interrupt.asked() => return Err(Stuck::Interrupted),
                Err(Error::Timeout) => return Err(Stuck::TimedOut),
                done => return done.map_err(Stuck::Failed),
            }
        }
    }

    /// The counters, every second and at the end, with --stats.
    fn say(&mut self, at_the_end: bool) -> Outcome {
        if !(self.options.stats || at_the_end && self.context.json) {
            return Ok(());
        }
        let now = Instant::now();
        if !at_the_end && now - self.said < STATS {
            return Ok(());
        }
        self.said = now;
        let (frames, bytes, seconds) = (self.progress.frames, self.progress.bytes, (now - self.start).as_secs_f64());
        let Tally { gaps, replaced, missing, duplicates, skipped_bytes } = self.tally;
        if self.context.json {
            let line = json!({
                "from": self.names[0], "to": self.names[1], "frames": frames, "bytes": bytes, "seconds": seconds, "gaps": gaps,
                "missing": missing, "replaced": replaced, "duplicates": duplicates, "skipped_bytes": skipped_bytes,
            });
            // stdout may carry the frames.
            return match self.names.contains(&"-") {
                true => {
                    stderr::remark(line);
                    Ok(())
                }
                false => output::print_json(&line),
            };
        }
        let rate = |n: u64| n as f64 / seconds.max(1e-9);
        stderr::remark(format_args!(
            "{} → {}: {frames} frames, {} ({}frames/s, {}/s), {missing} missing{}",
            self.names[0],
            self.names[1],
            units::bytes(bytes),
            units::count(rate(frames)),
            units::bytes(rate(bytes) as u64),
            if replaced > 0 { format!(", {replaced} replaced") } else { String::new() },
        ));
        Ok(())
    }
}

/// The first of the encoded frames, at most `most`.
fn first_frames(frames: &[u8], most: u64) -> &[u8] {
    let mut end = 0;
    for _ in 0..most {
        let Some(Ok((header, len))) = frames[end..].first_chunk().map(Header::from_bytes) else { break };
        end = (end + len + (header.len as usize).next_multiple_of(8)).min(frames.len());
    }
    &frames[..end]
}
