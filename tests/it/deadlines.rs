//! No deadline, however short, hides that the other end has closed or died: for every kind of ring,
//! both directions and every way to wait.
//!
//! The other process is this test program, started again with a role in its environment.

use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use slipring::{Error, Idle, Options, Ring, mpmc, spsc, stream};

use crate::common::dir::TestDir;
use crate::common::this_test::{start_until_ready, this_test};

/// Far longer than any call here takes: a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const WAYS: [Idle; 4] = [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park];
const SHORT: [Duration; 4] =
    [Duration::ZERO, Duration::from_micros(1), Duration::from_micros(300), Duration::from_millis(2)];

/// A call with a deadline that cannot proceed (nothing to receive or no room), on one end of one
/// kind of ring.
type Call = Box<dyn FnMut(Duration) -> Result<(), Error>>;
/// The other end. Either it is dropped, or its process is killed.
type Peer = Box<dyn std::any::Any>;

const KINDS: [&str; 6] = ["spsc recv", "spsc send", "mpmc recv", "mpmc send", "stream read", "stream write"];

fn options(kind: &str) -> Options {
    match kind.split(' ').next().unwrap() {
        "spsc" => Options::spsc(4096),
        "mpmc" => Options::mpmc(8, 8),
        _ => Options::stream(4096),
    }
}

/// Attaches the other end, and puts it into the state that the case needs.
fn peer(kind: &str, ring: &Ring) -> Peer {
    match kind {
        "spsc recv" => Box::new(spsc::Producer::attach(ring).unwrap()),
        "spsc send" => Box::new(spsc::Consumer::attach(ring).unwrap()),
        "mpmc recv" => {
            // Dies with a claim: unless it is reaped, the consumers wait for that slot forever.
            let producer = mpmc::Producer::attach(ring).unwrap();
            std::mem::forget(producer.try_reserve(8).unwrap());
            Box::new(producer)
        }
        "mpmc send" => Box::new(mpmc::Consumer::attach(ring).unwrap()),
        "stream read" => Box::new(stream::Producer::attach(ring).unwrap()),
        "stream write" => Box::new(stream::Consumer::attach(ring).unwrap()),
        other => panic!("no kind {other}"),
    }
}

/// Attaches this end, after the other one. A sender finds a full ring.
fn call(kind: &str, ring: &Ring, idle: Idle) -> Call {
    match kind {
        "spsc recv" => {
            let mut rx = spsc::Consumer::attach(ring).unwrap();
            rx.set_idle(idle);
            Box::new(move |deadline| rx.recv_deadline(deadline).map(drop))
        }
        "spsc send" => {
            let mut tx = spsc::Producer::attach(ring).unwrap();
            tx.set_idle(idle);
            while tx.try_send(b"x").is_ok() {}
            Box::new(move |deadline| tx.send_deadline(b"x", deadline))
        }
        "mpmc recv" => {
            let rx = mpmc::Consumer::attach(ring).unwrap();
            Box::new(move |deadline| rx.recv_deadline(deadline).map(drop))
        }
        "mpmc send" => {
            let tx = mpmc::Producer::attach(ring).unwrap();
            while tx.try_send(b"x").is_ok() {}
            Box::new(move |deadline| tx.send_deadline(b"x", deadline))
        }
        "stream read" => {
            let mut rx = stream::Consumer::attach(ring).unwrap();
            rx.set_idle(idle);
            Box::new(move |deadline| rx.read_deadline(&mut [0], deadline).map(drop))
        }
        "stream write" => {
            let mut tx = stream::Producer::attach(ring).unwrap();
            tx.set_idle(idle);
            while tx.try_write(b"x").is_ok() {}
            Box::new(move |deadline| tx.write_all_deadline(b"x", deadline).map_err(|partial| partial.error))
        }
        other => panic!("no kind {other}"),
    }
}

#[test]
fn the_first_call_reports_a_peer_that_has_closed() {
    for kind in KINDS {
        for idle in WAYS {
            for deadline in SHORT {
                let ring = Ring::create_anonymous(&options(kind).idle(idle)).unwrap();
                let peer = peer(kind, &ring);
                let mut call = call(kind, &ring, idle);
                assert!(
                    matches!(call(deadline), Err(Error::Timeout)),
                    "{kind}, {idle}, {deadline:?}: the peer is alive"
                );
                drop(peer);
                let told = call(deadline);
                assert!(matches!(told, Err(Error::Closed)), "{kind}, {idle}, {deadline:?}: {told:?}");
            }
        }
    }
}

#[test]
fn a_loop_of_short_calls_reports_a_killed_peer() {
    for (n, kind) in KINDS.into_iter().enumerate() {
        for (m, idle) in WAYS.into_iter().enumerate() {
            let deadline = SHORT[(n + m) % SHORT.len()];
            let dir = TestDir::new(&format!("deadlines-{n}-{m}"));
            let ring = Ring::create("ring", &options(kind).idle(idle).directory(&dir.0)).unwrap();
            let mut child = start(kind, &dir.0);
            let mut call = call(kind, &ring, idle);
            assert!(matches!(call(deadline), Err(Error::Timeout)), "{kind}, {idle}, {deadline:?}: the peer is alive");
            child.kill().unwrap();
            child.wait().unwrap();
            let killed = Instant::now();
            let told = loop {
                match call(deadline) {
                    Err(Error::Timeout) => {
                        assert!(killed.elapsed() < SOON, "{kind}, {idle}, {deadline:?}: the death was not reported")
                    }
                    told => break told,
                }
            };
            assert!(matches!(told, Err(Error::PeerDead)), "{kind}, {idle}, {deadline:?}: {told:?}");
        }
    }
}

/// Not a test: the other process.
#[test]
fn other_process() {
    let (Ok(kind), Some(dir)) = (std::env::var("SLIPRING_TEST_KIND"), std::env::var_os("SLIPRING_TEST_DIR")) else {
        return;
    };
    let ring = Ring::open("ring", &options(&kind).directory(dir)).unwrap();
    let _peer = peer(&kind, &ring);
    println!("ready");
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read_line(&mut String::new()); // until the parent kills this process, or dies itself
}

/// Runs the other end of `kind` in another process, and waits until it has attached.
fn start(kind: &str, dir: &Path) -> Child {
    let mut command = this_test(module_path!(), "other_process");
    start_until_ready(command.env("SLIPRING_TEST_KIND", kind).env("SLIPRING_TEST_DIR", dir))
}
