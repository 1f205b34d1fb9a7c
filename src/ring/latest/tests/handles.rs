//! The handles: roles, waiting, ends, sets of waits, observers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::{Reader, Writer, pair};
use crate::error::Error;
use crate::ring::{Options, Ring};
use crate::wait::eventcount::SLEEP_CAP;
use crate::{Counts, Idle, Kind, Token, WaitSet};

const SOON: Duration = Duration::from_secs(20);
const BUFFER: [u8; 64] = [0; 64];
/// Rounds of the test of wake-ups.
const VALUES: u64 = 400;

fn board(cells: usize) -> Ring {
    Ring::create_anonymous(&Options::latest(cells, 48)).unwrap()
}

fn get(rx: &mut Reader, cell: usize) -> (Vec<u8>, u64, u64) {
    let mut buffer = BUFFER;
    let reading = rx.try_read(cell, &mut buffer).unwrap();
    (reading.value.to_vec(), reading.version, reading.skipped)
}

#[test]
fn one_writer_and_any_number_of_readers() {
    let ring = board(1);
    let mut tx = Writer::attach(&ring).unwrap();
    assert!(matches!(Writer::attach(&ring), Err(Error::RoleTaken { role: "producer" })));
    let mut readers: Vec<_> = (0..10).map(|_| Reader::attach(&ring).unwrap()).collect();
    tx.write(0, b"one").unwrap();
    tx.write(0, b"two").unwrap();
    for rx in &mut readers {
        assert_eq!(get(rx, 0), (b"two".to_vec(), 2, 0));
    }
    drop(tx);
    let mut tx = Writer::attach(&ring).unwrap();
    assert_eq!(tx.write(0, b"three").unwrap(), 3);
    tx.kill_for_test();
    let mut tx = Writer::attach(&ring).unwrap();
    assert_eq!(tx.write(0, b"four").unwrap(), 4);
    for rx in &mut readers {
        assert_eq!(get(rx, 0), (b"four".to_vec(), 4, 1));
    }
    assert!(crate::spsc::Producer::attach(&ring).is_err());
    assert!(Writer::attach(&Ring::create_anonymous(&Options::spsc(4096)).unwrap()).is_err());
}

#[test]
fn skipped_values_are_counted_exactly_for_each_cell() {
    let (mut tx, mut rx) = pair(3, 48).unwrap();
    let mut rng = 1u64;
    let (mut written, mut accounted) = ([0u64; 3], [0u64; 3]);
    for n in 0..3000u64 {
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let cell = (rng >> 60) as usize % 3;
        written[cell] += 1;
        assert_eq!(tx.write(cell, &n.to_le_bytes()).unwrap(), written[cell]);
        if rng >> 33 & 3 == 0 {
            let cell = rx.try_changed().unwrap();
            let first = accounted[cell] == 0;
            let (_, version, skipped) = get(&mut rx, cell);
            accounted[cell] = if first { version } else { accounted[cell] + 1 + skipped };
            assert_eq!(accounted[cell], version);
            assert_eq!(version, written[cell], "the newest");
        }
    }
}

#[test]
fn changed_cells_take_turns() {
    let (mut tx, mut rx) = pair(3, 48).unwrap();
    let mut turns = Vec::new();
    for _ in 0..4 {
        for cell in 0..3 {
            tx.write(cell, b"new").unwrap();
        }
        let cell = rx.try_changed().unwrap();
        get(&mut rx, cell);
        turns.push(cell);
    }
    assert_eq!(turns, [0, 1, 2, 0]);
    assert!(rx.has_changed(1).unwrap() && !rx.has_changed(0).unwrap());
    assert!(matches!(rx.has_changed(3), Err(Error::Invalid { .. })));
}

