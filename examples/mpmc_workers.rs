//! A work queue between processes that loses no work although a worker is killed in the middle of a
//! job.
//!
//! ```text
//! cargo run --release --example mpmc_workers
//! ```
//!
//! The program starts itself as several workers. They take jobs from one ring and send results into
//! another. One of them hangs in a job, and is killed with SIGKILL while it holds it. No process
//! tells the others: the next worker that finds the queue empty checks its peers, and recovers the
//! job.

use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use slipring::frame::Flags;
use slipring::{Options, Ring, mpmc};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const JOBS: u32 = 2_000;
const WORKERS: u32 = 4;
/// The worker that gets this job first hangs in it.
const FATAL: u32 = 700;

/// "How many primes are there below `limit`?"
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Job {
    id: u32,
    limit: u32,
}

/// A worker's report. Every pattern of bytes is a valid one, so it can be read in place, whichever
/// process wrote it.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Report {
    what: u32,
    worker: u32,
    job: u32,
    answer: u32,
    redelivered: u32,
}

const READY: u32 = 0;
const HOLDING: u32 = 1;
const DONE: u32 = 2;

fn jobs() -> Options {
    Options::mpmc(64, size_of::<Job>())
}

fn reports() -> Options {
    Options::mpmc(64, size_of::<Report>())
}

fn primes_below(limit: u32) -> u32 {
    (2..limit).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count() as u32
}

fn limit_of(job: u32) -> u32 {
    1_000 + job
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [name, worker] => work(name, worker.parse()?),
        _ => manage(),
    }
}

fn manage() -> Result<(), Box<dyn Error>> {
    let name = format!("example-workers-{}", std::process::id());
    let tx = mpmc::Producer::open(&format!("{name}-jobs"), &jobs())?;
    let rx = mpmc::Consumer::open(&format!("{name}-reports"), &reports())?;
    let spawn = |worker: u32| Command::new(std::env::current_exe()?).args([&name, &worker.to_string()]).spawn();
    let mut workers = (0..WORKERS).map(spawn).collect::<Result<Vec<Child>, _>>()?;

    let ready = (0..WORKERS).try_for_each(|_| rx.recv_deadline(Duration::from_secs(30)).map(drop));
    Ring::remove(&format!("{name}-jobs"), &jobs())?; // all are attached: the names are not needed any more
    Ring::remove(&format!("{name}-reports"), &reports())?;
    ready?;

    // A thread sends the jobs, because the ring stays full while a living worker holds the oldest
    // job, and this thread must receive the reports.
    let sender = std::thread::spawn(move || {
        (0..JOBS).try_for_each(|id| tx.send_value(&Job { id, limit: limit_of(id) }))?;
        Ok::<_, slipring::Error>(tx)
    });

    let mut answers = vec![None; JOBS as usize];
    let (mut victim, mut redelivered) = (None, Vec::new());
    while answers.contains(&None) {
        let view = rx.recv_deadline(Duration::from_secs(30))?;
        let report = view.value::<Report>()?;
        if report.what == HOLDING {
            println!("worker {} is stuck with job {}: killing it", report.worker, report.job);
            workers[report.worker as usize].kill()?; // SIGKILL: no handler and no destructor runs
            victim = Some(report.worker as usize);
            continue;
        }
        if report.redelivered == 1 {
            println!("job {} was redelivered, and done by worker {}", report.job, report.worker);
            redelivered.push(report.job);
        }
        let before = answers[report.job as usize].replace(report.answer);
        assert_eq!(before, None, "job {} was done twice", report.job);
    }

    sender.join().expect("the sender does not panic")?.close(); // the workers receive `Error::Closed`, and exit
    for (worker, child) in workers.iter_mut().enumerate() {
        let status = child.wait()?;
        assert_eq!(status.success(), Some(worker) != victim, "worker {worker}: {status}");
    }
    assert_eq!(redelivered, [FATAL], "only the held job was redelivered");
    assert!((0..JOBS).all(|id| answers[id as usize] == Some(primes_below(limit_of(id)))), "every answer is right");
    println!("{JOBS} jobs done, each exactly once, with {WORKERS} workers, one of which was killed");
    Ok(())
}

fn work(name: &str, worker: u32) -> Result<(), Box<dyn Error>> {
    let rx = mpmc::Consumer::open(&format!("{name}-jobs"), &jobs())?;
    let tx = mpmc::Producer::open(&format!("{name}-reports"), &reports())?;
    let say = |what, job, answer, redelivered| tx.send_value(&Report { what, worker, job, answer, redelivered });
    say(READY, 0, 0, 0)?;
    loop {
        let view = match rx.recv() {
            Ok(view) => view,
            Err(slipring::Error::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let job = view.value::<Job>()?;
        let redelivered = view.header().flags.contains(Flags::REDELIVERED);
        if job.id == FATAL && !redelivered {
            say(HOLDING, job.id, 0, 0)?;
            std::thread::sleep(Duration::from_secs(60)); // holds the view until the process is killed
            return Err("the worker was not killed".into());
        }
        // The worker holds the job until `view` is dropped. If it died between the report and the
        // drop, the job would be done twice: delivery is at least once. `Redelivery::AtMostOnce`
        // makes the other choice.
        say(DONE, job.id, primes_below(job.limit), redelivered.into())?;
    }
}
