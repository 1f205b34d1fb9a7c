//! The handles: grants, views and batches that are dropped, kept, forgotten or caught in a panic;
//! ends and successors; counters; deadlines, idle strategies and wake modes.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::super::{Consumer, Producer, ReadView, pair};
use crate::error::{Error, Result};
use crate::frame::{Flags, Header, Order, Tracker, control};
use crate::ring::{Options, Ring, mpmc};
use crate::segment::{Redelivery, WakeMode};
use crate::wait::idle::Idle;

/// Longer than a call here takes, so that a test that hangs fails.
const SOON: Duration = Duration::from_secs(20);
const IDLES: [Idle; 4] = [Idle::Spin, Idle::Yield, Idle::Backoff, Idle::Park];

fn recv(rx: &mut Consumer) -> Vec<u8> {
    rx.try_recv().unwrap().to_vec()
}

/// Receives the next frame, and returns whether it is marked.
fn marked(rx: &mut Consumer) -> (Vec<u8>, bool) {
    let view = rx.try_recv().unwrap();
    (view.to_vec(), view.header().flags.contains(Flags::REDELIVERED))
}

fn is_empty(rx: &mut Consumer) -> bool {
    matches!(rx.try_recv(), Err(Error::Empty))
}

#[test]
fn the_largest_frame_fits_exactly_and_one_byte_more_does_not() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let max = tx.max_payload();
    assert_eq!(max, 4096 - 24);
    for _ in 0..5 {
        tx.try_send(&vec![7; max]).unwrap();
        assert!(matches!(tx.try_send(b""), Err(Error::Full)), "full to the byte");
        assert_eq!(recv(&mut rx), vec![7; max]);
        tx.try_send(b"moves the next one across the end of the ring").unwrap();
        recv(&mut rx);
    }
    let large = vec![7; max + 1];
    let refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::TooLarge { max: m }) if m == max);
    assert!(refused(tx.try_send(&large)) && refused(tx.send(&large)));
    assert!(refused(tx.try_reserve(max + 1).map(drop)) && refused(tx.batch().push(&large)));
    assert!(refused(tx.try_reserve(usize::MAX).map(drop)));
    assert!(is_empty(&mut rx));
}

#[test]
fn a_grant_sends_what_was_committed_and_nothing_else() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let mut grant = tx.try_reserve(4000).unwrap();
    grant.fill(0xFF);
    grant.commit(3);
    assert_eq!(recv(&mut rx), [0xFF; 3]);
    assert!(is_empty(&mut rx), "the rest of the grant is no frame");

    let mut grant = tx.try_reserve(100).unwrap();
    grant.fill(1);
    drop(grant);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut grant = tx.try_reserve(100).unwrap();
        grant.fill(3);
        grant.commit(101);
    }));
    assert!(panicked.is_err(), "more than was reserved");
    assert!(is_empty(&mut rx));
    tx.try_reserve(0).unwrap().commit(0);
    assert_eq!(recv(&mut rx), [0u8; 0]);
    assert_eq!(tx.ring().stats().counts.sent, 2);
}

#[test]
fn a_kept_or_forgotten_view_is_received_again_and_a_panic_releases_it() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    for i in 0..3 {
        tx.try_send(&[i]).unwrap();
    }
    rx.try_recv().unwrap().keep();
    forget(rx.try_recv().unwrap());
    assert_eq!(rx.ring().stats().counts.received, 0);
    assert_eq!(recv(&mut rx), [0]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let view = rx.try_recv().unwrap();
        panic!("while holding {}", view[0]);
    }));
    assert!(panicked.is_err());
    assert_eq!(recv(&mut rx), [2], "the panic dropped its view: nothing is delivered twice, nothing is stuck");
    assert!(is_empty(&mut rx));
}

#[test]
fn a_buffer_that_is_too_short_leaves_the_frame() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.try_send(b"hello").unwrap();
    assert!(matches!(rx.try_recv_into(&mut [0; 4]), Err(Error::TooLarge { max: 5 })));
    let mut buffer = [0; 5];
    assert_eq!(rx.recv_into(&mut buffer).unwrap().len, 5);
    assert_eq!(&buffer, b"hello");
}

