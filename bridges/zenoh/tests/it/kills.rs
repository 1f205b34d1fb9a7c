//! Either bridge is killed, at any time, and restarted: what was delivered and what was missed is
//! what was sent, and what comes twice is marked.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use slipring::{Options, spsc};

use crate::common::{Bridge, Rings, Seen, address, consume_until, send_until, wait_for_more};

/// A number that looks random.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[derive(PartialEq)]
enum Killed {
    Sending,
    Receiving,
    Both,
}

/// Kills so many times while frames flow; returns what the consumer saw and how many were sent.
fn kill(killed: &Killed, kills: u64) -> (Seen, u64) {
    let mut seed = u64::from(std::process::id());
    println!("seed {seed}");
    let rings = Rings::new();
    let at = address();
    let receiving = ["zenoh:k", "ring:there", "--listen", &at, "--follow", "--reconnect", "60s"];
    let sending = ["ring:here", "zenoh:k", "--connect", &at];
    let (mut there, mut here) = (Bridge::start(&rings, None, &receiving), Bridge::start(&rings, None, &sending));
    let mut rx = spsc::Consumer::open("there", &rings.options(Options::spsc(1 << 16))).unwrap();
    let mut tx = spsc::Producer::open("here", &rings.options(Options::spsc(1 << 16))).unwrap();
    let (last, delivered) = (&AtomicU64::new(u64::MAX), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        let kills_are_over = scope.spawn(|| {
            for kill in 0..kills {
                wait_for_more(delivered);
                std::thread::sleep(Duration::from_micros(next(&mut seed) % 50_000));
                let is_sending = *killed == Killed::Sending || *killed == Killed::Both && kill % 2 == 0;
                (if is_sending { &mut here } else { &mut there }).kill_and_restart();
            }
        });
        let tx = &mut tx;
        let sender = scope.spawn(move || send_until(tx, || kills_are_over.is_finished(), last));
        let seen = consume_until(&mut rx, last, delivered);
        (seen, sender.join().unwrap())
    })
}

#[track_caller]
fn check((seen, sent): (Seen, u64)) {
    println!("{sent} sent: {seen:?}");
    assert_eq!(seen.delivered + seen.missed, sent);
    assert_eq!(seen.unmarked, 0);
    assert!(seen.delivered > 0);
}

#[test]
fn a_sending_bridge_is_killed_and_restarted() {
    check(kill(&Killed::Sending, 10));
}

#[test]
fn a_receiving_bridge_is_killed_and_restarted() {
    check(kill(&Killed::Receiving, 10));
}

#[test]
fn both_bridges_are_killed_in_turn_and_restarted() {
    check(kill(&Killed::Both, 10));
}
