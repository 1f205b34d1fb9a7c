//! The part of a ring handle that does not depend on its algorithm: join, wait, notice the end of
//! peers, count, wake, leave.
//!
//! Used by the handles of all three rings, each of which is an algorithm (`core.rs`) and an
//! [`Attachment`]. Relies on `segment::liveness` to notice deaths, joins and ends, on `wait/` for
//! sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use super::Ring;
use super::by_kind::is_exclusive;
use super::readiness::{Look, Readable};
use crate::error::{Error, Result};
use crate::os::clock::{coarse_ns, monotonic_ns};
use crate::os::fork;
use crate::os::owner_thread::OwnerThread;
use crate::segment::counters::{Counter, Counters};
use crate::segment::{Ends, Kind, Participant, Role, State, WakeMode};
use crate::set::source::Readiness;
use crate::wait::block::{Check, block_on};
use crate::wait::cancel::{Cancellable, Canceller, Sleepers};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{ALL, Many, One, SLEEP_CAP, Sleep};
use crate::wait::idle::{CHECK_NS, Idle, Pace};

/// Time between two checks for dead participants where there are many sleepers. The sleeper that
/// made the last check makes the next one, because its sleep ends then.
pub(super) const TURN_NS: u64 = SLEEP_CAP.as_nanos() as u64 * 9 / 10;
/// A membership that does not occur: every change adds one.
const NO_MEMBERSHIP: u64 = u64::MAX;
/// `try_…` calls without a result between two readings of the clock.
const TRIES_PER_READING: u32 = 256;

/// The eventcount at one end of a ring, and the kind of handles that use it.
pub(super) trait Edge: Sleep + Sleepers + Sized + 'static {
    /// Whether several threads can use a handle.
    const SHARED: bool;

    /// The eventcounts of `ring`: that of the consumers, and that of the producers.
    fn both(ring: &Ring) -> (Self, Self);

    /// Wakes up to `count` sleepers; returns whether that took a system call.
    fn notify(&self, count: u32) -> bool;
}

impl Edge for One {
    const SHARED: bool = false;

    fn both(ring: &Ring) -> (Self, Self) {
        ring.events_one()
    }

    #[inline(always)]
    fn notify(&self, _: u32) -> bool {
        One::notify(self)
    }
}

impl Edge for Many {
    const SHARED: bool = true;

    fn both(ring: &Ring) -> (Self, Self) {
        ring.events_many()
    }

    #[inline(always)]
    fn notify(&self, count: u32) -> bool {
        Many::notify(self, count)
    }
}

/// The eventcount at one end of a broadcast ring or of a board of latest values: one sender and many
/// receivers, each used by one thread at a time. What wakes one wakes all.
pub(super) struct Fan(Many);

impl Sleep for Fan {
    fn sleep(&self, timeout: Duration, ready: &mut dyn FnMut() -> bool) -> bool {
        self.0.sleep(timeout, ready)
    }
}

impl Sleepers for Fan {
    fn wake_all(&self) {
        self.0.wake_all();
    }
}

impl Edge for Fan {
    const SHARED: bool = false;

    fn both(ring: &Ring) -> (Self, Self) {
        let (data, space) = ring.events_many();
        (Fan(data), Fan(space))
    }

    #[inline(always)]
    fn notify(&self, _: u32) -> bool {
        self.0.notify(ALL)
    }
}

/// A participant of a ring, with its eventcounts and the ends that were reported to it. Dropping it
/// leaves the ring.
pub(super) struct Attachment<E: Edge> {
    ring: Ring,
    /// The eventcount of our role, and whether our calls were cancelled.
    ours: Arc<Cancellable<E>>,
    /// The eventcount of our peers.
    theirs: E,
    pace: Pace,
    counters: Counters,
    /// The thread that counts without read-modify-writes, where threads share a handle.
    owner: OwnerThread,
    /// The ends of peers that happened before we joined.
    baseline: Ends,
    /// The membership at which no peer had ended.
    quiet_membership: AtomicU64,
    tries: AtomicU32,
    /// Whether sending fails while no consumer is attached.
    needs_consumer: bool,
    /// The fork generation in which a call that sends has nothing to check first.
    unchecked_generation: u32,
    /// The membership at which a consumer was attached, if one is required.
    attended_membership: AtomicU64,
    /// Whether joining has recovered what dead participants held.
    has_recovered: bool,
    participant: Participant,
}

