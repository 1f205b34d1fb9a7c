//! The algorithm alone, on heap memory (so Miri can run it), in constructed states: any position up
//! to the last one before 2^64, records that end where the ring ends, a full and an empty ring, and
//! everything that dead participants can leave.

use super::super::core::{Consumer, Producer, Staged};
use super::super::layout::{EXACT, Fault, HEAD, Shared, TAIL, TAKEN};
use crate::error::Error;
use crate::frame::{Flags, Header};
use crate::memory;
use crate::memory::Area;
use crate::sync::Ordering;

const PAGE: usize = 4096;
/// Small enough to try every state.
const CAPACITY: usize = 128;
const MAX: usize = CAPACITY - 24;

/// A ring's memory, and the words that a test may set.
struct Bare {
    capacity: usize,
    producer: Area,
    consumer: Area,
    data: Area,
}

impl Bare {
    /// An empty ring with old bytes everywhere, as `position` earlier bytes have left them.
    fn used_up_to(position: u64) -> Self {
        Self::of_size(CAPACITY, position)
    }

    fn of_size(capacity: usize, position: u64) -> Self {
        let page = || memory::heap(PAGE, capacity).unwrap();
        let (memory, other) = (page(), page());
        let bare = Bare { capacity, producer: memory.control, consumer: other.control, data: memory.data };
        for offset in (0..capacity).step_by(8) {
            bare.data.word(offset).store(u64::MAX, Ordering::Relaxed);
        }
        bare.data.word(position as usize % capacity).store(0, Ordering::Relaxed);
        bare.producer.word(TAIL).store(position, Ordering::Relaxed);
        for word in [HEAD, EXACT, TAKEN] {
            bare.consumer.word(word).store(position, Ordering::Relaxed);
        }
        bare
    }

    fn shared(&self) -> Shared {
        let (producer, consumer, data) = (self.producer.clone(), self.consumer.clone(), self.data.clone());
        Shared::new(producer, consumer, data, self.capacity, self.capacity - 24)
    }

    fn producer(&self) -> Producer {
        Producer::attach(self.shared()).unwrap()
    }

    fn consumer(&self) -> Consumer {
        Consumer::attach(self.shared()).unwrap()
    }

    fn byte(&self, position: u64) -> u8 {
        let at = position as usize % self.capacity;
        self.data.word(at / 8 * 8).load(Ordering::Relaxed).to_le_bytes()[at % 8]
    }
}

/// A consumer that skips the frames that its dead predecessor held, and their number.
fn skipping_successor(shared: Shared) -> (Consumer, u64) {
    let (mut rx, mut lost) = (Consumer::attach(shared).unwrap(), 0);
    rx.skip_shown(|| lost += 1).unwrap();
    (rx, lost)
}

/// Positions to start from: all of two laps, and all from which the next laps wrap around 2^64.
fn positions() -> impl Iterator<Item = u64> {
    let step = if cfg!(miri) { 56 } else { 8 };
    let wrap = (0..2 * CAPACITY as u64).step_by(step).map(|before| 0u64.wrapping_sub(before));
    (0..2 * CAPACITY as u64).step_by(step).chain(wrap)
}

fn lengths() -> impl Iterator<Item = usize> {
    (0..=MAX).step_by(if cfg!(miri) { 13 } else { 1 })
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    (0..len).map(|i| (i as u64).wrapping_mul(31).wrapping_add(seed) as u8 | 1).collect()
}

fn write(tx: &mut Producer, tail: u64, bytes: &[u8]) -> Header {
    tx.write(tail, bytes);
    Header { len: bytes.len() as u32, ..Header::PLAIN }
}

fn has_room(tx: &mut Producer, tail: u64, len: usize) -> bool {
    tx.has_room(tail, len) || tx.has_room_exactly(tail, len)
}

/// Adds a frame to a batch.
fn stage(tx: &mut Producer, batch: &mut Staged, bytes: &[u8]) {
    let header = write(tx, batch.tail(), bytes);
    tx.stage(batch, header);
}

fn send(tx: &mut Producer, bytes: &[u8]) -> bool {
    let room = has_room(tx, tx.tail(), bytes.len());
    if room {
        let header = write(tx, tx.tail(), bytes);
        tx.commit(header);
    }
    room
}

