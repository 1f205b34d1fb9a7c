//! What fuzzing has found: each finding as a test, and every input that ever failed, from
//! `fuzz/regressions`.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use slipring::frame::Header;
use slipring::{Options, Redelivery, Ring, spsc};

use crate::fuzzing;
use crate::fuzzing::shared::{CONSUMER_PAGE, LINE, Shared};

const CAPACITY: usize = 4096;

/// A ring, the forger's mapping of it, and the offset of its data.
fn forged(options: Options) -> (Ring, Shared, usize) {
    let ring = Ring::create_anonymous(&options).unwrap();
    let memory = Shared::map(ring.as_fd());
    let data = memory.len() - CAPACITY;
    (ring, memory, data)
}

/// Fills the ring with frames of 48 bytes, without a zero word to end the chain.
fn endless(memory: &Shared, data: usize) {
    for at in (data..data + CAPACITY).step_by(64) {
        memory.set_word(at, Header { len: 48, ..Header::PLAIN }.commit_word());
        memory.set_word(at + 8, Header::PLAIN.tail_word());
    }
}

#[test]
fn inputs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    let mut count = 0;
    for (name, run) in fuzzing::TARGETS {
        let Ok(inputs) = std::fs::read_dir(folder.join(name)) else { continue };
        for input in inputs {
            let path = input.unwrap().path();
            eprintln!("{}", path.display());
            run(&std::fs::read(path).unwrap());
            count += 1;
        }
    }
    assert!(count > 0);
}

/// The sender chooses the position at which an untrusting receiver starts: the sum of 8-byte steps
/// overflowed.
#[test]
fn a_position_near_u64_max_does_not_overflow() {
    let (ring, memory, data) = forged(Options::spsc(CAPACITY));
    let start = 0_u64.wrapping_sub(32);
    memory.set_word(CONSUMER_PAGE + LINE, start);
    let at = data + CAPACITY - 32;
    memory.set_word(at + 8, Header::PLAIN.tail_word());
    memory.set_word(at + 16, u64::from_le_bytes(*b"around t"));
    memory.set_word(at + 24, u64::from_le_bytes(*b"he corne"));
    memory.set_word(data, u64::from_le_bytes(*b"r\0\0\0\0\0\0\0"));
    memory.set_word(at, Header { len: 17, ..Header::PLAIN }.commit_word());
    let mut rx = spsc::UntrustedConsumer::from_fd(ring.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let mut buffer = [0; 64];
    let header = rx.try_recv_into(&mut buffer).unwrap();
    assert_eq!(&buffer[..header.len as usize], b"around the corner");
    assert!(rx.try_recv_into(&mut buffer).is_err());
}

/// A batch over a chain of frames without an end was iterated forever.
#[test]
fn a_batch_spans_at_most_one_ring() {
    let (ring, memory, data) = forged(Options::spsc(CAPACITY));
    let mut rx = spsc::Consumer::attach(&ring).unwrap();
    endless(&memory, data);
    for _ in 0..3 {
        assert_eq!(rx.try_recv_batch(usize::MAX).unwrap().iter().take(1_000).count(), CAPACITY / 64 - 1);
    }
}

/// A consumer must skip what its dead predecessor held. If the record of that was forged and the
/// chain had no end, it skipped forever.
#[test]
fn skipping_frames_held_by_the_dead_terminates() {
    let (ring, memory, data) = forged(Options::spsc(CAPACITY).redelivery(Redelivery::AtMostOnce));
    endless(&memory, data);
    memory.set_word(CONSUMER_PAGE + LINE + 8, 68);
    drop(spsc::Consumer::attach(&ring).unwrap());
    assert_eq!(ring.stats().counts.lost, 2);
}

/// The head that a producer polls lags behind the exact one. A call with an expired deadline
/// returned `Full` even if the ring was empty.
#[test]
fn an_expired_deadline_does_not_make_an_empty_ring_full() {
    let (mut tx, mut rx) = spsc::pair(CAPACITY).unwrap();
    tx.try_send(&[0; 100]).unwrap();
    drop(rx.try_recv().unwrap());
    let largest = vec![7; tx.max_payload()];
    tx.send_deadline(&largest, Duration::ZERO).unwrap();
    assert_eq!(*rx.try_recv().unwrap(), largest[..]);
}
