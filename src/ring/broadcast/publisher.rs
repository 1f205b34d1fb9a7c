//! The publisher's handle: sending by copy, by grant and in batches
//! (`send_calls.rs`), and what to do about slow subscribers.
//!
//! Relies on `gate.rs` for the algorithm, on `attachment.rs` for waiting and for liveness.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::gate::{self, Blocked, Slow};
use crate::error::{Error, Result};
use crate::frame::{Header, Sequencer, StagedNumbers};
use crate::os::clock::monotonic_ns;
use crate::ring::attachment::{Attachment, Fan};
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::send_calls::send_calls;
use crate::ring::spsc::core;
use crate::ring::spsc::layout::Fault;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::SLEEP_CAP;

/// What a publisher does when a reliable subscriber leaves no room for a frame.
///
/// Whatever it is, a dead subscriber is let go at once, and a lossy one never leaves no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowPolicy {
    /// Blocking calls wait for it; `try_…` calls fail with [`Error::Full`].
    #[default]
    Block,
    /// All calls fail with [`Error::Full`] at once.
    Fail,
    /// As `Block`; but a subscriber that has left no room for that long is evicted by the next call
    /// that needs the room. Its next call fails with [`Error::Evicted`]. A subscriber that holds a
    /// view or a batch is evicted when it has dropped that.
    Evict {
        /// How long the publisher waits for one subscriber.
        after: Duration,
    },
}

/// The publisher. A ring has one at a time: a successor can attach when it is dropped, or when its
/// process has died.
///
/// Every `try_…` call allocates no memory. It is wait-free, and makes no system call except to wake
/// sleeping subscribers, as long as no reliable subscriber leaves no room; then it looks at all
/// subscribers, and asks the kernel whether the slowest is dead (one system call).
///
/// Subscribers may read what the publisher overwrites, so it is written by atomics
/// (`docs/memory-model.md`), also through a grant.
pub struct Publisher {
    core: gate::Publisher,
    policy: SlowPolicy,
    blocked: Option<Wait>,
    evicted: u64,
    sequencer: Sequencer,
    staged_numbers: StagedNumbers,
    attachment: Attachment<Fan>,
    /// A publisher is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

/// The subscriber that leaves no room, and since when.
#[derive(Clone, Copy)]
struct Wait {
    slow: Slow,
    since: u64,
}

common_calls!(producer Publisher, "broadcast::Publisher", attachment, "this handle");
send_calls!(
    Publisher, "broadcast", core.bytes,
    who: "the subscribers",
    when: "a reliable subscriber leaves no room ([`SlowPolicy`])",
    full: "[`Error::Full`] until the slowest reliable subscriber releases frames; [`Error::TooLarge`].",
    errors: "[`Error::TooLarge`]; [`Error::Full`] with [`SlowPolicy::Fail`]; [`Error::Cancelled`]."
);

impl Publisher {
    /// Opens or creates the named ring, and attaches to it as its publisher.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Publisher::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Broadcast, name, options, Self::attach)
    }

