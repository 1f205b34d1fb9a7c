//! Many waiters on one ring cost little: they share the liveness checks, and a participant that
//! leaves wakes none of them. Each waiter still notices every death.
//!
//! The tests count sleeps, not time: a busy machine only makes them fewer.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use slipring::{Error, Options, Ring, mpmc};

use crate::common::dir::TestDir;
use crate::common::this_test::this_test;

const CROWD: usize = 64;
const DIR: &str = "SLIPRING_CROWD_DIR";
const ROLE: &str = "SLIPRING_CROWD_ROLE";
/// Far longer than any wait here takes.
const SOON: Duration = Duration::from_secs(60);

fn options(dir: &Path) -> Options {
    Options::mpmc(64, 8).participants(256).directory(dir)
}

/// A process in which [`other_process`] runs; killed when dropped.
struct Other(Child);

impl Other {
    /// Returns when `ring` has one more participant.
    fn start(dir: &Path, ring: &Ring, role: &str) -> Self {
        let before = ring.participants().unwrap().len();
        let mut command = this_test(module_path!(), "other_process");
        command.env(DIR, dir).env(ROLE, role);
        let other = Other(command.stdout(Stdio::null()).spawn().unwrap());
        let began = Instant::now();
        while ring.participants().unwrap().len() == before {
            assert!(began.elapsed() < SOON, "it does not attach");
            std::thread::sleep(Duration::from_millis(1));
        }
        other
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: signals a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits in `CROWD` threads, until `deadline`, for frames that never come, while `meanwhile` runs.
/// Returns the error that each thread got.
fn wait_in_a_crowd(ring: &Ring, deadline: Duration, meanwhile: impl FnOnce()) -> Vec<Error> {
    let consumers: Vec<_> = (0..CROWD).map(|_| mpmc::Consumer::attach(ring).unwrap()).collect();
    std::thread::scope(|scope| {
        let waits: Vec<_> = consumers
            .iter()
            .map(|rx| scope.spawn(move || rx.recv_deadline(deadline).map(|frame| frame.to_vec()).unwrap_err()))
            .collect();
        meanwhile();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect()
    })
}

/// Not a test: a participant in another process, which waits or holds a frame until it is killed.
#[test]
fn other_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let ring = Ring::open("ring", &options(Path::new(&dir))).unwrap();
    if std::env::var(ROLE).unwrap() == "consumer" {
        let rx = mpmc::Consumer::attach(&ring).unwrap();
        let _ = rx.recv();
    } else {
        let tx = mpmc::Producer::attach(&ring).unwrap();
        let _grant = tx.reserve(8).unwrap();
        std::thread::sleep(SOON);
    }
}

#[test]
fn waiters_share_liveness_checks_and_sleep_through_departures() {
    let ring = Ring::create_anonymous(&Options::mpmc(64, 8).participants(256)).unwrap();
    let fellow = mpmc::Consumer::attach(&ring).unwrap();
    let outcomes = wait_in_a_crowd(&ring, Duration::from_secs(1), || {
        (0..50).for_each(|_| {
            mpmc::Consumer::attach(&ring).unwrap().close();
            std::thread::sleep(Duration::from_millis(5));
        });
    });
    assert!(outcomes.iter().all(|error| matches!(error, Error::Timeout)), "{outcomes:?}");
    let sleeps = ring.stats().counts.sleeps;
    println!("{sleeps} sleeps of {CROWD} waiters in a second, while 50 participants leave");
    // Expected: about 5 per waiter. 20 if each checked for itself; 50 more if each departure woke
    // every waiter; twice as many if registrations of other waiters kept it awake.
    assert!(sleeps >= CROWD as u64 && sleeps < 8 * CROWD as u64, "{sleeps} sleeps");
    drop(fellow);
}

#[test]
fn another_waiter_checks_peers_when_the_checking_one_is_stopped_or_killed() {
    for signal in [libc::SIGSTOP, libc::SIGKILL] {
        let dir = TestDir::new(if signal == libc::SIGSTOP { "crowd-stopped" } else { "crowd-killed" });
        let ring = Ring::create("ring", &options(&dir.0)).unwrap();
        let producer = Other::start(&dir.0, &ring, "producer");
        let others: Vec<_> = (0..4).map(|_| Other::start(&dir.0, &ring, "consumer")).collect();
        let outcomes = wait_in_a_crowd(&ring, SOON, || {
            // Any of the waiters may have claimed the latest check, so all of them are killed, then
            // the producer.
            others.iter().for_each(|other| other.signal(signal));
            producer.signal(libc::SIGKILL);
        });
        assert!(outcomes.iter().all(|error| matches!(error, Error::PeerDead)), "{outcomes:?}");
    }
}

#[test]
fn the_departure_of_the_last_producer_ends_all_waits() {
    let ring = Ring::create_anonymous(&Options::mpmc(64, 8).participants(256)).unwrap();
    let producers: Vec<_> = (0..8).map(|_| mpmc::Producer::attach(&ring).unwrap()).collect();
    let outcomes = wait_in_a_crowd(&ring, SOON, || {
        std::thread::scope(|scope| producers.into_iter().for_each(|tx| drop(scope.spawn(|| tx.close()))));
    });
    assert!(outcomes.iter().all(|error| matches!(error, Error::Closed)), "{outcomes:?}");
}
