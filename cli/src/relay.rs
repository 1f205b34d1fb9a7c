//! `slipring relay`: from any endpoint to any other.
//!
//! Frames are collected while they come, and handed on when they pause; from a byte ring to a byte stream they go as they lie,
//! in one write and without a copy. What a relay passes on is what it saw: an end as an
//! end, a death as a death (it then dies without a goodbye, too), so a chain of relays ends by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use slipring::frame::{Event, Flags, Frame};
use slipring::transport::{FrameReceiver, FrameSender};
use slipring::{Deadline, Error, endpoint::Endpoint};

use crate::failure::{FAILED, Failure, LOST, Outcome, TIMEOUT};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::{Context, output, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring relay ring:ticks fifo:/run/user/1000/ticks      whoever reads the FIFO gets the ring's frames
  slipring relay ring:ticks - | ssh far slipring relay - ring:ticks
  slipring relay 'tcp:127.0.0.1:7000?listen' ring:ticks & slipring relay ring:far tcp:127.0.0.1:7000
  slipring relay --duplex 'unix:/run/a.sock?listen' tcp:127.0.0.1:7000

When SRC ends in an orderly way, DST is closed and relay ends with 0: chains end by themselves. When SRC's sender died, what had
come is passed on, DST learns of the death, and the exit code is 1. Frames that are known to be missing: 4. SIGINT and SIGTERM
end it after the frame in hand; a second one does not wait for that.";

/// How often --stats says how it goes.
const STATS: Duration = Duration::from_secs(1);

/// Pass frames on from one endpoint to another
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Relay {
    /// Where frames come from: SCHEME:ADDRESS[?OPTIONS], or - for stdin
    #[arg(value_name = "SRC", allow_hyphen_values = true)]
    source: String,
    /// Where they go: SCHEME:ADDRESS[?OPTIONS], or - for stdout
    #[arg(value_name = "DST", allow_hyphen_values = true)]
    destination: String,
    /// Stop after so many frames
    #[arg(long, value_name = "N", conflicts_with = "duplex")]
    count: Option<u64>,
    /// Say on stderr every second, and at the end, what has passed; as JSON with --json
    #[arg(long)]
    stats: bool,
    /// Pass frames on in both directions; both endpoints must be duplex
    #[arg(long)]
    duplex: bool,
    /// Give up (exit code 124) when the endpoints have not opened, or nothing has come, for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
}

impl Relay {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let source = target::endpoint(&self.source, context)?;
        let destination = target::endpoint(&self.destination, context)?;
        let interrupt = Interrupt::install()?;
        if self.duplex {
            return self.run_duplex(&source, &destination, &interrupt, context);
        }
        // The destination first: nothing is taken that could not be passed on.
        let tx =
            open(&destination, &self.destination, &self, &interrupt, |to, until| to.open_collecting_sender(until))?;
        let Some(tx) = tx else { return Ok(()) };
        let rx = open(&source, &self.source, &self, &interrupt, |from, until| from.open_receiver(until))?;
        let Some(rx) = rx else { return Ok(()) };
        let stop = AtomicBool::new(false);
        Way::new(&self, [&self.source, &self.destination], &interrupt, &stop, context).run(rx, tx)
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
            let back = scope.spawn(|| Way::new(self, back_names, interrupt, &stop, context).run(from_there, to_here));
            let forth = Way::new(self, names, interrupt, &stop, context).run(from_here, to_there);
            let back = back.join().unwrap_or_else(|_| Err(Failure::new(FAILED, "one direction failed")));
            [forth, back]
        });
        outcomes.into_iter().collect()
    }
}

/// Opens an endpoint, waiting for its other side; `None` if an end was asked for meanwhile.
fn open<T: Send + 'static>(
    endpoint: &Endpoint,
    name: &str,
    options: &Relay,
    interrupt: &Interrupt,
    how: fn(&Endpoint, Deadline) -> slipring::Result<T>,
) -> Outcome<Option<T>> {
    let deadline = options.timeout.map_or(Deadline::never(), Deadline::after);
    interrupt.open(endpoint, deadline, how).map_err(|error| Failure::from(error).at(name))
}

/// One direction.
struct Way<'a> {
    options: &'a Relay,
    context: &'a Context,
    names: [&'a str; 2],
    interrupt: &'a Interrupt,
    /// The other direction has failed.
    stop: &'a AtomicBool,
    /// Whether frames go as they lie, where they can.
    encoded: bool,
    progress: Progress,
    tally: Tally,
    start: Instant,
    said: Instant,
}

#[derive(Default)]
struct Tally {
    gaps: u64,
    /// Frames that are known to be missing.
    missing: u64,
    duplicates: u64,
    skipped_bytes: u64,
}

