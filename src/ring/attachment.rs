//! What every ring handle has besides its algorithm: a participant id, its counters, and an eye on its peers.
//!
//! Used by the handles of all three rings. Relies on `segment::participant` for the proof of death and on
//! `segment::lifecycle` for who came and went.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::os::clock::monotonic_ns;
use crate::segment::counters::{Counter, Counters};
use crate::segment::lifecycle::Ends;
use crate::segment::{Participant, Role, WakeMode};
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::SLEEP_CAP;

use super::Ring;

/// Fruitless `try_…` calls between two looks at the clock.
const TRIES_PER_LOOK: u32 = 256;
/// Time between two searches for dead peers by somebody who never sleeps.
const PROBE_NS: u64 = 10_000_000;

/// A handle's seat in a ring.
pub(super) struct Attachment {
    ring: Ring,
    participant: Participant,
    counters: Counters,
    /// Ends of our peers up to here are none of our business.
    baseline: Ends,
    /// What our user was told last: the ends, and whether they were a death.
    told: Mutex<(Ends, bool)>,
    /// The membership at which nobody had ended.
    quiet_membership: AtomicU64,
    tries: AtomicU32,
    last_probe: AtomicU64,
}

impl Attachment {
    /// Joins `ring`; `recover(id)` takes back what the dead `id` holds in it.
    pub(super) fn join(ring: &Ring, role: Role, exclusive: bool, recover: impl FnMut(u16)) -> Result<Self> {
        let participant = Participant::join(ring.segment(), role, exclusive, recover)?;
        let lifecycle = ring.segment().table().lifecycle();
        let baseline = match role {
            // A consumer that starts late must still learn that the producer has finished.
            Role::Consumer => lifecycle.acknowledged(Role::Producer),
            // A producer cares for what happens to consumers from now on.
            Role::Producer => lifecycle.ends(Role::Consumer),
        };
        Ok(Attachment {
            ring: ring.clone(),
            counters: participant.counters(),
            participant,
            baseline,
            told: Mutex::new((baseline, false)),
            quiet_membership: AtomicU64::new(0),
            tries: AtomicU32::new(0),
            last_probe: AtomicU64::new(0),
        })
    }

    #[inline(always)]
    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    #[inline(always)]
    pub(super) fn id(&self) -> u16 {
        self.participant.id()
    }

    #[inline(always)]
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether a peer holds a seat: joining, living, or dead and not yet noticed.
    pub(super) fn has_peer(&self) -> bool {
        self.ring.segment().table().present(self.participant.role().peer()) > 0
    }

    /// What a `try_…` that found nothing asks: have our peers ended? A load, as long as nobody has come or gone; now and then
    /// (never in poll mode, where even that is too much) a search for the dead.
    pub(super) fn glance(&self, recover: impl FnMut(u16)) -> Result<Option<Ends>> {
        let membership = self.ring.segment().table().lifecycle().membership();
        if membership != self.quiet_membership.load(Ordering::Relaxed) {
            if let Some(ends) = self.peers_ended() {
                return Ok(Some(ends));
            }
            self.quiet_membership.store(membership, Ordering::Relaxed);
        }
        if self.ring.wake() != WakeMode::Poll && self.is_probe_due() {
            self.bury_dead(recover)?;
        }
        Ok(None)
    }

    fn is_probe_due(&self) -> bool {
        let tries = self.tries.load(Ordering::Relaxed).wrapping_add(1);
        self.tries.store(tries, Ordering::Relaxed);
        if tries % TRIES_PER_LOOK != 0 {
            return false;
        }
        let now = monotonic_ns();
        if now.saturating_sub(self.last_probe.load(Ordering::Relaxed)) < PROBE_NS {
            return false;
        }
        self.last_probe.store(now, Ordering::Relaxed);
        true
    }

    /// What a blocking call asks before it sleeps: buries the dead, and says whether our peers have ended. Some lock calls.
    pub(super) fn look_around(&self, recover: impl FnMut(u16)) -> Result<Option<Ends>> {
        self.bury_dead(recover)?;
        Ok(self.peers_ended())
    }

    fn bury_dead(&self, recover: impl FnMut(u16)) -> Result<usize> {
        let buried = self.participant.reap_dead(recover)?;
        if buried > 0 {
            self.ring.wake_all();
        }
        Ok(buried)
    }

    fn peers_ended(&self) -> Option<Ends> {
        self.participant.peers_ended(self.baseline)
    }

    /// Remembers that our user is being told of `ends`, and says what to tell. The same answer until somebody new ends.
    pub(super) fn tell(&self, ends: Ends) -> Error {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if told.0 != ends {
            *told = (ends, ends.death > told.0.death);
            self.participant.report(ends);
        }
        if told.1 { Error::PeerDead } else { Error::Closed }
    }

    /// Blocks until a peer is attached. Sleeps in short naps: nothing wakes us for this.
    pub(super) fn wait_for_peer(&self, deadline: Deadline, mut recover: impl FnMut(u16)) -> Result<()> {
        loop {
            self.bury_dead(&mut recover)?;
            if self.has_peer() {
                return Ok(());
            }
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(Error::Timeout);
            }
            std::thread::sleep(left.min(SLEEP_CAP / 10));
        }
    }

    /// Leaves, and wakes everybody who may be waiting for us. The second time, and in a forked child, does nothing.
    pub(super) fn leave(&mut self) {
        if self.participant.is_attached() {
            self.participant.leave();
            self.ring.wake_all();
        }
    }

    /// Whether we still have to leave: false in a forked child, whose copy of a handle must not touch the ring.
    pub(super) fn is_attached(&self) -> bool {
        self.participant.is_attached()
    }

    /// Makes the drop that follows a death by `SIGKILL`.
    #[cfg(test)]
    pub(super) fn doom_for_test(&mut self) {
        self.participant.doom_for_test();
    }

    /// In a child of the process that attached, every handle is dead weight.
    pub(super) fn check_fork(&self) -> Result<()> {
        self.participant.check_fork()
    }

    /// Adds to a counter of this participant.
    #[inline(always)]
    pub(super) fn count(&self, counter: Counter, n: u64) {
        self.counters.add(counter, n);
    }
}
