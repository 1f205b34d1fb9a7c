//! SIGINT and SIGTERM: the first one ends `send`, `recv` and `relay` without losing a frame, and
//! shows in the exit code.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::address::unused_address;
use crate::common::{Place, Process, Run, wait_until};

/// Asserts that it ends by itself.
fn end(mut process: Process) -> Run {
    let start = Instant::now();
    while process.child().try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.finish()
}

#[test]
fn recv_ends_on_the_first_signal_while_frames_keep_coming() {
    let place = Place::new();
    let (at, address) = (place.path().display().to_string(), unused_address());
    for (from, to) in [
        ("ring:s".to_owned(), "ring:s".to_owned()),
        ("ring:m?kind=mpmc".to_owned(), "ring:m?kind=mpmc".to_owned()),
        ("ring:b?kind=stream".to_owned(), "ring:b?kind=stream".to_owned()),
        (format!("fifo:{at}/fifo"), format!("fifo:{at}/fifo")),
        (format!("unix:{at}/unix?listen"), format!("unix:{at}/unix")),
        (format!("unix:{at}/up?listen&upgrade=ring"), format!("unix:{at}/up?upgrade=ring")),
        (format!("seqpacket:{at}/seq?listen"), format!("seqpacket:{at}/seq")),
        (format!("dgram:{at}/dgram"), format!("dgram:{at}/dgram")),
        (format!("tcp:{address}?listen"), format!("tcp:{address}")),
    ] {
        let mut receiver = place.start(&format!("recv {from}"));
        let mut sender = place.start(&format!("send {to}"));
        let mut stdin = sender.child().stdin.take().unwrap();
        let feeder = std::thread::spawn(move || while stdin.write_all(b"0123456789\n").is_ok() {});
        receiver.first_bytes();
        let receiver = receiver.reading();
        let mut receiver = receiver;
        receiver.signal("TERM");
        let run = end(receiver);
        assert_eq!(run.code, 143, "{from}: {}", run.stderr);
        assert!(run.stdout.ends_with(b"\n") || from.contains("stream"), "{from}: a torn line");
        drop(sender);
        feeder.join().unwrap();
    }
}

/// How often the threads of a process have gone to sleep.
fn sleeps(process: &mut Process) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.child().id())).unwrap();
    let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
    let count = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.map(|task| count(status(task.unwrap()))).sum()
}

#[test]
fn a_relay_and_a_receiver_sleep_until_there_is_something() {
    let place = Place::new();
    let at = place.path().display().to_string();
    place.run("create ring:x").succeeds();
    let mut idle = Vec::new();
    for (n, verb) in [format!("relay fifo:{at}/0 ring:x"), format!("recv fifo:{at}/1")].into_iter().enumerate() {
        let mut process = place.start(&verb);
        let mut sender = place.start(&format!("send fifo:{at}/{n}"));
        sender.write(b"0123456789\n");
        if n == 0 {
            place.wait_for("stat x", |stat| stat["sent"] == 1);
        } else {
            process.first_bytes();
        }
        idle.push((sender, process));
    }
    let before: Vec<_> = idle.iter_mut().map(|(_, process)| sleeps(process)).collect();
    let seconds = 4;
    std::thread::sleep(Duration::from_secs(seconds));
    for ((_, process), before) in idle.iter_mut().zip(before) {
        let count = sleeps(process) - before;
        assert!(count <= 5 * seconds, "{count} sleeps in {seconds} s");
    }
    for (sender, mut process) in idle {
        process.signal("TERM");
        assert_eq!(end(process).code, 143);
        sender.finish();
    }
}

#[test]
fn a_pause_between_frames_ends_with_the_signal() {
    let place = Place::new();
    place.feed("send ring:x", b"0123456789\nlast\n").succeeds();
    let mut receiver = place.start("recv ring:x --rate 0.001/s");
    receiver.first_bytes();
    receiver.signal("INT");
    assert_eq!(end(receiver).code, 130);
    assert_eq!(place.run("recv ring:x").succeeds().text(), "last\n");
}

