//! Recovery of an MPMC ring from deaths: claims that are voided, frames that are redelivered or
//! dropped, and recoverers that die or are stopped themselves. And a living consumer that puts a
//! frame back.
//!
//! A death is a thread that stops while it holds a slot. The recoverer joins it first, which orders
//! as much as the kernel's report of the death does in production.

use super::*;
use crate::ring::mpmc::inspect::State;

/// Participant 9 takes a frame, reads it, and dies.
fn die_reading(ring: &Ring) -> thread::JoinHandle<()> {
    let ring = ring.clone();
    thread::spawn(move || {
        let taken = ring.take(9).unwrap();
        ring.read(&taken, &mut [0; 8]); // and does not release it
    })
}

/// Waits for the kernel's report of the death of participant 9, and recovers.
fn recover(ring: &Ring, dead: thread::JoinHandle<()>, policy: Redelivery) -> thread::JoinHandle<Recovered> {
    let ring = ring.clone();
    thread::spawn(move || {
        dead.join().unwrap();
        ring.sweep(9, policy)
    })
}

/// A producer dies in WRITING. While one participant recovers the slot, another produces and a
/// third consumes: the claim is voided, the other frames arrive, and the dead producer's bytes are
/// not mixed into the slot's next frame.
#[test]
fn abandoned_claim() {
    explore(2, || {
        let ring = ring(2);
        let dead = thread::spawn({
            let ring = ring.clone();
            move || {
                if let Ok(claim) = ring.claim(9) {
                    ring.write(&claim, &[9; 8]); // and does not commit it
                }
            }
        });
        let recoverer = recover(&ring, dead, Redelivery::AtLeastOnce);
        let sent: Vec<_> = [10, 11].into_iter().filter(|value| try_send(&ring, 1, *value)).collect();
        let mut seen: Vec<_> = ring_try(&ring, 3).into_iter().collect();
        let Recovered { voided, redeliver, lost } = recoverer.join().unwrap();
        assert!(voided <= 1 && (redeliver, lost) == (0, 0));
        seen.extend(drain(&ring).into_iter().map(|(value, again)| {
            assert!(!again);
            value
        }));
        assert_eq!(seen, sent);
    });
}

/// A consumer dies in READING. Two participants recover it at once while another producer and
/// consumer work: its frame is redelivered once, marked.
#[test]
fn an_abandoned_read_is_redelivered() {
    explore(2, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 10));
        die_reading(&ring).join().unwrap();
        let recoverer = thread::spawn({
            let ring = ring.clone();
            move || ring.sweep(9, Redelivery::AtLeastOnce)
        });
        let producer = thread::spawn({
            let ring = ring.clone();
            move || assert!(try_send(&ring, 1, 11))
        });
        let mut redeliveries = ring.sweep(9, Redelivery::AtLeastOnce).redeliver;
        let mut seen: Vec<_> = try_recv(&ring, 3).into_iter().collect();
        redeliveries += recoverer.join().unwrap().redeliver;
        producer.join().unwrap();
        seen.extend(drain(&ring));
        seen.sort_unstable();
        assert_eq!(seen, [(10, true), (11, false)]);
        assert_eq!(redeliveries, 1, "recovered by exactly one of the two");
    });
}

/// A redelivered frame has all that its producer wrote, though neither its dead consumer nor the
/// recoverer read it.
#[test]
fn a_redelivered_frame_is_whole() {
    explore(3, || {
        let ring = ring(2);
        let producer = thread::spawn({
            let ring = ring.clone();
            move || send(&ring, 1, 10)
        });
        let dead = thread::spawn({
            let ring = ring.clone();
            move || drop(ring.take(9)) // and does not release it
        });
        let heir = thread::spawn({
            let ring = ring.clone();
            move || ring.take_redelivered(3).ok().map(|taken| (finish(&ring, taken), true))
        });
        dead.join().unwrap();
        ring.sweep(9, Redelivery::AtLeastOnce);
        let mut seen: Vec<_> = heir.join().unwrap().into_iter().collect();
        producer.join().unwrap();
        seen.extend(drain(&ring));
        assert!(matches!(seen[..], [(10, _)]), "{seen:?}");
    });
}

