//! `mq:/NAME`: frames through a POSIX message queue (mq_overview(7)).
//!
//! Used by endpoints and programs. Relies on `os/mq.rs`, and on `message/` for everything except
//! the queue itself.
//!
//! A queue and its messages exist until it is removed, independent of any process. Several senders
//! may share one. It has one receiver at a time, because HELLO, BYE and the fragments of a frame
//! must all reach the same one.
//!
//! * **Limits** are those of `/proc/sys/fs/mqueue`; an existing queue is used as it is, unless
//!   particular limits were requested.
//! * **Priorities**: control frames overtake data, except HELLO and BYE, which must keep their
//!   order.
//! * **Liveness**: a sender locks the byte of the queue that its epoch names, the receiver byte
//!   2^62. The kernel releases such a lock when its holder dies, so the receiver can distinguish a
//!   dead sender from a silent one.
//! * **Waiting** for a message without a deadline is one call, `mq_timedreceive`, of 50 ms. It uses
//!   a clock that can be set: if the clock is set back meanwhile, a sender's death is noticed that
//!   much later. With a deadline, and at a full queue, `poll` is used instead.

mod manage;
mod open;

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};

pub use self::manage::{Listed, is_in_use, list, remove, remove_if_unused};
pub(crate) use self::open::check;
use self::open::{enter, leave_gate};
use super::message::{Habit, Inbox, Inlet, Outbox, Outlet, Pulled, WAIT_LIMIT, Waiting, Wire, receiver, sender};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, Header, control, sender_of};
use crate::os::fork::LockFd;
use crate::os::poll::{Ready, wait};
use crate::os::{lock, mq};
use crate::wait::deadline::Deadline;

/// The guarantees of POSIX message queues.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "mq",
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

/// The receiver's byte; senders have those below.
const RECEIVER: u64 = 1 << 62;
const DATA: u32 = 0;
const URGENT: u32 = 1;

/// How to open a queue: start from [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    messages: Option<usize>,
    message_size: Option<usize>,
    max_payload: usize,
    create: bool,
}

impl Default for Options {
    /// The queue is created if it is missing, with 10 messages of 8,192 bytes, or what the system
    /// allows.
    fn default() -> Self {
        Options { messages: None, message_size: None, max_payload: DEFAULT_MAX_PAYLOAD, create: true }
    }
}

impl Options {
    /// How many messages the queue holds. An existing queue must have the same number.
    #[must_use]
    pub fn messages(mut self, messages: usize) -> Self {
        self.messages = Some(messages);
        self
    }

    /// Bytes of the queue's largest message, at least 128. An existing queue must have the same
    /// size. Larger frames are sent in fragments.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message_size = Some(bytes);
        self
    }

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
/// use slipring::transport::{FrameReceiver, FrameSender, mq};
/// # let name = format!("/slipring-doc-mq-{}", std::process::id());
/// let mut tx = mq::Sender::open(&name, &mq::Options::default())?;
/// let mut rx = mq::Receiver::open(&name, &mq::Options::default())?;
/// tx.send(Header::PLAIN, b"hello")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
/// mq::remove(&name)?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Sender(Outbox<Queue>);

impl Sender {
    /// Opens the queue `name`, which is `/` and 1 to 128 of `A-Z a-z 0-9 . _ -`; creates it if
    /// necessary. Some five system calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another name; [`Error::Incompatible`] if the queue has other limits
    /// than requested, or the system's limits are lower; [`Error::NotFound`]; [`Error::Untrusted`]
    /// for a queue of another user, or one that other users may write to; [`Error::Unsupported`] if
    /// the kernel has no queues, or no more of them; [`Error::Io`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        let (fd, shape) = enter(name, options)?;
        let wire = Wire { form: Form::Short, identified: true, message: shape.message_size };
        Outbox::open(wire, options.max_payload, |epoch| {
            lock::try_lock(fd.as_fd(), byte_of(epoch))
                .map_err(|e| Error::io("lock the sender's byte of the queue", e))?;
            leave_gate(&fd)?;
            Ok(Queue { fd, habit: Habit::default(), message: Vec::with_capacity(shape.message_size) })
        })
        .map(Sender)
    }
}

sender!(Sender);

/// The receiving end of a queue. One at a time. Examples: [`Sender`].
pub struct Receiver(Inbox<Queue>);

