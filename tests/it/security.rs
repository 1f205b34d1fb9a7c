//! What other users can put in the way of a named ring, tried through the public API. SECURITY.md
//! cites these tests by name.
//!
//! Some tests need root, to act as two users at once; without it they print that they are skipped.
//! The other user's process is this test program, started again as uid 65534 (`nobody`) with a role
//! in its environment.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use slipring::transport::{mq, sysv, unix};
use slipring::{Deadline, Error, Options, Result, Ring, spsc};

use crate::common::queues::queue_permit;
use crate::common::shared::{PAGE, Shared};
use crate::common::this_test::this_test;

const NOBODY: u32 = 65534;

/// A directory with a directory for rings in it. Dropping it removes both, with all that they
/// contain.
struct Ground(PathBuf);

impl Ground {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Relaxed);
        let path = base.join(format!("slipring-security-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        chmod(&path, 0o755);
        Ground(path)
    }

    fn rings(&self) -> PathBuf {
        self.0.join("rings")
    }

    fn options(&self) -> Options {
        Options::spsc(4096).directory(self.rings())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can act as two users");
    }
    root
}

fn assert_untrusted<T>(result: Result<T>, what: &str) {
    match result.err() {
        Some(Error::Untrusted { .. }) => {}
        other => panic!("{what}: not refused as untrusted: {other:?}"),
    }
}

/// Runs `role` as another user in `directory`, and returns what it printed. `None` if that user
/// cannot run this binary.
fn as_nobody(role: &str, directory: &Path) -> Option<String> {
    let output = this_test(module_path!(), "other_user")
        .envs([("SLIPRING_TEST_ROLE", role)])
        .env("SLIPRING_TEST_DIR", directory)
        .current_dir("/")
        .gid(NOBODY)
        .uid(NOBODY)
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            Some(text)
        }
        Err(e) => {
            eprintln!("skipped: the other user cannot run this binary: {e}");
            None
        }
    }
}

/// Not a test: the other user's part.
#[test]
fn other_user() {
    let (Ok(role), Some(directory)) = (std::env::var("SLIPRING_TEST_ROLE"), std::env::var_os("SLIPRING_TEST_DIR"))
    else {
        return;
    };
    let directory = PathBuf::from(directory);
    match role.as_str() {
        "squat" => {
            Ring::create("x", &Options::spsc(4096).directory(directory.join("rings"))).unwrap();
            chmod(&directory.join("rings"), 0o755);
            chmod(&directory.join("rings/x"), 0o644);
        }
        "intrude" => {
            let rings = directory.join("rings");
            let options = Options::spsc(4096).directory(&rings);
            for attempt in [Ring::open("x", &options), Ring::create("y", &options), Ring::open_or_create("x", &options)]
            {
                assert!(matches!(attempt, Err(Error::Untrusted { .. } | Error::Io { .. })), "{attempt:?}");
            }
            assert!(Ring::remove("x", &options).is_err() && Ring::list(&options).is_err());
            assert!(fs::File::open(rings.join("x")).is_err());
        }
        "squat queues" => {
            drop(queues(&directory, true));
            println!("queues are there");
        }
        "remove queues" => {
            mq::remove(&queue_name(&directory)).unwrap();
            sysv::remove(sysv::Key::path(&directory).unwrap()).unwrap();
        }
        "tap queues" => {
            let (mq, sysv) = queues(&directory, false);
            assert_untrusted(mq, "POSIX queue");
            assert_untrusted(sysv, "System V queue");
        }
        "knock" => {
            // The connection may reach the listener's backlog; the listener checks the peer's
            // credentials before it answers.
            let soon = Deadline::after(Duration::from_secs(20));
            let _ = unix::connect(directory.join("socket"), &unix::Options::default(), soon).map(|(_, mut rx)| {
                use slipring::transport::FrameReceiverExt;
                assert!(rx.recv_deadline(soon).is_err());
            });
        }
        other => panic!("{other}"),
    }
    println!("done as {}", rustix::process::geteuid().as_raw());
}

