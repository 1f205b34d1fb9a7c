//! What a ring's handle lends to a set of waits: one edge of the ring, looked at by atomics only.
//!
//! Used by `attachment.rs` for the `readable` and `writable` of all handles. Relies on the words
//! that observers may read, too (docs/memory-model.md, "Observers"): the look does not touch
//! headers or payloads of a byte ring, so it may run while the handle is used by another thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Ring;
use super::mpmc::layout as mpmc;
use super::spsc::layout as spsc;
use super::stream::layout as stream;
use crate::segment::{Ends, Kind, Reaper, Role, Segment, Told};
use crate::set::source::Source;
use crate::wait::eventcount::{Event, Many, One};

/// How to see whether there is something at the edge.
pub(super) enum Look {
    /// A frame, or the tail of one that is not whole: positions alone do not tell. What a producer
    /// committed and died before it moved the tail is found with the news of its death.
    Spsc(spsc::Shared),
    /// Room for a payload of this length.
    SpscRoom(spsc::Shared, usize),
    Stream(stream::Shared),
    StreamRoom(stream::Shared, usize),
    /// The count of redeliveries at which no frame was to be delivered again.
    Mpmc(mpmc::Shared, AtomicU64),
    MpmcRoom(mpmc::Shared),
}

impl Look {
    pub(super) fn mpmc(ring: &Ring) -> Self {
        Look::Mpmc(ring.mpmc_shared(), AtomicU64::new(0))
    }

    #[inline]
    fn finds(&self) -> bool {
        match self {
            Look::Spsc(shared) => shared.is_readable(),
            Look::SpscRoom(shared, len) => shared.has_room_for(*len),
            Look::Stream(shared) => shared.used() != 0,
            Look::StreamRoom(shared, len) => shared.used().saturating_add(*len as u64) <= shared.capacity() as u64,
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
        }
    }

    fn is_of_producer(&self) -> bool {
        matches!(self, Look::SpscRoom(..) | Look::StreamRoom(..) | Look::MpmcRoom(_))
    }
}

/// The eventcount of an edge, and the bit of a set in it.
pub(super) enum Edge {
    One(One, u32, Arc<Segment>),
    Many(Many),
}

impl Edge {
    pub(super) fn new(ring: &Ring, role: Role) -> Self {
        match ring.kind() {
            Kind::Mpmc => {
                let (data, space) = ring.events_many();
                Edge::Many(if role == Role::Producer { space } else { data })
            }
            _ => {
                let (data, space) = ring.events_one();
                let bit = ring.segment().set_bits().take();
                Edge::One(if role == Role::Producer { space } else { data }, bit, Arc::clone(ring.segment()))
            }
        }
    }

    pub(super) fn event(&self) -> Event<'_> {
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

/// The edge of a ring at which the handles of one role wait.
pub(super) struct Readable {
    ring: Ring,
    edge: Edge,
    look: Look,
    peer: Role,
    /// What the handle has told of ends; gone with the handle.
    told: Weak<Mutex<Told>>,
    news: Mutex<News>,
    /// The membership at which there was no end to tell of.
    quiet: AtomicU64,
    reaper: Mutex<Option<Reaper>>,
}

impl Readable {
    pub(super) fn new(ring: &Ring, role: Role, look: Look, told: Weak<Mutex<Told>>) -> Self {
        let known =
            told.upgrade().map(|told| told.lock().unwrap_or_else(PoisonError::into_inner).ends).unwrap_or_default();
        Readable {
            ring: ring.clone(),
            edge: Edge::new(ring, role),
            look,
            peer: role.peer(),
            news: Mutex::new(News { known, reported: None }),
            told,
            quiet: AtomicU64::new(u64::MAX),
            reaper: Mutex::new(None),
        }
    }

    /// Whether the peers have ended and the handle has not told of it. A load as long as no
    /// participant has come or gone.
    #[inline]
    fn has_news(&self, reporting: bool) -> bool {
        let membership = self.ring.segment().table().lifecycle().membership();
        membership != self.quiet.load(Ordering::Relaxed) && self.has_end(membership, reporting)
    }

    /// Reported until the handle tells of it, and once in any case: where clones of a handle are
    /// members of several sets, the users of all of them learn of an end.
    #[cold]
    fn has_end(&self, membership: u64, reporting: bool) -> bool {
        let Some(told) = self.told.upgrade() else { return false };
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).ends;
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.ring.segment().table();
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
        self.edge.event()
    }

    #[inline]
    fn is_ready(&self, reporting: bool) -> bool {
        self.look.finds() || self.has_news(reporting)
    }

    fn pass_on(&self) {
        if let Edge::Many(event) = &self.edge {
            if self.look.finds() {
                event.notify(1);
            }
        }
    }

    /// Consumers tell of released space from time to time.
    fn is_told_late(&self) -> bool {
        self.look.is_of_producer()
    }

    fn segment(&self) -> &Arc<Segment> {
        self.ring.segment()
    }

    fn reap(&self) {
        self.ring.reap_dead_lazily(&self.reaper);
    }

    fn is_abandoned(&self) -> bool {
        self.told.strong_count() == 0
    }
}
