//! What only System V queues have: keys, removal while they are used, seats, waiting without a
//! descriptor.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::transport::sysv::{self, Key, Options, Receiver, Sender};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

use crate::common::asleep::wait_until_asleep;
use crate::common::stop::StopOnDrop;
use crate::common::this_test::this_test;

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "SLIPRING_TEST_SYSV";
const EXEC_KEY: &str = "SLIPRING_TEST_SYSV_EXEC";
const LIFE: &str = "SLIPRING_TEST_SYSV_LIFE";
const END: &str = "SLIPRING_TEST_SYSV_END";

/// A file whose key no other test uses. Dropping it removes the file and its queue.
struct File(PathBuf);

impl File {
    fn new() -> (Self, Key) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let file = File(std::env::temp_dir().join(format!("slipring-sysv-{}-{number}", std::process::id())));
            std::fs::write(&file.0, b"").unwrap();
            let key = Key::path(&file.0).unwrap();
            // A key has only 16 bits of the inode: it may collide with the queue of another file.
            if matches!(Sender::open(key, &Options::default().create(false)).err(), Some(Error::NotFound)) {
                return (file, key);
            }
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = Key::path(&self.0).and_then(sysv::remove);
        let _ = std::fs::remove_file(&self.0);
    }
}

fn payload(event: Event<'_>) -> Vec<u8> {
    match event {
        Event::Frame(frame) => frame.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Not an orderly end: there may have been messages in the queue.
fn is_removed(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

#[test]
fn removing_a_queue_ends_the_calls_that_wait_on_it() {
    let (_file, key) = File::new();
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    let mut tx = Sender::open(key, &Options::default()).unwrap();
    std::thread::scope(|scope| {
        // One caller waits for a message, the other for room in a full queue.
        let received = scope.spawn(|| {
            loop {
                match rx.recv() {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            }
        });
        while sysv::list().unwrap().iter().any(|queue| queue.key == key && queue.messages > 0) {
            std::thread::yield_now(); // until HELLO was received
        }
        sysv::remove(key).unwrap();
        assert!(is_removed(&received.join().unwrap()));
    });
    assert!(matches!(tx.send(Header::PLAIN, b"too late"), Err(Error::Closed)));
    assert!(is_removed(&rx.try_recv().unwrap_err()));
    assert!(matches!(sysv::remove(key), Err(Error::NotFound)));
}

/// Queues are removed when no participant uses them. If that happened between a sender's open and
/// its seat, the sender's frame would be lost.
#[test]
fn no_frame_is_lost_beside_a_remover() {
    let (_file, key) = File::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let removed = sysv::remove_if_unused(key, |messages| messages == 0);
                // Incompatible: a queue that was just created has no semaphores yet, or they are
                // not marked yet.
                let fine = matches!(removed, Ok(_) | Err(Error::NotFound | Error::Incompatible { .. }));
                assert!(fine, "{removed:?}");
            }
        });
        let _stop = StopOnDrop(&stop); // stops the thread if this one panics
        let lost = (0..300).filter(|_| {
            let mut tx = Sender::open(key, &Options::default()).unwrap();
            tx.send(Header::PLAIN, b"precious").unwrap();
            tx.close(Deadline::never()).unwrap();
            let mut rx = Receiver::open(key, &Options::default()).unwrap();
            let frame = rx.recv_deadline(Duration::from_secs(5)).is_ok();
            !(frame && matches!(rx.recv(), Err(Error::Closed)))
        });
        assert_eq!(lost.count(), 0, "of 300");
    });
}

#[test]
fn one_receiver_at_a_time_and_all_participants_are_counted() {
    let (_file, key) = File::new();
    let rx = Receiver::open(key, &Options::default()).unwrap();
    assert!(matches!(Receiver::open(key, &Options::default()).err(), Some(Error::RoleTaken { .. })));
    let senders = [(); 2].map(|()| Sender::open(key, &Options::default()).unwrap());
    let listed = || sysv::list().unwrap().into_iter().find(|queue| queue.key == key).unwrap();
    assert_eq!((listed().senders, listed().receivers, listed().messages), (2, 1, 2));
    assert!(listed().bytes > 0);
    drop(rx);
    drop(senders);
    assert_eq!((listed().senders, listed().receivers, listed().messages), (0, 0, 4));
    // Their messages are still queued: two HELLO, two BYE.
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    assert!(matches!(rx.recv(), Err(Error::Closed)));
}

