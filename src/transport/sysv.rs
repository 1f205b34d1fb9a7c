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

mod metronome;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libc::{E2BIG, EACCES, EAGAIN, EEXIST, EIDRM, EINTR, EINVAL, ENOENT, ENOMSG, ENOSPC, ENOSYS, EPERM, ERANGE};
use rustix::process::geteuid;

use super::message::{Inbox, Inlet, Outbox, Outlet, Pulled, WAIT_LIMIT, Waiting, Wire, receiver, sender};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, Header, sender_of};
use crate::os::pauses::Pauses;
use crate::os::{fork, sysv};
use crate::wait::deadline::Deadline;
use metronome::Metronome;

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

/// The semaphores.
const SENDERS: u16 = 0;
const RECEIVERS: u16 = 1;
const MARK: u16 = 2;
const SEMAPHORES: u16 = 3;
/// What a remover adds to the senders, so that no end can be counted: the largest value of a
/// semaphore.
const CLOSED: i16 = i16::MAX;
/// How long an end waits for a remover.
const PATIENCE: Duration = Duration::from_secs(5);
/// The value of the third semaphore: the sync bytes of a frame, as a number.
const MARKED: u16 = 0x52B7;

/// The key of a queue: a number that both ends know, or a path that both ends see.
///
/// ```
/// use slipring::transport::sysv::Key;
/// assert_eq!(Key::parse("0x51")?, Key::number(81)?);
/// assert!(Key::parse("/etc/passwd")? != Key::parse("/etc/group")?);
/// assert!(Key::parse("0").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(i32);

impl Key {
    /// A key by number, not 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0, which means a queue that cannot be found (`IPC_PRIVATE`).
    pub fn number(key: u32) -> Result<Self> {
        match key {
            0 => Err(Error::Invalid { what: "key of a queue: 0 is reserved, choose another number" }),
            key => Ok(Key(key as i32)),
        }
    }

    /// The key `ftok(path, 's')`: 0x73, the lower 8 bits of the device, the lower 16 bits of the
    /// inode of the file, which must exist. Two files may have the same key; a file that is removed
    /// and created again has another key.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such file; [`Error::Io`].
    pub fn path(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::Invalid { what: "key of a queue: the path must be that of a file that exists" })
            }
            Err(e) => Err(Error::io("examine the file that names the queue", e)),
            Ok(file) => {
                let (device, inode) = (file.dev() as u32 & 0xFF, file.ino() as u32 & 0xFFFF);
                Ok(Key((u32::from(b's') << 24 | device << 16 | inode) as i32))
            }
        }
    }

    /// Parses a number, decimal or with `0x`, or else a path (`./7` for a file of that name).
    ///
    /// # Errors
    /// As [`Key::number`] and [`Key::path`]; [`Error::Invalid`] for a number above 32 bits.
    pub fn parse(text: &str) -> Result<Self> {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
        if radix == 10 && !digits.bytes().all(|digit| digit.is_ascii_digit()) || text.is_empty() {
            return Self::path(Path::new(text));
        }
        match u32::from_str_radix(digits, radix) {
            Ok(key) if !digits.starts_with('+') => Self::number(key),
            _ => Err(Error::Invalid { what: "key of a queue: must be a 32-bit number, or the path of a file" }),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0 as u32
    }
}

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

/// Removes a queue with its messages, and its semaphores. Senders that have it open get
/// [`Error::Closed`], receivers an [`Error::Io`] of kind `NotFound`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Untrusted`] if it is another user's; [`Error::Io`].
pub fn remove(key: Key) -> Result<()> {
    remove_both(sysv::queue(key.0, false), || sysv::semaphores(key.0, SEMAPHORES, false))
}

