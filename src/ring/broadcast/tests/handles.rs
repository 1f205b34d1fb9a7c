//! The handles: what each subscriber receives, starts, policies, ends and successors, sets.

use std::time::Duration;

use super::super::{Mode, SlowPolicy, overwriting, pair};
use super::*;
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::{Token, WaitSet};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_largest_frame_fits_exactly_and_one_byte_more_does_not() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let max = tx.max_payload();
    assert_eq!(max, 4096 - 24);
    let mut lossy = LossySubscriber::attach(tx.ring(), Start::Latest).unwrap();
    for n in 0..5 {
        tx.try_send(&payload(n, max)).unwrap();
        assert!(matches!(tx.try_send(b""), Err(Error::Full)), "full to the byte");
        assert_eq!(recv(&mut rx), n);
        assert_eq!(drain(&mut lossy).last().map(|(number, _)| *number), Some(n));
        tx.try_send(&payload(100, 45)).unwrap(); // moves the next one across the end
        assert_eq!(recv(&mut rx), 100);
        assert_eq!(drain(&mut lossy), [(100, 0)]);
    }
    assert!(matches!(tx.try_send(&vec![7; max + 1]), Err(Error::TooLarge { max: m }) if m == max));
}

#[test]
fn every_subscriber_receives_every_frame_around_the_ring() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut reliable: Vec<_> = (0..3).map(|_| Subscriber::attach(&ring, Start::Latest).unwrap()).collect();
    let mut lossy: Vec<_> = (0..3).map(|_| LossySubscriber::attach(&ring, Start::Latest).unwrap()).collect();
    for n in 0..3000 {
        tx.try_send(&payload(n, 8 + n as usize * 7 % 500)).unwrap();
        for rx in &mut reliable {
            assert_eq!(recv(rx), n);
        }
        for rx in &mut lossy {
            assert_eq!(drain(rx), [(n, 0)]);
        }
    }
    assert!(ring.verify().unwrap().is_clean());
    assert_eq!(tx.published(), 3000);
}

#[test]
fn what_a_lossy_subscriber_missed_is_exact() {
    for size in [8, 64, 500, 1500, 4072] {
        let (mut tx, mut rx) = overwriting(4096).unwrap();
        let (mut next, mut sent, mut missed) = (0, 0, 0);
        for burst in [1, 3, 40, 1000, 2, 77, 500] {
            for _ in 0..burst {
                tx.try_send(&payload(sent, size)).unwrap();
                sent += 1;
            }
            let seen = drain(&mut rx);
            for (number, gap) in seen {
                assert_eq!(number, next + gap, "size {size}");
                next = number + 1;
                missed += gap;
            }
            assert_eq!(next, sent, "the newest is there");
        }
        assert!(missed > 0);
        let info = tx.ring().subscribers()[0];
        assert_eq!((info.mode, info.missed, info.received + info.missed), (Mode::Lossy, missed, sent));
        assert!(info.overruns > 0 && info.lag == 0);
        assert_eq!(tx.ring().stats().counts.lost, missed);
    }
}

#[test]
fn overrun_subscribers_keep_most_of_the_ring() {
    let (mut tx, mut rx) = overwriting(1 << 16).unwrap();
    (0..10_000).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    let kept = drain(&mut rx).len();
    let (whole, chunk) = ((1 << 16) / 80, (1 << 16) / 16 / 80);
    assert!(kept >= whole - 3 * chunk, "{kept} of {whole}");
}

