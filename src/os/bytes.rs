//! Reading and writing byte streams (pipes, FIFOs, stream sockets, terminals, files), blocking or
//! not.
//!
//! Used by `transport/`. Each call says whether it may block; `O_NONBLOCK` is not used for that.
//! The flag belongs to the open file description, which an inherited descriptor shares with other
//! processes. This module leaves it alone on such descriptors and works whether or not it is set.
//!
//! | | without waiting | waiting |
//! |---|---|---|
//! | socket | `MSG_DONTWAIT` | plain; `MSG_NOSIGNAL` always |
//! | pipe | `RWF_NOWAIT` (Linux 6.4), else as below | plain |
//! | anything else | `poll`, then read, or write at most `PIPE_BUF` bytes | plain |
//! | FIFO to read, opened by us | `RWF_NOWAIT`, else plain with `O_NONBLOCK` for its time | plain |
//! | FIFO to write, opened by us with `O_NONBLOCK` | plain | plain, then `poll` |
//!
//! If a plain call returns `EAGAIN`, this module polls and tries again. `EINTR` is retried. Writing
//! to a pipe without a reader is `EPIPE`, whether or not the program ignores `SIGPIPE`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, fcntl_setfl, fstat};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, read, writev};
use rustix::net::sockopt::socket_domain;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

use super::fork;
use super::poll::{self, Ready};
use super::sigpipe;

/// The size up to which a write to a pipe is atomic (pipe(7)), and the least room in a pipe that
/// polls writable.
pub(crate) const PIPE_BUF: usize = 4096;

/// How many reads of 4 KiB drain a TCP socket at close before a peer that keeps sending is cut off.
const LEFTOVERS: usize = 64;

/// An open descriptor and how to use it without waiting.
#[derive(Debug)]
pub(crate) struct ByteFd {
    fd: OwnedFd,
    way: Way,
    /// Writes are guarded from `SIGPIPE`.
    guarded: bool,
    born: u32,
}

#[derive(Debug)]
enum Way {
    Socket,
    /// `RWF_NOWAIT`; the flag is cleared when the kernel turns out not to support it.
    NoWait(AtomicBool),
    Poll,
    /// The reading end of a FIFO whose description no other process shares. A nonblocking read
    /// distinguishes "no writer" from "nothing yet", which `poll` cannot. The flag is as above.
    Ours(AtomicBool),
    NonBlocking,
}