#[test]
fn a_batch_that_fills_the_ring_is_committed_and_another_follows() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let mut batch = tx.batch();
    let mut pushed = 0u32;
    while let Ok(()) = batch.push(&pushed.to_le_bytes()) {
        pushed += 1;
    }
    assert!(matches!(batch.push(b"more"), Err(Error::Full)));
    assert_eq!(batch.len(), pushed as usize);
    assert_eq!(pushed, (4096 - 8) / 24);
    assert!(is_empty(&mut rx), "nothing before the commit");
    batch.commit();
    let mut read = rx.try_recv_batch(usize::MAX).unwrap();
    for (i, frame) in (0u32..).zip(read.iter().take(10)) {
        assert_eq!((frame.payload, frame.header.seq), (i.to_le_bytes().as_slice(), i));
    }
    drop(read);
    let mut batch = tx.batch();
    batch.push(b"goes on").unwrap();
    batch.commit();
    let mut read = rx.recv_batch(usize::MAX).unwrap();
    assert_eq!(read.iter().count(), pushed as usize - 10 + 1);
    drop(read);
    assert!(is_empty(&mut rx));
    assert_eq!(tx.ring().stats().counts.received, u64::from(pushed) + 1);
}

#[test]
fn a_batch_of_views_releases_the_frames_that_were_read() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    for i in 0..6 {
        tx.try_send(&[i]).unwrap();
    }
    drop(rx.try_recv_batch(usize::MAX).unwrap());
    let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
    assert_eq!(batch.iter().take(2).map(|f| f.payload[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(batch.iter().next().unwrap().payload, [2], "an iterator goes on where the last one ended");
    drop(batch);
    let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
    assert_eq!(batch.iter().count(), 3);
    forget(batch);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
        let first = batch.iter().next().unwrap().payload[0];
        panic!("while holding {first}");
    }));
    assert!(panicked.is_err());
    assert_eq!(rx.try_recv_batch(usize::MAX).unwrap().iter().map(|f| f.payload[0]).collect::<Vec<_>>(), [4, 5]);
    assert!(matches!(rx.try_recv_batch(usize::MAX).map(drop), Err(Error::Empty)));
}

#[test]
fn a_batch_releases_its_first_frames_and_waits_for_more() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let large = vec![1; 1300];
    for _ in 0..3 {
        tx.try_send(&large).unwrap();
    }
    let mut batch = rx.recv_batch(usize::MAX).unwrap();
    assert_eq!(batch.iter().count(), 3);
    assert!(matches!(tx.try_send(&large), Err(Error::Full)));
    assert!(matches!(batch.wait_for_more(Duration::ZERO), Err(Error::Timeout)));
    batch.release_first(0);
    assert!(matches!(tx.try_send(&large), Err(Error::Full)));
    batch.release_first(1);
    assert_eq!(tx.ring().stats().counts.received, 1);
    std::thread::scope(|scope| {
        // The waiter publishes what was released, so the producer finds room.
        scope.spawn(|| tx.send_deadline(&[2; 1300], SOON).unwrap());
        batch.wait_for_more(SOON).unwrap();
    });
    assert_eq!(batch.iter().map(|frame| frame.payload[0]).collect::<Vec<_>>(), [2]);
    batch.release_first(usize::MAX);
    assert_eq!((tx.len(), tx.ring().stats().counts.received), (0, 4));
    tx.close();
    assert!(matches!(batch.wait_for_more(SOON), Err(Error::Closed)));
    drop(batch);
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    assert_eq!(rx.ring().stats().counts.received, 4, "the dropped batch held nothing");
}

#[test]
fn a_batch_of_views_is_bounded_and_may_be_kept() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    assert_eq!(tx.try_send_batch([b"a".as_slice(), b"b", b"c"]).unwrap(), 3);
    assert!(matches!(rx.try_recv_batch(0).map(drop), Err(Error::Invalid { .. })));
    let mut batch = rx.try_recv_batch(2).unwrap();
    assert_eq!(batch.iter().count(), 2);
    assert!(batch.iter().next().is_none(), "no more than were asked for, also of a second iterator");
    batch.keep();
    assert_eq!(rx.try_recv_batch(2).unwrap().iter().map(|frame| frame.payload[0]).collect::<Vec<_>>(), b"ab");
    assert_eq!(rx.try_iter().collect::<Result<Vec<_>>>().unwrap(), [b"c"]);
    assert!(rx.try_iter().next().is_none());
}

