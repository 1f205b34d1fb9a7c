//! What only Unix sockets and TCP do: which peers may connect, what a dead process leaves behind,
//! how a connection ends; and children that get their pipes from `pipe::spawn`. Which connections a
//! listener accepts as peers: `transport_accept.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use slipring::frame::{Event, Form, Frame, Header};
use slipring::transport::stream::Options;
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, pipe, tcp, unix};
use slipring::{Deadline, Error};

use crate::common::address::unused_address;
use crate::common::closed::until_closed;
use crate::common::this_test::this_test;

const CHILD: &str = "SLIPRING_TEST_STREAMS_CHILD";
const REPLACED: &str = "descriptors replaced";
const NO_PIPES: &str = "no pipes";

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

fn payload(event: Event<'_>) -> Vec<u8> {
    match event {
        Event::Frame(frame) => frame.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Not a test: the child, another program, which returns each frame reversed until its parent has
/// finished.
#[test]
fn child() {
    match std::env::var(CHILD).as_deref() {
        Err(_) => return,
        Ok(REPLACED) => return child_whose_descriptors_were_replaced(),
        Ok(NO_PIPES) => return child_that_is_passed_no_pipes(),
        Ok(_) => {}
    }
    let (mut tx, mut rx) = pipe::inherited(&Options::new()).unwrap();
    assert!(matches!(pipe::inherited(&Options::new()), Err(Error::NotFound)), "once");
    loop {
        match rx.recv_deadline(deadline()) {
            Ok(event) => {
                let reversed: Vec<u8> = payload(event).into_iter().rev().collect();
                if reversed == b"eid" {
                    std::process::abort();
                }
                tx.send_deadline(Header::PLAIN, &reversed, deadline()).unwrap();
            }
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    tx.close(deadline()).unwrap();
}

/// Replaces the descriptors that the environment variables name.
fn child_whose_descriptors_were_replaced() {
    let value = std::env::var("SLIPRING_INHERIT").unwrap();
    let other = std::fs::File::open("/dev/null").unwrap();
    for passed in value.split_once(':').unwrap().1.split(',') {
        let number = passed.split(':').next().unwrap().parse().unwrap();
        // SAFETY: dup2(2) takes numbers. The descriptor that is replaced was passed for
        // `inherited`, which has not taken it.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        assert!(matches!(pipe::inherited(&Options::new()), Err(Error::NotFound)));
        // SAFETY: as above.
        assert_ne!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1, "it was not closed either");
    }
}

/// Its parent names descriptors of files, in due form.
fn child_that_is_passed_no_pipes() {
    let files = [(); 2].map(|()| std::fs::File::open("/dev/null").unwrap());
    let passed = files.each_ref().map(|file| {
        // SAFETY: fcntl(2) with F_SETFD takes and returns numbers only.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        let stat = rustix::fs::fstat(file).unwrap();
        format!("{}:{}:{}", file.as_raw_fd(), stat.st_dev, stat.st_ino)
    });
    let parent = std::os::unix::process::parent_id();
    // SAFETY: no other thread of this child reads or changes the environment.
    unsafe { std::env::set_var("SLIPRING_INHERIT", format!("{parent}:{}", passed.join(","))) };
    assert!(matches!(pipe::inherited(&Options::new()), Err(Error::NotFound)));
}

#[test]
fn a_descriptor_that_is_no_pipe_is_not_adopted() {
    let mut command = this_test(module_path!(), "child");
    assert!(command.env(CHILD, NO_PIPES).status().unwrap().success());
}

#[test]
fn a_descriptor_number_that_was_reused_is_not_adopted() {
    let (mut child, _tx, _rx) = spawn(REPLACED);
    assert!(child.wait().unwrap().success());
}

fn spawn(what: &str) -> (std::process::Child, pipe::Sender, pipe::Receiver) {
    let mut command = this_test(module_path!(), "child");
    command.env(CHILD, what).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null());
    pipe::spawn(command, &Options::new()).unwrap()
}

#[test]
fn a_child_that_is_another_program_gets_both_pipes() {
    let (mut child, mut tx, mut rx) = spawn("1");
    for word in ["parent", &"long".repeat(50_000)] {
        tx.send_deadline(Header::PLAIN, word.as_bytes(), deadline()).unwrap();
        let answer: Vec<u8> = payload(rx.recv_deadline(deadline()).unwrap()).into_iter().rev().collect();
        assert!(answer == word.as_bytes());
    }
    tx.close(deadline()).unwrap();
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_death_of_a_child_is_reported() {
    let (mut child, mut tx, mut rx) = spawn("1");
    tx.send_deadline(Header::PLAIN, b"die", deadline()).unwrap();
    let end = rx.recv_deadline(deadline()).map(drop);
    assert!(!child.wait().unwrap().success());
    assert!(matches!(end, Err(Error::PeerDead)), "{end:?}");
    assert!(matches!(until_closed(|| tx.send_deadline(Header::PLAIN, b"x", deadline())), Error::Closed));
}

#[test]
fn a_socket_path_in_use_is_refused() {
    let path = std::env::temp_dir().join(format!("slipring-unix-{}", std::process::id()));
    let options = unix::Options::default();
    let soon = || Deadline::after(Duration::from_millis(10));
    assert!(matches!(unix::connect(&path, &options, soon()), Err(Error::NotFound)));
    let listener = unix::Listener::bind(&path, &options).unwrap();
    assert!(matches!(unix::Listener::bind(&path, &options), Err(Error::Exists)));
    assert!(matches!(listener.accept(soon()), Err(Error::Timeout)));
    let (tx, rx) = unix::connect(&path, &options, deadline()).unwrap();
    let (mut their_tx, mut their_rx) = listener.accept(deadline()).unwrap();
    let who = unix::credentials(rx.poll_fd().unwrap()).unwrap();
    assert_eq!(who.pid, std::process::id());
    drop((tx, rx));
    assert!(matches!(their_rx.recv_deadline(deadline()), Err(Error::Closed)));
    let refused = until_closed(|| their_tx.send_deadline(Header::PLAIN, b"x", deadline()));
    assert!(matches!(refused, Error::Closed | Error::PeerDead), "{refused:?}");
    drop(listener);
    assert!(!path.exists());
}

fn tcp_pair() -> (tcp::Listener, (tcp::Sender, tcp::Receiver), (tcp::Sender, tcp::Receiver)) {
    let listener = tcp::Listener::bind("127.0.0.1:0", &tcp::Options::default()).unwrap();
    let here = tcp::connect(listener.local_address().unwrap(), &tcp::Options::default(), deadline()).unwrap();
    let there = listener.accept(deadline()).unwrap();
    (listener, here, there)
}

#[test]
fn frames_of_a_sender_that_closes_and_exits_all_arrive() {
    let (_listener, (mut tx, rx), (their_tx, mut their_rx)) = tcp_pair();
    let frame = vec![9; 100_000];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                tx.send_deadline(Header::PLAIN, &frame, deadline()).unwrap();
            }
            tx.close(deadline()).unwrap();
            drop((tx, rx)); // with the HELLO of the other end unread
        });
        for _ in 0..100 {
            assert!(payload(their_rx.recv_deadline(deadline()).unwrap()) == frame);
        }
        assert!(matches!(their_rx.recv_deadline(deadline()), Err(Error::Closed)));
        drop(their_tx);
    });
}

