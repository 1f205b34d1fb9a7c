//! What only datagram sockets have: names in the file system, credentials, duplex, gaps, refusals.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use slipring::frame::{Event, Form, Frame, Header, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, dgram, seqpacket, udp};
use slipring::{Deadline, Error};

use crate::common::address::unused_address;
use crate::common::again::copy_program;
use crate::common::asleep::wait_until_asleep;
use crate::common::closed::until_closed;
use crate::common::dir::TestDir;
use crate::common::this_test::{arguments, this_test};

const ROLE: &str = "SLIPRING_TEST_DATAGRAM";
const ADDRESS: &str = "SLIPRING_TEST_DATAGRAM_ADDRESS";

fn soon() -> Deadline {
    Duration::from_secs(60).into()
}

fn now() -> Deadline {
    Duration::ZERO.into()
}

#[track_caller]
fn expect(rx: &mut dyn FrameReceiver, payload: &[u8]) {
    match rx.recv_deadline(soon()) {
        Ok(Event::Frame(frame)) => assert!(frame.payload == payload, "{} bytes", frame.payload.len()),
        other => panic!("{other:?}"),
    }
}

fn message(header: Header, payload: &[u8]) -> Vec<u8> {
    let frame = Frame::new(header, payload).unwrap();
    [&frame.head(Form::Long).unwrap(), payload].concat()
}

fn seqpacket_pair(path: &Path, theirs: &seqpacket::Options) -> [(seqpacket::Sender, seqpacket::Receiver); 2] {
    let listener = seqpacket::Listener::bind(path, theirs).unwrap();
    let here = seqpacket::connect(path, &seqpacket::Options::default(), soon()).unwrap();
    [here, listener.accept(soon()).unwrap()]
}

#[test]
fn seqpacket_goes_both_ways_and_answers_pings() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let [(mut tx, mut rx), (mut their_tx, mut their_rx)] =
        seqpacket_pair(&dir.socket(), &seqpacket::Options::default().max_payload(300_000));
    their_tx.send(Header::PLAIN, b"one").unwrap();
    expect(&mut rx, b"one");
    assert_eq!(tx.max_payload(), 300_000, "the limit of the peer");
    assert!(matches!(tx.send(Header::PLAIN, &[0; 300_001]), Err(Error::TooLarge { max: 300_000 })));

    tx.send(Header::control(control::PING, 0).unwrap(), b"there?").unwrap();
    assert!(matches!(their_rx.try_recv(), Err(Error::Empty)));
    match rx.recv_deadline(soon()).unwrap() {
        Event::Frame(frame) => assert_eq!((frame.header.kind, frame.payload), (control::PONG, &b"there?"[..])),
        other => panic!("{other:?}"),
    }

    // One direction ends; the other continues.
    tx.close(Deadline::never()).unwrap();
    assert!(matches!(their_rx.recv_deadline(soon()), Err(Error::Closed)));
    their_tx.send(Header::PLAIN, &[7; 200_000]).unwrap();
    expect(&mut rx, &[7; 200_000]);
    drop(rx);
    assert!(matches!(their_tx.send(Header::PLAIN, b"after the end"), Err(Error::Closed)));
}

#[test]
fn every_frame_arrives_although_the_sender_never_read_our_hello() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let [(mut tx, rx), (_their_tx, mut their_rx)] = seqpacket_pair(&dir.socket(), &seqpacket::Options::default());
    tx.send(Header::PLAIN, b"first").unwrap();
    tx.send(Header::PLAIN, b"last").unwrap();
    drop((tx, rx));
    expect(&mut their_rx, b"first");
    expect(&mut their_rx, b"last");
    assert!(matches!(their_rx.recv_deadline(soon()), Err(Error::Closed)));
}

