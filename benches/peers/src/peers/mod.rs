//! The measured peers. Each is two small types, one that sends and one that receives, over the
//! peer's own API in its best documented configuration, which the top of its file describes.

#[cfg(feature = "bcast")]
mod bcast;
mod broadcast;
#[cfg(feature = "cloudtoid")]
mod cloudtoid;
mod crossbeam;
mod floor;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
#[cfg(feature = "ipc-channel")]
mod ipc_channel;
mod kernel;
mod latest;
#[cfg(feature = "mmap-sync")]
mod mmap_sync;
mod ringbuf;
#[cfg(feature = "ringfire")]
mod ringfire;
mod rtrb;
#[cfg(feature = "shaq")]
mod shaq;
#[cfg(feature = "shmem-ipc")]
mod shmem_ipc;
mod slipring;
mod triple_buffer;

pub(crate) use latest::{Torn, torn};

use std::os::fd::OwnedFd;

use crate::ends::{Board, Fan, Local, Peer};
use crate::job::{Audience, Job, Link, Result, Task, Wait};
use crate::part::{Found, board, create_fan, fan, process, threads};

/// Whether the ends are threads of one process or processes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Threads,
    Processes,
}

/// The tasks in which a peer takes part.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Streams only, since it keeps messages back to send several at a time.
    Batches,
    /// Everything with one sender and one receiver, busy or asleep.
    Single { sleeps: bool },
    /// As `Single`, and with many of each.
    Many { sleeps: bool },
    /// Takes part only in tasks with many ends.
    Lanes,
    /// Takes part only in sending from several to one.
    Gathers,
    /// Streams to one receiver, from a ring for several.
    Broadcast,
    /// Takes part only in sending to receivers that may miss messages: this many.
    Fan(Audience),
    /// Takes part only in writing and reading the newest value.
    Board,
    /// A floor: takes part in this task only.
    Floor(Task, Wait),
}

/// A peer's entry in the command line.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) part: Part,
    pub(crate) create: fn(&Link) -> Result<Vec<OwnedFd>>,
    pub(crate) run: fn(&Job) -> Result<Found>,
}

impl Entry {
    const fn process<P: Peer>(name: &'static str, part: Part) -> Self {
        Entry { name, form: Form::Processes, part, create: P::create, run: process::<P> }
    }

    const fn threads<P: Local>(name: &'static str, part: Part) -> Self {
        Entry { name, form: Form::Threads, part, create: |_| Ok(Vec::new()), run: threads::<P> }
    }

    const fn fan<P: Fan>(name: &'static str, receivers: usize, stopped: bool) -> Self {
        let part = Part::Fan(Audience { receivers, stopped });
        Entry { name, form: Form::Processes, part, create: create_fan::<P>, run: fan::<P> }
    }

    const fn board<P: Board>(name: &'static str) -> Self {
        Entry { name, form: Form::Threads, part: Part::Board, create: |_| Ok(Vec::new()), run: board::<P> }
    }

    pub(crate) fn is_floor(&self) -> bool {
        matches!(self.part, Part::Floor(..))
    }

    pub(crate) fn takes_part(&self, task: Task, wait: Wait) -> bool {
        match (self.part, task) {
            (Part::Floor(only, how), _) => only == task && how == wait,
            (Part::Fan(_), _) => matches!(task, Task::Publish(_)),
            (Part::Board, _) => matches!(task, Task::Latest(_)),
            (_, Task::Publish(_) | Task::Latest(_)) => false,
            (Part::Gathers, _) => matches!(task, Task::Gather(_)),
            (Part::Broadcast, _) => task == Task::Stream,
            (Part::Lanes, _) => matches!(task, Task::Many(_)),
            (Part::Batches, _) => task == Task::Stream && wait != Wait::Sleep,
            (Part::Single { .. }, Task::Many(_)) => false,
            (Part::Single { sleeps } | Part::Many { sleeps }, _) => sleeps || wait != Wait::Sleep,
        }
    }

    /// What this peer does in a measurement of `task`: some have their own number of ends.
    pub(crate) fn task(&self, task: Task) -> Task {
        match (self.part, task) {
            (Part::Fan(audience), Task::Publish(_)) => Task::Publish(audience),
            (Part::Single { .. }, Task::Gather(_)) => Task::Gather(1),
            _ => task,
        }
    }

    /// The name in the tables, with "t" where the ends are threads.
    pub(crate) fn label(&self) -> String {
        match self.form {
            Form::Threads => format!("{} t", self.name.trim_end_matches("-t")),
            Form::Processes => self.name.to_owned(),
        }
    }
}

const SINGLE: Part = Part::Single { sleeps: false };
const MANY: Part = Part::Many { sleeps: false };
const SINGLE_SLEEPS: Part = Part::Single { sleeps: true };
const MANY_SLEEPS: Part = Part::Many { sleeps: true };

