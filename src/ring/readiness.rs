//! What a ring lends to a set of waits: one edge of the ring, looked at by atomics only.
//!
//! Used by `attachment.rs` for the `readable` and `writable` of all handles ([`Readable`]), and by
//! the doorbells ([`Watch`]). Relies on the words that observers may read, too
//! (docs/memory-model.md, "Observers"): the look does not touch headers or payloads of a byte ring,
//! so it may run while the handle is used by another thread.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::Ring;
use super::broadcast::{Due, layout as broadcast};
use super::latest::{Seen, layout as latest};
use super::mpmc::layout as mpmc;
use super::mpsc::layout as mpsc;
use super::position::is_before;
use super::spsc::layout as spsc;
use super::stream::layout as stream;
use crate::os::clock::monotonic_ns;
#[cfg(feature = "transports")]
use crate::segment::Kind;
use crate::segment::{Ends, Reaper, Role, Segment, Told};
use crate::set::source::Source;
use crate::wait::eventcount::{Event, Many, One, SLEEP_CAP};

/// How to see whether there is something at the edge.
pub(super) enum Look {
    /// A frame, or the tail of one that is not whole: positions alone do not show which. What a
    /// producer committed and died before it moved the tail is found with the news of its death.
    Spsc(spsc::Shared),
    /// A frame behind this position, before which the consumer holds frames.
    SpscBehind(spsc::Shared, u64),
    /// Room for a payload of this length, which a task changes before it waits; the producer of a
    /// lane has an eventcount for itself.
    SpscRoom(spsc::Shared, One, Arc<AtomicUsize>),
    Stream(stream::Shared),
    StreamRoom(stream::Shared, usize),
    /// The count of redeliveries at which no frame was to be delivered again.
    Mpmc(mpmc::Shared, AtomicU64),
    MpmcRoom(mpmc::Shared),
    /// A cell whose newest value was not read.
    Latest(latest::Shared, Seen),
    /// A frame behind the position of this subscriber.
    Broadcast(broadcast::Shared, u16),
    /// A frame behind this position, before which a subscriber holds frames.
    BroadcastBehind(broadcast::Shared, u64),
    /// A tail other than this, for a doorbell, which belongs to no subscriber.
    #[cfg(feature = "transports")]
    BroadcastNews(broadcast::Shared, AtomicU64),
    /// Room for a payload of this length, or that a call may evict a subscriber.
    BroadcastRoom(broadcast::Shared, Arc<AtomicUsize>, Arc<Due>),
    /// A frame in any lane, or the end of a producer.
    Mpsc(mpsc::Shared),
}

impl Look {
    pub(super) fn mpmc(ring: &Ring) -> Self {
        Look::Mpmc(ring.mpmc_shared(), AtomicU64::new(0))
    }

    #[cfg(feature = "transports")]
    fn of_consumer(ring: &Ring) -> Self {
        match ring.kind() {
            Kind::Mpmc => Look::mpmc(ring),
            Kind::Spsc => Look::Spsc(ring.spsc_shared()),
            Kind::Mpsc => Look::Mpsc(ring.mpsc_shared()),
            Kind::Broadcast => {
                let shared = ring.broadcast_shared();
                let tail = AtomicU64::new(shared.slowest().1);
                Look::BroadcastNews(shared, tail)
            }
            Kind::Latest => {
                let shared = ring.latest_shared();
                let seen = Seen::all(&shared);
                Look::Latest(shared, seen)
            }
            _ => Look::Stream(ring.stream_shared()),
        }
    }

    #[inline]
    fn finds(&self) -> bool {
        match self {
            Look::Spsc(shared) => shared.is_readable(),
            Look::SpscBehind(shared, position) => is_before(*position, shared.observe().1),
            Look::SpscRoom(shared, _, len) => shared.has_room_for(len.load(Ordering::Relaxed)),
            Look::Stream(shared) => shared.used() != 0,
            Look::StreamRoom(shared, len) => shared.used().saturating_add(*len as u64) <= shared.capacity() as u64,
            Look::Mpsc(shared) => shared.is_readable(),
            Look::Mpmc(shared, searched) => {
                let redeliveries = shared.redeliveries();
                if redeliveries != searched.load(Ordering::Relaxed) {
                    if shared.has_again() {
                        return true;
                    }
                    searched.store(redeliveries, Ordering::Relaxed);
                }
                shared.is_readable()
            }
            Look::MpmcRoom(shared) => shared.is_writable(),
            Look::Latest(shared, seen) => seen.changed(shared, 0).is_some(),
            Look::Broadcast(shared, id) => shared.is_readable(*id),
            Look::BroadcastBehind(shared, position) => is_before(*position, shared.tail().load(Ordering::Relaxed)),
            #[cfg(feature = "transports")]
            Look::BroadcastNews(shared, seen) => shared.slowest().1 != seen.load(Ordering::Relaxed),
            Look::BroadcastRoom(shared, len, due) => shared.has_room_for(len.load(Ordering::Relaxed)) || due.is_over(),
        }
    }

