//! Sets of semaphores, with and without `FUTEX_WAITV`. (Rings, processes: `tests/it/wait_set.rs`.)

use std::time::{Duration, Instant};

use super::*;
use crate::named::semaphore::{Permit, Semaphore};

const SOON: Duration = Duration::from_secs(30);

/// Every form: as many words as the kernel takes, few, so that helpers have groups, and one, as
/// where there is no call for several.
fn sets() -> impl Iterator<Item = WaitSet> {
    [futex::MOST_WORDS, 3, 1].map(|words| WaitSet::with_words(words).unwrap()).into_iter()
}

/// So many semaphores, their only permits held, as members of `set`.
fn held(set: &mut WaitSet, count: usize) -> Vec<(Semaphore, Option<Permit<'static>>)> {
    (0..count)
        .map(|number| {
            let semaphore: &'static Semaphore = Box::leak(Box::new(Semaphore::create_anonymous(1).unwrap()));
            set.add(Token(number), semaphore.acquirable()).unwrap();
            (semaphore.clone(), Some(semaphore.acquire().unwrap()))
        })
        .collect()
}

fn wait(set: &mut WaitSet) -> Vec<Token> {
    set.wait_deadline(SOON).unwrap().collect()
}

#[test]
fn each_of_many_members_wakes_the_set() {
    for mut set in sets() {
        let mut members = held(&mut set, 10);
        assert_eq!(set.try_wait().unwrap().len(), 0);
        for number in [0, 9, 4, 4] {
            let permit = members[number].1.take();
            let releasing = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(2)); // mostly asleep by then
                drop(permit);
            });
            assert_eq!(wait(&mut set), [Token(number)]);
            releasing.join().unwrap();
            assert_eq!(wait(&mut set), [Token(number)], "as long as it is ready");
            let semaphore: &'static Semaphore = Box::leak(Box::new(members[number].0.clone()));
            members[number].1 = Some(semaphore.acquire().unwrap());
            assert_eq!(set.try_wait().unwrap().len(), 0);
        }
    }
}

#[test]
fn more_members_than_one_call_takes() {
    let mut set = WaitSet::with_words(futex::MOST_WORDS).unwrap();
    let mut members = held(&mut set, 150);
    for number in [149, 0, 140, 126, 127, 128] {
        let permit = members[number].1.take();
        let releasing = std::thread::spawn(move || drop(permit));
        assert_eq!(wait(&mut set), [Token(number)]);
        releasing.join().unwrap();
        assert!(set.remove(Token(number)));
    }
    assert!(matches!(set.wait_deadline(Duration::from_millis(2)), Err(Error::Timeout)));
}

#[test]
fn members_come_and_go_while_the_set_waits() {
    for mut set in sets() {
        let registry = set.registry();
        let (first, second) = (Semaphore::create_anonymous(1).unwrap(), Semaphore::create_anonymous(1).unwrap());
        let held = [first.acquire().unwrap(), second.acquire().unwrap()];
        set.add(Token(1), first.acquirable()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                let seen: Vec<_> = set.wait_deadline(SOON).unwrap().collect();
                (seen, set)
            });
            std::thread::sleep(Duration::from_millis(5));
            assert!(registry.remove(Token(1)) && !registry.remove(Token(1)));
            drop(held);
            registry.add(Token(2), second.acquirable()).unwrap();
            let (seen, mut set) = waiting.join().unwrap();
            assert_eq!(seen, [Token(2)], "the removed member is not reported");
            assert!(matches!(set.add(Token(2), first.acquirable()), Err(Error::Invalid { .. })));
        });
    }
}

#[test]
fn a_waker_is_reported_once() {
    for mut set in sets() {
        let waker = set.waker(Token(5)).unwrap();
        for _ in 0..20 {
            let other = waker.clone();
            let waking = std::thread::spawn(move || {
                other.wake();
                other.wake();
            });
            assert_eq!(wait(&mut set), [Token(5)]);
            waking.join().unwrap();
            let _ = set.try_wait().unwrap().count(); // the second use, if it came later
            assert_eq!(set.try_wait().unwrap().len(), 0);
        }
        set.remove(Token(5));
        waker.wake();
        assert_eq!(set.try_wait().unwrap().len(), 0);
    }
}

#[test]
fn no_member_starves_beside_a_busy_one() {
    let mut set = WaitSet::new().unwrap();
    let semaphores: Vec<_> = (0..64).map(|_| Semaphore::create_anonymous(1).unwrap()).collect();
    for (number, semaphore) in semaphores.iter().enumerate() {
        set.add(Token(number), semaphore.acquirable()).unwrap();
    }
    let mut permits: Vec<_> = semaphores.iter().map(|semaphore| semaphore.try_acquire().unwrap()).collect();
    permits[3] = None;
    assert_eq!(wait(&mut set), [Token(3)]);
    permits[60] = None;
    let waits = (1..).find(|_| wait(&mut set).contains(&Token(60))).unwrap();
    assert!(waits <= 65, "{waits} waits before a ready member was reported");
}

#[test]
fn descriptors_and_words_wake_one_wait() {
    use std::io::{Read, Write};
    for mut set in sets() {
        let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
        let semaphore = Semaphore::create_anonymous(1).unwrap();
        let mut held = semaphore.try_acquire().unwrap();
        set.add(Token(0), semaphore.acquirable()).unwrap();
        set.add(Token(1), Readiness::readable_fd(&here).unwrap()).unwrap();
        assert_eq!(set.try_wait().unwrap().len(), 0);
        for _ in 0..20 {
            std::thread::scope(|scope| {
                scope.spawn(|| there.write_all(b"x").unwrap());
                assert_eq!(wait(&mut set), [Token(1)]);
                here.read_exact(&mut [0]).unwrap();
                let permit = held.take();
                scope.spawn(move || drop(permit));
                assert_eq!(wait(&mut set), [Token(0)]);
                held = semaphore.try_acquire().unwrap();
            });
        }
        drop(there);
        assert_eq!(wait(&mut set), [Token(1)], "the other end has hung up");
        assert!(set.remove(Token(1)));
        assert_eq!(set.try_wait().unwrap().len(), 0);
    }
}

#[test]
fn a_dropped_handle_leaves_the_set() {
    let mut set = WaitSet::new().unwrap();
    let semaphore = Semaphore::create_anonymous(1).unwrap();
    set.add(Token(0), semaphore.acquirable()).unwrap();
    drop(semaphore);
    let start = Instant::now();
    while !set.registry().0.members().is_empty() && start.elapsed() < SOON {
        let _ = set.wait_deadline(Duration::from_millis(1)).map(Iterator::count);
    }
    assert!(set.registry().0.members().is_empty());
}
