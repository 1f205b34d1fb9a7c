//! A participant of a segment: an id, the lock that proves that its holder is alive, and the ends
//! it has already reported.
//!
//! Used by every ring handle, which owns one and drops it last. Relies on `table.rs` for the
//! algorithm and on `locks.rs` for an open file description of its own.
//!
//! A child made by `fork(3)` has a copy of the handle but not of its locks (`os/fork.rs`). The copy
//! does nothing when dropped, every call on it fails with [`Error::Forked`], and the parent's death
//! is detected while the child lives.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::lifecycle::Ends;
use super::locks::HeldLocks;
use super::record::Role;
use super::table::Seat;
use crate::error::{Error, Result};
use crate::os::{clock, fork, process};
use crate::segment::counters::Counters;
use crate::segment::geometry::Kind;
use crate::segment::mapping::Segment;

/// A held id. Dropping it leaves in an orderly way, but wakes no peer; rings call
/// [`Participant::leave`] and wake the peers.
pub(crate) struct Participant {
    segment: Arc<Segment>,
    locks: HeldLocks,
    seat: Seat,
    /// The process that joined.
    pid: u32,
    /// How often that process had been forked at the join.
    forks: u32,
    left: bool,
    /// What was reported to our user, or to our predecessors' users.
    told: Arc<Mutex<Told>>,
    /// Admits one reaper at a time: threads that share a description do not exclude each other by
    /// its locks.
    reaping: Mutex<()>,
}

/// The ends of our peers that were reported last, and whether they were a death.
pub(crate) struct Told {
    pub(crate) ends: Ends,
    died: bool,
}

impl Participant {
    /// Attaches to `segment` in `role`. Reaps dead participants first, unless many participants
    /// share their checks and one was made just now: `recover(id)` must reclaim everything that the
    /// dead `id` holds in the ring. An `exclusive` role is refused while a living participant holds
    /// it.
    ///
    /// # Errors
    /// [`Error::RoleTaken`], [`Error::TooManyParticipants`], [`Error::NotFound`] if the segment's
    /// name has been removed and no living participant is attached (open it again), or
    /// [`Error::Io`].
    pub(crate) fn join(segment: &Arc<Segment>, role: Role, exclusive: bool, recover: impl FnMut(u16)) -> Result<Self> {
        let locks = segment.new_locks()?;
        let thorough = exclusive || segment.table().checks().claim(clock::monotonic_ns(), 0);
        let join = || segment.table().join(&locks, role, exclusive, thorough, identity(), recover);
        let seat = segment.while_named(&locks, join)?;
        let lifecycle = segment.table().lifecycle();
        let ends = match role {
            // The end of an only producer concerns every one of its consumers, also those that come
            // later; the ends of those before it do not.
            Role::Consumer if matches!(segment.geometry().kind, Kind::Latest | Kind::Broadcast) => {
                lifecycle.ends_before_last(Role::Producer)
            }
            // A consumer that starts late must still notice that the producer has closed.
            Role::Consumer => lifecycle.acknowledged(Role::Producer),
            // A producer gets only the ends of consumers from now on.
            Role::Producer => lifecycle.ends(Role::Consumer),
        };
        Ok(Participant {
            segment: Arc::clone(segment),
            locks,
            seat,
            pid: std::process::id(),
            forks: fork::generation(),
            left: false,
            told: Arc::new(Mutex::new(Told { ends, died: false })),
            reaping: Mutex::new(()),
        })
    }

    /// The id: 1..=4095, unique among living participants.
    pub(crate) fn id(&self) -> u16 {
        self.seat.id
    }

