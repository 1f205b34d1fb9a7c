//! `slipring send`: sends a file or stdin into a ring, or to any other endpoint.
//!
//! The frames of one read go into the ring in a few batches, so there is no system call per frame,
//! and no frame waits for input that has not arrived yet.

mod patience;
mod sink;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use slipring::endpoint::{Endpoint, RingEndpoint};
use slipring::frame::Header;
use slipring::transport::{FrameSender, FrameSenderExt, ring};
use slipring::{Deadline, Kind, Ring, Role, mpmc, mpsc, spsc, stream};

use self::patience::Patience;
use self::sink::{Frames, Sink};
use crate::failure::{Failure, LOST, NOT_FOUND, Outcome, TIMEOUT, USAGE};
use crate::framing::{self, Framing};
use crate::input::{Input, Limit, Source};
use crate::interrupt::Interrupt;
use crate::opening;
use crate::progress::Progress;
use crate::{Context, output, standard, target, units};

const EXAMPLES: &str = "\
Examples:
  seq 1000000 | slipring send ring:numbers              one frame per line
  slipring send ring:blob --framing raw --file image.iso
  find . -print0 | slipring send 'ring:jobs?kind=mpmc' --framing nul
  slipring send ring:ticks --rate 1000/s < ticks.txt

The ring is created if it does not exist; the receiver may attach later. When the ring is full, send waits; when it is full \
and its consumer has left or died, send prints that and waits for another. At the end of the input it closes: the receiver gets \
the frames in the ring, and then the end. SIGINT and SIGTERM end it, with 130 and 143, after the frames that it has read; with 4 \
if they find no room.";

/// Send frames from stdin or a file: into a ring, or to any other endpoint
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Send {
    /// Destination: ring:NAME[?OPTIONS] (slipring create --help), or any other
    /// SCHEME:ADDRESS[?OPTIONS] (slipring doctor --transports); - is stdout. With unix, seqpacket
    /// and tcp, one side has ?listen, and the other one connects
    #[arg(allow_hyphen_values = true)]
    endpoint: String,
    #[arg(long, value_name = "HOW", help = framing::HELP)]
    framing: Option<Framing>,
    /// Read this file instead of stdin
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Stop after N frames
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Send at most this many frames per second, as in 1000/s
    #[arg(long, value_name = "N/s", value_parser = units::rate)]
    rate: Option<f64>,
    /// Give up (exit code 124) when a frame has found no room for this long
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// Fail at once (exit code 5) if no receiver is attached, and when the last one leaves, instead
    /// of filling the ring
    #[arg(long)]
    require_receiver: bool,
    /// Frame kind, an application's message type [default: 0x0100]
    #[arg(long, value_name = "N", value_parser = units::frame_kind)]
    kind: Option<u16>,
    /// Frame stream: each has its own sequence numbers [default: 0]
    #[arg(long, value_name = "N")]
    stream: Option<u16>,
}

/// Bytes and frames in one batch: enough to make its cost negligible, few enough for the receiver
/// to start at once.
const BATCH_BYTES: usize = 16 << 10;
const BATCH_FRAMES: u64 = 512;
/// The kind of frames without `--kind`.
const FIRST_KIND: u16 = 0x0100;
/// How long --require-receiver waits for a receiver.
const CONNECT: Duration = Duration::from_millis(200);
/// The largest raw frame.
const RAW_CHUNK: usize = 64 << 10;