    /// Whether a wake-up is for all sleepers: a writer of latest values and a publisher wake all.
    fn is_for_all(&self) -> bool {
        match self {
            #[cfg(feature = "transports")]
            Look::BroadcastNews(..) => true,
            look => matches!(look, Look::Latest(..) | Look::Broadcast(..) | Look::BroadcastBehind(..)),
        }
    }

    /// Whether the only consumer, or each subscriber, publishes released space from time to time. (Of
    /// a slot ring, many producers would look for it.)
    fn is_told_late(&self) -> bool {
        matches!(self, Look::SpscRoom(..) | Look::StreamRoom(..) | Look::BroadcastRoom(..))
    }

    /// Until when a producer's edge is to be looked at.
    fn longest_sleep(&self) -> Option<Duration> {
        match self {
            Look::SpscRoom(..) | Look::StreamRoom(..) | Look::MpmcRoom(_) => Some(SLEEP_CAP),
            Look::BroadcastRoom(_, _, due) => Some(due.longest_sleep()),
            _ => None,
        }
    }
}

/// The eventcount of an edge, and the bit of a set in it.
enum Edge {
    One(One, u32, Arc<Segment>),
    Many(Many),
}

impl Edge {
    fn new(ring: &Ring, role: Role, look: &Look) -> Self {
        if let Look::SpscRoom(_, event, _) = look {
            let bit = ring.segment().set_bits().take();
            Edge::One(event.clone(), bit, Arc::clone(ring.segment()))
        } else if ring.has_many_sleepers() {
            let (data, space) = ring.events_many();
            Edge::Many(if role == Role::Producer { space } else { data })
        } else {
            let (data, space) = ring.events_one();
            let bit = ring.segment().set_bits().take();
            Edge::One(if role == Role::Producer { space } else { data }, bit, Arc::clone(ring.segment()))
        }
    }

    fn event(&self) -> Event<'_> {
        match self {
            Edge::One(event, bit, _) => Event::One(event, *bit),
            Edge::Many(event) => Event::Many(event),
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Edge::One(_, bit, segment) = self {
            segment.set_bits().give_back(*bit);
        }
    }
}

/// The ends of peers that need no report, and the newest one that was reported.
struct News {
    known: Ends,
    reported: Option<Ends>,
}

/// The first sleep of a set that waits for room.
const FIRST_SLEEP: Duration = Duration::from_millis(1);

/// One edge of a ring, without a participant of its own: where to sleep, what to look for.
struct Side {
    ring: Ring,
    edge: Edge,
    look: Look,
    /// Since when a set has slept here and found nothing, in nanoseconds; 0 if it has not. Relaxed:
    /// it only decides how long it sleeps.
    since: AtomicU64,
    reaper: Mutex<Option<Reaper>>,
}

impl Side {
    fn new(ring: &Ring, role: Role, look: Look) -> Self {
        Side {
            ring: ring.clone(),
            edge: Edge::new(ring, role, &look),
            look,
            since: AtomicU64::new(0),
            reaper: Mutex::new(None),
        }
    }

    #[inline]
    fn finds(&self) -> bool {
        let finds = self.look.finds();
        if finds && self.since.load(Ordering::Relaxed) != 0 {
            self.since.store(0, Ordering::Relaxed);
        }
        finds
    }

    /// Consumers publish released space from time to time. A set that waits for it sleeps as long as
    /// it has waited already, so what it is not told costs it at most as long again.
    fn longest_sleep(&self) -> Option<Duration> {
        let longest = self.look.longest_sleep()?;
        if !self.look.is_told_late() {
            return Some(longest);
        }
        let (now, since) = (monotonic_ns(), self.since.load(Ordering::Relaxed));
        if since == 0 {
            self.since.store(now, Ordering::Relaxed);
            return Some(longest.min(FIRST_SLEEP));
        }
        Some(longest.min(Duration::from_nanos(now.saturating_sub(since)).max(FIRST_SLEEP)))
    }