#[test]
fn threads_lose_tear_and_double_nothing() {
    const FRAMES: u64 = 200_000;
    let ring = Ring::create_anonymous(&Options::broadcast(1 << 14)).unwrap();
    let mut tx = Publisher::attach(&ring).unwrap();
    let reliable: Vec<_> = (0..2).map(|_| Subscriber::attach(&ring, Start::Latest).unwrap()).collect();
    let lossy: Vec<_> = (0..2).map(|_| LossySubscriber::attach(&ring, Start::Latest).unwrap()).collect();
    std::thread::scope(|scope| {
        for mut rx in reliable {
            scope.spawn(move || {
                let mut next = 0;
                loop {
                    match rx.recv_batch_deadline(16, SOON) {
                        Ok(mut batch) => batch.iter().for_each(|frame| {
                            assert_eq!(number(frame.payload), next);
                            next += 1;
                        }),
                        Err(Error::Closed) => break assert_eq!(next, FRAMES),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for mut rx in lossy {
            scope.spawn(move || {
                let (mut next, mut buffer) = (0, vec![0; rx.max_payload()]);
                loop {
                    match rx.recv_into_deadline(&mut buffer, SOON) {
                        Ok(Received::Gap { missed }) => next += missed,
                        Ok(Received::Frame(header)) => {
                            assert_eq!(number(&buffer[..header.len as usize]), next);
                            next += 1;
                        }
                        Err(Error::Closed) => break assert_eq!(next, FRAMES),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        scope.spawn(move || {
            for n in 0..FRAMES {
                tx.send_deadline(&payload(n, 8 + n as usize % 200), SOON).unwrap();
            }
        });
    });
}

#[test]
fn a_start_is_at_the_newest_the_oldest_or_a_known_position() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    (0..10).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    let mut oldest = Subscriber::attach(&ring, Start::Oldest).unwrap();
    assert_eq!(recv(&mut oldest), 0, "history comes for free");
    assert_eq!(recv(&mut oldest), 1);
    let position = oldest.position();
    let mut latest = Subscriber::attach(&ring, Start::Latest).unwrap();
    let mut newest = LossySubscriber::attach(&ring, Start::Latest).unwrap();
    assert!(matches!(latest.try_recv(), Err(Error::Empty)));
    assert_eq!(drain(&mut newest), []);
    tx.try_send(&payload(10, 64)).unwrap();
    assert_eq!((recv(&mut latest), drain(&mut newest)), (10, vec![(10, 0)]));
    let mut again = Subscriber::attach(&ring, Start::At(position)).unwrap();
    assert_eq!(recv(&mut again), 2);
    let mut lossy = LossySubscriber::attach(&ring, Start::At(position)).unwrap();
    assert_eq!(drain(&mut lossy).len(), 9);
    // No reliable subscriber is left, so the position is overwritten.
    drop((oldest, latest, again));
    (11..200).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    let gone = Subscriber::attach(&ring, Start::At(position)).map(drop);
    assert!(matches!(gone, Err(Error::Invalid { .. })), "{gone:?}");
    let mut lossy = LossySubscriber::attach(&ring, Start::At(position)).unwrap();
    let seen = drain(&mut lossy);
    assert_eq!(seen[0].0, 2 + seen[0].1, "it missed exactly what came before");
    assert_eq!(seen.last().unwrap().0, 199);
    let none = crate::broadcast::Position { at: lossy.position().at - 8, ..lossy.position() };
    for outcome in [
        Subscriber::attach(&ring, Start::At(none)).map(drop),
        LossySubscriber::attach(&ring, Start::At(none)).map(drop),
    ] {
        assert!(matches!(outcome, Err(Error::Invalid { .. })), "no frame begins there: {outcome:?}");
    }
    assert_eq!(ring.subscribers().len(), 3, "the refused ones left nothing");
}

#[test]
fn a_batch_appears_at_once_and_an_aborted_one_leaves_nothing() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let mut lossy = LossySubscriber::attach(tx.ring(), Start::Latest).unwrap();
    for round in 0..50 {
        let mut aborted = tx.batch();
        (0..5).for_each(|_| aborted.push(&payload(999, 100)).unwrap());
        let _ = aborted; // not committed
        let mut batch = tx.batch();
        (0..10).for_each(|n| batch.push(&payload(10 * round + n, 100)).unwrap());
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        batch.commit();
        (0..10).for_each(|n| assert_eq!(recv(&mut rx), 10 * round + n));
        assert_eq!(drain(&mut lossy).len(), 10);
    }
    let mut batch = tx.batch();
    while batch.push(&payload(0, 100)).is_ok() {}
    assert!(batch.len() >= 34, "a batch may fill the ring: {}", batch.len());
    assert_eq!(tx.published(), 500);
}

#[test]
fn a_grant_is_written_in_parts_and_appears_when_it_is_committed() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let mut lossy = LossySubscriber::attach(tx.ring(), Start::Latest).unwrap();
    for n in 0..300 {
        let len = 8 + n as usize * 37 % 900; // whole units and parts of them, also across the end
        let expected = payload(n, len);
        let mut aborted = tx.reserve(900).unwrap();
        aborted.write_at(0, &[0xEE; 900]);
        if n % 2 == 0 {
            assert!(aborted.commit_frame(Header { kind: 7, ..Header::PLAIN }, 900).is_err(), "a reserved kind");
        }
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        let mut grant = tx.try_reserve(len + n as usize % 100).unwrap();
        assert_eq!(grant.len(), len + n as usize % 100);
        let part = 1 + n as usize % 29;
        let parts = expected.chunks(part).enumerate();
        parts.rev().for_each(|(i, bytes)| grant.write_at(i * part, bytes));
        grant.commit(len);
        assert_eq!(*rx.try_recv().unwrap(), *expected);
        assert_eq!(drain(&mut lossy), [(n, 0)]);
        let report = tx.ring().verify().unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
    assert_eq!(tx.published(), 300);
    for (at, len) in [(0, 9), (8, 1), (9, 0), (usize::MAX, 1)] {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tx.try_reserve(8).unwrap().write_at(at, &vec![0; len]);
        }));
        assert!(refused.is_err(), "{len} bytes at {at} of 8");
    }
    assert!(matches!(tx.try_reserve(4096), Err(Error::TooLarge { .. })));
}

#[test]
fn as_many_payloads_are_sent_as_there_is_room_for() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    let payloads: Vec<_> = (0..10).map(|n| payload(n, 1000)).collect();
    let all = || payloads.iter().map(Vec::as_slice);
    assert_eq!(tx.try_send_batch(all()).unwrap(), 4);
    assert!(matches!(tx.try_send_batch(all()), Err(Error::Full)));
    assert!(matches!(tx.send_batch_deadline(all(), Duration::from_millis(1)), Err(Error::Timeout)));
    (0..4).for_each(|n| assert_eq!(recv(&mut rx), n));
    assert_eq!(tx.send_batch(all().skip(4)).unwrap(), 4);
    tx.set_policy(SlowPolicy::Fail);
    assert!(matches!(tx.send_batch(all()), Err(Error::Full)), "at once");
    (4..8).for_each(|n| assert_eq!(recv(&mut rx), n));
}

#[test]
fn views_that_are_kept_or_forgotten_come_again() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    (0..3).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    rx.try_recv().unwrap().keep();
    std::mem::forget(rx.try_recv().unwrap());
    assert!(matches!(rx.try_recv_into(&mut [0; 4]), Err(Error::TooLarge { max: 64 })));
    rx.try_recv_batch(2).unwrap().keep();
    let mut batch = rx.try_recv_batch(2).unwrap();
    assert_eq!(batch.iter().map(|frame| number(frame.payload)).collect::<Vec<_>>(), [0, 1]);
    drop(batch);
    assert_eq!(recv(&mut rx), 2);
    assert_eq!(rx.position().frames, 3);
}

#[test]
fn a_reliable_subscriber_holds_the_publisher_back_and_a_lossy_one_does_not() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let _lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
    (0..1000).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    let mut sent = 0;
    while tx.try_send(&payload(sent, 64)).is_ok() {
        sent += 1;
    }
    assert!(sent >= 50, "the whole ring can be used: {sent}");
    assert!(matches!(tx.send_deadline(&[0; 64], Duration::from_millis(5)), Err(Error::Timeout)));
    tx.set_policy(SlowPolicy::Fail);
    assert!(matches!(tx.send(&[0; 64]), Err(Error::Full)), "at once");
    (0..sent).for_each(|n| assert_eq!(recv(&mut rx), n));
    tx.send(&payload(sent, 64)).unwrap();
    assert_eq!(recv(&mut rx), sent);
}

#[test]
fn a_dead_subscriber_never_holds_the_publisher_back() {
    for policy in [SlowPolicy::Block, SlowPolicy::Fail, SlowPolicy::Evict { after: SOON }] {
        let ring = ring();
        let mut tx = Publisher::attach(&ring).unwrap();
        tx.set_policy(policy);
        let [mut dead, mut holder, mut alive] = [(); 3].map(|()| Subscriber::attach(&ring, Start::Latest).unwrap());
        tx.try_send(&payload(0, 64)).unwrap();
        recv(&mut dead);
        std::mem::forget(holder.try_recv().unwrap()); // dies while it holds a view
        dead.kill_for_test();
        holder.kill_for_test();
        for n in 0..200 {
            assert_eq!(recv(&mut alive), n);
            tx.try_send(&payload(n + 1, 64)).unwrap();
        }
        assert_eq!(ring.subscribers().len(), 1);
    }
}

#[test]
fn a_batch_releases_its_first_frames_and_is_not_evicted_for_the_others() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(2) });
    (0..3).for_each(|i| tx.try_send(&payload(i, 64)).unwrap());
    let mut batch = rx.recv_batch(usize::MAX).unwrap();
    assert_eq!(batch.iter().count(), 3);
    assert!(matches!(batch.wait_for_more(Duration::ZERO), Err(Error::Timeout)));
    batch.release_first(2);
    let error = loop {
        if let Err(error) = tx.send_deadline(&payload(3, 64), Duration::from_millis(20)) {
            break error;
        }
    };
    assert!(matches!(error, Error::Timeout), "it holds a frame: {error}");
    assert_eq!(tx.evicted(), 0);
    batch.wait_for_more(SOON).unwrap();
    batch.keep();
    assert_eq!(recv(&mut rx), 2, "the third was held");
    assert_eq!(recv(&mut rx), 3);
}

