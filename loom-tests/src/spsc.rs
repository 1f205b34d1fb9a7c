//! The SPSC byte ring and the byte stream: no frame is lost, doubled, torn or seen early; wrap,
//! full, empty, batches, close, takeover of either end, and redelivery marks across several deaths.
//!
//! A death is a thread that stops without leaving. Its successor joins the thread first, which
//! orders as much as the kernel's report of the death (the released lock) does in production.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use loom::thread;

use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::memory::{Area, LINE};
use crate::ring::spsc::core::{Consumer, Producer, Staged};
use crate::ring::spsc::layout::{Fault, HEAD, Peeked, Shared, TAKEN};
use crate::ring::stream;
use crate::sync::{AtomicU64, Ordering};

/// A ring of `capacity` bytes for payloads of up to 8 bytes (24-byte records).
pub(crate) fn ring(capacity: usize) -> Shared {
    Shared::new(Area::model(2 * LINE), Area::model(3 * LINE), Area::model(capacity), capacity, 8)
}

pub(crate) fn header(seq: u32) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq }
}

pub(crate) fn has_room(tx: &mut Producer) -> bool {
    tx.has_room(tx.tail(), 8) || tx.has_room_exactly(tx.tail(), 8)
}

pub(crate) fn send(tx: &mut Producer, value: u32) -> bool {
    let room = has_room(tx);
    if room {
        tx.write(tx.tail(), &u64::from(value).to_le_bytes());
        tx.commit(header(value));
    }
    room
}

/// Adds a frame to a batch.
fn stage(tx: &mut Producer, batch: &mut Staged, value: u32) -> bool {
    let room = tx.has_room(batch.tail(), 8) || tx.has_room_exactly(batch.tail(), 8);
    if room {
        tx.write(batch.tail(), &u64::from(value).to_le_bytes());
        tx.stage(batch, header(value));
    }
    room
}

/// Reads and releases the next frame. If there is none, publishes the releases.
pub(crate) fn recv(rx: &mut Consumer) -> Option<u32> {
    let frame = match rx.look_first() {
        Ok(frame) => frame,
        Err(fault) => {
            assert_eq!(fault, Fault::Empty);
            let _ = rx.publish();
            return None;
        }
    };
    let mut payload = [0; 8];
    rx.read(&frame, &mut payload);
    assert_eq!(u64::from_le_bytes(payload), u64::from(frame.header().seq), "payload of another frame");
    let _ = rx.release(frame.end());
    Some(frame.header().seq)
}

/// A consumer that skips what its dead predecessor held. Also returns how many frames that was.
fn skipping_successor(shared: Shared) -> (Consumer, u64) {
    let (mut rx, mut lost) = (Consumer::attach(shared).unwrap(), 0);
    rx.skip_shown(|| lost += 1).unwrap();
    (rx, lost)
}

fn recv_waiting(rx: &mut Consumer) -> u32 {
    loop {
        match recv(rx) {
            Some(got) => return got,
            None => thread::yield_now(),
        }
    }
}

fn look_waiting(rx: &mut Consumer) -> Peeked {
    loop {
        match rx.look() {
            Ok(frame) => return frame,
            Err(fault) => assert_eq!(fault, Fault::Empty),
        }
        thread::yield_now();
    }
}

fn ends(shared: &Shared) -> (Producer, Consumer) {
    let rx = Consumer::attach(shared.clone()).unwrap();
    (Producer::attach(shared.clone()).unwrap(), rx)
}