#[test]
fn a_file_that_is_not_regular_is_refused_at_once() {
    let ground = Ground::new();
    Ring::create("good", &ground.options()).unwrap();
    let at = |name: &str| ground.rings().join(name);
    symlink("good", at("symlink")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    for name in ["symlink", "dangling", "device", "directory", "socket", "fifo"] {
        assert_untrusted(Ring::open(name, &ground.options()), name);
        assert_untrusted(Ring::open_or_create(name, &ground.options()), name);
        assert_untrusted(spsc::Consumer::open(name, &ground.options()), name);
        assert!(matches!(Ring::create(name, &ground.options()), Err(Error::Exists)), "{name}");
    }
    assert!(!at("nowhere").exists(), "nothing is created through a link");
}

#[test]
fn a_hard_link_is_refused() {
    let ground = Ground::new();
    Ring::create("good", &ground.options()).unwrap();
    fs::hard_link(ground.rings().join("good"), ground.0.join("elsewhere")).unwrap();
    assert_untrusted(Ring::open("good", &ground.options()), "hard link");
    fs::remove_file(ground.0.join("elsewhere")).unwrap();
    Ring::open("good", &ground.options()).unwrap();
}

#[test]
fn a_file_or_directory_that_others_may_write_is_refused() {
    let ground = Ground::new();
    Ring::create("x", &ground.options()).unwrap();
    let path = ground.rings().join("x");
    for mode in [0o620, 0o602, 0o666] {
        chmod(&path, mode);
        assert_untrusted(Ring::open("x", &ground.options()), &format!("{mode:o}"));
    }
    chmod(&path, 0o660);
    Ring::open("x", &ground.options().trust_group(true)).unwrap();
    chmod(&path, 0o662);
    assert_untrusted(Ring::open("x", &ground.options().trust_group(true)), "trust_group does not extend to all users");
    chmod(&path, 0o600);
    for mode in [0o720, 0o702, 0o1777] {
        chmod(&ground.rings(), mode);
        assert_untrusted(Ring::open("x", &ground.options()), &format!("directory {mode:o}"));
    }
}

#[test]
fn created_files_and_directories_are_private_to_their_user() {
    let ground = Ground::new();
    Ring::create("x", &ground.options()).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(ground.rings()), mode(ground.rings().join("x"))), (0o700, 0o600));
}

#[test]
fn another_users_file_or_directory_is_refused() {
    let ground = Ground::new();
    Ring::create("x", &ground.options()).unwrap();
    if !is_root() {
        return;
    }
    chown(ground.rings().join("x"), Some(NOBODY), None).unwrap();
    assert_untrusted(Ring::open("x", &ground.options()), "file");
    chown(ground.rings(), Some(NOBODY), None).unwrap();
    assert_untrusted(Ring::open("x", &ground.options()), "directory");
    assert_untrusted(Ring::create("y", &ground.options()), "directory");
    assert_untrusted(Ring::list(&ground.options()), "directory");
}

#[test]
fn a_directory_that_another_user_made_first_is_refused() {
    let ground = Ground::new();
    if !is_root() {
        return;
    }
    chmod(&ground.0, 0o1777); // as /dev/shm and /tmp are
    let Some(said) = as_nobody("squat", &ground.0) else { return };
    assert!(said.contains("done as 65534"));
    assert_untrusted(spsc::Producer::open("x", &ground.options()), "squatted directory");
    assert_untrusted(Ring::create("y", &ground.options()), "squatted directory");
}

#[test]
fn another_user_can_neither_open_nor_remove_a_ring() {
    let ground = Ground::new();
    if !is_root() {
        return;
    }
    let ring = Ring::create("x", &ground.options()).unwrap();
    chmod(&ground.0, 0o1777);
    let Some(said) = as_nobody("intrude", &ground.0) else { return };
    assert!(said.contains("done as 65534"));
    assert!(ring.verify().unwrap().is_clean());
    assert_eq!(Ring::list(&ground.options()).unwrap(), ["x"]);
}

