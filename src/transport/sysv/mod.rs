//! `sysv:KEY` and `sysv:PATH`: frames through a System V message queue (sysvipc(7)).
//!
//! Used by endpoints and programs. Relies on `os/sysv.rs`, and on `message/` for everything except
//! the queue itself.
//!
//! A queue and its messages exist until it is removed, independent of any process. `remove` also
//! ends it for the processes that have it open: a sender gets [`Error::Closed`], a receiver an
//! [`Error::Io`] of kind `NotFound`, because messages may have been in it. Several senders may
//! share a queue; it has one receiver at a time.
//!
//! * **Type**: a message's type is its frame's stream + 1, so that other programs can receive a
//!   single stream.
//! * **Liveness**: three semaphores have the same key as the queue: the number of senders, the
//!   number of receivers, and a mark of this library. A participant adds 1 to its semaphore with
//!   `SEM_UNDO`, so the kernel reverts that when it dies. This does not show *which* sender died: a
//!   death is noticed when no sender is left, or when the others have sent BYE.
//! * **exec** is not a death here, because `SEM_UNDO` belongs to the process and not to the
//!   program. A sender that calls `exec` without closing counts until its process ends. A receiver
//!   that does so keeps its role: the next program in the same process may open the queue and takes
//!   the role over, others get [`Error::RoleTaken`] until the process ends.
//! * **Waiting**: there is no descriptor to poll, and no call with a timeout. A receiver blocks in
//!   `msgrcv` while its deadline is at least 100 ms away. Meanwhile a thread (the `Metronome`)
//!   sends it an empty message of type 65,537 every 50 to 100 ms, so that it can check its deadline
//!   and the senders. In the last 100 ms before a deadline, and for a sender at a full queue, the
//!   call sleeps 50 µs to 1 ms between attempts, which is then the latency.

mod key;
mod manage;
mod metronome;
mod queue;

use std::time::Duration;

use libc::{E2BIG, EAGAIN, EIDRM, EINTR, EINVAL, ENOMSG};

pub use self::key::Key;
pub use self::manage::{Listed, list, remove, remove_if_unused};
use self::metronome::Metronome;
use self::queue::{Queue, RECEIVERS, SENDERS, Seat};
use super::message::{Inbox, Inlet, Outbox, Outlet, Pulled, WAIT_LIMIT, Waiting, Wire, receiver, sender};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, Header, sender_of};
use crate::os::pauses::Pauses;
use crate::os::sysv;
use crate::wait::deadline::Deadline;

/// The guarantees of System V message queues.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "sysv",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

/// The type of the messages that only wake. It is above the types of all messages with frames.
const WAKE: u64 = 1 << 16 | 1;
/// A receiver whose deadline is nearer than this does not block, because it may be woken this late.
const NEAR: Duration = WAIT_LIMIT.saturating_mul(2);
const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const PAUSES: Pauses = Pauses::new(SHORTEST_PAUSE, Duration::from_millis(1));

/// How to open a queue: start from [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    max_payload: usize,
    create: bool,
}

impl Default for Options {
    /// The queue is created if it is missing; its limits are those of `/proc/sys/kernel/msgmax` and
    /// `msgmnb`.
    fn default() -> Self {
        Options { max_payload: DEFAULT_MAX_PAYLOAD, create: true }
    }
}

impl Options {
    /// The largest payload that is sent, or accepted, in bytes: 16 MiB by default.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Whether a missing queue is created (the default); otherwise [`Error::NotFound`].
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }
}

/// The sending end of a queue. Any number of them may share it.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, sysv};
/// # let file = std::env::temp_dir().join(format!("slipring-doc-sysv-{}", std::process::id()));
/// # std::fs::write(&file, b"").unwrap();
/// let key = sysv::Key::path(&file)?;
/// let mut tx = sysv::Sender::open(key, &sysv::Options::default())?;
/// let mut rx = sysv::Receiver::open(key, &sysv::Options::default())?;
/// tx.send(Header::PLAIN, b"hello")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
/// sysv::remove(key)?;
/// # std::fs::remove_file(file).unwrap();
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Sender(Outbox<SendingEnd>);

impl Sender {
    /// Opens the queue, or creates it. Some seven system calls.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Untrusted`] for a queue of another user, or one that other
    /// users may use; [`Error::Incompatible`] if the semaphores of the key belong to another
    /// program, or the system's limits are too low; [`Error::Unsupported`] if the kernel has no
    /// queues, or no more of them; [`Error::Io`].
    pub fn open(key: Key, options: &Options) -> Result<Self> {
        let (queue, seat) = Queue::enter(key, options.create, SENDERS)?;
        let wire = Wire { form: Form::Short, identified: true, message: queue.message };
        Outbox::open(wire, options.max_payload, |_| {
            let message = Vec::with_capacity(sysv::TYPE + queue.message);
            Ok(SendingEnd { queue: queue.id, message, pauses: PAUSES, _seat: seat })
        })
        .map(Sender)
    }
}

sender!(Sender);

/// The receiving end of a queue. One at a time. Examples: [`Sender`].
///
/// There is no descriptor to poll: [`poll_fd`](super::FrameReceiver::poll_fd) returns `None`.
pub struct Receiver(Inbox<ReceivingEnd>);

