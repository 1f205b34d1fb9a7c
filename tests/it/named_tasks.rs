//! Tasks at semaphores, mutexes and events: what wakes them, and that a dropped future keeps no
//! permit, post or lock, whatever it was waiting for.

use std::pin::pin;
use std::task::Poll;

use slipring::{
    AsyncEvent, AsyncMutex, AsyncSemaphore, AsyncSignalSemaphore, Error, Event, Mutex, Semaphore, SignalSemaphore,
};

use crate::common::tasks::{Count, block_on};
use crate::tasks::{STAGES, drop_at};
use crate::wait::{kill, name, start};

#[test]
fn a_dropped_future_keeps_no_permit() {
    for stage in STAGES {
        let semaphore = Semaphore::create_anonymous(1).unwrap();
        let tasks = AsyncSemaphore::new(semaphore.clone());
        let mut held = semaphore.try_acquire().unwrap();
        // Another task waits behind the dropped one: it gets the permit, whatever becomes of that.
        let (count, mut second) = (Count::new(), Box::pin(tasks.acquire()));
        drop_at(stage, tasks.acquire(), || {
            assert!(count.poll(second.as_mut()).is_pending());
            held = None;
        });
        count.wait(1); // woken, not found by a look
        count.wait_until(|| count.poll(second.as_mut()).is_ready());
        drop(second);
        assert_eq!(semaphore.available(), 1, "{stage:?}");
    }
}

#[test]
fn a_dropped_future_takes_no_post() {
    for stage in STAGES {
        let semaphore = SignalSemaphore::create_anonymous().unwrap();
        let tasks = AsyncSignalSemaphore::new(semaphore.clone());
        let (count, mut second) = (Count::new(), Box::pin(tasks.wait()));
        drop_at(stage, tasks.wait(), || {
            assert!(count.poll(second.as_mut()).is_pending());
            semaphore.post_many(2).unwrap();
        });
        count.wait(1); // woken, not found by a look
        count.wait_until(|| count.poll(second.as_mut()).is_ready());
        // One for the second task, and one for the first if it was polled to its end.
        let left = semaphore.count();
        assert_eq!(left, u32::from(stage != crate::tasks::Stage::Ready), "{stage:?}");
    }
}

#[test]
fn a_dropped_future_keeps_no_lock() {
    for stage in STAGES {
        let mutex = Mutex::create_anonymous(8).unwrap();
        let tasks = AsyncMutex::new(mutex.clone());
        let mut held = mutex.try_lock().unwrap();
        let (count, mut second) = (Count::new(), Box::pin(tasks.lock()));
        drop_at(stage, tasks.lock(), || {
            assert!(count.poll(second.as_mut()).is_pending());
            held = None;
        });
        count.wait(1);
        count.wait_until(|| matches!(count.poll(second.as_mut()), Poll::Ready(Ok(locked)) if !locked.owner_died()));
        drop(second);
        assert!(mutex.try_lock().unwrap().is_some(), "{stage:?}");
    }
}

#[test]
fn an_event_wakes_all_tasks_also_if_it_is_reset_at_once() {
    for stage in STAGES {
        let event = Event::create_anonymous().unwrap();
        let tasks = AsyncEvent::new(event.clone());
        let counts = [(); 3].map(|()| Count::new());
        let mut waits = [(); 3].map(|()| Box::pin(tasks.wait()));
        let late = tasks.wait();
        drop_at(stage, tasks.wait(), || {
            for (count, wait) in counts.iter().zip(&mut waits) {
                assert!(count.poll(wait.as_mut()).is_pending());
            }
            event.set().unwrap();
            event.reset().unwrap();
        });
        for (count, wait) in counts.iter().zip(&mut waits) {
            count.wait(1);
            count.wait_until(|| count.poll(wait.as_mut()).is_ready());
        }
        block_on(late).unwrap(); // it began before, although it was not polled then
        let next = pin!(tasks.wait());
        assert!(Count::new().poll(next).is_pending(), "{stage:?}");
    }
}

#[test]
fn tasks_and_threads_share_permits_posts_and_a_mutex() {
    const TURNS: u32 = 500;
    let (semaphore, posts) = (Semaphore::create_anonymous(1).unwrap(), SignalSemaphore::create_anonymous().unwrap());
    let (mutex, go) = (Mutex::create_anonymous(8).unwrap(), Event::create_anonymous().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (semaphore, posts) = (AsyncSemaphore::new(semaphore.clone()), AsyncSignalSemaphore::new(posts.clone()));
            let (mutex, go) = (AsyncMutex::new(mutex.clone()), AsyncEvent::new(go.clone()));
            scope.spawn(move || {
                block_on(async {
                    go.wait().await?;
                    for _ in 0..TURNS {
                        posts.wait().await?;
                        let _permit = semaphore.acquire().await?;
                        mutex.lock().await?.into_guard()[0] ^= 1;
                    }
                    Ok::<(), Error>(())
                })
                .unwrap();
            });
        }
        scope.spawn(|| {
            for _ in 0..TURNS {
                posts.wait().unwrap();
                let _permit = semaphore.acquire().unwrap();
                mutex.lock().unwrap().into_guard()[0] ^= 1;
            }
        });
        go.set().unwrap();
        for n in 0..3 * TURNS {
            posts.post().unwrap();
            if n % 64 == 0 {
                std::thread::yield_now(); // some fall asleep
            }
        }
    });
    assert_eq!((posts.count(), semaphore.available()), (0, 1));
}

/// The reactor learns of the death of a holder in another process.
#[test]
fn the_death_of_a_holder_wakes_a_task() {
    let names = ["task-permit", "task-mutex"].map(name);
    let semaphore = AsyncSemaphore::new(Semaphore::create(&names[0], 1).unwrap());
    let mutex = AsyncMutex::new(Mutex::create(&names[1], 8).unwrap());
    let holders = [start("hold permits", &names[0]), start("hold mutex", &names[1])];
    let (permit_count, lock_count) = (Count::new(), Count::new());
    let (mut permit, mut lock) = (pin!(semaphore.acquire()), pin!(mutex.lock()));
    assert!(permit_count.poll(permit.as_mut()).is_pending() && lock_count.poll(lock.as_mut()).is_pending());
    holders.into_iter().for_each(kill);
    permit_count.wait(1);
    permit_count.wait_until(|| permit_count.poll(permit.as_mut()).is_ready());
    lock_count.wait(1);
    lock_count.wait_until(|| matches!(lock_count.poll(lock.as_mut()), Poll::Ready(Ok(lock)) if lock.owner_died()));
    Semaphore::remove(&names[0]).unwrap();
    Mutex::remove(&names[1]).unwrap();
}
