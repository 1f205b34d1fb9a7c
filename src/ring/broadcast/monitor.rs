//! A lossy reader that maps the ring read-only, and is no participant of it.
//!
//! Relies on `lossy.rs` for the algorithm, on `segment/read_only.rs` for the memory.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::join::Start;
use super::layout::{Position, Shared};
use super::lossy::{Lossy, Step};
use super::lossy_subscriber::Received;
use super::subscriber::refused;
use crate::error::{Error, Result};
use crate::memory::Words;
use crate::ring::Options;
use crate::ring::spsc::layout::Fault;
use crate::segment::{Geometry, Kind, ReadOnly, Role};
use crate::wait::deadline::Deadline;

/// The pause between two looks at an empty ring, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// A reader of a broadcast ring that cannot change anything in it: it maps all of the ring
/// read-only, and a descriptor that is open for reading only suffices.
///
/// It receives as a [`LossySubscriber`](super::LossySubscriber) does: whole frames by copy, and
/// exact gaps. What it gives up, because it is no participant:
///
/// - there may be any number of them, and no one sees them: not the ring's observers, nor the
///   publisher, nor counters;
/// - no publication wakes it: [`Monitor::recv_into`] looks again after pauses of up to a
///   millisecond, and it cannot be in a [`WaitSet`](crate::WaitSet);
/// - it cannot tell a publisher that died from one that has left: both are [`Error::Closed`].
///
/// It need not trust the processes that write the ring: whatever they store, it gets bytes of the
/// ring as frames, or an error. Every `try_…` call is lock-free and allocates no memory.
///
/// ```
/// use std::os::fd::AsFd;
/// use slipring::broadcast::{Monitor, Publisher, Received, Start};
/// use slipring::{Options, Ring};
/// let ring = Ring::create_anonymous(&Options::broadcast(4096))?;
/// let mut tx = Publisher::attach(&ring)?;
/// let mut monitor = Monitor::from_fd(ring.as_fd().try_clone_to_owned().unwrap(), Start::Latest)?;
/// tx.send(b"EURUSD 1.0842")?;
/// let mut buffer = [0; 64];
/// let Received::Frame(header) = monitor.try_recv_into(&mut buffer)? else { panic!("nothing was missed") };
/// assert_eq!(&buffer[..header.len as usize], b"EURUSD 1.0842");
/// assert!(ring.subscribers().is_empty());
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Monitor {
    core: Lossy,
    segment: ReadOnly,
    /// As the subscribers, it is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

impl Monitor {
    /// Opens the named ring, which must exist. Some system calls.
    ///
    /// # Errors
    /// As [`Ring::open`](crate::Ring::open); [`Error::Invalid`] if [`Start::At`] is a position at
    /// which no frame begins.
    pub fn open(name: &str, options: &Options, start: Start) -> Result<Self> {
        options.expect(Kind::Broadcast)?;
        let directory = options.open_directory()?;
        Self::over(ReadOnly::open(&directory, name, options.segment_options(), Kind::Broadcast)?, start)
    }

    /// Accepts the descriptor of a ring that another process created anonymously. It may be open
    /// for reading only, and the other process may be another user's.
    ///
    /// # Errors
    /// As [`Ring::from_fd`](crate::Ring::from_fd); [`Error::Invalid`] if [`Start::At`] is a
    /// position at which no frame begins.
    pub fn from_fd(fd: OwnedFd, start: Start) -> Result<Self> {
        Self::over(ReadOnly::from_memfd(fd, Kind::Broadcast)?, start)
    }

    fn over(segment: ReadOnly, start: Start) -> Result<Self> {
        let &Geometry { participants, capacity, max_payload, .. } = segment.geometry();
        let (publisher, subscribers) = (segment.producer_page(), segment.subscribers());
        let data = Words(segment.data());
        let shared = Shared::new(publisher, subscribers, data.clone(), participants, capacity, max_payload);
        let core = shared.monitor(data, start).map_err(refused)?;
        Ok(Monitor { core, segment, _not_sync: PhantomData })
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.bytes().max_payload()
    }

    /// Where it is: before the next frame that it receives or misses.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core.position()
    }

    /// Copies the next frame into `buffer`, or returns what was missed, if there is anything. One
    /// system call if there is nothing.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no frame. [`Error::Closed`] when no living publisher is
    /// attached and everything that is left was received, until another one attaches.
    /// [`Error::TooLarge`], with a sufficient length as `max`, if `buffer` is too short; the frame
    /// then stays, until it is overwritten. [`Error::Corrupt`]. [`Error::Io`].
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Received> {
        if let Some(received) = self.step(buffer)? {
            return Ok(received);
        }
        if self.segment.is_held(Role::Producer)? {
            return Err(Error::Empty);
        }
        // What the publisher published before its end is visible now.
        self.step(buffer)?.ok_or(Error::Closed)
    }

    /// [`Monitor::try_recv_into`]; waits while there is no frame, by looking again. Blocking:
    /// progress depends on the publisher.
    ///
    /// # Errors
    /// As [`Monitor::try_recv_into`], but for [`Error::Empty`].
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`Monitor::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`Monitor::recv_into`], and [`Error::Timeout`].
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Received> {
        let deadline = deadline.into();
        let [mut pause, longest] = PAUSES;
        loop {
            match self.try_recv_into(buffer) {
                Err(Error::Empty) => {}
                other => return other,
            }
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(Error::Timeout);
            }
            std::thread::sleep(pause.min(left));
            pause = (2 * pause).min(longest);
        }
    }

    #[inline(always)]
    fn step(&mut self, buffer: &mut [u8]) -> Result<Option<Received>> {
        match self.core.step(buffer) {
            Ok(Step::Frame(frame)) if frame.len() <= buffer.len() => Ok(Some(Received::Frame(frame.header()))),
            Ok(Step::Frame(frame)) => Err(Error::TooLarge { max: frame.len() }),
            Ok(Step::Gap(missed)) => Ok(Some(Received::Gap { missed })),
            Err(Fault::Empty) => Ok(None),
            Err(fault) => Err(fault.error()),
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("broadcast::Monitor").field("position", &self.position()).finish_non_exhaustive()
    }
}
