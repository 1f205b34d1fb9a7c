//! A set of waits over real rings, and across processes: every kind and edge, deaths, forks, and a
//! kernel without `FUTEX_WAITV`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use slipring::{Error, Options, Readiness, Ring, Semaphore, Token, WaitSet, mpmc, mpsc, spsc, stream};

use crate::common::dir::TestDir;
use crate::common::this_test::{start_until_ready, this_test};
use crate::wait_set_deaths;

pub const SOON: Duration = Duration::from_secs(60);

pub fn wait(set: &mut WaitSet) -> Vec<usize> {
    set.wait_deadline(SOON).unwrap().map(|token| token.0).collect()
}

fn nothing(set: &mut WaitSet) {
    assert_eq!(set.try_wait().unwrap().len(), 0);
}

#[test]
fn every_kind_of_ring_at_both_edges() {
    let mut set = WaitSet::new().unwrap();
    let (mut tx, mut rx) = spsc::pair(4096).unwrap();
    let (jobs_in, jobs) = mpmc::pair(2, 8).unwrap();
    let (mut bytes_in, mut bytes) = stream::pair(4096).unwrap();
    set.add(Token(0), rx.readable()).unwrap();
    set.add(Token(1), jobs.readable()).unwrap();
    set.add(Token(2), bytes.readable()).unwrap();
    nothing(&mut set);

    tx.send(b"frame").unwrap();
    assert_eq!(wait(&mut set), [0]);
    assert_eq!(wait(&mut set), [0], "as long as it is ready");
    assert_eq!(&*rx.try_recv().unwrap(), b"frame");
    nothing(&mut set);
    jobs_in.send(b"job").unwrap();
    assert_eq!(wait(&mut set), [1]);
    assert_eq!(&*jobs.try_recv().unwrap(), b"job");
    nothing(&mut set);
    bytes_in.write_all(b"bytes").unwrap();
    assert_eq!(wait(&mut set), [2]);
    assert_eq!(bytes.try_read(&mut [0; 8]).unwrap(), 5);
    nothing(&mut set);

    for token in [0, 1, 2] {
        assert!(set.remove(Token(token)));
    }
    set.add(Token(10), tx.writable(1000)).unwrap();
    set.add(Token(11), jobs_in.writable()).unwrap();
    set.add(Token(12), bytes_in.writable(4096)).unwrap();
    let mut all: Vec<_> = set.try_wait().unwrap().map(|token| token.0).collect();
    all.sort_unstable();
    assert_eq!(all, [10, 11, 12]);
    while tx.try_send(&[0; 1000]).is_ok() {}
    while jobs_in.try_send(b"job").is_ok() {}
    bytes_in.write_all(b"x").unwrap();
    nothing(&mut set);
    drop(rx.try_recv().unwrap());
    assert_eq!(wait(&mut set), [10]);
    while tx.try_send(&[0; 1000]).is_ok() {}
    drop(jobs.try_recv().unwrap());
    assert_eq!(wait(&mut set), [11]);
    jobs_in.try_send(b"job").unwrap();
    assert_eq!(bytes.try_read(&mut [0; 8]).unwrap(), 1);
    assert_eq!(wait(&mut set), [12]);
}

