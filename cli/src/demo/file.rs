//! Sends a file through both kinds of ring, and compares it byte for byte at the receiver.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slipring::{Options, Ring, mpmc, probe, spsc};

use crate::child::{self, Cpus, Part, Passed};
use crate::failure::{FAILED, Failure, Outcome};
use crate::units;

/// Bytes of the file in one frame.
const CHUNK: usize = 4 << 10;
/// A slot's payload: the number of the chunk, and the chunk.
const SLOT: usize = 8 + CHUNK;
/// Larger files are truncated to this size.
const MOST: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// The file in memory.
pub(super) struct Load {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Bytes that go through each ring, approximately.
    total: usize,
}

impl Load {
    /// Reads `path`, or this program.
    pub(super) fn read(path: Option<&Path>, total: usize) -> Outcome<Self> {
        let own = || std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        let path = path.map_or_else(own, Path::to_owned);
        let bytes = read(&path)?;
        Ok(Load { path, bytes, total })
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Copying speed for the file's own bytes, in GB/s.
    pub(super) fn copy_speed(&self) -> f64 {
        self.len() as f64 / probe::copy_time(self.len()).as_nanos() as f64
    }

    fn rounds(&self) -> u64 {
        self.total.div_ceil(self.len()) as u64
    }
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    match read {
        Ok(0) => Err(Failure::new(FAILED, "the file is empty: choose another with --file").at(path.display())),
        Ok(_) => Ok(bytes),
        Err(e) => Err(Failure::new(FAILED, e).at(path.display())),
    }
}

/// What arrived, and how fast.
#[derive(Serialize, Deserialize)]
struct Received {
    frames: u64,
    bytes: u64,
    /// A sum over the mixed chunk numbers: it is right only if each chunk arrived once.
    sum: u64,
}

pub(super) struct Transfer {
    frames: u64,
    bytes: u64,
    seconds: f64,
}

impl Transfer {
    pub(super) fn row(&self, label: &str) -> String {
        let frames = units::count(self.frames as f64 / self.seconds);
        let speed = self.bytes as f64 / self.seconds / 1e9;
        format!("    {label:20} {frames:>7}frames/s  {speed:5.1} GB/s   {} right\n", units::bytes(self.bytes))
    }

