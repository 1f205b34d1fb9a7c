//! A transport under test: how two ends of it meet.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slipring::endpoint::Endpoint;
use slipring::transport::{Capabilities, FrameReceiver, FrameSender};
use slipring::{Deadline, Result};

/// Far more than anything here takes, also on a machine that is paused for a minute: a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub fn soon() -> Deadline {
    PATIENCE.into()
}

/// One transport.
pub struct Subject {
    pub capabilities: &'static Capabilities,
    /// Makes a new place where two ends can meet.
    pub meet: fn() -> Meeting,
    /// A payload that fits for certain; scripts stay below it.
    pub longest: usize,
    /// Payloads at which the transport begins to split frames, or otherwise changes its ways.
    pub edges: &'static [usize],
    /// Whether a sender is told that its receiver has gone, by an error other than "full" or "late".
    pub sees_receiver_go: bool,
    /// A connection of one's own to the receiver, to write bytes that no sender of ours would: each call writes as much as it
    /// is given, where the transport has messages as one of them. Dropping it closes the connection.
    pub wire: Option<fn(&Meeting) -> Wire>,
}

/// Writes bytes to a receiver.
pub type Wire = Box<dyn FnMut(&[u8])>;

/// A place where two ends meet, and what is removed with it.
pub struct Meeting {
    pub receiver: String,
    pub sender: String,
    /// Descriptors that a side is given; ours are closed as soon as it has them.
    passed: Mutex<Vec<OwnedFd>>,
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

impl Meeting {
    /// Two endpoints, and something that lives as long as they are needed.
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

    /// `PID` in the sender's endpoint is the receiver's process.
    pub fn open_sender_to(&self, pid: u32) -> Result<Box<dyn FrameSender>> {
        let sender = Endpoint::parse(&self.sender.replace("PID", &pid.to_string()))?.open_sender(soon());
        self.take(&self.sender);
        sender
    }

    /// Both ends, in this process. Opened at the same time, because one may wait for the other.
    #[track_caller]
    pub fn pair(&self) -> (Box<dyn FrameSender>, Box<dyn FrameReceiver>) {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| self.open_sender().unwrap());
            let receiver = self.open_receiver().unwrap();
            (sender.join().unwrap(), receiver)
        })
    }
}

/// A number that nobody else has, here or in another process.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory of one's own, mode 0700; it goes with what is in it.
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
