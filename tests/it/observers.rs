//! Observing rings that other processes use: `verify` reports no problem in a ring in use,
//! `inspect` shows whole frames only, and damage is found once the ring is at rest. Also: a
//! doorbell rings for a frame that a dead producer left behind.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::transport::{FrameReceiver, FrameReceiverExt, ring};
use slipring::{Error, Kind, Options, Ring, mpmc, spsc, stream};

use crate::common::shared::{CONSUMER_PAGE, LINE, PRODUCER_PAGE, Shared};
use crate::common::this_test::this_test;

const DIRECTORY: &str = "SLIPRING_OBSERVERS_DIRECTORY";
const TASK: &str = "SLIPRING_OBSERVERS_TASK";
const LOOKS: usize = 60;
const SOON: Duration = Duration::from_secs(60);
/// Not a divisor of the ring's size, so that payloads wrap around its end.
const LONGEST: usize = 700;

/// A directory for one ring, and the processes that use it.
struct Place {
    directory: PathBuf,
    options: Options,
    processes: Vec<Child>,
}

impl Place {
    fn new(name: &str, options: Options) -> (Self, Ring) {
        let directory = std::env::temp_dir().join(format!("slipring-observers-{name}-{}", std::process::id()));
        let options = options.directory(&directory);
        let ring = Ring::create("ring", &options).unwrap();
        (Place { directory, options, processes: Vec::new() }, ring)
    }

    fn start(&mut self, task: &str) {
        let child = this_test(module_path!(), "other_process")
            .envs([(DIRECTORY, self.directory.as_os_str()), (TASK, task.as_ref())])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.processes.push(child);
    }

