//! The options of all kinds of rings: kind, size, wake mode, recovery, memory.
//!
//! Used wherever a ring is created or opened. Relies on `segment::geometry` to validate sizes.

use std::path::PathBuf;

use crate::error::Result;
use crate::memory::{HUGE_PAGE, MemoryOptions};
use crate::segment::{self, Directory, Geometry, Kind, Redelivery, Settings, WakeMode};
use crate::wait::idle::Idle;

/// What to create, and how to attach. Sizes are used only when the ring is created; an existing
/// ring keeps its own (see [`Ring::capacity`](crate::Ring::capacity)).
///
/// ```
/// use slipring::{Idle, Options, WakeMode};
/// let for_audio = Options::stream(1 << 16).wake_mode(WakeMode::Poll).idle(Idle::Spin).lock_memory(true).best_effort(true);
/// let for_workers = Options::mpmc(1024, 256).participants(200);
/// # let _ = (for_audio, for_workers);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    shape: Shape,
    settings: Settings,
    segment: segment::Options,
    idle: Idle,
    fail_without_consumer: bool,
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Any,
    Spsc { capacity: usize },
    Mpmc { slots: usize, payload: usize },
    Stream { capacity: usize },
    Latest { cells: usize, size: usize },
    Broadcast { capacity: usize },
    Mpsc { capacity: usize, lanes: usize },
}

impl Options {
    /// A byte ring of frames for one producer and one consumer. `capacity` in bytes, rounded up to
    /// a power of two and to whole pages; the largest payload is 24 bytes less.
    pub fn spsc(capacity: usize) -> Self {
        Self::of(Shape::Spsc { capacity })
    }

    /// A ring of at least `slots` frames (rounded up to a power of two, at least 2) of at least
    /// `payload` bytes each, for many producers and many consumers. A slot takes a multiple of 64
    /// bytes: 24 of them are for headers, and 16 more make it faster unless they would need another
    /// line. So the largest payload is 40, 88 or 104, 152 or 168, … bytes.
    /// [`Ring::slots`](crate::Ring::slots) and [`Ring::max_payload`](crate::Ring::max_payload)
    /// return the actual sizes.
    pub fn mpmc(slots: usize, payload: usize) -> Self {
        Self::of(Shape::Mpmc { slots, payload })
    }

    /// A byte ring without frames for one producer and one consumer. `capacity` as for
    /// [`Options::spsc`].
    pub fn stream(capacity: usize) -> Self {
        Self::of(Shape::Stream { capacity })
    }