/// Removes a queue that no sender or receiver of this crate has open, if `wanted` returns true for
/// the number of its messages. No other process can open the queue meanwhile. Returns whether it
/// was removed.
///
/// # Errors
/// As [`remove`]; [`Error::Incompatible`] for a queue of another program, whose users cannot be
/// counted.
///
/// ```
/// # let file = std::env::temp_dir().join(format!("slipring-doc-sysv-remove-{}", std::process::id()));
/// # std::fs::write(&file, b"").unwrap();
/// use slipring::transport::sysv::{self, Key, Options, Sender};
/// let key = Key::path(&file)?;
/// let tx = Sender::open(key, &Options::default())?;
/// assert!(!sysv::remove_if_unused(key, |_| true)?);
/// drop(tx);
/// assert!(sysv::remove_if_unused(key, |_| true)?);
/// # std::fs::remove_file(file).unwrap();
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn remove_if_unused(key: Key, wanted: impl FnOnce(u64) -> bool) -> Result<bool> {
    let id = find(false, |create| sysv::queue(key.0, create))?;
    let set = match find(false, |create| sysv::semaphores(key.0, SEMAPHORES, create)) {
        Ok(set) => set,
        Err(Error::NotFound) => return Err(another_programs(0)),
        Err(error) => return Err(error),
    };
    match sysv::value(set, MARK).map_err(|e| vanished("examine the queue's semaphores", e))? {
        mark if mark == i32::from(MARKED) => {}
        mark => return Err(another_programs(mark)),
    }
    let steps = [sysv::Step::Zero(SENDERS), sysv::Step::Zero(RECEIVERS), sysv::Step::Add(SENDERS, CLOSED)];
    match sysv::operate(set, &steps).map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => {}
        Err((Some(EAGAIN), _)) => return Ok(false),
        Err((_, e)) => return Err(vanished("close the queue for its removal", e)),
    }
    let state = sysv::queue_state(id).map_err(|e| vanished("examine the queue", e));
    if state.is_ok_and(|state| wanted(state.messages)) {
        return remove_both(Ok(id), || Ok(set)).map(|()| true);
    }
    sysv::operate(set, &[sysv::Step::Add(SENDERS, -CLOSED)]).map_err(|e| vanished("open the queue again", e))?;
    Ok(false)
}

fn remove_both(queue: std::io::Result<i32>, semaphores: impl FnOnce() -> std::io::Result<i32>) -> Result<()> {
    let removed = |result: std::io::Result<()>| match result.map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => Ok(true),
        Err((Some(ENOENT | EIDRM | EINVAL), _)) => Ok(false),
        Err((Some(EPERM | EACCES), _)) => Err(Error::Untrusted { what: FOREIGN }),
        Err((_, e)) => Err(Error::io("remove the queue", e)),
    };
    let queue = removed(queue.and_then(sysv::remove_queue))?;
    if let Ok(set) = semaphores() {
        if sysv::value(set, MARK).is_ok_and(|mark| mark == i32::from(MARKED)) {
            removed(sysv::remove_semaphores(set))?;
        }
    }
    if queue { Ok(()) } else { Err(Error::NotFound) }
}

/// An existing queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Messages in it now.
    pub messages: u64,
    /// Bytes in it now.
    pub bytes: u64,
    /// Living senders.
    pub senders: u32,
    /// Living receivers: 0 or 1.
    pub receivers: u32,
}

/// This user's queues that this crate has created. Reads `/proc/sysvipc/msg`; four system calls for
/// each queue in it.
///
/// # Errors
/// [`Error::Unsupported`] where the kernel has no such list; [`Error::Io`].
pub fn list() -> Result<Vec<Listed>> {
    let table = std::fs::read_to_string("/proc/sysvipc/msg").map_err(|_| Error::Unsupported {
        what: "a list of System V queues: no /proc/sysvipc/msg (is /proc mounted?)",
    })?;
    Ok(table.lines().skip(1).filter_map(listed).collect())
}

/// A line of the table: key, msqid, perms, cbytes, qnum, lspid, lrpid, uid, and so on
/// (proc_sysvipc(5)).
fn listed(line: &str) -> Option<Listed> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let [key, _, _, bytes, messages, _, _, uid, ..] = fields[..] else { return None };
    let key = Key(key.parse().ok()?);
    if uid.parse() != Ok(geteuid().as_raw()) {
        return None;
    }
    let set = sysv::semaphores(key.0, SEMAPHORES, false).ok()?;
    let value = |semaphore| sysv::value(set, semaphore).ok();
    (value(MARK)? == i32::from(MARKED)).then_some(Listed {
        key,
        messages: messages.parse().ok()?,
        bytes: bytes.parse().ok()?,
        senders: value(SENDERS)?.unsigned_abs(),
        receivers: value(RECEIVERS)?.unsigned_abs(),
    })
}

