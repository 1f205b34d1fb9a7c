//! The identity and state of a process, for observers: pid, pid namespace, start time, pidfd inode,
//! command name, state.
//!
//! Used by `segment/` to fill participant records, and by `set/` to find the processes of peers.
//! This is for display, and for hints to look at a lock earlier. Liveness comes from `os/lock.rs`,
//! because pids are reused and differ between namespaces.
//!
//! A pid says nothing in another pid namespace, where it may be that of another process (each
//! container has a pid 1), and a start time says nothing in another time namespace, which shifts
//! it. The inode of a pidfd is the same everywhere, from Linux 6.9 on.

use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt;

use rustix::fs::{fstat, fstatfs};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

/// What a participant writes into its record about its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Inode of the pid namespace to which `pid` belongs; 0 if unknown.
    pub(crate) namespace: u32,
    /// Start time of the process in clock ticks since boot; 0 if unknown.
    pub(crate) start_time: u64,
    /// Inode of its pidfd, unique until the next boot; 0 if unknown, as before Linux 6.9.
    pub(crate) pidfd_inode: u64,
}

impl Identity {
    /// The words of a record: pid and namespace, start time, inode.
    pub(crate) fn encode(self) -> [u64; 3] {
        [u64::from(self.namespace) << 32 | u64::from(self.pid), self.start_time, self.pidfd_inode]
    }

    pub(crate) fn decode([process, start_time, pidfd_inode]: [u64; 3]) -> Self {
        Identity { pid: process as u32, namespace: (process >> 32) as u32, start_time, pidfd_inode }
    }
}

/// The pid namespace of a pid, as seen from this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PidNamespace {
    /// The pid is one of this process's namespace.
    Own,
    /// The pid belongs to another namespace, such as that of another container. Here it is the pid
    /// of another process, or of none.
    Other,
    /// Not known: `/proc` is not mounted here, or was not where the participant joined.
    Unknown,
}

impl PidNamespace {
    /// The namespace as a word: "own", "other" or "unknown".
    ///
    /// ```
    /// assert_eq!(slipring::PidNamespace::Other.name(), "other");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PidNamespace::Own => "own",
            PidNamespace::Other => "other",
            PidNamespace::Unknown => "unknown",
        }
    }

    /// Of the namespaces with these inodes; 0 is unknown.
    fn of(theirs: u32, ours: u32) -> Self {
        match theirs {
            _ if theirs == 0 || ours == 0 => PidNamespace::Unknown,
            _ if theirs == ours => PidNamespace::Own,
            _ => PidNamespace::Other,
        }
    }
}

/// The identity of this process. Some eight system calls; at join only.
pub(crate) fn identity() -> Identity {
    // Through /proc/self, because /proc may be that of another pid namespace, in which our pid is
    // another process.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Identity {
        pid: std::process::id(),
        namespace: own_namespace(),
        start_time: parse_start_time(&stat).unwrap_or(0),
        pidfd_inode: pidfd_open(getpid(), PidfdFlags::empty()).map_or(0, |pidfd| inode(&pidfd)),
    }
}

/// Inode of the pid namespace of this process; 0 if unknown. One system call.
fn own_namespace() -> u32 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |found| u32::try_from(found.st_ino()).unwrap_or(0))
}

/// A pidfd of the very process that `identity` names. `None` if it has exited and was waited for,
/// or is not visible from this pid namespace. Some six system calls; Linux 5.3.
pub(crate) fn open(identity: Identity) -> Option<OwnedFd> {
    let Identity { pid, namespace, start_time, pidfd_inode } = identity;
    if PidNamespace::of(namespace, own_namespace()) == PidNamespace::Other {
        return None;
    }
    let pidfd = pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok()?;
    let same = match (pidfd_inode, inode(&pidfd)) {
        (0, _) | (_, 0) => parse_start_time(&stat(pid)?) == Some(start_time),
        (theirs, found) => theirs == found,
    };
    same.then_some(pidfd)
}