#[test]
fn frames_of_a_sender_that_reads_nothing_and_is_dropped_all_arrive() {
    let (_listener, (mut tx, rx), (_their_tx, mut their_rx)) = tcp_pair();
    // More than the other machine takes before its program reads.
    let frame = vec![9; 10_000];
    for _ in 0..40 {
        tx.try_send(Header::PLAIN, &frame).unwrap();
    }
    drop((tx, rx)); // with the HELLO of the other end unread
    for _ in 0..40 {
        assert!(payload(their_rx.recv_deadline(deadline()).unwrap()) == frame);
    }
    assert!(matches!(their_rx.recv_deadline(deadline()), Err(Error::Closed)));
}

#[test]
fn a_hello_that_the_sender_read_reaches_a_receiver_that_begins_later() {
    let options = tcp::Options::default().stream(Options::new().max_payload(500));
    let listener = tcp::Listener::bind("127.0.0.1:0", &options).unwrap();
    let address = listener.local_address().unwrap();
    let (mut tx, mut rx) = tcp::connect(address, &tcp::Options::default(), deadline()).unwrap();
    let (mut their_tx, their_rx) = listener.accept(deadline()).unwrap();
    their_tx.send(Header::PLAIN, b"first").unwrap();
    while tx.max_payload() != 500 {
        tx.flush(deadline()).unwrap();
    }
    their_tx.send(Header { seq: 0, ..Header::PLAIN }, b"second").unwrap();
    for word in ["first", "second"] {
        assert_eq!(payload(rx.recv_deadline(deadline()).unwrap()), word.as_bytes());
    }
    drop((their_tx, their_rx));
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)), "HELLO and BYE were both seen");
}