#[test]
fn deadlines_are_kept_with_and_without_blocking() {
    let (_file, key) = File::new();
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    for wait in [0, 1, 20, 150, 300].map(Duration::from_millis) {
        let start = Instant::now();
        assert!(matches!(rx.recv_deadline(wait), Err(Error::Timeout)));
        assert!(start.elapsed() >= wait, "{:?} of {wait:?}", start.elapsed());
    }
}

#[test]
fn frames_larger_than_a_message_and_than_the_queue() {
    let (_file, key) = File::new();
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    let mut tx = Sender::open(key, &Options::default()).unwrap();
    let large: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            tx.send(Header { stream: u16::MAX, ..Header::PLAIN }, &large).unwrap();
            tx.close(Deadline::never()).unwrap();
        });
        assert!(payload(rx.recv_deadline(SOON).unwrap()) == large);
        assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
    });
}

/// Not a test: a sender that begins a frame that does not fit into the queue, and is killed.
#[test]
fn sending_process() {
    let Ok(key) = std::env::var(KEY) else { return };
    let mut tx = Sender::open(Key::parse(&key).unwrap(), &Options::default()).unwrap();
    tx.send(Header::PLAIN, b"whole").unwrap();
    if std::env::var_os(END).is_none() {
        tx.send(Header::PLAIN, &[1; 1_000_000]).unwrap();
    }
}

fn start(key: Key) -> Command {
    let mut command = this_test(module_path!(), "sending_process");
    command.env(KEY, key.get().to_string()).stdout(Stdio::null());
    command
}

/// Not a test: a receiver that executes its own program again in the same process, without closing,
/// and takes over its seat.
#[test]
fn receiving_process() {
    let (Ok(key), Ok(life)) = (std::env::var(EXEC_KEY), std::env::var(LIFE)) else { return };
    let key = Key::parse(&key).unwrap();
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    let second = Receiver::open(key, &Options::default()).err();
    assert!(matches!(second, Some(Error::RoleTaken { .. })), "{second:?}");
    assert_eq!(payload(rx.recv_deadline(SOON).unwrap()), life.as_bytes());
    if life == "first" {
        let error = this_test(module_path!(), "receiving_process").env(LIFE, "second").exec();
        panic!("{error}");
    }
    drop(rx);
    assert!(Receiver::open(key, &Options::default()).is_ok());
}

#[test]
fn a_receiver_keeps_its_role_across_exec() {
    let (_file, key) = File::new();
    let mut tx = Sender::open(key, &Options::default()).unwrap();
    let mut child = this_test(module_path!(), "receiving_process")
        .envs([(EXEC_KEY, key.get().to_string()), (LIFE, "first".into())])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    tx.send(Header::PLAIN, b"first").unwrap();
    tx.flush(SOON).unwrap();
    // The second program is waiting now; the seat still belongs to the process.
    while sysv::list().unwrap().iter().any(|queue| queue.key == key && queue.messages > 0) {
        std::thread::yield_now();
    }
    let other = Receiver::open(key, &Options::default()).err();
    assert!(matches!(other, Some(Error::RoleTaken { .. })), "{other:?}");
    tx.send(Header::PLAIN, b"second").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(Receiver::open(key, &Options::default()).is_ok());
}

#[test]
fn a_sender_killed_in_mid_frame_leaves_whole_frames_and_an_end() {
    let (_file, key) = File::new();
    let mut rx = Receiver::open(key, &Options::default()).unwrap();
    let mut child = start(key).spawn().unwrap();
    assert_eq!(payload(rx.recv_deadline(SOON).unwrap()), b"whole");
    wait_until_asleep(&child); // the queue is full of the large frame's fragments
    // This end blocks without a deadline meanwhile.
    std::thread::scope(|scope| {
        let rest = scope.spawn(|| match rx.recv() {
            Ok(Event::Skipped { bytes, .. }) => (bytes, rx.recv().map(|event| format!("{event:?}"))),
            other => panic!("{other:?}"),
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let (bytes, end) = rest.join().unwrap();
        assert!((1..1_000_000).contains(&bytes), "{bytes}");
        assert!(matches!(end, Err(Error::PeerDead)), "{end:?}");
    });
    // Another sender may begin, and end in order.
    assert!(start(key).env(END, "").status().unwrap().success());
    assert_eq!(payload(rx.recv_deadline(SOON).unwrap()), b"whole");
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::Closed)));
}