impl<E: Edge> Attachment<E> {
    /// Joins `ring`, which must be of `kind`; recovers what dead participants held in it.
    pub(super) fn join(ring: &Ring, kind: Kind, role: Role) -> Result<Self> {
        Self::join_at(ring, kind, role, |_| {
            let (data, space) = E::both(ring);
            Ok(match role {
                Role::Consumer => (data, space),
                Role::Producer => (space, data),
            })
        })
    }

    /// [`Attachment::join`] at eventcounts that depend on the id: where to wait, and whom to wake. If
    /// that fails, it leaves.
    pub(super) fn join_at(
        ring: &Ring,
        kind: Kind,
        role: Role,
        events: impl FnOnce(u16) -> Result<(E, E)>,
    ) -> Result<Self> {
        ring.expect(kind)?;
        ring.segment().check_writable()?;
        let (mut recovered, mut has_recovered) = (Ok(()), false);
        let participant = Participant::join(ring.segment(), role, is_exclusive(kind, role), |id| {
            has_recovered = true;
            if let Err(e) = ring.recover(id) {
                recovered = Err(e);
            }
        })?;
        recovered?;
        let (ours, theirs) = events(participant.id())?;
        let needs_consumer = role == Role::Producer && ring.needs_consumer();
        let generation = participant.generation();
        Ok(Attachment {
            ring: ring.clone(),
            ours: Cancellable::new(ours),
            theirs,
            pace: Pace::new(ring.idle()),
            counters: participant.counters(),
            owner: OwnerThread::new(),
            baseline: participant.reported(),
            quiet_membership: AtomicU64::new(0),
            tries: AtomicU32::new(0),
            needs_consumer,
            // Generations only grow, so the one before does not come again.
            unchecked_generation: if needs_consumer { generation.wrapping_sub(1) } else { generation },
            attended_membership: AtomicU64::new(NO_MEMBERSHIP),
            has_recovered,
            participant,
        })
    }

    /// Call this once the handle is complete. It wakes participants that may wait for something
    /// that was recovered, or that a successor of the only producer or consumer has published. In a
    /// ring of many participants it wakes none otherwise, unless there are few of them (so sets
    /// learn whom to watch): waking n sleepers at each of n joins would take n² wake-ups, and
    /// participants that wait for a peer check for themselves.
    pub(super) fn announce(&self) {
        let few = self.ring.segment().table().checks().are_few();
        if is_exclusive(self.ring.kind(), self.participant.role()) || self.has_recovered || few {
            self.ring.wake_all();
        }
    }

    #[inline(always)]
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    #[inline(always)]
    pub(super) fn id(&self) -> u16 {
        self.participant.id()
    }

    /// The eventcount of our role.
    pub(super) fn event(&self) -> &E {
        &self.ours.sleepers
    }

    pub(super) fn canceller(&self) -> Canceller {
        self.ours.canceller()
    }

    pub(super) fn set_idle(&self, idle: Idle) {
        self.pace.set_idle(idle);
    }

    /// Whether another participant of our role is attached: joining, living, or dead and not yet
    /// noticed. For a participant that has left.
    fn has_fellow(&self) -> bool {
        self.ring.segment().table().present(self.participant.role()) > 0
    }

    /// Whether a peer is attached: joining, living, or dead and not yet noticed.
    pub(super) fn has_peer(&self) -> bool {
        self.ring.segment().table().present(self.participant.role().peer()) > 0
    }