#[test]
fn a_blocking_batch_waits_for_its_first_frame_only() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let words = [[1; 1900].as_slice(), &[2; 1900], &[3; 1900]];
    assert_eq!(tx.send_batch(words).unwrap(), 2);
    assert!(matches!(tx.send_batch_deadline(words, Duration::ZERO), Err(Error::Timeout)));
    assert_eq!(tx.send_batch_deadline([], Duration::ZERO).unwrap(), 0);
    assert_eq!((tx.len(), rx.len(), tx.capacity()), (2 * 1920, 2 * 1920, 4096));
    assert!(!tx.is_full(), "a small frame fits");
    std::thread::scope(|s| {
        let sending = s.spawn(|| tx.send_batch_deadline(words, SOON));
        assert_eq!(recv(&mut rx), [1; 1900]);
        assert!((1..=2).contains(&sending.join().unwrap().unwrap()));
    });
    assert_eq!(recv(&mut rx), [2; 1900]);
    assert_eq!(recv(&mut rx), [1; 1900]);
}

#[test]
fn a_ring_is_full_when_no_frame_fits_and_empty_when_all_are_released() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    while !tx.is_full() {
        tx.try_send(b"").unwrap();
    }
    assert!(matches!(tx.try_send(b""), Err(Error::Full)));
    assert!(rx.is_full() && !rx.is_empty());
    while !rx.is_empty() {
        drop(rx.try_recv().unwrap());
    }
    assert!(is_empty(&mut rx) && tx.is_empty());
}

#[test]
fn sequence_numbers_have_no_gap_for_aborted_frames() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let mut tracker = Tracker::new();
    let on = |stream| Header { stream, ..Header::PLAIN };
    tx.try_send_frame(on(0), b"").unwrap();
    tx.try_send_frame(on(5), b"").unwrap();
    let mut aborted = tx.batch();
    aborted.push_frame(on(0), b"never").unwrap();
    aborted.push_frame(on(5), b"was").unwrap();
    aborted.push_frame(on(5), b"").unwrap();
    drop(aborted);
    drop(tx.try_reserve(9).unwrap());
    tx.try_send_frame(Header::control(control::PING, 0).unwrap(), b"").unwrap();
    for stream in [0, 5, 0, 5] {
        tx.try_send_frame(on(stream), b"").unwrap();
    }
    for _ in 0..7 {
        let header = rx.try_recv().unwrap().header();
        assert_eq!(tracker.check(header), Order::Next, "{header:?}");
        assert!(!header.is_control() || header.seq == 0);
    }
}

#[test]
fn a_header_cannot_poison_the_ring() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let header = Header { flags: Flags::from_bits(0xFF), len: u32::MAX, kind: 0x00FF, stream: 0, seq: 9 };
    tx.try_send_frame(header, b"x").unwrap();
    tx.try_reserve(1).unwrap().commit_frame(header, 1).unwrap();
    for seq in [0, 0] {
        let got = rx.try_recv().unwrap().header();
        assert_eq!((got.len, got.seq), (1, seq));
    }
}

#[test]
fn closed_is_reported_after_the_last_frame_until_a_successor_comes() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let ring = tx.ring().clone();
    tx.try_send(b"last").unwrap();
    tx.close();
    assert_eq!(recv(&mut rx), b"last");
    for _ in 0..3 {
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
        assert!(matches!(rx.recv(), Err(Error::Closed)));
        assert!(matches!(rx.recv_deadline(Duration::ZERO).map(drop), Err(Error::Closed | Error::Timeout)));
    }
    let mut tx = Producer::attach(&ring).unwrap();
    assert!(is_empty(&mut rx));
    tx.try_send(b"again").unwrap();
    assert_eq!(recv(&mut rx), b"again");
    // A consumer that attaches after the end gets it as well, and its successor does not get it
    // again.
    drop(rx);
    drop(tx);
    let mut rx = Consumer::attach(&ring).unwrap();
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    drop(rx);
    assert!(is_empty(&mut Consumer::attach(&ring).unwrap()));
}

#[test]
fn a_death_is_reported_after_the_last_frame_until_a_successor_comes() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let ring = tx.ring().clone();
    tx.try_send(b"last").unwrap();
    tx.kill_for_test();
    assert_eq!(&*rx.recv().unwrap(), b"last");
    for _ in 0..3 {
        assert!(matches!(rx.recv(), Err(Error::PeerDead)));
        assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));
    }
    let tx = Producer::attach(&ring).unwrap();
    assert!(is_empty(&mut rx));
    tx.close();
    assert!(matches!(rx.try_recv(), Err(Error::Closed)), "this one did not die");
}

