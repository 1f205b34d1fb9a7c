//! Other processes of the demo and the benches: starting them, passing rings to them, reading their
//! reports, killing them when dropped; and the processors that all of them run on.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use serde::de::DeserializeOwned;
use slipring::{Error, Idle, Options, Ring, Role};

use crate::failure::{FAILED, Failure, Outcome, USAGE};
use crate::output;

/// The processors that this process may use.
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    pub(crate) fn available() -> Self {
        let set = sched_getaffinity(None).unwrap_or_default();
        Cpus((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// The given processors, if this process may use all of them.
    pub(crate) fn chosen(cpus: &[usize]) -> Outcome<Self> {
        let Cpus(available) = Self::available();
        match cpus.iter().find(|cpu| !available.contains(cpu)) {
            None => Ok(Cpus(cpus.to_vec())),
            Some(cpu) => {
                Err(Failure::new(USAGE, format_args!("processor {cpu} is not available: choose from {available:?}")))
            }
        }
    }

    pub(crate) fn list(&self) -> &[usize] {
        &self.0
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.0.len() < 2
    }

    /// Pins this thread to the first processor while `body` runs, and passes the peer's processor
    /// to `body`.
    pub(crate) fn pinned<T>(&self, body: impl FnOnce(Option<usize>) -> Outcome<T>) -> Outcome<T> {
        let [ours, theirs, ..] = self.0[..] else { return body(None) };
        count_processors();
        let before = sched_getaffinity(None).ok();
        confine([ours]);
        let result = body(Some(theirs));
        if let Some(before) = before {
            let _ = sched_setaffinity(None, &before);
        }
        result
    }
}

/// Best effort: without it figures are worse, but still right.
pub(crate) fn confine(cpus: impl IntoIterator<Item = usize>) {
    let mut set = CpuSet::new();
    cpus.into_iter().for_each(|cpu| set.set(cpu));
    let _ = sched_setaffinity(None, &set);
}

/// Called first in a child: pins it to its processor, and makes it die with its parent.
pub(crate) fn settle(cpu: Option<usize>) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Some(cpu) = cpu {
        confine(0..CpuSet::MAX_CPU); // undo the parent's pinning, which is inherited
        count_processors();
        confine([cpu]);
    }
}

/// Makes the library count the processors, by a first wait, before this thread is pinned to one. A
/// thread that is already pinned would conclude that it shares its only processor with its peer,
/// and would not spin.
fn count_processors() {
    let _ = slipring::spsc::pair(4096).map(|(_tx, mut rx)| rx.recv_deadline(Duration::ZERO).map(drop));
}

/// A descriptor that children inherit, and whose number is an argument.
pub(crate) struct Passed(OwnedFd);

impl Passed {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Outcome<Self> {
        rustix::io::dup(fd).map(Passed).map_err(|e| Failure::new(FAILED, format_args!("cannot pass a descriptor: {e}")))
    }

    pub(crate) fn ring(ring: &Ring) -> Outcome<Self> {
        Self::new(ring.as_fd())
    }

    pub(crate) fn number(&self) -> String {
        self.fd().to_string()
    }

    pub(crate) fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// In a child: an own duplicate of the inherited descriptor.
pub(crate) fn inherited(number: i32) -> Outcome<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.map(OwnedFd::from).map_err(|e| Failure::new(FAILED, e).at(path))
}

/// In a child: the inherited ring.
pub(crate) fn ring(number: i32, idle: Idle) -> Outcome<Ring> {
    Ok(Ring::from_fd(inherited(number)?, &Options::any().idle(idle))?)
}

/// In a child: sends the parent what [`Part::report`] returns.
pub(crate) fn report(value: &impl Serialize) -> Outcome {
    output::print_json(value)
}

/// A child process, killed when dropped.
pub(crate) struct Part(Child);

impl Part {
    /// Starts a process of the demo on processor `cpu`.
    pub(crate) fn start<const N: usize>(cpu: Option<usize>, task: &str, arguments: [String; N]) -> Outcome<Self> {
        let mut command = Self::command("demo-part", cpu);
        command.arg(task).args(arguments);
        Self::spawn(command)
    }

    /// A command that runs this program with a hidden verb on processor `cpu`.
    pub(crate) fn command(verb: &str, cpu: Option<usize>) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(verb).args(cpu.map(|cpu| format!("--cpu={cpu}"))).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    pub(crate) fn spawn(mut command: Command) -> Outcome<Self> {
        command.spawn().map(Part).map_err(|e| Failure::new(FAILED, format_args!("cannot start a process: {e}")))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Outcome {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        killed.map(drop).map_err(|e| Failure::new(FAILED, format_args!("cannot kill a process: {e}")))
    }

    /// Closes its stdin, whose end it may be waiting for.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.stdin.take()
    }

    pub(crate) fn stdout(&mut self) -> Outcome<ChildStdout> {
        self.0.stdout.take().ok_or_else(|| Failure::new(FAILED, "the process has no stdout"))
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Outcome {
        let status = self.0.wait().map_err(|e| Failure::new(FAILED, e))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::new(FAILED, format_args!("a child process failed: {status}")))
        }
    }

    /// Waits for the end, and returns what it [`report`]ed.
    pub(crate) fn report<T: DeserializeOwned>(mut self) -> Outcome<T> {
        let mut text = String::new();
        self.stdout()?.read_to_string(&mut text).map_err(|e| Failure::new(FAILED, e))?;
        self.finish()?;
        serde_json::from_str(&text)
            .map_err(|e| Failure::new(FAILED, format_args!("a child process sent an unreadable report: {e}")))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits at most 10 s until `count` consumers are attached. A consumer that attaches after the last
/// producer has left would wait for the next one.
pub(crate) fn wait_for_consumers(ring: &Ring, count: usize) -> Outcome {
    let start = Instant::now();
    while ring.participants()?.iter().filter(|member| member.role == Some(Role::Consumer)).count() < count {
        if start.elapsed() > Duration::from_secs(10) {
            return Err(Failure::new(FAILED, "a receiving child process did not start within 10 s"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether a receiving call reported that the senders have finished.
pub(crate) fn is_end(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::PeerDead)
}
