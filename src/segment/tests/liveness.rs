//! Living, closing and killed participants: across processes, across `fork`, and (like threads) on
//! the heap.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::error::Error;

/// Waits for a condition, which is expected within milliseconds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}

/// The process that [`Peer`] starts, not a test by itself. Joins, prints its id, and waits to be
/// killed.
#[test]
fn peer_process() {
    let Ok(path) = std::env::var("SLIPRING_TEST_PEER") else { return };
    let directory = Directory::create(Some(Path::new(&path)), false).unwrap();
    let segment = Segment::open(&directory, "ring", &Options::default()).unwrap();
    let participant = Participant::join(&segment, Role::Producer, true, |_| ()).unwrap();
    println!("id={}", participant.id());
    let _ = std::io::stdin().read(&mut [0]); // until the test kills this process or closes the pipe
}

/// A producer in another process, killed at the end.
struct Peer {
    child: Child,
    id: u16,
}

impl Peer {
    fn start(dir: &TestDir) -> Self {
        let mut child = again::this_program()
            .args(["--exact", "segment::tests::liveness::peer_process", "--nocapture"])
            .env("SLIPRING_TEST_PEER", &dir.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let id = lines.find_map(|line| line.unwrap().split_once("id=").map(|(_, id)| id.parse().unwrap()));
        Peer { child, id: id.expect("the peer joined") }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_killed_process_is_proven_dead_reaped_and_replaced() {
    let dir = TestDir::new();
    let segment = Segment::create(&dir.open(), "ring", small(), &Options::default()).unwrap();
    let consumer = Participant::join(&segment, Role::Consumer, true, |_| ()).unwrap();
    let mut peer = Peer::start(&dir);

    assert!(!consumer.is_dead(peer.id));
    assert_eq!(consumer.reap_dead(|_| panic!("no participant is dead")).unwrap(), 0);
    let taken = Participant::join(&segment, Role::Producer, true, |_| ()).err().unwrap();
    assert!(matches!(taken, Error::RoleTaken { role: "producer" }), "{taken}");
    let infos = segment.participants().unwrap();
    let info = infos.iter().find(|info| info.id == peer.id).unwrap();
    assert!(info.alive && info.pid == peer.child.id(), "{info:?}");
    // An emulator shows its process a /proc/self/stat of its own, so the start times differ.
    assert!(info.comm.is_some() || again::emulator().is_some(), "{info:?}");

    peer.kill();
    eventually("the kernel drops the locks of the dead process", || consumer.is_dead(peer.id));
    assert!(consumer.peers_ended(consumer.reported()).is_none(), "it is not reaped yet");
    let infos = segment.participants().unwrap();
    let info = infos.iter().find(|info| info.id == peer.id).unwrap();
    assert!(!info.alive && info.comm.is_none(), "{info:?}");

    let mut swept = Vec::new();
    assert_eq!(consumer.reap_dead(|id| swept.push(id)).unwrap(), 1);
    assert_eq!(swept, [peer.id]);
    let ends = consumer.peers_ended(consumer.reported()).unwrap();
    assert!(matches!(consumer.report(ends), Error::PeerDead));
    assert!(consumer.peers_ended(consumer.reported()).is_none(), "reported once");

    let next = Participant::join(&segment, Role::Producer, true, |_| panic!("already reaped")).unwrap();
    assert_eq!(next.id(), peer.id);
    drop(next);
    let ends = consumer.peers_ended(consumer.reported()).unwrap();
    assert!(matches!(consumer.report(ends), Error::Closed));
}

#[test]
fn a_successor_reaps_its_predecessor_by_itself() {
    let dir = TestDir::new();
    let segment = Segment::create(&dir.open(), "ring", small(), &Options::default()).unwrap();
    let mut peer = Peer::start(&dir);
    peer.kill();
    let mut swept = Vec::new();
    let mut producer = None;
    eventually("the role is free", || {
        producer = Participant::join(&segment, Role::Producer, true, |id| swept.push(id)).ok();
        producer.is_some()
    });
    assert_eq!(swept, [peer.id]);
    assert_eq!(segment.table().live(Role::Producer), 1);
    drop(producer);
    assert!(segment.is_idle().unwrap());
}

#[test]
fn a_forked_child_neither_leaves_nor_reaps() {
    let segment = Segment::memfd(small(), &Options::default()).unwrap();
    let participant = Participant::join(&segment, Role::Producer, true, |_| ()).unwrap();
    let observer = Participant::join(&segment, Role::Consumer, true, |_| ()).unwrap();
    // SAFETY: the child only drops a handle and exits; the C library keeps its allocator usable
    // across fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let forked = matches!(participant.reap_dead(|_| ()), Err(Error::Forked));
        drop(participant);
        // SAFETY: ends the child at once, without running the test harness's handlers.
        unsafe { libc::_exit(if forked { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: `child` is our child, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!(segment.table().live(Role::Producer), 1);
    assert!(!observer.is_dead(participant.id()));
    assert!(observer.peers_ended(observer.reported()).is_none());
    drop(participant);
    assert!(observer.peers_ended(observer.reported()).is_some());
}

#[test]
fn many_threads_never_share_an_id() {
    let segment = Segment::memfd(small(), &Options::default()).unwrap();
    let held: Vec<_> = (0..5).map(|_| std::sync::atomic::AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let participant = Participant::join(&segment, Role::Consumer, false, |_| ()).unwrap();
                    let mine = &held[usize::from(participant.id())];
                    assert!(!mine.swap(true, Ordering::SeqCst), "id {} is held twice", participant.id());
                    participant.reap_dead(|id| panic!("{id} is not dead")).unwrap();
                    mine.store(false, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(segment.is_idle().unwrap());
    assert_eq!(segment.table().lifecycle().ends(Role::Consumer).close, 800);
}
