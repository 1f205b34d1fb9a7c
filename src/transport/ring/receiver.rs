//! The receiving end of a ring of frames: the consumers of all kinds behind one type, and their
//! doorbell.
//!
//! Used by programs, endpoints and `transport/upgrade.rs`. Relies on the consumers of `ring/`,
//! through [`Holder`] or the copying sources beside this file, and on `transport/doorbell/`.

use std::os::fd::{AsFd, BorrowedFd};

use super::super::doorbell::Doorbell;
use super::super::{Capabilities, FrameReceiver, Released};
use super::board::Board;
use super::lossy::Lossy;
use super::stranger::Stranger;
use super::{BROADCAST, LATEST, LOSSY, MPMC, MPSC, NO_FRAMES, SPSC, UNTRUSTED, no_ring};
use crate::error::{Error, Result};
use crate::frame::Event;
use crate::ring::broadcast::{LossySubscriber, Start, Subscriber};
use crate::ring::{Holder, Ring, latest, mpmc, mpsc, spsc};
use crate::segment::Kind;
use crate::set::source::Readiness;
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;

/// The usual capacity of a pipe. A longer run would hold room that could already be free.
const LONGEST_RUN: usize = 64 << 10;

/// The receiving end of a ring of frames. The frame that was returned last is held until the next
/// call: if this process dies first, the frame is redelivered with a mark. Dropping the receiver
/// releases it, unless it was put back ([`FrameReceiver::keep`]).
#[derive(Debug)]
pub struct Receiver {
    end: ReceivingEnd,
    max_payload: usize,
    bell: Option<Doorbell>,
}

#[allow(clippy::large_enum_variant, reason = "one a connection; a box would put a pointer before every frame")]
enum ReceivingEnd {
    Spsc(Holder<spsc::Consumer>),
    Mpmc(Holder<mpmc::Consumer>),
    Mpsc(Holder<mpsc::Consumer>),
    Broadcast(Holder<Subscriber>),
    Lossy(Lossy),
    Latest(Board),
    Stranger(Stranger),
}

impl ReceivingEnd {
    /// The ring that its frames come from; `None` for a stranger's.
    fn ring(&self) -> Option<&Ring> {
        match self {
            ReceivingEnd::Spsc(holder) => Some(holder.consumer().ring()),
            ReceivingEnd::Mpmc(holder) => Some(holder.consumer().ring()),
            ReceivingEnd::Mpsc(holder) => Some(holder.consumer().ring()),
            ReceivingEnd::Broadcast(holder) => Some(holder.consumer().ring()),
            ReceivingEnd::Lossy(lossy) => Some(lossy.subscriber.ring()),
            ReceivingEnd::Latest(board) => Some(board.reader.ring()),
            ReceivingEnd::Stranger(_) => None,
        }
    }
}

impl std::fmt::Debug for ReceivingEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReceivingEnd::Spsc(holder) => holder.consumer().fmt(f),
            ReceivingEnd::Mpmc(holder) => holder.consumer().fmt(f),
            ReceivingEnd::Mpsc(holder) => holder.consumer().fmt(f),
            ReceivingEnd::Broadcast(holder) => holder.consumer().fmt(f),
            ReceivingEnd::Lossy(lossy) => lossy.subscriber.fmt(f),
            ReceivingEnd::Latest(board) => board.reader.fmt(f),
            ReceivingEnd::Stranger(stranger) => stranger.consumer.fmt(f),
        }
    }
}

