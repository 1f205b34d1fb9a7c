//! The broadcast ring: what a reliable subscriber reads is not overwritten, whether it joins, is
//! slow or is evicted meanwhile; what a lossy one copies is whole, and its gaps are exact; and a
//! successor of the publisher goes on.
//!
//! A death is a thread that stops without leaving: see `spsc.rs`.

use loom::thread;

use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::memory::{Area, Words};
use crate::ring::broadcast::gate::{Blocked, Publisher};
use crate::ring::broadcast::join::{Refused, Start};
use crate::ring::broadcast::layout::{Mode, PUBLISHER_USED, Position, Shared};
use crate::ring::broadcast::lossy::{Lossy, Step};
use crate::ring::broadcast::seat::Seat;
use crate::ring::spsc::core::Consumer;
use crate::ring::spsc::layout::Fault;
use crate::segment::layout::subscribers_len;

/// Every entry of the table costs loads in every look at it.
const PARTICIPANTS: usize = 1;

/// A ring of `capacity` bytes for payloads of up to 8 bytes (24-byte records).
fn ring(capacity: usize) -> (Shared, Words) {
    let data = Words(Area::model(capacity));
    let (publisher, subscribers) = (Area::model(PUBLISHER_USED), Area::model(subscribers_len(PARTICIPANTS)));
    (Shared::new(publisher, subscribers, data.clone(), PARTICIPANTS, capacity, 8), data)
}

fn header(seq: u32) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq }
}

/// Every payload tells the number of its frame, in another way than its header.
fn payload(value: u32) -> [u8; 8] {
    (u64::from(value) << 32 | 0x55).to_le_bytes()
}

fn try_send(tx: &mut Publisher, value: u32) -> Result<(), Blocked> {
    let tail = tx.bytes.tail();
    if !tx.has_room(tail, 8) {
        tx.make_room(tail, 8)?;
    }
    tx.bytes.write(tail, &payload(value));
    tx.bytes.commit(header(value));
    tx.published(1);
    Ok(())
}

fn send(tx: &mut Publisher, value: u32) {
    while try_send(tx, value).is_err() {
        thread::yield_now();
    }
}

/// Reads the next frame in place, as the handle does. `None` if there is none.
fn recv(rx: &mut Consumer<Words>, seat: &Seat) -> Option<u32> {
    if !rx.has_next() {
        let _ = rx.publish();
        return None;
    }
    seat.hold().ok()?;
    let frame = rx.look_first().unwrap();
    let mut bytes = [0; 8];
    rx.read(&frame, &mut bytes);
    let seq = frame.header().seq;
    assert_eq!(bytes, payload(seq), "a view was overwritten");
    let _ = rx.free(frame.end());
    seat.release();
    Some(seq)
}

fn recv_waiting(rx: &mut Consumer<Words>, seat: &Seat) -> u32 {
    loop {
        match recv(rx, seat) {
            Some(seq) => return seq,
            None => thread::yield_now(),
        }
    }
}

/// Takes up to `steps` steps; returns the number of the next frame, if `next` was it before.
fn copy(rx: &mut Lossy, steps: usize, mut next: u32) -> u32 {
    for _ in 0..steps {
        let mut bytes = [0; 8];
        match rx.step(&mut bytes) {
            Ok(Step::Gap(missed)) => {
                assert_ne!(missed, 0, "a gap of nothing");
                next += missed as u32;
            }
            Ok(Step::Frame(frame)) => {
                assert_eq!(bytes, payload(frame.header().seq), "a torn copy");
                assert_eq!(frame.header().seq, next, "a gap is not exact");
                next += 1;
            }
            Err(fault) => {
                assert_eq!(fault, Fault::Empty);
                break;
            }
        }
    }
    next
}

fn reliable(shared: &Shared, id: u16, start: Start) -> (Consumer<Words>, Seat, u64) {
    shared.subscribe_reliable(id, start).unwrap()
}

