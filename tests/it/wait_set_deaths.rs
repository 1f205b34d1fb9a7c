//! Sets of waits and the ends of processes: one that waits in a set is killed, peers die in another
//! pid namespace, a process with a set forks. `wait_set.rs` runs all of them without `FUTEX_WAITV`
//! as well.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use slipring::{Error, Options, Readiness, Token, WaitSet, mpmc, spsc};

use crate::common::asleep::wait_until_asleep;
use crate::common::dir::TestDir;
use crate::common::this_test::{arguments, start_until_ready, this_test};
use crate::wait_set::{RINGS, consumers, set_of, start_peer, wait};

/// Of a set. A wait that takes half as long was ended by a wake-up.
const CAP: Duration = Duration::from_secs(1);
const KILLS: u64 = 12;
const ROOM: usize = 100;

fn bytes(dir: &TestDir) -> Options {
    Options::spsc(64 << 10).directory(&dir.0)
}

fn slots(dir: &TestDir) -> Options {
    Options::mpmc(64, 8).directory(&dir.0)
}

/// Not a test: waits in a set at an edge of three rings until it is killed. Receives and sends what
/// it can.
#[test]
#[ignore = "run by others as a child"]
fn waiter() {
    let Ok(dir) = std::env::var("SLIPRING_TEST_DIR") else { return };
    let dir = std::mem::ManuallyDrop::new(TestDir(dir.into())); // its parent's
    let mut frames = spsc::Consumer::open("frames", &bytes(&dir)).unwrap();
    let mut echoes = spsc::Producer::open("echoes", &bytes(&dir)).unwrap();
    let jobs = mpmc::Consumer::open("jobs", &slots(&dir)).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), frames.readable()).unwrap();
    set.add(Token(1), echoes.writable(ROOM)).unwrap();
    set.add(Token(2), jobs.readable()).unwrap();
    println!("ready");
    let mut sent = 0u64;
    loop {
        // Often disarmed by the deadline.
        let ready: Vec<_> = set.wait_deadline(Duration::from_millis(1)).map(Iterator::collect).unwrap_or_default();
        for token in ready {
            match token {
                Token(0) => while frames.try_recv().is_ok() {},
                Token(1) => {
                    // Not more than there is room for, so that it waits for room now and then.
                    while sent < 600 && echoes.try_send(&[&sent.to_le_bytes()[..], &[0; ROOM - 8]].concat()).is_ok() {
                        sent += 1;
                    }
                    if sent >= 600 {
                        set.remove(Token(1));
                    }
                }
                _ => while jobs.try_recv().is_ok() {},
            }
        }
    }
}

fn number(frame: &[u8]) -> u64 {
    u64::from_le_bytes(frame[..8].try_into().unwrap())
}

/// A process that waits in a set is killed: asleep, or at any moment of its work. The other sides of
/// its rings go on, and no wake-up of another waiter is lost.
#[test]
pub fn a_process_that_is_killed_in_a_set_leaves_no_trace() {
    let dir = TestDir::new("wait-set-armed");
    let mut frames = spsc::Producer::open("frames", &bytes(&dir)).unwrap();
    let mut echoes = spsc::Consumer::open("echoes", &bytes(&dir)).unwrap();
    let (jobs_in, jobs) =
        (mpmc::Producer::open("jobs", &slots(&dir)).unwrap(), mpmc::Consumer::open("jobs", &slots(&dir)).unwrap());
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), echoes.readable()).unwrap();
    set.add(Token(1), jobs.readable()).unwrap();
    let mut dice = u64::from(std::process::id());
    println!("seed {dice}");
    let (mut sent, mut quick) = (0u64, 0);
    for kill in 0..KILLS {
        let mut command = this_test(module_path!(), "waiter");
        let mut waiter = start_until_ready(command.arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
        if kill % 3 == 0 {
            wait_until_asleep(&waiter);
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let until = Instant::now() + Duration::from_micros((dice >> 33) % 4_000);
        while kill % 3 != 0 && Instant::now() < until {
            sent += u64::from(frames.try_send(&sent.to_le_bytes()).is_ok());
            let _ = jobs_in.try_send(b"job");
        }
        waiter.kill().unwrap();
        waiter.wait().unwrap();

        // What it sent, without a gap, and then the news.
        let mut echoed = 0;
        loop {
            assert!(!wait(&mut set).is_empty());
            while jobs.try_recv().is_ok() {}
            match echoes.try_recv() {
                Ok(frame) => {
                    assert_eq!(number(&frame), echoed);
                    echoed += 1;
                }
                Err(Error::Empty) => {}
                Err(Error::PeerDead) => break,
                Err(other) => panic!("{other}"),
            }
        }
        while !matches!(jobs.try_recv(), Err(Error::Empty)) {}

        // A successor finds what it left, without a gap, and is woken.
        let mut successor = spsc::Consumer::open("frames", &bytes(&dir)).unwrap();
        let mut left = successor.try_iter().collect::<Result<Vec<_>, _>>().unwrap();
        left.retain(|frame| !frame.is_empty());
        assert!(left.iter().zip(sent - left.len() as u64..).all(|(frame, expected)| number(frame) == expected));
        let mut others = WaitSet::new().unwrap();
        others.add(Token(0), successor.readable()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let start = Instant::now();
                assert_eq!((wait(&mut others), wait(&mut set)), (vec![0], vec![1]));
                start.elapsed()
            });
            std::thread::sleep(Duration::from_millis(10)); // mostly asleep by then
            frames.try_send(&sent.to_le_bytes()).unwrap();
            jobs_in.try_send(b"job").unwrap();
            sent += 1;
            quick += u64::from(waiting.join().unwrap() < CAP / 2);
        });
        assert_eq!(number(&successor.try_recv().unwrap()), sent - 1);
        drop(others);
        // With the job, perhaps one that the dead process held.
        while set.try_wait().unwrap().len() > 0 {
            drop(jobs.try_recv().unwrap());
        }
    }
    // A loaded machine may wake a waiter late, but not early.
    assert!(quick >= KILLS / 2, "{quick} of {KILLS} waits were ended by a wake-up");
}

