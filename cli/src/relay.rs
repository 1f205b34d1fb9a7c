//! `slipring relay`: passes frames from one endpoint to another.
//!
//! Frames are collected while they arrive, and sent when they pause. From a ring to a byte stream
//! many go in one write, and are released when the kernel has them. A relay passes on how its
//! source ended: a close as a close, a death as a death (it then does not send BYE, either), so a
//! chain of relays ends by itself.
//!
//! A frame that was received from SRC and did not arrive at DST is lost, unless a ring keeps it.
//! That is reported, and the exit code is 4.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use slipring::frame::{Event, Flags, Frame, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error, Redelivery, endpoint::Endpoint};

use crate::failure::{self, FAILED, Failure, LOST, Outcome, TIMEOUT, USAGE};
use crate::interrupt::{GRACE, Interrupt};
use crate::opening;
use crate::progress::Progress;
use crate::reports::Reports;
use crate::{Context, output, standard, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring relay ring:ticks fifo:/run/user/1000/ticks
  slipring relay ring:ticks - | ssh far slipring relay - ring:ticks
  slipring relay 'tcp:127.0.0.1:7000?listen' ring:ticks
  slipring relay ring:far tcp:127.0.0.1:7000
  slipring relay --duplex 'unix:/run/a.sock?listen' tcp:127.0.0.1:7000

When SRC closes, DST is closed and relay ends with 0, so chains of relays end by themselves. When SRC's sender dies, all received \
frames are passed on, DST is told of the death, and the exit code is 1. It is 4 if frames are missing, or were received from SRC \
and did not arrive at DST. A ring keeps such frames.

SIGINT and SIGTERM end it, with 130 and 143. Frames in rings and queues stay there. Frames in a socket or a pipe are passed on \
first; those that DST does not take within 2 seconds are lost, and the exit code is 4. A second signal kills.";

/// How long DST may take, after a failure, for the frames that it has collected.
const FLUSH: Duration = Duration::from_secs(1);
/// The interval of --stats.
const STATS: Duration = Duration::from_secs(1);

/// Pass frames from one endpoint to another
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Relay {
    /// Source: SCHEME:ADDRESS[?OPTIONS], or - for stdin
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: String,
    /// Destination: SCHEME:ADDRESS[?OPTIONS], or - for stdout
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    destination: String,
    /// Stop after N frames
    #[arg(long, value_name = "N", conflicts_with = "duplex")]
    count: Option<u64>,
    /// Print counters on stderr every second, and at the end; as JSON with --json
    #[arg(long)]
    stats: bool,
    /// Pass frames in both directions; both endpoints must be duplex
    #[arg(long)]
    duplex: bool,
    /// Give up (exit code 124) when for this long the endpoints have not opened, no frame has
    /// arrived, or none could be passed on
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
}

impl Relay {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let source = target::endpoint(&self.source, context)?;
        let destination = target::endpoint(&self.destination, context)?;
        if target::is_same(&source, &destination) {
            let message = format_args!("{destination}: a relay from an endpoint into itself would never end");
            return Err(Failure::new(USAGE, message));
        }
        // Neither endpoint is created if the other one cannot be opened.
        let check = |endpoint: &Endpoint, name: &str, check: fn(&Endpoint) -> slipring::Result<()>| {
            check(endpoint).map_err(|error| Failure::from(error).at(name))
        };
        if self.duplex {
            check(&source, &self.source, Endpoint::check_duplex)?;
            check(&destination, &self.destination, Endpoint::check_duplex)?;
        } else {
            check(&source, &self.source, Endpoint::check_receiver)?;
            check(&destination, &self.destination, Endpoint::check_sender)?;
        }
        let is_standard = |endpoint: &Endpoint| endpoint.to_string() == "-";
        if is_standard(&source) || self.duplex && is_standard(&destination) {
            standard::check_input()?;
        }
        if is_standard(&destination) || self.duplex && is_standard(&source) {
            standard::check_output_of_frames()?;
        }
        let interrupt = Interrupt::install()?;
        let outcome = match self.duplex {
            true => self.run_duplex(&source, &destination, &interrupt, context),
            false => self.run_one_way(&source, &destination, &interrupt, context),
        };
        outcome.and_then(|()| interrupt.ended())
    }

    fn run_one_way(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        interrupt: &Interrupt,
        context: &Context,
    ) -> Outcome {
        // The destination first: no frame is received that could not be passed on.
        let tx = open(destination, &self.destination, self, interrupt, |to, until| to.open_batching_sender(until))?;
        let Some(tx) = tx else { return Ok(()) };
        let rx = open(source, &self.source, self, interrupt, |from, until| from.open_receiver(until))?;
        let Some(mut rx) = rx else { return Ok(()) };
        if let Some(count) = self.count {
            rx.expect_at_most(count);
        }
        let stop = AtomicBool::new(false);
        let keeps = match source {
            Endpoint::Ring(ring) => ring.open().is_ok_and(|ring| ring.redelivery() == Redelivery::AtLeastOnce),
            _ => false,
        };
        Way::new(self, [&self.source, &self.destination], keeps, interrupt, &stop, context).run(rx, tx)
    }

    fn run_duplex(
        &self,
        source: &Endpoint,
        destination: &Endpoint,
        interrupt: &Interrupt,
        context: &Context,
    ) -> Outcome {
        let names = [self.source.as_str(), &self.destination];
        let back_names = [names[1], names[0]];
        let there = open(destination, &self.destination, self, interrupt, |end, until| end.open_duplex(until))?;
        let Some((to_there, from_there)) = there else { return Ok(()) };
        let here = open(source, &self.source, self, interrupt, |end, until| end.open_duplex(until))?;
        let Some((to_here, from_here)) = here else { return Ok(()) };
        let stop = AtomicBool::new(false);
        let outcomes = std::thread::scope(|scope| {
            let way = |names, rx, tx| Way::new(self, names, false, interrupt, &stop, context).run(rx, tx);
            let back = std::thread::Builder::new().spawn_scoped(scope, move || way(back_names, from_there, to_here));
            let back = match back {
                Ok(back) => back,
                Err(error) => return [Err(opening::no_thread(&error)), Ok(())],
            };
            let forth = way(names, from_here, to_there);
            let back = back.join().unwrap_or_else(|_| Err(Failure::new(FAILED, "one direction failed")));
            [forth, back]
        });
        outcomes.into_iter().collect()
    }
}