/// Two frames fit: the publisher waits for the subscriber, around the end of the ring.
#[test]
fn a_reliable_subscriber_is_not_overwritten() {
    explore(2, || {
        let (shared, _) = ring(64);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        let (mut rx, seat, _) = reliable(&shared, 1, Start::Oldest);
        let sender = thread::spawn(move || (0..4).for_each(|value| send(&mut tx, value)));
        (0..4).for_each(|expected| assert_eq!(recv_waiting(&mut rx, &seat), expected));
        sender.join().unwrap();
    });
}

/// The publisher overwrites what is being copied.
#[test]
fn a_lossy_subscriber_copies_whole_frames_and_its_gaps_are_exact() {
    explore(2, || {
        let (shared, data) = ring(64);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        (0..2).for_each(|value| send(&mut tx, value));
        let mut rx = shared.subscribe_lossy(1, data, Start::Oldest).unwrap();
        let sender = thread::spawn(move || (2..4).for_each(|value| try_send(&mut tx, value).unwrap()));
        let next = copy(&mut rx, 3, 0);
        sender.join().unwrap();
        assert_eq!(copy(&mut rx, 9, next), 4);
    });
}

/// The publisher overwrites the last boundary that a subscriber knows: it finds another one.
#[test]
fn an_overrun_subscriber_finds_a_boundary() {
    explore(3, || {
        let (shared, data) = ring(32);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        let mut rx = shared.subscribe_lossy(1, data, Start::Oldest).unwrap();
        let sender = thread::spawn(move || (0..2).for_each(|value| try_send(&mut tx, value).unwrap()));
        let next = copy(&mut rx, 2, 0);
        sender.join().unwrap();
        assert_eq!(copy(&mut rx, 9, next), 2);
    });
}

/// The floor moves to the position at which a subscriber wants to start: if it sees that floor, it
/// sees the boundary there, and does not take itself for overrun.
#[test]
fn a_start_at_the_floor_is_found() {
    explore(2, || {
        let (shared, data) = ring(32);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        // The next boundary is recorded in the place that is looked at first.
        (0..3).for_each(|value| send(&mut tx, value));
        let start = Position { at: 4 * 24, frames: 4 };
        let sender = thread::spawn(move || (3..5).for_each(|value| try_send(&mut tx, value).unwrap()));
        match shared.subscribe_lossy(1, data, Start::At(start)) {
            Ok(mut rx) => _ = copy(&mut rx, 2, 4),
            Err(refused) => assert_eq!(refused, Refused::NotThere, "not published yet"),
        }
        sender.join().unwrap();
    });
}

/// A boundary is replaced while it is read: its position and its count belong together.
#[test]
fn a_boundary_is_never_half_of_another() {
    explore(3, || {
        let (shared, _) = ring(64);
        let publisher = shared.clone();
        let recorder = thread::spawn(move || {
            (1..3).for_each(|n| publisher.record(0, Position { at: 8 * n, frames: n }));
        });
        for (_, boundary) in shared.boundaries(0) {
            assert_eq!(boundary.at, 8 * boundary.frames);
        }
        recorder.join().unwrap();
    });
}

/// A subscriber joins, reads and leaves while the publisher makes room: what it reads is not
/// overwritten before it has left.
#[test]
fn a_subscriber_that_leaves_has_read() {
    explore(3, || {
        let (shared, _) = ring(32);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        send(&mut tx, 0);
        let sender = thread::spawn(move || try_send(&mut tx, 1).is_ok());
        let (mut rx, seat, _) = reliable(&shared, 1, Start::Oldest);
        assert!(matches!(recv(&mut rx, &seat), None | Some(0 | 1)));
        shared.forget(1);
        sender.join().unwrap();
    });
}

