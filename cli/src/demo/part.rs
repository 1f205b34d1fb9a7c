//! The hidden verb with which the demo starts its other processes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{child, crash, file, latency, stream};
use crate::failure::Outcome;

/// A part in the demo.
#[derive(Args)]
pub(crate) struct Part {
    /// Stay on this processor.
    #[arg(long)]
    cpu: Option<usize>,
    #[command(subcommand)]
    task: Task,
}

/// What to do. Rings are numbers of inherited descriptors.
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
        match self.task {
            Task::RawPong { probe, rounds } => latency::raw_pong(child::inherited(probe)?, rounds),
            Task::Pong { ping, pong, rounds } => latency::pong(&child::ring(ping)?, &child::ring(pong)?, rounds),
            Task::Sink { ring } => stream::sink(&child::ring(ring)?),
            Task::Check { ring, file } => file::check(&child::ring(ring)?, &file),
            Task::CheckChunks { ring, file } => file::check_chunks(&child::ring(ring)?, &file),
            Task::FeedChunks { ring, file, first, rounds } => {
                file::feed_chunks(&child::ring(ring)?, &file, first, rounds)
            }
            Task::Produce { ring, who, dies_after } => crash::produce(&child::ring(ring)?, who, dies_after),
            Task::Consume { ring, dies_after } => crash::consume(&child::ring(ring)?, dies_after),
        }
    }
}