    /// Attaches to the ring as its publisher, and continues behind the last committed frame,
    /// however its publisher ended. Some system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while a living publisher is attached; [`Error::Incompatible`] for
    /// another kind of ring; [`Error::Corrupt`] if the chain of frames is damaged; [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Error, Options, Ring, broadcast::Publisher};
    /// let ring = Ring::create_anonymous(&Options::broadcast(4096))?;
    /// let first = Publisher::attach(&ring)?;
    /// assert!(matches!(Publisher::attach(&ring), Err(Error::RoleTaken { .. })));
    /// drop(first);
    /// Publisher::attach(&ring)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Broadcast)?;
        let attachment = Attachment::join(ring, Kind::Broadcast, Role::Producer)?;
        let core = gate::Publisher::attach(ring.broadcast_shared()).map_err(Fault::error)?;
        attachment.announce();
        Ok(Publisher {
            core,
            policy: SlowPolicy::default(),
            blocked: None,
            evicted: 0,
            sequencer: Sequencer::new(),
            staged_numbers: StagedNumbers::default(),
            attachment,
            _not_sync: PhantomData,
        })
    }

    /// Sets what happens when a reliable subscriber leaves no room ([`SlowPolicy::Block`] at
    /// first).
    ///
    /// ```
    /// use slipring::{Error, broadcast::{self, SlowPolicy}};
    /// use std::time::Duration;
    /// let (mut tx, mut rx) = broadcast::pair(4096)?;
    /// tx.set_policy(SlowPolicy::Evict { after: Duration::from_millis(1) });
    /// for _ in 0..100 {
    ///     tx.send(&[7; 100])?;
    /// }
    /// assert!(matches!(rx.try_recv(), Err(Error::Evicted)));
    /// assert_eq!(tx.evicted(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_policy(&mut self, policy: SlowPolicy) {
        self.policy = policy;
        self.blocked = None;
    }

    /// How many subscribers this handle has evicted.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many frames were published in this ring, by this publisher and its predecessors.
    ///
    /// ```
    /// let (mut tx, _rx) = slipring::broadcast::pair(4096)?;
    /// tx.send(b"one")?;
    /// assert_eq!(tx.published(), 1);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn published(&self) -> u64 {
        self.core.frames()
    }

    /// Largest payload, in bytes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.bytes.shared().max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame of `len`
    /// bytes. It is no borrow: this handle stays usable. Subscribers tell of released space from
    /// time to time, so a set with such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.attachment.readiness(Look::BroadcastRoom(self.core.ring().clone(), Arc::new(AtomicUsize::new(len))))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Reserves room for a payload of up to `len` bytes, to be written in place. Wait-free.
    ///
    /// Invisible to subscribers until [`WriteGrant::commit`]. Dropping it without committing
    /// aborts; nothing is sent. Subscribers may read what it overwrites, so it is no slice: it is
    /// written by [`WriteGrant::write_at`].
    ///
    /// # Errors
    /// As [`Publisher::try_send`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
    /// let mut grant = tx.try_reserve(100)?;
    /// grant.write_at(5, b" world");
    /// grant.write_at(0, b"hello");
    /// grant.commit(11);
    /// drop(tx.try_reserve(100)?); // aborted
    /// assert_eq!(&*rx.try_recv()?, b"hello world");
    /// assert!(rx.try_recv().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.try_room(len)?;
        Ok(self.grant(len))
    }

    fill_level!(
        "Bytes that the slowest reliable subscriber has not released, headers included; 0 without one.",
        |tx| tx.core.ring().slowest(),
        tx.core.ring().capacity(),
        tx.capacity() - tx.len() < 24,
        "let (mut tx, rx) = slipring::broadcast::pair(4096)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((rx.len(), rx.capacity()), (24, 4096));"
    );

    /// Moves the floor, and lets go of dead subscribers and of those that the policy says.
    #[cold]
    #[inline(never)]
    fn full(&mut self, tail: u64, len: usize) -> Result<()> {
        // Each round lets one subscriber go, or ends.
        for _ in 0..=self.ring().max_participants() {
            match self.core.make_room(tail, len) {
                Ok(()) => {
                    self.blocked = None;
                    return Ok(());
                }
                Err(Blocked::Batch) => return Err(Error::Full),
                Err(Blocked::By(slow)) => {
                    let is_dead = self.attachment.is_dead(slow.id) && self.attachment.reap_dead_now()? > 0;
                    if !is_dead && !self.lets_go(slow) {
                        break;
                    }
                }
            }
        }
        self.note_level();
        let core = &mut self.core;
        self.attachment.explain(|| Ok(core.make_room(tail, len).is_ok().then_some(())))
    }

    /// Whether the policy evicts the subscriber now, and that has worked.
    fn lets_go(&mut self, slow: Slow) -> bool {
        let Publisher { core, policy, blocked, evicted, attachment, .. } = self;
        lets_go(core, attachment, *policy, blocked, evicted, slow)
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        let tail = self.core.bytes.tail();
        if self.policy == SlowPolicy::Fail {
            return self.full(tail, len);
        }
        let Publisher { core, policy, blocked, evicted, attachment, .. } = self;
        let policy = *policy;
        let shared_blocked = Cell::new(*blocked);
        let outcome = attachment.wait(
            deadline,
            || {
                let mut since = shared_blocked.get();
                let has_room = loop {
                    match core.make_room(tail, len) {
                        Ok(()) => break true,
                        Err(Blocked::By(slow)) if lets_go(core, attachment, policy, &mut since, evicted, slow) => {}
                        Err(_) => break false,
                    }
                };
                shared_blocked.set(since);
                Ok(has_room.then_some(()))
            },
            || match (policy, shared_blocked.get()) {
                (SlowPolicy::Evict { after }, Some(wait)) => {
                    let waited = Duration::from_nanos(monotonic_ns().saturating_sub(wait.since));
                    after.saturating_sub(waited).clamp(SHORTEST_SLEEP, SLEEP_CAP)
                }
                _ => SLEEP_CAP,
            },
        );
        *blocked = if outcome.is_ok() { None } else { shared_blocked.get() };
        self.note_level();
        outcome
    }

    fn note_level(&self) {
        let (slowest, tail) = self.core.ring().slowest();
        self.attachment.raise_high_water(tail.wrapping_sub(slowest));
    }

    /// Counts the frames that have just become visible, and wakes the subscribers that sleep.
    #[inline(always)]
    fn published_now(&mut self, frames: u64, bytes: u64) {
        self.core.published(frames);
        self.attachment.wake_peers(1);
        self.attachment.count_traffic(Counter::Sent, frames, bytes);
    }
}

/// The shortest sleep of a publisher that waits to evict.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);

/// Whether the subscriber that leaves no room has been let go: because the policy says so, by a
/// predecessor that died meanwhile, or because there is none. `blocked` has the one that left no
/// room before.
fn lets_go(
    core: &mut gate::Publisher,
    attachment: &Attachment<Fan>,
    policy: SlowPolicy,
    blocked: &mut Option<Wait>,
    evicted: &mut u64,
    slow: Slow,
) -> bool {
    if core.is_evicted(slow) {
        return core.evict(slow);
    }
    // A participant has an id for longer than an entry: this one is forged.
    if attachment.is_absent(slow.id) {
        core.disown(slow);
        return true;
    }
    let SlowPolicy::Evict { after } = policy else { return false };
    let now = monotonic_ns();
    let wait = match *blocked {
        Some(wait) if wait.slow == slow => wait,
        _ => Wait { slow, since: now },
    };
    *blocked = Some(wait);
    let is_time = Duration::from_nanos(now.saturating_sub(wait.since)) >= after;
    let is_evicted = is_time && core.evict(slow);
    *evicted += u64::from(is_evicted);
    is_evicted
}

impl WriteGrant<'_> {
    /// Copies `bytes` into the grant, from its byte `at` on. What is committed and was not written
    /// has any value. Wait-free.
    ///
    /// # Panics
    /// If that goes beyond the grant.
    #[inline]
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.len && bytes.len() <= self.len - at, "write beyond what was reserved");
        let bytes_of = &self.producer.core.bytes;
        bytes_of.shared().data.write_part(bytes_of.payload_offset() + at, bytes);
    }

    /// Bytes that were reserved.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes were reserved.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
