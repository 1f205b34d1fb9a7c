//! A segment in this process: its validated geometry, its pages, and the state of its participants.
//!
//! Used by all floors above. `create.rs` and `open.rs` make it; it is shared by `Arc`, and unmapped
//! with its last area.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};

use super::counters::Counts;
use super::geometry::Geometry;
use super::header::Header;
use super::layout::{
    CONSUMER_PAGE, MESSAGE_TYPE, PAGE, PARTICIPANTS, PRODUCER_PAGE, RECORD, SHARED_PAGE, claims_len, lanes_len,
    subscribers_len,
};
use super::liveness::locks::{HeapHolder, HeldLocks};
use super::liveness::table::Table;
use super::message_type::MessageType;
use super::set_bits::SetBits;
use crate::error::{Error, Result};
use crate::memory::Area;
use crate::memory::{self, Downgrade, Memory, MemoryOptions};
use crate::os::explained::by_way_of_proc;
use crate::os::fork::LockFd;

/// How to create or open a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) memory: MemoryOptions,
    /// Mode of a named segment's file, at creation.
    pub(crate) mode: u32,
    /// Accept a file that its group may write: all members of the group are then trusted like the
    /// user.
    pub(crate) trust_group: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { memory: MemoryOptions::default(), mode: 0o600, trust_group: false }
    }
}

/// Where the segment can only be observed.
pub(super) const READ_ONLY: Error = Error::Unsupported {
    what: "writing: the segment directory is mounted read-only, and all participants write to a segment: mount it \
           read-write; there, segments can be observed, and broadcast rings be read by a Monitor",
};

/// The owner of the bytes and of the locks.
pub(super) enum Backing {
    File(OwnedFd),
    /// Open for reading only, and mapped read-only: no participant attaches.
    ReadOnly(OwnedFd),
    Heap(Arc<Mutex<BTreeMap<u64, u64>>>),
}

/// A validated segment. The header's contents are copied here and never read from shared memory
/// again.
pub(crate) struct Segment {
    name: Option<String>,
    header: Header,
    backing: Backing,
    control: Area,
    data: Area,
    table: Table,
    downgrades: Vec<Downgrade>,
    /// The bits of sets of waits in this segment's eventcounts.
    set_bits: SetBits,
}

impl Segment {
    /// Maps `fd`, whose size has been compared with the geometry.
    pub(super) fn map(name: Option<&str>, header: Header, fd: OwnedFd, options: &MemoryOptions) -> Result<Self> {
        let g = &header.geometry;
        let memory = memory::map(fd.as_fd(), g.data_offset, g.data_len(), g.page, g.mirrors(), options)?;
        Ok(Self::new(name, header, Backing::File(fd), memory))
    }

    /// Maps `fd`, which is open for reading only, so that nothing can be written.
    pub(super) fn map_read_only(name: &str, header: Header, fd: OwnedFd) -> Result<Self> {
        let g = &header.geometry;
        let control = memory::map_to_read(fd.as_fd(), 0, g.data_offset)?;
        let data = memory::map_to_read(fd.as_fd(), g.data_offset, g.data_len())?;
        let memory = Memory { control, data, downgrades: Vec::new() };
        Ok(Self::new(Some(name), header, Backing::ReadOnly(fd), memory))
    }

