//! Sets of semaphores, with and without `FUTEX_WAITV`. (Rings, processes: `tests/it/wait_set.rs`.)

use std::time::{Duration, Instant};

use super::*;
use crate::named::semaphore::{Permit, Semaphore};
use crate::ring::{Options, Ring, spsc};
use crate::segment::tests::again;

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(2);
/// The sets of these tests sleep until they are woken: no cap hides a lost wake-up.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Every form: as many words as the kernel takes, few, so that helpers have groups, and one, as
/// where there is no call for several. There, as under an emulator, it is the only form: the others
/// would not sleep.
fn sets() -> impl Iterator<Item = WaitSet> {
    let limits = [futex::MOST_WORDS, 3, 1].into_iter().filter(|words| *words == 1 || futex::has_wait_any());
    limits.map(|words| WaitSet::with_limits(words, FOR_EVER).unwrap())
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
    let start = Instant::now();
    let tokens = set.wait_deadline(SOON).unwrap().collect();
    // A wait also finds something when its deadline passes.
    assert!(start.elapsed() < SOON / 2, "no wake-up came");
    tokens
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
    let mut set = sets().next().unwrap();
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

/// Rings, most of them members for whom a helper sleeps, where there are helpers.
fn rings(set: &mut WaitSet, count: usize) -> Vec<(Ring, spsc::Consumer)> {
    (0..count)
        .map(|number| {
            let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
            let consumer = spsc::Consumer::attach(&ring).unwrap();
            set.add(Token(number), consumer.readable()).unwrap();
            (ring, consumer)
        })
        .collect()
}

/// Waits in another thread until the set is asleep, and every helper too, then calls `then`, which
/// wakes it. The helpers of other tests' sets look the same, and may be busy: after a while, whether
/// all are asleep is no longer waited for.
fn while_asleep<T>(set: &mut WaitSet, then: impl FnOnce() -> T) -> (Vec<Token>, T) {
    std::thread::scope(|scope| {
        let (id_to, id_from) = std::sync::mpsc::channel();
        let waiting = scope.spawn(move || {
            id_to.send(rustix::thread::gettid()).unwrap();
            let tokens: Vec<_> = set.wait_deadline(2 * SOON).unwrap().collect();
            (tokens, Instant::now())
        });
        let waiter = id_from.recv().unwrap();
        let is_asleep = || {
            let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
            let ours = threads.filter(|thread| {
                let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
                name.trim_end() == "slipring-set"
                    || thread.file_name().to_str() == Some(&waiter.as_raw_nonzero().to_string())
            });
            let state = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("stat"));
            ours.flat_map(|thread| state(thread).ok()).all(|stat| stat.contains(") S "))
        };
        let (start, mut in_a_row) = (Instant::now(), 0);
        while in_a_row < 20 && start.elapsed() < PATIENCE {
            in_a_row = if is_asleep() { in_a_row + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let result = then();
        let (tokens, woken) = waiting.join().unwrap();
        assert!(woken < start + SOON, "no wake-up came");
        (tokens, result)
    })
}

/// A notifier dies between clearing a word and waking its sleepers, and the watcher reports that.
/// The sleepers' words are armed again, also those of helpers.
#[test]
fn every_word_is_armed_again_after_a_death() {
    for mut set in sets() {
        let rings = rings(&mut set, 9);
        let waker = set.waker(Token(100)).unwrap();
        let shared = Arc::clone(&set.registry.0);
        for (number, (ring, _)) in rings.iter().enumerate() {
            let mut producer = spsc::Producer::attach(ring).unwrap();
            let (seen, ()) = while_asleep(&mut set, || {
                let member = shared.members()[&Token(number)].clone();
                member.source().unwrap().event().clear_without_wake();
                shared.died();
                waker.wake();
            });
            assert_eq!(seen, [Token(100)]);
            let (seen, ()) = while_asleep(&mut set, || producer.send(b"frame").unwrap());
            assert_eq!(seen, [Token(number)]);
            set.remove(Token(number));
        }
    }
}

/// Attaches to the ring that it inherits at each line that it reads, and dies at the end.
#[test]
#[ignore = "run by others as a child"]
fn peer() {
    let Ok(dir) = std::env::var("SLIPRING_TEST_DIR") else { return };
    let _producer = spsc::Producer::open("ring", &Options::spsc(4096).directory(dir)).unwrap();
    println!("attached");
    std::thread::sleep(SOON);
}

/// Peers that join while everything sleeps are watched at once, also those of a helper's members.
#[test]
fn a_peer_that_joins_and_dies_wakes_the_set() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let dir = std::env::temp_dir().join(format!("slipring-set-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for mut set in sets() {
        // The last one: a helper's.
        let _others = held(&mut set, 8);
        let mut consumer = spsc::Consumer::open("ring", &Options::spsc(4096).directory(&dir)).unwrap();
        set.add(Token(99), consumer.readable()).unwrap();
        let start = || {
            let mut command = again::this_program();
            command.args(["--exact", "set::tests::peer", "--nocapture", "--ignored"]);
            let mut child = command.env("SLIPRING_TEST_DIR", &dir).stdout(Stdio::piped()).spawn().unwrap();
            let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
            assert!(lines.map(Result::unwrap).any(|line| line.ends_with("attached")));
            child.kill().unwrap();
            child.wait().unwrap();
        };
        let (seen, ()) = while_asleep(&mut set, start);
        assert_eq!(seen, [Token(99)]);
        assert!(matches!(consumer.try_recv(), Err(Error::PeerDead)));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
