//! What C passes: texts, buffers, time-outs, options.
//!
//! Used by every call. Each function here trusts the caller in one point only, which C cannot check
//! either: that a pointer that is neither NULL nor misaligned points to what the header says.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use slipring::broadcast::{SlowPolicy, Start};
use slipring::endpoint::{DEFAULT_CAPACITY, DEFAULT_SLOT, DEFAULT_SLOTS, Duplex, Endpoint, RingEndpoint};
use slipring::{Deadline, Error, Idle, Options, Redelivery, Ring};

use crate::error::{Failure, SLIPRING_EINVAL, SLIPRING_EOPNOTSUPP};

/// The kind of the ring that is there already: nothing is created. 0.
pub const SLIPRING_ANY: c_int = 0;
/// One producer, one consumer, frames of any size.
pub const SLIPRING_SPSC: c_int = 1;
/// Several producers and consumers; each frame goes to one consumer.
pub const SLIPRING_MPMC: c_int = 2;
/// Bytes without boundaries: slipring_stream_writer, slipring_stream_reader.
pub const SLIPRING_STREAM: c_int = 3;
/// Values of which the newest matters: slipring_latest_writer, slipring_latest_reader.
pub const SLIPRING_LATEST: c_int = 6;
/// One publisher; each subscriber receives each frame.
pub const SLIPRING_BROADCAST: c_int = 9;
/// Several producers, each with a lane of its own, one consumer.
pub const SLIPRING_MPSC: c_int = 10;

/// Frames of a dead consumer are lost and counted, instead of delivered again with a mark.
pub const SLIPRING_AT_MOST_ONCE: u32 = 1;
/// A broadcast subscriber that the publisher does not wait for: frames are copied, and those that
/// it was too slow for are counted.
pub const SLIPRING_LOSSY: u32 = 2;
/// Sending fails with SLIPRING_ENOCONSUMER while no consumer is attached.
pub const SLIPRING_FAIL_WITHOUT_CONSUMER: u32 = 4;
/// All pages are made present at once.
pub const SLIPRING_PREFAULT: u32 = 8;
/// All pages are locked into memory (mlock).
pub const SLIPRING_LOCK_MEMORY: u32 = 16;
/// Huge pages.
pub const SLIPRING_HUGE_PAGES: u32 = 32;
/// What the machine refuses of the three above is left out.
pub const SLIPRING_BEST_EFFORT: u32 = 64;
/// Members of the file's group are trusted, too.
pub const SLIPRING_TRUST_GROUP: u32 = 128;
/// `fd` is the descriptor of an anonymous segment (slipring_segment_fd()) that this process opened
/// or was passed; the name must be NULL.
pub const SLIPRING_FROM_FD: u32 = 256;

const ALL_FLAGS: u32 = 511;

/// A broadcast subscriber begins with the next frame. 0.
pub const SLIPRING_START_LATEST: c_int = 0;
/// A broadcast subscriber begins with the oldest frame that is still there.
pub const SLIPRING_START_OLDEST: c_int = 1;

/// A publisher waits for a slow reliable subscriber. 0.
pub const SLIPRING_SLOW_BLOCK: c_int = 0;
/// Sending fails at once if a reliable subscriber leaves no room.
pub const SLIPRING_SLOW_FAIL: c_int = 1;
/// A subscriber that leaves no room for `evict_after_ns` is evicted.
pub const SLIPRING_SLOW_EVICT: c_int = 2;

/// Blocking calls spin for a few microseconds, then sleep. 0.
pub const SLIPRING_IDLE_PARK: c_int = 0;
/// Blocking calls never sleep.
pub const SLIPRING_IDLE_SPIN: c_int = 1;
/// Blocking calls give up the processor between two attempts, and never sleep.
pub const SLIPRING_IDLE_YIELD: c_int = 2;
/// Blocking calls spin and yield for longer and longer, then sleep.
pub const SLIPRING_IDLE_BACKOFF: c_int = 3;

