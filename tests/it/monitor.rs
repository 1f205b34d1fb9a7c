//! Monitors of broadcast rings: they read through a descriptor that is open for reading only, and
//! survive whatever is stored in the ring.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use slipring::broadcast::{Monitor, Publisher, Received, Start};
use slipring::{Error, Options, Ring};

use crate::common::dir::TestDir;
use crate::common::shared::Shared;
use crate::common::this_test::this_test;

const SOON: Duration = Duration::from_secs(60);
const DIRECTORY: &str = "SLIPRING_MONITOR_DIRECTORY";

fn value(number: u64) -> Vec<u8> {
    let len = 8 + number as usize % 90;
    number.to_le_bytes().iter().copied().cycle().take(len).collect()
}

/// The number of a frame. Fails if it is torn.
fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == value(number), "torn");
    number
}

/// The ring's descriptor, open for reading only.
fn read_only(ring: &Ring) -> OwnedFd {
    File::open(format!("/proc/self/fd/{}", ring.as_fd().as_raw_fd())).unwrap().into()
}

/// Receives up to `end` frames; returns how many were missed.
fn follow(monitor: &mut Monitor, end: u64) -> u64 {
    let (mut next, mut lost) = (0, 0);
    let mut buffer = [0; 128];
    while next < end {
        match monitor.recv_into_deadline(&mut buffer, SOON).unwrap() {
            Received::Gap { missed } => (next, lost) = (next + missed, lost + missed),
            Received::Frame(header) => {
                assert_eq!(number(&buffer[..header.len as usize]), next, "a gap is exact");
                next += 1;
            }
        }
    }
    lost
}

#[test]
fn a_monitor_needs_no_more_than_to_read() {
    let ring = Ring::create_anonymous(&Options::broadcast(4096).participants(1)).unwrap();
    let fd = read_only(&ring);
    assert!(rustix::io::write(&fd, b"x").is_err(), "it cannot be written to");
    assert!(matches!(Ring::from_fd(fd.try_clone().unwrap(), &Options::any()), Err(Error::Io { .. })));
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut monitors: Vec<_> =
        (0..3).map(|_| Monitor::from_fd(fd.try_clone().unwrap(), Start::Oldest).unwrap()).collect();
    assert!(matches!(monitors[0].try_recv_into(&mut [0; 128]), Err(Error::Empty)));
    const FRAMES: u64 = 200_000;
    std::thread::scope(|scope| {
        let follows: Vec<_> = monitors.iter_mut().map(|monitor| scope.spawn(move || follow(monitor, FRAMES))).collect();
        for n in 0..FRAMES {
            tx.try_send(&value(n)).unwrap(); // never full
        }
        follows.into_iter().for_each(|follow| _ = follow.join().unwrap());
    });
    assert!(ring.subscribers().is_empty() && ring.participants().unwrap().len() == 1);
    for monitor in &mut monitors {
        assert!(matches!(monitor.try_recv_into(&mut [0; 128]), Err(Error::Empty)));
    }
    tx.close();
    for monitor in &mut monitors {
        assert!(matches!(monitor.recv_into(&mut [0; 128]), Err(Error::Closed)));
    }
    let mut tx = Publisher::attach(&ring).unwrap();
    tx.try_send(&value(FRAMES)).unwrap();
    let mut buffer = [0; 128];
    assert!(matches!(monitors[0].try_recv_into(&mut [0; 4]), Err(Error::TooLarge { .. })));
    assert!(matches!(monitors[0].try_recv_into(&mut buffer), Ok(Received::Frame(header)) if header.len > 0));
}

/// Not a test: a publisher in another process, until it is killed.
#[test]
fn publisher_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let options = Options::broadcast(4096).directory(directory);
    let mut tx = Publisher::open("ring", &options).unwrap();
    loop {
        tx.send(&value(tx.published())).unwrap();
    }
}

#[test]
fn a_monitor_follows_a_named_ring_until_its_publisher_is_killed() {
    let directory = TestDir::new("monitor");
    let options = Options::broadcast(4096).directory(&directory.0);
    assert!(matches!(Monitor::open("ring", &options, Start::Latest), Err(Error::NotFound)));
    let ring = Ring::create("ring", &options).unwrap();
    let mut monitor = Monitor::open("ring", &options, Start::Oldest).unwrap();
    let mut publisher = this_test(module_path!(), "publisher_process");
    let mut publisher = publisher.env(DIRECTORY, &directory.0).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while ring.stats().producers == 0 {
        assert!(start.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = follow(&mut monitor, 100_000);
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    let end = loop {
        match monitor.recv_into_deadline(&mut [0; 128], SOON) {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(end, Error::Closed), "{end}");
    let other = Options::spsc(4096).directory(&directory.0);
    Ring::create("other", &other).unwrap();
    assert!(matches!(Monitor::open("other", &options, Start::Latest), Err(Error::Incompatible { .. })));
}

/// Any word of the segment changes at any time: every call ends, in bytes or in an error.
#[test]
fn a_monitor_survives_a_hostile_ring() {
    let ring = Ring::create_anonymous(&Options::broadcast(4096).participants(4)).unwrap();
    let mut tx = Publisher::attach(&ring).unwrap();
    (0..100).for_each(|n| tx.try_send(&value(n)).unwrap());
    let memory = Shared::map(ring.as_fd());
    let honest = memory.to_vec();
    let words = honest.len() / 8;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut monitor = Monitor::from_fd(read_only(&ring), Start::Oldest).unwrap();
    let mut buffer = vec![0; monitor.max_payload()];
    for _ in 0..5_000 {
        // The first page is the header, which is read once.
        let at = 512 + next() as usize % (words - 512);
        let forged = match next() % 4 {
            0 => next(),
            1 => (next() % 8192) & !7,
            2 => 0,
            _ => (next() % 5000) << 32 | 3 << 24 | 0x12_52B7,
        };
        memory.set_word(8 * at, forged);
        match monitor.try_recv_into(&mut buffer) {
            Ok(Received::Frame(header)) => assert!(header.len as usize <= buffer.len()),
            Ok(Received::Gap { .. }) | Err(Error::Empty | Error::Closed) => {}
            Err(Error::Corrupt { .. }) => {
                let _ = Monitor::from_fd(read_only(&ring), Start::Latest).map(drop);
                memory.write(0, &honest);
                monitor = Monitor::from_fd(read_only(&ring), Start::Oldest).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}
