//! A set of waits: no wake-up of any member is lost, and none of those that wait beside the set. A
//! sleeper that is not woken shows as a deadlock.

use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::sync::Ordering::*;
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{ALL, Event, Many, One, Sleep};
use crate::wait::several::{Pass, Sleeper};

/// Words that are published, and the lines of eventcounts beside them.
#[derive(Clone)]
struct Shared {
    lines: Area,
    words: Area,
}

impl Shared {
    fn new() -> Self {
        let all = Area::model(3 * LINE + 24);
        Shared { lines: all.part(0, 3 * LINE), words: all.part(3 * LINE, 24) }
    }

    fn one(&self, number: usize) -> One {
        One::attach(self.lines.part(number * LINE, LINE), Barrier::Fenced)
    }

    fn many(&self, number: usize) -> Many {
        Many::attach(self.lines.part(number * LINE, LINE), Barrier::Fenced)
    }

    /// Starts a thread of the model.
    fn spawn(&self, run: impl FnOnce(&Shared) + Send + 'static) -> thread::JoinHandle<()> {
        let shared = self.clone();
        thread::spawn(move || run(&shared))
    }

    fn publish(&self, number: usize) {
        self.words.word(8 * number).store(1, Release);
    }

    /// Publishes a word, and notifies the event of a byte ring.
    fn send(&self, number: usize, line: usize) {
        self.publish(number);
        self.one(line).notify();
    }

    fn is_published(&self, number: usize) -> bool {
        self.words.word(8 * number).load(Acquire) == 1
    }

    fn take(&self, number: usize) -> bool {
        let word = self.words.word(8 * number);
        word.load(Relaxed) == 1 && word.compare_exchange(1, 2, Acquire, Relaxed).is_ok()
    }
}

