//! Semaphores, mutexes and events across processes: exclusion, signalling, and what happens when a
//! participant is killed.
//!
//! The other process is this test program, started again with a role in its environment.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::Child;
use std::time::{Duration, Instant};

use slipring::{Error, Event, Idle, Locked, Mutex, Options, Ring, Semaphore, SignalSemaphore, Token, WaitSet};

use crate::common::this_test::{start_until_ready, this_test};

/// Far longer than any call here takes: a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const ROUNDS: usize = 20_000;

/// A segment name, unique for each test.
pub fn name(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

/// Runs `role` on the segment `name` in another process, and waits until it reports that it is
/// ready.
pub fn start(role: &str, name: &str) -> Child {
    let mut command = this_test(module_path!(), "other_process");
    start_until_ready(command.envs([("SLIPRING_TEST_ROLE", role), ("SLIPRING_TEST_NAME", name)]))
}

pub fn kill(mut child: Child) {
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
        "post" => {
            let semaphore = SignalSemaphore::open(&name).unwrap();
            semaphore.post().unwrap();
            semaphore.post_many(2).unwrap();
            ready_then_wait();
        }
        "take" => {
            let semaphore = SignalSemaphore::open(&name).unwrap();
            let taken = Event::open(&format!("{name}-over")).unwrap();
            println!("ready");
            while !taken.is_set() {
                if semaphore.wait_deadline(Duration::from_millis(1)).is_ok() {
                    println!("taken");
                }
            }
        }
        "set" => {
            Event::open(&name).unwrap().set().unwrap();
            ready_then_wait();
        }
        "await go" => {
            let (go, ready) = (Event::open(&name).unwrap(), SignalSemaphore::open(&format!("{name}-ready")).unwrap());
            println!("ready");
            for round in 0..GO_ROUNDS {
                ready.post().unwrap();
                go.wait_deadline(SOON).unwrap_or_else(|error| panic!("round {round}: {error}"));
                ready.post().unwrap();
                // The starter resets it before it starts the next round.
                while go.is_set() {
                    std::thread::yield_now();
                }
            }
        }
        other => panic!("no role {other}"),
    }
}

const GO_ROUNDS: usize = 200;

/// Not atomic: without exclusion the two halves differ.
fn increment(mutex: &Mutex) {
    let Locked::Consistent(mut guard) = mutex.lock_deadline(SOON).unwrap() else { panic!("no holder has died") };
    increment_bytes(&mut guard);
}

fn increment_bytes(bytes: &mut [u8]) {
    let (left, right) = bytes.split_at_mut(8);
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

/// As `slipring gc` does: it has no handle of the semaphore or mutex.
#[test]
fn reaping_the_dead_of_a_segment_recovers_what_they_held() {
    let names = ["gc-permits", "gc-mutex"].map(name);
    let (semaphore, mutex) = (Semaphore::create(&names[0], 2).unwrap(), Mutex::create(&names[1], 8).unwrap());
    for holder in [start("hold permits", &names[0]), start("hold mutex", &names[1])] {
        kill(holder);
    }
    for name in &names {
        assert_eq!(Ring::open(name, &Options::any()).unwrap().reap_dead().unwrap(), 1);
    }
    assert_eq!(semaphore.available(), 2);
    assert!(mutex.lock_deadline(SOON).unwrap().owner_died());
    Semaphore::remove(&names[0]).unwrap();
    Mutex::remove(&names[1]).unwrap();
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
    let (signals, event) = (SignalSemaphore::create_anonymous().unwrap(), Event::create_anonymous().unwrap());
    signals.post().unwrap();
    let guard = mutex.lock().unwrap().into_guard();
    let permit = semaphore.acquire().unwrap();
    // SAFETY: the child calls nothing but this library's drops and refusals, and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(guard);
        drop(permit);
        let refused = matches!(mutex.try_lock(), Err(Error::Forked))
            && matches!(semaphore.acquire_deadline(SOON), Err(Error::Forked))
            && matches!((signals.post(), signals.try_wait()), (Err(Error::Forked), Err(Error::Forked)))
            && matches!(signals.wait(), Err(Error::Forked))
            && matches!((event.set(), event.reset()), (Err(Error::Forked), Err(Error::Forked)))
            && matches!(event.wait(), Err(Error::Forked));
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: waits for a child of this process, into a local variable.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert!(mutex.try_lock().unwrap().is_none());
    assert!(semaphore.try_acquire().unwrap().is_none());
    assert_eq!((signals.count(), event.is_set()), (1, false));
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

#[test]
fn posts_of_a_killed_process_stay() {
    let name = name("posts");
    let semaphore = SignalSemaphore::create(&name).unwrap();
    kill(start("post", &name));
    assert_eq!(semaphore.reap_dead().unwrap(), 1);
    assert_eq!(semaphore.count(), 3);
    (0..3).for_each(|_| semaphore.wait_deadline(SOON).unwrap());
    assert!(!semaphore.try_wait().unwrap());
    SignalSemaphore::remove(&name).unwrap();
}

/// Two processes and two threads take posts; each is taken once.
#[test]
fn each_post_is_taken_once_by_threads_and_processes() {
    const POSTS: usize = 4_000;
    let name = name("takers");
    let semaphore = SignalSemaphore::create(&name).unwrap();
    let over = Event::create(&format!("{name}-over")).unwrap();
    let takers = [start("take", &name), start("take", &name)];
    let counting: Vec<_> = takers
        .into_iter()
        .map(|mut taker| {
            std::thread::spawn(move || {
                let lines = std::io::BufRead::lines(std::io::BufReader::new(taker.stdout.take().unwrap()));
                let taken = lines.map_while(Result::ok).filter(|line| line == "taken").count();
                assert!(taker.wait().unwrap().success());
                taken
            })
        })
        .collect();
    let here = std::thread::scope(|scope| {
        let takers = [Idle::Park, Idle::Backoff].map(|idle| {
            let (semaphore, over) = (semaphore.clone(), over.clone());
            semaphore.set_idle(idle);
            scope.spawn(move || {
                let mut taken = 0;
                while !over.is_set() {
                    taken += usize::from(semaphore.wait_deadline(Duration::from_millis(1)).is_ok());
                }
                taken
            })
        });
        for post in 0..POSTS / 2 {
            semaphore.post_many(2).unwrap();
            if post % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1)); // some fall asleep
            }
        }
        while semaphore.count() > 0 {
            std::thread::yield_now();
        }
        over.set().unwrap();
        takers.map(|taker| taker.join().unwrap())
    });
    let there: usize = counting.into_iter().map(|taker| taker.join().unwrap()).sum();
    assert_eq!(here.into_iter().sum::<usize>() + there, POSTS);
    Event::remove(&format!("{name}-over")).unwrap();
    SignalSemaphore::remove(&name).unwrap();
}

