//! What observers see of an MPMC ring while others use it.

use super::*;
use crate::ring::mpmc::inspect::State;

/// An observer sees the header and payload of every frame that it sees committed.
#[test]
fn an_observer_sees_whole_frames() {
    explore(3, || {
        let ring = ring(2);
        let observer = thread::spawn({
            let ring = ring.clone();
            move || {
                let show = |header: Header, payload: &[u8]| {
                    assert_eq!((header.seq, payload), (10, &10_u64.to_le_bytes()[..]));
                    true
                };
                ring.frames(show).unwrap();
            }
        });
        send(&ring, 1, 10);
        observer.join().unwrap();
    });
}

/// An observer of a ring whose slots are reused finds no problem in any of them, in whatever order
/// it sees their changes.
#[test]
fn an_observer_finds_nothing_wrong() {
    explore(3, || {
        let ring = ring(2);
        let observer = thread::spawn({
            let ring = ring.clone();
            move || {
                let seen = ring.inspect(0).expect("a healthy slot");
                let owner = match seen.state {
                    State::Writing => 1,
                    State::Reading => 3,
                    _ => 0,
                };
                assert!(seen.lap <= 2 && seen.owner == owner, "{seen:?}");
            }
        });
        for value in 0..3 {
            send(&ring, 1, value);
            assert_eq!(recv(&ring, 3), value);
        }
        observer.join().unwrap();
    });
}
