//! Floor 3: the public semaphores, mutex and event, each in a separate segment: named, or passed as
//! a memfd.
//!
//! Used by applications. Relies on the cores in `wait/` for the algorithms, on `segment/` for the
//! memory and for the liveness of holders.

pub(crate) mod event;
pub(crate) mod mutex;
pub(crate) mod semaphore;
pub(crate) mod signal_semaphore;
#[cfg(feature = "async")]
pub(crate) mod tasks;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use crate::error::{Error, Result};
use crate::memory::LINE;
use crate::os::clock::monotonic_ns;
use crate::segment::layout::DATA_EVENT;
use crate::segment::{Directory, Geometry, Kind, Options, Participant, Role, Segment, Settings, open_and_join};
use crate::set::source::{Readiness, Source};
use crate::wait::barrier::Barrier;
use crate::wait::cancel::{Cancellable, Sleepers};
use crate::wait::eventcount::{Event, Many};
use crate::wait::idle::Pace;

/// The number of handles that may be attached to one primitive at a time.
const PARTICIPANTS: usize = 255;

fn settings() -> Settings {
    Settings { participants: PARTICIPANTS, ..Settings::default() }
}

/// Where a primitive's memory is.
enum Place<'a> {
    /// A new segment of that name.
    Create(&'a str),
    /// The segment of that name; a new one if there is none.
    OpenOrCreate(&'a str),
    /// A new sealed memfd.
    Memfd,
}

impl Place<'_> {
    fn make(&self, geometry: Geometry) -> Result<Arc<Segment>> {
        let options = Options::default();
        match *self {
            Place::Create(name) => Segment::create(&Directory::create(None, false)?, name, geometry, &options),
            Place::OpenOrCreate(name) => {
                to_use(Segment::open_or_create(&Directory::create(None, false)?, name, geometry, &options)?)
            }
            Place::Memfd => Segment::memfd(geometry, &options),
        }
    }
}

/// Opens the segment `name` and attaches to it.
fn join<T>(kind: Kind, name: &str, attach: impl Fn(&Arc<Segment>) -> Result<T>) -> Result<T> {
    open_and_join(|| open(kind, name), attach)
}

fn open(kind: Kind, name: &str) -> Result<Arc<Segment>> {
    to_use(Segment::open(&Directory::open(None, false)?, name, &Options::default())?.expect_kind(kind)?)
}

/// Refused if it can only be observed, before anything is stored in it.
fn to_use(segment: Arc<Segment>) -> Result<Arc<Segment>> {
    segment.check_writable().map(|()| segment)
}

fn accept(kind: Kind, fd: OwnedFd) -> Result<Arc<Segment>> {
    Segment::from_memfd(fd, &Options::default())?.expect_kind(kind)
}

fn remove(kind: Kind, name: &str) -> Result<()> {
    open(kind, name)?.unlink(&Directory::open(None, false)?, name, || Ok(true)).map(drop)
}

/// The eventcount of a primitive's segment.
fn eventcount(segment: &Segment) -> Many {
    Many::attach(segment.shared_page().part(DATA_EVENT, LINE), Barrier::from(segment.geometry().wake))
}

/// The geometry of a primitive whose whole state is one line.
fn one_line(kind: Kind) -> Result<Geometry> {
    Geometry::plain(kind, LINE, &settings())
}

/// Fails if the data is not what [`one_line`] gives.
fn expect_one_line(segment: &Segment) -> Result<()> {
    let is_so = segment.geometry().capacity == LINE;
    if is_so { Ok(()) } else { Err(Error::Corrupt { what: "a semaphore or event of an invalid size" }) }
}

/// Recovers what the dead participant `dead` holds of the primitive in `segment`, for a caller that
/// has no handle of it, and says whether it held anything.
pub(crate) fn recover(segment: &Segment, dead: u16) -> Result<bool> {
    match segment.geometry().kind {
        Kind::Semaphore => Ok(semaphore::permits(segment)?.recover(dead) > 0),
        Kind::Mutex => Ok(mutex::lock(segment)?.recover(dead)),
        _ => Ok(false),
    }
}

/// How to recover a primitive from a dead holder.
trait Core {
    /// What waiters sleep on.
    type Sleepers: Sleepers + 'static;

    fn sleepers(&self) -> Self::Sleepers;

    /// Recovers all that participant `dead` holds, idempotently.
    fn recover(&self, dead: u16);
}

/// What a set of waits needs of a primitive.
trait Awaited: Send + Sync {
    /// Where sets sleep.
    fn event(&self) -> &Many;