impl Receiver {
    /// Opens the queue, as [`Sender::open`] does.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] if another receiver has it; otherwise as [`Sender::open`].
    pub fn open(key: Key, options: &Options) -> Result<Self> {
        let (queue, seat) = Queue::enter(key, options.create, RECEIVERS)?;
        let end = ReceivingEnd { queue, metronome: None, _seat: seat };
        // The limit may be raised while this end is open.
        let largest = queue.message.max(LARGEST).min(queue.capacity);
        Ok(Receiver(Inbox::new(end, sysv::TYPE + largest, options.max_payload)))
    }
}

receiver!(Receiver);

/// The size of the messages that a receiver always accepts, if the queue can hold them.
const LARGEST: usize = 64 << 10;

/// The error of a receiver whose queue was removed. It is not an orderly end, because messages may
/// have been in the queue.
fn removed() -> Error {
    const WHAT: &str = "the queue was removed, with the messages that were in it";
    Error::io("receive from the queue", std::io::Error::new(std::io::ErrorKind::NotFound, WHAT))
}

struct SendingEnd {
    queue: i32,
    /// The buffer in which a message is assembled.
    message: Vec<u8>,
    /// How long to sleep next at a full queue.
    pauses: Pauses,
    _seat: Seat,
}

impl Outlet for SendingEnd {
    fn push(&mut self, header: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        self.message.clear();
        self.message.extend_from_slice(&(u64::from(header.stream) + 1).to_ne_bytes());
        self.message.extend_from_slice(head);
        self.message.extend_from_slice(payload);
        loop {
            match sysv::send(self.queue, &self.message).map_err(|e| (e.raw_os_error(), e)) {
                Ok(()) => {
                    self.pauses = PAUSES;
                    return Ok(());
                }
                Err((Some(EINTR), _)) => {}
                Err((Some(EAGAIN), _)) => return Err(Error::Full),
                Err((Some(EIDRM | EINVAL), _)) => return Err(Error::Closed), // removed
                Err((_, e)) => return Err(Error::io("send to the queue", e)),
            }
        }
    }

    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        self.pauses.sleep(deadline.remaining());
        Ok(())
    }
}

struct ReceivingEnd {
    queue: Queue,
    /// Created when it is first needed.
    metronome: Option<Metronome>,
    _seat: Seat,
}

impl ReceivingEnd {
    /// Receives one message; `None` if there is none, or only one that wakes.
    fn take(&self, buffer: &mut [u8], wait: bool) -> Result<Option<Pulled<u64>>> {
        loop {
            let len = match sysv::receive(self.queue.id, buffer, wait).map_err(|e| (e.raw_os_error(), e)) {
                Ok(len) => len,
                Err((Some(EINTR), _)) if !wait => continue,
                Err((Some(EINTR | ENOMSG), _)) => return Ok(None),
                // It stays in the queue, before all others. This happens only if the limit was
                // raised meanwhile.
                Err((Some(E2BIG), _)) => match sysv::receive_cut(self.queue.id, buffer) {
                    Ok(len) => {
                        return Ok(Some(Pulled::refused(len, "a message larger than this end accepts, at least")));
                    }
                    Err(_) => continue,
                },
                Err((Some(EIDRM | EINVAL), _)) => return Err(removed()),
                Err((_, e)) => return Err(Error::io("receive from the queue", e)),
            };
            let (kind, text) = buffer.split_at(sysv::TYPE);
            if kind != WAKE.to_ne_bytes() || len > 0 {
                return Ok(Some(Pulled { start: sysv::TYPE, ..Pulled::new(len, sender_of(&text[..len])) }));
            }
            if wait {
                return Ok(None);
            }
        }
    }
}

impl Inlet for ReceivingEnd {
    /// A sender's epoch.
    type Source = u64;

    /// A whole frame does not name its sender. The queue loses nothing.
    const TRACKED: bool = false;

    /// The metronome wakes us.
    const PATIENCE: Duration = Duration::MAX;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<u64>> {
        if patience >= NEAR {
            if self.metronome.is_none() {
                self.metronome = Some(Metronome::start(self.queue.id, WAKE)?);
            }
            let _blocked = self.metronome.as_ref().map(Metronome::blocked);
            return self.take(buffer, true)?.ok_or(Error::Empty);
        }
        let deadline = Deadline::after(patience);
        let mut pauses = PAUSES;
        loop {
            if let Some(message) = self.take(buffer, false)? {
                return Ok(message);
            }
            let left = deadline.remaining();
            if patience.is_zero() || left.is_zero() {
                return Err(Error::Empty);
            }
            pauses.sleep(left);
        }
    }

    /// The queue keeps unreceived messages.
    fn stop(&mut self) -> Waiting {
        Waiting::Kept
    }

    /// All are dead if none is left. If some are left, we cannot know which.
    fn is_gone(&mut self, _: &u64) -> Result<bool> {
        match sysv::value(self.queue.semaphores, SENDERS) {
            Ok(senders) => Ok(senders == 0),
            Err(e) if matches!(e.raw_os_error(), Some(EIDRM | EINVAL)) => Ok(false), // the queue is about to be removed, too
            Err(e) => Err(Error::io("count the queue's senders", e)),
        }
    }
}
