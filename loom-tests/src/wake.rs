//! Rings and eventcounts together, as the handles combine them: a participant that sleeps at one
//! end of a ring is woken by the other end. Sleeps have no cap here, so a lost wake-up is a
//! deadlock.

use std::time::Duration;

use loom::thread;

use crate::error::Error;
use crate::explore;
use crate::latest;
use crate::memory::{Area, LINE};
use crate::mpmc;
use crate::ring::latest::core::Writer;
use crate::ring::mpmc::core::Claim;
use crate::ring::mpmc::layout::Stop;
use crate::ring::spsc::core::{Consumer, Producer};
use crate::ring::spsc::layout::Shared;
use crate::spsc;
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{ALL, Many, One, Sleep};

/// Sleeps until `attempt` returns a value, as `wait/block.rs` does.
fn wait_for<T>(event: &impl Sleep, mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut found = attempt();
        if found.is_none() {
            event.sleep(Duration::MAX, &mut || {
                found = attempt();
                found.is_some()
            });
        }
        if let Some(found) = found {
            return found;
        }
    }
}

/// An SPSC ring with its two eventcounts: where the consumer sleeps, and where the producer does.
#[derive(Clone)]
struct Spsc {
    ring: Shared,
    data: One,
    space: One,
}

impl Spsc {
    fn new(capacity: usize) -> Self {
        let [data, space] = [0, 1].map(|_| One::attach(Area::model(LINE), Barrier::Fenced));
        Spsc { ring: spsc::ring(capacity), data, space }
    }

    fn send(&self, tx: &mut Producer, values: std::ops::Range<u32>) {
        for value in values {
            if !tx.has_room(tx.tail(), 8) {
                wait_for(&self.space, || spsc::has_room(tx).then_some(()));
            }
            assert!(spsc::send(tx, value));
            self.data.notify();
        }
    }

    /// Receives as `Consumer::recv` does: releases are published, and the producer notified, before
    /// a sleep.
    fn recv(&self, rx: &mut Consumer, expected: std::ops::Range<u32>) {
        for expected in expected {
            let frame = rx.look().unwrap_or_else(|_| {
                if rx.publish() {
                    self.space.notify();
                }
                wait_for(&self.data, || rx.look().ok())
            });
            let mut payload = [0; 8];
            rx.read(&frame, &mut payload);
            assert_eq!(u64::from_le_bytes(payload), u64::from(expected));
            if rx.release(frame.end()) {
                self.space.notify();
            }
        }
    }

    /// `sent` frames are in the ring already, `more` follow while they are received.
    fn pass(&self, sent: u32, more: u32) {
        let mut tx = Producer::attach(self.ring.clone()).unwrap();
        let mut rx = Consumer::attach(self.ring.clone()).unwrap();
        assert!((0..sent).all(|value| spsc::send(&mut tx, value)));
        let sender = {
            let this = self.clone();
            thread::spawn(move || this.send(&mut tx, sent..sent + more))
        };
        self.recv(&mut rx, 0..sent + more);
        sender.join().unwrap();
    }
}

/// Both ends sleep in turn: one frame fits.
#[test]
fn spsc_sleeps_on_empty_and_on_full() {
    explore(3, || Spsc::new(32).pass(0, 2));
}

/// The producer sleeps on a full ring whose consumer publishes its releases only from time to time.
#[test]
fn spsc_lazy_head_wakes_the_producer() {
    explore(2, || Spsc::new(256).pass(10, 1));
}

/// An MPMC ring of two slots and the eventcount of its consumers.
#[derive(Clone)]
struct Mpmc {
    ring: mpmc::Ring,
    data: Many,
}

impl Mpmc {
    fn new() -> Self {
        Mpmc { ring: mpmc::ring(2), data: Many::attach(Area::model(LINE), Barrier::Fenced) }
    }

    fn commit(&self, claim: Claim, value: u64) {
        self.ring.write(&claim, &value.to_le_bytes());
        self.ring.commit(claim, mpmc::header(value));
        self.data.notify(1);
    }

    /// Receives as `Consumer::recv` does: a consumer that had to wait wakes another one for the
    /// frames after its own.
    fn recv(&self, me: u16) -> u64 {
        mpmc::ring_try(&self.ring, me).unwrap_or_else(|| {
            let taken = wait_for(&self.data, || match self.ring.take(me) {
                Err(Stop::Empty) => None,
                taken => Some(taken.unwrap()),
            });
            if self.ring.has_more() {
                self.data.notify(1);
            }
            mpmc::finish(&self.ring, taken)
        })
    }

    /// `finish` ends a claim that is older than another producer's, while `consumers` wait for the
    /// frames.
    fn behind_a_claim(self, consumers: usize, finish: impl FnOnce(&Self, Claim)) -> Vec<u64> {
        let first = self.ring.claim(1).unwrap();
        let other = thread::spawn({
            let this = self.clone();
            move || this.commit(this.ring.claim(2).unwrap(), 20)
        });
        let consumers: Vec<_> = (0..consumers as u16)
            .map(|i| {
                let this = self.clone();
                thread::spawn(move || this.recv(3 + i))
            })
            .collect();
        finish(&self, first);
        other.join().unwrap();
        let mut seen: Vec<_> = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect();
        seen.sort_unstable();
        seen
    }
}

/// A frame behind an aborted claim: the consumer that sleeps in front of the claim is woken.
#[test]
fn mpmc_an_abort_makes_the_next_frame_visible() {
    explore(3, || {
        let seen = Mpmc::new().behind_a_claim(1, |this, claim| {
            this.ring.abort(claim);
            this.data.notify(1);
        });
        assert_eq!(seen, [20]);
    });
}

/// A frame behind a claim that is committed later: each of two sleeping consumers gets one.
#[test]
fn mpmc_a_late_commit_makes_the_next_frame_visible() {
    explore(1, || {
        let seen = Mpmc::new().behind_a_claim(2, |this, claim| this.commit(claim, 10));
        assert_eq!(seen, [10, 20]);
    });
}

/// Two readers sleep until there is a value; the writer publishes one, and wakes all.
#[test]
fn latest_readers_are_woken_by_a_value() {
    explore(2, || {
        let (board, event) = (latest::board(), Many::attach(Area::model(LINE), Barrier::Fenced));
        let readers = [0, 1].map(|_| {
            let (board, event) = (board.clone(), event.clone());
            thread::spawn(move || assert_eq!(wait_for(&event, || latest::read(&board)), 1))
        });
        let mut tx = Writer::attach(board).unwrap();
        latest::write(&mut tx, 1);
        event.notify(ALL);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
