//! Forged states and damaged lanes: never a panic, never an endless loop, and nothing that harms
//! other lanes.

use super::*;
use crate::error::Error;
use crate::sync::Ordering::Relaxed;

const FORGED: [u64; 10] = [0, 1, 3, 7, 8, 4095, 1 << 40, 1 << 63, u64::MAX, u64::MAX - 7];

#[test]
fn a_damaged_lane_is_reported_once_and_the_others_go_on() {
    let ring = ring(3);
    let mut rx = Consumer::attach(&ring).unwrap();
    let mut producers: Vec<_> = (0..3).map(|_| Producer::attach(&ring).unwrap()).collect();
    for round in 0..50 {
        producers.iter_mut().for_each(|tx| tx.try_send(&payload(round, 64)).unwrap());
        if round == 10 {
            // The first word of the next frame, as a hostile producer may store it.
            let lane = ring.mpsc_shared().lane(1);
            lane.word(lane.observe().0).store(u64::MAX, Relaxed);
        }
        let (mut seen, mut corrupt) = (Vec::new(), 0);
        loop {
            match try_recv(&mut rx) {
                Ok(one) => seen.push(one),
                Err(Error::Empty) => break,
                Err(error) => {
                    assert!(matches!(error, Error::Corrupt { .. } | Error::Incompatible { .. }), "{error}");
                    corrupt += 1;
                }
            }
        }
        assert_eq!(corrupt, usize::from(round == 10));
        assert_eq!(seen.len(), if round < 10 { 3 } else { 2 });
        assert!(seen.contains(&Seen::Frame(0, round)) && seen.contains(&Seen::Frame(2, round)));
    }
    assert!(!ring.verify().unwrap().is_clean());
    rx.close();
    let mut rx = Consumer::attach(&ring).unwrap();
    assert!(std::iter::from_fn(|| rx.try_recv().err()).any(|error| error != Error::Empty), "told to a successor");
}

#[test]
fn forged_states_harm_no_other_lane() {
    for forged in FORGED {
        let ring = ring(8);
        let shared = ring.mpsc_shared();
        let mut rx = Consumer::attach(&ring).unwrap();
        let mut tx = Producer::attach(&ring).unwrap();
        for round in 0..200 {
            for lane in 1..8 {
                shared.state(lane).store(forged.wrapping_add(round), Relaxed);
            }
            shared.announce();
            tx.try_send(&payload(round, 64)).unwrap();
            let mut frames = 0;
            for _ in 0..20 {
                if let Ok(Seen::Frame(lane, value)) = try_recv(&mut rx) {
                    assert_eq!((lane, value), (0, round));
                    frames += 1;
                }
            }
            assert_eq!(frames, 1, "{forged}");
            let _ = (ring.verify().unwrap(), ring.stats(), ring.lanes(), ring.inspect(|_| true));
            let _ = Producer::attach(&ring).map(drop);
            ring.reap_dead().unwrap();
        }
    }
}

#[test]
fn forged_positions_harm_no_other_lane() {
    for forged in FORGED {
        let ring = ring(2);
        let shared = ring.mpsc_shared();
        let (mut good, mut bad) = (Producer::attach(&ring).unwrap(), Producer::attach(&ring).unwrap());
        let lane = shared.lane(1);
        for round in 0..100 {
            for word in [lane.head(), lane.exact(), lane.taken(), lane.tail()] {
                word.store(forged, Relaxed);
            }
            let Ok(mut rx) = Consumer::attach(&ring) else { panic!("lane 0 is whole") };
            good.try_send(&payload(round, 64)).unwrap();
            let _ = bad.try_send(&payload(round, 64));
            let mut frames = 0;
            for _ in 0..10_000 {
                match try_recv(&mut rx) {
                    Ok(Seen::Frame(0, value)) => {
                        assert_eq!(value, round);
                        frames += 1;
                    }
                    Ok(_) => {}
                    Err(Error::Empty) => break,
                    Err(error) => {
                        assert!(matches!(error, Error::Corrupt { .. } | Error::Incompatible { .. }), "{error}")
                    }
                }
            }
            assert_eq!(frames, 1, "{forged}");
            let _ = (ring.verify().unwrap(), ring.stats(), ring.lanes(), ring.inspect(|_| true));
        }
    }
}

#[test]
fn a_producer_leaves_out_a_damaged_lane() {
    let ring = ring(2);
    ring.mpsc_shared().lane(0).exact().store(4, Relaxed);
    let tx = Producer::attach(&ring).unwrap();
    assert_eq!(tx.lane(), 1);
    assert!(matches!(Producer::attach(&ring), Err(Error::Corrupt { .. })));
    assert_eq!(ring.lanes().len(), 1);
}