#[test]
fn a_stopped_receiver_reports_closed_and_no_death() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let [(mut tx, mut rx), (mut their_tx, their_rx)] = seqpacket_pair(&dir.socket(), &seqpacket::Options::default());
    tx.send(Header::PLAIN, b"never read").unwrap();
    for payload in [b"one", b"two"] {
        their_tx.send(Header::PLAIN, payload).unwrap();
    }
    expect(&mut rx, b"one");
    assert!(rx.stop());
    assert!(matches!(their_tx.send(Header::PLAIN, b"too late"), Err(Error::Closed)));
    drop((their_tx, their_rx)); // a reset, since it has unread messages
    expect(&mut rx, b"two");
    let end = rx.recv_deadline(soon()).map(drop);
    assert!(matches!(end, Err(Error::Closed)), "{end:?}");
}

#[test]
fn connecting_without_a_listener_is_not_found_or_waits_for_one() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let options = seqpacket::Options::default();
    assert!(matches!(seqpacket::connect(dir.socket(), &options, now()).err(), Some(Error::NotFound)));
    let listener = dgram::Receiver::bind(dir.socket(), &dgram::Options::default()).unwrap();
    assert!(matches!(seqpacket::connect(dir.socket(), &options, now()).err(), Some(Error::Untrusted { .. })));
    assert!(matches!(seqpacket::Listener::bind(dir.socket(), &options).err(), Some(Error::Exists)));
    drop(listener);
    std::thread::scope(|scope| {
        let early = scope.spawn(|| seqpacket::connect(dir.socket(), &options, soon()).unwrap());
        let listener = seqpacket::Listener::bind(dir.socket(), &options).unwrap();
        let accepted = listener.accept(soon()).unwrap();
        early.join().unwrap(); // it sends HELLO, so the receiver must still exist
        drop(accepted);
        assert!(matches!(listener.accept(Duration::from_millis(5)).err(), Some(Error::Timeout)));
    });
}

/// Not a test: a process at the other end.
#[test]
fn process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let address = std::env::var(ADDRESS).unwrap();
    match role.as_str() {
        "seqpacket" => {
            let (mut tx, _rx) =
                seqpacket::connect(address, &seqpacket::Options::default().allow_uid(0), soon()).unwrap();
            send_and_wait_to_be_killed(&mut tx);
        }
        "dgram" => {
            let options = dgram::Options::default().allow_uid(0);
            send_and_wait_to_be_killed(&mut dgram::Sender::connect(address, &options, soon()).unwrap());
        }
        "udp" => {
            let options = udp::Options::default().max_payload(10 << 20);
            let mut tx = udp::Sender::connect(address, &options, soon()).unwrap();
            tx.send(Header::PLAIN, b"whole").unwrap();
            // A foreign sender's incomplete frame does not delay the frames of other senders.
            std::thread::sleep(Duration::from_secs(600));
        }
        "listener" => {
            let _listener = seqpacket::Listener::bind(address, &seqpacket::Options::default()).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        other => panic!("{other}"),
    }
}

fn send_and_wait_to_be_killed(tx: &mut dyn FrameSender) {
    tx.send(Header::PLAIN, b"whole").unwrap();
    tx.send(Header::PLAIN, &vec![1; 10 << 20]).unwrap(); // more than the socket holds
}

fn start(role: &str, address: &str) -> Command {
    let mut command = this_test(module_path!(), "process");
    command.env(ROLE, role).env(ADDRESS, address).stdout(Stdio::null());
    command
}

