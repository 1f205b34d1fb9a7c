//! fork without exec: a child has copies of its parent's handles, but may not use them.
//!
//! Each test forks a *parent*, which opens handles and forks a *child*. The child tries its copies,
//! and lives on while the parent is killed. What must hold: the child's calls are refused, and the
//! parent's death is noticed at once although the child lives.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use slipring::frame::Header;
use slipring::transport::stream::Options as StreamOptions;
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt, fifo, mq, ring};
use slipring::{Error, Mutex, Options, Ring, Semaphore, mpmc, spsc, stream};

use crate::common::dir::TestDir;
use crate::common::queues::queue_permit;

const SOON: Duration = Duration::from_secs(30);

/// A parent that has been killed. Its child lives as long as this value.
struct Orphan {
    _alive: UnixStream,
}

/// Runs `open` in a forked process, which forks again and runs `try_copies` in the child. Then
/// kills the first process.
fn orphan<T>(open: impl FnOnce() -> T, try_copies: impl FnOnce(T) -> bool) -> Orphan {
    let (alive, stay) = UnixStream::pair().unwrap();
    let (mut report, tell) = UnixStream::pair().unwrap();
    let parent = fork(|| {
        let opened = open();
        // This child is not waited for: it outlives its parent.
        fork(|| {
            // SAFETY: the child's own copy of the descriptor. Nothing else closes it: the child
            // ends by `_exit`.
            unsafe { libc::close(stay.as_raw_fd()) };
            say(&tell, try_copies(opened));
            hold(&alive);
        });
        hold(&alive);
    });
    drop(tell);
    let mut answer = [0];
    report.read_exact(&mut answer).expect("the child reports");
    // SAFETY: kills a process that was just forked and not waited for.
    unsafe { libc::kill(parent, libc::SIGKILL) };
    let mut status = 0;
    // SAFETY: `parent` is a child of this process, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(parent, &raw mut status, 0) }, parent);
    assert_eq!(answer, [1], "a call on a copy in the child was not refused");
    Orphan { _alive: stay }
}

fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the C library keeps its allocator usable in the child; `body` takes no lock of
    // another thread.
    match unsafe { libc::fork() } {
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child at once, without the exit handlers of the test harness.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        pid => {
            std::mem::forget(body); // what it owns is neither closed nor released here
            assert!(pid > 0, "fork");
            pid
        }
    }
}

fn say(mut socket: &UnixStream, refused: bool) {
    socket.write_all(&[u8::from(refused)]).unwrap();
}

/// Blocks until all copies of the other end are closed.
fn hold(mut socket: &UnixStream) {
    let _ = socket.read(&mut [0]);
}

fn is_forked<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Forked))
}

#[test]
fn the_death_of_a_byte_rings_producer_is_noticed_though_its_child_lives() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let mut rx = spsc::Consumer::attach(&ring).unwrap();
    let child = orphan(
        || {
            let mut tx = spsc::Producer::attach(&ring).unwrap();
            tx.try_send(b"parent's").unwrap();
            tx
        },
        |mut tx| {
            let refused = is_forked(tx.try_send(b"child's").map(drop))
                && is_forked(tx.send(b"child's"))
                && is_forked(tx.try_reserve(8).map(drop))
                && is_forked(tx.batch().push(b"child's"));
            drop(tx);
            refused
        },
    );
    assert_eq!(&*rx.recv_deadline(SOON).unwrap(), b"parent's");
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
    spsc::Producer::attach(&ring).expect("the role is free");
    drop(child);
}

#[test]
fn grants_batches_and_views_have_no_effect_in_a_child() {
    let (mut tx, mut rx) = spsc::pair(4096).unwrap();
    tx.try_send(b"first").unwrap();
    let (many_tx, many_rx) = mpmc::pair(8, 64).unwrap();
    many_tx.try_send(b"first").unwrap();
    {
        let mut grant = tx.try_reserve(5).unwrap();
        let view = rx.try_recv().unwrap();
        let mut many_grant = many_tx.try_reserve(5).unwrap();
        let many_view = many_rx.try_recv().unwrap();
        grant.copy_from_slice(b"grant");
        many_grant.copy_from_slice(b"grant");
        let both_ends = mpmc::pair(8, 64).unwrap();
        both_ends.0.try_send(b"x").unwrap();
        let status = wait_for(fork(|| {
            drop(view);
            drop(many_view);
            grant.commit(5);
            many_grant.commit(5);
            assert!(is_forked(both_ends.1.try_recv().map(drop)));
            assert!(is_forked(both_ends.0.try_send(b"y")));
        }));
        assert_eq!(status, 0);
        std::mem::forget(both_ends);
    }
    // The parent's own grants and views were forgotten, so nothing has been sent or released.
    assert_eq!(ring_counts(tx.ring()), (1, 0));
    assert_eq!(ring_counts(many_tx.ring()), (1, 0));
    assert_eq!(&*rx.try_recv().unwrap(), b"first");
    assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)));
    drop((many_tx, many_rx));
}

