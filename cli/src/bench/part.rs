//! The other side of a bench: the hidden verb of a process, or the loop of a thread, which performs
//! the tasks of `tasks.rs`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, Write};
use std::time::Duration;

use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use slipring::Error;
use slipring::probe::{BulkCopy, PingPong, Writer};

use super::attaching;
use super::figures::now_ns;
use super::payload;
use super::ports::{self, Ends, Receiver, Sender};
use super::runs::{self, Consumed};
use super::tasks::{Answer, Task};
use super::wires::{self, Talk};
use crate::child;
use crate::failure::{FAILED, Failure, Outcome};

/// Run the other side of a bench.
#[derive(Args)]
pub(crate) struct Part {
    /// Pin the process to this processor.
    #[arg(long)]
    cpu: Option<usize>,
    /// Finish the current task even if the parent has ended.
    #[arg(long)]
    stay: bool,
}

impl Part {
    pub(crate) fn run(self) -> Outcome {
        if !self.stay {
            child::settle(self.cpu);
        }
        serve(std::io::stdin().lock(), crate::output::stdout()?)
    }
}

/// Runs tasks until the pipe ends or a task fails. The peer of a ring then notices.
pub(super) fn serve(from: impl BufRead, mut to: impl Write) -> Outcome {
    let mut worker = Worker::default();
    for line in from.lines() {
        let task = line.ok().and_then(|line| serde_json::from_str(&line).ok());
        let task = task.ok_or_else(|| Failure::new(FAILED, "an unknown task"))?;
        let (answer, failed) = match worker.perform(task) {
            Ok(answer) => (answer, false),
            Err(failure) => (Answer::Failed { code: failure.code(), why: failure.message().to_owned() }, true),
        };
        let line = serde_json::to_string(&answer).map_err(|e| Failure::new(FAILED, e))?;
        writeln!(to, "{line}").map_err(Failure::output)?;
        if failed {
            return Err(Failure::silent(FAILED));
        }
    }
    Ok(())
}

/// The ends that a peer has attached, by descriptor.
#[derive(Default)]
struct Worker {
    games: HashMap<i32, PingPong>,
    copies: HashMap<i32, Writer>,
    echoes: HashMap<i32, Ends>,
    senders: HashMap<i32, Sender>,
    receivers: HashMap<i32, Receiver>,
    talks: Vec<Talk>,
    busy: Option<runs::Busy>,
}

impl Worker {
    fn perform(&mut self, task: Task) -> Outcome<Answer> {
        match task {
            Task::RawPong { probe, rounds } => self.game(probe)?.pong(rounds)?,
            Task::FutexPong { probe, rounds } => self.game(probe)?.pong_asleep(rounds)?,
            Task::BulkWrite { probe, block, blocks, first, count } => {
                let copy = attached(&mut self.copies, probe, || {
                    Ok(BulkCopy::from_fd(child::inherited(probe)?, block, blocks)?.writer()?)
                })?;
                let mut seq = first;
                copy.write(count, |block| {
                    payload::fill(block, seq);
                    seq += 1;
                })?;
            }
            Task::Echo { from, to } => {
                let ends = attached(&mut self.echoes, to.fd, || ports::ends(&to.open()?, &from.open()?))?;
                match ends {
                    Ends::Spsc(ends) => runs::echo(&mut ends.0, &mut ends.1)?,
                    Ends::Mpmc((tx, rx)) => runs::echo(tx, rx)?,
                }
            }
            Task::Hold { ports } => {
                for port in ports {
                    attached(&mut self.senders, port.fd, || ports::sender(&port.open()?))?;
                }
            }
            Task::Produce { to, size, first, until, pace, stop } => {
                let sender = attached(&mut self.senders, to.fd, || ports::sender(&to.open()?))?;
                let (count, sum, ns) = match sender {
                    Sender::Spsc(tx) => runs::produce(&mut **tx, size, first, &until, pace, stop)?,
                    Sender::Mpmc(tx) => runs::produce(tx, size, first, &until, pace, stop)?,
                };
                return Ok(Answer::Produced { count, sum, ns });
            }
            Task::Consume { from } => {
                let receiver = attached(&mut self.receivers, from.fd, || ports::receiver(&from.open()?))?;
                let Consumed { count, sum, first_ns, last_ns } = match receiver {
                    Receiver::Spsc(rx) => runs::consume(&mut **rx)?,
                    Receiver::Mpmc(rx) => runs::consume(rx)?,
                };
                return Ok(Answer::Consumed { count, sum, first_ns, last_ns });
            }
            Task::Busy { threads, cpus } => {
                self.busy = None; // ends the running threads
                self.busy = Some(runs::Busy::start(threads, &cpus)?);
            }
            Task::Wait { from, ns } => {
                let receiver = attached(&mut self.receivers, from.fd, || ports::receiver(&from.open()?))?;
                let wait = Duration::from_nanos(ns);
                return measure_cpu(|| {
                    let outcome = match receiver {
                        Receiver::Spsc(rx) => rx.recv_deadline(wait).map(drop),
                        Receiver::Mpmc(rx) => rx.recv_deadline(wait).map(drop),
                    };
                    match outcome {
                        Err(Error::Timeout) => Ok(()),
                        Err(error) => Err(error.into()),
                        Ok(()) => Err(Failure::new(FAILED, "a message came where none was sent")),
                    }
                });
            }
            Task::Meet(meeting) => {
                let (talk, out) = wires::attend(&meeting)?;
                self.talks.push(talk);
                return Ok(Answer::Met { out, pid: std::process::id() });
            }
            Task::EchoOver { talk } => {
                let talk = self.talks.get_mut(talk).ok_or_else(|| Failure::new(FAILED, "no such conversation"))?;
                runs::echo(&mut talk.tx, &mut talk.rx)?;
            }
            Task::Attach { dir, rounds } => return attaching::measure(dir, rounds),
            Task::BareSleeps { ns, interval_ns } => {
                let end = now_ns() + ns;
                return measure_cpu(|| {
                    while now_ns() < end {
                        std::thread::sleep(Duration::from_nanos(interval_ns.min(end.saturating_sub(now_ns()))));
                    }
                    Ok(())
                });
            }
        }
        Ok(Answer::Done)
    }

    fn game(&mut self, probe: i32) -> Outcome<&mut PingPong> {
        attached(&mut self.games, probe, || Ok(PingPong::from_fd(child::inherited(probe)?)?))
    }
}

/// The end attached to `fd`; attaches it if there is none yet.
fn attached<T>(all: &mut HashMap<i32, T>, fd: i32, attach: impl FnOnce() -> Outcome<T>) -> Outcome<&mut T> {
    Ok(match all.entry(fd) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(attach()?),
    })
}

/// The processor time of this thread, and the elapsed time, that `body` takes.
fn measure_cpu(body: impl FnOnce() -> Outcome) -> Outcome<Answer> {
    let cpu_ns = || {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
    };
    let (cpu, start) = (cpu_ns(), now_ns());
    body()?;
    Ok(Answer::Waited { cpu_ns: cpu_ns() - cpu, ns: now_ns() - start })
}