/// A subscriber joins while the publisher overwrites the only frame: once admitted, it misses
/// nothing.
fn join(start: Start) {
    explore(3, move || {
        let (shared, _) = ring(32);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        send(&mut tx, 0);
        let sender = thread::spawn(move || {
            let sent = try_send(&mut tx, 1).map_or(1, |()| 2);
            (tx, sent)
        });
        let (mut rx, seat, frames) = reliable(&shared, 1, start);
        let mut next = frames as u32;
        while let Some(seq) = recv(&mut rx, &seat) {
            assert_eq!(seq, next);
            next += 1;
        }
        let (mut tx, sent) = sender.join().unwrap();
        // What it has not read yet is there, too.
        for expected in next..sent {
            assert_eq!(recv(&mut rx, &seat), Some(expected));
        }
        send(&mut tx, sent);
        assert_eq!(recv(&mut rx, &seat), Some(sent));
    });
}

#[test]
fn joining_at_the_oldest_frame() {
    join(Start::Oldest);
}

#[test]
fn joining_at_the_newest_frame() {
    join(Start::Latest);
}

/// The publisher evicts a subscriber and overwrites at once; the subscriber either holds its frame,
/// or is refused.
#[test]
fn an_eviction_waits_for_a_view() {
    explore(3, || {
        let (shared, _) = ring(64);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        let (mut rx, seat, _) = reliable(&shared, 1, Start::Oldest);
        (0..2).for_each(|value| send(&mut tx, value));
        let sender = thread::spawn(move || {
            let mut evicted = false;
            for value in 2..4 {
                while let Err(blocked) = try_send(&mut tx, value) {
                    let Blocked::By(slow) = blocked else { panic!("no batch is open") };
                    if tx.evict(slow) {
                        evicted = true;
                    } else {
                        thread::yield_now();
                    }
                }
            }
            evicted
        });
        let mut next = 0;
        while next < 2 {
            match recv(&mut rx, &seat) {
                Some(seq) => {
                    assert_eq!(seq, next);
                    next += 1;
                }
                None if seat.is_evicted() => break,
                None => thread::yield_now(),
            }
        }
        let evicted = sender.join().unwrap();
        assert_eq!(seat.is_evicted(), evicted);
        assert_eq!(shared.get(1).mode() == Mode::Evicted, evicted);
    });
}

/// An eviction that comes late does not hit a successor with the same id.
#[test]
fn an_eviction_does_not_hit_a_successor() {
    explore(3, || {
        let (shared, _) = ring(64);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        let first = reliable(&shared, 1, Start::Oldest);
        (0..2).for_each(|value| send(&mut tx, value));
        let sender = thread::spawn(move || {
            if let Err(Blocked::By(slow)) = try_send(&mut tx, 2) {
                tx.evict(slow);
            }
            tx
        });
        drop(first);
        shared.forget(1);
        let (mut rx, seat, frames) = reliable(&shared, 1, Start::Latest);
        let mut tx = sender.join().unwrap();
        assert!(!seat.is_evicted());
        assert_eq!(shared.get(1).mode(), Mode::Reliable);
        let sent = tx.frames() as u32;
        send(&mut tx, sent);
        for expected in frames as u32..=sent {
            assert_eq!(recv(&mut rx, &seat), Some(expected));
        }
    });
}

/// A publisher dies with a batch that it has not published; its successor counts on, and a
/// subscriber that reads meanwhile notices nothing.
#[test]
fn a_successor_goes_on() {
    explore(2, || {
        let (shared, data) = ring(64);
        let mut tx = Publisher::attach(shared.clone()).unwrap();
        send(&mut tx, 0);
        let mut rx = shared.subscribe_lossy(1, data, Start::Oldest).unwrap();
        let successor = shared.clone();
        let sender = thread::spawn(move || {
            send(&mut tx, 1);
            let mut batch = tx.bytes.begin();
            if tx.has_room(batch.tail(), 8) || tx.make_room(batch.tail(), 8).is_ok() {
                tx.bytes.write(batch.tail(), &payload(77));
                tx.bytes.stage(&mut batch, header(77));
            }
            let mut tx = Publisher::attach(successor).unwrap();
            assert_eq!(tx.frames(), 2);
            try_send(&mut tx, 2).unwrap();
        });
        let next = copy(&mut rx, 2, 0);
        sender.join().unwrap();
        assert_eq!(copy(&mut rx, 9, next), 3);
    });
}
