//! Watching a ring without a seat in it: has something come since a consumer found it empty?
//!
//! Used by `transport/doorbell.rs`. Relies on the eventcount that consumers sleep on: a watcher
//! that sleeps there costs a producer exactly what a sleeping consumer costs it.

use super::Ring;
use super::attachment::TURN_NS;
use crate::error::Result;
use crate::os::clock::monotonic_ns;
use crate::segment::Kind;
use crate::wait::eventcount::{Many, One, SLEEP_CAP, Sleep};

/// A ring as seen by a watcher, which only learns when to look.
pub(crate) struct Watch {
    ring: Ring,
    event: Event,
}

enum Event {
    One(One),
    Many(Many),
}

/// What was known at a moment: who had come and gone, and what had been taken back from the dead.
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

    /// Whether a consumer that looks now may find something that it did not find before `since`: a
    /// frame, bytes, or news of an end. May say so in vain; what it finds in a damaged ring is the
    /// consumer's to report.
    pub(crate) fn is_ready(&self, since: Mark) -> bool {
        let has_data = match self.ring.kind() {
            Kind::Mpmc => self.ring.mpmc_shared().has_more(),
            // By the positions alone, which are only ever accessed atomically: headers are not. A
            // frame whose producer died before moving the tail is found at the news of that death.
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

    /// One capped sleep, unless it is ready now. Looks for the dead first, because no participant
    /// wakes us for them, unless one of many participants has just done so. A few system calls.
    ///
    /// # Errors
    /// As [`Ring::sweep`].
    pub(crate) fn sleep(&self, since: Mark) -> Result<()> {
        let checks = self.ring.segment().table().checks();
        let longest = if checks.claim(monotonic_ns(), TURN_NS) {
            self.ring.sweep()?;
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
    /// consumers a watcher that slept may have got the one wake-up that was meant for a consumer,
    /// and it receives nothing itself.
    pub(crate) fn pass_on(&self) {
        if let Event::Many(event) = &self.event {
            if self.ring.mpmc_shared().has_more() {
                event.notify(1);
            }
        }
    }

    /// Ends the sleep of all sleepers here.
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
        let ring = Ring::memfd(&Options::mpmc(8, 8)).unwrap();
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
