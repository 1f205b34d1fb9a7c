//! The algorithm alone, on heap memory (so Miri can run it), in constructed states: any position up
//! to the last lap before the counters wrap, hints that lag, a full and an empty ring, and
//! everything that dead participants can leave.

use std::collections::BTreeMap;

use super::super::core::{Claim, Taken};
use super::super::inspect::State;
use super::super::layout::{ClaimWord, CommitWord, HEAD, Parts, ReadWord, Shared, Stop, TAIL};
use super::super::recovery::Recovered;
use crate::frame::{Flags, Header};
use crate::memory;
use crate::memory::Area;
use crate::segment::Redelivery::{self, AtLeastOnce, AtMostOnce};
use crate::segment::layout::claims_len;
use crate::sync::{AtomicU64, Ordering};

const STRIDE: usize = 64;
const MAX: usize = 40;
const LAPS: u64 = 1 << 40;

struct Bare {
    shared: Shared,
    /// The private state of each participant's handle.
    free: [AtomicU64; 16],
    tail: Area,
    head: Area,
    producers: Area,
    consumers: Area,
    data: Area,
}

impl Bare {
    /// An empty ring with the words that `position` earlier frames have left.
    fn used_up_to(position: u64, slots: usize) -> Self {
        let control = |len: usize| memory::heap(len, 8).unwrap().control;
        let (tail, head) = (control(4096), control(4096));
        let (producers, consumers) = (control(claims_len(slots)), control(claims_len(slots)));
        let data = memory::heap(8, slots * STRIDE).unwrap().data;
        for offset in (0..slots * STRIDE).step_by(8) {
            data.word(offset).store(u64::MAX, Ordering::Relaxed);
        }
        for slot in 0..slots {
            // The next position of this slot.
            let next = position.wrapping_add((slot as u64).wrapping_sub(position) & (slots as u64 - 1));
            // Laps begin with 1; this is the lap before.
            let lap = (next >> slots.trailing_zeros()) % LAPS;
            let is_new = next < slots as u64;
            producers.word(8 * slot).store(ClaimWord::new(lap, if is_new { 0 } else { 1 }).0, Ordering::Relaxed);
            consumers.word(8 * slot).store(ReadWord::released(lap).0, Ordering::Relaxed);
            let left = [CommitWord::ready(lap).0, CommitWord::void(lap).0][slot % 2];
            data.word(slot * STRIDE).store(if is_new { 0 } else { left }, Ordering::Relaxed);
        }
        tail.word(TAIL).store(position, Ordering::Relaxed);
        head.word(HEAD).store(position, Ordering::Relaxed);
        let parts = Parts {
            producer_page: tail.clone(),
            consumer_page: head.clone(),
            producers: producers.clone(),
            consumers: consumers.clone(),
            data: data.clone(),
        };
        let shared = Shared::new(parts, slots, STRIDE, MAX);
        let free = std::array::from_fn(|_| shared.first_free());
        Bare { shared, free, tail, head, producers, consumers, data }
    }

    fn claim(&self, me: u16) -> Result<Claim, Stop> {
        self.shared.claim(me, &self.free[usize::from(me)])
    }

    fn sweep(&self, id: u16, policy: Redelivery) -> Recovered {
        self.shared.sweep(id, policy, || true)
    }

    fn set_hints(&self, position: u64) {
        self.tail.word(TAIL).store(position, Ordering::Relaxed);
        self.head.word(HEAD).store(position, Ordering::Relaxed);
    }

    /// First bytes and sequence numbers of the waiting frames.
    fn waiting(&self) -> Vec<(u8, u32)> {
        let mut shown = Vec::new();
        self.shared
            .frames(|header, payload| {
                shown.push((payload.first().copied().unwrap_or(0), header.seq));
                true
            })
            .unwrap();
        shown
    }

    fn state(&self, slot: usize) -> State {
        self.shared.inspect(slot).unwrap().state
    }

    fn send(&self, me: u16, bytes: &[u8]) -> bool {
        match self.claim(me) {
            Ok(claim) => {
                self.shared.write(&claim, bytes);
                let header = Header { len: bytes.len() as u32, seq: Shared::sequence(&claim), ..Header::PLAIN };
                self.shared.commit(claim, header);
                true
            }
            Err(Stop::Full) => false,
            Err(stop) => panic!("{stop:?}"),
        }
    }

