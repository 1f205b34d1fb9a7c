//! The MPMC slot ring: every frame is delivered exactly once, and stale hints are passed over.
//! Recovery of what dead participants held: `recovery.rs`; what observers see: `observers.rs`.

mod observers;
mod recovery;

use loom::sync::Arc;
use loom::thread;

use crate::explore;
use crate::frame::header::{Flags, Header};
use crate::memory::{Area, LINE};
use crate::ring::mpmc::core::{Claim, Taken};
use crate::ring::mpmc::layout::{ClaimWord, CommitWord, PAD, Parts, ReadWord, SLOT_HEADER, Shared, Stop};
use crate::ring::mpmc::recovery::Recovered;
use crate::segment::geometry::Redelivery;
use crate::sync::{AtomicU64, Ordering};

const STRIDE: usize = SLOT_HEADER + 8;
/// The stride of a slot with pads.
const PADDED: usize = SLOT_HEADER + 8 + 2 * PAD;

/// A ring, and what the handle of each participant remembers.
#[derive(Clone)]
pub(crate) struct Ring {
    shared: Shared,
    free: Arc<[AtomicU64; 10]>,
}

impl std::ops::Deref for Ring {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Ring {
    fn over(parts: Parts, slots: usize) -> Self {
        Self::of(Shared::new(parts, slots, STRIDE, 8))
    }

    fn with_pads(slots: usize) -> Self {
        let parts = Parts { data: Area::model(slots * PADDED), ..parts(slots) };
        Self::of(Shared::new(parts, slots, PADDED, 8))
    }

    fn of(shared: Shared) -> Self {
        let free = Arc::new(std::array::from_fn(|_| shared.first_free()));
        Ring { shared, free }
    }

    pub(crate) fn claim(&self, me: u16) -> Result<Claim, Stop> {
        self.shared.claim(me, &self.free[usize::from(me)])
    }

