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

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fcntl_setfl, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

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

/// The default size of a queue's largest message in bytes, where the system allows it.
const DEFAULT_MESSAGE_SIZE: usize = 8192;
/// The default number of messages in a queue, where the system allows it.
const DEFAULT_MESSAGES: usize = 10;
/// The receiver's byte; senders have those below.
const RECEIVER: u64 = 1 << 62;
/// The byte that openers of the queue hold shared while they lock their own, and a remover
/// exclusively: see [`remove_if_unused`].
const GATE: u64 = RECEIVER + 1;

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

/// Unlinks the name of a queue. Open queues keep working; the messages are lost when the last one
/// is closed.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Invalid`], [`Error::Io`].
pub fn remove(name: &str) -> Result<()> {
    match mq::unlink(&checked_name(name)?) {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Err(Error::NotFound),
        removed => removed.map_err(|e| Error::io("remove the message queue", e)),
    }
}

/// Unlinks the name of a queue that no sender or receiver of this crate has open, if `wanted`
/// returns true. No other process can open it meanwhile. Returns whether it was unlinked.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Untrusted`] if it is another user's, [`Error::Invalid`],
/// [`Error::Io`].
///
/// ```
/// use slipring::transport::mq::{self, Options};
/// let name = format!("/slipring-doc-remove-{}", std::process::id());
/// let tx = mq::Sender::open(&name, &Options::default().messages(2))?;
/// assert!(!mq::remove_if_unused(&name, || true)?);
/// drop(tx);
/// assert!(mq::remove_if_unused(&name, || true)?);
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn remove_if_unused(name: &str, wanted: impl FnOnce() -> bool) -> Result<bool> {
    let existing = Options::default().create(false);
    let (fd, _) = open(name, &existing)?;
    lock::insist(|| lock::try_lock(fd.as_fd(), GATE)).map_err(|e| Error::io(AT_GATE, e))?; // held until `fd` is dropped
    let identity = |fd: &OwnedFd| {
        fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).map_err(|e| Error::io("examine the message queue", e))
    };
    if identity(&open(name, &existing)?.0)? != identity(&fd)? {
        return Err(Error::NotFound); // removed, and created again
    }
    let removed = !is_locked(&fd)? && wanted();
    if removed {
        remove(name)?;
    }
    Ok(removed)
}

/// An existing queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name, with the leading `/`.
    pub name: String,
    /// How many messages it holds at most.
    pub messages: usize,
    /// Bytes of its largest message.
    pub message_size: usize,
    /// Bytes in it now.
    pub bytes: u64,
    /// Whether a sender or a receiver of this crate has it open. (Other programs are not visible.)
    pub in_use: bool,
}

/// Whether a sender or a receiver of this crate has the queue open. (Other programs are not
/// visible.) Some six system calls.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Untrusted`] if it is another user's, [`Error::Invalid`],
/// [`Error::Io`].
///
/// ```
/// use slipring::transport::mq::{self, Options};
/// let name = format!("/slipring-doc-in-use-{}", std::process::id());
/// let tx = mq::Sender::open(&name, &Options::default().messages(2))?;
/// assert!(mq::is_in_use(&name)?);
/// drop(tx);
/// assert!(!mq::is_in_use(&name)?);
/// mq::remove(&name)?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn is_in_use(name: &str) -> Result<bool> {
    is_locked(&open(name, &Options::default().create(false))?.0)
}

fn is_locked(queue: &OwnedFd) -> Result<bool> {
    lock::is_any_locked(queue.as_fd()).map_err(|e| Error::io("examine the queue's locks", e))
}