impl<'a> Way<'a> {
    fn new(
        options: &'a Relay,
        names: [&'a str; 2],
        interrupt: &'a Interrupt,
        stop: &'a AtomicBool,
        context: &'a Context,
    ) -> Self {
        let start = Instant::now();
        let progress = Progress::new(context, None, options.stats);
        let (encoded, tally) = (options.count.is_none(), Tally::default());
        Way { options, context, names, interrupt, stop, encoded, progress, tally, start, said: start }
    }

    fn run(mut self, mut rx: Box<dyn FrameReceiver>, mut tx: Box<dyn FrameSender>) -> Outcome {
        let pumped = self.pump(rx.as_mut(), tx.as_mut());
        self.stop.store(pumped.is_err(), Ordering::Relaxed);
        // Whatever happened: what was taken goes on, if there is anybody.
        let outcome = match pumped {
            Ok(()) => self.patiently(|until| tx.close(until)).map_err(|error| self.at_destination(error)),
            Err(failure) => {
                let _ = tx.flush(Deadline::after(Duration::from_secs(1)));
                // No goodbye from us: the frame in hand stays in a ring, and DST learns that it did not end in order.
                std::mem::forget((rx, tx));
                Err(failure)
            }
        };
        self.say(true)?;
        outcome.and_then(|()| match self.tally.missing + self.tally.skipped_bytes {
            0 => Ok(()),
            _ => {
                let Tally { missing, skipped_bytes, .. } = self.tally;
                let text = format_args!("{missing} frames are missing, {skipped_bytes} bytes were unreadable");
                Err(Failure::new(LOST, text).at(self.names[0]))
            }
        })
    }

    /// Passes frames on until there are no more, or nobody wants more.
    fn pump(&mut self, rx: &mut dyn FrameReceiver, tx: &mut dyn FrameSender) -> Outcome {
        let mut wait = self.interrupt.wait(self.options.timeout);
        let mut left = self.options.count.unwrap_or(u64::MAX);
        let mut is_flushed = true;
        while left > 0 && !self.interrupt.asked() && !self.stop.load(Ordering::Relaxed) {
            // Where they lie as they would be sent, they go as they lie.
            if self.encoded && self.pass_on_encoded(rx, tx)? {
                wait.done();
                self.say(false)?;
                is_flushed = false;
                continue;
            }
            // As long as frames come, they are collected.
            let received = if is_flushed { rx.recv_deadline(wait.slice()) } else { rx.try_recv() };
            match received {
                // It lies there still, and is the first of those that go at once.
                Ok(Event::Frame(frame)) if self.encoded && !frame.header.flags.contains(Flags::REDELIVERED) => continue,
                Ok(Event::Frame(frame)) => {
                    left -= 1;
                    self.pass_on(tx, frame)?;
                    if self.encoded {
                        rx.release(); // or it would be the first of the next ones
                    }
                    is_flushed = false;
                }
                Ok(Event::Duplicate { frame, .. }) => {
                    self.tally.duplicates += 1;
                    self.pass_on(tx, frame)?;
                    is_flushed = false;
                }
                Ok(Event::Gap { stream, expected, found }) => {
                    let missing = found.wrapping_sub(expected);
                    self.tally.gaps += 1;
                    self.tally.missing += u64::from(missing);
                    let text = format_args!("{}: {missing} frames of stream {stream} are missing", self.names[0]);
                    self.context.note(text);
                    continue;
                }
                Ok(Event::Skipped { bytes, what }) => {
                    self.tally.skipped_bytes += bytes;
                    self.context.note(format_args!("{}: {bytes} bytes skipped: {what}", self.names[0]));
                    continue;
                }
                Err(Error::Empty) => {
                    self.patiently(|until| tx.flush(until)).map_err(|error| self.at_destination(error))?;
                    is_flushed = true;
                    continue;
                }
                Err(Error::Timeout) if wait.goes_on() => {
                    self.say(false)?;
                    continue;
                }
                Err(Error::Timeout) if self.interrupt.asked() => return Ok(()),
                Err(Error::Timeout) => {
                    let waited = units::nanoseconds(self.options.timeout.unwrap_or_default().as_nanos() as f64);
                    return Err(Failure::new(TIMEOUT, format_args!("nothing came for {waited}")).at(self.names[0]));
                }
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(Failure::from(error).at(self.names[0])),
            }
            wait.done();
            self.say(false)?;
        }
        match self.encoded {
            true => drop(rx.encoded()), // what is in hand has not been passed on, and stays in the ring
            false => rx.release(),
        }
        Ok(())
    }

    fn pass_on(&mut self, tx: &mut dyn FrameSender, frame: Frame<'_>) -> Outcome {
        let sent = match tx.try_send(frame.header, frame.payload) {
            Err(Error::Full) => self.patiently(|until| tx.send_deadline(frame.header, frame.payload, until)),
            sent => sent,
        };
        sent.map_err(|error| self.at_destination(error))?;
        self.progress.add(1, frame.payload.len() as u64);
        Ok(())
    }

    /// Passes on all that lies in a ring, if DST takes it so. False if there is nothing, or no such way, which is then remembered.
    fn pass_on_encoded(&mut self, rx: &mut dyn FrameReceiver, tx: &mut dyn FrameSender) -> Outcome<bool> {
        let Some(frames) = rx.encoded() else {
            self.encoded = false;
            return Ok(false);
        };
        if frames.is_empty() {
            return Ok(false);
        }
        let mut sent = 0;
        let sending = self.patiently(|until| {
            sent = tx.send_encoded(frames, until)?;
            Ok(())
        });
        sending.map_err(|error| self.at_destination(error))?;
        self.encoded = sent > 0;
        let released = rx.release_encoded(sent);
        self.progress.add(released.frames, released.payload);
        Ok(released.frames > 0)
    }

    /// Waits for DST as long as it takes: what is in hand is to arrive. (A second signal ends it all the same.)
    fn patiently(&self, mut how: impl FnMut(Deadline) -> slipring::Result<()>) -> slipring::Result<()> {
        let mut is_said = false;
        loop {
            match how(Deadline::after(Duration::from_millis(500))) {
                Err(Error::Timeout) => {}
                done => return done,
            }
            if self.interrupt.asked() && !std::mem::replace(&mut is_said, true) {
                let name = self.names[1];
                self.context.note(format_args!("{name} is full, and a frame is in hand; interrupt again to drop it"));
            }
        }
    }

    fn at_destination(&self, error: Error) -> Failure {
        Failure::from(error).at(self.names[1])
    }

    /// What has passed, every second and at the end, for those who want to know.
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
            // Stdout may carry the frames.
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
