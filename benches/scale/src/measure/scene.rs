//! One measurement: processes on pinned processors, in namespaces, and what each of them reports.
//!
//! Used by `points.rs`. Sources and sinks are processes of this program (`part.rs`); what passes
//! frames on is `slipring relay`.

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::clock;
use super::net::{Net, address};

type Outcome<T> = Result<T, Box<dyn Error>>;

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

/// What a process reported: `name=value` pairs, and its processor time in `all`.
pub(super) type Report = HashMap<String, f64>;

pub(super) struct Stage {
    pub(super) slipring: PathBuf,
    pub(super) net: Option<Net>,
    directory: PathBuf,
}

impl Stage {
    /// `hosts` namespaces, if the user may make them, and a directory of rings.
    pub(super) fn new(slipring: &Path, hosts: usize) -> Outcome<Stage> {
        let directory = PathBuf::from(format!("/dev/shm/slipring-scale-{}", std::process::id()));
        let net = Net::new(hosts);
        let stage = Stage { slipring: slipring.to_owned(), net, directory };
        std::fs::create_dir_all(&stage.directory)?;
        Ok(stage)
    }

    /// Runs the processes, sinks first, and returns their reports in the order of `places`.
    pub(super) fn run(&self, places: &[Place], load: Load) -> Outcome<Vec<Report>> {
        // What a measurement that failed has left.
        std::fs::remove_dir_all(&self.directory)?;
        std::fs::create_dir_all(&self.directory)?;
        let mut children = Children(Vec::new());
        for place in places.iter().rev() {
            children.0.push(self.start(place, load)?);
        }
        let mut reports = Vec::new();
        for (child, place) in children.0.iter_mut().zip(places.iter().rev()) {
            let mut text = String::new();
            if let Some(mut out) = child.stdout.take() {
                out.read_to_string(&mut text)?;
            }
            let (succeeded, busy) = clock::wait(child)?;
            if !succeeded {
                return Err(format!("{place:?}: the process failed").into());
            }
            let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
            let mut report: Report =
                pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect();
            report.insert("all".to_owned(), busy as f64);
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
                command.arg("taskset");
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
