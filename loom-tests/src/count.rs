//! The signalling semaphore: each post is taken once, and comes with what its poster wrote; no
//! waiter sleeps while the count is not 0.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::memory::{Area, LINE};
use crate::wait::barrier::Barrier;
use crate::wait::count::{Count, MAX};
use crate::wait::eventcount::{Many, Sleep};

/// Eventcount, count, and 8 bytes for each of two posters.
struct Model {
    all: Area,
}

const DATA: usize = LINE + 8;

impl Model {
    fn count(&self) -> Count {
        Count::attach(self.all.part(LINE, 8), Many::attach(self.all.part(0, LINE), Barrier::Fenced))
    }

    /// Writes what poster `number` publishes, and posts.
    fn publish(&self, number: usize) {
        // SAFETY: the model checks that no other thread accesses these bytes before the post.
        unsafe { self.all.write(DATA + 8 * number, &[1]) };
        assert!(self.count().post(1));
    }

    fn published(&self, number: usize) -> u8 {
        let mut value = [0];
        // SAFETY: the model checks that the poster has written them before.
        unsafe { self.all.read(DATA + 8 * number, &mut value) };
        value[0]
    }
}

fn model() -> Arc<Model> {
    Arc::new(Model { all: Area::model(DATA + 16) })
}

fn wait(count: &Count) {
    loop {
        let mut taken = count.try_wait();
        if !taken {
            count.sleep(Duration::MAX, &mut || {
                taken = count.try_wait();
                taken
            });
        }
        if taken {
            return;
        }
    }
}

fn start(shared: &Arc<Model>, run: impl FnOnce(&Model) + 'static) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || run(&shared))
}

#[test]
fn a_wait_sees_what_every_poster_wrote() {
    explore(3, || {
        let shared = model();
        let posters = [0, 1].map(|number| start(&shared, move |shared| shared.publish(number)));
        let count = shared.count();
        wait(&count);
        wait(&count);
        assert_eq!([shared.published(0), shared.published(1)], [1, 1]);
        assert!(!count.try_wait());
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}

#[test]
fn a_post_of_two_releases_two_waiters() {
    explore(3, || {
        let shared = model();
        let waiters = [0, 1].map(|_| start(&shared, |shared| wait(&shared.count())));
        assert!(shared.count().post(2));
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(shared.count().now(), 0);
    });
}

#[test]
fn two_waiters_take_one_post_each() {
    explore(2, || {
        let shared = model();
        let waiter = start(&shared, |shared| wait(&shared.count()));
        let poster = start(&shared, |shared| {
            assert!(shared.count().post(1));
            assert!(shared.count().post(1));
        });
        wait(&shared.count());
        waiter.join().unwrap();
        poster.join().unwrap();
        assert!(!shared.count().try_wait());
    });
}

#[test]
fn the_count_does_not_overflow() {
    explore(4, || {
        let shared = model();
        assert!(shared.count().post(MAX - 1));
        let poster = start(&shared, |shared| _ = shared.count().post(1));
        let _ = shared.count().post(1);
        poster.join().unwrap();
        assert_eq!(shared.count().now(), MAX);
        assert!(!shared.count().post(1));
        assert!(!shared.count().post(u32::MAX));
        assert_eq!(shared.count().now(), MAX);
    });
}
