//! How often a poll of a doorbell ends for nothing: at most once for each ring, whatever triggers
//! it, so that an event loop sleeps while nothing comes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use slipring::frame::{Event, Header};
use slipring::transport::{Doorbell, FrameDoorbell, FrameReceiver, FrameSender, pipe, ring, stream};
use slipring::{Error, Options, Readiness, Ring, Token, WaitSet};

const ROUNDS: usize = 20;
const SOON: Duration = Duration::from_secs(20);
/// A loop that slept for so long is at rest.
const REST: Duration = Duration::from_millis(3);

fn rings() -> Vec<Ring> {
    let all = [Options::spsc(4096), Options::mpmc(8, 64), Options::mpsc(4096, 4), Options::broadcast(4096)];
    all.iter().map(|options| Ring::create_anonymous(options).unwrap()).collect()
}

/// The three ways in which a loop waits for a descriptor.
enum Loop {
    Epoll(OwnedFd),
    Set(Box<WaitSet>),
}

fn loops(fd: BorrowedFd<'_>, writable: bool) -> [Loop; 3] {
    let epoll = |more| {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = if writable { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        epoll::add(&poll, fd, epoll::EventData::new_u64(0), flags | more).unwrap();
        Loop::Epoll(poll)
    };
    let mut set = WaitSet::new().unwrap();
    let readiness = if writable { Readiness::writable_fd(fd) } else { Readiness::readable_fd(fd) };
    set.add(Token(0), readiness.unwrap()).unwrap();
    [epoll(epoll::EventFlags::empty()), epoll(epoll::EventFlags::ET), Loop::Set(Box::new(set))]
}

impl Loop {
    /// Waits for a moment. Whether the wait ended for the descriptor.
    fn wakes(&mut self) -> bool {
        match self {
            Loop::Epoll(poll) => {
                let mut events = Vec::with_capacity(4);
                let rest = Timespec { tv_sec: 0, tv_nsec: REST.as_nanos() as i64 };
                epoll::wait(&*poll, rustix::buffer::spare_capacity(&mut events), Some(&rest)).unwrap() > 0
            }
            Loop::Set(set) => match set.wait_deadline(REST) {
                Ok(_) => true,
                Err(Error::Timeout) => false,
                Err(error) => panic!("{error}"),
            },
        }
    }
}

/// Does something `ROUNDS` times, each time when the loop is at rest, and counts how often the loop
/// wakes up and `handle` finds nothing to do.
fn check(what: &str, mut poll: Loop, mut cause: impl FnMut(), mut handle: impl FnMut() -> usize) {
    handle();
    let mut empty = 0;
    for round in 0..ROUNDS {
        cause();
        let (start, mut done) = (Instant::now(), 0);
        loop {
            if poll.wakes() {
                let now = handle();
                done += now;
                empty += usize::from(now == 0);
                assert!(empty <= 2 * ROUNDS, "{what}: {empty} wake-ups for nothing in {} rounds", round + 1);
            } else if done > 0 {
                break;
            }
            assert!(start.elapsed() < SOON, "{what}: round {round} was not announced");
        }
    }
    println!("{what}: {empty} wake-ups for nothing in {ROUNDS} rounds");
}

fn drain(rx: &mut impl FrameReceiver) -> usize {
    let mut frames = 0;
    loop {
        match rx.try_recv() {
            Ok(Event::Frame(_)) => frames += 1,
            Err(Error::Empty) => return frames,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_receiver_wakes_once_for_a_frame() {
    for number in 0..3 {
        for ring in rings() {
            let mut rx = ring::Receiver::attach(&ring).unwrap().with_doorbell().unwrap();
            let mut tx = ring::Sender::attach(&ring).unwrap();
            let poll = loops(rx.poll_fd().unwrap(), false).into_iter().nth(number).unwrap();
            let what = format!("receiver, {:?}, loop {number}", ring.kind());
            check(&what, poll, || tx.try_send(Header::PLAIN, b"frame").unwrap(), || drain(&mut rx));
        }
    }
}

#[test]
fn a_bell_of_its_own_wakes_once_for_a_frame() {
    for number in 0..3 {
        for ring in rings() {
            let mut rx = ring::Receiver::attach(&ring).unwrap();
            let mut tx = ring::Sender::attach(&ring).unwrap();
            let bell = Doorbell::eventfd(&ring).unwrap();
            let poll = loops(bell.as_fd(), false).into_iter().nth(number).unwrap();
            let handle = || {
                let mut frames = drain(&mut rx);
                while bell.arm() {
                    frames += drain(&mut rx);
                }
                frames
            };
            let what = format!("doorbell, {:?}, loop {number}", ring.kind());
            check(&what, poll, || tx.try_send(Header::PLAIN, b"frame").unwrap(), handle);
        }
    }
}

#[test]
fn a_sender_wakes_once_for_room() {
    for number in 0..3 {
        for ring in rings() {
            let mut rx = ring::Receiver::attach(&ring).unwrap();
            let mut tx = ring::Sender::attach(&ring).unwrap().with_doorbell().unwrap();
            let poll = loops(tx.poll_fd().unwrap(), true).into_iter().nth(number).unwrap();
            let handle = || {
                let mut frames = 0;
                while tx.try_send(Header::PLAIN, &[7; 48]).map_err(|e| assert!(matches!(e, Error::Full))).is_ok() {
                    frames += 1;
                }
                frames
            };
            let what = format!("sender, {:?}, loop {number}", ring.kind());
            check(&what, poll, || assert!(drain(&mut rx) > 0), handle);
        }
    }
}

#[test]
fn a_bell_of_frames_sends_one_for_a_frame() {
    for number in 0..3 {
        for ring in rings() {
            let (bell, mut rung) = pipe::pair(&stream::Options::new()).unwrap();
            let mut rx = ring::Receiver::attach(&ring).unwrap();
            let mut tx = ring::Sender::attach(&ring).unwrap();
            let bell = FrameDoorbell::new(&ring, Box::new(bell)).unwrap();
            let poll = loops(rung.poll_fd().unwrap(), false).into_iter().nth(number).unwrap();
            let handle = || {
                drain(&mut rung);
                let mut frames = drain(&mut rx);
                while bell.arm() {
                    frames += drain(&mut rx);
                }
                frames
            };
            let what = format!("bell of frames, {:?}, loop {number}", ring.kind());
            check(&what, poll, || tx.try_send(Header::PLAIN, b"frame").unwrap(), handle);
        }
    }
}