/// All peers, in the order of the tables.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry {
        name: "cache-line",
        form: Form::Processes,
        part: Part::Floor(Task::RoundTrip, Wait::Spin),
        create: floor::create_line,
        run: floor::line,
    },
    Entry {
        name: "cache-line-busy",
        form: Form::Processes,
        part: Part::Floor(Task::RoundTrip, Wait::Spin),
        create: floor::create_line,
        run: floor::line,
    },
    Entry {
        name: "two-lines",
        form: Form::Processes,
        part: Part::Floor(Task::RoundTrip, Wait::Spin),
        create: floor::create_line,
        run: floor::line,
    },
    Entry::process::<floor::Blocks>("bulk-copy", Part::Floor(Task::Stream, Wait::Spin)),
    Entry::process::<floor::Futex>("futex", Part::Floor(Task::RoundTrip, Wait::Sleep)),
    Entry::process::<slipring::Spsc>("slipring", SINGLE_SLEEPS),
    Entry::process::<slipring::SpscBatch>("slipring-batch", Part::Batches),
    Entry::process::<slipring::SpscPark>("slipring-park", SINGLE),
    Entry::process::<slipring::InPlace>("slipring-in-place", SINGLE),
    Entry::process::<slipring::Mpmc>("slipring-mpmc", MANY_SLEEPS),
    Entry::process::<slipring::Lanes>("slipring-lanes", Part::Lanes),
    Entry::process::<slipring::Mpsc>("slipring-mpsc", Part::Gathers),
    Entry::process::<broadcast::Reliable>("slipring-broadcast", Part::Broadcast),
    Entry::threads::<slipring::Spsc>("slipring-t", SINGLE_SLEEPS),
    Entry::threads::<slipring::Mpmc>("slipring-mpmc-t", MANY_SLEEPS),
    Entry::threads::<rtrb::Single>("rtrb", SINGLE),
    Entry::threads::<rtrb::Chunks>("rtrb-chunks", Part::Batches),
    Entry::threads::<ringbuf::Single>("ringbuf", SINGLE),
    Entry::threads::<crossbeam::Array>("crossbeam-array-queue", MANY),
    Entry::threads::<crossbeam::Channel>("crossbeam-channel", MANY_SLEEPS),
    Entry::threads::<crossbeam::Std>("std-sync-channel", SINGLE_SLEEPS),
    #[cfg(feature = "ringfire")]
    Entry::process::<ringfire::Lossless>("ringfire", SINGLE_SLEEPS),
    #[cfg(feature = "shaq")]
    Entry::process::<shaq::Spsc>("shaq", SINGLE_SLEEPS),
    #[cfg(feature = "shaq")]
    Entry::process::<shaq::Mpmc>("shaq-mpmc", MANY_SLEEPS),
    #[cfg(feature = "shaq")]
    Entry::process::<shaq::Fan>("shaq-broadcast", Part::Broadcast),
    #[cfg(feature = "bcast")]
    Entry::process::<bcast::HeldBack>("bcast", Part::Broadcast),
    #[cfg(feature = "iceoryx2")]
    Entry::process::<iceoryx2::PublishSubscribe>("iceoryx2", SINGLE_SLEEPS),
    #[cfg(feature = "cloudtoid")]
    Entry::process::<cloudtoid::Queue>("cloudtoid", MANY_SLEEPS),
    #[cfg(feature = "shmem-ipc")]
    Entry::process::<shmem_ipc::SharedRing>("shmem-ipc", SINGLE_SLEEPS),
    #[cfg(feature = "ipc-channel")]
    Entry::process::<ipc_channel::Bytes>("ipc-channel", SINGLE_SLEEPS),
    Entry::process::<kernel::Pipe>("pipe", SINGLE_SLEEPS),
    Entry::process::<kernel::UnixStream>("unix-stream", SINGLE_SLEEPS),
    Entry::process::<kernel::UnixPacket>("unix-seqpacket", SINGLE_SLEEPS),
    Entry::process::<kernel::PosixMq>("posix-mq", MANY_SLEEPS),
    Entry::fan::<floor::Lines>("bare-lines-0", 0, false),
    Entry::fan::<floor::Lines>("bare-lines-2", 2, false),
    Entry::fan::<floor::Lines>("bare-lines-8", 8, false),
    Entry::fan::<broadcast::Overwriting>("slipring-broadcast-0", 0, false),
    Entry::fan::<broadcast::Overwriting>("slipring-broadcast-2", 2, false),
    Entry::fan::<broadcast::Overwriting>("slipring-broadcast-4", 4, false),
    Entry::fan::<broadcast::Overwriting>("slipring-broadcast-8", 8, false),
    Entry::fan::<broadcast::Overwriting>("slipring-broadcast-stopped", 8, true),
    #[cfg(feature = "ringfire")]
    Entry::fan::<ringfire::LatestWins>("ringfire-0", 0, false),
    #[cfg(feature = "ringfire")]
    Entry::fan::<ringfire::LatestWins>("ringfire-2", 2, false),
    #[cfg(feature = "ringfire")]
    Entry::fan::<ringfire::LatestWins>("ringfire-8", 8, false),
    #[cfg(feature = "bcast")]
    Entry::fan::<bcast::Overwriting>("bcast-0", 0, false),
    #[cfg(feature = "bcast")]
    Entry::fan::<bcast::Overwriting>("bcast-2", 2, false),
    #[cfg(feature = "bcast")]
    Entry::fan::<bcast::Overwriting>("bcast-8", 8, false),
    Entry::board::<latest::Board>("slipring-latest"),
    Entry::board::<triple_buffer::Triple>("triple-buffer"),
    #[cfg(feature = "mmap-sync")]
    Entry::board::<mmap_sync::Files>("mmap-sync"),
];

/// Peers that are not in this build.
pub(crate) static ABSENT: &[&str] = &[
    #[cfg(not(feature = "bcast"))]
    "bcast",
    #[cfg(not(feature = "mmap-sync"))]
    "mmap-sync",
    #[cfg(not(feature = "ringfire"))]
    "ringfire",
    #[cfg(not(feature = "shaq"))]
    "shaq",
    #[cfg(not(feature = "iceoryx2"))]
    "iceoryx2",
    #[cfg(not(feature = "cloudtoid"))]
    "cloudtoid",
    #[cfg(not(feature = "shmem-ipc"))]
    "shmem-ipc",
    #[cfg(not(feature = "ipc-channel"))]
    "ipc-channel",
];
