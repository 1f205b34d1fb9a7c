//! Signals to cells to frames.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, read};

use super::cell::{Assembly, CHUNK, Cell, Made};
use super::sender::{has_ended, open_process};
use super::{CAPABILITIES, Options, block_everywhere};
use crate::error::{Error, Result};
use crate::frame::{Form, Frame, Header, SHORT, control};
use crate::os::poll::{Ready, wait};
use crate::os::signal::{self, Info};
use crate::transport::message::{Habit, Inbox, Inlet, Pulled, receiver};
use crate::transport::socket::peer::is_allowed;
use crate::wait::deadline::Deadline;

/// Signals read at once.
const BATCH: usize = 32;
/// The number of remembered senders. Beyond it, senders without an unfinished message are dropped
/// first.
const MAX_SENDERS: usize = 1024;

/// The receiving end of everything that is sent to this process by one signal. A second receiver in
/// the same process would get a part of it.
///
/// ```no_run
/// use slipring::frame::Event;
/// use slipring::transport::{FrameReceiver, signal};
/// // The first thing in `main`: a thread that has not blocked the signal would be ended by it, with the process.
/// signal::block(&[signal::Signo::realtime(0)?])?;
/// let mut rx = signal::Receiver::open(&signal::Options::default())?;
/// match rx.recv()? {
///     Event::Frame(frame) => match signal::Bell::from_payload(frame.payload) {
///         Some(bell) if frame.header.is_control() => println!("channel {} is at {}", bell.channel(), bell.value()),
///         _ => println!("{} bytes", frame.payload.len()),
///     },
///     other => eprintln!("{other:?}"),
/// }
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Receiver(Inbox<Signals>);

impl Receiver {
    /// Blocks the signal in this thread, and opens a descriptor to receive it in any thread. The
    /// signal stays blocked afterwards. Some three system calls, and three for each thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a thread of this process has not blocked it: see
    /// [`block`](super::block); [`Error::Invalid`]; [`Error::Io`].
    pub fn open(options: &Options) -> Result<Self> {
        let signo = options.checked_signo()?;
        block_everywhere(&[signo])?;
        let fd = signal::descriptor(&[signo.get()]).map_err(|e| Error::io("make a descriptor of the signal", e))?;
        let signals = Signals::new(fd, options.uids.clone(), options.message());
        Ok(Receiver(Inbox::new(signals, options.message(), options.max_payload)))
    }
}

receiver!(Receiver);

struct Signals {
    fd: OwnedFd,
    uids: Vec<u32>,
    /// Bytes of the largest message.
    limit: usize,
    /// The signals that were read, and how many of them were processed.
    read: [u8; BATCH * Info::LEN],
    taken: usize,
    len: usize,
    habit: Habit,
    senders: Vec<Talking>,
    /// Bytes of unfinished messages that were dropped for room, to be reported.
    crowded: usize,
}

/// A sender, as signals identify it: a process and a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source {
    pid: u32,
    lane: u8,
}

struct Talking {
    source: Source,
    process: Process,
    assembly: Assembly,
}

/// A sender's process.
enum Process {
    Watched(OwnedFd),
    /// It had ended when its first signal was read.
    Ended,
    /// No descriptor was left for a pidfd, so its pid is checked.
    Unwatched,
}

impl Signals {
    fn new(fd: OwnedFd, uids: Vec<u32>, limit: usize) -> Self {
        Signals {
            fd,
            uids,
            limit,
            read: [0; BATCH * Info::LEN],
            taken: 0,
            len: 0,
            habit: Habit::default(),
            senders: Vec::new(),
            crowded: 0,
        }
    }

    /// The next signal, if there is one.
    fn next(&mut self) -> Result<Option<Info>> {
        if self.taken == self.len {
            (self.taken, self.len) = (0, 0);
            self.len = loop {
                match read(&self.fd, &mut self.read) {
                    Ok(len) => break len,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(None),
                    Err(e) => return Err(Error::io("read signals", e)),
                }
            };
        }
        let info = self.read[..self.len].get(self.taken..).and_then(|rest| rest.first_chunk());
        self.taken = (self.taken + Info::LEN).min(self.len);
        Ok(info.map(Info::decode))
    }

    /// Adds a signal to its message; `None` while the message is not complete. A signal that is no
    /// cell is returned unchanged, and the caller rejects it.
    fn digest(&mut self, info: Info, buffer: &mut [u8]) -> Result<Option<Pulled<Source>>> {
        if !info.queued {
            return Ok(Some(lend(&[], buffer, None)));
        }
        if !is_allowed(info.uid, &self.uids) {
            return Ok(Some(Pulled::refused(
                size_of_val(&info.value),
                "a signal from a process of another user: allow its uid",
            )));
        }
        let (lane, chunk) = match Cell::decode(info.value) {
            None => return Ok(Some(lend(&info.value.to_le_bytes(), buffer, None))),
            Some(Cell::Doorbell { lane, bell }) => {
                self.sender(Source { pid: info.pid, lane })?;
                let payload = bell.payload();
                let frame = Frame::new(Header::control(control::DOORBELL, payload.len())?, &payload)?;
                let mut message = [0; SHORT + 8];
                message[..SHORT].copy_from_slice(&frame.head(Form::Short)?);
                message[SHORT..].copy_from_slice(&payload);
                return Ok(Some(lend(&message, buffer, Some(Source { pid: info.pid, lane }))));
            }
            Some(Cell::Chunk { lane, begin, end, index, len, bytes }) => (lane, (begin, end, index, len, bytes)),
        };
        let source = Source { pid: info.pid, lane };
        let limit = self.limit;
        let at = self.sender(source)?;
        let assembly = &mut self.senders[at].assembly;
        let (begin, end, index, len, bytes) = chunk;
        match assembly.take(begin, end, index, &bytes[..usize::from(len).min(CHUNK)], limit) {
            Made::Part => Ok(None),
            Made::Whole => Ok(Some(lend(assembly.bytes(), buffer, Some(source)))),
            Made::Lost(bytes) => Ok(Some(Pulled::refused(
                bytes,
                "signals of a message of which others are missing, or that is too large",
            ))),
        }
    }