#[test]
fn a_ring_with_lanes_at_both_edges() {
    let (mut one, mut rx) = mpsc::pair(4096, 2).unwrap();
    let mut two = mpsc::Producer::attach(rx.ring()).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), rx.readable()).unwrap();
    set.add(Token(1), one.writable(1000)).unwrap();
    set.add(Token(2), two.writable(1000)).unwrap();
    // A wait need not report all at once, but reports no other.
    let ready = |set: &mut WaitSet, expected: &[usize]| {
        let mut found = BTreeSet::new();
        while found.len() < expected.len() {
            found.extend(set.wait_deadline(SOON).unwrap().map(|token| token.0));
            assert!(found.iter().all(|token| expected.contains(token)), "{found:?}, not {expected:?}");
        }
    };
    ready(&mut set, &[1, 2]);
    while one.try_send(&[1; 1000]).is_ok() {}
    ready(&mut set, &[0, 2]); // a full lane blocks only its producer
    while two.try_send(&[2; 1000]).is_ok() {}
    ready(&mut set, &[0]);
    // Only the producer of the lane that is received from is told of room.
    let lane = rx.try_recv().unwrap().frame().map(|view| view[0]).unwrap();
    ready(&mut set, &[0, lane.into()]);
    while rx.try_recv().is_ok() {}
    ready(&mut set, &[1, 2]);
    set.remove(Token(1));
    set.remove(Token(2));
    nothing(&mut set);
    two.try_send(b"last").unwrap();
    two.close();
    ready(&mut set, &[0]);
    assert_eq!(&*rx.try_recv().unwrap().frame().unwrap(), b"last");
    ready(&mut set, &[0]); // the end of a producer
    assert!(matches!(rx.try_recv().unwrap(), mpsc::Received::Ended(end) if !end.died));
    nothing(&mut set);
    drop(one);
    ready(&mut set, &[0]);
    assert!(matches!(rx.try_recv().unwrap(), mpsc::Received::Ended(_)));
    ready(&mut set, &[0]); // the end of all
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    nothing(&mut set);
}

/// A consumer and two producers asleep in sets of their own, each woken by another thread.
#[test]
fn sleepers_at_a_ring_with_lanes_are_woken() {
    let (mut one, mut rx) = mpsc::pair(4096, 2).unwrap();
    let mut two = mpsc::Producer::attach(rx.ring()).unwrap();
    const FRAMES: usize = 2000;
    std::thread::scope(|scope| {
        for tx in [&mut one, &mut two] {
            scope.spawn(|| {
                let mut set = WaitSet::new().unwrap();
                set.add(Token(0), tx.writable(500)).unwrap();
                for _ in 0..FRAMES {
                    while matches!(tx.try_send(&[0; 500]), Err(Error::Full)) {
                        assert_eq!(wait(&mut set), [0]);
                    }
                }
            });
        }
        let mut set = WaitSet::new().unwrap();
        set.add(Token(0), rx.readable()).unwrap();
        let mut received = 0;
        while received < 2 * FRAMES {
            match rx.try_recv() {
                Ok(mpsc::Received::Frame(view)) => received += usize::from(view.len() == 500),
                Err(Error::Empty) => assert_eq!(wait(&mut set), [0]),
                other => panic!("{:?}", other.map(drop)),
            }
        }
    });
}

#[test]
fn an_end_is_reported_until_it_is_told() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let mut rx = spsc::Consumer::attach(&ring).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), rx.readable()).unwrap();
    for _ in 0..2 {
        let tx = spsc::Producer::attach(&ring).unwrap();
        nothing(&mut set);
        drop(tx);
        assert_eq!(wait(&mut set), [0]);
        assert_eq!(wait(&mut set), [0]);
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
        nothing(&mut set); // until another producer ends
    }
}

#[test]
fn room_is_reported_to_a_set_that_sleeps() {
    let (mut tx, mut rx) = spsc::pair(4096).unwrap();
    while tx.try_send(&[0; 100]).is_ok() {}
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10)); // mostly asleep by then
            while rx.try_recv().is_ok() {}
        });
        let mut set = WaitSet::new().unwrap();
        set.add(Token(0), tx.writable(100)).unwrap();
        assert_eq!(wait(&mut set), [0]);
        drop(set);
    });
    tx.try_send(&[0; 100]).unwrap();
}

/// A set that is made when another clone of the handle has returned the end already.
#[test]
fn a_late_clone_is_told_of_the_end() {
    let (tx, rx) = mpmc::pair(8, 8).unwrap();
    let late = rx.clone();
    drop(tx);
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), late.readable()).unwrap();
    assert_eq!(wait(&mut set), [0]);
    assert!(matches!(late.try_recv(), Err(Error::Closed)));
    nothing(&mut set);
}

