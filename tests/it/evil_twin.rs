//! A sender that changes the segment while the receiver reads it, at full speed, through a second
//! mapping of the same memfd.
//!
//! Runs for two seconds by default; `SLIPRING_EVIL_FLIPS=1000000000` runs until that many words
//! have been changed. The receiver is an untrusting consumer. What must hold: no panic, no access
//! outside the segment, every call bounded, no byte written past the frame in the caller's buffer.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{
    FallocateFlags, MemfdFlags, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create, open,
};
use slipring::frame::Header;
use slipring::{Error, Options, Ring, spsc};

use crate::common::shared::{CONSUMER_PAGE, LINE, PAGE, SEALS, Shared, len_of, sealed};

const CAPACITY: usize = 4096;
const RECORD: usize = 64;

fn ring() -> Ring {
    Ring::create_anonymous(&Options::spsc(CAPACITY).participants(4)).unwrap()
}

fn passed(ring: &Ring) -> OwnedFd {
    ring.as_fd().try_clone_to_owned().unwrap()
}

/// The first word of a frame header that announces `len` bytes.
fn announcing(len: u32) -> u64 {
    Header { len, ..Header::PLAIN }.commit_word()
}

fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Changes words until told to stop. It mostly changes lengths, at which a double fetch would fail;
/// then payloads, then the pages with positions. Returns the number of changes.
fn flip(memory: &Shared, stop: &AtomicBool, done: &AtomicU64) {
    let data = memory.len() - CAPACITY;
    let lengths =
        [announcing(48), announcing(0), announcing(4072), announcing(48), announcing(4073), announcing(1 << 30)];
    let mut state = 0x5EED_u64;
    while !stop.load(Relaxed) {
        for _ in 0..1024 {
            let random = step(&mut state);
            let slot = (random >> 8) as usize % (CAPACITY / RECORD) * RECORD;
            match random % 64 {
                0 => memory.atomic(8 * ((random >> 20) as usize % (memory.len() / 8))).store(random, Relaxed),
                1 => memory.atomic(data + slot).store(random, Relaxed),
                2..=8 => memory.atomic(data + slot + 16 + 8 * ((random >> 20) as usize % 6)).store(random, Relaxed),
                9..=11 => memory.atomic(data + slot).store(lengths[(random >> 20) as usize % lengths.len()], Relaxed),
                // Toggles one header as fast as possible.
                _ => memory.atomic(data + slot).store(lengths[random as usize & 1], Relaxed),
            }
        }
        done.fetch_add(1024, Relaxed);
    }
}

#[test]
fn the_receiver_survives_changes_of_every_word() {
    let goal = std::env::var("SLIPRING_EVIL_FLIPS").map_or(0, |count| count.parse::<u64>().unwrap());
    let ring = ring();
    let memory = Shared::map(ring.as_fd());
    let image = memory.to_vec();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut frames, mut bytes, mut detached, mut calls, mut longest) = (0_u64, 0_u64, 0_u64, 0_u64, Duration::ZERO);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| flip(&memory, &stop, &done));
        let is_enough = |frames: u64, detached: u64| match goal {
            0 => started.elapsed() > Duration::from_secs(2) && frames > 100 && detached > 10,
            goal => done.load(Relaxed) >= goal,
        };
        while !is_enough(frames, detached) {
            // The header page is read only at attach, and must be valid then. A forged position is
            // either refused or within bounds.
            memory.write(0, &image[..PAGE]);
            memory.atomic(CONSUMER_PAGE + LINE).store(0, Relaxed);
            let mut rx = match spsc::UntrustedConsumer::from_fd(passed(&ring)) {
                Ok(rx) => rx,
                Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => continue,
                Err(e) => panic!("{e}"),
            };
            let mut buffer = [0xEE; CAPACITY];
            loop {
                let room = if calls % 3 == 0 { 64 } else { CAPACITY - 64 };
                let called = Instant::now();
                let outcome = match calls % 1024 {
                    0 => rx.recv_into_deadline(&mut buffer[..room], Duration::from_micros(50)),
                    _ => rx.try_recv_into(&mut buffer[..room]),
                };
                longest = longest.max(called.elapsed());
                calls += 1;
                match outcome {
                    Ok(header) => {
                        let len = header.len as usize;
                        assert!(len <= room && len <= CAPACITY - 24);
                        assert!(buffer[len..].iter().all(|byte| *byte == 0xEE), "written past the frame");
                        buffer[..len].fill(0xEE);
                        (frames, bytes) = (frames + 1, bytes + len as u64);
                    }
                    Err(Error::TooLarge { max }) => assert!(max > room && max <= CAPACITY - 24),
                    Err(Error::Empty | Error::Timeout) => {}
                    Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => {
                        assert!(
                            matches!(rx.try_recv_into(&mut buffer), Err(Error::Corrupt { .. })),
                            "detached for good"
                        );
                        detached += 1;
                        break;
                    }
                    Err(e) => panic!("{e}"),
                }
                if calls % 4096 == 0 && is_enough(frames, u64::MAX) {
                    break;
                }
            }
        }
        stop.store(true, Relaxed);
    });
    let flips = done.load(Relaxed);
    println!(
        "{flips} words changed in {:.1?}: {calls} calls, {frames} frames of {bytes} bytes, detached {detached} times, \
         longest call {longest:.1?}",
        started.elapsed()
    );
    assert!(flips > 10_000, "{flips}");
    assert!(longest < Duration::from_secs(30), "a call is bounded by the frame, and a wait by its deadline");
}

