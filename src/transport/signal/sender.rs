//! Frames to cells to signals.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};

use super::cell::{Bell, CHUNK, Cell, LANES, chunk};
use super::{CAPABILITIES, Options, Signo};
use crate::error::{Error, Result};
use crate::frame::{Form, Header, control};
use crate::os::pauses::Pauses;
use crate::os::poll::{Ready, wait};
use crate::os::signal::{self, Disposition};
use crate::transport::message::{Outbox, Outlet, Wire, sender};
use crate::wait::deadline::Deadline;

/// The sending end, to one process by one signal.
///
/// A DOORBELL control frame whose payload is a [`Bell`] is one signal. Of any other frame, a signal
/// carries 6 bytes.
///
/// ```no_run
/// use slipring::frame::{Header, control};
/// use slipring::transport::{FrameSender, signal};
/// # let pid = 4711;
/// let mut tx = signal::Sender::open(pid, &signal::Options::default(), std::time::Duration::from_secs(5))?;
/// let bell = signal::Bell::new(7, 1234)?.payload();
/// tx.send(Header::control(control::DOORBELL, bell.len())?, &bell)?;
/// tx.send(Header::PLAIN, b"hello")?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Sender(Outbox<Signals>);

impl Sender {
    /// Sends to the process `pid`. It must block the signal or have a handler for it, because the
    /// signal would end it otherwise; waits for that until the deadline. Some eight system calls,
    /// and three for each of its threads.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such process; [`Error::Untrusted`] if it does not receive
    /// the signal; [`Error::TooManyParticipants`] for the ninth sender of this process by this
    /// signal, to any receivers; [`Error::Invalid`]; [`Error::Io`].
    pub fn open(pid: u32, options: &Options, deadline: impl Into<Deadline>) -> Result<Self> {
        let signo = options.checked_signo()?;
        let process = open_process(pid)?;
        await_receiver(&process, pid, signo, deadline.into())?;
        let wire = Wire { form: Form::Short, identified: false, message: options.message() };
        Outbox::open(wire, options.max_payload, |_| {
            let lane = Lane::take(signo)?;
            Ok(Signals { process, signo, lane, uid: geteuid().as_raw(), message: Vec::new(), at: 0, pauses: PAUSES })
        })
        .map(Sender)
    }
}

sender!(Sender);

/// A process, identified by a pidfd.
pub(super) fn open_process(pid: u32) -> Result<OwnedFd> {
    const WRONG: Error = Error::Invalid { what: "pid: a number from 1 to 2^31 - 1" };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(WRONG)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => Err(Error::NotFound),
        Err(Errno::INVAL) => Err(Error::Invalid { what: "pid: that of a process, not of one of its threads" }),
        opened => opened.map_err(|e| Error::io("open the process", e)),
    }
}

/// Waits until the process blocks or handles the signal.
fn await_receiver(process: &OwnedFd, pid: u32, signo: Signo, deadline: Deadline) -> Result<()> {
    loop {
        match signal::disposition(pid, signo.get()) {
            Ok(Disposition::Blocked | Disposition::Handled) => return Ok(()),
            Ok(Disposition::Open) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Error::NotFound),
            Err(e) => return Err(Error::io("read /proc/PID/task", e)),
        }
        if deadline.has_passed() {
            const WHAT: &str =
                "the process does not receive this signal, and would be ended by it: start the receiver first";
            return Err(Error::Untrusted { what: WHAT });
        }
        if has_ended(process, LOOK.min(deadline.remaining()))? {
            return Err(Error::NotFound);
        }
    }
}

/// The interval of checks whether a process has become a receiver.
const LOOK: Duration = Duration::from_millis(5);
const PAUSES: Pauses = Pauses::new(Duration::from_micros(50), Duration::from_millis(1));

/// Whether the process of a pidfd has ended, or ends within `patience`.
pub(super) fn has_ended(process: &OwnedFd, patience: Duration) -> Result<bool> {
    wait(process.as_fd(), Ready::Read, patience).map_err(|e| Error::io("poll the process", e))
}