const FOREIGN: &str = "the queue belongs to another user, or is open to others: choose another key";

fn another_programs(mark: i32) -> Error {
    const WHAT: &str = "semaphores under the queue's key, which are another program's: choose another key";
    Error::Incompatible { what: WHAT, expected: MARKED.into(), found: u64::from(mark.unsigned_abs()) }
}

/// A queue and its semaphores, opened and checked.
#[derive(Clone, Copy)]
struct Queue {
    id: i32,
    semaphores: i32,
    /// Bytes of its largest message.
    message: usize,
    /// Bytes of all its messages together.
    capacity: usize,
}

impl Queue {
    /// Opens the queue and takes a role. If another process removes the queue meanwhile, or is
    /// about to, tries again.
    fn enter(key: Key, create: bool, semaphore: u16) -> Result<(Self, Seat)> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let entered = Self::open(key, create).and_then(|queue| {
                let seat = Seat::take(queue.semaphores, semaphore)?;
                sysv::queue_state(queue.id).map_err(|e| vanished("examine the queue", e))?;
                Ok((queue, seat))
            });
            match entered {
                Err(Error::NotFound) if create && !deadline.has_passed() => {}
                Err(Error::TooManyParticipants { .. }) if !deadline.has_passed() => {}
                entered => return entered,
            }
            std::thread::sleep(SHORTEST_PAUSE);
        }
    }

    fn open(key: Key, create: bool) -> Result<Self> {
        let id = find(create, |create| sysv::queue(key.0, create))?;
        let state = sysv::queue_state(id).map_err(|e| vanished("examine the queue", e))?;
        if state.uid != geteuid().as_raw() || state.mode & 0o066 != 0 {
            return Err(Error::Untrusted { what: FOREIGN });
        }
        let semaphores = find(true, |create| sysv::semaphores(key.0, SEMAPHORES, create))?;
        match sysv::value(semaphores, MARK).map_err(|e| vanished("examine the queue's semaphores", e))? {
            // It is new, created by us or by another process that has not marked it yet; both store
            // the same mark.
            0 => sysv::set_value(semaphores, MARK, MARKED).map_err(|e| vanished("mark the queue's semaphores", e))?,
            mark if mark == i32::from(MARKED) => {}
            mark => return Err(another_programs(mark)),
        }
        let limit = std::fs::read_to_string("/proc/sys/kernel/msgmax").ok().and_then(|max| max.trim().parse().ok());
        let message = limit.unwrap_or(8192).min(state.capacity);
        if message < Wire::MIN_MESSAGE {
            const WHAT: &str = "largest message (/proc/sys/kernel/msgmax, msgmnb), at least";
            let (expected, found) = (Wire::MIN_MESSAGE as u64, message as u64);
            return Err(Error::Incompatible { what: WHAT, expected, found });
        }
        Ok(Queue { id, semaphores, message, capacity: state.capacity })
    }
}

/// How often to retry when other processes keep creating and removing the key.
const ATTEMPTS: usize = 100;

/// Opens the existing queue or, if allowed, creates it.
fn find(create: bool, open: impl Fn(bool) -> std::io::Result<i32>) -> Result<i32> {
    for _ in 0..ATTEMPTS {
        match open(false) {
            Err(e) if e.raw_os_error() == Some(ENOENT) => {}
            opened => return opened.map_err(|e| refusal("open the queue", e)),
        }
        if !create {
            break;
        }
        match open(true) {
            Err(e) if e.raw_os_error() == Some(EEXIST) => {}
            created => return created.map_err(|e| refusal("create the queue", e)),
        }
    }
    Err(Error::NotFound)
}

/// Translates the errors of opening, with what to do about them.
fn refusal(op: &'static str, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(EACCES | EPERM) => Error::Untrusted { what: FOREIGN },
        Some(ENOSPC) => Error::Unsupported {
            what: "another System V queue: remove some (`ipcs`, `ipcrm`), or raise /proc/sys/kernel/msgmni or sem",
        },
        Some(ENOSYS) => Error::Unsupported { what: "System V queues: this kernel was built without CONFIG_SYSVIPC" },
        // From `semget`: the existing set has fewer semaphores than ours.
        Some(EINVAL) => Error::Incompatible {
            what: "semaphores under the queue's key, which are another program's (choose another key)",
            expected: SEMAPHORES.into(),
            found: 0,
        },
        Some(EIDRM) => Error::NotFound,
        _ => Error::io(op, error),
    }
}

