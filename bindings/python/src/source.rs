//! What frames are received from, each behind [`Source`], so that one class serves every kind.
//!
//! Used by `receiver.rs`. `shelf.rs` has the rings whose frames are released in their order, this
//! file the others: slot rings (each frame apart), and sources of copies.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use slipring::broadcast::{LossySubscriber, Received};
use slipring::frame::{Event, Flags, Header};
use slipring::transport::FrameReceiver;
use slipring::{Canceller, Deadline, Error, Readiness, Result, Ring, mpmc, mpsc};

use crate::frame::{Extra, Place};

/// A frame that was taken.
pub struct Taken {
    pub place: Place,
    pub header: Header,
    pub extra: Extra,
}

/// The end of a producer of an mpsc ring.
#[derive(Clone, Copy)]
pub struct End {
    pub lane: u16,
    pub producer: u16,
    pub died: bool,
}

/// Where frames come from. All calls may be made by any thread.
pub trait Source: Send + Sync {
    /// The next frame. Waits until the deadline; `None` does not wait.
    ///
    /// # Errors
    /// The library's; `Cancelled` if [`Source::interrupt`] was called meanwhile.
    fn take(self: Arc<Self>, deadline: Option<Deadline>) -> Result<Taken>;

    /// Releases a frame that was taken in place. Does not block.
    fn give_back(&self, ticket: u64);

    /// Makes a waiting call return `Cancelled`, at once or the next one.
    fn interrupt(&self);

    /// Leaves the ring, once the last held frame was given back. Does not block.
    fn close(&self);

    /// Whether it was closed.
    fn is_closed(&self) -> bool;

    /// What a set needs to wait for the next frame.
    fn readable(&self) -> Result<Readiness>;

    /// The ring, if it is one.
    fn ring(&self) -> Option<Ring>;

    /// The largest payload.
    fn max_payload(&self) -> usize;

    /// Whether a peer is attached, where that is known.
    fn has_peer(&self) -> Option<bool>;

    /// The ends of producers since the last call.
    fn take_ends(&self) -> Vec<End> {
        Vec::new()
    }
}

