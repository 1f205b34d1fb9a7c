//! `pipe:`, `-`, `fd:N`: anonymous pipes between related processes, and descriptors that other code
//! opened.
//!
//! Used by endpoints, and by parents that exchange frames with a child. Relies on `stream` for the
//! ends and on `os/spawn.rs` to pass descriptors to a child.
//!
//! One sender writes into a pipe, so frames of any size are sent whole, in the short form; in a
//! regular file they have the long form. Bytes that are no frame are skipped and reported.
//! Processes that have inherited the same writing end may write one after the other, but not at the
//! same time; a [`fifo`](super::fifo) allows that.
//!
//! Writing to a pipe that no process reads is the end of the channel, and no signal: not even in a
//! program (of another language) for which `SIGPIPE` is deadly.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::{Child, Command};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::stream::{self, Options, Wire};
pub use super::stream::{Receiver, Sender};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, OnCorrupt};
use crate::os::spawn;

/// The guarantees of pipes.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "pipe",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: false,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: false,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

const WIRE: Wire = Wire { capabilities: &CAPABILITIES, form: Form::Short, on_corrupt: OnCorrupt::Resync, features: 0 };

/// A pipe inside this process: for threads, and for children made by `fork`.
///
/// # Errors
/// [`Error::Unsupported`] for a [pipe size](Options::pipe_size) that is not allowed; [`Error::Io`].
///
/// ```
/// use slipring::Deadline;
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, pipe, stream::Options};
/// let (mut tx, mut rx) = pipe::pair(&Options::new())?;
/// tx.send(Header::PLAIN, b"hello")?;
/// tx.close(Deadline::never())?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(options: &Options) -> Result<(Sender, Receiver)> {
    let (reader, writer) = new_pipe(options)?;
    Ok((sender(writer, options)?, receiver(reader, options)?))
}

/// Starts `command` with a pipe in each direction, which the child opens with [`inherited`], and
/// returns our two ends. The child's standard input and output do not change.
///
/// # Errors
/// [`Error::Io`] if the program cannot be started; otherwise as [`pair`].
///
/// ```
/// use slipring::transport::{pipe, stream::Options};
/// # let program = "true";
/// let (mut child, tx, rx) = pipe::spawn(std::process::Command::new(program), &Options::new())?;
/// assert!(child.wait().unwrap().success());
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn spawn(mut command: Command, options: &Options) -> Result<(Child, Sender, Receiver)> {
    let (their_reader, writer) = new_pipe(options)?;
    let (reader, their_writer) = new_pipe(options)?;
    let passed = spawn::hand_over(&mut command, vec![their_reader, their_writer]);
    passed.map_err(|e| Error::io("examine the pipe", e))?;
    let child = command.spawn().map_err(|e| Error::io("start the child", e))?;
    drop(command); // and with it our copies of the child's ends, so that the child's end is noticed
    Ok((child, sender(writer, options)?, receiver(reader, options)?))
}

/// In the child: returns the two ends of the pipes that the parent created with [`spawn`]; possible
/// once. Device and inode are compared, so that other descriptors are not adopted.
///
/// # Errors
/// [`Error::NotFound`] if the parent created none, or they were adopted or closed before;
/// [`Error::Io`].
///
/// ```
/// use slipring::transport::{pipe, stream::Options};
/// assert!(matches!(pipe::inherited(&Options::new()), Err(slipring::Error::NotFound)));
/// ```
pub fn inherited(options: &Options) -> Result<(Sender, Receiver)> {
    let fds: Option<[OwnedFd; 2]> = spawn::take_over().and_then(|fds| fds.try_into().ok());
    let [reader, writer] = fds.ok_or(Error::NotFound)?;
    Ok((sender(writer, options)?, receiver(reader, options)?))
}

/// Frames to standard output. The program must not print anything else to it.
///
/// # Errors
/// [`Error::Io`] if it is closed.
pub fn stdout(options: &Options) -> Result<Sender> {
    sender(own(io::stdout().as_fd().try_clone_to_owned())?, options)
}

