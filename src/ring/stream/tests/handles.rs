//! The handles: grants and views that are dropped (forgetting one is the same) or caught in a panic; ends and
//! successors; deadlines, idle strategies and wake modes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::super::{Consumer, PartialWrite, Producer, pair};
use crate::error::Error;
use crate::ring::{Options, Ring};
use crate::segment::WakeMode;
use crate::wait::deadline::Deadline;
use crate::wait::idle::Idle;

/// Longer than a call here takes, so that a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const IDLES: [Idle; 4] = [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park];

#[test]
fn any_view_is_one_slice_also_across_the_end() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    for round in 0..20u8 {
        for len in [4096, 4095, 1] {
            let mut grant = tx.try_reserve(len).unwrap();
            assert_eq!(grant.len(), len);
            grant.fill(round);
            grant.commit(len);
            let view = rx.try_read_view(len).unwrap();
            assert!(view.iter().all(|b| *b == round) && view.len() == len);
            view.release(len);
        }
    }
    for len in [4097, usize::MAX] {
        assert!(matches!(tx.try_reserve(len).map(drop), Err(Error::TooLarge { max: 4096 })));
        assert!(matches!(rx.try_read_view(len).map(drop), Err(Error::TooLarge { max: 4096 })));
        assert!(matches!(tx.reserve_deadline(len, SOON).map(drop), Err(Error::TooLarge { max: 4096 })));
        assert!(matches!(rx.read_view_deadline(len, SOON).map(drop), Err(Error::TooLarge { max: 4096 })));
    }
}

#[test]
fn a_grant_that_is_dropped_writes_nothing_and_a_view_that_is_dropped_is_read() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.try_reserve(10).unwrap().fill(1);
    assert!(catch_unwind(AssertUnwindSafe(|| tx.try_reserve(10).unwrap().commit(11))).is_err());
    assert!(tx.is_empty() && rx.is_empty() && !tx.is_full());
    assert!(matches!(rx.try_read(&mut [0; 8]), Err(Error::Empty)));

    tx.write_all(b"once left right").unwrap();
    drop(rx.try_read_view(5).unwrap());
    rx.try_read_view(10).unwrap().keep();
    assert!(catch_unwind(AssertUnwindSafe(|| rx.try_read_view(4).unwrap().release(5))).is_err());
    rx.try_read_view(10).unwrap().release(5);
    assert!(matches!(rx.try_read_view(6).map(drop), Err(Error::Empty)));
    assert_eq!(&*rx.try_read_view(5).unwrap(), b"right");
}

#[test]
fn bytes_that_fit_are_written_and_an_empty_write_is_no_error() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    assert_eq!(tx.try_write(&[7; 5000]).unwrap(), 4096);
    assert!(matches!(tx.try_write(&[7]), Err(Error::Full)));
    assert!(matches!(tx.try_reserve(1).map(drop), Err(Error::Full)));
    assert_eq!((tx.try_write(&[]).unwrap(), rx.try_read(&mut []).unwrap()), (0, 0));
    assert_eq!(rx.try_read(&mut [0; 96]).unwrap(), 96);
    assert_eq!(tx.try_write(&[8; 200]).unwrap(), 96);
    assert_eq!(rx.try_read(&mut [0; 9000]).unwrap(), 4096);
    assert_eq!(rx.read(&mut []).unwrap(), 0);
}

#[test]
fn an_end_is_reported_after_the_last_byte_until_a_successor_comes() {
    for killed in [false, true] {
        let (mut tx, mut rx) = pair(4096).unwrap();
        let ring = tx.ring().clone();
        tx.write_all(b"last").unwrap();
        if killed {
            tx.kill_for_test()
        } else {
            tx.close()
        }
        let mut buffer = [0; 8];
        assert_eq!(rx.read(&mut buffer).unwrap(), 4);
        for _ in 0..3 {
            let ends = [rx.read(&mut buffer).err(), rx.try_read(&mut buffer).err(), rx.try_read_view(1).err()];
            for end in ends {
                assert!(matches!((end, killed), (Some(Error::PeerDead), true) | (Some(Error::Closed), false)));
            }
        }
        let mut tx = Producer::attach(&ring).unwrap();
        assert!(matches!(rx.try_read(&mut buffer), Err(Error::Empty)));

        tx.write_all(&[0; 4096]).unwrap();
        let late = tx.write_all_deadline(&[0], Duration::from_millis(1));
        assert!(matches!(late, Err(PartialWrite { written: 0, error: Error::Timeout })));
        if killed {
            rx.kill_for_test()
        } else {
            rx.close()
        }
        for _ in 0..3 {
            let end = tx.write_all(&[0]).err();
            assert!(matches!((end, killed), (Some(Error::PeerDead), true) | (Some(Error::Closed), false)));
        }
        let rx = Consumer::attach(&ring).unwrap();
        assert!(matches!(tx.try_write(&[0]), Err(Error::Full)));
        assert!(rx.len() == 4096 && rx.is_full());
    }
}

