//! Creating segments: named files, sealed memfds, and heap segments for one process.
//!
//! Used by the rings' constructors. A named segment gets its name last: an incomplete one is never
//! visible, and a creator that is killed leaves nothing behind.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind::{InvalidInput, OutOfMemory, StorageFull};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Gid, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fchown, fcntl_add_seals,
    fstat, fstatfs, ftruncate, linkat, memfd_create, openat,
};
use rustix::io::Errno;
use rustix::param::page_size;
use rustix::process::geteuid;

use super::directory::{Directory, check_name};
use super::geometry::Geometry;
use super::header::Header;
use super::mapping::{Backing, Options, READ_ONLY, Segment};
use crate::error::{Error, Result};
use crate::memory::{self, Downgrade, HUGE_PAGE, MemoryOptions};
use crate::os::explained::{by_way_of_proc, explained};
use crate::os::owner;

/// The seals that a memfd must have, so that no process can make an access to it fault.
pub(super) const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl Segment {
    /// Creates a segment under `name` in `directory`. All its memory is allocated now.
    ///
    /// # Errors
    /// [`Error::Exists`] if the name is in use; [`Error::Io`] if there is no room, with the size
    /// needed.
    pub(crate) fn create(
        directory: &Directory,
        name: &str,
        geometry: Geometry,
        options: &Options,
    ) -> Result<Arc<Self>> {
        check_name(name)?;
        check_mode(options)?;
        check_alignment(&geometry, &options.memory)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match openat(directory, ".", flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let what = "O_TMPFILE in the segment directory: set SLIPRING_DIR to a directory on tmpfs, ext4 or xfs";
                return Err(Error::Unsupported { what });
            }
            Err(Errno::ROFS) => return Err(READ_ONLY),
            opened => opened.map_err(|e| Error::io("create the segment", e))?,
        };
        allocate(&file, &geometry)?;
        share(directory, &file, options)?;
        fchmod(&file, Mode::from_raw_mode(options.mode)).map_err(|e| Error::io("set the segment's mode", e))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let segment = Self::initialise(Some(name), geometry, file, &options.memory)?; // keeps the file open
        match linkat(CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::EXIST) => Err(Error::Exists),
            Err(e) => {
                const OP: &str = "give the segment its name";
                Err(Error::io(by_way_of_proc(e, OP, "give the segment its name (is /proc mounted?)"), e))
            }
            Ok(()) => Ok(Arc::new(segment)),
        }
    }

    /// Creates a nameless segment, sealed against any change of size. Other processes get its
    /// descriptor.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if huge pages were asked for (not on a best-effort basis) and there
    /// are not enough.
    pub(crate) fn memfd(geometry: Geometry, options: &Options) -> Result<Arc<Self>> {
        check_alignment(&geometry, &options.memory)?;
        let mut memory = options.memory;
        memory.huge = false; // the memfd itself has huge pages or not; mapping it needs no advice
        let mut lacking = Vec::new();
        let file = match anonymous(&geometry, options.memory.huge) {
            Err(Error::Unsupported { .. }) if options.memory.best_effort => {
                lacking.push(Downgrade::HugePages);
                anonymous(&geometry, false)?
            }
            file => file?,
        };
        let segment = Self::initialise(None, geometry, file, &memory)?;
        if let Some(fd) = segment.fd() {
            fcntl_add_seals(fd, SEALS).map_err(|e| Error::io("seal the memfd", e))?;
        }
        Ok(Arc::new(segment.with_downgrades(lacking)))
    }

    /// Creates a segment for the threads of this process alone: no file, no mirror, and no header
    /// in its memory, since no process will open it.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests, which Miri and loom run, use it"))]
    pub(crate) fn heap(geometry: Geometry) -> Result<Arc<Self>> {
        let memory = memory::heap(geometry.data_offset, geometry.data_len())?;
        Ok(Arc::new(Self::new(None, new_header(geometry), Backing::Heap(Arc::default()), memory)))
    }

    /// Maps a new file and writes its header.
    fn initialise(name: Option<&str>, geometry: Geometry, file: OwnedFd, memory: &MemoryOptions) -> Result<Self> {
        let segment = Self::map(name, new_header(geometry), file, memory)?;
        // SAFETY: a page is longer than the header, and no other thread or process knows of this
        // segment yet.
        unsafe { segment.header_page().write(0, &segment.header().encode()) };
        Ok(segment)
    }
}

/// Allocates every page now, so that no later access can fail for lack of memory.
fn allocate(file: &OwnedFd, geometry: &Geometry) -> Result<()> {
    let len = geometry.total_len as u64;
    ftruncate(file, len).map_err(|e| Error::io("size the segment", e))?;
    let allocated = if room(file).is_none_or(|free| len <= free) {
        in_steps(len, |at, part| fallocate(file, FallocateFlags::empty(), at, part))
    } else {
        Err(Errno::NOSPC) // without this check, allocating would first use up the system's memory
    };
    allocated.map_err(|e| match e {
        Errno::NOSPC => {
            let free = room(file).map_or(String::new(), |free| format!(", {free} are free"));
            let needed = format!(
                "{len} bytes are needed{free}: remove segments, enlarge the file system of the segment directory, \
                 or create a smaller segment"
            );
            Error::io("allocate the segment", explained(Errno::NOSPC, needed))
        }
        e => Error::io("allocate the segment", e),
    })
}

