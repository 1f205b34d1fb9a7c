//! How a sender's end becomes the receiver's.

use std::time::{Duration, Instant};

use slipring::{Error, Options, spsc};

use crate::common::{Bridge, PATIENCE, Rings, address, header, payload};

/// A chain over which one frame has gone.
fn chain(options: &[&str]) -> (Rings, Bridge, Bridge, spsc::Producer, spsc::Consumer) {
    let rings = Rings::new();
    let at = address();
    let there = Bridge::start(&rings, None, &[&["zenoh:one", "ring:there", "--listen", &at], options].concat());
    let here = Bridge::start(&rings, None, &["ring:here", "zenoh:one", "--connect", &at]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    tx.send_frame(header(), &payload(0)).unwrap();
    assert_eq!(*rx.recv_deadline(Duration::from_secs(60)).unwrap(), *payload(0));
    (rings, here, there, tx, rx)
}

#[test]
fn a_close_is_passed_on_as_a_close() {
    let (_rings, here, there, tx, mut rx) = chain(&[]);
    drop(tx);
    assert!(matches!(rx.recv_deadline(Duration::from_secs(60)), Err(Error::Closed)));
    assert_eq!((here.end().0.code(), there.end().0.code()), (Some(0), Some(0)));
}

#[test]
fn the_death_of_a_sending_bridge_is_passed_on_as_a_death() {
    let (_rings, here, there, _tx, mut rx) = chain(&["--reconnect", "500ms"]);
    here.kill();
    assert!(matches!(rx.recv_deadline(Duration::from_secs(60)), Err(Error::PeerDead)));
    assert_eq!(there.end().0.code(), Some(1));
}

#[test]
fn a_signal_ends_each_side_with_its_code_and_a_last_line() {
    let (_rings, here, there, mut tx, mut rx) = chain(&[]);
    here.terminate();
    let (status, counters) = here.end();
    assert_eq!((status.code(), &counters["frames"]), (Some(143), &1.into()));
    // That was an orderly end for the other side. Frames stay in the ring.
    assert!(matches!(rx.recv_deadline(Duration::from_secs(60)), Err(Error::Closed)));
    assert_eq!(there.end().0.code(), Some(0));
    tx.send_frame(header(), &payload(1)).unwrap();
    assert!(!tx.is_empty());
}

#[test]
fn an_address_at_which_nothing_answers_is_told() {
    let rings = Rings::new();
    let at = address();
    for mode in ["peer", "client"] {
        let alone = Bridge::start(&rings, None, &["ring:here", "zenoh:one", "--connect", &at, "--mode", mode]);
        let start = Instant::now();
        while !alone.errors().contains(&format!("no answer yet from {at}")) {
            assert!(start.elapsed() < PATIENCE, "{mode}: {}", alone.errors());
            std::thread::sleep(Duration::from_millis(10));
        }
        alone.terminate();
        assert_eq!(alone.end().0.code(), Some(143));
    }
}

#[test]
fn with_follow_the_next_sender_is_received() {
    let rings = Rings::new();
    let at = address();
    let there = Bridge::start(&rings, None, &["zenoh:one", "ring:there", "--listen", &at, "--follow"]);
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    for (n, ring) in ["first", "second", "first"].into_iter().enumerate() {
        let mut tx = spsc::Producer::open(ring, &rings.options(Options::spsc(1 << 16))).unwrap();
        let here = Bridge::start(&rings, None, &[&format!("ring:{ring}"), "zenoh:one", "--connect", &at]);
        tx.send_frame(header(), &payload(n as u64)).unwrap();
        // An end of the sender before would come first.
        assert_eq!(*rx.recv_deadline(Duration::from_secs(60)).unwrap(), *payload(n as u64));
        drop(tx);
        assert_eq!(here.end().0.code(), Some(0));
    }
    there.terminate();
    let (status, counters) = there.end();
    assert_eq!(status.code(), Some(143));
    assert_eq!((&counters["frames"], &counters["missing"]), (&3.into(), &0.into()), "{counters}");
}
