//! Boards of latest values on the command line: values that replace each other, in numbered cells.

use serde_json::Value;

use crate::common::{Place, wait_until};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_last_line_is_the_value_until_another_one_comes() {
    let place = Place::new();
    place.feed("send ring:gain?kind=latest", b"-9 dB\n-6 dB\n-3 dB\n").succeeds();
    for _ in 0..2 {
        let run = place.run("recv ring:gain").succeeds();
        assert_eq!(run.text(), "-3 dB\n", "receiving takes nothing away, and every receiver learns of the end");
    }
    place.feed("send ring:gain", b"0 dB\n").succeeds();
    let run = place.run("recv ring:gain --json").succeeds();
    let frame = &lines(&run.text())[0];
    assert_eq!((&frame["seq"], &frame["payload"]), (&4.into(), &"0 dB".into()));
}

#[test]
fn changes_come_as_they_are_made_and_skipped_values_are_told() {
    let place = Place::new();
    place.run("create ring:x?cells=2&size=16").succeeds();
    let mut receiver = place.start("recv ring:x --json");
    place.wait_for_living("x", 1);
    let mut sender = place.start("send ring:x --stream 1");
    sender.write(b"one\n");
    place.wait_for("stat x", |stat| stat["received"] == 1);
    receiver.signal("STOP");
    sender.write(b"two\nthree\nfour\n");
    place.wait_for("stat x", |stat| stat["sent"] == 4);
    receiver.signal("CONT");
    place.wait_for("stat x", |stat| stat["received"] == 2);
    sender.finish().succeeds();
    let run = receiver.finish().succeeds();
    let frames = lines(&run.text());
    let seen: Vec<_> = frames.iter().map(|frame| (frame["stream"].as_u64(), frame["seq"].as_u64())).collect();
    assert_eq!(seen, [(Some(1), Some(1)), (Some(1), Some(4))]);
    assert!(run.stderr.contains("skipped 2 values"), "{}", run.stderr);
}

#[test]
fn every_verb_knows_the_kind() {
    let place = Place::new();
    place.run("create ring:x?kind=latest&cells=3&size=16").succeeds();
    place.feed("send ring:x --stream 2 --kind 0x0107", b"old\nnew\n").succeeds();
    let info = place.json("info x");
    assert_eq!((&info["kind"], &info["slots"], &info["max_payload"]), (&"latest".into(), &3.into(), &48.into()));
    assert!(place.run("info x").text().contains("3 cells"));
    assert!(place.run("ls").text().contains("3 cells"));
    let stat = place.json("stat x");
    assert_eq!([&stat["sent"], &stat["used"], &stat["limit"], &stat["tail"]], [2, 1, 3, 2].map(Value::from).each_ref());
    let verify = place.json("verify x");
    assert_eq!((&verify["clean"], &verify["frames"]), (&true.into(), &1.into()));
    let dump = place.run("dump x --json").succeeds();
    let frame = &lines(&dump.text())[0];
    assert_eq!([&frame["stream"], &frame["seq"], &frame["kind"]], [2, 2, 0x107].map(Value::from).each_ref());
    place.feed("send ring:x --stream 3", b"none\n").fails(2, "cell");
    place.feed("send ring:x", &[b'x'; 49]).fails(1, "at most 48");
    place.run("gc --idle").succeeds();
    assert!(place.file("x").exists(), "its value stays");
    place.run("gc --all").succeeds();
    assert!(!place.file("x").exists());
    place.run("create ring:y?kind=latest&slots=4").fails(2, "cells and size");
}

#[test]
fn a_relay_passes_on_the_newest_values() {
    let place = Place::new();
    place.feed("send ring:from?cells=4 --stream 3", b"one\ntwo\n").succeeds();
    place.run("create ring:to?cells=4").succeeds();
    let relayed = place.run("relay ring:from ring:to --json").succeeds();
    let told: Value = serde_json::from_str(&relayed.text()).unwrap();
    assert_eq!([&told["frames"], &told["missing"]], [1, 0].map(Value::from).each_ref());
    assert_eq!(place.run("recv ring:to").succeeds().text(), "two\n");
    place.run("relay ring:to ring:frames").succeeds();
    assert_eq!(place.run("recv ring:frames").succeeds().text(), "two\n");
}

#[test]
fn a_killed_sender_leaves_its_last_value() {
    let place = Place::new();
    let mut sender = place.start("send ring:x?kind=latest");
    sender.write(b"last\n");
    place.wait_for("stat x", |stat| stat["sent"] == 1);
    sender.kill();
    let run = place.run("recv ring:x");
    run.fails(1, "died");
    assert_eq!(run.text(), "last\n");
    wait_until("another one may send", || place.feed("send ring:x", b"next\n").code == 0);
    assert_eq!(place.run("recv ring:x").succeeds().text(), "next\n");
}
