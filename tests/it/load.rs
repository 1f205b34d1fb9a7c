//! Round trips between two processes while other threads compete for the processors: over a socket,
//! over the rings that replace it, and over two bare futex words, which are the least that two
//! sleeping processes need.
//!
//! A measurement, not a gate: what it prints depends on the machine and on what else runs there.
//!
//! ```text
//! cargo test --release --test it load -- --ignored --nocapture
//! ```

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slipring::frame::{Event, Header};
use slipring::transport::unix::{Connection, Listener, Options, connect, connect_upgrading};
use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt};
use slipring::{Deadline, Error};

use crate::common::this_test::this_test;

const PATH: &str = "SLIPRING_LOAD_PATH";
const BUSY: &str = "SLIPRING_LOAD_BUSY";
const CAPACITY: usize = 1 << 20;
/// One run of round trips.
const RUN: Duration = Duration::from_millis(300);
const RUNS: usize = 9;

fn soon() -> Deadline {
    Duration::from_secs(20).into()
}

/// Not a test: the process that answers each message.
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
    let [ping, pong] = futex_words(Path::new(&path));
    let mut trips = 0;
    while sleep_while(ping, trips) != STOP {
        trips += 1;
        wake_with(pong, trips);
    }
}

/// The value that ends the exchange over futex words.
const STOP: u32 = u32::MAX;

/// Two words in memory that both processes share, on a page each. They stay mapped as long as the
/// process lives.
fn futex_words(beside: &Path) -> [&'static AtomicU32; 2] {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(beside.with_extension("futex"));
    let file = file.unwrap();
    file.set_len(8192).unwrap();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 8192, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(at, libc::MAP_FAILED);
    [0, 4096].map(|offset| {
        let word = at.wrapping_byte_add(offset).cast::<u32>();
        // SAFETY: mapped above and never unmapped, aligned, and only ever accessed as an atomic.
        unsafe { AtomicU32::from_ptr(word) }
    })
}

/// One `FUTEX_WAIT` or `FUTEX_WAKE`.
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    // SAFETY: a valid word; no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<libc::timespec>()) };
}

fn wake_with(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    futex(word, libc::FUTEX_WAKE, 1);
}

/// Sleeps until the word is no longer `value`, and returns what it is then.
fn sleep_while(word: &AtomicU32, value: u32) -> u32 {
    loop {
        match word.load(Ordering::Acquire) {
            same if same == value => futex(word, libc::FUTEX_WAIT, value),
            other => return other,
        }
    }
}

/// The mean of a run of round trips over futex words. `trips` continues across runs.
fn run_bare([ping, pong]: [&AtomicU32; 2], trips: &mut u32) -> Duration {
    let (start, first) = (Instant::now(), *trips);
    while start.elapsed() < RUN {
        for _ in 0..16 {
            wake_with(ping, *trips + 1);
            sleep_while(pong, *trips);
            *trips += 1;
        }
    }
    start.elapsed() / (*trips - first)
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

/// The mean of a run of round trips of 64 bytes.
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

/// Not a test: a process that spins until it is killed.
#[test]
fn busy_process() {
    while std::env::var_os(BUSY).is_some() {
        (0..u32::MAX).for_each(|n| {
            std::hint::black_box(n);
        });
    }
}

/// Calls `work` while `threads` threads spin, of this process or of others.
///
/// The difference matters for `membarrier`, which interrupts the processors that run a registered
/// process.
fn under_load(threads: usize, others: bool, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let busy = |_| {
        let mut command = this_test(module_path!(), "busy_process");
        command.env(BUSY, "1").stdout(Stdio::null()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..if others { threads } else { 0 }).map(busy).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads - processes.len() {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(());
                }
            });
        }
        work();
        stop.store(true, Ordering::Relaxed);
    });
    for mut process in processes {
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

#[test]
#[ignore = "a measurement: it needs the machine to itself"]
fn print_round_trips_over_a_socket_and_the_rings_that_replace_it() {
    let path: PathBuf = std::env::temp_dir().join(format!("slipring-load-{}", std::process::id()));
    let listener = Listener::bind(&path, &Options::default()).unwrap();
    let mut child = this_test(module_path!(), "other_process").env(PATH, &path).stdout(Stdio::null()).spawn().unwrap();
    let Connection::Stream(mut socket_tx, mut socket_rx) = listener.accept_upgrading(CAPACITY, soon()).unwrap() else {
        panic!("asked for a stream")
    };
    let processors = std::thread::available_parallelism().unwrap().get();
    let busy = [(0, false), (2, false), (4, false), (8, false), (2, true), (4, true), (8, true)];
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[RUNS / 4], times[RUNS / 2], times[RUNS * 3 / 4])
    };
    let mut socket = Vec::new();
    for (threads, others) in busy {
        under_load(threads * processors, others, || {
            socket.push(median((0..RUNS).map(|_| run(&mut socket_tx, &mut socket_rx)).collect()));
        });
    }
    socket_tx.close(soon()).unwrap();
    let Connection::Rings(mut tx, mut rx) = listener.accept_upgrading(CAPACITY, soon()).unwrap() else {
        panic!("asked for rings")
    };
    let mut rings = Vec::new();
    for (threads, others) in busy {
        under_load(threads * processors, others, || {
            rings.push(median((0..RUNS).map(|_| run(&mut tx, &mut rx)).collect()));
        });
    }
    tx.close(soon()).unwrap();
    let (words, mut trips) = (futex_words(&path), 0);
    for (((threads, others), socket), rings) in busy.into_iter().zip(socket).zip(rings) {
        under_load(threads * processors, others, || {
            let bare = median((0..RUNS).map(|_| run_bare(words, &mut trips)).collect());
            let ratio = |to: Duration| rings.1.as_secs_f64() / to.as_secs_f64();
            println!(
                "{threads} busy a processor{}: socket {socket:?}, rings {rings:?}, bare futex {bare:?}, \
                 rings to socket {:.2}, to futex {:.2}",
                if others { ", of other processes" } else { "" },
                ratio(socket.1),
                ratio(bare.1)
            );
        });
    }
    wake_with(words[0], STOP);
    assert!(child.wait().unwrap().success());
    fs::remove_file(path.with_extension("futex")).unwrap();
}
