//! `relay`, `send` and `recv` over every transport, and an orderly end on SIGINT.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::address::unused_address;
use crate::common::{Place, Process, noise, run};
use serde_json::Value;

/// Sends SIGINT, as `kill -INT` does.
fn interrupt(process: &mut Process) {
    let pid = process.child().id().to_string();
    assert!(run("kill", &["-INT", &pid]));
}

#[test]
fn a_ring_is_relayed_into_a_ring_and_the_end_follows() {
    let place = Place::new();
    let text: Vec<u8> = (0..50_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    for (from, to) in [("spsc", "mpmc"), ("mpmc", "spsc")] {
        let relay = place.start(&format!("relay ring:from-{from}?kind={from} ring:to-{from}?kind={to} --json"));
        let receiver = place.start(&format!("recv ring:to-{from}?kind={to}")).reading();
        place.feed(&format!("send ring:from-{from}?kind={from}"), &text).succeeds();
        let relayed: serde_json::Value = serde_json::from_slice(&relay.finish().succeeds().stdout).unwrap();
        assert_eq!((&relayed["frames"], &relayed["missing"]), (&50_000.into(), &0.into()));
        assert!(receiver.finish().succeeds().stdout == text);
    }
}

#[test]
fn a_destination_made_for_a_source_that_fails_is_removed() {
    let place = Place::new();
    std::fs::write(place.file("key"), b"").unwrap();
    let source = format!("tcp:{}", unused_address()); // without a listener
    let queues =
        [format!("mq:/slipring-relay-{}", std::process::id()), format!("sysv:{}", place.file("key").display())];
    // Without a list of POSIX queues it cannot be told what is in one.
    let has_list = std::fs::read_to_string("/proc/mounts").unwrap().contains(" mqueue ");
    for destination in ["ring:to", &queues[1]].into_iter().chain(has_list.then_some(queues[0].as_str())) {
        assert_ne!(place.run(&format!("relay {source} {destination} --timeout 50ms")).code, 0);
        place.run(&format!("rm {destination}")).fails(5, "not found");
    }
    place.run("create ring:kept").succeeds();
    assert_ne!(place.run(&format!("relay {source} ring:kept --timeout 50ms")).code, 0);
    place.run("rm ring:kept").succeeds();
}

#[test]
fn a_count_is_kept_and_the_rest_stays() {
    let place = Place::new();
    place.feed("send ring:from", b"one\ntwo\nthree\n").succeeds();
    place.run("relay ring:from ring:to --count 2").succeeds();
    assert_eq!(place.run("recv ring:to").succeeds().text(), "one\ntwo\n");
    assert_eq!(place.run("recv ring:from").succeeds().text(), "three\n");
}

#[test]
fn a_death_is_passed_on_as_a_death() {
    let place = Place::new();
    let mut sender = place.start("send ring:from");
    sender.write(b"one\n");
    let relay = place.start("relay ring:from ring:to");
    let receiver = place.start("recv ring:to");
    place.wait_for("stat to", |stat| stat["received"] == 1);
    sender.kill();
    relay.finish().fails(1, "died without closing");
    let run = receiver.finish();
    run.fails(1, "died without closing");
    assert_eq!(run.text(), "one\n");
}

#[test]
fn an_interrupt_is_an_orderly_end_everywhere() {
    let place = Place::new();
    let mut sender = place.start("send ring:from");
    sender.write(b"one\n");
    let mut relay = place.start("relay ring:from ring:to");
    let mut receiver = place.start("recv ring:to");
    place.wait_for("stat to", |stat| stat["received"] == 1);
    interrupt(&mut relay);
    assert_eq!(relay.finish().code, 130);
    let run = receiver.finish().succeeds();
    assert_eq!(run.text(), "one\n", "the relay's end was an orderly one");

    receiver = place.start("recv ring:from");
    place.wait_for_living("from", 2);
    interrupt(&mut receiver);
    assert_eq!(receiver.finish().code, 130);

    let receiver = place.start("recv ring:from");
    place.wait_for_living("from", 2);
    interrupt(&mut sender); // it waits for input
    assert_eq!(sender.finish().code, 130);
    receiver.finish().succeeds();
}

#[test]
fn an_interrupted_relay_leaves_its_last_frame_in_the_ring() {
    let place = Place::new();
    for (from, to) in [("spsc", "spsc"), ("mpmc", "spsc"), ("spsc", "mpmc&slots=16")] {
        place.feed(&format!("send ring:from?kind={from}"), &b"0123456789\n".repeat(1000)).succeeds();
        let size = if to == "spsc" { "&capacity=4KiB" } else { "" };
        let mut relay = place.start(&format!("relay ring:from ring:to?kind={to}{size}"));
        place.wait_for("stat to", |stat| stat["full"].as_u64() > Some(0));
        interrupt(&mut relay);
        assert_eq!(relay.finish().code, 130);
        let first = place.json("verify to")["frames"].as_u64().unwrap();
        assert!(first > 10);
        let rest = place.run("recv ring:from").stdout.len() as u64 / 11;
        assert_eq!(first + rest, 1000, "{from} to {to}: the last frame is still in its ring");
        place.run("rm --force from to").succeeds();
    }
}

#[test]
fn a_relay_from_a_ring_to_a_pipe_that_is_killed_loses_nothing() {
    let place = Place::new();
    let text: Vec<u8> = (0..50_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    place.feed("send ring:from?capacity=4MiB", &text).succeeds();
    let mut relay = place.start("relay ring:from -"); // its stdout is not read: it stops when the pipe is full
    place.wait_for("stat from", |stat| stat["received"].as_u64() > Some(1000));
    relay.kill();
    let before = relay.finish().stdout;
    let after = place.run("relay ring:from -").succeeds().stdout;

    let before = place.feed("recv -", &before);
    before.fails(1, "died without closing");
    let after = place.feed("recv -", &after).succeeds();
    assert!(text.starts_with(&before.stdout) && text.ends_with(&after.stdout));
    let (first, rest) = (before.stdout.len(), after.stdout.len());
    assert!(first > 0 && first + rest >= text.len(), "{} bytes are missing", text.len() - first - rest);
}

/// Lines of equal length, all different.
fn numbered(lines: usize) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{n:050}\n").into_bytes()).collect()
}

/// A slot ring redelivers in any order.
fn sorted(lines: &[u8]) -> Vec<u8> {
    let mut lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.concat()
}

#[test]
fn frames_that_do_not_fit_into_a_full_fifo_stay_in_the_ring() {
    let place = Place::new();
    let lines = numbered(3000);
    for (name, kind) in [("jobs", "mpmc&slots=4096"), ("ticks", "spsc")] {
        let fifo = place.file(&format!("fifo-{name}"));
        assert!(run("mkfifo", &[OsStr::new("-m"), OsStr::new("600"), fifo.as_os_str()]));
        // This process is the FIFO's reader, and reads nothing yet.
        let mut held = File::options().read(true).write(true).open(&fifo).unwrap();
        rustix::io::ioctl_fionbio(&held, true).unwrap();
        place.feed(&format!("send ring:{name}?kind={kind}"), &lines).succeeds();
        for count in ["", "--count 2999"] {
            let relay = place.run(&format!("relay ring:{name} fifo:{} --timeout 200ms {count}", fifo.display()));
            relay.fails(124, "no frame could be passed on for");
        }
        let mut bytes = Vec::new();
        assert_eq!(held.read_to_end(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock);
        let arrived = place.feed("recv -", &bytes).stdout;
        assert!(!arrived.is_empty() && arrived.len() < lines.len());
        let kept = place.run(&format!("recv ring:{name}")).succeeds().stdout;
        assert!(sorted(&[arrived, kept].concat()) == lines, "{kind}");
    }
}

#[test]
fn frames_for_a_killed_receiver_stay_in_the_ring() {
    let place = Place::new();
    let at = place.path().display().to_string();
    let lines = numbered(2000);
    for (name, kind) in [("jobs", "mpmc&slots=4096"), ("ticks", "spsc")] {
        for scheme in ["unix", "seqpacket"] {
            let (ring, end) = (format!("{name}-{scheme}"), format!("{scheme}:{at}/{name}"));
            let mut receiver = place.start(&format!("recv {end}?listen"));
            let mut sender = place.start(&format!("send ring:{ring}?kind={kind}"));
            let relay = place.start(&format!("relay ring:{ring}?kind={kind} {end}"));
            sender.write(b"frame one\n");
            assert_eq!(receiver.first_bytes(), b"frame one\n");
            receiver.kill();
            sender.write(&lines);
            let run = relay.finish();
            assert_eq!(run.code, 1, "{end}: {}", run.stderr);
            sender.finish().succeeds();
            assert!(sorted(&place.run(&format!("recv ring:{ring}")).succeeds().stdout) == lines, "{ring}");
        }
    }
}

#[test]
fn frames_that_a_receiver_left_unread_are_reported_as_lost() {
    let place = Place::new();
    let path = place.file("socket");
    for (source, kind) in [("ring:jobs", "?kind=mpmc"), ("ring:ticks", ""), ("fifo:FIFO", "")] {
        let source = source.replace("FIFO", &place.file("fifo").display().to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let relay = place.start(&format!("relay {source}{kind} unix:{}", path.display()));
        let (mut receiver, _) = listener.accept().unwrap();
        let mut sender = place.start(&format!("send {source}{kind}"));
        sender.write(b"one\n");
        let mut bytes = [0; 512];
        let mut seen = Vec::new();
        while !seen.windows(3).any(|window| window == b"one") {
            let n = receiver.read(&mut bytes).unwrap();
            seen.extend_from_slice(&bytes[..n]);
        }
        sender.write(b"two\n");
        crate::common::wait_until("the second frame lies in the socket", || {
            rustix::io::ioctl_fionread(&receiver).unwrap() > 0
        });
        // Not by closing alone: a child that another test is starting has a copy until its
        // `execve`.
        receiver.shutdown(Shutdown::Both).unwrap();
        drop(receiver);
        sender.write(b"three\n");
        relay.finish().fails(4, "did not arrive are lost");
        drop(sender);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn frames_that_tcp_cannot_deliver_are_reported_as_lost_or_stay() {
    let place = Place::new();
    for kind in ["mpmc", "spsc"] {
        let end = format!("tcp:{}", unused_address());
        let mut receiver = place.start(&format!("recv {end}?listen"));
        let mut sender = place.start(&format!("send ring:{kind}?kind={kind}"));
        let relay = place.start(&format!("relay ring:{kind}?kind={kind} {end}"));
        sender.write(b"frame one\n");
        assert_eq!(receiver.first_bytes(), b"frame one\n");
        receiver.kill();
        sender.write(b"frame two\n");
        // The first frame written to a connection that the peer has closed is lost.
        crate::common::wait_until("the relay has ended, or written it", || {
            place.json(&format!("stat {kind}"))["received"] == 2
        });
        sender.write(b"frame three\n");
        relay.finish().fails(4, "did not arrive are lost");
        sender.finish().succeeds();
        assert_eq!(place.run(&format!("recv ring:{kind}")).succeeds().text(), "frame three\n");
    }
}

/// A connection is not reset, which would drop data on its way, because the receiver's HELLO lies
/// unread.
#[test]
fn frames_that_tcp_has_taken_from_a_failing_relay_arrive() {
    let place = Place::new();
    let end = format!("tcp:{}", unused_address());
    let lines = numbered(40_000); // more than pipes and the receiver take
    let mut sender = place.start("send ring:ticks?capacity=8MiB");
    sender.write(&lines);
    place.wait_for("stat ticks", |stat| stat["sent"] == 40_000);
    sender.kill();
    let receiver = place.start(&format!("recv {end}?listen")); // its output is read at the end only
    place.run(&format!("relay ring:ticks {end}")).fails(1, "died without closing");
    let run = receiver.finish();
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout == lines, "{} of {} bytes arrived", run.stdout.len(), lines.len());
}

#[test]
fn endpoints_that_cannot_be_relayed_are_refused() {
    let place = Place::new();
    place.run("relay ring:a carrier-pigeon:coop").fails(2, "known schemes");
    place.run("relay ring:a ring:b?colour=red").fails(2, "known for ring are");
    place.run("relay ring:bytes?kind=stream ring:b").fails(1, "bytes, not frames");
    place.run("relay --duplex ring:a ring:b").fails(1, "open two");
    place.run("relay ring:a ring:b --timeout 50ms").fails(124, "nothing arrived");
    place.feed("send ring:large", &[b'x'; 1000]).succeeds();
    place.run("relay ring:large ring:slots?kind=mpmc&slot=64").fails(1, "at most 88 bytes");
    assert_eq!(place.json("verify large")["frames"], 1, "the frame that did not fit stays");
}

/// Queues of the system, which are not removed with the directory.
struct Queues(Vec<String>);

impl Drop for Queues {
    fn drop(&mut self) {
        let place = Place::new();
        for queue in &self.0 {
            let removed = place.run(&format!("rm --force {queue}"));
            assert!(removed.code == 0 || std::thread::panicking(), "{queue} is left behind: {}", removed.stderr);
        }
    }
}

/// ring → pipe → fifo → mq → sysv → unix → seqpacket → tcp → dgram → ring: nine relays, of which
/// two share a pipe.
fn through_all(options: &str, input: &[u8]) -> Vec<u8> {
    let place = Place::new();
    let (at, pid) = (place.path().display().to_string(), std::process::id());
    let unique = input.len();
    let queues = Queues(vec![format!("mq:/chain-{pid}-{unique}"), format!("sysv:{}", pid << 8 | unique as u32 & 0xFF)]);
    let [mq, sysv] = [&queues.0[0], &queues.0[1]];
    let address = unused_address();
    let receiver = place.start(&format!("recv ring:last {options}")).reading();
    let mut relays: Vec<Process> = [
        format!("relay dgram:{at}/dgram ring:last"),
        format!("relay tcp:{address}?listen dgram:{at}/dgram"),
        format!("relay seqpacket:{at}/seq?listen tcp:{address}"),
        format!("relay unix:{at}/unix?listen seqpacket:{at}/seq"),
        format!("relay {sysv} unix:{at}/unix"),
        format!("relay {mq} {sysv}"),
        format!("relay fifo:{at}/fifo {mq}"),
    ]
    .iter()
    .map(|relay| place.start(relay))
    .collect();
    let mut from_ring = place.command("relay ring:first -");
    let mut from_ring = from_ring.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to_fifo = place.command(&format!("relay - fifo:{at}/fifo"));
    relays.push(Process::start(to_fifo.stdin(from_ring.stdout.take().unwrap())));
    drop(to_fifo);
    place.feed(&format!("send ring:first {options}"), input).succeeds();
    assert!(from_ring.wait().unwrap().success());
    for relay in relays.into_iter().rev() {
        relay.finish().succeeds();
    }
    receiver.finish().succeeds().stdout
}

#[test]
fn a_file_survives_a_chain_of_every_mechanism() {
    let file = noise(3 << 20, 5);
    assert!(through_all("--framing raw", &file) == file);
    let text: Vec<u8> = (0..5_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    assert!(through_all("", &text) == text);
}

#[test]
fn a_rings_sequence_numbers_are_kept_and_their_start_is_no_gap() {
    let place = Place::new();
    let unix = format!("unix:{}/socket", place.path().display());
    for (ring, to) in [("ring:a", unix), ("ring:b", format!("tcp:{}", unused_address()))] {
        place.feed(&format!("send {ring}"), b"1\n2\n3\n4\n5\n").succeeds();
        place.run(&format!("recv {ring} --count 2")).succeeds();
        let receiver = place.start(&format!("recv {to}?listen --json"));
        place.run(&format!("relay {ring} {to}")).succeeds();
        let frames = receiver.finish().succeeds().text();
        let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        assert_eq!(frames.lines().map(number).collect::<Vec<_>>(), [2, 3, 4], "{to}: {frames}");
    }
}

#[test]
fn a_byte_ring_gets_the_sequence_numbers_of_the_ring_before_it() {
    let place = Place::new();
    for kind in ["spsc", "mpsc"] {
        place.feed("send ring:from", b"1\n2\n3\n4\n5\n").succeeds();
        place.run("recv ring:from --count 2").succeeds();
        place.run(&format!("relay ring:from ring:{kind}?kind={kind}")).succeeds();
        let frames = place.run(&format!("recv ring:{kind}?kind={kind} --json")).succeeds().text();
        let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        assert_eq!(frames.lines().map(number).collect::<Vec<_>>(), [2, 3, 4], "{kind}: {frames}");
    }
}

#[test]
fn a_relay_over_tcp_reconnects_to_a_restarted_receiver() {
    let place = Place::new();
    let address = unused_address();
    let far = format!("recv tcp:{address}?listen");
    let relay = place.start(&format!("relay ring:a tcp:{address}?reconnect=1m"));
    let mut receiver = place.start(&far);
    let mut sender = place.start("send ring:a");
    sender.write(b"before it\n");
    assert_eq!(receiver.first_bytes(), b"before it\n");
    receiver.kill();

    let mut receiver = place.start(&far);
    let seen = AtomicBool::new(false);
    let receiver = std::thread::scope(|scope| {
        // The first lines may still be sent to the dead receiver.
        let (sender, seen) = (&mut sender, &seen);
        scope.spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                sender.write(b"after it!\n");
            }
        });
        assert_eq!(receiver.first_bytes(), b"after it!\n");
        seen.store(true, Ordering::Relaxed);
        receiver.reading()
    });
    sender.finish().succeeds();
    relay.finish().succeeds();
    let rest = receiver.finish().succeeds().text();
    assert!(rest.lines().all(|line| line == "after it!"), "{rest}");
}

#[test]
fn the_table_of_transports_is_also_json() {
    let place = Place::new();
    let text = place.run("doctor --transports --json").succeeds().text();
    let schemes: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["scheme"].as_str().unwrap().to_owned())
        .collect();
    assert!(schemes.contains(&"ring".to_owned()) && schemes.contains(&"mq".to_owned()), "{schemes:?}");
    assert!(place.run("doctor --transports").succeeds().text().lines().count() > schemes.len());
}