#[test]
fn an_eviction_is_told_and_waits_for_views() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut slow = Subscriber::attach(&ring, Start::Latest).unwrap();
    let mut alive = Subscriber::attach(&ring, Start::Latest).unwrap();
    tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(2) });
    tx.try_send(&payload(0, 64)).unwrap();
    let view = slow.try_recv().unwrap();
    let mut sent = 1;
    let mut send = |tx: &mut Publisher, alive: &mut Subscriber| -> Result<()> {
        tx.send_deadline(&payload(sent, 64), Duration::from_millis(20))?;
        while alive.try_recv().is_ok() {}
        sent += 1;
        Ok(())
    };
    while alive.try_recv().is_ok() {}
    let error = loop {
        match send(&mut tx, &mut alive) {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Timeout), "it holds a view: {error}");
    assert_eq!((number(&view), tx.evicted()), (0, 0));
    drop(view);
    // It has released one frame only; then it is evicted.
    (0..100).for_each(|_| send(&mut tx, &mut alive).unwrap());
    assert_eq!(tx.evicted(), 1);
    for _ in 0..2 {
        assert!(matches!(slow.try_recv(), Err(Error::Evicted)));
        assert!(matches!(slow.recv(), Err(Error::Evicted)));
        assert!(matches!(slow.try_recv_batch(4).map(drop), Err(Error::Evicted)));
    }
    assert_eq!(ring.subscribers().iter().map(|one| one.mode).collect::<Vec<_>>(), [Mode::Evicted, Mode::Reliable]);
    drop(slow);
    let mut again = Subscriber::attach(&ring, Start::Latest).unwrap();
    tx.try_send(&payload(7, 64)).unwrap();
    assert_eq!(recv(&mut again), 7, "the id has a new subscriber");
}