/// The number that distinguishes the senders of this process for one signal, because the receiver
/// sees only pids.
struct Lane {
    signo: Signo,
    number: u8,
}

/// For each signal, a bit for each lane that is in use.
static LANES_IN_USE: [AtomicU64; 65] = [const { AtomicU64::new(0) }; 65];

impl Lane {
    fn take(signo: Signo) -> Result<Self> {
        let in_use = &LANES_IN_USE[signo.get() as usize];
        let taken = in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            (bits.trailing_ones() < u32::from(LANES)).then_some(bits | (bits + 1))
        });
        match taken {
            Ok(bits) => Ok(Lane { signo, number: bits.trailing_ones() as u8 }),
            Err(_) => Err(Error::TooManyParticipants { max: LANES.into() }),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        LANES_IN_USE[self.signo.get() as usize].fetch_and(!(1 << self.number), Ordering::Relaxed);
    }
}

struct Signals {
    process: OwnedFd,
    signo: Signo,
    lane: Lane,
    uid: u32,
    /// The message that is being sent: from `at` on, it is still here.
    message: Vec<u8>,
    at: usize,
    /// How long to sleep next when too many signals are pending.
    pauses: Pauses,
}

impl Signals {
    fn queue(&mut self, cell: Cell) -> Result<()> {
        match signal::queue(self.process.as_fd(), self.signo.get(), self.uid, cell.encode()) {
            Ok(()) => {
                self.pauses = PAUSES;
                Ok(())
            }
            Err(e) => Err(match e.raw_os_error() {
                Some(libc::EAGAIN) => Error::Full,
                Some(libc::ESRCH) => Error::PeerDead,
                Some(libc::EPERM) => {
                    Error::Untrusted { what: "the process belongs to another user, who alone may send" }
                }
                Some(libc::ENOSYS) => Error::Unsupported { what: "pidfd_send_signal: Linux 5.1 has it" },
                _ => Error::io("queue a signal", e),
            }),
        }
    }
}

impl Outlet for Signals {
    fn push(&mut self, header: Header, head: &[u8], payload: &[u8]) -> Result<()> {
        if header.is_control() && header.kind == control::DOORBELL && header.stream == 0 {
            if let Some(bell) = Bell::from_payload(payload) {
                return self.queue(Cell::Doorbell { lane: self.lane.number, bell });
            }
        }
        self.message.clear();
        self.message.extend_from_slice(head);
        self.message.extend_from_slice(payload);
        self.at = 0;
        match self.drain() {
            // Not even the first cell was sent, so the message is refused.
            Err(Error::Full) if self.at == 0 => {
                self.message.clear();
                Err(Error::Full)
            }
            Err(Error::Full) => Ok(()),
            done => done,
        }
    }

    fn drain(&mut self) -> Result<()> {
        while self.at < self.message.len() {
            self.queue(chunk(&self.message, self.at, self.lane.number))?;
            self.at += CHUNK;
        }
        Ok(())
    }

    fn wait(&mut self, deadline: Deadline) -> Result<()> {
        if has_ended(&self.process, self.pauses.next().min(deadline.remaining()))? {
            return Err(Error::PeerDead);
        }
        Ok(())
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_reused() {
        let signo = Signo::realtime(29).unwrap();
        let mut lanes: Vec<_> = (0..LANES).map(|_| Lane::take(signo).unwrap()).collect();
        assert!(matches!(Lane::take(signo).err(), Some(Error::TooManyParticipants { max: 8 })));
        assert_eq!(lanes.remove(3).number, 3);
        assert_eq!(Lane::take(signo).unwrap().number, 3);
    }

    #[test]
    fn impossible_pids_are_refused() {
        for pid in [0, 1 << 31, u32::MAX] {
            assert!(matches!(open_process(pid), Err(Error::Invalid { .. })));
        }
        // The largest pid that Linux gives out is 2^22.
        assert!(matches!(open_process((1 << 22) + 1), Err(Error::NotFound)));
    }
}