#[test]
fn try_calls_alone_notice_that_the_peer_is_dead() {
    let (tx, mut rx) = pair(4096).unwrap();
    tx.kill_for_test();
    let start = Instant::now();
    while is_empty(&mut rx) {
        assert!(start.elapsed() < SOON);
    }
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));

    let (mut tx, rx) = pair(4096).unwrap();
    while tx.try_send(&[0; 100]).is_ok() {}
    rx.kill_for_test();
    let start = Instant::now();
    while matches!(tx.try_send(&[0; 100]), Err(Error::Full)) {
        assert!(start.elapsed() < SOON);
    }
    assert!(matches!(tx.try_send(&[0; 100]), Err(Error::PeerDead)));
    assert!(matches!(tx.send(&[0; 100]), Err(Error::PeerDead)));
    let mut rx = Consumer::attach(tx.ring()).unwrap();
    tx.wait_for_peer(SOON).unwrap();
    assert!(matches!(tx.try_send(&[0; 100]), Err(Error::Full)));
    recv(&mut rx);
    tx.try_send(&[0; 100]).unwrap();
}

#[test]
fn a_producer_without_a_consumer_fills_the_ring_and_gets_only_later_ends() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    Consumer::attach(&ring).unwrap().close();
    let mut tx = Producer::attach(&ring).unwrap();
    while tx.try_send(&[0; 100]).is_ok() {}
    assert!(matches!(tx.try_send(&[0; 100]), Err(Error::Full)), "no consumer has left since it attached");
    assert!(matches!(tx.send_deadline(&[0; 100], Duration::from_millis(1)), Err(Error::Timeout)));
    let mut rx = Consumer::attach(&ring).unwrap();
    recv(&mut rx);
    drop(rx);
    tx.try_send(&[0; 100]).unwrap();
    assert!(matches!(tx.try_send(&[0; 100]), Err(Error::Closed)));
    assert!(matches!(tx.send(&[0; 100]), Err(Error::Closed)));
}

#[test]
fn frames_of_a_killed_consumer_are_marked_for_every_successor() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let ring = tx.ring().clone();
    for i in 0..5 {
        tx.try_send(&[i]).unwrap();
    }
    recv(&mut rx);
    let mut batch = rx.try_recv_batch(usize::MAX).unwrap();
    assert_eq!(batch.iter().take(3).count(), 3);
    forget(batch);
    rx.kill_for_test();
    // Two successors that release nothing: one closes, one is killed.
    let mut rx = Consumer::attach(&ring).unwrap();
    rx.try_recv().unwrap().keep();
    rx.close();
    let mut rx = Consumer::attach(&ring).unwrap();
    rx.try_recv().unwrap().keep();
    rx.kill_for_test();
    let mut rx = Consumer::attach(&ring).unwrap();
    for i in 1..4 {
        assert_eq!(marked(&mut rx), (vec![i], true));
    }
    assert_eq!(marked(&mut rx), (vec![4], false));
    let counts = ring.stats().counts;
    assert_eq!((counts.sent, counts.received, counts.redelivered, counts.lost), (5, 5, 3, 0));
}

#[test]
fn kept_or_refused_frames_are_neither_marked_nor_lost_after_a_close() {
    for policy in [Redelivery::AtLeastOnce, Redelivery::AtMostOnce] {
        let ring = Ring::create_anonymous(&Options::spsc(4096).redelivery(policy)).unwrap();
        let mut tx = Producer::attach(&ring).unwrap();
        tx.try_send(b"kept").unwrap();
        let mut rx = Consumer::attach(&ring).unwrap();
        rx.try_recv().unwrap().keep();
        assert!(matches!(rx.try_recv_into(&mut []), Err(Error::TooLarge { .. })));
        rx.close();
        assert_eq!(marked(&mut Consumer::attach(&ring).unwrap()), (b"kept".to_vec(), false), "{policy:?}");
    }
}

