//! Rings with a lane for each sender on the command line: many senders, some of them killed, and
//! one receiver.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use serde_json::Value;

use crate::common::{Place, Process};

/// The lines `SENDER:NUMBER` of one sender.
fn lines(sender: usize, count: usize) -> String {
    (0..count).map(|number| format!("{sender}:{number}\n")).collect()
}

/// How many lines of each sender there are. They have to be in order, without a gap.
#[track_caller]
fn by_sender(text: &str) -> BTreeMap<usize, usize> {
    let mut seen = BTreeMap::new();
    for line in text.lines() {
        let (sender, number) = line.split_once(':').unwrap();
        let next = seen.entry(sender.parse().unwrap()).or_insert(0);
        assert_eq!(number.parse(), Ok(*next), "of sender {sender}");
        *next += 1;
    }
    seen
}

#[test]
fn each_sender_is_in_order_and_every_death_is_told() {
    const SENDERS: usize = 8;
    const KILLED: [usize; 3] = [0, 4, 6];
    const LINES: usize = 20_000;
    let place = Place::new();
    place.run(&format!("create ring:orders?kind=mpsc&lanes={SENDERS}&capacity=4KiB")).succeeds();
    let receiver = place.start("recv ring:orders").reading();
    place.wait_for_living("orders", 1);
    // Those that are killed keep their input open, so they are alive until then.
    let mut senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let mut process = place.start("send ring:orders");
            if KILLED.contains(&sender) {
                process.write(lines(sender, 500).as_bytes());
                if sender == 0 {
                    // It keeps the receiver from ending while other senders come and go.
                    place.wait_for_living("orders", 2);
                }
                return process;
            }
            process.feed(lines(sender, LINES).as_bytes())
        })
        .collect();
    let expected = (SENDERS - KILLED.len()) * LINES + KILLED.len() * 500;
    place.wait_for("stat orders", |stat| stat["sent"] == expected);
    KILLED.into_iter().for_each(|sender| senders[sender].kill());
    let run = receiver.finish();
    run.fails(1, "3 senders died without closing; all committed frames were delivered");
    let told = run.stderr.lines().filter(|line| line.contains("died without closing; its committed frames")).count();
    assert_eq!(told, KILLED.len(), "{}", run.stderr);
    let seen = by_sender(&run.text());
    for (sender, process) in senders.into_iter().enumerate() {
        let count = if KILLED.contains(&sender) { 500 } else { LINES };
        assert_eq!(seen[&sender], count, "of sender {sender}");
        if count == LINES {
            process.finish().succeeds();
        }
    }
    assert_eq!(place.json("info orders")["lanes"], serde_json::json!([]), "all lanes are free again");
}

/// A sender whose input does not end before it is killed.
fn endless(place: &Place, sender: usize) -> Process {
    let mut process = place.start("send ring:orders");
    let mut stdin = BufWriter::new(process.child().stdin.take().unwrap());
    std::thread::spawn(move || (0..u64::MAX).try_for_each(|number| writeln!(stdin, "{sender}:{number}")));
    process
}

/// Senders are killed while they send: what a sender has committed arrives, up to some line.
#[test]
fn senders_killed_in_full_flight_leave_whole_frames_in_order() {
    let place = Place::new();
    place.run("create ring:orders?kind=mpsc&lanes=8&capacity=4KiB").succeeds();
    let receiver = place.start("recv ring:orders").reading();
    place.wait_for_living("orders", 1);
    let keeper = place.start("send ring:orders"); // so that the end comes last
    place.wait_for_living("orders", 2);
    let mut sent = 0;
    for round in 0..3 {
        let mut senders: Vec<_> = (0..7).map(|sender| endless(&place, 10 * round + sender)).collect();
        place.wait_for_living("orders", 9);
        place.wait_for("stat orders", |stat| stat["sent"].as_u64() >= Some(sent + 2000));
        senders.iter_mut().for_each(Process::kill);
        // Their lanes are free when the receiver has been told.
        place.wait_for("info orders", |info| info["lanes"].as_array().is_some_and(|lanes| lanes.len() <= 1));
        sent = place.json("stat orders")["sent"].as_u64().unwrap();
    }
    keeper.finish().succeeds();
    let run = receiver.finish();
    run.fails(1, "21 senders died");
    let seen = by_sender(&run.text());
    // A sender that was killed between a commit and its count has sent more than was counted.
    let all: usize = seen.values().sum();
    assert!(all as u64 >= sent && seen.len() <= 21, "{all} of {sent}");
}

#[test]
fn a_full_lane_blocks_only_its_sender() {
    let place = Place::new();
    place.run("create ring:orders?kind=mpsc&lanes=2&capacity=4KiB").succeeds();
    let full = place.start("send ring:orders").feed(lines(0, 1000).as_bytes());
    place.wait_for("stat orders", |stat| stat["full"].as_u64() > Some(0));
    place.feed("send ring:orders", b"1:0\n1:1\n").succeeds();
    let no_lane = place.feed("send ring:orders", b"2:0\n");
    no_lane.fails(1, "lane");
    let stat = place.json("stat orders");
    let states: Vec<_> = stat["lanes"].as_array().unwrap().iter().map(|lane| &lane["state"]).collect();
    assert_eq!(states, ["held", "closed"]);
    let run = place.run("recv ring:orders").succeeds();
    assert_eq!(by_sender(&run.text()), BTreeMap::from([(0, 1000), (1, 2)]));
    full.finish().succeeds();
}

