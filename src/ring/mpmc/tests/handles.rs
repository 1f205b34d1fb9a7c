//! The handles: grants, views and batches that are dropped, forgotten or caught in a panic; ends
//! and successors; counters; deadlines, idle strategies and wake modes; many threads.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::{BATCH, Consumer, Producer, pair};
use crate::error::Error;
use crate::frame::Flags;
use crate::ring::{Options, Ring};
use crate::segment::layout::DATA_EVENT;
use crate::segment::{Redelivery, WakeMode};
use crate::wait::idle::Idle;

/// Longer than a call here takes, so that a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const IDLES: [Idle; 4] = [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park];

fn recv(rx: &Consumer) -> Vec<u8> {
    rx.try_recv().unwrap().to_vec()
}

/// Receives the next frame, and returns whether it is marked.
fn marked(rx: &Consumer) -> (Vec<u8>, bool) {
    let view = rx.try_recv().unwrap();
    (view.to_vec(), view.header().flags.contains(Flags::REDELIVERED))
}

fn is_empty(rx: &Consumer) -> bool {
    matches!(rx.try_recv(), Err(Error::Empty))
}

fn ring(slots: usize) -> Ring {
    Ring::heap(&Options::mpmc(slots, 40)).unwrap()
}

#[test]
fn the_largest_frame_fits_and_one_byte_more_does_not() {
    let (tx, rx) = pair(4, 100).unwrap();
    let max = tx.max_payload();
    assert!(max >= 100);
    tx.try_send(&vec![7; max]).unwrap();
    assert_eq!(recv(&rx), vec![7; max]);
    let large = vec![7; max + 1];
    let refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::TooLarge { max: m }) if m == max);
    assert!(refused(tx.try_send(&large)) && refused(tx.send(&large)));
    assert!(refused(tx.try_reserve(usize::MAX).map(drop)));
    assert!(refused(tx.try_send_batch([large.as_slice()]).map(drop)));
    assert!(refused(rx.try_recv_into(&mut vec![0; max - 1]).map(drop)), "no frame is taken that might not fit");
    assert!(is_empty(&rx));
}

#[test]
fn a_grant_sends_what_was_committed_and_nothing_else() {
    let (tx, rx) = pair(4, 40).unwrap();
    let mut grant = tx.try_reserve(40).unwrap();
    grant.fill(9);
    grant.commit(3);
    assert_eq!(recv(&rx), [9; 3]);
    for _ in 0..9 {
        drop(tx.try_reserve(40).unwrap());
        let panicked = catch_unwind(AssertUnwindSafe(|| tx.try_reserve(4).unwrap().commit(5)));
        assert!(panicked.is_err(), "more than was reserved");
    }
    tx.try_send(b"next").unwrap();
    assert_eq!(recv(&rx), b"next");
    assert_eq!(tx.ring().stats().counts.sent, 2);
}

#[test]
fn forgotten_slots_are_freed_with_their_handle() {
    let ring = ring(4);
    let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let other = Consumer::attach(&ring).unwrap();
    forget(tx.try_reserve(1).unwrap());
    tx.try_send(b"a").unwrap();
    tx.try_send(b"b").unwrap();
    assert!(is_empty(&rx), "the claim may still be being written");
    drop(tx);
    forget(rx.try_recv().unwrap());
    forget(rx.try_recv_batch(8).unwrap());
    assert!(matches!(other.try_recv(), Err(Error::Closed)));
    drop(rx);
    let mut got = [marked(&other), marked(&other)];
    got.sort();
    assert_eq!(got, [(b"a".to_vec(), true), (b"b".to_vec(), true)]);
    let report = ring.verify().unwrap();
    assert!(report.is_clean() && report.writing + report.reading + report.frames == 0, "{report:?}");
}

#[test]
fn a_panic_releases_held_views_and_batches() {
    let (tx, rx) = pair(8, 40).unwrap();
    for i in 0..5 {
        tx.try_send(&[i]).unwrap();
    }
    let view = catch_unwind(AssertUnwindSafe(|| {
        let view = rx.try_recv().unwrap();
        panic!("while holding {}", view[0]);
    }));
    let batch = catch_unwind(AssertUnwindSafe(|| {
        let mut batch = rx.try_recv_batch(3).unwrap();
        panic!("after {} of {}", batch.iter().take(2).count(), 3);
    }));
    assert!(view.is_err() && batch.is_err());
    assert_eq!(marked(&rx), (vec![3], true), "what was not looked at stays");
    assert_eq!(recv(&rx), [4]);
    assert!(is_empty(&rx));
}