/// The peer of an upgraded connection can write to the sender's ring, too. The peer loses frames by
/// that; the sender continues.
#[test]
fn the_sender_survives_changes_of_every_word() {
    let ring = ring();
    let memory = Shared::map(ring.as_fd());
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut calls, mut sent, mut longest) = (0_u64, 0_u64, Duration::ZERO);
    let written = AtomicU64::new(0);
    let mut tx = spsc::Producer::attach(&ring).unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 0xBAD_5EED_u64;
            while !stop.load(Relaxed) {
                let random = step(&mut state);
                // Any word; sometimes a position that leaves some room.
                memory.atomic(8 * ((random >> 20) as usize % (memory.len() / 8))).store(random, Relaxed);
                let head = [0, u64::MAX, random, written.load(Relaxed)];
                memory.atomic(CONSUMER_PAGE).store(head[random as usize % 4], Relaxed);
                done.fetch_add(1, Relaxed);
            }
        });
        while started.elapsed() < Duration::from_secs(2) || sent < 100 || done.load(Relaxed) < 10_000 {
            let called = Instant::now();
            let len = if calls % 512 == 0 { 1000 } else { calls % 300 };
            let payload = &[7; 1000][..len as usize];
            let outcome = match calls % 512 {
                0 => tx.send_deadline(payload, Duration::from_micros(50)),
                _ => tx.try_send(payload),
            };
            longest = longest.max(called.elapsed());
            calls += 1;
            match outcome {
                Ok(()) => {
                    sent += 1;
                    written.fetch_add((16 + len).next_multiple_of(8), Relaxed);
                }
                Err(Error::Full | Error::Timeout | Error::Closed | Error::PeerDead | Error::Corrupt { .. }) => {}
                Err(e) => panic!("{e}"),
            }
        }
        drop(tx);
        stop.store(true, Relaxed);
    });
    println!("{} words changed: {calls} calls, {sent} sent, longest call {longest:.1?}", done.load(Relaxed));
    assert!(longest < Duration::from_secs(30), "a call is bounded by the frame, and a wait by its deadline");
}

