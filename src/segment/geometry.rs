//! The geometry of a segment: chosen at creation, validated at opening, and copied into the handle,
//! which does not read it from the segment again.
//!
//! Used by every floor above. Pure checked arithmetic: relies on `layout.rs` and on the frame
//! header being 16 bytes.

use super::layout::{MAX_PARTICIPANTS, PAGE, PARTICIPANTS, RECORD, claims_len, lanes_len, subscribers_len};
use crate::error::{Error, Result};
use crate::memory::LINE;
use crate::wait::barrier::Barrier;

/// The contents of the data part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Kind {
    /// A byte ring of frames, one producer and one consumer.
    Spsc = 1,
    /// A ring of slots, many producers and many consumers.
    Mpmc = 2,
    /// A byte ring without frames, one producer and one consumer.
    Stream = 3,
    /// A semaphore of permits, which their holders own.
    Semaphore = 4,
    /// A mutex.
    Mutex = 5,
    /// A board of latest values, one writer and many readers.
    Latest = 6,
    /// A semaphore that any participant posts.
    SignalSemaphore = 7,
    /// An event.
    Event = 8,
    /// A byte ring of frames, one publisher and many subscribers.
    Broadcast = 9,
    /// A byte ring of frames for each of many producers, and one consumer.
    Mpsc = 10,
}

/// How a notifier finds out whether a waiter sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum WakeMode {
    /// It does not check: participants poll and do not sleep.
    Poll = 0,
    /// It loads without a fence. The waiter calls `membarrier`, and wakes up once more in each
    /// sleep of over 5 ms, because kernels from 5.10 on sometimes leave processors out.
    #[default]
    Asymmetric = 1,
    /// It executes a full fence and a load after every commit.
    Fenced = 2,
}

impl From<WakeMode> for Barrier {
    fn from(mode: WakeMode) -> Self {
        match mode {
            WakeMode::Poll => Barrier::Poll,
            WakeMode::Asymmetric => Barrier::Asymmetric,
            WakeMode::Fenced => Barrier::Fenced,
        }
    }
}

/// What happens to a frame that a dead consumer held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Redelivery {
    /// It is delivered again, flagged `REDELIVERED`.
    #[default]
    AtLeastOnce = 0,
    /// It is skipped and counted as lost.
    AtMostOnce = 1,
}

/// The settings of every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How many handles may be attached at a time, 1..=4095.
    pub(crate) participants: usize,
    pub(crate) wake: WakeMode,
    pub(crate) redelivery: Redelivery,
    /// Alignment unit of the data: a power of two, at least 4 KiB. The system's page, or 2 MiB for
    /// huge pages.
    pub(crate) page: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { participants: 64, wake: WakeMode::default(), redelivery: Redelivery::default(), page: page() }
    }
}

/// The system's page size, where there is a system.
#[cfg(not(any(slipring_loom, miri)))]
fn page() -> usize {
    rustix::param::page_size()
}

#[cfg(any(slipring_loom, miri))]
fn page() -> usize {
    PAGE
}

/// The validated geometry. All sizes in bytes; every field is within the bounds that its
/// constructor checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) kind: Kind,
    /// Bytes of data in use: a power of two for byte rings, `slots * stride` for slot rings and
    /// lanes, heads and slots of a board of latest values.
    pub(crate) capacity: usize,
    /// Number of slots: a power of two for slot rings; cells of a board of latest values; lanes of
    /// an mpsc ring; else 0.
    pub(crate) slots: usize,
    /// Distance between slots, a multiple of 64; bytes of a lane, a power of two; else 0.
    pub(crate) stride: usize,
    /// Largest payload of a frame.
    pub(crate) max_payload: usize,
    pub(crate) participants: usize,
    pub(crate) wake: WakeMode,
    pub(crate) redelivery: Redelivery,
    pub(crate) page: usize,
    /// Offset of what lies behind the participants: of a slot ring the two arrays of slot owners,
    /// one after the other, each of [`claims_len`] bytes; of a broadcast ring its subscribers; of an
    /// mpsc ring its lanes.
    pub(crate) claims_offset: usize,
    /// Offset of the data, a multiple of `page`.
    pub(crate) data_offset: usize,
    /// Size of the file, a multiple of `page`.
    pub(crate) total_len: usize,
}

/// The largest data part: 1 TiB.
const MAX_CAPACITY: usize = 1 << 40;
const MAX_SLOTS: usize = 1 << 24;
/// The frame header's limit for `len`.
const MAX_FRAME: usize = 1 << 30;
/// The commit word of a frame is its short header's first half.
const FRAME_HEADER: usize = 16;
/// A slot's commit word.
const SLOT_COMMIT: usize = 8;
/// The two pads of a slot.
const SLOT_PADS: usize = 16;
/// Slots of a cell, and what a slot has before its value (`ring/latest/layout.rs`).
const CELL_SLOTS: usize = 4;
const CELL_SLOT_HEADER: usize = 16;
/// The number of a cell is the stream of its frames.
const MAX_CELLS: usize = 1 << 16;
const MAX_LANES: usize = 1024;

