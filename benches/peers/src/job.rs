//! What one part of a measurement is told to do, and what it found. Passed between processes as JSON.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    /// One message to the other end and back, again and again.
    RoundTrip,
    /// From one sender to one receiver, as fast as it goes.
    Stream,
    /// From so many senders to as many receivers, as fast as it goes.
    Many(usize),
}

/// How an end waits for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Busy: every end has a processor of its own.
    Spin,
    /// Busy, but others go first: there are more ends than processors.
    Yield,
    /// In the kernel.
    Sleep,
}

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// All ends are threads of this process.
    All,
    /// The sender of this number; the one who starts a round trip.
    Sender(usize),
    /// The receiver of this number; the one who answers.
    Receiver(usize),
}

/// One channel in one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    /// For whatever needs a name in the file system; there is one per run.
    pub(crate) dir: PathBuf,
    /// Unique in the directory.
    pub(crate) name: String,
    /// Room for so many bytes of payload, where that can be chosen.
    pub(crate) bytes: usize,
    /// Bytes in a message.
    pub(crate) size: usize,
    /// Ends on each side.
    pub(crate) pairs: usize,
    /// Which of them this is.
    pub(crate) lane: usize,
    pub(crate) wait: Wait,
    /// Numbers of the inherited descriptors.
    pub(crate) fds: Vec<i32>,
}

impl Link {
    /// Room for so many messages.
    pub(crate) fn slots(&self) -> usize {
        self.bytes / self.size
    }

    /// A name that no other run on this machine uses.
    pub(crate) fn unique_name(&self) -> String {
        let dir = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{dir}-{}", self.name)
    }

    /// A descriptor of our own for what was inherited.
    pub(crate) fn inherited(&self, i: usize) -> Result<OwnedFd> {
        let number = *self.fds.get(i).ok_or("no such descriptor was passed")?;
        // SAFETY: our parent made this descriptor for us to inherit, and nothing in this process closes it.
        let inherited = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(inherited.try_clone_to_owned()?)
    }

    /// A name that is nobody else's, for peers that meet in the file system.
    #[cfg(any(feature = "ipc-channel", feature = "ringfire", feature = "shaq"))]
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

/// What one process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) peer: String,
    pub(crate) task: Task,
    pub(crate) end: End,
    /// Words in a message.
    pub(crate) words: usize,
    /// Messages (of each sender), or round trips.
    pub(crate) count: u64,
    /// The clock is read every so many messages of a stream.
    pub(crate) block: u64,
    /// The processors that may be used.
    pub(crate) cpus: Vec<usize>,
    /// One, or one there and one back.
    pub(crate) links: Vec<Link>,
}

/// What one end found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Nanoseconds per message or round trip: the median inside this run. NaN (null) where only all ends together know.
    pub(crate) median: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) p9999: Option<f64>,
    /// `CLOCK_MONOTONIC` before the first message and after the last.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Sum of the numbers of all messages sent, less those received.
    pub(crate) sum: u64,
}
