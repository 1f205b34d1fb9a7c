//! Doorbells: a consumer that polls a descriptor, the reactor that rings, a producer.
//!
//! The eventfd, the ring and the reactor's set are modelled by locks, as the kernel and the
//! eventcounts behave; the state is the library's. A lost ring is a deadlock.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::doorbell_state::{Bell, State};
use crate::explore;

#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    Level,
    Edge,
}

/// What is in the kernel: the eventfd, and what a poll waits for.
#[derive(Default)]
struct Descriptor {
    count: u32,
    edge: bool,
}

/// The ring, and what the reactor knows of it.
#[derive(Default)]
struct Ring {
    frames: u32,
    waits: bool,
    stopped: bool,
}

struct Rig {
    state: State,
    fd: (Mutex<Descriptor>, Condvar),
    ring: (Mutex<Ring>, Condvar),
    /// What the consumer marks, and the reactor looks at: ordered by the state alone.
    mark: AtomicU32,
    rings: AtomicU32,
}

impl Bell for Rig {
    fn reset(&self) {
        self.fd.0.lock().unwrap().count = 0;
    }

    fn announce(&self) {
        self.rings.fetch_add(1, Relaxed);
        let mut fd = self.fd.0.lock().unwrap();
        (fd.count, fd.edge) = (fd.count + 1, true);
        self.fd.1.notify_one();
    }
}

impl Rig {
    fn new() -> Arc<Self> {
        Arc::new(Rig {
            state: State::new(),
            fd: (Mutex::default(), Condvar::new()),
            ring: (Mutex::default(), Condvar::new()),
            mark: AtomicU32::new(0),
            rings: AtomicU32::new(0),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut self.ring.0.lock().unwrap());
        self.ring.1.notify_one();
    }

    fn takes(&self) -> bool {
        let mut ring = self.ring.0.lock().unwrap();
        let some = ring.frames > 0;
        ring.frames -= u32::from(some);
        some
    }

    fn poll(&self, trigger: Trigger) {
        let mut fd = self.fd.0.lock().unwrap();
        while fd.count == 0 || (trigger == Trigger::Edge && !fd.edge) {
            fd = self.fd.1.wait(fd).unwrap();
        }
        fd.edge = false;
    }

    fn react(&self) {
        loop {
            let mut ring = self.ring.0.lock().unwrap();
            while !(ring.stopped || (ring.waits && ring.frames > 0)) {
                ring = self.ring.1.wait(ring).unwrap();
            }
            if ring.stopped {
                return;
            }
            ring.waits = false;
            drop(ring);
            self.state.ring(self, || self.change(|ring| ring.waits = true));
        }
    }
}

fn a_consumer_is_told_of_every_frame(trigger: Trigger, frames: u32, preemptions: usize) {
    explore(preemptions, move || {
        let rig = Rig::new();
        let reactor = thread::spawn({
            let rig = Arc::clone(&rig);
            move || rig.react()
        });
        let producer = thread::spawn({
            let rig = Arc::clone(&rig);
            move || (0..frames).for_each(|_| rig.change(|ring| ring.frames += 1))
        });
        let (mut taken, mut polls, mut empty) = (0, 0, 0);
        while taken < frames {
            let before = taken;
            loop {
                if rig.takes() {
                    taken += 1;
                } else if !rig.state.arm(
                    &*rig,
                    || rig.mark.store(taken, Relaxed),
                    || {
                        rig.change(|ring| ring.waits = true);
                    },
                ) {
                    break;
                }
            }
            empty += u32::from(polls > 0 && taken == before);
            if taken < frames {
                rig.poll(trigger);
                polls += 1;
            }
        }
        producer.join().unwrap();
        rig.change(|ring| ring.stopped = true);
        reactor.join().unwrap();
        let rings = rig.rings.load(Relaxed);
        assert!(
            rings <= 2 * frames && polls <= rings && empty <= frames,
            "{polls} polls, {empty} empty, {rings} rings"
        );
    });
}

/// Catches: a bell that rings, and is not armed afterwards, or whose reactor does not wait again; one
/// that is rung again instead.
#[test]
fn a_level_triggered_poll_ends_once_for_each_ring() {
    a_consumer_is_told_of_every_frame(Trigger::Level, 2, 2);
}

/// Catches the same.
#[test]
fn an_edge_triggered_poll_ends_once_for_each_ring() {
    a_consumer_is_told_of_every_frame(Trigger::Edge, 2, 2);
}