#[track_caller]
fn killed_in_mid_frame(rx: &mut dyn FrameReceiver, mut child: std::process::Child, in_mid_frame: bool) {
    expect(rx, b"whole");
    wait_until_asleep(&child);
    child.kill().unwrap();
    child.wait().unwrap();
    if in_mid_frame {
        match rx.recv_deadline(soon()) {
            Ok(Event::Skipped { bytes, .. }) => assert!((1..10 << 20).contains(&bytes), "{bytes}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::PeerDead)));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));
}

#[test]
fn a_sender_killed_in_mid_frame_leaves_whole_frames_and_an_end() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let path = dir.socket();
    let listener = seqpacket::Listener::bind(&path, &seqpacket::Options::default()).unwrap();
    let child = start("seqpacket", path.to_str().unwrap()).spawn().unwrap();
    let (_tx, mut rx) = listener.accept(soon()).unwrap();
    killed_in_mid_frame(&mut rx, child, true);
    drop(listener);

    let mut rx = dgram::Receiver::bind(&path, &dgram::Options::default()).unwrap();
    killed_in_mid_frame(&mut rx, start("dgram", path.to_str().unwrap()).spawn().unwrap(), true);
    let mut next = dgram::Sender::connect(&path, &dgram::Options::default(), soon()).unwrap();
    next.send(Header::PLAIN, b"next").unwrap();
    expect(&mut rx, b"next");

    let mut rx = udp::Receiver::bind("127.0.0.1:0", &udp::Options::default()).unwrap();
    let address = rx.local_address().unwrap().to_string();
    killed_in_mid_frame(&mut rx, start("udp", &address).spawn().unwrap(), false);
}

#[test]
fn a_receiver_replaces_the_socket_of_a_killed_process() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let path = dir.socket();
    let mut child = start("listener", path.to_str().unwrap()).spawn().unwrap();
    drop(seqpacket::connect(&path, &seqpacket::Options::default(), soon()).unwrap());
    let options = seqpacket::Options::default();
    assert!(matches!(seqpacket::Listener::bind(&path, &options).err(), Some(Error::Exists)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(path.exists());
    assert!(seqpacket::Listener::bind(&path, &options).is_ok());
}

/// A copy of this test program that all users may execute.
fn start_as_nobody(dir: &TestDir, role: &str, address: &str) -> Option<Command> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !root {
        println!("SKIPPED: only root can start processes of another user");
        return None;
    }
    let copy = dir.file("binary");
    copy_program(&copy);
    let mut command = Command::new(copy);
    arguments(&mut command, module_path!(), "process").env(ROLE, role).env(ADDRESS, address);
    command.uid(65_534).gid(65_534).stdout(Stdio::null()).stderr(Stdio::null());
    Some(command)
}

#[test]
fn processes_of_other_users_are_refused_unless_they_are_allowed() {
    let dir = TestDir::with_mode("datagram", 0o1777);
    let path = dir.socket();
    let let_all_users_connect = || std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let Some(mut client) = start_as_nobody(&dir, "seqpacket", path.to_str().unwrap()) else { return };
    for allowed in [false, true] {
        let options = seqpacket::Options::default();
        let options = if allowed { options.allow_uid(65_534) } else { options };
        let listener = seqpacket::Listener::bind(&path, &options).unwrap();
        let_all_users_connect();
        let mut child = client.spawn().unwrap();
        match listener.accept(soon()) {
            Ok((_tx, mut rx)) if allowed => expect(&mut rx, b"whole"),
            Err(Error::Untrusted { .. }) if !allowed => {}
            other => panic!("{:?}", other.err()),
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let mut client = start_as_nobody(&dir, "dgram", path.to_str().unwrap()).unwrap();
    let mut rx = dgram::Receiver::bind(&path, &dgram::Options::default()).unwrap();
    let_all_users_connect();
    let mut child = client.spawn().unwrap();
    assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Skipped { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_strangers_datagram_is_a_frame_or_is_reported() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let mut rx = dgram::Receiver::bind(dir.socket(), &dgram::Options::default()).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.connect(dir.socket()).unwrap();
    stranger.send(b"garbage").unwrap();
    stranger.send(b"").unwrap();
    stranger.send(&message(Header::PLAIN, b"a frame")).unwrap();
    stranger.send(&message(Header::PLAIN, b"the same seq")).unwrap();
    assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes: 7, .. }));
    assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes: 0, .. }));
    expect(&mut rx, b"a frame");
    expect(&mut rx, b"the same seq"); // a sender without a name: it may be two senders
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
}

