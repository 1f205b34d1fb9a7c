//! The algorithm alone, on heap memory (so Miri can run it), in states that are set and not reached: any position up to the
//! last lap before the counters wrap, hints that lag, full, empty, and whatever the dead leave behind.

use std::collections::BTreeMap;

use super::super::core::{Control, HEAD, Shared, State, TAIL, Taken};
use crate::error::Error;
use crate::frame::{Flags, Header};
use crate::memory;
use crate::segment::Redelivery::{AtLeastOnce, AtMostOnce};
use crate::sync::{Area, Ordering};

const STRIDE: usize = 64;
const MAX: usize = 40;
const LAPS: u64 = 1 << 40;

struct Bare {
    shared: Shared,
    producer: Area,
    consumer: Area,
    data: Area,
}

impl Bare {
    /// An empty ring in which `position` frames have come and gone, and left their traces.
    fn used_up_to(position: u64, slots: usize) -> Self {
        let (producer, consumer) = (memory::heap(4096, 8).unwrap().control, memory::heap(4096, 8).unwrap().control);
        let data = memory::heap(8, slots * STRIDE).unwrap().data;
        for offset in (0..slots * STRIDE).step_by(8) {
            data.word(offset).store(u64::MAX, Ordering::Relaxed);
        }
        for slot in 0..slots as u64 {
            // The next position that this slot is for.
            let next = position.wrapping_add(slot.wrapping_sub(position) & (slots as u64 - 1));
            let lap = (next >> slots.trailing_zeros()) % LAPS;
            data.word(slot as usize * STRIDE).store(control(lap, State::Free, 0, 0), Ordering::Relaxed);
        }
        producer.word(TAIL).store(position, Ordering::Relaxed);
        consumer.word(HEAD).store(position, Ordering::Relaxed);
        let shared = Shared::new(producer.clone(), consumer.clone(), data.clone(), slots, STRIDE);
        Bare { shared, producer, consumer, data }
    }

    fn send(&self, me: u16, bytes: &[u8]) -> bool {
        match self.shared.claim(me) {
            Ok(claim) => {
                self.shared.write(&claim, bytes);
                let header = Header { len: bytes.len() as u32, seq: Shared::sequence(&claim), ..Header::PLAIN };
                self.shared.commit(claim, header);
                true
            }
            Err(Error::Full) => false,
            Err(e) => panic!("{e}"),
        }
    }

    /// The next frame, and whether it is marked; one to be delivered again comes first.
    fn recv(&self, me: u16) -> Option<(Vec<u8>, bool)> {
        let taken = self.take(me)?;
        let found = self.read(&taken);
        self.shared.release(taken);
        Some(found)
    }

    fn take(&self, me: u16) -> Option<Taken> {
        match self.shared.take_redelivered(me).or_else(|_| self.shared.take(me)) {
            Ok(taken) => Some(taken),
            Err(Error::Empty) => None,
            Err(e) => panic!("{e}"),
        }
    }

    fn read(&self, taken: &Taken) -> (Vec<u8>, bool) {
        let mut bytes = vec![0; taken.header.len as usize];
        self.shared.read(taken, &mut bytes);
        (bytes, taken.header.flags.contains(Flags::REDELIVERED))
    }
}

fn control(lap: u64, state: State, owner: u16, attempt: u8) -> u64 {
    Control { lap, state, owner, attempt }.pack()
}

/// Positions worth starting from: two laps from the beginning, before laps wrap at 2^40, and before 2^64.
fn positions(slots: usize) -> impl Iterator<Item = u64> {
    let laps_wrap = LAPS * slots as u64;
    let around = 2 * slots as u64;
    (0..around).chain((1..=around).map(move |i| laps_wrap - i)).chain((1..=around).map(|i| 0u64.wrapping_sub(i)))
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|i| (i as u64).wrapping_mul(31).wrapping_add(seed) as u8).collect()
}