/// Two threads with a set each share the frames of one ring; none stays behind.
#[test]
fn two_sets_share_a_slot_ring() {
    const FRAMES: u64 = 4_000;
    let (tx, rx) = mpmc::pair(8, 8).unwrap();
    let received = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (rx, received) = (rx.clone(), &received);
            scope.spawn(move || {
                let mut set = WaitSet::new().unwrap();
                set.add(Token(0), rx.readable()).unwrap();
                loop {
                    assert_eq!(wait(&mut set), [0]);
                    match rx.try_recv() {
                        Ok(frame) => {
                            drop(frame);
                            received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        }
                        Err(Error::Empty) => {}
                        Err(Error::Closed) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        for n in 0..FRAMES {
            tx.send(&n.to_le_bytes()).unwrap();
            if n % 16 == 0 {
                std::thread::yield_now(); // let them fall asleep now and then
            }
        }
        // Both consumers are told of the end by what they share: one handle, one participant.
        while received.load(std::sync::atomic::Ordering::Relaxed) < FRAMES {
            std::thread::yield_now();
        }
        drop(tx);
    });
}

pub const RINGS: usize = 3;

fn options(dir: &TestDir) -> Options {
    Options::spsc(4096).directory(&dir.0)
}

/// Sends a frame into the ring that each byte it reads names, until its input ends or it is killed.
#[test]
#[ignore = "run by others as a child"]
fn peer() {
    let Ok(dir) = std::env::var("SLIPRING_TEST_DIR") else { return };
    let options = Options::spsc(4096).directory(dir);
    let mut rings: Vec<_> = (0..RINGS).map(|n| spsc::Producer::open(&format!("ring{n}"), &options).unwrap()).collect();
    println!("ready");
    for command in std::io::stdin().lock().bytes() {
        let ring = usize::from(command.unwrap() - b'0');
        rings[ring].send(&[command_byte(ring)]).unwrap();
    }
}

/// The receiving ends of the peer's rings.
pub fn consumers(dir: &TestDir) -> Vec<spsc::Consumer> {
    (0..RINGS).map(|n| spsc::Consumer::open(&format!("ring{n}"), &options(dir)).unwrap()).collect()
}

/// A set of them, by their indices.
pub fn set_of(consumers: &[spsc::Consumer]) -> WaitSet {
    let mut set = WaitSet::new().unwrap();
    for (number, consumer) in consumers.iter().enumerate() {
        set.add(Token(number), consumer.readable()).unwrap();
    }
    set
}

fn command_byte(ring: usize) -> u8 {
    b'0' + ring as u8
}

pub fn start_peer(dir: &TestDir) -> Child {
    let mut command = this_test(module_path!(), "peer");
    start_until_ready(command.arg("--ignored").env("SLIPRING_TEST_DIR", &dir.0))
}

/// Three rings of another process, a semaphore and a descriptor in one loop.
#[test]
fn rings_of_another_process_a_semaphore_and_a_descriptor() {
    let dir = TestDir::new("wait-set-loop");
    let mut rings = consumers(&dir);
    let semaphore = Semaphore::create_anonymous(1).unwrap();
    let mut permit = semaphore.try_acquire().unwrap();
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let mut set = set_of(&rings);
    set.add(Token(RINGS), semaphore.acquirable()).unwrap();
    set.add(Token(RINGS + 1), Readiness::readable_fd(&here).unwrap()).unwrap();
    let mut peer = start_peer(&dir);
    let mut commands = peer.stdin.take().unwrap();
    nothing(&mut set);
    for round in 0..200 {
        match round % 5 {
            3 => permit = None,
            4 => there.write_all(b"x").unwrap(),
            ring => commands.write_all(&[command_byte(ring)]).unwrap(),
        }
        assert_eq!(wait(&mut set), [round % 5]);
        match round % 5 {
            3 => permit = semaphore.try_acquire().unwrap(),
            4 => here.read_exact(&mut [0]).unwrap(),
            ring => assert_eq!(&*rings[ring].try_recv().unwrap(), [command_byte(ring)]),
        }
    }
    drop(permit);
    drop(commands);
    peer.wait().unwrap();
    let mut closed = Vec::new();
    set.remove(Token(RINGS));
    while closed.len() < RINGS {
        for token in wait(&mut set) {
            assert!(matches!(rings[token].try_recv(), Err(Error::Closed)));
            set.remove(Token(token));
            closed.push(token);
        }
    }
}

/// A peer that is killed while the set sleeps is noticed at once: by its pidfd.
#[test]
fn a_killed_peer_ends_the_wait() {
    let dir = TestDir::new("wait-set-killed");
    let mut rings = consumers(&dir);
    let mut set = set_of(&rings);
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut peer = start_peer(&dir);
        // It sleeps, and knows its peer.
        assert!(matches!(set.wait_deadline(Duration::from_millis(20)), Err(Error::Timeout)));
        let killing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20)); // asleep again by then
            let killed = Instant::now();
            peer.kill().unwrap();
            peer.wait().unwrap();
            killed
        });
        let mut dead = [false; RINGS];
        let mut noticed = None;
        while dead != [true; RINGS] {
            let tokens = wait(&mut set);
            noticed = noticed.or(Some(Instant::now()));
            for token in tokens {
                assert!(matches!(rings[token].try_recv(), Err(Error::PeerDead)));
                dead[token] = true;
            }
        }
        times.push(noticed.unwrap().saturating_duration_since(killing.join().unwrap()));
    }
    times.sort();
    println!("noticed after {times:?}");
}