impl Receiver {
    /// Attaches a consumer to `ring`. To a broadcast ring that is a reliable subscriber, from the
    /// oldest frame on; convert a [`Subscriber`] or a [`LossySubscriber`] for other ways.
    ///
    /// # Errors
    /// As [`spsc::Consumer::attach`], [`mpmc::Consumer::attach`], [`mpsc::Consumer::attach`] and
    /// [`latest::Reader::attach`];
    /// [`Error::Unsupported`] for a ring without frames.
    pub fn attach(ring: &Ring) -> Result<Self> {
        match ring.kind() {
            Kind::Spsc => spsc::Consumer::attach(ring).map(Self::from),
            Kind::Mpmc => mpmc::Consumer::attach(ring).map(Self::from),
            Kind::Mpsc => mpsc::Consumer::attach(ring).map(Self::from),
            Kind::Broadcast => Subscriber::attach(ring, Start::Oldest).map(Self::from),
            Kind::Latest => latest::Reader::attach(ring).map(Self::from),
            Kind::Stream => Err(NO_FRAMES),
            other => Err(no_ring(other)),
        }
    }

    /// Adds a [`Doorbell`], so that there is a descriptor to poll ([`FrameReceiver::poll_fd`]).
    /// Up to 120 doorbells of a process share a thread, which sleeps while nothing comes.
    ///
    /// # Errors
    /// As [`Doorbell::eventfd`]; [`Error::Unsupported`] if the sender is a stranger: poll the
    /// socket that is shared with it.
    ///
    /// ```
    /// use slipring::transport::{FrameReceiver, ring};
    /// let (_tx, rx) = slipring::spsc::pair(4096)?;
    /// let rx = ring::Receiver::from(rx).with_doorbell()?;
    /// assert!(rx.poll_fd().is_some());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn with_doorbell(mut self) -> Result<Self> {
        let ring = self.end.ring().ok_or(Error::Unsupported {
            what: "a doorbell on a stranger's ring: poll the socket that is shared with it",
        })?;
        self.bell = Some(Doorbell::eventfd(ring)?);
        Ok(self)
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there may be a frame. A frame that is
    /// held counts as one: the next call releases it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the sender is a stranger: wait for the socket that is shared with
    /// it.
    pub fn readable(&self) -> Result<Readiness> {
        match &self.end {
            ReceivingEnd::Spsc(holder) => Ok(holder.consumer().readable()),
            ReceivingEnd::Mpmc(holder) => Ok(holder.consumer().readable()),
            ReceivingEnd::Mpsc(holder) => Ok(holder.consumer().readable()),
            ReceivingEnd::Broadcast(holder) => Ok(holder.consumer().readable()),
            ReceivingEnd::Lossy(lossy) => Ok(lossy.subscriber.readable()),
            ReceivingEnd::Latest(board) => Ok(board.reader.readable()),
            ReceivingEnd::Stranger(_) => {
                Err(Error::Unsupported { what: "a stranger's ring in a set: add the socket that is shared with it" })
            }
        }
    }