/// Inode of a pidfd; 0 before Linux 6.9, where all pidfds have the same one.
fn inode(pidfd: &OwnedFd) -> u64 {
    const PIDFS: u64 = 0x5049_4446; // PID_FS_MAGIC, linux/magic.h
    match (fstatfs(pidfd), fstat(pidfd)) {
        (Ok(system), Ok(stat)) if system.f_type as u64 == PIDFS => stat.st_ino,
        _ => 0,
    }
}

/// The contents of `/proc/PID/stat`, if `/proc` shows the processes of this pid namespace.
fn stat(pid: u32) -> Option<String> {
    let ourselves = std::fs::read_link("/proc/self").ok()?;
    if ourselves.to_str() != Some(&std::process::id().to_string()) {
        return None;
    }
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

/// What can be seen of a process from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) namespace: PidNamespace,
    /// Its command name, at most 15 bytes.
    pub(crate) comm: Option<String>,
    pub(crate) state: Option<ProcessState>,
}

/// Looks at the process that `identity` names. Some five system calls.
pub(crate) fn look(identity: Identity) -> Seen {
    let namespace = PidNamespace::of(identity.namespace, own_namespace());
    let stat = match namespace {
        PidNamespace::Other => None,
        _ => stat(identity.pid).filter(|stat| {
            // The start time differs if the process is in another time namespace; the pidfd tells.
            parse_start_time(stat) == Some(identity.start_time)
                || (identity.pidfd_inode != 0 && open(identity).is_some())
        }),
    };
    Seen {
        namespace,
        comm: stat.as_deref().and_then(parse_comm).map(str::to_owned),
        state: stat.as_deref().and_then(parse_state),
    }
}

/// Field 2, the name, may contain spaces and parentheses: count from the last `)`, which field 3
/// follows.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn parse_comm(stat: &str) -> Option<&str> {
    Some(stat.get(stat.find('(')? + 1..stat.rfind(')')?)?.trim_end())
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
        assert_eq!(parse_comm(stat), Some("a) b (c"));
        assert_eq!(parse_comm(")("), None);
        assert_eq!(parse_state("7 (a) t (c) T 1 2"), Some(ProcessState::Stopped));
        assert_eq!(parse_state("7 (a)"), None);
        assert_eq!(parse_start_time("7 (a"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn we_know_ourselves() {
        let me = identity();
        assert_eq!((me.pid, Identity::decode(me.encode())), (std::process::id(), me));
        assert!(me.start_time != 0 && me.namespace != 0);
        let seen = look(me);
        assert_eq!((seen.namespace, seen.state), (PidNamespace::Own, Some(ProcessState::Running)));
        assert!(seen.comm.is_some() && open(me).is_some());
        // Another process under the same pid.
        let after = Identity { start_time: me.start_time + 1, pidfd_inode: 0, ..me };
        assert_eq!(look(after), Seen { namespace: PidNamespace::Own, comm: None, state: None });
        assert!(open(after).is_none());
    }

    #[test]
    fn a_pid_of_another_namespace_names_no_process_here() {
        let me = identity();
        // It has our pid and started when we did, as the first processes of two containers may.
        let stranger = Identity { namespace: me.namespace ^ 1, pidfd_inode: 0, ..me };
        assert_eq!(look(stranger), Seen { namespace: PidNamespace::Other, comm: None, state: None });
        assert!(open(stranger).is_none());
        // Where it had no /proc, only its pidfd tells.
        let unknown = Identity { namespace: 0, start_time: 0, ..me };
        assert_eq!(look(unknown).namespace, PidNamespace::Unknown);
        assert_eq!((look(unknown).comm.is_some(), open(unknown).is_some()), (me.pidfd_inode != 0, me.pidfd_inode != 0));
        assert!(open(Identity { pidfd_inode: me.pidfd_inode + 1, ..unknown }).is_none());
    }
}
