//! The algorithm alone, on heap memory (so Miri can run it), at any position up to the last one
//! before 2^64.

use super::super::core::{Consumer, Producer};
use super::super::layout::{HEAD, Shared, TAIL};
use crate::error::Error;
use crate::memory;
use crate::memory::Area;
use crate::sync::Ordering;

const CAPACITY: usize = 64;

struct Bare {
    producer: Area,
    consumer: Area,
    data: Area,
}

impl Bare {
    /// A stream after this many bytes were written, and this many read.
    fn at(tail: u64, head: u64) -> Self {
        let (one, other) = (memory::heap(4096, CAPACITY).unwrap(), memory::heap(4096, CAPACITY).unwrap());
        one.control.word(TAIL).store(tail, Ordering::Relaxed);
        other.control.word(HEAD).store(head, Ordering::Relaxed);
        Bare { producer: one.control, consumer: other.control, data: one.data }
    }

    fn shared(&self) -> Shared {
        Shared::new(self.producer.clone(), self.consumer.clone(), self.data.clone(), CAPACITY)
    }

    fn ends(&self) -> (Producer, Consumer) {
        (Producer::attach(self.shared()).unwrap(), Consumer::attach(self.shared()).unwrap())
    }
}

fn positions() -> impl Iterator<Item = u64> {
    let step = if cfg!(miri) { 17 } else { 1 };
    let wrap = (1..2 * CAPACITY as u64).step_by(step).map(|before| 0u64.wrapping_sub(before));
    (0..2 * CAPACITY as u64).step_by(step).chain(wrap)
}

fn write(tx: &mut Producer, bytes: &[u8]) -> usize {
    let n = tx.free(bytes.len()).min(bytes.len());
    tx.write(&bytes[..n]);
    tx.commit(n);
    n
}

fn read(rx: &mut Consumer, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; rx.available(len).unwrap().min(len)];
    rx.read(&mut bytes);
    rx.release(bytes.len());
    bytes
}

#[test]
fn every_length_at_every_position() {
    for position in positions() {
        for len in 0..=CAPACITY {
            let bare = Bare::at(position, position);
            let (mut tx, mut rx) = bare.ends();
            assert_eq!(read(&mut rx, 1), [0u8; 0], "empty");
            let sent: Vec<u8> = (0..len as u8).map(|i| i.wrapping_mul(37)).collect();
            assert_eq!(write(&mut tx, &sent), len);
            assert_eq!(bare.shared().observe(), (position, position.wrapping_add(len as u64)));
            let rest = write(&mut tx, &[0xFF; CAPACITY + 1]);
            assert_eq!(rest, CAPACITY - len, "full to the byte");
            assert_eq!(write(&mut tx, &[1]), 0);
            assert_eq!(tx.high_water(), CAPACITY as u64);
            assert_eq!(read(&mut rx, len), sent, "{len} at {position}");
            assert_eq!(read(&mut rx, CAPACITY + 1), vec![0xFF; rest]);
        }
    }
}

#[test]
fn successors_continue_where_the_dead_committed_and_released() {
    for position in positions() {
        let bare = Bare::at(position, position);
        let (mut tx, mut rx) = bare.ends();
        write(&mut tx, b"committed");
        assert!(tx.free(5) >= 5);
        tx.write(b"never");
        let mut seen = [0; 4];
        assert!(rx.available(4).unwrap() >= 4);
        rx.read(&mut seen);
        drop((tx, rx));
        let (mut tx, mut rx) = bare.ends();
        write(&mut tx, b" again");
        assert_eq!(read(&mut rx, CAPACITY), b"committed again", "at {position}");
    }
}

#[test]
fn forged_positions_are_errors_and_never_bounds() {
    for (tail, head) in [(CAPACITY as u64 + 1, 0), (0, 1), (u64::MAX, 5)] {
        let bare = Bare::at(tail, head);
        assert!(matches!(Producer::attach(bare.shared()), Err(Error::Corrupt { .. })));
        assert!(matches!(Consumer::attach(bare.shared()), Err(Error::Corrupt { .. })));
    }
    let bare = Bare::at(0, 0);
    let (mut tx, mut rx) = bare.ends();
    for forged in [CAPACITY as u64 + 1, u64::MAX] {
        bare.producer.word(TAIL).store(forged, Ordering::Relaxed);
        assert!(matches!(rx.available(1), Err(Error::Corrupt { .. })));
        bare.consumer.word(HEAD).store(forged, Ordering::Relaxed);
        assert!(tx.free(CAPACITY) <= CAPACITY);
    }
}

#[test]
fn one_thread_writes_while_another_reads() {
    const BYTES: usize = if cfg!(miri) { 500 } else { 500_000 };
    let start = 0u64.wrapping_sub(BYTES as u64 / 2);
    let bare = Bare::at(start, start);
    let (mut tx, mut rx) = bare.ends();
    let byte = |i: usize| (i * 7 + i / 256) as u8;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let all: Vec<u8> = (0..BYTES).map(byte).collect();
            let mut rest = all.as_slice();
            while !rest.is_empty() {
                let n = write(&mut tx, &rest[..rest.len().min(1 + rest.len() % 50)]);
                rest = &rest[n..];
                std::hint::spin_loop();
            }
        });
        let mut got = 0;
        while got < BYTES {
            for found in read(&mut rx, 1 + got % 40) {
                assert_eq!(found, byte(got));
                got += 1;
            }
            std::thread::yield_now();
        }
    });
}