    /// Changes when a participant joins or departs.
    fn membership(&self) -> u64 {
        self.ring.segment().table().lifecycle().membership()
    }

    fn pass_on(&self) {
        if let Edge::Many(event) = &self.edge {
            if !self.look.is_for_all() && self.look.finds() {
                event.notify(1);
            }
        }
    }

    fn reap(&self) {
        self.ring.reap_dead_lazily(&self.reaper);
    }
}

/// The edge of a ring at which the handles of one role wait.
pub(super) struct Readable {
    side: Side,
    peer: Role,
    /// The ends that the handle has returned; gone with the handle.
    told: Weak<Mutex<Told>>,
    news: Mutex<News>,
    /// The membership at which there was no end to report.
    quiet: AtomicU64,
}

impl Readable {
    /// `known`: the ends that no call of the handle returns. Not those that it has returned: a clone
    /// of the handle may have returned them, and the user of this set is yet to be told.
    pub(super) fn new(ring: &Ring, role: Role, look: Look, told: Weak<Mutex<Told>>, known: Ends) -> Self {
        Readable {
            side: Side::new(ring, role, look),
            peer: role.peer(),
            news: Mutex::new(News { known, reported: None }),
            told,
            quiet: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether the peers have ended and the handle has not returned it. A load as long as no
    /// participant has come or gone.
    #[inline]
    fn has_news(&self, reporting: bool) -> bool {
        let membership = self.side.membership();
        membership != self.quiet.load(Ordering::Relaxed) && self.has_end(membership, reporting)
    }

    /// Reported until the handle returns it, and once in any case: where clones of a handle are
    /// members of several sets, the users of all of them learn of an end.
    #[cold]
    fn has_end(&self, membership: u64, reporting: bool) -> bool {
        let Some(told) = self.told.upgrade() else { return false };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).ends;
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.side.ring.segment().table();
        let Some(ends) = table.ended(self.peer, news.known) else {
            self.quiet.store(membership, Ordering::Relaxed);
            return false;
        };
        if told == ends && news.reported == Some(ends) {
            *news = News { known: ends, reported: None };
            return false;
        }
        if reporting {
            news.reported = Some(ends);
        }
        true
    }
}

impl Source for Readable {
    fn event(&self) -> Event<'_> {
        self.side.edge.event()
    }

    #[inline]
    fn is_ready(&self, reporting: bool) -> bool {
        self.side.finds() || self.has_news(reporting)
    }

    fn pass_on(&self) {
        self.side.pass_on();
    }

    fn longest_sleep(&self) -> Option<Duration> {
        self.side.longest_sleep()
    }

    fn segment(&self) -> &Arc<Segment> {
        self.side.ring.segment()
    }

    fn reap(&self) {
        self.side.reap();
    }

    fn is_abandoned(&self) -> bool {
        self.told.strong_count() == 0
    }
}

/// What a doorbell waits for: that a consumer of the ring finds something, or a producer room,
/// which was not there when the bell was armed.
#[cfg(feature = "transports")]
#[derive(Clone)]
pub(crate) struct Watch(Arc<Watched>);

#[cfg(feature = "transports")]
struct Watched {
    side: Side,
    /// The membership when the handle last found nothing.
    since: AtomicU64,
    /// The length of the frame for which a producer needs room.
    len: Arc<AtomicUsize>,
}

#[cfg(feature = "transports")]
impl Watch {
    /// For a consumer.
    pub(crate) fn new(ring: &Ring) -> Self {
        Self::over(Side::new(ring, Role::Consumer, Look::of_consumer(ring)), Arc::default())
    }

    /// For a producer of a slot ring, which needs room for the length that [`Watch::want`] says.
    pub(crate) fn of_slots(ring: &Ring) -> Self {
        let look = Look::MpmcRoom(ring.mpmc_shared());
        Self::over(Side::new(ring, Role::Producer, look), Arc::default())
    }

    /// The same for a publisher.
    pub(crate) fn of_publisher(publisher: &super::broadcast::Publisher) -> Self {
        let (ring, len) = (publisher.ring(), Arc::<AtomicUsize>::default());
        let look = Look::BroadcastRoom(ring.broadcast_shared(), Arc::clone(&len), publisher.due());
        Self::over(Side::new(ring, Role::Producer, look), len)
    }

