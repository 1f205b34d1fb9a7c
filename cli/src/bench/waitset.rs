//! `bench waitset`: waiting for many rings at once, beside the kernel's own ways.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Wake};
use std::time::Duration;

use clap::Args;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use slipring::transport::Doorbell;
use slipring::{Error, Idle, Ring, Token, WaitSet, spsc};

use super::Common;
use super::crew::Peer;
use super::figures::{RUNS, Series, Times, now_ns};
use super::payload;
use super::ports::{Channel, Kind};
use super::report::{Floor, Report, Row, Target, Unit};
use super::tasks::{Answer, Task};
use super::waitset_trial;
use crate::Context;
use crate::child::confine;
use crate::failure::{FAILED, Failure, Outcome};
use crate::units;

const RING: usize = 64 << 10;
const MESSAGE: usize = 64;
/// Members of the set that is woken.
const WOKEN: usize = 16;
/// Members of the set with one busy ring.
const BUSY: usize = 64;
/// Rings that get nothing.
const IDLE: usize = 1000;
/// How long they are idle.
const IDLE_TIME: Duration = Duration::from_secs(12);
/// Before each wake-up, so that the other side has stopped spinning and sleeps.
const PAUSE: Duration = Duration::from_micros(150);
/// Peers that are killed.
const DEATHS: usize = 5;

const WAKE_UP: Target =
    Target { what: "a wake-up through a set of 16 rings beyond eventfd and epoll, in µs", at_most: 10.0 };
const TASK: Target =
    Target { what: "a wake-up of a task by the reactor beyond eventfd and epoll, in µs", at_most: 15.0 };
const SHARE: Target = Target { what: "a frame of a busy ring in a set of 64, to the ring alone", at_most: 1.2 };
const REST: Target =
    Target { what: "1,000 idle rings whose peers have pidfds, in percent of a processor", at_most: 0.1 };
const BELLS: Target = Target { what: "1,000 idle doorbells, in percent of a processor", at_most: 2.0 };
const DEATH: Target = Target { what: "the death of an idle peer is noticed, p99 in ms", at_most: 5.0 };

/// Sets of rings: wake-ups, a busy ring among many, idle ones, deaths
#[derive(Args)]
pub(super) struct Waitset {
    #[command(flatten)]
    common: Common,
}

impl Waitset {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let ns = self.common.until(6, 0).ns;
        let count = self.common.count.map(|count| count.div_ceil(RUNS as u64));
        let mut wake_up = Row::new(format!("wake-up, set of {WOKEN}"), MESSAGE, Unit::OneWay);
        let mut share = Row::new(format!("busy ring in a set of {BUSY}"), MESSAGE, Unit::Message);
        let (mut bare, mut alone) = (Series::default(), Series::default());
        let mut times = Times::new()?;
        let mut of_task = Row::new("wake-up of a task", MESSAGE, Unit::OneWay);
        let mut task_times = Times::new()?;
        self.common.cpus()?.pinned(|theirs| {
            for _ in 0..RUNS {
                let rounds = count.unwrap_or_else(|| (ns / 400_000).max(16));
                let (mut of_set, of_epoll) = (through_set(rounds, theirs)?, through_epoll(rounds, theirs)?);
                wake_up.runs.push(of_set.median());
                let mut through = through_task(rounds, theirs)?;
                of_task.runs.push(through.median());
                task_times.take(&mut through)?;
                of_task.count += rounds;
                bare.push(of_epoll.median());
                times.take(&mut of_set)?;
                wake_up.count += rounds;
                let frames = count.unwrap_or(ns / 100).max(1000);
                share.runs.push(stream(frames, BUSY, theirs)?);
                alone.push(stream(frames, 1, theirs)?);
                share.count += frames;
            }
            Ok(())
        })?;
        wake_up.targets.push((WAKE_UP, (wake_up.runs.median() - bare.median()) / 1e3));
        of_task.targets.push((TASK, (of_task.runs.median() - bare.median()) / 1e3));
        of_task.times = Some(task_times);
        wake_up.floors.push(Floor { name: "eventfd, epoll", runs: bare });
        wake_up.times = Some(times);
        share.floors.push(Floor { name: "the ring alone", runs: alone });
        share.aim(SHARE, 0);
        let mut rows = vec![wake_up, of_task, share];
        let mut notes = Vec::new();
        rows.extend(waitset_trial::rows(self.common.count)?);
        // Long enough for the longest sleep of a set; a given count asks for a short run.
        let idle =
            if count.is_some() { Duration::from_millis(300) } else { Duration::from_nanos(12 * ns).max(IDLE_TIME) };
        match rest(idle) {
            Ok(rested) => rows.extend(rested),
            Err(failure) => notes.push(format!("idle rings: {}", failure.message())),
        }
        rows.push(deaths()?);
        let how = format!(
            "threads of this process, and one more process as peer; idle for {} each",
            units::nanoseconds(idle.as_nanos() as f64)
        );
        self.common.finish(Report { bench: "waitset", how, rows, notes }, context)
    }
}