#[test]
fn impossible_calls_are_errors() {
    let (mut tx, mut rx) = pair(2, 48).unwrap();
    assert!(matches!(tx.write(0, &[0; 49]), Err(Error::TooLarge { max: 48 })));
    assert!(matches!(tx.write(2, b""), Err(Error::Invalid { .. })));
    assert!(matches!(tx.write(usize::MAX, b""), Err(Error::Invalid { .. })));
    assert!(matches!(rx.try_read(2, &mut BUFFER.clone()), Err(Error::Invalid { .. })));
    assert!(matches!(rx.read(2, &mut BUFFER.clone()), Err(Error::Invalid { .. })));
    tx.write(0, &[1; 48]).unwrap();
    assert!(matches!(rx.try_read(0, &mut [0; 47]), Err(Error::TooLarge { max: 47 })));
    assert_eq!(get(&mut rx, 0), (vec![1; 48], 1, 0));
    tx.write(1, b"").unwrap();
    assert_eq!(get(&mut rx, 1), (vec![], 1, 0), "an empty value is one");
}

#[test]
fn a_value_is_there_before_the_end_of_its_writer_is_told() {
    for killed in [false, true] {
        let ring = board(2);
        let (mut tx, mut rx) = (Writer::attach(&ring).unwrap(), Reader::attach(&ring).unwrap());
        assert!(matches!(rx.try_changed(), Err(Error::Empty)));
        assert!(matches!(rx.try_read(0, &mut BUFFER.clone()), Err(Error::Empty)));
        tx.write(0, b"last").unwrap();
        if killed {
            tx.kill_for_test()
        } else {
            tx.close()
        }
        assert_eq!(rx.changed_deadline(SOON).unwrap(), 0);
        assert_eq!(get(&mut rx, 0).0, b"last");
        let end = rx.changed_deadline(SOON).unwrap_err();
        assert!(matches!(end, Error::PeerDead) == killed && matches!(end, Error::Closed) != killed, "{end}");
        assert!(rx.read_deadline(1, &mut BUFFER.clone(), SOON).is_err(), "the other cell stays empty");
        assert_eq!(get(&mut rx, 0), (b"last".to_vec(), 1, 0), "the value stays");
        let mut tx = Writer::attach(&ring).unwrap();
        assert_eq!(tx.write(0, b"next").unwrap(), 2);
        assert_eq!(rx.changed_deadline(SOON).unwrap(), 0);
        assert!(matches!(rx.read_deadline(1, &mut BUFFER.clone(), Duration::ZERO), Err(Error::Timeout)));
    }
}

#[test]
fn all_sleeping_readers_are_woken_by_a_value() {
    let ring = board(4);
    let mut tx = Writer::attach(&ring).unwrap();
    let seen: [AtomicU64; 3] = Default::default();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for seen in &seen {
            let mut rx = Reader::attach(&ring).unwrap();
            rx.set_idle(Idle::Park);
            scope.spawn(move || {
                for n in 1..=VALUES {
                    let cell = rx.changed_deadline(SOON).unwrap();
                    assert_eq!(get(&mut rx, cell).0, n.to_le_bytes());
                    seen.store(n, Ordering::Release);
                }
            });
        }
        for n in 1..=VALUES {
            tx.write(n as usize % 4, &n.to_le_bytes()).unwrap();
            while seen.iter().any(|seen| seen.load(Ordering::Acquire) < n) {
                std::thread::yield_now();
            }
        }
    });
    let Counts { sent, received, sleeps, .. } = ring.stats().counts;
    assert_eq!((sent, received), (VALUES, 3 * VALUES));
    // A sleeper that is not woken sleeps for 50 ms.
    println!("{sleeps} sleeps in {:?}", start.elapsed());
    assert!(start.elapsed() < SLEEP_CAP * VALUES as u32 / 2);
}

#[test]
fn a_canceller_ends_the_wait() {
    let (_tx, mut rx) = pair(1, 8).unwrap();
    let canceller = rx.canceller();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| rx.changed_deadline(SOON));
        canceller.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
}