/// The same for calls on a queue that may have been removed since it was opened.
fn vanished(op: &'static str, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(EIDRM | EINVAL) => Error::NotFound,
        _ => refusal(op, error),
    }
}

/// A participant's 1 in a semaphore, which the kernel reverts when the process ends.
struct Seat {
    set: i32,
    semaphore: u16,
    born: u32,
}

/// The sets at which this program is the receiver, each with the [`fork::generation`] in which it
/// became it.
///
/// The kernel reverts a count at the end of the process, but not at `execve`. So a program that
/// `execve` has started may find that its process is the receiver already, although the program has
/// not opened the queue. Then its predecessor was the receiver, and only this process can give the
/// role up.
static RECEIVING: Mutex<Vec<(i32, u32)>> = Mutex::new(Vec::new());

/// Whether a predecessor in this process is the receiver.
fn is_left_behind(set: i32, receiving: &[(i32, u32)]) -> bool {
    !receiving.contains(&(set, fork::generation()))
        && sysv::last_changed_by(set, RECEIVERS).is_ok_and(|pid| pid == std::process::id())
        && sysv::value(set, RECEIVERS).is_ok_and(|seats| seats == 1)
}

impl Seat {
    /// [`Error::TooManyParticipants`] also while the queue is being removed; [`Error::NotFound`] if
    /// it has been.
    fn take(set: i32, semaphore: u16) -> Result<Self> {
        let steps = [sysv::Step::Zero(semaphore), sysv::Step::Add(semaphore, 1)];
        // A receiver changes the number of senders, too, which the kernel refuses while the queue
        // is being removed.
        let open = [sysv::Step::Add(SENDERS, 1), sysv::Step::Add(SENDERS, -1)];
        let steps = if semaphore == RECEIVERS { [open, steps].concat() } else { steps[1..].to_vec() };
        let mut receiving = RECEIVING.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match sysv::operate(set, &steps).map_err(|e| (e.raw_os_error(), e)) {
                Ok(()) => break,
                Err((Some(EINTR), _)) => {}
                Err((Some(EAGAIN), _)) if is_left_behind(set, &receiving) => break,
                Err((Some(EAGAIN), _)) => return Err(Error::RoleTaken { role: "receiver" }),
                Err((Some(ERANGE), _)) => return Err(Error::TooManyParticipants { max: 32_767 }),
                Err((_, e)) => return Err(vanished("take a seat at the queue", e)),
            }
        }
        let born = fork::generation();
        if semaphore == RECEIVERS {
            receiving.push((set, born));
        }
        Ok(Seat { set, semaphore, born })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // A child made by `fork` does not inherit its parent's `SEM_UNDO`, and has no role.
        if self.born != fork::generation() {
            return;
        }
        let mut receiving = RECEIVING.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sysv::operate(self.set, &[sysv::Step::Add(self.semaphore, -1)]);
        if self.semaphore == RECEIVERS {
            receiving.retain(|seat| *seat != (self.set, self.born));
        }
    }
}

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
                    Ok(len) => return Ok(Some(Pulled::refused(len, "a message larger than this end takes, at least"))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_paths() {
        for (text, key) in [("1", 1), ("4294967295", u32::MAX), ("0xfFfFffff", u32::MAX), ("0x51", 0x51)] {
            assert_eq!(Key::parse(text).unwrap().get(), key);
        }
        for text in ["", "0", "0x0", "0x", "0x+1", "4294967296", "0x100000000", "/nonexistent/file", "-1"] {
            assert!(matches!(Key::parse(text), Err(Error::Invalid { .. })), "{text:?}");
        }
        assert_eq!(Key::parse("/").unwrap().get() >> 24, u32::from(b's'));
    }

    #[test]
    fn lines_of_the_table_that_make_no_sense_are_skipped() {
        for line in ["", "1 2 3", "x 0 600 0 0 0 0 0 0", "1 0 600 0 0 0 0 4000000000 0 0 0 0 0 0"] {
            assert_eq!(listed(line), None);
        }
    }
}
