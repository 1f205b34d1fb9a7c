//! The hidden verb that starts the demo's other processes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use slipring::Idle;

use super::{crash, file, latency, stream};
use crate::child;
use crate::failure::Outcome;

/// Run a part of the demo.
#[derive(Args)]
pub(crate) struct Part {
    /// Pin the process to this processor.
    #[arg(long)]
    cpu: Option<usize>,
    #[command(subcommand)]
    task: Task,
}

/// The task. Rings are numbers of inherited descriptors.
#[derive(Subcommand)]
enum Task {
    RawPong { probe: i32, rounds: u64 },
    Pong { ping: i32, pong: i32, rounds: u64 },
    Sink { ring: i32 },
    Check { ring: i32, file: PathBuf },
    CheckChunks { ring: i32, file: PathBuf },
    FeedChunks { ring: i32, file: PathBuf, first: u64, rounds: u64 },
    Produce { ring: i32, who: u64, dies_after: Option<u64> },
    Consume { ring: i32, dies_after: Option<u64> },
}

impl Part {
    pub(crate) fn run(self) -> Outcome {
        child::settle(self.cpu);
        // With a processor of its own a process spins; otherwise it sleeps.
        let mine = |ring| child::ring(ring, Idle::Spin);
        let shared = |ring| child::ring(ring, Idle::Park);
        match self.task {
            Task::RawPong { probe, rounds } => latency::raw_pong(child::inherited(probe)?, rounds),
            Task::Pong { ping, pong, rounds } => latency::pong(&mine(ping)?, &mine(pong)?, rounds),
            Task::Sink { ring } => stream::sink(&mine(ring)?),
            Task::Check { ring, file } => file::check(&shared(ring)?, &file),
            Task::CheckChunks { ring, file } => file::check_chunks(&shared(ring)?, &file),
            Task::FeedChunks { ring, file, first, rounds } => file::feed_chunks(&shared(ring)?, &file, first, rounds),
            Task::Produce { ring, who, dies_after } => crash::produce(&shared(ring)?, who, dies_after),
            Task::Consume { ring, dies_after } => crash::consume(&shared(ring)?, dies_after),
        }
    }
}