/// How to create or open something. Begin with SLIPRING_OPTIONS_INIT, which sets `struct_size` and
/// leaves every other member at its default, zero; then set what you need. Every opening function
/// takes NULL for "all defaults".
///
/// An endpoint's text says its kind, sizes and flags. So beside an endpoint -SLIPRING_EINVAL
/// refuses them here; `connect_timeout_ns` may be set, and for "ring:" `slow`, `directory` and
/// `message_type`. Of a semaphore, mutex or event: `capacity`, or `fd`, only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct slipring_options {
    /// sizeof(slipring_options): by it the library recognises callers of other versions.
    pub struct_size: usize,
    /// SLIPRING_SPSC and so on, to create the ring if it does not exist; SLIPRING_ANY to open one.
    pub kind: c_int,
    /// SLIPRING_LOSSY and so on, combined by `|`.
    pub flags: u32,
    /// Bytes of a ring (of each lane, for mpsc), rounded up to a power of two of at least 4096; frames
    /// of an mpmc ring, rounded up to a power of two; cells of latest values; permits of a semaphore;
    /// bytes of a mutex. 0: 1 MiB; 64 KiB for a lane; 1024 frames; 1 cell. A ring that exists keeps
    /// its own.
    pub capacity: usize,
    /// The largest payload in bytes of a frame of an mpmc ring, or of a latest value. 0: 256. Some
    /// more may fit: `max_payload` of slipring_get_info() is the limit, also of the other kinds, and
    /// -SLIPRING_EMSGSIZE names it.
    pub payload: usize,
    /// Lanes of an mpsc ring. 0: 16.
    pub lanes: usize,
    /// Participants, producers and consumers together: at least 2. 0: the default of the kind.
    pub participants: usize,
    /// Permissions of the file, as for chmod. 0: 0600.
    pub mode: u32,
    /// SLIPRING_IDLE_SPIN and so on: how blocking calls wait.
    pub idle: c_int,
    /// SLIPRING_START_OLDEST and so on, for broadcast subscribers.
    pub start: c_int,
    /// SLIPRING_SLOW_FAIL and so on, for publishers.
    pub slow: c_int,
    /// Nanoseconds, for SLIPRING_SLOW_EVICT, which needs them: above 0.
    pub evict_after_ns: i64,
    /// Nanoseconds that opening an endpoint may wait for its peer. 0: 10 seconds; negative: no limit.
    pub connect_timeout_ns: i64,
    /// The descriptor for SLIPRING_FROM_FD. It stays the caller's: the library duplicates it.
    pub fd: c_int,
    /// Must be 0.
    pub reserved: c_int,
    /// The directory of named segments. NULL: the environment variable SLIPRING_DIR, or
    /// /dev/shm/slipring-UID.
    pub directory: *const c_char,
    /// A text that names the type of the messages. All participants of a ring that state one must
    /// state the same: the others get -SLIPRING_EOTHERTYPE. A consumer that states one also gets it
    /// for each frame of another kind, such as those of a producer that states none; that frame is
    /// released. NULL: no stated type; such a consumer receives every frame, with its kind.
    pub message_type: *const c_char,
}

/// The first version of the options.
const OPTIONS_V1: usize = mem::size_of::<slipring_options>();
/// A later version is not larger than this.
const OPTIONS_MAX: usize = 1024;

/// How long a call may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Not,
    Forever,
    Until(Deadline),
}

impl Wait {
    #[inline(always)]
    pub(crate) fn of(timeout_ns: i64) -> Self {
        match timeout_ns {
            0 => Wait::Not,
            ..=-1 => Wait::Forever,
            _ => Wait::after(timeout_ns),
        }
    }

    #[cold]
    fn after(timeout_ns: i64) -> Self {
        Wait::Until(Deadline::after(Duration::from_nanos(timeout_ns.unsigned_abs())))
    }

    /// Of a call that has no form without waiting: a deadline that has passed.
    pub(crate) fn deadline(self) -> Deadline {
        match self {
            Wait::Not => Deadline::after(Duration::ZERO),
            Wait::Forever => Deadline::never(),
            Wait::Until(deadline) => deadline,
        }
    }
}