/// Reads the next frame: its payload, and whether it is marked.
fn look(rx: &mut Consumer) -> Option<(Vec<u8>, bool)> {
    let frame = rx.look().ok()?;
    let mut bytes = vec![0; frame.header().len as usize];
    rx.read(&frame, &mut bytes);
    Some((bytes, frame.header().flags.contains(Flags::REDELIVERED)))
}

fn recv(rx: &mut Consumer) -> Option<(Vec<u8>, bool)> {
    let found = look(rx)?;
    let _ = rx.release(rx.looked_at());
    Some(found)
}

#[test]
fn every_length_at_every_position() {
    for position in positions() {
        for len in lengths() {
            let bare = Bare::used_up_to(position);
            let (mut tx, mut rx) = (bare.producer(), bare.consumer());
            assert_eq!(recv(&mut rx), None, "empty at {position}");
            let sent = payload(len, position);
            assert!(send(&mut tx, &sent), "the largest frame fits into the empty ring: {len} at {position}");
            let end = position.wrapping_add((16 + len as u64).next_multiple_of(8));
            assert_eq!(bare.shared().observe(), (position, end));
            for padding in 16 + len..(16 + len).next_multiple_of(8) {
                assert_eq!(bare.byte(position.wrapping_add(padding as u64)), 0, "padding shows an earlier frame");
            }
            assert_eq!(recv(&mut rx), Some((sent, false)), "{len} at {position}");
            assert_eq!(recv(&mut rx), None);
            assert_eq!(bare.shared().observe(), (end, end));
        }
    }
}

#[test]
fn full_is_full_to_the_byte_and_one_release_makes_room_for_one() {
    for position in positions() {
        for len in lengths() {
            let bare = Bare::used_up_to(position);
            let (mut tx, mut rx) = (bare.producer(), bare.consumer());
            let size = (16 + len).next_multiple_of(8);
            let fit = (CAPACITY - 8) / size;
            for i in 0..fit {
                assert!(send(&mut tx, &payload(len, i as u64)), "{i} of {fit}, {len} at {position}");
            }
            assert!(!send(&mut tx, &payload(len, 0)), "{fit} fill it, {len} at {position}");
            assert_eq!(tx.high_water(), (fit * size) as u64);
            // Two laps of a full ring.
            for i in 0..2 * fit + 2 {
                assert_eq!(recv(&mut rx), Some((payload(len, i as u64), false)));
                assert!(send(&mut tx, &payload(len, (i + fit) as u64)));
                assert!(!send(&mut tx, &payload(len, 0)));
            }
        }
    }
}

/// Room for a window, and for records that are larger than one.
const ROOMY: usize = 4096;

/// Every way to write, with random sizes, from positions of every kind: the committed frames are
/// received, the window is always zero, and the ring is full only if it would be full without a
/// window.
#[test]
fn the_window_is_always_zero_and_makes_no_ring_full() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % n as u64) as usize
    };
    let turns = if cfg!(miri) { 150 } else { 20_000 };
    for capacity in [CAPACITY, 512, ROOMY] {
        for position in [0, 8 * draw(1000) as u64, 0u64.wrapping_sub(8 * draw(1000) as u64)] {
            let bare = Bare::of_size(capacity, position);
            let (mut tx, mut rx) = (bare.producer(), bare.consumer());
            let (mut waiting, mut used) = (std::collections::VecDeque::new(), 0);
            for turn in 0..turns {
                let most = [64, 300, 1100, capacity][draw(4)].min(capacity - 24);
                let (len, way) = (draw(most + 1), draw(16));
                let size = (16 + len).next_multiple_of(8);
                if way >= 8 {
                    if let Some((sent, size)) = waiting.pop_front() {
                        assert_eq!(recv(&mut rx), Some((sent, false)), "turn {turn}");
                        used -= size;
                    } else {
                        assert_eq!(rx.look().err(), Some(Fault::Empty), "turn {turn}");
                    }
                    continue;
                }
                let fits = used + size + 8 <= capacity;
                let tail = tx.tail();
                assert_eq!(has_room(&mut tx, tail, len), fits, "turn {turn}: {len} bytes beside {used}");
                if !fits {
                    continue;
                }
                let bytes = payload(len, turn);
                let mut sent = None;
                match way {
                    0 => {
                        drop(tx);
                        tx = bare.producer();
                    }
                    1 => {
                        // A grant that is shortened, dropped or forgotten.
                        tx.lend_ahead();
                        tx.write(tx.tail(), &bytes);
                        if draw(2) == 0 {
                            let shorter = draw(len + 1);
                            tx.commit_grant(len, Header { len: shorter as u32, ..Header::PLAIN });
                            sent = Some(shorter);
                        }
                    }
                    2 => {
                        tx.lend_ahead();
                        let tail = tx.tail();
                        let header = write(&mut tx, tail, &bytes);
                        tx.commit_grant(len, header);
                        sent = Some(len);
                    }
                    3 | 4 => {
                        let mut batch = tx.begin();
                        stage(&mut tx, &mut batch, &bytes);
                        let second = used + 2 * size + 8 <= capacity;
                        assert_eq!(has_room(&mut tx, batch.tail(), len), second);
                        if second {
                            stage(&mut tx, &mut batch, &bytes);
                        }
                        if way == 3 {
                            tx.publish(batch);
                            sent = Some(len);
                            if second {
                                waiting.push_back((bytes.clone(), size));
                                used += size;
                            }
                        }
                    }
                    _ => {
                        assert!(send(&mut tx, &bytes));
                        sent = Some(len);
                    }
                }
                if let Some(len) = sent {
                    let size = (16 + len).next_multiple_of(8);
                    waiting.push_back((bytes[..len].to_vec(), size));
                    used += size;
                }
                tx.assert_window_is_zero();
                let (head, tail) = bare.shared().observe();
                assert_eq!(tail.wrapping_sub(head), used as u64);
            }
        }
    }
}