#[test]
fn a_control_word_says_what_was_packed() {
    for state in [State::Free, State::Writing, State::Ready, State::Reading, State::Redeliver] {
        for (lap, owner, attempt) in [(0, 0, 0), (LAPS - 1, 4095, 255), (5, 9, 1)] {
            let word = control(lap, state, owner, attempt);
            assert_eq!(Control::unpack(word).unwrap(), Control { lap, state, owner, attempt });
        }
    }
    for state in 5..16u64 {
        assert!(matches!(Control::unpack(state << 20), Err(Error::Corrupt { .. })));
    }
}

#[test]
fn every_length_full_and_empty_at_every_position() {
    for slots in [2, 4, 8] {
        for position in positions(slots) {
            let bare = Bare::used_up_to(position, slots);
            let n = slots as u64;
            assert_eq!(bare.recv(2), None, "empty at {position} of {slots}");
            for lap in 0..3 {
                for i in 0..n {
                    assert!(bare.send(1, &payload((lap * n + i) as usize % (MAX + 1), i)), "{i} at {position}");
                }
                assert!(!bare.send(1, b""), "{slots} fill it");
                for i in 0..n {
                    let expected = (payload((lap * n + i) as usize % (MAX + 1), i), false);
                    assert_eq!(bare.recv(2), Some(expected), "{i} at {position} of {slots}");
                }
                assert_eq!(bare.recv(2), None);
            }
            // One by one, always full.
            (0..n).for_each(|i| assert!(bare.send(1, &payload(MAX, i))));
            for i in 0..2 * n {
                assert_eq!(bare.recv(2), Some((payload(MAX, i), false)));
                assert!(bare.send(1, &payload(MAX, i + n)) && !bare.send(1, b""));
            }
            assert_eq!(bare.shared.waiting().unwrap().len(), slots);
        }
    }
}

#[test]
fn hints_may_lag_by_any_number_of_laps() {
    for slots in [2, 4] {
        for position in positions(slots).filter(|p| *p < u64::MAX / 2) {
            for lag in 1..=(3 * slots as u64).min(position) {
                let bare = Bare::used_up_to(position, slots);
                (0..2).for_each(|i| assert!(bare.send(1, &[i])));
                bare.producer.word(TAIL).store(position - lag, Ordering::Relaxed);
                bare.consumer.word(HEAD).store(position - lag, Ordering::Relaxed);
                assert_eq!(bare.send(1, &[2]), slots > 2);
                bare.producer.word(TAIL).store(position - lag, Ordering::Relaxed);
                for i in 0..if slots > 2 { 3 } else { 2 } {
                    bare.consumer.word(HEAD).store(position - lag, Ordering::Relaxed);
                    assert_eq!(bare.recv(2), Some((vec![i], false)), "{lag} behind {position} of {slots}");
                }
                assert_eq!(bare.recv(2), None);
                assert!(bare.shared.is_proven(bare.producer.word(TAIL).load(Ordering::Relaxed)));
            }
        }
    }
}

#[test]
fn frames_wait_in_order_also_where_laps_wrap() {
    for position in positions(4) {
        let bare = Bare::used_up_to(position, 4);
        (0..3).for_each(|i| assert!(bare.send(1, &[i])));
        let mut shown = Vec::new();
        for (slot, header) in bare.shared.waiting().unwrap() {
            let mut byte = [0];
            bare.shared.copy_slot(slot, &mut byte);
            shown.push((byte[0], header.seq));
        }
        let first = position as u32;
        assert_eq!(shown, [(0, first), (1, first.wrapping_add(1)), (2, first.wrapping_add(2))], "at {position}");
    }
}

