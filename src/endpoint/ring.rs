//! `ring:NAME[?kind=…]`: a named ring in shared memory.
//!
//! Relies on `ring/`, which defines what the options mean.

use std::path::PathBuf;

use super::query::{self, parse_duration, parse_mode, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::ring::broadcast::{LossySubscriber, Publisher, SlowPolicy, Start, Subscriber};
use crate::ring::{Options, Ring};
use crate::segment::{Kind, Redelivery, WakeMode, directory::check_name, open_and_join};
use crate::transport::ring;
use crate::transport::ring::NO_FRAMES;
use crate::wait::idle::Idle;

/// The default capacity of a byte ring, in bytes: 1 MiB.
pub const DEFAULT_CAPACITY: usize = 1 << 20;
/// The default number of slots of a slot ring.
pub const DEFAULT_SLOTS: usize = 1024;
/// The default payload size of a slot, in bytes.
pub const DEFAULT_SLOT: usize = 256;
/// The default number of lanes of an mpsc ring.
pub const DEFAULT_LANES: usize = 16;
/// The default capacity of a lane, in bytes: 64 KiB.
pub const DEFAULT_LANE: usize = 1 << 16;
/// The default number of cells of a board of latest values.
pub const DEFAULT_CELLS: usize = 1;
/// The default size of a latest value, in bytes.
pub const DEFAULT_SIZE: usize = 256;

/// How often [`RingEndpoint::open_or_create`] retries when other processes keep creating and
/// removing the name.
const ATTEMPTS: usize = 100;

const KEYS: &str = "endpoint option: known for ring are kind, capacity, slots, slot, lanes, cells, size, wake, idle, mode, participants, \
                    redelivery, huge, prefault, mlock, fail_without_consumer, subscribe, start, slow, evict, listen";

/// `ring:NAME[?kind=spsc|mpmc|mpsc|broadcast|latest|stream&capacity=1MiB&…]`.
///
/// | option | value | default |
/// |---|---|---|
/// | `kind` | `spsc`, `mpmc`, `mpsc`, `stream`, `latest`, `broadcast` | that of the existing ring; `spsc` at creation |
/// | `capacity` | a [size](parse_size): byte rings; of each lane of `kind=mpsc` | 1 MiB; 64 KiB |
/// | `lanes` | 1 to 1024: how many producers an mpsc ring has room for (and so `kind=mpsc`) | 16 |
/// | `slots`, `slot` | a number; a size in bytes: slot rings (and so `kind=mpmc`) | 1024, 256 |
/// | `cells`, `size` | a number; a size in bytes: latest values (and so `kind=latest`) | 1, 256 |
/// | `wake` | `poll`, `fenced`, `asymmetric` | `asymmetric` |
/// | `idle` | `spin`, `yield`, `backoff`, `park` | `park` |
/// | `mode` | octal file mode | `0600` |
/// | `participants` | 1 to 4095 | 64 |
/// | `redelivery` | `at-least-once`, `at-most-once` | `at-least-once` |
/// | `huge`, `prefault`, `mlock` | nothing, `true` or `false` | `false` |
/// | `fail_without_consumer` | nothing, `true` or `false`: whether a sender fails while no consumer is attached ([`Options::fail_without_consumer`]) | `false` |
/// | `subscribe` | `reliable`, `lossy`: whether the publisher of a broadcast ring waits for this receiver | `reliable` |
/// | `start` | `oldest`, `latest`: the first frame that a receiver of a broadcast ring gets | `oldest` |
/// | `slow` | `block`, `fail`: what a sender does while a reliable receiver leaves no room ([`SlowPolicy`]) | `block` |
/// | `evict` | a [duration](query::parse_duration): how long a sender waits for a reliable receiver before it evicts it | never |
/// | `listen` | `true` or `false`; either side creates the ring, so it changes nothing | `false` |
#[derive(Clone, Debug, Default)]
pub struct RingEndpoint {
    name: String,
    directory: Option<PathBuf>,
    kind: Option<Kind>,
    capacity: Option<usize>,
    slots: Option<usize>,
    slot: Option<usize>,
    lanes: Option<usize>,
    cells: Option<usize>,
    size: Option<usize>,
    wake: WakeMode,
    idle: Idle,
    redelivery: Redelivery,
    mode: Option<u32>,
    participants: Option<usize>,
    huge: bool,
    prefault: bool,
    lock: bool,
    fail_without_consumer: bool,
    lossy: Option<bool>,
    start: Option<Start>,
    slow: Option<SlowPolicy>,
}

impl RingEndpoint {
    pub(super) fn parse(name: &str, options: &str) -> Result<Self> {
        check_name(name)?;
        let mut ring = RingEndpoint { name: name.to_owned(), ..RingEndpoint::default() };
        query::fold(options, (), |(), key, value| ring.set(key, value))?;
        ring.check()?;
        Ok(ring)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "kind" => self.kind = Some(parse_kind(value)?),
            "capacity" => self.capacity = Some(parse_size(value)?),
            "slots" => self.slots = Some(parse_size(value)?),
            "slot" => self.slot = Some(parse_size(value)?),
            "lanes" => self.lanes = Some(parse_size(value)?),
            "cells" => self.cells = Some(parse_size(value)?),
            "size" => self.size = Some(parse_size(value)?),
            "wake" => self.wake = parse_wake(value)?,
            "idle" => self.idle = value.parse()?,
            "mode" => self.mode = Some(parse_mode(value)?),
            "participants" => self.participants = Some(parse_size(value)?),
            "redelivery" => self.redelivery = parse_redelivery(value)?,
            "huge" => self.huge = parse_switch(value)?,
            "prefault" => self.prefault = parse_switch(value)?,
            "mlock" => self.lock = parse_switch(value)?,
            "fail_without_consumer" => self.fail_without_consumer = parse_switch(value)?,
            "subscribe" => self.lossy = Some(parse_subscribe(value)?),
            "start" => self.start = Some(parse_start(value)?),
            "slow" | "evict" if self.slow.is_some() => return Err(TWO_POLICIES),
            "slow" => self.slow = Some(parse_slow(value)?),
            "evict" => self.slow = Some(SlowPolicy::Evict { after: parse_duration(value)? }),
            "listen" => query::no_listener((), value)?,
            _ => return Err(Error::Invalid { what: KEYS }),
        }
        Ok(())
    }

    /// Checks that a slot ring is sized by slots, latest values by cells, and a byte ring by
    /// capacity, with lanes or without.
    fn check(&mut self) -> Result<()> {
        let has_slots = self.slots.is_some() || self.slot.is_some();
        let has_cells = self.cells.is_some() || self.size.is_some();
        if self.kind.is_none() {
            self.kind = if has_slots {
                Some(Kind::Mpmc)
            } else if has_cells {
                Some(Kind::Latest)
            } else if self.lanes.is_some() {
                Some(Kind::Mpsc)
            } else {
                None
            };
        }
        let is_broadcast = self.lossy.is_some() || self.start.is_some() || self.slow.is_some();
        if is_broadcast && self.kind.is_none() {
            self.kind = Some(Kind::Broadcast);
        }
        match self.kind {
            Some(kind) if is_broadcast && kind != Kind::Broadcast => {
                Err(Error::Invalid { what: "endpoint option: subscribe, start, slow and evict are for kind=broadcast" })
            }
            Some(Kind::Latest) if has_slots || self.capacity.is_some() => {
                Err(Error::Invalid { what: "endpoint option: size latest values by cells and size" })
            }
            Some(kind) if self.lanes.is_some() && kind != Kind::Mpsc => {
                Err(Error::Invalid { what: "endpoint option: lanes are for kind=mpsc" })
            }
            Some(kind) if has_cells && kind != Kind::Latest => {
                Err(Error::Invalid { what: "endpoint option: cells and size are for latest values" })
            }
            Some(Kind::Mpmc) if self.capacity.is_some() => Err(Error::Invalid {
                what: "endpoint option: capacity is for byte rings; size a slot ring by slots and slot",
            }),
            Some(Kind::Spsc | Kind::Stream | Kind::Broadcast | Kind::Mpsc) if has_slots => Err(Error::Invalid {
                what: "endpoint option: slots and slot are for slot rings; size a byte ring by capacity",
            }),
            _ => Ok(()),
        }
    }

    /// The ring's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The requested kind, if any.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// The requested capacity in bytes, if any.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// The requested number of slots, if any.
    #[must_use]
    pub fn slots(&self) -> Option<usize> {
        self.slots
    }

    /// The requested number of lanes, if any.
    #[must_use]
    pub fn lanes(&self) -> Option<usize> {
        self.lanes
    }

    /// The requested number of cells, if any.
    #[must_use]
    pub fn cells(&self) -> Option<usize> {
        self.cells
    }

    /// The same ring in another segment directory.
    #[must_use]
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets whether a sender fails while no consumer is attached: see
    /// [`Options::fail_without_consumer`].
    #[must_use]
    pub fn fail_without_consumer(mut self, fail: bool) -> Self {
        self.fail_without_consumer = fail;
        self
    }

    /// Whether a sender fails while no consumer is attached.
    #[must_use]
    pub fn fails_without_consumer(&self) -> bool {
        self.fail_without_consumer
    }

    /// The options for creating the ring.
    pub fn options(&self) -> Options {
        let capacity = self.capacity.unwrap_or(DEFAULT_CAPACITY);
        let options = match self.kind {
            Some(Kind::Mpmc) => Options::mpmc(self.slots.unwrap_or(DEFAULT_SLOTS), self.slot.unwrap_or(DEFAULT_SLOT)),
            Some(Kind::Mpsc) => {
                Options::mpsc(self.capacity.unwrap_or(DEFAULT_LANE), self.lanes.unwrap_or(DEFAULT_LANES))
            }
            Some(Kind::Stream) => Options::stream(capacity),
            Some(Kind::Broadcast) => Options::broadcast(capacity),
            Some(Kind::Latest) => {
                Options::latest(self.cells.unwrap_or(DEFAULT_CELLS), self.size.unwrap_or(DEFAULT_SIZE))
            }
            _ => Options::spsc(capacity),
        };
        let options = self.attach_options(options).wake_mode(self.wake).redelivery(self.redelivery);
        let options = self.mode.into_iter().fold(options, Options::mode);
        self.participants.into_iter().fold(options, Options::participants)
    }

    /// Adds the options that concern every process that maps the ring, not only its creator.
    fn attach_options(&self, options: Options) -> Options {
        let options = options.idle(self.idle).huge_pages(self.huge).prefault(self.prefault).lock_memory(self.lock);
        let options = options.fail_without_consumer(self.fail_without_consumer);
        self.directory.iter().fold(options, Options::directory)
    }

    /// Creates the ring.
    ///
    /// # Errors
    /// As [`Ring::create`].
    pub fn create(&self) -> Result<Ring> {
        Ring::create(&self.name, &self.options())
    }

    /// Opens the ring, which must be of the requested kind, if any.
    ///
    /// # Errors
    /// As [`Ring::open`].
    pub fn open(&self) -> Result<Ring> {
        let any = self.attach_options(Options::any());
        match self.kind {
            None => Ring::open(&self.name, &any),
            Some(_) => Ring::open(&self.name, &self.options()),
        }
    }

    /// Opens the ring as it is, or creates it.
    ///
    /// # Errors
    /// As [`Ring::open`] and [`Ring::create`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-endpoint-{}", std::process::id()));
    /// use slipring::{Kind, endpoint::Endpoint};
    /// let Endpoint::Ring(ring) = Endpoint::parse("ring:ticks?capacity=64KiB")? else { unreachable!() };
    /// let ring = ring.in_directory(&dir);
    /// assert_eq!(ring.open_or_create()?.capacity(), 65_536);
    /// slipring::Ring::remove(ring.name(), &ring.options())?;
    /// # std::fs::remove_dir(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open_or_create(&self) -> Result<Ring> {
        for _ in 0..ATTEMPTS {
            match self.open() {
                Err(Error::NotFound) => {}
                opened => return opened,
            }
            match self.create() {
                Err(Error::Exists) => {}
                created => return created,
            }
        }
        Err(Error::NotFound)
    }

    /// Whether the ring, as it is or would be created, can carry frames.
    pub(super) fn check_frames(&self) -> Result<()> {
        let there = match Ring::open(&self.name, &self.directory.iter().fold(Options::any(), Options::directory)) {
            Err(Error::NotFound) => self.options().geometry().map(|geometry| geometry.kind),
            opened => opened.map(|ring| ring.kind()),
        };
        match (there?, self.kind) {
            (Kind::Stream, None | Some(Kind::Stream)) => Err(NO_FRAMES),
            _ => Ok(()),
        }
    }

    /// Attaches a producer to the ring, which is created if it does not exist.
    ///
    /// # Errors
    /// As [`RingEndpoint::open_or_create`] and [`ring::Sender::attach`].
    pub fn open_sender(&self) -> Result<ring::Sender> {
        self.check_frames()?;
        open_and_join(|| self.open_or_create(), |ring| self.attach_sender(ring))
    }

    /// Attaches a consumer to the ring, which is created if it does not exist.
    ///
    /// # Errors
    /// As [`RingEndpoint::open_or_create`] and [`ring::Receiver::attach`].
    pub fn open_receiver(&self) -> Result<ring::Receiver> {
        self.check_frames()?;
        open_and_join(|| self.open_or_create(), |ring| self.attach_receiver(ring))
    }

    /// Attaches a producer as the options say.
    ///
    /// # Errors
    /// As [`ring::Sender::attach`].
    pub fn attach_sender(&self, ring: &Ring) -> Result<ring::Sender> {
        if ring.kind() != Kind::Broadcast {
            return ring::Sender::attach(ring);
        }
        self.attach_publisher(ring).map(ring::Sender::from)
    }

    /// Attaches a publisher to a broadcast ring, with the policy that the options say.
    ///
    /// # Errors
    /// As [`Publisher::attach`].
    pub fn attach_publisher(&self, ring: &Ring) -> Result<Publisher> {
        let mut publisher = Publisher::attach(ring)?;
        publisher.set_policy(self.slow.unwrap_or_default());
        Ok(publisher)
    }

    /// Attaches a consumer as the options say.
    ///
    /// # Errors
    /// As [`ring::Receiver::attach`].
    pub fn attach_receiver(&self, ring: &Ring) -> Result<ring::Receiver> {
        let start = self.start.unwrap_or(Start::Oldest);
        match (ring.kind(), self.lossy) {
            (Kind::Broadcast, Some(true)) => LossySubscriber::attach(ring, start).map(ring::Receiver::from),
            (Kind::Broadcast, _) => Subscriber::attach(ring, start).map(ring::Receiver::from),
            _ => ring::Receiver::attach(ring),
        }
    }
}