/// What a text argument says.
pub(crate) fn text<'a>(text: *const c_char) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Err(Failure::NULL);
    }
    // SAFETY: not null, so it points to a string that ends in NUL (the header's condition), which
    // the caller does not change during the call.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| Failure::Told(SLIPRING_EINVAL, c"a text is not UTF-8: pass UTF-8"))
}

/// The bytes to read from.
#[inline(always)]
pub(crate) fn bytes<'a>(data: *const c_void, len: usize) -> Result<&'a [u8], Failure> {
    items(data.cast(), len)
}

/// [`bytes`] of the usual kind; `None` without a reason.
#[inline(always)]
pub(crate) fn plain_bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    let is_plain = !data.is_null() && len <= isize::MAX as usize;
    // SAFETY: as in `items`.
    is_plain.then(|| unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// The bytes to write to.
#[inline(always)]
pub(crate) fn buffer<'a>(data: *mut c_void, len: usize) -> Result<&'a mut [u8], Failure> {
    items_mut(data.cast(), len)
}

/// [`buffer`] of the usual kind; `None` without a reason.
#[inline(always)]
pub(crate) fn plain_buffer<'a>(data: *mut c_void, len: usize) -> Option<&'a mut [u8]> {
    let is_plain = !data.is_null() && len <= isize::MAX as usize;
    // SAFETY: as in `items_mut`.
    is_plain.then(|| unsafe { std::slice::from_raw_parts_mut(data.cast(), len) })
}

/// The elements to read.
#[inline(always)]
pub(crate) fn items<'a, T: Copy>(data: *const T, n: usize) -> Result<&'a [T], Failure> {
    if n == 0 {
        return Ok(&[]);
    }
    check_array(data, n)?;
    // SAFETY: not null, aligned, and no longer than an object can be; the caller passes `n`
    // readable elements (the header's condition), which nothing changes during the call.
    Ok(unsafe { std::slice::from_raw_parts(data, n) })
}

/// The elements to fill.
#[inline(always)]
pub(crate) fn items_mut<'a, T: Copy>(data: *mut T, n: usize) -> Result<&'a mut [T], Failure> {
    if n == 0 {
        return Ok(&mut []);
    }
    check_array(data, n)?;
    // SAFETY: as for `items`, with `n` writable elements. They may be uninitialised in C: the library
    // writes them before anything reads them, and every type here is of plain numbers.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, n) })
}

#[inline(always)]
fn check_array<T>(data: *const T, n: usize) -> Result<(), Failure> {
    if data.is_null() || !data.is_aligned() {
        return Err(Failure::bad_pointer(data));
    }
    if n > isize::MAX as usize / mem::size_of::<T>() {
        return Err(Failure::Told(SLIPRING_EINVAL, c"a length exceeds every object: was a negative number converted?"));
    }
    Ok(())
}

/// The variable to write a result to.
#[inline(always)]
pub(crate) fn out<'a, T>(pointer: *mut T) -> Result<&'a mut T, Failure> {
    wanted(pointer).ok_or_else(|| Failure::bad_pointer(pointer))
}

/// The variable to write a result to, if the caller wants it: NULL otherwise.
pub(crate) fn optional<'a, T>(pointer: *mut T) -> Result<Option<&'a mut T>, Failure> {
    if pointer.is_null() { Ok(None) } else { out(pointer).map(Some) }
}

/// [`out`], `None` without a reason.
#[inline(always)]
pub(crate) fn wanted<'a, T>(pointer: *mut T) -> Option<&'a mut T> {
    let is_usable = !pointer.is_null() && pointer.is_aligned();
    // SAFETY: not null, aligned, and so the address of the caller's variable of that type (the
    // header's condition).
    is_usable.then(|| unsafe { &mut *pointer })
}

/// The options, checked, with what they point to.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) raw: slipring_options,
    pub(crate) message_type: Option<&'a str>,
    directory: Option<PathBuf>,
}

