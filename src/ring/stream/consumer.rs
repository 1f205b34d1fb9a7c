//! The consumer's handle of a byte stream.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;

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

/// The consumer. A stream has one at a time: a successor can attach when it is dropped, or when its
/// process has died. The successor starts at the first byte that was not released.
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Consumer {
    core: core::Consumer,
    attachment: Attachment<One>,
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(consumer Consumer, "stream::Consumer", attachment, "this handle");

impl Consumer {
    /// Opens or creates the named stream, and attaches to it as its consumer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Consumer::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Stream, name, options, Self::attach)
    }

    /// Attaches to the stream as its consumer. Some system calls.
    ///
    /// # Errors
    /// [`Error::RoleTaken`], [`Error::Incompatible`], [`Error::Corrupt`], [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        expect_mirror(ring, Kind::Stream)?;
        let attachment = Attachment::join(ring, Kind::Stream, Role::Consumer)?;
        let core = core::Consumer::attach(ring.stream_shared())?;
        attachment.announce();
        Ok(Consumer { core, attachment, _not_sync: PhantomData })
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to read. It is no
    /// borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Stream(self.ring().stream_shared()))
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Reads the bytes that are there, up to the length of `buffer`, and returns their number.
    /// Wait-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no byte; [`Error::Closed`] or [`Error::PeerDead`] if in
    /// addition the producer has departed.
    #[inline]
    pub fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.try_read_units(buffer, 1)
    }

    /// [`Consumer::try_read`] of whole `unit`s of bytes: no unit is read in part.
    #[inline(always)]
    pub(in crate::ring) fn try_read_units(&mut self, buffer: &mut [u8], unit: usize) -> Result<usize> {
        self.attachment.check_fork()?;
        let mut there = self.core.available(buffer.len())?;
        if there < unit && !buffer.is_empty() {
            there = self.empty(unit)?;
            if there < unit {
                return Err(Error::Empty);
            }
        }
        let n = there.min(buffer.len());
        let n = n - n % unit;
        self.take_out(&mut buffer[..n]);
        Ok(n)
    }

    /// Reads at least one byte, up to the length of `buffer`; waits while the stream is empty.
    /// Blocking: progress depends on the producer.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::PeerDead`], [`Error::Corrupt`].
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.read_deadline(buffer, Deadline::never())
    }

    /// [`Consumer::read`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::read`], and [`Error::Timeout`].
    pub fn read_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<usize> {
        self.read_units(buffer, 1, deadline.into())
    }

    /// [`Consumer::read_deadline`] of whole `unit`s of bytes: no unit is read in part.
    pub(in crate::ring) fn read_units(&mut self, buffer: &mut [u8], unit: usize, deadline: Deadline) -> Result<usize> {
        self.check_call(unit)?;
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self.wait_for(unit, deadline)?.min(buffer.len());
        let n = n - n % unit;
        self.take_out(&mut buffer[..n]);
        Ok(n)
    }

    /// Exactly `len` bytes, in place. Released when the view is dropped. Wait-free.
    ///
    /// # Errors
    /// [`Error::Empty`] if fewer are there; [`Error::Closed`] or [`Error::PeerDead`] if in addition
    /// the producer has departed; [`Error::TooLarge`] if `len` exceeds the capacity.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// tx.write_all(b"left right ")?;
    /// assert_eq!(&*rx.try_read_view(5)?, b"left ");
    /// assert_eq!(&*rx.try_read_view(6)?, b"right ");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_read_view(&mut self, len: usize) -> Result<ReadView<'_>> {
        self.check_call(len)?;
        if self.core.available(len)? < len && self.empty(len)? < len {
            return Err(Error::Empty);
        }
        Ok(ReadView { consumer: self, len })
    }

    /// [`Consumer::try_read_view`]; waits until `len` bytes are there. Blocking: the producer has
    /// to write them.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`], [`Error::PeerDead`], [`Error::Cancelled`],
    /// [`Error::Corrupt`], [`Error::Forked`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// let reader = std::thread::spawn(move || rx.read_view(4).map(|view| view.to_vec()));
    /// tx.write_all(b"left")?;
    /// assert_eq!(reader.join().unwrap()?, b"left");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn read_view(&mut self, len: usize) -> Result<ReadView<'_>> {
        self.read_view_deadline(len, Deadline::never())
    }

    /// [`Consumer::read_view`], until a deadline.
    ///
    /// # Errors
    /// As [`Consumer::read_view`], and [`Error::Timeout`].
    pub fn read_view_deadline(&mut self, len: usize, deadline: impl Into<Deadline>) -> Result<ReadView<'_>> {
        self.check_call(len)?;
        self.wait_for(len, deadline.into())?;
        Ok(ReadView { consumer: self, len })
    }

    fill_level!(
        "Bytes in the ring: written and not yet released.",
        |rx| rx.core.shared().observe(),
        rx.core.shared().capacity(),
        rx.len() == rx.capacity(),
        "let (mut tx, rx) = slipring::stream::pair(4096)?;\ntx.try_write(b\"12345678\")?;\nassert_eq!((rx.len(), rx.capacity()), (8, 4096));"
    );

    fn check_call(&self, len: usize) -> Result<()> {
        self.attachment.check_fork()?;
        let max = self.core.shared().capacity();
        if len <= max { Ok(()) } else { Err(Error::TooLarge { max }) }
    }

    fn take_out(&mut self, into: &mut [u8]) {
        self.core.read(into);
        self.release(into.len());
    }

    #[inline(always)]
    fn release(&mut self, n: usize) {
        if self.attachment.is_forked() {
            return; // the bytes belong to the parent
        }
        self.core.release(n);
        self.attachment.wake_peers(1);
        self.attachment.count(Counter::Received, 1);
        self.attachment.count(Counter::Bytes, n as u64);
    }

    /// Fewer than `wanted` bytes are there: checks the producer, and returns how many there are
    /// then.
    #[cold]
    #[inline(never)]
    fn empty(&mut self, wanted: usize) -> Result<usize> {
        let Consumer { core, attachment, .. } = self;
        attachment.explain(|| {
            let there = core.available(wanted)?;
            Ok((there >= wanted).then_some(there))
        })
    }

    #[inline(always)]
    fn wait_for(&mut self, wanted: usize, deadline: Deadline) -> Result<usize> {
        self.attachment.check_fork()?;
        let there = self.core.available(wanted)?;
        if there >= wanted { Ok(there) } else { self.wait_for_data(wanted, deadline) }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_data(&mut self, wanted: usize, deadline: Deadline) -> Result<usize> {
        let Consumer { core, attachment, .. } = self;
        let attempt = || {
            let there = core.available(wanted)?;
            Ok((there >= wanted).then_some(there))
        };
        attachment.wait(deadline, attempt, || SLEEP_CAP)
    }
}

