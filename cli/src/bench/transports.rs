//! `bench transports`: round trips through each mechanism of the kernel, as frames, beside its bare
//! system calls.

use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use slipring::transport::signal;

use super::crew::Peer;
use super::figures::{RUNS, Series, Times, clock_cost};
use super::meet::meet;
use super::report::{Floor, Report, Row, Target, Unit};
use super::runs::{self, Tempo, Until};
use super::tasks::Task;
use super::wires::{Form, Mechanism, SIGNALS, Shared, Talk};
use super::{Common, message_size, rotated, usage};
use crate::Context;
use crate::child::Part;
use crate::failure::{FAILED, Failure, Outcome};
use crate::interrupt::Interrupt;

/// A run alternates between frames and bare calls this often, so that disturbances affect both.
const TURNS: [Form; 4] = [Form::Frames, Form::Bare, Form::Bare, Form::Frames];
/// Least number of round trips between two changes.
const LEAST: u64 = 50;
/// A size that every mechanism carries in one message.
const LARGEST: usize = 1024;

/// Round trips through pipes, queues, sockets and signals, as frames, beside the bare system calls
#[derive(Args)]
#[command(after_help = "\
Both sides wait inside the kernel. The bare calls carry the same payload and nothing else: no header, no time-out, nothing that \
tells whether the other side still lives. A signal carries 8 bytes of a bare message, and 6 of a frame, which also has a \
header of 16: 8 signals and 14 for 64 bytes. `bell` is what signals are for: a frame that is one signal.")]
pub(super) struct Transports {
    /// Only these
    #[arg(value_name = "MECHANISM", value_enum)]
    only: Vec<Mechanism>,
    #[command(flatten)]
    common: Common,
    /// Bytes in a message, 8 to 1024
    #[arg(short, long, value_name = "BYTES", value_parser = message_size, default_value_t = 64)]
    size: usize,
}

const ALL: [Mechanism; 11] = [
    Mechanism::Pipe,
    Mechanism::Fifo,
    Mechanism::Mq,
    Mechanism::Sysv,
    Mechanism::Unix,
    Mechanism::Seqpacket,
    Mechanism::Dgram,
    Mechanism::Tcp,
    Mechanism::Udp,
    Mechanism::Signal,
    Mechanism::Bell,
];

/// The number of a message, which is all that a doorbell carries.
const BELL: usize = 8;

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Pipe => "pipe",
            Mechanism::Fifo => "fifo",
            Mechanism::Mq => "mq",
            Mechanism::Sysv => "sysv",
            Mechanism::Unix => "unix",
            Mechanism::Seqpacket => "seqpacket",
            Mechanism::Dgram => "dgram",
            Mechanism::Tcp => "tcp",
            Mechanism::Udp => "udp",
            Mechanism::Signal => "signal",
            Mechanism::Bell => "bell",
        }
    }

    fn target(self) -> Target {
        let what = match self {
            Mechanism::Pipe => "round trip of 64 bytes, pipe ÷ bare calls",
            Mechanism::Fifo => "round trip of 64 bytes, fifo ÷ bare calls",
            Mechanism::Mq => "round trip of 64 bytes, mq ÷ bare calls",
            Mechanism::Sysv => "round trip of 64 bytes, sysv ÷ bare calls",
            Mechanism::Unix => "round trip of 64 bytes, unix ÷ bare calls",
            Mechanism::Seqpacket => "round trip of 64 bytes, seqpacket ÷ bare calls",
            Mechanism::Dgram => "round trip of 64 bytes, dgram ÷ bare calls",
            Mechanism::Tcp => "round trip of 64 bytes, tcp ÷ bare calls",
            Mechanism::Udp => "round trip of 64 bytes, udp ÷ bare calls",
            Mechanism::Signal => "round trip of 64 bytes, signal ÷ bare calls",
            Mechanism::Bell => "round trip of a doorbell, signal ÷ bare calls",
        };
        Target { what, at_most: 1.1 }
    }
}

impl Transports {
    pub(super) fn run(self, context: &Context) -> Outcome {
        if self.common.threads {
            return Err(usage("--threads: these mechanisms are between processes"));
        }
        if self.size > LARGEST {
            return Err(usage("--size: 8 to 1024 bytes, which each of them carries in one message"));
        }
        // Names must be removed even on Ctrl-C.
        let interrupt = Interrupt::install()?;
        // Before any other thread starts; the other side inherits the blocked signals.
        let signals = (0..SIGNALS).map(signal::Signo::realtime).collect::<slipring::Result<Vec<_>>>()?;
        signal::block(&signals)?;
        self.common.pinned(|cpu| self.measure(cpu, &interrupt, context), context)
    }