impl Send {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let interrupt = Interrupt::install()?;
        let subject = &self.endpoint;
        match target::endpoint(subject, context)? {
            Endpoint::Ring(endpoint) => self.run_ring(endpoint, &interrupt, context),
            endpoint => self.run_transport(&endpoint, &interrupt, context),
        }
        .and_then(|()| interrupt.ended())
        .map_err(|failure| failure.at(subject))
    }

    /// Fails if frames cannot be sent into a ring of `kind` with these options.
    fn check(&self, kind: Kind) -> Outcome {
        let wrong = match (kind, self.framing) {
            (Kind::Stream, Some(other)) if other != Framing::Raw => format!("--framing raw, not {other}"),
            (Kind::Stream, _) if self.kind.is_some() => "no --kind".to_owned(),
            (Kind::Stream, _) if self.stream.is_some() => "no --stream".to_owned(),
            _ => return Ok(()),
        };
        Err(Failure::new(USAGE, format_args!("a ring of kind stream carries no frames: {wrong}")))
    }

    fn run_ring(&self, endpoint: RingEndpoint, interrupt: &Interrupt, context: &Context) -> Outcome {
        let source = Source::open(self.file.as_deref())?;
        // Before joining: a producer that joins and leaves would end the wait of a future consumer.
        if self.require_receiver && !endpoint.open().is_ok_and(|ring| has_consumer(&ring)) {
            return Err(no_receiver());
        }
        let is_strict = self.require_receiver || endpoint.fails_without_consumer();
        let endpoint = endpoint.fail_without_consumer(is_strict);
        let attach = |ring: &Ring| {
            let mut lane = None;
            let sink = match ring.kind() {
                Kind::Mpmc => mpmc::Producer::attach(ring).map(|tx| Box::new(tx) as Box<dyn Sink>),
                Kind::Mpsc => mpsc::Producer::attach(ring).map(|tx| {
                    lane = Some(tx.lane());
                    Box::new(tx) as Box<dyn Sink>
                }),
                Kind::Stream => stream::Producer::attach(ring).map(|tx| Box::new(tx) as Box<dyn Sink>),
                Kind::Broadcast => endpoint
                    .attach_sender(ring)
                    .map(|tx| Box::new(Box::new(tx) as Box<dyn FrameSender>) as Box<dyn Sink>),
                Kind::Latest => {
                    ring::Sender::attach(ring).map(|tx| Box::new(Box::new(tx) as Box<dyn FrameSender>) as Box<dyn Sink>)
                }
                _ => spsc::Producer::attach(ring).map(|tx| Box::new(tx) as Box<dyn Sink>),
            }?;
            Ok((ring.clone(), lane, sink))
        };
        let (ring, lane, mut sink) = target::join(&endpoint, context, |kind| self.check(kind), attach)?;
        let usual = if ring.kind() == Kind::Stream { Framing::Raw } else { Framing::Lines };
        let framing = self.framing.unwrap_or(usual);
        let max = match (framing, ring.kind()) {
            (Framing::Raw, Kind::Mpmc | Kind::Latest) => ring.max_payload().min(RAW_CHUNK),
            (Framing::Raw, _) => (ring.max_payload() / 4).min(RAW_CHUNK),
            _ => ring.max_payload(),
        };
        let (of, raised_by) = match ring.kind() {
            Kind::Mpmc => ("a slot of the ring", "create it with a larger slot"),
            Kind::Mpsc => ("a lane of the ring", "create it with a larger capacity"),
            Kind::Latest => ("a cell of the ring", "create it with a larger size"),
            _ => ("the ring", "create it with a larger capacity"),
        };
        let limit = Limit { bytes: max, of, raised_by };
        let mut input = Input::new(source, framing, limit, interrupt);
        let what = if ring.kind() == Kind::Stream { "stream" } else { "ring" };
        let patience = Patience { timeout: self.timeout, what, is_strict, interrupt, context };
        let mut pumped = self.pump(&mut input, sink.as_mut(), &patience);
        let may_wait = ring.kind() != Kind::Latest; // for a receiver: a latest value stays in any case
        if pumped.is_ok() && is_strict && may_wait && is_left(&ring, lane) && !has_consumer(&ring) {
            let message = "the last receiver has left or died, and what it did not take waits in the ring";
            pumped = Err(Failure::new(NOT_FOUND, message));
        }
        if pumped.as_ref().is_err_and(|failure| failure.code() == LOST) {
            std::mem::forget(sink); // without BYE: the receiver must know that frames are missing
        }
        pumped
    }

    fn run_transport(&self, endpoint: &Endpoint, interrupt: &Interrupt, context: &Context) -> Outcome {
        let framing = self.framing.unwrap_or(Framing::Lines);
        if self.require_receiver && matches!(endpoint, Endpoint::Mq(_) | Endpoint::Sysv(_) | Endpoint::Udp(_)) {
            let message = "--require-receiver: this endpoint does not tell whether there is a receiver";
            return Err(Failure::new(USAGE, message));
        }
        endpoint.check_sender()?;
        let source = Source::open(self.file.as_deref())?;
        if self.require_receiver && is_missing_fifo(endpoint) {
            return Err(no_receiver()); // opening it would create it
        }
        let timeout = if self.require_receiver { Some(CONNECT) } else { self.timeout };
        let deadline = timeout.map_or(Deadline::never(), Deadline::after);
        if endpoint.to_string() == "-" {
            standard::check_output_of_frames()?;
        }
        let opened = match opening::open(interrupt, endpoint, deadline, |to, until| to.open_batching_sender(until)) {
            Err(failure) if self.require_receiver && [TIMEOUT, NOT_FOUND].contains(&failure.code()) => {
                return Err(no_receiver());
            }
            opened => opened?,
        };
        let Some(mut sink) = opened else { return Ok(()) };
        let max = if framing == Framing::Raw { sink.max_payload().min(RAW_CHUNK) } else { sink.max_payload() };
        let raised_by = match endpoint {
            Endpoint::Unix(_) => "raise max_payload at both ends; with upgrade=ring, capacity",
            _ => "raise max_payload at both ends",
        };
        let limit = Limit { bytes: max, of: "the channel", raised_by };
        let mut input = Input::new(source, framing, limit, interrupt);
        let is_strict = self.require_receiver;
        let patience = Patience { timeout: self.timeout, what: "channel", is_strict, interrupt, context };
        let pumped = self.pump(&mut input, &mut sink, &patience);
        if pumped.as_ref().is_err_and(|failure| failure.code() == LOST) {
            std::mem::forget(sink); // without BYE: the receiver must know that frames are missing
            return pumped;
        }
        pumped?;
        let closed = patience.insist(|until| sink.close(until)).map_err(|unsent| patience.collected(unsent));
        if closed.is_err() && interrupt.asked() {
            std::mem::forget(sink);
        }
        closed
    }

    fn pump(&self, input: &mut Input, sink: &mut dyn Sink, patience: &Patience) -> Outcome {
        let Patience { what, interrupt, context, .. } = *patience;
        let header = Header { stream: self.stream.unwrap_or(0), ..Header::new(self.kind.unwrap_or(FIRST_KIND), 0)? };
        let typed = self.file.is_none() && io::stdin().is_terminal();
        let mut progress = Progress::new(context, input.len(), typed);
        let mut pace = self.rate.map(Pace::new);
        let mut frames = Vec::new();
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            frames.clear();
            let due = pace.as_mut().map_or(BATCH_FRAMES, |pace| pace.due(progress.frames, interrupt));
            let problem = input.split(&mut frames, due.min(BATCH_FRAMES).min(left), BATCH_BYTES);
            if frames.is_empty() {
                problem?;
                if !input.fill()? {
                    break;
                }
                continue;
            }
            let mut sent = 0;
            let read = Frames { header, bytes: input.bytes(), ranges: &frames };
            let sending = sink.send(read, &mut sent, patience);
            left -= sent as u64;
            progress.add(sent as u64, frames[..sent].iter().map(|frame| frame.len() as u64).sum());
            if let Err(failure) = sending {
                input.put_back(&frames[sent..]);
                let unsent = input.left();
                if !interrupt.asked() || failure.code() == LOST || input.hand_back() {
                    return Err(failure);
                }
                let message = format_args!(
                    "interrupted while the {what} was full: {unsent} bytes that had been read were not sent"
                );
                return Err(Failure::new(LOST, message));
            }
            problem?;
        }
        let rest = input.left();
        if !input.hand_back() && interrupt.asked() && left > 0 {
            context.note(format_args!("interrupted inside a frame: {rest} bytes that had been read were not sent"));
        }
        if context.json {
            output::print_json(&json!({ "frames": progress.frames, "bytes": progress.bytes }))?;
        }
        Ok(())
    }
}

