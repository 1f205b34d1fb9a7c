//! The publisher's handle: sending by copy, by grant and in batches
//! (`send_calls.rs`).
//!
//! Relies on `gate.rs` for the algorithm, on `slow.rs` for what to do about slow subscribers, on
//! `attachment.rs` for waiting and for liveness.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::gate::{self, Blocked};
#[cfg(feature = "transports")]
use super::slow::Due;
use super::slow::{Patience, SlowPolicy};
use crate::error::{Error, Result};
use crate::frame::{Header, Sequencer, StagedNumbers};
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
    patience: Patience,
    sequencer: Sequencer,
    staged_numbers: StagedNumbers,
    attachment: Attachment<Fan>,
    /// A publisher is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
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
            patience: Patience::new(),
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
        self.patience.set_policy(policy);
    }

    /// How many subscribers this handle has evicted.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.patience.evicted()
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
    /// bytes, or a call could evict a subscriber ([`SlowPolicy::Evict`]). It is no borrow: this
    /// handle stays usable. Subscribers tell of released space from time to time, so a set with
    /// such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.writable_for(Arc::new(AtomicUsize::new(len)))
    }

    /// [`Publisher::writable`], for a length that changes.
    pub(super) fn writable_for(&self, len: Arc<AtomicUsize>) -> Readiness {
        let due = Arc::clone(self.patience.due());
        self.attachment.readiness(Look::BroadcastRoom(self.core.ring().clone(), len, due))
    }

    /// When a call may evict a subscriber.
    #[cfg(feature = "transports")]
    pub(crate) fn due(&self) -> Arc<Due> {
        Arc::clone(self.patience.due())
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
                    self.patience.end();
                    return Ok(());
                }
                Err(Blocked::Batch) => return Err(Error::Full),
                Err(Blocked::By(slow)) => {
                    let is_dead = self.attachment.is_dead(slow.id) && self.attachment.reap_dead_now()? > 0;
                    if !is_dead && !self.patience.lets_go(&mut self.core, &self.attachment, slow) {
                        break;
                    }
                }
            }
        }
        self.note_level();
        let core = &mut self.core;
        self.attachment.explain(|| Ok(core.make_room(tail, len).is_ok().then_some(())))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        let tail = self.core.bytes.tail();
        if !self.waits_for_room() {
            return self.full(tail, len);
        }
        let Publisher { core, patience, attachment, .. } = self;
        let due = Arc::clone(patience.due());
        let outcome = attachment.wait(
            deadline,
            || loop {
                match core.make_room(tail, len) {
                    Ok(()) => break Ok(Some(())),
                    Err(Blocked::By(slow)) if patience.lets_go(core, attachment, slow) => {}
                    Err(_) => break Ok(None),
                }
            },
            || due.longest_sleep(),
        );
        if outcome.is_ok() {
            self.patience.end();
        }
        self.note_level();
        outcome
    }

    /// Whether calls that do not begin with `try_` wait for room.
    #[inline]
    pub(super) fn waits_for_room(&self) -> bool {
        self.patience.policy() != SlowPolicy::Fail
    }

    /// Whether there is room by the positions that subscribers publish, or an eviction is due.
    #[cfg(feature = "async")]
    pub(super) fn is_room_likely(&mut self, len: usize) -> bool {
        self.core.ring().has_room_for(len)
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
