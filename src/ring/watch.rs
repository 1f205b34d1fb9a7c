//! Watching a ring without being a participant: whether something has come since a consumer found
//! it empty.
//!
//! Used by `transport/doorbell.rs`, as a source of a set of waits. Relies on the eventcount of the
//! consumers: for a producer, a sleeping watcher costs as much as a sleeping consumer.

use std::sync::{Arc, Mutex, PoisonError};

use super::Ring;
use super::readiness::Edge;
use crate::segment::{Kind, Reaper, Role, Segment};
use crate::set::source::Source;
use crate::wait::eventcount::Event;

/// A ring as seen by a watcher, which only finds out when a consumer should check it.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Watched>);

struct Watched {
    ring: Ring,
    edge: Edge,
    /// The state when the consumer last found nothing.
    since: Mutex<Mark>,
    reaper: Mutex<Option<Reaper>>,
}

/// The state at some moment: the membership, and the count of redeliveries.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    membership: u64,
    redeliveries: u64,
}

impl Watch {
    pub(crate) fn new(ring: &Ring) -> Self {
        let edge = Edge::new(ring, Role::Consumer);
        let since = Mutex::new(Mark::of(ring));
        Watch(Arc::new(Watched { ring: ring.clone(), edge, since, reaper: Mutex::new(None) }))
    }

    /// Reports only what comes after this call.
    pub(crate) fn mark(&self) {
        *self.0.since.lock().unwrap_or_else(PoisonError::into_inner) = Mark::of(&self.0.ring);
    }
}

impl Mark {
    fn of(ring: &Ring) -> Self {
        let redeliveries = if ring.kind() == Kind::Mpmc { ring.mpmc_shared().redeliveries() } else { 0 };
        Mark { membership: ring.segment().table().lifecycle().membership(), redeliveries }
    }
}

impl Source for Watch {
    fn event(&self) -> Event<'_> {
        self.0.edge.event()
    }

    /// Whether a consumer may now find something that was not there before the mark: a frame,
    /// bytes, or an end. May be true without a cause, for example in a damaged ring, which the
    /// consumer then reports.
    fn is_ready(&self, _: bool) -> bool {
        let ring = &self.0.ring;
        let has_data = match ring.kind() {
            Kind::Mpmc => ring.mpmc_shared().is_readable(),
            Kind::Spsc => ring.spsc_shared().is_readable(),
            _ => ring.stream_shared().used() != 0,
        };
        has_data || Mark::of(ring) != *self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes a consumer that sleeps if there is still something to receive. On a ring of many
    /// consumers a watcher that slept may have got the one wake-up that was meant for a consumer,
    /// and it receives nothing itself.
    fn pass_on(&self) {
        if let Edge::Many(event) = &self.0.edge {
            if self.0.ring.mpmc_shared().has_more() {
                event.notify(1);
            }
        }
    }

    fn segment(&self) -> &Arc<Segment> {
        self.0.ring.segment()
    }

    fn reap(&self) {
        self.0.ring.reap_dead_lazily(&self.0.reaper);
    }

    fn is_abandoned(&self) -> bool {
        false
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ring::{Options, mpmc};
    use crate::wait::eventcount::{SLEEP_CAP, Sleep};

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
