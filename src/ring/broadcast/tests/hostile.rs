//! Forged entries and boundaries, and what dead publishers leave: never a panic, never a wait for
//! what is not there, and nothing that harms another subscriber.

use std::time::Duration;

use super::super::layout::Position;
use super::super::slow::SlowPolicy;
use super::*;
use crate::error::Error;
use crate::sync::Ordering::Relaxed;

#[test]
fn a_forged_position_harms_only_its_own_subscriber() {
    for forged in [0, 8, 3, 4095, u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 20_003] {
        let ring = ring();
        let shared = ring.broadcast_shared();
        let mut tx = Publisher::attach(&ring).unwrap();
        let evil = Subscriber::attach(&ring, Start::Latest).unwrap();
        let mut honest = Subscriber::attach(&ring, Start::Latest).unwrap();
        let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
        let id = ring.subscribers()[0].id;
        let (mut next, mut refused) = (0, 0);
        for n in 0..1000 {
            for word in [shared.head(id), shared.exact(id), shared.taken(id)] {
                word.store(forged, Relaxed);
            }
            match tx.try_send(&payload(n, 64)) {
                Ok(()) => {}
                Err(Error::Full) => {
                    // A position inside the ring holds the publisher back, as it should.
                    refused += 1;
                    shared.head(id).store(tx.ring().stats().tail, Relaxed);
                    shared.exact(id).store(tx.ring().stats().tail, Relaxed);
                    tx.try_send(&payload(n, 64)).unwrap();
                }
                Err(error) => panic!("{forged}: {error}"),
            }
            assert_eq!(recv(&mut honest), next, "{forged}");
            assert_eq!(drain(&mut lossy), [(next, 0)]);
            next += 1;
        }
        assert!(refused < 200, "{forged}: {refused}");
        ring.verify().unwrap();
        drop(evil);
    }
}

#[test]
fn an_evil_subscriber_that_reads_after_its_forged_position_fails_in_an_orderly_way() {
    for forged in [0_u64, 4, 64, 1 << 20, u64::MAX] {
        let ring = ring();
        let mut tx = Publisher::attach(&ring).unwrap();
        let mut rx = LossySubscriber::attach(&ring, Start::Latest).unwrap();
        (0..300).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
        // The floor and the boundaries, as a hostile publisher may store them.
        ring.broadcast_shared().floor().store(forged, Relaxed);
        for place in 0..64 {
            ring.broadcast_shared()
                .record(place, Position { at: forged.wrapping_add(8 * place as u64), frames: forged });
        }
        let mut buffer = [0; 4096];
        for _ in 0..1000 {
            if rx.try_recv_into(&mut buffer).is_err() {
                break;
            }
        }
        let _ = (ring.verify().unwrap(), ring.stats(), ring.subscribers(), ring.inspect(|_| true));
        let _ = Subscriber::attach(&ring, Start::Oldest).map(drop);
        let _ = LossySubscriber::attach(&ring, Start::Oldest).map(drop);
        tx.close();
        let _ = Publisher::attach(&ring).map(drop);
    }
}

#[test]
fn an_entry_without_a_participant_holds_the_publisher_back_only_until_it_looks() {
    let ring = ring();
    let shared = ring.broadcast_shared();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    for id in shared.ids().skip(5) {
        shared.state(id).store(u64::MAX - u64::from(id), Relaxed);
        shared.guard(id).store(u64::MAX, Relaxed);
        shared.exact(id).store(1, Relaxed);
    }
    for n in 0..300 {
        tx.try_send(&payload(n, 64)).unwrap();
        assert_eq!(recv(&mut rx), n);
    }
    ring.verify().unwrap();
}

