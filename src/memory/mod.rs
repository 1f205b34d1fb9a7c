//! Floor 1: memory for rings. Heap for one process (and for Miri), a mapped file or memfd for
//! several.
//!
//! Used by `segment/`, which decides sizes and checks files. This floor maps memory and does not
//! read the bytes. Callers get [`Area`]s, which keep the memory mapped.

use std::fmt;

mod area;
#[cfg(feature = "probe")]
pub(crate) mod blocks;
mod heap;
mod mapped;
mod mirror;
mod words;

pub(crate) use area::{Area, LINE};
pub(crate) use heap::heap;
pub(crate) use mapped::{map, map_to_read};
pub(crate) use words::{Data, Words};

/// The size of the huge pages that are requested, and the alignment unit of a segment that has
/// them.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Two spans: the control pages, and the data.
pub(crate) struct Memory {
    pub(crate) control: Area,
    /// The data; twice the capacity long if mirrored: byte `i` and byte `i + capacity` are the same
    /// byte.
    pub(crate) data: Area,
    /// Options that were requested with `best_effort` and are not available.
    pub(crate) downgrades: Vec<Downgrade>,
}

/// The options of a segment's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryOptions {
    /// Touch every page now, so that no later access faults (`MADV_POPULATE_WRITE`, Linux 5.14).
    pub(crate) prefault: bool,
    /// Keep every page in RAM (`mlock`; limited by `RLIMIT_MEMLOCK`).
    pub(crate) lock: bool,
    /// 2 MiB pages: `MFD_HUGETLB` for memfds, `MADV_HUGEPAGE` for files on tmpfs.
    pub(crate) huge: bool,
    /// Report an option that is not available as a [`Downgrade`] instead of failing.
    pub(crate) best_effort: bool,
}

/// A memory option that was requested with `best_effort` and that this machine did not provide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Downgrade {
    /// Pages were not touched in advance: the first access to each page will fault.
    Prefault,
    /// Pages were not locked: they may be swapped out.
    Lock,
    /// Pages have the ordinary size.
    HugePages,
}

impl fmt::Display for Downgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Downgrade::Prefault => "pages were not prefaulted (needs Linux 5.14 and enough memory)",
            Downgrade::Lock => "pages were not locked in memory (raise RLIMIT_MEMLOCK)",
            Downgrade::HugePages => {
                "no huge pages (reserve some with vm.nr_hugepages, or set transparent_hugepage/shmem_enabled to advise)"
            }
        })
    }
}