/// Sends into a full ring when a set says so. Returns how often the set said it until one was
/// evicted, or `most` if that was too often.
fn waits_until_evicted(tx: &mut Publisher, set: &mut WaitSet, most: u32) -> u32 {
    for waits in 0..most {
        set.wait_deadline(SOON).expect("an eviction is due");
        let sent = tx.try_send(&[0; 64]);
        if tx.evicted() > 0 {
            sent.unwrap();
            return waits;
        }
        assert!(matches!(sent, Err(Error::Full)));
    }
    most
}

#[test]
fn a_set_is_told_when_an_eviction_is_due() {
    for is_tried in [false, true] {
        let (mut tx, _slow) = pair(4096).unwrap();
        while tx.try_send(&[0; 64]).is_ok() {}
        tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(5) });
        if is_tried {
            assert!(matches!(tx.try_send(&[0; 64]), Err(Error::Full)), "from now on it is waited for");
        }
        let mut set = WaitSet::new().unwrap();
        set.add(Token(7), tx.writable(64)).unwrap();
        // Without a call that has found no room, the first one is due at once.
        assert!(waits_until_evicted(&mut tx, &mut set, 3) <= u32::from(!is_tried));
    }
}

#[test]
fn a_set_is_not_kept_awake_by_a_view_that_delays_an_eviction() {
    let (mut tx, mut slow) = pair(4096).unwrap();
    while tx.try_send(&[0; 64]).is_ok() {}
    let view = slow.try_recv().unwrap();
    tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(1) });
    let mut set = WaitSet::new().unwrap();
    set.add(Token(7), tx.writable(64)).unwrap();
    let (start, mut waits) = (std::time::Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(400) {
        waits += waits_until_evicted(&mut tx, &mut set, 1);
    }
    // 100 µs, and as long again each time, up to 50 ms.
    assert!(waits < 40, "{waits} waits");
    view.keep();
    assert!(waits_until_evicted(&mut tx, &mut set, 3) < 3);
}

