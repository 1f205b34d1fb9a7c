//! Every kind of ring, and the semaphores, mutexes and events, between two containers in which both
//! processes have the pid 1: frames, wake-ups, deaths, and what observers are told.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;

use slipring::broadcast::{Publisher, Start, Subscriber};
use slipring::endpoint::Endpoint;
use slipring::frame::{Event as Incoming, Header};
use slipring::transport::{FrameReceiverExt, FrameSenderExt};
use slipring::{
    Error, Event, Mutex, Options, PidNamespace, Ring, Semaphore, SignalSemaphore, Token, WaitSet, latest, mpmc, mpsc,
    spsc, stream,
};

use super::{Container, Member, PLAIN, ROOTLESS, SOON, TIME, member as program, questions, say};
use crate::common::dir::TestDir;
use crate::common::tasks::block_on;

const RINGS: [&str; 6] = ["spsc", "mpmc", "mpsc", "stream", "broadcast", "latest"];
/// More than fit into any of the rings, so that both sides wait.
const FRAMES: u64 = 500;
const FDS: &str = "SLIPRING_CONTAINER_FDS";

fn options(kind: &str) -> Options {
    match kind {
        "spsc" => Options::spsc(4096),
        "mpmc" => Options::mpmc(16, 8),
        "mpsc" => Options::mpsc(4096, 4),
        "stream" => Options::stream(4096),
        "broadcast" => Options::broadcast(4096),
        "latest" => Options::latest(1, 8),
        other => panic!("{other}"),
    }
}

/// The descriptor with which this process was started for `kind`, if it was.
fn passed(kind: &str) -> Option<OwnedFd> {
    let list = std::env::var(FDS).ok()?;
    let number: RawFd = list.split(' ').find_map(|entry| entry.strip_prefix(kind)?.strip_prefix('='))?.parse().unwrap();
    // SAFETY: our parent has opened it for us, and it stays open.
    Some(unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap())
}

fn ring(kind: &str) -> Ring {
    match passed(kind) {
        Some(fd) => Ring::from_fd(fd, &options(kind)).unwrap(),
        None => Ring::open(kind, &options(kind)).unwrap(),
    }
}

macro_rules! named {
    ($type:ident, $name:literal) => {
        match passed($name) {
            Some(fd) => $type::from_fd(fd).unwrap(),
            None => $type::open($name).unwrap(),
        }
    };
}

/// What an observer is told about all rings: nothing that lives is dead, and whose pid it sees.
fn describe() -> String {
    let mut seen = HashMap::<String, usize>::new();
    for kind in RINGS {
        let ring = ring(kind);
        for participant in ring.participants().unwrap() {
            let life = if participant.alive { "alive" } else { "dead" };
            let namespace = participant.pid_namespace;
            // What is known of a process is right.
            match namespace {
                PidNamespace::Own => assert!(!participant.alive || participant.comm.is_some(), "{participant:?}"),
                _ => assert_eq!((&participant.comm, participant.process), (&None, None), "of another process"),
            }
            *seen.entry(format!("{} {life} pid {}", namespace.name(), participant.pid)).or_default() += 1;
        }
        assert_eq!(ring.reap_dead().unwrap(), 0, "{kind}");
        assert!(!ring.is_idle().unwrap());
    }
    let mut seen: Vec<_> = seen.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    seen.sort();
    seen.join(", ")
}

pub fn member(role: &str) {
    match role {
        "create" => {
            drop((Semaphore::create("semaphore", 1).unwrap(), SignalSemaphore::create("signal").unwrap()));
            drop((Mutex::create("mutex", 8).unwrap(), Event::create("event").unwrap()));
        }
        "send" => send(),
        "recv" => recv(),
        "listen" | "connect" => converse(role == "listen"),
        other => panic!("{other}"),
    }
}