    /// The index of a sender in the list; adds it if it is missing.
    fn sender(&mut self, source: Source) -> Result<usize> {
        if let Some(at) = self.senders.iter().position(|sender| sender.source == source) {
            return Ok(at);
        }
        let process = match open_process(source.pid) {
            Ok(process) => Process::Watched(process),
            Err(Error::NotFound | Error::Invalid { .. }) => Process::Ended,
            Err(_) => Process::Unwatched,
        };
        if self.senders.len() == MAX_SENDERS {
            let idle = self.senders.iter().position(|sender| sender.assembly.unfinished() == 0);
            self.crowded += self.senders.remove(idle.unwrap_or(0)).assembly.unfinished();
        }
        self.senders.push(Talking { source, process, assembly: Assembly::default() });
        Ok(self.senders.len() - 1)
    }
}

/// Copies a message to the buffer. It fits, because longer messages were dropped.
fn lend(message: &[u8], buffer: &mut [u8], source: Option<Source>) -> Pulled<Source> {
    if let Some(room) = buffer.get_mut(..message.len()) {
        room.copy_from_slice(message);
    }
    Pulled::new(message.len(), source)
}

impl Inlet for Signals {
    type Source = Source;

    const TRACKED: bool = true;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<Source>> {
        let mut until = None;
        // A message consists of several signals, and the first ones may come alone.
        let mut look = patience.is_zero() || self.taken < self.len || !self.habit.expects_to_wait();
        loop {
            if self.crowded > 0 {
                return Ok(Pulled::refused(
                    std::mem::take(&mut self.crowded),
                    "unfinished messages of too many senders at once",
                ));
            }
            if look {
                while let Some(info) = self.next()? {
                    if let Some(message) = self.digest(info, buffer)? {
                        return Ok(message);
                    }
                }
                self.habit.waited();
            }
            look = true;
            let left = until.map_or(patience, Deadline::remaining);
            if left.is_zero() {
                return Err(Error::Empty);
            }
            until.get_or_insert_with(|| Deadline::after(patience));
            if !wait(self.fd.as_fd(), Ready::Read, left).map_err(|e| Error::io("poll for signals", e))? {
                return Err(Error::Empty);
            }
        }
    }

    fn is_gone(&mut self, source: &Source) -> Result<bool> {
        let at = self.sender(*source)?;
        match &self.senders[at].process {
            Process::Watched(process) => has_ended(process, Duration::ZERO),
            Process::Ended => Ok(true),
            Process::Unwatched => Ok(matches!(open_process(source.pid), Err(Error::NotFound))),
        }
    }

    fn forget(&mut self, source: &Source) -> u64 {
        let Some(at) = self.senders.iter().position(|sender| sender.source == *source) else { return 0 };
        self.senders.remove(at).assembly.unfinished() as u64
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::super::cell::chunk;
    use super::*;

    #[test]
    fn senders_beyond_the_bound_are_reported_and_no_unfinished_message_goes_before_them() {
        let fd = std::fs::File::open("/dev/null").unwrap().into(); // at its end: no signals
        let mut signals = Signals::new(fd, vec![7], 100);
        let mut buffer = [0; 100];
        let mut send = |signals: &mut Signals, sender: usize, at| {
            // Pids above the largest that Linux assigns.
            let pid = (1 << 22) + 1 + sender as u32;
            let value = chunk(&[1; 10], at, 0).encode();
            let info = Info { signal: 0, queued: true, pid, uid: 7, value };
            signals.digest(info, &mut buffer).unwrap().map(|message| (message.len, message.refused))
        };
        for sender in 0..MAX_SENDERS {
            assert_eq!(send(&mut signals, sender, 0), None);
        }
        // A sender without an unfinished message makes room, and all others stay.
        assert_eq!(send(&mut signals, 5, CHUNK), Some((10, None)));
        assert_eq!(send(&mut signals, MAX_SENDERS, 0), None);
        assert_eq!((signals.crowded, signals.senders.len()), (0, MAX_SENDERS));
        // Then the oldest is dropped, which is reported.
        assert_eq!(send(&mut signals, MAX_SENDERS + 1, 0), None);
        let told = signals.pull(&mut [0; 100], Duration::ZERO).unwrap();
        assert!(told.len == CHUNK && told.refused.is_some());
        assert_eq!(send(&mut signals, 1, CHUNK), Some((10, None)));
        assert!(matches!(send(&mut signals, 0, CHUNK), Some((4, Some(_)))));
    }
}
