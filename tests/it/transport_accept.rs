//! Which connections a listener accepts as peers, and how long a connecting end waits: probes,
//! half-closed peers, full backlogs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with};
use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, seqpacket, unix};
use slipring::{Deadline, Error};

use crate::common::address::unused_address;
use crate::common::dir::TestDir;

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

/// A connection without the library; `None` while the path has no listener.
fn raw(kind: SocketType, path: &Path) -> Option<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).ok().map(|()| socket)
}

fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < Duration::from_secs(120));
        std::thread::yield_now();
    }
}

fn expect(rx: &mut dyn FrameReceiver, payload: &[u8]) {
    match rx.recv_deadline(deadline()) {
        Ok(Event::Frame(frame)) => assert_eq!(frame.payload, payload),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_shuts_its_sending_side_is_accepted() {
    let dir = TestDir::with_mode("accept", 0o700);
    let listener = unix::Listener::bind(dir.socket(), &unix::Options::default()).unwrap();
    for upgrading in [false, true] {
        let mut peer = UnixStream::connect(dir.socket()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let connection = match upgrading {
            false => listener.accept(deadline()).map(|(tx, rx)| unix::Connection::Stream(tx, rx)),
            true => listener.accept_upgrading(1 << 16, deadline()),
        };
        let (mut tx, mut rx) = connection.unwrap().into_ends();
        tx.send(Header::PLAIN, b"hello").unwrap();
        assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)), "the other direction has ended");
        tx.close(deadline()).unwrap();
        drop((tx, rx));
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert!(heard.windows(5).any(|bytes| bytes == b"hello"));
    }
    drop(listener);

    let listener = seqpacket::Listener::bind(dir.socket(), &seqpacket::Options::default()).unwrap();
    let peer = raw(SocketType::SEQPACKET, &dir.socket()).unwrap();
    shutdown(&peer, rustix::net::Shutdown::Write).unwrap();
    let (mut tx, _rx) = listener.accept(deadline()).unwrap();
    tx.send(Header::PLAIN, b"hello").unwrap();
    let mut message = [0; 256];
    let mut next = || rustix::net::recv(&peer, &mut message, rustix::net::RecvFlags::empty()).unwrap().1;
    assert_eq!([next(), next()], [48, 16 + 5], "HELLO, and the frame");
}

/// A peer that has sent its frames and closed before it was accepted is received.
#[test]
fn a_peer_that_closed_before_it_was_accepted_loses_no_frame() {
    let dir = TestDir::with_mode("accept", 0o700);
    let receive = |rx: &mut dyn FrameReceiver| {
        expect(rx, b"sent and gone");
        assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
    };
    let send = |(mut tx, rx): (Box<dyn FrameSender>, Box<dyn FrameReceiver>)| {
        tx.send(Header::PLAIN, b"sent and gone").unwrap();
        tx.close(deadline()).unwrap();
        drop((tx, rx));
    };
    fn boxed<T: FrameSender + 'static, R: FrameReceiver + 'static>(
        (tx, rx): (T, R),
    ) -> (Box<dyn FrameSender>, Box<dyn FrameReceiver>) {
        (Box::new(tx), Box::new(rx))
    }

    let (path, options) = (dir.file("unix"), unix::Options::default());
    let listener = unix::Listener::bind(&path, &options).unwrap();
    send(boxed(unix::connect(&path, &options, deadline()).unwrap()));
    receive(&mut listener.accept(deadline()).unwrap().1);
    send(boxed(unix::connect(&path, &options, deadline()).unwrap()));
    receive(listener.accept_upgrading(1 << 16, deadline()).unwrap().receiver());

    let (path, options) = (dir.file("seqpacket"), seqpacket::Options::default());
    let listener = seqpacket::Listener::bind(&path, &options).unwrap();
    send(boxed(seqpacket::connect(&path, &options, deadline()).unwrap()));
    receive(&mut listener.accept(deadline()).unwrap().1);
}

#[test]
fn connecting_to_a_full_backlog_ends_at_the_deadline() {
    let dir = TestDir::with_mode("accept", 0o700);
    let soon = || Deadline::after(Duration::from_millis(50));
    let mut kept: Vec<Box<dyn std::any::Any>> = Vec::new();

    let options = unix::Options::default();
    let listener = unix::Listener::bind(dir.socket(), &options).unwrap();
    let error = loop {
        match unix::connect(dir.socket(), &options, soon()) {
            Ok(connection) => kept.push(Box::new(connection)),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000);
    };
    assert!(matches!(error, Error::Timeout), "{error:?}");
    drop(listener);

    kept.clear();
    let options = seqpacket::Options::default();
    let _listener = seqpacket::Listener::bind(dir.socket(), &options).unwrap();
    let error = loop {
        match seqpacket::connect(dir.socket(), &options, soon()) {
            Ok(connection) => kept.push(Box::new(connection)),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000);
    };
    assert!(matches!(error, Error::Timeout), "{error:?}");
}

