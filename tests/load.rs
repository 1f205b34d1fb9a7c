//! Round trips between two processes while other threads want the processors: over a socket, and over the rings that replace it.
//!
//! A measurement, not a gate: what it prints depends on the machine and on what else runs there.
//!
//! ```text
//! cargo test --release --test load -- --ignored --nocapture
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::transport::unix::{Connection, Listener, Options, connect, connect_upgrading};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

const PATH: &str = "SLIPRING_LOAD_PATH";
const CAPACITY: usize = 1 << 20;
/// One run of round trips.
const RUN: Duration = Duration::from_millis(300);
const RUNS: usize = 9;

fn soon() -> Deadline {
    Duration::from_secs(20).into()
}

/// Not a test: the process that answers.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let options = Options::default();
    let (mut tx, mut rx) = connect(Path::new(&path), &options, soon()).unwrap();
    answer(&mut tx, &mut rx);
    match connect_upgrading(Path::new(&path), &options, CAPACITY, soon()).unwrap() {
        Connection::Rings(mut tx, mut rx) => answer(&mut tx, &mut rx),
        Connection::Stream(..) => panic!("no rings"),
    }
}

fn answer(tx: &mut impl FrameSender, rx: &mut impl FrameReceiver) {
    loop {
        match rx.recv() {
            Ok(Event::Frame(frame)) => tx.send(Header::PLAIN, frame.payload).unwrap(),
            Ok(other) => panic!("{other:?}"),
            Err(Error::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Mean of a run of round trips of 64 bytes.
fn run(tx: &mut dyn FrameSender, rx: &mut dyn FrameReceiver) -> Duration {
    let (start, mut trips) = (Instant::now(), 0u32);
    while start.elapsed() < RUN {
        for _ in 0..16 {
            let payload = [trips as u8; 64];
            tx.send(Header::PLAIN, &payload).unwrap();
            match rx.recv().unwrap() {
                Event::Frame(frame) => assert_eq!(frame.payload, payload),
                other => panic!("{other:?}"),
            }
            trips += 1;
        }
    }
    start.elapsed() / trips
}

/// Calls `work` while `threads` threads never rest.
fn under_load(threads: usize, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(());
                }
            });
        }
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "a measurement: it needs the machine to itself"]
fn rings_beside_the_socket_that_they_replaced() {
    let path: PathBuf = std::env::temp_dir().join(format!("slipring-load-{}", std::process::id()));
    let listener = Listener::bind(&path, &Options::default()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture"])
        .env(PATH, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let Connection::Stream(mut socket_tx, mut socket_rx) = listener.accept_upgrading(CAPACITY, soon()).unwrap() else {
        panic!("asked for a stream")
    };
    let processors = std::thread::available_parallelism().unwrap().get();
    let busy = [0, 2, 4, 8];
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[RUNS / 4], times[RUNS / 2], times[RUNS * 3 / 4])
    };
    let mut socket = Vec::new();
    for threads in busy {
        under_load(threads * processors, || {
            socket.push(median((0..RUNS).map(|_| run(&mut socket_tx, &mut socket_rx)).collect()));
        });
    }
    socket_tx.close(soon()).unwrap();
    let Connection::Rings(mut tx, mut rx) = listener.accept_upgrading(CAPACITY, soon()).unwrap() else {
        panic!("asked for rings")
    };
    for (threads, socket) in busy.into_iter().zip(socket) {
        under_load(threads * processors, || {
            let rings = median((0..RUNS).map(|_| run(&mut tx, &mut rx)).collect());
            let ratio = rings.1.as_secs_f64() / socket.1.as_secs_f64();
            println!("{threads} busy a processor: socket {socket:?}, rings {rings:?}, ratio {ratio:.2}");
        });
    }
    tx.close(soon()).unwrap();
    assert!(child.wait().unwrap().success());
}