/// Frames from standard input.
///
/// # Errors
/// [`Error::Io`] if it is closed.
pub fn stdin(options: &Options) -> Result<Receiver> {
    receiver(own(io::stdin().as_fd().try_clone_to_owned())?, options)
}

/// Frames to an open descriptor: a pipe, a socket, a file.
///
/// Its flag `O_NONBLOCK` is not changed.
///
/// # Errors
/// As [`pair`].
///
/// ```
/// use slipring::transport::{FrameSender, pipe, stream::Options};
/// use std::process::{Command, Stdio};
/// let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
/// let mut tx = pipe::sender(cat.stdin.take().unwrap().into(), &Options::new())?;
/// let mut rx = pipe::receiver(cat.stdout.take().unwrap().into(), &Options::new())?;
/// tx.send(slipring::frame::Header::PLAIN, b"there and back")?;
/// # use slipring::transport::FrameReceiver;
/// # use slipring::frame::Event;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"there and back"));
/// # drop(tx);
/// # cat.wait().unwrap();
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn sender(fd: OwnedFd, options: &Options) -> Result<Sender> {
    set_size(&fd, options)?;
    let wire = wire(&fd)?;
    stream::sender(fd, wire, options)
}

/// Frames from an open descriptor: a pipe, a socket, a file.
///
/// # Errors
/// As [`pair`].
pub fn receiver(fd: OwnedFd, options: &Options) -> Result<Receiver> {
    set_size(&fd, options)?;
    stream::receiver(fd, WIRE, options)
}

/// Frames both ways over one open descriptor: a stream socket.
///
/// # Errors
/// [`Error::Io`].
///
/// ```
/// use slipring::transport::{pipe, stream::Options};
/// let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
/// let (tx, rx) = pipe::duplex(ours.into(), &Options::new())?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn duplex(fd: OwnedFd, options: &Options) -> Result<(Sender, Receiver)> {
    stream::connection(fd, WIRE, options)
}

/// A duplicate of the descriptor with this number, for endpoints such as `fd:3`.
pub(crate) fn numbered(number: RawFd) -> Result<OwnedFd> {
    match spawn::duplicate(number) {
        Err(e) if e.raw_os_error() == Some(libc::EBADF) => {
            Err(Error::Invalid { what: "descriptor number: it is not open; the parent has to pass it, as in 3<file" })
        }
        copy => copy.map_err(|e| Error::io("duplicate the descriptor", e)),
    }
}

fn new_pipe(options: &Options) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::io("make a pipe", e))?;
    set_size(&writer, options)?;
    Ok((reader, writer))
}

/// Fails if no pipe can have the requested size, before a named one is created. System calls only
/// if a size was requested.
pub(crate) fn check_size(options: &Options) -> Result<()> {
    if options.pipe_size.is_some() { new_pipe(options).map(drop) } else { Ok(()) }
}

/// Sets the requested size, if there is one and the descriptor is a pipe.
pub(super) fn set_size(fd: impl AsFd, options: &Options) -> Result<()> {
    const WRONG: Error = Error::Invalid { what: "pipe size: 1 byte to 2 GiB" };
    let Some(size) = options.pipe_size else { return Ok(()) };
    if size > 1 << 31 {
        return Err(WRONG); // the kernel takes 32 bits
    }
    match fcntl_setpipe_size(fd, size) {
        Ok(_) | Err(Errno::BADF) => Ok(()),
        Err(Errno::PERM) => Err(Error::Unsupported { what: "a pipe of that size: raise /proc/sys/fs/pipe-max-size" }),
        Err(Errno::BUSY) => Err(Error::Unsupported { what: "a pipe smaller than what is in it" }),
        Err(Errno::INVAL) => Err(WRONG),
        Err(e) => Err(Error::io("set the size of the pipe", e)),
    }
}

/// Files get the long form, which detects damage.
fn wire(fd: &OwnedFd) -> Result<Wire> {
    let stat = fstat(fd).map_err(|e| Error::io("examine the descriptor", e))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(Wire { form: if is_file { Form::Long } else { Form::Short }, ..WIRE })
}

fn own(fd: io::Result<OwnedFd>) -> Result<OwnedFd> {
    fd.map_err(|e| Error::io("duplicate the descriptor", e))
}
