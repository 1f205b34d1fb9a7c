//! What a publisher does about subscribers that leave no room: how long it waits for them, and when
//! it evicts them.
//!
//! Used by the handle in `publisher.rs`. Relies on `gate.rs`, which finds the slowest and evicts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gate::{self, Slow};
use crate::os::clock::monotonic_ns;
use crate::ring::attachment::{Attachment, Fan};
use crate::wait::eventcount::SLEEP_CAP;

/// What a publisher does when a reliable subscriber leaves no room for a frame.
///
/// Whatever it is, a dead subscriber is let go at once, and a lossy one never leaves no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// Blocking calls wait for it; `try_…` calls fail with [`Error::Full`](crate::Error::Full).
    #[default]
    Block,
    /// All calls fail with [`Error::Full`](crate::Error::Full) at once.
    Fail,
    /// As `Block`; but a subscriber that has left no room for that long is evicted by the next call
    /// that needs the room. Its next call fails with [`Error::Evicted`](crate::Error::Evicted). A
    /// subscriber that holds a view or a batch is evicted when it has dropped that. One that it has
    /// forgotten ([`std::mem::forget`]) counts as held until it has received, and dropped, that
    /// frame again.
    Evict {
        /// How long the publisher waits for one subscriber, from its first call that found no room.
        /// With zero that call evicts it: all subscribers must keep up, however fast they are.
        after: Duration,
    },
}

/// The shortest sleep of a publisher that waits to evict.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

/// When a call may evict a subscriber, for waits on behalf of the publisher: in nanoseconds of the
/// monotonic clock.
#[derive(Debug)]
pub(crate) struct Due(AtomicU64);

impl Due {
    const NEVER: u64 = u64::MAX;
    /// No call has found a subscriber that leaves no room: the next one finds it.
    const AT_ONCE: u64 = 0;

    /// Relaxed, as the load: nothing is read by it, and a set that sleeps looks again.
    fn set(&self, at: u64) {
        self.0.store(at, Ordering::Relaxed);
    }

    /// The time until then, if there is any.
    pub(in crate::ring) fn left(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::NEVER => None,
            Self::AT_ONCE => Some(Duration::ZERO),
            at => Some(Duration::from_nanos(at.saturating_sub(monotonic_ns()))),
        }
    }

    /// Whether a call may evict a subscriber now, or has to find one first.
    pub(in crate::ring) fn is_over(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }

    /// How long a sleeper waits for room until it is time for the next call.
    pub(in crate::ring) fn longest_sleep(&self) -> Duration {
        self.left().unwrap_or(SLEEP_CAP).clamp(SHORTEST_SLEEP, SLEEP_CAP)
    }
}

/// The subscriber that leaves no room, and since when.
#[derive(Clone, Copy)]
struct Wait {
    slow: Slow,
    since: u64,
}

/// A publisher's policy, and the subscriber that it waits for.
pub(super) struct Patience {
    policy: SlowPolicy,
    blocked: Option<Wait>,
    evicted: u64,
    due: Arc<Due>,
}

impl Patience {
    pub(super) fn new() -> Self {
        let due = Arc::new(Due(AtomicU64::new(Due::NEVER)));
        Patience { policy: SlowPolicy::default(), blocked: None, evicted: 0, due }
    }

    pub(super) fn policy(&self) -> SlowPolicy {
        self.policy
    }

    pub(super) fn set_policy(&mut self, policy: SlowPolicy) {
        self.policy = policy;
        self.end();
    }

    /// How many subscribers were evicted.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn due(&self) -> &Arc<Due> {
        &self.due
    }

    /// There is room: no subscriber is waited for.
    pub(super) fn end(&mut self) {
        self.blocked = None;
        self.due.set(if matches!(self.policy, SlowPolicy::Evict { .. }) { Due::AT_ONCE } else { Due::NEVER });
    }

    /// Whether the subscriber that leaves no room has been let go: because the policy says so, by a
    /// predecessor that died meanwhile, or because there is none.
    pub(super) fn lets_go(&mut self, core: &mut gate::Publisher, attachment: &Attachment<Fan>, slow: Slow) -> bool {
        if core.is_evicted(slow) {
            return core.evict(slow);
        }
        // A participant has an id for longer than an entry: this one is forged.
        if attachment.is_absent(slow.id) {
            core.disown(slow);
            return true;
        }
        let SlowPolicy::Evict { after } = self.policy else { return false };
        let (now, after) = (monotonic_ns(), u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let wait = match self.blocked {
            Some(wait) if wait.slow == slow => wait,
            _ => Wait { slow, since: now },
        };
        self.blocked = Some(wait);
        let time = wait.since.saturating_add(after);
        if now < time {
            self.due.set(time);
            return false;
        }
        let is_evicted = core.evict(slow);
        self.evicted += u64::from(is_evicted);
        if !is_evicted {
            // It holds a view, and does not tell when it drops it: the longer this lasts, the less
            // often the guard is looked at.
            let pause = Duration::from_nanos(now - time).clamp(SHORTEST_SLEEP, SLEEP_CAP);
            self.due.set(now.saturating_add(pause.as_nanos() as u64));
        }
        is_evicted
    }
}