/// Opens an endpoint, waiting for its peer; `None` if an end was requested meanwhile.
fn open<T: Send + 'static>(
    endpoint: &Endpoint,
    name: &str,
    options: &Relay,
    interrupt: &Interrupt,
    how: fn(&Endpoint, Deadline) -> slipring::Result<T>,
) -> Outcome<Option<T>> {
    let deadline = options.timeout.map_or(Deadline::never(), Deadline::after);
    opening::open(interrupt, endpoint, deadline, how).map_err(|failure| failure.at(name))
}

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
struct Way<'a> {
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
    /// Frames that are missing.
    missing: u64,
    duplicates: u64,
    skipped_bytes: u64,
}

impl<'a> Way<'a> {
    fn new(
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

    fn run(mut self, mut rx: Box<dyn FrameReceiver>, mut tx: Box<dyn FrameSender>) -> Outcome {
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
        let mut wait = self.interrupt.wait(self.options.timeout);
        let mut left = self.options.count.unwrap_or(u64::MAX);
        let mut is_flushed = true;
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
            let until = stopping.map_or_else(|| wait.slice(), |end| end.min(Deadline::after(GRACE)));
            let received = if is_flushed { rx.recv_deadline(until) } else { rx.try_recv() };
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
                Err(Error::Timeout) if stopping.is_some() => {
                    if !rx.capabilities().lossless {
                        break;
                    }
                    let text = "interrupted inside a frame, whose sender does not finish it";
                    return Err(Failure::new(LOST, text).at(self.names[0]));
                }
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
        let Tally { gaps, missing, duplicates, skipped_bytes } = self.tally;
        if self.context.json {
            let line = json!({
                "from": self.names[0], "to": self.names[1], "frames": frames, "bytes": bytes, "seconds": seconds, "gaps": gaps,
                "missing": missing, "duplicates": duplicates, "skipped_bytes": skipped_bytes,
            });
            // stdout may carry the frames.
            return match self.names.contains(&"-") {
                true => {
                    output::remark(line);
                    Ok(())
                }
                false => output::print_json(&line),
            };
        }
        let rate = |n: u64| n as f64 / seconds.max(1e-9);
        output::remark(format_args!(
            "{} → {}: {frames} frames, {} ({}frames/s, {}/s), {missing} missing",
            self.names[0],
            self.names[1],
            units::bytes(bytes),
            units::count(rate(frames)),
            units::bytes(rate(bytes) as u64),
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