/// Sends `0..count` one by one through a ring of `capacity`, and checks that exactly these arrive,
/// in order.
fn pass(preemptions: usize, capacity: usize, count: u32) {
    explore(preemptions, move || {
        let (mut tx, mut rx) = ends(&ring(capacity));
        let sender = thread::spawn(move || {
            for value in 0..count {
                while !send(&mut tx, value) {
                    thread::yield_now();
                }
            }
        });
        (0..count).for_each(|expected| assert_eq!(recv_waiting(&mut rx), expected));
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// One frame fits: every frame meets a full ring, and every second record wraps.
#[test]
fn one_at_a_time_full_and_wrapping() {
    pass(2, 32, 3);
}

/// Two frames fit; records straddle the end of the data.
#[test]
fn wrapping_records() {
    pass(2, 64, 3);
}

/// A view moves on to frames that are sent meanwhile. (In a smaller ring every release has more to do.)
#[test]
fn a_view_moves_on() {
    /// Not of the model: over all histories.
    static MOVED: AtomicBool = AtomicBool::new(false);
    explore(2, || {
        let (mut tx, mut rx) = ends(&ring(512));
        let sender = thread::spawn(move || (0..3).for_each(|value| assert!(send(&mut tx, value))));
        let (mut expected, mut moved) = (0, false);
        while expected < 3 {
            let mut held = loop {
                match rx.look_first() {
                    Ok(frame) => break frame,
                    Err(fault) => assert_eq!(fault, Fault::Empty),
                }
                thread::yield_now();
            };
            loop {
                let mut payload = [0; 8];
                rx.read(&held, &mut payload);
                assert_eq!((u64::from_le_bytes(payload), held.header().seq), (expected.into(), expected));
                expected += 1;
                match rx.free_and_look() {
                    Some(next) => (held, moved) = (next, true),
                    None => break,
                }
            }
            let _ = rx.release(held.end());
        }
        sender.join().unwrap();
        MOVED.fetch_or(moved, Relaxed);
    });
    assert!(MOVED.load(Relaxed), "in some history");
}

/// Frames without payload, two of which would fill the ring to the last byte: the zero after the
/// second needs room, too.
#[test]
fn a_ring_that_is_almost_full() {
    explore(3, || {
        let (mut tx, mut rx) = ends(&ring(32));
        let sender = thread::spawn(move || {
            for seq in 0..3 {
                while !tx.has_room(tx.tail(), 0) {
                    thread::yield_now();
                }
                tx.commit(Header { len: 0, ..header(seq) });
            }
        });
        for expected in 0..3 {
            let frame = look_waiting(&mut rx);
            assert_eq!(frame.header().seq, expected);
            let _ = rx.release(frame.end());
        }
        sender.join().unwrap();
    });
}

/// A batch becomes visible at once, with its first header; also one that wraps, and one after an
/// aborted one.
#[test]
fn batches_appear_at_once() {
    explore(3, || {
        let (mut tx, mut rx) = ends(&ring(64));
        assert!(send(&mut tx, 7) && recv(&mut rx) == Some(7));
        let sender = thread::spawn(move || {
            let mut forgotten = tx.begin();
            [8, 9].into_iter().for_each(|value| assert!(stage(&mut tx, &mut forgotten, value)));
            let mut batch = tx.begin();
            [0, 1].into_iter().for_each(|value| assert!(stage(&mut tx, &mut batch, value)));
            tx.publish(batch);
        });
        assert_eq!(recv_waiting(&mut rx), 0);
        assert_eq!(recv(&mut rx), Some(1), "the batch became visible in pieces");
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// A ring through which a lap of frames has passed, so that none of its words is zero, and whose
/// producer knows that it is empty. The window covers the next frame; a ring of 128 bytes has no
/// room for a window over two frames, one of 256 has.
fn ring_used_up(capacity: usize) -> (Shared, Producer, Consumer) {
    let shared = ring(capacity);
    let (mut tx, mut rx) = ends(&shared);
    (100..101 + capacity as u32 / 24).for_each(|value| assert!(send(&mut tx, value) && recv(&mut rx) == Some(value)));
    (shared, tx, rx)
}

fn used_ring() -> (Shared, Producer, Consumer) {
    ring_used_up(128)
}

/// The zero after a frame comes from a window that was stored before the frame, in the middle of
/// the ring and across its end. Where there is no room for a window, it comes from the frame's own
/// commit.
#[test]
fn a_window_ends_the_chain() {
    explore(2, || {
        let (_, mut tx, mut rx) = used_ring();
        let sender = thread::spawn(move || {
            for value in 0..4 {
                while !send(&mut tx, value) {
                    thread::yield_now();
                }
            }
        });
        (0..4).for_each(|expected| assert_eq!(recv_waiting(&mut rx), expected));
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// A window ends before unreleased frames.
#[test]
fn a_window_leaves_what_is_not_released() {
    explore(2, || {
        let (_, mut tx, mut rx) = used_ring();
        assert!(send(&mut tx, 0) && send(&mut tx, 1));
        let sender = thread::spawn(move || {
            let sent = (2..6).take_while(|value| send(&mut tx, *value)).count() as u32;
            assert!(sent >= 3, "a window must not make a ring full");
            sent
        });
        let held = rx.look().unwrap();
        thread::yield_now();
        let mut payload = [0; 8];
        rx.read(&held, &mut payload);
        assert_eq!(u64::from_le_bytes(payload), 0);
        let _ = rx.release(held.end());
        let sent = sender.join().unwrap();
        (1..2 + sent).for_each(|expected| assert_eq!(recv(&mut rx), Some(expected)));
        assert_eq!(recv(&mut rx), None);
    });
}

/// Grants that are shortened, dropped or forgotten, and batches that are forgotten, may leave any
/// bytes after the tail: no later commit takes them for zeros.
#[test]
fn bytes_written_ahead_end_no_chain() {
    explore(2, || {
        let (_, mut tx, mut rx) = used_ring();
        let sender = thread::spawn(move || {
            // Shortened: a record of 16 bytes, and other bytes after it.
            tx.lend_ahead();
            assert!(has_room(&mut tx));
            tx.write(tx.tail(), &[0xFF; 8]);
            tx.commit_grant(8, Header { len: 0, ..header(0) });
            // Forgotten, as dropped: a batch, then a grant.
            let mut batch = tx.begin();
            assert!(stage(&mut tx, &mut batch, 77) && stage(&mut tx, &mut batch, 78));
            tx.lend_ahead();
            tx.write(tx.tail(), &[0xFF; 8]);
            tx.commit(Header { len: 0, ..header(1) });
        });
        for expected in 0..2 {
            let frame = look_waiting(&mut rx);
            assert_eq!((frame.header().seq, frame.len()), (expected, 0));
            let _ = rx.release(frame.end());
        }
        sender.join().unwrap();
        assert_eq!(rx.look().err(), Some(Fault::Empty));
    });
}

/// A batch stores its own window, and hands it over when it is published.
#[test]
fn a_batch_continues_the_window() {
    explore(2, || {
        let (_, mut tx, mut rx) = used_ring();
        let sender = thread::spawn(move || {
            let mut batch = tx.begin();
            assert!(stage(&mut tx, &mut batch, 0) && stage(&mut tx, &mut batch, 1));
            tx.publish(batch);
            assert!(send(&mut tx, 2));
        });
        (0..3).for_each(|expected| assert_eq!(recv_waiting(&mut rx), expected));
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// A window that covers more than one frame: no commit stores a zero while it lasts, and one is
/// stored where it ends.
#[test]
fn a_window_covers_more_than_one_frame() {
    explore(2, || {
        let (_, mut tx, mut rx) = ring_used_up(256);
        tx.last_high_water();
        let sender = thread::spawn(move || {
            let mut batch = tx.begin();
            (0..3).for_each(|value| assert!(stage(&mut tx, &mut batch, value)));
            tx.publish(batch);
            assert!(send(&mut tx, 3));
        });
        (0..4).for_each(|expected| assert_eq!(recv_waiting(&mut rx), expected));
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// A frame that ends where the window ends: the word after it is not zero yet.
#[test]
fn a_frame_ends_with_the_window() {
    explore(2, || {
        let (_, mut tx, mut rx) = used_ring();
        tx.last_high_water();
        let sender = thread::spawn(move || {
            for seq in 0..3 {
                assert!(has_room(&mut tx));
                tx.commit(Header { len: 0, ..header(seq) });
            }
        });
        for expected in 0..3 {
            let frame = look_waiting(&mut rx);
            assert_eq!((frame.header().seq, frame.len()), (expected, 0));
            let _ = rx.release(frame.end());
        }
        sender.join().unwrap();
        assert_eq!(rx.look().err(), Some(Fault::Empty));
    });
}

/// A producer dies and leaves a window with uncommitted records in it. Its successor relies on
/// neither, and stores a window of its own over them: wherever a shorter frame ends in it, there is
/// a zero.
#[test]
fn takeover_of_a_window() {
    explore(2, || {
        let (shared, mut tx, mut rx) = used_ring();
        let sender = thread::spawn(move || {
            assert!(send(&mut tx, 0));
            let mut batch = tx.begin();
            assert!(stage(&mut tx, &mut batch, 77) && stage(&mut tx, &mut batch, 78));
            drop(tx);
            let mut next = Producer::attach(shared).unwrap();
            assert!(send(&mut next, 1) && has_room(&mut next));
            next.commit(Header { len: 0, ..header(2) });
        });
        (0..2).for_each(|expected| assert_eq!(recv_waiting(&mut rx), expected));
        let frame = look_waiting(&mut rx);
        assert_eq!((frame.header().seq, frame.len()), (2, 0));
        let _ = rx.release(frame.end());
        sender.join().unwrap();
        assert_eq!(recv(&mut rx), None);
    });
}

/// A closed ring is drained before its end is reported: the data is checked once more after the
/// close was seen.
#[test]
fn close_after_the_last_frame() {
    explore(3, || {
        let closed = loom::sync::Arc::new(AtomicU64::new(0));
        let (mut tx, mut rx) = ends(&ring(64));
        let sender = thread::spawn({
            let closed = closed.clone();
            move || {
                assert!(send(&mut tx, 0));
                closed.fetch_add(1, Ordering::Release); // as `segment::liveness` notes it
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

/// A producer dies with a half-written frame or batch; its successor finds the tail while the
/// consumer continues reading.
#[test]
fn takeover_of_the_producer() {
    explore(3, || {
        let shared = ring(128);
        let mut rx = Consumer::attach(shared.clone()).unwrap();
        let sender = thread::spawn(move || {
            let mut tx = Producer::attach(shared.clone()).unwrap();
            assert!(send(&mut tx, 0));
            let mut batch = tx.begin();
            assert!(stage(&mut tx, &mut batch, 77) && stage(&mut tx, &mut batch, 78));
            drop(tx); // dead: the batch's first header was never released
            let mut next = Producer::attach(shared).unwrap();
            assert!(send(&mut next, 1));
        });
        assert_eq!([recv_waiting(&mut rx), recv_waiting(&mut rx)], [0, 1]);
        sender.join().unwrap();
    });
}

/// The successor of a producer that left a full ring writes only where the consumer has finished
/// reading.
#[test]
fn takeover_of_a_full_ring() {
    explore(3, || {
        let shared = ring(32);
        let (mut tx, mut rx) = ends(&shared);
        assert!(send(&mut tx, 0));
        drop(tx);
        let consumer = thread::spawn(move || {
            assert_eq!(recv(&mut rx), Some(0));
            rx
        });
        let mut next = Producer::attach(shared).unwrap();
        let sent = send(&mut next, 1);
        assert_eq!(recv(&mut consumer.join().unwrap()), sent.then_some(1));
    });
}

/// A consumer dies while it holds a frame. Its successor gets that frame again, marked, and the
/// next one unmarked.
#[test]
fn takeover_of_the_consumer() {
    explore(3, || {
        let shared = ring(64);
        let (mut tx, mut first) = ends(&shared);
        let sender = thread::spawn(move || assert!(send(&mut tx, 0) && send(&mut tx, 1)));
        let dead = thread::spawn(move || first.look_first().is_ok());
        let held = dead.join().unwrap();
        let mut rx = Consumer::attach(shared).unwrap();
        for expected in 0..2 {
            let frame = look_waiting(&mut rx);
            assert_eq!(frame.header().seq, expected);
            assert_eq!(frame.header().flags.contains(Flags::REDELIVERED), held && expected == 0);
            let _ = rx.release(frame.end());
        }
        sender.join().unwrap();
    });
}

/// Two frames that a dead consumer held stay marked when its successor dies after it has seen one
/// of them again, and when the next successor leaves in order.
#[test]
fn marks_outlive_a_second_death() {
    explore(2, || {
        let shared = ring(64);
        let (mut tx, mut first) = ends(&shared);
        assert!(send(&mut tx, 0) && send(&mut tx, 1));
        for shown in [2, 1] {
            for _ in 0..shown {
                assert!(first.look().is_ok());
            }
            first = Consumer::attach(shared.clone()).unwrap(); // it died
        }
        for expected in 0..2 {
            let frame = first.look().unwrap();
            assert!(frame.header().seq == expected && frame.header().flags.contains(Flags::REDELIVERED));
        }
        first.hand_back();
        assert_eq!(skipping_successor(shared).1, 2, "lost with the dead");
    });
}

/// A consumer that leaves in order puts back the frames it peeked at: without a mark, and without a
/// loss.
#[test]
fn an_orderly_end_puts_frames_back() {
    explore(2, || {
        let shared = ring(64);
        let (mut tx, mut rx) = ends(&shared);
        assert!(send(&mut tx, 0) && rx.look().is_ok());
        rx.hand_back();
        let (mut heir, lost) = skipping_successor(shared);
        let frame = heir.look().unwrap();
        assert_eq!((frame.header().flags, lost), (Flags::WHOLE, 0));
    });
}

/// At most once: frames that a dead consumer held are skipped, even if its successor is killed
/// while it skips them.
#[test]
fn at_most_once_outlives_a_second_death() {
    explore(2, || {
        let all = Area::model(3 * LINE);
        let shared = Shared::new(Area::model(2 * LINE), all.clone(), Area::model(128), 128, 8);
        let (mut tx, mut first) = ends(&shared);
        assert!((0..3).all(|value| send(&mut tx, value)));
        assert!(first.look().is_ok() && first.look().is_ok());
        // The successor skips the first frame and dies: the first steps of `attach`.
        let mut second = Consumer::attach(shared.clone()).unwrap();
        let skipped = second.look().unwrap();
        let _ = second.release(skipped.end());
        let (mut third, lost) = skipping_successor(shared);
        assert_eq!((recv(&mut third), lost), (Some(2), 1));
        assert_eq!(all.word(HEAD).load(Ordering::Relaxed), all.word(TAKEN).load(Ordering::Relaxed));
    });
}

/// An observer that walks a ring sees whole frames, and no bytes of an earlier lap.
#[test]
fn an_observer_sees_whole_frames() {
    explore(3, || {
        let shared = ring(64);
        let (mut tx, mut rx) = ends(&shared);
        for value in 0..2 {
            assert!(send(&mut tx, value) && recv(&mut rx) == Some(value));
        }
        let observer = thread::spawn(move || {
            let mut seen = Vec::new();
            let walked = shared.walk(true, |header, payload| {
                assert_eq!(payload, u64::from(header.seq).to_le_bytes());
                seen.push(header.seq);
                true
            });
            assert!(walked.is_ok() && [&[][..], &[2], &[3], &[2, 3]].contains(&&seen[..]), "{seen:?}");
        });
        assert!(send(&mut tx, 2));
        assert_eq!(recv(&mut rx), Some(2));
        assert!(send(&mut tx, 3));
        observer.join().unwrap();
    });
}

fn stream_of(capacity: usize) -> stream::layout::Shared {
    stream::layout::Shared::new(Area::model(LINE), Area::model(LINE), Area::model(capacity), capacity)
}

fn write_block(tx: &mut stream::core::Producer, block: u8) {
    while tx.free(8) < 8 {
        thread::yield_now();
    }
    tx.write(&[block; 8]);
    tx.commit(8);
}

fn read_block(rx: &mut stream::core::Consumer) -> [u8; 8] {
    while rx.available(8).unwrap() < 8 {
        thread::yield_now();
    }
    let mut bytes = [0; 8];
    rx.read(&mut bytes);
    rx.release(8);
    bytes
}

/// The stream: bytes in order, through a ring that wraps and fills.
#[test]
fn stream_of_bytes() {
    explore(3, || {
        let shared = stream_of(16);
        let mut tx = stream::core::Producer::attach(shared.clone()).unwrap();
        let mut rx = stream::core::Consumer::attach(shared).unwrap();
        let sender = thread::spawn(move || (0..3).for_each(|block| write_block(&mut tx, block)));
        (0..3).for_each(|block| assert_eq!(read_block(&mut rx), [block; 8]));
        sender.join().unwrap();
    });
}

/// Successors at either end of a stream can use at once what they found when they attached.
#[test]
fn stream_takeover() {
    explore(3, || {
        let shared = stream_of(16);
        let mut tx = stream::core::Producer::attach(shared.clone()).unwrap();
        (0..2).for_each(|block| write_block(&mut tx, block));
        let (reader, writer) = (shared.clone(), shared.clone());
        // It reads one block; a successor of the producer that attaches meanwhile may find room for
        // one.
        let mut rx = stream::core::Consumer::attach(reader).unwrap();
        let consumer = thread::spawn(move || assert_eq!(read_block(&mut rx), [0; 8]));
        drop(tx);
        let mut next = stream::core::Producer::attach(writer).unwrap();
        let producer = thread::spawn(move || {
            if next.free(0) >= 8 {
                next.write(&[2; 8]);
                next.commit(8);
            }
        });
        consumer.join().unwrap();
        // A successor of the consumer that attaches meanwhile may find that block.
        let mut heir = stream::core::Consumer::attach(shared).unwrap();
        let there = heir.available(0).unwrap() as u8 / 8;
        for block in 1..=there {
            let mut bytes = [0; 8];
            heir.read(&mut bytes);
            assert_eq!(bytes, [block; 8]);
            heir.release(8);
        }
        producer.join().unwrap();
    });
}
