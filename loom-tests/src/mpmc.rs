//! The MPMC slot ring: every frame delivered exactly once, hints helped forward, and the claims of the dead recovered.

use crate::error::Error;
use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::ring::mpmc_core::{Recovered, SLOT_HEADER, Shared};
use crate::segment::geometry::Redelivery;
use crate::sync::{Area, LINE, Ordering};
use loom::sync::Arc;
use loom::thread;

const STRIDE: usize = SLOT_HEADER + 8;

fn ring(slots: usize) -> Shared {
    Shared::new(Area::model(2 * LINE), Area::model(LINE), Area::model(slots * STRIDE), slots, STRIDE)
}

fn header(value: u64) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq: value as u32 }
}

fn send(ring: &Shared, me: u16, value: u64) {
    loop {
        match ring.claim(me) {
            Ok(claim) => {
                ring.write(&claim, &value.to_le_bytes());
                return ring.commit(claim, header(value));
            }
            Err(Error::Full) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
}

fn try_recv(ring: &Shared, me: u16) -> Option<(u64, bool)> {
    match ring.take(me).or_else(|_| ring.take_redelivered(me)) {
        Ok(taken) => {
            let mut payload = [0; 8];
            ring.read(&taken, &mut payload);
            let (value, again) = (u64::from_le_bytes(payload), taken.header.flags.contains(Flags::REDELIVERED));
            assert_eq!(value as u32, taken.header.seq, "header and payload of different frames");
            ring.release(taken);
            Some((value, again))
        }
        Err(Error::Empty) => None,
        Err(other) => panic!("{other}"),
    }
}

/// One look at the ring, without the search for redeliveries.
fn ring_try(ring: &Shared, me: u16) -> Option<u64> {
    let taken = ring.take(me).ok()?;
    let mut payload = [0; 8];
    ring.read(&taken, &mut payload);
    ring.release(taken);
    Some(u64::from_le_bytes(payload))
}

fn recv(ring: &Shared, me: u16) -> u64 {
    loop {
        match try_recv(ring, me) {
            Some((value, _)) => return value,
            None => thread::yield_now(),
        }
    }
}

/// Two producers share a two-slot ring that one consumer drains over a lap and a half.
#[test]
fn two_producers_one_consumer() {
    explore(3, || {
        let ring = ring(2);
        let producers: Vec<_> = [(1, 10), (2, 20)]
            .map(|(me, value)| {
                let ring = ring.clone();
                thread::spawn(move || send(&ring, me, value))
            })
            .into();
        let mut seen = [recv(&ring, 3), recv(&ring, 3)];
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
        for producer in producers {
            producer.join().unwrap();
        }
        assert_eq!(try_recv(&ring, 3), None);
    });
}

/// Two consumers take, at most twice each, while a producer fills the ring; what they missed is still there. Each frame
/// once, and each consumer sees its own in order.
#[test]
fn one_producer_two_consumers() {
    explore(3, || {
        let ring = ring(2);
        let consumers: Vec<_> = [3, 4]
            .map(|me| {
                let ring = ring.clone();
                thread::spawn(move || (0..2).filter_map(|_| ring_try(&ring, me)).collect::<Vec<_>>())
            })
            .into();
        for value in [10, 11] {
            send(&ring, 1, value);
        }
        let mut seen: Vec<u64> = Vec::new();
        for consumer in consumers {
            let got = consumer.join().unwrap();
            assert!(got.is_sorted());
            seen.extend(got);
        }
        seen.extend(std::iter::from_fn(|| ring_try(&ring, 5)));
        seen.sort_unstable();
        assert_eq!(seen, [10, 11]);
    });
}

/// Two producers and two consumers at once, one frame or one try each.
#[test]
fn two_producers_two_consumers() {
    explore(2, || {
        let ring = ring(2);
        let second = thread::spawn({
            let ring = ring.clone();
            move || send(&ring, 2, 20)
        });
        let third = thread::spawn({
            let ring = ring.clone();
            move || ring_try(&ring, 3)
        });
        let fourth = thread::spawn({
            let ring = ring.clone();
            move || ring_try(&ring, 4)
        });
        send(&ring, 1, 10);
        second.join().unwrap();
        let mut seen: Vec<u64> = [third.join().unwrap(), fourth.join().unwrap()].into_iter().flatten().collect();
        seen.extend(std::iter::from_fn(|| ring_try(&ring, 5)));
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
    });
}

/// Slots are reused: what a consumer still reads is not overwritten, and a full ring says so.
#[test]
fn reuse_of_slots() {
    explore(3, || {
        let ring = ring(2);
        let producer = thread::spawn({
            let ring = ring.clone();
            move || (0..4).for_each(|value| send(&ring, 1, value))
        });
        for expected in 0..4 {
            assert_eq!(recv(&ring, 3), expected);
        }
        producer.join().unwrap();
    });
}

/// A stale hint: a producer that claimed and was stopped before it moved the tail is walked past (helping).
#[test]
fn stale_hints_are_walked_past() {
    explore(3, || {
        let ring = ring(2);
        let other = thread::spawn({
            let ring = ring.clone();
            move || send(&ring, 2, 20)
        });
        send(&ring, 1, 10);
        other.join().unwrap();
        ring.rewind_hints_for_test();
        let mut seen = [recv(&ring, 3), recv(&ring, 3)];
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
        ring.rewind_hints_for_test();
        send(&ring, 1, 30);
        assert_eq!(recv(&ring, 3), 30);
    });
}

/// A producer dies in WRITING; while one recovers it, another produces and a third consumes: the claim is void, the rest
/// arrives.
#[test]
fn abandoned_claim() {
    explore(3, || {
        let ring = ring(2);
        std::mem::forget(ring.claim(9).unwrap()); // participant 9 died here
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.sweep(9, Redelivery::AtLeastOnce).unwrap()
        });
        let producer = thread::spawn({
            let ring = ring.clone();
            move || send(&ring, 1, 10)
        });
        assert_eq!(recv(&ring, 3), 10);
        producer.join().unwrap();
        let done = recoverer.join().unwrap();
        assert_eq!(done, Recovered { voided: 1, ..Recovered::default() });
        assert_eq!(try_recv(&ring, 3), None);
    });
}