#[test]
fn a_sleeping_subscriber_is_woken_and_a_sleeping_publisher_too() {
    let (mut tx, rx) = pair(4096).unwrap();
    let lossy = LossySubscriber::attach(tx.ring(), Start::Latest).unwrap();
    let (mut rx, mut lossy) = (rx, lossy);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2000 {
                tx.send_deadline(&payload(n, 100), SOON).unwrap();
                if n % 500 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        scope.spawn(|| {
            (0..2000).for_each(|n| assert_eq!(number(&rx.recv_deadline(SOON).unwrap()), n));
        });
        scope.spawn(|| {
            let (mut next, mut buffer) = (0, [0; 128]);
            while next < 2000 {
                match lossy.recv_into_deadline(&mut buffer, SOON).unwrap() {
                    Received::Gap { missed } => next += missed,
                    Received::Frame(header) => {
                        assert_eq!(number(&buffer[..header.len as usize]), next);
                        next += 1;
                    }
                }
            }
        });
    });
}

#[test]
fn an_end_is_told_after_everything_was_received_and_a_successor_goes_on() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
    let mut buffer = [0; 64];
    tx.try_send(&payload(0, 64)).unwrap();
    tx.close();
    assert_eq!((recv(&mut rx), drain(&mut lossy)), (0, vec![(0, 0)]));
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    assert!(matches!(lossy.try_recv_into(&mut buffer), Err(Error::Closed)));
    let mut tx = Publisher::attach(&ring).unwrap();
    assert_eq!(tx.published(), 1, "counted over all publishers");
    (1..500).for_each(|n| {
        tx.try_send(&payload(n, 64)).unwrap();
        assert_eq!(recv(&mut rx), n);
    });
    tx.kill_for_test();
    assert!(matches!(rx.recv_deadline(SOON), Err(Error::PeerDead)));
    let mut tx = Publisher::attach(&ring).unwrap();
    assert_eq!(tx.published(), 500);
    tx.try_send(&payload(500, 64)).unwrap();
    assert_eq!(recv(&mut rx), 500);
    let seen = drain(&mut lossy);
    assert_eq!(seen.iter().map(|(_, gap)| 1 + gap).sum::<u64>(), 500, "the gap is exact over three publishers");
    assert_eq!(seen.last().unwrap().0, 500);
}

#[test]
fn every_later_subscriber_learns_how_the_last_publisher_ended() {
    let ring = ring();
    for killed in [false, true, false] {
        let tx = Publisher::attach(&ring).unwrap();
        if killed {
            tx.kill_for_test()
        } else {
            tx.close()
        }
        for _ in 0..2 {
            let mut rx = Subscriber::attach(&ring, Start::Oldest).unwrap();
            let mut set = WaitSet::new().unwrap();
            set.add(Token(1), rx.readable()).unwrap();
            assert!(set.wait_deadline(SOON).unwrap().eq([Token(1)]));
            let end = rx.try_recv().unwrap_err();
            assert!(matches!(end, Error::PeerDead) == killed && matches!(end, Error::Closed) != killed, "{end}");
        }
    }
}