    pub(super) fn json(&self) -> Value {
        let Transfer { frames, bytes, seconds } = self;
        json!({ "frames": frames, "bytes": bytes, "seconds": seconds, "frames_per_s": *frames as f64 / seconds,
                "gb_per_s": *bytes as f64 / seconds / 1e9 })
    }
}

/// One sender, one receiver.
pub(super) fn spsc(load: &Load, cpus: &Cpus) -> Outcome<Transfer> {
    cpus.pinned(|peer| {
        let ring = Ring::create_anonymous(&Options::spsc(1 << 20).prefault(true).best_effort(true))?;
        let passed = Passed::ring(&ring)?;
        let part = Part::start(peer, "check", [passed.number(), load.name()])?;
        let mut tx = spsc::Producer::attach(&ring)?;
        tx.wait_for_peer(PATIENCE)?;
        let start = Instant::now();
        for _ in 0..load.rounds() {
            load.bytes.chunks(CHUNK).try_for_each(|chunk| tx.send(chunk))?;
        }
        tx.close();
        let Received { frames, bytes, .. } = part.report()?;
        let seconds = start.elapsed().as_secs_f64();
        if bytes != load.rounds() * load.len() as u64 {
            return Err(Failure::new(
                FAILED,
                format_args!("spsc: received {bytes} bytes, not {} times the file", load.rounds()),
            ));
        }
        Ok(Transfer { frames, bytes, seconds })
    })
}

pub(super) fn check(ring: &Ring, path: &Path) -> Outcome {
    let file = read(path)?;
    let mut rx = spsc::Consumer::attach(ring)?;
    let mut received = Received { frames: 0, bytes: 0, sum: 0 };
    let mut rest = file.as_slice();
    loop {
        let mut batch = match rx.recv_batch(16) {
            Ok(batch) => batch,
            Err(error) if child::is_end(&error) => return child::report(&received),
            Err(error) => return Err(error.into()),
        };
        // At most sixteen frames per batch: the sender needs the room.
        for frame in batch.iter() {
            let Some(behind) = rest.strip_prefix(frame.payload) else {
                return Err(Failure::new(FAILED, format_args!("spsc: frame {} is wrong", received.frames)));
            };
            rest = if behind.is_empty() { &file } else { behind };
            received.frames += 1;
            received.bytes += frame.payload.len() as u64;
        }
    }
}

/// Two senders, two receivers.
pub(super) fn mpmc(load: &Load) -> Outcome<Transfer> {
    let ring = Ring::create_anonymous(&Options::mpmc(256, SLOT).prefault(true).best_effort(true))?;
    let passed = Passed::ring(&ring)?;
    // Keeps the ring open until both senders have finished, even if one starts after the other's
    // end.
    let opener = mpmc::Producer::attach(&ring)?;
    let receiver = |_| Part::start(None, "check-chunks", [passed.number(), load.name()]);
    let sender = |first: u64| {
        let arguments = [passed.number(), load.name(), first.to_string(), load.rounds().to_string()];
        Part::start(None, "feed-chunks", arguments)
    };
    let receivers = (0..2).map(receiver).collect::<Outcome<Vec<_>>>()?;
    child::wait_for_consumers(&ring, receivers.len())?;
    let start = Instant::now();
    let senders = (0..2).map(sender).collect::<Outcome<Vec<_>>>()?;
    senders.into_iter().try_for_each(Part::finish)?;
    opener.close();
    let mut all = Received { frames: 0, bytes: 0, sum: 0 };
    for receiver in receivers {
        let Received { frames, bytes, sum } = receiver.report()?;
        all = Received { frames: all.frames + frames, bytes: all.bytes + bytes, sum: all.sum.wrapping_add(sum) };
    }
    let seconds = start.elapsed().as_secs_f64();
    let frames = load.rounds() * load.len().div_ceil(CHUNK) as u64;
    let sum = (0..frames).map(mix).fold(0, u64::wrapping_add);
    if (all.frames, all.sum) != (frames, sum) {
        return Err(Failure::new(
            FAILED,
            format_args!("mpmc: received {} frames, sent {frames}: the sets differ", all.frames),
        ));
    }
    Ok(Transfer { frames, bytes: all.bytes, seconds })
}

/// Sends every other chunk, with its number before its bytes.
pub(super) fn feed_chunks(ring: &Ring, path: &Path, first: u64, rounds: u64) -> Outcome {
    let file = read(path)?;
    let tx = mpmc::Producer::attach(ring)?;
    let chunks = file.len().div_ceil(CHUNK) as u64;
    for number in (first..rounds * chunks).step_by(2) {
        let chunk = chunk(&file, number);
        let mut grant = tx.reserve(8 + chunk.len())?;
        grant[..8].copy_from_slice(&number.to_le_bytes());
        grant[8..].copy_from_slice(chunk);
        grant.commit(8 + chunk.len());
    }
    Ok(())
}

pub(super) fn check_chunks(ring: &Ring, path: &Path) -> Outcome {
    let file = read(path)?;
    let rx = mpmc::Consumer::attach(ring)?;
    let mut received = Received { frames: 0, bytes: 0, sum: 0 };
    loop {
        let frame = match rx.recv() {
            Ok(frame) => frame,
            Err(error) if child::is_end(&error) => return child::report(&received),
            Err(error) => return Err(error.into()),
        };
        match frame.split_first_chunk::<8>() {
            Some((number, bytes)) if bytes == chunk(&file, u64::from_le_bytes(*number)) => {
                received.frames += 1;
                received.bytes += bytes.len() as u64;
                received.sum = received.sum.wrapping_add(mix(u64::from_le_bytes(*number)));
            }
            _ => return Err(Failure::new(FAILED, "mpmc: a frame is wrong")),
        }
    }
}

fn chunk(file: &[u8], number: u64) -> &[u8] {
    let start = (number % file.len().div_ceil(CHUNK) as u64) as usize * CHUNK;
    &file[start..file.len().min(start + CHUNK)]
}

/// Mixes a number, so that two different sets of numbers have the same sum only with negligible
/// probability.
fn mix(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