/// A command that starts its arguments in a pid namespace, and kills them when it is killed. `None`
/// where this is not allowed.
fn in_another_pid_namespace() -> Option<Command> {
    let ways = [&["--pid", "--fork", "--kill-child"][..], &["--user", "--pid", "--fork", "--kill-child"]];
    let way = ways.into_iter().find(|way| {
        let status = Command::new("unshare").args(*way).arg("true").status();
        status.is_ok_and(|status| status.success())
    })?;
    let mut command = Command::new("unshare");
    command.args(way).arg(std::env::current_exe().unwrap());
    Some(command)
}

/// Peers whose pids mean nothing here are checked by the clock; none is taken for dead before.
#[test]
pub fn peers_in_another_pid_namespace_die_by_the_clock() {
    let dir = TestDir::new("wait-set-namespace");
    let mut rings = consumers(&dir);
    let mut set = set_of(&rings);
    for _ in 0..2 {
        let Some(mut command) = in_another_pid_namespace() else {
            println!("SKIPPED: no pid namespace can be made here (unshare --pid)");
            return;
        };
        arguments(&mut command, "it::wait_set", "peer");
        let mut peer = start_until_ready(command.arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0));
        let mut commands = peer.stdin.take().unwrap();
        // Some checks by the clock.
        assert!(matches!(set.wait_deadline(Duration::from_millis(200)), Err(Error::Timeout)));
        for ring in 0..RINGS as u8 {
            commands.write_all(&[b'0' + ring]).unwrap();
            assert_eq!(wait(&mut set), [usize::from(ring)]);
            assert_eq!(&*rings[usize::from(ring)].try_recv().unwrap(), [b'0' + ring]);
        }
        let killed = Instant::now();
        peer.kill().unwrap();
        peer.wait().unwrap();
        expect_deaths(&mut set, &mut rings);
        println!("noticed after {:?}", killed.elapsed());
    }
}

/// Waits until the set has reported the end of the producer of every ring.
fn expect_deaths(set: &mut WaitSet, rings: &mut [spsc::Consumer]) {
    let mut dead = vec![false; rings.len()];
    while dead.contains(&false) {
        for token in wait(set) {
            match rings[token].try_recv() {
                Err(Error::PeerDead) => dead[token] = true,
                Err(Error::Empty) => {}
                other => panic!("{:?}", other.map(|frame| frame.to_vec())),
            }
        }
    }
}

/// A child made by `fork` has a set and a watcher of its own; the parent's notice deaths as before.
#[test]
pub fn a_forked_child_makes_a_set_of_its_own() {
    let dir = TestDir::new("wait-set-forked");
    let mut rings = consumers(&dir);
    let mut set = set_of(&rings);
    let mut peer: Child = start_peer(&dir);
    // It sleeps, and watches its peer.
    assert!(matches!(set.wait_deadline(Duration::from_millis(20)), Err(Error::Timeout)));
    // SAFETY: the child calls what is safe after a fork of a program with threads, apart from the
    // allocator and threads, which glibc makes usable there.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let own = std::panic::catch_unwind(|| {
            let (mut tx, mut rx) = spsc::pair(4096).unwrap();
            let (mut here, mut there) = UnixStream::pair().unwrap();
            let mut set = WaitSet::new().unwrap();
            set.add(Token(0), rx.readable()).unwrap();
            set.add(Token(1), Readiness::readable_fd(&here).unwrap()).unwrap();
            for _ in 0..10 {
                let sending = std::thread::spawn(move || {
                    tx.send(b"frame").unwrap();
                    tx
                });
                assert_eq!(wait(&mut set), [0]);
                assert_eq!(&*rx.try_recv().unwrap(), b"frame");
                tx = sending.join().unwrap();
                let sending = std::thread::spawn(move || {
                    there.write_all(b"x").unwrap();
                    there
                });
                assert_eq!(wait(&mut set), [1]);
                here.read_exact(&mut [0]).unwrap();
                there = sending.join().unwrap();
            }
        });
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(own.is_err())) };
    }
    let mut status = -1;
    // SAFETY: `pid` is our child, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    assert_eq!(set.try_wait().unwrap().len(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10)); // mostly asleep by then
            peer.kill().unwrap();
            peer.wait().unwrap();
        });
        expect_deaths(&mut set, &mut rings);
    });
}