/// In a child made by `fork`, a set does nothing, and its parent's goes on.
#[test]
fn a_forked_child_has_no_set() {
    let (mut tx, rx) = spsc::pair(4096).unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), rx.readable()).unwrap();
    set.add(Token(1), Readiness::readable_fd(&here).unwrap()).unwrap();
    nothing(&mut set);
    // SAFETY: the child calls what is safe after a fork of a program with threads, apart from the
    // allocator, which glibc makes usable there.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let refused = matches!(set.try_wait(), Err(Error::Forked));
        let refused =
            refused && matches!(set.add(Token(2), rx.readable()), Err(Error::Forked)) && !set.remove(Token(0));
        drop(set);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!refused)) };
    }
    let mut status = -1;
    // SAFETY: `pid` is our child, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0);
    tx.send(b"frame").unwrap();
    assert_eq!(wait(&mut set), [0]);
}

/// Forbids `futex_waitv` in this process, as an old kernel or a container does.
fn forbid_waitv(errno: u32) {
    let filter = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 }, // load the number of the call
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_futex_waitv as u32 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | errno }, // SECCOMP_RET_ERRNO
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },         // SECCOMP_RET_ALLOW
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program lives through the call.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program) }, 0);
}

/// What the other tests do, without the call.
#[test]
#[ignore = "run by others as a child"]
fn without_waitv() {
    let Ok(errno) = std::env::var("SLIPRING_TEST_ERRNO") else { return };
    forbid_waitv(errno.parse().unwrap()); // this thread and those that it starts; so before there is a set
    every_kind_of_ring_at_both_edges();
    an_end_is_reported_until_it_is_told();
    two_sets_share_a_slot_ring();
    rings_of_another_process_a_semaphore_and_a_descriptor();
    a_killed_peer_ends_the_wait();
    wait_set_deaths::a_process_that_is_killed_in_a_set_leaves_no_trace();
    wait_set_deaths::peers_in_another_pid_namespace_die_by_the_clock();
    wait_set_deaths::a_forked_child_makes_a_set_of_its_own();
    println!("done");
}

#[test]
fn an_old_kernel_or_a_seccomp_filter_costs_threads_and_nothing_else() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let mut command: Command = this_test(module_path!(), "without_waitv");
        command.arg("--ignored").env("SLIPRING_TEST_ERRNO", errno.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines: Vec<_> = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success() && lines.iter().any(|line| line.ends_with("done")), "{lines:?}");
    }
}