/// Every word of the table, the floor and the boundaries is forged at random, while the ring is in
/// use. No call panics or hangs. Frames that arrive are whole, as long as nothing but the table is
/// forged.
#[test]
fn forged_words_end_in_whole_frames_or_errors() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..300 {
        let is_table_only = round % 2 == 0;
        let ring = Ring::create_anonymous(&Options::broadcast(4096).participants(6)).unwrap();
        let shared = ring.broadcast_shared();
        let mut tx = Publisher::attach(&ring).unwrap();
        let mut honest = Subscriber::attach(&ring, Start::Latest).unwrap();
        let own = ring.subscribers()[0].id;
        let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
        let mut reliable = Subscriber::attach(&ring, Start::Latest).unwrap();
        tx.set_policy([SlowPolicy::Fail, SlowPolicy::Evict { after: Duration::ZERO }][round / 2 % 2]);
        for n in 0..300 {
            let tail = ring.stats().tail;
            let forged = match next(4) {
                0 => tail.wrapping_sub(next(5000)),
                1 => tail.wrapping_add(next(5000)),
                2 => next(16),
                _ => next(u64::MAX),
            };
            let id = 1 + next(6) as u16;
            // The honest one's own entry counts as its memory.
            if id != own {
                let words = [
                    shared.head(id),
                    shared.exact(id),
                    shared.taken(id),
                    shared.guard(id),
                    shared.overruns(id),
                    shared.state(id),
                ];
                words[next(6) as usize].store(forged, Relaxed);
            }
            if !is_table_only && next(10) == 0 {
                match next(3) {
                    0 => shared.floor().store(forged, Relaxed),
                    1 => shared.tail().store(forged, Relaxed),
                    _ => shared.record(next(64) as usize, Position { at: forged, frames: next(u64::MAX) }),
                }
            }
            let sent = tx.try_send(&payload(n, 64));
            assert!(matches!(sent, Ok(()) | Err(Error::Full)), "{sent:?}");
            match honest.try_recv() {
                Ok(view) => assert_eq!(number(&view), n, "nothing is lost"),
                Err(error) => {
                    assert!(matches!(error, Error::Empty) && sent.is_err(), "{error}");
                    break; // held back by a forged position inside the ring
                }
            }
            let mut buffer = [0; 64];
            for _ in 0..20 {
                match lossy.try_recv_into(&mut buffer) {
                    Ok(Received::Frame(header)) => _ = number(&buffer[..header.len as usize]),
                    Ok(Received::Gap { .. }) => {}
                    Err(_) => break,
                }
            }
            let _ = reliable.try_recv().map(|view| view.len());
        }
        let _ = (ring.verify().unwrap(), ring.stats(), ring.subscribers(), ring.inspect(|_| true));
        let _ = Subscriber::attach(&ring, Start::Oldest).map(drop);
        let _ = LossySubscriber::attach(&ring, Start::Latest).map(drop);
        let published = tx.published();
        tx.close();
        match Publisher::attach(&ring) {
            Ok(tx) if is_table_only => assert_eq!(tx.published(), published),
            Ok(_) | Err(Error::Corrupt { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_boundary_that_was_being_changed_is_skipped() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut lossy = LossySubscriber::attach(&ring, Start::Latest).unwrap();
    (0..300).for_each(|n| tx.try_send(&payload(n, 64)).unwrap());
    tx.kill_for_test();
    let shared = ring.broadcast_shared();
    let newest = shared.boundaries(shared.floor().load(Relaxed)).max_by_key(|(_, position)| position.at).unwrap();
    // As if it had died between the two stores of the next one.
    shared.begin_record_for_test(newest.0 + 1);
    let mut tx = Publisher::attach(&ring).unwrap();
    assert_eq!(tx.published(), 300);
    tx.try_send(&payload(300, 64)).unwrap();
    let seen = drain(&mut lossy);
    assert_eq!(seen.iter().map(|(_, gap)| 1 + gap).sum::<u64>(), 301);
}

#[test]
fn a_publisher_that_died_in_a_frame_leaves_nothing_of_it() {
    let ring = ring();
    let mut tx = Publisher::attach(&ring).unwrap();
    let mut rx = Subscriber::attach(&ring, Start::Latest).unwrap();
    for n in 0..100 {
        tx.try_send(&payload(2 * n, 100)).unwrap();
        let mut batch = tx.batch();
        (0..3).for_each(|_| batch.push(&payload(u64::MAX, 300)).unwrap());
        let _ = batch; // not committed
        tx.kill_for_test();
        tx = Publisher::attach(&ring).unwrap();
        tx.try_send(&payload(2 * n + 1, 30)).unwrap();
        assert_eq!((recv(&mut rx), recv(&mut rx)), (2 * n, 2 * n + 1));
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    }
    assert_eq!(tx.published(), 200);
}
