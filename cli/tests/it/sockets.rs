//! How commands treat peers that die on sockets, and connections that are no peers.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::address::unused_address;
use crate::common::{Place, Process};

/// Starts a receiver, and kills it when it has received the sender's first frame.
fn first_frame_and_death(place: &Place, receiver: &str, sender: &mut Process) {
    let mut receiver = place.start(receiver);
    sender.write(b"frame one\n");
    assert_eq!(receiver.first_bytes(), b"frame one\n");
    receiver.kill();
}

#[test]
fn send_reports_a_last_frame_that_a_dead_receiver_did_not_get() {
    let place = Place::new();
    let at = place.path().display().to_string();
    let ends = [
        (format!("tcp:{}", unused_address()), "?listen", ""),
        (format!("unix:{at}/plain"), "?listen", ""),
        (format!("unix:{at}/rings"), "?listen&upgrade=ring", "?upgrade=ring"),
        (format!("seqpacket:{at}/messages"), "?listen", ""),
    ];
    for (end, listen, connect) in ends {
        let mut sender = place.start(&format!("send {end}{connect}"));
        first_frame_and_death(&place, &format!("recv {end}{listen}"), &mut sender);
        sender.write(b"frame two\n");
        let run = sender.finish();
        assert_eq!(run.code, 1, "{end}: {}", run.stderr);
    }
}

#[test]
fn a_relay_keeps_frames_for_a_dead_receiver_behind_rings() {
    let place = Place::new();
    let end = format!("unix:{}/socket", place.path().display());
    let relay = place.start(&format!("relay ring:from {end}?upgrade=ring"));
    let mut sender = place.start("send ring:from");
    first_frame_and_death(&place, &format!("recv {end}?listen&upgrade=ring"), &mut sender);
    std::thread::sleep(Duration::from_millis(50)); // longer than the sender's interval of liveness checks
    sender.write(&b"frame two\n".repeat(1000));
    relay.finish().fails(1, "died");
    place.wait_for("verify from", |verified| verified["frames"] == 1000);
}

#[test]
fn a_health_check_does_not_end_a_waiting_receiver() {
    let place = Place::new();
    let at = place.path().display().to_string();
    let port = unused_address();
    let tcp = move || TcpStream::connect(port).is_ok();
    let path = format!("{at}/socket");
    let unix = move || UnixStream::connect(&path).is_ok();
    let ends: [(String, Box<dyn Fn() -> bool>); 2] =
        [(format!("tcp:{port}"), Box::new(tcp)), (format!("unix:{at}/socket"), Box::new(unix))];
    for (end, probe) in ends {
        let receiver = place.start(&format!("recv {end}?listen"));
        while !probe() {
            std::thread::yield_now();
        }
        place.run(&format!("recv {end}?listen")).fails(1, "exists");
        place.feed(&format!("send {end}"), b"hello\n").succeeds();
        assert_eq!(receiver.finish().succeeds().text(), "hello\n");
    }
}
