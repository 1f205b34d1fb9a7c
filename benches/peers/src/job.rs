//! The task of one part of a measurement, and its report. Passed between processes as JSON.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An error as text.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// One message to the other end and back, repeatedly.
    RoundTrip,
    /// From one sender to one receiver, as fast as possible.
    Stream,
    /// From several senders to as many receivers, as fast as possible.
    Many(usize),
    /// From several senders to one receiver, as fast as possible.
    Gather(usize),
    /// From one sender, as fast as possible, to receivers that may miss messages.
    Publish(Audience),
    /// Values of which only the newest matters.
    Latest(Access),
}

/// The receivers that may miss messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Audience {
    pub(crate) receivers: usize,
    /// They are attached, and receive nothing until the sender has finished.
    pub(crate) stopped: bool,
}

/// Who accesses a value of which only the newest matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Access {
    /// One thread writes.
    Write,
    /// One thread reads the same value repeatedly.
    Read,
    /// One thread writes and reads in turn.
    InTurn,
    /// One thread reads while another writes at full speed: the time of a read.
    Beside,
}

impl Task {
    /// How many senders and receivers.
    pub(crate) fn ends(self) -> (usize, usize) {
        match self {
            Task::Many(n) => (n, n),
            Task::Gather(n) => (n, 1),
            Task::Publish(audience) => (1, audience.receivers),
            Task::RoundTrip | Task::Stream | Task::Latest(_) => (1, 1),
        }
    }
}

/// How an end waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Busy: every end has a processor of its own.
    Spin,
    /// Busy, but yielding: there are more ends than processors.
    Yield,
    /// Asleep in the kernel.
    Sleep,
}

/// The role of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// All ends are threads of this process.
    All,
    /// The sender with this number; the end that starts a round trip.
    Sender(usize),
    /// The receiver with this number; the end that answers.
    Receiver(usize),
}

/// One channel in one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    /// A directory for names in the file system, one per run.
    pub(crate) dir: PathBuf,
    /// Unique in the directory.
    pub(crate) name: String,
    /// Room for this many bytes of payload, where it can be chosen.
    pub(crate) bytes: usize,
    /// Bytes in a message.
    pub(crate) size: usize,
    /// The most ends on one side.
    pub(crate) pairs: usize,
    /// The index of this pair.
    pub(crate) lane: usize,
    pub(crate) wait: Wait,
    /// Numbers of the inherited descriptors.
    pub(crate) fds: Vec<i32>,
}

impl Link {
    /// Room for this many messages.
    pub(crate) fn slots(&self) -> usize {
        self.bytes / self.size
    }

    /// A name that no other run on this machine uses.
    pub(crate) fn unique_name(&self) -> String {
        let dir = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{dir}-{}", self.name)
    }

    /// An own duplicate of an inherited descriptor.
    pub(crate) fn inherited(&self, i: usize) -> Result<OwnedFd> {
        let number = *self.fds.get(i).ok_or("no such descriptor was passed")?;
        // SAFETY: the parent created this descriptor to be inherited, and nothing in this process
        // closes it.
        let inherited = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(inherited.try_clone_to_owned()?)
    }

    /// A unique name, for peers that connect through the file system.
    #[cfg(any(feature = "ipc-channel", feature = "ringfire", feature = "shaq"))]
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

/// The task of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) peer: String,
    pub(crate) task: Task,
    pub(crate) end: End,
    /// Words in a message.
    pub(crate) words: usize,
    /// Messages (of each sender), or round trips.
    pub(crate) count: u64,
    /// A stream reads the clock after this many messages.
    pub(crate) block: u64,
    /// The processors that may be used.
    pub(crate) cpus: Vec<usize>,
    /// The number of channels: one, or one in each direction.
    pub(crate) links: Vec<Link>,
}

/// The report of one end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Nanoseconds per message or round trip: the median inside this run, of round trips the
    /// mean of the middle half. NaN (null) where only all
    /// ends together can compute it.
    pub(crate) median: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p9999: Option<f64>,
    /// `CLOCK_MONOTONIC` before the first message and after the last.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// The sum of the numbers of all messages sent, minus those received.
    pub(crate) sum: u64,
    /// Messages that a receiver which may miss some has missed.
    pub(crate) missed: u64,
}
