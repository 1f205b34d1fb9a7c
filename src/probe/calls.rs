//! The bare blocking calls of queues and queued signals, for which no crate in use has safe
//! wrappers.
//!
//! Used by `slipring bench transports`, which compares frames with them. Relies on `os/`. Each call
//! is one system call, without a header, a timeout, or a check of the peer: it waits for ever for a
//! peer that has exited.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, read};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use crate::error::{Error, Result};
use crate::os::signal::Info;
use crate::os::{mq, signal, sysv};
use crate::transport::signal::{Signo, block};

/// A POSIX message queue: `mq_send` and `mq_receive`.
///
/// ```
/// use slipring::{probe::MqCalls, transport::mq};
/// # let name = format!("/slipring-doc-calls-{}", std::process::id());
/// let queue = MqCalls::open(&name, 64)?;
/// mq::remove(&name)?; // who has it open keeps it
/// queue.send(b"hello")?;
/// let mut buffer = [0; 64];
/// assert_eq!(queue.receive(&mut buffer)?, 5);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct MqCalls(OwnedFd);

impl MqCalls {
    /// Opens or creates the queue, for four messages of at most `size` bytes. Two to four system
    /// calls.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name with a zero in it; [`Error::Io`].
    pub fn open(name: &str, size: usize) -> Result<Self> {
        let name = CString::new(name).map_err(|_| Error::Invalid { what: "queue name: it has a zero in it" })?;
        let shape = mq::Attributes { messages: 4, message_size: size };
        let opened = match mq::open(&name, Some(shape)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => mq::open(&name, None),
            created => created,
        };
        let queue = opened.map_err(|e| Error::io("open the message queue", e))?;
        wait_inside(&queue)?;
        Ok(MqCalls(queue))
    }

    /// Sends a message; waits for room. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn send(&self, message: &[u8]) -> Result<()> {
        uninterrupted(|| mq::send(self.0.as_fd(), message, 0)).map_err(|e| Error::io("send to the message queue", e))
    }

    /// Waits for a message and returns its length. `buffer` must have room for the largest message.
    /// One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        uninterrupted(|| mq::receive(self.0.as_fd(), buffer))
            .map_err(|e| Error::io("receive from the message queue", e))
    }
}

/// A System V message queue: `msgsnd` and `msgrcv`.
///
/// ```
/// use slipring::probe::SysvCalls;
/// let mut ours = SysvCalls::create()?;
/// let mut theirs = SysvCalls::with_id(ours.id());
/// theirs.send(b"hello")?;
/// assert_eq!(ours.receive()?, b"hello");
/// ours.remove()?;
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct SysvCalls {
    id: i32,
    /// A type, and the text.
    message: Vec<u8>,
}

impl SysvCalls {
    /// Bytes of the largest message, which every kernel allows.
    pub const LARGEST: usize = 8192;

    /// Creates a queue without a key (`IPC_PRIVATE`), which exists until it is removed. One system
    /// call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create() -> Result<Self> {
        sysv::queue(0, true).map(Self::with_id).map_err(|e| Error::io("create a System V queue", e))
    }

    /// The queue that another process created.
    #[must_use]
    pub fn with_id(id: i32) -> Self {
        SysvCalls { id, message: vec![0; sysv::TYPE + Self::LARGEST] }
    }

    /// The id by which other processes find the queue.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Sends without waiting: a full queue is an error. One system call.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Io`].
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        let whole = self.message.get_mut(..sysv::TYPE + message.len()).ok_or(Error::TooLarge { max: Self::LARGEST })?;
        whole[..sysv::TYPE].copy_from_slice(&1u64.to_ne_bytes());
        whole[sysv::TYPE..].copy_from_slice(message);
        uninterrupted(|| sysv::send(self.id, whole)).map_err(|e| Error::io("send to the queue", e))
    }

    /// Waits for a message. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn receive(&mut self) -> Result<&[u8]> {
        let received = uninterrupted(|| sysv::receive(self.id, &mut self.message, true));
        let len = received.map_err(|e| Error::io("receive from the queue", e))?;
        Ok(&self.message[sysv::TYPE..sysv::TYPE + len])
    }

    /// Removes the queue, even if it is in use. One system call.
    ///
    /// # Errors
    /// [`Error::Io`], also if the queue has been removed.
    pub fn remove(&self) -> Result<()> {
        sysv::remove_queue(self.id).map_err(|e| Error::io("remove the queue", e))
    }
}

/// Queued signals to another process: `pidfd_send_signal`. The process must have the signal
/// blocked, or it ends.
#[derive(Debug)]
pub struct SignalSends {
    process: OwnedFd,
    signo: Signo,
    uid: u32,
}

impl SignalSends {
    /// Opens the process `pid` for sending. One system call.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such process.
    pub fn open(pid: u32, signo: Signo) -> Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Error::NotFound)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| Error::NotFound)?;
        Ok(SignalSends { process, signo, uid: geteuid().as_raw() })
    }

    /// Queues one signal with a value. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn send(&self, value: u64) -> Result<()> {
        let sent = uninterrupted(|| signal::queue(self.process.as_fd(), self.signo.get(), self.uid, value));
        sent.map_err(|e| Error::io("queue a signal", e))
    }
}

/// Queued signals to this process: `read` from a signalfd.
///
/// ```no_run
/// use slipring::{probe::{SignalReceives, SignalSends}, transport::signal::Signo};
/// let signo = Signo::realtime(7)?;
/// let mut rx = SignalReceives::open(signo)?;
/// SignalSends::open(std::process::id(), signo)?.send(42)?;
/// assert_eq!(rx.receive()?.collect::<Vec<_>>(), [42]);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct SignalReceives {
    descriptor: OwnedFd,
    infos: Box<[u8]>,
}

impl SignalReceives {
    /// The most signals that one read takes.
    pub const AT_ONCE: usize = 32;

    /// Blocks the signal in this thread, and opens a descriptor to read it. Three system calls.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(signo: Signo) -> Result<Self> {
        block(&[signo])?;
        let descriptor = signal::descriptor(&[signo.get()]);
        let descriptor = descriptor.map_err(|e| Error::io("make a descriptor of the signal", e))?;
        wait_inside(&descriptor)?;
        Ok(SignalReceives { descriptor, infos: vec![0; Self::AT_ONCE * Info::LEN].into() })
    }

    /// Waits for signals, and returns the values of those that have come. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn receive(&mut self) -> Result<impl Iterator<Item = u64>> {
        let len = loop {
            match read(&self.descriptor, &mut *self.infos) {
                Err(Errno::INTR) => {}
                read => break read.map_err(|e| Error::io("read signals", e))?,
            }
        };
        let infos = self.infos[..len].chunks_exact(Info::LEN).filter_map(|info| info.first_chunk());
        Ok(infos.map(|info| Info::decode(info).value))
    }
}

/// Makes calls on the descriptor block.
fn wait_inside(fd: &OwnedFd) -> Result<()> {
    fcntl_setfl(fd, OFlags::empty()).map_err(|e| Error::io("clear O_NONBLOCK", e))
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
