//! A process that takes part in a measurement: opens its ends, reports that it is ready, waits for
//! the start, and runs its task.

use std::any::Any;
use std::io::{BufRead, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::ends::{Board, Fan, Local, Peer, Put};
use crate::job::{Access, End, Job, Link, Report, Result, Task};
use crate::shared::Shared;
use crate::tasks;

/// Longer than any run; without it a peer that loses a message would wait forever.
const PATIENCE: Duration = Duration::from_secs(180);

/// Calls `$function::<$peer, W>` for the `W` of the job.
macro_rules! for_words {
    ($job:expr, $function:ident, $peer:ident) => {
        match $job.words {
            1 => $function::<$peer, 1>($job),
            8 => $function::<$peer, 8>($job),
            32 => $function::<$peer, 32>($job),
            128 => $function::<$peer, 128>($job),
            8192 => $function::<$peer, 8192>($job),
            words => Err(format!("no messages of {words} words").into()),
        }
    };
}

/// Called first in a part: it dies with its parent, and ends by itself if it hangs.
pub(crate) fn settle() {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        eprintln!("no end after {} s", PATIENCE.as_secs());
        std::process::exit(124);
    });
}

/// Pins this thread to one processor. Best effort: without it figures are worse, but still right.
pub(crate) fn pin(cpu: Option<&usize>) {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        set.set(*cpu);
        let _ = sched_setaffinity(None, &set);
    }
}

/// Reports that this process is ready, and waits until all are.
pub(crate) fn start() -> Result<()> {
    println!("ready");
    std::io::stdout().flush()?;
    let mut word = String::new();
    std::io::stdin().lock().read_line(&mut word)?;
    if word == "go\n" { Ok(()) } else { Err("the supervisor has ended".into()) }
}

/// A part's report, and its end if other parts may still need it: a publisher's exit may discard
/// messages that have not been received.
pub(crate) type Found = (Vec<Report>, Option<Box<dyn Any>>);

/// Prints the report, and returns when all parts have reported.
pub(crate) fn finish((reports, end): Found) -> Result<()> {
    println!("{}", serde_json::to_string(&reports)?);
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    drop(end);
    Ok(())
}

/// Runs one end (or the two of a round trip) of a peer between processes.
pub(crate) fn process<P: Peer>(job: &Job) -> Result<Found> {
    for_words!(job, process_of, P)
}

fn process_of<P: Peer, const W: usize>(job: &Job) -> Result<Found> {
    let there = &job.links[0];
    pin(job.cpus.first());
    let mut end: Option<Box<dyn Any>> = None;
    let report = match (job.task, job.end, job.links.get(1)) {
        (Task::RoundTrip, End::Sender(_), Some(back)) => {
            let (tx, rx) = (P::sender::<W>(there)?, P::receiver::<W>(back)?);
            start()?;
            tasks::ping(job, tx, rx)?
        }
        (Task::RoundTrip, End::Receiver(_), Some(back)) => {
            let (rx, tx) = (P::receiver::<W>(there)?, P::sender::<W>(back)?);
            start()?;
            tasks::pong(job, tx, rx)?
        }
        (Task::Stream, End::Sender(_), _) => {
            let mut tx = P::sender::<W>(there)?;
            start()?;
            let report = tasks::stream(job, &mut tx)?;
            end = Some(Box::new(tx));
            report
        }
        (Task::Stream, End::Receiver(_), _) => {
            let rx = P::receiver::<W>(there)?;
            start()?;
            tasks::sink(job, rx)?
        }
        (Task::Many(_), End::Sender(who), _) => {
            let tx = P::sender::<W>(there)?;
            start()?;
            tasks::feed(job, who, tx)?
        }
        (Task::Many(_), End::Receiver(_), _) => {
            let rx = P::receiver::<W>(there)?;
            start()?;
            tasks::drain(rx)?
        }
        (Task::Gather(_), End::Sender(who), _) => {
            let tx = P::sender::<W>(there)?;
            start()?;
            tasks::feed(job, who, tx)?
        }
        (Task::Gather(senders), End::Receiver(_), _) => {
            let rx = P::receiver::<W>(there)?;
            start()?;
            tasks::gather(job, senders, rx)?
        }
        impossible => return Err(format!("no such part: {impossible:?}").into()),
    };
    Ok((vec![report], end))
}

/// The memory of a peer whose sender does not wait, and a word that tells its end.
pub(crate) fn create_fan<P: Fan>(link: &Link) -> Result<Vec<OwnedFd>> {
    let mut fds = P::create(link)?;
    fds.extend(Shared::create(0)?);
    Ok(fds)
}