impl<'a> Given<'a> {
    pub(crate) fn new(options: *const slipring_options) -> Result<Self, Failure> {
        let mut raw = DEFAULTS;
        if !options.is_null() {
            if !options.is_aligned() {
                return Err(Failure::MISALIGNED);
            }
            // SAFETY: not null, aligned, and every version begins with this member.
            let size = unsafe { options.cast::<usize>().read() };
            if !(OPTIONS_V1..=OPTIONS_MAX).contains(&size) || size % mem::align_of::<slipring_options>() != 0 {
                return Err(Failure::Told(
                    SLIPRING_EINVAL,
                    c"options.struct_size: must be sizeof(slipring_options); begin with SLIPRING_OPTIONS_INIT",
                ));
            }
            // SAFETY: the caller's options have `size` bytes, at least those of this version.
            let all = unsafe { std::slice::from_raw_parts(options.cast::<u8>(), size) };
            if all[OPTIONS_V1..].iter().any(|byte| *byte != 0) {
                return Err(Failure::Told(
                    SLIPRING_EOPNOTSUPP,
                    c"options: a member of a newer version is set: use the library that belongs to the header",
                ));
            }
            // SAFETY: as above; any bits are values of the members.
            raw = unsafe { options.read() };
        }
        if raw.flags & !ALL_FLAGS != 0 || raw.reserved != 0 {
            return Err(Failure::Told(SLIPRING_EINVAL, c"options: unknown flags, or reserved is not 0"));
        }
        check_choices(&raw)?;
        if raw.fd > 0 && raw.flags & SLIPRING_FROM_FD == 0 {
            return Err(Failure::Told(SLIPRING_EINVAL, c"options.fd: is for SLIPRING_FROM_FD, which is not set"));
        }
        let optional = |pointer: *const c_char| (!pointer.is_null()).then_some(pointer);
        let message_type = optional(raw.message_type).map(text).transpose()?;
        let directory = optional(raw.directory).map(|path| {
            // SAFETY: not null, so it points to a string that ends in NUL (the header's condition).
            let path = unsafe { CStr::from_ptr(path) };
            PathBuf::from(OsStr::from_bytes(path.to_bytes()))
        });
        Ok(Given { raw, message_type, directory })
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.raw.flags & flag != 0
    }

    /// The ring of an endpoint, in the directory of the options.
    pub(crate) fn in_directory(&self, ring: RingEndpoint) -> RingEndpoint {
        match &self.directory {
            Some(directory) => ring.in_directory(directory),
            None => ring,
        }
    }

    /// Agrees on the stated type before this participant attaches to the ring, if there is one of that
    /// name: the others do not see one that comes, is refused and leaves. If it is created meanwhile,
    /// it agrees after attaching.
    pub(crate) fn agree_before(&self, name: &str, ring: &Options) -> Result<(), Failure> {
        if let Some(description) = self.message_type {
            if let Ok(ring) = Ring::open(name, ring) {
                ring.agree_on_type(description)?;
            }
        }
        Ok(())
    }

