//! The reader's handle of a board of latest values.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::core::{self, Miss};
use super::layout::{Shape, Shared};
use crate::error::{Error, Result};
use crate::ring::attachment::{Attachment, Fan};
use crate::ring::common_calls::common_calls;
use crate::ring::readiness::Look;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::SLEEP_CAP;

/// A value, as a reader got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading<V> {
    /// The value.
    pub value: V,
    /// The version of the value: values of this cell are numbered from 1.
    pub version: u64,
    /// How many values of this cell were replaced, between the one that this reader read last and
    /// this one, without being read by it. 0 for the first value that it reads.
    pub skipped: u64,
}

/// What a reader has read, and what it wants to be told. Shared with what a set of waits looks at.
#[derive(Clone)]
pub(in crate::ring) struct Seen(Arc<[SeenCell]>);

#[derive(Default)]
struct SeenCell {
    /// The version that was read last; 0 before the first.
    version: AtomicU64,
    /// Whether its changes are not reported. Relaxed: the set that looks at it is told by nothing
    /// else either.
    is_ignored: AtomicBool,
}

impl Seen {
    fn new(cells: usize) -> Self {
        Seen((0..cells).map(|_| SeenCell::default()).collect())
    }

    /// As of a reader that has read every value.
    #[cfg(feature = "transports")]
    pub(in crate::ring) fn all(shared: &Shared) -> Self {
        let seen = Self::new(shared.cells());
        seen.mark_all(shared);
        seen
    }

    /// Forgets what has changed up to now.
    #[cfg(feature = "transports")]
    pub(in crate::ring) fn mark_all(&self, shared: &Shared) {
        for (cell, seen) in self.0.iter().enumerate() {
            seen.version.store(shared.version(cell), Ordering::Relaxed);
        }
    }

    /// The first cell from `first` on, and then from 0, that has a value which was not read, and is
    /// not ignored.
    #[inline]
    pub(in crate::ring) fn changed(&self, shared: &Shared, first: usize) -> Option<usize> {
        let is_ignored = |cell: usize| self.0[cell].is_ignored.load(Ordering::Relaxed);
        (first..self.0.len()).chain(0..first).find(|cell| self.has_changed(shared, *cell) && !is_ignored(*cell))
    }

    #[inline(always)]
    fn has_changed(&self, shared: &Shared, cell: usize) -> bool {
        // Relaxed: a hint; the copy acquires.
        shared.version(cell) != self.0[cell].version.load(Ordering::Relaxed)
    }

    /// Records that `version` was read; returns how many were skipped.
    #[inline(always)]
    fn read(&self, cell: usize, version: u64) -> u64 {
        let last = self.0[cell].version.load(Ordering::Relaxed);
        self.0[cell].version.store(version, Ordering::Relaxed);
        if last == 0 { 0 } else { version.saturating_sub(last).saturating_sub(1) }
    }
}

/// A reader. A board has any number of them, up to its number of participants. They do not wait for
/// each other, and the writer does not wait for them.
///
/// A reader keeps 16 bytes for each cell: the version that it has read, and whether it watches it
/// ([`Reader::watch`]).
pub struct Reader {
    shared: Shared,
    seen: Seen,
    /// Where the search for a changed cell begins: all get their turn.
    next: usize,
    attachment: Attachment<Fan>,
}

common_calls!(consumer Reader, "latest::Reader", attachment, "this handle");

