//! `slipring recv`: writes frames of a ring, or of any other endpoint, to stdout or a file.
//!
//! A frame of a ring is released only after it has been written, so killing this process, or
//! closing its output, loses no frame. Frames of other sources that cannot be written are lost,
//! which is reported (exit code 4). Frames are collected in a buffer, which is written when it is
//! full or the ring is empty. While frames stream in, a pause of some microseconds keeps a write
//! from carrying only a few of them.

mod writer;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use slipring::endpoint::{Endpoint, RingEndpoint};
use slipring::transport::{FrameReceiver, FrameReceiverExt, ring};
use slipring::{Deadline, Error, Kind, Redelivery, Ring, mpmc, mpsc, spsc, stream};

use self::writer::{Next, WRITE, Writer};
use crate::failure::{Failure, LOST, Outcome, USAGE};
use crate::framing::{self, Framing};
use crate::interrupt::{GRACE, Interrupt};
use crate::opening;
use crate::output::Pending;
use crate::{Context, standard, target, units};

const EXAMPLES: &str = "\
Examples:
  slipring recv ring:numbers                            a line per frame
  slipring recv ring:blob --framing raw --file image.iso
  slipring recv ring:jobs --framing nul | xargs -0 -n1 process
  slipring recv ring:ticks --json | jq .payload
  slipring recv ring:hello --count 1 --timeout 2s       one frame, or exit 124

The ring is created if it does not exist; the sender may attach later. When the last sender has closed and the ring is empty, \
recv ends with 0. When the sender died without closing, it ends with 1, after all committed frames. Of an mpsc ring, it reports each sender that dies, continues with the others, and ends with 1. With --follow it waits for \
the next sender instead. SIGINT and SIGTERM end it, with 130 and 143: frames that were not written stay in the ring or queue, and \
those that only this receiver has (from a socket or a pipe) are written first. `lines` ends every frame with a newline, even if \
the sender's last line had none.

Frames from a queue, a pipe or a socket that cannot be written are lost: the exit code is 4, even if the output is a closed pipe. \
Frames of a ring stay there.";

/// Frames in one batch of a slot ring.
const BATCH: usize = 64;

/// Receive frames, from a ring or any other endpoint, to stdout or a file
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Recv {
    /// Source: ring:NAME[?OPTIONS] (slipring create --help), or any other SCHEME:ADDRESS[?OPTIONS]
    /// (slipring doctor --transports); - is stdin. With unix, seqpacket and tcp, one side has
    /// ?listen, and the other one connects
    #[arg(allow_hyphen_values = true)]
    endpoint: String,
    #[arg(long, value_name = "HOW", help = framing::HELP)]
    framing: Option<Framing>,
    /// Write to this file (new, or truncated) instead of stdout
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Stop after N frames
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Receive at most this many frames per second, as in 1000/s
    #[arg(long, value_name = "N/s", value_parser = units::rate)]
    rate: Option<f64>,
    /// Give up (exit code 124) when no frame has arrived for this long
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    timeout: Option<Duration>,
    /// When the last sender has left or died, wait for the next one
    #[arg(long)]
    follow: bool,
    /// Write only frames of this kind; others are received and dropped
    #[arg(long, value_name = "N", value_parser = units::frame_kind)]
    kind: Option<u16>,
    /// Write only frames of this stream; others are received and dropped
    #[arg(long, value_name = "N")]
    stream: Option<u16>,
}

