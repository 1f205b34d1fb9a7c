//! What the main process of a bench asks of the other sides, and what they answer.
//!
//! Used by `crew.rs`, which sends and receives them, and by `part.rs`, which performs them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ports::Port;
use super::runs::{Pace, Until};
use super::wires::Meeting;

/// A task, sent to a peer as one line. Descriptors are inherited, and remembered with the ends
/// attached to them.
#[derive(Serialize, Deserialize)]
pub(super) enum Task {
    /// The other side of a raw ping-pong.
    RawPong { probe: i32, rounds: u64 },
    /// The same, with sleeping sides.
    FutexPong { probe: i32, rounds: u32 },
    /// Writes blocks of a bulk copy.
    BulkWrite { probe: i32, block: usize, blocks: usize, first: u64, count: u64 },
    /// Sends every message back, up to the message that ends the run.
    Echo { from: Port, to: Port },
    /// Sends messages.
    Produce { to: Port, size: usize, first: u64, until: Until, pace: Option<Pace>, stop: bool },
    /// Receives messages of any sender in any order, up to the message that ends the run.
    Consume { from: Port },
    /// Keeps `threads` threads busy until the next such task.
    Busy { threads: usize, cpus: Vec<usize> },
    /// Attaches senders, and keeps them.
    Hold { ports: Vec<Port> },
    /// Waits for a message that does not come.
    Wait { from: Port, ns: u64 },
    /// Creates and opens named rings, and unlinks their names.
    Attach { dir: PathBuf, rounds: u64 },
    /// Wakes up as often as a parked receiver does, and does nothing else.
    BareSleeps { ns: u64, interval_ns: u64 },
    /// Opens the other side of an exchange through the kernel.
    Meet(Meeting),
    /// Sends every message back in the exchange that was opened as number `talk`.
    EchoOver { talk: usize },
}

#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Produced { count: u64, sum: u64, ns: u64 },
    Consumed { count: u64, sum: u64, first_ns: u64, last_ns: u64 },
    Waited { cpu_ns: u64, ns: u64 },
    Attached { create: f64, open: f64, bare_create: f64, bare_open: f64 },
    Met { out: String, pid: u32 },
    Failed { code: u8, why: String },
}
