//! What strangers send to a receiver of messages ends nothing: it is dropped and reported, and the genuine sender goes on.

use std::ffi::CString;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Form, Frame, Header, Hello, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSenderExt, mq, sysv};
use slipring::{Deadline, Error};

const SOON: Duration = Duration::from_secs(60);

/// A directory, a queue and a key of this test's own, gone afterwards.
struct Place(PathBuf, String);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slipring-strangers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("key"), b"").unwrap();
        Place(path, name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = mq::remove(&format!("/{}", self.1));
        let _ = sysv::Key::path(&self.0.join("key")).and_then(sysv::remove);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An endpoint, and how a stranger sends to it.
type Subject = (String, Box<dyn Fn(&[u8])>);

fn subjects(place: &Place) -> Vec<Subject> {
    let name = CString::new(format!("/{}", place.1)).unwrap();
    let to_mq = move |message: &[u8]| {
        // SAFETY: `name` ends in NUL; without O_CREAT no further argument is read.
        let queue = unsafe { libc::mq_open(name.as_ptr(), libc::O_WRONLY) };
        // SAFETY: reads `message.len()` bytes from `message`.
        assert_eq!(unsafe { libc::mq_send(queue, message.as_ptr().cast(), message.len(), 0) }, 0);
        // SAFETY: nothing else knows of this descriptor.
        unsafe { libc::mq_close(queue) };
    };
    let key = sysv::Key::path(&place.0.join("key")).unwrap().get() as i32;
    let to_sysv = move |message: &[u8]| {
        for kind in [1, 65_537] {
            // SAFETY: takes two numbers and returns one.
            let queue = unsafe { libc::msgget(key, 0) };
            let message = [&i64::to_ne_bytes(kind), message].concat();
            // SAFETY: reads a `long` and as many bytes as follow it.
            let sent = unsafe { libc::msgsnd(queue, message.as_ptr().cast(), message.len() - 8, 0) };
            assert_eq!(sent, 0);
            if message.len() == 8 {
                return; // an empty one of the other type wakes a receiver, and is no message
            }
        }
    };
    let path = place.0.join("dgram");
    let dgram = format!("dgram:{}", path.display());
    let socket = UnixDatagram::unbound().unwrap();
    let to_dgram = move |message: &[u8]| assert_eq!(socket.send_to(message, &path).unwrap(), message.len());
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to_udp = move |message: &[u8]| assert_eq!(socket.send_to(message, port).unwrap(), message.len());
    vec![
        (format!("mq:/{}", place.1), Box::new(to_mq)),
        (format!("sysv:{}", place.0.join("key").display()), Box::new(to_sysv)),
        (dgram, Box::new(to_dgram)),
        (format!("udp:{port}"), Box::new(to_udp)),
    ]
}

fn message(header: Header, payload: &[u8]) -> Vec<u8> {
    let frame = Frame::new(header, payload).unwrap();
    [&frame.head(Form::Long).unwrap(), payload].concat()
}

fn foreign_messages() -> Vec<Vec<u8>> {
    let frame = Frame::new(Header::PLAIN, b"").unwrap().head(Form::Short).unwrap().to_vec();
    let (mut version, mut flag) = (frame.clone(), frame);
    version[2] = 0x22;
    flag[3] |= 0x10;
    let hello = |at: usize, byte| {
        let mut hello = Hello::new(64).encode();
        hello[at] = byte;
        message(Header::control(control::HELLO, hello.len()).unwrap(), &hello)
    };
    vec![b"garbage".to_vec(), b"".to_vec(), version, flag, hello(0, 2), hello(8, 1), vec![0xB7; 2000]]
}

#[track_caller]
fn expect(rx: &mut dyn FrameReceiver, payload: &[u8], endpoint: &str) {
    match rx.recv_deadline(SOON) {
        Ok(Event::Frame(frame)) => assert!(frame.payload == payload, "{endpoint}: {} bytes", frame.payload.len()),
        other => panic!("{endpoint}: {other:?}"),
    }
}

#[test]
fn foreign_messages_are_reported_and_the_genuine_sender_goes_on() {
    let place = Place::new();
    for (endpoint, send) in subjects(&place) {
        let parsed = Endpoint::parse(&endpoint).unwrap();
        let mut rx = parsed.open_receiver(SOON).unwrap();
        let mut tx = parsed.open_sender(SOON).unwrap();
        for foreign in foreign_messages() {
            send(&foreign);
            let copies = if endpoint.starts_with("sysv") && !foreign.is_empty() { 2 } else { 1 };
            for _ in 0..copies {
                match rx.recv_deadline(SOON) {
                    Ok(Event::Skipped { bytes, .. }) => assert_eq!(bytes, foreign.len() as u64, "{endpoint}"),
                    other => panic!("{endpoint}: {other:?}"),
                }
            }
            tx.send(Header::PLAIN, b"genuine").unwrap();
            expect(rx.as_mut(), b"genuine", &endpoint);
        }
        tx.close(Deadline::never()).unwrap();
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)), "{endpoint}");
    }
}

#[test]
fn a_lone_bye_ends_nothing() {
    let place = Place::new();
    for (endpoint, send) in subjects(&place) {
        let parsed = Endpoint::parse(&endpoint).unwrap();
        let mut rx = parsed.open_receiver(SOON).unwrap();
        send(&message(Header::control(control::BYE, 0).unwrap(), b""));
        while endpoint.starts_with("sysv") && rx.recv_deadline(Duration::from_millis(5)).is_ok() {}
        assert!(matches!(rx.recv_deadline(Duration::from_millis(20)), Err(Error::Timeout)), "{endpoint}");
        let mut tx = parsed.open_sender(SOON).unwrap();
        tx.send(Header::PLAIN, b"genuine").unwrap();
        expect(rx.as_mut(), b"genuine", &endpoint);
        tx.close(Deadline::never()).unwrap();
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)), "{endpoint}");
    }
}