#[test]
fn the_size_of_a_sealed_segment_cannot_be_changed() {
    let ring = ring();
    let fd = ring.as_fd();
    let len = len_of(fd) as u64;
    for len in [0, len - 4096, len + 4096] {
        assert_eq!(ftruncate(fd, len).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    }
    let grow = fallocate(fd, FallocateFlags::empty(), len, 4096);
    assert_eq!(grow.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    let more_seals = fcntl_add_seals(fd, SealFlags::WRITE);
    assert_eq!(more_seals.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn holes_punched_under_the_receiver_read_as_zeros() {
    let ring = ring();
    let fd = passed(&ring);
    let memory = Shared::map(fd.as_fd());
    let data = memory.len() - CAPACITY;
    let stop = AtomicBool::new(false);
    let mut punched = 0_u64;
    let mut rx = spsc::UntrustedConsumer::from_fd(passed(&ring)).unwrap();
    let mut frames = 0;
    std::thread::scope(|scope| {
        let twin = scope.spawn(|| {
            let mut holes = 0_u64;
            while !stop.load(Relaxed) {
                for at in (0..CAPACITY).step_by(RECORD) {
                    memory.atomic(data + at + 8).store(Header::PLAIN.tail_word(), Relaxed);
                    memory.atomic(data + at).store(announcing(48), Relaxed);
                }
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                for page in (0..memory.len()).step_by(PAGE) {
                    fallocate(&fd, flags, page as u64, PAGE as u64).unwrap();
                    holes += 1;
                }
            }
            holes
        });
        let started = Instant::now();
        let mut buffer = [0; CAPACITY];
        while started.elapsed() < Duration::from_millis(500) || frames < 100 {
            match rx.try_recv_into(&mut buffer) {
                Ok(header) => {
                    assert_eq!(header.len, 48);
                    frames += 1;
                }
                Err(Error::Empty) => {}
                // A header whose second word was punched out is still a header. The test writes
                // nothing else here.
                Err(e) => panic!("{e}"),
            }
        }
        stop.store(true, Relaxed);
        punched = twin.join().unwrap();
    });
    println!("{punched} holes punched, {frames} frames received");
}

fn assert_untrusted(fd: impl Into<OwnedFd>, what: &str) {
    match spsc::UntrustedConsumer::from_fd(fd.into()) {
        Err(Error::Untrusted { .. }) => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn a_segment_with_a_missing_seal_is_refused() {
    let image = Shared::map(ring().as_fd()).to_vec();
    let with = |seals| {
        let fd = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::io::pwrite(&fd, &image, 0).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    for missing in [SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL, SEALS] {
        assert_untrusted(with(SEALS - missing), &format!("without {missing:?}"));
    }
    spsc::UntrustedConsumer::from_fd(with(SEALS)).unwrap();
    for more in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        let outcome = spsc::UntrustedConsumer::from_fd(with(SEALS | more));
        assert!(matches!(outcome, Err(Error::Io { .. })), "positions cannot be written to it: {outcome:?}");
    }
}

#[test]
fn a_descriptor_that_is_not_what_was_announced_is_refused() {
    let image = Shared::map(ring().as_fd()).to_vec();
    let (read_end, write_end) = rustix::pipe::pipe().unwrap();
    assert_untrusted(read_end, "pipe");
    assert_untrusted(write_end, "pipe");
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_untrusted(socket, "socket");
    assert_untrusted(File::open("/").unwrap(), "directory");
    assert_untrusted(File::open("/dev/zero").unwrap(), "device");
    let path = std::env::temp_dir().join(format!("slipring-twin-{}", std::process::id()));
    for directory in [path.clone(), "/dev/shm".into()] {
        let path = if directory == path { path.clone() } else { directory.join(path.file_name().unwrap()) };
        std::fs::write(&path, &image).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_untrusted(file, "regular file");
    }
    let huge = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    match memfd_create("forged", huge) {
        Ok(fd) => {
            ftruncate(&fd, 4 << 20).unwrap();
            fcntl_add_seals(&fd, SEALS).unwrap();
            assert_untrusted(fd, "huge pages");
        }
        Err(e) => eprintln!("no huge pages here: {e}"),
    }

    for len in [0, 1, 127, PAGE, image.len() - PAGE, image.len() + PAGE] {
        let outcome = spsc::UntrustedConsumer::from_fd(sealed(&image, len));
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "{len} bytes: {outcome:?}");
    }
    let fd = sealed(&image, image.len());
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    for flags in [OFlags::RDONLY, OFlags::WRONLY] {
        let half = open(&path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap();
        let outcome = spsc::UntrustedConsumer::from_fd(half);
        assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    }
    for other in [Options::mpmc(8, 40), Options::stream(4096)] {
        let outcome = spsc::UntrustedConsumer::from_fd(passed(&Ring::create_anonymous(&other).unwrap()));
        assert!(matches!(outcome, Err(Error::Incompatible { .. })), "{outcome:?}");
    }
}