#[test]
fn a_window_is_kept_where_there_is_room_for_it() {
    let bare = Bare::of_size(ROOMY, 0);
    let (mut tx, mut rx) = (bare.producer(), bare.consumer());
    for _ in 0..200 {
        assert!(send(&mut tx, &[7; 40]));
        assert!(tx.assert_window_is_zero() >= 64, "behind a commit the next one is free of zeroing");
        assert!(recv(&mut rx).is_some());
    }
    // A grant that is committed whole returns the window; after one that is dropped there is no
    // window until the next commit.
    tx.lend_ahead();
    let tail = tx.tail();
    let header = write(&mut tx, tail, &[7; 40]);
    assert_eq!(tx.assert_window_is_zero(), 0);
    tx.commit_grant(40, header);
    assert!(tx.assert_window_is_zero() >= 64);
    tx.lend_ahead();
    tx.write(tx.tail(), &[7; 500]);
    assert_eq!(tx.assert_window_is_zero(), 0);
    assert!(send(&mut tx, &[7; 40]));
    assert!(tx.assert_window_is_zero() >= 64);
}

#[test]
fn a_record_that_ends_where_the_ring_ends() {
    for position in [CAPACITY as u64 - 32, 0u64.wrapping_sub(32)] {
        let bare = Bare::used_up_to(position);
        let (mut tx, mut rx) = (bare.producer(), bare.consumer());
        assert!(send(&mut tx, &payload(16, 1)));
        assert_eq!(bare.data.word(0).load(Ordering::Relaxed), 0, "the zero behind it is the ring's first word");
        assert!(send(&mut tx, &payload(3, 2)));
        assert_eq!((recv(&mut rx).unwrap().0, recv(&mut rx).unwrap().0), (payload(16, 1), payload(3, 2)));
        assert_eq!(recv(&mut rx), None);
    }
}

#[test]
fn a_batch_appears_at_once_or_never() {
    for position in positions() {
        let bare = Bare::used_up_to(position);
        let (mut tx, mut rx) = (bare.producer(), bare.consumer());
        for published in [false, true] {
            let (mut batch, mut staged) = (tx.begin(), 0);
            while has_room(&mut tx, batch.tail(), 8) {
                stage(&mut tx, &mut batch, &payload(8, staged));
                staged += 1;
            }
            assert_eq!(staged, 5, "24 bytes each, and the zero behind the last");
            assert_eq!(recv(&mut rx), None, "nothing is visible before the first header");
            if published {
                tx.publish(batch);
                (0..staged).for_each(|i| assert_eq!(recv(&mut rx), Some((payload(8, i), false))));
            } else {
                // Dropped or forgotten, it is aborted.
                assert!(send(&mut tx, b"a"));
                assert_eq!(recv(&mut rx), Some((b"a".to_vec(), false)), "where the batch would have begun");
            }
            assert_eq!(recv(&mut rx), None);
        }
    }
}

