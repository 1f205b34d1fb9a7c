//! What only FIFOs do: several writers in several processes, writers that attach, leave and are
//! killed, and files that must not be opened.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt, FrameSenderExt, fifo, stream::Options};
use slipring::{Deadline, Error};

use crate::common::dir::TestDir;
use crate::common::this_test::this_test;

/// The task of a child: `PATH FRAMES SIZE WRITER`. It sends FRAMES frames and closes; if FRAMES is
/// 0, it sends until it is killed.
const JOB: &str = "SLIPRING_TEST_FIFO_WRITER";

fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(120))
}

fn payload(writer: u16, number: u32, size: usize) -> Vec<u8> {
    let mut payload = vec![(number as u8) ^ (writer as u8); size];
    payload[..2].copy_from_slice(&writer.to_le_bytes());
    payload[2..6].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Not a test: the body of the children.
#[test]
fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let [path, frames, size, writer] = job.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let (frames, size, writer): (u32, usize, u16) =
        (frames.parse().unwrap(), size.parse().unwrap(), writer.parse().unwrap());
    let mut tx = fifo::sender(path, &Options::new(), deadline()).unwrap();
    let header = Header { stream: writer, ..Header::PLAIN };
    let mut number = 0;
    while frames == 0 || number < frames {
        tx.send_deadline(header, &payload(writer, number, size), deadline()).unwrap();
        number += 1;
    }
    tx.close(deadline()).unwrap();
}

fn writer(path: &Path, frames: u32, size: usize, writer: u16) -> Child {
    this_test(module_path!(), "child")
        .env(JOB, format!("{} {frames} {size} {writer}", path.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn frames_of_many_writers_are_whole_and_in_each_writers_order() {
    let scratch = TestDir::with_mode("fifo-many", 0o700);
    let mut rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
    let sizes = [40, 3000, 4080, 100_000];
    let mut children: Vec<_> = (0..4).map(|n| writer(&scratch.file("fifo"), 200, sizes[n as usize], n)).collect();
    let (mut next, mut frames) = ([0u32; 4], 0);
    while frames < 800 {
        match rx.recv_deadline(deadline()) {
            Ok(Event::Frame(frame)) => {
                let n = usize::from(frame.header.stream);
                assert!(frame.payload == payload(n as u16, next[n], sizes[n]), "writer {n}, frame {}", next[n]);
                next[n] += 1;
                frames += 1;
            }
            Ok(other) => panic!("{other:?}"),
            // The writers attached so far have left; the others are still starting.
            Err(Error::Closed) => rx.wait_for_peer(deadline()).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_killed_writer_leaves_whole_frames_and_the_next_writers_frames_arrive() {
    let scratch = TestDir::with_mode("fifo-killed", 0o700);
    let mut rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
    for round in 0..5u16 {
        let mut child = writer(&scratch.file("fifo"), 0, 50_000, round);
        rx.wait_for_peer(deadline()).unwrap();
        let mut number = 0;
        let end = loop {
            match rx.recv_deadline(deadline()) {
                Ok(Event::Frame(frame)) => {
                    assert!(frame.payload == payload(round, number, 50_000), "round {round}, frame {number}");
                    number += 1;
                    if number == 20 {
                        child.kill().unwrap();
                    }
                }
                Ok(Event::Skipped { bytes, .. }) => assert!(bytes < 50_000, "the frame that it did not finish"),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        child.wait().unwrap();
        assert!(matches!(end, Error::PeerDead), "{end}");
        assert!(number >= 20);
        assert!(matches!(rx.try_recv(), Err(Error::PeerDead)), "every call reports it");
        assert!(
            matches!(rx.wait_for_peer(Duration::from_millis(20)), Err(Error::Timeout)),
            "and the receiver waits for the next writer"
        );
    }
}

#[test]
fn no_frame_is_lost_while_the_reader_changes_its_descriptor() {
    let scratch = TestDir::with_mode("fifo-renew", 0o700);
    let mut rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
    let path = scratch.file("fifo");
    const WRITERS: u32 = 2000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..WRITERS {
                let mut tx = fifo::sender(&path, &Options::new(), deadline()).unwrap();
                tx.send_deadline(Header::PLAIN, &number.to_le_bytes(), deadline()).unwrap();
                tx.close(deadline()).unwrap(); // a drop does not wait for room for BYE
            }
        });
        let mut expected = 0;
        while expected < WRITERS {
            match rx.recv_deadline(deadline()) {
                Ok(Event::Frame(frame)) => {
                    assert_eq!(frame.payload, expected.to_le_bytes());
                    expected += 1;
                }
                Err(Error::Closed) => rx.wait_for_peer(deadline()).unwrap(),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_foreign_writer_without_frames_causes_an_end_and_no_busy_loop() {
    let scratch = TestDir::with_mode("fifo-foreign", 0o700);
    let mut rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    let shell = |line: &str| {
        let status = Command::new("sh").arg("-c").arg(line).current_dir(&scratch.0).status().unwrap();
        assert!(status.success());
    };
    shell(": > fifo");
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
    assert!(matches!(rx.wait_for_peer(Duration::from_millis(10)), Err(Error::Timeout)));
    shell("printf 'no frame at all, but long enough to be judged' > fifo");
    assert!(matches!(rx.recv_deadline(deadline()), Ok(Event::Skipped { .. })));
    assert!(matches!(rx.recv_deadline(deadline()), Err(Error::Closed)));
}

#[test]
fn a_writer_waits_for_a_reader_until_its_deadline() {
    let scratch = TestDir::with_mode("fifo-wait", 0o700);
    let late = fifo::sender(scratch.file("fifo"), &Options::new(), Duration::from_millis(20));
    assert!(matches!(late, Err(Error::Timeout)));
    let mode = std::fs::metadata(scratch.file("fifo")).unwrap();
    assert!(mode.file_type().is_fifo());
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fifo::sender(scratch.file("fifo"), &Options::new(), deadline()));
        let _rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
        assert!(writer.join().unwrap().is_ok());
    });
}

#[test]
fn one_reader_at_a_time() {
    let scratch = TestDir::with_mode("fifo-readers", 0o700);
    let rx = fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap();
    assert!(matches!(fifo::receiver(scratch.file("fifo"), &Options::new()), Err(Error::RoleTaken { .. })));
    drop(rx);
    assert!(fifo::receiver(scratch.file("fifo"), &Options::new()).is_ok());
}

#[test]
fn a_path_that_is_no_fifo_of_this_user_is_refused() {
    let scratch = TestDir::with_mode("fifo-refused", 0o700);
    let file = scratch.0.join("file");
    std::fs::File::create(&file).unwrap().write_all(b"precious").unwrap();
    let link = scratch.0.join("link");
    drop(fifo::receiver(scratch.file("fifo"), &Options::new()).unwrap());
    symlink(scratch.file("fifo"), &link).unwrap();
    for path in [&file, &link] {
        let untrusted = |error| matches!(error, Some(Error::Untrusted { .. }));
        assert!(untrusted(fifo::receiver(path, &Options::new()).err()), "{}", path.display());
        assert!(untrusted(fifo::sender(path, &Options::new(), deadline()).err()), "{}", path.display());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let nowhere = scratch.0.join("no/fifo");
    assert!(matches!(fifo::receiver(nowhere, &Options::new()), Err(Error::Invalid { .. })));
    std::fs::set_permissions(scratch.file("fifo"), PermissionsExt::from_mode(0o622)).unwrap();
    assert!(matches!(fifo::receiver(scratch.file("fifo"), &Options::new()), Err(Error::Untrusted { .. })));
}
