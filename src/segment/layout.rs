//! The layout of a segment: a diagram, the offsets, and their static checks.
//!
//! Used by all code that accesses shared memory. All integers are little-endian, naturally aligned
//! atomics.
//!
//! ```text
//! page 0   immutable header (header.rs); its bytes are also the lock bytes:     byte i of the file = participant i
//!          from MESSAGE_TYPE on: the type of the messages (message_type.rs)
//! page 1   words that the producer writes                                      byte 4096 + r      = exclusive role r
//! page 2   words that the consumer writes                                      byte 4112          = gate (removal.rs)
//! page 3   wait and lifecycle words, written by both sides, each on a line of its own:
//!            DATA_EVENT    u32 eventcount, u32 needs_fence     consumers sleep here
//!            SPACE_EVENT   u32 eventcount, u32 needs_fence     producers sleep here
//!            MEMBERSHIP    u64, +1 after every join, leave and reaping
//!            per role      LAST_JOIN, LAST_CLOSE, LAST_DEATH, CLOSE_SEEN, DEATH_SEEN: u64 tickets, they only grow
//!            LAST_CHECK    u64 ns of CLOCK_MONOTONIC, CHECK_PAUSE u64 ns    (liveness/checks.rs)
//! page 4.. participants: records of 256 bytes, id 0 unused
//!            +0 state 8 | role 8 | ticket 48     +8 pid namespace 32 | pid 32     +16 start time
//!            +24 pidfd inode     +32 join time
//!            +40 eleven counters (counters.rs)         +128 the same eleven, of the other threads
//! subscribers  of a broadcast ring, behind the participants: a word and an entry for each id (ring/broadcast/layout.rs)
//! lanes    of an mpsc ring, behind the participants: a state for each lane, then their words (ring/mpsc/layout.rs)
//! claims   of a slot ring, behind the participants: producers[], then consumers[], a u64 per slot, each array
//!          in whole lines (ring/mpmc/layout.rs)
//! data     at a multiple of the alignment unit (a page, or 2 MiB)
//! ```

use crate::memory::LINE;

/// Unit of the control part. Not the system's page size, because the data's alignment is part of
/// the geometry.
pub(crate) const PAGE: usize = 4096;

/// `"SLIPRING"`, as bytes in the file.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SLIPRING");
/// Has another value on a machine of the other endianness.
pub(crate) const ENDIAN_TAG: u32 = 0x0102_0304;
/// Incremented by every change of this file's layout.
pub(crate) const LAYOUT_VERSION: u32 = 2;

/// Behind the header, up to the end of its page.
pub(crate) const MESSAGE_TYPE: usize = 128;
pub(crate) const PRODUCER_PAGE: usize = PAGE;
pub(crate) const CONSUMER_PAGE: usize = 2 * PAGE;
pub(crate) const SHARED_PAGE: usize = 3 * PAGE;
pub(crate) const PARTICIPANTS: usize = 4 * PAGE;

/// Offsets inside the shared page.
pub(crate) const DATA_EVENT: usize = 0;
pub(crate) const SPACE_EVENT: usize = LINE;
pub(crate) const MEMBERSHIP: usize = 2 * LINE;
/// The lifecycle words of role `r` start at `LIFECYCLE + r * ROLE_SIZE`, one line each.
pub(crate) const LIFECYCLE: usize = 3 * LINE;
pub(crate) const LAST_JOIN: usize = 0;
pub(crate) const LAST_CLOSE: usize = LINE;
pub(crate) const LAST_DEATH: usize = 2 * LINE;
pub(crate) const CLOSE_SEEN: usize = 3 * LINE;
pub(crate) const DEATH_SEEN: usize = 4 * LINE;
pub(crate) const ROLE_SIZE: usize = 5 * LINE;
/// The time of the last liveness check, and the pause until the next one: one line each.
pub(crate) const LAST_CHECK: usize = LIFECYCLE + 2 * ROLE_SIZE;
pub(crate) const CHECK_PAUSE: usize = LAST_CHECK + LINE;
/// The end of the used part of the shared page. A model needs no more of it.
#[cfg(slipring_loom)]
pub(crate) const SHARED_USED: usize = CHECK_PAUSE + LINE;

/// A participant's record, and offsets inside it.
pub(crate) const RECORD: usize = 256;
pub(crate) const STATE: usize = 0;
/// The first of four words: pid and its namespace, start time, pidfd inode, join time.
pub(crate) const PID: usize = 8;
pub(crate) const COUNTERS: usize = 40;
pub(crate) const OTHER_COUNTERS: usize = 128;
pub(crate) const COUNTER_COUNT: usize = 11;

/// Bytes of each of the two arrays of slot owners, and of the array of the states of lanes.
pub(crate) const fn claims_len(slots: usize) -> usize {
    (8 * slots).next_multiple_of(LINE)
}

/// Bytes of the entry of a subscriber of a broadcast ring.
pub(crate) const SUBSCRIBER: usize = if cfg!(slipring_loom) { 5 * LINE } else { 2 * LINE };

/// Bytes of the words that say who subscribes, one for each id.
pub(crate) const fn states_len(participants: usize) -> usize {
    (8 * (participants + 1)).next_multiple_of(LINE)
}

/// Bytes of these words and of the entries behind them.
pub(crate) const fn subscribers_len(participants: usize) -> usize {
    states_len(participants) + (participants + 1) * SUBSCRIBER
}

/// Bytes of the words of a lane of an mpsc ring.
pub(crate) const LANE: usize = if cfg!(slipring_loom) { 5 * LINE } else { 4 * LINE };

/// Bytes of the states of all lanes, and of their words behind them.
pub(crate) const fn lanes_len(lanes: usize) -> usize {
    claims_len(lanes) + lanes * LANE
}

/// Participant ids have 12 bits in the words of slot owners, and 0 means "no owner".
pub(crate) const MAX_PARTICIPANTS: usize = 4095;
/// The lock byte of role `r` is `ROLE_LOCK + r`; the lock byte of participant `i` is `i`.
pub(crate) const ROLE_LOCK: u64 = 4096;
/// The lock byte that joiners hold shared and removers exclusively.
#[cfg(not(slipring_loom))]
pub(super) const GATE: u64 = ROLE_LOCK + 16;

static_assertions::const_assert!(CHECK_PAUSE + LINE <= PAGE);
static_assertions::const_assert!(COUNTERS + 8 * COUNTER_COUNT <= OTHER_COUNTERS);
static_assertions::const_assert!(OTHER_COUNTERS + 8 * COUNTER_COUNT <= RECORD);
static_assertions::const_assert!(PAGE % RECORD == 0);
static_assertions::const_assert!((MAX_PARTICIPANTS as u64) < ROLE_LOCK);
#[cfg(not(slipring_loom))]
static_assertions::const_assert_eq!(LINE, 128);
