//! Messages that strangers send to a receiver, or write into its FIFO, do not end it: they are
//! dropped and reported, and the genuine sender continues.

use std::ffi::CString;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Form, Frame, Header, Hello, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSenderExt, mq, stream::Options, sysv};
use slipring::{Deadline, Error};

use crate::common::address::unused_address;
use crate::common::queues::{QueuePermit, queue_permit};

const SOON: Duration = Duration::from_secs(60);

/// A directory, a queue and a key that this test owns, and removes when dropped.
struct Place(PathBuf, String, #[allow(dead_code, reason = "dropped after the queue")] QueuePermit);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slipring-strangers-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("key"), b"").unwrap();
        Place(path, name, queue_permit())
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
        // SAFETY: the descriptor was just opened, and nothing else closes it.
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
    let port = unused_address();
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
fn foreign_messages_are_reported_and_the_genuine_sender_continues() {
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
fn a_bye_alone_ends_nothing() {
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

/// On a FIFO the strangers are writers: what they write ends nothing; when they close it, that is
/// the end of the last writer.
#[test]
fn writers_of_something_else_end_no_fifo() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let endpoint = format!("fifo:{}", path.display());
    let parsed = Endpoint::parse(&endpoint).unwrap();
    let mut rx = parsed.open_receiver(Deadline::never()).unwrap();
    let bye = message(Header::control(control::BYE, 0).unwrap(), b"");
    let mut told = false;
    for message in foreign_messages().into_iter().chain([bye]) {
        let mut stranger = std::fs::File::options().write(true).open(&path).unwrap();
        stranger.write_all(&message).unwrap();
        for _ in 0..3 {
            match rx.try_recv() {
                Ok(Event::Skipped { .. }) | Err(Error::Empty) => {}
                Err(Error::Closed) if told => {} // of the stranger before this one
                other => panic!("{endpoint}: {message:x?}: {other:?}"),
            }
        }
        drop(stranger);
        told = true;
        loop {
            match rx.try_recv() {
                Ok(Event::Skipped { .. }) => {}
                // A child that another test is starting has a copy of it until its `execve`.
                Err(Error::Empty) => std::thread::yield_now(),
                Err(Error::Closed) => break, // the last writer has closed it
                other => panic!("{endpoint}: {message:x?} and then closed: {other:?}"),
            }
        }
    }
    let mut tx = parsed.open_sender(SOON).unwrap();
    tx.send(Header::PLAIN, b"genuine").unwrap();
    tx.close(SOON).unwrap();
    expect(rx.as_mut(), b"genuine", &endpoint);
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)), "again and again");
}

/// Writes to a FIFO that others write to, too, and closes it.
fn write_to_fifo(path: &Path, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// BYE without a sender, and BYE of a sender that sent nothing else.
fn foreign_byes() -> [Vec<u8>; 2] {
    let bye = Frame::new(Header::control(control::BYE, 0).unwrap(), b"").unwrap();
    [bye.head(Form::Short).unwrap().to_vec(), bye.head_from(7).unwrap().to_vec()]
}

#[test]
fn a_strangers_bye_ends_no_genuine_sender() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let mut subjects = subjects(&place);
    subjects.push((format!("fifo:{}", path.display()), Box::new(move |message| write_to_fifo(&path, message))));
    for (endpoint, send) in subjects {
        let parsed = Endpoint::parse(&endpoint).unwrap();
        let mut rx = parsed.open_receiver(SOON).unwrap();
        let mut tx = parsed.open_sender(SOON).unwrap();
        for bye in foreign_byes() {
            tx.send(Header::PLAIN, b"before").unwrap();
            expect(rx.as_mut(), b"before", &endpoint);
            send(&bye);
            tx.send(Header::PLAIN, b"behind").unwrap();
            expect(rx.as_mut(), b"behind", &endpoint);
            send(&bye);
            let end = rx.recv_deadline(Duration::from_millis(20)).map(drop);
            assert!(matches!(end, Err(Error::Timeout)), "{endpoint}: {end:?}");
        }
        tx.close(Deadline::never()).unwrap();
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)), "{endpoint}");
    }
}

/// A sender without a name in HELLO and BYE ends by its own BYE.
#[test]
fn a_bye_without_a_name_ends_a_fifos_sender_without_a_name() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let mut rx = slipring::transport::fifo::receiver(&path, &Options::new()).unwrap();
    let _writer = std::fs::File::options().write(true).open(&path).unwrap();
    let [bye, foreign_bye] = foreign_byes();
    let frame = message(Header::PLAIN, b"unnamed!");
    let hello = Hello { epoch: 9, ..Hello::new(64) }.encode();
    let hello = message(Header::control(control::HELLO, hello.len()).unwrap(), &hello);
    for said_hello in [false, true] {
        if said_hello {
            write_to_fifo(&path, &hello);
        }
        write_to_fifo(&path, &frame);
        expect(&mut rx, b"unnamed!", "fifo");
        write_to_fifo(&path, &foreign_bye);
        assert!(matches!(rx.recv_deadline(Duration::from_millis(20)), Err(Error::Timeout)));
        write_to_fifo(&path, &bye);
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
    }
}