/// A listening endpoint of each kind, where to connect to it, and how to connect without sending.
struct Listening {
    endpoint: String,
    peer: String,
    probe: Box<dyn Fn() -> Option<OwnedFd> + Send>,
}

fn listening(dir: &TestDir) -> Vec<Listening> {
    let unix = |scheme: &str, options: &str, kind| {
        let path = dir.file(format!("{scheme}{}", options.len()));
        let at = path.display().to_string();
        Listening {
            endpoint: format!("{scheme}:{at}?listen{options}"),
            peer: format!("{scheme}:{at}{}", options.replace('&', "?")),
            probe: Box::new(move || raw(kind, &path)),
        }
    };
    let tcp = |options: &str| {
        let address = unused_address();
        Listening {
            endpoint: format!("tcp:{address}?listen{options}"),
            peer: format!("tcp:{address}"),
            probe: Box::new(move || TcpStream::connect(address).ok().map(OwnedFd::from)),
        }
    };
    vec![
        unix("unix", "", SocketType::STREAM),
        unix("unix", "&upgrade=ring", SocketType::STREAM),
        unix("seqpacket", "", SocketType::SEQPACKET),
        tcp(""),
        tcp("&reconnect=2m"),
    ]
}

#[test]
fn a_listening_endpoint_waits_for_a_peer_that_sends() {
    let dir = TestDir::with_mode("accept", 0o700);
    for Listening { endpoint, peer, probe } in listening(&dir) {
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let mut rx = Endpoint::parse(&endpoint).unwrap().open_receiver(deadline()).unwrap();
                expect(rx.as_mut(), b"hello");
                assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
            });
            // Three peers: one that connects and closes, one that closes its sending half, one that
            // stays and sends nothing.
            drop(patiently(&probe));
            let ended = patiently(&probe);
            shutdown(&ended, rustix::net::Shutdown::Write).unwrap();
            let silent = patiently(&probe);
            let second = Endpoint::parse(&endpoint).unwrap().open_receiver(deadline()).map(drop);
            assert!(matches!(second, Err(Error::Exists)), "{endpoint}: {second:?}");
            let mut tx = Endpoint::parse(&peer).unwrap().open_sender(deadline()).unwrap();
            tx.send(Header::PLAIN, b"hello").unwrap();
            tx.close(deadline()).unwrap();
            receiver.join().unwrap();
            drop((ended, silent));
        });
    }
}

#[test]
fn a_sending_listener_skips_peers_that_have_disconnected() {
    let dir = TestDir::with_mode("accept", 0o700);
    for Listening { endpoint, peer, probe } in listening(&dir) {
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut tx = Endpoint::parse(&endpoint).unwrap().open_sender(deadline()).unwrap();
                tx.send(Header::PLAIN, b"hello").unwrap();
                tx.close(deadline()).unwrap();
            });
            drop(patiently(&probe));
            drop(patiently(&probe));
            let mut rx = Endpoint::parse(&peer).unwrap().open_receiver(deadline()).unwrap();
            expect(rx.as_mut(), b"hello");
            assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
            drop(rx);
            sender.join().unwrap();
        });
    }
}

#[test]
fn a_listening_endpoint_serves_a_foreign_receiver_that_sends_nothing() {
    let dir = TestDir::with_mode("accept", 0o700);
    for Listening { endpoint, probe, .. } in listening(&dir) {
        if endpoint.starts_with("seqpacket") || endpoint.contains("upgrade") {
            continue; // the other checks are the same
        }
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut tx = Endpoint::parse(&endpoint).unwrap().open_sender(deadline()).unwrap();
                tx.send(Header::PLAIN, b"hello").unwrap();
                tx.close(deadline()).unwrap();
            });
            let mut silent = std::fs::File::from(patiently(&probe));
            let mut heard = Vec::new();
            silent.read_to_end(&mut heard).unwrap();
            assert!(heard.windows(5).any(|bytes| bytes == b"hello"));
            drop(silent);
            sender.join().unwrap();
        });
    }
}

#[test]
fn a_connection_that_sends_one_byte_counts_as_a_peer() {
    let address = unused_address();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let endpoint = Endpoint::parse(&format!("tcp:{address}?listen")).unwrap();
            endpoint.open_receiver(deadline()).unwrap().recv_deadline(deadline()).map(drop)
        });
        let mut peer = patiently(|| TcpStream::connect(address).ok());
        peer.write_all(&[0xB7]).unwrap();
        drop(peer);
        assert!(matches!(receiver.join().unwrap(), Err(Error::PeerDead)));
    });
}
