//! The identity and state of a process, for observers: pid, start time, pidfd inode, command name,
//! state.
//!
//! Used by `segment/` to fill participant records. This is for display only. Liveness comes from
//! `os/lock.rs`, because pids are reused and differ between namespaces.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

/// What a participant writes into its record about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Start time of the process in clock ticks since boot; 0 if unknown.
    pub(crate) start_time: u64,
    /// Inode of its pidfd, unique per boot on Linux 6.9 and newer; 0 if unknown.
    pub(crate) pidfd_inode: u64,
}

/// The identity of this process. Some six system calls (`/proc/self/stat`, `pidfd_open`, `fstat`);
/// at join only.
pub(crate) fn identity() -> Identity {
    let pid = std::process::id();
    Identity { pid, start_time: start_time(pid).unwrap_or(0), pidfd_inode: pidfd_inode(getpid()).unwrap_or(0) }
}

/// When `pid` started, in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name of `pid`, if it is still the process that started at `start_time`.
pub(crate) fn comm(pid: u32, start_time: u64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (self::start_time(pid)? == start_time).then(|| name.trim_end().to_owned())
}

/// A pidfd of the very process that `identity` names. `None` if it has exited and was waited for,
/// or is not visible from this pid namespace. Some five system calls; Linux 5.3.
pub(crate) fn open(identity: Identity) -> Option<OwnedFd> {
    let Identity { pid, start_time, pidfd_inode } = identity;
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    // Before Linux 6.9 all pidfds have one inode, so the start time decides; from then on it does
    // for records of participants that could not learn theirs.
    let same_inode = pidfd_inode == 0 || rustix::fs::fstat(&pidfd).is_ok_and(|stat| stat.st_ino == pidfd_inode);
    (same_inode && self::start_time(pid) == Some(start_time)).then_some(pidfd)
}

fn pidfd_inode(pid: Pid) -> Option<u64> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    rustix::fs::fstat(pidfd).ok().map(|stat| stat.st_ino)
}

/// Field 2, the name, may contain spaces and parentheses: count from the last `)`, which field 3
/// follows.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Whether a process runs, according to the kernel (field 3 of `/proc/PID/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessState {
    /// It runs or waits for something.
    Running,
    /// Stopped by a signal (`SIGSTOP`, Ctrl-Z): resumes after `SIGCONT`, or dies by `SIGKILL`.
    Stopped,
    /// Stopped by a debugger.
    Traced,
    /// It has exited, and its parent has not yet collected its status.
    Exited,
}

impl ProcessState {
    /// The state as a word: "running", "stopped", "traced" or "exited".
    ///
    /// ```
    /// assert_eq!(slipring::ProcessState::Traced.name(), "traced");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ProcessState::Running => "running",
            ProcessState::Stopped => "stopped",
            ProcessState::Traced => "traced",
            ProcessState::Exited => "exited",
        }
    }

    /// Whether the process is stopped until a signal or a debugger resumes it.
    ///
    /// ```
    /// use slipring::ProcessState;
    /// assert!(ProcessState::Stopped.is_suspended() && !ProcessState::Running.is_suspended());
    /// ```
    #[must_use]
    pub fn is_suspended(self) -> bool {
        matches!(self, ProcessState::Stopped | ProcessState::Traced)
    }
}

/// The state of `pid`, if it is visible and is still the process that started at `start_time`.
pub(crate) fn state(pid: u32, start_time: u64) -> Option<ProcessState> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    if parse_start_time(&stat)? == start_time { parse_state(&stat) } else { None }
}

fn parse_state(stat: &str) -> Option<ProcessState> {
    Some(match stat[stat.rfind(')')? + 1..].split_ascii_whitespace().next()? {
        "T" => ProcessState::Stopped,
        "t" => ProcessState::Traced,
        "Z" | "X" | "x" => ProcessState::Exited,
        _ => ProcessState::Running,
    })
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_state("7 (a) t (c) T 1 2"), Some(ProcessState::Stopped));
        assert_eq!(parse_state("7 (a)"), None);
        assert_eq!(parse_start_time("7 (a"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn we_know_ourselves() {
        let me = identity();
        assert_eq!(me.pid, std::process::id());
        assert_ne!(me.start_time, 0);
        assert!(comm(me.pid, me.start_time).is_some());
        assert_eq!(state(me.pid, me.start_time), Some(ProcessState::Running));
        assert_eq!(state(me.pid, me.start_time + 1), None, "another process under the same pid");
        assert_eq!(comm(me.pid, me.start_time + 1), None, "another process under the same pid");
    }
}