#[test]
fn a_producer_that_died_at_any_point_left_nothing_to_repair() {
    for position in positions() {
        for died in ["before", "writing", "staged one", "staged many"] {
            let bare = Bare::used_up_to(position);
            let mut rx = bare.consumer();
            let mut tx = bare.producer();
            assert!(send(&mut tx, b"first"));
            let mut batch = tx.begin();
            let many = if died == "staged many" { 3 } else { 1 };
            for _ in 0..many {
                match died {
                    "before" => {}
                    "writing" => _ = write(&mut tx, batch.tail(), &payload(MAX - 24, 0)),
                    _ => stage(&mut tx, &mut batch, b"never"),
                }
            }
            drop(tx);
            // Its last store of the tail may be missing as well.
            bare.producer.word(TAIL).store(position, Ordering::Relaxed);
            let mut successor = bare.producer();
            assert!(send(&mut successor, b"second"), "{died} at {position}");
            assert_eq!(recv(&mut rx), Some((b"first".to_vec(), false)));
            assert_eq!(recv(&mut rx), Some((b"second".to_vec(), false)));
            assert_eq!(recv(&mut rx), None, "{died} at {position}");
        }
    }
}

#[test]
fn frames_that_a_dead_consumer_held_are_redelivered_and_marked() {
    for position in positions() {
        let bare = Bare::used_up_to(position);
        let mut tx = bare.producer();
        (0..5).for_each(|i| assert!(send(&mut tx, &[i])));
        let mut rx = bare.consumer();
        assert_eq!(recv(&mut rx), Some((vec![0], false)));
        (1..4).for_each(|i| assert_eq!(look(&mut rx), Some((vec![i], false))));
        drop(rx);
        // Its successor dies as well, after it has read one of the three and released none.
        let mut rx = bare.consumer();
        assert_eq!(look(&mut rx), Some((vec![1], true)));
        drop(rx);
        let mut rx = bare.consumer();
        (1..4).for_each(|i| assert_eq!(recv(&mut rx), Some((vec![i], true)), "at {position}"));
        assert_eq!(recv(&mut rx), Some((vec![4], false)));
        assert_eq!(recv(&mut rx), None);
        assert!(send(&mut tx, &[5]));
        assert_eq!(recv(&mut rx), Some((vec![5], false)));
    }
}

#[test]
fn at_most_once_skips_the_frames_that_a_dead_consumer_held() {
    for position in positions() {
        let bare = Bare::used_up_to(position);
        let mut tx = bare.producer();
        (0..4).for_each(|i| assert!(send(&mut tx, &[i])));
        let mut rx = bare.consumer();
        (0..3).for_each(|i| assert_eq!(look(&mut rx), Some((vec![i], false))));
        drop(rx);
        let (mut rx, lost) = skipping_successor(bare.shared());
        assert_eq!((lost, recv(&mut rx)), (3, Some((vec![3], false))));
        assert_eq!(recv(&mut rx), None);
    }
}

#[test]
fn a_consumer_that_died_while_skipping_is_followed_by_another() {
    let bare = Bare::used_up_to(0);
    let mut tx = bare.producer();
    (0..4).for_each(|i| assert!(send(&mut tx, &[i])));
    let mut rx = bare.consumer();
    (0..3).for_each(|i| assert_eq!(look(&mut rx), Some((vec![i], false))));
    drop(rx);
    // Skipping is a peek and a release for each frame; this consumer dies after the first.
    let mut rx = bare.consumer();
    assert_eq!(recv(&mut rx), Some((vec![0], true)));
    drop(rx);
    let (mut rx, lost) = skipping_successor(bare.shared());
    assert_eq!((lost, recv(&mut rx)), (2, Some((vec![3], false))));
}

#[test]
fn a_consumer_that_died_between_two_stores_misleads_no_peer() {
    for position in positions() {
        let bare = Bare::used_up_to(position);
        let mut tx = bare.producer();
        while send(&mut tx, &[7; 8]) {}
        let mut rx = bare.consumer();
        let end = rx.look().unwrap().end();
        drop(rx);
        // Released in the exact head, but not published.
        bare.consumer.word(EXACT).store(end, Ordering::Relaxed);
        let mut rx = bare.consumer();
        assert_eq!(bare.consumer.word(HEAD).load(Ordering::Relaxed), end);
        assert!(send(&mut tx, &[8; 8]));
        let rest = std::iter::from_fn(|| recv(&mut rx)).collect::<Vec<_>>();
        assert_eq!((rest.len(), rest.last().unwrap()), (5, &(vec![8; 8], false)));
    }
}