#[test]
fn a_kept_frame_is_the_next_one_of_any_consumer_and_marked() {
    for policy in [Redelivery::AtLeastOnce, Redelivery::AtMostOnce] {
        let ring = Ring::heap(&Options::mpmc(4, 40).redelivery(policy)).unwrap();
        let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        let other = Consumer::attach(&ring).unwrap();
        for lap in 0..5000u32 {
            tx.try_send(&lap.to_le_bytes()).unwrap();
            tx.try_send(b"behind it").unwrap();
            rx.try_recv().unwrap().keep();
            let consumer = if lap % 2 == 0 { &rx } else { &other };
            let view = consumer.try_recv().unwrap();
            assert!(*view == lap.to_le_bytes() && view.header().flags.contains(Flags::REDELIVERED));
            view.keep();
            assert_eq!(marked(&other), (lap.to_le_bytes().to_vec(), true));
            assert_eq!(marked(consumer), (b"behind it".to_vec(), false));
        }
        let (counts, report) = (ring.stats().counts, ring.verify().unwrap());
        assert_eq!((counts.sent, counts.received, counts.redelivered), (10_000, 10_000, 5_000));
        assert_eq!((counts.lost, counts.recovered), (0, 0));
        assert!(report.is_clean() && report.reading + report.redeliver == 0, "{report:?}");
    }
}

#[test]
fn what_was_not_looked_at_in_a_batch_stays_in_the_ring() {
    let (tx, rx) = pair(8, 40).unwrap();
    tx.try_send_batch([b"a".as_slice(), b"b", b"c", b"d"]).unwrap();
    let mut batch = rx.try_recv_batch(3).unwrap();
    assert_eq!(batch.iter().next().unwrap().payload, b"a");
    assert_eq!(batch.iter().next().unwrap().payload, b"b", "an iterator goes on where the last one ended");
    assert_eq!(batch.iter().len(), 1);
    drop(batch);
    rx.try_recv_batch(8).unwrap().keep();
    let mut rest: Vec<_> = rx.try_iter().map(Result::unwrap).collect();
    rest.sort();
    assert_eq!(rest, [b"c", b"d"]);
    assert_eq!((tx.ring().stats().counts.received, rx.len()), (4, 0));
}

#[test]
fn a_kept_frame_wakes_a_sleeping_consumer() {
    let ring = ring(4);
    let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let other = Consumer::attach(&ring).unwrap();
    let event = ring.segment().shared_page();
    // As below: the wake-ups are counted, because the cap on every sleep would hide a lost one.
    let missed = (0..5).filter(|_| {
        tx.try_send(b"job").unwrap();
        let job = rx.try_recv().unwrap();
        let wakes = ring.stats().counts.wakes;
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(&*other.recv_deadline(SOON).unwrap(), b"job"));
            let start = Instant::now();
            while event.half(DATA_EVENT).load(Ordering::SeqCst) & 1 == 0 {
                assert!(start.elapsed() < SOON);
                std::thread::yield_now();
            }
            job.keep();
        });
        ring.stats().counts.wakes == wakes
    });
    assert!(missed.count() < 5);
}

#[test]
fn a_blocking_batch_waits_for_its_first_frame_only() {
    let (tx, rx) = pair(2, 40).unwrap();
    let words = [b"one".as_slice(), b"two", b"three"];
    assert_eq!(tx.send_batch(words).unwrap(), 2);
    assert!(matches!(tx.send_batch_deadline(words, Duration::ZERO), Err(Error::Timeout)));
    assert!(tx.is_full() && tx.len() == tx.capacity() && rx.len() == 2);
    assert_eq!(tx.send_batch_deadline([], Duration::ZERO).unwrap(), 0);
    std::thread::scope(|s| {
        let sending = s.spawn(|| tx.send_batch_deadline(words, SOON));
        assert_eq!(recv(&rx), b"one");
        assert!((1..=2).contains(&sending.join().unwrap().unwrap()));
    });
    assert_eq!(rx.try_iter().next().unwrap().unwrap(), b"two");
}

