//! A Unix socket whose two ends switch to rings: with a peer of another user, with one that offers
//! no rings, and with some that cheat.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use slipring::frame::{Event, Form, Frame, Header, Hello, control};
use slipring::transport::unix::{Connection, Listener, Options, connect, connect_upgrading};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error, Result, Ring};

use crate::common::again::copy_program;
use crate::common::dir::TestDir;
use crate::common::this_test::arguments;

/// The user `nobody`: neither root nor the user that runs the tests.
const NOBODY: u32 = 65_534;
const ROLE: &str = "SLIPRING_UPGRADE_ROLE";
const RINGS: u64 = 1 << 32;
const CAPACITY: usize = 1 << 16;

fn soon() -> Deadline {
    Duration::from_secs(60).into()
}

/// Not a test: a client of another user, if this process is one. Returns each frame twice, until
/// the end.
#[test]
fn child() {
    let Ok(path) = std::env::var(ROLE) else { return };
    let connection = connect_upgrading(&path, &Options::default(), CAPACITY, soon()).unwrap();
    let Connection::Rings(mut tx, mut rx) = connection else { panic!("no rings") };
    assert!(rx.is_untrusted());
    loop {
        match rx.recv_deadline(soon()) {
            Ok(Event::Frame(frame)) if frame.payload == b"die" => std::process::abort(),
            Ok(Event::Frame(frame)) => {
                for _ in 0..2 {
                    tx.send_deadline(frame.header, frame.payload, soon()).unwrap();
                }
            }
            Err(Error::Closed) => return tx.close(soon()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

struct Client(Child);

impl Client {
    /// A process of [`NOBODY`]; `None` without the right to start one.
    fn start(dir: &TestDir) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can start a process of another user");
            return None;
        }
        let program = dir.file("client"); // where all users can execute it
        copy_program(&program);
        fs::set_permissions(dir.socket(), fs::Permissions::from_mode(0o666)).unwrap();
        let mut command = Command::new(program);
        arguments(&mut command, module_path!(), "child").env(ROLE, dir.socket()).uid(NOBODY).gid(NOBODY);
        Some(Client(command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn frame(rx: &mut impl FrameReceiver) -> Vec<u8> {
    match rx.recv_deadline(soon()) {
        Ok(Event::Frame(frame)) => frame.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_of_another_user_gets_a_ring_that_neither_end_has_to_trust() {
    let dir = TestDir::with_mode("upgrade", 0o711);
    let listener = Listener::bind(dir.socket(), &Options::default().allow_uid(NOBODY)).unwrap();
    let Some(mut client) = Client::start(&dir) else { return };
    let connection = listener.accept_upgrading(CAPACITY, soon()).unwrap();
    let who = connection.credentials().unwrap();
    assert_eq!((who.uid, who.pid), (NOBODY, client.0.id()));
    let Connection::Rings(mut tx, mut rx) = connection else { panic!("no rings") };
    assert!(rx.is_untrusted());
    for n in 0..10_000_u32 {
        let payload: Vec<u8> = n.to_le_bytes().repeat(n as usize % 50);
        tx.send_deadline(Header::PLAIN, &payload, soon()).unwrap();
        assert_eq!([frame(&mut rx), frame(&mut rx)], [payload.clone(), payload]);
    }
    assert!(matches!(rx.recv_deadline(Duration::ZERO), Err(Error::Timeout)));
    tx.close(soon()).unwrap();
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
    assert!(matches!(rx.try_recv(), Err(Error::Closed)), "every call reports it");
    assert!(client.0.wait().unwrap().success());
}

#[test]
fn the_death_of_a_peer_of_another_user_is_reported_to_sender_and_receiver() {
    let dir = TestDir::with_mode("upgrade", 0o711);
    let listener = Listener::bind(dir.socket(), &Options::default().allow_uid(NOBODY)).unwrap();
    let Some(_client) = Client::start(&dir) else { return };
    let Connection::Rings(mut tx, mut rx) = listener.accept_upgrading(CAPACITY, soon()).unwrap() else {
        panic!("no rings")
    };
    tx.send_deadline(Header::PLAIN, b"last", soon()).unwrap();
    tx.send_deadline(Header::PLAIN, b"die", soon()).unwrap();
    assert_eq!([frame(&mut rx), frame(&mut rx)], [b"last", b"last"], "the frames sent before the death");
    assert!(matches!(rx.recv_deadline(soon()), Err(Error::PeerDead)));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)), "every call reports it");
    // The peer is dead, so the ring fills up.
    let error = loop {
        match tx.send_deadline(Header::PLAIN, &[0; 1000], soon()) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::PeerDead), "{error:?}");
}

#[test]
fn a_client_that_offers_no_rings_keeps_the_byte_stream() {
    let dir = TestDir::with_mode("upgrade", 0o711);
    let options = Options::default();
    let listener = Listener::bind(dir.socket(), &options).unwrap();
    let talk = |tx: &mut dyn FrameSender, rx: &mut dyn FrameReceiver| {
        tx.send_deadline(Header::PLAIN, b"plain", soon()).unwrap();
        tx.close(soon()).unwrap();
        assert!(matches!(rx.recv_deadline(soon()), Ok(Event::Frame(frame)) if frame.payload == b"plain"));
        assert!(matches!(rx.recv_deadline(soon()), Err(Error::Closed)));
    };
    let (mut tx, mut rx) = connect(dir.socket(), &options, soon()).unwrap();
    let mut server = listener.accept_upgrading(CAPACITY, soon()).unwrap();
    assert!(!server.is_upgraded() && server.credentials().unwrap().pid == std::process::id());
    talk(&mut tx, server.receiver());
    talk(server.sender(), &mut rx);

    std::thread::scope(|scope| {
        let client = scope.spawn(|| connect_upgrading(dir.socket(), &options, CAPACITY, soon()).unwrap());
        let (mut tx, mut rx) = listener.accept(soon()).unwrap();
        let mut client = client.join().unwrap();
        assert!(!client.is_upgraded());
        talk(&mut tx, client.receiver());
        talk(client.sender(), &mut rx);
    });

    // A program that does not know HELLO.
    let mut stranger = UnixStream::connect(dir.socket()).unwrap();
    let mut bytes = Vec::new();
    Frame::new(Header::PLAIN, b"hi").unwrap().encode(Form::Short, &mut bytes).unwrap();
    stranger.write_all(&bytes[..7]).unwrap();
    stranger.write_all(&bytes[7..]).unwrap();
    let mut server = listener.accept_upgrading(CAPACITY, soon()).unwrap();
    assert!(!server.is_upgraded());
    assert!(matches!(server.receiver().recv_deadline(soon()), Ok(Event::Frame(frame)) if frame.payload == b"hi"));
}

#[test]
fn silence_or_death_during_the_handshake_is_reported() {
    let dir = TestDir::with_mode("upgrade", 0o711);
    let listener = Listener::bind(dir.socket(), &Options::default()).unwrap();
    let mut stranger = UnixStream::connect(dir.socket()).unwrap();
    let patience = || Deadline::after(Duration::from_millis(20));
    assert!(matches!(listener.accept_upgrading(CAPACITY, patience()), Err(Error::Timeout)));
    stranger = {
        drop(stranger);
        UnixStream::connect(dir.socket()).unwrap()
    };
    stranger.write_all(&control_frame(control::HELLO, &offer())).unwrap();
    assert!(matches!(listener.accept_upgrading(CAPACITY, patience()), Err(Error::Timeout)));
    // The client has sent HELLO and DOORBELL, and closed.
    let mut said = Vec::new();
    stranger.read_to_end(&mut said).unwrap();
    assert_eq!(said.len(), 48 + 16);

    let mut stranger = UnixStream::connect(dir.socket()).unwrap();
    stranger.write_all(&control_frame(control::HELLO, &offer())).unwrap();
    drop(stranger);
    let refused = listener.accept_upgrading(CAPACITY, soon());
    assert!(matches!(refused, Err(Error::PeerDead | Error::Timeout)), "{refused:?}");
}

fn offer() -> [u8; 32] {
    Hello { features: RINGS, epoch: 1, ..Hello::new(1 << 20) }.encode()
}

fn control_frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Header::control(kind, payload.len()).unwrap();
    Frame::new(header, payload).unwrap().encode(Form::Short, &mut bytes).unwrap();
    bytes
}

/// How a server answers a client that offers rings, and then sends `frame` with `descriptors`.
fn cheat(frame: &[u8], descriptors: &[OwnedFd]) -> Result<Connection> {
    let dir = TestDir::with_mode("upgrade", 0o711);
    let listener = Listener::bind(dir.socket(), &Options::default()).unwrap();
    let mut cheat = UnixStream::connect(dir.socket()).unwrap();
    cheat.write_all(&control_frame(control::HELLO, &offer())).unwrap();
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        passed.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    sendmsg(&cheat, &[IoSlice::new(frame)], &mut passed, SendFlags::empty()).unwrap();
    listener.accept_upgrading(CAPACITY, Duration::from_millis(500))
}

#[test]
fn a_descriptor_that_is_no_ring_is_refused() {
    let doorbell = control_frame(control::DOORBELL, &[]);
    let ring = Ring::create_anonymous(&slipring::Options::spsc(4096)).unwrap();
    let memfd = || memfd_create("not a ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;

    assert!(matches!(cheat(&doorbell, &[]), Err(Error::Untrusted { .. })), "no descriptor");
    let file = OwnedFd::from(fs::File::open(std::env::current_exe().unwrap()).unwrap());
    assert!(matches!(cheat(&doorbell, &[file]), Err(Error::Untrusted { .. })), "a file");
    let unsealed = memfd();
    ftruncate(&unsealed, 1 << 20).unwrap();
    assert!(matches!(cheat(&doorbell, &[unsealed]), Err(Error::Untrusted { .. })), "may shrink");
    let empty = memfd();
    fcntl_add_seals(&empty, seals).unwrap();
    assert!(matches!(cheat(&doorbell, &[empty]), Err(Error::Corrupt { .. })), "no header");
    let zeros = memfd();
    ftruncate(&zeros, 1 << 20).unwrap();
    fcntl_add_seals(&zeros, seals).unwrap();
    let refused = cheat(&doorbell, &[zeros]);
    assert!(matches!(refused, Err(Error::Corrupt { .. } | Error::Incompatible { .. })), "{refused:?}");
    let bytes = Ring::create_anonymous(&slipring::Options::stream(4096)).unwrap();
    let bytes = bytes.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(cheat(&doorbell, &[bytes]), Err(Error::Unsupported { .. })), "a ring of bytes");

    // Too many descriptors: the kernel closes those that do not fit. The one that fits is the ring,
    // whose consumer this process becomes.
    let ring = || ring.as_fd().try_clone_to_owned().unwrap();
    let refused = cheat(&doorbell, &[ring(), ring(), ring()]);
    assert!(matches!(refused, Err(Error::Timeout | Error::PeerDead)), "it sends no ACK: {refused:?}");

    assert!(matches!(cheat(&control_frame(control::PING, &[]), &[ring()]), Err(Error::Corrupt { .. })), "no doorbell");
    assert!(matches!(cheat(&[0x5A; 16], &[ring()]), Err(Error::Corrupt { .. })), "garbage");
}

/// Two ends in this process that switched to rings.
fn pair(dir: &TestDir) -> [Connection; 2] {
    let options = Options::default();
    let listener = Listener::bind(dir.socket(), &options).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| connect_upgrading(dir.socket(), &options, CAPACITY, soon()).unwrap());
        let server = listener.accept_upgrading(CAPACITY, soon()).unwrap();
        [client.join().unwrap(), server]
    })
}

#[test]
fn a_sender_with_room_in_its_ring_notices_that_its_peer_has_left() {
    let dir = TestDir::with_mode("upgrade", 0o711);
    for reads in [true, false] {
        let [mut client, mut server] = pair(&dir);
        client.sender().send(Header::PLAIN, b"one").unwrap();
        if reads {
            assert!(matches!(server.receiver().recv_deadline(soon()), Ok(Event::Frame(_))));
        }
        drop(server);
        let Connection::Rings(mut tx, rx) = client else { panic!("no rings") };
        // A child that another test is starting has a copy of the socket until its `execve`.
        poll(&mut [PollFd::new(&rx, PollFlags::empty())], None).unwrap();
        assert_eq!(tx.flush(soon()).is_err(), !reads, "frames that are left in the ring are lost");
        // A sender that pauses for longer than the interval of liveness checks.
        std::thread::sleep(Duration::from_millis(30));
        for _ in 0..2 {
            let sent = tx.try_send(Header::PLAIN, b"two");
            assert!(matches!(sent, Err(Error::Closed)), "{sent:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
        for _ in 0..2 {
            assert_eq!(tx.close(soon()).is_err(), !reads);
        }
    }
}