impl Geometry {
    /// A byte ring of frames: `capacity` bytes, rounded up to a power of two and to whole pages.
    pub(crate) fn spsc(capacity: usize, settings: &Settings) -> Result<Self> {
        let capacity = ring_capacity(capacity, settings.page)?;
        // A frame of n bytes takes align8(16 + n), and there must be room for the next header,
        // which is zeroed.
        let max_payload = (capacity - FRAME_HEADER - 8).min(MAX_FRAME);
        Self::build(Kind::Spsc, capacity, (0, 0), max_payload, settings)
    }

    /// A byte ring without frames: as [`Geometry::spsc`]; `max_payload` is the largest chunk.
    pub(crate) fn stream(capacity: usize, settings: &Settings) -> Result<Self> {
        let capacity = ring_capacity(capacity, settings.page)?;
        Self::build(Kind::Stream, capacity, (0, 0), capacity, settings)
    }

    /// A broadcast ring: as [`Geometry::spsc`].
    pub(crate) fn broadcast(capacity: usize, settings: &Settings) -> Result<Self> {
        let spsc = Self::spsc(capacity, settings)?;
        Self::build(Kind::Broadcast, spsc.capacity, (0, 0), spsc.max_payload, settings)
    }

    /// A ring of `lanes` (1..=1024) byte rings of `capacity` bytes each: as [`Geometry::spsc`]. It
    /// has room for a producer on each lane, the consumer, and a producer that finds no lane.
    pub(crate) fn mpsc(capacity: usize, lanes: usize, settings: &Settings) -> Result<Self> {
        if lanes == 0 || lanes > MAX_LANES {
            return Err(Error::Invalid { what: "number of lanes: must be from 1 to 1024" });
        }
        let lane = Self::spsc(capacity, settings)?;
        let settings = Settings { participants: settings.participants.max(lanes + 2), ..*settings };
        // At most 2^10 * 2^40.
        Self::build(Kind::Mpsc, lanes * lane.capacity, (lanes, lane.capacity), lane.max_payload, &settings)
    }

    /// A ring of `slots` (rounded up to a power of two, 2..=2^24) frames of up to `payload` bytes
    /// (up to 2^30).
    pub(crate) fn mpmc(slots: usize, payload: usize, settings: &Settings) -> Result<Self> {
        if slots == 0 || slots > MAX_SLOTS {
            return Err(Error::Invalid { what: "number of slots: must be from 1 to 2^24" });
        }
        if payload > MAX_FRAME {
            return Err(Error::Invalid { what: "slot size: must be at most 2^30 bytes of payload" });
        }
        let slots = slots.next_power_of_two().max(2);
        let stride = (SLOT_COMMIT + FRAME_HEADER + payload).next_multiple_of(64);
        let capacity = slots * stride; // at most 2^24 * (2^30 + 64)
        let max_payload = (stride - slot_overhead(stride, payload)).min(MAX_FRAME);
        Self::build(Kind::Mpmc, capacity, (slots, stride), max_payload, settings)
    }

    /// A board of `cells` values (1..=65536) of up to `size` bytes (up to 2^30).
    pub(crate) fn latest(cells: usize, size: usize, settings: &Settings) -> Result<Self> {
        if cells == 0 || cells > MAX_CELLS {
            return Err(Error::Invalid { what: "number of cells: must be from 1 to 65536" });
        }
        if size > MAX_FRAME {
            return Err(Error::Invalid { what: "size of a value: must be at most 2^30 bytes" });
        }
        let stride = (CELL_SLOT_HEADER + size).next_multiple_of(64);
        // At most 2^19 + 2^18 * (2^30 + 64).
        let capacity = (8 * cells).next_multiple_of(LINE) + cells * CELL_SLOTS * stride;
        let max_payload = (stride - CELL_SLOT_HEADER).min(MAX_FRAME);
        Self::build(Kind::Latest, capacity, (cells, stride), max_payload, settings)
    }

    /// `len` bytes of data (rounded up to 8) without a ring: semaphores and mutexes.
    pub(crate) fn plain(kind: Kind, len: usize, settings: &Settings) -> Result<Self> {
        let len = len.checked_next_multiple_of(8).unwrap_or(usize::MAX);
        Self::build(kind, len, (0, 0), 0, settings)
    }

    /// Bytes of the data part in the file: the capacity in whole alignment units.
    pub(crate) fn data_len(&self) -> usize {
        self.total_len - self.data_offset
    }