    /// As [`Source::is_ready`].
    fn is_ready(&self, reporting: bool) -> bool;
}

/// A primitive's core, and the participant through which this handle uses it.
struct Member<C: Core> {
    core: C,
    participant: Participant,
    cancel: Arc<Cancellable<C::Sleepers>>,
}

impl<C: Core> Member<C> {
    /// Joins, and recovers what dead participants hold.
    fn join(segment: &Arc<Segment>, core: C) -> Result<Arc<Self>> {
        let participant = Participant::join(segment, Role::Consumer, false, |dead| core.recover(dead))?;
        let cancel = Cancellable::new(core.sleepers());
        Ok(Arc::new(Member { core, participant, cancel }))
    }

    fn id(&self) -> u16 {
        self.participant.id()
    }

    /// Whether this handle is a copy in a forked child. No system call.
    fn is_forked(&self) -> bool {
        self.participant.is_forked()
    }

    fn check_fork(&self) -> Result<()> {
        self.participant.check_fork()
    }

    /// Recovers what dead participants hold, if one of `holders` is dead. One system call for each
    /// of them.
    fn recover_if_dead(&self, holders: impl Iterator<Item = u16>) -> Result<()> {
        for holder in each_once(holders) {
            if self.participant.is_dead(holder) {
                self.reap_dead()?;
            }
        }
        Ok(())
    }

    fn reap_dead(&self) -> Result<usize> {
        self.participant.reap_dead(|dead| self.core.recover(dead))
    }
}

impl<C: Core + Send + Sync + 'static> Member<C> {
    /// Lends `awaited` of this primitive to a set of waits.
    fn readiness(self: &Arc<Self>, awaited: impl Awaited + 'static) -> Readiness {
        let segment = Arc::clone(self.participant.segment());
        Readiness::of(Edge { awaited, segment, member: Arc::downgrade(self) })
    }
}

/// A primitive as the member of a set.
struct Edge<A, C: Core> {
    awaited: A,
    segment: Arc<Segment>,
    member: Weak<Member<C>>,
}

impl<A: Awaited, C: Core + Send + Sync> Source for Edge<A, C> {
    fn event(&self) -> Event<'_> {
        Event::Many(self.awaited.event())
    }

    fn is_ready(&self, reporting: bool) -> bool {
        self.awaited.is_ready(reporting)
    }

    fn pass_on(&self) {
        if self.awaited.is_ready(false) {
            self.awaited.event().notify(1);
        }
    }

    fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn reap(&self) {
        if let Some(member) = self.member.upgrade() {
            // A failed check is made again at the next round, and by every call that waits.
            let _ = member.reap_dead();
        }
    }

    fn is_abandoned(&self) -> bool {
        self.member.strong_count() == 0
    }
}

/// Each participant among `holders`, once.
fn each_once(holders: impl Iterator<Item = u16>) -> impl Iterator<Item = u16> {
    let mut seen = [0u64; PARTICIPANTS / 64 + 1];
    holders.filter(move |holder| {
        let bit = 1 << (holder % 64);
        match seen.get_mut(usize::from(*holder) / 64) {
            // 0 is free.
            Some(seen) if *holder != 0 && *seen & bit == 0 => {
                *seen |= bit;
                true
            }
            // An id beyond those of this segment, which no correct participant writes.
            _ => false,
        }
    })
}

/// One attempt. If it yields nothing, and the handle has not checked the holders for some time:
/// recovers what dead holders hold, and attempts once more.
fn attempt_or_check<T>(
    pace: &Pace,
    mut attempt: impl FnMut() -> Option<T>,
    recover: impl FnOnce() -> Result<()>,
) -> Result<Option<T>> {
    let found = attempt();
    if found.is_some() {
        return Ok(found);
    }
    let now = monotonic_ns();
    if !pace.is_check_due(now) {
        return Ok(None);
    }
    pace.checked(now);
    recover()?;
    Ok(attempt())
}

impl<C: Core> Drop for Member<C> {
    fn drop(&mut self) {
        // Guards borrow their handle, so a permit or lock that is still held was leaked with
        // `mem::forget`, and only this drop can release it.
        if !self.is_forked() {
            self.core.recover(self.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_of_many_permits_is_checked_once() {
        let alternating = (0..1u32 << 16).map(|permit| 1 + (permit % 2) as u16);
        assert_eq!(each_once(alternating).collect::<Vec<_>>(), [1, 2]);
        let all = (0..=u16::MAX).chain(0..=u16::MAX).map(|holder| holder % 300);
        assert!(each_once(all).eq(1..=PARTICIPANTS as u16), "free, or no participant");
    }
}
