//! TCP connections that are re-established when they break. A connection that is cut after any
//! number of bytes loses no frame without a report of exactly that loss; and a stranger that
//! connects in place of a peer is not taken for it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use slipring::frame::{Event, Form, Frame, Header, Hello, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, stream, tcp};
use slipring::{Deadline, Error};

use crate::common::address::unused_address;

/// Far longer than any call here takes.
const LONG: Duration = Duration::from_secs(120);

fn deadline() -> Deadline {
    Deadline::after(LONG)
}

fn patient() -> tcp::Options {
    tcp::Options::default().reconnect(LONG)
}

/// Returns when nothing listens at `address` any more. A child that another test is starting has a
/// copy of a socket until its `execve`.
fn wait_until_refused(address: SocketAddr) {
    while TcpStream::connect(address).is_ok() {
        thread::yield_now();
    }
}

/// A proxy to `server`. Each connection passes as many bytes as the next entry of `budgets` says,
/// then it is cut; after the last entry connections pass everything. Returns the address to connect
/// to.
fn cable(server: SocketAddr, budgets: Vec<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for budget in budgets.into_iter().chain([usize::MAX]) {
            let (client, _) = listener.accept().unwrap();
            let server = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let back = thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
            let mut limited = (&client).take(budget as u64);
            let copied = std::io::copy(&mut limited, &mut &server);
            let is_cut = copied.is_err() || limited.limit() == 0;
            let end = if is_cut { Shutdown::Both } else { Shutdown::Write };
            let _ = server.shutdown(end);
            if is_cut {
                let _ = client.shutdown(end);
            }
            back.join().unwrap();
        }
    });
    address
}

/// Frames numbered 0, 1, 2 …, each of which was received or was reported as missing.
#[derive(Default)]
struct Tally {
    next: u64,
    missing: u64,
}