/// After an end was reported, bytes of strangers do not undo it; only a new sender does.
#[test]
fn bytes_of_strangers_behind_the_end_of_a_fifo_revert_no_end() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let endpoint = Endpoint::parse(&format!("fifo:{}", path.display())).unwrap();
    let mut rx = endpoint.open_receiver(SOON).unwrap();
    let _open = std::fs::File::options().write(true).open(&path).unwrap();
    for garbage in foreign_messages().into_iter().chain(foreign_byes()) {
        let mut tx = endpoint.open_sender(SOON).unwrap();
        tx.send(Header::PLAIN, b"genuine").unwrap();
        tx.close(SOON).unwrap();
        while !matches!(rx.recv_deadline(SOON).unwrap(), Event::Frame(frame) if frame.payload == b"genuine") {}
        write_to_fifo(&path, &garbage);
        loop {
            match rx.recv_deadline(SOON) {
                Ok(Event::Skipped { .. }) => {}
                Err(Error::Closed) => break,
                other => panic!("{garbage:x?}: {other:?}"),
            }
        }
    }
}

/// A header that promises much and brings nothing takes no more than one write of genuine frames
/// for its payload.
#[test]
fn a_false_header_does_not_delay_the_frames_behind_it() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let endpoint = Endpoint::parse(&format!("fifo:{}", path.display())).unwrap();
    let mut rx = endpoint.open_receiver(SOON).unwrap();
    let mut tx = endpoint.open_sender(SOON).unwrap();
    tx.send(Header::PLAIN, b"before").unwrap();
    expect(rx.as_mut(), b"before", "fifo");
    for len in [4081, 65_536, 16 << 20, u32::MAX] {
        let mut header = Frame::new(Header::PLAIN, b"").unwrap().head(Form::Short).unwrap().to_vec();
        header[4..8].copy_from_slice(&len.to_le_bytes());
        write_to_fifo(&path, &header);
        tx.send(Header::PLAIN, b"behind").unwrap();
        assert!(matches!(rx.recv_deadline(SOON), Ok(Event::Skipped { bytes: 16, .. })), "{len}");
        expect(rx.as_mut(), b"behind", "fifo");
    }
    tx.close(SOON).unwrap();
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
}

/// Before a sender is known, a frame may be long. The bytes that it has swallowed are reported when
/// the last writer has closed the FIFO.
#[test]
fn bytes_swallowed_by_an_unfinished_frame_are_reported() {
    let place = Place::new();
    let path = place.0.join("fifo");
    let endpoint = Endpoint::parse(&format!("fifo:{}", path.display())).unwrap();
    let mut rx = endpoint.open_receiver(SOON).unwrap();
    let mut header = Frame::new(Header::PLAIN, b"").unwrap().head(Form::Short).unwrap().to_vec();
    header[4..8].copy_from_slice(&65_536u32.to_le_bytes());
    let mut stranger = std::fs::File::options().write(true).open(&path).unwrap();
    stranger.write_all(&header).unwrap();
    let mut tx = endpoint.open_sender(SOON).unwrap();
    tx.send(Header::PLAIN, b"genuine").unwrap();
    tx.close(SOON).unwrap();
    drop(stranger);
    match rx.recv_deadline(SOON) {
        // The header; HELLO (80), the frame (24) and BYE (48), unread.
        Ok(Event::Skipped { bytes: 168, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
}

/// A HELLO without a sender: the death of that sender could not be noticed, so the receiver does
/// not wait for its end.
#[test]
fn a_hello_of_an_unknown_sender_delays_no_end() {
    let place = Place::new();
    for (endpoint, send) in subjects(&place).into_iter().filter(|(endpoint, _)| !endpoint.starts_with("udp")) {
        let parsed = Endpoint::parse(&endpoint).unwrap();
        let mut rx = parsed.open_receiver(Deadline::never()).unwrap();
        let hello = Hello::new(64).encode();
        send(&message(Header::control(control::HELLO, hello.len()).unwrap(), &hello));
        let mut tx = parsed.open_sender(SOON).unwrap();
        tx.send(Header::PLAIN, b"genuine").unwrap();
        tx.close(SOON).unwrap();
        expect(rx.as_mut(), b"genuine", &endpoint);
        let end = rx.recv_deadline(SOON).map(drop);
        assert!(matches!(end, Err(Error::Closed)), "{endpoint}: {end:?}");
    }
}