fn send() {
    let mut spsc = spsc::Producer::attach(&ring("spsc")).unwrap();
    let mpmc = mpmc::Producer::attach(&ring("mpmc")).unwrap();
    let mut mpsc = mpsc::Producer::attach(&ring("mpsc")).unwrap();
    let mut stream = stream::Producer::attach(&ring("stream")).unwrap();
    let mut publisher = Publisher::attach(&ring("broadcast")).unwrap();
    let mut board = latest::Writer::attach(&ring("latest")).unwrap();
    let (semaphore, signal) = (named!(Semaphore, "semaphore"), named!(SignalSemaphore, "signal"));
    let (mutex, event) = (named!(Mutex, "mutex"), named!(Event, "event"));
    say("ready");
    let (mut permit, mut guard) = (None, None);
    for question in questions() {
        match &*question {
            "go" => {
                permit = Some(semaphore.acquire().unwrap());
                guard = Some(mutex.lock().unwrap().into_guard());
                event.set().unwrap();
                for n in (0..FRAMES).map(u64::to_le_bytes) {
                    spsc.send_deadline(&n, SOON).unwrap();
                    mpmc.send_deadline(&n, SOON).unwrap();
                    mpsc.send_deadline(&n, SOON).unwrap();
                    stream.write_all_deadline(&n, SOON).unwrap();
                    publisher.send_deadline(&n, SOON).unwrap();
                    board.write(0, &n).unwrap();
                    signal.post().unwrap();
                }
                say("done");
            }
            "look" => say(describe()),
            other => panic!("{other}"),
        }
    }
    drop((permit, guard));
}

fn recv() {
    let mut spsc = spsc::Consumer::attach(&ring("spsc")).unwrap();
    let mpmc = mpmc::Consumer::attach(&ring("mpmc")).unwrap();
    let mut mpsc = mpsc::Consumer::attach(&ring("mpsc")).unwrap();
    let mut stream = stream::Consumer::attach(&ring("stream")).unwrap();
    let mut subscriber = Subscriber::attach(&ring("broadcast"), Start::Oldest).unwrap();
    let mut board = latest::Reader::attach(&ring("latest")).unwrap();
    let (semaphore, signal) = (named!(Semaphore, "semaphore"), named!(SignalSemaphore, "signal"));
    let (mutex, event) = (named!(Mutex, "mutex"), named!(Event, "event"));
    let mut buffer = [0; 8];
    say("ready");
    for question in questions() {
        match &*question {
            "go" => {
                event.wait_deadline(SOON).unwrap();
                assert!(semaphore.try_acquire().unwrap().is_none() && mutex.try_lock().unwrap().is_none());
                for n in (0..FRAMES).map(u64::to_le_bytes) {
                    assert_eq!(*spsc.recv_deadline(SOON).unwrap(), n);
                    assert_eq!(*mpmc.recv_deadline(SOON).unwrap(), n);
                    assert_eq!(*mpsc.recv_deadline(SOON).unwrap().frame().unwrap(), n);
                    let view = stream.read_view_deadline(8, SOON).unwrap();
                    assert_eq!(*view, n);
                    view.release(8);
                    assert_eq!(*subscriber.recv_deadline(SOON).unwrap(), n);
                    signal.wait_deadline(SOON).unwrap();
                }
                let last = FRAMES - 1;
                while buffer != last.to_le_bytes() {
                    board.changed_deadline(SOON).unwrap();
                    board.try_read(0, &mut buffer).unwrap();
                }
                say("done");
            }
            "look" => say(describe()),
            // Each of the waits starts before or after the death; all end by it.
            "await death" => {
                say("waiting");
                let mut set = WaitSet::new().unwrap();
                set.add(Token(0), spsc.readable()).unwrap();
                assert!(set.wait_deadline(SOON).unwrap().eq([Token(0)]));
                // A task, for which the reactor waits.
                let task = mpmc::AsyncConsumer::new(mpmc::Consumer::attach(&ring("mpmc")).unwrap());
                assert!(matches!(block_on(task.recv()), Err(Error::PeerDead)));
                drop(task);
                assert!(matches!(spsc.recv_deadline(SOON), Err(Error::PeerDead)));
                assert!(matches!(mpmc.recv_deadline(SOON), Err(Error::PeerDead)));
                let mpsc::Received::Ended(end) = mpsc.recv_deadline(SOON).unwrap() else { panic!("a frame") };
                assert!(end.died);
                assert!(matches!(stream.read_deadline(&mut buffer, SOON), Err(Error::PeerDead)));
                assert!(matches!(subscriber.recv_deadline(SOON), Err(Error::PeerDead)));
                assert!(matches!(board.changed_deadline(SOON), Err(Error::PeerDead)));
                let _permit = semaphore.acquire_deadline(SOON).unwrap();
                assert!(mutex.lock_deadline(SOON).unwrap().owner_died());
                assert!(event.is_set() && signal.count() == 0);
                say("dead");
            }
            other => panic!("{other}"),
        }
    }
}

