//! One measurement: processes on pinned processors, in namespaces, and what each of them reports.
//!
//! Used by `points.rs`. Sources and sinks are processes of this program (`part.rs`); what passes
//! frames on is `slipring relay`.

use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::clock;
use super::net::{Net, address};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How long a run waits for other programs to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The priority of the session of this process and of those it starts (`sched(7)`).
const SESSION: &str = "/proc/self/autogroup";

/// What a process does.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Source {
        kind: &'static str,
        ring: String,
        peers: usize,
    },
    Sink {
        kind: &'static str,
        ring: String,
        peers: usize,
    },
    /// `slipring relay`
    Relay {
        from: String,
        to: String,
    },
}

/// A process: on which host and processor it runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) job: Job,
    pub(super) host: usize,
    pub(super) core: usize,
}

/// What all sources of a scene send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) size: usize,
    pub(super) batch: usize,
    /// Frames a second of each source; 0: as many as pass.
    pub(super) rate: u64,
    pub(super) ns: u64,
    /// How ends of rings wait, relays' too.
    pub(super) idle: &'static str,
}

/// What a process reported: `name=value` pairs; besides, from the middle of the run, which part of
/// the time it ran, and how often it slept.
pub(super) type Report = HashMap<String, f64>;

pub(super) struct Stage {
    pub(super) slipring: PathBuf,
    pub(super) net: Option<Net>,
    directory: PathBuf,
    /// What the session's priority was.
    priority: Option<String>,
    /// Runs that began while other programs used the processors.
    pub(super) disturbed: Cell<u64>,
}

impl Stage {
    /// `hosts` namespaces, if the user may make them, and a directory of rings.
    pub(super) fn new(slipring: &Path, hosts: usize) -> Outcome<Stage> {
        let directory = PathBuf::from(format!("/dev/shm/slipring-scale-{}", std::process::id()));
        let net = Net::new(hosts);
        // Linux shares processors between sessions before it looks at the priorities of processes.
        let priority = std::fs::read_to_string(SESSION).ok();
        let priority = priority.and_then(|text| Some(text.split_once(" nice ")?.1.trim().to_owned()));
        let _ = std::fs::write(SESSION, "-20");
        let stage = Stage { slipring: slipring.to_owned(), net, directory, priority, disturbed: Cell::new(0) };
        std::fs::create_dir_all(&stage.directory)?;
        Ok(stage)
    }

    /// Runs the processes, sinks first, and returns their reports in the order of `places`.
    pub(super) fn run(&self, places: &[Place], load: Load) -> Outcome<Vec<Report>> {
        // What a measurement that failed has left.
        std::fs::remove_dir_all(&self.directory)?;
        std::fs::create_dir_all(&self.directory)?;
        if let Some(net) = &self.net {
            places.iter().try_for_each(|place| net.receive_on(place.host, place.core))?;
        }
        // At a rate, processes sleep, and what matters is how an idle processor wakes up.
        if load.rate > 0 && !clock::wait_until_idle(PATIENCE) {
            self.disturbed.set(self.disturbed.get() + 1);
        }
        let mut children = Children(Vec::new());
        for place in places.iter().rev() {
            children.0.push(self.start(place, load)?);
        }
        for (child, place) in children.0.iter_mut().zip(places.iter().rev()) {
            if matches!(place.job, Job::Source { .. }) {
                skip_line(child.stdout.as_mut())?;
            }
        }
        // The middle of the run: the starts of processes and of connections are no part of it.
        let part = |fifths: u64| std::thread::sleep(Duration::from_nanos(load.ns / 5 * fifths));
        part(1);
        let before = State::of(&children);
        part(3);
        let after = State::of(&children);
        let mut reports = Vec::new();
        for (at, (child, place)) in children.0.iter_mut().zip(places.iter().rev()).enumerate() {
            let mut text = String::new();
            if let Some(mut out) = child.stdout.take() {
                out.read_to_string(&mut text)?;
            }
            if !child.wait()?.success() {
                return Err(format!("{place:?}: the process failed").into());
            }
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            let mut report: Report =
                pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect();
            let ns = (after.at - before.at) as f64;
            report.insert("busy part".to_owned(), after.busy[at].saturating_sub(before.busy[at]) as f64 / ns);
            report.insert("sleeps per ns".to_owned(), after.sleeps[at].saturating_sub(before.sleeps[at]) as f64 / ns);
            reports.push(report);
        }
        children.0.clear();
        reports.reverse();
        Ok(reports)
    }