/// A POSIX queue's name that depends on the directory, as the System V key does.
fn queue_name(directory: &Path) -> String {
    format!("/{}", directory.file_name().unwrap().to_str().unwrap())
}

fn queues(directory: &Path, create: bool) -> (Result<mq::Receiver>, Result<sysv::Receiver>) {
    let key = sysv::Key::path(directory).unwrap();
    let mq = mq::Receiver::open(&queue_name(directory), &mq::Options::default().messages(1).create(create));
    (mq, sysv::Receiver::open(key, &sysv::Options::default().create(create)))
}

#[test]
fn queues_of_another_user_are_refused_in_both_directions() {
    let ground = Ground::new();
    if !is_root() {
        return;
    }
    let _permit = queue_permit();
    let Some(said) = as_nobody("squat queues", &ground.0) else { return };
    let (mq, sysv) = queues(&ground.0, true);
    as_nobody("remove queues", &ground.0);
    assert!(said.contains("queues are there"));
    assert_untrusted(mq, "POSIX queue");
    assert_untrusted(sysv, "System V queue");

    let ours = queues(&ground.0, true);
    assert!(ours.0.is_ok() && ours.1.is_ok(), "{:?} {:?}", ours.0.err(), ours.1.err());
    as_nobody("tap queues", &ground.0);
    mq::remove(&queue_name(&ground.0)).unwrap();
    sysv::remove(sysv::Key::path(&ground.0).unwrap()).unwrap();
}

#[test]
fn another_users_connection_is_refused_and_the_next_is_served() {
    let ground = Ground::new();
    if !is_root() {
        return;
    }
    let path = ground.0.join("socket");
    let soon = Deadline::after(Duration::from_secs(20));
    let listener = unix::Listener::bind(&path, &unix::Options::default()).unwrap();
    chmod(&path, 0o666);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| as_nobody("knock", &ground.0));
        assert_untrusted(listener.accept(soon), "connection");
        other.join().unwrap();
    });
    let (_tx, _rx) = unix::connect(&path, &unix::Options::default(), soon).unwrap();
    listener.accept(soon).unwrap();
}

#[test]
fn a_squatted_name_is_neither_opened_nor_changed() {
    let ground = Ground::new();
    Ring::create("first", &ground.options()).unwrap();
    let path = ground.rings().join("squatted");
    for (contents, mode) in [(&b""[..], 0o600), (b"not a ring", 0o600), (&[0; 1 << 16], 0o600), (b"", 0o666)] {
        fs::write(&path, contents).unwrap();
        chmod(&path, mode);
        assert!(matches!(Ring::create("squatted", &ground.options()), Err(Error::Exists)));
        let opened = Ring::open_or_create("squatted", &ground.options());
        assert!(matches!(opened, Err(Error::Corrupt { .. } | Error::Untrusted { .. })), "{opened:?}");
        assert_eq!(fs::read(&path).unwrap(), contents, "the file was changed");
    }
}

