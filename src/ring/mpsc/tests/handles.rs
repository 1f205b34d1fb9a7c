//! The handles: order, fairness, waiting, views and batches.

use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::set::{Token, WaitSet};

#[test]
fn frames_of_each_producer_come_in_order_and_tell_their_producer() {
    let ring = ring(16);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut producers: Vec<_> = (0..16).map(|_| Producer::attach(&ring).unwrap()).collect();
    let mut next = [0; 16];
    for round in 0..200_u64 {
        for (lane, tx) in producers.iter_mut().enumerate() {
            assert_eq!(usize::from(tx.lane()), lane);
            let len = 8 + (round as usize * 37 + lane * 11) % 300;
            tx.try_send(&payload(round, len)).unwrap();
        }
        loop {
            match rx.try_recv() {
                Ok(Received::Frame(view)) => {
                    let source = view.source();
                    let lane = usize::from(source.lane);
                    assert_eq!(source.producer, producers[lane].id());
                    assert_eq!((number(&view), u64::from(view.header().seq)), (next[lane], next[lane]));
                    next[lane] += 1;
                }
                Ok(Received::Ended(end)) => panic!("{end:?}"),
                Err(error) => {
                    assert_eq!(error, Error::Empty);
                    break;
                }
            }
        }
        assert_eq!(next, [round + 1; 16]);
    }
    let stats = ring.stats();
    assert_eq!((stats.counts.sent, stats.counts.received, stats.used()), (3200, 3200, 0));
    assert_eq!((stats.producers, stats.consumers), (16, 1));
    assert!(ring.verify().unwrap().is_clean());
}

#[test]
fn a_full_lane_blocks_only_its_producer() {
    let ring = ring(2);
    let mut rx = Consumer::attach(&ring).unwrap();
    let (mut full, mut other) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    let mut sent = 0;
    while full.try_send(&payload(sent, 100)).is_ok() {
        sent += 1;
    }
    assert!(full.is_full() && other.is_empty());
    assert!(matches!(full.send_deadline(&payload(sent, 100), Duration::from_millis(2)), Err(Error::Timeout)));
    other.try_send(&payload(7, 1000)).unwrap();
    let seen = drain(&mut rx);
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Frame(0, _))).count() as u64, sent);
    assert!(seen.contains(&Seen::Frame(1, 7)));
    full.try_send(&payload(sent, 100)).unwrap();
}

#[test]
fn a_lane_waits_for_a_turn_of_the_others_and_not_longer() {
    const LANES: usize = 40;
    let ring = ring(LANES);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut producers: Vec<_> = (0..LANES).map(|_| Producer::attach(&ring).unwrap()).collect();
    // All but the last stream without a pause.
    let (last, busy) = producers.split_last_mut().unwrap();
    for _ in 0..20 {
        last.try_send(&payload(0, 8)).unwrap();
        let mut waited = 0;
        loop {
            for tx in busy.iter_mut() {
                while tx.try_send(&payload(1, 8)).is_ok() {}
            }
            let Seen::Frame(lane, _) = try_recv(&mut rx).unwrap() else { panic!("none has ended") };
            if usize::from(lane) == LANES - 1 {
                break;
            }
            waited += 1;
            assert!(waited <= 65 * LANES, "it waits for {waited} frames");
        }
    }
}

#[test]
fn a_copied_frame_tells_its_source_also_at_the_end_of_a_turn() {
    let ring = ring(3);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut producers: Vec<_> = (0..3).map(|_| Producer::attach(&ring).unwrap()).collect();
    let mut buffer = [0; 64];
    let mut last = None;
    let mut turns = 0;
    for _ in 0..20 {
        for (lane, tx) in producers.iter_mut().enumerate() {
            while tx.try_send(&payload(lane as u64, 8)).is_ok() {}
        }
        while let Ok(Received::Frame(header)) = rx.try_recv_into(&mut buffer) {
            let lane = number(&buffer[..header.len as usize]) as u16;
            assert_eq!((rx.source().lane, rx.source().producer), (lane, producers[usize::from(lane)].id()));
            turns += u32::from(last.replace(lane) != Some(lane));
        }
    }
    assert!(turns > 60, "turns end before a lane is empty: {turns}");
}

