//! Models of the table of participants: `table.rs` and `lifecycle.rs` of `src/segment/liveness`.
//!
//! Locks are modelled as the kernel provides them: exclusive per holder, released at death, each
//! call ordered with the others.

use std::collections::BTreeMap;

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::error::{Error, Result};
use crate::explore;
use crate::memory::Area;
use crate::segment::layout::{RECORD, SHARED_USED};
use crate::segment::liveness::checks::FEW;
use crate::segment::liveness::lifecycle::Ends;
use crate::segment::liveness::record::{Role, State};
use crate::segment::liveness::table::{Locks, Seat, Table};
use crate::sync::Ordering;

/// Byte → holder. A killed holder's bytes are released at once, as all locks of a file description
/// are.
#[derive(Clone)]
struct Kernel(Arc<Mutex<BTreeMap<u64, u64>>>);

impl Kernel {
    fn new() -> Self {
        Kernel(Arc::new(Mutex::new(BTreeMap::new())))
    }

    fn holder(&self, number: u64) -> Holder {
        Holder { kernel: self.clone(), number }
    }
}

struct Holder {
    kernel: Kernel,
    number: u64,
}

impl Holder {
    fn die(self) {
        self.kernel.0.lock().unwrap().retain(|_, by| *by != self.number);
    }
}

impl Locks for Holder {
    fn try_lock(&self, byte: u64) -> Result<bool> {
        Ok(*self.kernel.0.lock().unwrap().entry(byte).or_insert(self.number) == self.number)
    }

    fn unlock(&self, byte: u64) -> Result<()> {
        let mut locks = self.kernel.0.lock().unwrap();
        if locks.get(&byte) == Some(&self.number) {
            locks.remove(&byte);
        }
        Ok(())
    }

    fn is_locked(&self, byte: u64) -> Result<bool> {
        Ok(self.kernel.0.lock().unwrap().get(&byte).is_some_and(|by| *by != self.number))
    }
}

fn table(participants: usize) -> Table {
    Table::new(Area::model((participants + 1) * RECORD), Area::model(SHARED_USED), participants)
}

fn join(table: &Table, locks: &Holder, role: Role, exclusive: bool) -> Result<Seat> {
    table.join(locks, role, exclusive, true, [0; 4], |id| panic!("{id} is not dead"))
}

/// Catches: a role taken twice, and an id with two holders.
#[test]
fn an_exclusive_role_has_one_holder() {
    explore(3, || {
        let (table, kernel) = (table(2), Kernel::new());
        let other = {
            let (table, locks) = (table.clone(), kernel.holder(2));
            thread::spawn(move || join(&table, &locks, Role::Producer, true).map(|seat| (seat, locks)))
        };
        let locks = kernel.holder(1);
        let mine = join(&table, &locks, Role::Producer, true);
        let theirs = other.join().unwrap();
        match (&mine, &theirs) {
            (Ok(_), Err(Error::RoleTaken { .. })) | (Err(Error::RoleTaken { .. }), Ok(_)) => {}
            _ => panic!("{:?} {:?}", mine.is_ok(), theirs.is_ok()),
        }
        assert_eq!(table.live(Role::Producer), 1);
    });
}

/// Catches: an id that is reissued before its last holder's writes are visible; a participant that
/// fails to join although only a leaving one is in its way.
#[test]
fn an_id_is_reused_after_everything_written_under_it_is_visible() {
    explore(3, || {
        let (table, kernel, data) = (table(2), Kernel::new(), Area::model(2 * 8));
        let visit = move |table: &Table, data: &Area, locks: &Holder| {
            let seat = join(table, locks, Role::Consumer, false).unwrap();
            let mine = 8 * (usize::from(seat.id) - 1);
            // SAFETY: this thread owns the id; loom fails the model if another holder's write is
            // not ordered before this one.
            unsafe { data.write(mine, &[seat.id as u8; 8]) };
            table.leave(locks, seat, Ends::default()).unwrap();
        };
        let other = {
            let (table, data, locks) = (table.clone(), data.clone(), kernel.holder(2));
            thread::spawn(move || visit(&table, &data, &locks))
        };
        visit(&table, &data, &kernel.holder(1));
        other.join().unwrap();
        assert_eq!((table.present(Role::Consumer), table.lifecycle().ends(Role::Consumer).close), (0, 2));
    });
}

