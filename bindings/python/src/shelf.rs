//! A byte ring, and the frames of it that Python holds: several at once, released in any order.
//!
//! The library lends the frames of such a ring by a batch that borrows its consumer. Here both are
//! kept together, because a view in Python lives as long as it likes. The ring gets its room back
//! in the order of the frames: a frame that is released before an older one waits for that.
//!
//! A release comes when Python drops the last view, in any thread, also while another thread waits
//! for the next frame. It must not block: it leaves the ticket in `returned`, and the thread with
//! the lock takes it from there before the lock is given up for good ([`Shelf::settle`]).

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use slipring::frame::Header;
use slipring::{Canceller, Deadline, Error, Readiness, Result, Ring, broadcast, spsc};

use crate::fork::Home;
use crate::frame::{Extra, Place};
use crate::source::{Source, Taken, lock, lock_until, try_lock};

/// A consumer that lends batches.
pub trait Lends: Send + Sized + 'static {
    /// Its batch.
    type Batch: Send;
    /// All frames from the first that is not released on. `None` does not wait.
    fn begin(&'static mut self, deadline: Option<Deadline>) -> Result<Self::Batch>;
    /// The next frame of the batch: its header and its bytes.
    fn next(batch: &mut Self::Batch) -> Option<(Header, *const [u8])>;
    /// Waits for a frame behind those that were read.
    fn wait(batch: &mut Self::Batch, deadline: Deadline) -> Result<()>;
    /// Releases the first frames that were read.
    fn release_first(batch: &mut Self::Batch, frames: usize);
    /// What a set needs to wait for a frame behind those that were read.
    fn more_readable(batch: &Self::Batch) -> Readiness;
    /// The calls of the consumer, for [`Source`].
    fn first_readable(&self) -> Readiness;
    fn parts(&self) -> (Canceller, Ring, usize);
}

macro_rules! lends {
    ($($consumer:ty, $batch:ty;)*) => {$(
        impl Lends for $consumer {
            type Batch = $batch;

            fn begin(&'static mut self, deadline: Option<Deadline>) -> Result<Self::Batch> {
                match deadline {
                    None => self.try_recv_batch(usize::MAX),
                    Some(deadline) => self.recv_batch_deadline(usize::MAX, deadline),
                }
            }

            fn next(batch: &mut Self::Batch) -> Option<(Header, *const [u8])> {
                batch.iter().next().map(|frame| (frame.header, std::ptr::from_ref(frame.payload)))
            }

            fn wait(batch: &mut Self::Batch, deadline: Deadline) -> Result<()> {
                batch.wait_for_more(deadline)
            }

            fn release_first(batch: &mut Self::Batch, frames: usize) {
                batch.release_first(frames);
            }

            fn more_readable(batch: &Self::Batch) -> Readiness {
                batch.more_readable()
            }

            fn first_readable(&self) -> Readiness {
                self.readable()
            }

            fn parts(&self) -> (Canceller, Ring, usize) {
                (self.canceller(), self.ring().clone(), self.max_payload())
            }
        }
    )*};
}

lends! {
    spsc::Consumer, spsc::ReadBatch<'static>;
    broadcast::Subscriber, broadcast::ReadBatch<'static>;
}

/// A consumer, its batch, and which frames of the batch are held.
struct Lent<C: Lends> {
    /// Borrows the consumer exclusively while it exists. It is dropped first.
    batch: Option<C::Batch>,
    /// From `Box::into_raw`. Dropped by `drop` only.
    consumer: NonNull<C>,
    /// For each frame that was read from the batch and is not released: whether it was given back.
    held: VecDeque<bool>,
    /// The ticket of the first of them.
    first: u64,
}

// SAFETY: it owns the consumer and the batch, which are Send (`Lends`).
unsafe impl<C: Lends> Send for Lent<C> {}

impl<C: Lends> Lent<C> {
    /// The next frame: its ticket, header and bytes.
    fn take(&mut self, deadline: Option<Deadline>) -> Result<(u64, Header, *const [u8])> {
        loop {
            if self.held.is_empty() {
                // With no frame held there is nothing to keep, and the consumer waits as it does
                // best.
                self.batch = None;
                // SAFETY: valid until `drop`. No batch exists, and the other borrows of the
                // consumer end within their calls, which have `&self` or `&mut self` of this. The
                // new batch lives in `self.batch`, which is dropped before the consumer: so its
                // borrow need not end sooner.
                let consumer: &'static mut C = unsafe { &mut *self.consumer.as_ptr() };
                self.batch = Some(consumer.begin(deadline)?);
            }
            let Some(batch) = &mut self.batch else { continue };
            if let Some((header, bytes)) = C::next(batch) {
                let ticket = self.first + self.held.len() as u64;
                self.held.push_back(false);
                return Ok((ticket, header, bytes));
            }
            let outcome = C::wait(batch, deadline.unwrap_or(Deadline::after(std::time::Duration::ZERO)));
            match (outcome, deadline) {
                (Err(Error::Timeout), None) => return Err(Error::Empty),
                (outcome, _) => outcome?,
            }
        }
    }

