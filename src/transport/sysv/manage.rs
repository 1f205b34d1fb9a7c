//! Listing and removing queues.
//!
//! Used by programs that look after queues, such as the command line's `ls`, `rm` and `gc`.

use crate::os::owner;
use libc::{EACCES, EAGAIN, EIDRM, EINVAL, ENOENT, EPERM};

use super::Key;
use super::queue::{CLOSED, FOREIGN, MARK, MARKED, RECEIVERS, SEMAPHORES, SENDERS, another_programs, find, vanished};
use crate::error::{Error, Result};
use crate::os::sysv;

/// Removes a queue with its messages, and its semaphores. Senders that have it open get
/// [`Error::Closed`], receivers an [`Error::Io`] of kind `NotFound`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Untrusted`] if it is another user's; [`Error::Io`].
pub fn remove(key: Key) -> Result<()> {
    remove_both(sysv::queue(key.0, false), || sysv::semaphores(key.0, SEMAPHORES, false))
}

/// Removes a queue that no sender or receiver of this crate has open, if `wanted` returns true for
/// the number of its messages. No other process can open the queue meanwhile. Returns whether it
/// was removed.
///
/// # Errors
/// As [`remove`]; [`Error::Incompatible`] for a queue of another program, whose users cannot be
/// counted.
///
/// ```
/// # let file = std::env::temp_dir().join(format!("slipring-doc-sysv-remove-{}", std::process::id()));
/// # std::fs::write(&file, b"").unwrap();
/// use slipring::transport::sysv::{self, Key, Options, Sender};
/// let key = Key::path(&file)?;
/// let tx = Sender::open(key, &Options::default())?;
/// assert!(!sysv::remove_if_unused(key, |_| true)?);
/// drop(tx);
/// assert!(sysv::remove_if_unused(key, |_| true)?);
/// # std::fs::remove_file(file).unwrap();
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn remove_if_unused(key: Key, wanted: impl FnOnce(u64) -> bool) -> Result<bool> {
    let id = find(false, |create| sysv::queue(key.0, create))?;
    let set = match find(false, |create| sysv::semaphores(key.0, SEMAPHORES, create)) {
        Ok(set) => set,
        Err(Error::NotFound) => return Err(another_programs(0)),
        Err(error) => return Err(error),
    };
    match sysv::value(set, MARK).map_err(|e| vanished("examine the queue's semaphores", e))? {
        mark if mark == i32::from(MARKED) => {}
        mark => return Err(another_programs(mark)),
    }
    let steps = [sysv::Step::Zero(SENDERS), sysv::Step::Zero(RECEIVERS), sysv::Step::Add(SENDERS, CLOSED)];
    match sysv::operate(set, &steps).map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => {}
        Err((Some(EAGAIN), _)) => return Ok(false),
        Err((_, e)) => return Err(vanished("close the queue for its removal", e)),
    }
    let state = sysv::queue_state(id).map_err(|e| vanished("examine the queue", e));
    if state.is_ok_and(|state| wanted(state.messages)) {
        return remove_both(Ok(id), || Ok(set)).map(|()| true);
    }
    sysv::operate(set, &[sysv::Step::Add(SENDERS, -CLOSED)]).map_err(|e| vanished("open the queue again", e))?;
    Ok(false)
}

fn remove_both(queue: std::io::Result<i32>, semaphores: impl FnOnce() -> std::io::Result<i32>) -> Result<()> {
    let removed = |result: std::io::Result<()>| match result.map_err(|e| (e.raw_os_error(), e)) {
        Ok(()) => Ok(true),
        Err((Some(ENOENT | EIDRM | EINVAL), _)) => Ok(false),
        Err((Some(EPERM | EACCES), _)) => Err(Error::Untrusted { what: FOREIGN }),
        Err((_, e)) => Err(Error::io("remove the queue", e)),
    };
    let queue = removed(queue.and_then(sysv::remove_queue))?;
    if let Ok(set) = semaphores() {
        if sysv::value(set, MARK).is_ok_and(|mark| mark == i32::from(MARKED)) {
            removed(sysv::remove_semaphores(set))?;
        }
    }
    if queue { Ok(()) } else { Err(Error::NotFound) }
}

/// An existing queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// Messages in it now.
    pub messages: u64,
    /// Bytes in it now.
    pub bytes: u64,
    /// Living senders.
    pub senders: u32,
    /// Living receivers: 0 or 1.
    pub receivers: u32,
}

/// This user's queues that this crate has created. Reads `/proc/sysvipc/msg`; four system calls for
/// each queue in it.
///
/// # Errors
/// [`Error::Unsupported`] where the kernel has no such list; [`Error::Io`].
pub fn list() -> Result<Vec<Listed>> {
    let table = std::fs::read_to_string("/proc/sysvipc/msg").map_err(|_| Error::Unsupported {
        what: "a list of System V queues: no /proc/sysvipc/msg (is /proc mounted?)",
    })?;
    Ok(table.lines().skip(1).filter_map(listed).collect())
}

/// A line of the table: key, msqid, perms, cbytes, qnum, lspid, lrpid, uid, and so on
/// (proc_sysvipc(5)).
fn listed(line: &str) -> Option<Listed> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let [key, _, _, bytes, messages, _, _, uid, ..] = fields[..] else { return None };
    let key = Key(key.parse().ok()?);
    if !uid.parse().is_ok_and(owner::is_us) {
        return None;
    }
    let set = sysv::semaphores(key.0, SEMAPHORES, false).ok()?;
    let value = |semaphore| sysv::value(set, semaphore).ok();
    (value(MARK)? == i32::from(MARKED)).then_some(Listed {
        key,
        messages: messages.parse().ok()?,
        bytes: bytes.parse().ok()?,
        senders: value(SENDERS)?.unsigned_abs(),
        receivers: value(RECEIVERS)?.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table_that_make_no_sense_are_skipped() {
        for line in ["", "1 2 3", "x 0 600 0 0 0 0 0 0", "1 0 600 0 0 0 0 4000000000 0 0 0 0 0 0"] {
            assert_eq!(listed(line), None);
        }
    }
}