#[test]
fn an_event_stays_set_though_its_setter_was_killed() {
    let name = name("set");
    let event = Event::create(&name).unwrap();
    let waiting = event.clone();
    let waiter = std::thread::spawn(move || waiting.wait_deadline(SOON));
    kill(start("set", &name));
    waiter.join().unwrap().unwrap();
    assert!(event.is_set());
    event.wait().unwrap();
    assert!(event.reset().unwrap() && !event.reset().unwrap());
    assert!(matches!(event.wait_deadline(Duration::from_millis(1)), Err(Error::Timeout)));
    Event::remove(&name).unwrap();
}

/// One set releases the waiters of all processes, in every round.
#[test]
fn an_event_starts_many_processes_at_once() {
    let name = name("go");
    let (go, ready) = (Event::create(&name).unwrap(), SignalSemaphore::create(&format!("{name}-ready")).unwrap());
    let mut players = [(); 3].map(|()| start("await go", &name));
    let all_ready = || (0..players.len()).for_each(|_| ready.wait_deadline(SOON).unwrap());
    for _ in 0..GO_ROUNDS {
        all_ready();
        go.set().unwrap();
        all_ready();
        go.reset().unwrap();
    }
    for player in &mut players {
        assert!(player.wait().unwrap().success());
    }
    Event::remove(&name).unwrap();
    SignalSemaphore::remove(&format!("{name}-ready")).unwrap();
}