/// A living consumer puts a frame back while another one receives and a producer wants a slot: the
/// frame is delivered again, once, marked and whole. What its first reader read comes before what
/// is written there next.
#[test]
fn a_frame_that_is_put_back_is_delivered_again() {
    explore(2, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
        let keeper = thread::spawn({
            let ring = ring.clone();
            move || {
                let taken = ring.take(9).unwrap();
                let mut payload = [0; 8];
                ring.read(&taken, &mut payload);
                assert_eq!(u64::from_le_bytes(payload) as u32, taken.header.seq);
                ring.put_back(taken);
            }
        });
        let other = thread::spawn({
            let ring = ring.clone();
            move || try_recv(&ring, 3)
        });
        let sent = try_send(&ring, 2, 12);
        let mut seen: Vec<_> = other.join().unwrap().into_iter().collect();
        keeper.join().unwrap();
        seen.extend(drain(&ring));
        assert_eq!(seen.iter().filter(|(_, again)| *again).count(), 1, "{seen:?}");
        let mut values: Vec<_> = seen.into_iter().map(|(value, _)| value).collect();
        values.sort_unstable();
        assert_eq!(values, if sent { vec![10, 11, 12] } else { vec![10, 11] });
    });
}

/// What a reader read before it put its frame back comes before what is written to the slot after
/// the next reader.
#[test]
fn a_frame_is_put_back_after_it_was_read() {
    explore(3, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
        let taken = ring.take(9).unwrap();
        assert_eq!(ring_try(&ring, 3), Some(11));
        let heir = thread::spawn({
            let ring = ring.clone();
            move || {
                let again = ring.take_redelivered(3).ok().map(|taken| finish(&ring, taken));
                // The slot of the frame that was put back, if that was released.
                assert_eq!(try_send(&ring, 2, 12), again == Some(10));
                again
            }
        });
        ring.read(&taken, &mut [0; 8]);
        ring.put_back(taken);
        let again = heir.join().unwrap();
        assert_eq!(drain(&ring), if again.is_some() { [(12, false)] } else { [(10, true)] });
    });
}

/// With at-most-once delivery the frame is dropped, and counted; the slot's next frame is not mixed
/// into what the dead consumer was reading.
#[test]
fn an_abandoned_read_is_dropped_at_most_once() {
    explore(3, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
        let dead = die_reading(&ring);
        let producer = thread::spawn({
            let ring = ring.clone();
            move || try_send(&ring, 2, 12) // needs the dead consumer's slot
        });
        dead.join().unwrap();
        let recovered = ring.sweep(9, Redelivery::AtMostOnce);
        assert_eq!(recovered, Recovered { lost: 1, ..Recovered::default() });
        let sent = producer.join().unwrap();
        let expected: &[_] = if sent { &[(11, false), (12, false)] } else { &[(11, false)] };
        assert_eq!(drain(&ring), expected);
    });
}

/// Consumers search for redeliveries only when the count of them has changed: it changes late
/// enough, and also when the first recoverer was killed before it could change it.
#[test]
fn redeliveries_are_announced() {
    for killed in [false, true] {
        explore(3, move || {
            let parts = parts(2);
            let producer = parts.producer_page.clone();
            let ring = Ring::over(parts, 2);
            assert!(try_send(&ring, 1, 10));
            die_reading(&ring).join().unwrap();
            if killed {
                ring.sweep(9, Redelivery::AtLeastOnce);
                producer.word(LINE).store(0, Ordering::Relaxed); // it died before that
            }
            let consumer = thread::spawn({
                let ring = ring.clone();
                move || look(&ring, 0)
            });
            ring.sweep(9, Redelivery::AtLeastOnce);
            let taken = consumer.join().unwrap().or_else(|searched| look(&ring, searched));
            assert_eq!(finish(&ring, taken.expect("the redelivery was not announced")), 10);
        });
    }
}

/// Searches as the handle does: a search that found nothing is not repeated.
fn look(ring: &Ring, searched: u64) -> Result<Taken, u64> {
    let count = ring.redeliveries();
    if count == searched { Err(count) } else { ring.take_redelivered(3).map_err(|_| count) }
}