/// Creates the semaphores, the mutex and the event, in the directory that the environment names.
pub fn create_others(dir: &std::path::Path) {
    let created = program("kinds create").env(super::DIR, dir).output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
}

/// One of each kind, under its name in a directory.
struct Shared(TestDir, Vec<Ring>);

impl Shared {
    fn new() -> Self {
        let dir = TestDir::new("containers");
        let rings = RINGS.map(|kind| Ring::create(kind, &options(kind).directory(&dir.0)).unwrap());
        create_others(&dir.0);
        Shared(dir, rings.into())
    }

    /// What an observer outside of both containers is told.
    fn observe(&self) {
        for ring in &self.1 {
            let participants = ring.participants().unwrap();
            assert_eq!(participants.len(), 2);
            for participant in participants {
                let seen = (participant.alive, participant.pid, participant.pid_namespace, participant.process);
                assert_eq!(seen, (true, 1, PidNamespace::Other, None), "{:?}", ring.kind());
            }
            assert_eq!(ring.reap_dead().unwrap(), 0);
            let options = Options::any().directory(&self.0.0);
            assert!(!Ring::remove_if_unused(ring.name().unwrap(), &options, |_| Ok(true)).unwrap());
        }
    }
}

/// Sends through all kinds between the two containers, in both of which `look` is asked; kills the
/// sender.
fn exchange(mut tx: Member, mut rx: Member, observe: impl Fn()) {
    tx.tell("go");
    assert_eq!((rx.ask("go"), tx.answer()), ("done".to_owned(), "done".to_owned()));
    observe();
    let both = "6 other alive pid 1, 6 own alive pid 1";
    assert_eq!((tx.ask("look"), rx.ask("look")), (both.to_owned(), both.to_owned()));
    assert_eq!(rx.ask("await death").as_str(), "waiting");
    tx.kill();
    assert_eq!(rx.answer(), "dead");
    let gone = "6 own alive pid 1";
    assert_eq!(rx.ask("look"), gone, "the dead are reaped");
}

fn share_a_directory(sender: &[&str], receiver: &[&str]) {
    let shared = Shared::new();
    let Some(rx) = Container::of(receiver).start("kinds recv", &shared.0.0) else { return };
    let Some(tx) = Container::of(sender).start("kinds send", &shared.0.0) else { return };
    exchange(tx, rx, || shared.observe());
}

#[test]
fn containers_that_share_a_directory_share_every_kind() {
    share_a_directory(PLAIN, PLAIN);
}

#[test]
fn so_do_containers_with_user_namespaces_of_their_own() {
    share_a_directory(ROOTLESS, ROOTLESS);
}

/// Deadlines, checks of liveness and times of processes differ by days between the two.
#[test]
fn so_do_containers_with_different_clocks() {
    share_a_directory(TIME, PLAIN);
    share_a_directory(PLAIN, TIME);
}

/// In one pid namespace, in which nothing but the clocks differ, a process is recognized by its
/// pidfd. Its death is an event.
#[test]
fn a_process_with_another_clock_is_recognized() {
    let shared = Shared::new();
    let time: &[&str] = &["--time", "--monotonic", "1000000", "--boottime", "2000000"];
    let Some(_tx) = Container::of(time).start("kinds send", &shared.0.0) else { return };
    for ring in &shared.1 {
        let seen = &ring.participants().unwrap()[0];
        assert_eq!((seen.alive, seen.pid_namespace), (true, PidNamespace::Own));
        let is_pidfs = seen.pidfd_inode != 0;
        assert_eq!((seen.comm.is_some(), seen.process.is_some()), (is_pidfs, is_pidfs), "before Linux 6.9 unknown");
    }
}

