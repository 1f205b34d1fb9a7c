//! A stream of small frames from one process to another, as fast as possible.

use std::time::{Duration, Instant};

use slipring::{Error, Idle, Options, Ring, spsc};

use crate::child::{self, Cpus, Part, Passed};
use crate::failure::{FAILED, Failure, Outcome};

/// The number of blocks, with one figure each; the first block is for warming up. Blocks are short,
/// so one that the scheduler interrupted is an outlier, which does not affect the median.
const BLOCKS: u64 = 401;
/// Frames in a block.
const BLOCK: u64 = 50_000;
const FRAME: usize = 64;
const CAPACITY: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Nanoseconds per frame, one figure per block, sorted.
pub(super) struct Stream(Vec<f64>);

impl Stream {
    pub(super) fn median(&self) -> f64 {
        self.0[self.0.len() / 2]
    }

    /// The quartiles.
    pub(super) fn quartiles(&self) -> [f64; 2] {
        [self.0[self.0.len() / 4], self.0[self.0.len() * 3 / 4]]
    }
}

pub(super) fn measure(cpus: &Cpus) -> Outcome<Stream> {
    cpus.pinned(|peer| {
        let ring = Ring::create_anonymous(&Options::spsc(CAPACITY).idle(Idle::Spin).prefault(true).best_effort(true))?;
        let passed = Passed::ring(&ring)?;
        let part = Part::start(peer, "sink", [passed.number()])?;
        let mut tx = spsc::Producer::attach(&ring)?;
        tx.wait_for_peer(PATIENCE)?;
        for seq in 0..BLOCKS * BLOCK {
            let payload = payload(seq);
            match tx.try_send(&payload) {
                Err(Error::Full) => tx.send(&payload)?,
                sent => sent?,
            }
        }
        tx.close();
        let mut figures: Vec<f64> = part.report()?;
        figures.sort_by(f64::total_cmp);
        if figures.is_empty() { Err(Failure::new(FAILED, "the stream was not measured")) } else { Ok(Stream(figures)) }
    })
}

/// The receiver: checks every frame, and reads the clock once per block.
pub(super) fn sink(ring: &Ring) -> Outcome {
    let mut rx = spsc::Consumer::attach(ring)?;
    let mut marks = Vec::new();
    let mut seq = 0;
    loop {
        match rx.recv_batch(usize::MAX) {
            Ok(mut batch) => {
                for frame in batch.iter() {
                    if frame.payload != payload(seq) {
                        return Err(Failure::new(FAILED, format_args!("stream: frame {seq} is not what was sent")));
                    }
                    seq += 1;
                    if seq % BLOCK == 0 {
                        marks.push(Instant::now());
                    }
                }
            }
            Err(error) if child::is_end(&error) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if seq != BLOCKS * BLOCK {
        return Err(Failure::new(FAILED, format_args!("stream: received {seq} frames, not {}", BLOCKS * BLOCK)));
    }
    let per_frame = |pair: &[Instant]| (pair[1] - pair[0]).as_nanos() as f64 / BLOCK as f64;
    child::report(&marks.windows(2).map(per_frame).collect::<Vec<f64>>())
}

/// A payload that differs in every frame, in its first and last bytes.
#[inline]
fn payload(seq: u64) -> [u8; FRAME] {
    let mut payload = [0x5A; FRAME];
    payload[..8].copy_from_slice(&seq.to_le_bytes());
    payload[FRAME - 8..].copy_from_slice(&(!seq).to_le_bytes());
    payload
}