#[test]
fn what_was_given_up_or_died_is_walked_past() {
    for position in positions(4) {
        // 0 aborted, 1 sent, 2 claimed by one who dies, 3 sent.
        let bare = Bare::used_up_to(position, 4);
        let aborted = bare.shared.claim(1).unwrap();
        assert!(bare.send(1, b"one"));
        let _dead = bare.shared.claim(3).unwrap();
        assert!(bare.send(1, b"three"));
        assert_eq!(bare.recv(2), None, "the first claim is still being written");
        bare.shared.abort(aborted);
        assert_eq!(bare.recv(2), Some((b"one".to_vec(), false)));
        assert_eq!(bare.recv(2), None, "nobody is proven dead yet");
        assert!(bare.send(1, b"four") && bare.send(1, b"five") && !bare.send(1, b"full at the dead one's slot"));
        assert_eq!(bare.shared.sweep(4, AtLeastOnce).unwrap(), Default::default(), "somebody else");
        assert_eq!(bare.shared.sweep(3, AtLeastOnce).unwrap().voided, 1);
        assert_eq!(bare.shared.sweep(3, AtLeastOnce).unwrap(), Default::default(), "idempotent");
        assert!(bare.send(1, b"six"));
        for expected in [&b"three"[..], b"four", b"five", b"six"] {
            assert_eq!(bare.recv(2), Some((expected.to_vec(), false)), "at {position}");
        }
        assert_eq!(bare.recv(2), None);
    }
}

#[test]
fn what_a_dead_consumer_took_comes_again_marked_while_the_others_go_on() {
    for position in positions(4) {
        let bare = Bare::used_up_to(position, 4);
        (0..4).for_each(|i| assert!(bare.send(1, &[i])));
        let _first = bare.take(5).unwrap();
        let _second = bare.take(5).unwrap();
        assert_eq!(bare.recv(6), Some((vec![2], false)));
        let seen = bare.shared.redeliveries();
        assert_eq!(bare.shared.sweep(5, AtLeastOnce).unwrap().redeliver, 2);
        assert_ne!(bare.shared.redeliveries(), seen, "announced");
        assert_eq!(bare.shared.waiting().unwrap().len(), 3);
        // The next one dies with it as well.
        let again = bare.take(7).unwrap();
        assert!(bare.read(&again).1);
        assert_eq!(bare.shared.sweep(7, AtLeastOnce).unwrap().redeliver, 1);
        let mut rest: BTreeMap<u8, bool> = (0..3).map(|_| bare.recv(6).unwrap()).map(|(b, m)| (b[0], m)).collect();
        assert_eq!((rest.remove(&0), rest.remove(&1), rest.remove(&3)), (Some(true), Some(true), Some(false)));
        assert_eq!(bare.recv(6), None);
        (0..4).for_each(|i| assert!(bare.send(1, &[i]), "every slot is free again"));
        assert!(!bare.send(1, b""));
    }
}

#[test]
fn at_most_once_drops_what_a_dead_consumer_took() {
    let bare = Bare::used_up_to(0, 4);
    (0..4).for_each(|i| assert!(bare.send(1, &[i])));
    let _taken = bare.take(5).unwrap();
    assert_eq!(bare.shared.sweep(5, AtMostOnce).unwrap().lost, 1);
    (1..4).for_each(|i| assert_eq!(bare.recv(6), Some((vec![i], false))));
    assert_eq!(bare.recv(6), None);
}

#[test]
fn a_frame_that_kills_every_consumer_is_delivered_for_ever_and_its_count_does_not_wrap() {
    let bare = Bare::used_up_to(0, 2);
    assert!(bare.send(1, b"poison"));
    for attempt in 0..300 {
        let taken = bare.take(5).unwrap();
        assert_eq!(bare.read(&taken), (b"poison".to_vec(), attempt > 0), "{attempt}");
        assert_eq!(bare.shared.sweep(5, AtLeastOnce).unwrap().redeliver, 1);
    }
    assert_eq!(bare.recv(5), Some((b"poison".to_vec(), true)));
}

