//! `recv` and `relay` with messages that come from strangers, in floods, late, or from a queue that
//! is removed.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::address::unused_address;
use crate::common::{Place, Run};
use slipring::frame::{Form, Frame, Header};

/// A queue that is removed when dropped.
struct Queue<'a>(&'a Place, String);

impl<'a> Queue<'a> {
    fn new(place: &'a Place, scheme: &str) -> Self {
        let unique = place.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.');
        std::fs::write(place.file("key"), b"").unwrap();
        match scheme {
            "mq" => Queue(place, format!("mq:/{unique}")),
            _ => Queue(place, format!("sysv:{}", place.file("key").display())),
        }
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.0.run(&format!("rm --force {}", self.1));
    }
}

/// A frame header of another version.
const STRANGE: [u8; 16] = [0xB7, 0x52, 0x22, 0x03, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// Sends to the port until a receiver takes it.
fn send_strange(port: SocketAddr) -> UdpSocket {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(port).unwrap();
    let start = Instant::now();
    // The kernel reports the refusal of a datagram with the next call.
    while stranger.send(&STRANGE).is_err() || stranger.send(&STRANGE).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    stranger
}

#[test]
fn a_strangers_datagram_ends_neither_recv_nor_relay() {
    let place = Place::new();
    for verb in ["recv udp:PORT", "relay udp:PORT ring:to"] {
        let port = unused_address();
        let receiver = place.start(&verb.replace("PORT", &port.to_string()));
        let _stranger = send_strange(port);
        place.feed(&format!("send udp:{port}"), b"genuine\n").succeeds();
        let end = receiver.finish();
        end.fails(4, "bytes skipped: frame version");
        let text = if verb.starts_with("recv") { end.text() } else { place.run("recv ring:to").succeeds().text() };
        assert_eq!(text, "genuine\n", "{verb}");
    }
}

#[test]
fn a_flood_of_reports_is_counted_and_not_printed() {
    let place = Place::new();
    let path = place.file("socket");
    let receiver = place.start(&format!("recv dgram:{}", path.display()));
    let stranger = UnixDatagram::unbound().unwrap();
    let start = Instant::now();
    while stranger.connect(&path).is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    for _ in 0..20_000 {
        stranger.send(b"garbage").unwrap();
    }
    let seconds = start.elapsed().as_secs() + 1;
    place.feed(&format!("send dgram:{}", path.display()), b"genuine\n").succeeds();
    let end = receiver.finish();
    end.fails(4, "140000 bytes skipped as unreadable");
    assert_eq!(end.text(), "genuine\n");
    let lines = end.stderr.lines().count() as u64;
    assert!(lines <= 11 * (seconds + 30), "{lines} lines in {seconds} s");
    let said = end.stderr.lines().filter(|line| line.contains("7 bytes skipped")).count() as u64;
    let left_out: u64 = end
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("slipring: and ")?.strip_suffix(" more like these"))
        .map(|count| count.parse::<u64>().unwrap())
        .sum();
    assert_eq!(said + left_out, 20_000);
}

#[test]
fn a_frame_from_a_queue_that_cannot_be_written_is_reported_as_lost() {
    let place = Place::new();
    let queue = Queue::new(&place, "mq");
    place.feed(&format!("send {}", queue.1), b"12345\n123456\n12345\n").succeeds();
    let end = place.run(&format!("recv {} --framing fixed:5", queue.1));
    end.fails(4, "a frame of 6 bytes cannot be written as fixed:5; it is lost");
    assert_eq!(end.text(), "12345", "what came before it is written");
    assert_eq!(place.run(&format!("recv {}", queue.1)).succeeds().text(), "12345\n");

    let fifo = place.file("fifo").display().to_string();
    let receiver = place.start(&format!("recv fifo:{fifo} --framing fixed:5"));
    place.feed(&format!("send fifo:{fifo}"), b"12345\n123456\n");
    receiver.finish().fails(4, "it is lost, and all that had been read after it");
}

/// For every kind of ring and policy: the message of `recv` about a frame that it cannot write is
/// true of the ring afterwards.
#[test]
fn a_frame_that_cannot_be_written_stays_in_its_ring_or_counts_as_lost() {
    let place = Place::new();
    let lines = b"12345\nabcde\n123456\n67890\n";
    for (number, kind) in ["spsc", "mpmc"].into_iter().enumerate() {
        for policy in ["at-least-once", "at-most-once"] {
            let name = format!("r{number}{policy}");
            let ring = format!("ring:{name}?kind={kind}&redelivery={policy}");
            place.feed(&format!("send {ring}"), lines).succeeds();
            let end = place.run(&format!("recv {ring} --framing fixed:5"));
            let is_lost = (kind, policy) == ("mpmc", "at-most-once");
            if is_lost {
                end.fails(4, "a frame of 6 bytes cannot be written as fixed:5; it is lost\n");
                assert_eq!(end.text(), "12345abcde", "what came before it is written");
            } else {
                end.fails(1, "a frame of 6 bytes cannot be written as fixed:5; it stays in the ring\n");
                assert_eq!(end.text(), "", "{ring}: nothing is written that comes again");
            }
            assert_eq!(place.json(&format!("stat {name}"))["lost"], u64::from(is_lost), "{ring}");
            let rest = place.run(&format!("recv {ring}")).succeeds().text();
            assert_eq!(rest.as_bytes(), if is_lost { &b"67890\n"[..] } else { lines }, "{ring}");
        }
    }
}