/// Waits on several events until `ready`, as a set does.
fn wait_until(sleeper: &mut Sleeper, events: &[Event<'_>], mut ready: impl FnMut() -> bool) {
    while !ready() && sleeper.pass(events.len(), |i| events[i], Duration::MAX, &mut ready) != Pass::Ready {}
}

/// Waits on one event until `ready`, as a blocking call does.
fn call(event: &impl Sleep, mut ready: impl FnMut() -> bool) {
    while !ready() && event.sleep(Duration::MAX, &mut ready) {}
}

/// A frame comes at any moment of a wait, also between arming and sleeping; the next wait finds the
/// first word still armed or not.
#[test]
fn each_of_two_members_wakes_the_set() {
    explore(3, || {
        let shared = Shared::new();
        let notifiers = [0, 1].map(|number| shared.spawn(move |shared| shared.send(number, number)));
        let (first, second) = (shared.one(0), shared.one(1));
        let events = [Event::One(&first, 2), Event::One(&second, 2)];
        let mut sleeper = Sleeper::default();
        wait_until(&mut sleeper, &events, || shared.is_published(0) || shared.is_published(1));
        wait_until(&mut sleeper, &events, || shared.is_published(0) && shared.is_published(1));
        notifiers.into_iter().for_each(|notifier| notifier.join().unwrap());
    });
}

/// A busy member, whose word is armed again for each sleep, beside one that stays armed.
#[test]
fn a_busy_member_hides_no_idle_one() {
    explore(3, || {
        let shared = Shared::new();
        let notifier = shared.spawn(|shared| {
            shared.send(0, 0);
            shared.send(1, 1);
            shared.send(2, 0);
        });
        let (busy, idle) = (shared.one(0), shared.one(1));
        let events = [Event::One(&busy, 2), Event::One(&idle, 2)];
        let mut sleeper = Sleeper::default();
        for number in 0..3 {
            wait_until(&mut sleeper, &events, || shared.is_published(number));
        }
        notifier.join().unwrap();
    });
}

/// A member is removed while the set waits: the set is told by its bell (line 2, word 2). It leaves
/// its arming behind; a call that waits on the same ring is woken nevertheless.
#[test]
fn a_member_is_removed_while_the_set_waits() {
    explore(3, || {
        let shared = Shared::new();
        let remover = shared.spawn(|shared| {
            shared.send(2, 2);
            call(&shared.one(0), || shared.is_published(0));
        });
        let producer = shared.spawn(|shared| shared.send(0, 0));
        let (member, bell) = (shared.one(0), shared.one(2));
        let mut sleeper = Sleeper::default();
        wait_until(&mut sleeper, &[Event::One(&member, 2), Event::One(&bell, 2)], || shared.is_published(2));
        producer.join().unwrap();
        remover.join().unwrap();
    });
}

/// A set and a call wait for the same event of a byte ring: one notification wakes both.
#[test]
fn a_set_and_a_call_wait_for_one_event() {
    explore(3, || {
        let shared = Shared::new();
        let caller = shared.spawn(|shared| call(&shared.one(0), || shared.is_published(0)));
        let producer = shared.spawn(|shared| shared.send(0, 0));
        let (member, bell) = (shared.one(0), shared.one(2));
        wait_until(&mut Sleeper::default(), &[Event::One(&member, 2), Event::One(&bell, 2)], || shared.is_published(0));
        caller.join().unwrap();
        producer.join().unwrap();
    });
}

/// Two sets wait for the same event of a byte ring, each with its bit.
#[test]
fn two_sets_wait_for_one_event() {
    explore(3, || {
        let shared = Shared::new();
        let wait = |shared: &Shared, bit: u32| {
            let (member, bell) = (shared.one(0), shared.one(2));
            let events = [Event::One(&member, bit), Event::One(&bell, bit)];
            wait_until(&mut Sleeper::default(), &events, || shared.is_published(0));
        };
        let other = shared.spawn(move |shared| wait(shared, 4));
        let producer = shared.spawn(|shared| shared.send(0, 0));
        wait(&shared, 2);
        other.join().unwrap();
        producer.join().unwrap();
    });
}

/// Two sets wait for the frames of one slot ring: each gets one of two.
#[test]
fn two_sets_share_the_frames_of_a_ring() {
    explore(2, || {
        let shared = Shared::new();
        let wait = |shared: &Shared, bell: usize| {
            let (member, bell) = (shared.many(0), shared.one(bell));
            let events = [Event::Many(&member), Event::One(&bell, 2)];
            wait_until(&mut Sleeper::default(), &events, || shared.take(0) || shared.take(1));
        };
        let others = [1, 2].map(|bell| shared.spawn(move |shared| wait(shared, bell)));
        let ring = shared.many(0);
        for number in [0, 1] {
            shared.publish(number);
            ring.notify(1);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// What concerns all sleepers wakes a set and a call on a slot ring.
#[test]
fn a_broadcast_wakes_a_set_and_a_call() {
    explore(3, || {
        let shared = Shared::new();
        let caller = shared.spawn(|shared| call(&shared.many(0), || shared.is_published(0)));
        let producer = shared.spawn(|shared| {
            shared.publish(0);
            shared.many(0).notify(ALL);
        });
        let (member, bell) = (shared.many(0), shared.one(2));
        wait_until(&mut Sleeper::default(), &[Event::Many(&member), Event::One(&bell, 2)], || shared.is_published(0));
        caller.join().unwrap();
        producer.join().unwrap();
    });
}

/// A helper that sleeps on one word is recalled: by a plain store, and an interrupt.
#[test]
fn an_interrupt_ends_the_sleep_on_one_word() {
    for is_one in [true, false] {
        explore(3, move || {
            let shared = Shared::new();
            let helper = shared.spawn(move |shared| {
                let (one, many) = (shared.one(0), shared.many(0));
                let event = if is_one { Event::One(&one, 2) } else { Event::Many(&many) };
                let is_recalled = || shared.words.word(0).load(Relaxed) == 1;
                wait_until(&mut Sleeper::default(), &[event], is_recalled);
            });
            let (one, many) = (shared.one(0), shared.many(0));
            shared.words.word(0).store(1, Relaxed);
            if is_one {
                Event::One(&one, 2).interrupt()
            } else {
                Event::Many(&many).interrupt()
            }
            helper.join().unwrap();
        });
    }
}
