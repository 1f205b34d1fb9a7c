//! The ends of producers and of the consumer, and their successors.

use super::*;
use crate::error::Error;
use crate::frame::Flags;
use crate::ring::mpsc::LaneState;
use crate::segment::Redelivery;

#[test]
fn an_end_is_told_after_the_last_frame_and_once() {
    let ring = ring(4);
    let mut rx = Consumer::attach(&ring).unwrap();
    let (mut closing, mut dying, mut living) =
        (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    for number in 0..20 {
        closing.try_send(&payload(number, 64)).unwrap();
        dying.try_send(&payload(number, 64)).unwrap();
    }
    closing.close();
    let _ = dying.try_reserve(100).map(|mut grant| grant.fill(7));
    dying.kill_for_test();
    ring.reap_dead().unwrap();
    let states: Vec<_> = ring.lanes().iter().map(|lane| (lane.lane, lane.state)).collect();
    assert_eq!(states, [(0, LaneState::Closed), (1, LaneState::Dead), (2, LaneState::Held)]);
    let seen = drain(&mut rx);
    for (lane, died) in [(0, false), (1, true)] {
        let of_lane: Vec<_> =
            seen.iter().filter(|seen| matches!(seen, Seen::Frame(of, _) | Seen::Ended(of, _) if *of == lane)).collect();
        assert_eq!(of_lane.len(), 21);
        assert_eq!(of_lane[20], &Seen::Ended(lane, died));
    }
    assert!(matches!(rx.try_recv(), Err(Error::Empty)), "one is left");
    living.try_send(&payload(1, 64)).unwrap();
    living.kill_for_test();
    ring.reap_dead().unwrap();
    assert_eq!(drain(&mut rx), [Seen::Frame(2, 1), Seen::Ended(2, true)]);
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)), "the last one, and one died since the last report");
    let mut next = Producer::attach(&ring).unwrap();
    assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    next.try_send(&payload(1, 64)).unwrap();
    next.close();
    assert_eq!(drain(&mut rx), [Seen::Frame(0, 1), Seen::Ended(0, false)]);
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
}

#[test]
fn a_lane_is_free_when_its_end_was_told() {
    let ring = ring(1);
    let mut tx = Producer::attach(&ring).unwrap();
    tx.try_send(&payload(0, 64)).unwrap();
    tx.close();
    assert!(matches!(Producer::attach(&ring), Err(Error::NoFreeLane { lanes: 1 })), "a frame waits");
    let mut rx = Consumer::attach(&ring).unwrap();
    assert_eq!(try_recv(&mut rx).unwrap(), Seen::Frame(0, 0));
    assert!(matches!(Producer::attach(&ring), Err(Error::NoFreeLane { lanes: 1 })), "its end was not told");
    assert_eq!(try_recv(&mut rx).unwrap(), Seen::Ended(0, false));
    for round in 1..100 {
        // The next producer comes before the consumer does.
        let mut tx = Producer::attach(&ring).unwrap();
        tx.try_send(&payload(round, 64)).unwrap();
        let id = tx.id();
        let Received::Frame(view) = rx.try_recv().unwrap() else { panic!() };
        assert_eq!((view.source().lane, view.source().producer, number(&view)), (0, id, round));
        drop(view);
        if round % 2 == 0 {
            tx.close()
        } else {
            tx.kill_for_test()
        }
        ring.reap_dead().unwrap();
        assert_eq!(try_recv(&mut rx).unwrap(), Seen::Ended(0, round % 2 != 0));
    }
}

#[test]
fn a_producer_that_sent_nothing_closes_unnoticed_and_its_death_is_told() {
    let ring = ring(1);
    let mut rx = Consumer::attach(&ring).unwrap();
    for _ in 0..3 {
        Producer::attach(&ring).unwrap().close();
        assert!(ring.lanes().is_empty());
    }
    assert!(matches!(rx.try_recv(), Err(Error::Closed)));
    Producer::attach(&ring).unwrap().kill_for_test();
    ring.reap_dead().unwrap();
    assert_eq!(try_recv(&mut rx).unwrap(), Seen::Ended(0, true));
    assert!(matches!(rx.try_recv(), Err(Error::PeerDead)));
}