#[test]
fn a_set_finds_what_was_not_read_and_the_end() {
    let (mut tx, mut rx) = pair(2, 8).unwrap();
    let mut set = WaitSet::new().unwrap();
    set.add(Token(7), rx.readable()).unwrap();
    let is_ready = |set: &mut WaitSet| set.wait_deadline(Duration::ZERO).is_ok_and(|ready| ready.count() > 0);
    assert!(!is_ready(&mut set));
    tx.write(1, b"new").unwrap();
    assert!(is_ready(&mut set) && is_ready(&mut set), "until it is read");
    get(&mut rx, 1);
    assert!(!is_ready(&mut set));
    std::thread::scope(|scope| {
        scope.spawn(|| tx.write(0, b"later").unwrap());
        assert!(set.wait_deadline(SOON).unwrap().count() > 0);
    });
    get(&mut rx, 0);
    drop(tx);
    assert!(set.wait_deadline(SOON).unwrap().count() > 0, "an end is news");
    assert!(matches!(rx.try_changed(), Err(Error::Closed)));
}

#[test]
fn observers_see_every_value_and_change_nothing() {
    let (mut tx, mut rx) = pair(3, 48).unwrap();
    tx.write(0, b"zero").unwrap();
    tx.write(2, b"old").unwrap();
    tx.write(2, b"two").unwrap();
    let ring = tx.ring().clone();
    assert_eq!((ring.kind(), ring.slots(), ring.max_payload()), (Kind::Latest, 3, 48));
    let mut seen = Vec::new();
    ring.inspect(|frame| {
        seen.push((frame.header.stream, frame.header.seq, frame.payload.to_vec()));
        true
    })
    .unwrap();
    assert_eq!(seen, [(0, 1, b"zero".to_vec()), (2, 2, b"two".to_vec())]);
    let report = ring.verify().unwrap();
    assert!(report.is_clean());
    assert_eq!((report.frames, report.bytes), (2, 7));
    let stats = ring.stats();
    assert_eq!((stats.tail, stats.limit, stats.used(), stats.counts.sent), (3, 3, 2, 3));
    assert_eq!(rx.try_changed().unwrap(), 0, "nothing was read");
    assert!(ring.participants().unwrap().iter().all(|participant| participant.held.slots() == 0));
}

#[test]
fn without_a_reader_writing_may_be_refused() {
    let ring = Ring::create_anonymous(&Options::latest(1, 8).fail_without_consumer(true)).unwrap();
    let mut tx = Writer::attach(&ring).unwrap();
    assert!(matches!(tx.write(0, b"early"), Err(Error::NoConsumer)));
    let rx = Reader::attach(&ring).unwrap();
    tx.write(0, b"in time").unwrap();
    drop(rx);
    assert!(matches!(tx.write(0, b"late"), Err(Error::Closed)));
}

#[cfg(feature = "zerocopy")]
#[test]
fn typed_values_have_their_length() {
    let (mut tx, mut rx) = pair(2, 48).unwrap();
    assert!(matches!(rx.try_read_value::<u64>(0), Err(Error::Empty)));
    tx.write_value(0, &[1u64, 2, 3]).unwrap();
    assert_eq!(rx.try_read_value::<[u64; 3]>(0).unwrap().value, [1, 2, 3]);
    for error in [rx.try_read_value::<[u64; 2]>(0).unwrap_err(), rx.try_read_value::<[u64; 4]>(0).unwrap_err()] {
        assert!(matches!(error, Error::Incompatible { found: 24, .. }), "{error}");
    }
    assert!(matches!(rx.try_read_value::<[u64; 7]>(0), Err(Error::Incompatible { expected: 56, found: 48, .. })));
    assert!(matches!(tx.write_value(0, &[0u64; 7]), Err(Error::TooLarge { max: 48 })));
    assert!(matches!(rx.read_value_deadline::<u8>(1, Duration::ZERO), Err(Error::Timeout)));
    std::thread::scope(|scope| {
        scope.spawn(|| tx.write_value(1, &7u8).unwrap());
        assert_eq!(rx.read_value_deadline::<u8>(1, SOON).unwrap().value, 7);
    });
}