    fn start(&self, place: &Place, load: Load) -> Outcome<Child> {
        let mut command = match &self.net {
            Some(net) => {
                let mut command = net.command(place.host);
                // Other programs on the same processors get next to nothing.
                command.args(["nice", "-n", "-20", "taskset"]);
                command
            }
            None => Command::new("taskset"),
        };
        command.args(["-c", &place.core.to_string()]);
        let directory = self.directory.display();
        match &place.job {
            Job::Relay { from, to } => {
                let with_idle = |end: &str| match (end.starts_with("ring:"), end.contains('?')) {
                    (true, true) => format!("{end}&idle={}", load.idle),
                    (true, false) => format!("{end}?idle={}", load.idle),
                    _ => end.to_owned(),
                };
                let (from, to) = (with_idle(from), with_idle(to));
                command.arg(&self.slipring).arg("--dir").arg(&self.directory).args(["--quiet", "relay", &from, &to]);
            }
            Job::Source { kind, ring, peers } | Job::Sink { kind, ring, peers } => {
                let role = if matches!(place.job, Job::Source { .. }) { "source" } else { "sink" };
                let Load { size, batch, rate, ns, idle } = load;
                command.arg(std::env::current_exe()?).arg("part");
                command.args([format!("role={role}"), format!("kind={kind}"), format!("ring={ring}")]);
                command.args([format!("peers={peers}"), format!("dir={directory}"), format!("size={size}")]);
                command.args([format!("batch={batch}"), format!("rate={rate}"), format!("ns={ns}")]);
                command.arg(format!("idle={idle}"));
            }
        }
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
        if let Some(priority) = &self.priority {
            let _ = std::fs::write(SESSION, priority);
        }
    }
}

/// A moment of a run.
struct State {
    at: u64,
    /// The processor time of each process, and how often it has slept.
    busy: Vec<u64>,
    sleeps: Vec<u64>,
}

impl State {
    fn of(children: &Children) -> State {
        let busy = children.0.iter().map(clock::processor_ns_of).collect();
        State { at: clock::now_ns(), busy, sleeps: children.0.iter().map(clock::sleeps_of).collect() }
    }
}

/// Processes that are ended if a measurement fails.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads the first line, or up to the end if there is none.
fn skip_line(from: Option<&mut ChildStdout>) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut byte = [0];
    while from.read(&mut byte)? > 0 && byte != *b"\n" {}
    Ok(())
}

pub(super) fn source(kind: &'static str, ring: &str, peers: usize, host: usize, core: usize) -> Place {
    Place { job: Job::Source { kind, ring: ring.to_owned(), peers }, host, core }
}

pub(super) fn sink(kind: &'static str, ring: &str, peers: usize, host: usize, core: usize) -> Place {
    Place { job: Job::Sink { kind, ring: ring.to_owned(), peers }, host, core }
}

/// Two relays that carry ring `from` of one host to ring `to` of another by TCP.
pub(super) fn bridge(from: (&str, usize, usize), to: (&str, usize, usize), port: u16) -> [Place; 2] {
    let socket = format!("tcp:{}:{port}?remote", address(to.1, from.1));
    let out = Job::Relay { from: format!("ring:{}", from.0), to: socket.clone() };
    let back = Job::Relay { from: format!("{socket}&listen"), to: format!("ring:{}", to.0) };
    [Place { job: out, host: from.1, core: from.2 }, Place { job: back, host: to.1, core: to.2 }]
}