#[test]
fn no_ring_in_a_directory_exchanged_during_open_is_opened() {
    let ground = Ground::new();
    let good = Ring::create("x", &ground.options()).unwrap().generation();
    // All users may write to the other directory, which holds a ring of the same name.
    let evil = ground.0.join("evil");
    let bad = Ring::create("x", &ground.options().directory(&evil)).unwrap().generation();
    chmod(&evil, 0o777);
    let link = ground.0.join("link");
    symlink(&evil, &link).unwrap();
    let stop = AtomicBool::new(false);
    let (mut opened, mut refused, mut swaps) = (0, 0, 0);
    std::thread::scope(|scope| {
        let twin = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !stop.load(Relaxed) {
                for other in [&evil, &link] {
                    for _ in 0..2 {
                        renameat_with(CWD, other, CWD, ground.rings(), RenameFlags::EXCHANGE).unwrap();
                        swaps += 1;
                    }
                }
            }
            swaps
        });
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(1) || opened == 0 || refused == 0 {
            match Ring::open("x", &ground.options()) {
                Ok(ring) => {
                    assert_eq!(ring.generation(), good, "a ring that others may replace was opened ({bad})");
                    opened += 1;
                }
                Err(Error::Untrusted { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        stop.store(true, Relaxed);
        swaps = twin.join().unwrap();
    });
    println!("{swaps} exchanges: opened {opened} times, refused {refused} times");
}

#[test]
fn a_thousand_invalid_names_are_refused() {
    let ground = Ground::new();
    Ring::create("good", &ground.options()).unwrap();
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let pieces =
        ["..", "/", ".", "\0", "\n", "a", " ", "%2e", "\u{202e}", "é", "~", "$HOME", "*", "\\", "-rf", "good", ":"];
    let mut names = vec![String::new(), ".".into(), "..".into(), "../x".into(), "/etc/x".into(), "a".repeat(129)];
    while names.len() < 1_000 {
        names.push((0..1 + random() % 6).map(|_| pieces[random() % pieces.len()]).collect());
    }
    let allowed = |name: &str| {
        (1..=128).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let options = ground.options();
    for name in &names {
        if allowed(name) {
            assert!(matches!(Ring::open(name, &options), Ok(_) | Err(Error::NotFound)), "{name:?}");
            continue;
        }
        for outcome in [
            Ring::create(name, &options).err(),
            Ring::open(name, &options).err(),
            Ring::open_or_create(name, &options).err(),
            Ring::remove(name, &options).err(),
        ] {
            assert!(matches!(outcome, Some(Error::Invalid { .. })), "{name:?}: {outcome:?}");
        }
    }
    assert_eq!(Ring::list(&options).unwrap(), ["good"]);
    let left: Vec<_> = fs::read_dir(&ground.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["rings"], "nothing outside");
}

/// A payload whose length is no multiple of 8 is padded with zeros, whatever lay there before. So a
/// ring's record that is written to a wire as it is contains no bytes of an earlier frame.
#[test]
fn padding_contains_no_bytes_of_earlier_frames() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let memory = Shared::map(ring.as_fd());
    let data = memory.len() - 4096;
    assert_eq!(data % PAGE, 0);
    let mut tx = spsc::Producer::attach(&ring).unwrap();
    let mut rx = spsc::Consumer::attach(&ring).unwrap();
    let mut position = 0;
    for round in 0..3_usize {
        // Two frames of 0xFF fill the ring once.
        for _ in 0..2 {
            tx.try_send(&[0xFF; 2032]).unwrap();
            drop(rx.try_recv().unwrap());
            position += 2048;
        }
        for len in 0..60_usize {
            match (round, len % 2) {
                (0, _) => tx.try_send(&vec![0xA5; len]).unwrap(),
                (1, 0) => {
                    let mut grant = tx.try_reserve(len + 9).unwrap();
                    grant.fill(0xA5);
                    grant.commit(len);
                }
                _ => {
                    let mut batch = tx.batch();
                    batch.push(&vec![0xA5; len]).unwrap();
                    batch.commit();
                }
            }
            let mut record = vec![0; 16 + len.next_multiple_of(8)];
            for (i, byte) in record.iter_mut().enumerate() {
                memory.read(data + (position + i) % 4096, std::slice::from_mut(byte));
            }
            assert!(record[16..16 + len].iter().all(|byte| *byte == 0xA5));
            assert!(record[16 + len..].iter().all(|byte| *byte == 0), "padding of a frame of {len} bytes: {record:x?}");
            let mut next = [0xFF; 8];
            memory.read(data + (position + record.len()) % 4096, &mut next);
            assert_eq!(next, [0; 8], "and so is the word after it");
            position += record.len();
            drop(rx.try_recv().unwrap());
        }
        // Advances to a multiple of the capacity.
        while position % 4096 != 0 {
            let len = (4096 - position % 4096).min(1024) - 16;
            tx.try_send(&vec![0xFF; len]).unwrap();
            drop(rx.try_recv().unwrap());
            position += 16 + len;
        }
    }
}