impl ByteFd {
    /// Wraps any descriptor. At most two system calls.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let way = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Way::Socket,
            FileType::Fifo => Way::NoWait(AtomicBool::new(true)),
            _ => Way::Poll,
        };
        Ok(Self::by(way, fd))
    }

    /// Wraps a descriptor that the caller opened with `O_NONBLOCK` and that no other process
    /// shares.
    pub(crate) fn nonblocking(fd: OwnedFd) -> Self {
        Self::by(Way::NonBlocking, fd)
    }

    fn by(way: Way, fd: OwnedFd) -> Self {
        let guarded = matches!(way, Way::NoWait(_) | Way::NonBlocking) && sigpipe::is_deadly();
        ByteFd { fd, way, guarded, born: fork::generation() }
    }

    /// Wraps the reading end of a FIFO that the caller opened with `O_NONBLOCK` (required) and that
    /// no other process shares. One system call.
    pub(crate) fn ours(fd: OwnedFd) -> Result<Self, Errno> {
        fcntl_setfl(&fd, OFlags::empty())?;
        Ok(Self::by(Way::Ours(AtomicBool::new(true)), fd))
    }

    /// Whether it was created in the parent process, before a fork.
    pub(crate) fn is_the_parents(&self) -> bool {
        self.born != fork::generation()
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.way, Way::Socket)
    }

    /// Whether the descriptor is a pipe or a FIFO.
    pub(crate) fn is_pipe(&self) -> bool {
        !matches!(self.way, Way::Socket | Way::Poll)
    }

    /// Reads the available bytes; 0 at the end of the stream. If there are none: `EAGAIN`, or
    /// blocks if `wait` is set.
    pub(crate) fn read(&self, buffer: &mut [u8], wait: bool) -> Result<usize, Errno> {
        loop {
            let done = match &self.way {
                Way::Socket => {
                    let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
                    recv(&self.fd, &mut *buffer, flags).map(|(_, n)| n)
                }
                Way::NoWait(works) | Way::Ours(works) if !wait && works.load(Ordering::Relaxed) => {
                    let mut parts = [IoSliceMut::new(buffer)];
                    let done = preadv2(&self.fd, &mut parts, u64::MAX, ReadWriteFlags::NOWAIT);
                    if matches!(done, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) {
                        works.store(false, Ordering::Relaxed);
                        continue;
                    }
                    done
                }
                Way::NoWait(_) | Way::Poll if !wait && !self.poll(Ready::Read, Duration::ZERO)? => Err(Errno::AGAIN),
                Way::Ours(_) if !wait => self.read_briefly(buffer),
                Way::NoWait(_) | Way::Poll | Way::Ours(_) | Way::NonBlocking => read(&self.fd, &mut *buffer),
            };
            match done {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait => {
                    self.poll(Ready::Read, Duration::MAX)?;
                }
                done => return done,
            }
        }
    }

    /// Writes as many bytes of the parts as there is room for, at least one. If there is no room:
    /// `EAGAIN`, or blocks if `wait` is set.
    #[inline]
    pub(crate) fn write(&self, parts: &[IoSlice<'_>], wait: bool) -> Result<usize, Errno> {
        if self.guarded {
            sigpipe::without(|| self.write_plainly(parts, wait))
        } else {
            self.write_plainly(parts, wait)
        }
    }

    fn write_plainly(&self, parts: &[IoSlice<'_>], wait: bool) -> Result<usize, Errno> {
        loop {
            let done = match &self.way {
                Way::Socket => {
                    let flags = if wait { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
                    match parts {
                        [part] => send(&self.fd, part, flags),
                        parts => sendmsg(&self.fd, parts, &mut SendAncillaryBuffer::default(), flags),
                    }
                }
                Way::NoWait(works) if !wait && works.load(Ordering::Relaxed) => {
                    let done = pwritev2(&self.fd, parts, u64::MAX, ReadWriteFlags::NOWAIT);
                    if matches!(done, Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)) {
                        works.store(false, Ordering::Relaxed);
                        continue;
                    }
                    done
                }
                Way::NoWait(_) | Way::Poll if !wait => {
                    if self.poll(Ready::Write, Duration::ZERO)? {
                        self.write_a_little(parts)
                    } else {
                        Err(Errno::AGAIN)
                    }
                }
                Way::NoWait(_) | Way::Poll | Way::Ours(_) | Way::NonBlocking => writev(&self.fd, parts),
            };
            match done {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait => {
                    self.poll(Ready::Write, Duration::MAX)?;
                }
                done => return done,
            }
        }
    }

    /// Before Linux 6.4: a nonblocking read on a descriptor that no other process shares.
    fn read_briefly(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        fcntl_setfl(&self.fd, OFlags::NONBLOCK)?;
        let done = read(&self.fd, buffer);
        fcntl_setfl(&self.fd, OFlags::empty())?;
        done
    }

    /// Writes at most what a descriptor that polls writable takes without blocking.
    fn write_a_little(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let mut room = PIPE_BUF;
        let mut few = [IoSlice::new(&[]); 3];
        for (few, part) in few.iter_mut().zip(parts) {
            let part: &[u8] = &part[..part.len().min(room)];
            room -= part.len();
            *few = IoSlice::new(part);
        }
        writev(&self.fd, &few)
    }

    /// Waits until the descriptor is readable or writable, or the other side has hung up. False if
    /// `timeout` ends first.
    pub(crate) fn poll(&self, ready: Ready, timeout: Duration) -> Result<bool, Errno> {
        poll::wait(self.fd.as_fd(), ready, timeout)
    }
}

impl Drop for ByteFd {
    /// Drains a TCP socket before closing it: one that is closed with unread bytes resets the
    /// connection, which may lose sent bytes on the way. A Unix socket is not drained: nothing sent
    /// on it is lost, and its reset tells the peer that its bytes were not read.
    fn drop(&mut self) {
        let is_unix = || socket_domain(&self.fd).is_ok_and(|family| family == AddressFamily::UNIX);
        if self.is_socket() && !self.is_the_parents() && !is_unix() {
            let mut nowhere = [0; 4096];
            for _ in 0..LEFTOVERS {
                if !matches!(self.read(&mut nowhere, false), Ok(1..)) {
                    return;
                }
            }
        }
    }
}

impl AsFd for ByteFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn ways() -> Vec<(&'static str, ByteFd, ByteFd)> {
        let pipe = |flags| pipe_with(PipeFlags::CLOEXEC | flags).unwrap();
        let (r, w) = pipe(PipeFlags::empty());
        let (old_r, old_w) = pipe(PipeFlags::empty());
        let old = |fd| ByteFd::by(Way::NoWait(AtomicBool::new(false)), fd);
        let (nr, nw) = pipe(PipeFlags::NONBLOCK);
        let (our_r, our_w) = pipe(PipeFlags::NONBLOCK);
        let (brief_r, brief_w) = pipe(PipeFlags::NONBLOCK);
        let brief = |fd| {
            fcntl_setfl(&fd, OFlags::empty()).unwrap();
            ByteFd::by(Way::Ours(AtomicBool::new(false)), fd)
        };
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        vec![
            ("pipe", ByteFd::new(r).unwrap(), ByteFd::new(w).unwrap()),
            ("pipe before Linux 6.4", old(old_r), old(old_w)),
            ("nonblocking", ByteFd::nonblocking(nr), ByteFd::nonblocking(nw)),
            ("ours", ByteFd::ours(our_r).unwrap(), ByteFd::nonblocking(our_w)),
            ("ours before Linux 6.4", brief(brief_r), ByteFd::nonblocking(brief_w)),
            ("socket", ByteFd::new(a.into()).unwrap(), ByteFd::new(b.into()).unwrap()),
        ]
    }

    #[test]
    fn no_call_waits_unless_it_may() {
        for (name, reader, writer) in ways() {
            let mut buffer = [0; 65_536];
            assert_eq!(reader.read(&mut buffer, false), Err(Errno::AGAIN), "{name}");
            let chunk = [7; 10_000];
            let parts = [IoSlice::new(&chunk[..1]), IoSlice::new(&chunk), IoSlice::new(&chunk[..3])];
            let mut written = 0;
            let full = loop {
                match writer.write(&parts, false) {
                    Ok(n) => written += n,
                    Err(error) => break error,
                }
            };
            assert_eq!(full, Errno::AGAIN, "{name}");
            assert!(written >= 4096, "{name}");
            let mut read = 0;
            while read < written {
                read += reader.read(&mut buffer, true).unwrap();
            }
            assert_eq!(reader.read(&mut buffer, false), Err(Errno::AGAIN), "{name}");
            drop(writer);
            // A child that another test is starting has a copy of it until its `execve`.
            assert_eq!(reader.read(&mut buffer, true), Ok(0), "{name}");
            assert_eq!(reader.read(&mut buffer, false), Ok(0), "{name}");
        }
    }

    #[test]
    fn waiting_works_on_a_descriptor_made_nonblocking_elsewhere() {
        for (name, reader, writer) in ways() {
            for fd in [&reader, &writer] {
                fcntl_setfl(fd, OFlags::NONBLOCK).unwrap();
            }
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut left = 300_000;
                    while left > 0 {
                        left -= writer.write(&[IoSlice::new(&vec![1; left])], true).unwrap();
                    }
                });
                let (mut read, mut buffer) = (0, [0; 65_536]);
                while read < 300_000 {
                    read += reader.read(&mut buffer, true).unwrap();
                }
                assert_eq!(read, 300_000, "{name}");
            });
        }
    }
}
