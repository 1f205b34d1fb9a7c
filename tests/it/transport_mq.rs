//! What only POSIX message queues have: limits, shapes, priorities, a single receiver, locks that
//! show which participants died.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use slipring::frame::{Event, Header, control};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, mq};
use slipring::{Deadline, Error};

use crate::common::asleep::wait_until_asleep;
use crate::common::queues::{QueuePermit, queue_permit};
use crate::common::stop::StopOnDrop;
use crate::common::this_test::this_test;

const SOON: Duration = Duration::from_secs(60);
const QUEUE: &str = "SLIPRING_TEST_MQ";

/// A queue that is removed when this value is dropped.
struct Name(String, #[allow(dead_code, reason = "dropped after the queue")] QueuePermit);

impl Name {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Name(format!("/slipring-test-{}-{number}", std::process::id()), queue_permit())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = mq::remove(&self.0);
    }
}

/// Queues are removed when no participant uses them. If that happened between a sender's open and
/// its lock, the sender's frame would be lost.
#[test]
fn no_frame_is_lost_beside_a_remover() {
    let name = Name::new();
    let options = mq::Options::default().messages(4);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let empty = || mq::list().is_ok_and(|all| all.iter().any(|q| q.name == name.0 && q.bytes == 0));
                assert!(matches!(mq::remove_if_unused(&name.0, empty), Ok(_) | Err(Error::NotFound)));
            }
        });
        let _stop = StopOnDrop(&stop); // stops the thread if this one panics
        let lost = (0..300).filter(|_| {
            let mut tx = mq::Sender::open(&name.0, &options).unwrap();
            tx.send(Header::PLAIN, b"precious").unwrap();
            tx.close(Deadline::never()).unwrap();
            let mut rx = mq::Receiver::open(&name.0, &options).unwrap();
            let frame = rx.recv_deadline(Duration::from_secs(5)).is_ok();
            !(frame && matches!(rx.recv(), Err(Error::Closed))) // and the queue is empty
        });
        assert_eq!(lost.count(), 0, "of 300");
    });
}

fn payload(event: Event<'_>) -> Vec<u8> {
    match event {
        Event::Frame(frame) => frame.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_existing_queue_is_opened_unless_another_shape_was_requested() {
    let name = Name::new();
    let options = mq::Options::default();
    assert!(matches!(mq::Sender::open(&name.0, &options.clone().create(false)), Err(Error::NotFound)));
    let mut tx = mq::Sender::open(&name.0, &options.clone().messages(4).message_size(128)).unwrap();
    let mut rx = mq::Receiver::open(&name.0, &options).unwrap();
    for wrong in [options.clone().messages(5), options.clone().message_size(8192)] {
        assert!(matches!(mq::Sender::open(&name.0, &wrong), Err(Error::Incompatible { .. })));
    }
    // Frames of any size, although a message of the queue holds 512 bytes.
    let large: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tx.send(Header::PLAIN, &large).unwrap();
            tx.close(Deadline::never()).unwrap();
        });
        assert!(payload(rx.recv_deadline(SOON).unwrap()) == large);
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
    });
}

#[test]
fn an_error_names_the_system_limit_that_was_exceeded() {
    let name = Name::new();
    let unlimited = mq::Options::default().message_size(1 << 30);
    match mq::Sender::open(&name.0, &unlimited) {
        Err(error @ (Error::Incompatible { .. } | Error::Unsupported { .. })) => {
            let text = error.to_string();
            assert!(text.contains("msgsize_max") || text.contains("ulimit -q"), "{text}");
        }
        other => panic!("{:?}", other.err()),
    }
    for nothing in [mq::Options::default().messages(0), mq::Options::default().message_size(127)] {
        assert!(matches!(mq::Sender::open(&name.0, &nothing), Err(Error::Invalid { .. })));
    }
}

#[test]
fn control_frames_overtake_data_but_not_the_end() {
    let name = Name::new();
    let mut tx = mq::Sender::open(&name.0, &mq::Options::default()).unwrap();
    tx.send(Header::PLAIN, b"data").unwrap();
    tx.send(Header::control(control::DOORBELL, 0).unwrap(), b"").unwrap();
    tx.close(Deadline::never()).unwrap();
    let mut rx = mq::Receiver::open(&name.0, &mq::Options::default()).unwrap();
    assert!(matches!(rx.recv().unwrap(), Event::Frame(frame) if frame.header.kind == control::DOORBELL));
    assert_eq!(payload(rx.recv().unwrap()), b"data");
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

#[test]
fn one_receiver_at_a_time() {
    let name = Name::new();
    let rx = mq::Receiver::open(&name.0, &mq::Options::default()).unwrap();
    let second = mq::Receiver::open(&name.0, &mq::Options::default());
    assert!(matches!(second.err(), Some(Error::RoleTaken { .. })));
    drop(rx);
    assert!(mq::Receiver::open(&name.0, &mq::Options::default()).is_ok());
}

#[test]
fn queues_are_listed_and_removed() {
    let name = Name::new();
    let tx = mq::Sender::open(&name.0, &mq::Options::default().messages(3)).unwrap();
    match mq::list() {
        Ok(queues) => {
            let ours = |queues: Vec<mq::Listed>| queues.into_iter().find(|queue| queue.name == name.0).unwrap();
            let queue = ours(queues);
            assert_eq!((queue.messages, queue.in_use), (3, true));
            assert!(queue.bytes > 0, "HELLO is in it");
            drop(tx);
            assert!(!ours(mq::list().unwrap()).in_use);
        }
        Err(Error::Unsupported { what }) => assert!(what.contains("mount -t mqueue"), "{what}"),
        Err(error) => panic!("{error}"),
    }
    mq::remove(&name.0).unwrap();
    assert!(matches!(mq::remove(&name.0), Err(Error::NotFound)));
}

/// Not a test: a sender that begins a frame that does not fit into the queue, and is killed.
#[test]
fn sending_process() {
    let Ok(name) = std::env::var(QUEUE) else { return };
    let mut tx = mq::Sender::open(&name, &mq::Options::default()).unwrap();
    tx.send(Header::PLAIN, b"whole").unwrap();
    tx.send(Header::PLAIN, &[1; 1_000_000]).unwrap();
}

#[test]
fn a_sender_killed_in_mid_frame_leaves_whole_frames_and_an_end() {
    let name = Name::new();
    let mut rx = mq::Receiver::open(&name.0, &mq::Options::default()).unwrap();
    let mut child = this_test(module_path!(), "sending_process")
        .env(QUEUE, &name.0)
        .arg0("sender")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(payload(rx.recv_deadline(SOON).unwrap()), b"whole");
    wait_until_asleep(&child); // the queue is full of the large frame's fragments
    child.kill().unwrap();
    child.wait().unwrap();
    match rx.recv_deadline(SOON) {
        Ok(Event::Skipped { bytes, .. }) => assert!((1..1_000_000).contains(&bytes)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
    // Another sender may begin.
    let mut tx = mq::Sender::open(&name.0, &mq::Options::default()).unwrap();
    tx.send(Header::PLAIN, b"again").unwrap();
    assert_eq!(payload(rx.recv_deadline(SOON).unwrap()), b"again");
}
