//! The mpsc ring: lanes are taken and given back, ends are told after the last frame, and a
//! consumer that sleeps misses no lane.
//!
//! A death is a thread that stops without leaving: see `spsc.rs`. Sleeps have no cap here, so a
//! lost wake-up is a deadlock.

use std::time::Duration;

use loom::thread;

use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::memory::{Area, LINE};
use crate::ring::mpsc::core::{Ended, Found, Lanes};
use crate::ring::mpsc::lanes::{Lease, NoLane};
use crate::ring::mpsc::layout::{CHANGES_USED, Shared};
use crate::ring::spsc::core::Producer;
use crate::ring::spsc::layout::Fault;
use crate::segment::layout::lanes_len;
use crate::wait::barrier::Barrier;
use crate::wait::eventcount::{One, Sleep};

/// A ring for payloads of up to 8 bytes (24-byte records): two fit into a lane.
fn ring(lanes: usize) -> Shared {
    wide_ring(lanes, 64)
}

/// A ring with lanes of `capacity` bytes.
fn wide_ring(lanes: usize, capacity: usize) -> Shared {
    let (page, words) = (Area::model(CHANGES_USED), Area::model(lanes_len(lanes)));
    Shared::new(page, words, Area::model(lanes * capacity), lanes, capacity, 8)
}

fn room(ring: &Shared, lane: u16) -> One {
    One::attach(ring.room(lane), Barrier::Fenced)
}

fn consumer(ring: &Shared) -> Lanes {
    Lanes::attach(ring.clone(), |lane| room(ring, lane), None).unwrap()
}

fn header(seq: u32) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq }
}

/// Every payload tells its producer and its number.
fn payload(id: u16, seq: u32) -> [u8; 8] {
    (u64::from(id) << 32 | u64::from(seq)).to_le_bytes()
}

fn try_send(tx: &mut Producer, id: u16, seq: u32) -> bool {
    if !tx.has_room(tx.tail(), 8) && !tx.has_room_exactly(tx.tail(), 8) {
        return false;
    }
    tx.write(tx.tail(), &payload(id, seq));
    tx.commit(header(seq));
    true
}

/// Takes a lane, waiting until one is free.
fn take(ring: &Shared, id: u16) -> (Lease, Producer) {
    loop {
        match ring.take(id) {
            Ok(taken) => return taken,
            Err(refused) => assert_eq!(refused, NoLane::AllTaken),
        }
        thread::yield_now();
    }
}

/// What was received: a frame of a producer, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Frame(u16, u32),
    Ended(u16, bool),
}

/// Receives as the handle does, with `search` for what the lane that is read from does not have.
fn recv(rx: &mut Lanes, mut search: impl FnMut(&mut Lanes) -> Option<Found>) -> Option<Seen> {
    loop {
        match rx.here().look_first() {
            Ok(frame) => {
                let mut bytes = [0; 8];
                rx.here().read(&frame, &mut bytes);
                let (seq, owner) = (frame.header().seq, rx.producer(rx.number()));
                assert_eq!(bytes, payload(owner, seq), "the frame of another producer");
                let _ = rx.here().free(frame.end());
                rx.tell(0);
                rx.rotate();
                return Some(Seen::Frame(owner, seq));
            }
            Err(fault) => assert_eq!(fault, Fault::Empty),
        }
        match search(rx)? {
            Found::Frame => {}
            Found::Ended(Ended { producer, died, .. }) => return Some(Seen::Ended(producer, died)),
        }
    }
}

fn recv_yielding(rx: &mut Lanes) -> Seen {
    loop {
        match recv(rx, Lanes::find) {
            Some(seen) => return seen,
            None => thread::yield_now(),
        }
    }
}

/// Receives, sleeping at `data` while there is nothing.
fn recv_sleeping(rx: &mut Lanes, data: &One) -> Seen {
    let search = |rx: &mut Lanes| {
        loop {
            let mut found = rx.find();
            if found.is_none() {
                data.sleep(Duration::MAX, &mut || {
                    found = rx.find();
                    found.is_some()
                });
            }
            if found.is_some() {
                return found;
            }
        }
    };
    recv(rx, search).unwrap()
}