#[test]
fn frames_put_back_by_a_close_are_unmarked_but_old_marks_stay() {
    let bare = Bare::used_up_to(0);
    let mut tx = bare.producer();
    (0..3).for_each(|i| assert!(send(&mut tx, &[i])));
    let mut rx = bare.consumer();
    (0..2).for_each(|i| assert_eq!(look(&mut rx), Some((vec![i], false))));
    rx.hand_back();
    drop(rx);
    let mut rx = bare.consumer();
    (0..2).for_each(|i| assert_eq!(look(&mut rx), Some((vec![i], false))));
    drop(rx); // dead
    let mut rx = bare.consumer();
    assert_eq!(recv(&mut rx), Some((vec![0], true)));
    rx.hand_back();
    drop(rx);
    let mut rx = bare.consumer();
    assert_eq!(recv(&mut rx), Some((vec![1], true)), "the consumer before the last died holding it");
    assert_eq!(recv(&mut rx), Some((vec![2], false)));
}

#[test]
fn forged_memory_is_an_error_in_both_roles() {
    let corrupt = |bare: &Bare| {
        let tx = Producer::attach(bare.shared()).map(drop);
        let rx = Consumer::attach(bare.shared()).and_then(|mut rx| rx.look().map(drop));
        for outcome in [tx, rx] {
            let outcome = outcome.map_err(Fault::error);
            assert!(matches!(outcome, Err(Error::Corrupt { .. } | Error::Incompatible { .. })), "{outcome:?}");
        }
    };
    let bare = Bare::used_up_to(0);
    bare.consumer.word(EXACT).store(4, Ordering::Relaxed);
    corrupt(&bare);

    let bare = Bare::used_up_to(0);
    for word in [1, u64::MAX, Header { len: MAX as u32 + 1, ..Header::PLAIN }.commit_word()] {
        bare.data.word(0).store(word, Ordering::Relaxed);
        corrupt(&bare);
    }

    // A chain without an end: the size of the ring bounds the walk.
    for offset in (0..CAPACITY).step_by(16) {
        bare.data.word(offset).store(Header::PLAIN.commit_word(), Ordering::Relaxed);
    }
    assert!(matches!(Producer::attach(bare.shared()), Err(Fault::Endless)));

    // A position far from the frames affects marks, but no bounds.
    let bare = Bare::used_up_to(0);
    bare.consumer.word(TAKEN).store(u64::MAX - 7, Ordering::Relaxed);
    assert!(send(&mut bare.producer(), b"x"));
    assert_eq!(recv(&mut bare.consumer()), Some((b"x".to_vec(), false)));

    // A producer follows a head only up to its own tail.
    let bare = Bare::used_up_to(0);
    let mut tx = bare.producer();
    while send(&mut tx, &[0; 8]) {}
    for head in [1 << 20, u64::MAX - 7] {
        bare.consumer.word(HEAD).store(head, Ordering::Relaxed);
        bare.consumer.word(EXACT).store(head, Ordering::Relaxed);
        assert!(!send(&mut tx, &[0; 8]));
    }
}

#[test]
fn one_thread_writes_while_another_reads() {
    const FRAMES: u64 = if cfg!(miri) { 200 } else { 200_000 };
    for position in [0, 0u64.wrapping_sub(if cfg!(miri) { 800 } else { 800_000 })] {
        let bare = Bare::used_up_to(position);
        let (mut tx, mut rx) = (bare.producer(), bare.consumer());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for i in 0..FRAMES {
                    while !send(&mut tx, &payload(i as usize % 50, i)) {
                        std::thread::yield_now();
                    }
                }
            });
            scope.spawn(move || {
                for i in 0..FRAMES {
                    let found = loop {
                        match recv(&mut rx) {
                            Some(found) => break found,
                            None => {
                                let _ = rx.publish();
                                std::thread::yield_now();
                            }
                        }
                    };
                    assert_eq!(found, (payload(i as usize % 50, i), false));
                }
            });
        });
        let (head, tail) = bare.shared().observe();
        assert_eq!(head, tail);
    }
}