/// All of them in memfds, whose descriptors are passed: the containers share no file system.
#[test]
fn containers_share_every_kind_by_passed_descriptors() {
    let rings = RINGS.map(|kind| (kind, Ring::create_anonymous(&options(kind)).unwrap()));
    let semaphore = Semaphore::create_anonymous(1).unwrap();
    let (signal, mutex) = (SignalSemaphore::create_anonymous().unwrap(), Mutex::create_anonymous(8).unwrap());
    let event = Event::create_anonymous().unwrap();
    let mut fds: Vec<_> = rings.iter().map(|(kind, ring)| (*kind, ring.as_fd().as_raw_fd())).collect();
    fds.push(("semaphore", semaphore.as_fd().as_raw_fd()));
    fds.push(("signal", signal.as_fd().as_raw_fd()));
    fds.push(("mutex", mutex.as_fd().as_raw_fd()));
    fds.push(("event", event.as_fd().as_raw_fd()));
    let list = fds.iter().map(|(kind, fd)| format!("{kind}={fd}")).collect::<Vec<_>>().join(" ");
    let start = |role: &str| {
        let elsewhere = Container { namespaces: PLAIN, setup: "mount -t tmpfs none /dev/shm" };
        let mut command = elsewhere.command(program(role).env(FDS, &list), "/nowhere".as_ref())?;
        let fds: Vec<RawFd> = fds.iter().map(|(_, fd)| *fd).collect();
        let pass = move || {
            fds.iter().try_for_each(|fd| {
                // SAFETY: the descriptors belong to this test, and are open.
                match unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            })
        };
        // SAFETY: between fork and exec, `fcntl` is allowed, and nothing is allocated.
        unsafe { command.pre_exec(pass) };
        Some(Member::start(&mut command))
    };
    let Some(rx) = start("kinds recv") else { return };
    let Some(tx) = start("kinds send") else { return };
    exchange(tx, rx, || {
        for (kind, ring) in &rings {
            let seen: Vec<_> = ring.participants().unwrap().iter().map(|one| (one.alive, one.pid)).collect();
            assert_eq!((seen, ring.reap_dead().unwrap()), (vec![(true, 1); 2], 0), "{kind}");
        }
    });
}

/// The two ends of a conversation over a Unix socket that becomes two rings, and of datagrams.
fn converse(listens: bool) {
    let text = std::env::var("SLIPRING_DIR").unwrap();
    let (listen, datagrams) = (if listens { "&listen" } else { "" }, format!("dgram:{text}/dgram"));
    let mut inbox = listens.then(|| Endpoint::parse(&datagrams).unwrap().open_receiver(SOON).unwrap());
    say("ready");
    let endpoint = Endpoint::parse(&format!("unix:{text}/socket?upgrade=ring{listen}")).unwrap();
    let (mut tx, mut rx) = endpoint.open_duplex(SOON).unwrap();
    for n in (0..FRAMES).map(u64::to_le_bytes) {
        tx.send_deadline(Header::PLAIN, &n, SOON).unwrap();
        assert!(matches!(rx.recv_deadline(SOON).unwrap(), Incoming::Frame(frame) if frame.payload == n));
    }
    if let Some(inbox) = &mut inbox {
        let from = inbox.recv_deadline(SOON).unwrap();
        assert!(matches!(&from, Incoming::Frame(frame) if frame.payload == b"datagram"), "{from:?}");
    } else {
        let mut outbox = Endpoint::parse(&datagrams).unwrap().open_sender(SOON).unwrap();
        outbox.send_deadline(Header::PLAIN, b"datagram", SOON).unwrap();
        say("done");
        questions().for_each(drop);
    }
    say("waiting");
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
    say("dead");
}

/// Neither sees the pid of the other: the kernel gives 0 as the pid of the peer.
#[test]
fn containers_converse_over_a_socket_that_becomes_rings() {
    let dir = TestDir::new("containers-socket");
    let Some(mut here) = Container::of(PLAIN).start("kinds listen", &dir.0) else { return };
    let Some(mut there) = Container::of(PLAIN).start("kinds connect", &dir.0) else { return };
    assert_eq!((there.answer(), here.answer()), ("done".to_owned(), "waiting".to_owned()));
    there.kill();
    assert_eq!(here.answer(), "dead");
}