#[test]
fn close_reports_frames_that_the_peer_did_not_acknowledge() {
    let refused = |closed: Result<(), Error>| matches!(closed, Err(Error::Closed | Error::PeerDead));
    // The peer read everything before it left.
    let (_listener, (mut tx, rx), (their_tx, mut their_rx)) = tcp_pair();
    tx.send(Header::PLAIN, b"arrives").unwrap();
    assert_eq!(payload(their_rx.recv_deadline(deadline()).unwrap()), b"arrives");
    drop((their_tx, their_rx));
    tx.close(deadline()).unwrap();
    tx.close(deadline()).unwrap();
    drop(rx);

    // The peer left before the frame was sent.
    for batch in [false, true] {
        let options = tcp::Options::default().stream(Options::new().batch(batch));
        let listener = tcp::Listener::bind("127.0.0.1:0", &options).unwrap();
        let is_reported = || {
            let (mut tx, mut rx) = tcp::connect(listener.local_address().unwrap(), &options, deadline()).unwrap();
            drop(listener.accept(deadline()).unwrap());
            assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)), "the peer has left");
            tx.send(Header::PLAIN, b"is lost").unwrap();
            let _ = tx.flush(deadline()); // the kernel takes it
            let [first, second] = [(); 2].map(|()| refused(tx.close(deadline())));
            assert_eq!(first, second, "the same answer again");
            first
        };
        // A child that another test is starting may have a copy of the peer's socket, where the
        // frame does arrive.
        assert!((0..20).any(|_| is_reported()), "batch {batch}");
    }
}

#[test]
fn a_connection_that_is_reset_is_no_orderly_end() {
    let mut wire = Vec::new();
    Frame::new(Header::PLAIN, b"foreign").unwrap().encode(Form::Long, &mut wire).unwrap();
    let listener = tcp::Listener::bind("127.0.0.1:0", &tcp::Options::default()).unwrap();
    let mut raw = TcpStream::connect(listener.local_address().unwrap()).unwrap();
    let (_tx, mut rx) = listener.accept(deadline()).unwrap();
    raw.write_all(&wire).unwrap();
    assert_eq!(payload(rx.recv_deadline(deadline()).unwrap()), b"foreign");
    rustix::net::sockopt::set_socket_linger(&raw, Some(Duration::ZERO)).unwrap();
    drop(raw);
    for _ in 0..2 {
        assert!(matches!(rx.recv_deadline(deadline()), Err(Error::PeerDead)));
    }
}

#[test]
fn addresses_are_checked() {
    let options = tcp::Options::default();
    let (listener, ..) = tcp_pair();
    let address = listener.local_address().unwrap();
    assert!(matches!(tcp::Listener::bind(address, &options), Err(Error::Exists)));
    assert!(matches!(tcp::Listener::bind("0.0.0.0:0", &options), Err(Error::Untrusted { .. })));
    assert!(matches!(tcp::connect("192.0.2.1:9", &options, deadline()), Err(Error::Untrusted { .. })));
    assert!(matches!(tcp::connect("nonsense", &options, deadline()), Err(Error::Invalid { .. })));
    let soon = Deadline::after(Duration::from_millis(20));
    assert!(matches!(tcp::connect(unused_address(), &options, soon), Err(Error::NotFound)));
}

#[test]
fn a_foreign_peer_needs_no_hello_and_is_dead_if_it_stops_in_mid_frame() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &tcp::Options::default()).unwrap();
    let mut wire = Vec::new();
    Frame::new(Header::PLAIN, b"foreign").unwrap().encode(Form::Long, &mut wire).unwrap();
    for (bytes, closed) in [(wire.len(), true), (wire.len() - 8, false)] {
        let mut raw = TcpStream::connect(listener.local_address().unwrap()).unwrap();
        let (mut tx, mut rx) = listener.accept(deadline()).unwrap();
        raw.write_all(&wire).unwrap();
        raw.write_all(&wire[..bytes]).unwrap();
        raw.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(payload(rx.recv_deadline(deadline()).unwrap()), b"foreign");
        if closed {
            // The same sequence number again.
            assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Duplicate { .. })));
            assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
        } else {
            assert!(matches!(rx.recv_deadline(deadline()), Err(Error::PeerDead)));
        }
        tx.close(deadline()).unwrap();
        let mut heard = Vec::new();
        raw.read_to_end(&mut heard).unwrap();
        assert!(heard.starts_with(&[0xB7, 0x52, 0x14]), "a long HELLO");
    }
}