/// The same of a frame that its living reader puts back.
#[test]
fn a_frame_that_is_put_back_is_announced() {
    explore(3, || {
        let ring = ring(2);
        assert!(try_send(&ring, 1, 10));
        let taken = ring.take(9).unwrap();
        let consumer = thread::spawn({
            let ring = ring.clone();
            move || look(&ring, 0)
        });
        ring.put_back(taken);
        let taken = consumer.join().unwrap().or_else(|searched| look(&ring, searched));
        assert_eq!(finish(&ring, taken.expect("the redelivery was not announced")), 10);
    });
}

/// Two recoverers void the same claim at once, one of which is stopped for a lap at any point: it
/// changes nothing in the next lap.
#[test]
fn a_recoverer_that_was_stopped_changes_nothing() {
    explore(3, || {
        let ring = ring(2);
        let dead = thread::spawn({
            let ring = ring.clone();
            move || drop(ring.claim(9).unwrap()) // and does not commit it
        });
        dead.join().unwrap();
        let slow = thread::spawn({
            let ring = ring.clone();
            move || ring.sweep(9, Redelivery::AtLeastOnce).voided
        });
        let voided = ring.sweep(9, Redelivery::AtLeastOnce).voided;
        // The slot is used in the next lap and the one after it.
        let mut seen = Vec::new();
        for value in 10..14 {
            send(&ring, 1, value);
            seen.extend(ring_try(&ring, 3));
        }
        assert_eq!(voided + slow.join().unwrap(), 1, "counted once");
        seen.extend(drain(&ring).into_iter().map(|(value, _)| value));
        assert_eq!(seen, [10, 11, 12, 13]);
    });
}

/// A recoverer that does not prevent the id from being reissued is stopped after its check;
/// meanwhile the next holder of the id claims and takes. It must not recover what the living
/// participant holds.
#[test]
fn a_reissued_id_is_not_recovered() {
    explore(2, || {
        let ring = ring(4);
        let issued = Arc::new(AtomicU64::new(0));
        assert!(try_send(&ring, 1, 10) && try_send(&ring, 1, 11));
        let dead = thread::spawn({
            let ring = ring.clone();
            move || drop((ring.take(9).unwrap(), ring.claim(9).unwrap()))
        });
        dead.join().unwrap();
        let slow = thread::spawn({
            let (ring, issued) = (ring.clone(), issued.clone());
            move || ring.shared.sweep(9, Redelivery::AtLeastOnce, || issued.load(Ordering::Acquire) == 0)
        });
        ring.sweep(9, Redelivery::AtLeastOnce);
        issued.store(1, Ordering::Release);
        // The next holder of the id.
        let held = [ring.take_redelivered(9), ring.take(9)].map(Result::unwrap);
        let claim = ring.claim(9).unwrap();
        ring.write(&claim, &12_u64.to_le_bytes());
        slow.join().unwrap();
        assert_eq!(
            [0, 1, 3].map(|slot| ring.inspect(slot).unwrap().state),
            [State::Reading, State::Reading, State::Writing]
        );
        ring.commit(claim, header(12));
        assert_eq!(held.map(|taken| finish(&ring, taken)), [10, 11]);
        assert_eq!(drain(&ring), [(12, false)]);
    });
}

/// An owner that aborted its claim was killed before it freed the slot. A producer that needs the
/// slot frees it, and so does a consumer that passes over it: no frame is lost, and a drained ring
/// has no slot in use.
#[test]
fn the_slot_of_a_dead_aborter_is_freed() {
    for is_wanted in [true, false] {
        explore(3, move || {
            let parts = parts(2);
            let slots = parts.data.clone();
            let ring = Ring::over(parts, 2);
            let claim = ring.claim(9).unwrap();
            ring.write(&claim, &[9; 8]);
            slots.word(0).store(CommitWord::void(1).0, Ordering::Release); // and dies
            assert!(try_send(&ring, 1, 11));
            let consumer = thread::spawn({
                let ring = ring.clone();
                move || ring_try(&ring, 3)
            });
            assert!(!is_wanted || try_send(&ring, 2, 12), "the slot is free");
            let mut seen: Vec<_> = consumer.join().unwrap().into_iter().collect();
            seen.extend(drain(&ring).into_iter().map(|(value, _)| value));
            assert_eq!(seen, if is_wanted { &[11, 12][..] } else { &[11] });
            (0..2).for_each(|slot| assert_eq!(ring.inspect(slot).unwrap().state, State::Free));
        });
    }
}