impl Receiver {
    /// Opens the queue, as [`Sender::open`] does.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] if another receiver has it; otherwise as [`Sender::open`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        let (fd, shape) = enter(name, options)?;
        match lock::try_lock(fd.as_fd(), RECEIVER) {
            Ok(true) => {}
            Ok(false) => return Err(Error::RoleTaken { role: "receiver" }),
            Err(e) => return Err(Error::io("lock the receiver's byte of the queue", e)),
        }
        leave_gate(&fd)?;
        fcntl_setfl(fd.as_fd(), OFlags::empty()).map_err(|e| Error::io("make the queue blocking", e))?;
        let queue = Queue { fd, habit: Habit::default(), message: Vec::new() };
        Ok(Receiver(Inbox::new(queue, shape.message_size, options.max_payload)))
    }
}

receiver!(Receiver);

/// An open queue, for either end.
struct Queue {
    fd: LockFd,
    habit: Habit,
    /// The buffer in which a message is assembled; a queue takes one piece.
    message: Vec<u8>,
}

impl Outlet for Queue {
    fn push(&mut self, header: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        self.message.clear();
        self.message.extend_from_slice(head);
        self.message.extend_from_slice(payload);
        let in_order = !header.is_control() || matches!(header.kind, control::HELLO | control::BYE);
        let priority = if in_order { DATA } else { URGENT };
        loop {
            match mq::send(self.fd.as_fd(), &self.message, priority) {
                Err(e) if e.raw_os_error() == Some(libc::EINTR) => {}
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => return Err(Error::Full),
                sent => return sent.map_err(|e| Error::io("send to the message queue", e)),
            }
        }
    }

    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        poll(&self.fd, Ready::Write, deadline.remaining()).map(drop)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

impl Inlet for Queue {
    /// A sender's epoch.
    type Source = u64;

    /// A whole frame does not identify its sender. The queue loses nothing.
    const TRACKED: bool = false;

    /// Without a deadline, `pull` itself waits.
    const PATIENCE: Duration = Duration::MAX;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<u64>> {
        if patience == Duration::MAX {
            return self.take(buffer, WAIT_LIMIT)?.ok_or(Error::Empty); // also after a signal: the caller makes its own checks
        }
        let patience = patience.min(WAIT_LIMIT);
        if patience.is_zero() || !self.habit.expects_to_wait() {
            match self.take(buffer, Duration::ZERO)? {
                Some(message) => return Ok(message),
                None => self.habit.waited(),
            }
        }
        if patience.is_zero() || !poll(&self.fd, Ready::Read, patience)? {
            return Err(Error::Empty);
        }
        self.take(buffer, Duration::ZERO)?.ok_or(Error::Empty)
    }

    /// The queue keeps unreceived messages.
    fn stop(&mut self) -> Waiting {
        Waiting::Kept
    }

    fn is_gone(&mut self, epoch: &u64) -> Result<bool> {
        let locked = lock::is_locked(self.fd.as_fd(), byte_of(*epoch));
        locked.map(|locked| !locked).map_err(|e| Error::io("examine a sender's byte of the queue", e))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

impl Queue {
    /// Receives one message, if one arrives within `patience` and before a signal.
    fn take(&self, buffer: &mut [u8], patience: Duration) -> Result<Option<Pulled<u64>>> {
        loop {
            match mq::receive_within(self.fd.as_fd(), buffer, patience) {
                Ok(len) => return Ok(Some(Pulled::new(len, sender_of(&buffer[..len])))),
                Err(e) if e.kind() == ErrorKind::Interrupted && patience.is_zero() => {}
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::TimedOut) => return Ok(None),
                Err(e) => return Err(Error::io("receive from the message queue", e)),
            }
        }
    }
}

/// The byte that a sender locks.
fn byte_of(epoch: u64) -> u64 {
    epoch % RECEIVER
}

fn poll(fd: &LockFd, ready: Ready, patience: Duration) -> Result<bool> {
    wait(fd.as_fd(), ready, patience).map_err(|e| Error::io("poll the message queue", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_never_lock_the_receivers_byte() {
        for epoch in [0, 1, RECEIVER - 1, RECEIVER, RECEIVER + 1, u64::MAX] {
            assert!(byte_of(epoch) < RECEIVER);
        }
    }
}