    fn sweep(&self, id: u16, policy: Redelivery) -> Recovered {
        self.shared.sweep(id, policy, || true)
    }
}

fn parts(slots: usize) -> Parts {
    Parts {
        producer_page: Area::model(2 * LINE),
        consumer_page: Area::model(LINE),
        producers: Area::model(8 * slots),
        consumers: Area::model(8 * slots),
        data: Area::model(slots * STRIDE),
    }
}

pub(crate) fn ring(slots: usize) -> Ring {
    Ring::over(parts(slots), slots)
}

pub(crate) fn header(value: u64) -> Header {
    Header { flags: Flags::WHOLE, len: 8, kind: 0x100, stream: 0, seq: value as u32 }
}

/// Sends if there is a free slot.
fn try_send(ring: &Ring, me: u16, value: u64) -> bool {
    match ring.claim(me) {
        Ok(claim) => {
            ring.write(&claim, &value.to_le_bytes());
            ring.commit(claim, header(value));
            true
        }
        Err(Stop::Full) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn send(ring: &Ring, me: u16, value: u64) {
    while !try_send(ring, me, value) {
        thread::yield_now();
    }
}

/// Reads and releases the frame that was taken.
pub(crate) fn finish(ring: &Ring, taken: Taken) -> u64 {
    let mut payload = [0; 8];
    ring.read(&taken, &mut payload);
    let value = u64::from_le_bytes(payload);
    assert_eq!(value as u32, taken.header.seq, "header and payload of different frames");
    ring.release(taken);
    value
}

/// One attempt to receive, without the search for redeliveries.
pub(crate) fn ring_try(ring: &Ring, me: u16) -> Option<u64> {
    match ring.take(me) {
        Ok(taken) => Some(finish(ring, taken)),
        Err(Stop::Empty) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// One attempt to receive, then a search of all slots. Returns the value, and whether it was
/// redelivered.
fn try_recv(ring: &Ring, me: u16) -> Option<(u64, bool)> {
    match ring.take(me).or_else(|_| ring.take_redelivered(me)) {
        Ok(taken) => {
            let again = taken.header.flags.contains(Flags::REDELIVERED);
            Some((finish(ring, taken), again))
        }
        Err(Stop::Empty) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn recv(ring: &Ring, me: u16) -> u64 {
    loop {
        match ring_try(ring, me) {
            Some(value) => return value,
            None => thread::yield_now(),
        }
    }
}

/// Receives all frames that are left, with another consumer.
fn drain(ring: &Ring) -> Vec<(u64, bool)> {
    std::iter::from_fn(|| try_recv(ring, 15)).collect()
}

/// Two producers share a two-slot ring that one consumer drains.
#[test]
fn two_producers_one_consumer() {
    explore(3, || {
        let ring = ring(2);
        let producers = [(1, 10), (2, 20)].map(|(me, value)| {
            let ring = ring.clone();
            thread::spawn(move || assert!(try_send(&ring, me, value), "there is a slot for each"))
        });
        let mut seen: Vec<_> = (0..2).filter_map(|_| ring_try(&ring, 3)).collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        seen.extend(drain(&ring).into_iter().map(|(value, _)| value));
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
    });
}

/// A producer touches the pads of a slot that another one fills, that a consumer reads, or that was
/// released: no frame changes.
#[test]
fn pads_are_touched_whoever_owns_their_slot() {
    explore(3, || {
        let ring = Ring::with_pads(2);
        let producer = thread::spawn({
            let ring = ring.clone();
            move || assert!(try_send(&ring, 2, 20), "there is a slot for each")
        });
        assert!(try_send(&ring, 1, 10));
        let mut seen: Vec<_> = (0..2).filter_map(|_| ring_try(&ring, 3)).collect();
        producer.join().unwrap();
        seen.extend(drain(&ring).into_iter().map(|(value, _)| value));
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
    });
    explore(2, || {
        // One lap later: the first slot is filled while the second one is read.
        let ring = Ring::with_pads(2);
        assert!(try_send(&ring, 1, 0) && try_send(&ring, 1, 1));
        assert_eq!(ring_try(&ring, 3), Some(0));
        let producer = thread::spawn({
            let ring = ring.clone();
            move || assert!(try_send(&ring, 2, 2))
        });
        assert_eq!(ring_try(&ring, 3), Some(1));
        producer.join().unwrap();
        assert_eq!(drain(&ring).into_iter().map(|(value, _)| value).collect::<Vec<_>>(), [2]);
    });
}

/// Two consumers receive, one at most twice and one once, while a producer fills the ring; the
/// frames that they missed are still there. Each frame is received once, and each consumer sees its
/// frames in order.
#[test]
fn one_producer_two_consumers() {
    explore(2, || {
        let ring = ring(2);
        let consumers = [(3, 2), (4, 1)].map(|(me, tries)| {
            let ring = ring.clone();
            thread::spawn(move || (0..tries).filter_map(|_| ring_try(&ring, me)).collect::<Vec<_>>())
        });
        assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
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
        let producer = thread::spawn({
            let ring = ring.clone();
            move || assert!(try_send(&ring, 2, 20))
        });
        let consumers = [3, 4].map(|me| {
            let ring = ring.clone();
            thread::spawn(move || ring_try(&ring, me))
        });
        assert!(try_send(&ring, 1, 10));
        producer.join().unwrap();
        let mut seen: Vec<u64> = consumers.into_iter().filter_map(|consumer| consumer.join().unwrap()).collect();
        seen.extend(std::iter::from_fn(|| ring_try(&ring, 5)));
        seen.sort_unstable();
        assert_eq!(seen, [10, 20]);
    });
}

/// Slots are reused: a slot that a consumer still reads is not overwritten, and a full ring reports
/// so.
#[test]
fn reuse_of_slots() {
    explore(2, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 0) && try_send(&ring, 1, 1) && !try_send(&ring, 1, 2));
        let producer = thread::spawn({
            let ring = ring.clone();
            move || (2..4).for_each(|value| send(&ring, 1, value))
        });
        (0..4).for_each(|expected| assert_eq!(recv(&ring, 3), expected));
        producer.join().unwrap();
    });
}

/// A late producer knows of all claims before the one that it finds, or that the tail covers: no
/// slot looks older to it than it can be.
#[test]
fn a_claim_makes_earlier_claims_visible() {
    explore(3, || {
        let ring = ring(2);
        let late = thread::spawn({
            let ring = ring.clone();
            move || assert!(try_send(&ring, 2, 20), "there is always a slot")
        });
        let claims = (0..3).filter_map(|_| ring.claim(1).ok());
        claims.for_each(|claim| ring.abort(claim));
        late.join().unwrap();
        assert_eq!(drain(&ring), [(20, false)]);
    });
}

/// Of three claimants the last knows of the first by the second, which has seen nothing of it but
/// the tail.
#[test]
fn a_tail_makes_earlier_claims_visible() {
    explore(3, || {
        let ring = ring(2);
        let claim = |ring: &Ring, me| match ring.claim(me) {
            Ok(_) => 1,
            Err(Stop::Full) => 0,
            Err(other) => panic!("{other:?}"),
        };
        let others = [2, 3].map(|me| {
            let ring = ring.clone();
            thread::spawn(move || claim(&ring, me))
        });
        let mine = claim(&ring, 1);
        let claims = others.into_iter().fold(mine, |claims, other| claims + other.join().unwrap());
        assert_eq!(claims, 2);
    });
}

/// Hints that lag as far as possible: producers and consumers pass over claimed and taken slots.
#[test]
fn stale_hints_are_skipped() {
    explore(3, || {
        let ring = ring(2);
        send(&ring, 1, 1);
        assert_eq!(recv(&ring, 3), 1);
        send(&ring, 1, 2);
        ring.rewind_hints_for_test();
        let other = thread::spawn({
            let ring = ring.clone();
            move || send(&ring, 2, 20)
        });
        assert_eq!(recv(&ring, 3), 2);
        other.join().unwrap();
        ring.rewind_hints_for_test();
        assert_eq!(recv(&ring, 3), 20);
        ring.rewind_hints_for_test();
        send(&ring, 1, 30);
        assert_eq!(drain(&ring), [(30, false)]);
    });
}

/// Laps are counted modulo 2^40: a ring continues when its laps, and then its positions, overflow.
#[test]
fn laps_wrap_around() {
    const LAPS: u64 = 1 << 40;
    for position in [(LAPS - 1) * 2 - 2, LAPS * 2 - 2, 0_u64.wrapping_sub(2)] {
        explore(2, move || {
            let parts = parts(2);
            // Laps begin with 1: the lap before the next is the position in units of the ring.
            let lap = (position >> 1) % LAPS;
            for slot in 0..2 {
                parts.producers.word(8 * slot).store(ClaimWord::new(lap, 1).0, Ordering::Relaxed);
                parts.consumers.word(8 * slot).store(ReadWord::released(lap).0, Ordering::Relaxed);
                parts.data.word(slot * STRIDE).store(CommitWord::ready(lap).0, Ordering::Relaxed);
            }
            parts.producer_page.word(0).store(position, Ordering::Relaxed);
            parts.consumer_page.word(0).store(position, Ordering::Relaxed);
            let ring = Ring::over(parts, 2);
            let sender = thread::spawn({
                let ring = ring.clone();
                move || (0..3).for_each(|value| send(&ring, 1, value))
            });
            (0..3).for_each(|value| assert_eq!(recv(&ring, 3), value));
            sender.join().unwrap();
        });
    }
}

/// Aborted claims leave nothing but a gap.
#[test]
fn aborted_claim() {
    explore(3, || {
        let ring = ring(2);
        let producer = thread::spawn({
            let ring = ring.clone();
            move || {
                if let Ok(claim) = ring.claim(1) {
                    ring.write(&claim, &[7; 8]);
                    ring.abort(claim);
                }
            }
        });
        assert!(try_send(&ring, 2, 10));
        let sent = try_send(&ring, 2, 11);
        producer.join().unwrap();
        let expected: &[_] = if sent { &[(10, false), (11, false)] } else { &[(10, false)] };
        assert_eq!(drain(&ring), expected);
    });
}

/// A consumer that has seen an end, or anything after the last commit, finds the last frame, even
/// behind one that is being read.
#[test]
fn close_after_the_last_frame() {
    explore(3, || {
        let (ring, closed) = (ring(2), loom::sync::Arc::new(AtomicU64::new(0)));
        let producer = thread::spawn({
            let (ring, closed) = (ring.clone(), closed.clone());
            move || {
                assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
                closed.fetch_add(1, Ordering::Release); // as `segment::liveness` records it
            }
        });
        let other = thread::spawn({
            let ring = ring.clone();
            move || ring_try(&ring, 3)
        });
        if closed.load(Ordering::Acquire) == 1 {
            let mut seen: Vec<_> = std::iter::from_fn(|| ring_try(&ring, 4)).collect();
            seen.extend(other.join().unwrap());
            seen.sort_unstable();
            assert_eq!(seen, [10, 11]);
        }
        producer.join().unwrap();
    });
}

/// A producer aborts, and three participants find VOID at once: a consumer that passes over it, a
/// producer that needs the slot, and the one that aborted. The slot is freed once, and the next
/// frame is not lost.
#[test]
fn void_is_skipped_by_all_that_find_it() {
    explore(3, || {
        let ring = ring(2);
        let claim = ring.claim(1).unwrap();
        ring.write(&claim, &[7; 8]);
        assert!(try_send(&ring, 1, 11));
        let aborter = thread::spawn({
            let ring = ring.clone();
            move || ring.abort(claim)
        });
        let consumer = thread::spawn({
            let ring = ring.clone();
            move || ring_try(&ring, 3)
        });
        let sent = try_send(&ring, 2, 12);
        aborter.join().unwrap();
        let mut seen: Vec<_> = consumer.join().unwrap().into_iter().collect();
        seen.extend(drain(&ring).into_iter().map(|(value, _)| value));
        let expected: &[_] = if sent { &[11, 12] } else { &[11] };
        assert_eq!(seen, expected);
    });
}

/// Two threads use one handle: a slot that one found free may be written by the other.
#[test]
fn threads_of_a_handle_share_the_slots_found_free() {
    explore(2, || {
        let ring = ring(2);
        (0..2).for_each(|value| assert!(try_send(&ring, 1, value)));
        let consumer = thread::spawn({
            let ring = ring.clone();
            move || assert_eq!(recv(&ring, 3), 0)
        });
        let other = thread::spawn({
            let ring = ring.clone();
            move || try_send(&ring, 1, 10)
        });
        let sent = try_send(&ring, 1, 20);
        consumer.join().unwrap();
        let sent = u64::from(sent) + u64::from(other.join().unwrap());
        assert_eq!(drain(&ring).len() as u64, 1 + sent);
    });
}
