//! Listing and removing queues.
//!
//! Used by programs that look after queues, such as the command line's `ls`, `rm` and `gc`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::fstat;

use super::Options;
use super::open::{AT_GATE, GATE, checked_name, open};
use crate::error::{Error, Result};
use crate::os::{lock, mq};

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