    /// The name to open; `None` for what has none.
    pub(crate) fn name(&self, name: *const c_char) -> Result<Option<&'a str>, Failure> {
        if name.is_null() {
            return Ok(None);
        }
        if self.has(SLIPRING_FROM_FD) {
            return Err(Failure::Told(
                SLIPRING_EINVAL,
                c"SLIPRING_FROM_FD and a name: pass NULL as the name to open options.fd, or leave out the flag",
            ));
        }
        text(name).map(Some)
    }

    /// Refuses what has no effect on an endpoint, whose text says it.
    pub(crate) fn expect_endpoint(&self) -> Result<(), Failure> {
        if self.describes_a_ring() || self.raw.capacity != 0 {
            return Err(Failure::Told(
                SLIPRING_EINVAL,
                c"options: an endpoint's text says its kind, sizes and flags, as in ring:NAME?kind=mpmc&slots=1024; \
                  leave kind, capacity, payload, lanes, participants, mode, flags, idle and start at 0",
            ));
        }
        Ok(())
    }

    /// Refuses what has no effect on a semaphore, mutex or event.
    pub(crate) fn expect_primitive(&self) -> Result<(), Failure> {
        self.expect_plain()?;
        if self.describes_a_ring() || self.raw.slow != 0 {
            return Err(Failure::Told(
                SLIPRING_EINVAL,
                c"options: of a semaphore, mutex or event only capacity, fd and SLIPRING_FROM_FD: leave the others at 0",
            ));
        }
        Ok(())
    }

    /// Whether a member is set that only named and anonymous rings have, other than `capacity`.
    fn describes_a_ring(&self) -> bool {
        let raw = &self.raw;
        let sizes = [raw.payload, raw.lanes, raw.participants];
        let others = [raw.kind, raw.idle, raw.start];
        let flags = raw.flags & !SLIPRING_FROM_FD;
        sizes.iter().any(|n| *n != 0) || others.iter().any(|n| *n != 0) || raw.mode != 0 || flags != 0
    }

    /// What has no stated type: calls.
    pub(crate) fn expect_untyped(&self) -> Result<(), Failure> {
        if self.message_type.is_some() {
            return Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"options.message_type: calls do not compare types; leave it NULL, and state the type in the requests",
            ));
        }
        Ok(())
    }

    /// What has no directory and no stated type: the primitives and transports.
    pub(crate) fn expect_plain(&self) -> Result<(), Failure> {
        if self.directory.is_some() {
            return Err(Failure::Told(
                SLIPRING_EOPNOTSUPP,
                c"options.directory: not for this; set the environment variable SLIPRING_DIR",
            ));
        }
        if self.message_type.is_some() {
            return Err(Failure::Told(SLIPRING_EOPNOTSUPP, c"options.message_type: only rings keep a type"));
        }
        Ok(())
    }

    /// Refuses what has no effect on a ring of this kind, before it is created or attached to.
    pub(crate) fn expect_for(&self, kind: c_int) -> Result<(), Failure> {
        let raw = &self.raw;
        let is = |kinds: &[c_int]| kinds.contains(&kind);
        let (for_broadcast, is_broadcast) = ("SLIPRING_BROADCAST", is(&[SLIPRING_BROADCAST]));
        let options = [
            ("payload", raw.payload != 0, is(&[SLIPRING_MPMC, SLIPRING_LATEST]), "SLIPRING_MPMC and SLIPRING_LATEST"),
            ("lanes", raw.lanes != 0, is(&[SLIPRING_MPSC]), "SLIPRING_MPSC"),
            ("start", raw.start != 0, is_broadcast, for_broadcast),
            ("slow", raw.slow != 0, is_broadcast, for_broadcast),
            ("flags, SLIPRING_LOSSY", self.has(SLIPRING_LOSSY), is_broadcast, for_broadcast),
            (
                "flags, SLIPRING_AT_MOST_ONCE",
                self.has(SLIPRING_AT_MOST_ONCE),
                is(&[SLIPRING_SPSC, SLIPRING_MPMC, SLIPRING_MPSC]),
                "SLIPRING_SPSC, SLIPRING_MPMC and SLIPRING_MPSC",
            ),
        ];
        for (option, is_set, has_effect, kinds) in options {
            if is_set && !has_effect {
                let text = format!("options.{option}: has no effect on {}; it is for {kinds}", kind_name(kind));
                return Err(Failure::Said(SLIPRING_EINVAL, text.into()));
            }
        }
        if raw.participants == 1 {
            let text = format!(
                "options.participants: 1 leaves no place for the other side of {}: at least 2, or 0 for the default",
                kind_name(kind)
            );
            return Err(Failure::Said(SLIPRING_EINVAL, text.into()));
        }
        Ok(())
    }

    /// The options of the library, with `default` for [`SLIPRING_ANY`].
    pub(crate) fn ring(&self, default: c_int) -> Result<Options, Failure> {
        let raw = &self.raw;
        let or = |value: usize, default: usize| if value == 0 { default } else { value };
        let kind = if raw.kind == SLIPRING_ANY { default } else { raw.kind };
        let mut options = match kind {
            SLIPRING_ANY => Options::any(),
            SLIPRING_SPSC => Options::spsc(or(raw.capacity, DEFAULT_CAPACITY)),
            SLIPRING_MPMC => Options::mpmc(or(raw.capacity, DEFAULT_SLOTS), or(raw.payload, DEFAULT_SLOT)),
            SLIPRING_STREAM => Options::stream(or(raw.capacity, DEFAULT_CAPACITY)),
            SLIPRING_LATEST => Options::latest(or(raw.capacity, 1), or(raw.payload, DEFAULT_SLOT)),
            SLIPRING_BROADCAST => Options::broadcast(or(raw.capacity, DEFAULT_CAPACITY)),
            SLIPRING_MPSC => Options::mpsc(or(raw.capacity, 1 << 16), or(raw.lanes, 16)),
            _ => {
                return Err(Failure::Told(
                    SLIPRING_EINVAL,
                    c"options.kind: must be SLIPRING_SPSC, MPMC, MPSC, BROADCAST, STREAM, LATEST or ANY",
                ));
            }
        };
        if raw.participants != 0 {
            options = options.participants(raw.participants);
        }
        if raw.mode != 0 {
            options = options.mode(raw.mode);
        }
        if self.has(SLIPRING_AT_MOST_ONCE) {
            options = options.redelivery(Redelivery::AtMostOnce);
        }
        if let Some(directory) = &self.directory {
            options = options.directory(directory);
        }
        Ok(options
            .idle(idle(raw.idle))
            .fail_without_consumer(self.has(SLIPRING_FAIL_WITHOUT_CONSUMER))
            .prefault(self.has(SLIPRING_PREFAULT))
            .lock_memory(self.has(SLIPRING_LOCK_MEMORY))
            .huge_pages(self.has(SLIPRING_HUGE_PAGES))
            .best_effort(self.has(SLIPRING_BEST_EFFORT))
            .trust_group(self.has(SLIPRING_TRUST_GROUP)))
    }

    /// A duplicate of the descriptor of [`SLIPRING_FROM_FD`].
    pub(crate) fn fd(&self) -> Result<OwnedFd, Failure> {
        if self.raw.fd < 0 {
            return Err(Failure::Told(SLIPRING_EINVAL, c"options.fd: not an open descriptor"));
        }
        // SAFETY: not -1. The caller passes a descriptor that is open during the call; one that is
        // not is refused by the system.
        let fd = unsafe { BorrowedFd::borrow_raw(self.raw.fd) };
        fd.try_clone_to_owned().map_err(|error| match error.raw_os_error() {
            Some(libc::EBADF) | None => Failure::Told(SLIPRING_EINVAL, c"options.fd: not an open descriptor"),
            Some(errno) => Failure::Said(errno, format!("options.fd: duplicate it: {error}").into()),
        })
    }

    pub(crate) fn start(&self) -> Start {
        if self.raw.start == SLIPRING_START_OLDEST { Start::Oldest } else { Start::Latest }
    }

    pub(crate) fn slow(&self) -> SlowPolicy {
        match self.raw.slow {
            SLIPRING_SLOW_FAIL => SlowPolicy::Fail,
            SLIPRING_SLOW_EVICT => {
                SlowPolicy::Evict { after: Duration::from_nanos(self.raw.evict_after_ns.unsigned_abs()) }
            }
            _ => SlowPolicy::Block,
        }
    }

    /// Opens both directions of an endpoint.
    pub(crate) fn duplex(&self, endpoint: *const c_char) -> Result<Duplex, Failure> {
        let endpoint = Endpoint::parse(self.name(endpoint)?.ok_or(Failure::NULL)?)?;
        self.expect_plain()?;
        self.expect_endpoint()?;
        endpoint.open_duplex(self.connect()).map_err(|error| not_open(&endpoint, error))
    }

    pub(crate) fn connect(&self) -> Deadline {
        match self.raw.connect_timeout_ns {
            0 => Deadline::after(Duration::from_secs(10)),
            other => Wait::of(other).deadline(),
        }
    }
}

