//! The producer's handle: sending by copy, by grant and in batches (`send_calls.rs`).
//!
//! Relies on `core.rs` for the algorithm, on `attachment.rs` for waiting and for the peer's
//! liveness.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::core;
use super::layout::Fault;
use crate::error::{Error, Result};
use crate::frame::{Header, Sequencer, StagedNumbers};
#[cfg(feature = "transports")]
use crate::ring::Watch;
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::send_calls::send_calls;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};
use crate::wait::idle::pause_for_ns;

/// How long a `try_…` call polls a ring that looks full before it reads the exact head: long enough
/// that a caller that retries in a tight loop does not slow down the consumer.
const FULL_PAUSE_NS: u32 = 100;

/// The producer. A ring has one at a time: a successor can attach when it is dropped, or when its
/// process has died.
///
/// Every `try_…` call is wait-free, allocates no memory, and makes no system call except to wake a
/// sleeping consumer (none in [`WakeMode::Poll`](crate::WakeMode::Poll)). If the ring is full, it
/// asks the kernel from time to time whether the consumer is dead.
///
/// With [`Options::fail_without_consumer`], every call that sends or reserves fails at once while
/// no consumer is attached, with [`Error::NoConsumer`], [`Error::Closed`] or [`Error::PeerDead`].
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Producer {
    pub(in crate::ring) core: core::Producer,
    sequencer: Sequencer,
    staged_numbers: StagedNumbers,
    pub(in crate::ring) attachment: Attachment<One>,
    /// A producer is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(producer Producer, "spsc::Producer", attachment, "this handle");
send_calls!(
    Producer, "spsc", core,
    who: "the consumer",
    when: "the ring is full",
    full: "[`Error::Full`] until the consumer releases frames; [`Error::TooLarge`]; [`Error::Closed`] or [`Error::PeerDead`] if the ring is full and the consumer has departed.",
    errors: "[`Error::TooLarge`], [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`]."
);

impl Producer {
    /// Opens or creates the named ring, and attaches to it as its producer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Producer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Spsc, name, options, Self::attach)
    }

    /// Attaches to the ring as its producer, and continues behind the last committed frame, however
    /// its producer ended. Walks the frames in the ring; some system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`] while a living producer is attached; [`Error::Incompatible`] for
    /// another kind of ring; [`Error::Corrupt`] if the chain of frames is damaged; [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Error, Options, Ring, spsc};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// let first = spsc::Producer::attach(&ring)?;
    /// assert!(matches!(spsc::Producer::attach(&ring), Err(Error::RoleTaken { .. })));
    /// drop(first);
    /// spsc::Producer::attach(&ring)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Spsc)?;
        let attachment = Attachment::join(ring, Kind::Spsc, Role::Producer)?;
        let core = core::Producer::attach(ring.spsc_shared()).map_err(Fault::error)?;
        attachment.announce();
        Ok(Self::over(core, attachment))
    }

    /// A producer of a byte ring that is mapped twice, of which `attachment` holds the role: of a
    /// whole ring, or of a lane of an mpsc ring.
    pub(in crate::ring) fn over(core: core::Producer, attachment: Attachment<One>) -> Self {
        Producer {
            core,
            sequencer: Sequencer::new(),
            staged_numbers: StagedNumbers::default(),
            attachment,
            _not_sync: PhantomData,
        }
    }

    /// Largest payload, in bytes.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.shared().max_payload()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame of `len`
    /// bytes. It is no borrow: this handle stays usable. Consumers tell of released space from time
    /// to time, so a set with such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.writable_for(Arc::new(AtomicUsize::new(len)))
    }

    /// [`Producer::writable`], for a length that changes.
    pub(in crate::ring) fn writable_for(&self, len: Arc<AtomicUsize>) -> Readiness {
        let event = self.attachment.event().clone();
        self.attachment.readiness(Look::SpscRoom(self.core.shared().clone(), event, len))
    }

    /// What the bell of this producer waits for.
    #[cfg(feature = "transports")]
    pub(crate) fn watch_room(&self) -> Watch {
        Watch::of_bytes(self.ring(), self.core.shared().clone(), self.attachment.event().clone())
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(in crate::ring) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// [`Producer::try_send`] without a reason: false if `try_send` would have to look at the
    /// consumer's side, to find room or an error, and a caller calls that next. The shortest way for
    /// a frame: no error is made. Wait-free; a system call only to wake a sleeping consumer.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// if !tx.send_if_room(b"hello") {
    ///     tx.send(b"hello")?;
    /// }
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// assert!(!tx.send_if_room(&[0; 5000]), "larger than the ring");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    #[must_use = "nothing was sent if it is false"]
    pub fn send_if_room(&mut self, payload: &[u8]) -> bool {
        let tail = self.core.tail();
        let has_room = self.has_known_room(tail, payload.len());
        if has_room {
            self.write_and_commit(tail, Header::PLAIN, payload);
        }
        has_room
    }

    /// [`Producer::try_reserve`] without a reason, as [`Producer::send_if_room`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// tx.send(b"first")?; // the first call looks at the consumer's side
    /// let mut grant = tx.reserve_if_room(5).unwrap();
    /// grant.copy_from_slice(b"hello");
    /// grant.commit(5);
    /// assert_eq!(&*rx.try_recv()?, b"first");
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn reserve_if_room(&mut self, len: usize) -> Option<WriteGrant<'_>> {
        if self.has_known_room(self.core.tail(), len) { Some(self.grant(len)) } else { None }
    }

    /// Whether a call needs neither the consumer's position nor an error.
    #[inline(always)]
    fn has_known_room(&self, tail: u64, len: usize) -> bool {
        self.attachment.can_send_unchecked() && len <= self.max_payload() && self.core.has_known_room(tail, len)
    }

    /// Reserves room for a payload of up to `len` bytes, to be written in place. Wait-free.
    ///
    /// Invisible to the consumer until [`WriteGrant::commit`]. Dropping it without committing
    /// aborts; nothing is sent.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let mut grant = tx.try_reserve(100)?;
    /// grant[..5].copy_from_slice(b"hello");
    /// grant.commit(5);
    /// drop(tx.try_reserve(100)?); // aborted
    /// assert_eq!(&*rx.try_recv()?, b"hello");
    /// assert!(rx.try_recv().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.try_room(len)?;
        Ok(self.grant(len))
    }

    /// Sends words, and `payload` behind them, as one frame. Waits for room until `deadline`, if
    /// there is one. The kind is one that [`Header::new`] accepts.
    ///
    /// # Errors
    /// As [`Producer::send_deadline`]; without a deadline as [`Producer::try_send`].
    #[inline(always)]
    pub(crate) fn send_words_and<const N: usize>(
        &mut self,
        header: Header,
        words: [u64; N],
        payload: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let (tail, words) = (self.core.tail(), words.map(u64::to_le_bytes));
        let words = words.as_flattened();
        let len = words.len() + payload.len();
        match deadline {
            Some(deadline) => self.room(tail, len, deadline)?,
            None => self.try_room_at(tail, len)?,
        }
        // SAFETY: the data is mapped twice (`expect_mirror`), and there is room for `len` bytes.
        unsafe { self.core.write_whole(tail, words) };
        // SAFETY: as above: this is the rest of them.
        unsafe { self.core.write_whole(tail.wrapping_add(words.len() as u64), payload) };
        self.core.commit_at(tail, header.sent(len, self.sequencer.allocate(header)));
        self.published_now(1, len as u64);
        Ok(())
    }

    fill_level!(
        "Bytes in the ring, headers included: sent and not yet released.",
        |tx| tx.core.shared().observe(),
        tx.core.shared().capacity,
        tx.capacity() - tx.len() < 24,
        "let (mut tx, _rx) = slipring::spsc::pair(4096)?;\ntx.try_send(b\"12345678\")?;\nassert_eq!((tx.len(), tx.capacity()), (24, 4096));"
    );

    /// Whether calls that do not begin with `try_` wait for room.
    #[cfg(feature = "async")]
    #[inline]
    pub(in crate::ring) fn waits_for_room(&self) -> bool {
        true
    }

    /// Whether there is room by the published head.
    #[cfg(feature = "async")]
    pub(in crate::ring) fn is_room_likely(&mut self, len: usize) -> bool {
        self.core.has_room(self.core.tail(), len)
    }

    /// The ring is full by the published head: checks the exact head, and whether the consumer has
    /// ended.
    #[cold]
    #[inline(never)]
    fn full(&mut self, tail: u64, len: usize) -> Result<()> {
        pause_for_ns(FULL_PAUSE_NS);
        if self.core.has_room(tail, len) || self.core.has_room_exactly(tail, len) {
            return Ok(());
        }
        self.attachment.raise_high_water(self.core.high_water());
        let core = &mut self.core;
        self.attachment.explain(|| Ok(core.has_room_exactly(tail, len).then_some(())))
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, len: usize, deadline: Deadline) -> Result<()> {
        let Producer { core, attachment, .. } = self;
        // Polls the published head while awake, and reads the exact head before every sleep.
        let exactly = Cell::new(false);
        let outcome = attachment.wait(
            deadline,
            || {
                let room =
                    core.has_room(core.tail(), len) || (exactly.take() && core.has_room_exactly(core.tail(), len));
                Ok(room.then_some(()))
            },
            || {
                exactly.set(true);
                SLEEP_CAP
            },
        );
        attachment.raise_high_water(core.high_water());
        match outcome {
            // A call that did not sleep has read the published head only, which lags.
            Err(Error::Timeout) if core.has_room_exactly(core.tail(), len) => Ok(()),
            outcome => outcome,
        }
    }

    /// Counts the frames that have just become visible, and wakes the consumer if it sleeps.
    #[inline(always)]
    fn published_now(&mut self, frames: u64, bytes: u64) {
        self.attachment.wake_peers(1);
        self.attachment.count_traffic(Counter::Sent, frames, bytes);
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.attachment.is_attached() {
            self.attachment.raise_high_water(self.core.last_high_water());
        }
    }
}

impl WriteGrant<'_> {
    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let core = &self.producer.core;
        // SAFETY: the offset is masked below the capacity, and the area is twice that long
        // (`expect_mirror`).
        unsafe { core.shared().data().base().add(core.payload_offset()) }
    }
}

impl Deref for WriteGrant<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from an offset below the capacity, at most a capacity of them, inside
        // an area of two capacities. They are initialised (zeros or old frames), free by
        // `has_room`, and the only producer is borrowed mutably by this grant, so no other code
        // writes them.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for WriteGrant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and the consumer does not read behind the zero header, so it does
        // not read them either.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}
