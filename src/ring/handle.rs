//! [`Ring`]: a mapped ring without a role, to create, open, inspect or remove it.
//!
//! Used by the producers and consumers, which attach to one, and by the command line. Relies on
//! `segment/`; `by_kind.rs` has what depends on the kind, `observe.rs` the calls that inspect it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::options::Options;
use crate::error::{Error, Result};
use crate::memory::{Downgrade, MemoryOptions};
use crate::segment::message_type::{fingerprint, kind_of_frames};
use crate::segment::{
    self, Directory, Geometry, Kind, ParticipantInfo, Reaper, Redelivery, Role, Segment, WakeMode, open_and_join,
};
use crate::wait::idle::Idle;

/// A mapped and validated ring, without the role of a producer or consumer. Clones share the
/// mapping.
///
/// ```
/// use slipring::{Kind, Options, Ring, spsc};
/// let ring = Ring::create_anonymous(&Options::spsc(1 << 16))?;
/// assert_eq!((ring.kind(), ring.capacity()), (Kind::Spsc, 65_536));
/// let mut tx = spsc::Producer::attach(&ring)?;
/// tx.try_send(b"hello")?;
/// assert_eq!(ring.stats().counts.sent, 1);
/// assert!(ring.verify()?.is_clean());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone)]
pub struct Ring {
    segment: Arc<Segment>,
    idle: Idle,
    /// [`Options::fail_without_consumer`], for producers.
    needs_consumer: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("name", &self.name()).field("kind", &self.kind()).finish_non_exhaustive()
    }
}

/// The file or memfd behind the ring: pass it to a peer (`SCM_RIGHTS`, or inheritance), which opens
/// it with [`Ring::from_fd`].
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

