//! A transport under test, and how two ends of it connect.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slipring::endpoint::Endpoint;
use slipring::transport::{Capabilities, FrameReceiver, FrameSender};
use slipring::{Deadline, Result};

/// Far longer than any call here takes, even on a machine that pauses for a minute: a test that
/// hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub fn soon() -> Deadline {
    PATIENCE.into()
}

/// One transport.
pub struct Subject {
    pub capabilities: &'static Capabilities,
    /// Makes a new place where two ends can connect.
    pub meet: fn() -> Meeting,
    /// A payload that fits for certain; scripts stay below it.
    pub longest: usize,
    /// Payload lengths at which the transport begins to split frames, or changes its method
    /// otherwise.
    pub edges: &'static [usize],
    pub keeps: Keeps,
    /// Whether a sender learns that its receiver has left by an error other than `Full` or
    /// `Timeout`.
    pub sees_receiver_go: bool,
    /// Opens a raw connection to the receiver, to write bytes that no sender of the library would
    /// write. Each call writes all its bytes, as one message where the transport has messages.
    /// Dropping it closes the connection.
    pub wire: Option<fn(&Meeting) -> Wire>,
}

impl Subject {
    /// How many frames a sender may be ahead of the receiver so that none is lost.
    pub fn in_flight(&self) -> usize {
        match self.keeps {
            Keeps::Everything | Keeps::ForAttached => usize::MAX,
            Keeps::Last(frames) => frames,
            Keeps::Newest => 1,
        }
    }

    /// The streams that scripts use.
    pub fn streams(&self) -> [u16; 3] {
        match self.keeps {
            Keeps::Newest => [0, 1, 2], // a stream is a cell of the board
            _ => [0, 1, 0xFFF0],
        }
    }

    /// Whether frames from before the receiver was opened may be lost.
    pub fn opens_receiver_first(&self) -> bool {
        self.keeps != Keeps::Everything
    }
}

/// Which frames a transport keeps until they are received.
#[derive(Clone, Copy, PartialEq)]
pub enum Keeps {
    /// All of them, also for a receiver that is opened later.
    Everything,
    /// All of them for each receiver that is open.
    ForAttached,
    /// At least so many of the last frames of up to [`LONGEST`](super::cases::LONGEST) bytes.
    Last(usize),
    /// The newest frame of each stream.
    Newest,
}

/// Writes bytes to a receiver.
pub type Wire = Box<dyn FnMut(&[u8])>;

/// A place where two ends connect, and what has to be removed with it.
pub struct Meeting {
    pub receiver: String,
    pub sender: String,
    /// Descriptors to pass to an end; this process closes its copies as soon as the end has them.
    passed: Mutex<Vec<OwnedFd>>,
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

impl Meeting {
    /// Two endpoints, and a value that lives as long as they are needed.
    pub fn new(receiver: String, sender: String, keep: impl std::any::Any + Send + Sync) -> Self {
        Meeting { receiver, sender, passed: Mutex::default(), _keep: Box::new(keep) }
    }

    /// The same for two ends that are descriptors: `fd:N`.
    pub fn of_descriptors(receiver: OwnedFd, sender: OwnedFd) -> Self {
        let [from, to] = [&receiver, &sender].map(|fd| format!("fd:{}", fd.as_raw_fd()));
        Meeting { passed: Mutex::new(vec![receiver, sender]), ..Meeting::new(from, to, ()) }
    }

    /// The descriptor behind an endpoint `fd:N`, to be passed on.
    pub fn take(&self, endpoint: &str) -> Option<OwnedFd> {
        let mut passed = self.passed.lock().unwrap();
        let at = passed.iter().position(|fd| endpoint == format!("fd:{}", fd.as_raw_fd()))?;
        Some(passed.swap_remove(at))
    }

    pub fn open_receiver(&self) -> Result<Box<dyn FrameReceiver>> {
        let receiver = Endpoint::parse(&self.receiver)?.open_receiver(soon());
        self.take(&self.receiver);
        receiver
    }

    pub fn open_sender(&self) -> Result<Box<dyn FrameSender>> {
        self.open_sender_to(std::process::id())
    }

    /// Opens the sender. `PID` in its endpoint stands for the receiver's process.
    pub fn open_sender_to(&self, pid: u32) -> Result<Box<dyn FrameSender>> {
        let sender = Endpoint::parse(&self.sender.replace("PID", &pid.to_string()))?.open_sender(soon());
        self.take(&self.sender);
        sender
    }

    /// Opens both ends in this process, at the same time, because one may wait for the other.
    #[track_caller]
    pub fn pair(&self) -> (Box<dyn FrameSender>, Box<dyn FrameReceiver>) {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.open_sender().unwrap());
            let receiver = self.open_receiver().unwrap();
            (sender.join().unwrap(), receiver)
        })
    }
}

/// A number that no other test uses, in this or another process.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A private directory, mode 0700. Dropping it removes it with its contents.
pub struct Place(pub std::path::PathBuf);

impl Place {
    pub fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("slipring-{}", unique()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