    /// The consumer of a byte ring, for its batches; `None` for other kinds. Releases the held
    /// frame.
    pub fn as_spsc(&mut self) -> Option<&mut spsc::Consumer> {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => Some(holder.consumer_mut()),
            _ => None,
        }
    }

    /// Makes the next event the current one, if there is one.
    pub(in crate::transport) fn try_advance(&mut self) -> Result<()> {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.try_recv(),
            ReceivingEnd::Mpmc(holder) => holder.try_recv(),
            ReceivingEnd::Mpsc(holder) => holder.try_recv(),
            ReceivingEnd::Broadcast(holder) => holder.try_recv(),
            ReceivingEnd::Lossy(lossy) => lossy.advance(|subscriber, buffer| subscriber.try_recv_into(buffer)),
            ReceivingEnd::Latest(board) => board.try_advance(),
            ReceivingEnd::Stranger(stranger) => stranger.advance(|consumer, buffer| consumer.try_recv_into(buffer)),
        }
    }

    /// As [`Receiver::try_advance`], waiting until the deadline.
    pub(in crate::transport) fn advance(&mut self, deadline: Deadline) -> Result<()> {
        if self.bell.is_some() {
            // The doorbell sleeps on the ring's eventcount, which has room for one sleeper: wait
            // for the bell instead.
            while let Err(error) = self.try_advance() {
                match (&self.bell, error) {
                    (Some(bell), Error::Empty) => bell.wait(deadline)?,
                    (_, error) => return Err(error),
                }
            }
            return Ok(());
        }
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.recv_deadline(deadline),
            ReceivingEnd::Mpmc(holder) => holder.recv_deadline(deadline),
            ReceivingEnd::Mpsc(holder) => holder.recv_deadline(deadline),
            ReceivingEnd::Broadcast(holder) => holder.recv_deadline(deadline),
            ReceivingEnd::Lossy(lossy) => {
                lossy.advance(|subscriber, buffer| subscriber.recv_into_deadline(buffer, deadline))
            }
            ReceivingEnd::Latest(board) => board.advance(deadline),
            ReceivingEnd::Stranger(stranger) => {
                stranger.advance(|consumer, buffer| consumer.recv_into_deadline(buffer, deadline))
            }
        }
    }

    /// Bytes of the waiting frames, with their headers; unknown for a stranger's ring.
    pub(in crate::transport) fn waiting(&self) -> Result<u64> {
        match &self.end {
            ReceivingEnd::Spsc(holder) => Ok(holder.consumer().ring().stats().used()),
            _ => Ok(u64::MAX),
        }
    }

    /// The current event, after an advance.
    pub(in crate::transport) fn event(&self) -> Result<Event<'_>> {
        let frame = match &self.end {
            ReceivingEnd::Spsc(holder) => holder.held(),
            ReceivingEnd::Mpmc(holder) => holder.held(),
            ReceivingEnd::Mpsc(holder) => holder.held(),
            ReceivingEnd::Broadcast(holder) => holder.held(),
            ReceivingEnd::Lossy(lossy) => return Ok(lossy.event()),
            ReceivingEnd::Latest(board) => return board.event().ok_or(Error::Empty),
            ReceivingEnd::Stranger(stranger) => return Ok(stranger.event()),
        };
        frame.map(Event::Frame).ok_or(Error::Empty)
    }
}

impl FrameReceiver for Receiver {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        match self.try_advance() {
            // Frames from before the bell was armed do not ring it.
            Err(Error::Empty) if self.bell.as_ref().is_some_and(Doorbell::arm) => self.try_advance()?,
            advanced => advanced?,
        }
        self.event()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        self.advance(deadline)?;
        self.event()
    }

    fn release(&mut self) {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.release(),
            ReceivingEnd::Mpmc(holder) => holder.release(),
            ReceivingEnd::Mpsc(holder) => holder.release(),
            ReceivingEnd::Broadcast(holder) => holder.release(),
            // Copied, and released already.
            ReceivingEnd::Latest(_) | ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => {}
        }
    }

    fn encoded(&mut self) -> Option<&[u8]> {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.run(LONGEST_RUN),
            ReceivingEnd::Mpmc(holder) => holder.run(LONGEST_RUN),
            ReceivingEnd::Broadcast(holder) => holder.run(LONGEST_RUN),
            // Each lane numbers its frames for itself: as one byte stream they would have gaps.
            ReceivingEnd::Mpsc(_) => None,
            ReceivingEnd::Latest(_) | ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => None,
        }
    }

    fn release_encoded(&mut self, bytes: usize) -> Released {
        let (frames, payload) = match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.release_run(bytes),
            ReceivingEnd::Mpmc(holder) => holder.release_run(bytes),
            ReceivingEnd::Broadcast(holder) => holder.release_run(bytes),
            ReceivingEnd::Mpsc(_) | ReceivingEnd::Latest(_) | ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => {
                return Released::default();
            }
        };
        Released { frames, payload }
    }

    /// Keeps a slot ring from acquiring more frames than that for [`FrameReceiver::encoded`].
    fn expect_at_most(&mut self, frames: u64) {
        if let ReceivingEnd::Mpmc(holder) = &mut self.end {
            holder.expect_at_most(frames);
        }
    }

    fn keep(&mut self) -> bool {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.hand_back(),
            ReceivingEnd::Mpmc(holder) => holder.hand_back(),
            ReceivingEnd::Mpsc(holder) => holder.hand_back(),
            ReceivingEnd::Latest(board) => board.keep(),
            ReceivingEnd::Broadcast(holder) => holder.hand_back(),
            ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => return false,
        }
        true
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        match self.end {
            ReceivingEnd::Spsc(_) => &SPSC,
            ReceivingEnd::Mpmc(_) => &MPMC,
            ReceivingEnd::Mpsc(_) => &MPSC,
            ReceivingEnd::Broadcast(_) => &BROADCAST,
            ReceivingEnd::Lossy(_) => &LOSSY,
            ReceivingEnd::Latest(_) => &LATEST,
            ReceivingEnd::Stranger(_) => &UNTRUSTED,
        }
    }

    fn canceller(&self) -> Option<Canceller> {
        if self.bell.is_some() {
            return None;
        }
        match &self.end {
            ReceivingEnd::Spsc(holder) => Some(holder.consumer().canceller()),
            ReceivingEnd::Mpmc(holder) => Some(holder.consumer().canceller()),
            ReceivingEnd::Mpsc(holder) => Some(holder.consumer().canceller()),
            ReceivingEnd::Broadcast(holder) => Some(holder.consumer().canceller()),
            ReceivingEnd::Lossy(lossy) => Some(lossy.subscriber.canceller()),
            ReceivingEnd::Latest(board) => Some(board.reader.canceller()),
            ReceivingEnd::Stranger(_) => None,
        }
    }

    /// The eventfd of the doorbell, if there is one ([`Receiver::with_doorbell`]).
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(Doorbell::as_fd)
    }
}