/// A producer takes a lane, sends, and closes; wakes the consumer as the handle does.
fn produce(ring: &Shared, id: u16, frames: u32, data: &One) {
    let (lease, mut tx) = take(ring, id);
    for seq in 0..frames {
        assert!(try_send(&mut tx, id, seq));
        data.notify();
    }
    ring.give_back(lease, tx.tail());
    data.notify();
}

fn data() -> One {
    One::attach(Area::model(LINE), Barrier::Fenced)
}

/// Producers come while the consumer sleeps: it is woken for the frames and the ends of all.
fn sleeping(producers: u16, preemptions: usize) {
    explore(preemptions, move || {
        let (ring, data) = (ring(2), data());
        let mut rx = consumer(&ring);
        let threads: Vec<_> = (1..=producers)
            .map(|id| {
                let (ring, data) = (ring.clone(), data.clone());
                thread::spawn(move || produce(&ring, id, 1, &data))
            })
            .collect();
        let seen: Vec<_> = (0..2 * producers).map(|_| recv_sleeping(&mut rx, &data)).collect();
        for id in 1..=producers {
            let (frame, end) = (Seen::Frame(id, 0), Seen::Ended(id, false));
            let [frame, end] = [frame, end].map(|one| seen.iter().position(|seen| *seen == one).unwrap());
            assert!(frame < end);
        }
        threads.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

#[test]
fn a_sleeping_consumer_misses_no_lane() {
    sleeping(1, 3);
}

#[test]
fn a_sleeping_consumer_misses_none_of_two_lanes() {
    sleeping(2, 1);
}

/// One lane, two producers: the second overwrites what the consumer has read of the first.
#[test]
fn the_next_producer_starts_behind_the_last() {
    explore(3, || {
        let ring = ring(1);
        let mut rx = consumer(&ring);
        let (lease, mut tx) = ring.take(1).unwrap();
        assert!(try_send(&mut tx, 1, 0));
        let first = thread::spawn({
            let ring = ring.clone();
            move || {
                assert!(try_send(&mut tx, 1, 1));
                ring.give_back(lease, tx.tail());
                produce(&ring, 2, 2, &data());
            }
        });
        for expected in [Seen::Frame(1, 0), Seen::Frame(1, 1), Seen::Ended(1, false)] {
            assert_eq!(recv_yielding(&mut rx), expected);
        }
        for expected in [Seen::Frame(2, 0), Seen::Frame(2, 1), Seen::Ended(2, false)] {
            assert_eq!(recv_yielding(&mut rx), expected);
        }
        first.join().unwrap();
    });
}

/// A producer stops between its look at a free lane and its CAS, while another one has the lane.
#[test]
fn a_late_take_sees_the_owners_between() {
    explore(3, || {
        let ring = ring(1);
        let mut rx = consumer(&ring);
        produce(&ring, 1, 0, &data()); // the free lane had the same owner before
        let late = thread::spawn({
            let ring = ring.clone();
            move || {
                let Ok((_, mut tx)) = ring.take(2) else { return 0 };
                (0..2).for_each(|seq| assert!(try_send(&mut tx, 2, seq)));
                2
            }
        });
        if ring.take(1).is_ok_and(|(lease, mut tx)| {
            (0..2).for_each(|seq| assert!(try_send(&mut tx, 1, seq)));
            ring.give_back(lease, tx.tail());
            true
        }) {
            for expected in [Seen::Frame(1, 0), Seen::Frame(1, 1), Seen::Ended(1, false)] {
                assert_eq!(recv_yielding(&mut rx), expected);
            }
            let _ = rx.find(); // the end is recorded
        }
        let sent = late.join().unwrap();
        let seen: Vec<_> = std::iter::from_fn(|| recv(&mut rx, Lanes::find)).collect();
        assert_eq!(seen, [Seen::Frame(2, 0), Seen::Frame(2, 1)][..sent]);
    });
}

/// Two producers contend for one lane: their frames do not mix.
#[test]
fn two_producers_contend_for_one_lane() {
    explore(2, || {
        let ring = ring(1);
        let mut rx = consumer(&ring);
        let producers = [1, 2].map(|id| {
            let ring = ring.clone();
            thread::spawn(move || {
                let Ok((lease, mut tx)) = ring.take(id) else { return 0 };
                assert!(try_send(&mut tx, id, 0));
                ring.give_back(lease, tx.tail());
                1
            })
        });
        let mut seen: Vec<_> = (0..2).filter_map(|_| recv(&mut rx, Lanes::find)).collect();
        let winners: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        seen.extend(std::iter::from_fn(|| recv(&mut rx, Lanes::find)));
        assert!(winners > 0);
        assert_eq!(seen.len(), 2 * winners);
        for one in seen.chunks(2) {
            let Seen::Frame(id, 0) = one[0] else { panic!("{seen:?}") };
            assert_eq!(one[1], Seen::Ended(id, false));
        }
    });
}

/// A producer dies behind a frame, and two reapers find it: its end is told once, behind the frame.
#[test]
fn a_death_is_told_behind_the_last_frame() {
    explore(3, || {
        let ring = ring(1);
        let mut rx = consumer(&ring);
        let (_, mut tx) = ring.take(1).unwrap();
        let reaper = thread::spawn({
            let ring = ring.clone();
            move || {
                let dead = thread::spawn(move || assert!(try_send(&mut tx, 1, 0)));
                dead.join().unwrap();
                ring.recover(1);
                ring.recover(1);
            }
        });
        assert_eq!(recv_yielding(&mut rx), Seen::Frame(1, 0));
        assert_eq!(recv_yielding(&mut rx), Seen::Ended(1, true));
        reaper.join().unwrap();
        assert_eq!(recv(&mut rx, Lanes::find), None, "told once");
    });
}

/// A reaper that was stopped for long does not end a successor in the same lane.
#[test]
fn a_late_reaper_does_not_end_a_successor() {
    explore(3, || {
        let ring = ring(1);
        let mut rx = consumer(&ring);
        let (lease, mut tx) = ring.take(1).unwrap();
        assert!(try_send(&mut tx, 1, 0));
        let late = thread::spawn({
            let ring = ring.clone();
            move || ring.recover(1)
        });
        ring.give_back(lease, tx.tail());
        assert_eq!(recv_yielding(&mut rx), Seen::Frame(1, 0));
        let Seen::Ended(1, died) = recv_yielding(&mut rx) else { panic!("its end was not told") };
        let (_, mut tx) = ring.take(2).unwrap();
        assert!(try_send(&mut tx, 2, 0));
        assert_eq!(recv_yielding(&mut rx), Seen::Frame(2, 0));
        assert_eq!(late.join().unwrap(), died);
        assert_eq!(recv(&mut rx, Lanes::find), None, "the second producer lives");
    });
}

/// A producer sleeps on its full lane, which the consumer reads in turn with another, and whose
/// releases it publishes only from time to time.
#[test]
fn a_full_lane_is_woken_among_others() {
    const FULL: u32 = 10;
    explore(2, || {
        let (ring, data) = (wide_ring(2, 256), data());
        let mut rx = consumer(&ring);
        let (_, mut full) = ring.take(1).unwrap();
        let (_, mut other) = ring.take(2).unwrap();
        (0..FULL).for_each(|seq| assert!(try_send(&mut full, 1, seq)));
        assert!(try_send(&mut other, 2, 0));
        let sender = thread::spawn({
            let (room, data) = (room(&ring, 0), data.clone());
            move || {
                let mut sent = try_send(&mut full, 1, FULL);
                while !sent {
                    room.sleep(Duration::MAX, &mut || {
                        sent = try_send(&mut full, 1, FULL);
                        sent
                    });
                    sent = sent || try_send(&mut full, 1, FULL);
                }
                data.notify();
            }
        });
        let mut next = [0; 3];
        for _ in 0..FULL + 2 {
            let Seen::Frame(id, seq) = recv_sleeping(&mut rx, &data) else { panic!("none has ended") };
            assert_eq!(seq, next[usize::from(id)]);
            next[usize::from(id)] += 1;
        }
        sender.join().unwrap();
    });
}

/// A producer comes while the consumer sleeps and closes only after its frame was received: so only
/// the announcement of its taking shows its lane.
#[test]
fn a_lane_is_read_as_soon_as_it_was_taken() {
    explore(3, || {
        let (ring, data) = (ring(2), data());
        let mut rx = consumer(&ring);
        let sender = thread::spawn({
            let (ring, data) = (ring.clone(), data.clone());
            move || {
                let (_, mut tx) = take(&ring, 1);
                assert!(try_send(&mut tx, 1, 0));
                data.notify();
            }
        });
        assert_eq!(recv_sleeping(&mut rx, &data), Seen::Frame(1, 0));
        sender.join().unwrap();
    });
}

/// The consumer has released less of a lane than it publishes by itself, finds nothing more there,
/// and stays with a frame of another lane. The producer of the first one needs all room of its
/// lane.
#[test]
fn a_lane_that_is_left_is_published() {
    explore(3, || {
        let ring = wide_ring(2, 256);
        let mut rx = consumer(&ring);
        let (_, mut small) = ring.take(1).unwrap();
        let (_, mut other) = ring.take(2).unwrap();
        assert!(try_send(&mut small, 1, 0));
        assert!(try_send(&mut other, 2, 0));
        let sender = thread::spawn({
            let room = room(&ring, 0);
            move || {
                // The largest payload that the lane can hold.
                let mut has_room = || small.has_room_exactly(small.tail(), 256 - 24);
                let mut found = has_room();
                while !found {
                    room.sleep(Duration::MAX, &mut || {
                        found = has_room();
                        found
                    });
                }
            }
        });
        // The turn of the first lane goes on behind its frame.
        let frame = rx.here().look_first().unwrap();
        let _ = rx.here().free(frame.end());
        rx.tell(0);
        assert_eq!(rx.here().look_first().err(), Some(Fault::Empty));
        assert_eq!((rx.find(), rx.number()), (Some(Found::Frame), 1));
        sender.join().unwrap();
    });
}

/// The consumer dies with an end that it was told: its successor is told again, unless a producer
/// has taken the lane meanwhile; and it goes on behind what was released.
#[test]
fn a_successor_of_the_consumer_goes_on() {
    explore(3, || {
        let ring = ring(2);
        let mut rx = consumer(&ring);
        let (lease, mut tx) = ring.take(1).unwrap();
        assert!(try_send(&mut tx, 1, 0));
        ring.give_back(lease, tx.tail());
        let (_, mut tx) = ring.take(2).unwrap();
        assert!(try_send(&mut tx, 2, 0));
        let successor = thread::spawn({
            let ring = ring.clone();
            move || {
                let dead = thread::spawn(move || {
                    let mut seen = Vec::new();
                    while let Some(one) = recv(&mut rx, Lanes::find) {
                        seen.push(one);
                        if matches!(one, Seen::Ended(..)) {
                            break;
                        }
                    }
                    seen
                });
                let before = dead.join().unwrap();
                let mut rx = consumer(&ring);
                let mut after = Vec::new();
                while let Some(one) = recv(&mut rx, Lanes::find) {
                    after.push(one);
                }
                (before, after)
            }
        });
        // A producer that comes meanwhile finds the lane of the first free, or not yet.
        let third = match ring.take(3) {
            Ok((lease, mut tx)) => {
                assert!(try_send(&mut tx, 3, 0));
                ring.give_back(lease, tx.tail());
                true
            }
            Err(_) => false,
        };
        let (before, mut after) = successor.join().unwrap();
        let mut rx = consumer(&ring);
        while let Some(one) = recv(&mut rx, Lanes::find) {
            after.push(one);
        }
        assert!(before.contains(&Seen::Ended(1, false)));
        assert_eq!([&before[..], &after].concat().iter().filter(|one| **one == Seen::Frame(2, 0)).count(), 1);
        assert_eq!(after.contains(&Seen::Frame(3, 0)), third);
        if !third {
            assert!(after.contains(&Seen::Ended(1, false)), "told again");
        }
    });
}