    /// The number of pieces of data that are mapped twice in mapped segments, each by itself; 0 if
    /// the data is mapped once.
    pub(crate) fn mirrors(&self) -> usize {
        match self.kind {
            Kind::Spsc | Kind::Stream | Kind::Broadcast => 1,
            Kind::Mpsc => self.slots,
            _ => 0,
        }
    }

    fn build(
        kind: Kind,
        capacity: usize,
        (slots, stride): (usize, usize),
        max_payload: usize,
        settings: &Settings,
    ) -> Result<Self> {
        let &Settings { participants, wake, redelivery, page } = settings;
        if participants == 0 || participants > MAX_PARTICIPANTS {
            return Err(Error::Invalid { what: "number of participants: must be from 1 to 4095" });
        }
        check_page(page)?;
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(Error::Invalid { what: "capacity: must be from 1 byte to 1 TiB" });
        }
        // Nothing overflows: each summand is below 2^41.
        let claims_offset = PARTICIPANTS + (participants + 1) * RECORD;
        let table = match kind {
            Kind::Mpmc => 2 * claims_len(slots),
            Kind::Broadcast => subscribers_len(participants),
            Kind::Mpsc => lanes_len(slots),
            _ => 0,
        };
        let data_offset = (claims_offset + table).next_multiple_of(page);
        let total_len = data_offset + capacity.next_multiple_of(page);
        #[rustfmt::skip]
        let geometry = Geometry {
            kind, capacity, slots, stride, max_payload, participants, wake, redelivery, page, claims_offset, data_offset, total_len,
        };
        Ok(geometry)
    }
}

/// The bytes of a slot for `payload` that are not payload. If they need no further line, there is a
/// pad in its first line and one in its last, which a producer may touch (`ring/mpmc/layout.rs`). A
/// slot of one line has none.
const fn slot_overhead(stride: usize, payload: usize) -> usize {
    let least = SLOT_COMMIT + FRAME_HEADER;
    if stride > 64 && least + SLOT_PADS + payload <= stride { least + SLOT_PADS } else { least }
}

fn ring_capacity(capacity: usize, page: usize) -> Result<usize> {
    check_page(page)?;
    if capacity == 0 || capacity > MAX_CAPACITY {
        return Err(Error::Invalid { what: "capacity: must be from 1 byte to 1 TiB" });
    }
    Ok(capacity.next_power_of_two().max(page)) // both powers of two: the larger is a multiple of the smaller
}

/// Large enough for 1 GiB huge pages, small enough for the arithmetic above.
fn check_page(page: usize) -> Result<()> {
    if page.is_power_of_two() && (PAGE..=1 << 30).contains(&page) {
        Ok(())
    } else {
        Err(Error::Invalid { what: "alignment unit: must be a power of two from 4 KiB to 1 GiB" })
    }
}