fn idle(idle: c_int) -> Idle {
    match idle {
        SLIPRING_IDLE_SPIN => Idle::Spin,
        SLIPRING_IDLE_YIELD => Idle::Yield,
        SLIPRING_IDLE_BACKOFF => Idle::Backoff,
        _ => Idle::Park,
    }
}

/// Why an endpoint was not opened: at an address there is nothing to create.
pub(crate) fn not_open(endpoint: &Endpoint, error: Error) -> Failure {
    match (endpoint, error) {
        (Endpoint::Tcp(_), Error::NotFound) => Failure::Told(
            libc::ECONNREFUSED,
            c"connect: connection refused: start the other side, which listens, first",
        ),
        (_, error) => error.into(),
    }
}

/// Refuses values that are invalid whatever is opened.
fn check_choices(raw: &slipring_options) -> Result<(), Failure> {
    let kinds = [
        SLIPRING_ANY,
        SLIPRING_SPSC,
        SLIPRING_MPMC,
        SLIPRING_STREAM,
        SLIPRING_LATEST,
        SLIPRING_BROADCAST,
        SLIPRING_MPSC,
    ];
    let text = if !kinds.contains(&raw.kind) {
        c"options.kind: must be SLIPRING_SPSC, MPMC, MPSC, BROADCAST, STREAM, LATEST or ANY"
    } else if !(SLIPRING_IDLE_PARK..=SLIPRING_IDLE_BACKOFF).contains(&raw.idle) {
        c"options.idle: must be SLIPRING_IDLE_PARK, SPIN, YIELD or BACKOFF"
    } else if !(SLIPRING_START_LATEST..=SLIPRING_START_OLDEST).contains(&raw.start) {
        c"options.start: must be SLIPRING_START_LATEST or _OLDEST"
    } else if !(SLIPRING_SLOW_BLOCK..=SLIPRING_SLOW_EVICT).contains(&raw.slow)
        || (raw.slow == SLIPRING_SLOW_EVICT && raw.evict_after_ns <= 0)
    {
        c"options.slow: must be SLIPRING_SLOW_BLOCK, _FAIL, or _EVICT with evict_after_ns above 0"
    } else if raw.slow != SLIPRING_SLOW_EVICT && raw.evict_after_ns != 0 {
        c"options.evict_after_ns: is for SLIPRING_SLOW_EVICT, which is not set"
    } else {
        return Ok(());
    };
    Err(Failure::Told(SLIPRING_EINVAL, text))
}

pub(crate) fn kind_name(kind: c_int) -> &'static str {
    match kind {
        SLIPRING_SPSC => "SLIPRING_SPSC",
        SLIPRING_MPMC => "SLIPRING_MPMC",
        SLIPRING_STREAM => "SLIPRING_STREAM",
        SLIPRING_LATEST => "SLIPRING_LATEST",
        SLIPRING_BROADCAST => "SLIPRING_BROADCAST",
        SLIPRING_MPSC => "SLIPRING_MPSC",
        _ => "this kind of ring",
    }
}

const DEFAULTS: slipring_options = slipring_options {
    struct_size: OPTIONS_V1,
    kind: SLIPRING_ANY,
    flags: 0,
    capacity: 0,
    payload: 0,
    lanes: 0,
    participants: 0,
    mode: 0,
    idle: SLIPRING_IDLE_PARK,
    start: SLIPRING_START_LATEST,
    slow: SLIPRING_SLOW_BLOCK,
    evict_after_ns: 0,
    connect_timeout_ns: 0,
    fd: 0,
    reserved: 0,
    directory: std::ptr::null(),
    message_type: std::ptr::null(),
};