    /// Takes the next frame, and returns whether it is marked. A frame to be redelivered comes
    /// first.
    fn recv(&self, me: u16) -> Option<(Vec<u8>, bool)> {
        let taken = self.take(me)?;
        let found = self.read(&taken);
        self.shared.release(taken);
        Some(found)
    }

    fn take(&self, me: u16) -> Option<Taken> {
        match self.shared.take_redelivered(me).or_else(|_| self.shared.take(me)) {
            Ok(taken) => Some(taken),
            Err(Stop::Empty) => None,
            Err(stop) => panic!("{stop:?}"),
        }
    }

    fn take_once(&self, me: u16) -> Result<Taken, Stop> {
        self.shared.take(me)
    }

    fn read(&self, taken: &Taken) -> (Vec<u8>, bool) {
        let mut bytes = vec![0; taken.header.len as usize];
        self.shared.read(taken, &mut bytes);
        (bytes, taken.header.flags.contains(Flags::REDELIVERED))
    }
}

/// Positions to start from: two laps from the beginning, before laps wrap at 2^40, and before 2^64.
fn positions(slots: usize) -> impl Iterator<Item = u64> {
    let laps_wrap = LAPS * slots as u64;
    let around = 2 * slots as u64;
    (0..around).chain((1..=around).map(move |i| laps_wrap - i)).chain((1..=around).map(|i| 0u64.wrapping_sub(i)))
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|i| (i as u64).wrapping_mul(31).wrapping_add(seed) as u8).collect()
}

#[test]
fn words_contain_what_was_packed() {
    for (lap, owner) in [(0, 0), (LAPS - 1, 4095), (5, 9)] {
        let claimed = ClaimWord::new(lap, owner);
        assert_eq!((claimed.lap(), claimed.owner()), (lap, owner));
        let mut read = ReadWord::reading(lap, owner);
        for attempt in [1, 2] {
            assert!(read.is_reading() && read.owner() == owner && !read.is_again());
            read = read.taken_back();
            assert!(read.is_again() && read.owner() == 0 && (read.attempt(), read.lap()) == (attempt, lap));
            read = read.taken_again(owner);
            assert_eq!((read.lap(), read.attempt()), (lap, attempt));
        }
        assert_eq!(ReadWord::released(lap).lap(), lap);
        assert!(!ReadWord::released(lap).is_reading() && !ReadWord::released(lap).is_again());
        assert_eq!([CommitWord::ready(lap).lap(), CommitWord::void(lap).lap()], [lap; 2]);
        assert_ne!(CommitWord::ready(lap), CommitWord::void(lap));
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
            // One by one, in a full ring.
            (0..n).for_each(|i| assert!(bare.send(1, &payload(MAX, i))));
            for i in 0..2 * n {
                assert_eq!(bare.recv(2), Some((payload(MAX, i), false)));
                assert!(bare.send(1, &payload(MAX, i + n)) && !bare.send(1, b""));
            }
            assert_eq!(bare.waiting().len(), slots);
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
                bare.set_hints(position - lag);
                assert_eq!(bare.send(1, &[2]), slots > 2);
                for i in 0..if slots > 2 { 3 } else { 2 } {
                    bare.set_hints(position - lag);
                    assert_eq!(bare.recv(2), Some((vec![i], false)), "{lag} behind {position} of {slots}");
                }
                assert_eq!(bare.recv(2), None);
                assert!(bare.shared.is_proven(bare.tail.word(TAIL).load(Ordering::Relaxed)));
            }
        }
    }
}

#[test]
fn frames_wait_in_order_also_where_laps_wrap() {
    for position in positions(4) {
        let bare = Bare::used_up_to(position, 4);
        (0..3).for_each(|i| assert!(bare.send(1, &[i])));
        let first = position as u32;
        assert_eq!(
            bare.waiting(),
            [(0, first), (1, first.wrapping_add(1)), (2, first.wrapping_add(2))],
            "at {position}"
        );
    }
}