/// Catches: a dead participant that is reaped twice, a death that is counted twice, an id that is
/// reissued before the sweep, last writes that are not visible.
#[test]
fn two_reapers_reap_one_dead_participant() {
    explore(3, || {
        let (table, kernel, slot) = (table(3), Kernel::new(), Area::model(8));
        let victim = kernel.holder(9);
        let dead = join(&table, &victim, Role::Producer, false).unwrap();
        slot.word(0).store(u64::from(dead.id), Ordering::Relaxed);
        let recover = |slot: &Area, id: u16| {
            let _ = slot.word(0).compare_exchange(u64::from(id), 0, Ordering::AcqRel, Ordering::Acquire);
        };
        let reaper = {
            let (table, slot, locks) = (table.clone(), slot.clone(), kernel.holder(2));
            thread::spawn(move || table.reap(&locks, 0, |id| recover(&slot, id)).unwrap())
        };
        let joiner = {
            let (table, slot, locks) = (table.clone(), slot.clone(), kernel.holder(3));
            thread::spawn(move || {
                let seat = table.join(&locks, Role::Producer, false, true, [0; 4], |id| recover(&slot, id)).unwrap();
                if seat.id == dead.id {
                    assert_eq!(slot.word(0).load(Ordering::Relaxed), 0, "reissued before it was swept");
                }
                seat
            })
        };
        victim.die();
        let reaped = reaper.join().unwrap();
        let seat = joiner.join().unwrap();
        let late = table.reap(&kernel.holder(4), seat.id, |id| recover(&slot, id)).unwrap_or(0);
        assert!(reaped + late <= 1, "reaped twice");
        let ends = table.lifecycle().ends(Role::Producer);
        assert_eq!((ends, table.present(Role::Producer)), (Ends { close: 0, death: dead.ticket }, 1));
        assert_eq!(slot.word(0).load(Ordering::Relaxed), 0);
    });
}

