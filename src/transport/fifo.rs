//! `fifo:PATH`: named pipes between unrelated processes, with several writers and one reader.
//!
//! Used by endpoints. Relies on `stream` for the ends.
//!
//! # Several writers
//! The kernel writes up to `PIPE_BUF` (4096) bytes in one piece (pipe(7)). So every write here is
//! at most that long and consists of whole frames: bytes of different writers do not mix, and a
//! killed writer leaves no part of a frame. A larger frame is sent in fragments of one write each.
//! Fragments name their sender (the TLV SENDER of `docs/framing.md`), as HELLO and BYE do, because
//! each writer has its own streams and sequence numbers. The receiver reassembles fragments by
//! sender and stream. It reports no gaps, because whole frames do not name their sender, and the
//! kernel loses nothing.
//!
//! Data of foreign programs (bytes that are no frames, another version, a foreign HELLO, a BYE that
//! names another sender or none) is reported or ignored. It ends no sender that names itself.
//!
//! # Joining and leaving
//! The reader opens the FIFO read-only, so that it sees the end when the last writer closes it or
//! is killed. If it opened the FIFO for writing as well, as is often advised, it would be a writer
//! itself and see no end. The end is [`Error::Closed`] if all senders sent BYE, else
//! [`Error::PeerDead`]. Every call returns it until a writer begins anew
//! ([`Receiver::wait_for_peer`]). A descriptor that has seen the last writer leave polls "hung up"
//! for ever, so the reader then continues with a new descriptor. The FIFO keeps its contents,
//! because the first descriptor stays open.
//!
//! # Access
//! The end that comes first creates the FIFO, with mode 0600. An existing one must belong to this
//! user or to root, must not be a symbolic link, and other users must not be able to write to it.
//! The one reader holds a lock (flock(2)), which the kernel releases when it dies.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat, mknodat, openat};
use rustix::io::Errno;

pub use super::stream::Sender;
use super::stream::{self, Options, Wire};
use super::{Capabilities, DeliveryOrder, FrameReceiver, pipe, retry};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Event, Form, OnCorrupt, Stats};
use crate::os::fork::LockFd;
use crate::os::owner;
use crate::os::poll::{self, Ready};
use crate::wait::deadline::Deadline;

/// The guarantees of FIFOs.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "fifo",
    order: DeliveryOrder::PerSender,
    lossless: true,
    boundaries: false,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

pub(crate) const NO_DIRECTORY: Error = Error::Invalid { what: "FIFO path: its directory does not exist: create it" };

const WIRE: Wire = Wire { capabilities: &CAPABILITIES, form: Form::Short, on_corrupt: OnCorrupt::Resync, features: 0 };

/// Opens the FIFO as one of its writers, waiting for a reader until the deadline.
///
/// # Errors
/// [`Error::Timeout`] if there is no reader; [`Error::Untrusted`] if the path is no FIFO, or
/// belongs to another user; [`Error::Unsupported`] for a pipe size that is not allowed;
/// [`Error::Io`].
///
/// ```
/// # let path = std::env::temp_dir().join(format!("slipring-doc-fifo-{}", std::process::id()));
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, fifo, stream::Options};
/// use slipring::{Deadline, Error};
/// // One process:
/// let mut rx = fifo::receiver(&path, &Options::new())?;
/// // Others, now and later:
/// for word in ["one", "two"] {
///     let mut tx = fifo::sender(&path, &Options::new(), Deadline::never())?;
///     tx.send(Header::PLAIN, word.as_bytes())?;
///     tx.close(Deadline::never())?;
///     assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == word.as_bytes()));
///     assert!(matches!(rx.recv(), Err(Error::Closed)));
/// }
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), Error>(())
/// ```
pub fn sender(path: impl AsRef<Path>, options: &Options, deadline: impl Into<Deadline>) -> Result<Sender> {
    pipe::check_size(options)?;
    let fifo = Fifo::at(path.as_ref())?;
    // The kernel has no call that waits for a reader.
    let fd = retry::until(deadline.into(), || fifo.open(OFlags::WRONLY))?.ok_or(Error::Timeout)?;
    fifo.check(&fd)?;
    pipe::set_size(&fd, options)?;
    stream::one_of_many(fd, WIRE, options)
}