/// The times from a send to the end of the wait, with a sleep before each.
fn woken(
    rounds: u64,
    theirs: Option<usize>,
    send: impl Fn(u64) -> Outcome + Sync,
    mut wait: impl FnMut(u64) -> Outcome,
) -> Outcome<Times> {
    let (mut times, sent, done) = (Times::new()?, AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            theirs.into_iter().for_each(|cpu| confine([cpu]));
            for round in 0..rounds {
                std::thread::sleep(PAUSE);
                sent.store(now_ns(), Ordering::Release);
                send(round)?;
                while done.load(Ordering::Acquire) <= round && !stop.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
            Ok::<(), Failure>(())
        });
        let waited = (0..rounds).try_for_each(|round| {
            wait(round)?;
            times.add(now_ns().saturating_sub(sent.load(Ordering::Acquire)) as f64);
            done.store(round + 1, Ordering::Release);
            Ok::<(), Failure>(())
        });
        stop.store(true, Ordering::Release);
        waited.and(sender.join().unwrap_or_else(|_| Err(Failure::new(FAILED, "the sending thread failed"))))
    })?;
    Ok(times)
}

fn rings(count: usize) -> Outcome<Vec<Ring>> {
    let options = Kind::Spsc.options(RING, MESSAGE, Idle::Park);
    Ok((0..count).map(|_| Ring::create_anonymous(&options)).collect::<slipring::Result<_>>()?)
}

/// The ends of rings, and a set of all receivers.
fn set_of(rings: &[Ring]) -> Outcome<(Vec<spsc::Producer>, Vec<spsc::Consumer>, WaitSet)> {
    let senders = rings.iter().map(spsc::Producer::attach).collect::<slipring::Result<Vec<_>>>()?;
    let receivers = rings.iter().map(spsc::Consumer::attach).collect::<slipring::Result<Vec<_>>>()?;
    let mut set = WaitSet::new()?;
    for (number, receiver) in receivers.iter().enumerate() {
        set.add(Token(number), receiver.readable())?;
    }
    Ok((senders, receivers, set))
}