#[test]
fn what_a_dead_producer_had_not_committed_is_gone() {
    let ring = ring(2);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut other = Producer::attach(&ring).unwrap();
    for round in 0..100 {
        let mut tx = Producer::attach(&ring).unwrap();
        assert_eq!(tx.lane(), 1);
        tx.try_send(&payload(round, 100)).unwrap();
        let mut batch = tx.batch();
        (0..3).for_each(|_| batch.push(&payload(u64::MAX, 300)).unwrap());
        let _ = batch; // not committed
        tx.kill_for_test();
        other.try_send(&payload(round, 8)).unwrap();
        ring.reap_dead().unwrap();
        let seen = drain(&mut rx);
        assert_eq!(seen.len(), 3);
        for expected in [Seen::Frame(1, round), Seen::Ended(1, true), Seen::Frame(0, round)] {
            assert!(seen.contains(&expected), "{seen:?}");
        }
    }
}

/// A ring with frames 0 to 9 in two lanes, of which a consumer that died had received 0 to 3 of
/// both, and held 4 of one.
fn left_by_a_consumer(redelivery: Redelivery) -> (Ring, [Producer; 2], u16) {
    let ring = Ring::create_anonymous(&Options::mpsc(4096, 2).redelivery(redelivery)).unwrap();
    let mut producers = [Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap()];
    let mut rx = Consumer::attach(&ring).unwrap();
    for number in 0..4 {
        producers.iter_mut().for_each(|tx| tx.try_send(&payload(number, 64)).unwrap());
        assert_eq!(drain(&mut rx).len(), 2);
    }
    for number in 4..10 {
        producers.iter_mut().for_each(|tx| tx.try_send(&payload(number, 64)).unwrap());
    }
    let Received::Frame(view) = rx.try_recv().unwrap() else { panic!() };
    let held = view.source().lane;
    std::mem::forget(view);
    rx.kill_for_test();
    (ring, producers, held)
}

#[test]
fn a_successor_gets_again_what_a_dead_consumer_held() {
    let (ring, _producers, held) = left_by_a_consumer(Redelivery::AtLeastOnce);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut next = [4; 2];
    while let Ok(Received::Frame(view)) = rx.try_recv() {
        let lane = usize::from(view.source().lane);
        let is_again = view.header().flags.contains(Flags::REDELIVERED);
        assert_eq!(is_again, (view.source().lane, next[lane]) == (held, 4));
        assert_eq!(number(&view), next[lane]);
        next[lane] += 1;
    }
    assert_eq!(next, [10, 10]);
    assert_eq!(ring.stats().counts.redelivered, 1);
}

#[test]
fn a_successor_skips_what_a_dead_consumer_held_if_that_is_the_policy() {
    let (ring, _producers, held) = left_by_a_consumer(Redelivery::AtMostOnce);
    let mut rx = Consumer::attach(&ring).unwrap();
    let seen = drain(&mut rx);
    assert_eq!(seen.len(), 11);
    assert!(!seen.contains(&Seen::Frame(held, 4)) && seen.contains(&Seen::Frame(1 - held, 4)));
    assert_eq!(ring.stats().counts.lost, 1);
}

#[test]
fn an_end_is_told_again_only_if_the_consumer_died_with_it() {
    for (killed, came_back) in [(true, false), (true, true), (false, false)] {
        let ring = ring(3);
        let mut living = Producer::attach(&ring).unwrap();
        let dying = Producer::attach(&ring).unwrap();
        dying.kill_for_test();
        ring.reap_dead().unwrap();
        let mut rx = Consumer::attach(&ring).unwrap();
        assert_eq!(try_recv(&mut rx).unwrap(), Seen::Ended(1, true));
        if came_back {
            assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        }
        if killed {
            rx.kill_for_test()
        } else {
            rx.close()
        }
        living.try_send(&payload(1, 64)).unwrap();
        let mut rx = Consumer::attach(&ring).unwrap();
        let seen = drain(&mut rx);
        assert_eq!(seen.contains(&Seen::Ended(1, true)), killed && !came_back, "{seen:?}");
        assert!(seen.contains(&Seen::Frame(0, 1)));
    }
}

#[test]
fn a_busy_consumer_learns_of_deaths_too() {
    let ring = ring(2);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut busy = Producer::attach(&ring).unwrap();
    Producer::attach(&ring).unwrap().kill_for_test();
    for number in 0.. {
        busy.try_send(&payload(number, 8)).unwrap();
        busy.try_send(&payload(number, 8)).unwrap();
        // It never finds the ring empty.
        match try_recv(&mut rx).unwrap() {
            Seen::Frame(0, _) => drop(try_recv(&mut rx).unwrap()),
            seen => {
                assert_eq!(seen, Seen::Ended(1, true));
                break;
            }
        }
        assert!(number < 1 << 32, "it is never told");
    }
}