#[test]
fn an_iterator_ends_at_the_close_and_tells_of_a_death() {
    for killed in [false, true] {
        let (tx, rx) = pair(4, 40).unwrap();
        tx.try_send(b"last").unwrap();
        if killed {
            tx.kill_for_test()
        } else {
            tx.close()
        }
        let mut frames = rx.iter();
        assert_eq!(frames.next().unwrap().unwrap(), b"last");
        assert_eq!(frames.next().map(Result::unwrap_err), killed.then_some(Error::PeerDead));
        assert!(frames.next().is_none());
    }
}

#[test]
fn batches_are_bounded_and_in_order() {
    let (tx, rx) = pair(64, 40).unwrap();
    let bytes: Vec<[u8; 1]> = (0..100).map(|i| [i]).collect();
    let all = || bytes.iter().map(<[u8; 1]>::as_slice);
    assert_eq!(tx.try_send_batch(all()).unwrap(), 64, "as many as fit");
    assert!(matches!(tx.try_send_batch(all()), Err(Error::Full)));
    assert_eq!(tx.try_send_batch([]).unwrap(), 0);
    let mut next = 0;
    assert!(matches!(rx.try_recv_batch(0).map(drop), Err(Error::Invalid { .. })));
    for (max, expected) in [(2, 2), (5, 5), (usize::MAX, BATCH), (usize::MAX, 64 - 7 - BATCH)] {
        let mut batch = rx.try_recv_batch(max).unwrap();
        assert_eq!(batch.iter().len(), expected, "of {max}");
        for frame in batch.iter() {
            assert_eq!((frame.payload, frame.header.seq), (&[next as u8][..], next));
            next += 1;
        }
    }
    assert!(matches!(rx.try_recv_batch(1).map(drop), Err(Error::Empty)));
    let counts = tx.ring().stats().counts;
    assert_eq!((counts.sent, counts.received, counts.bytes, counts.high_water), (64, 64, 128, 64));
}

#[test]
fn closed_is_reported_when_the_last_producer_has_left_until_another_comes() {
    let ring = ring(4);
    let rx = Consumer::attach(&ring).unwrap();
    let (one, two) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    let clone = one.clone();
    one.send(b"last").unwrap();
    two.close();
    one.close();
    assert_eq!(recv(&rx), b"last");
    assert!(is_empty(&rx), "a clone is left");
    drop(clone);
    for _ in 0..3 {
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
        assert!(matches!(rx.recv(), Err(Error::Closed)));
    }
    let tx = Producer::attach(&ring).unwrap();
    assert!(is_empty(&rx));
    tx.send(b"again").unwrap();
    assert_eq!(recv(&rx), b"again");
}

#[test]
fn a_death_is_reported_when_the_last_producer_has_departed() {
    let ring = ring(4);
    let rx = Consumer::attach(&ring).unwrap();
    let (one, two) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    forget(one.try_reserve(3).unwrap());
    two.send(b"behind a claim that will die").unwrap();
    one.kill_for_test();
    assert_eq!(&*rx.recv().unwrap(), b"behind a claim that will die");
    assert!(is_empty(&rx), "one is left");
    two.close();
    assert!(matches!(rx.recv(), Err(Error::PeerDead)));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));
    assert_eq!(ring.stats().counts.recovered, 1);
}