impl Tally {
    fn count(&mut self, event: Event<'_>) {
        match event {
            Event::Frame(frame) => {
                assert_eq!(frame.payload[..8], self.next.to_le_bytes(), "number {}", self.next);
                self.next += 1;
            }
            Event::Gap { stream: 0, expected, found } => {
                assert_eq!(u64::from(expected), self.next, "the gap begins where frames ended");
                self.missing += u64::from(found - expected);
                self.next = u64::from(found);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A payload of few bytes or many; the first eight are the number.
fn payload(number: u64) -> Vec<u8> {
    let mut payload = vec![7; 8 + (number * 7919 % 3001) as usize];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Sends until the connection has been cut `CUTS` times, and some frames more. Returns the count.
fn send_over(tx: &mut tcp::Sender, cuts: u64) -> u64 {
    let mut number = 0;
    let mut more = 1000;
    while more > 0 {
        match tx.try_send(Header::PLAIN, &payload(number)) {
            Err(Error::Full) => tx.send_deadline(Header::PLAIN, &payload(number), deadline()).unwrap(),
            sent => sent.unwrap(),
        }
        number += 1;
        more -= u32::from(tx.reconnections() == cuts);
    }
    tx.close(deadline()).unwrap();
    number
}

fn receive_all(rx: &mut tcp::Receiver) -> Tally {
    let mut tally = Tally::default();
    loop {
        match rx.recv_deadline(deadline()) {
            Ok(event) => tally.count(event),
            Err(Error::Closed) => return tally,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn frames_lost_on_a_cut_connection_are_reported_as_an_exact_gap() {
    const CUTS: u64 = 25;
    for batch in [false, true] {
        let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
        let budgets = (1..=CUTS as usize).map(|n| if n % 5 == 0 { n } else { n * n * 503 + n }).collect();
        let address = cable(listener.local_address().unwrap(), budgets);
        let sending = thread::spawn(move || {
            let options = patient().stream(stream::Options::new().batch(batch));
            let (mut tx, _rx) = tcp::connect(address, &options, deadline()).unwrap();
            send_over(&mut tx, CUTS)
        });
        let (_tx, mut rx) = listener.accept_only(deadline()).unwrap();
        let tally = receive_all(&mut rx);
        let sent = sending.join().unwrap();
        assert_eq!(tally.next, sent);
        println!("batch {batch}: {CUTS} cuts, {} of {sent} frames missing, all of them reported", tally.missing);
    }
}

#[test]
fn both_directions_continue_on_the_next_connection() {
    let budgets = vec![50_000, 333, 500_000];
    let cuts = budgets.len() as u64;
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = cable(listener.local_address().unwrap(), budgets);
    let talk = |(mut tx, mut rx): (tcp::Sender, tcp::Receiver)| {
        thread::scope(|scope| {
            let sending = scope.spawn(move || send_over(&mut tx, cuts));
            (receive_all(&mut rx).next, sending.join().unwrap())
        })
    };
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(|| talk(tcp::connect(address, &patient(), deadline()).unwrap()));
        let other = talk(listener.accept_only(deadline()).unwrap());
        (one.join().unwrap(), other)
    });
    assert_eq!((one.0, other.0), (other.1, one.1), "each received what the other sent");
}

#[test]
fn every_stream_of_a_connection_continues_after_a_reconnect() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let server = listener.local_address().unwrap();
    let middle = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut tx, _own_rx) = tcp::connect(middle.local_addr().unwrap(), &patient(), deadline()).unwrap();
    let (client, _) = middle.accept().unwrap();
    let on = |stream| Header { stream, ..Header::PLAIN };

    // The first frame arrives; the next is lost when the connection is cut.
    for stream in [0, 3, 3, 9] {
        tx.send(on(stream), b"arrives").unwrap();
    }
    let mut there = TcpStream::connect(server).unwrap();
    let (_their_tx, mut rx) = listener.accept_only(deadline()).unwrap();
    let mut bytes = [0; 64 + 4 * 40];
    (&client).read_exact(&mut bytes).unwrap();
    there.write_all(&bytes).unwrap();
    for stream in [0, 3, 3, 9] {
        let Event::Frame(frame) = rx.recv().unwrap() else { panic!() };
        assert_eq!((frame.header.stream, frame.payload), (stream, &b"arrives"[..]));
    }
    for stream in [3, 9, 9, 3, 3] {
        tx.send(on(stream), b"is lost").unwrap();
    }
    drop((client, there));

    let relink = thread::spawn(move || {
        let (client, _) = middle.accept().unwrap();
        let there = TcpStream::connect(server).unwrap();
        std::io::copy(&mut &client, &mut &there).unwrap();
        there.shutdown(Shutdown::Write).unwrap();
    });
    // Sends BYE at once: no later frame shows the gap, but the start of the connection does.
    tx.close(deadline()).unwrap();
    let mut gaps = Vec::new();
    loop {
        match rx.recv_deadline(deadline()) {
            Ok(Event::Gap { stream, expected, found }) => gaps.push((stream, expected, found)),
            Ok(other) => panic!("{other:?}"),
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    gaps.sort_unstable();
    assert_eq!(gaps, [(3, 2, 5), (9, 1, 3)]);
    assert_eq!(rx.stats().gaps, 2);
    relink.join().unwrap();
}

#[test]
fn reconnecting_ends_at_the_options_limit_and_calls_at_their_deadline() {
    let address = unused_address(); // no other test listens there meanwhile
    let closed_port = TcpListener::bind(address).unwrap();
    let (mut tx, mut rx) = tcp::connect(address, &patient(), deadline()).unwrap();
    drop((closed_port.accept().unwrap(), closed_port));
    wait_until_refused(address);
    for _ in 0..100 {
        assert!(matches!(rx.try_recv(), Err(Error::Empty)), "try_recv does not wait");
    }
    assert!(rx.poll_fd().is_none() && tx.poll_fd().is_none(), "nothing to poll");
    assert!(matches!(rx.recv_deadline(Deadline::after(Duration::from_millis(30))), Err(Error::Timeout)));
    for _ in 0..100 {
        assert!(matches!(tx.try_send(Header::PLAIN, b"x"), Err(Error::Full)));
    }
    assert!(matches!(tx.flush(Deadline::after(Duration::from_millis(30))), Err(Error::Timeout)));
    let again = TcpListener::bind(address).unwrap();
    tx.send_deadline(Header::PLAIN, b"there", deadline()).unwrap();
    assert_eq!(tx.reconnections(), 1);
    assert!(rx.poll_fd().is_some() && tx.poll_fd().is_some());
    drop(again);

    let address = unused_address();
    let closed_port = TcpListener::bind(address).unwrap();
    let options = tcp::Options::default().reconnect(Duration::from_millis(60));
    let (mut tx, mut rx) = tcp::connect(address, &options, deadline()).unwrap();
    drop((closed_port.accept().unwrap(), closed_port));
    wait_until_refused(address);
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::PeerDead)));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)), "every call reports it");
    assert!(matches!(tx.send_deadline(Header::PLAIN, b"x", deadline()), Err(Error::PeerDead)));
    assert!(matches!(tx.close(deadline()), Err(Error::PeerDead)));
}