fn parse_kind(value: &str) -> Result<Kind> {
    match value {
        "spsc" => Ok(Kind::Spsc),
        "mpmc" => Ok(Kind::Mpmc),
        "mpsc" => Ok(Kind::Mpsc),
        "stream" => Ok(Kind::Stream),
        "latest" => Ok(Kind::Latest),
        "broadcast" => Ok(Kind::Broadcast),
        _ => Err(Error::Invalid { what: "kind: must be spsc, mpmc, mpsc, stream, latest or broadcast" }),
    }
}

const TWO_POLICIES: Error =
    Error::Invalid { what: "endpoint option: slow and evict exclude each other, and come once" };

fn parse_subscribe(value: &str) -> Result<bool> {
    match value {
        "reliable" => Ok(false),
        "lossy" => Ok(true),
        _ => Err(Error::Invalid { what: "subscribe: must be reliable or lossy" }),
    }
}

fn parse_start(value: &str) -> Result<Start> {
    match value {
        "oldest" => Ok(Start::Oldest),
        "latest" => Ok(Start::Latest),
        _ => Err(Error::Invalid { what: "start: must be oldest or latest" }),
    }
}

fn parse_slow(value: &str) -> Result<SlowPolicy> {
    match value {
        "block" => Ok(SlowPolicy::Block),
        "fail" => Ok(SlowPolicy::Fail),
        _ => Err(Error::Invalid { what: "slow: must be block or fail; evict=DURATION evicts" }),
    }
}