/// A set and a reset right behind it release what waits; none of many pulses is missed.
#[test]
fn a_pulse_releases_the_waits_that_began_before() {
    let (pulse, began) = (Event::create_anonymous().unwrap(), SignalSemaphore::create_anonymous().unwrap());
    std::thread::scope(|scope| {
        let waiters = [Idle::Park, Idle::Yield].map(|idle| {
            let (pulse, began) = (pulse.clone(), began.clone());
            pulse.set_idle(idle);
            scope.spawn(move || {
                let mut done = false;
                while !done {
                    // Asleep, or about to wait: the pulse comes when both have waited at least once
                    // in vain.
                    done = pulse.wait_deadline(Duration::from_millis(20)).is_ok();
                    began.post().unwrap();
                }
            })
        });
        (0..4).for_each(|_| began.wait_deadline(SOON).unwrap());
        while !waiters.iter().all(|waiter| waiter.is_finished()) {
            pulse.set().unwrap();
            pulse.reset().unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn the_two_kinds_of_semaphore_are_told_apart() {
    let name = name("both");
    let permits = Semaphore::create(&name, 2).unwrap();
    for refused in [SignalSemaphore::open(&name).map(drop), SignalSemaphore::remove(&name)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Incompatible { expected: 7, found: 4, .. }));
        let text = error.to_string();
        assert!(text.contains("permits") && text.contains("posted by any"), "{text}");
    }
    assert!(matches!(SignalSemaphore::open_or_create(&name), Err(Error::Incompatible { expected: 7, found: 4, .. })));
    drop(permits);
    Semaphore::remove(&name).unwrap();
    let signals = SignalSemaphore::create(&name).unwrap();
    assert!(matches!(Semaphore::open(&name), Err(Error::Incompatible { expected: 4, found: 7, .. })));
    assert!(matches!(Semaphore::open_or_create(&name, 1), Err(Error::Incompatible { expected: 4, found: 7, .. })));
    assert!(matches!(Event::open(&name), Err(Error::Incompatible { expected: 8, found: 7, .. })));
    let passed = SignalSemaphore::create_anonymous().unwrap().as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(Event::from_fd(passed), Err(Error::Incompatible { expected: 8, found: 7, .. })));
    signals.post().unwrap();
    SignalSemaphore::remove(&name).unwrap();
    assert!(signals.try_wait().unwrap(), "the mapping stays usable after the name was unlinked");
}

#[test]
fn deadlines_of_signals_and_events_are_kept() {
    for idle in [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park] {
        let (semaphore, event) = (SignalSemaphore::create_anonymous().unwrap(), Event::create_anonymous().unwrap());
        semaphore.set_idle(idle);
        event.set_idle(idle);
        let start = Instant::now();
        assert!(matches!(semaphore.wait_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
        assert!(start.elapsed() >= Duration::from_millis(5), "{idle}");
        let start = Instant::now();
        assert!(matches!(event.wait_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
        assert!(start.elapsed() >= Duration::from_millis(5), "{idle}");
    }
}

fn tokens(set: &mut WaitSet) -> Vec<usize> {
    set.wait_deadline(SOON).unwrap().map(|token| token.0).collect()
}

/// A set is woken by what other processes do to its members, and by their deaths.
#[test]
fn a_set_waits_for_what_other_processes_hold_post_and_set() {
    let names = ["set-permits", "set-mutex", "set-posts", "set-event"].map(name);
    let semaphore = Semaphore::create(&names[0], 1).unwrap();
    let mutex = Mutex::create(&names[1], 8).unwrap();
    let signals = SignalSemaphore::create(&names[2]).unwrap();
    let event = Event::create(&names[3]).unwrap();
    let holders = [start("hold permits", &names[0]), start("hold mutex", &names[1])];
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), semaphore.acquirable()).unwrap();
    set.add(Token(1), mutex.lockable()).unwrap();
    set.add(Token(2), signals.waitable()).unwrap();
    set.add(Token(3), event.waitable()).unwrap();
    assert_eq!(set.try_wait().unwrap().len(), 0);

    let poster = start("post", &names[2]);
    assert_eq!(tokens(&mut set), [2]);
    (0..3).for_each(|_| signals.wait_deadline(SOON).unwrap());
    assert_eq!(set.try_wait().unwrap().len(), 0);
    let setter = start("set", &names[3]);
    assert_eq!(tokens(&mut set), [3]);
    assert_eq!(tokens(&mut set), [3], "as long as it is set");
    event.reset().unwrap();
    assert_eq!(set.try_wait().unwrap().len(), 0);
    kill(poster);
    kill(setter);
    assert_eq!(set.try_wait().unwrap().len(), 0, "their deaths change nothing");

    let [permits, lock] = holders;
    for (token, holder) in [(0, permits), (1, lock)] {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| tokens(&mut set));
            kill(holder);
            assert_eq!(waiting.join().unwrap(), [token]);
        });
        assert!(set.remove(Token(token)));
    }
    assert!(semaphore.try_acquire().unwrap().is_some());
    assert!(mutex.try_lock().unwrap().unwrap().owner_died());
    Semaphore::remove(&names[0]).unwrap();
    Mutex::remove(&names[1]).unwrap();
    SignalSemaphore::remove(&names[2]).unwrap();
    Event::remove(&names[3]).unwrap();
}

/// Sets and plain waiters of one mutex: each comes to its turn.
#[test]
fn sets_and_waiters_share_a_mutex() {
    const TURNS: usize = 300;
    let mutex = Mutex::create_anonymous(16).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let waiter = mutex.clone();
            scope.spawn(move || (0..TURNS).for_each(|_| increment(&waiter)));
            let mutex = mutex.clone();
            scope.spawn(move || {
                let mut set = WaitSet::new().unwrap();
                set.add(Token(0), mutex.lockable()).unwrap();
                let mut turns = 0;
                while turns < TURNS {
                    assert_eq!(tokens(&mut set), [0]);
                    if let Some(Locked::Consistent(mut guard)) = mutex.try_lock().unwrap() {
                        increment_bytes(&mut guard);
                        turns += 1;
                    }
                }
            });
        }
    });
    let guard = mutex.lock().unwrap().into_guard();
    assert_eq!(u64::from_le_bytes(guard[..8].try_into().unwrap()), 4 * TURNS as u64);
}

/// A pulse between two waits of a set is reported, once.
#[test]
fn a_set_reports_a_pulse_once() {
    let event = Event::create_anonymous().unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), event.waitable()).unwrap();
    for pulses in [1, 1, 3] {
        for _ in 0..pulses {
            event.set().unwrap();
            event.reset().unwrap();
        }
        assert_eq!(tokens(&mut set), [0]);
        assert_eq!(set.try_wait().unwrap().len(), 0);
    }
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| tokens(&mut set));
        event.set().unwrap();
        event.reset().unwrap();
        assert_eq!(waiting.join().unwrap(), [0]);
    });
    event.set().unwrap();
    assert_eq!(tokens(&mut set), [0]);
    event.reset().unwrap();
    assert_eq!(set.try_wait().unwrap().len(), 0, "the reset of a set that was reported");
}