fn through_set(rounds: u64, theirs: Option<usize>) -> Outcome<Times> {
    let (senders, mut receivers, mut set) = set_of(&rings(WOKEN)?)?;
    let senders: Vec<_> = senders.into_iter().map(std::sync::Mutex::new).collect();
    let of = |round: u64| (round % WOKEN as u64) as usize;
    let send = |round| {
        let mut sender = senders[of(round)].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut message = [0; MESSAGE];
        payload::fill(&mut message, round);
        Ok(sender.send(&message)?)
    };
    woken(rounds, theirs, send, |round| {
        loop {
            let ready: Vec<_> = set.wait()?.collect();
            if let Some(token) = ready.first() {
                match receivers[token.0].try_recv() {
                    Ok(message) if payload::check(&message, round) => return Ok(()),
                    Ok(_) => return Err(Failure::new(crate::failure::LOST, "a message is not what was sent")),
                    Err(Error::Empty) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    })
}

/// Over the reactor, whose waker makes this thread go on.
fn through_task(rounds: u64, theirs: Option<usize>) -> Outcome<Times> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let (sender, receiver) = spsc::pair(RING)?;
    let sender = std::sync::Mutex::new(sender);
    let mut receiver = spsc::AsyncConsumer::new(receiver);
    let send = |round| {
        let mut message = [0; MESSAGE];
        payload::fill(&mut message, round);
        Ok(sender.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send(&message)?)
    };
    woken(rounds, theirs, send, |round| {
        let mut received = std::pin::pin!(receiver.recv());
        loop {
            match received.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
                Poll::Ready(message) => return check(payload::check(&message?, round)),
                Poll::Pending => std::thread::park(),
            }
        }
    })
}

fn through_epoll(rounds: u64, theirs: Option<usize>) -> Outcome<Times> {
    let failed = |e: rustix::io::Errno| Failure::new(FAILED, e).at("epoll");
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(failed)?;
    let bells: Vec<OwnedFd> =
        (0..WOKEN).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect::<rustix::io::Result<_>>().map_err(failed)?;
    for (number, bell) in bells.iter().enumerate() {
        epoll::add(&epoll, bell, EventData::new_u64(number as u64), EventFlags::IN).map_err(failed)?;
    }
    let send = |round: u64| {
        let bell = &bells[(round % WOKEN as u64) as usize];
        rustix::io::write(bell, &1u64.to_ne_bytes()).map(drop).map_err(failed)
    };
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4];
    woken(rounds, theirs, send, |_| {
        let number = epoll::wait(&epoll, &mut buffer, None).map_err(failed)?.0[0].data.u64();
        rustix::io::read(&bells[number as usize], &mut [0; 8]).map(drop).map_err(failed)
    })
}

/// Nanoseconds a frame of a stream through one of `members` rings; of one, without a set.
fn stream(frames: u64, members: usize, theirs: Option<usize>) -> Outcome<f64> {
    let (mut senders, mut receivers, mut set) = set_of(&rings(members)?)?;
    let mut sender = senders.swap_remove(members / 2);
    let busy = &mut receivers[members / 2];
    let start = now_ns();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            theirs.into_iter().for_each(|cpu| confine([cpu]));
            let mut message = [0; MESSAGE];
            (0..frames).try_for_each(|frame| {
                payload::fill(&mut message, frame);
                sender.send(&message)
            })
        });
        let mut frame = 0;
        while frame < frames {
            if members == 1 {
                let right = payload::check(&busy.recv()?, frame);
                check(right)?;
                frame += 1;
                continue;
            }
            set.wait()?;
            // All that is there, as a program would.
            loop {
                match busy.try_recv() {
                    Ok(message) => check(payload::check(&message, frame))?,
                    Err(Error::Empty) => break,
                    Err(error) => return Err(error.into()),
                }
                frame += 1;
                if frame == frames {
                    break;
                }
            }
        }
        Ok::<(), Failure>(sending.join().unwrap_or(Err(Error::Closed))?)
    })?;
    Ok((now_ns() - start) as f64 / frames as f64)
}

fn check(right: bool) -> Outcome {
    if right { Ok(()) } else { Err(Failure::new(crate::failure::LOST, "a message is not what was sent")) }
}

