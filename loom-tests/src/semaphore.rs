//! The semaphore: a permit has one holder at a time, is not lost with its holder, and no waiter
//! sleeps while a permit is free.

use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{Many, Sleep};
use crate::wait::semaphore::Permits;

/// Eventcount, permits, and 8 bytes that only the holder of the permit accesses.
struct Model {
    all: Area,
}

impl Model {
    fn permits(&self, count: usize) -> Permits {
        let freed = Many::attach(self.all.part(0, LINE), Barrier::Fenced);
        Permits::attach(self.all.part(LINE, 16), freed, count)
    }

    /// Acquires as participant `me`, changes what the permit guards, releases.
    fn use_one(&self, me: u16) {
        let permits = self.permits(1);
        let permit = acquire(&permits, me);
        self.add();
        permits.release(permit);
    }

    fn add(&self) {
        let mut value = [0];
        // SAFETY: the model checks that the permit excludes all others.
        unsafe { self.all.read(LINE + 16, &mut value) };
        // SAFETY: as above.
        unsafe { self.all.write(LINE + 16, &[value[0] + 1]) };
    }

    fn sum(&self) -> u8 {
        let mut value = [0];
        // SAFETY: as above.
        unsafe { self.all.read(LINE + 16, &mut value) };
        value[0]
    }
}

fn model() -> Model {
    Model { all: Area::model(LINE + 24) }
}

fn acquire(permits: &Permits, me: u16) -> usize {
    loop {
        let mut found = permits.try_acquire(me);
        if found.is_none() {
            permits.sleep(Duration::MAX, &mut || {
                found = permits.try_acquire(me);
                found.is_some()
            });
        }
        if let Some(permit) = found {
            return permit;
        }
    }
}

#[test]
fn two_contend_for_one_permit() {
    explore(3, || {
        let shared = std::sync::Arc::new(model());
        let other = {
            let shared = std::sync::Arc::clone(&shared);
            thread::spawn(move || shared.use_one(1))
        };
        shared.use_one(2);
        other.join().unwrap();
        assert_eq!(shared.sum(), 2);
    });
}

#[test]
fn three_contend_for_two_permits() {
    explore(2, || {
        let shared = std::sync::Arc::new(model());
        let once = |shared: &Model, me| {
            let permits = shared.permits(2);
            let permit = acquire(&permits, me);
            permits.release(permit);
        };
        let others = [1, 2].map(|me| {
            let shared = std::sync::Arc::clone(&shared);
            thread::spawn(move || once(&shared, me))
        });
        once(&shared, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(shared.permits(2).holders().sum::<u16>(), 0);
    });
}

#[test]
fn the_permit_of_a_dead_holder_is_returned() {
    explore(3, || {
        let shared = std::sync::Arc::new(model());
        let dead = {
            let shared = std::sync::Arc::clone(&shared);
            thread::spawn(move || {
                acquire(&shared.permits(1), 1);
                shared.add();
            })
        };
        let waiter = {
            let shared = std::sync::Arc::clone(&shared);
            thread::spawn(move || shared.use_one(2))
        };
        dead.join().unwrap(); // the kernel's report of the death in production
        assert_eq!(shared.permits(1).recover(1), 1);
        assert_eq!(shared.permits(1).recover(1), 0, "recovery may be repeated");
        waiter.join().unwrap();
        assert_eq!(shared.sum(), 2);
    });
}