#[test]
fn at_most_once_counts_the_frames_of_a_dead_consumer_as_lost() {
    let ring = Ring::create_anonymous(&Options::spsc(4096).redelivery(Redelivery::AtMostOnce)).unwrap();
    let mut tx = Producer::attach(&ring).unwrap();
    for i in 0..3 {
        tx.try_send(&[i]).unwrap();
    }
    let mut rx = Consumer::attach(&ring).unwrap();
    forget(rx.try_recv().unwrap());
    rx.kill_for_test();
    let mut rx = Consumer::attach(&ring).unwrap();
    assert_eq!(marked(&mut rx), (vec![1], false));
    assert_eq!(marked(&mut rx), (vec![2], false));
    let counts = ring.stats().counts;
    assert_eq!((counts.sent, counts.received, counts.lost), (3, 2, 1));
}

#[test]
fn counters_are_right_and_outlive_their_handles() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    for round in 1..=3u64 {
        let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        let fit = (0..).take_while(|_| tx.try_send(&[1; 100]).is_ok()).count() as u64;
        assert_eq!(fit, (4096 - 8) / 120);
        (0..fit).for_each(|_| assert_eq!(recv(&mut rx).len(), 100));
        assert!(is_empty(&mut rx));
        assert!(matches!(rx.recv_deadline(Duration::from_millis(1)).map(drop), Err(Error::Timeout)));
        let counts = ring.stats().counts;
        assert_eq!((counts.sent, counts.received, counts.bytes), (round * fit, round * fit, round * fit * 200));
        assert_eq!((counts.full, counts.empty, counts.high_water), (round, 2 * round, fit * 120));
        assert!(counts.sleeps >= round, "a sleep in every round, but {} in {round}", counts.sleeps);
        assert_eq!((counts.recovered, counts.redelivered, counts.lost), (0, 0, 0));
    }
    assert_eq!(ring.stats().used(), 0);
}

#[test]
fn the_high_water_mark_is_right_for_a_ring_that_is_not_full() {
    let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
    let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
    (0..3).for_each(|_| tx.try_send(&[1; 100]).unwrap());
    let counts = ring.stats().counts;
    assert_eq!((counts.high_water, counts.bytes, counts.full), (3 * 120, 300, 0));
    assert_eq!(recv(&mut rx).len(), 100);
    // Both sending and receiving count.
    assert_eq!(ring.stats().counts.bytes, 400);
    drop(tx);
    (0..2).for_each(|_| assert_eq!(recv(&mut rx).len(), 100));
    assert_eq!(ring.stats().counts.high_water, 2 * 120, "a producer looks when it leaves");

    let ring = Ring::create_anonymous(&Options::mpmc(8, 40)).unwrap();
    let tx = mpmc::Producer::attach(&ring).unwrap();
    (0..3).for_each(|_| tx.try_send(&[1]).unwrap());
    assert_eq!(ring.stats().counts.high_water, 3);
}

#[test]
fn deadlines_are_kept_in_every_idle_strategy_and_wake_mode() {
    for mode in [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced] {
        let ring = Ring::create_anonymous(&Options::spsc(4096).wake_mode(mode)).unwrap();
        let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
        for idle in IDLES {
            tx.set_idle(idle);
            rx.set_idle(idle);
            let wait = Duration::from_millis(3);
            let start = Instant::now();
            assert!(matches!(rx.recv_deadline(wait).map(drop), Err(Error::Timeout)), "{mode:?} {idle}");
            assert!(start.elapsed() >= wait);
            tx.try_send(&[0; 4000]).unwrap();
            let start = Instant::now();
            assert!(matches!(tx.send_deadline(&[0; 4000], wait), Err(Error::Timeout)), "{mode:?} {idle}");
            assert!(start.elapsed() >= wait);
            drop(rx.recv_deadline(Duration::ZERO).unwrap());
        }
    }
}