fn ring_counts(ring: &Ring) -> (u64, u64) {
    let counts = ring.stats().counts;
    (counts.sent, counts.received)
}

fn wait_for(pid: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: `pid` is a child of this process, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

#[test]
fn the_death_of_a_work_queues_consumer_is_noticed_though_its_child_lives() {
    let ring = Ring::create_anonymous(&Options::mpmc(8, 64)).unwrap();
    let tx = mpmc::Producer::attach(&ring).unwrap();
    let rx = mpmc::Consumer::attach(&ring).unwrap();
    tx.try_send(b"job").unwrap();
    let child = orphan(
        || {
            let rx = mpmc::Consumer::attach(&ring).unwrap();
            std::mem::forget(rx.try_recv().unwrap());
            rx
        },
        |rx| is_forked(rx.try_recv().map(drop)) && is_forked(rx.recv_batch(2).map(drop)),
    );
    let again = rx.recv_deadline(SOON).unwrap();
    assert!(again.header().flags.contains(slipring::frame::Flags::REDELIVERED));
    drop(child);
}

#[test]
fn the_death_of_a_streams_ends_is_noticed_though_their_child_lives() {
    let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
    let mut rx = stream::Consumer::attach(&ring).unwrap();
    let child = orphan(
        || stream::Producer::attach(&ring).unwrap(),
        |mut tx| {
            is_forked(tx.try_write(b"child's"))
                && is_forked(tx.write_all(b"x"))
                && is_forked(tx.try_reserve(1).map(drop))
        },
    );
    assert!(matches!(rx.read_deadline(&mut [0; 8], SOON), Err(Error::PeerDead)));
    drop((child, rx));
    let mut tx = stream::Producer::attach(&ring).unwrap();
    tx.try_write(b"bytes").unwrap();
    let child = orphan(
        || stream::Consumer::attach(&ring).unwrap(),
        |mut rx| is_forked(rx.try_read(&mut [0; 8])) && is_forked(rx.try_read_view(1).map(drop)),
    );
    stream::Consumer::attach(&ring).expect("the role is free");
    drop(child);
}

#[test]
fn a_child_may_read_and_changes_nothing() {
    let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
    let rx = stream::Consumer::attach(&ring).unwrap();
    let child = orphan(
        || {
            let mut tx = stream::Producer::attach(&ring).unwrap();
            tx.try_write(b"bytes").unwrap();
            tx
        },
        |tx| tx.len() == 5 && !tx.is_full() && tx.has_peer() && tx.ring().stats().used() == 5,
    );
    assert_eq!(rx.len(), 5);
    drop((child, rx));
    let child =
        orphan(|| stream::Consumer::attach(&ring).unwrap(), |rx| rx.len() == 5 && rx.ring().stats().used() == 5);
    drop(child);
}

#[test]
fn a_child_cannot_mark_its_parents_mutex_as_consistent() {
    let mutex = Mutex::create_anonymous(8).unwrap();
    let fd = || mutex.as_fd().try_clone_to_owned().unwrap();
    let child = orphan(
        || {
            let mutex = Mutex::from_fd(fd()).unwrap();
            std::mem::forget(mutex.lock().unwrap());
            mutex
        },
        |mutex| mutex.len() == 8 && !mutex.is_empty(),
    );
    let locked = mutex.lock_deadline(SOON).unwrap();
    assert!(locked.owner_died());
    let mut guard = locked.into_guard();
    let marker = fork(|| guard.mark_consistent());
    assert_eq!(wait_for(marker), 0);
    drop(guard);
    assert!(mutex.lock_deadline(SOON).unwrap().owner_died(), "its owner has not said so");
    drop(child);
}

#[test]
fn locks_and_permits_of_a_dead_parent_are_recovered_though_its_child_lives() {
    let (mutex, semaphore) = (Mutex::create_anonymous(8).unwrap(), Semaphore::create_anonymous(1).unwrap());
    let fd = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let child = orphan(
        || {
            let mutex = Mutex::from_fd(fd(mutex.as_fd())).unwrap();
            let semaphore = Semaphore::from_fd(fd(semaphore.as_fd())).unwrap();
            std::mem::forget(mutex.lock().unwrap());
            std::mem::forget(semaphore.acquire().unwrap());
            (mutex, semaphore)
        },
        |(mutex, semaphore)| {
            is_forked(mutex.try_lock().map(drop))
                && is_forked(semaphore.try_acquire().map(drop))
                && is_forked(mutex.reap_dead())
        },
    );
    assert!(mutex.lock_deadline(SOON).unwrap().owner_died());
    drop(semaphore.acquire_deadline(SOON).unwrap());
    drop(child);
}

#[test]
fn the_death_of_a_queues_ends_is_noticed_though_their_child_lives() {
    let _permit = queue_permit();
    let name = format!("/slipring-fork-{}", std::process::id());
    let options = mq::Options::default();
    let mut rx = match mq::Receiver::open(&name, &options) {
        Err(Error::Unsupported { what }) => return eprintln!("skipped: {what}"),
        opened => opened.unwrap(),
    };
    let child = orphan(
        || {
            let mut tx = mq::Sender::open(&name, &options).unwrap();
            tx.send(Header::PLAIN, b"parent's").unwrap();
            tx
        },
        |mut tx| is_forked(tx.try_send(Header::PLAIN, b"child's")) && is_forked(tx.flush(SOON)),
    );
    assert!(rx.recv_deadline(SOON).is_ok());
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
    drop((child, rx));
    let child = orphan(|| mq::Receiver::open(&name, &options).unwrap(), |mut rx| is_forked(rx.try_recv().map(drop)));
    mq::Receiver::open(&name, &options).expect("the role is free");
    mq::remove(&name).unwrap();
    drop(child);
}

/// A child that has copies of all descriptors and runs no fork handlers: what `Command::spawn`
/// makes, before its `execve`. Killed when dropped.
struct Starting(libc::pid_t);

impl Starting {
    fn new() -> Self {
        // SAFETY: the child calls `pause` only.
        match unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } {
            0 => loop {
                // SAFETY: a system call without arguments.
                unsafe { libc::pause() };
            },
            pid => {
                assert!(pid > 0, "clone");
                Starting(pid as libc::pid_t)
            }
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // SAFETY: kills a child that has not been waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        wait_for(self.0);
    }
}

#[test]
fn a_role_is_free_at_once_while_a_child_that_is_being_started_has_copies() {
    let dir = TestDir::new("fork-roles");
    let (fifo, options) = (dir.0.join("fifo"), StreamOptions::new());
    let rx = fifo::receiver(&fifo, &options).unwrap();
    let _child = Starting::new();
    drop(rx);
    fifo::receiver(&fifo, &options).expect("the role is free");

    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let tx = spsc::Producer::attach(&ring).unwrap();
    let mutex = Mutex::create_anonymous(8).unwrap();
    let other = Mutex::from_fd(mutex.as_fd().try_clone_to_owned().unwrap()).unwrap();
    std::mem::forget(other.lock().unwrap());
    let _child = Starting::new();
    drop(tx);
    spsc::Producer::attach(&ring).expect("the role is free");
    drop(other);
    assert!(mutex.try_lock().unwrap().is_some_and(|locked| locked.owner_died()), "a leaked guard ends with its handle");

    let _permit = queue_permit();
    let name = format!("/slipring-fork-roles-{}", std::process::id());
    let options = mq::Options::default().messages(2);
    let rx = match mq::Receiver::open(&name, &options) {
        Err(Error::Unsupported { what }) => return eprintln!("skipped: {what}"),
        opened => opened.unwrap(),
    };
    let _child = Starting::new();
    drop(rx);
    let opened = mq::Receiver::open(&name, &options).map(drop);
    mq::remove(&name).unwrap();
    opened.expect("the role is free");
}

#[test]
fn a_child_can_drop_its_copy_of_a_receiver_with_a_doorbell() {
    let (mut tx, rx) = spsc::pair(4096).unwrap();
    let mut rx = ring::Receiver::from(rx).with_doorbell().unwrap();
    assert!(matches!(rx.try_recv(), Err(Error::Empty)), "armed");
    let status = wait_for(fork(|| {
        assert!(is_forked(rx.try_recv().map(drop)) && is_forked(rx.recv_deadline(SOON).map(drop)));
        // SAFETY: the child's own copy, read once; the parent's copy is untouched.
        drop(unsafe { std::ptr::read(&rx) });
    }));
    assert_eq!(status, 0);
    tx.send(b"to the parent").unwrap();
    assert!(rx.recv_deadline(SOON).is_ok());
}

#[test]
fn an_untrusting_consumer_is_refused_in_a_child() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    spsc::Producer::attach(&ring).unwrap().try_send(b"stranger's").unwrap();
    let passed = ring.as_fd().try_clone_to_owned().unwrap();
    let mut rx = spsc::UntrustedConsumer::from_fd(passed).unwrap();
    assert_eq!(wait_for(fork(|| assert!(is_forked(rx.try_recv_into(&mut [0; 64]))))), 0);
    rx.try_recv_into(&mut [0; 64]).unwrap();
}
