//! Memory shared with other processes: a mapped file or memfd.
//!
//! Used by `segment/`, which has checked the file's size and prevents it from shrinking (by seals,
//! or by the trust inside one uid). No `&[u8]` is created over the memory here, only `MmapRaw` and
//! raw pointers.

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise, mlock};

use super::mirror::Mirror;
use super::{Downgrade, Memory, MemoryOptions};
use crate::error::{Error, Result};
use crate::memory::Area;

/// Maps `fd`: control pages at `0 .. control_len`, data at `control_len .. control_len + data_len`,
/// as `mirrors` pieces that are mirrored, or else once.
///
/// Both lengths are multiples of `page` (the page size of the segment), and the file is at least
/// their sum long: the caller has checked that with `fstat`.
pub(crate) fn map(
    fd: BorrowedFd<'_>,
    control_len: usize,
    data_len: usize,
    page: usize,
    mirrors: usize,
    options: &MemoryOptions,
) -> Result<Memory> {
    let control = map_once(fd, 0, control_len)?;
    let data = if mirrors > 0 {
        let mirror = Arc::new(Mirror::new(fd, control_len, data_len, mirrors, page)?);
        let (base, len) = (mirror.base(), mirror.len());
        // SAFETY: the mirror is `len` readable and writable bytes at `base`, page aligned, mapped
        // until it is dropped.
        unsafe { Area::new(base, len, mirror) }
    } else {
        map_once(fd, control_len, data_len)?
    };
    // The contents are of no use in a core dump, and writing gigabytes of them would delay the
    // release of our locks.
    advise(&data, Advice::LinuxDontDump).map_err(|e| Error::io("madvise(MADV_DONTDUMP)", e))?;

    let mut memory = Memory { control, data, downgrades: Vec::new() };
    let areas = [memory.control.clone(), memory.data.clone()];
    if options.huge {
        let done = huge(&memory.data);
        memory.settle(options, Downgrade::HugePages, done)?;
    }
    if options.prefault {
        let done = areas.iter().try_for_each(|area| advise(area, Advice::LinuxPopulateWrite));
        memory.settle(options, Downgrade::Prefault, done.map_err(prefault_error))?;
    }
    if options.lock {
        let done = areas.iter().try_for_each(lock);
        memory.settle(options, Downgrade::Lock, done.map_err(|e| Error::io("mlock (raise RLIMIT_MEMLOCK)", e)))?;
    }
    Ok(memory)
}

/// Maps the `len` bytes at `offset` read-only, for an observer or a subscriber that must not disturb
/// others.
pub(crate) fn map_to_read(fd: BorrowedFd<'_>, offset: usize, len: usize) -> Result<Area> {
    let mut how = MmapOptions::new();
    let map = how.offset(offset as u64).len(len).map_raw_read_only(&fd);
    let data = area_over(map.map_err(|e| Error::io("map the segment", e))?, len)?;
    advise(&data, Advice::LinuxDontDump).map_err(|e| Error::io("madvise(MADV_DONTDUMP)", e))?;
    Ok(data)
}

impl Memory {
    /// Handles an option that could not be had: an error, or a reported downgrade with
    /// `best_effort`.
    fn settle(&mut self, options: &MemoryOptions, wish: Downgrade, done: Result<()>) -> Result<()> {
        match done {
            Err(_) if options.best_effort => self.downgrades.push(wish),
            done => done?,
        }
        Ok(())
    }
}

fn map_once(fd: BorrowedFd<'_>, offset: usize, len: usize) -> Result<Area> {
    let map: MmapRaw =
        MmapOptions::new().offset(offset as u64).len(len).map_raw(&fd).map_err(|e| Error::io("map the segment", e))?;
    area_over(map, len)
}

fn area_over(map: MmapRaw, len: usize) -> Result<Area> {
    let base = NonNull::new(map.as_mut_ptr()).ok_or(Error::Unsupported { what: "a mapping at address zero" })?;
    // SAFETY: the map is `len` bytes at `base`, page aligned, mapped until it is dropped; readable
    // and writable, or only readable for `map_to_read`, whose caller only loads. The file does not
    // shrink under it: see the module's head.
    Ok(unsafe { Area::new(base, len, Arc::new(map)) })
}

/// Requests transparent huge pages. The kernel accepts the advice even where its configuration
/// ignores it, so the configuration is checked first.
fn huge(data: &Area) -> Result<()> {
    const WHAT: &str = "transparent huge pages: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled";
    match std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled") {
        Ok(setting) if !setting.contains("[never]") && !setting.contains("[deny]") => {
            advise(data, Advice::LinuxHugepage).map_err(|e| Error::io("madvise(MADV_HUGEPAGE)", e))
        }
        _ => Err(Error::Unsupported { what: WHAT }),
    }
}

fn prefault_error(error: rustix::io::Errno) -> Error {
    match error {
        rustix::io::Errno::INVAL => Error::Unsupported { what: "prefault: MADV_POPULATE_WRITE needs Linux 5.14" },
        error => Error::io("prefault", error),
    }
}

fn advise(area: &Area, advice: Advice) -> rustix::io::Result<()> {
    // SAFETY: the range is exactly one live mapping of ours, and the advices used here (DONTDUMP,
    // HUGEPAGE, POPULATE_WRITE) change neither its contents nor its protection.
    unsafe { madvise(area.base().cast::<c_void>(), area.len(), advice) }
}

fn lock(area: &Area) -> rustix::io::Result<()> {
    // SAFETY: the range is exactly one live mapping of ours; locking it changes neither contents
    // nor protection.
    unsafe { mlock(area.base().cast::<c_void>(), area.len()) }
}