    /// The same for the producer of a byte ring or of a lane, which waits at `event`.
    pub(super) fn of_bytes(ring: &Ring, bytes: spsc::Shared, event: One) -> Self {
        let len = Arc::<AtomicUsize>::default();
        let look = Look::SpscRoom(bytes, event, Arc::clone(&len));
        Self::over(Side::new(ring, Role::Producer, look), len)
    }

    fn over(side: Side, len: Arc<AtomicUsize>) -> Self {
        let since = AtomicU64::new(side.membership());
        Watch(Arc::new(Watched { side, since, len }))
    }

    /// Waits for room for a frame of `len` bytes from the next [`Watch::mark`] on.
    pub(crate) fn want(&self, len: usize) {
        // Relaxed: as in `mark`.
        self.0.len.store(len, Ordering::Relaxed);
    }

    /// Reports only the participants that join or depart after this call, and the latest values
    /// that are written after it.
    pub(crate) fn mark(&self) {
        if let Look::Latest(shared, seen) = &self.0.side.look {
            seen.mark_all(shared);
        }
        if let Look::BroadcastNews(shared, seen) = &self.0.side.look {
            seen.store(shared.slowest().1, Ordering::Relaxed);
        }
        // Relaxed: the ring of the set that follows orders it.
        self.0.since.store(self.0.side.membership(), Ordering::Relaxed);
    }
}

#[cfg(feature = "transports")]
impl Source for Watch {
    fn event(&self) -> Event<'_> {
        self.0.side.edge.event()
    }

    /// Whether the handle may find a frame, bytes, room, or an end. May be true without a cause,
    /// for example in a damaged ring, which the consumer then reports.
    fn is_ready(&self, _: bool) -> bool {
        self.0.side.finds() || self.0.side.membership() != self.0.since.load(Ordering::Relaxed)
    }

    fn pass_on(&self) {
        self.0.side.pass_on();
    }

    fn longest_sleep(&self) -> Option<Duration> {
        self.0.side.longest_sleep()
    }

    fn segment(&self) -> &Arc<Segment> {
        self.0.side.ring.segment()
    }

    fn reap(&self) {
        self.0.side.reap();
    }

    fn is_abandoned(&self) -> bool {
        false
    }
}

#[cfg(all(test, feature = "transports", not(miri)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ring::{Options, mpmc, spsc};
    use crate::set::{Token, WaitSet};
    use crate::wait::eventcount::{SLEEP_CAP, Sleep};

    #[test]
    fn room_for_one_frame_is_found_soon_by_a_set() {
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        let mut wait = || {
            while tx.try_send(&[0; 64]).is_ok() {}
            let mut set = WaitSet::new().unwrap();
            set.add(Token(0), tx.writable(64)).unwrap();
            let start = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(SLEEP_CAP / 10);
                    drop(rx.try_recv().unwrap()); // too little to be published
                });
                set.wait().unwrap().for_each(drop);
            });
            start.elapsed()
        };
        // A loaded machine may wake a sleeper late, but not early.
        assert!((0..100).any(|_| wait() < SLEEP_CAP / 2), "it is found at the end of a sleep of 50 ms");
    }

    #[test]
    fn a_watcher_passes_on_the_wake_up_that_a_consumer_needs() {
        let ring = Ring::create_anonymous(&Options::mpmc(8, 8)).unwrap();
        let watch = Watch::new(&ring);
        // How long a consumer sleeps that has missed a frame, while the watcher passes its wake-up
        // on again and again.
        let sleep = || {
            let start = Instant::now();
            std::thread::scope(|scope| {
                let asleep = scope.spawn(|| ring.events_many().0.sleep(SLEEP_CAP, &mut || false));
                while !asleep.is_finished() {
                    watch.pass_on();
                    std::thread::sleep(SLEEP_CAP / 100);
                }
            });
            start.elapsed()
        };
        assert!(sleep() >= SLEEP_CAP, "an empty ring wakes no watcher");
        let (tx, _rx) = (mpmc::Producer::attach(&ring).unwrap(), mpmc::Consumer::attach(&ring).unwrap());
        tx.send(b"frame").unwrap();
        // A loaded machine may wake a sleeper late, but not early: one quick sleep of many is
        // enough.
        assert!((0..100).any(|_| sleep() < SLEEP_CAP / 2), "the consumer is not woken");
    }
}