#[test]
fn every_verb_knows_the_kind() {
    let place = Place::new();
    place.feed("send ring:orders?lanes=3&capacity=4KiB", b"one\ntwo\n").succeeds();
    let info = place.json("info orders");
    let shape = [&info["kind"], &info["max_lanes"], &info["slots"]];
    assert_eq!(shape, [Value::from("mpsc"), 3.into(), 0.into()].each_ref());
    let lane = |verb: &str| place.json(verb)["lanes"][0].clone();
    for verb in ["info orders", "stat orders", "verify orders", "ls"] {
        let lane = lane(verb);
        let words = [&lane["lane"], &lane["state"], &lane["lag"]];
        assert_eq!(words, [Value::from(0), "closed".into(), 48.into()].each_ref(), "{verb}");
        let text = place.run(verb).succeeds().text();
        let is_there = ["LANE", "closed", "LAG"].into_iter().all(|word| text.contains(word));
        assert!(is_there || verb == "ls", "{verb}: {text}");
    }
    assert!(place.run("info orders").text().contains("3 lanes of 4 KiB"));
    assert!(place.run("ls").text().contains("3 lanes of 4 KiB"));
    let dump: Vec<Value> = place
        .run("dump orders --json")
        .succeeds()
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((dump.len(), &dump[1]["payload"]), (2, &"two".into()));
    assert!(place.run("dump orders").succeeds().text().contains("one"));
    let verify = place.json("verify orders");
    assert_eq!([&verify["clean"], &verify["frames"]], [Value::from(true), 2.into()].each_ref());
    let mut sender = place.start("send ring:orders");
    sender.write(b"three\n");
    place.wait_for("stat orders", |stat| stat["lanes"][1]["lag"] == 24);
    let held = &place.json("stat orders")["lanes"][1];
    assert_eq!([&held["state"], &held["pid"]], [Value::from("held"), sender.child().id().into()].each_ref());
    sender.finish().succeeds();
    place.run("relay ring:orders ring:copy").succeeds();
    let copied = place.run("recv ring:copy").succeeds().text();
    assert_eq!(copied.lines().count(), 3, "{copied}");
    place.feed("send ring:orders", b"again\n").succeeds();
    assert_eq!(place.run("recv ring:orders").succeeds().text(), "again\n");
    place.run("create ring:x?kind=spsc&lanes=2").fails(2, "kind=mpsc");
    place.run("create ring:x?lanes=2000").fails(2, "lanes");
    place.run("gc --idle").succeeds();
    assert!(!place.file("orders").exists());
}

#[test]
fn a_killed_receiver_is_taken_over() {
    let place = Place::new();
    place.run("create ring:orders?kind=mpsc&lanes=2&capacity=4KiB").succeeds();
    let senders: Vec<_> =
        (0..2).map(|sender| place.start("send ring:orders").feed(lines(sender, 2000).as_bytes())).collect();
    // Its output is not read, so it stops while it holds frames.
    let mut killed = place.start("recv ring:orders --rate 100/s");
    place.wait_for("stat orders", |stat| stat["received"].as_u64() > Some(5));
    killed.kill();
    let first = killed.finish().text();
    let rest = place.run("recv ring:orders").succeeds();
    senders.into_iter().for_each(|sender| drop(sender.finish().succeeds()));
    let first = by_sender(&first);
    for sender in 0..2 {
        let lines: Vec<usize> =
            rest.text().lines().filter_map(|line| line.strip_prefix(&format!("{sender}:"))?.parse().ok()).collect();
        let written = first.get(&sender).copied().unwrap_or(0);
        assert!(lines[0] <= written, "nothing is lost");
        assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1) && lines.ends_with(&[1999]));
    }
}

#[test]
fn a_sender_that_requires_a_receiver_judges_by_its_own_lane() {
    let place = Place::new();
    place.run("create ring:orders?kind=mpsc&lanes=4&capacity=4KiB").succeeds();
    let receiver = place.start("recv --count 1 ring:orders").reading();
    place.wait_for_living("orders", 1);
    let mut sender = place.start("send --require-receiver ring:orders");
    sender.write(b"ours\n");
    assert_eq!(receiver.finish().succeeds().text(), "ours\n");
    // Nothing of ours is left, and a frame of another sender waits.
    place.feed("send ring:orders", b"theirs\n").succeeds();
    sender.feed(b"").finish().succeeds();
    // Its own frame is left by a receiver that dies.
    let mut receiver = place.start("recv --follow ring:orders").reading();
    place.wait_for("stat orders", |stat| stat["received"] == 2);
    receiver.signal("STOP");
    let mut sender = place.start("send --require-receiver ring:orders");
    sender.write(b"left\n");
    place.wait_for("stat orders", |stat| stat["sent"] == 3);
    receiver.kill();
    sender.finish().fails(5, "the last receiver has left or died");
}