#[test]
fn streams_in_every_idle_strategy_and_wake_mode() {
    const FRAMES: u32 = 20_000;
    for mode in [WakeMode::Poll, WakeMode::Asymmetric, WakeMode::Fenced] {
        for idle in IDLES {
            let ring = Ring::create_anonymous(&Options::spsc(4096).wake_mode(mode).idle(idle)).unwrap();
            let (mut tx, mut rx) = (Producer::attach(&ring).unwrap(), Consumer::attach(&ring).unwrap());
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for i in 0..FRAMES {
                        tx.send_deadline(&i.to_le_bytes().repeat(1 + i as usize % 20), SOON).unwrap();
                    }
                });
                for i in 0..FRAMES {
                    let view = rx.recv_deadline(SOON).unwrap();
                    assert_eq!(view.header().seq, i);
                    assert_eq!(*view, i.to_le_bytes().repeat(1 + i as usize % 20), "{mode:?} {idle}");
                }
                assert!(matches!(rx.recv(), Err(Error::Closed)));
            });
            assert!(ring.verify().unwrap().is_clean());
            let counts = ring.stats().counts;
            assert_eq!((counts.sent, counts.received), (FRAMES.into(), FRAMES.into()));
        }
    }
}

#[test]
fn a_forked_child_releases_nothing() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    tx.try_send(b"ours").unwrap();
    rx.try_recv().unwrap().keep();
    // SAFETY: the child only drops handles and exits; the C library keeps its allocator usable
    // across fork.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop((tx, rx));
        // SAFETY: ends the child at once, without running the test harness's handlers.
        unsafe { libc::_exit(0) };
    }
    let mut status = -1;
    // SAFETY: `child` is our child, and `status` lives through the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert!(tx.has_peer() && rx.has_peer());
    assert_eq!(recv(&mut rx), b"ours");
    tx.try_send(b"still ours").unwrap();
    assert_eq!(recv(&mut rx), b"still ours");
}

#[test]
fn a_busy_ring_is_not_called_corrupt() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let ring = tx.ring().clone();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for size in (0..400).cycle() {
                if stop.load(std::sync::atomic::Ordering::Relaxed) || tx.send(&[0xA5; 400][..size]).is_err() {
                    break;
                }
            }
            drop(tx);
        });
        scope.spawn(|| while rx.recv().is_ok() {});
        let checks: Vec<_> = (0..300).map(|_| ring.verify().unwrap()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for report in checks {
            assert!(report.is_clean(), "{:?}", report.problems);
        }
    });
}

#[test]
fn kinds_that_a_header_cannot_be_made_with_are_not_sent() {
    let reserved = [Header { kind: 0, ..Header::PLAIN }, Header { kind: 0x00FF, ..Header::PLAIN }];
    let control = Header { kind: 0x0100, ..Header::control(control::PING, 0).unwrap() };
    let (mut tx, mut rx) = pair(4096).unwrap();
    let (many_tx, many_rx) = mpmc::pair(2, 8).unwrap();
    for header in [reserved[0], reserved[1], control] {
        let refused = |sent: Result<()>| assert!(matches!(sent, Err(Error::Invalid { .. })), "{header:?}: {sent:?}");
        refused(tx.try_send_frame(header, b"x"));
        refused(tx.send_frame(header, b"x"));
        refused(tx.send_frame_deadline(header, b"x", Duration::ZERO));
        refused(tx.try_reserve(1).unwrap().commit_frame(header, 1));
        let mut batch = tx.batch();
        refused(batch.push_frame(header, b"x"));
        batch.commit();
        refused(many_tx.try_send_frame(header, b"x"));
        refused(many_tx.send_frame(header, b"x"));
        refused(many_tx.send_frame_deadline(header, b"x", Duration::ZERO));
        refused(many_tx.try_reserve(1).unwrap().commit_frame(header, 1));
    }
    assert!(matches!(rx.try_recv().map(drop), Err(Error::Empty)));
    assert!(matches!(many_rx.try_recv().map(drop), Err(Error::Empty)));
    many_tx.send(b"1").and_then(|()| many_tx.try_send(b"2")).unwrap(); // no slot is held
}

#[test]
fn a_view_moves_on_to_the_frames_that_are_there() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let (mut moved, mut expected) = (0, 0);
    for round in 0..200 {
        for n in 0..3 {
            tx.try_send(&[round, n]).unwrap();
        }
        let mut check = |view: &ReadView<'_>| {
            assert_eq!((&**view, view.header().seq), (&[round, (expected % 3) as u8][..], expected));
            expected += 1;
        };
        while let Ok(mut view) = rx.try_recv() {
            check(&view);
            while view.next_if_ready() {
                moved += 1;
                check(&view);
            }
        }
    }
    assert!((expected, moved > 300) == (600, true), "{moved} of at most 400 moves");
    let stats = rx.ring().stats();
    assert_eq!((stats.counts.received, stats.used()), (600, 0));
}