#[test]
fn aborted_and_dead_claims_are_skipped() {
    for position in positions(4) {
        // 0 is aborted, 1 sent, 2 claimed by a producer that dies, 3 sent.
        let bare = Bare::used_up_to(position, 4);
        let aborted = bare.claim(1).unwrap();
        assert!(bare.send(1, b"one"));
        let _dead = bare.claim(3).unwrap();
        assert!(bare.send(1, b"three"));
        assert_eq!(bare.recv(2), None, "the first claim is still being written");
        bare.shared.abort(aborted);
        assert_eq!(bare.recv(2), Some((b"one".to_vec(), false)));
        assert_eq!(bare.recv(2), None, "no participant is proven dead yet");
        assert!(bare.send(1, b"four") && bare.send(1, b"five") && !bare.send(1, b"full at the dead producer's slot"));
        assert_eq!(bare.sweep(4, AtLeastOnce), Default::default(), "another participant");
        assert_eq!(bare.sweep(3, AtLeastOnce).voided, 1);
        assert_eq!(bare.sweep(3, AtLeastOnce), Default::default(), "idempotent");
        assert!(bare.send(1, b"six"));
        for expected in [&b"three"[..], b"four", b"five", b"six"] {
            assert_eq!(bare.recv(2), Some((expected.to_vec(), false)), "at {position}");
        }
        assert_eq!(bare.recv(2), None);
    }
}