/// Whether the endpoint is a FIFO that does not exist.
fn is_missing_fifo(endpoint: &Endpoint) -> bool {
    let Endpoint::Fifo(fifo) = endpoint else { return false };
    fifo.path().symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether a living consumer is attached to the ring.
fn has_consumer(ring: &Ring) -> bool {
    let participants = ring.participants().unwrap_or_default();
    participants.iter().any(|participant| participant.alive && participant.role == Some(Role::Consumer))
}

/// Whether frames wait in the ring: where each producer has a lane, in this one.
fn is_left(ring: &Ring, lane: Option<u16>) -> bool {
    match lane {
        Some(own) => ring.lanes().iter().any(|lane| lane.lane == own && lane.lag > 0),
        None => ring.stats().used() > 0,
    }
}

fn no_receiver() -> Failure {
    Failure::new(NOT_FOUND, "no receiver is attached; start one first, or leave out --require-receiver")
}

/// When the next frame is due, for `rate` frames per second. Late frames are sent at once.
struct Pace {
    rate: f64,
    start: Instant,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Pace { rate, start: Instant::now() }
    }

    /// Waits until frame number `sent` is due. Returns how many frames are due.
    fn due(&mut self, sent: u64, interrupt: &Interrupt) -> u64 {
        loop {
            if interrupt.asked() {
                return BATCH_FRAMES; // all frames that have been read are due
            }
            let due = (self.start.elapsed().as_secs_f64() * self.rate) as u64 + 1;
            if due > sent {
                return due - sent;
            }
            let next = Duration::try_from_secs_f64(sent as f64 / self.rate).unwrap_or(Duration::MAX);
            interrupt.sleep(next.saturating_sub(self.start.elapsed()));
        }
    }
}
