//! A segment that is mapped read-only, through a descriptor that may be read-only, too.
//!
//! Used by readers that are no participants: they change nothing in the segment, and nothing that is
//! in it makes them write. Relies on `open.rs` for the checks.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use super::directory::Directory;
use super::geometry::{Geometry, Kind};
use super::header::Header;
use super::layout::{PAGE, PRODUCER_PAGE, subscribers_len};
use super::liveness::record::Role;
use super::mapping::Options;
use super::open::{check_memfd, open_file, wrong_kind};
use crate::error::{Error, Result};
use crate::memory::{Area, map_to_read};
use crate::os::lock;

/// A validated segment. Its areas are only ever loaded from, by relaxed atomics.
pub(crate) struct ReadOnly {
    header: Header,
    fd: OwnedFd,
    control: Area,
    data: Area,
}

impl ReadOnly {
    /// Opens the segment `name`, which must be of `kind`.
    ///
    /// # Errors
    /// As [`Segment::open`](super::Segment::open).
    pub(crate) fn open(directory: &Directory, name: &str, options: &Options, kind: Kind) -> Result<Self> {
        let (file, header) = open_file(directory, name, options, OFlags::RDONLY)?;
        Self::map(file, header, kind)
    }

    /// Accepts a sealed memfd, which may be open for reading only.
    ///
    /// # Errors
    /// As [`Segment::from_memfd`](super::Segment::from_memfd).
    pub(crate) fn from_memfd(file: OwnedFd, kind: Kind) -> Result<Self> {
        let header = check_memfd(&file)?;
        Self::map(file, header, kind)
    }

    fn map(fd: OwnedFd, header: Header, kind: Kind) -> Result<Self> {
        let g = &header.geometry;
        if g.kind != kind {
            return Err(wrong_kind(kind, g.kind));
        }
        let control = map_to_read(fd.as_fd(), 0, g.data_offset)?;
        let data = map_to_read(fd.as_fd(), g.data_offset, g.data_len())?.part(0, g.capacity);
        Ok(ReadOnly { header, fd, control, data })
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.header.geometry
    }

    /// The page that only the producer writes.
    pub(crate) fn producer_page(&self) -> Area {
        self.control.part(PRODUCER_PAGE, PAGE)
    }

    /// The subscribers of a broadcast ring.
    pub(crate) fn subscribers(&self) -> Area {
        let Geometry { claims_offset, participants, .. } = self.header.geometry;
        self.control.part(claims_offset, subscribers_len(participants))
    }

    /// The data, once.
    pub(crate) fn data(&self) -> Area {
        self.data.clone()
    }

    /// Whether a living participant holds an exclusive role. One system call.
    pub(crate) fn is_held(&self, role: Role) -> Result<bool> {
        lock::is_locked(self.fd.as_fd(), role.lock()).map_err(|e| Error::io("examine a lock", e))
    }
}
