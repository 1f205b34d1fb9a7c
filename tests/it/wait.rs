//! Semaphores and mutexes across processes: exclusion, and what happens when a holder is killed.
//!
//! The other process is this test program, started again with a role in its environment.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};

use slipring::{Error, Idle, Locked, Mutex, Semaphore};

use crate::common::this_test::{start_until_ready, this_test};

/// Far longer than any call here takes: a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const ROUNDS: usize = 20_000;

/// A segment name, unique for each test.
fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

/// Runs `role` on the segment `name` in another process, and waits until it reports that it is
/// ready.
fn start(role: &str, name: &str) -> Child {
    let mut command = this_test(module_path!(), "other_process");
    start_until_ready(command.envs([("SLIPRING_TEST_ROLE", role), ("SLIPRING_TEST_NAME", name)]))
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Not a test: the other process.
#[test]
fn other_process() {
    let (Ok(role), Ok(name)) = (std::env::var("SLIPRING_TEST_ROLE"), std::env::var("SLIPRING_TEST_NAME")) else {
        return;
    };
    let ready_then_wait = || {
        println!("ready");
        std::io::stdout().flush().unwrap();
        let _ = std::io::stdin().read_line(&mut String::new()); // until the parent kills this process, or dies itself
    };
    match role.as_str() {
        "hold permits" => {
            let semaphore = Semaphore::open(&name).unwrap();
            let _all: Vec<_> = (0..semaphore.permits()).map(|_| semaphore.acquire().unwrap()).collect();
            ready_then_wait();
        }
        "hold mutex" => {
            let mutex = Mutex::open(&name).unwrap();
            let mut guard = mutex.lock().unwrap().into_guard();
            guard[0] = 0xFF;
            ready_then_wait();
        }
        "count" => {
            let mutex = Mutex::open(&name).unwrap();
            println!("ready");
            (0..ROUNDS).for_each(|_| increment(&mutex));
        }
        other => panic!("no role {other}"),
    }
}

/// Not atomic: without exclusion the two halves differ.
fn increment(mutex: &Mutex) {
    let Locked::Consistent(mut guard) = mutex.lock_deadline(SOON).unwrap() else { panic!("no holder has died") };
    let (left, right) = guard.split_at_mut(8);
    assert_eq!(left, right);
    let next = u64::from_le_bytes(left.try_into().unwrap()) + 1;
    left.copy_from_slice(&next.to_le_bytes());
    right.copy_from_slice(&next.to_le_bytes());
}

#[test]
fn permits_of_a_killed_process_are_returned() {
    let name = name("permits");
    let semaphore = Semaphore::create(&name, 3).unwrap();
    let child = start("hold permits", &name);
    assert_eq!(semaphore.available(), 0);
    assert!(matches!(semaphore.acquire_deadline(Duration::ZERO), Err(Error::Timeout)));
    kill(child);
    let permit = semaphore.acquire_deadline(SOON).unwrap();
    assert_eq!(semaphore.available(), 2, "all three permits returned at once");
    drop(permit);
    Semaphore::remove(&name).unwrap();
}

/// Repeats a call until it succeeds: a handle checks the holders' liveness only from time to time.
fn soon<T>(mut call: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        match call() {
            Some(found) => return found,
            None => assert!(start.elapsed() < SOON, "the permits of a dead holder are not returned"),
        }
    }
}

#[test]
fn try_calls_recover_from_dead_holders_as_well() {
    let name = name("trying");
    for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
        let semaphore = Semaphore::create(&name, 2).unwrap();
        semaphore.set_idle(idle);
        let child = start("hold permits", &name);
        assert!(semaphore.try_acquire().unwrap().is_none());
        kill(child);
        let tried = soon(|| semaphore.try_acquire().unwrap());
        assert_eq!(semaphore.available(), 1, "both permits returned at once");
        drop(tried);
        kill(start("hold permits", &name));
        drop(soon(|| semaphore.acquire_deadline(Duration::ZERO).ok()));
        Semaphore::remove(&name).unwrap();

        let mutex = Mutex::create(&name, 8).unwrap();
        mutex.set_idle(idle);
        let child = start("hold mutex", &name);
        assert!(mutex.try_lock().unwrap().is_none());
        kill(child);
        assert!(soon(|| mutex.try_lock().unwrap()).owner_died());
        kill(start("hold mutex", &name));
        for deadline in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(1)] {
            assert!(soon(|| mutex.lock_deadline(deadline).ok()).owner_died());
        }
        Mutex::remove(&name).unwrap();
    }
}

#[test]
fn a_sleeping_waiter_notices_that_the_holder_was_killed() {
    let name = name("sleeper");
    let semaphore = Semaphore::create(&name, 1).unwrap();
    let child = start("hold permits", &name);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| semaphore.acquire_deadline(SOON).map(drop));
        kill(child);
        sleeper.join().unwrap().unwrap();
    });
    Semaphore::remove(&name).unwrap();
}