#[test]
fn a_dead_consumers_frames_reach_a_waiting_consumer() {
    for policy in [Redelivery::AtLeastOnce, Redelivery::AtMostOnce] {
        let ring = Ring::heap(&Options::mpmc(4, 40).redelivery(policy)).unwrap();
        let tx = Producer::attach(&ring).unwrap();
        let (victim, rx) = (Consumer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        tx.send(b"job").unwrap();
        forget(victim.try_recv().unwrap());
        victim.kill_for_test();
        let patience = if policy == Redelivery::AtLeastOnce { SOON } else { Duration::from_millis(300) };
        let outcome = rx.recv_deadline(patience).map(|view| (view.to_vec(), view.header().flags));
        let counts = ring.stats().counts;
        match policy {
            Redelivery::AtLeastOnce => {
                let (bytes, flags) = outcome.unwrap();
                assert!(bytes == b"job" && flags.contains(Flags::REDELIVERED));
                assert_eq!((counts.recovered, counts.redelivered, counts.lost), (1, 1, 0));
            }
            Redelivery::AtMostOnce => {
                assert!(matches!(outcome, Err(Error::Timeout)));
                assert_eq!((counts.recovered, counts.redelivered, counts.lost), (1, 0, 1));
            }
        }
        assert_eq!((counts.sent, counts.received + counts.lost), (1, 1));
    }
}

#[test]
fn a_sweep_without_a_participant_counts_as_well() {
    for (policy, lost) in [(Redelivery::AtLeastOnce, 0), (Redelivery::AtMostOnce, 2)] {
        let ring = Ring::heap(&Options::mpmc(4, 40).redelivery(policy)).unwrap();
        let (tx, victim) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        for _ in 0..2 {
            tx.send(b"job").unwrap();
            forget(victim.try_recv().unwrap());
        }
        victim.kill_for_test();
        assert_eq!(ring.reap_dead().unwrap(), 1);
        let counts = ring.stats().counts;
        assert_eq!((counts.recovered, counts.lost), (2, lost));
    }
}

#[test]
fn a_sender_recovers_the_slots_of_the_dead_in_a_full_ring() {
    let ring = ring(4);
    let (tx, dead) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    for _ in 0..4 {
        forget(dead.try_reserve(1).unwrap());
    }
    assert!(matches!(tx.try_send(b"x"), Err(Error::Full)));
    dead.kill_for_test();
    for _ in 0..4 {
        tx.send_deadline(b"x", SOON).unwrap();
    }
    assert_eq!(ring.reap_dead().unwrap(), 0, "already reaped");

    let rx = Consumer::attach(&ring).unwrap();
    let start = Instant::now();
    rx.kill_for_test();
    while matches!(tx.try_send(b"x"), Err(Error::Full)) {
        assert!(start.elapsed() < SOON);
    }
    assert!(matches!(tx.try_send(b"x"), Err(Error::PeerDead)));
    assert!(matches!(tx.send(b"x"), Err(Error::PeerDead)));
}

#[test]
fn an_aborted_claim_wakes_consumers_that_wait_behind_it() {
    let ring = ring(4);
    let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let event = ring.segment().shared_page();
    // The cap on every sleep would hide a lost wake-up from a test that only waits, so count the
    // wake-ups.
    let missed = (0..5).filter(|_| {
        let grant = tx.try_reserve(1).unwrap();
        tx.try_send(b"behind").unwrap();
        let wakes = ring.stats().counts.wakes;
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(&*rx.recv_deadline(SOON).unwrap(), b"behind"));
            let start = Instant::now();
            while event.half(DATA_EVENT).load(Ordering::SeqCst) & 1 == 0 {
                assert!(start.elapsed() < SOON);
                std::thread::yield_now();
            }
            drop(grant);
        });
        ring.stats().counts.wakes == wakes
    });
    assert_eq!(missed.count(), 0);
}

#[test]
fn a_frame_that_was_committed_too_early_wakes_a_second_sleeper() {
    let ring = Ring::heap(&Options::mpmc(4, 40).idle(Idle::Park)).unwrap();
    let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    // Without the wake-up it takes until the cap on sleeps, 50 ms. A busy machine may be slow at
    // waking: three quick rounds of many are enough.
    let quick = (0..50)
        .filter(|_| {
            let sleepers = Mutex::new(Vec::new());
            let asleep = || {
                let tids = sleepers.lock().unwrap();
                tids.len() == 2 && tids.iter().all(|tid| is_asleep(*tid))
            };
            std::thread::scope(|scope| {
                let mut grant = tx.try_reserve(1).unwrap();
                grant[0] = 1;
                let consumers = [(); 2].map(|()| {
                    scope.spawn(|| {
                        sleepers.lock().unwrap().push(rustix::thread::gettid().as_raw_nonzero().get());
                        drop(rx.recv_deadline(SOON).unwrap());
                    })
                });
                eventually(asleep);
                tx.try_send(b"behind").unwrap();
                eventually(asleep);
                let start = Instant::now();
                grant.commit(1);
                consumers.into_iter().for_each(|thread| thread.join().unwrap());
                start.elapsed() < Duration::from_millis(25)
            })
        })
        .take(3);
    assert_eq!(quick.count(), 3);
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON);
        std::thread::yield_now();
    }
}

