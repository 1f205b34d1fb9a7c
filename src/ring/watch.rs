//! Watching a ring without being a participant: whether something has come since a consumer found
//! it empty.
//!
//! Used by `transport/doorbell.rs`. Relies on the eventcount of the consumers: for a producer, a
//! sleeping watcher costs as much as a sleeping consumer.

use super::Ring;
use super::attachment::TURN_NS;
use crate::error::Result;
use crate::os::clock::monotonic_ns;
use crate::segment::Kind;
use crate::wait::eventcount::{Many, One, SLEEP_CAP, Sleep};

/// A ring as seen by a watcher, which only finds out when a consumer should check it.
pub(crate) struct Watch {
    ring: Ring,
    event: Event,
}

enum Event {
    One(One),
    Many(Many),
}

/// The state at some moment: the membership, and the count of redeliveries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    membership: u64,
    redeliveries: u64,
}

impl Watch {
    pub(crate) fn new(ring: &Ring) -> Self {
        let event = match ring.kind() {
            Kind::Mpmc => Event::Many(ring.events_many().0),
            _ => Event::One(ring.events_one().0),
        };
        Watch { ring: ring.clone(), event }
    }

    pub(crate) fn mark(&self) -> Mark {
        let redeliveries = if self.ring.kind() == Kind::Mpmc { self.ring.mpmc_shared().redeliveries() } else { 0 };
        Mark { membership: self.ring.segment().table().lifecycle().membership(), redeliveries }
    }

    /// Whether a consumer may now find something that was not there before `since`: a frame, bytes,
    /// or an end. May be true without a cause, for example in a damaged ring, which the consumer
    /// then reports.
    pub(crate) fn is_ready(&self, since: Mark) -> bool {
        let has_data = match self.ring.kind() {
            Kind::Mpmc => self.ring.mpmc_shared().has_more(),
            // Only the positions are read, which are always accessed atomically, unlike headers. A
            // frame whose producer died before moving the tail is found when that death is noticed.
            Kind::Spsc => {
                let (head, tail) = self.ring.spsc_shared().observe();
                head != tail
            }
            _ => {
                let (head, tail) = self.ring.stream_shared().observe();
                head != tail
            }
        };
        has_data || self.mark() != since
    }

    /// One capped sleep, unless it is ready now. Checks for dead participants first, because a
    /// death causes no wake-up, unless one of many participants has just done so. A few system
    /// calls.
    ///
    /// # Errors
    /// As [`Ring::reap_dead`].
    pub(crate) fn sleep(&self, since: Mark) -> Result<()> {
        let checks = self.ring.segment().table().checks();
        let longest = if checks.claim(monotonic_ns(), TURN_NS) {
            self.ring.reap_dead()?;
            SLEEP_CAP
        } else {
            checks.rest(SLEEP_CAP, 0)
        };
        let mut ready = || self.is_ready(since);
        match &self.event {
            Event::One(event) => event.sleep(longest, &mut ready),
            Event::Many(event) => event.sleep(longest, &mut ready),
        };
        Ok(())
    }

    /// Wakes a consumer that sleeps if there is still something to receive. On a ring of many
    /// consumers, a watcher that slept may have got the wake-up that was meant for a consumer, but
    /// it receives nothing itself.
    pub(crate) fn pass_on(&self) {
        if let Event::Many(event) = &self.event {
            if self.ring.mpmc_shared().has_more() {
                event.notify(1);
            }
        }
    }

    /// Wakes all sleepers of this ring.
    pub(crate) fn wake(&self) {
        self.ring.wake_all();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ring::{Options, mpmc};

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