impl From<spsc::Consumer> for Receiver {
    fn from(consumer: spsc::Consumer) -> Self {
        let max_payload = consumer.ring().max_payload();
        Receiver { end: ReceivingEnd::Spsc(Holder::new(consumer)), max_payload, bell: None }
    }
}

impl From<mpmc::Consumer> for Receiver {
    fn from(consumer: mpmc::Consumer) -> Self {
        let max_payload = consumer.ring().max_payload();
        Receiver { end: ReceivingEnd::Mpmc(Holder::new(consumer)), max_payload, bell: None }
    }
}

impl From<mpsc::Consumer> for Receiver {
    /// The end is that of all producers: [`Error::PeerDead`] if one of them has died since the last
    /// end, else [`Error::Closed`]. The consumer itself tells of each.
    fn from(consumer: mpsc::Consumer) -> Self {
        let max_payload = consumer.max_payload();
        Receiver { end: ReceivingEnd::Mpsc(Holder::new(consumer)), max_payload, bell: None }
    }
}

impl From<latest::Reader> for Receiver {
    /// Allocates a buffer for the largest value.
    fn from(reader: latest::Reader) -> Self {
        let max_payload = reader.max_len();
        Receiver { end: ReceivingEnd::Latest(Board::new(reader)), max_payload, bell: None }
    }
}

impl From<Subscriber> for Receiver {
    fn from(subscriber: Subscriber) -> Self {
        let max_payload = subscriber.max_payload();
        Receiver { end: ReceivingEnd::Broadcast(Holder::new(subscriber)), max_payload, bell: None }
    }
}

impl From<LossySubscriber> for Receiver {
    /// Allocates a buffer of the largest size that the ring can carry, into which frames are
    /// copied. Gaps are numbered as if all missed frames were of the stream of the frame behind
    /// them.
    fn from(subscriber: LossySubscriber) -> Self {
        let max_payload = subscriber.max_payload();
        Receiver { end: ReceivingEnd::Lossy(Lossy::new(subscriber)), max_payload, bell: None }
    }
}

impl From<spsc::UntrustedConsumer> for Receiver {
    /// Allocates a buffer of the largest size that the ring can carry, into which frames are
    /// copied.
    fn from(consumer: spsc::UntrustedConsumer) -> Self {
        let max_payload = consumer.max_payload();
        Receiver { end: ReceivingEnd::Stranger(Stranger::new(consumer)), max_payload, bell: None }
    }
}