    pub(crate) fn role(&self) -> Role {
        self.seat.role
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// This id's counters.
    pub(crate) fn counters(&self) -> Counters {
        self.segment.table().counters(self.seat.id)
    }

    /// Whether this is a copy in a child of the process that joined. One load, cheap enough for
    /// every call.
    #[inline(always)]
    pub(crate) fn is_forked(&self) -> bool {
        fork::is_child_of(self.forks)
    }

    /// The fork generation of the process that joined.
    pub(crate) fn generation(&self) -> u32 {
        self.forks
    }

    /// [`Error::Forked`] in a child of the process that joined. One load, cheap enough for every
    /// call.
    #[inline(always)]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    /// As [`Participant::check_fork`], but also detects children that the C library did not create.
    /// One system call.
    fn check_process(&self) -> Result<()> {
        if std::process::id() == self.pid { self.check_fork() } else { Err(Error::Forked) }
    }

    /// Reaps every dead participant, and returns how many there were: wake all waiters if there
    /// were any. One system call per id in use.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child process (there its parent's locks would look free),
    /// [`Error::Io`].
    pub(crate) fn reap_dead(&self, recover: impl FnMut(u16)) -> Result<usize> {
        self.check_process()?;
        let _one_at_a_time = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        self.segment.table().reap(&self.locks, self.seat.id, recover)
    }

    /// As [`Participant::reap_dead`], but `None` if many participants are attached and one of them
    /// did so less than `shortest_ns` ago, or a little longer ago if there are very many
    /// (`checks.rs`).
    ///
    /// # Errors
    /// As [`Participant::reap_dead`].
    pub(crate) fn reap_dead_if_due(&self, shortest_ns: u64, recover: impl FnMut(u16)) -> Result<Option<usize>> {
        self.check_fork()?;
        if self.segment.table().checks().claim(clock::monotonic_ns(), shortest_ns) {
            self.reap_dead(recover).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Whether a participant that is proven dead and not yet reaped holds `id`. False if that
    /// cannot be determined. One system call.
    pub(crate) fn is_dead(&self, id: u16) -> bool {
        !self.is_forked() && id != self.seat.id && self.segment.table().is_dead(&self.locks, id).unwrap_or(false)
    }

    /// The end of our peers' role, if it is newer than `known` and no participant of the role is
    /// left. Call it after [`Participant::reap_dead`], check the ring once more, then
    /// [`Participant::report`]. No system call.
    pub(crate) fn peers_ended(&self, known: Ends) -> Option<Ends> {
        self.segment.table().ended(self.seat.role.peer(), known)
    }

    /// Records that `ends` are reported to our user, and returns the error to report:
    /// [`Error::Closed`] or [`Error::PeerDead`]. It is the same until another peer ends.
    pub(crate) fn report(&self, ends: Ends) -> Error {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.is_newer_than(told.ends) {
            // A death since the last report takes precedence over a close.
            *told = Told { ends, died: ends.death > told.ends.death };
        }
        if told.died { Error::PeerDead } else { Error::Closed }
    }

    /// What was reported, for one that outlives this participant.
    pub(crate) fn told(&self) -> Weak<Mutex<Told>> {
        Arc::downgrade(&self.told)
    }

    /// Leaves; does nothing the second time, and in a forked child. The caller must hold nothing in
    /// the ring any more. Wake the peers afterwards.
    pub(crate) fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) && self.check_process().is_ok() {
            // Only unlocking can fail, and closing the description unlocks, too.
            let _ = self.segment.table().leave(&self.locks, self.seat, self.reported());
        }
    }

    /// Does what `SIGKILL` does: the locks are released, and everything else stays as it is.
    #[cfg(test)]
    pub(crate) fn kill_for_test(mut self) {
        self.doom_for_test();
    }

    /// Completes the drop after a simulated death: see [`Participant::kill_for_test`].
    ///
    /// Unlocks explicitly. Other tests of this process fork, and their children share our open file
    /// description until they execute something or exit; closing our copy would not release the
    /// locks before.
    #[cfg(test)]
    pub(crate) fn doom_for_test(&mut self) {
        use super::table::Locks;
        self.left = true;
        for byte in [u64::from(self.seat.id), self.seat.role.lock()] {
            self.locks.unlock(byte).unwrap();
        }
    }

    /// Whether it is attached: it has not left, and is not a copy in a forked child.
    pub(crate) fn is_attached(&self) -> bool {
        !self.left && !self.is_forked()
    }

    /// The ends that were reported to our user, or to our predecessors' users.
    pub(crate) fn reported(&self) -> Ends {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).ends
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.leave();
    }
}

