//! Signals, and the ends of processes, as frames.
//!
//! Used by programs that wait for frames already, and by the command line to close in order. Relies
//! on `os/signal.rs` and on pidfds.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::{Errno, read};

use super::cell::Bell;
use super::sender::{has_ended, open_process};
use super::{CAPABILITIES, Signo, block_everywhere};
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header, control};
use crate::os::poll::{Ready, wait};
use crate::os::signal::{self, Info};
use crate::transport::{Capabilities, FrameReceiver};
use crate::wait::deadline::Deadline;

/// Receives DOORBELL control frames whose payload is a [`Bell`]: [`Bell::SIGNALLED`] with the
/// number of a signal that has come, [`Bell::ENDED`] with the pid of a process that has ended.
///
/// A signal that is sent several times before it is read may be reported once. Without signals, the
/// notifier is closed when all its processes have ended.
///
/// ```
/// use slipring::frame::Event;
/// use slipring::transport::{FrameReceiver, signal::{Bell, Notifier}};
/// let mut child = std::process::Command::new("true").spawn().unwrap();
/// let mut notifier = Notifier::new()?;
/// notifier.on_end(child.id())?;
/// let Event::Frame(frame) = notifier.recv()? else { unreachable!() };
/// assert_eq!(Bell::from_payload(frame.payload), Some(Bell::new(Bell::ENDED, child.id())?));
/// assert!(matches!(notifier.recv(), Err(slipring::Error::Closed)));
/// child.wait().unwrap();
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Notifier {
    /// Readable when one of the other descriptors is.
    epoll: OwnedFd,
    signals: Vec<OwnedFd>,
    processes: Vec<(u32, OwnedFd)>,
    bells: VecDeque<Bell>,
    /// The payload that was returned last.
    payload: [u8; 8],
}

impl Notifier {
    /// A notifier without signals or processes. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::io("make an epoll descriptor", e))?;
        Ok(Notifier { epoll, signals: Vec::new(), processes: Vec::new(), bells: VecDeque::new(), payload: [0; 8] })
    }

    /// Reports these signals, which are blocked from now on and have no other effect. Some three
    /// system calls, and three for each thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a thread of this process has not blocked them: see
    /// [`block`](super::block); [`Error::Io`].
    pub fn on_signals(&mut self, signals: &[Signo]) -> Result<()> {
        block_everywhere(signals)?;
        let numbers: Vec<i32> = signals.iter().map(|signo| signo.get()).collect();
        let fd = signal::descriptor(&numbers).map_err(|e| Error::io("make a descriptor of the signals", e))?;
        self.watch(&fd)?;
        self.signals.push(fd);
        Ok(())
    }

    /// Reports the end of a process, which need not be a child. Two system calls.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such process, or it has ended; [`Error::Invalid`];
    /// [`Error::Io`].
    pub fn on_end(&mut self, pid: u32) -> Result<()> {
        let process = open_process(pid)?;
        self.watch(&process)?;
        self.processes.push((pid, process));
        Ok(())
    }

    fn watch(&self, fd: &OwnedFd) -> Result<()> {
        let added = epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        added.map_err(|e| Error::io("watch a descriptor", e))
    }

    /// Collects new events, if none of the last ones are left.
    fn look(&mut self) -> Result<()> {
        if !self.bells.is_empty() {
            return Ok(());
        }
        for fd in &self.signals {
            let mut info = [0; Info::LEN];
            loop {
                match read(fd, &mut info) {
                    Ok(_) => self.bells.push_back(Bell::new(Bell::SIGNALLED, Info::decode(&info).signal)?),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(e) => return Err(Error::io("read signals", e)),
                }
            }
        }
        let mut at = 0;
        while let Some((pid, process)) = self.processes.get(at) {
            if has_ended(process, Duration::ZERO)? {
                self.bells.push_back(Bell::new(Bell::ENDED, *pid)?);
                self.processes.swap_remove(at); // closing it removes it from the epoll descriptor
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Option<Deadline>) -> Result<Event<'_>> {
        let bell = loop {
            self.look()?;
            if let Some(bell) = self.bells.pop_front() {
                break bell;
            }
            if self.signals.is_empty() && self.processes.is_empty() {
                return Err(Error::Closed);
            }
            let Some(deadline) = deadline else { return Err(Error::Empty) };
            if deadline.has_passed() {
                return Err(Error::Timeout);
            }
            let waited = wait(self.epoll.as_fd(), Ready::Read, deadline.remaining());
            waited.map_err(|e| Error::io("poll for signals", e))?;
        };
        self.payload = bell.payload();
        Ok(Event::Frame(Frame::new(Header::control(control::DOORBELL, 0)?, &self.payload)?))
    }
}

impl FrameReceiver for Notifier {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        self.receive(None)
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.receive(Some(deadline))
    }

    fn max_payload(&self) -> usize {
        self.payload.len()
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}
