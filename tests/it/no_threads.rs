//! Where no thread can be started, calls that need one return a typed error, and nothing panics.
//!
//! A process of its own drops root, to which no limit applies. It becomes a user that no other
//! process has, with a limit of one process or thread. Where that cannot be done, the test prints
//! why and is skipped.

use std::process::Stdio;
use std::time::Duration;

use slipring::frame::{Event, Header};
use slipring::transport::sysv::{self, Key};
use slipring::transport::{Doorbell, FrameDoorbell, FrameReceiver, FrameReceiverExt, FrameSender, ring};
use slipring::{Error, Options, Ring, mpmc, spsc};

use crate::common::this_test::this_test;

const LIMITED: &str = "SLIPRING_TEST_NO_THREADS";
/// Far longer than any call here takes.
const SOON: Duration = Duration::from_secs(60);

/// The user that this process becomes: a number derived from the process id, outside the ranges
/// that are assigned.
fn unused_user() -> libc::uid_t {
    1_500_000_000 + std::process::id()
}

/// Leaves this process no further thread, or returns why that cannot be done.
fn give_up_threads() -> Result<(), String> {
    let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    let user = unused_user();
    // SAFETY: a valid limit.
    let limited = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const one) };
    // SAFETY: a plain number.
    if limited != 0 || unsafe { libc::setuid(user) } != 0 {
        return Err(format!("cannot become user {user}: {}", std::io::Error::last_os_error()));
    }
    match std::thread::Builder::new().spawn(|| ()) {
        Ok(thread) => thread.join().map_or(Ok(()), |()| Err("the limit has no effect".into())),
        Err(_) => Ok(()),
    }
}

#[track_caller]
fn is_refused<T>(outcome: slipring::Result<T>) {
    match outcome {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock, "{source}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a thread was started"),
    }
}

/// A queue of System V that is removed when this value is dropped.
struct Queue(Key);

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = sysv::remove(self.0);
    }
}

/// Not a test: the process without threads. It must run this on its main and only thread.
#[test]
fn limited_process() {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    // What has to be created before the limit holds: the receiver of a queue starts its thread
    // late.
    let rings = [Options::spsc(4096), Options::mpmc(8, 64)].map(|options| Ring::create_anonymous(&options).unwrap());
    if let Err(reason) = give_up_threads() {
        println!("SKIPPED: {reason}");
        return;
    }
    for ring in &rings {
        is_refused(Doorbell::eventfd(ring));
        let (sender, _) = spsc::pair(4096).unwrap();
        is_refused(FrameDoorbell::new(ring, Box::new(ring::Sender::from(sender))));
        is_refused(ring::Receiver::attach(ring).unwrap().with_doorbell());
    }
    // The ring is unchanged, and the refused participant has detached.
    let (tx, rx) = (mpmc::Producer::attach(&rings[1]).unwrap(), mpmc::Consumer::attach(&rings[1]).unwrap());
    tx.try_send(b"works").unwrap();
    assert_eq!(&*rx.try_recv().unwrap(), b"works");
    let queue = Queue(Key::number(0x4000_0000 | std::process::id()).unwrap());
    let mut receiver = sysv::Receiver::open(queue.0, &sysv::Options::default()).unwrap();
    let mut sender = sysv::Sender::open(queue.0, &sysv::Options::default()).unwrap();
    is_refused(receiver.recv_deadline(SOON).map(drop));
    // Calls that need no thread still work.
    sender.try_send(Header::PLAIN, b"works").unwrap();
    assert!(matches!(receiver.try_recv(), Ok(Event::Frame(frame)) if frame.payload == b"works"));
    println!("REFUSED");
}

#[test]
fn a_call_that_needs_a_thread_reports_that_none_can_be_started() {
    let limited =
        this_test(module_path!(), "limited_process").env(LIMITED, "1").stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success(), "{said}");
    match said.lines().find(|line| line.contains("SKIPPED: ")) {
        Some(reason) => println!("{reason}"),
        None => assert!(said.contains("REFUSED"), "{said}"),
    }
}
