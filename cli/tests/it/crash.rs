//! What the command line does when the other end dies or leaves.

use std::io::{BufRead, BufReader};

use crate::common::Place;

#[test]
fn a_killed_sender_is_reported_after_its_committed_frames() {
    let place = Place::new();
    for kind in ["spsc", "mpmc"] {
        let mut sender = place.start(&format!("send ring:{kind}?kind={kind}"));
        sender.write(b"one\ntwo\nhalf a li");
        place.wait_for(&format!("stat {kind}"), |stat| stat["sent"] == 2);
        let receiver = place.start(&format!("recv ring:{kind}"));
        place.wait_for(&format!("stat {kind}"), |stat| stat["received"] == 2);
        sender.kill();
        let run = receiver.finish();
        run.fails(1, "died without closing");
        assert_eq!(run.text(), "one\ntwo\n");
        assert!(run.stderr.contains("2 frames"), "{}", run.stderr);
    }
}

#[test]
fn a_sender_killed_before_the_receiver_started_is_reported_too() {
    let place = Place::new();
    let mut sender = place.start("send ring:x");
    sender.write(b"one\n");
    place.wait_for("stat x", |stat| stat["sent"] == 1);
    sender.kill();
    place.wait_for("ls", |ls| ls["state"] == "stale");
    let run = place.run("recv ring:x");
    run.fails(1, "died without closing");
    assert_eq!(run.text(), "one\n");
}

#[test]
fn frames_held_by_a_killed_receiver_are_redelivered_and_marked() {
    let place = Place::new();
    for kind in ["spsc", "mpmc&slots=64"] {
        let ring = kind.split('&').next().unwrap();
        place.run(&format!("create ring:{ring}?kind={kind}")).succeeds();
        let sender = place.start(&format!("send ring:{ring}")).feed(&lines());
        let mut receiver = place.start(&format!("recv ring:{ring}"));
        receiver.first_bytes(); // it blocks in a write: the pipe is smaller than the frames it holds
        place.wait_for(&format!("stat {ring}"), |stat| stat["used"].as_u64() > Some(0));
        receiver.kill();
        let run = place.run(&format!("recv ring:{ring} --json")).succeeds();
        sender.finish().succeeds();
        let text = run.text();
        assert!(text.lines().count() > 500, "{kind}: {}", text.lines().count());
        assert!(text.lines().next().unwrap().contains("\"redelivered\":true"), "{kind}: {}", &text[..200]);
        assert!(text.lines().last().unwrap().contains("\"redelivered\":false"), "{kind}");
        assert!(run.stderr.contains("were redelivered after their consumer died"), "{}", run.stderr);
    }
}

/// More than a pipe takes: a receiver blocks in its output while it holds frames.
fn lines() -> Vec<u8> {
    [b"x".repeat(200).as_slice(), b"\n"].concat().repeat(2000)
}

#[test]
fn frames_lost_by_policy_are_exit_code_4() {
    let place = Place::new();
    place.run("create ring:x?redelivery=at-most-once").succeeds();
    let sender = place.start("send ring:x").feed(&lines());
    let mut receiver = place.start("recv ring:x");
    receiver.first_bytes();
    receiver.kill();
    place.run("recv ring:x").fails(4, "were lost");
    sender.finish().succeeds();
}

#[test]
fn a_sender_waits_for_another_receiver() {
    let place = Place::new();
    let text: Vec<u8> = (0..10_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for kind in ["spsc&capacity=4KiB", "mpmc&slots=16&slot=16"] {
        let ring = kind.split('&').next().unwrap();
        let mut sender = place.start(&format!("send ring:{ring}?kind={kind}")).feed(&text);
        place.wait_for_living(ring, 1);
        let first = place.run(&format!("recv ring:{ring} --count 100")).succeeds().text();
        let mut said = BufReader::new(sender.child().stderr.take().unwrap()).lines();
        let said = said.next().unwrap().unwrap();
        assert!(said.contains("its consumer has left: waiting for another"), "{said}");
        let rest = place.run(&format!("recv ring:{ring}")).succeeds().text();
        sender.finish().succeeds();
        assert!((first + &rest).into_bytes() == text, "{kind}");
    }
}

#[test]
fn waiting_is_bounded_by_the_timeout() {
    let place = Place::new();
    place.run("recv ring:empty --timeout 50ms").fails(124, "nothing arrived for 50.0 ms");
    place.run("recv ring:bytes?kind=stream --timeout 50ms").fails(124, "nothing arrived");
    place.run("recv ring:slots?kind=mpmc --timeout 50ms").fails(124, "nothing arrived");
    let line = b"0123456789\n".repeat(1000);
    place.feed("send ring:full?capacity=4KiB --timeout 50ms", &line).fails(124, "no receiver made room");
    let kept = place.json("verify full");
    assert!(kept["frames"].as_u64() > Some(100), "{kept}");
    place.feed("send ring:many?kind=mpmc&slots=2 --timeout 50ms", &line).fails(124, "no receiver made room");
}

#[test]
fn one_producer_at_a_time() {
    let place = Place::new();
    let sender = place.start("send ring:x");
    place.wait_for_living("x", 1);
    place.feed("send ring:x", b"mine\n").fails(1, "a producer is already attached");
    let receiver = place.start("recv ring:x");
    place.wait_for_living("x", 2);
    place.run("recv ring:x").fails(1, "a consumer is already attached");
    sender.finish().succeeds();
    assert_eq!(receiver.finish().succeeds().stdout, b"");
}
