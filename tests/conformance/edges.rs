//! Descriptors polled edge-triggered, as mio, Tokio and libuv do: an event comes once for each
//! change. So a call that returns `Empty` or `Full` must leave a descriptor that still has to
//! change, or the loop sleeps for ever.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use slipring::frame::Event;
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

use super::script::{Dice, Script};
use super::subject::{PATIENCE, Subject};

const FRAMES: usize = 3000;

/// An epoll instance with one descriptor, registered once.
pub struct Edges {
    epoll: OwnedFd,
    ready: epoll::EventFlags,
    registered: Option<RawFd>,
}

impl Edges {
    pub fn readable() -> Self {
        Self::of(epoll::EventFlags::IN)
    }

    pub fn writable() -> Self {
        Self::of(epoll::EventFlags::OUT)
    }

    fn of(ready: epoll::EventFlags) -> Self {
        Edges { epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(), ready, registered: None }
    }

    /// Waits for an edge. Without a descriptor, gives other threads their turn.
    #[track_caller]
    pub fn wait(&mut self, fd: Option<BorrowedFd<'_>>) {
        let Some(fd) = fd else { return std::thread::yield_now() };
        if self.registered.is_none() {
            let flags = self.ready | epoll::EventFlags::ET;
            epoll::add(&self.epoll, fd, epoll::EventData::new_u64(0), flags).unwrap();
        }
        assert_eq!(*self.registered.get_or_insert(fd.as_raw_fd()), fd.as_raw_fd(), "another descriptor");
        let within = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let mut events = Vec::with_capacity(1);
        let count = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&within)).unwrap();
        assert_eq!(count, 1, "no edge came");
    }
}

pub fn edges(subject: &Subject) {
    let meeting = (subject.meet)();
    let (mut tx, mut rx) = meeting.pair();
    if rx.poll_fd().is_none() {
        return println!("no descriptor to poll");
    }
    edges_over(subject, tx.as_mut(), rx.as_mut());
}

/// Sends bursts in another thread, and receives in this one. Often a burst begins when the receiver
/// is about to sleep.
pub fn edges_over(subject: &Subject, tx: &mut dyn FrameSender, rx: &mut dyn FrameReceiver) {
    let longest = subject.longest.min(8192);
    let script = Script { long_in_1000: 100, ..Script::mixed(41, FRAMES, longest, subject.streams()) };
    let mut expected = script.expect(subject.capabilities);
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| send(tx, script, subject.in_flight(), &seen));
        let (mut edges, mut dice) = (Edges::readable(), Dice::new(43));
        while !expected.is_complete() {
            match rx.try_recv() {
                Ok(event) => {
                    expected.take(event);
                    seen.store(expected.seen, Ordering::Release);
                }
                Err(Error::Empty) => edges.wait(rx.poll_fd()),
                Err(error) => panic!("after {} frames: {error:?}", expected.seen),
            }
            pause(&mut dice, 100);
        }
    });
}

fn send(tx: &mut dyn FrameSender, script: Script, in_flight: usize, seen: &AtomicUsize) {
    let (mut edges, mut dice) = (Edges::writable(), Dice::new(42));
    let mut sent = 0;
    let wait_until_seen = |count: usize| {
        while seen.load(Ordering::Acquire) < count {
            std::thread::yield_now();
        }
    };
    while sent < script.frames {
        for _ in 0..(1 + dice.below(60)).min(script.frames - sent) {
            wait_until_seen((sent + 1).saturating_sub(in_flight));
            let (header, payload) = script.frame(sent);
            while let Err(error) = tx.try_send(header, &payload) {
                assert!(matches!(error, Error::Full), "frame {sent}: {error:?}");
                edges.wait(tx.poll_fd());
            }
            sent += 1;
        }
        while let Err(error) = tx.flush(Deadline::after(Duration::ZERO)) {
            assert!(matches!(error, Error::Timeout), "after frame {sent}: {error:?}");
            edges.wait(tx.poll_fd());
        }
        if dice.below(2) == 0 {
            wait_until_seen(sent);
        }
        pause(&mut dice, 4);
    }
}

/// Once in `often` calls, some microseconds.
fn pause(dice: &mut Dice, often: usize) {
    if dice.below(often) == 0 {
        std::thread::sleep(Duration::from_micros(dice.below(200) as u64));
    }
}

/// The same for latest values, of which each may be replaced before it is received: the last one
/// is.
#[allow(dead_code, reason = "signals have none")]
pub fn newest_value(mut write: impl FnMut(u64) + Send, rx: &mut dyn FrameReceiver) {
    const VALUES: u64 = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut dice = Dice::new(44);
            for value in 1..=VALUES {
                write(value);
                pause(&mut dice, 50);
            }
        });
        let mut edges = Edges::readable();
        let mut last = 0;
        while last < VALUES {
            match rx.try_recv() {
                Ok(Event::Frame(frame)) => last = u64::from_le_bytes(frame.payload.try_into().unwrap()),
                Ok(_) => {}
                Err(Error::Empty) => edges.wait(rx.poll_fd()),
                Err(error) => panic!("after {last}: {error:?}"),
            }
        }
    });
}