impl Ring {
    /// Creates the named ring. It appears under its name only when it is complete. System calls:
    /// about ten.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for an impossible name or size, [`Error::Untrusted`]
    /// if the directory is not ours alone, [`Error::Io`] if there is no room.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-create-{}", std::process::id()));
    /// use slipring::{Options, Ring};
    /// let options = Options::mpmc(1024, 256).directory(&dir);
    /// Ring::create("jobs", &options)?;
    /// assert!(matches!(Ring::create("jobs", &options), Err(slipring::Error::Exists)));
    /// Ring::remove("jobs", &options)?;
    /// # std::fs::remove_dir(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn create(name: &str, options: &Options) -> Result<Self> {
        let geometry = options.geometry()?;
        let directory = options.create_directory()?;
        Ok(Self::over(Segment::create(&directory, name, geometry, options.segment_options())?, options))
    }

    /// Opens the named ring. Its kind must be that of `options`, unless those are [`Options::any`].
    /// It keeps its own sizes. In a directory that is mounted read-only it can be observed, and
    /// attaching fails with [`Error::Unsupported`].
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Untrusted`], [`Error::Corrupt`], [`Error::Incompatible`].
    pub fn open(name: &str, options: &Options) -> Result<Self> {
        Self::open_in(&options.open_directory()?, name, options, options.segment_options())
    }

    fn open_in(directory: &Directory, name: &str, options: &Options, how: &segment::Options) -> Result<Self> {
        let segment = Segment::open(directory, name, how)?;
        let segment = match options.kind() {
            Some(kind) => segment.expect_kind(kind)?,
            None => segment,
        };
        Ok(Self::over(segment, options))
    }

    /// Opens the named ring of `kind`, or creates it, and attaches to it.
    pub(super) fn open_and_attach<T>(
        kind: Kind,
        name: &str,
        options: &Options,
        attach: impl Fn(&Ring) -> Result<T>,
    ) -> Result<T> {
        options.expect(kind)?;
        open_and_join(|| Self::open_or_create(name, options), attach)
    }

    /// Opens the named ring, or creates it if it does not exist.
    ///
    /// # Errors
    /// As [`Ring::open`] and [`Ring::create`].
    pub fn open_or_create(name: &str, options: &Options) -> Result<Self> {
        let geometry = options.geometry()?;
        let directory = options.create_directory()?;
        Ok(Self::over(Segment::open_or_create(&directory, name, geometry, options.segment_options())?, options))
    }

    /// Creates an anonymous ring in a sealed memfd. Pass its descriptor to a peer. The ring is
    /// freed with its last user.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Io`].
    pub fn create_anonymous(options: &Options) -> Result<Self> {
        Ok(Self::over(Segment::memfd(options.geometry()?, options.segment_options())?, options))
    }

    /// Opens an anonymous ring that a peer of the same user passed. Refused unless it is sealed
    /// against resizing.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::Corrupt`], [`Error::Incompatible`].
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// use std::os::fd::AsFd;
    /// let mine = Ring::create_anonymous(&Options::spsc(4096))?;
    /// let passed = mine.as_fd().try_clone_to_owned().unwrap();
    /// let theirs = Ring::from_fd(passed, &Options::any())?;
    /// assert_eq!(mine.generation(), theirs.generation());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn from_fd(fd: OwnedFd, options: &Options) -> Result<Self> {
        let segment = Segment::from_memfd(fd, options.segment_options())?;
        let segment = match options.kind() {
            Some(kind) => segment.expect_kind(kind)?,
            None => segment,
        };
        Ok(Self::over(segment, options))
    }

    /// Unlinks the ring's name. Attached participants are not affected; the memory is freed with
    /// the last of them.
    ///
    /// A participant that attaches at the same time is either attached before, or finds that the
    /// name is removed and opens the ring again. A file that is no ring of the kind of `options` is
    /// refused: see [`Ring::force_remove`].
    ///
    /// # Errors
    /// As [`Ring::open`].
    pub fn remove(name: &str, options: &Options) -> Result<()> {
        let directory = options.open_directory()?;
        Self::to_remove(&directory, name, options)?.segment.unlink(&directory, name, || Ok(true)).map(drop)
    }

    /// Unlinks the ring's name if no living participant is attached and `wanted` returns true.
    /// `wanted` is called while no participant can attach, so the ring does not change meanwhile.
    /// Returns whether the name was unlinked.
    ///
    /// # Errors
    /// As [`Ring::open`], and the errors of `wanted`.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-remove-{}", std::process::id()));
    /// use slipring::{Options, Ring, spsc};
    /// let options = Options::spsc(4096).directory(&dir);
    /// let mut tx = spsc::Producer::open("ticks", &options)?;
    /// let is_empty = |ring: &Ring| Ok(ring.stats().used() == 0);
    /// assert!(!Ring::remove_if_unused("ticks", &options, is_empty)?, "a producer is attached");
    /// tx.try_send(b"precious")?;
    /// tx.close();
    /// assert!(!Ring::remove_if_unused("ticks", &options, is_empty)?, "a frame waits");
    /// assert!(Ring::remove_if_unused("ticks", &options, |_| Ok(true))?);
    /// # std::fs::remove_dir(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn remove_if_unused(name: &str, options: &Options, wanted: impl FnOnce(&Ring) -> Result<bool>) -> Result<bool> {
        let directory = options.open_directory()?;
        let ring = Self::to_remove(&directory, name, options)?;
        ring.segment.unlink(&directory, name, || Ok(ring.is_idle()? && wanted(&ring)?))
    }

    /// Unlinks the name of any file, also of one that is no ring or cannot be opened, but not of a
    /// directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Invalid`], [`Error::Untrusted`] for the directory,
    /// [`Error::Io`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-force-{}", std::process::id()));
    /// use slipring::{Options, Ring};
    /// let options = Options::spsc(4096).directory(&dir);
    /// Ring::create("ticks", &options)?; // and with it the directory
    /// std::fs::write(dir.join("broken"), b"nonsense").unwrap();
    /// assert!(Ring::remove("broken", &options).is_err());
    /// Ring::force_remove("broken", &options)?;
    /// # Ring::remove("ticks", &options)?;
    /// # std::fs::remove_dir(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn force_remove(name: &str, options: &Options) -> Result<()> {
        options.open_directory()?.remove(name)
    }

    /// Opened to be removed: without prefaulting, locking or huge pages.
    fn to_remove(directory: &Directory, name: &str, options: &Options) -> Result<Self> {
        let light = segment::Options { memory: MemoryOptions::default(), ..*options.segment_options() };
        Self::open_in(directory, name, options, &light)
    }

    /// The names in the directory of `options`, sorted. The files are not opened, so opening one
    /// may still fail.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::Io`].
    pub fn list(options: &Options) -> Result<Vec<String>> {
        match options.open_directory() {
            Err(Error::NotFound) => Ok(Vec::new()),
            directory => directory?.list(),
        }
    }

    /// The directory of the named rings of `options`. It is checked if it exists, and not created
    /// if it does not.
    ///
    /// # Errors
    /// [`Error::Untrusted`], [`Error::Io`].
    pub fn directory(options: &Options) -> Result<PathBuf> {
        options.locate_directory()
    }

    /// A ring between threads of this process, for tests: no files, and byte rings are not
    /// mirrored.
    #[cfg(test)]
    pub(super) fn heap(options: &Options) -> Result<Self> {
        Ok(Self::over(Segment::heap(options.geometry()?)?, options))
    }

    fn over(segment: Arc<Segment>, options: &Options) -> Self {
        Ring { segment, idle: options.idle_strategy(), needs_consumer: options.fails_without_consumer() }
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(super) fn geometry(&self) -> &Geometry {
        self.segment.geometry()
    }

    pub(super) fn expect(&self, kind: Kind) -> Result<()> {
        Arc::clone(&self.segment).expect_kind(kind).map(|_| ())
    }

    pub(super) fn idle(&self) -> Idle {
        self.idle
    }

    pub(super) fn needs_consumer(&self) -> bool {
        self.needs_consumer
    }

    /// A number that changes whenever a participant joins, leaves or is reaped. One load.
    pub(crate) fn membership(&self) -> u64 {
        self.segment.table().lifecycle().membership()
    }

    /// The kind of the ring.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.geometry().kind
    }

    /// The name under which it was created or opened; `None` if it is anonymous.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.segment.name()
    }

    /// Bytes of the data part: the capacity of a byte ring, or all slots of a slot ring with their
    /// headers.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.geometry().capacity
    }

    /// Number of slots; 0 for byte rings.
    #[must_use]
    pub fn slots(&self) -> usize {
        if self.kind() == Kind::Mpsc { 0 } else { self.geometry().slots }
    }

    /// Number of lanes of an mpsc ring, each of [`Ring::capacity`] divided by this; 0 for other kinds.
    #[must_use]
    pub fn max_lanes(&self) -> usize {
        if self.kind() == Kind::Mpsc { self.geometry().slots } else { 0 }
    }

    /// Largest payload of a frame, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.geometry().max_payload
    }

    /// How many handles may be attached at a time.
    #[must_use]
    pub fn max_participants(&self) -> usize {
        self.geometry().participants
    }

    /// How a notifier finds out whether a waiter sleeps.
    #[must_use]
    pub fn wake_mode(&self) -> WakeMode {
        self.geometry().wake
    }

    /// What happens to a frame that a dead consumer held.
    #[must_use]
    pub fn redelivery(&self) -> Redelivery {
        self.geometry().redelivery
    }

    /// Size of the segment in bytes.
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.geometry().total_len
    }

    /// A random number, not 0, that distinguishes this ring from others of the same name.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.segment.generation()
    }

    /// Process id of the creator, in its own pid namespace.
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// assert_eq!(ring.creator_pid(), std::process::id());
    /// assert!(ring.created() <= std::time::SystemTime::now());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn creator_pid(&self) -> u32 {
        self.segment.header().creator_pid
    }

    /// When the ring was created, by the creator's clock: see [`Ring::creator_pid`].
    #[must_use]
    pub fn created(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.segment.header().created)
    }

    /// The type of its messages, as the first typed handle described it; `None` if no typed handle
    /// has attached. See [`Typed`](crate::typed::Typed).
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// assert_eq!(ring.message_type(), None);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn message_type(&self) -> Option<String> {
        let (fingerprint, text) = self.segment.message_type().text()?;
        Some(if text.is_empty() { format!("unknown, fingerprint {fingerprint:016x}") } else { text })
    }

    /// Agrees with the other participants on the type of the messages, and returns the kind of the
    /// frames that carry them. Two participants agree if they state the same text. Wait-free, no
    /// system call.
    ///
    /// [`Typed`](crate::typed::Typed) calls this with the description of a Rust type; other
    /// languages and other codecs state a text of their own.
    ///
    /// # Errors
    /// [`Error::OtherType`] if an earlier participant stated another text; [`Error::Unsupported`] on
    /// a read-only file system.
    ///
    /// ```
    /// use slipring::{Error, Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// let kind = ring.agree_on_type("Quote, version 2")?;
    /// assert_eq!(ring.agree_on_type("Quote, version 2")?, kind);
    /// let error = ring.agree_on_type("Trade").unwrap_err();
    /// assert!(matches!(&error, Error::OtherType { found, .. } if &**found == "Quote, version 2"));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn agree_on_type(&self, description: &str) -> Result<u16> {
        self.segment.check_writable()?;
        if self.segment.message_type().agree(fingerprint(description), description) {
            return Ok(kind_of_frames(description));
        }
        let found = self.message_type().unwrap_or_default();
        Err(Error::OtherType { expected: description.into(), found: found.into() })
    }

    /// The options that were requested with [`Options::best_effort`] and are not available.
    #[must_use]
    pub fn downgrades(&self) -> &[Downgrade] {
        self.segment.downgrades()
    }

    /// The participants, alive or dead and not yet noticed, whether their processes run, and which
    /// slots they hold. Some system calls for each, some loads for each slot.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// ```
    /// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
    /// tx.send(b"job")?;
    /// let job = rx.recv()?;
    /// let participants = tx.ring().participants()?;
    /// let holder = participants.iter().find(|participant| participant.held.reading == 1).unwrap();
    /// assert_eq!((holder.pid, holder.held.lag), (std::process::id(), 1));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn participants(&self) -> Result<Vec<ParticipantInfo>> {
        let mut participants = self.segment.participants()?;
        self.count_held(&mut participants);
        Ok(participants)
    }

    /// Whether no living participant is attached. This can change at any time.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_idle(&self) -> Result<bool> {
        self.segment.is_idle()
    }

    /// Whether its last participants died: a dead participant is attached, or no participant of
    /// either role has closed after the last death. False for a ring to which no participant has
    /// attached yet. Some system calls.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Options, Ring, spsc};
    /// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
    /// spsc::Producer::attach(&ring)?.close();
    /// assert!(ring.is_idle()? && !ring.was_left_by_dead()?);
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn was_left_by_dead(&self) -> Result<bool> {
        let participants = self.participants()?;
        if !participants.is_empty() {
            return Ok(participants.iter().all(|participant| !participant.alive));
        }
        let lifecycle = self.segment.table().lifecycle();
        let ends = [Role::Producer, Role::Consumer].map(|role| lifecycle.ends(role));
        let died = ends.iter().any(|ends| ends.death > 0);
        Ok(died && ends.iter().all(|ends| ends.death >= ends.close))
    }

    /// Reaps every dead participant: recovers its slots, frees its id, wakes the waiters. Returns
    /// how many there were. It can be called at any time; attached handles do the same when they
    /// have to wait.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a slot is in an unknown state, [`Error::Io`].
    ///
    /// ```
    /// use slipring::{Options, Ring};
    /// let ring = Ring::create_anonymous(&Options::mpmc(64, 64))?;
    /// assert_eq!(ring.reap_dead()?, 0, "all are alive");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn reap_dead(&self) -> Result<usize> {
        self.reap_dead_with(&Reaper::new(&self.segment)?)
    }

    /// [`Ring::reap_dead`] for one that does it again and again, and keeps its locks. Errors are
    /// left: the handles meet them, too.
    pub(super) fn reap_dead_lazily(&self, reaper: &Mutex<Option<Reaper>>) {
        let mut reaper = reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if reaper.is_none() {
            *reaper = Reaper::new(&self.segment).ok();
        }
        if let Some(reaper) = &*reaper {
            let _ = self.reap_dead_with(reaper);
        }
    }

    /// [`Ring::reap_dead`] with locks that are at hand. A system call for each id in use.
    pub(super) fn reap_dead_with(&self, reaper: &Reaper) -> Result<usize> {
        let mut outcome = Ok(());
        let counted = reaper.reap(|id| {
            if let Err(e) = self.recover(id) {
                outcome = Err(e);
            }
        })?;
        outcome?;
        if counted > 0 {
            self.wake_all();
        }
        Ok(counted)
    }
}
