//! Opening a queue and its semaphores, and a participant's seat there.
//!
//! Used by both ends, and by `manage.rs`. Relies on `os/sysv.rs`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libc::{EACCES, EAGAIN, EEXIST, EIDRM, EINTR, EINVAL, ENOENT, ENOSPC, ENOSYS, EPERM, ERANGE};

use super::{Key, SHORTEST_PAUSE};
use crate::error::{Error, Result};
use crate::os::owner;
use crate::os::{fork, sysv};
use crate::transport::message::Wire;
use crate::wait::deadline::Deadline;

/// The semaphores.
pub(super) const SENDERS: u16 = 0;
pub(super) const RECEIVERS: u16 = 1;
pub(super) const MARK: u16 = 2;
pub(super) const SEMAPHORES: u16 = 3;
/// What a remover adds to the senders, so that no end can be counted: the largest value of a
/// semaphore.
pub(super) const CLOSED: i16 = i16::MAX;
/// How long an end waits for a remover.
const PATIENCE: Duration = Duration::from_secs(5);
/// The value of the third semaphore: the sync bytes of a frame, as a number.
pub(super) const MARKED: u16 = 0x52B7;

pub(super) const FOREIGN: &str = "the queue belongs to another user, or is open to others: choose another key";

pub(super) fn another_programs(mark: i32) -> Error {
    const WHAT: &str = "semaphores under the queue's key, which are another program's: choose another key";
    Error::Incompatible { what: WHAT, expected: MARKED.into(), found: u64::from(mark.unsigned_abs()) }
}

/// A queue and its semaphores, opened and checked.
#[derive(Clone, Copy)]
pub(super) struct Queue {
    pub(super) id: i32,
    pub(super) semaphores: i32,
    /// Bytes of its largest message.
    pub(super) message: usize,
    /// Bytes of all its messages together.
    pub(super) capacity: usize,
}

impl Queue {
    /// Opens the queue and takes a role. If another process removes the queue meanwhile, or is
    /// about to, tries again.
    pub(super) fn enter(key: Key, create: bool, semaphore: u16) -> Result<(Self, Seat)> {
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
        if !owner::is_us(state.uid) || state.mode & 0o066 != 0 {
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
pub(super) fn find(create: bool, open: impl Fn(bool) -> std::io::Result<i32>) -> Result<i32> {
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
pub(super) fn vanished(op: &'static str, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(EIDRM | EINVAL) => Error::NotFound,
        _ => refusal(op, error),
    }
}

/// A participant's 1 in a semaphore, which the kernel reverts when the process ends.
pub(super) struct Seat {
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