#[test]
fn sending_to_a_closed_receiver_is_closed() {
    let dir = TestDir::with_mode("datagram", 0o700);
    let options = dgram::Options::default();
    assert!(matches!(dgram::Sender::connect(dir.socket(), &options, now()).err(), Some(Error::NotFound)));
    let rx = dgram::Receiver::bind(dir.socket(), &options).unwrap();
    let mut tx = dgram::Sender::connect(dir.socket(), &options, now()).unwrap();
    tx.send(Header::PLAIN, b"queued").unwrap();
    drop(rx);
    while !matches!(until_closed(|| tx.try_send(Header::PLAIN, b"to a closed receiver")), Error::Closed) {}
    assert!(matches!(tx.send(Header::PLAIN, b"to a closed receiver"), Err(Error::Closed)));
}

#[test]
fn lost_and_late_datagrams_are_reported_per_source() {
    let mut rx = udp::Receiver::bind("127.0.0.1:0", &udp::Options::default()).unwrap();
    let sources = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    for source in &sources {
        source.connect(rx.local_address().unwrap()).unwrap();
    }
    let send = |source: usize, seq| {
        let frame = message(Header { seq, ..Header::PLAIN }, format!("{source}/{seq}").as_bytes());
        sources[source].send(&frame).unwrap();
    };
    send(0, 5);
    send(1, 90);
    send(0, 8);
    send(1, 91);
    send(0, 6);
    expect(&mut rx, b"0/5");
    expect(&mut rx, b"1/90");
    assert!(matches!(rx.recv().unwrap(), Event::Gap { expected: 6, found: 8, .. }));
    expect(&mut rx, b"0/8");
    expect(&mut rx, b"1/91");
    match rx.recv().unwrap() {
        Event::Duplicate { frame, expected: 9 } => assert_eq!(frame.payload, b"0/6"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_jump_in_the_numbers_of_a_sender_without_hello_is_no_loss() {
    let mut rx = udp::Receiver::bind("127.0.0.1:0", &udp::Options::default()).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(rx.local_address().unwrap()).unwrap();
    for seq in [7, 1_234_567_890, 1_234_567_891, 1_234_567_893] {
        stranger.send(&message(Header { seq, ..Header::PLAIN }, b"any number")).unwrap();
    }
    for _ in 0..3 {
        expect(&mut rx, b"any number");
    }
    assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Gap { expected: 1_234_567_892, .. })));
}

#[test]
fn the_loss_of_a_fragment_loses_its_frame() {
    let mut rx = udp::Receiver::bind("127.0.0.1:0", &udp::Options::default()).unwrap();
    let source = UdpSocket::bind("127.0.0.1:0").unwrap();
    source.connect(rx.local_address().unwrap()).unwrap();
    let parts: Vec<_> = slipring::frame::fragments(Header::PLAIN, &[1; 300], 100).unwrap().collect();
    source.send(&message(parts[0].0, parts[0].1)).unwrap();
    source.send(&message(parts[2].0, parts[2].1)).unwrap();
    source.send(&message(Header { seq: 3, ..Header::PLAIN }, b"whole")).unwrap();
    assert!(matches!(rx.recv().unwrap(), Event::Gap { expected: 1, found: 2, .. }));
    expect(&mut rx, b"whole");
}

#[test]
fn udp_refuses_addresses_and_sources_that_are_not_allowed() {
    let options = udp::Options::default();
    assert!(matches!(udp::Receiver::bind("0.0.0.0:0", &options).err(), Some(Error::Untrusted { .. })));
    assert!(matches!(udp::Sender::connect("192.0.2.1:9", &options, now()).err(), Some(Error::Untrusted { .. })));
    assert!(udp::Receiver::bind("0.0.0.0:0", &options.clone().remote(true)).is_ok());
    for wrong in ["", "localhost", "127.0.0.1:65536"] {
        assert!(matches!(udp::Receiver::bind(wrong, &options).err(), Some(Error::Invalid { .. })), "{wrong:?}");
    }
    for size in [0, 127, 65_508] {
        let options = options.clone().datagram(size);
        assert!(matches!(udp::Receiver::bind("127.0.0.1:0", &options).err(), Some(Error::Invalid { .. })));
    }

    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut rx = udp::Receiver::bind("127.0.0.1:0", &options.clone().allow_source(elsewhere)).unwrap();
    let address = rx.local_address().unwrap();
    assert!(matches!(udp::Receiver::bind(address, &options).err(), Some(Error::Exists)));
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&message(Header::PLAIN, b"refused"), address).unwrap();
    assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Skipped { .. })));
    UdpSocket::bind((elsewhere, 0)).unwrap().send_to(&message(Header::PLAIN, b"accepted"), address).unwrap();
    expect(&mut rx, b"accepted");
}