/// This user's queues, including those of other programs, sorted by name. Some seven system calls
/// each.
///
/// # Errors
/// [`Error::Unsupported`] if the file system that lists them is not mounted on `/dev/mqueue`;
/// [`Error::Io`].
pub fn list() -> Result<Vec<Listed>> {
    const DIRECTORY: &str = "/dev/mqueue";
    let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|e| Error::io("read /proc/self/mounts", e))?;
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(DIRECTORY)) {
        let what = "a list of message queues: mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue";
        return Err(Error::Unsupported { what });
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(DIRECTORY).map_err(|e| Error::io("read /dev/mqueue", e))? {
        let entry = entry.map_err(|e| Error::io("read /dev/mqueue", e))?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("/{name}")) else { continue };
        let Ok((fd, shape)) = open(&name, &Options::default().create(false)) else { continue }; // not ours, or removed
        let status = std::fs::read_to_string(entry.path()).unwrap_or_default(); // "QSIZE:129 NOTIFY:0 …"
        let bytes = status.strip_prefix("QSIZE:").and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        found.push(Listed {
            name,
            messages: shape.messages,
            message_size: shape.message_size,
            bytes: bytes.unwrap_or(0),
            in_use: is_locked(&fd)?,
        });
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

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

/// How often to retry when other processes keep creating and removing the name.
const ATTEMPTS: usize = 100;

const AT_GATE: &str = "lock the queue against its removal, or for it";

/// Opens the queue; its name cannot be removed before [`leave_gate`].
fn enter(name: &str, options: &Options) -> Result<(LockFd, mq::Attributes)> {
    for _ in 0..ATTEMPTS {
        let (fd, shape) = open_to_lock(name, options)?;
        lock::insist(|| lock::try_lock_shared(fd.as_fd(), GATE)).map_err(|e| Error::io(AT_GATE, e))?;
        if fstat(fd.as_fd()).map_err(|e| Error::io("examine the message queue", e))?.st_nlink > 0 {
            return Ok((fd, shape));
        }
    }
    Err(Error::NotFound)
}

fn leave_gate(queue: &LockFd) -> Result<()> {
    lock::unlock(queue.as_fd(), GATE).map_err(|e| Error::io(AT_GATE, e))
}

/// As [`open`], for an end that will lock a byte: forked children do not keep the lock.
fn open_to_lock(name: &str, options: &Options) -> Result<(LockFd, mq::Attributes)> {
    let fd = LockFd::open(|| open(name, options).map(|(fd, _)| fd))?;
    let shape = shape_of(fd.as_fd())?;
    Ok((fd, shape))
}

fn open(name: &str, options: &Options) -> Result<(OwnedFd, mq::Attributes)> {
    let name = checked_name(name)?;
    for _ in 0..ATTEMPTS {
        match mq::open(&name, None) {
            Ok(fd) => return checked_queue(fd, options),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(refusal(e, None)),
        }
        if !options.create {
            return Err(Error::NotFound);
        }
        let shape = shape(options)?;
        match mq::open(&name, Some(shape)) {
            Ok(fd) => return Ok((fd, shape)),
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            Err(e) => return Err(refusal(e, Some(shape))),
        }
    }
    Err(Error::NotFound)
}

/// Checks what opening the queue would refuse. Creates nothing.
pub(crate) fn check(name: &str, options: &Options) -> Result<()> {
    match open(name, &options.clone().create(false)) {
        Err(Error::NotFound) if options.create => shape(options).map(drop),
        opened => opened.map(drop),
    }
}

fn checked_name(name: &str) -> Result<CString> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let valid = name
        .strip_prefix('/')
        .is_some_and(|rest| (1..=128).contains(&rest.len()) && rest.bytes().all(allowed) && !rest.starts_with('.'));
    const WRONG: Error = Error::Invalid {
        what: "queue name: must be / and 1 to 128 of A-Z a-z 0-9 . _ - without a leading dot, as in /ticks",
    };
    if valid { CString::new(name).map_err(|_| WRONG) } else { Err(WRONG) }
}

/// Checks that an existing queue is ours and has the requested limits.
fn checked_queue(fd: OwnedFd, options: &Options) -> Result<(OwnedFd, mq::Attributes)> {
    let stat = fstat(&fd).map_err(|e| Error::io("examine the message queue", e))?;
    if stat.st_uid != geteuid().as_raw() {
        return Err(Error::Untrusted { what: "the message queue belongs to another user" });
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(Error::Untrusted {
            what: "other users may send to the message queue: remove it, and it will be created with mode 0600",
        });
    }
    let shape = shape_of(fd.as_fd())?;
    expect("messages in the existing queue", options.messages, shape.messages)?;
    expect("message size of the existing queue", options.message_size, shape.message_size)?;
    if shape.message_size < Wire::MIN_MESSAGE {
        let (expected, found) = (Wire::MIN_MESSAGE as u64, shape.message_size as u64);
        return Err(Error::Incompatible { what: "least message size of the existing queue", expected, found });
    }
    Ok((fd, shape))
}