/// Runs one end of a peer whose sender does not wait.
pub(crate) fn fan<P: Fan>(job: &Job) -> Result<Found> {
    let link = &job.links[0];
    let finished = Shared::open(link, link.fds.len() - 1, 0, 1)?;
    pin(job.cpus.first());
    let mut end: Option<Box<dyn Any>> = None;
    let report = match (job.task, job.end) {
        (Task::Publish(_), End::Sender(_)) => {
            let mut tx = P::publisher(link)?;
            start()?;
            let report = tasks::publish(job, &mut tx);
            finished.word(0).store(1, Ordering::Release);
            end = Some(Box::new(tx));
            report
        }
        (Task::Publish(audience), End::Receiver(_)) => {
            let rx = P::subscriber(link)?;
            start()?;
            tasks::watch(job, audience, rx, || finished.word(0).load(Ordering::Acquire) != 0)?
        }
        impossible => return Err(format!("no such part: {impossible:?}").into()),
    };
    Ok((vec![report], end))
}

/// Runs the threads of a peer for values of which only the newest matters.
pub(crate) fn board<P: Board>(job: &Job) -> Result<Found> {
    let Task::Latest(access) = job.task else { return Err("this peer has values, not messages".into()) };
    let (mut tx, mut rx) = P::ends(&job.links[0])?;
    pin(job.cpus.first());
    start()?;
    let report = match access {
        Access::Write => tasks::write(job, &mut tx)?,
        Access::Read => tasks::read(job, &mut tx, &mut rx)?,
        Access::InTurn => tasks::in_turn(job, &mut tx, &mut rx)?,
        Access::Beside => {
            tx.put(&[0, 1, 2, 3, 4, 5, 6, 7]); // value 0
            let (over, both) = (AtomicBool::new(false), Barrier::new(2));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pin(cpu_of(&job.cpus, 1));
                    both.wait();
                    tasks::write_until(&mut tx, &over);
                });
                both.wait();
                let report = tasks::beside(job, &mut rx);
                over.store(true, Ordering::Relaxed);
                report
            })?
        }
    };
    Ok((vec![report], None))
}

/// Runs all ends of a peer between threads.
pub(crate) fn threads<P: Local>(job: &Job) -> Result<Found> {
    for_words!(job, threads_of, P)
}

/// A thread of a measurement.
type Body<'a> = Box<dyn FnOnce() -> Result<Report> + Send + 'a>;

fn threads_of<P: Local, const W: usize>(job: &Job) -> Result<Found> {
    let (mut senders, mut receivers) = P::ends::<W>(&job.links[0])?;
    let mut bodies: Vec<Body<'_>> = Vec::new();
    match job.task {
        Task::RoundTrip => {
            let (mut senders_back, mut receivers_back) = P::ends::<W>(&job.links[1])?;
            let ends = (senders.pop(), receivers_back.pop(), senders_back.pop(), receivers.pop());
            let (Some(tx), Some(rx), Some(back), Some(there)) = ends else { return Err("an end is missing".into()) };
            bodies.push(Box::new(|| tasks::ping(job, tx, rx)));
            bodies.push(Box::new(|| tasks::pong(job, back, there)));
        }
        Task::Stream => {
            let (Some(mut tx), Some(rx)) = (senders.pop(), receivers.pop()) else {
                return Err("an end is missing".into());
            };
            bodies.push(Box::new(move || tasks::stream(job, &mut tx)));
            bodies.push(Box::new(|| tasks::sink(job, rx)));
        }
        Task::Many(_) => {
            for (who, (tx, rx)) in senders.into_iter().zip(receivers).enumerate() {
                bodies.push(Box::new(move || tasks::feed(job, who, tx)));
                bodies.push(Box::new(|| tasks::drain(rx)));
            }
        }
        impossible => return Err(format!("no such part: {impossible:?}").into()),
    }
    let ready = Barrier::new(bodies.len() + 1);
    let reports: Result<Vec<Report>> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(i, body)| {
                let ready = &ready;
                scope.spawn(move || {
                    pin(cpu_of(&job.cpus, i));
                    ready.wait();
                    // The other threads would wait for this one forever.
                    body().unwrap_or_else(|error| crate::give_up(&*error))
                })
            })
            .collect();
        start()?;
        ready.wait();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".into())).collect()
    });
    Ok((reports?, None))
}

/// The processors of an end where there are more ends on one side than on the other: the first one
/// for the senders, the others for the receivers, or the other way round.
pub(crate) fn cpu_apart(cpus: &[usize], (senders, receivers): (usize, usize), end: End) -> Option<&usize> {
    let (first, others) = cpus.split_first()?;
    let (i, is_alone) = match end {
        End::All => return Some(first),
        End::Sender(i) => (i, senders <= receivers),
        End::Receiver(i) => (i, senders > receivers),
    };
    if is_alone || others.is_empty() { Some(first) } else { others.get(i % others.len()) }
}

/// The processor of end number `i`. Senders have even numbers, and their receivers the next odd
/// ones: the two never share a processor if there are two, and each processor has as many senders
/// as receivers.
pub(crate) fn cpu_of(cpus: &[usize], i: usize) -> Option<&usize> {
    cpus.get((i + i / cpus.len().max(1)) % cpus.len().max(1))
}