impl Reader {
    /// Opens or creates the named board, and attaches to it as a reader.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Reader::attach`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Latest, name, options, Self::attach)
    }

    /// Attaches to the board as a reader. Values that are there count as changed. Some system
    /// calls.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], [`Error::Incompatible`], [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        let attachment = Attachment::join(ring, Kind::Latest, Role::Consumer)?;
        let shared = ring.latest_shared();
        let seen = Seen::new(shared.cells());
        attachment.announce();
        Ok(Reader { shared, seen, next: 0, attachment })
    }

    /// From now on, only changes of `cells` are reported: by [`changed`](Reader::changed), in sets
    /// and to tasks. A descriptor still tells of every cell; the call that follows then finds nothing.
    /// All cells can still be read. A new reader watches all of them. Wait-free.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such cell: nothing is changed then.
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(64, 8)?;
    /// rx.watch([7, 9])?; // two faders of a control surface
    /// tx.write(5, b"other")?;
    /// assert!(matches!(rx.try_changed(), Err(slipring::Error::Empty)));
    /// tx.write(9, b"-3 dB")?;
    /// assert_eq!(rx.changed()?, 9);
    /// assert_eq!(rx.try_read(5, &mut [0; 8])?.value, b"other");
    /// rx.watch(0..64)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn watch(&mut self, cells: impl IntoIterator<Item = usize>) -> Result<()> {
        let mut is_ignored = vec![true; self.cells()];
        for cell in cells {
            self.shared.check(cell)?;
            is_ignored[cell] = false;
        }
        for (cell, is_ignored) in self.seen.0.iter().zip(is_ignored) {
            cell.is_ignored.store(is_ignored, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until a cell has a value that was not read.
    /// It is no borrow: this handle stays usable.
    ///
    /// ```
    /// use slipring::{Token, WaitSet};
    /// use std::time::Duration;
    /// let (mut tx, mut rx) = slipring::latest::pair(1, 8)?;
    /// let mut set = WaitSet::new()?;
    /// set.add(Token(7), rx.readable())?;
    /// tx.write(0, b"on")?;
    /// assert!(set.wait_deadline(Duration::from_secs(10))?.eq([Token(7)]));
    /// assert_eq!(rx.try_read(0, &mut [0; 8])?.value, b"on");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Latest(self.shared.clone(), self.seen.clone()))
    }

    /// Copies the newest value of `cell` into `buffer`, whether it was read before or not. The rest
    /// of the buffer may be overwritten, too. Lock-free: see [`latest`](crate::latest#progress).
    ///
    /// # Errors
    /// [`Error::Empty`] if the cell has no value yet; [`Error::Closed`] or [`Error::PeerDead`] if
    /// in addition the writer has departed; [`Error::Overtaken`]; [`Error::TooLarge`] if the buffer
    /// is shorter than the value: [`Reader::max_len`] always suffices; [`Error::Invalid`] if there
    /// is no such cell; [`Error::Corrupt`]; [`Error::Forked`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(1, 8)?;
    /// let mut buffer = [0; 8];
    /// assert!(matches!(rx.try_read(0, &mut buffer), Err(slipring::Error::Empty)));
    /// tx.write(0, b"one")?;
    /// assert_eq!(rx.try_read(0, &mut buffer)?.value, b"one");
    /// tx.write(0, b"two")?;
    /// tx.write(0, b"three")?;
    /// let reading = rx.try_read(0, &mut buffer)?;
    /// assert_eq!((reading.value, reading.version, reading.skipped), (&b"three"[..], 3, 1));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_read<'b>(&mut self, cell: usize, buffer: &'b mut [u8]) -> Result<Reading<&'b [u8]>> {
        let (version, shape, skipped) = self.try_copy::<false>(cell, buffer)?;
        Ok(Reading { value: &buffer[..shape.len as usize], version, skipped })
    }

    /// [`Reader::try_read`]; waits while the cell has no value, and while the writer is faster than
    /// the copies.
    ///
    /// # Errors
    /// As [`Reader::try_read`], without [`Error::Empty`] and [`Error::Overtaken`], and
    /// [`Error::Cancelled`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(1, 8)?;
    /// let reader = std::thread::spawn(move || rx.read(0, &mut [0; 8]).map(|reading| reading.version));
    /// tx.write(0, b"on")?;
    /// assert_eq!(reader.join().unwrap()?, 1);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn read<'b>(&mut self, cell: usize, buffer: &'b mut [u8]) -> Result<Reading<&'b [u8]>> {
        self.read_deadline(cell, buffer, Deadline::never())
    }

    /// [`Reader::read`], until a deadline.
    ///
    /// # Errors
    /// As [`Reader::read`], and [`Error::Timeout`].
    pub fn read_deadline<'b>(
        &mut self,
        cell: usize,
        buffer: &'b mut [u8],
        deadline: impl Into<Deadline>,
    ) -> Result<Reading<&'b [u8]>> {
        let (version, shape, skipped) = self.wait_copy::<false>(cell, buffer, deadline.into())?;
        Ok(Reading { value: &buffer[..shape.len as usize], version, skipped })
    }

    /// The next cell that has a value which this reader has not read. Cells take turns: a cell that
    /// changes all the time does not hide others. Wait-free: at most a load for each cell.
    ///
    /// Reading the cell makes it unchanged. A cell that is not read is returned again in its turn;
    /// one that is of no interest is left out by [`Reader::watch`].
    ///
    /// # Errors
    /// [`Error::Empty`] if there is none; [`Error::Closed`] or [`Error::PeerDead`] if in addition
    /// the writer has departed; [`Error::Forked`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(3, 8)?;
    /// tx.write(2, b"two")?;
    /// assert_eq!(rx.try_changed()?, 2);
    /// rx.try_read(2, &mut [0; 8])?;
    /// assert!(matches!(rx.try_changed(), Err(slipring::Error::Empty)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_changed(&mut self) -> Result<usize> {
        self.attachment.check_fork()?;
        let cell = match self.seen.changed(&self.shared, self.next) {
            Some(cell) => cell,
            None => self.attachment.explain(|| Ok(self.seen.changed(&self.shared, self.next)))?,
        };
        self.next = cell + 1;
        Ok(cell)
    }

    /// [`Reader::try_changed`]; waits until there is such a cell. Blocking: progress depends on the
    /// writer.
    ///
    /// # Errors
    /// [`Error::Closed`] and [`Error::PeerDead`] if the writer has departed and all values were
    /// read; [`Error::Cancelled`], [`Error::Forked`].
    ///
    /// ```
    /// let (mut tx, mut rx) = slipring::latest::pair(3, 8)?;
    /// let reader = std::thread::spawn(move || rx.changed());
    /// tx.write(1, b"one")?;
    /// assert_eq!(reader.join().unwrap()?, 1);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn changed(&mut self) -> Result<usize> {
        self.changed_deadline(Deadline::never())
    }

    /// [`Reader::changed`], until a deadline.
    ///
    /// # Errors
    /// As [`Reader::changed`], and [`Error::Timeout`].
    pub fn changed_deadline(&mut self, deadline: impl Into<Deadline>) -> Result<usize> {
        self.attachment.check_fork()?;
        let look = || Ok(self.seen.changed(&self.shared, self.next));
        let cell = match look()? {
            Some(cell) => cell,
            None => self.attachment.wait(deadline.into(), look, || SLEEP_CAP)?,
        };
        self.next = cell + 1;
        Ok(cell)
    }

    /// Whether `cell` has a value that this reader has not read. Wait-free: one load.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such cell.
    ///
    /// ```
    /// let (mut tx, rx) = slipring::latest::pair(2, 8)?;
    /// tx.write(1, b"new")?;
    /// assert_eq!([rx.has_changed(0)?, rx.has_changed(1)?], [false, true]);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn has_changed(&self, cell: usize) -> Result<bool> {
        self.shared.check(cell)?;
        Ok(self.seen.has_changed(&self.shared, cell))
    }

    /// Whether a cell has a value that was not read.
    #[cfg(feature = "async")]
    pub(super) fn is_any_changed(&self) -> bool {
        self.seen.changed(&self.shared, self.next).is_some()
    }

    /// Number of cells.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.shared.cells()
    }

    /// Length of the largest value, in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.shared.max()
    }

    /// Copies the newest value of `cell`: see [`core::copy`]. Returns its version, its shape, and
    /// how many were skipped.
    #[inline(always)]
    pub(crate) fn try_copy<const WHOLE: bool>(&mut self, cell: usize, buffer: &mut [u8]) -> Result<(u64, Shape, u64)> {
        self.attachment.check_fork()?;
        self.shared.check(cell)?;
        let (version, shape) = match core::copy::<WHOLE>(&self.shared, cell, buffer) {
            Ok(copied) => copied,
            Err(Miss::Nothing) => self.attachment.explain(|| attempt::<WHOLE>(&self.shared, cell, buffer))?,
            Err(miss) => return Err(explain::<WHOLE>(miss, buffer.len())),
        };
        Ok((version, shape, self.took(cell, version, shape)))
    }

    /// Copies the newest value of `cell` if it is as long as `buffer`. Returns its version, and how
    /// many were skipped; `None` as the reason if nothing was tried.
    #[cfg(feature = "zerocopy")]
    #[inline(always)]
    pub(super) fn copy_now(&mut self, cell: usize, buffer: &mut [u8]) -> Result<(u64, u64), Option<Miss>> {
        if self.attachment.is_forked() || cell >= self.shared.cells() || buffer.len() > self.shared.max() {
            return Err(None);
        }
        let (version, shape) = core::copy::<true>(&self.shared, cell, buffer).map_err(Some)?;
        let len = shape.len as usize;
        if len == buffer.len() { Ok((version, self.took(cell, version, shape))) } else { Err(Some(Miss::Long(len))) }
    }

    /// The error of a [`Reader::copy_now`] into `len` bytes that has failed; `Ok` if the next one
    /// will not fail for the same reason.
    #[cfg(feature = "zerocopy")]
    #[cold]
    #[inline(never)]
    pub(super) fn overcome(&mut self, miss: Option<Miss>, cell: usize, len: usize) -> Result<()> {
        match miss {
            Some(Miss::Nothing) => {
                let shared = &self.shared;
                self.attachment.explain(|| Ok((shared.version(cell) != 0).then_some(())))
            }
            Some(miss) => Err(explain::<true>(miss, len)),
            None => {
                self.attachment.check_fork()?;
                self.shared.check(cell)?;
                Err(unlike(len, self.shared.max()))
            }
        }
    }

    /// [`Reader::try_copy`], waiting for the first value.
    pub(crate) fn wait_copy<const WHOLE: bool>(
        &mut self,
        cell: usize,
        buffer: &mut [u8],
        deadline: Deadline,
    ) -> Result<(u64, Shape, u64)> {
        self.attachment.check_fork()?;
        self.shared.check(cell)?;
        let (version, shape) = match attempt::<WHOLE>(&self.shared, cell, buffer)? {
            Some(copied) => copied,
            None => self.attachment.wait(deadline, || attempt::<WHOLE>(&self.shared, cell, buffer), || SLEEP_CAP)?,
        };
        Ok((version, shape, self.took(cell, version, shape)))
    }

    #[inline(always)]
    fn took(&mut self, cell: usize, version: u64, shape: Shape) -> u64 {
        self.attachment.count_traffic(Counter::Received, 1, u64::from(shape.len));
        self.seen.read(cell, version)
    }
}

/// A copy, or nothing if trying again may succeed.
fn attempt<const WHOLE: bool>(shared: &Shared, cell: usize, buffer: &mut [u8]) -> Result<Option<(u64, Shape)>> {
    match core::copy::<WHOLE>(shared, cell, buffer) {
        Ok(copied) => Ok(Some(copied)),
        Err(Miss::Nothing | Miss::Overtaken) => Ok(None),
        Err(miss) => Err(explain::<WHOLE>(miss, buffer.len())),
    }
}

#[cold]
fn explain<const WHOLE: bool>(miss: Miss, room: usize) -> Error {
    match miss {
        Miss::Nothing => Error::Empty,
        Miss::Overtaken => Error::Overtaken,
        Miss::Long(len) if WHOLE => unlike(room, len),
        Miss::Long(_) => Error::TooLarge { max: room },
        Miss::Forged => Error::Corrupt { what: "a latest value" },
    }
}

/// The error for a value that is not as long as its type.
#[cold]
pub(super) fn unlike(expected: usize, found: usize) -> Error {
    Error::Incompatible { what: "size of the value", expected: expected as u64, found: found as u64 }
}