#[test]
fn forged_memory_is_an_error_or_nothing_and_never_a_loop() {
    let outcome = |bare: &Bare| (bare.shared.claim(1).map(drop), bare.shared.take(2).map(drop));
    for word in [5 << 20, u64::MAX] {
        let bare = Bare::used_up_to(0, 4);
        bare.data.word(0).store(word, Ordering::Relaxed);
        assert!(matches!(outcome(&bare), (Err(Error::Corrupt { .. }), Err(Error::Corrupt { .. }))));
        assert!(matches!(bare.shared.sweep(1, AtLeastOnce), Err(Error::Corrupt { .. })));
        assert!(matches!(bare.shared.waiting(), Err(Error::Corrupt { .. })));
    }
    // Any lap in any state, in every slot: a call ends.
    for lap in [0, 1, 2, LAPS / 2, LAPS / 2 + 1, LAPS - 2, LAPS - 1] {
        for state in [State::Free, State::Writing, State::Ready, State::Reading, State::Redeliver] {
            let bare = Bare::used_up_to(0, 4);
            (0..4).for_each(|slot| bare.data.word(slot * STRIDE).store(control(lap, state, 9, 0), Ordering::Relaxed));
            let _ = outcome(&bare);
        }
    }
    let bare = Bare::used_up_to(0, 4);
    for hint in [1 << 20, 5] {
        bare.producer.word(TAIL).store(hint, Ordering::Relaxed);
        bare.consumer.word(HEAD).store(hint, Ordering::Relaxed);
        assert!(!bare.shared.is_proven(hint), "{hint}");
        let _ = outcome(&bare);
    }
    // A length beyond the slot.
    let bare = Bare::used_up_to(0, 4);
    assert!(bare.send(1, b"x"));
    bare.data.word(8).store(Header { len: MAX as u32 + 1, ..Header::PLAIN }.commit_word(), Ordering::Relaxed);
    assert!(matches!(bare.shared.take(2), Err(Error::Corrupt { .. })));
}

#[test]
fn threads_lose_and_double_nothing_while_one_of_them_keeps_dying() {
    const FRAMES: u16 = if cfg!(miri) { 60 } else { 20_000 };
    let position = if cfg!(miri) { 0 } else { LAPS * 4 - 1000 }; // laps wrap under way
    let bare = Bare::used_up_to(position, 4);
    let bare = &bare;
    let got: Vec<Vec<(Vec<u8>, bool)>> = std::thread::scope(|scope| {
        for me in 1..=2u16 {
            scope.spawn(move || {
                for i in 0..FRAMES {
                    while !bare.send(me, &[&me.to_le_bytes()[..], &i.to_le_bytes()].concat()) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        // Claims and dies, takes and dies; who sweeps it does what the next holder of its id must wait for.
        scope.spawn(move || {
            for _ in 0..FRAMES / 4 {
                let _ = bare.shared.claim(3).map(std::mem::forget);
                let _ = bare.shared.take(3).map(std::mem::forget);
                bare.shared.sweep(3, AtLeastOnce).unwrap();
                std::thread::yield_now();
            }
        });
        let consumers: Vec<_> = (4..=5u16)
            .map(|me| {
                scope.spawn(move || {
                    let mut got = Vec::new();
                    while got.len() < usize::from(FRAMES) {
                        match bare.recv(me) {
                            Some(frame) => got.push(frame),
                            None => std::thread::yield_now(),
                        }
                    }
                    got
                })
            })
            .collect();
        consumers.into_iter().map(|c| c.join().unwrap()).collect()
    });
    let mut all: Vec<_> = got.iter().flatten().map(|(bytes, _)| bytes.clone()).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2 * usize::from(FRAMES), "every frame once");
    for frames in got {
        let unmarked = frames.iter().filter(|(_, marked)| !marked);
        let numbers = unmarked.map(|(b, _)| (b[0], u16::from_le_bytes([b[2], b[3]])));
        let mut last = BTreeMap::new();
        for (producer, number) in numbers {
            let before = last.insert(producer, number);
            assert!(before.is_none_or(|before| before < number), "{producer}: {before:?}, then {number}");
        }
    }
    assert_eq!(bare.recv(9), None);
}