/// Processor time of this process, in nanoseconds.
fn processor_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What 1,000 idle rings cost whose producers live in another process: in a set, and with
/// doorbells.
fn rest(time: Duration) -> Outcome<[Row; 2]> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let channels: Vec<Channel> =
        (0..IDLE).map(|_| Channel::new(Kind::Spsc, 4096, MESSAGE, Idle::Park)).collect::<Outcome<_>>()?;
    let mut peer = Peer::process(None)?;
    peer.tell(&Task::Hold { ports: channels.iter().map(|channel| channel.port.clone()).collect() })?;
    peer.answer()?;
    let receivers =
        channels.iter().map(|channel| spsc::Consumer::attach(&channel.ring)).collect::<slipring::Result<Vec<_>>>()?;

    let measure = |what: &str, wait: &mut dyn FnMut() -> Outcome| {
        let mut row = Row::new(what, 0, Unit::Busy);
        wait()?; // the first wait arms, and opens pidfds
        let (cpu, start) = (processor_ns(), now_ns());
        wait()?;
        row.runs.push((processor_ns() - cpu) as f64 * 1e9 / (now_ns() - start).max(1) as f64);
        row.count = 1;
        Ok::<Row, Failure>(row)
    };
    let mut set = WaitSet::new()?;
    for (number, receiver) in receivers.iter().enumerate() {
        set.add(Token(number), receiver.readable())?;
    }
    let mut in_set = measure(&format!("{IDLE} idle rings in a set"), &mut || match set.wait_deadline(time) {
        Err(Error::Timeout) => Ok(()),
        Ok(_) => Err(Failure::new(FAILED, "an idle ring is not idle")),
        Err(error) => Err(error.into()),
    })?;
    in_set.targets.push((REST, in_set.runs.median() / 1e7));
    drop(set);
    let bells = receivers.iter().map(|r| Doorbell::eventfd(r.ring())).collect::<slipring::Result<Vec<_>>>()?;
    bells.iter().for_each(|bell| _ = bell.arm());
    let mut with_bells = measure(&format!("{IDLE} idle doorbells"), &mut || {
        std::thread::sleep(time);
        Ok(())
    })?;
    with_bells.targets.push((BELLS, with_bells.runs.median() / 1e7));
    Ok([in_set, with_bells])
}

/// From the kill of a peer to the end of the wait.
fn deaths() -> Outcome<Row> {
    let mut row = Row::new("the death of an idle peer", 0, Unit::Once);
    let mut times = Times::new()?;
    for _ in 0..RUNS {
        let mut run = Times::new()?;
        for _ in 0..DEATHS {
            let channel = Channel::new(Kind::Spsc, 4096, MESSAGE, Idle::Park)?;
            let mut receiver = spsc::Consumer::attach(&channel.ring)?;
            let mut peer = Peer::process(None)?;
            peer.tell(&Task::Hold { ports: vec![channel.port.clone()] })?;
            let Answer::Done = peer.answer()? else { return Err(Failure::new(FAILED, "an unknown answer")) };
            let mut set = WaitSet::new()?;
            set.add(Token(0), receiver.readable())?;
            let waited = set.wait_deadline(Duration::from_millis(10)).map(|ready| ready.len());
            if !matches!(waited, Err(Error::Timeout)) {
                return Err(Failure::new(FAILED, "an idle ring is not idle"));
            }
            let ns = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    loop {
                        set.wait()?;
                        let end = now_ns();
                        match receiver.try_recv() {
                            Err(Error::PeerDead) => return Ok(end),
                            Err(Error::Empty) => {} // reported a moment too early
                            _ => return Err(Failure::new(FAILED, "the peer is not dead")),
                        }
                    }
                });
                std::thread::sleep(Duration::from_millis(5)); // asleep by then
                let start = now_ns();
                peer.kill()?;
                let end = waiting.join().unwrap_or_else(|_| Err(Failure::new(FAILED, "the waiting thread failed")))?;
                Ok::<f64, Failure>(end.saturating_sub(start) as f64)
            })?;
            run.add(ns);
            row.count += 1;
        }
        row.runs.push(run.median());
        times.take(&mut run)?;
    }
    row.targets.push((DEATH, times.at(0.99) / 1e6));
    row.times = Some(times);
    Ok(row)
}
