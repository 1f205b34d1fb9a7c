//! Watching a ring without a seat in it: has something come since a consumer found it empty?
//!
//! Used by `transport/doorbell.rs`, as a source of a set of waits. Relies on the eventcount that
//! consumers sleep on: a watcher that sleeps there costs a producer exactly what a sleeping consumer
//! costs it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Ring;
use super::readiness::Edge;
use crate::segment::{Kind, Reaper, Role, Segment};
use crate::set::source::Source;
use crate::wait::eventcount::Event;

/// A ring as seen by a watcher, which only learns when to look.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Watched>);

struct Watched {
    ring: Ring,
    edge: Edge,
    /// What was known when the consumer last found nothing.
    since: Mutex<Mark>,
    reaper: Mutex<Option<Reaper>>,
}

/// What was known at a moment: who had come and gone, and what had been taken back from the dead.
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

    /// From now on, only what comes later is news.
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

    /// Whether a consumer that looks now may find something that it did not find before the mark: a
    /// frame, bytes, or news of an end. May say so in vain; what it finds in a damaged ring is the
    /// consumer's to report.
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
        // A machine may be slow at waking, never at sleeping: one quick one of many is enough.
        assert!((0..100).any(|_| sleep() < SLEEP_CAP / 2), "the consumer is not woken");
    }
}
