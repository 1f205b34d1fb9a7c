//! Signals that interrupt system calls again and again (no `SA_RESTART`). Calls must still notice
//! deaths and deadlines, and still make progress. The signals go to one thread, so that the tests
//! of this file do not disturb each other.

use std::os::unix::thread::JoinHandleExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slipring::endpoint::Endpoint;
use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiverExt, mq, sysv};
use slipring::{Error, Options, Ring};

use crate::common::address::unused_address;
use crate::common::queues::{QueuePermit, queue_permit};
use crate::common::this_test::this_test;

const SENDER: &str = "SLIPRING_TEST_INTERRUPTED";
const SOON: Duration = Duration::from_secs(60);
/// The interruptions stop after this time at the latest, if the call has not ended by then.
const LONG: Duration = Duration::from_secs(20);

extern "C" fn ignore(_: i32) {}

fn catch_signals() {
    // SAFETY: a structure of integers and pointers, for which all zeros is a valid value: no flags,
    // so no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as *const () as usize;
    // SAFETY: `action` outlives the call; its handler does nothing.
    assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) }, 0);
}

/// Runs `work` in a thread that meanwhile gets a signal every `pause`. Also returns whether it
/// ended within [`LONG`].
fn interrupted<T: Send + 'static>(pause: Duration, work: impl FnOnce() -> T + Send + 'static) -> (T, bool) {
    catch_signals();
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let theirs = std::sync::Arc::clone(&done);
    let thread = std::thread::spawn(move || {
        let result = work();
        theirs.store(true, Ordering::Release);
        result
    });
    let start = Instant::now();
    while !done.load(Ordering::Acquire) && start.elapsed() < LONG {
        // SAFETY: the thread has not been joined, so its handle is valid even if the thread has
        // ended.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
        std::thread::sleep(pause);
    }
    let in_time = done.load(Ordering::Acquire);
    (thread.join().unwrap(), in_time)
}

/// A directory, a queue and a key that this test owns, and removes when dropped.
struct Place(PathBuf, String, #[allow(dead_code, reason = "dropped after the queue")] QueuePermit);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("slipring-interrupted-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(&name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("key"), b"").unwrap();
        Place(path, name, queue_permit())
    }

    /// The receiver's and the sender's endpoint.
    fn endpoints(&self) -> Vec<(String, String)> {
        let at = |scheme: &str, file: &str| format!("{scheme}:{}", self.0.join(file).display());
        let same = |endpoint: String| (endpoint.clone(), endpoint);
        vec![
            same(format!("mq:/{}", self.1)),
            same(at("sysv", "key")),
            same(at("dgram", "dgram")),
            same(at("fifo", "fifo")),
            same(format!("udp:{}", unused_address())),
            (at("seqpacket", "seqpacket") + "?listen", at("seqpacket", "seqpacket")),
            (at("unix", "unix") + "?listen", at("unix", "unix")),
        ]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = mq::remove(&format!("/{}", self.1));
        let _ = sysv::Key::path(&self.0.join("key")).and_then(sysv::remove);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Not a test: a sender that sends one frame and then stays attached.
#[test]
fn sending_process() {
    let Ok(endpoint) = std::env::var(SENDER) else { return };
    let mut tx = Endpoint::parse(&endpoint).unwrap().open_sender(SOON).unwrap();
    tx.send(Header::PLAIN, b"hello").unwrap();
    std::thread::sleep(10 * SOON);
}

fn start(endpoint: &str) -> Child {
    let mut command = this_test(module_path!(), "sending_process");
    command.env(SENDER, endpoint).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn receivers_notice_a_killed_sender_under_signals() {
    let place = Place::new();
    for (from, to) in place.endpoints() {
        let mut child = start(&to);
        let mut rx = Endpoint::parse(&from).unwrap().open_receiver(SOON).unwrap();
        assert!(matches!(rx.recv_deadline(SOON), Ok(Event::Frame(frame)) if frame.payload == b"hello"), "{from}");
        let (end, in_time) = interrupted(Duration::from_millis(5), move || {
            child.kill().unwrap();
            child.wait().unwrap();
            rx.recv().map(|event| format!("{event:?}"))
        });
        assert!(matches!(end, Err(Error::PeerDead)), "{from}: {end:?}");
        assert!(in_time, "{from}: noticed only after the signals had stopped");
    }
}

#[test]
fn deadlines_hold() {
    let place = Place::new();
    for (from, to) in place.endpoints() {
        let mut child = start(&to);
        let mut rx = Endpoint::parse(&from).unwrap().open_receiver(SOON).unwrap();
        assert!(rx.recv_deadline(SOON).is_ok(), "{from}");
        for wait in [20, 130].map(Duration::from_millis) {
            let (end, in_time);
            ((end, rx), in_time) = interrupted(Duration::from_millis(1), move || {
                let end = rx.recv_deadline(wait).map(|event| format!("{event:?}"));
                (end, rx)
            });
            assert!(matches!(end, Err(Error::Timeout)), "{from}: {end:?}");
            assert!(in_time, "{from}: noticed only after the signals had stopped");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn memory_is_allocated_under_signals() {
    let (made, in_time) = interrupted(Duration::from_micros(500), || {
        Ring::create_anonymous(&Options::spsc(64 << 20)).map(|ring| ring.capacity())
    });
    assert_eq!(made.unwrap(), 64 << 20);
    assert!(in_time);
}