/// A pipe without a reader.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // A child that another test is starting has a copy of it until its `execve`.
    let mut polled = [PollFd::new(&writer, PollFlags::empty())];
    rustix::event::poll(&mut polled, None).unwrap(); // an error, which is that it has no reader
    writer
}

#[test]
fn frames_that_an_output_refuses_are_reported_as_lost_unless_a_ring_keeps_them() {
    let place = Place::new();
    for scheme in ["mq", "sysv"] {
        let queue = Queue::new(&place, scheme);
        place.feed(&format!("send {}", queue.1), b"1\n2\n").succeeds();
        place.run(&format!("recv {} --file /dev/full", queue.1)).fails(4, "2 frames are lost");

        place.feed(&format!("send {}", queue.1), b"1\n2\n").succeeds();
        let output = place.command(&format!("recv {}", queue.1)).stdout(closed_pipe()).output().unwrap();
        Run::from(output).fails(4, "2 frames are lost");
    }
    let fifo = format!("fifo:{}", place.file("fifo").display());
    let receiver = place.command(&format!("recv {fifo}")).stdout(closed_pipe()).stderr(Stdio::piped()).spawn().unwrap();
    place.feed(&format!("send {fifo}"), b"1\n").succeeds();
    Run::from(receiver.wait_with_output().unwrap()).fails(4, "1 frame is lost");

    for ring in ["ring:x", "ring:y?kind=mpmc"] {
        place.feed(&format!("send {ring}"), b"1\n2\n").succeeds();
        place.run(&format!("recv {ring} --file /dev/full")).fails(1, "cannot write the output");
        let output = place.command(&format!("recv {ring}")).stdout(closed_pipe()).output().unwrap();
        assert_eq!(Run::from(output).succeeds().stderr, "");
        assert_eq!(place.run(&format!("recv {ring}")).succeeds().text(), "1\n2\n");
    }
    for (name, kind, counted) in [("u", "mpmc", 2), ("v", "spsc", 0)] {
        let ring = format!("ring:{name}?kind={kind}&redelivery=at-most-once");
        place.feed(&format!("send {ring}"), b"1\n2\n").succeeds();
        place.run(&format!("recv {ring} --file /dev/full")).fails(4, "2 frames are lost\n");
        place.feed(&format!("send {ring}"), b"3\n").succeeds();
        assert_eq!(place.run(&format!("recv {ring}")).succeeds().text(), "3\n", "never twice, and told once");
        assert_eq!(place.json(&format!("stat {name}"))["lost"], counted);
    }
}

#[test]
fn the_removal_of_a_queue_is_no_orderly_end() {
    let place = Place::new();
    let queue = Queue::new(&place, "sysv");
    let mut receiver = place.start(&format!("recv {}", queue.1));
    let mut sender = place.start(&format!("send {}", queue.1));
    sender.write(b"the first\n");
    assert_eq!(receiver.first_bytes(), b"the first\n");
    place.run(&format!("rm --force {}", queue.1)).succeeds();
    receiver.finish().fails(1, "the queue was removed");
    assert_ne!(sender.feed(b"more\n").finish().code, 0);
}

#[test]
fn a_receiver_stopped_past_its_timeout_tries_once_more() {
    let place = Place::new();
    let path = place.file("socket");
    let mut receiver = place.start(&format!("recv dgram:{} --timeout 3s", path.display()));
    let mut sender = place.start(&format!("send dgram:{}", path.display()));
    sender.write(b"the first\n");
    assert_eq!(receiver.first_bytes(), b"the first\n");
    receiver.signal("STOP");
    sender.feed(b"while it was stopped\n").finish().succeeds();
    std::thread::sleep(Duration::from_millis(3500)); // its timeout: there is nothing else to wait for
    receiver.signal("CONT");
    assert_eq!(receiver.finish().succeeds().text(), "while it was stopped\n");
}

#[test]
fn relay_skips_frames_of_reserved_kinds() {
    let place = Place::new();
    let frame = |kind: u16, text: &[u8; 8]| {
        let frame = Frame::new(Header { kind, ..Header::PLAIN }, text).unwrap();
        let mut bytes = Vec::new();
        frame.encode(Form::Short, &mut bytes).unwrap();
        bytes
    };
    let input = [frame(0, b"reserved"), frame(0x0100, b"ordinary")].concat();
    place.feed("relay - ring:to", &input).fails(4, "reserved kind 0x0000");
    assert_eq!(place.run("recv ring:to").succeeds().text(), "ordinary\n");
}
