//! A busy stream makes no system call per frame, neither in `send` nor in `recv` nor in a `WaitSet`,
//! although all of them may sleep.
//!
//! Two processes stream through a ring with the blocking calls, in the default wake mode, under
//! `strace -f -c`, which counts their system calls. The count of a run without frames (start,
//! attach, leave) is subtracted. Without `strace`, or where it may not trace, the test prints that
//! it is skipped.

use std::process::{Command, Stdio};
use std::time::Duration;

use slipring::{Error, Options, Ring, Token, WaitSet, mpmc, spsc};

use crate::common::dir::TestDir;
use crate::common::tasks::block_on;
use crate::common::this_test::this_test;

const FRAMES: u64 = 1_000_000;
/// Further members of the set.
const IDLE: usize = 15;
const ROLE: &str = "SLIPRING_STREAM_ROLE";
const KIND: &str = "SLIPRING_STREAM_KIND";
const DIR: &str = "SLIPRING_STREAM_DIR";
const COUNT: &str = "SLIPRING_STREAM_COUNT";
/// Far longer than any run here takes.
const SOON: Duration = Duration::from_secs(60);

/// Not a test: the two counted processes. The producer starts the consumer.
#[test]
fn streaming_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [kind, dir, count] = [KIND, DIR, COUNT].map(|name| std::env::var(name).unwrap());
    let count: u64 = count.parse().unwrap();
    let mut consumer = (role == "producer").then(|| streaming().env(ROLE, "consumer").spawn().unwrap());
    let frame = |i: u64| [i; 8].map(u64::to_le_bytes).concat();
    match (kind.as_str(), consumer.is_some()) {
        ("spsc" | "spsc-attended" | "set", true) => {
            let options = Options::spsc(1 << 20).directory(dir).fail_without_consumer(kind == "spsc-attended");
            let mut tx = spsc::Producer::open("ring", &options).unwrap();
            tx.wait_for_peer(SOON).unwrap();
            (0..count).for_each(|i| tx.send(&frame(i)).unwrap());
        }
        ("spsc" | "spsc-attended", false) => {
            let mut rx = spsc::Consumer::open("ring", &Options::spsc(1 << 20).directory(dir)).unwrap();
            (0..count).for_each(|i| assert_eq!(*rx.recv().unwrap(), frame(i)));
            assert!(matches!(rx.recv(), Err(Error::Closed)));
        }
        ("set", false) => {
            let mut rx = spsc::Consumer::open("ring", &Options::spsc(1 << 20).directory(dir)).unwrap();
            let idle: Vec<_> = (0..IDLE).map(|_| Ring::create_anonymous(&Options::spsc(4096)).unwrap()).collect();
            let idle: Vec<_> = idle.iter().map(|ring| spsc::Consumer::attach(ring).unwrap()).collect();
            let mut set = WaitSet::new().unwrap();
            set.add(Token(IDLE), rx.readable()).unwrap();
            idle.iter().enumerate().for_each(|(n, rx)| set.add(Token(n), rx.readable()).unwrap());
            let (mut next, mut is_over) = (0, false);
            while !is_over {
                assert!(set.wait().unwrap().eq([Token(IDLE)]));
                loop {
                    match rx.try_recv() {
                        Ok(view) => assert_eq!(*view, frame(next)),
                        Err(Error::Empty) => break,
                        Err(end) => {
                            assert_eq!(end, Error::Closed);
                            is_over = true;
                            break;
                        }
                    }
                    next += 1;
                }
            }
            assert_eq!(next, count);
        }
        ("tasks", true) => {
            let tx = spsc::Producer::open("ring", &Options::spsc(1 << 20).directory(dir)).unwrap();
            tx.wait_for_peer(SOON).unwrap();
            let mut tx = spsc::AsyncProducer::new(tx);
            block_on(async {
                for i in 0..count {
                    tx.send(&frame(i)).await.unwrap();
                }
            });
        }
        ("tasks", false) => {
            let rx = spsc::Consumer::open("ring", &Options::spsc(1 << 20).directory(dir)).unwrap();
            let mut rx = spsc::AsyncConsumer::new(rx);
            block_on(async {
                for i in 0..count {
                    assert_eq!(*rx.recv().await.unwrap(), frame(i));
                }
                assert!(matches!(rx.recv().await, Err(Error::Closed)));
            });
        }
        (_, true) => {
            let tx = mpmc::Producer::open("ring", &Options::mpmc(16_384, 64).directory(dir)).unwrap();
            tx.wait_for_peer(SOON).unwrap();
            (0..count).for_each(|i| tx.send(&frame(i)).unwrap());
        }
        (_, false) => {
            let rx = mpmc::Consumer::open("ring", &Options::mpmc(16_384, 64).directory(dir)).unwrap();
            (0..count).for_each(|i| assert_eq!(*rx.recv().unwrap(), frame(i)));
            assert!(matches!(rx.recv(), Err(Error::Closed)));
        }
    }
    if let Some(consumer) = &mut consumer {
        assert!(consumer.wait().unwrap().success());
    }
}

