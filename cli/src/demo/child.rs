//! Other processes of the demo: starting them, passing rings to them, hearing what they found, never leaving one behind.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipring::{Error, Idle, Options, Ring};

use crate::failure::{FAILED, Failure, Outcome};
use crate::output;

/// The processors that we may use.
pub(super) struct Cpus(Vec<usize>);

impl Cpus {
    pub(super) fn available() -> Self {
        let set = sched_getaffinity(None).unwrap_or_default();
        Cpus((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.0.len() < 2
    }

    /// Keeps this thread on the first of them while `body` runs, and tells it the one for the peer.
    pub(super) fn pinned<T>(&self, body: impl FnOnce(Option<usize>) -> Outcome<T>) -> Outcome<T> {
        let [ours, theirs, ..] = self.0[..] else { return body(None) };
        look_around();
        let before = sched_getaffinity(None).ok();
        confine([ours]);
        let result = body(Some(theirs));
        if let Some(before) = before {
            let _ = sched_setaffinity(None, &before);
        }
        result
    }
}

/// A wish: where it is not granted, figures are worse, and that is all.
fn confine(cpus: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    cpus.into_iter().for_each(|cpu| set.set(cpu));
    let _ = sched_setaffinity(None, &set);
}

/// What a child does first: goes where it belongs, and dies with its parent.
pub(super) fn settle(cpu: Option<usize>) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Some(cpu) = cpu {
        confine(0..CpuSet::MAX_CPU); // the parent's confinement is inherited
        look_around();
        confine([cpu]);
    }
}

/// Lets the library find out, by a first wait, that there is a processor for the peer, too: a thread that is pinned already
/// would take itself for one that shares its only processor with everybody, and not spin.
fn look_around() {
    let _ = slipring::spsc::pair(4096).map(|(_tx, mut rx)| rx.recv_deadline(Duration::ZERO).map(drop));
}

/// A descriptor that children inherit, under a number that they are told.
pub(super) struct Passed(OwnedFd);

impl Passed {
    pub(super) fn new(fd: BorrowedFd<'_>) -> Outcome<Self> {
        rustix::io::dup(fd).map(Passed).map_err(|e| Failure::new(FAILED, format_args!("pass a descriptor: {e}")))
    }

    pub(super) fn ring(ring: &Ring) -> Outcome<Self> {
        Self::new(ring.as_memfd().ok_or_else(|| Failure::new(FAILED, "the ring has no descriptor"))?)
    }

    pub(super) fn number(&self) -> String {
        self.0.as_raw_fd().to_string()
    }
}

/// In a child: a descriptor of its own for what it inherited.
pub(super) fn inherited(number: i32) -> Outcome<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.map(OwnedFd::from).map_err(|e| Failure::new(FAILED, e).at(path))
}

/// In a child: the ring that it inherited.
pub(super) fn ring(number: i32, idle: Idle) -> Outcome<Ring> {
    Ok(Ring::from_memfd(inherited(number)?, &Options::any().idle(idle))?)
}

/// In a child: what the parent gets from [`Part::report`].
pub(super) fn report(value: &impl Serialize) -> Outcome {
    output::print_json(value)
}

/// Another process of ours. Dropped, it is killed.
pub(super) struct Part(Child);

impl Part {
    /// Starts one on processor `cpu`.
    pub(super) fn start<const N: usize>(cpu: Option<usize>, task: &str, arguments: [String; N]) -> Outcome<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("demo-part");
        command
            .args(cpu.map(|cpu| format!("--cpu={cpu}")))
            .arg(task)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        command.spawn().map(Part).map_err(|e| Failure::new(FAILED, format_args!("start a process: {e}")))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Outcome {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        killed.map(drop).map_err(|e| Failure::new(FAILED, format_args!("kill a process: {e}")))
    }

    /// Its stdin, whose end it may be waiting for.
    pub(super) fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    pub(super) fn stdout(&mut self) -> Outcome<ChildStdout> {
        self.0.stdout.take().ok_or_else(|| Failure::new(FAILED, "the process has no stdout"))
    }

    /// Waits for the end.
    pub(super) fn finish(mut self) -> Outcome {
        let status = self.0.wait().map_err(|e| Failure::new(FAILED, e))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(FAILED, format_args!("a part of the demo failed: {status}")))
        }
    }

    /// Waits for the end, and for what it [`report`]ed.
    pub(super) fn report<T: DeserializeOwned>(mut self) -> Outcome<T> {
        let mut text = String::new();
        self.stdout()?.read_to_string(&mut text).map_err(|e| Failure::new(FAILED, e))?;
        self.finish()?;
        serde_json::from_str(&text)
            .map_err(|e| Failure::new(FAILED, format_args!("a part of the demo reported nonsense: {e}")))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Errors mean that it has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a receiving call said that the senders have finished.
pub(super) fn is_end(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::PeerDead)
}