#[test]
fn a_reconnecting_stranger_counts_as_a_new_sender() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = listener.local_address().unwrap();
    let once = tcp::Options::default();
    // A connection that sends nothing takes no sender's place.
    drop(TcpStream::connect(address).unwrap());
    let (_their_tx, mut rx) = listener.accept_only(deadline()).unwrap();

    let (mut dies, kept) = tcp::connect(address, &once, deadline()).unwrap();
    dies.send(Header::PLAIN, b"one").unwrap();
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Frame(frame)) if frame.payload == b"one"));
    rustix::net::shutdown(dies.poll_fd().unwrap(), rustix::net::Shutdown::Both).unwrap();
    drop((dies, kept));

    let (mut next, _kept) = tcp::connect(address, &once, deadline()).unwrap();
    next.send(Header::PLAIN, b"two").unwrap();
    assert!(
        matches!(rx.recv_deadline(deadline()), Err(Error::PeerDead)),
        "the end of the first sender is reported once"
    );
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Frame(frame)) if frame.payload == b"two"));
    next.close(deadline()).unwrap();
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)), "an orderly end is Closed");
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
}

#[test]
fn a_stranger_without_hello_does_not_replace_a_sender() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = listener.local_address().unwrap();
    let (dies, kept) = tcp::connect(address, &tcp::Options::default(), deadline()).unwrap();
    let (_tx, mut rx) = listener.accept_only(deadline()).unwrap();
    while !matches!(rx.try_recv(), Err(Error::Empty)) || rx.stats().frames == 0 {} // its HELLO
    rustix::net::shutdown(dies.poll_fd().unwrap(), rustix::net::Shutdown::Both).unwrap();
    drop((dies, kept));
    let mut frame = Vec::new();
    Frame::new(Header::new(0x0100, 5).unwrap(), b"hello").unwrap().encode(Form::Long, &mut frame).unwrap();
    TcpStream::connect(address).unwrap().write_all(&frame).unwrap();
    assert!(
        matches!(rx.recv_deadline(deadline()), Ok(Event::Skipped { bytes: 40, .. })),
        "reported, and none of its frames is received"
    );
    let (mut next, _kept) = tcp::connect(address, &tcp::Options::default(), deadline()).unwrap();
    next.send(Header::PLAIN, b"two").unwrap();
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::PeerDead)), "the end of the first sender");
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Frame(frame)) if frame.payload == b"two"));
}

#[test]
fn garbage_ends_only_the_connection_that_sent_it() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = listener.local_address().unwrap();
    let mut other_version = Vec::new();
    Frame::new(Header::PLAIN, b"8 bytes!").unwrap().encode(Form::Long, &mut other_version).unwrap();
    other_version[2] = 0x24;
    let mut huge = other_version.clone();
    (huge[2], huge[7]) = (0x12, 0x3F);
    let garbage = [b"GET / HTTP/1.0\r\n\r\n".to_vec(), other_version, huge];
    let mut strangers: Vec<_> = garbage.iter().map(|_| TcpStream::connect(address).unwrap()).collect();
    for (stranger, bytes) in strangers.iter_mut().zip(&garbage) {
        stranger.write_all(bytes).unwrap();
    }
    let (_tx, mut rx) = listener.accept_only(deadline()).unwrap();
    for bytes in &garbage {
        match rx.recv_deadline(deadline()) {
            Ok(Event::Skipped { bytes: skipped, .. }) => assert_eq!(skipped, bytes.len() as u64),
            other => panic!("{other:?}"),
        }
    }
    // The genuine sender, interrupted by another stranger.
    let hello = Hello { epoch: 7, ..Hello::new(1 << 20) }.encode();
    let talk = |first: u32, seqs: std::ops::Range<u32>| {
        let mut bytes = Vec::new();
        let hello = Hello { first_seq: first, ..Hello::decode(&hello).unwrap() }.encode();
        let header = Header::control(control::HELLO, hello.len()).unwrap();
        Frame::new(header, &hello).unwrap().encode(Form::Long, &mut bytes).unwrap();
        for seq in seqs {
            Frame::new(Header { seq, ..Header::PLAIN }, b"x").unwrap().encode(Form::Long, &mut bytes).unwrap();
        }
        TcpStream::connect(address).unwrap().write_all(&bytes).unwrap();
    };
    talk(0, 0..2);
    for seq in 0..2 {
        let event = rx.recv_deadline(deadline()).unwrap();
        assert!(matches!(event, Event::Frame(frame) if frame.header.seq == seq), "{event:?}");
    }
    TcpStream::connect(address).unwrap().write_all(b"\x16\x03\x01 a greeting in TLS").unwrap();
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Skipped { .. })));
    talk(3, 3..4);
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Gap { stream: 0, expected: 2, found: 3 })));
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Frame(frame)) if frame.header.seq == 3));
}

#[test]
fn a_sender_without_hello_is_not_expected_to_reconnect() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = listener.local_address().unwrap();
    let mut frame = Vec::new();
    Frame::new(Header::new(0x0100, 5).unwrap(), b"hello").unwrap().encode(Form::Long, &mut frame).unwrap();
    let mut dies = TcpStream::connect(address).unwrap();
    dies.write_all(&[&frame[..], &frame[..10]].concat()).unwrap();
    drop(dies);
    let (_tx, mut rx) = listener.accept_only(deadline()).unwrap();
    TcpStream::connect(address).unwrap().write_all(&frame).unwrap();
    for _ in 0..2 {
        let event = rx.recv_deadline(deadline()).unwrap();
        assert!(
            matches!(event, Event::Frame(Frame { header: Header { seq: 0, .. }, payload: b"hello", .. })),
            "{event:?}"
        );
    }
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)), "it ended between two frames");
}