/// The bytes that can be allocated for `file`; `None` if there is no limit or none is known. A
/// memfd is on a tmpfs without a limit, and the limit of another tmpfs may be above what memory is
/// there. The kernel would not refuse to allocate more: it would kill processes to make room.
fn room(file: &OwnedFd) -> Option<u64> {
    const TMPFS: i64 = 0x0102_1994;
    let fs = fstatfs(file).ok()?;
    let free = (fs.f_blocks > 0).then(|| fs.f_bavail.saturating_mul(fs.f_bsize as u64));
    let memory = (fs.f_type as i64 == TMPFS).then(free_memory).flatten();
    free.into_iter().chain(memory).min()
}

/// The bytes of memory and swap that the kernel can give without killing a process, if /proc is
/// there.
fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(kib("MemAvailable")?.saturating_add(kib("SwapFree").unwrap_or(0)).saturating_mul(1024))
}

/// Gives the file the group of its directory, if the group is to share it and this process is a
/// member: for members whose first group is another one, and directories without a set-group-id
/// bit.
fn share(directory: &Directory, file: &OwnedFd, options: &Options) -> Result<()> {
    if !options.trust_group || !Mode::from_raw_mode(options.mode).intersects(Mode::RGRP | Mode::WGRP) {
        return Ok(());
    }
    let failed = |e| Error::io("set the segment's group", e);
    let gid = fstat(directory.as_fd()).map_err(failed)?.st_gid;
    if gid == fstat(file).map_err(failed)?.st_gid || !owner::is_in(gid) {
        return Ok(());
    }
    fchown(file, None, Some(Gid::from_raw(gid))).map_err(failed)
}

/// The largest step of an allocation, in bytes.
const LARGEST_STEP: u64 = 1 << 30;
const SMALLEST_STEP: u64 = 64 << 10;

/// Calls `allocate` with positions and lengths until `len` bytes are allocated. A signal reverts a
/// whole call, so the next call is half as long, to finish before the next signal.
fn in_steps(len: u64, mut allocate: impl FnMut(u64, u64) -> Result<(), Errno>) -> Result<(), Errno> {
    let (mut done, mut step) = (0, LARGEST_STEP);
    while done < len {
        let part = step.min(len - done);
        match allocate(done, part) {
            Ok(()) => done += part,
            Err(Errno::INTR) => step = (part / 2).max(SMALLEST_STEP),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn anonymous(geometry: &Geometry, huge: bool) -> Result<OwnedFd> {
    let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    let file = match memfd_create("slipring", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("slipring", flags), // before Linux 6.3
        made => made,
    };
    let file = file.map_err(|e| match e {
        Errno::PERM | Errno::NOSYS => Error::Unsupported {
            what: "anonymous segments: a seccomp filter forbids memfd_create; allow it, or use named ones",
        },
        e => Error::io("create a memfd", e),
    });
    match file.and_then(|file| allocate(&file, geometry).map(|()| file)) {
        // The pool of huge pages is empty, or the kernel has no hugetlbfs.
        Err(Error::Io { source, .. }) if huge && matches!(source.kind(), StorageFull | OutOfMemory | InvalidInput) => {
            Err(Error::Unsupported { what: "huge pages: reserve them with sysctl vm.nr_hugepages" })
        }
        made => made,
    }
}

/// Refuses a mode with which no process could open the file.
fn check_mode(options: &Options) -> Result<()> {
    let mode = Mode::from_raw_mode(options.mode);
    let what = if !mode.contains(Mode::RUSR | Mode::WUSR) {
        "mode: must allow its owner to read and write, as 0600 does"
    } else if mode.contains(Mode::WOTH) {
        "mode: must not allow all users to write, as 0602 does"
    } else if mode.contains(Mode::WGRP) && !options.trust_group {
        "mode: allows its group to write, as 0660 does: trust the group (`Options::trust_group`), or choose 0600 or 0640"
    } else {
        return Ok(());
    };
    Err(Error::Invalid { what })
}

fn check_alignment(geometry: &Geometry, memory: &MemoryOptions) -> Result<()> {
    if geometry.page % page_size() != 0 {
        return Err(Error::Invalid { what: "alignment unit: must be a multiple of this system's page size" });
    }
    if memory.huge && geometry.page % HUGE_PAGE != 0 {
        return Err(Error::Invalid { what: "alignment unit: must be 2 MiB for huge pages" });
    }
    Ok(())
}

fn new_header(geometry: Geometry) -> Header {
    // Miri has neither a clock nor users, and no test there reads the header.
    let (now, creator_uid) = if cfg!(miri) {
        (Duration::ZERO, 0)
    } else {
        (SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), geteuid().as_raw())
    };
    Header {
        geometry,
        generation: RandomState::new().hash_one(now).max(1),
        creator_pid: std::process::id(),
        creator_uid,
        created: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_delay_an_allocation_and_do_not_end_it() {
        const QUICK: u64 = 1 << 20; // what can be allocated between two signals
        let (len, mut allocated, mut interrupted) = ((3 << 30) + 4096, 0, 0);
        let allocated_all = in_steps(len, |at, part| {
            if part > QUICK {
                interrupted += 1;
                return Err(Errno::INTR);
            }
            assert_eq!(at, allocated, "without a hole");
            allocated += part;
            Ok(())
        });
        assert_eq!((allocated_all, allocated, interrupted), (Ok(()), len, 10));
        assert_eq!(in_steps(len, |_, _| Err(Errno::NOSPC)), Err(Errno::NOSPC));
    }
}