#[test]
fn idle_lanes_do_not_hide_a_frame() {
    let ring = ring(1024);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut producers: Vec<_> = (0..1024).map(|_| Producer::attach(&ring).unwrap()).collect();
    assert!(matches!(Producer::attach(&ring), Err(Error::NoFreeLane { lanes: 1024 })));
    for lane in [1023, 0, 512, 17, 1022, 16, 15] {
        producers[lane].try_send(&payload(lane as u64, 64)).unwrap();
        assert_eq!(try_recv(&mut rx).unwrap(), Seen::Frame(lane as u16, lane as u64));
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
    }
}

#[test]
fn views_and_batches_can_be_kept_and_forgotten() {
    let ring = ring(2);
    let mut rx = Consumer::attach(&ring).unwrap();
    let (mut one, mut two) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    for number in 0..4 {
        one.try_send(&payload(number, 64)).unwrap();
        two.try_send(&payload(number, 64)).unwrap();
    }
    let Received::Frame(view) = rx.try_recv().unwrap() else { panic!() };
    let kept = view.source().lane;
    view.keep();
    std::mem::forget(rx.try_recv().unwrap());
    let mut seen = [0; 2];
    loop {
        let Ok(Received::Frame(mut batch)) = rx.try_recv_batch(3) else { break };
        let lane = usize::from(batch.source().lane);
        if seen == [0; 2] {
            assert_eq!(lane, usize::from(kept), "what was kept comes first");
        }
        for frame in &mut batch {
            assert_eq!(number(frame.payload), seen[lane]);
            seen[lane] += 1;
        }
    }
    assert_eq!(seen, [4, 4]);
    let mut small = [0; 8];
    one.try_send(&payload(9, 64)).unwrap();
    assert!(matches!(rx.try_recv_into(&mut small), Err(Error::TooLarge { max: 64 })));
    assert_eq!(try_recv(&mut rx).unwrap(), Seen::Frame(0, 9));
}

#[test]
fn many_threads_lose_nothing_and_end_in_order() {
    const EACH: u64 = 20_000;
    let ring = ring(4);
    let mut rx = Consumer::attach(&ring).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut tx = Producer::attach(&ring).unwrap();
            scope.spawn(move || {
                for number in 0..EACH {
                    tx.send(&payload(number, 8 + number as usize % 120)).unwrap();
                }
            });
        }
        let (mut next, mut ended) = ([0; 4], [false; 4]);
        loop {
            match rx.recv() {
                Ok(Received::Frame(view)) => {
                    let lane = usize::from(view.source().lane);
                    assert!(!ended[lane]);
                    assert_eq!(number(&view), next[lane]);
                    next[lane] += 1;
                }
                Ok(Received::Ended(end)) => {
                    assert_eq!((next[usize::from(end.lane)], end.died), (EACH, false));
                    ended[usize::from(end.lane)] = true;
                }
                Err(error) => {
                    assert_eq!(error, Error::Closed);
                    break;
                }
            }
        }
        assert_eq!(ended, [true; 4]);
    });
    assert!(ring.lanes().is_empty());
}

#[test]
fn a_set_waits_for_any_lane_for_ends_and_for_room() {
    let ring = ring(2);
    let mut rx = Consumer::attach(&ring).unwrap();
    let (mut one, mut two) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
    let mut set = WaitSet::new().unwrap();
    set.add(Token(0), rx.readable()).unwrap();
    let ready = |set: &mut WaitSet| set.try_wait().unwrap().next().is_some();
    assert!(!ready(&mut set));
    two.try_send(&payload(1, 64)).unwrap();
    assert!(ready(&mut set));
    assert_eq!(drain(&mut rx), [Seen::Frame(1, 1)]);
    assert!(!ready(&mut set));
    drop(two);
    assert!(ready(&mut set), "an end");
    assert_eq!(drain(&mut rx), [Seen::Ended(1, false)]);
    assert!(!ready(&mut set));
    assert!(set.remove(Token(0)));
    set.add(Token(1), one.writable(1000)).unwrap();
    assert!(ready(&mut set));
    while one.try_send(&payload(1, 1000)).is_ok() {}
    assert!(!ready(&mut set));
    drain(&mut rx);
    assert!(ready(&mut set), "room");
}
