//! Counts the instructions that it takes to send and to receive a frame of 64 bytes: a limit that
//! does not depend on the load.
//!
//! The test runs itself under `valgrind --tool=callgrind` with N frames and with 2 N. The
//! difference is what N frames take, and nothing else. Only optimised code is worth counting:
//!
//! ```text
//! cargo test --release --test instructions -- --nocapture
//! ```
//!
//! Without optimisation, off x86-64 (the limits are counts of its instructions) and without
//! valgrind, the test prints that it is skipped.

use std::hint::black_box;
use std::process::{Command, Stdio};

use slipring::{Options, Ring, broadcast, latest, mpmc, mpsc, spsc};

const OPERATION: &str = "SLIPRING_INSTRUCTIONS_OPERATION";
const FRAMES: &str = "SLIPRING_INSTRUCTIONS_FRAMES";
/// Frames in the shorter of two runs.
const N: u64 = 10_000;

/// Instructions per operation when they were last recorded (rustc 1.95). The test fails at 10 %
/// more. If an operation gets cheaper, record the lower count here.
const RECORDED: [(&str, f64); 10] = [
    ("spsc send", 67.1),
    ("spsc recv", 56.8),
    ("mpmc send", 89.3),
    ("mpmc recv", 150.0),
    ("mpsc send", 67.1),
    ("mpsc recv", 68.5),
    ("broadcast send", 128.0),
    ("broadcast recv", 107.6),
    ("latest write", 62.9),
    ("latest read", 122.0),
];

/// Whether the operation is counted together with the one that sends.
fn receives(operation: &str) -> bool {
    operation.ends_with("recv") || operation.ends_with("read")
}

/// Not a test: the counted process. It sends frames, and for a receive operation also receives
/// them.
#[test]
fn counted_process() {
    let Ok(operation) = std::env::var(OPERATION) else { return };
    let frames: u64 = std::env::var(FRAMES).unwrap().parse().unwrap();
    let received = if receives(&operation) { frames } else { 0 };
    let payload = black_box([0xA5; 64]);
    // All frames fit into the ring, so no call waits.
    if operation.starts_with("spsc") {
        let ring = Ring::create_anonymous(&Options::spsc(1 << 22)).unwrap();
        let (mut tx, mut rx) = (spsc::Producer::attach(&ring).unwrap(), spsc::Consumer::attach(&ring).unwrap());
        (0..frames).for_each(|_| tx.send(&payload).unwrap());
        (0..received).for_each(|_| assert_eq!(rx.recv().unwrap().last(), Some(&0xA5)));
    } else if operation.starts_with("mpsc") {
        let (mut tx, mut rx) = mpsc::pair(1 << 22, 1).unwrap();
        (0..frames).for_each(|_| tx.send(&payload).unwrap());
        (0..received).for_each(|_| assert_eq!(rx.recv().unwrap().frame().unwrap().last(), Some(&0xA5)));
    } else if operation.starts_with("broadcast") {
        let (mut tx, mut rx) = broadcast::pair(1 << 22).unwrap();
        (0..frames).for_each(|_| tx.send(&payload).unwrap());
        (0..received).for_each(|_| assert_eq!(rx.recv().unwrap().last(), Some(&0xA5)));
    } else if operation.starts_with("latest") {
        let (mut tx, mut rx) = latest::pair(1, 64).unwrap();
        (0..frames).for_each(|_| assert!(tx.write(0, &payload).unwrap() > 0));
        let mut value = [0; 64];
        (0..received).for_each(|_| assert_eq!(rx.try_read(0, &mut value).unwrap().value.last(), Some(&0xA5)));
    } else {
        let ring = Ring::create_anonymous(&Options::mpmc(1 << 15, 64)).unwrap();
        let (tx, rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
        (0..frames).for_each(|_| tx.send(&payload).unwrap());
        (0..received).for_each(|_| assert_eq!(rx.recv().unwrap().last(), Some(&0xA5)));
        // Not part of a frame: a producer that closes reads the words that it has claimed.
        std::mem::forget((tx, rx));
    }
}

/// Instructions of a whole run.
fn instructions(operation: &str, frames: u64) -> u64 {
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "counted_process", "--test-threads=1"])
        .env(OPERATION, operation)
        .env(FRAMES, frames.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&valgrind.stderr);
    assert!(valgrind.status.success(), "{said}");
    // ==1234== Collected : 5678901
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")).unwrap_or_else(|| panic!("{said}"));
    collected.1.trim().parse().unwrap()
}

#[test]
fn a_frame_takes_at_most_a_tenth_more_instructions_than_recorded() {
    let missing = |what: &str| eprintln!("SKIPPED: instructions are not counted, {what}");
    if cfg!(debug_assertions) {
        return missing("since this is not optimised: cargo test --release --test instructions");
    }
    if cfg!(not(target_arch = "x86_64")) {
        return missing("the limits are for x86-64");
    }
    if !Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return missing("valgrind is not installed");
    }
    let per_frame = |operation| (instructions(operation, 2 * N) - instructions(operation, N)) as f64 / N as f64;
    let (mut sending, mut grown) = (0.0, Vec::new());
    for (operation, recorded) in RECORDED {
        // A run that receives has sent before.
        let both = per_frame(operation);
        let took = if receives(operation) { both - sending } else { both };
        sending = took;
        println!("{operation}, 64 bytes: {took:.1} instructions, {recorded:.1} recorded");
        if took > 1.1 * recorded {
            grown.push(operation);
        }
    }
    assert!(grown.is_empty(), "a tenth more instructions than recorded, or worse: {grown:?}");
}
