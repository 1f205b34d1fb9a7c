//! The producer's handle of a byte stream.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::core;
use crate::error::{Error, Result};
use crate::ring::attachment::Attachment;
use crate::ring::by_kind::expect_mirror;
use crate::ring::common_calls::common_calls;
use crate::ring::level::fill_level;
use crate::ring::readiness::Look;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::{One, SLEEP_CAP};

/// The producer. A stream has one at a time: a successor can attach when it is dropped, or when its
/// process has died.
///
/// With [`Options::fail_without_consumer`], every call that sends or reserves fails at once while
/// no consumer is attached, with [`Error::NoConsumer`], [`Error::Closed`] or [`Error::PeerDead`].
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Producer {
    core: core::Producer,
    attachment: Attachment<One>,
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(producer Producer, "stream::Producer", attachment, "this handle");

impl Producer {
    /// Opens or creates the named stream, and attaches to it as its producer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Producer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Stream, name, options, Self::attach)
    }

    /// Attaches to the stream as its producer, and continues behind the last committed byte. Some
    /// system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`], [`Error::Incompatible`], [`Error::Corrupt`], [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Stream)?;
        let attachment = Attachment::join(ring, Kind::Stream, Role::Producer)?;
        let core = core::Producer::attach(ring.stream_shared())?;
        attachment.announce();
        Ok(Producer { core, attachment, _not_sync: PhantomData })
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for `len` bytes. It is
    /// no borrow: this handle stays usable. Consumers tell of released space from time to time, so
    /// a set with such a member sleeps for at most 50 ms.
    #[must_use]
    pub fn writable(&self, len: usize) -> Readiness {
        self.attachment.readiness(Look::StreamRoom(self.ring().stream_shared(), len.max(1)))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Writes as much of `bytes` as fits, and returns how much. Wait-free.
    ///
    /// # Errors
    /// [`Error::Full`] if no byte fits; [`Error::Closed`] or [`Error::PeerDead`] if in addition the
    /// consumer has departed.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.try_write_units(bytes, 1)
    }

    /// [`Producer::try_write`] of whole `unit`s of `bytes`: no unit is written in part.
    #[inline(always)]
    pub(in crate::ring) fn try_write_units(&mut self, bytes: &[u8], unit: usize) -> Result<usize> {
        self.attachment.check_send()?;
        let mut free = self.core.free(bytes.len());
        if free < unit && !bytes.is_empty() {
            free = self.full(unit)?;
        }
        let n = free.min(bytes.len());
        let n = n - n % unit;
        self.core.write(&bytes[..n]);
        self.commit(n);
        Ok(n)
    }

    /// Writes as much of `bytes` as fits, at least one byte; waits while the stream is full.
    pub(super) fn write_some(&mut self, bytes: &[u8]) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let n = self.room(1, Deadline::never())?.min(bytes.len());
        self.core.write(&bytes[..n]);
        self.commit(n);
        Ok(n)
    }

    /// Writes all of `bytes`; waits while the stream is full. Blocking: progress depends on the
    /// consumer.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Cancelled`]: some of the bytes may have
    /// been written; the error of [`Producer::write_all_deadline`] has their number.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all_deadline(bytes, Deadline::never()).map_err(|partial| partial.error)
    }

    /// [`Producer::write_all`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::write_all`], and [`Error::Timeout`], with the number of bytes that were
    /// written: see [`PartialWrite`].
    pub fn write_all_deadline(&mut self, bytes: &[u8], deadline: impl Into<Deadline>) -> Result<(), PartialWrite> {
        self.write_all_units(bytes, 1, deadline.into())
    }

    /// [`Producer::write_all_deadline`] of whole `unit`s of `bytes`: no unit is written in part,
    /// and units are counted.
    pub(in crate::ring) fn write_all_units(
        &mut self,
        bytes: &[u8],
        unit: usize,
        deadline: Deadline,
    ) -> Result<(), PartialWrite> {
        self.check_call(unit).map_err(|error| PartialWrite { written: 0, error })?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.room(unit, deadline);
            let n = room.map_err(|error| PartialWrite { written: (bytes.len() - rest.len()) / unit, error })?;
            let n = n.min(rest.len());
            let (now, later) = rest.split_at(n - n % unit);
            self.core.write(now);
            self.commit(now.len());
            rest = later;
        }
        Ok(())
    }

    /// Reserves exactly `len` bytes, to be written in place. Dropping the chunk without commit
    /// writes nothing. Wait-free.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::TooLarge`] if `len` exceeds the capacity; as
    /// [`Producer::try_write`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// let mut grant = tx.try_reserve(512)?;
    /// grant.fill(7);
    /// grant.commit(512);
    /// assert_eq!(rx.try_read_view(512)?[511], 7);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.check_call(len)?;
        if self.core.free(len) < len {
            self.full(len)?;
        }
        Ok(WriteGrant { producer: self, len })
    }

    /// [`Producer::try_reserve`]; waits until there is room. Blocking: the consumer makes it.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::PeerDead`], [`Error::Cancelled`],
    /// [`Error::Forked`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// let mut grant = tx.reserve(2)?;
    /// grant.copy_from_slice(b"ab");
    /// grant.commit(2);
    /// assert_eq!(&*rx.try_read_view(2)?, b"ab");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.reserve_deadline(len, Deadline::never())
    }

    /// [`Producer::reserve`], until a deadline.
    ///
    /// # Errors
    /// As [`Producer::reserve`], and [`Error::Timeout`].
    pub fn reserve_deadline(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<WriteGrant<'_>> {
        self.check_call(len)?;
        self.room(len, deadline.into())?;
        Ok(WriteGrant { producer: self, len })
    }

    fill_level!(
        "Bytes in the ring: written and not yet released.",
        |tx| tx.core.shared().observe(),
        tx.core.shared().capacity(),
        tx.len() == tx.capacity(),
        "let (mut tx, _rx) = slipring::stream::pair(4096)?;\ntx.try_write(b\"12345678\")?;\nassert_eq!((tx.len(), tx.capacity()), (8, 4096));"
    );

    fn check_call(&self, len: usize) -> Result<()> {
        self.attachment.check_send()?;
        let max = self.core.shared().capacity();
        if len <= max { Ok(()) } else { Err(Error::TooLarge { max }) }
    }

    #[inline(always)]
    fn commit(&mut self, n: usize) {
        self.core.commit(n);
        self.attachment.wake_peers(1);
        self.attachment.count(Counter::Sent, 1);
        self.attachment.count(Counter::Bytes, n as u64);
    }

    /// Less than `wanted` is free: checks the consumer, and returns how much is free then.
    #[cold]
    #[inline(never)]
    fn full(&mut self, wanted: usize) -> Result<usize> {
        let Producer { core, attachment, .. } = self;
        attachment.raise_high_water(core.high_water());
        attachment.explain(|| {
            let free = core.free(wanted);
            Ok((free >= wanted).then_some(free))
        })
    }

    #[inline(always)]
    fn room(&mut self, wanted: usize, deadline: Deadline) -> Result<usize> {
        self.attachment.check_send()?;
        let free = self.core.free(wanted);
        if free >= wanted { Ok(free) } else { self.wait_for_room(wanted, deadline) }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_room(&mut self, wanted: usize, deadline: Deadline) -> Result<usize> {
        let Producer { core, attachment, .. } = self;
        let attempt = || {
            let free = core.free(wanted);
            Ok((free >= wanted).then_some(free))
        };
        let outcome = attachment.wait(deadline, attempt, || SLEEP_CAP);
        attachment.raise_high_water(core.high_water());
        outcome
    }
}