/// A consumer dies in READING; two recover it at once while another consumer works: its frame comes again, once, marked.
#[test]
fn abandoned_read_comes_again() {
    explore(3, || {
        let ring = ring(2);
        send(&ring, 1, 10);
        std::mem::forget(ring.take(9).unwrap()); // participant 9 died here
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.sweep(9, Redelivery::AtLeastOnce).unwrap()
        });
        let mut redeliveries = ring.sweep(9, Redelivery::AtLeastOnce).unwrap().redeliver;
        send(&ring, 1, 11);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match try_recv(&ring, 3) {
                Some(frame) => seen.push(frame),
                None => thread::yield_now(),
            }
        }
        redeliveries += recoverer.join().unwrap().redeliver;
        seen.sort_unstable();
        assert_eq!(seen, [(10, true), (11, false)]);
        assert_eq!(redeliveries, 1, "recovered once, by whoever won");
        assert_eq!(try_recv(&ring, 3), None);
    });
}

/// The same with at-most-once delivery: the frame is dropped, and counted.
#[test]
fn abandoned_read_is_dropped() {
    explore(3, || {
        let ring = ring(2);
        send(&ring, 1, 10);
        std::mem::forget(ring.take(9).unwrap());
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.sweep(9, Redelivery::AtMostOnce).unwrap().lost
        });
        for value in [11, 12] {
            send(&ring, 1, value); // the second needs the dead consumer's slot
        }
        assert_eq!(recv(&ring, 3), 11);
        assert_eq!(recv(&ring, 3), 12);
        assert_eq!(recoverer.join().unwrap(), 1);
    });
}

/// Aborted claims leave no trace but a gap.
#[test]
fn aborted_claim() {
    explore(3, || {
        let ring = Arc::new(ring(2));
        let producer = thread::spawn({
            let ring = ring.clone();
            move || {
                let claim = ring.claim(1).unwrap();
                ring.write(&claim, &[7; 8]);
                ring.abort(claim);
                send(&ring, 1, 10);
            }
        });
        assert_eq!(recv(&ring, 3), 10);
        producer.join().unwrap();
    });
}
