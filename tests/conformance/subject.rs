//! A transport under test: how two ends of it meet.

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
    _keep: Box<dyn std::any::Any + Send + Sync>,
}

impl Meeting {
    /// Two endpoints, and something that lives as long as they are needed.
    pub fn new(receiver: String, sender: String, keep: impl std::any::Any + Send + Sync) -> Self {
        Meeting { receiver, sender, _keep: Box::new(keep) }
    }

    pub fn open_receiver(&self) -> Result<Box<dyn FrameReceiver>> {
        Endpoint::parse(&self.receiver)?.open_receiver(soon())
    }

    pub fn open_sender(&self) -> Result<Box<dyn FrameSender>> {
        Endpoint::parse(&self.sender)?.open_sender(soon())
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