#[test]
fn a_subscriber_is_not_told_of_ends_before_its_publisher() {
    for killed in [true, false] {
        let ring = ring();
        Publisher::attach(&ring).unwrap().kill_for_test();
        Publisher::attach(&ring).unwrap().close();
        Publisher::attach(&ring).unwrap().kill_for_test();
        let tx = Publisher::attach(&ring).unwrap();
        let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
        let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
        assert!(matches!(rx.try_recv(), Err(Error::Empty)), "its publisher lives");
        if killed {
            tx.kill_for_test();
        } else {
            tx.close();
        }
        let ends = [rx.recv_deadline(SOON).map(drop), lossy.recv_into_deadline(&mut [0; 64], SOON).map(drop)];
        for end in ends {
            assert!(matches!(end, Err(Error::PeerDead)) == killed && matches!(end, Err(Error::Closed)) != killed);
        }
    }
}

#[test]
fn sets_wait_for_frames_and_for_room() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
    let set = |readiness| {
        let mut set = WaitSet::new().unwrap();
        set.add(Token(7), readiness).unwrap();
        set
    };
    let is_ready = |set: &mut WaitSet| set.wait_deadline(Duration::from_millis(1)).is_ok();
    let (mut frames, mut copies) = (set(rx.readable()), set(lossy.readable()));
    assert!(!is_ready(&mut frames) && !is_ready(&mut copies));
    tx.try_send(&payload(0, 64)).unwrap();
    assert!(is_ready(&mut frames) && is_ready(&mut copies));
    assert_eq!((recv(&mut rx), drain(&mut lossy)), (0, vec![(0, 0)]));
    assert!(!is_ready(&mut frames) && !is_ready(&mut copies));
    let mut room = set(tx.writable(64));
    assert!(is_ready(&mut room));
    while tx.try_send(&payload(1, 64)).is_ok() {}
    assert!(!is_ready(&mut room));
    while rx.try_recv().is_ok() {}
    assert!(is_ready(&mut room));
    tx.close();
    assert!(is_ready(&mut frames), "an end is news");
}

#[test]
fn there_may_be_no_subscriber_or_a_thousand() {
    let alone = Ring::create_anonymous(&Options::broadcast(4096).participants(1)).unwrap();
    let mut tx = Publisher::attach(&alone).unwrap();
    (0..1000).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    assert!(matches!(Subscriber::attach(&alone, Start::Latest), Err(Error::TooManyParticipants { max: 1 })));
    let ring = Ring::create_anonymous(&Options::broadcast(4096).participants(41)).unwrap();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut all: Vec<_> = (0..40).map(|_| Subscriber::attach(&ring, Start::Latest).unwrap()).collect();
    for n in 0..200 {
        tx.try_send(&payload(n, 64)).unwrap();
        all.iter_mut().for_each(|rx| assert_eq!(recv(rx), n));
    }
    let large = Options::broadcast(4096).participants(1025).geometry().unwrap();
    assert!(large.total_len > 1024 * 256);
}

#[test]
fn observers_see_whole_frames_and_change_nothing() {
    let (mut tx, mut rx) = pair(4096).unwrap();
    (0..200).for_each(|n| {
        tx.try_send(&payload(n, 64)).unwrap();
        recv(&mut rx);
    });
    let mut numbers = Vec::new();
    let ring = tx.ring().clone();
    ring.inspect(|frame| {
        numbers.push(number(frame.payload));
        true
    })
    .unwrap();
    assert_eq!(numbers.last(), Some(&199));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.len() > 30);
    let report = ring.verify().unwrap();
    assert_eq!((report.frames as usize, report.problems), (numbers.len(), vec![]));
    assert_eq!((ring.stats().used(), ring.stats().consumers), (0, 1));
}
