//! What runs in a process of its own: a source or a sink of frames, on one processor.
//!
//! Started by `scene.rs` with the arguments of [`Part::parse`]; a source prints a line at its first
//! frame, and each prints one line of figures at its end. Relies on the public API of the library
//! alone. Each frame is written and read in full, and has its number and the time of its sending.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use slipring::{Options, broadcast, mpsc, spsc};

use super::clock::{now_ns, processor_ns};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The rings of all measurements.
pub(super) const CAPACITY: usize = 1 << 20;
const LANES: usize = 8;
const SUBSCRIBERS: usize = 8;
/// How long a peer may take to attach.
const PATIENCE: Duration = Duration::from_secs(10);
/// The line of a source when it sends its first frame.
pub(super) const BEGAN: &str = "began";
/// Frames between two readings of the clock, where the end is a time.
const CLOCK_EVERY: u64 = 64;

/// The arguments of a part, `name=value` each.
pub(super) struct Part {
    values: HashMap<String, String>,
}

impl Part {
    pub(super) fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let split = |argument: String| {
            let (name, value) = argument.split_once('=').ok_or(format!("{argument}: must be name=value"))?;
            Ok::<_, Box<dyn Error>>((name.to_owned(), value.to_owned()))
        };
        Ok(Part { values: arguments.map(split).collect::<Outcome<_>>()? })
    }

    fn text(&self, name: &str) -> Outcome<&str> {
        Ok(self.values.get(name).ok_or(format!("{name}= is missing"))?)
    }

    fn number(&self, name: &str) -> Outcome<u64> {
        Ok(self.text(name)?.parse()?)
    }

    fn options(&self) -> Outcome<Options> {
        let options = match self.text("kind")? {
            "spsc" => Options::spsc(CAPACITY),
            "mpsc" => Options::mpsc(CAPACITY, LANES),
            "broadcast" => Options::broadcast(CAPACITY).participants(1 + SUBSCRIBERS),
            other => return Err(format!("{other}: no kind of ring").into()),
        };
        let options = options.idle(self.text("idle")?.parse()?);
        Ok(options.directory(PathBuf::from(self.text("dir")?)))
    }

    pub(super) fn run(&self) -> Outcome {
        let (ring, options) = (self.text("ring")?, self.options()?);
        match (self.text("role")?, self.text("kind")?) {
            ("source", "spsc") => {
                let tx = spsc::Producer::open(ring, &options)?;
                tx.wait_for_peer(PATIENCE)?;
                self.send(tx)
            }
            ("source", "mpsc") => {
                let tx = mpsc::Producer::open(ring, &options)?;
                tx.wait_for_peer(PATIENCE)?;
                self.send(tx)
            }
            ("source", _) => {
                let tx = broadcast::Publisher::open(ring, &options)?;
                // Each subscriber has to be there from the first frame on.
                let subscribers = self.number("peers")?;
                while tx.ring().subscribers().len() < subscribers as usize {
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.send(tx)
            }
            (_, "spsc") => self.receive(spsc::Consumer::open(ring, &options)?),
            (_, "mpsc") => self.receive(mpsc::Consumer::open(ring, &options)?),
            (_, _) => self.receive(broadcast::Subscriber::open(ring, &options, broadcast::Start::Oldest)?),
        }
    }

    fn send(&self, mut tx: impl Send) -> Outcome {
        let (size, batch) = (self.number("size")? as usize, self.number("batch")? as usize);
        let (rate, ns) = (self.number("rate")?, self.number("ns")?);
        let mut payload = vec![1_u8; size.max(16)];
        let began = now_ns();
        let busy = processor_ns();
        let mut sent: u64 = 0;
        println!("{BEGAN}");
        loop {
            if let Some(after) = (sent * 1_000_000_000).checked_div(rate) {
                let due = began + after;
                let now = now_ns();
                if due > now && self.text("idle")? != "spin" {
                    std::thread::sleep(Duration::from_nanos(due - now));
                }
                while now_ns() < due {
                    std::hint::spin_loop();
                }
            }
            if rate > 0 || sent.is_multiple_of(CLOCK_EVERY) {
                let now = now_ns();
                payload[8..16].copy_from_slice(&now.to_le_bytes());
                if now - began > ns {
                    break;
                }
            }
            if batch > 1 {
                tx.send_many(&payload, batch)?;
                sent += batch as u64;
            } else {
                payload[..8].copy_from_slice(&sent.to_le_bytes());
                tx.send_one(&payload)?;
                sent += 1;
            }
        }
        println!("frames={sent} ns={} busy={}", now_ns() - began, processor_ns() - busy);
        Ok(())
    }

    fn receive(&self, mut rx: impl Receive) -> Outcome {
        let (batch, timed) = (self.number("batch")? as usize, self.number("rate")? > 0);
        let sources = self.number("peers")?;
        let mut seen = Seen::default();
        let mut ended = 0;
        let mut busy = 0;
        while ended < sources {
            let last = &mut seen;
            let more = rx.receive(batch, &mut |payload| {
                if last.frames == 0 {
                    last.first = now_ns();
                    busy = processor_ns();
                }
                last.frames += 1;
                last.sum = last.sum.wrapping_add(sum(payload));
                if timed {
                    let sent = u64::from_le_bytes(payload[8..16].try_into().unwrap_or_default());
                    last.delays.push(now_ns().saturating_sub(sent));
                }
                if last.frames.is_multiple_of(CLOCK_EVERY) {
                    last.counted = last.frames;
                    last.last = now_ns();
                }
            })?;
            ended += u64::from(!more);
        }
        black_box(seen.sum);
        let busy = processor_ns() - busy;
        let mut line = format!("frames={} ns={} busy={busy}", seen.counted, seen.last.saturating_sub(seen.first));
        if timed {
            // The first tenth is a warm-up.
            let mut delays = seen.delays.split_off(seen.delays.len() / 10);
            delays.sort_unstable();
            for percent in [10, 25, 50, 75, 90, 95, 99] {
                let delay = delays.get(delays.len() * percent / 100).copied().unwrap_or_default();
                write!(line, " p{percent}={delay}")?;
            }
        }
        println!("{line}");
        Ok(())
    }
}