fn parse_wake(value: &str) -> Result<WakeMode> {
    match value {
        "poll" => Ok(WakeMode::Poll),
        "fenced" => Ok(WakeMode::Fenced),
        "asymmetric" => Ok(WakeMode::Asymmetric),
        _ => Err(Error::Invalid { what: "wake mode: must be poll, fenced or asymmetric" }),
    }
}

fn parse_redelivery(value: &str) -> Result<Redelivery> {
    match value {
        "at-least-once" => Ok(Redelivery::AtLeastOnce),
        "at-most-once" => Ok(Redelivery::AtMostOnce),
        _ => Err(Error::Invalid { what: "redelivery: must be at-least-once or at-most-once" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    fn ring(text: &str) -> Result<RingEndpoint> {
        match Endpoint::parse(text)? {
            Endpoint::Ring(ring) => Ok(ring),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_option_is_understood() {
        let text = "ring:a.b-c_D?kind=stream&capacity=64KiB&wake=poll&idle=spin&mode=0640&participants=3&\
                    redelivery=at-most-once&huge&prefault=false&mlock=true&fail_without_consumer";
        let ring = ring(text).unwrap();
        assert_eq!((ring.name(), ring.kind(), ring.capacity()), ("a.b-c_D", Some(Kind::Stream), Some(65_536)));
        assert_eq!((ring.wake, ring.idle, ring.redelivery), (WakeMode::Poll, Idle::Spin, Redelivery::AtMostOnce));
        assert_eq!((ring.mode, ring.participants), (Some(0o640), Some(3)));
        assert_eq!((ring.huge, ring.prefault, ring.lock), (true, false, true));
        assert!(ring.fails_without_consumer());
    }

    #[test]
    fn slots_mean_mpmc() {
        let ring = ring("ring:x?slots=8").unwrap();
        assert_eq!((ring.kind(), ring.slots()), (Some(Kind::Mpmc), Some(8)));
    }

    #[test]
    fn lanes_mean_mpsc() {
        for text in ["ring:x?lanes=3", "ring:x?kind=mpsc", "ring:x?kind=mpsc&lanes=3&capacity=8K"] {
            assert_eq!(ring(text).unwrap().kind(), Some(Kind::Mpsc), "{text}");
        }
        let geometry = ring("ring:x?lanes=3&capacity=5000").unwrap().options().geometry().unwrap();
        assert_eq!((geometry.kind, geometry.slots, geometry.stride), (Kind::Mpsc, 3, 8192));
        let geometry = ring("ring:x?kind=mpsc").unwrap().options().geometry().unwrap();
        assert_eq!((geometry.slots, geometry.stride), (DEFAULT_LANES, DEFAULT_LANE));
    }

    #[test]
    fn cells_mean_latest() {
        for text in ["ring:x?cells=16", "ring:x?size=64", "ring:x?kind=latest"] {
            assert_eq!(ring(text).unwrap().kind(), Some(Kind::Latest), "{text}");
        }
        let geometry = ring("ring:x?cells=16&size=64").unwrap().options().geometry().unwrap();
        assert_eq!((geometry.kind, geometry.slots, geometry.max_payload), (Kind::Latest, 16, 112));
    }

    #[test]
    fn options_of_subscribers_and_publishers_mean_broadcast() {
        let ring = ring("ring:x?subscribe=lossy&start=latest&evict=100ms").unwrap();
        assert_eq!((ring.kind(), ring.lossy, ring.start), (Some(Kind::Broadcast), Some(true), Some(Start::Latest)));
        assert_eq!(ring.slow, Some(SlowPolicy::Evict { after: std::time::Duration::from_millis(100) }));
    }

    #[test]
    fn invalid_options_are_refused() {
        for text in [
            "",
            "ring",
            "ring:",
            "ring:?kind=spsc",
            "ring:a/b",
            "ring:..",
            "ring:.hidden",
            "ring:a\n",
            "ring:\u{e9}",
            "ring:x?kind=lifo",
            "ring:x?kind",
            "ring:x?colour=red",
            "ring:x?capacity=",
            "ring:x?capacity=-1",
            "ring:x?capacity=99999999999999999999",
            "ring:x?capacity=16777216TiB",
            "ring:x?slots=4&capacity=4K",
            "ring:x?kind=spsc&slot=4",
            "ring:x?kind=spsc&cells=4",
            "ring:x?slots=4&cells=4",
            "ring:x?kind=latest&slots=4",
            "ring:x?kind=latest&capacity=4K",
            "ring:x?kind=spsc&lanes=4",
            "ring:x?lanes=4&slots=4",
            "ring:x?kind=mpsc&cells=4",
            "ring:x?lanes=four",
            "ring:x?kind=mpsc&start=oldest",
            "ring:x?mode=0888",
            "ring:x?mode=+600",
            "ring:x?mode=0400",
            "ring:x?mode=0660",
            "ring:x?mode=0602",
            "ring:x?capacity=4K&capacity=8K",
            "ring:x?huge&huge=false",
            "ring:x?mode=4777",
            "ring:x?huge=perhaps",
            "ring:x?wake=up",
            "ring:x?idle=hands",
            "ring:x?redelivery=never",
            "ring:x?subscribe=always",
            "ring:x?start=now",
            "ring:x?slow=evict",
            "ring:x?slow=block&evict=1s",
            "ring:x?evict=1",
            "ring:x?kind=spsc&start=oldest",
            "ring:x?kind=broadcast&slots=4",
        ] {
            assert!(matches!(ring(text), Err(Error::Invalid { .. })), "{text:?}");
        }
        assert!(ring(&format!("ring:{}", "n".repeat(129))).is_err());
        assert!(ring(&format!("ring:{}", "n".repeat(128))).is_ok());
    }
}