    /// A board of `cells` latest values (1 to 65,536) of up to `size` bytes each, for one writer and
    /// many readers. A cell takes four times `size` plus 16 bytes, rounded up to a multiple of 64:
    /// so the largest value is 48, 112, 176, … bytes. [`Ring::slots`](crate::Ring::slots) and
    /// [`Ring::max_payload`](crate::Ring::max_payload) return the actual sizes.
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::latest(16, 64))?;
    /// assert_eq!((ring.slots(), ring.max_payload()), (16, 112));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn latest(cells: usize, size: usize) -> Self {
        Self::of(Shape::Latest { cells, size })
    }

    /// A broadcast ring of frames for one publisher and many subscribers. `capacity` as for
    /// [`Options::spsc`]. It has room for one subscriber less than
    /// [`Options::participants`], and 264 bytes more for each of them.
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::broadcast(1 << 16).participants(1 + 1024))?;
    /// assert_eq!(ring.capacity(), 65_536);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn broadcast(capacity: usize) -> Self {
        Self::of(Shape::Broadcast { capacity })
    }

    /// A ring of frames for many producers and one consumer: `lanes` byte rings (1 to 1,024), one for
    /// each producer. `capacity` of each of them as for [`Options::spsc`]. It has room for a
    /// producer on each lane and for the consumer, whatever [`Options::participants`] says.
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::mpsc(1 << 16, 16))?;
    /// assert_eq!((ring.max_lanes(), ring.capacity()), (16, 16 << 16));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn mpsc(capacity: usize, lanes: usize) -> Self {
        Self::of(Shape::Mpsc { capacity, lanes })
    }

    /// A ring of any kind, for opening only. Creating with it is
    /// [`Error::Invalid`](crate::Error::Invalid).
    pub fn any() -> Self {
        Self::of(Shape::Any)
    }

    fn of(shape: Shape) -> Self {
        Options {
            shape,
            settings: Settings::default(),
            segment: segment::Options::default(),
            idle: Idle::default(),
            fail_without_consumer: false,
            directory: None,
        }
    }

    /// How many handles may be attached at a time, 1 to 4095 (64 by default; 256 bytes each).
    pub fn participants(mut self, count: usize) -> Self {
        self.settings.participants = count;
        self
    }

    /// How a notifier finds out whether a waiter sleeps ([`WakeMode::Asymmetric`] by default).
    pub fn wake_mode(mut self, mode: WakeMode) -> Self {
        self.settings.wake = mode;
        self
    }

    /// What happens to a frame that a dead consumer held ([`Redelivery::AtLeastOnce`] by default).
    pub fn redelivery(mut self, policy: Redelivery) -> Self {
        self.settings.redelivery = policy;
        self
    }

    /// How this handle's blocking calls wait ([`Idle::Park`] by default).
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// Whether this handle's calls that send or reserve fail at once while no consumer is attached
    /// (`false` by default: frames then wait in the ring, until it is full, for a consumer to
    /// come). For producers of every kind of ring; consumers ignore it.
    ///
    /// The error is [`Error::NoConsumer`](crate::Error::NoConsumer) if no consumer has attached
    /// since the producer did, and [`Error::Closed`](crate::Error::Closed) or
    /// [`Error::PeerDead`](crate::Error::PeerDead) once the last one has left or died. Such a call
    /// sends nothing. When another consumer attaches, calls succeed again. This holds for `try_…`,
    /// blocking and `_deadline` calls, and for each frame of a batch. A grant that was reserved
    /// before, and frames that were put into a batch before, can still be committed. An
    /// [`UntrustedConsumer`](crate::spsc::UntrustedConsumer) does not attach, so it does not count.
    ///
    /// The next call notices a consumer that has closed. A death is noticed by the first call that
    /// is 10 to 20 ms after the handle's last check, so a slow producer notices it in the next
    /// call. Where more than 8 participants are attached, they share their checks
    /// (`docs/crash-behaviour.md`). Frames that were sent before that stay in the ring. A call
    /// costs two loads and a reading of the coarse clock, some 5 ns; only a check makes system
    /// calls. In [`WakeMode::Poll`](crate::WakeMode::Poll) only calls that have to wait check for a
    /// death; otherwise another participant or [`Ring::reap_dead`](crate::Ring::reap_dead) does.
    ///
    /// ```
    /// use slipring::{Error, Options, Ring, spsc};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096).fail_without_consumer(true))?;
    /// let mut tx = spsc::Producer::attach(&ring)?;
    /// assert!(matches!(tx.try_send(b"too early"), Err(Error::NoConsumer)));
    /// let mut rx = spsc::Consumer::attach(&ring)?;
    /// tx.send(b"in time")?;
    /// assert_eq!(&*rx.recv()?, b"in time");
    /// rx.close();
    /// assert!(matches!(tx.send(b"too late"), Err(Error::Closed)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fail_without_consumer(mut self, fail: bool) -> Self {
        self.fail_without_consumer = fail;
        self
    }

    /// File mode of a named ring at creation, 0600 by default. If the group can write, every opener
    /// must trust it ([`Options::trust_group`]); the file then gets the group of the directory, if
    /// this process is a member.
    pub fn mode(mut self, mode: u32) -> Self {
        self.segment.mode = mode;
        self
    }

    /// Accept a ring to which its group can write, and rings and a directory that belong to another
    /// user, if their group is one of this process's groups. All members of the group are then
    /// trusted like the owner. To share rings between users, create them with
    /// [`mode(0o660)`](Options::mode) in a directory of the common group with mode 0770, which is
    /// made so if it does not exist. The default directory is never shared.
    pub fn trust_group(mut self, trust: bool) -> Self {
        self.segment.trust_group = trust;
        self
    }

    /// The directory of named rings. By default `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`,
    /// else `/dev/shm/slipring-<uid>`.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// 2 MiB pages: hugetlb for memfds, transparent ones for named rings on tmpfs.
    pub fn huge_pages(mut self, huge: bool) -> Self {
        self.segment.memory.huge = huge;
        self
    }

    /// Touch every page at attach, so that no later access faults.
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.segment.memory.prefault = prefault;
        self
    }

    /// Keep every page in RAM (`mlock`).
    pub fn lock_memory(mut self, lock: bool) -> Self {
        self.segment.memory.lock = lock;
        self
    }

    /// Continue without huge pages, prefaulting or locking where they are not available, and report
    /// that in [`Ring::downgrades`](crate::Ring::downgrades). By default it is an error.
    pub fn best_effort(mut self, best_effort: bool) -> Self {
        self.segment.memory.best_effort = best_effort;
        self
    }

    /// The options of the ring of requests of a server. A request that a dead server has taken is
    /// lost with it, and its caller is told.
    pub(crate) fn for_calls(&self, clients: u16) -> Self {
        let mut options = self.clone().redelivery(Redelivery::AtMostOnce);
        options.settings.participants = options.settings.participants.max(usize::from(clients) + 1);
        options
    }

    /// The options of the lane by which a server replies to a client whose requests go into a ring
    /// with these options. It has room for as many replies as that for requests.
    pub(crate) fn reply_lane(&self) -> Self {
        let capacity = match self.shape {
            Shape::Mpmc { slots, payload } => slots.saturating_mul(payload.saturating_add(32)).next_power_of_two(),
            Shape::Spsc { capacity } => capacity,
            _ => 0, // refused for the requests
        };
        Options { shape: Shape::Spsc { capacity }, fail_without_consumer: false, ..self.clone() }
    }

    pub(super) fn idle_strategy(&self) -> Idle {
        self.idle
    }

    pub(super) fn fails_without_consumer(&self) -> bool {
        self.fail_without_consumer
    }

    pub(super) fn segment_options(&self) -> &segment::Options {
        &self.segment
    }

    /// The directory of named rings, if it exists.
    pub(super) fn open_directory(&self) -> Result<Directory> {
        Directory::open(self.directory.as_deref(), self.segment.trust_group)
    }

    /// The directory of named rings; created if it is missing.
    pub(super) fn create_directory(&self) -> Result<Directory> {
        Directory::create(self.directory.as_deref(), self.segment.trust_group)
    }

    pub(super) fn locate_directory(&self) -> Result<PathBuf> {
        Directory::locate(self.directory.as_deref(), self.segment.trust_group)
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.shape {
            Shape::Any => None,
            Shape::Spsc { .. } => Some(Kind::Spsc),
            Shape::Mpmc { .. } => Some(Kind::Mpmc),
            Shape::Stream { .. } => Some(Kind::Stream),
            Shape::Latest { .. } => Some(Kind::Latest),
            Shape::Broadcast { .. } => Some(Kind::Broadcast),
            Shape::Mpsc { .. } => Some(Kind::Mpsc),
        }
    }

    /// Fails unless these are options of `kind`, before anything is created.
    pub(super) fn expect(&self, kind: Kind) -> Result<()> {
        match self.kind() {
            Some(ours) if ours != kind => Err(segment::wrong_kind(kind, ours)),
            _ => Ok(()),
        }
    }

    pub(crate) fn geometry(&self) -> Result<Geometry> {
        let mut settings = self.settings;
        let MemoryOptions { huge, .. } = self.segment.memory;
        if huge {
            settings.page = settings.page.max(HUGE_PAGE);
        }
        match self.shape {
            Shape::Any => Err(crate::Error::Invalid { what: "kind: name the kind of ring to create" }),
            Shape::Spsc { capacity } => Geometry::spsc(capacity, &settings),
            Shape::Mpmc { slots, payload } => Geometry::mpmc(slots, payload, &settings),
            Shape::Stream { capacity } => Geometry::stream(capacity, &settings),
            Shape::Latest { cells, size } => Geometry::latest(cells, size, &settings),
            Shape::Broadcast { capacity } => Geometry::broadcast(capacity, &settings),
            Shape::Mpsc { capacity, lanes } => Geometry::mpsc(capacity, lanes, &settings),
        }
    }
}