#[test]
fn a_stopped_relay_passes_on_the_frames_that_it_and_the_kernel_had() {
    let place = Place::new();
    let (at, address) = (place.path().display().to_string(), unused_address());
    // More than the ring takes; the kernel takes the rest of it.
    let text: Vec<u8> = (0..250).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    for (n, (from, to)) in [
        (format!("unix:{at}/unix?listen"), format!("unix:{at}/unix")),
        (format!("unix:{at}/up?listen&upgrade=ring"), format!("unix:{at}/up?upgrade=ring")),
        (format!("seqpacket:{at}/seq?listen"), format!("seqpacket:{at}/seq")),
        (format!("tcp:{address}?listen"), format!("tcp:{address}")),
        (format!("fifo:{at}/fifo"), format!("fifo:{at}/fifo")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut relay = place.start(&format!("relay {from} ring:slow{n}?capacity=4KiB"));
        let mut receiver = place.start(&format!("recv ring:slow{n}?capacity=4KiB")).reading();
        place.wait_for_living(&format!("slow{n}"), 2);
        receiver.signal("STOP");
        place.start(&format!("send {to}")).feed(&text).finish().succeeds(); // all of it is on its way
        place.wait_for(&format!("stat slow{n}"), |stat| stat["full"].as_u64() > Some(0));
        relay.signal("TERM");
        receiver.signal("CONT");
        let run = end(relay);
        assert_eq!(run.code, 143, "{from}: {}", run.stderr);
        assert!(receiver.finish().succeeds().stdout == text, "{from}");
    }
}

#[test]
fn a_stopped_relay_at_a_full_ring_reports_what_it_could_not_pass_on() {
    let place = Place::new();
    let unix = format!("unix:{}/unix", place.path().display());
    let mut relay = place.start(&format!("relay {unix}?listen ring:full?capacity=4KiB"));
    let sender = place.start(&format!("send {unix}")).feed(&b"0123456789\n".repeat(1000));
    place.wait_for("stat full", |stat| stat["full"].as_u64() > Some(0));
    sender.finish().succeeds();
    relay.signal("TERM");
    end(relay).fails(4, "are lost");
    place.run("recv ring:full --file /dev/null").fails(1, "died without closing");
}

#[test]
fn a_relay_that_cannot_pass_anything_on_times_out() {
    let place = Place::new();
    place.feed("send ring:from", &b"0123456789\n".repeat(1000)).succeeds();
    place.run("relay ring:from ring:to?capacity=4KiB --timeout 100ms").fails(124, "no frame could be passed on");
    let count = |ring: &str| place.json(&format!("verify {ring}"))["frames"].as_u64().unwrap();
    assert_eq!(count("from") + count("to"), 1000);
}

#[test]
fn a_listener_that_is_stopped_leaves_no_socket() {
    let place = Place::new();
    for (n, verb) in ["recv ENDPOINT", "relay ENDPOINT ring:x", "send ENDPOINT"].into_iter().enumerate() {
        for scheme in ["unix", "seqpacket"] {
            let socket = place.file(&format!("{scheme}{n}"));
            let endpoint = format!("{scheme}:{}?listen", socket.display());
            let mut process = place.start(&verb.replace("ENDPOINT", &endpoint));
            wait_until("it listens", || socket.exists());
            process.signal("TERM");
            assert_eq!(end(process).code, 143, "{verb}");
            assert!(!socket.exists(), "{endpoint}");
        }
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let place = Place::new();
    for verb in ["recv ring:x", "send ring:x", "relay ring:y ring:z"] {
        let slipring = env!("CARGO_BIN_EXE_slipring");
        let mut command = std::process::Command::new("sh");
        command.env("SLIPRING_DIR", place.path()).stdin(Stdio::piped());
        command.args(["-c", &format!("trap '' INT; exec {slipring} {verb}")]);
        let mut process = Process::start(&mut command);
        let ring = verb.split("ring:").nth(1).unwrap().trim().to_owned();
        place.wait_for_living(&ring, 1);
        process.signal("INT");
        process.signal("TERM");
        let code = end(process).code;
        assert_eq!(code, 143, "{verb}: by SIGTERM, not SIGINT");
        place.run("rm --force x y z");
    }
}

#[test]
fn a_stopped_sender_sends_what_it_has_read_and_not_half_a_line() {
    let place = Place::new();
    let mut sender = place.start("send ring:x");
    sender.write(b"one\ntwo\nthr");
    place.wait_for("stat x", |stat| stat["sent"] == 2);
    sender.signal("TERM");
    let start = Instant::now();
    while sender.child().try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let run = sender.finish();
    run.fails(143, "inside a frame: 3 bytes");
    assert_eq!(place.run("recv ring:x").succeeds().text(), "one\ntwo\n");

    // With a rate, most of the lines that it has read are not due yet.
    let mut sender = place.start("send ring:y --rate 0.001/s");
    sender.write(b"1\n2\n3\n4\n");
    place.wait_for("stat y", |stat| stat["sent"] == 1);
    sender.signal("INT");
    let mut said = BufReader::new(sender.child().stderr.take().unwrap()).lines();
    assert!(said.next().is_none());
    assert_eq!(sender.finish().code, 130);
    assert_eq!(place.run("recv ring:y").succeeds().text(), "1\n2\n3\n4\n");
}

#[test]
fn a_sender_stopped_at_a_full_ring_reports_what_is_lost() {
    let place = Place::new();
    let mut sender = place.start("send ring:small?capacity=4KiB").feed(&b"0123456789\n".repeat(1000));
    place.wait_for("stat small", |stat| stat["full"].as_u64() > Some(0));
    sender.signal("TERM");
    end(sender).fails(4, "were not sent");
    place.run("recv ring:small --file /dev/null").fails(1, "died without closing");
}