/// A guard, even if a thread panicked with it: the state behind it is consistent after each call.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A guard, if no other thread has it.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// A guard of something that another thread may hold while it waits. `None` does not wait.
pub fn lock_until<T>(mutex: &Mutex<T>, deadline: Option<Deadline>) -> Result<MutexGuard<'_, T>> {
    loop {
        if let Some(guard) = try_lock(mutex) {
            return Ok(guard);
        }
        match deadline {
            None => return Err(Error::Empty),
            Some(deadline) if deadline.has_passed() => return Err(Error::Timeout),
            Some(_) => thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// A slot ring, from which threads receive at once. Its frames are copied, and their slots held
/// until they are released, so that the frames of a killed process are delivered again.
///
/// A slot that is held blocks the producers when they come round to it. So a thread of Python's
/// that still has its last frame in a variable must not wait for the next one with the slot: if it
/// finds the ring empty, its slots are released. As nothing of Python's points into them, that is
/// always possible.
pub struct Slots {
    state: Mutex<SlotState>,
    consumer: Mutex<Option<Arc<mpmc::Consumer>>>,
    canceller: Canceller,
}

struct SlotState {
    held: HashMap<u64, Slot>,
    next: u64,
}

/// A slot that is held. Its view is dropped before the consumer, which it borrows: fields drop in
/// order.
struct Slot {
    _view: mpmc::ReadView<'static>,
    _consumer: Arc<mpmc::Consumer>,
    thread: ThreadId,
}

impl Slots {
    /// Takes a consumer.
    pub fn new(consumer: mpmc::Consumer) -> Self {
        Slots {
            canceller: consumer.canceller(),
            state: Mutex::new(SlotState { held: HashMap::new(), next: 0 }),
            consumer: Mutex::new(Some(Arc::new(consumer))),
        }
    }

    fn consumer(&self) -> Result<Arc<mpmc::Consumer>> {
        lock(&self.consumer).clone().ok_or(Error::Cancelled)
    }

    /// The calling thread has found the ring empty.
    fn release_own(&self) {
        let me = thread::current().id();
        let released: Vec<Slot> = {
            let mut state = lock(&self.state);
            let own: Vec<u64> =
                state.held.iter().filter(|(_, slot)| slot.thread == me).map(|(ticket, _)| *ticket).collect();
            own.iter().filter_map(|ticket| state.held.remove(ticket)).collect()
        };
        drop(released); // without the lock
    }
}

impl Source for Slots {
    fn take(self: Arc<Self>, deadline: Option<Deadline>) -> Result<Taken> {
        let consumer = self.consumer()?;
        let mut view = consumer.try_recv();
        if matches!(view, Err(Error::Empty)) {
            self.release_own();
            if let Some(deadline) = deadline {
                view = consumer.recv_deadline(deadline);
            }
        }
        let view = match view {
            Err(Error::Cancelled) => {
                // An interruption ends the waits of all threads; those that go on wait again.
                if !self.is_closed() {
                    self.canceller.reset();
                }
                return Err(Error::Cancelled);
            }
            view => view?,
        };
        let (header, bytes) = (view.header(), Box::from(&*view));
        // SAFETY: the view borrows the consumer, which lies in an `Arc` that is kept beside it in
        // the `Slot`: it does not move, and is dropped after the view.
        let view = unsafe { std::mem::transmute::<mpmc::ReadView<'_>, mpmc::ReadView<'static>>(view) };
        let slot = Slot { _view: view, _consumer: Arc::clone(&consumer), thread: thread::current().id() };
        let mut state = lock(&self.state);
        let ticket = state.next;
        state.next += 1;
        state.held.insert(ticket, slot);
        drop(state);
        let source: Arc<dyn Source> = self;
        Ok(Taken { place: Place::Copied(bytes, Some((source, ticket))), header, extra: Extra::default() })
    }

    fn give_back(&self, ticket: u64) {
        let slot = lock(&self.state).held.remove(&ticket);
        drop(slot); // without the lock
    }

    fn interrupt(&self) {
        self.canceller.cancel();
    }

    fn close(&self) {
        let consumer = lock(&self.consumer).take();
        self.canceller.cancel();
        drop(consumer);
    }

    fn is_closed(&self) -> bool {
        lock(&self.consumer).is_none()
    }

    fn readable(&self) -> Result<Readiness> {
        Ok(self.consumer()?.readable())
    }

    fn ring(&self) -> Option<Ring> {
        Some(self.consumer().ok()?.ring().clone())
    }

    fn max_payload(&self) -> usize {
        self.consumer().map_or(0, |consumer| consumer.max_payload())
    }

    fn has_peer(&self) -> Option<bool> {
        Some(self.consumer().ok()?.has_peer())
    }
}

/// What receives into a buffer, and so frame by frame as copies.
pub trait Copying: Send {
    /// The next frame. `None` does not wait.
    fn copy_next(&mut self, deadline: Option<Deadline>, ends: &mut VecDeque<End>) -> Result<Copied>;
    /// As in [`Source`].
    fn readable(&self) -> Result<Readiness>;
    /// As in [`Source`].
    fn ring(&self) -> Option<Ring>;
    /// As in [`Source`].
    fn max_payload(&self) -> usize;
    /// As in [`Source`].
    fn has_peer(&self) -> Option<bool>;
    /// What interrupts a wait, if anything does.
    fn canceller(&self) -> Option<Canceller>;
}

/// A frame that was copied.
pub struct Copied {
    bytes: Box<[u8]>,
    header: Header,
    extra: Extra,
}

/// A source of copies. One thread receives at a time.
pub struct Copies<C> {
    inner: Mutex<Option<C>>,
    closed: std::sync::atomic::AtomicBool,
    canceller: Option<Canceller>,
    ends: Mutex<VecDeque<End>>,
    ring: Option<Ring>,
    max_payload: usize,
}

impl<C: Copying> Copies<C> {
    pub fn new(inner: C) -> Self {
        Copies {
            canceller: inner.canceller(),
            ring: inner.ring(),
            max_payload: inner.max_payload(),
            inner: Mutex::new(Some(inner)),
            closed: false.into(),
            ends: Mutex::new(VecDeque::new()),
        }
    }

    fn finish(&self, inner: &mut Option<C>) {
        if self.is_closed() {
            *inner = None;
        }
    }
}

impl<C: Copying> Source for Copies<C> {
    fn take(self: Arc<Self>, deadline: Option<Deadline>) -> Result<Taken> {
        let mut inner = lock_until(&self.inner, deadline)?;
        let receiver = inner.as_mut().ok_or(Error::Cancelled)?;
        let mut ends = VecDeque::new();
        let outcome = receiver.copy_next(deadline, &mut ends);
        lock(&self.ends).append(&mut ends);
        if let (Err(Error::Cancelled), Some(canceller)) = (&outcome, &self.canceller) {
            canceller.reset();
        }
        self.finish(&mut inner);
        let Copied { bytes, header, extra } = outcome?;
        Ok(Taken { place: Place::Copied(bytes, None), header, extra })
    }

    fn give_back(&self, _: u64) {}

    fn interrupt(&self) {
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }

    fn close(&self) {
        self.closed.store(true, std::sync::atomic::Ordering::Release);
        if let Some(mut inner) = try_lock(&self.inner) {
            self.finish(&mut inner);
        } else {
            // The thread that waits drops it.
            self.interrupt();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    fn readable(&self) -> Result<Readiness> {
        lock_until(&self.inner, None)?.as_ref().ok_or(Error::Cancelled)?.readable()
    }

    fn ring(&self) -> Option<Ring> {
        self.ring.clone()
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn has_peer(&self) -> Option<bool> {
        try_lock(&self.inner)?.as_ref()?.has_peer()
    }

    fn take_ends(&self) -> Vec<End> {
        lock(&self.ends).drain(..).collect()
    }
}

/// A lossy subscriber, and its buffer.
pub struct Lossy {
    pub rx: LossySubscriber,
    buffer: Vec<u8>,
    missed: u64,
}

impl Lossy {
    pub fn new(rx: LossySubscriber) -> Self {
        Lossy { buffer: vec![0; rx.max_payload()], rx, missed: 0 }
    }
}

impl Copying for Lossy {
    fn copy_next(&mut self, deadline: Option<Deadline>, _: &mut VecDeque<End>) -> Result<Copied> {
        loop {
            let received = match deadline {
                None => self.rx.try_recv_into(&mut self.buffer)?,
                Some(deadline) => self.rx.recv_into_deadline(&mut self.buffer, deadline)?,
            };
            match received {
                // Reported with the frame behind the gap.
                Received::Gap { missed } => self.missed += missed,
                Received::Frame(header) => {
                    let extra = Extra { missed: std::mem::take(&mut self.missed), ..Extra::default() };
                    return Ok(Copied { bytes: self.buffer[..header.len as usize].into(), header, extra });
                }
            }
        }
    }

    fn readable(&self) -> Result<Readiness> {
        Ok(self.rx.readable())
    }

    fn ring(&self) -> Option<Ring> {
        Some(self.rx.ring().clone())
    }

    fn max_payload(&self) -> usize {
        self.rx.max_payload()
    }

    fn has_peer(&self) -> Option<bool> {
        Some(self.rx.has_peer())
    }

    fn canceller(&self) -> Option<Canceller> {
        Some(self.rx.canceller())
    }
}

impl Copying for mpsc::Consumer {
    fn copy_next(&mut self, deadline: Option<Deadline>, ends: &mut VecDeque<End>) -> Result<Copied> {
        loop {
            let received = match deadline {
                None => self.try_recv()?,
                Some(deadline) => self.recv_deadline(deadline)?,
            };
            match received {
                mpsc::Received::Frame(view) => {
                    let source = view.source();
                    let extra = Extra { origin: Some((source.lane, source.producer)), ..Extra::default() };
                    return Ok(Copied { bytes: view.to_vec().into(), header: view.header(), extra });
                }
                mpsc::Received::Ended(mpsc::Ended { lane, producer, died, .. }) => {
                    ends.push_back(End { lane, producer, died });
                }
            }
        }
    }

    fn readable(&self) -> Result<Readiness> {
        Ok(self.readable())
    }

    fn ring(&self) -> Option<Ring> {
        Some(self.ring().clone())
    }

    fn max_payload(&self) -> usize {
        self.max_payload()
    }

    fn has_peer(&self) -> Option<bool> {
        Some(self.has_peer())
    }

    fn canceller(&self) -> Option<Canceller> {
        Some(self.canceller())
    }
}

/// The receiving end of any transport.
pub struct Wire {
    pub rx: Box<dyn FrameReceiver>,
    missed: u64,
}

impl Wire {
    pub fn new(rx: Box<dyn FrameReceiver>) -> Self {
        Wire { rx, missed: 0 }
    }
}

impl Copying for Wire {
    fn copy_next(&mut self, deadline: Option<Deadline>, _: &mut VecDeque<End>) -> Result<Copied> {
        loop {
            let event = match deadline {
                None => self.rx.try_recv()?,
                Some(deadline) => self.rx.recv_until(deadline)?,
            };
            let (frame, duplicate) = match event {
                Event::Frame(frame) => (frame, false),
                Event::Duplicate { frame, .. } => (frame, true),
                Event::Gap { expected, found, .. } => {
                    self.missed += u64::from(found.wrapping_sub(expected));
                    continue;
                }
                // Bytes that were no frame: how many frames they were is not known, so at least
                // one.
                Event::Skipped { .. } => {
                    self.missed += 1;
                    continue;
                }
            };
            if frame.header.flags.contains(Flags::CONTROL) {
                continue; // only announcements of types come here
            }
            let extra =
                Extra { missed: std::mem::take(&mut self.missed), stamp: frame.stamp, duplicate, ..Extra::default() };
            let copied = Copied { bytes: frame.payload.into(), header: frame.header, extra };
            self.rx.release();
            return Ok(copied);
        }
    }

    fn readable(&self) -> Result<Readiness> {
        let Some(fd) = self.rx.poll_fd() else {
            return Err(Error::Unsupported { what: "a descriptor for this transport: wait with a timeout" });
        };
        Readiness::readable_fd(fd)
    }

    fn ring(&self) -> Option<Ring> {
        None
    }

    fn max_payload(&self) -> usize {
        self.rx.max_payload()
    }

    fn has_peer(&self) -> Option<bool> {
        None
    }

    fn canceller(&self) -> Option<Canceller> {
        self.rx.canceller()
    }
}
