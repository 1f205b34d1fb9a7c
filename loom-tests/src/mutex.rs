//! The mutex: one holder at a time; the next holder sees all writes of the last one; a dead holder
//! is reported.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{Many, Sleep};
use crate::wait::mutex::{Lock, Locked};

/// The lock word, 8 bytes that only its holder accesses, and the eventcount of the sets.
struct Model {
    all: Area,
}

impl Model {
    fn lock(&self) -> Lock {
        Lock::attach(self.all.part(0, 8), Many::attach(self.all.part(16, LINE), Barrier::Fenced))
    }

    fn add(&self) -> u8 {
        let mut value = [0];
        // SAFETY: the model checks that the lock excludes all others.
        unsafe { self.all.read(8, &mut value) };
        // SAFETY: as above.
        unsafe { self.all.write(8, &[value[0] + 1]) };
        value[0] + 1
    }

    /// Locks as `me`, adds, unlocks.
    fn use_once(&self, me: u16) -> Locked {
        let lock = self.lock();
        let locked = acquire(&lock, me);
        self.add();
        lock.unlock();
        locked
    }
}

fn model() -> Arc<Model> {
    Arc::new(Model { all: Area::model(16 + LINE) })
}

fn acquire(lock: &Lock, me: u16) -> Locked {
    let claim = lock.claim(me);
    loop {
        let mut found = claim.try_lock();
        if found.is_none() {
            claim.sleep(Duration::MAX, &mut || {
                found = claim.try_lock();
                found.is_some()
            });
        }
        if let Some(locked) = found {
            return locked;
        }
    }
}

#[test]
fn two_exclude_each_other() {
    explore(4, || {
        let shared = model();
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.use_once(1))
        };
        assert!(!shared.use_once(2).owner_died);
        other.join().unwrap();
        assert_eq!(shared.add(), 3);
    });
}

#[test]
fn three_threads_take_the_lock_in_turn() {
    explore(2, || {
        let shared = model();
        let others = [1, 2].map(|me| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.use_once(me))
        });
        shared.use_once(3);
        others.into_iter().for_each(|other| assert!(!other.join().unwrap().owner_died));
        assert_eq!(shared.add(), 4);
    });
}

#[test]
fn a_waiter_that_times_out_leaves_no_other_asleep() {
    explore(2, || {
        let shared = model();
        let patient = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.use_once(1))
        };
        let impatient = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (lock, mut mine) = (shared.lock(), None);
                let claim = lock.claim(2);
                claim.sleep(Duration::MAX, &mut || {
                    mine = claim.try_lock();
                    mine.is_some()
                });
                if mine.or_else(|| claim.try_lock()).is_some() {
                    lock.unlock();
                }
            })
        };
        shared.use_once(3);
        shared.use_once(3);
        patient.join().unwrap();
        impatient.join().unwrap();
    });
}

#[test]
fn a_dead_holder_is_reported_until_the_data_is_repaired() {
    explore(3, || {
        let shared = model();
        let dead = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                acquire(&shared.lock(), 1);
                shared.add();
            })
        };
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.use_once(2))
        };
        dead.join().unwrap(); // the kernel's report of the death in production
        let lock = shared.lock();
        assert!(lock.recover(1));
        assert!(!lock.recover(1), "recovery may be repeated");
        let locked = acquire(&lock, 3);
        assert!(locked.owner_died);
        shared.add();
        lock.mark_consistent();
        lock.unlock();
        waiter.join().unwrap();
        assert!(!acquire(&lock, 3).owner_died);
    });
}

/// Sleeps as a set does until the lock is free.
fn await_free(lock: &Lock) {
    let is_free = || lock.owner() == 0;
    while !is_free() {
        lock.released().sleep(Duration::MAX, &mut || is_free());
    }
}

#[test]
fn a_set_sleeps_until_the_lock_is_free() {
    explore(3, || {
        let shared = model();
        let lock = shared.lock();
        let locked = acquire(&lock, 1);
        assert!(!locked.owner_died);
        let set = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || await_free(&shared.lock()))
        };
        lock.unlock();
        set.join().unwrap();
    });
}

#[test]
fn a_set_sleeps_until_a_dead_holder_is_recovered() {
    explore(3, || {
        let shared = model();
        let lock = shared.lock();
        acquire(&lock, 1);
        let set = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || await_free(&shared.lock()))
        };
        assert!(lock.recover(1));
        set.join().unwrap();
    });
}