impl Recv {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let interrupt = Interrupt::install()?;
        let subject = &self.endpoint;
        let endpoint = target::endpoint(subject, context)?;
        if self.follow && matches!(endpoint, Endpoint::Pipe(_)) {
            return Err(Failure::new(USAGE, format_args!("{subject}: --follow: a pipe has no next sender")));
        }
        if endpoint.to_string() == "-" {
            standard::check_input()?;
        }
        match &endpoint {
            Endpoint::Ring(ring) => self.run_ring(ring, &interrupt, context),
            endpoint => self.run_transport(endpoint, &interrupt, context),
        }
        .and_then(|()| interrupt.ended())
        .map_err(|failure| failure.at(subject))
    }

    /// Fails if frames of a ring of `kind` cannot be received with these options.
    fn check(&self, kind: Kind, context: &Context) -> Outcome {
        let wrong = match (kind, self.framing) {
            (Kind::Stream, Some(other)) if other != Framing::Raw => format!("--framing raw, not {other}"),
            (Kind::Stream, _) if context.json => "no --json".to_owned(),
            (Kind::Stream, _) if self.kind.is_some() => "no --kind".to_owned(),
            (Kind::Stream, _) if self.stream.is_some() => "no --stream".to_owned(),
            _ => return Ok(()),
        };
        Err(Failure::new(USAGE, format_args!("a ring of kind stream carries no frames: {wrong}")))
    }

    fn run_ring(&self, endpoint: &RingEndpoint, interrupt: &Interrupt, context: &Context) -> Outcome {
        let output = Pending::open(self.file.as_deref())?; // before anything is taken
        let attach = |ring: &Ring| {
            let lost_before = ring.stats().counts.lost;
            let consumer = match ring.kind() {
                Kind::Mpmc => Consumer::Mpmc(mpmc::Consumer::attach(ring)?),
                Kind::Mpsc => Consumer::Mpsc(mpsc::Consumer::attach(ring)?),
                Kind::Stream => Consumer::Stream(stream::Consumer::attach(ring)?),
                Kind::Latest => Consumer::Latest(ring::Receiver::attach(ring)?),
                Kind::Broadcast => Consumer::Broadcast(endpoint.attach_receiver(ring)?),
                _ => Consumer::Spsc(spsc::Consumer::attach(ring)?),
            };
            Ok((ring.clone(), consumer, lost_before))
        };
        let accept = |kind| self.check(kind, context);
        let (ring, consumer, lost_before) = target::join(endpoint, context, accept, attach)?;
        let writer = &mut Writer::new(self, output.begin()?, interrupt, context);
        writer.may_repeat = ring.redelivery() == Redelivery::AtLeastOnce && ring.kind() != Kind::Broadcast;
        writer.gives_back = writer.may_repeat || ring.kind() != Kind::Mpmc;
        writer.enough = (ring.capacity() / ring.max_lanes().max(1) / 4).min(writer.enough);
        let drained = match consumer {
            Consumer::Spsc(rx) => self.drain_spsc(rx, writer),
            Consumer::Mpmc(rx) => self.drain_mpmc(rx, writer),
            Consumer::Mpsc(rx) => self.drain_mpsc(rx, writer),
            Consumer::Stream(rx) => self.drain_stream(rx, writer),
            // What a lossy subscriber missed is a gap, and not lost with a consumer.
            Consumer::Broadcast(mut rx) => {
                return self.drain_transport(&mut rx, false, writer).and_then(|()| writer.check_gaps());
            }
            Consumer::Latest(mut rx) => {
                writer.is_latest = true;
                self.drain_transport(&mut rx, false, writer)
            }
        };
        // The failure has reported already what is lost with this receiver.
        let lost = ring.stats().counts.lost.saturating_sub(lost_before).saturating_sub(writer.lost);
        check_loss(drained, lost)
    }

    fn run_transport(&self, endpoint: &Endpoint, interrupt: &Interrupt, context: &Context) -> Outcome {
        endpoint.check_receiver()?;
        let output = Pending::open(self.file.as_deref())?; // before anything is taken
        // A connection has one sender: the next one needs another connection.
        let reopens = self.follow && matches!(endpoint, Endpoint::Unix(_) | Endpoint::Seqpacket(_) | Endpoint::Tcp(_));
        let open = || {
            let deadline = self.timeout.map_or(Deadline::never(), Deadline::after);
            opening::open(interrupt, endpoint, deadline, |from, until| from.open_receiver(until))
        };
        let Some(mut rx) = open()? else { return Ok(()) };
        let mut writer = Writer::new(self, output.begin()?, interrupt, context);
        loop {
            writer.reads_ahead = !rx.capabilities().boundaries;
            if self.count.is_some() {
                rx.expect_at_most(writer.left);
            }
            self.drain_transport(rx.as_mut(), reopens, &mut writer)?;
            if !reopens || writer.is_over() {
                return writer.check_gaps();
            }
            match open()? {
                Some(next) => rx = next,
                None => return writer.check_gaps(),
            }
        }
    }

    /// Receives until the end, or until this sender's end if another receiver is to be opened for
    /// the next one.
    fn drain_transport(&self, rx: &mut dyn FrameReceiver, reopens: bool, writer: &mut Writer) -> Outcome {
        if let Some(canceller) = rx.canceller() {
            writer.interrupt.cancels(canceller)?;
        }
        let mut wait = writer.interrupt.wait(self.timeout);
        // Whether the last call has found nothing.
        let mut is_drained = false;
        // The end that was received behind other frames. The next call may not report it again, as
        // another sender may have begun.
        let mut end = None;
        while !writer.is_over() {
            let until = match end {
                None if is_drained => wait.for_frame(rx),
                _ => wait.slice(),
            };
            match end.take().map_or_else(|| rx.recv_deadline(until), Err) {
                Ok(event) => {
                    writer.take_event(event)?;
                    rx.release(); // a publisher may evict a receiver that holds no frame
                    is_drained = false;
                }
                Err(Error::Timeout) if wait.goes_on() => {
                    is_drained = true;
                    continue;
                }
                Err(error) if reopens && writer.is_followed(&error) => return Ok(()),
                Err(error) => match writer.end(error, &mut wait)? {
                    Next::Wait => continue,
                    Next::Stop => break,
                },
            }
            wait.done();
            writer.gather(|writer| {
                while writer.has_room() {
                    match rx.try_recv() {
                        Ok(event) => {
                            writer.take_event(event)?;
                            rx.release();
                        }
                        Err(error) => {
                            is_drained = true;
                            end = Some(error).filter(|error| !matches!(error, Error::Empty));
                            return Ok(false);
                        }
                    }
                }
                Ok(true)
            })?;
        }
        if writer.interrupt.asked() && !writer.is_done() && rx.stop() { self.drain_stopped(rx, writer) } else { Ok(()) }
    }

    /// Writes the frames that would be lost with this receiver.
    fn drain_stopped(&self, rx: &mut dyn FrameReceiver, writer: &mut Writer) -> Outcome {
        let is_lossless = rx.capabilities().lossless;
        let end = Deadline::after(if is_lossless { 10 * GRACE } else { GRACE });
        while !writer.is_done() {
            match rx.recv_deadline(end.min(Deadline::after(GRACE))) {
                Ok(event) => writer.take_event(event)?,
                Err(Error::Closed) => break,
                Err(Error::Timeout | Error::Empty) if !is_lossless => break,
                Err(Error::Timeout | Error::Empty) => {
                    writer.write()?;
                    return Err(Failure::new(LOST, "interrupted inside a frame, whose sender does not finish it"));
                }
                Err(error) => {
                    writer.write()?;
                    return Err(writer.failure(error));
                }
            }
            if !writer.has_room() {
                writer.write()?;
            }
            if end.has_passed() {
                break;
            }
        }
        writer.write()
    }

    fn drain_spsc(&self, mut rx: spsc::Consumer, writer: &mut Writer) -> Outcome {
        writer.interrupt.cancels(rx.canceller())?;
        let mut wait = writer.interrupt.wait(self.timeout);
        while !writer.is_over() {
            let mut batch = match rx.recv_batch_deadline(usize::MAX, wait.until()) {
                Ok(batch) => batch,
                Err(Error::Timeout) if wait.goes_on() => continue,
                Err(error) => match writer.end(error, &mut wait)? {
                    Next::Wait => continue,
                    Next::Stop => break,
                },
            };
            wait.done();
            let written = writer.gather(|writer| writer.take_all(batch.iter()));
            if let Err(failure) = written {
                if writer.may_repeat || !writer.is_torn {
                    std::mem::forget(batch); // nothing of it is released: it stays in the ring
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn drain_mpsc(&self, mut rx: mpsc::Consumer, writer: &mut Writer) -> Outcome {
        writer.interrupt.cancels(rx.canceller())?;
        let mut wait = writer.interrupt.wait(self.timeout);
        while !writer.is_over() {
            let mut batch = match rx.recv_batch_deadline(usize::MAX, wait.until()) {
                Ok(mpsc::Received::Frame(batch)) => batch,
                Ok(mpsc::Received::Ended(end)) => {
                    writer.take_end(end);
                    continue;
                }
                Err(Error::Timeout) if wait.goes_on() => continue,
                Err(error) => match writer.end(error, &mut wait)? {
                    Next::Wait => continue,
                    Next::Stop => break,
                },
            };
            wait.done();
            let written = writer.gather(|writer| writer.take_all(batch.iter()));
            if let Err(failure) = written {
                if writer.may_repeat || !writer.is_torn {
                    batch.keep();
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn drain_mpmc(&self, rx: mpmc::Consumer, writer: &mut Writer) -> Outcome {
        // Hundreds of receivers that woke up for each slice would load a processor.
        writer.interrupt.cancels(rx.canceller())?;
        let mut wait = writer.interrupt.wait(self.timeout);
        let most = rx.ring().slots() / 4;
        // Frames before one that cannot be written are written first, because they would be lost
        // with it.
        let batch_size = if writer.gives_back || !writer.may_refuse() { BATCH } else { 1 };
        let mut end = None; // as in `drain_transport`
        while !writer.is_over() {
            let first =
                match end.take().map_or_else(|| rx.recv_batch_deadline(writer.wanted(batch_size), wait.until()), Err) {
                    Ok(batch) => batch,
                    Err(Error::Timeout) if wait.goes_on() => continue,
                    Err(error) => match writer.end(error, &mut wait)? {
                        Next::Wait => continue,
                        Next::Stop => break,
                    },
                };
            wait.done();
            let mut held = vec![Held::new(first)];
            let mut encoded = 0;
            let written = writer.gather(|writer| {
                loop {
                    while let Some(held) = held.get_mut(encoded) {
                        held.batch.iter().try_for_each(|frame| writer.take(frame))?;
                        encoded += 1;
                    }
                    if !writer.has_room() || held.len() * batch_size > most {
                        return Ok(true);
                    }
                    match rx.try_recv_batch(writer.wanted(batch_size)) {
                        Ok(batch) => held.push(Held::new(batch)),
                        Err(error) => {
                            end = Some(error).filter(|error| !matches!(error, Error::Empty));
                            return Ok(false);
                        }
                    }
                }
            });
            if let Err(failure) = written {
                // Written frames are released. The others are redelivered or count as lost when the
                // consumer is reaped.
                let done = if writer.gives_back || writer.is_torn { 0 } else { encoded };
                let rest = held.split_off(done);
                let frames = rest.iter().map(|held| held.frames).sum();
                std::mem::forget(rest);
                if writer.gives_back {
                    // The consumer does not leave in order: for the others it has died, so an end
                    // that came behind the frames is reported again, too.
                    drop(held);
                    std::mem::forget(rx);
                } else {
                    writer.lost = frames;
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn drain_stream(&self, mut rx: stream::Consumer, writer: &mut Writer) -> Outcome {
        writer.interrupt.cancels(rx.canceller())?;
        let mut wait = writer.interrupt.wait(self.timeout);
        while !writer.is_over() {
            match rx.read_view_deadline(1, wait.until()).map(stream::ReadView::keep) {
                Ok(()) => wait.done(),
                Err(Error::Timeout) if wait.goes_on() => continue,
                Err(error) => match writer.end(error, &mut wait)? {
                    Next::Wait => continue,
                    Next::Stop => break,
                },
            }
            let there = rx.len().min(WRITE);
            let view = rx.try_read_view(there)?;
            let written = match writer.output.write(&view, writer.interrupt) {
                Ok(written) => written,
                Err(error) => {
                    view.keep();
                    return Err(writer.not_written(error));
                }
            };
            view.release(written);
            writer.progress.add(1, written as u64);
            writer.left -= 1;
            writer.pace();
        }
        Ok(())
    }
}

/// The receiving end of a ring of any kind.
enum Consumer {
    Spsc(spsc::Consumer),
    Mpmc(mpmc::Consumer),
    Mpsc(mpsc::Consumer),
    Stream(stream::Consumer),
    Latest(ring::Receiver),
    Broadcast(ring::Receiver),
}

/// A ring that delivers at most once reports how many frames died with their consumer.
fn check_loss(drained: Outcome, lost: u64) -> Outcome {
    if lost == 0 {
        return drained;
    }
    let what = format_args!("{lost} frames were lost with a consumer that died (redelivery=at-most-once)");
    match drained {
        Err(failure) if !failure.message().is_empty() => Err(failure.and(what)),
        _ => Err(Failure::new(LOST, what)),
    }
}

/// A batch, and how many frames are in it.
struct Held<'a> {
    batch: mpmc::ReadBatch<'a>,
    frames: u64,
}

impl<'a> Held<'a> {
    fn new(mut batch: mpmc::ReadBatch<'a>) -> Self {
        let frames = batch.iter().len() as u64;
        Held { batch, frames }
    }
}