#[test]
fn the_mutex_of_a_killed_process_reports_owner_died_until_it_is_repaired() {
    let name = name("died");
    let mutex = Mutex::create(&name, 8).unwrap();
    let child = start("hold mutex", &name);
    assert!(matches!(mutex.lock_deadline(Duration::from_millis(1)), Err(Error::Timeout)));
    kill(child);
    for _ in 0..2 {
        let Locked::OwnerDied(guard) = mutex.lock_deadline(SOON).unwrap() else { panic!("the holder was killed") };
        assert_eq!(guard[0], 0xFF);
    }
    let mut guard = mutex.lock().unwrap().into_guard();
    guard.fill(0);
    guard.mark_consistent();
    drop(guard);
    assert!(!mutex.lock().unwrap().owner_died());
    Mutex::remove(&name).unwrap();
}

#[test]
fn two_processes_exclude_each_other() {
    let name = name("count");
    let mutex = Mutex::create(&name, 16).unwrap();
    let mut child = start("count", &name);
    (0..ROUNDS).for_each(|_| increment(&mutex));
    assert!(child.wait().unwrap().success());
    let guard = mutex.lock().unwrap().into_guard();
    assert_eq!(u64::from_le_bytes(guard[..8].try_into().unwrap()), 2 * ROUNDS as u64);
    drop(guard);
    Mutex::remove(&name).unwrap();
}

#[test]
fn threads_share_permits_in_every_idle_strategy() {
    for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
        let semaphore = Semaphore::create_anonymous(2).unwrap();
        semaphore.set_idle(idle);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let semaphore = semaphore.clone();
                scope.spawn(move || (0..500).for_each(|_| drop(semaphore.acquire_deadline(SOON).unwrap())));
            }
        });
        assert_eq!(semaphore.available(), 2, "{idle}");
    }
}

#[test]
fn a_leaked_guard_is_released_with_its_handle() {
    let here = Mutex::create_anonymous(8).unwrap();
    let there = Mutex::from_fd(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
    std::mem::forget(there.lock().unwrap());
    assert!(here.try_lock().unwrap().is_none());
    drop(there);
    assert!(here.try_lock().unwrap().unwrap().owner_died());

    let here = Semaphore::create_anonymous(1).unwrap();
    let there = Semaphore::from_fd(here.as_fd().try_clone_to_owned().unwrap()).unwrap();
    std::mem::forget(there.acquire().unwrap());
    assert!(here.try_acquire().unwrap().is_none());
    drop(there);
    assert!(here.try_acquire().unwrap().is_some());
}

#[test]
fn a_forked_child_releases_nothing_and_locks_nothing() {
    let mutex = Mutex::create_anonymous(8).unwrap();
    let semaphore = Semaphore::create_anonymous(1).unwrap();
    let guard = mutex.lock().unwrap().into_guard();
    let permit = semaphore.acquire().unwrap();
    // SAFETY: the child calls nothing but this library's drops and refusals, and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(guard);
        drop(permit);
        let refused = matches!(mutex.try_lock(), Err(Error::Forked))
            && matches!(semaphore.acquire_deadline(SOON), Err(Error::Forked));
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: waits for a child of this process, into a local variable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert!(mutex.try_lock().unwrap().is_none());
    assert!(semaphore.try_acquire().unwrap().is_none());
    drop((guard, permit));
    assert!(mutex.try_lock().unwrap().is_some());
    assert!(semaphore.try_acquire().unwrap().is_some());
}

#[test]
fn opening_refuses_another_kind_of_segment() {
    let name = name("kinds");
    let semaphore = Semaphore::open_or_create(&name, 2).unwrap();
    assert_eq!(Semaphore::open_or_create(&name, 2).unwrap().permits(), 2);
    assert!(matches!(Semaphore::open_or_create(&name, 3), Err(Error::Incompatible { expected: 3, found: 2, .. })));
    assert!(matches!(Semaphore::create(&name, 2), Err(Error::Exists)));
    assert!(matches!(Mutex::open(&name), Err(Error::Incompatible { .. })));
    assert!(matches!(Mutex::remove(&name), Err(Error::Incompatible { .. })));
    Semaphore::remove(&name).unwrap();
    assert!(matches!(Semaphore::open(&name), Err(Error::NotFound)));
    assert!(semaphore.try_acquire().unwrap().is_some(), "the mapping stays usable after the name was unlinked");
    for permits in [0, Semaphore::MAX_PERMITS + 1] {
        assert!(matches!(Semaphore::create_anonymous(permits), Err(Error::Invalid { .. })));
    }
    assert!(matches!(Mutex::create_anonymous(Mutex::MAX_BYTES + 1), Err(Error::Invalid { .. })));
    assert!(Mutex::create_anonymous(0).unwrap().lock().unwrap().into_guard().is_empty());
}

#[test]
fn a_deadline_is_kept() {
    let mutex = Mutex::create_anonymous(0).unwrap();
    let _held = mutex.lock().unwrap();
    for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
        let (mutex, start) = (mutex.clone(), Instant::now());
        mutex.set_idle(idle);
        assert!(matches!(mutex.lock_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
        assert!(start.elapsed() >= Duration::from_millis(5), "{idle}");
    }
}
