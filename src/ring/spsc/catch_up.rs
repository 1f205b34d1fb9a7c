//! The catch-up pause: when a consumer that has caught up with the producer, or nearly so, should
//! pause.
//!
//! Used by `consumer.rs` whenever it finds the ring empty, and from time to time in a long run; the
//! handle's counter counts the frames. A consumer that polls close behind a streaming producer
//! fetches the cache line that the producer is about to write. The two then exchange one line for
//! every frame, and stay in that state: 64-byte frames take 5 times as long as necessary
//! (docs/benchmarks.md). A pause ends it: the producer writes several lines, which are then
//! transferred together.
//!
//! Nothing here reads a clock. A stream is recognised by a *run*: two or more frames between two
//! times that the ring is found empty. A single frame may belong to a stream with the consumer
//! close behind, or to a ping-pong, where a pause would hurt. So a pause is tried from time to
//! time, and less often as long as it does not help. Small frames, many to a line, may come as fast
//! as they are read, so that the ring is not found empty; so in a long run the consumer checks its
//! distance to the producer.

use crate::wait::idle::pause_for_ns;

/// The first pause: a few line transfers between near cores.
const FIRST_NS: u32 = 150;
/// The longest, in which a producer writes some frames of any size; in small rings 1 ns for so many
/// bytes of capacity, so that the ring is not full before it ends.
const LONGEST_NS: u64 = 4_000;
const CAPACITY_PER_NS: u64 = 12;
/// A producer that sends a frame in less than this, and 1 ns more for each byte, streams.
const STREAMING_NS: u32 = 64;
/// Larger frames do not count by their bytes: for them, longer pauses are measured between near
/// cores only.
const LARGE: u32 = 2048;
/// Single frames between two trial pauses, at first and at most.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 8_192;

/// Frames of a run between two readings of the producer's position, which cost a line transfer
/// each.
const LOOK_EVERY: u64 = 64;
/// The least distance to the producer in bytes, and the pause of a consumer that is closer.
const DISTANCE: u64 = 1024;
const DISTANCE_NS: u32 = 1_000;

pub(crate) struct Run {
    /// Frames received when the ring was last found empty, and the position then.
    began: u64,
    began_at: u64,
    /// The number of received frames at which to check the distance again.
    look_at: u64,
    /// Runs of one frame since the last pause.
    singles: u32,
    /// The number of such runs until the next trial pause.
    patience: u32,
    pause_ns: u32,
    longest_ns: u32,
}

impl Run {
    /// A new state, after `received` frames, at position `at` in a ring of `capacity` bytes.
    pub(crate) fn new(received: u64, at: u64, capacity: u64) -> Self {
        Run {
            began: received,
            began_at: at,
            look_at: received.wrapping_add(LOOK_EVERY),
            singles: 0,
            patience: PATIENCE,
            pause_ns: FIRST_NS,
            longest_ns: (capacity / CAPACITY_PER_NS).clamp(FIRST_NS.into(), LONGEST_NS) as u32,
        }
    }

    /// In a run, after `received` frames, `lead` bytes behind the producer. Returns after how many
    /// more frames to call again.
    pub(crate) fn go_on(&mut self, received: u64, lead: impl FnOnce() -> u64) -> u32 {
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

    /// The ring was found empty after `received` frames, at position `at`: pauses if that is likely
    /// to help.
    pub(crate) fn end(&mut self, received: u64, at: u64) {
        self.look_at = received.wrapping_add(LOOK_EVERY);
        let frames = received.wrapping_sub(self.began).min(u32::MAX.into()) as u32;
        let bytes = at.wrapping_sub(self.began_at).min(u32::MAX.into()) as u32;
        (self.began, self.began_at) = (received, at);
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
                let size = bytes / frames;
                let streaming_ns = STREAMING_NS + if size <= LARGE { size } else { STREAMING_NS };
                let streams = frames.saturating_mul(streaming_ns) >= self.pause_ns;
                self.pause_ns = if streams { (2 * self.pause_ns).min(self.longest_ns) } else { FIRST_NS };
            }
        }
    }
}
