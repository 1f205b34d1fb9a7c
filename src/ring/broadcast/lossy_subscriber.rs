//! The handle of a lossy subscriber: frames by copy, and gaps.
//!
//! Relies on `lossy.rs` for the algorithm, on `attachment.rs` for waiting and for the publisher's
//! liveness.

use std::cell::Cell;
use std::marker::PhantomData;

use super::join::Start;
use super::layout::Position;
use super::lossy::{Lossy, Step};
use super::subscriber::refused;
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::memory::Words;
use crate::ring::attachment::{Attachment, Fan};
use crate::ring::common_calls::common_calls;
use crate::ring::readiness::Look;
use crate::ring::spsc::layout::Fault;
use crate::ring::{Options, Ring};
use crate::segment::counters::Counter;
use crate::segment::{Kind, Role};
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;
use crate::wait::eventcount::SLEEP_CAP;

/// What a lossy subscriber receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame: its payload is in the first `len` bytes of the buffer.
    Frame(Header),
    /// The publisher overwrote frames before they were read. The frames behind them follow.
    Gap {
        /// How many, exactly.
        missed: u64,
    },
}

/// A lossy subscriber: the publisher does not wait for it, and it is told what it missed.
///
/// It copies frames out, because the publisher may overwrite them at any time, and returns only
/// whole ones. It maps the data of the ring read-only. If it was overrun, it goes on at the oldest
/// frame that is certain to be there. So it misses as few frames as possible; one that is always too
/// slow is told of many small gaps. To skip to the newest frame instead, subscribe again.
///
/// Every `try_…` call is lock-free, allocates no memory, and makes no system call. If there is
/// nothing to receive, it asks the kernel from time to time whether the publisher is dead.
pub struct LossySubscriber {
    pub(super) core: Lossy,
    attachment: Attachment<Fan>,
    /// A subscriber is used by one thread at a time.
    _not_sync: PhantomData<Cell<()>>,
}

common_calls!(consumer LossySubscriber, "broadcast::LossySubscriber", attachment, "this handle");

impl LossySubscriber {
    /// Opens or creates the named ring, and subscribes.
    ///
    /// # Errors
    /// As [`Ring::open_or_create`] and [`LossySubscriber::attach`].
    pub fn open(name: &str, options: &Options, start: Start) -> Result<Self> {
        Ring::open_and_attach(Kind::Broadcast, name, options, |ring| Self::attach(ring, start))
    }

    /// Subscribes to the ring. Some system calls; maps the data once more.
    ///
    /// If [`Start::At`] is a position that was overwritten, the first call returns the gap.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`]; [`Error::Invalid`] if [`Start::At`] is a position at which
    /// no frame begins; [`Error::Incompatible`] for another kind of ring; [`Error::Corrupt`];
    /// [`Error::Io`].
    pub fn attach(ring: &Ring, start: Start) -> Result<Self> {
        let attachment = Attachment::join(ring, Kind::Broadcast, Role::Consumer)?;
        let data = Words(ring.segment().map_data_to_read()?);
        let core = ring.broadcast_shared().subscribe_lossy(attachment.id(), data, start).map_err(refused)?;
        attachment.announce();
        Ok(LossySubscriber { core, attachment, _not_sync: PhantomData })
    }

    /// Largest payload of a frame, in bytes: a buffer of this size takes any frame.
    #[inline]
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.core.bytes().max_payload()
    }

    /// Where this subscriber is: before the next frame that it receives or misses.
    #[must_use]
    pub fn position(&self) -> Position {
        self.core.position()
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is something to receive. It is
    /// no borrow: this handle stays usable.
    #[must_use]
    pub fn readable(&self) -> Readiness {
        self.attachment.readiness(Look::Broadcast(self.ring().broadcast_shared(), self.attachment.id()))
    }

    /// Copies the next frame into `buffer`, or returns what was missed, if there is anything.
    /// Lock-free: a call that was overrun while it copied returns the gap.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no frame. [`Error::Closed`] or [`Error::PeerDead`] when the
    /// publisher has departed and everything that is left was received, until another publisher
    /// attaches. [`Error::TooLarge`], with a sufficient length as `max`, if `buffer` is too short;
    /// the frame then stays, until it is overwritten. [`Error::Corrupt`].
    ///
    /// ```
    /// use slipring::broadcast::{self, Received};
    /// let (mut tx, mut rx) = broadcast::overwriting(4096)?;
    /// let mut buffer = [0; 64];
    /// assert!(matches!(rx.try_recv_into(&mut buffer), Err(slipring::Error::Empty)));
    /// tx.try_send(b"hello")?;
    /// let Received::Frame(header) = rx.try_recv_into(&mut buffer)? else { panic!("nothing was missed") };
    /// assert_eq!(&buffer[..header.len as usize], b"hello");
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn try_recv_into(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.attachment.check_fork()?;
        loop {
            if let Some(received) = self.step(buffer)? {
                return Ok(received);
            }
            let core = &self.core;
            self.attachment.explain(|| Ok(core.is_readable().then_some(())))?;
        }
    }

    /// [`LossySubscriber::try_recv_into`]; waits while there is no frame. Blocking: progress
    /// depends on the publisher.
    ///
    /// # Errors
    /// As [`LossySubscriber::try_recv_into`], but for [`Error::Empty`].
    #[inline]
    pub fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.recv_into_deadline(buffer, Deadline::never())
    }

    /// [`LossySubscriber::recv_into`], until a deadline.
    ///
    /// # Errors
    /// As [`LossySubscriber::recv_into`], and [`Error::Timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let (_tx, mut rx) = slipring::broadcast::overwriting(4096)?;
    /// let late = rx.recv_into_deadline(&mut [0; 64], Duration::from_millis(5));
    /// assert!(matches!(late, Err(slipring::Error::Timeout)));
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[inline]
    pub fn recv_into_deadline(&mut self, buffer: &mut [u8], deadline: impl Into<Deadline>) -> Result<Received> {
        self.attachment.check_fork()?;
        let deadline = deadline.into();
        loop {
            if let Some(received) = self.step(buffer)? {
                return Ok(received);
            }
            let core = &self.core;
            self.attachment.wait(deadline, || Ok(core.is_readable().then_some(())), || SLEEP_CAP)?;
        }
    }

    #[inline(always)]
    fn step(&mut self, buffer: &mut [u8]) -> Result<Option<Received>> {
        match self.core.step(buffer) {
            Ok(Step::Frame(frame)) if frame.len() <= buffer.len() => {
                self.attachment.count_traffic(Counter::Received, 1, frame.len() as u64);
                Ok(Some(Received::Frame(frame.header())))
            }
            Ok(Step::Frame(frame)) => Err(Error::TooLarge { max: frame.len() }),
            Ok(Step::Gap(missed)) => {
                self.attachment.count(Counter::Lost, missed);
                Ok(Some(Received::Gap { missed }))
            }
            Err(Fault::Empty) => Ok(None),
            Err(fault) => Err(fault.error()),
        }
    }
}
