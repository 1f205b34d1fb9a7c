//! The writer's handle of a board of latest values.

use std::cell::Cell;
use std::marker::PhantomData;

use super::core;
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::ring::attachment::{Attachment, Fan};
use crate::ring::common_calls::common_calls;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};

/// The writer. A board has one at a time: a successor can attach when it is dropped, or when its
/// process has died. The values stay.
///
/// With [`Options::fail_without_consumer`], writing fails while no reader is attached.
///
/// The end of a thread is not a death, because the handle belongs to its process
/// (`docs/crash-behaviour.md`, "A dead thread").
pub struct Writer {
    core: core::Writer,
    attachment: Attachment<Fan>,
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(producer Writer, "latest::Writer", attachment, "this handle");

impl Writer {
    /// Opens or creates the named board, and attaches to it as its writer.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`Writer::attach`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-latest-{}", std::process::id()));
    /// use slipring::{Options, Ring, latest};
    /// let options = Options::latest(1, 64).directory(&dir);
    /// let mut tx = latest::Writer::open("gain", &options)?;
    /// tx.write(0, b"-6 dB")?;
    /// tx.close();
    ///
    /// let mut rx = latest::Reader::open("gain", &options)?; // the value is still there
    /// assert_eq!(rx.read(0, &mut [0; 64])?.value, b"-6 dB");
    /// # Ring::remove("gain", &options)?;
    /// # std::fs::remove_dir(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Ring::open_and_attach(Kind::Latest, name, options, Self::attach)
    }

    /// Attaches to the board as its writer, and continues behind the newest value of each cell.
    /// Some system calls, and a load for each cell.
    ///
    /// # Errors
    /// [`Error::RoleTaken`], [`Error::Incompatible`], [`Error::Corrupt`],
    /// [`Error::TooManyParticipants`], [`Error::Io`].
    pub fn attach(ring: &Ring) -> Result<Self> {
        let attachment = Attachment::join(ring, Kind::Latest, Role::Producer)?;
        let core = core::Writer::attach(ring.latest_shared())?;
        attachment.announce();
        Ok(Writer { core, attachment, _not_sync: PhantomData })
    }

    /// Simulates `SIGKILL`, as the ring sees it.
    #[cfg(test)]
    pub(super) fn kill_for_test(mut self) {
        self.attachment.doom_for_test();
    }

    /// Publishes `value` as the newest one of `cell`, and returns its version: 1 for the first
    /// value of a cell, and one more for each later one. Wait-free: about as many stores as the
    /// value has words; one system call if a reader sleeps.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such cell; [`Error::TooLarge`]; [`Error::Forked`];
    /// [`Error::NoConsumer`] and the like with [`Options::fail_without_consumer`].
    ///
    /// ```
    /// let (mut tx, _rx) = slipring::latest::pair(16, 8)?;
    /// assert_eq!(tx.write(15, b"loud")?, 1);
    /// assert_eq!(tx.write(15, b"soft")?, 2);
    /// assert!(tx.write(16, b"none").is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn write(&mut self, cell: usize, value: &[u8]) -> Result<u64> {
        self.write_kind(cell, Header::DEFAULT_KIND, value)
    }

    /// [`Writer::write`] of the payload of a frame of this kind.
    #[inline(always)]
    pub(crate) fn write_kind(&mut self, cell: usize, kind: u16, value: &[u8]) -> Result<u64> {
        self.attachment.check_send()?;
        let shared = self.core.shared();
        shared.check(cell)?;
        if value.len() > shared.max() {
            return Err(Error::TooLarge { max: shared.max() });
        }
        let version = self.core.write(cell, kind, value);
        self.attachment.wake_peers(1);
        self.attachment.count_traffic(Counter::Sent, 1, value.len() as u64);
        Ok(version)
    }

    /// Number of cells.
    ///
    /// ```
    /// let (tx, rx) = slipring::latest::pair(16, 8)?;
    /// assert_eq!((tx.cells(), rx.cells(), rx.max_len()), (16, 16, tx.max_len()));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn cells(&self) -> usize {
        self.core.shared().cells()
    }

    /// Length of the largest value, in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.core.shared().max()
    }
}