fn identity() -> [u64; 4] {
    if cfg!(miri) {
        return [u64::from(std::process::id()), 0, 0, 0];
    }
    let [process, start_time, pidfd_inode] = process::identity().encode();
    [process, start_time, pidfd_inode, clock::monotonic_ns()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::counters::Counter;
    use crate::segment::geometry::{Geometry, Settings};

    fn segment() -> Arc<Segment> {
        let settings = Settings { participants: 3, ..Settings::default() };
        Segment::heap(Geometry::mpmc(4, 8, &settings).unwrap()).unwrap()
    }

    fn join(segment: &Arc<Segment>, role: Role) -> Participant {
        Participant::join(segment, role, false, |id| panic!("{id} is not dead")).unwrap()
    }

    #[test]
    fn ids_are_unique_while_held_and_bounded() {
        let segment = segment();
        let (a, b, c) =
            (join(&segment, Role::Producer), join(&segment, Role::Consumer), join(&segment, Role::Consumer));
        assert_eq!([a.id(), b.id(), c.id()], [1, 2, 3]);
        let full = Participant::join(&segment, Role::Producer, false, |_| ()).err();
        assert!(matches!(full, Some(Error::TooManyParticipants { max: 3 })));
        drop(b);
        assert_eq!(join(&segment, Role::Producer).id(), 2);
        assert_eq!(segment.table().present(Role::Producer), 1);
    }

    #[test]
    fn an_exclusive_role_is_free_after_a_close_or_a_death() {
        let segment = segment();
        let exclusive = || Participant::join(&segment, Role::Producer, true, |_| ());
        let first = exclusive().unwrap();
        assert!(matches!(exclusive(), Err(Error::RoleTaken { role: "producer" })));
        drop(first);
        exclusive().unwrap().kill_for_test();
        let third = exclusive().unwrap();
        assert_eq!(segment.table().present(Role::Producer), 1);
        assert_eq!(segment.table().lifecycle().ends(Role::Producer), Ends { close: 1, death: 2 });
        drop(third);
    }

    #[test]
    fn a_dead_participant_is_reaped_before_its_id_is_reused() {
        let segment = segment();
        let survivor = join(&segment, Role::Consumer);
        let victim = join(&segment, Role::Producer);
        let id = victim.id();
        assert!(!survivor.is_dead(id));
        assert!(
            !survivor.is_dead(survivor.id()) && !survivor.is_dead(0) && !survivor.is_dead(4) && !survivor.is_dead(9)
        );
        victim.kill_for_test();
        assert!(survivor.is_dead(id));
        let mut swept = Vec::new();
        let next = Participant::join(&segment, Role::Producer, false, |id| swept.push(id)).unwrap();
        assert_eq!((next.id(), swept), (id, vec![id]));
        assert!(!survivor.is_dead(id), "the id has a living holder again");
        assert_eq!(survivor.reap_dead(|id| panic!("{id} is not dead")).unwrap(), 0);
    }

    #[test]
    fn many_participants_share_their_checks_and_joins_reap_by_the_same_rule() {
        const LONG: u64 = 1_000_000_000;
        let settings = Settings { participants: 200, ..Settings::default() };
        let segment = Segment::heap(Geometry::mpmc(4, 8, &settings).unwrap()).unwrap();
        let join = || Participant::join(&segment, Role::Consumer, false, |_| ()).unwrap();
        let mut living: Vec<_> = (0..100).map(|_| join()).collect();
        // A busy machine may take more than a second, but not every time.
        let shared = (0..20).any(|_| {
            living[0].reap_dead(|_| ()).unwrap();
            let began = clock::monotonic_ns();
            segment.table().checks().claim(began, 0);
            living.pop().unwrap().kill_for_test();
            let reaped: usize = living.iter().filter_map(|one| one.reap_dead_if_due(LONG, |_| ()).unwrap()).sum();
            clock::monotonic_ns() - began < LONG && reaped == 0
        });
        assert!(shared, "each checks for itself");
        let victims = segment.table().present(Role::Consumer) - living.len();
        assert!(victims > 0);
        // The participant that claimed the last check does not make it; the next pause ends
        // nevertheless.
        let mut reaped = 0;
        while reaped == 0 {
            reaped = living.iter().filter_map(|one| one.reap_dead_if_due(1, |_| ()).unwrap()).sum();
        }
        assert_eq!((reaped, segment.table().present(Role::Consumer)), (victims, living.len()));
    }

    #[test]
    fn an_end_is_reported_once_after_the_last_peer_departed_and_not_to_successors() {
        let segment = segment();
        let (one, two) = (join(&segment, Role::Producer), join(&segment, Role::Producer));
        let consumer = join(&segment, Role::Consumer);
        assert_eq!(consumer.peers_ended(consumer.reported()), None, "nothing has ended");
        drop(two);
        assert_eq!(consumer.peers_ended(consumer.reported()), None, "one is left");
        one.kill_for_test();
        assert_eq!(consumer.peers_ended(consumer.reported()), None, "a dead participant is not reaped yet");
        assert_eq!(consumer.reap_dead(|_| ()).unwrap(), 1);
        let ends = consumer.peers_ended(consumer.reported()).unwrap();
        assert!(matches!(consumer.report(ends), Error::PeerDead));
        assert_eq!(consumer.peers_ended(consumer.reported()), None, "told");
        drop(consumer);
        let successor = join(&segment, Role::Consumer);
        assert_eq!(successor.peers_ended(successor.reported()), None, "its predecessor was told");

        drop(join(&segment, Role::Producer));
        let ends = successor.peers_ended(successor.reported()).unwrap();
        successor.kill_for_test();
        let heir = Participant::join(&segment, Role::Consumer, false, |_| ()).unwrap();
        assert_eq!(heir.peers_ended(heir.reported()), Some(ends), "it was not reported before");
        assert!(matches!(heir.report(ends), Error::Closed));
    }

    #[test]
    fn every_join_and_leave_changes_the_membership() {
        let segment = segment();
        let lifecycle = segment.table().lifecycle();
        let mut known = lifecycle.membership();
        let mut changed = || std::mem::replace(&mut known, lifecycle.membership()) != lifecycle.membership();
        assert!(!changed());
        let (one, two) = (join(&segment, Role::Consumer), join(&segment, Role::Producer));
        assert!(changed());
        two.kill_for_test();
        assert!(!changed(), "a death changes nothing by itself");
        one.reap_dead(|_| ()).unwrap();
        assert!(changed());
        drop(one);
        assert!(changed());
    }

    #[test]
    fn counters_outlive_their_holders() {
        let segment = segment();
        for _ in 0..2 {
            let participant = join(&segment, Role::Producer);
            participant.counters().add(Counter::Sent, 5);
            participant.counters().raise(Counter::HighWater, 7);
        }
        let other = join(&segment, Role::Consumer);
        let another = join(&segment, Role::Consumer);
        another.counters().raise(Counter::HighWater, 9);
        other.counters().add(Counter::Received, 10);
        let counts = segment.counts();
        assert_eq!((counts.sent, counts.received, counts.high_water, counts.lost), (10, 10, 9, 0));
    }
}