#[test]
fn a_write_that_ends_early_reports_how_much_was_written() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.write_all(&[0; 96]).unwrap();
    let block: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    let late = tx.write_all_deadline(&block, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(late, PartialWrite { written: 4000, error: Error::Timeout }), "{late}");
    let mut buffer = [0; 4096];
    assert_eq!(rx.read(&mut buffer).unwrap(), 4096);
    assert_eq!(buffer[96..], block[..4000]);
    tx.write_all(&block[late.written..]).unwrap();
    assert_eq!(rx.read(&mut buffer).unwrap(), 1000);
    assert_eq!(buffer[..1000], block[4000..]);
    tx.canceller().cancel();
    let cancelled = tx.write_all_deadline(&block, Deadline::never()).unwrap_err();
    assert!(matches!(cancelled, PartialWrite { written: 4096, error: Error::Cancelled }), "{cancelled}");
    tx.canceller().reset();
    rx.close();
    let closed = tx.write_all_deadline(&block, Deadline::never()).unwrap_err();
    assert!(matches!(closed, PartialWrite { written: 0, error: Error::Closed }), "{closed}");
}

#[test]
fn a_consumer_that_closed_leaves_room_for_all_it_released() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.write_all(&[0; 4096]).unwrap();
    assert!(matches!(tx.try_write(&[0]), Err(Error::Full)));
    rx.try_read(&mut [0; 10]).unwrap();
    rx.close();
    assert_eq!(tx.try_write(&[0; 20]).unwrap(), 10);
    assert!(matches!(tx.try_write(&[0]), Err(Error::Closed)));
}

#[test]
fn counters_are_right() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.write_all(&[0; 4000]).unwrap();
    assert!(matches!(tx.try_reserve(97).map(drop), Err(Error::Full)));
    rx.try_read_view(4000).unwrap().release(4000);
    assert!(matches!(rx.read_deadline(&mut [0], Duration::from_millis(1)), Err(Error::Timeout)));
    let ring = tx.ring().clone();
    drop((tx, rx));
    let stats = ring.stats();
    let counts = stats.counts;
    assert_eq!((counts.sent, counts.received, counts.bytes, stats.used()), (1, 1, 8000, 0));
    assert_eq!((counts.full, counts.empty, counts.high_water), (1, 1, 4000));
    assert!(counts.sleeps > 0 && ring.verify().unwrap().is_clean());
}

#[test]
fn streams_and_keeps_deadlines_in_every_idle_strategy_and_wake_mode() {
    const BYTES: usize = 300_000;
    for mode in [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced] {
        for idle in IDLES {
            let ring = Ring::create_anonymous(&Options::stream(4096).wake_mode(mode).idle(idle)).unwrap();
            let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
            let (start, wait) = (Instant::now(), Duration::from_millis(3));
            assert!(matches!(rx.read_deadline(&mut [0], wait), Err(Error::Timeout)), "{mode:?} {idle}");
            assert!(start.elapsed() >= wait);
            let bytes: Vec<u8> = (0..BYTES).map(|i| (i * 7 + i / 256) as u8).collect();
            std::thread::scope(|scope| {
                let bytes = &bytes;
                scope.spawn(move || {
                    let (first, second) = bytes.split_at(BYTES / 2);
                    tx.write_all_deadline(first, SOON).unwrap();
                    for part in second.chunks(700) {
                        let mut grant = tx.reserve_deadline(part.len(), SOON).unwrap();
                        grant.copy_from_slice(part);
                        grant.commit(part.len());
                    }
                });
                let mut got = 0;
                while got < BYTES / 3 {
                    let mut buffer = [0; 999];
                    let n = rx.read_deadline(&mut buffer, SOON).unwrap();
                    assert_eq!(&buffer[..n], &bytes[got..got + n], "{mode:?} {idle}");
                    got += n;
                }
                while got < BYTES {
                    let n = (BYTES - got).min(600);
                    let view = rx.read_view_deadline(n, SOON).unwrap();
                    assert_eq!(&*view, &bytes[got..got + n], "{mode:?} {idle}");
                    view.release(n);
                    got += n;
                }
                assert!(matches!(rx.read(&mut [0]), Err(Error::Closed)));
            });
        }
    }
}
