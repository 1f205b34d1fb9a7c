//! The event: one set releases every wait that began before, also if it is reset at once; and what
//! a setter wrote is seen.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::sync::Ordering::Relaxed;
use crate::wait::barrier::Barrier;
use crate::wait::event::{Flag, Seen};
use crate::wait::eventcount::{Many, Sleep};

/// Eventcount, flag, 8 bytes that a setter writes, and an atomic word.
struct Model {
    all: Area,
}

const FLAG: usize = LINE;
const DATA: usize = LINE + 8;
const WORD: usize = LINE + 16;

impl Model {
    fn flag(&self) -> Flag {
        Flag::attach(self.all.part(FLAG, 8), Many::attach(self.all.part(0, LINE), Barrier::Fenced))
    }

    fn write(&self) {
        // SAFETY: the model checks that no other thread accesses these bytes before the set.
        unsafe { self.all.write(DATA, &[1]) };
    }

    fn read(&self) -> u8 {
        let mut value = [0];
        // SAFETY: the model checks that the setter has written them before.
        unsafe { self.all.read(DATA, &mut value) };
        value[0]
    }
}

fn model() -> Arc<Model> {
    Arc::new(Model { all: Area::model(WORD + 8) })
}

fn wait(flag: &Flag, began: Seen) {
    loop {
        let mut over = flag.is_over(began);
        if !over {
            flag.sleep(Duration::MAX, &mut || {
                over = flag.is_over(began);
                over
            });
        }
        if over {
            return;
        }
    }
}

fn start(shared: &Arc<Model>, run: impl FnOnce(&Model) + 'static) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || run(&shared))
}

#[test]
fn a_set_releases_all_waiters() {
    explore(3, || {
        let shared = model();
        let waiters = [0, 1].map(|_| {
            start(&shared, |shared| {
                wait(&shared.flag(), shared.flag().begin());
                assert_eq!(shared.read(), 1);
            })
        });
        shared.write();
        shared.flag().set();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(shared.flag().is_set());
    });
}

#[test]
fn a_set_that_is_reset_at_once_releases_the_waits_that_began_before() {
    explore(3, || {
        let shared = model();
        let began = shared.flag().begin();
        let setter = start(&shared, |shared| {
            shared.write();
            shared.flag().set();
        });
        let resetter = start(&shared, |shared| _ = shared.flag().reset());
        wait(&shared.flag(), began);
        assert_eq!(shared.read(), 1);
        setter.join().unwrap();
        resetter.join().unwrap();
    });
}

#[test]
fn a_reset_sees_what_the_sets_that_it_clears_published() {
    explore(4, || {
        let shared = model();
        let setter = start(&shared, |shared| {
            shared.write();
            shared.flag().set();
        });
        if shared.flag().reset() {
            assert_eq!(shared.read(), 1);
        }
        setter.join().unwrap();
    });
}

/// The consumer resets, looks, and waits: no step of the producer is missed, although its second
/// set finds the flag set.
#[test]
fn a_consumer_that_resets_before_it_looks_misses_nothing() {
    explore(3, || {
        let shared = model();
        let setter = start(&shared, |shared| {
            for step in 1..=2 {
                shared.all.word(WORD).store(step, Relaxed);
                shared.flag().set();
            }
        });
        let flag = shared.flag();
        loop {
            flag.reset();
            if shared.all.word(WORD).load(Relaxed) == 2 {
                break;
            }
            wait(&flag, flag.begin());
        }
        setter.join().unwrap();
    });
}

#[test]
fn a_setter_wakes_the_sleepers_that_a_killed_setter_has_left() {
    explore(3, || {
        let shared = model();
        let waiter = start(&shared, |shared| {
            let flag = shared.flag();
            flag.sleep(Duration::MAX, &mut || flag.is_set());
        });
        shared.all.word(FLAG).fetch_or(1, Relaxed); // and is killed before it wakes
        shared.flag().set();
        waiter.join().unwrap();
    });
}

#[test]
fn two_resets_count_one_set_once() {
    explore(4, || {
        let shared = model();
        shared.flag().set();
        let other = start(&shared, |shared| {
            shared.flag().reset();
        });
        shared.flag().reset();
        other.join().unwrap();
        assert!(!shared.flag().is_set() && !shared.flag().reset());
        assert_eq!(shared.flag().begin(), Seen(2));
    });
}