/// The kernel's state of one of our threads.
fn is_asleep(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

#[test]
fn counters_outlive_their_handles() {
    let ring = ring(4);
    for round in 1..=3u64 {
        let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        (0..4).for_each(|_| tx.try_send(&[1; 10]).unwrap());
        assert!(matches!(tx.try_send(b""), Err(Error::Full)));
        (0..4).for_each(|_| assert_eq!(recv(&rx).len(), 10));
        assert!(matches!(rx.recv_deadline(Duration::from_millis(1)).map(drop), Err(Error::Timeout)));
        let counts = ring.stats().counts;
        assert_eq!((counts.sent, counts.received, counts.bytes), (round * 4, round * 4, round * 80));
        assert_eq!((counts.full, counts.empty, counts.high_water), (round, round, 4));
        assert!(counts.sleeps >= round);
    }
}

#[test]
fn deadlines_are_kept_in_every_idle_strategy_and_wake_mode() {
    for mode in [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced] {
        for idle in IDLES {
            let ring = Ring::heap(&Options::mpmc(2, 40).wake_mode(mode).idle(idle)).unwrap();
            let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
            let wait = Duration::from_millis(3);
            let start = Instant::now();
            assert!(matches!(rx.recv_deadline(wait).map(drop), Err(Error::Timeout)), "{mode:?} {idle}");
            assert!(start.elapsed() >= wait);
            (0..2).for_each(|_| tx.try_send(b"").unwrap());
            let start = Instant::now();
            assert!(matches!(tx.send_deadline(b"", wait), Err(Error::Timeout)), "{mode:?} {idle}");
            assert!(start.elapsed() >= wait);
        }
    }
}

/// `producers` × `consumers` threads, each with a clone or a separate handle: every frame arrives
/// once, and each consumer gets each producer's frames in order.
fn multiset(options: &Options, producers: u32, consumers: usize, frames: u32, clones: bool) {
    let ring = Ring::heap(options).unwrap();
    let got = Mutex::new(vec![Vec::new(); producers as usize]);
    let (tx, rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    let senders: Vec<_> =
        (0..producers).map(|_| if clones { tx.clone() } else { Producer::attach(&ring).unwrap() }).collect();
    drop(tx);
    let receivers: Vec<_> =
        (0..consumers).map(|_| if clones { rx.clone() } else { Consumer::attach(&ring).unwrap() }).collect();
    drop(rx);
    std::thread::scope(|scope| {
        for (me, tx) in (0..producers).zip(senders) {
            scope.spawn(move || {
                for i in 0..frames {
                    let [a, b] = [me, i].map(u32::to_le_bytes);
                    tx.send_deadline(&[a, b].concat(), SOON).unwrap();
                }
            });
        }
        for (me, rx) in receivers.into_iter().enumerate() {
            let got = &got;
            scope.spawn(move || {
                let mut mine = vec![Vec::new(); producers as usize];
                let mut note = |payload: &[u8]| {
                    let (producer, number) = payload.split_at(4);
                    let [producer, number] = [producer, number].map(|b| u32::from_le_bytes(b.try_into().unwrap()));
                    let seen: &mut Vec<u32> = &mut mine[producer as usize];
                    assert!(seen.last().is_none_or(|last| *last < number), "{producer}: {number} out of order");
                    seen.push(number);
                };
                loop {
                    let outcome = if me % 2 == 0 {
                        rx.recv().map(|view| note(&view))
                    } else {
                        rx.recv_batch(5).map(|mut batch| batch.iter().for_each(|frame| note(frame.payload)))
                    };
                    match outcome {
                        Ok(()) => {}
                        Err(Error::Closed) => break,
                        Err(e) => panic!("{e}"),
                    }
                }
                let mut got = got.lock().unwrap();
                got.iter_mut().zip(mine).for_each(|(all, mine)| all.extend(mine));
            });
        }
    });
    for numbers in got.into_inner().unwrap().iter_mut() {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..frames), "every frame once");
    }
    let counts = ring.stats().counts;
    let total = u64::from(producers * frames);
    assert_eq!((counts.sent, counts.received, counts.bytes), (total, total, 16 * total));
    let report = ring.verify().unwrap();
    assert!(report.is_clean() && report.frames == 0, "{report:?}");
}

#[test]
fn four_by_four_threads_on_clones() {
    multiset(&Options::mpmc(64, 40), 4, 4, 100_000, true);
}

#[test]
fn four_by_four_threads_on_handles_of_their_own() {
    multiset(&Options::mpmc(64, 40), 4, 4, 100_000, false);
}

#[test]
fn threads_in_every_idle_strategy_and_wake_mode() {
    for mode in [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced] {
        for idle in IDLES {
            multiset(&Options::mpmc(4, 40).wake_mode(mode).idle(idle), 2, 2, 2_000, false);
        }
    }
}