/// This test program, to run [`streaming_process`].
fn streaming() -> Command {
    let mut command = this_test(module_path!(), "streaming_process");
    command.stdout(Stdio::null());
    command
}

/// The system calls of both processes for `count` frames; `None` if they cannot be counted on this
/// machine.
fn calls(kind: &str, count: u64) -> Option<u64> {
    let dir = TestDir::new(&format!("syscalls-{kind}"));
    let table = dir.0.join(".strace");
    let streaming = streaming();
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&table).arg(streaming.get_program());
    command.args(streaming.get_args()).stdout(Stdio::null());
    command.envs([(ROLE, "producer"), (KIND, kind), (COUNT, &count.to_string())]).env(DIR, &dir.0);
    let status = match command.status() {
        Ok(status) => status,
        Err(e) => {
            println!("SKIPPED: strace cannot be started ({e}); install it to run this test");
            return None;
        }
    };
    let table = std::fs::read_to_string(&table).unwrap_or_default();
    let total = table.lines().find_map(|line| line.trim().strip_suffix("total")?.trim().parse().ok());
    if total.is_none() {
        println!("SKIPPED: strace may not trace here ({status})");
    } else {
        assert!(status.success(), "{status}");
    }
    total
}

/// Load on the machine makes a stream sleep more often: one quiet run out of three is enough.
fn assert_no_call_per_frame(kind: &str, limit: f64) {
    let Some(idle) = calls(kind, 0) else { return };
    let mut rates = Vec::new();
    for _ in 0..3 {
        let Some(busy) = calls(kind, FRAMES) else { return };
        let rate = busy.saturating_sub(idle) as f64 / FRAMES as f64;
        println!("{kind}: {busy} system calls for {FRAMES} frames, {idle} for none: {rate:.6} a frame");
        if rate < limit {
            return;
        }
        rates.push(rate);
    }
    panic!("{kind}: {rates:?} system calls a frame");
}

#[test]
fn spsc_streams_without_system_calls() {
    assert_no_call_per_frame("spsc", 0.001);
}

/// The notifier makes none either, although the words of idle members stay armed.
#[test]
fn a_set_receives_a_stream_without_system_calls() {
    // A sleep of a set takes more calls than one of a ring.
    assert_no_call_per_frame("set", 0.01);
}

#[test]
fn a_producer_that_fails_without_consumer_streams_without_system_calls() {
    assert_no_call_per_frame("spsc-attended", 0.001);
}

/// A task that waits takes more calls than a thread: the reactor sleeps for it, and wakes it.
#[test]
fn tasks_stream_without_a_system_call_per_frame() {
    // Measured on a loaded machine: 0.0006 to 0.0013.
    assert_no_call_per_frame("tasks", 0.01);
}

#[test]
fn mpmc_streams_without_system_calls() {
    assert_no_call_per_frame("mpmc", 0.001);
}