#[test]
fn a_frame_that_is_sent_again_is_reported_as_a_duplicate() {
    let listener = tcp::Listener::bind("127.0.0.1:0", &patient()).unwrap();
    let address = listener.local_address().unwrap();
    let talk = |first: u32, end: u32| {
        let hello = Hello { epoch: 77, first_seq: first, ..Hello::new(1 << 20) }.encode();
        let mut bytes = Vec::new();
        let mut say = |header, payload: &[u8]| {
            Frame::new(header, payload).unwrap().encode(Form::Long, &mut bytes).unwrap();
        };
        say(Header::control(control::HELLO, hello.len()).unwrap(), &hello);
        for seq in first..end {
            say(Header { seq, ..Header::new(0x0100, 1).unwrap() }, b"x");
        }
        TcpStream::connect(address).unwrap().write_all(&bytes).unwrap();
    };
    talk(0, 5);
    let (_tx, mut rx) = listener.accept_only(deadline()).unwrap();
    talk(3, 6);
    let mut heard = Vec::new();
    while heard.len() < 8 {
        match rx.recv_deadline(deadline()).unwrap() {
            Event::Frame(frame) => heard.push((frame.header.seq, false)),
            Event::Duplicate { frame, expected: 5 } => heard.push((frame.header.seq, true)),
            other => panic!("{other:?}"),
        }
    }
    let new = |seq| (seq, false);
    assert_eq!(heard, [new(0), new(1), new(2), new(3), new(4), (3, true), (4, true), new(5)]);
    assert_eq!((rx.stats().gaps, rx.stats().duplicates), (0, 2));
}

/// A sender that closes while nothing is acknowledged, and whose connection then breaks.
fn closing(options: &tcp::Options) -> (TcpListener, TcpStream, mpsc::Receiver<(slipring::Result<()>, u64)>) {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut tx, rx) = tcp::connect(peer.local_addr().unwrap(), options, deadline()).unwrap();
    let (socket, _) = peer.accept().unwrap();
    // Until it stays full: the kernel moves bytes to the other end's buffer on its own.
    while tx.send_deadline(Header::PLAIN, &[0; 60_000], Duration::from_millis(20)).is_ok() {}
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        while matches!(tx.close(Deadline::after(Duration::from_millis(20))), Err(Error::Timeout)) {
            let _ = say.send((Err(Error::Timeout), 0));
        }
        let closed = tx.close(deadline());
        let _ = say.send((closed, tx.reconnections()));
        drop(rx);
    });
    assert!(matches!(said.recv_timeout(LONG), Ok((Err(Error::Timeout), 0))), "it waits for a receiver");
    (peer, socket, said)
}

#[test]
fn closing_a_broken_connection_reports_the_loss_or_sends_bye_on_the_next() {
    let (_peer, socket, said) = closing(&tcp::Options::default());
    drop(socket);
    loop {
        match said.recv_timeout(LONG).unwrap() {
            (Err(Error::Timeout), _) => {}
            (closed, reconnections) => {
                assert!(matches!(closed, Err(Error::PeerDead | Error::Closed)) && reconnections == 0, "{closed:?}");
                break;
            }
        }
    }

    let (peer, socket, said) = closing(&patient());
    drop(socket);
    let (socket, _) = peer.accept().unwrap();
    let mut bytes = Vec::new();
    let _ = (&socket).read_to_end(&mut bytes);
    assert!(bytes.len() >= 64 + 32, "HELLO and BYE, if nothing else");
    let bye = &bytes[bytes.len() - 32..];
    assert_eq!((bye[..4].to_vec(), bye[8]), (vec![0xB7, 0x52, 0x14, 0x07], 9), "BYE is the last frame");
    loop {
        match said.recv_timeout(LONG).unwrap() {
            (Err(Error::Timeout), _) => {}
            (closed, reconnections) => break assert!(closed.is_ok() && reconnections == 1),
        }
    }
}

#[test]
fn connecting_waits_for_a_listener_that_starts_late() {
    let address = unused_address();
    let refused = tcp::connect(address, &patient(), Duration::ZERO);
    assert!(matches!(refused, Err(Error::NotFound)));
    let connecting = thread::spawn(move || tcp::connect(address, &patient(), deadline()).map(drop));
    let listener = tcp::Listener::bind(address, &patient()).unwrap();
    listener.accept(deadline()).unwrap();
    connecting.join().unwrap().unwrap();
}