/// Room in the stream. Dropping it without [`WriteGrant::commit`] writes nothing.
#[must_use = "a grant that is not committed writes nothing"]
pub struct WriteGrant<'a> {
    producer: &'a mut Producer,
    len: usize,
}

impl WriteGrant<'_> {
    /// Publishes the first `n` bytes.
    ///
    /// # Panics
    /// If `n` exceeds the grant.
    #[inline]
    pub fn commit(self, n: usize) {
        assert!(n <= self.len, "commit of more than was reserved");
        // A copy of the grant in a forked child writes nothing, because the handle belongs to the
        // parent.
        if !self.producer.attachment.is_forked() {
            self.producer.commit(n);
        }
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let core = &self.producer.core;
        // SAFETY: the offset is below the capacity, and the area is twice that long
        // (`expect_mirror`).
        unsafe { core.shared().data().base().add(core.offset()) }
    }
}

impl Deref for WriteGrant<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes, at most a capacity, from below the capacity, in an area of two;
        // initialised; free by `Producer::free`, and the only producer is borrowed mutably by this
        // grant.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl DerefMut for WriteGrant<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the consumer does not read behind the tail.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

/// Why not everything was written, and how much was. The caller can continue from there.
///
/// If the number does not matter: `.map_err(|partial| partial.error)?`. (A conversion into
/// [`Error`] would make `?` ambiguous in programs.)
///
/// ```
/// use std::time::Duration;
/// let (mut tx, _rx) = slipring::stream::pair(4096)?;
/// let block = [7; 5000];
/// let late = tx.write_all_deadline(&block, Duration::from_millis(1)).unwrap_err();
/// assert!(matches!(late.error, slipring::Error::Timeout));
/// let rest = &block[late.written..];
/// assert_eq!(rest.len(), 904);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{error} ({written} were written)")]
pub struct PartialWrite {
    /// How much was written and can be read by the consumer: bytes, or values in the calls that
    /// write values.
    pub written: usize,
    /// Why the rest was not written.
    #[source]
    pub error: Error,
}