    /// Blocks until a peer is attached. Sleeps for short times, because no peer wakes us for this.
    pub(super) fn wait_for_peer(&self, deadline: Deadline) -> Result<()> {
        // A dead peer does not count, so this check is not shared.
        self.reap_dead_now()?;
        loop {
            if self.has_peer() {
                return Ok(());
            }
            if self.ours.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(Error::Timeout);
            }
            std::thread::sleep(left.min(SLEEP_CAP / 10));
            self.reap_dead()?;
        }
    }

    /// The result of a `try_…` call that found the ring full (a producer) or empty (a consumer). If
    /// the peers have ended, calls `again` and returns its result; otherwise returns `Full` or
    /// `Empty`. One load as long as no participant has joined or left. From time to time, but not
    /// in poll mode, it also checks for dead participants.
    pub(super) fn explain<T>(&self, mut again: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        self.count_nothing();
        let (ends, reaped) = self.poll_peers()?;
        if ends.is_some() || reaped {
            // By SYNC(ticket), everything that the ended participants committed or released is
            // visible now.
            if let Some(found) = again()? {
                return Ok(found);
            }
        }
        Err(match (ends, self.participant.role()) {
            (Some(ends), _) => self.participant.report(ends),
            (None, Role::Producer) => Error::Full,
            (None, Role::Consumer) => Error::Empty,
        })
    }

    /// Waits at our end of the ring until `attempt` returns something, the peers have ended, or the
    /// deadline passes.
    ///
    /// `prepare` is called before every sleep and before the last attempt; it returns the longest
    /// sleep.
    pub(super) fn wait<T>(
        &self,
        deadline: Deadline,
        attempt: impl FnMut() -> Result<Option<T>>,
        mut prepare: impl FnMut() -> Duration,
    ) -> Result<T> {
        self.count_nothing();
        let mut ended = None;
        let attempt = self.ours.unless_cancelled(attempt);
        let outcome = block_on(&self.ours.sleepers, &self.pace, deadline, attempt, |check| {
            let usual = prepare();
            let longest;
            (ended, longest) = self.check_peers(check, usual)?;
            if ended.is_some() {
                return Err(Error::Closed);
            }
            if self.needs_consumer {
                self.check_attendance(check == Check::Thorough)?;
            }
            Ok(longest)
        });
        self.count(Counter::Sleeps, self.pace.take_sleeps());
        match (outcome, ended) {
            (Err(Error::Closed), Some(ends)) => Err(self.participant.report(ends)),
            (outcome, _) => outcome,
        }
    }

    fn count_nothing(&self) {
        self.count(
            match self.participant.role() {
                Role::Producer => Counter::Full,
                Role::Consumer => Counter::Empty,
            },
            1,
        );
    }

    /// The ends of our peers, and whether dead participants were reaped. Cheap, but may notice an
    /// end late.
    fn poll_peers(&self) -> Result<(Option<Ends>, bool)> {
        let reaped = self.ring.wake_mode() != WakeMode::Poll && self.is_search_due() && self.reap_dead()? > 0;
        Ok((self.news_of_ends(), reaped))
    }

    /// The ends of our peers, if none of them is left. One load as long as no participant has
    /// joined or left.
    fn news_of_ends(&self) -> Option<Ends> {
        let membership = self.ring.segment().table().lifecycle().membership();
        if membership == self.quiet_membership.load(Ordering::Relaxed) {
            return None;
        }
        let ends = self.participant.peers_ended(self.baseline);
        if ends.is_none() {
            self.quiet_membership.store(membership, Ordering::Relaxed);
        }
        ends
    }

    /// Reaps dead participants from time to time, but not in poll mode. For a consumer that does not
    /// come to wait, because other peers keep it busy.
    pub(super) fn reap_at_times(&self) -> Result<()> {
        if self.ring.wake_mode() != WakeMode::Poll && self.is_search_due() {
            self.reap_dead()?;
        }
        Ok(())
    }

    fn is_search_due(&self) -> bool {
        let tries = self.tries.load(Ordering::Relaxed).wrapping_add(1);
        self.tries.store(tries, Ordering::Relaxed);
        if tries % TRIES_PER_READING != 0 {
            return false;
        }
        let now = monotonic_ns();
        let due = self.pace.is_check_due(now);
        if due {
            self.pace.checked(now);
        }
        due
    }

    /// Whether our peers have ended, for a blocking call before it sleeps or times out. A thorough
    /// check first reaps dead participants, by some lock calls, unless another participant makes
    /// that check. Also returns the longest sleep, which is usually `usual`.
    fn check_peers(&self, check: Check, usual: Duration) -> Result<(Option<Ends>, Duration)> {
        if check == Check::Quick {
            return Ok((self.news_of_ends(), usual));
        }
        let shortest = (usual.as_nanos() as u64).clamp(CHECK_NS, TURN_NS);
        let reaped = self.participant.reap_dead_if_due(shortest, |id| self.recover(id))?;
        self.wake_after(reaped.unwrap_or(0));
        // The membership is not enough: a participant that was killed while it left may not have
        // changed it.
        let ended = self.participant.peers_ended(self.baseline);
        let rest = self.ring.segment().table().checks().rest(usual, self.id());
        if reaped.is_none() {
            return Ok((ended, rest));
        }
        if ended.is_some() && rest > usual {
            // The other participants sleep longer, because they rely on our checks.
            self.ring.wake_all();
        }
        Ok((ended, usual))
    }

    /// Fails if a consumer is required and none is attached: see
    /// [`Options::fail_without_consumer`](super::Options::fail_without_consumer).
    #[inline(never)]
    fn check_consumer(&self) -> Result<()> {
        let now = coarse_ns();
        let thorough = self.pace.is_check_due(now) && self.ring.wake_mode() != WakeMode::Poll;
        if thorough {
            self.pace.checked(now);
            self.reap_dead()?;
        }
        self.check_attendance(thorough)
    }

    /// Fails if no consumer is attached; dead participants that were not reaped count as attached.
    /// Two loads as long as no participant has joined or left. With `exact` it does not rely on the
    /// membership, which a consumer that was killed while it left may not have changed.
    fn check_attendance(&self, exact: bool) -> Result<()> {
        let membership = self.ring.segment().table().lifecycle().membership();
        if !exact && membership == self.attended_membership.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.has_peer() {
            self.attended_membership.store(membership, Ordering::Relaxed);
            return Ok(());
        }
        Err(self.participant.peers_ended(self.baseline).map_or(Error::NoConsumer, |ends| self.participant.report(ends)))
    }

    /// Reaps dead participants, unless one of many participants has just done so.
    fn reap_dead(&self) -> Result<usize> {
        let reaped = self.participant.reap_dead_if_due(CHECK_NS, |id| self.recover(id))?;
        Ok(self.wake_after(reaped.unwrap_or(0)))
    }

    pub(super) fn reap_dead_now(&self) -> Result<usize> {
        Ok(self.wake_after(self.participant.reap_dead(|id| self.recover(id))?))
    }

    /// A slot in an unknown state is reported by the participant that comes to it.
    fn recover(&self, id: u16) {
        let _ = self.ring.recover(id);
    }

    /// Wakes all sleepers if participants were `reaped`; returns how many were.
    fn wake_after(&self, reaped: usize) -> usize {
        if reaped > 0 {
            self.ring.wake_all();
        }
        reaped
    }

    /// Whether no participant has `id`.
    pub(super) fn is_absent(&self, id: u16) -> bool {
        self.ring.segment().table().get(id).state == Some(State::Free)
    }

    /// Whether the participant `id` is proven dead. One system call.
    pub(super) fn is_dead(&self, id: u16) -> bool {
        self.participant.is_dead(id)
    }

    /// Whether we still have to leave: false in a forked child, whose copy of a handle must not
    /// change the ring.
    pub(super) fn is_attached(&self) -> bool {
        self.participant.is_attached()
    }

    /// Wakes up to `count` peers that sleep.
    #[inline(always)]
    pub(super) fn wake_peers(&self, count: u32) {
        if self.theirs.notify(count) {
            self.count(Counter::Wakes, 1);
        }
    }

    /// Wakes up to `count` participants of our own role that sleep.
    #[inline(always)]
    pub(super) fn wake_fellows(&self, count: u32) {
        if self.ours.sleepers.notify(count) {
            self.count(Counter::Wakes, 1);
        }
    }

    /// Whether this is a copy in a forked child of the process that attached, which must not change
    /// the ring. One load.
    #[inline(always)]
    pub(super) fn is_forked(&self) -> bool {
        self.participant.is_forked()
    }

    /// [`Error::Forked`] in a forked child of the process that attached. Every call begins with
    /// this. One load.
    #[inline(always)]
    pub(super) fn check_fork(&self) -> Result<()> {
        self.participant.check_fork()
    }

    /// Every call that sends begins with this: [`Attachment::check_fork`], and whether there is a
    /// consumer if one is required.
    #[inline(always)]
    pub(super) fn check_send(&self) -> Result<()> {
        // One comparison for both questions.
        if self.can_send_unchecked() { Ok(()) } else { self.check_send_fully() }
    }

    /// Whether [`Attachment::check_send`] has nothing more to check.
    #[inline(always)]
    pub(super) fn can_send_unchecked(&self) -> bool {
        !fork::is_child_of(self.unchecked_generation)
    }

    #[inline(never)]
    fn check_send_fully(&self) -> Result<()> {
        self.check_fork()?;
        if self.needs_consumer { self.check_consumer() } else { Ok(()) }
    }

    /// What a set needs to wait at our edge, until `look` finds something or the peers end.
    pub(super) fn readiness(&self, look: Look) -> Readiness {
        Readiness::of(Readable::new(&self.ring, self.participant.role(), look, self.participant.told(), self.baseline))
    }

    /// Adds to a counter of this participant.
    #[inline(always)]
    pub(super) fn count(&self, counter: Counter, n: u64) {
        if !E::SHARED || self.owner.is_current() {
            self.counters.add(counter, n);
        } else {
            self.counters.add_in_other_thread(counter, n);
        }
    }

    /// Adds to `counter` a number of frames, and counts the bytes of their payloads.
    #[inline(always)]
    pub(super) fn count_traffic(&self, counter: Counter, frames: u64, bytes: u64) {
        if !E::SHARED || self.owner.is_current() {
            self.counters.add_traffic(counter, frames, bytes);
        } else {
            self.count_traffic_elsewhere(counter, frames, bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_traffic_elsewhere(&self, counter: Counter, frames: u64, bytes: u64) {
        self.counters.add_in_other_thread(counter, frames);
        self.counters.add_in_other_thread(Counter::Bytes, bytes);
    }

    /// The value that this handle's thread has counted, where only one thread uses the handle.
    pub(super) fn counted(&self, counter: Counter) -> u64 {
        self.counters.counted(counter)
    }

    /// Records the largest backlog.
    pub(super) fn raise_high_water(&self, to: u64) {
        self.counters.raise(Counter::HighWater, to);
    }

    /// Completes the drop after a simulated death by `SIGKILL`.
    #[cfg(test)]
    pub(super) fn doom_for_test(&mut self) {
        self.participant.doom_for_test();
    }
}

impl<E: Edge> Drop for Attachment<E> {
    fn drop(&mut self) {
        if self.participant.is_attached() {
            // Grants and views that were forgotten (`mem::forget`) are still ours, and would block
            // the ring for ever. A damaged slot is reported by the participant that comes to it.
            let gave_back = self.ring.recover(self.id()).unwrap_or(true);
            self.participant.leave();
            // SYNC(last): if two leave at once, the one whose fence comes second sees that the
            // other's record is free.
            fence(Ordering::SeqCst);
            // The sleepers need not know that one of several participants has left, and waking n of
            // them at each of n leaves would take n² wake-ups.
            if is_exclusive(self.ring.kind(), self.participant.role()) || gave_back || !self.has_fellow() {
                self.ring.wake_all();
            }
        }
    }
}