    fn kill(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.processes.clear();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill();
        let _ = Ring::remove("ring", &self.options);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A frame whose payload repeats its number, so that a torn one is recognized.
fn fill(number: u64, payload: &mut Vec<u8>) {
    let len = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % LONGEST;
    payload.clear();
    payload.extend(number.to_le_bytes().iter().cycle().take(8 + len));
}

fn is_whole(payload: &[u8]) -> bool {
    payload.len() >= 8 && payload.iter().zip(payload[..8].iter().cycle()).all(|(found, wanted)| found == wanted)
}

/// Not a test: the tasks of the other processes.
#[test]
fn other_process() {
    let (Some(directory), Ok(task)) = (std::env::var_os(DIRECTORY), std::env::var(TASK)) else { return };
    let options = Options::any().directory(Path::new(&directory));
    let ring = Ring::open("ring", &options).unwrap();
    let (mut payload, mut number) = (Vec::new(), 0);
    let mut next = |payload: &mut Vec<u8>| {
        number += 1;
        fill(number, payload);
    };
    next(&mut payload);
    // Until its peer is killed, or this process is.
    match &*task {
        "spsc send" => {
            let mut tx = spsc::Producer::attach(&ring).unwrap();
            while tx.send(&payload).is_ok() {
                next(&mut payload);
            }
        }
        "spsc recv" => {
            let mut rx = spsc::Consumer::attach(&ring).unwrap();
            while let Ok(frame) = rx.recv() {
                assert!(is_whole(&frame));
            }
        }
        "mpmc send" => {
            let tx = mpmc::Producer::attach(&ring).unwrap();
            while tx.send(&payload).is_ok() {
                next(&mut payload);
            }
        }
        "mpmc recv" => {
            let rx = mpmc::Consumer::attach(&ring).unwrap();
            while let Ok(frame) = rx.recv() {
                assert!(is_whole(&frame));
            }
        }
        "stream write" => {
            let mut tx = stream::Producer::attach(&ring).unwrap();
            while tx.write_all(&[7; 3000]).is_ok() {}
        }
        "stream read" => {
            let mut rx = stream::Consumer::attach(&ring).unwrap();
            while rx.read(&mut [0; 3000]).is_ok() {}
        }
        "attach" => {
            let _tx = spsc::Producer::attach(&ring).unwrap();
            loop {
                std::thread::park();
            }
        }
        other => panic!("{other}"),
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The sum of the producers' positions.
fn progress(ring: &Ring) -> u64 {
    ring.stats().tail
}

/// Observes the ring that `tasks` use, each time after it has moved on. Then stops the tasks, and
/// observes it once more.
fn observe(name: &str, options: Options, tasks: &[&str]) {
    let (mut place, ring) = Place::new(name, options);
    tasks.iter().for_each(|task| place.start(task));
    let (mut answered, mut shown) = (0, 0);
    for _ in 0..LOOKS {
        let before = progress(&ring);
        wait_for("nothing moves", || progress(&ring) != before);
        let report = ring.verify().unwrap();
        assert!(report.is_clean(), "accused: {:?}", report.problems);
        answered += usize::from(!report.changed);
        if ring.kind() != Kind::Stream {
            let mut show = |payload: &[u8]| {
                assert!(is_whole(payload), "torn: {payload:?}");
                shown += 1;
                true
            };
            ring.inspect(|frame| show(frame.payload)).unwrap();
        }
    }
    assert!(answered > 0, "no observation returned anything");
    assert!(shown > 0 || ring.kind() == Kind::Stream, "no frame was seen");
    place.kill();
    let report = ring.verify().unwrap();
    assert!(report.is_clean() && !report.changed, "{report:?}");
}

#[test]
fn verify_reports_no_problem_in_a_busy_byte_ring() {
    for (name, capacity) in [("spsc-small", 4096), ("spsc", 1 << 16)] {
        observe(name, Options::spsc(capacity), &["spsc send", "spsc recv"]);
    }
}

#[test]
fn verify_reports_no_problem_in_a_busy_slot_ring() {
    for (name, slots) in [("mpmc-small", 4), ("mpmc", 256)] {
        observe(name, Options::mpmc(slots, LONGEST + 8), &["mpmc send", "mpmc send", "mpmc recv", "mpmc recv"]);
    }
}

#[test]
fn verify_reports_no_problem_in_a_busy_stream() {
    observe("stream", Options::stream(4096), &["stream write", "stream read"]);
}

/// Observes a ring that threads of this process use: for `tests/sanitize.sh`, which detects races.
fn observe_beside_threads(ring: &Ring, send: impl FnOnce(u64) + Send, recv: impl FnOnce(u64) + Send) {
    const FRAMES: u64 = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| send(FRAMES));
        let receiver = scope.spawn(|| recv(FRAMES));
        while !receiver.is_finished() {
            let report = ring.verify().unwrap();
            assert!(report.is_clean(), "accused: {:?}", report.problems);
            let _ = ring.stats();
            if ring.kind() != Kind::Stream {
                ring.inspect(|frame| {
                    assert!(is_whole(frame.payload), "torn: {:?}", frame.payload);
                    true
                })
                .unwrap();
            }
        }
    });
}

#[test]
fn observing_threads_is_free_of_races() {
    let payloads = |frames| {
        (0..frames).map(|number| {
            let mut payload = Vec::new();
            fill(number, &mut payload);
            payload
        })
    };
    let ring = Ring::create_anonymous(&Options::spsc(1 << 14)).unwrap();
    let (mut tx, mut rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
    observe_beside_threads(
        &ring,
        move |frames| payloads(frames).for_each(|payload| tx.send(&payload).unwrap()),
        move |frames| (0..frames).for_each(|_| assert!(is_whole(&rx.recv().unwrap()))),
    );
    let ring = Ring::create_anonymous(&Options::mpmc(16, LONGEST + 8)).unwrap();
    let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
    observe_beside_threads(
        &ring,
        move |frames| payloads(frames).for_each(|payload| tx.send(&payload).unwrap()),
        move |frames| (0..frames).for_each(|_| assert!(is_whole(&rx.recv().unwrap()))),
    );
    let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
    let (mut tx, mut rx) = (stream::Producer::attach(&ring).unwrap(), stream::Consumer::attach(&ring).unwrap());
    observe_beside_threads(
        &ring,
        move |blocks| (0..blocks).for_each(|_| tx.write_all(&[7; 8]).unwrap()),
        move |blocks| {
            let mut left = 8 * blocks as usize;
            while left > 0 {
                left -= rx.read(&mut [0; 64]).unwrap();
            }
        },
    );
}

/// The ring's words, at the offsets of `src/segment/layout.rs`.
fn map(ring: &Ring) -> Shared {
    Shared::map(ring.as_fd())
}

fn problems(ring: &Ring) -> String {
    let report = ring.verify().unwrap();
    assert!(!report.changed);
    report.problems.join("; ")
}

#[test]
fn damage_to_a_ring_at_rest_is_found() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let mut tx = spsc::Producer::attach(&ring).unwrap();
    (0..3).for_each(|_| tx.send(&[1; 100]).unwrap());
    assert_eq!(problems(&ring), "");
    let (memory, second) = (map(&ring), ring.total_len() - 4096 + 120);
    let header = memory.word(second);
    memory.set_word(second, 0);
    assert!(problems(&ring).contains("before the tail"));
    memory.set_word(second, 0xDEAD);
    assert!(!problems(&ring).is_empty());
    assert!(ring.inspect(|_| true).is_err());
    memory.set_word(second, header);
    memory.set_word(CONSUMER_PAGE + LINE, 4);
    assert!(problems(&ring).contains("not aligned"));

    let ring = Ring::create_anonymous(&Options::mpmc(8, 8)).unwrap();
    let tx = mpmc::Producer::attach(&ring).unwrap();
    tx.send(b"frame").unwrap();
    assert_eq!(problems(&ring), "");
    map(&ring).set_word(PRODUCER_PAGE, 1 << 20);
    assert!(problems(&ring).contains("ahead of what was claimed"));

    let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
    let mut tx = stream::Producer::attach(&ring).unwrap();
    tx.write_all(b"bytes").unwrap();
    assert_eq!(problems(&ring), "");
    map(&ring).set_word(PRODUCER_PAGE, 5000);
    assert!(problems(&ring).contains("more than a ring ahead"));
}

/// The tail is for observers, and is written after the commit. A frame whose producer died between
/// the two is delivered anyway, and then the death is reported.
#[test]
fn a_doorbell_rings_for_a_frame_beyond_the_tail() {
    let (mut place, ring) = Place::new("bell", Options::spsc(4096));
    let mut rx = ring::Receiver::attach(&ring).unwrap().with_doorbell().unwrap();
    place.start("attach");
    wait_for("no producer", || ring.stats().producers == 1);
    // Arms the doorbell while the producer is attached.
    while !matches!(rx.try_recv(), Err(Error::Empty)) {}
    assert!(matches!(rx.recv_deadline(Duration::from_millis(20)), Err(Error::Timeout)));
    // The steps of a producer that dies before it writes the tail.
    let (memory, data) = (map(&ring), ring.total_len() - 4096);
    let header = Header { len: 8, ..Header::PLAIN };
    memory.set_word(data + 16, u64::from_le_bytes(*b"orphaned"));
    memory.set_word(data + 8, header.tail_word());
    memory.set_word(data, header.commit_word());
    place.kill();
    match rx.recv_deadline(SOON) {
        Ok(Event::Frame(frame)) => assert_eq!(frame.payload, b"orphaned"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
}