#[derive(Default)]
struct Seen {
    frames: u64,
    /// The frames until `last`.
    counted: u64,
    sum: u64,
    first: u64,
    last: u64,
    delays: Vec<u64>,
}

/// Reads the payload in full.
fn sum(payload: &[u8]) -> u64 {
    let words = payload.as_chunks::<8>().0;
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)))
}

trait Send {
    fn send_one(&mut self, payload: &[u8]) -> slipring::Result<()>;
    fn send_many(&mut self, payload: &[u8], count: usize) -> slipring::Result<()>;
}

macro_rules! send {
    ($($kind:ty),*) => {$(
        impl Send for $kind {
            fn send_one(&mut self, payload: &[u8]) -> slipring::Result<()> {
                self.send(payload)
            }

            fn send_many(&mut self, payload: &[u8], count: usize) -> slipring::Result<()> {
                let mut left = count;
                while left > 0 {
                    left -= self.send_batch(std::iter::repeat_n(payload, left))?;
                }
                Ok(())
            }
        }
    )*};
}
send!(spsc::Producer, mpsc::Producer, broadcast::Publisher);

trait Receive {
    /// Receives up to `batch` frames. Returns `false` at the end of a source.
    fn receive(&mut self, batch: usize, take: &mut impl FnMut(&[u8])) -> slipring::Result<bool>;
}

macro_rules! receive {
    ($($kind:ty),*) => {$(
        impl Receive for $kind {
            fn receive(&mut self, batch: usize, take: &mut impl FnMut(&[u8])) -> slipring::Result<bool> {
                if batch > 1 {
                    match self.recv_batch(batch) {
                        Ok(mut frames) => frames.iter().for_each(|frame| take(frame.payload)),
                        Err(slipring::Error::Closed) => return Ok(false),
                        Err(error) => return Err(error),
                    }
                } else {
                    match self.recv() {
                        Ok(frame) => take(&frame),
                        Err(slipring::Error::Closed) => return Ok(false),
                        Err(error) => return Err(error),
                    }
                }
                Ok(true)
            }
        }
    )*};
}
receive!(spsc::Consumer, broadcast::Subscriber);

impl Receive for mpsc::Consumer {
    fn receive(&mut self, _: usize, take: &mut impl FnMut(&[u8])) -> slipring::Result<bool> {
        match self.recv()? {
            mpsc::Received::Frame(frame) => {
                take(&frame);
                Ok(true)
            }
            mpsc::Received::Ended(_) => Ok(false),
        }
    }
}