    /// Fails if the segment can only be observed. A call that writes to it without a holder of locks
    /// ([`Segment::new_locks`]) asks this first.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if matches!(self.backing, Backing::ReadOnly(_)) { Err(READ_ONLY) } else { Ok(()) }
    }

    pub(super) fn new(name: Option<&str>, header: Header, backing: Backing, memory: Memory) -> Self {
        let Memory { control, mut data, downgrades } = memory;
        let g = &header.geometry;
        if data.len() < 2 * g.data_len() {
            data = data.part(0, g.capacity); // not mirrored: without the rounding up to pages
        }
        let records = control.part(PARTICIPANTS, (g.participants + 1) * RECORD);
        let table = Table::new(records, control.part(SHARED_PAGE, PAGE), g.participants);
        Segment {
            name: name.map(str::to_owned),
            header,
            backing,
            control,
            data,
            table,
            downgrades,
            set_bits: SetBits::new(),
        }
    }

    /// The name with which it was created or opened; `None` for memfd and heap segments.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The validated geometry.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.header.geometry
    }

    /// Random, not zero: distinguishes segments of the same name.
    pub(crate) fn generation(&self) -> u64 {
        self.header.generation
    }

    /// The header, with the creator and the time of creation.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The file or memfd, to pass to other processes; `None` for heap segments. Holds no locks.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::File(fd) | Backing::ReadOnly(fd) => Some(fd.as_fd()),
            Backing::Heap(_) => None,
        }
    }

    /// [`Segment::fd`] of a segment that is not on the heap, where only tests make them.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd().expect("only tests make segments on the heap")
    }

    /// The options that were requested with `best_effort` and are not available.
    pub(crate) fn downgrades(&self) -> &[Downgrade] {
        &self.downgrades
    }

    pub(super) fn with_downgrades(mut self, lacking: Vec<Downgrade>) -> Self {
        self.downgrades.extend(lacking);
        self
    }

    /// The header page in memory, for `dump` and `verify`.
    pub(crate) fn header_page(&self) -> Area {
        self.control.part(0, PAGE)
    }

    /// The type of the messages, which participants agree on.
    pub(crate) fn message_type(&self) -> MessageType {
        MessageType::new(self.control.part(MESSAGE_TYPE, PAGE - MESSAGE_TYPE))
    }

    /// The page that only the producer writes.
    pub(crate) fn producer_page(&self) -> Area {
        self.control.part(PRODUCER_PAGE, PAGE)
    }

    /// The page that only the consumer writes.
    pub(crate) fn consumer_page(&self) -> Area {
        self.control.part(CONSUMER_PAGE, PAGE)
    }

    /// The page of wait and lifecycle words, offsets in `layout.rs`.
    pub(crate) fn shared_page(&self) -> Area {
        self.control.part(SHARED_PAGE, PAGE)
    }

    /// The owner words of a slot ring's slots: `producers[]` and `consumers[]`. Empty without
    /// slots.
    pub(crate) fn claims(&self) -> (Area, Area) {
        let Geometry { claims_offset, slots, .. } = self.header.geometry;
        let len = claims_len(slots);
        (self.control.part(claims_offset, len), self.control.part(claims_offset + len, len))
    }

    /// The subscribers of a broadcast ring.
    pub(crate) fn subscribers(&self) -> Area {
        let Geometry { claims_offset, participants, .. } = self.header.geometry;
        self.control.part(claims_offset, subscribers_len(participants))
    }

    /// The words of the lanes of an mpsc ring.
    pub(crate) fn lanes(&self) -> Area {
        let Geometry { claims_offset, slots, .. } = self.header.geometry;
        self.control.part(claims_offset, lanes_len(slots))
    }

    /// The data: `2 * capacity` bytes if [`Segment::is_mirrored`], else `capacity`.
    pub(crate) fn data(&self) -> Area {
        self.data.clone()
    }

    /// The data, once (not mirrored), through a new mapping that is read-only. It is for an observer,
    /// which reads there the bytes that participants of this process write without atomics through
    /// their own mapping. A heap segment has one mapping only.
    pub(crate) fn map_data_to_read(&self) -> Result<Area> {
        let g = &self.header.geometry;
        match self.fd() {
            Some(fd) => Ok(memory::map_to_read(fd, g.data_offset, g.data_len())?.part(0, g.capacity)),
            None => Ok(self.data.part(0, g.capacity)),
        }
    }

    /// Whether the data is mapped twice, each lane of an mpsc ring by itself. Heap segments are not
    /// mirrored.
    pub(crate) fn is_mirrored(&self) -> bool {
        self.data.len() == 2 * self.header.geometry.capacity
    }

    /// The bits that sets of waits of this process have in its eventcounts.
    pub(crate) fn set_bits(&self) -> &SetBits {
        &self.set_bits
    }

    /// The participants' records.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// The counters of all participants together, since the segment was created.
    pub(crate) fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// A new holder of locks: an open file description of its own, or an entry in the heap
    /// segment's table.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the segment can only be observed; [`Error::Io`].
    pub(super) fn new_locks(&self) -> Result<HeldLocks> {
        self.check_writable()?;
        self.open_locks(OFlags::RDWR)
    }

    /// As [`Segment::new_locks`], but only to examine locks.
    pub(super) fn locks_to_examine(&self) -> Result<HeldLocks> {
        self.open_locks(OFlags::RDONLY)
    }

    fn open_locks(&self, access: OFlags) -> Result<HeldLocks> {
        match &self.backing {
            Backing::Heap(table) => Ok(HeldLocks::Heap(HeapHolder::new(table))),
            Backing::File(fd) | Backing::ReadOnly(fd) => {
                // Through /proc, because the name may be unlinked or belong to another segment by
                // now, and a memfd has none.
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                LockFd::open(|| rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty()))
                    .map(HeldLocks::File)
                    .map_err(|e| {
                        const OP: &str = "open the segment again";
                        Error::io(by_way_of_proc(e, OP, "open the segment again (is /proc mounted?)"), e)
                    })
            }
        }
    }
}
