//! The kernel's transports, between processes, with the plain blocking calls: one system call per
//! message sent.
//!
//! - `Pipe`: 1 MiB if that is allowed (`F_SETPIPE_SZ`); messages of up to 4 KiB are written whole
//!   (`PIPE_BUF`). The reader takes as much as there is, up to 64 KiB.
//! - `UnixStream`: a socket pair, read in the same way. `UnixPacket`: the same with boundaries
//!   (`SOCK_SEQPACKET`), one message per call.
//! - `PosixMq`: as many messages as the system allows without asking (10 by default), one per call.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use zerocopy::IntoBytes;

use crate::ends::{Peer, Receiver, Sender};
use crate::job::{Link, Result};

/// The most bytes that one `read` takes.
const READ: usize = 64 << 10;

/// Writes each message with one call.
pub(crate) struct Writer(File);

impl<const W: usize> Sender<W> for Writer {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        self.0.write_all(message.as_bytes()).expect("write");
    }
}

/// Reads as many bytes as there are, and splits them into messages.
pub(crate) struct Reader {
    file: File,
    buffer: Vec<u8>,
    /// Bytes in the buffer.
    len: usize,
}

impl<const W: usize> Receiver<W> for Reader {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        while self.len < 8 * W {
            let n = self.file.read(&mut self.buffer[self.len..]).expect("read");
            assert!(n > 0, "the writer has ended");
            self.len += n;
        }
        let whole = self.len - self.len % (8 * W);
        self.buffer[..whole].chunks_exact(8 * W).for_each(&mut read);
        self.buffer.copy_within(whole..self.len, 0);
        self.len -= whole;
    }
}

/// Reads each message with one call.
pub(crate) struct PacketReader<const W: usize>(File);

impl<const W: usize> Receiver<W> for PacketReader<W> {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let mut message = [0u64; W];
        let n = self.0.read(message.as_mut_bytes()).expect("read");
        read(&message.as_bytes()[..n]);
    }
}

fn writer(link: &Link) -> Result<Writer> {
    Ok(Writer(link.inherited(1)?.into()))
}

fn reader(link: &Link) -> Result<Reader> {
    Ok(Reader { file: link.inherited(0)?.into(), buffer: vec![0; READ], len: 0 })
}

pub(crate) struct Pipe;

impl Peer for Pipe {
    type Sender<const W: usize> = Writer;
    type Receiver<const W: usize> = Reader;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // An unprivileged user may not enlarge it: then it keeps its size.
        let _ = fcntl_setpipe_size(&writer, link.bytes.min(1 << 20));
        Ok(vec![reader, writer])
    }

    fn sender<const W: usize>(link: &Link) -> Result<Writer> {
        writer(link)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Reader> {
        reader(link)
    }
}

fn sockets(kind: SocketType) -> Result<Vec<OwnedFd>> {
    let (a, b) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok(vec![a, b])
}

pub(crate) struct UnixStream;

impl Peer for UnixStream {
    type Sender<const W: usize> = Writer;
    type Receiver<const W: usize> = Reader;

    fn create(_link: &Link) -> Result<Vec<OwnedFd>> {
        sockets(SocketType::STREAM)
    }

    fn sender<const W: usize>(link: &Link) -> Result<Writer> {
        writer(link)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<Reader> {
        reader(link)
    }
}

pub(crate) struct UnixPacket;

impl Peer for UnixPacket {
    type Sender<const W: usize> = Writer;
    type Receiver<const W: usize> = PacketReader<W>;

    fn create(_link: &Link) -> Result<Vec<OwnedFd>> {
        sockets(SocketType::SEQPACKET)
    }

    fn sender<const W: usize>(link: &Link) -> Result<Writer> {
        writer(link)
    }

    fn receiver<const W: usize>(link: &Link) -> Result<PacketReader<W>> {
        Ok(PacketReader(link.inherited(0)?.into()))
    }
}

/// `Ok` unless `result` is negative.
fn check<N: Into<i64> + Copy>(what: &str, result: N) -> Result<N> {
    if result.into() < 0 { Err(format!("{what}: {}", std::io::Error::last_os_error()).into()) } else { Ok(result) }
}

pub(crate) struct PosixMq;

/// One end of a message queue: a descriptor, on Linux.
pub(crate) struct MqEnd<const W: usize>(OwnedFd, PhantomData<[u64; W]>);

impl<const W: usize> Sender<W> for MqEnd<W> {
    fn send(&mut self, write: impl FnOnce(&mut [u8])) {
        let mut message = [0u64; W];
        write(message.as_mut_bytes());
        // SAFETY: reads 8 × W bytes from the message, which has that many.
        let sent = unsafe { libc::mq_send(self.0.as_raw_fd(), message.as_ptr().cast(), 8 * W, 0) };
        check("mq_send", sent).expect("send");
    }
}

impl<const W: usize> Receiver<W> for MqEnd<W> {
    fn recv(&mut self, mut read: impl FnMut(&[u8])) {
        let mut message = [0u64; W];
        let (fd, to) = (self.0.as_raw_fd(), message.as_mut_ptr().cast());
        // SAFETY: writes at most 8 × W bytes to the message, which has that many.
        let n = unsafe { libc::mq_receive(fd, to, 8 * W, std::ptr::null_mut()) };
        read(&message.as_bytes()[..check("mq_receive", n as i64).expect("receive") as usize]);
    }
}

impl Peer for PosixMq {
    type Sender<const W: usize> = MqEnd<W>;
    type Receiver<const W: usize> = MqEnd<W>;

    fn create(link: &Link) -> Result<Vec<OwnedFd>> {
        let most = std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max").unwrap_or_default();
        let name = CString::new(format!("/{}", link.unique_name()))?;
        // SAFETY: plain numbers, for which all zeros is a value.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        attributes.mq_maxmsg = most.trim().parse().unwrap_or(10);
        attributes.mq_msgsize = link.size.try_into()?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        // SAFETY: the name ends with a NUL, and the attributes are only read.
        let queue = check("mq_open", unsafe { libc::mq_open(name.as_ptr(), flags, 0o600, &raw const attributes) })?;
        // SAFETY: just opened, and owned by nothing else.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // SAFETY: the name ends with a NUL.
        check("mq_unlink", unsafe { libc::mq_unlink(name.as_ptr()) })?;
        Ok(vec![queue])
    }

    fn sender<const W: usize>(link: &Link) -> Result<MqEnd<W>> {
        Ok(MqEnd(link.inherited(0)?, PhantomData))
    }

    fn receiver<const W: usize>(link: &Link) -> Result<MqEnd<W>> {
        Ok(MqEnd(link.inherited(0)?, PhantomData))
    }
}