#[test]
fn a_dead_consumers_frames_are_redelivered_while_the_others_continue() {
    for position in positions(4) {
        let bare = Bare::used_up_to(position, 4);
        (0..4).for_each(|i| assert!(bare.send(1, &[i])));
        let _first = bare.take(5).unwrap();
        let _second = bare.take(5).unwrap();
        assert_eq!(bare.recv(6), Some((vec![2], false)));
        let seen = bare.shared.redeliveries();
        assert_eq!(bare.sweep(5, AtLeastOnce).redeliver, 2);
        assert_ne!(bare.shared.redeliveries(), seen, "announced");
        assert_eq!(bare.waiting().len(), 3);
        // The next consumer dies with it as well.
        let again = bare.take(7).unwrap();
        assert!(bare.read(&again).1);
        assert_eq!(bare.sweep(7, AtLeastOnce).redeliver, 1);
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
    assert_eq!(bare.sweep(5, AtMostOnce).lost, 1);
    (1..4).for_each(|i| assert_eq!(bare.recv(6), Some((vec![i], false))));
    assert_eq!(bare.recv(6), None);
}

#[test]
fn a_frame_that_kills_every_consumer_is_delivered_for_ever_and_stays_marked() {
    let bare = Bare::used_up_to(0, 2);
    assert!(bare.send(1, b"poison"));
    for attempt in 0..5000 {
        let taken = bare.take(5).unwrap();
        assert_eq!(bare.read(&taken), (b"poison".to_vec(), attempt > 0), "{attempt}");
        assert_eq!(bare.sweep(5, AtLeastOnce).redeliver, 1);
    }
    assert_eq!(bare.recv(5), Some((b"poison".to_vec(), true)));
}

/// If the writer of VOID does not free the slot, the next participant does.
#[test]
fn a_void_slot_is_freed_by_producers_and_by_consumers() {
    for position in positions(4) {
        let first = (position % 4) as usize;
        // The writer of VOID died before it freed the slot.
        let void = |bare: &Bare| {
            let lap = ClaimWord(bare.producers.word(8 * first).load(Ordering::Relaxed)).lap();
            bare.data.word(first * STRIDE).store(CommitWord::void(lap).0, Ordering::Relaxed);
            assert_eq!(bare.state(first), State::Void);
        };
        let bare = Bare::used_up_to(position, 4);
        let _ = bare.claim(3).unwrap();
        void(&bare);
        (1..4).for_each(|i| assert!(bare.send(1, &[i])));
        assert!(bare.send(1, &[4]), "a producer skips it at {position}");
        (1..5).for_each(|i| assert_eq!(bare.recv(2), Some((vec![i], false)), "at {position}"));
        assert_eq!(bare.recv(2), None);

        let bare = Bare::used_up_to(position, 4);
        let _ = bare.claim(3).unwrap();
        void(&bare);
        assert_eq!(bare.recv(2), None);
        assert_eq!(bare.state(first), State::Free, "a consumer skips it at {position}");
        (0..4).for_each(|i| assert!(bare.send(1, &[i])));
        assert!(!bare.send(1, &[4]));
    }
}

/// A recoverer that does not hold the dead participant's id asks before each step whether that
/// participant still has it.
#[test]
fn a_reused_id_is_not_recovered() {
    let bare = Bare::used_up_to(0, 4);
    assert!(bare.send(1, b"a"));
    let (claim, taken) = (bare.claim(3).unwrap(), bare.take(3).unwrap());
    assert_eq!(bare.shared.sweep(3, AtLeastOnce, || false), Recovered::default());
    assert_eq!((bare.state(0), bare.state(1)), (State::Reading, State::Writing));
    bare.shared.abort(claim);
    bare.shared.release(taken);
    assert_eq!((bare.state(0), bare.state(1)), (State::Free, State::Free));
}

/// The free slots of a group are remembered; a slot that was not free is read again.
#[test]
fn only_free_slots_are_remembered_as_free() {
    for slots in [2, 8, 16, 32] {
        for position in positions(slots) {
            let bare = Bare::used_up_to(position, slots);
            let n = slots as u64;
            // Two handles alternate, so the state of each is old; a consumer holds one slot
            // throughout.
            for i in 0..n {
                assert!(bare.send(1 + (i % 2) as u16, &[i as u8]));
            }
            let held = bare.take(5).unwrap();
            for i in 1..n {
                assert_eq!(bare.recv(6), Some((vec![i as u8], false)));
            }
            assert!(!bare.send(1, b"") && !bare.send(2, b""), "at {position} of {slots}");
            bare.shared.release(held);
            for i in 0..n {
                assert!(bare.send(2 - (i % 2) as u16, &[i as u8]), "{i} at {position} of {slots}");
            }
            assert!(!bare.send(1, b"") && !bare.send(2, b""));
        }
    }
}

#[test]
fn forged_memory_is_an_error_or_nothing_and_never_a_loop() {
    let outcome = |bare: &Bare| (bare.claim(1).map(drop).err(), bare.take_once(2).map(drop).err());
    // A commit word of this lap that is neither READY nor VOID.
    let bare = Bare::used_up_to(0, 4);
    bare.data.word(0).store(CommitWord::void(1).0 + 1, Ordering::Relaxed);
    assert_eq!(bare.take_once(2).map(drop), Err(Stop::UnknownState));
    // A claim that is further behind than claims can be.
    let bare = Bare::used_up_to(4, 4);
    bare.producers.word(0).store(ClaimWord::new(LAPS - 5, 1).0, Ordering::Relaxed);
    assert_eq!(bare.claim(1).map(drop), Err(Stop::Behind));
    assert!(bare.shared.inspect(0).is_err());
    // Any lap in any state in any of the arrays, in every slot: each call ends.
    let laps = [0, 1, 2, LAPS / 2, LAPS / 2 + 1, LAPS - 2, LAPS - 1];
    let places = laps.iter().flat_map(|lap| (0..8u64).map(move |low| (*lap, low)));
    for (lap, low) in places {
        for array in 0..3 {
            let bare = Bare::used_up_to(4, 4);
            for slot in 0..4 {
                let (area, at) =
                    [(&bare.producers, 8 * slot), (&bare.consumers, 8 * slot), (&bare.data, slot * STRIDE)][array];
                let bits = [low, low << 21 | 9, low][array];
                area.word(at).store(lap << 24 | bits, Ordering::Relaxed);
            }
            for _ in 0..3 {
                let _ = outcome(&bare);
            }
            for id in [0, 9] {
                let _ = bare.sweep(id, AtLeastOnce);
            }
            let _ = bare.shared.frames(|_, _| true);
            (0..4).for_each(|slot| assert!(bare.shared.inspect(slot) != Err(Stop::Full)));
        }
    }
    let bare = Bare::used_up_to(0, 4);
    for hint in [1 << 20, 5] {
        bare.set_hints(hint);
        assert!(!bare.shared.is_proven(hint), "{hint}");
        let _ = outcome(&bare);
    }
    // A length beyond the slot, and bytes that are no header.
    for (word, stop) in
        [(Header { len: MAX as u32 + 1, ..Header::PLAIN }.commit_word(), Stop::TooLong), (7, Stop::NoHeader)]
    {
        let bare = Bare::used_up_to(0, 4);
        assert!(bare.send(1, b"x"));
        bare.data.word(8).store(word, Ordering::Relaxed);
        assert_eq!(bare.take_once(2).map(drop), Err(stop));
    }
}

#[test]
fn threads_lose_and_repeat_no_frame_while_one_of_them_keeps_dying() {
    const FRAMES: u16 = if cfg!(miri) { 60 } else { 20_000 };
    let position = if cfg!(miri) { 0 } else { LAPS * 4 - 1000 }; // laps wrap during the test
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
        // Claims and dies, takes and dies. The next holder of its id must wait for the sweep.
        scope.spawn(move || {
            for _ in 0..FRAMES / 4 {
                let _ = bare.claim(3).map(std::mem::forget);
                let _ = bare.shared.take(3).map(std::mem::forget);
                bare.sweep(3, AtLeastOnce);
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