#[cfg(all(test, not(slipring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn byte_rings_round_up_visibly() {
        let settings = Settings::default();
        for (asked, got) in [(1, 4096), (4096, 4096), (4097, 8192), (1_000_000, 1 << 20), (1 << 40, 1 << 40)] {
            let geometry = Geometry::spsc(asked, &settings).unwrap();
            assert_eq!(geometry.capacity, got, "{asked}");
            assert_eq!(geometry.total_len, geometry.data_offset + got);
            assert_eq!(geometry.data_offset % geometry.page, 0);
        }
        let geometry = Geometry::spsc(4096, &settings).unwrap();
        assert_eq!(geometry.max_payload, 4096 - 24);
        assert_eq!((16 + geometry.max_payload).next_multiple_of(8) + 8, 4096, "the largest frame fits exactly");
        assert_eq!(Geometry::spsc(1 << 40, &settings).unwrap().max_payload, 1 << 30);
        assert_eq!(Geometry::stream(5000, &settings).unwrap().max_payload, 8192);
    }

    #[test]
    fn huge_pages_align_everything() {
        let page = 2 << 20;
        let geometry = Geometry::spsc(4096, &Settings { page, ..Settings::default() }).unwrap();
        assert_eq!((geometry.data_offset, geometry.capacity, geometry.total_len), (page, page, 2 * page));
    }

    #[test]
    fn slot_rings_round_up_visibly() {
        let geometry = Geometry::mpmc(1, 0, &Settings::default()).unwrap();
        assert_eq!((geometry.slots, geometry.stride, geometry.max_payload), (2, 64, 40));
        assert_eq!((geometry.capacity, geometry.data_len()), (128, 4096));
        let geometry = Geometry::mpmc(1000, 1024, &Settings::default()).unwrap();
        assert_eq!((geometry.slots, geometry.stride, geometry.max_payload), (1024, 1088, 1048));
        for (asked, got) in [(41, 88), (64, 88), (88, 88), (89, 104), (104, 104), (105, 152)] {
            let geometry = Geometry::mpmc(2, asked, &Settings::default()).unwrap();
            assert_eq!(geometry.max_payload, got, "pads exist where they need no further line");
            let again = Geometry::mpmc(2, got, &Settings::default()).unwrap();
            assert_eq!(again, geometry, "and are the same for what was made");
        }
        let claims = geometry.data_offset - geometry.claims_offset;
        assert!((16 * 1024..16 * 1024 + 4096).contains(&claims), "two words a slot, in whole pages");
        let geometry = Geometry::mpmc(1 << 24, 8, &Settings::default()).unwrap();
        assert_eq!(geometry.data_offset - geometry.claims_offset.next_multiple_of(4096), 16 << 24);
        let geometry = Geometry::mpmc(2, 1 << 30, &Settings::default()).unwrap();
        assert_eq!(geometry.max_payload, 1 << 30, "the frame header limits the payload, not the stride");
    }

    #[test]
    fn lanes_round_up_visibly() {
        let geometry = Geometry::mpsc(5000, 16, &Settings::default()).unwrap();
        assert_eq!((geometry.slots, geometry.stride, geometry.capacity), (16, 8192, 16 * 8192));
        assert_eq!((geometry.max_payload, geometry.participants), (8192 - 24, 64));
        let geometry = Geometry::mpsc(4096, 1024, &Settings::default()).unwrap();
        assert_eq!(geometry.participants, 1026, "a producer for each lane, the consumer, and one without a lane");
        assert_eq!(geometry.data_offset % geometry.page, 0);
        let again = Settings { participants: geometry.participants, ..Settings::default() };
        assert_eq!(Geometry::mpsc(geometry.stride, geometry.slots, &again).unwrap(), geometry);
    }

    #[test]
    fn boards_round_up_visibly() {
        for (asked, got) in [(0, 48), (48, 48), (49, 112), (64, 112), (1000, 1008)] {
            let geometry = Geometry::latest(3, asked, &Settings::default()).unwrap();
            assert_eq!((geometry.slots, geometry.max_payload), (3, got), "{asked}");
            assert_eq!(geometry.capacity, 128 + 3 * 4 * geometry.stride);
            assert_eq!(Geometry::latest(3, got, &Settings::default()).unwrap(), geometry, "the same for what was made");
        }
        let geometry = Geometry::latest(1 << 16, 8, &Settings::default()).unwrap();
        assert_eq!(geometry.capacity, (1 << 19) + (1 << 18) * 64);
        assert!(geometry.data_offset - geometry.claims_offset < 4096, "no owners");
        assert_eq!(Geometry::latest(2, 1 << 30, &Settings::default()).unwrap().max_payload, 1 << 30);
    }

    #[test]
    fn impossible_shapes_are_errors() {
        let ok = Settings::default();
        let with = |participants, page| Settings { participants, page, ..ok };
        let refused = [
            Geometry::spsc(0, &ok),
            Geometry::spsc((1 << 40) + 1, &ok),
            Geometry::stream(usize::MAX, &ok),
            Geometry::mpmc(0, 8, &ok),
            Geometry::mpmc((1 << 24) + 1, 8, &ok),
            Geometry::mpmc(2, (1 << 30) + 1, &ok),
            Geometry::mpmc(1 << 24, 1 << 20, &ok),
            Geometry::mpsc(4096, 0, &ok),
            Geometry::mpsc(4096, 1025, &ok),
            Geometry::mpsc(1 << 31, 1024, &ok),
            Geometry::latest(0, 8, &ok),
            Geometry::latest((1 << 16) + 1, 8, &ok),
            Geometry::latest(1, (1 << 30) + 1, &ok),
            Geometry::latest(1 << 16, 1 << 23, &ok),
            Geometry::plain(Kind::Mutex, 0, &ok),
            Geometry::plain(Kind::Mutex, usize::MAX, &ok),
            Geometry::spsc(4096, &with(0, 4096)),
            Geometry::spsc(4096, &with(4096, 4096)),
            Geometry::spsc(4096, &with(1, 0)),
            Geometry::spsc(4096, &with(1, 2048)),
            Geometry::spsc(4096, &with(1, 12288)),
            Geometry::spsc(4096, &with(1, 1 << 40)),
        ];
        for (i, result) in refused.into_iter().enumerate() {
            assert!(matches!(result, Err(Error::Invalid { .. })), "case {i}: {result:?}");
        }
        assert_eq!(Geometry::spsc(4096, &with(4095, 4096)).unwrap().data_offset, PARTICIPANTS + 4096 * RECORD);
    }
}
