//! When a consumer that has caught up, or nearly so, should let the producer get ahead.
//!
//! Used by `consumer.rs` whenever it finds the ring empty, and now and then in a long run; frames
//! are counted by the handle's counter. A consumer that polls at the heels of a producer that
//! streams takes the cache line away that the producer is about to write; both then pass one line
//! to and fro, frame by frame, and stay in that state: 64-byte frames take 5 times as long as they
//! need (docs/benchmarks.md). A pause is enough to get out: the producer writes several lines,
//! which then come over in bulk.
//!
//! Nothing here reads a clock. What tells a stream is a *run*: two or more frames between two
//! findings of "empty". A single frame may be a stream at whose heels we are, or one end of a
//! ping-pong, where pausing would hurt; so a pause is tried now and then, ever more rarely as long
//! as it brings nothing. Small frames, many to a line, may come as fast as they are read, one
//! behind the other, without the ring ever being empty: in a long run the consumer looks how far
//! behind it is.

use crate::wait::idle::pause_for_ns;

/// The first pause: a few line transfers between near cores.
const FIRST_NS: u32 = 150;
/// The longest: a few transfers between far ones.
const LONGEST_NS: u32 = 1_200;
/// A producer that makes a frame in less than this streams.
const STREAMING_NS: u32 = 128;
/// Single frames between two trials, at first and at most.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 8_192;

/// Frames of a run between two looks at the producer's position, which cost a line transfer each.
const LOOK_EVERY: u64 = 64;
/// Bytes to be behind the producer at least, and the pause of a consumer that is closer.
const DISTANCE: u64 = 1024;
const DISTANCE_NS: u32 = 1_000;

pub(super) struct Run {
    /// Frames received when the ring was last found empty.
    began: u64,
    /// How many have been received at the next look at the distance.
    look_at: u64,
    /// Runs of one frame since the last pause.
    singles: u32,
    /// How many of them until the next trial.
    patience: u32,
    pause_ns: u32,
}

impl Run {
    /// After `received` frames.
    pub(super) fn new(received: u64) -> Self {
        Run {
            began: received,
            look_at: received.wrapping_add(LOOK_EVERY),
            singles: 0,
            patience: PATIENCE,
            pause_ns: FIRST_NS,
        }
    }

    /// In the middle of a run, after `received` frames, `lead` bytes behind the producer. Says
    /// after how many more to come again.
    pub(super) fn go_on(&mut self, received: u64, lead: impl FnOnce() -> u64) -> u32 {
        let left = self.look_at.wrapping_sub(received) as i64;
        if left > 0 {
            return left as u32;
        }
        self.look_at = received.wrapping_add(LOOK_EVERY);
        if lead() < DISTANCE {
            pause_for_ns(DISTANCE_NS);
        }
        LOOK_EVERY as u32
    }

    /// The ring was found empty after `received` frames: pauses if that is likely to pay, and only
    /// then.
    pub(super) fn end(&mut self, received: u64) {
        self.look_at = received.wrapping_add(LOOK_EVERY);
        let frames = received.wrapping_sub(self.began).min(u32::MAX.into()) as u32;
        self.began = received;
        match frames {
            0 => {}
            1 => {
                self.singles += 1;
                if self.singles >= self.patience {
                    self.singles = 0;
                    self.patience = (2 * self.patience).min(MOST_PATIENCE);
                    pause_for_ns(FIRST_NS);
                }
            }
            frames => {
                self.singles = 0;
                self.patience = PATIENCE;
                pause_for_ns(self.pause_ns);
                let streams = frames.saturating_mul(STREAMING_NS) >= self.pause_ns;
                self.pause_ns = if streams { (2 * self.pause_ns).min(LONGEST_NS) } else { FIRST_NS };
            }
        }
    }
}