    fn measure(&self, cpu: Option<usize>, interrupt: &Interrupt, context: &Context) -> Outcome<Report> {
        let clock = clock_cost();
        let mut command = Part::command("bench-part", cpu);
        command.process_group(0); // Ctrl-C goes to this process only
        let mut peer = Peer::over(Part::spawn(command)?)?;
        let names = Shared::default();
        let _guard = Guard::new(&peer, &names, context.json)?;
        let mechanisms = if self.only.is_empty() { &ALL[..] } else { &self.only };
        let mut tracks = Vec::new();
        for mechanism in mechanisms {
            let (mechanism, size) = (*mechanism, if *mechanism == Mechanism::Bell { BELL } else { self.size });
            let mut talk = |form| -> Outcome<Talk> {
                meet(&mut peer, mechanism, form, size, &names).map_err(|failure| failure.at(mechanism.name()))
            };
            let talks = [talk(Form::Frames)?, talk(Form::Bare)?];
            tracks.push(Track { mechanism, size, talks, runs: Default::default(), times: Times::new()?, count: 0 });
        }
        let shares = tracks.len() * TURNS.len();
        let whole = self.common.until(shares, 0);
        let until =
            Until { count: whole.count.map(|count| count.div_ceil(TURNS.len() as u64 / 2)), least: LEAST, ..whole };
        for run in 0..RUNS {
            for index in rotated(tracks.len(), run) {
                if interrupt.asked() {
                    return Err(Failure::new(FAILED, "interrupted"));
                }
                tracks[index].run(index, run, &mut peer, &until, clock)?;
            }
        }
        let rows = tracks.into_iter().map(Track::row).collect();
        let how = "round trips through the kernel between two processes, as frames and bare".to_owned();
        Ok(Report { bench: "transports", how, rows, notes: Vec::new() })
    }
}

/// The exchanges and figures of one mechanism.
struct Track {
    mechanism: Mechanism,
    size: usize,
    /// As frames, and with bare calls.
    talks: [Talk; 2],
    runs: [Series; 2],
    times: Times,
    count: u64,
}

impl Track {
    fn run(&mut self, index: usize, run: usize, peer: &mut Peer, until: &Until, clock: u64) -> Outcome {
        let size = self.size;
        let mut times = [Times::new()?, Times::new()?];
        for turn in 0..TURNS.len() {
            let form = TURNS[(turn + run) % TURNS.len()] as usize;
            let Talk { tx, rx } = &mut self.talks[form];
            let task = Task::EchoOver { talk: 2 * index + form };
            let times = &mut times[form];
            let ping = || runs::ping(tx, rx, size, until, Tempo::default(), clock, times);
            let (trips, _) = peer.during(&task, ping).map_err(|failure| failure.at(self.mechanism.name()))?;
            self.count += if form == Form::Frames as usize { trips.count } else { 0 };
        }
        for (runs, times) in self.runs.iter_mut().zip(&times) {
            runs.push(times.median());
        }
        let [frames, _] = &mut times;
        self.times.take(frames)
    }

    fn row(self) -> Row {
        let mut row = Row::new(self.mechanism.name(), self.size, Unit::RoundTrip);
        let [frames, bare] = self.runs;
        row.runs = frames;
        row.times = Some(self.times);
        row.count = self.count;
        row.floors.push(Floor { name: "bare calls", runs: bare });
        if self.size == 64 || self.mechanism == Mechanism::Bell {
            row.aim(self.mechanism.target(), 0);
        }
        row
    }
}

/// A bare call waits forever for a side that has ended. So a thread watches the other side
/// meanwhile, and ends the bench. In either case no name is left.
struct Guard {
    over: Arc<AtomicBool>,
    names: Shared,
}

impl Guard {
    fn new(peer: &Peer, names: &Shared, json: bool) -> Outcome<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let pid = peer.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(process) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            let (is_over, names) = (Arc::clone(&over), Arc::clone(names));
            crate::opening::spawn(move || {
                while poll(&mut [PollFd::new(&process, PollFlags::IN)], None).is_err() {}
                // A call that notices the end itself gives a better message, so it gets some time
                // for that.
                std::thread::sleep(std::time::Duration::from_secs(1));
                if !is_over.load(Ordering::Acquire) {
                    remove(&names);
                    let _ = Failure::new(FAILED, "the other side of the bench ended early").report(json);
                    std::process::exit(FAILED.into());
                }
            })?;
        }
        Ok(Guard { over, names: Arc::clone(names) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        remove(&self.names);
    }
}

fn remove(names: &Shared) {
    names.lock().unwrap_or_else(PoisonError::into_inner).remove();
}