/// Opens the FIFO as its reader. Does not wait for a writer.
///
/// # Errors
/// [`Error::RoleTaken`] while a living reader has it; otherwise as [`sender`].
pub fn receiver(path: impl AsRef<Path>, options: &Options) -> Result<Receiver> {
    pipe::check_size(options)?;
    let fifo = Fifo::at(path.as_ref())?;
    let first = LockFd::open(|| fifo.reader())?;
    match flock(first.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN) => return Err(Error::RoleTaken { role: "reader" }),
        locked => locked.map_err(|e| Error::io("lock the FIFO", e))?,
    }
    pipe::set_size(first.as_fd(), options)?;
    let stat = fstat(first.as_fd()).map_err(|e| Error::io("examine the FIFO", e))?;
    let inner = stream::receiver_of_many(fifo.reader()?, WIRE, options)?;
    Ok(Receiver { inner, fifo, identity: (stat.st_dev, stat.st_ino), first })
}

/// The receiving end of a FIFO.
#[derive(Debug)]
pub struct Receiver {
    inner: stream::Receiver,
    fifo: Fifo,
    /// Device and inode, because the path may lead to another file later.
    identity: (u64, u64),
    /// Holds the lock, and keeps the contents of the FIFO.
    first: LockFd,
}

impl Drop for Receiver {
    /// Closing is not enough: a child that another thread is starting has a copy of the descriptor
    /// until its `execve`. In a forked child this fails, as it should.
    fn drop(&mut self) {
        let _ = flock(self.first.as_fd(), FlockOperation::Unlock);
    }
}

impl Receiver {
    /// Waits until a writer has opened the FIFO, or bytes can be read.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Io`].
    pub fn wait_for_peer(&mut self, deadline: impl Into<Deadline>) -> Result<()> {
        self.begin_anew()?;
        let Some(fd) = self.inner.poll_fd() else { return Err(Error::Closed) };
        match poll::wait(fd, Ready::Read, deadline.into().remaining()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Timeout),
            Err(e) => Err(Error::io("wait for a writer", e)),
        }
    }

    /// The counters of the decoder: frames, bytes skipped, and so on.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// After an end: continues with a descriptor that has not seen it. If the FIFO was removed, or
    /// its name leads to another one, no writer can come any more, and the end remains.
    fn begin_anew(&mut self) -> Result<()> {
        if !self.inner.has_ended() {
            return Ok(());
        }
        match self.fifo.reader() {
            Ok(fresh) => {
                let stat = fstat(&fresh).map_err(|e| Error::io("examine the FIFO", e))?;
                if (stat.st_dev, stat.st_ino) == self.identity {
                    self.inner.renew(fresh)?;
                }
                Ok(())
            }
            Err(Error::NotFound | Error::Untrusted { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl FrameReceiver for Receiver {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        self.begin_anew()?;
        self.inner.try_recv()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.begin_anew()?;
        self.inner.recv_until(deadline)
    }

    fn expect_at_most(&mut self, frames: u64) {
        self.inner.expect_at_most(frames);
    }

    fn stop(&mut self) -> bool {
        self.inner.stop()
    }

    fn max_payload(&self) -> usize {
        self.inner.max_payload()
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }
}

/// Opens a FIFO by its path.
#[derive(Debug)]
struct Fifo {
    path: PathBuf,
}

impl Fifo {
    /// Creates it if it is missing.
    fn at(path: &Path) -> Result<Self> {
        match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(Fifo { path: path.to_owned() }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(NO_DIRECTORY),
            Err(e) => Err(Error::io("make the FIFO", e)),
        }
    }

    fn reader(&self) -> Result<OwnedFd> {
        let Some(fd) = self.open(OFlags::RDONLY)? else { return Err(Error::NotFound) };
        self.check(&fd)?;
        Ok(fd)
    }

    /// `None` if it has no reader.
    fn open(&self, access: OFlags) -> Result<Option<OwnedFd>> {
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(CWD, &self.path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::NOENT) => Err(Error::NotFound),
            Err(Errno::LOOP) => Err(Error::Untrusted { what: "the FIFO path is a symbolic link: name its target" }),
            Err(e) => Err(Error::io("open the FIFO", e)),
        }
    }

    fn check(&self, fd: &OwnedFd) -> Result<()> {
        let stat = fstat(fd).map_err(|e| Error::io("examine the FIFO", e))?;
        let what = if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            "there is something under this path that is no FIFO"
        } else if !owner::owns(fd.as_fd(), &stat) && stat.st_uid != 0 {
            "the FIFO belongs to another user"
        } else if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
            "others may write into the FIFO: chmod go-w it"
        } else {
            return Ok(());
        };
        Err(Error::Untrusted { what })
    }
}
