//! Starts the processes of a measurement, releases them at the same time, and reads their reports.
//! No process is left behind, however a run ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::job::{End, Job, Link, Report, Result, Task, Wait};
use crate::part::{cpu_apart, cpu_of};
use crate::peers::{Entry, Form};

/// One run of one peer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) task: Task,
    /// Bytes in a message: a multiple of 8.
    pub(crate) size: usize,
    /// Bytes of payload in the ring.
    pub(crate) ring: usize,
    pub(crate) wait: Wait,
    /// Messages of each sender, or round trips.
    pub(crate) count: u64,
}

/// The results: nanoseconds per message or round trip.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) median: f64,
    pub(crate) p99: Option<f64>,
    pub(crate) p9999: Option<f64>,
}

/// The processors that this process may use.
pub(crate) fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

const SHM: &str = "/dev/shm";
const PREFIX: &str = "slipring-peers-";

/// Removes the directories of runs whose process was killed.
pub(crate) fn tidy_up() {
    for entry in std::fs::read_dir(SHM).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        if pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A child process, killed when dropped.
struct Part {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Part {
    fn start(job: &Job) -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg("part")
            .arg(serde_json::to_string(job)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().map(BufReader::new).ok_or("no stdout")?;
        Ok(Part { child, out })
    }

    /// The last line that it printed, once it has ended.
    fn complaint(&mut self) -> String {
        let mut text = String::new();
        let _ = self.child.kill();
        let _ = self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
        let last = text.lines().rev().find(|line| !line.is_empty()).unwrap_or("it was killed");
        last.to_owned()
    }

    /// The next line of its stdout.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.out.read_line(&mut line)? == 0 {
            return Err(self.complaint().into());
        }
        Ok(line)
    }
}

/// Runs `entry` once as planned.
pub(crate) fn run(entry: &Entry, plan: &Plan) -> Result<Outcome> {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(SHM)?;
    let ends @ (senders, receivers) = plan.task.ends();
    let pairs = senders.max(receivers);
    let names: &[&str] = if plan.task == Task::RoundTrip { &["there", "back"] } else { &["there"] };
    let (mut links, mut passed) = (Vec::new(), Vec::new());
    for name in names {
        let mut link = link(dir.path(), name, plan, pairs);
        for fd in (entry.create)(&link)? {
            let inheritable: OwnedFd = rustix::io::dup(fd)?;
            link.fds.push(inheritable.as_raw_fd());
            passed.push(inheritable);
        }
        links.push(link);
    }
    let cpus = cpus();
    let job = Job {
        peer: entry.name.to_owned(),
        task: plan.task,
        end: End::All,
        words: plan.size / 8,
        count: plan.count,
        block: block(plan),
        cpus: cpus.clone(),
        links,
    };
    let jobs: Vec<Job> = match entry.form {
        Form::Threads => vec![job],
        Form::Processes => (0..2 * pairs)
            .map(|i| (i, i / 2, if i % 2 == 0 { End::Sender(i / 2) } else { End::Receiver(i / 2) }))
            .filter(|(i, lane, _)| *lane < if i % 2 == 0 { senders } else { receivers })
            .map(|(i, lane, end)| Job {
                links: job.links.iter().map(|link| Link { lane, ..link.clone() }).collect(),
                end,
                cpus: if senders == receivers { cpu_of(&cpus, i) } else { cpu_apart(&cpus, ends, end) }
                    .copied()
                    .into_iter()
                    .collect(),
                ..job.clone()
            })
            .collect(),
    };
    let mut parts = jobs.iter().map(Part::start).collect::<Result<Vec<Part>>>()?;
    drop(passed);
    if lines(&mut parts)?.iter().any(|line| line != "ready\n") {
        return Err("a part did not report that it is ready".into());
    }
    for part in &mut parts {
        part.child.stdin.as_mut().ok_or("no stdin")?.write_all(b"go\n")?;
    }
    let mut reports: Vec<Report> = Vec::new();
    for line in lines(&mut parts)? {
        reports.extend(serde_json::from_str::<Vec<Report>>(&line)?);
    }
    // The parts have reported, but may still have to clean up.
    for part in &mut parts {
        part.child.wait()?;
    }
    outcome(plan, &reports)
}

fn link(dir: &Path, name: &str, plan: &Plan, pairs: usize) -> Link {
    let Plan { size, ring, wait, .. } = *plan;
    Link { dir: dir.to_owned(), name: name.to_owned(), bytes: ring, size, pairs, lane: 0, wait, fds: Vec::new() }
}

/// At least one lap of the ring, and so many messages that the cost of reading the clock is
/// negligible.
fn block(plan: &Plan) -> u64 {
    let lap = (plan.ring / plan.size) as u64;
    lap.max(1024).min(plan.count / 4).max(1)
}

/// Returns a line from each part, in the order in which they arrive. A part that has failed ends
/// the run.
fn lines(parts: &mut [Part]) -> Result<Vec<String>> {
    let mut lines = vec![String::new(); parts.len()];
    loop {
        let silent: Vec<usize> = (0..parts.len()).filter(|i| lines[*i].is_empty()).collect();
        if silent.is_empty() {
            return Ok(lines);
        }
        let out = |i: &usize| PollFd::from_borrowed_fd(parts[*i].out.get_ref().as_fd(), PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = silent.iter().map(out).collect();
        poll(&mut fds, None)?;
        let spoke = fds.iter().position(|fd| !fd.revents().is_empty());
        drop(fds);
        if let Some(spoke) = spoke {
            lines[silent[spoke]] = parts[silent[spoke]].line()?;
        }
    }
}

fn outcome(plan: &Plan, reports: &[Report]) -> Result<Outcome> {
    for report in reports.iter().filter(|report| report.missed > 0) {
        if report.received + report.missed != plan.count {
            return Err(
                format!("received {} messages, missed {}, of {}", report.received, report.missed, plan.count).into()
            );
        }
    }
    let Task::Many(pairs) = plan.task else {
        let p99 = reports.iter().find_map(|report| report.p99);
        let p9999 = reports.iter().find_map(|report| report.p9999);
        let median = reports.iter().find_map(|report| report.median).ok_or("nothing was measured")?;
        return Ok(Outcome { median, p99, p9999 });
    };
    let all = plan.count * pairs as u64;
    let received: u64 = reports.iter().map(|report| report.received).sum();
    let sum = reports.iter().fold(0u64, |sum, report| sum.wrapping_add(report.sum));
    if received != all || sum != 0 {
        return Err(format!("received {received} messages, not {all}, or different ones").into());
    }
    let from = reports.iter().map(|report| report.from).min().ok_or("nothing was measured")?;
    let to = reports.iter().map(|report| report.to).max().ok_or("nothing was measured")?;
    Ok(Outcome { median: (to - from) as f64 / all as f64, p99: None, p9999: None })
}