/// A port that refuses datagrams of any sender but its own peer, and that no other test uses.
fn refusing() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect("127.0.0.1:9").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A link-local address without a link: an error at once, which waiting does not change.
const IMPOSSIBLE: &str = "[fe80::1]:9";

#[test]
fn udp_tries_every_address_although_others_fail() {
    let options = udp::Options::default().remote(true);
    let rx = udp::Receiver::bind("127.0.0.1:0", &options).unwrap();
    let good = rx.local_address().unwrap();
    let (_held, refusing) = refusing();
    let impossible: SocketAddr = IMPOSSIBLE.parse().unwrap();
    for addresses in [&[refusing, good][..], &[impossible, good], &[impossible, refusing, good]] {
        assert!(udp::Sender::connect(addresses, &options, now()).is_ok(), "{addresses:?}");
    }
    let error = udp::Sender::connect(&[impossible, refusing][..], &options, now()).err();
    assert!(matches!(error, Some(Error::NotFound)), "{error:?}");
    let error = udp::Sender::connect(impossible, &options, soon()).err();
    assert!(matches!(error, Some(Error::Io { .. })), "{error:?}");
    assert!(udp::Receiver::bind(&[impossible, "127.0.0.1:0".parse().unwrap()][..], &options).is_ok());
}

#[test]
fn udp_waits_until_any_address_answers() {
    let options = udp::Options::default().remote(true);
    let (_held, refusing) = refusing();
    let late = unused_address();
    let addresses = [IMPOSSIBLE.parse().unwrap(), refusing, late];
    let (say, started) = std::sync::mpsc::channel();
    let sender = std::thread::spawn({
        let options = options.clone();
        move || {
            say.send(rustix::thread::gettid()).unwrap();
            udp::Sender::connect(&addresses[..], &options, soon())
        }
    });
    let tried = started.recv().unwrap().as_raw_nonzero();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/self/task/{tried}/status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = switches();
    while switches() < before + 3 {
        assert!(!sender.is_finished());
        std::thread::yield_now(); // until the sender pauses between attempts: all addresses have refused
    }
    let mut rx = udp::Receiver::bind(late, &options).unwrap();
    let mut tx = sender.join().unwrap().unwrap();
    tx.send(Header::PLAIN, b"found").unwrap();
    // None of the sender's earlier attempts has arrived.
    expect(&mut rx, b"found");
}

#[test]
fn udp_without_a_receiver_is_an_error_and_a_later_receiver_gets_hello() {
    let options = udp::Options::default();
    let address = unused_address();
    let rx = udp::Receiver::bind(address, &options).unwrap();
    let mut tx = udp::Sender::connect(address, &options, soon()).unwrap();
    drop(rx);
    let error = until_closed(|| udp::Sender::connect(address, &options, now()));
    assert!(matches!(error, Error::NotFound), "{error:?}");
    tx.send(Header::PLAIN, b"into the void").unwrap();
    assert!(matches!(tx.send(Header::PLAIN, b"refused"), Err(Error::Closed)));
    let mut rx = udp::Receiver::bind(address, &options).unwrap();
    tx.send(Header::PLAIN, &[3; 40_000]).unwrap();
    expect(&mut rx, &[3; 40_000]);
    drop(tx);
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
}
