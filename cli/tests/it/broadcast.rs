//! Broadcast rings on the command line: every receiver gets every frame, and a lossy one its gaps.

use crate::common::{Place, noise};

#[test]
fn every_reliable_receiver_gets_all_bytes_and_one_that_is_killed_holds_nothing_back() {
    let place = Place::new();
    place.run("create ring:md?kind=broadcast&capacity=64KiB").succeeds();
    let receivers: Vec<_> = (0..2).map(|_| place.start("recv ring:md --framing raw").reading()).collect();
    let mut killed = place.start("recv ring:md --framing raw"); // its output is not read, so it stops
    place.wait_for_living("md", 3);
    let data = noise(4 << 20, 7);
    let sender = place.start("send ring:md --framing raw").feed(&data);
    place.wait_for("stat md", |stat| stat["full"].as_u64() > Some(0));
    killed.kill();
    sender.finish().succeeds();
    for receiver in receivers {
        let run = receiver.finish().succeeds();
        assert!(run.stdout == data, "{} bytes of {}", run.stdout.len(), data.len());
    }
}

#[test]
fn what_a_lossy_receiver_missed_adds_up() {
    let place = Place::new();
    place.run("create ring:md?kind=broadcast&capacity=4KiB").succeeds();
    let reliable = place.start("recv ring:md").reading();
    place.wait_for_living("md", 1);
    let lines: Vec<_> = (0..20_000).map(|n| format!("{n}\n")).collect();
    let lossy = place.start("recv ring:md?subscribe=lossy");
    place.wait_for_living("md", 2);
    place.feed("send ring:md", lines.concat().as_bytes()).succeeds();
    assert_eq!(reliable.finish().succeeds().text(), lines.concat());
    let run = lossy.finish();
    let seen: Vec<u64> = run.text().lines().map(|line| line.parse().unwrap()).collect();
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    let missed = 20_000 - seen.len();
    if missed > 0 {
        run.fails(4, &missed.to_string());
    } else {
        run.succeeds();
    }
}

#[test]
fn a_slow_receiver_is_evicted_and_told() {
    let place = Place::new();
    place.run("create ring:md?kind=broadcast&capacity=4KiB").succeeds();
    let slow = place.start("recv ring:md --framing raw --rate 1/s");
    place.wait_for_living("md", 1);
    let data = noise(1 << 20, 3);
    place.feed("send ring:md?evict=20ms --framing raw", &data).succeeds();
    slow.finish().fails(1, "evicted");
    assert_eq!((&place.json("stat md")["evicted"], &place.json("info md")["evicted"]), (&1.into(), &1.into()));
    let has_row = |text: String| text.lines().any(|line| line.starts_with("evicted") && line.contains('1'));
    assert!(["stat md", "info md"].into_iter().all(|verb| has_row(place.run(verb).succeeds().text())));
}

#[test]
fn every_verb_knows_the_kind() {
    let place = Place::new();
    place.feed("send ring:md?kind=broadcast&capacity=4KiB", b"one\ntwo\n").succeeds();
    let info = place.json("info md");
    assert_eq!((&info["kind"], &info["subscribers"]), (&"broadcast".into(), &serde_json::json!([])));
    assert!(place.run("ls").text().contains("broadcast"));
    assert!(place.run("dump md").text().contains("one"));
    place.run("verify md").succeeds();
    assert_eq!(place.run("recv ring:md").succeeds().text(), "one\ntwo\n", "history for late receivers");
    let receiver = place.start("recv ring:md?subscribe=lossy --follow");
    // Counts belong to the id, which an earlier receiver had.
    place.wait_for("stat md", |stat| stat["subscribers"][0]["received"] == 4);
    for verb in ["stat md", "info md", "verify md", "ls"] {
        let one = &place.json(verb)["subscribers"][0];
        assert_eq!((&one["mode"], &one["position"], &one["lag"]), (&"lossy".into(), &48.into(), &0.into()), "{verb}");
        assert_eq!((&one["overruns"], &one["received"], &one["missed"]), (&0.into(), &4.into(), &0.into()), "{verb}");
        let text = place.run(verb).succeeds().text();
        let is_there = ["lossy", "POSITION", "LAG", "OVERRUNS", "MISSED"].into_iter().all(|word| text.contains(word));
        assert!(is_there || verb == "ls", "{verb}: {text}");
    }
    drop(receiver);
    place.run("create ring:x?kind=spsc&subscribe=lossy").fails(2, "kind=broadcast");
    place.run("relay ring:md ring:copy --count 2").succeeds();
    assert_eq!(place.run("recv ring:copy").succeeds().text(), "one\ntwo\n");
}