/// Catches: an end that is reported before the ended producer's writes are visible, not at all, or
/// with the wrong cause; and an end that covers a producer that is still joining with an older
/// ticket.
#[test]
fn an_end_is_seen_after_the_last_write_and_never_early() {
    explore(3, || {
        let (table, kernel, data) = (table(2), Kernel::new(), Area::model(2 * 8));
        let produce = |number: u64| {
            let (table, data, locks) = (table.clone(), data.clone(), kernel.holder(number));
            thread::spawn(move || {
                let seat = join(&table, &locks, Role::Producer, false).unwrap();
                // SAFETY: a ticket belongs to one producer, and no thread reads before that
                // producer's end is reported.
                unsafe { data.write(8 * (seat.ticket as usize - 1), &[1; 8]) };
                table.leave(&locks, seat, Ends::default()).unwrap();
            })
        };
        let producers = [produce(1), produce(2)];
        let reported = table.ended(Role::Producer, Ends::default()).unwrap_or_default();
        for ticket in 0..reported.close {
            let mut bytes = [0; 8];
            // SAFETY: the holder of every ticket up to the reported one has left; loom checks the
            // order.
            unsafe { data.read(8 * ticket as usize, &mut bytes) };
            assert_eq!(bytes, [1; 8]);
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        match table.ended(Role::Producer, reported) {
            Some(ends) => assert_eq!(ends, Ends { close: 2, death: 0 }),
            None => assert_eq!(reported, Ends { close: 2, death: 0 }, "an end was missed"),
        }
    });
}

/// Catches the same as the model above, where one producer is killed, and its end is recorded by
/// the participant that reaps it.
fn an_end_noted_by_a_reaper(killed_while: State) {
    explore(3, move || {
        let (records, shared) = (Area::model(3 * RECORD), Area::model(SHARED_USED));
        let (table, kernel, data) = (Table::new(records.clone(), shared, 2), Kernel::new(), Area::model(2 * 8));
        let produce = |number: u64, killed: bool| {
            let (table, kernel, data, records) = (table.clone(), kernel.clone(), data.clone(), records.clone());
            thread::spawn(move || {
                let locks = kernel.holder(number);
                let seat = table.join(&locks, Role::Producer, false, true, [0; 4], |_| ()).unwrap();
                // SAFETY: a ticket belongs to one producer, and no thread reads before that
                // producer's end is reported.
                unsafe { data.write(8 * (seat.ticket as usize - 1), &[1; 8]) };
                if !killed {
                    return table.leave(&locks, seat, Ends::default()).unwrap();
                }
                if killed_while == State::Leaving {
                    let word = (State::Leaving as u64) << 56 | seat.ticket;
                    records.word(usize::from(seat.id) * RECORD).store(word, Ordering::Relaxed);
                }
                locks.die();
                table.reap(&kernel.holder(10 + number), 0, |id| assert_eq!(id, seat.id)).unwrap();
            })
        };
        let producers = [produce(1, false), produce(2, true)];
        let reported = table.ended(Role::Producer, Ends::default()).unwrap_or_default();
        for ticket in 0..reported.close.max(reported.death) {
            let mut bytes = [0; 8];
            // SAFETY: the holder of every ticket up to the reported ones has ended; loom checks the
            // order.
            unsafe { data.read(8 * ticket as usize, &mut bytes) };
            assert_eq!(bytes, [1; 8]);
        }
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        let ends = table.lifecycle().ends(Role::Producer);
        let last = table.ended(Role::Producer, reported).unwrap_or(reported);
        assert_eq!(last, ends, "an end was missed");
        assert_eq!(ends.close.max(ends.death), 2);
        assert_eq!(ends.death == 0, killed_while == State::Leaving);
    });
}

#[test]
fn an_end_noted_by_the_reaper_of_an_attached_participant() {
    an_end_noted_by_a_reaper(State::Live);
}

#[test]
fn an_end_noted_by_the_reaper_of_a_leaving_participant() {
    an_end_noted_by_a_reaper(State::Leaving);
}

/// Catches: a close that is reported in place of the death that came with it, because the cause was
/// read before the last of the ended producers was reaped.
#[test]
fn an_end_comes_with_all_its_causes() {
    explore(3, || {
        let (table, kernel) = (table(2), Kernel::new());
        let (victim, leaver) = (kernel.holder(1), kernel.holder(2));
        let seats = [&victim, &leaver].map(|locks| join(&table, locks, Role::Producer, false).unwrap());
        table.leave(&leaver, seats[1], Ends::default()).unwrap();
        victim.die();
        let receiver = {
            let table = table.clone();
            thread::spawn(move || table.ended(Role::Producer, Ends::default()))
        };
        table.reap(&kernel.holder(3), 0, |_| ()).unwrap();
        let all = Ends { close: seats[1].ticket, death: seats[0].ticket };
        assert!([None, Some(all)].contains(&receiver.join().unwrap()));
    });
}

/// Catches: a death that is reported before it is completely reaped: what was recovered must be
/// visible.
#[test]
fn recovery_is_visible_after_the_end() {
    explore(3, || {
        let (table, kernel, data) = (table(1), Kernel::new(), Area::model(8));
        let victim = kernel.holder(1);
        join(&table, &victim, Role::Producer, true).unwrap();
        victim.die();
        let reaper = {
            let (table, data, locks) = (table.clone(), data.clone(), kernel.holder(2));
            thread::spawn(move || {
                // SAFETY: no thread reads before the end is reported, which loom checks.
                table.reap(&locks, 0, |_| unsafe { data.write(0, &[7; 8]) }).unwrap();
            })
        };
        if let Some(ends) = table.ended(Role::Producer, Ends::default()) {
            assert_eq!(ends, Ends { close: 0, death: 1 });
            let mut bytes = [0; 8];
            // SAFETY: reaping has finished; loom checks that it is ordered before this.
            unsafe { data.read(0, &mut bytes) };
            assert_eq!(bytes, [7; 8]);
        }
        reaper.join().unwrap();
    });
}

/// Catches: a change of membership that is visible before the changed record, so that a reader
/// would not read it again.
#[test]
fn membership_changes_after_the_record() {
    explore(3, || {
        let (table, kernel) = (table(1), Kernel::new());
        let producer = {
            let (table, locks) = (table.clone(), kernel.holder(1));
            thread::spawn(move || {
                let seat = table.join(&locks, Role::Producer, true, true, [5; 4], |_| ()).unwrap();
                table.leave(&locks, seat, Ends::default()).unwrap();
            })
        };
        let seen = table.lifecycle().membership();
        let (state, identity) = (table.get(1).state, table.identity(1));
        assert!(state != Some(State::Live) || identity == [5; 4], "LIVE is visible before the identity");
        match seen {
            0 => {}
            1 => assert!(
                matches!(state, Some(State::Live | State::Leaving))
                    || table.lifecycle().ends(Role::Producer).close == 1
            ),
            _ => assert!(table.ended(Role::Producer, Ends::default()).is_some()),
        }
        producer.join().unwrap();
        assert_eq!(table.lifecycle().membership(), 2, "one join and one leave");
    });
}

/// Catches: a living participant that is declared dead, because its id's former holder left at the
/// wrong moment.
#[test]
fn a_living_participant_is_not_declared_dead() {
    explore(3, || {
        let (table, kernel) = (table(1), Kernel::new());
        let first = kernel.holder(1);
        let seat = join(&table, &first, Role::Producer, false).unwrap();
        let successor = {
            let (table, locks) = (table.clone(), kernel.holder(2));
            thread::spawn(move || {
                table.leave(&first, seat, Ends::default()).unwrap();
                let next = join(&table, &locks, Role::Producer, false).unwrap();
                (next, locks)
            })
        };
        assert!(!table.is_dead(&kernel.holder(3), 1).unwrap());
        let (next, locks) = successor.join().unwrap();
        locks.die();
        assert!(table.is_dead(&kernel.holder(3), next.id).unwrap());
    });
}

/// Catches: two last consumers, each of which leaves the acknowledgement to the other.
#[test]
fn one_of_two_last_leavers_acknowledges() {
    explore(3, || {
        let (table, kernel) = (table(2), Kernel::new());
        let reported = Ends { close: 1, death: 0 };
        let (one, two) = (kernel.holder(1), kernel.holder(2));
        let seats = [&one, &two].map(|locks| join(&table, locks, Role::Consumer, false).unwrap());
        let other = {
            let table = table.clone();
            thread::spawn(move || table.leave(&two, seats[1], reported).unwrap())
        };
        table.leave(&one, seats[0], reported).unwrap();
        other.join().unwrap();
        assert_eq!(table.lifecycle().acknowledged(Role::Producer), reported);
    });
}

/// Catches: a check that two sleepers make at once, and one that no sleeper makes because each
/// takes the other's claim for its own.
#[test]
fn one_of_two_sleepers_makes_the_check() {
    explore(3, || {
        let (table, kernel) = (table(10), Kernel::new());
        let victims: Vec<_> = (0..=FEW).map(|i| kernel.holder(100 + i)).collect();
        for locks in &victims {
            join(&table, locks, Role::Consumer, false).unwrap();
        }
        table.reap(&kernel.holder(1), 0, |id| panic!("{id} is not dead")).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.checks().claim(1_000_000_000, 10))
        };
        let mine = table.checks().claim(1_000_000_001, 10);
        assert!(mine ^ other.join().unwrap());
    });
}

/// Catches: a dead participant's id that is issued without recovery, or not issued although no
/// other is free.
#[test]
fn a_join_that_is_not_thorough_recovers_the_dead_if_it_needs_an_id() {
    explore(3, || {
        let (table, kernel) = (table(2), Kernel::new());
        let victim = kernel.holder(9);
        let dead = join(&table, &victim, Role::Producer, false).unwrap();
        victim.die();
        let joiner = |number: u64| {
            let (table, locks) = (table.clone(), kernel.holder(number));
            thread::spawn(move || {
                let mut recovered = 0;
                let seat = table.join(&locks, Role::Producer, false, false, [0; 4], |_| recovered += 1).unwrap();
                (seat, recovered)
            })
        };
        let both = [joiner(1), joiner(2)].map(|joiner| joiner.join().unwrap());
        assert_ne!(both[0].0.id, both[1].0.id);
        for (seat, recovered) in both {
            assert_eq!(recovered, u32::from(seat.id == dead.id));
        }
        assert_eq!(table.lifecycle().ends(Role::Producer), Ends { close: 0, death: dead.ticket });
    });
}
