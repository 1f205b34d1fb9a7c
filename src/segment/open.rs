//! Opening existing segments. Every refusal is a typed error, and nothing is mapped before it is
//! checked.
//!
//! Used by the rings' constructors and by the command line.

use std::io::ErrorKind::ReadOnlyFilesystem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fcntl_get_seals, fstat, openat, statat};
use rustix::io::{Errno, pread};
use rustix::param::page_size;

use super::create::SEALS;
use super::directory::{Directory, check_name, no_access};
use super::geometry::{Geometry, Kind};
use super::header::{HEADER_LEN, Header};
use super::mapping::{Options, Segment};
use crate::error::{Error, Result};
use crate::os::owner;

/// How often `open_or_create` retries when other processes keep creating and removing the name.
const ATTEMPTS: usize = 100;

impl Segment {
    /// Opens the segment `name` in `directory`. On a read-only file system it can only be observed.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Untrusted`] unless the file is a regular one of this user's
    /// that no other user may write (or of a trusted group's); [`Error::Corrupt`] or
    /// [`Error::Incompatible`] if its contents are not a segment of this version.
    pub(crate) fn open(directory: &Directory, name: &str, options: &Options) -> Result<Arc<Self>> {
        match open_file(directory, name, options, OFlags::RDWR) {
            Err(Error::Io { source, .. }) if source.kind() == ReadOnlyFilesystem => {
                let (file, header) = open_file(directory, name, options, OFlags::RDONLY)?;
                Self::map_read_only(name, header, file).map(Arc::new)
            }
            opened => {
                let (file, header) = opened?;
                Ok(Arc::new(Self::map(Some(name), header, file, &options.memory)?))
            }
        }
    }

    /// Opens the segment `name`, or creates it. An existing segment keeps its geometry, which the
    /// caller must check.
    ///
    /// # Errors
    /// Those of [`Segment::open`] and [`Segment::create`]; [`Error::Incompatible`] if the existing
    /// segment is of another kind.
    pub(crate) fn open_or_create(
        directory: &Directory,
        name: &str,
        geometry: Geometry,
        options: &Options,
    ) -> Result<Arc<Self>> {
        for _ in 0..ATTEMPTS {
            match Self::open(directory, name, options) {
                Err(Error::NotFound) => {}
                opened => return opened.and_then(|segment| segment.expect_kind(geometry.kind)),
            }
            match Self::create(directory, name, geometry, options) {
                Err(Error::Exists) => {}
                created => return created,
            }
        }
        Err(Error::NotFound)
    }

    /// Accepts a memfd from another process: sealed, and as long as its header says.
    ///
    /// # Errors
    /// [`Error::Untrusted`] if it is not a memfd, or not sealed against every change of size.
    pub(crate) fn from_memfd(file: OwnedFd, options: &Options) -> Result<Arc<Self>> {
        let header = check_memfd(&file)?;
        let mut memory = options.memory;
        memory.huge = false; // its creator has decided about huge pages
        Ok(Arc::new(Self::map(None, header, file, &memory)?))
    }

    /// Fails unless the segment is of `kind`.
    pub(crate) fn expect_kind(self: Arc<Self>, kind: Kind) -> Result<Arc<Self>> {
        let found = self.geometry().kind;
        if found == kind {
            return Ok(self);
        }
        Err(wrong_kind(kind, found))
    }
}

/// Opens the file of the segment `name`, with `access`, and checks it and its header.
pub(super) fn open_file(
    directory: &Directory,
    name: &str,
    options: &Options,
    access: OFlags,
) -> Result<(OwnedFd, Header)> {
    check_name(name)?;
    // NONBLOCK: opening a FIFO under that name must not block.
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Err(Error::NotFound),
        Err(Errno::LOOP) => return Err(Error::Untrusted { what: "the segment is a symbolic link" }),
        Err(Errno::ISDIR | Errno::NXIO) => return Err(Error::Untrusted { what: NOT_REGULAR }),
        Err(Errno::ACCESS) => {
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            return Err(no_access("open the segment", name.as_ref(), stat));
        }
        opened => opened.map_err(|e| Error::io("open the segment", e))?,
    };
    let stat = fstat(&file).map_err(|e| Error::io("examine the segment", e))?;
    check_file(&file, &stat, options)?;
    let header = read_header(&file, &stat)?;
    Ok((file, header))
}

/// The header of a memfd that is sealed, and as long as the header says.
pub(super) fn check_memfd(file: &OwnedFd) -> Result<Header> {
    // Only memfds (and hugetlbfs files) have seals; EINVAL from anything else.
    let seals = fcntl_get_seals(file).map_err(|_| Error::Untrusted { what: "the descriptor is not a memfd" })?;
    if !seals.contains(SEALS) {
        return Err(Error::Untrusted {
            what: "the memfd is not sealed: seal it with F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL",
        });
    }
    let stat = fstat(file).map_err(|e| Error::io("examine the memfd", e))?;
    read_header(file, &stat)
}

/// The error for a segment of another kind than expected.
pub(crate) fn wrong_kind(expected: Kind, found: Kind) -> Error {
    const WHAT: &str = "kind of segment (1 spsc, 2 mpmc, 3 stream, 4 semaphore, 5 mutex, 6 latest, 7 signal semaphore, 8 event, \
         9 broadcast, 10 mpsc)";
    const SEMAPHORES: &str = "kind of semaphore (4, of permits: open it as a Semaphore; 7, posted by any participant: \
                              open it as a SignalSemaphore)";
    let what = match (expected, found) {
        (Kind::Semaphore, Kind::SignalSemaphore) | (Kind::SignalSemaphore, Kind::Semaphore) => SEMAPHORES,
        _ => WHAT,
    };
    Error::Incompatible { what, expected: expected as u64, found: found as u64 }
}

const NOT_REGULAR: &str = "the segment is not a regular file";

fn check_file(file: &OwnedFd, stat: &Stat, options: &Options) -> Result<()> {
    let untrusted = |what| Err(Error::Untrusted { what });
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return untrusted(NOT_REGULAR);
    }
    if !owner::is_trusted(file.as_fd(), stat, options.trust_group) {
        return untrusted(
            "the segment belongs to another user: run both sides as one user, or trust their common group \
             (`Options::trust_group`)",
        );
    }
    match stat.st_nlink {
        0 => return Err(Error::NotFound), // removed after it was opened
        1 => {}
        _ => return untrusted("the segment has another name (a hard link)"),
    }
    let forbidden = if options.trust_group { Mode::WOTH } else { Mode::WGRP | Mode::WOTH };
    if Mode::from_raw_mode(stat.st_mode).intersects(forbidden) {
        return untrusted("other users may write to the segment: chmod go-w it, or trust its group explicitly");
    }
    Ok(())
}

fn read_header(file: &OwnedFd, stat: &Stat) -> Result<Header> {
    let mut bytes = [0; HEADER_LEN];
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    let read = pread(file, &mut bytes, 0).map_err(|e| Error::io("read the segment's header", e))?;
    if read < HEADER_LEN {
        return Err(Error::Corrupt { what: "the file is too short for a segment" });
    }
    let header = Header::decode(&bytes, len)?;
    if header.geometry.page % page_size() != 0 {
        let (expected, found) = (page_size() as u64, header.geometry.page as u64);
        return Err(Error::Incompatible { what: "page size", expected, found });
    }
    Ok(header)
}