/// Bytes in place. Dropping it releases them all; [`ReadView::release`] releases the first ones
/// only, and [`ReadView::keep`] none.
#[must_use = "dropping a view releases its bytes unread"]
pub struct ReadView<'a> {
    consumer: &'a mut Consumer,
    len: usize,
}

impl ReadView<'_> {
    /// Releases the first `n` bytes. The others stay in the stream. Wait-free; one system call if
    /// the producer sleeps.
    ///
    /// # Panics
    /// If `n` exceeds the view, which stays in the stream then.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// tx.write_all(b"left right")?;
    /// rx.try_read_view(10)?.release(5);
    /// assert_eq!(&*rx.try_read_view(5)?, b"right");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn release(mut self, n: usize) {
        let len = std::mem::take(&mut self.len);
        assert!(n <= len, "release of more than was read");
        self.len = n;
    }

    /// Leaves the bytes in the stream: they are the next ones that this consumer or its successor
    /// reads. Wait-free.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
    /// tx.write_all(b"stays")?;
    /// rx.try_read_view(5)?.keep();
    /// assert_eq!(&*rx.try_read_view(5)?, b"stays"); // released here
    /// assert!(rx.is_empty());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn keep(self) {
        std::mem::forget(self); // nothing to free
    }
}

impl Drop for ReadView<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.len > 0 {
            self.consumer.release(self.len);
        }
    }
}

impl Deref for ReadView<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let core = &self.consumer.core;
        // SAFETY: the offset is below the capacity, and the area is twice that long
        // (`expect_mirror`).
        let start = unsafe { core.shared().data().base().add(core.offset()) };
        // SAFETY: `len` is at most the capacity; the bytes are committed, and not released while
        // the only consumer is borrowed mutably by this view.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}
