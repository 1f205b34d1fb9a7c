//! The SPSC byte ring: no frame lost, doubled, torn or seen early; wrap, full, empty, batches, close, takeover.

use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::ring::spsc_core::{Consumer, Producer, Shared};
use crate::sync::{Area, AtomicU64, LINE, Ordering};
use loom::thread;

/// A ring of `capacity` bytes for payloads of 8 bytes (24-byte records).
fn ring(capacity: usize) -> Shared {
    Shared::new(Area::model(2 * LINE), Area::model(3 * LINE), Area::model(capacity), capacity, 8)
}

fn header(seq: u32) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq }
}

fn send(tx: &mut Producer, value: u32) -> bool {
    if !tx.has_room(8) && !tx.has_room_exactly(8) {
        return false;
    }
    tx.write(&u64::from(value).to_le_bytes());
    tx.commit(header(value));
    true
}

fn recv(rx: &mut Consumer) -> Option<u32> {
    let Some(frame) = rx.peek().expect("no corruption") else {
        let _ = rx.publish();
        return None;
    };
    let mut payload = [0; 8];
    rx.read(&frame, &mut payload);
    assert_eq!(u64::from_le_bytes(payload), u64::from(frame.header.seq), "payload of another frame");
    let _ = rx.release(frame.end());
    Some(frame.header.seq)
}

/// Sends `0..count` one by one through a ring of `capacity`, and checks that just these arrive, in order.
fn pass(capacity: usize, count: u32) {
    explore(3, move || {
        let shared = ring(capacity);
        let mut tx = Producer::attach(shared.clone()).unwrap();
        let mut rx = Consumer::attach(shared, true).unwrap().0;
        let sender = thread::spawn(move || {
            for value in 0..count {
                while !send(&mut tx, value) {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..count {
            let got = loop {
                match recv(&mut rx) {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, expected);
        }
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// One frame fits: every frame meets a full ring, and every second record wraps.
#[test]
fn one_at_a_time_full_and_wrapping() {
    pass(32, 3);
}

/// Two frames fit; records straddle the end of the data.
#[test]
fn wrapping_records() {
    pass(64, 4);
}

/// A batch becomes visible whole, and only through its first header.
#[test]
fn batches_appear_at_once() {
    explore(3, || {
        let shared = ring(64);
        let mut tx = Producer::attach(shared.clone()).unwrap();
        let mut rx = Consumer::attach(shared, true).unwrap().0;
        let sender = thread::spawn(move || {
            for value in 0..2 {
                assert!(tx.has_room(8) || tx.has_room_exactly(8));
                tx.write(&u64::from(value as u32).to_le_bytes());
                tx.stage(header(value));
            }
            tx.publish_batch();
        });
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match recv(&mut rx) {
                Some(value) => {
                    seen.push(value);
                    // Once the first is there, so is the second.
                    seen.push(recv(&mut rx).expect("the batch came in pieces"));
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(seen, [0, 1]);
        sender.join().unwrap();
    });
}

/// A closed ring is drained before its end is believed: close is seen only after a last look at the data.
#[test]
fn close_after_the_last_frame() {
    explore(3, || {
        let shared = ring(64);
        let closed = loom::sync::Arc::new(AtomicU64::new(0));
        let mut tx = Producer::attach(shared.clone()).unwrap();
        let mut rx = Consumer::attach(shared, true).unwrap().0;
        let sender = thread::spawn({
            let closed = closed.clone();
            move || {
                assert!(send(&mut tx, 0));
                // SYNC(close), as `segment::participants` does it.
                closed.fetch_add(1, Ordering::Release);
            }
        });
        let end = loop {
            match recv(&mut rx) {
                Some(value) => break Some(value),
                None if closed.load(Ordering::Acquire) == 1 => break recv(&mut rx),
                None => thread::yield_now(),
            }
        };
        assert_eq!(end, Some(0), "the end was seen before the data");
        sender.join().unwrap();
    });
}

/// A producer dies with a half-written frame and with a half-written batch; its successor finds the tail while the consumer
/// goes on reading.
#[test]
fn takeover_of_the_producer() {
    explore(3, || {
        let shared = ring(128);
        let mut rx = Consumer::attach(shared.clone(), true).unwrap().0;
        let sender = thread::spawn(move || {
            let mut tx = Producer::attach(shared.clone()).unwrap();
            assert!(send(&mut tx, 0));
            assert!(tx.has_room(8));
            tx.write(&77u64.to_le_bytes());
            tx.stage(header(77));
            tx.stage(header(78));
            drop(tx); // dead: the batch's first header was never released
            let mut next = Producer::attach(shared).unwrap();
            assert!(send(&mut next, 1));
        });
        for expected in 0..2 {
            let got = loop {
                match recv(&mut rx) {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, expected);
        }
        sender.join().unwrap();
    });
}

/// A consumer dies with a frame in hand; its successor gets that frame again, marked, and the next one unmarked.
#[test]
fn takeover_of_the_consumer() {
    explore(3, || {
        let shared = ring(64);
        let mut tx = Producer::attach(shared.clone()).unwrap();
        let sender = thread::spawn(move || {
            assert!(send(&mut tx, 0));
            assert!(send(&mut tx, 1));
        });
        let mut first = Consumer::attach(shared.clone(), true).unwrap().0;
        let in_hand = first.peek().unwrap().is_some();
        drop(first); // dead, without release
        let mut rx = Consumer::attach(shared, true).unwrap().0;
        for expected in 0..2 {
            let frame = loop {
                match rx.peek().unwrap() {
                    Some(frame) => break frame,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(frame.header.seq, expected);
            assert_eq!(frame.header.flags.contains(Flags::REDELIVERED), in_hand && expected == 0);
            let _ = rx.release(frame.end());
        }
        sender.join().unwrap();
    });
}

/// The stream kind: bytes in order, through a ring that wraps and fills.
#[test]
fn stream_of_bytes() {
    use crate::ring::stream_core as stream;
    explore(3, || {
        let shared = stream::Shared::new(Area::model(LINE), Area::model(LINE), Area::model(16), 16);
        let mut tx = stream::Producer::attach(shared.clone()).unwrap();
        let mut rx = stream::Consumer::attach(shared).unwrap();
        let sender = thread::spawn(move || {
            for block in 0..3u8 {
                while tx.free(8) < 8 {
                    thread::yield_now();
                }
                tx.write(&[block; 8]);
                tx.commit(8);
            }
        });
        for block in 0..3u8 {
            while rx.available(8).unwrap() < 8 {
                thread::yield_now();
            }
            let mut bytes = [0; 8];
            rx.read(&mut bytes);
            assert_eq!(bytes, [block; 8]);
            rx.release(8);
        }
        sender.join().unwrap();
    });
}