fn shape_of(queue: BorrowedFd<'_>) -> Result<mq::Attributes> {
    mq::attributes(queue).map_err(|e| Error::io("read the limits of the message queue", e))
}

fn expect(what: &'static str, asked: Option<usize>, found: usize) -> Result<()> {
    match asked {
        Some(asked) if asked != found => Err(Error::Incompatible { what, expected: asked as u64, found: found as u64 }),
        _ => Ok(()),
    }
}

/// The limits of a new queue: the requested ones, or as much of the default as the system allows.
fn shape(options: &Options) -> Result<mq::Attributes> {
    let messages = options.messages.unwrap_or_else(|| DEFAULT_MESSAGES.min(limit("msg_max").unwrap_or(usize::MAX)));
    let message_size =
        options.message_size.unwrap_or_else(|| DEFAULT_MESSAGE_SIZE.min(limit("msgsize_max").unwrap_or(usize::MAX)));
    if messages == 0 || message_size < Wire::MIN_MESSAGE {
        return Err(Error::Invalid { what: "limits of a queue: must be at least 1 message of at least 128 bytes" });
    }
    Ok(mq::Attributes { messages, message_size })
}

/// A limit of `/proc/sys/fs/mqueue`.
fn limit(name: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).ok()?.trim().parse().ok()
}

/// Translates the errors of mq_open(3), with what to do about them.
fn refusal(error: std::io::Error, created: Option<mq::Attributes>) -> Error {
    const USED_UP: &str = "another message queue: RLIMIT_MSGQUEUE is used up; remove queues, ask for fewer or smaller \
                           messages, or raise it (`ulimit -q`)";
    let too_much = |what, asked: usize, limit: Option<usize>| {
        let limit = limit.filter(|limit| asked > *limit)?;
        Some(Error::Incompatible { what, expected: asked as u64, found: limit as u64 })
    };
    match (error.raw_os_error().map(Errno::from_raw_os_error), created) {
        (Some(Errno::ACCESS), _) => {
            Error::Untrusted { what: "the message queue belongs to another user, who does not share it" }
        }
        (Some(Errno::MFILE | Errno::NOMEM), Some(_)) => Error::Unsupported { what: USED_UP },
        (Some(Errno::NOSPC), _) => {
            Error::Unsupported { what: "another message queue: raise /proc/sys/fs/mqueue/queues_max, or remove queues" }
        }
        (Some(Errno::NOSYS), _) => {
            Error::Unsupported { what: "POSIX message queues: this kernel was built without CONFIG_POSIX_MQUEUE" }
        }
        (Some(Errno::INVAL), Some(shape)) => {
            const SIZE: &str = "message size: raise /proc/sys/fs/mqueue/msgsize_max, or ask for less";
            const COUNT: &str = "number of messages: raise /proc/sys/fs/mqueue/msg_max, or ask for fewer";
            too_much(SIZE, shape.message_size, limit("msgsize_max"))
                .or_else(|| too_much(COUNT, shape.messages, limit("msg_max")))
                .unwrap_or_else(|| Error::io("create the message queue", error))
        }
        _ => Error::io("open the message queue", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in
            ["", "/", "x", "/a/b", "//", "/.hidden", "/a b", "/\u{e9}", "/a\0", &format!("/{}", "n".repeat(129))]
        {
            assert!(matches!(checked_name(name), Err(Error::Invalid { .. })), "{name:?}");
        }
        assert!(checked_name("/a.b-c_D9").is_ok());
    }

    #[test]
    fn senders_never_lock_the_receivers_byte() {
        for epoch in [0, 1, RECEIVER - 1, RECEIVER, RECEIVER + 1, u64::MAX] {
            assert!(byte_of(epoch) < RECEIVER);
        }
    }
}