    /// A frame was given back: releases it, and those behind it that were given back before, if no
    /// older one is held.
    fn give_back(&mut self, ticket: u64) {
        if let Some(held) = self.held.get_mut(ticket.wrapping_sub(self.first) as usize) {
            *held = true;
        }
        let frames = self.held.iter().take_while(|is_back| **is_back).count();
        if frames == 0 {
            return;
        }
        self.held.drain(..frames);
        self.first += frames as u64;
        if self.held.is_empty() {
            self.batch = None; // releases all that were read
        } else if let Some(batch) = &mut self.batch {
            C::release_first(batch, frames);
        }
    }
}

impl<C: Lends> Drop for Lent<C> {
    fn drop(&mut self) {
        self.batch = None;
        // SAFETY: from `Box::into_raw`, and dropped here only. The batch, its only borrower, is
        // gone.
        drop(unsafe { Box::from_raw(self.consumer.as_ptr()) });
    }
}

/// A byte ring, for all threads.
pub struct Shelf<C: Lends> {
    /// `None` once it is closed and nothing is held.
    lent: Mutex<Option<Lent<C>>>,
    /// Tickets that came back and are not released yet.
    returned: Mutex<Vec<u64>>,
    closed: AtomicBool,
    home: Home,
    canceller: Canceller,
    ring: Ring,
    max_payload: usize,
}

impl<C: Lends> Shelf<C> {
    /// Takes a consumer that has lent nothing.
    pub fn new(consumer: C) -> Self {
        let (canceller, ring, max_payload) = consumer.parts();
        let consumer = NonNull::from(Box::leak(Box::new(consumer)));
        let lent = Lent { batch: None, consumer, held: VecDeque::new(), first: 0 };
        Shelf {
            lent: Mutex::new(Some(lent)),
            returned: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            home: Home::here(),
            canceller,
            ring,
            max_payload,
        }
    }

    /// Releases what came back; leaves the ring if it is closed and nothing is held.
    fn clear(&self, lent: &mut Option<Lent<C>>) {
        let returned = std::mem::take(&mut *lock(&self.returned));
        if let Some(open) = lent {
            for ticket in returned {
                open.give_back(ticket);
            }
            if self.is_closed() && open.held.is_empty() {
                *lent = None;
            }
        }
    }

    fn is_clear(&self) -> bool {
        lock(&self.returned).is_empty()
    }

    /// Has [`Shelf::clear`] done: here, or by the thread that has the lock. That thread clears
    /// before it unlocks, and looks again afterwards, for what comes in between; if it waits, it is
    /// interrupted.
    fn settle(&self) {
        loop {
            let Some(mut lent) = try_lock(&self.lent) else {
                self.canceller.cancel();
                return;
            };
            self.clear(&mut lent);
            drop(lent);
            if self.is_clear() {
                return;
            }
        }
    }
}

impl<C: Lends> Source for Shelf<C> {
    fn take(self: Arc<Self>, deadline: Option<Deadline>) -> Result<Taken> {
        // A batch that was read before a fork still has frames.
        self.home.check()?;
        let mut guard = lock_until(&self.lent, deadline)?;
        // What came back meanwhile may be the room that the producer waits for.
        self.clear(&mut guard);
        let outcome = match &mut *guard {
            Some(lent) if !self.is_closed() => lent.take(deadline),
            _ => Err(Error::Cancelled),
        };
        if matches!(outcome, Err(Error::Cancelled)) {
            self.canceller.reset();
        }
        self.clear(&mut guard);
        drop(guard);
        if !self.is_clear() {
            self.settle();
        }
        let (ticket, header, bytes) = outcome?;
        let source: Arc<dyn Source> = self;
        let place = Place::Held { source, ticket, start: bytes.cast(), len: bytes.len() };
        Ok(Taken { place, header, extra: Extra::default() })
    }

    fn give_back(&self, ticket: u64) {
        lock(&self.returned).push(ticket);
        self.settle();
    }

    fn interrupt(&self) {
        self.canceller.cancel();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.settle();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn readable(&self) -> Result<Readiness> {
        let guard = lock_until(&self.lent, None)?;
        let lent = guard.as_ref().ok_or(Error::Cancelled)?;
        Ok(match &lent.batch {
            Some(batch) => C::more_readable(batch),
            // SAFETY: valid until `lent` is dropped; without a batch, and with the lock, nothing
            // borrows the consumer exclusively.
            None => unsafe { lent.consumer.as_ref() }.first_readable(),
        })
    }

    fn ring(&self) -> Option<Ring> {
        Some(self.ring.clone())
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn has_peer(&self) -> Option<bool> {
        Some(self.ring.stats().producers > 0)
    }
}
