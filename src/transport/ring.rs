//! `ring:`: the rings in shared memory as a transport: their guarantees, and the traits for their
//! handles.
//!
//! Used by endpoints, and by programs that work with any transport. Relies on `ring/`. A ring has
//! no HELLO and no BYE: its participants' records show which are attached, which left and which
//! died.
//!
//! A program that uses rings only should use their handles: batches, grants and views cost less
//! than the traits.

use std::os::fd::{AsFd, BorrowedFd};

use super::board::Board;
use super::doorbell::{Doorbell, RoomBell};
use super::{Capabilities, DeliveryOrder, FrameReceiver, FrameSender, Released};
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header, Order, Tracker};
use crate::ring::broadcast::{LossySubscriber, Publisher, Received, Start, Subscriber};
use crate::ring::{Holder, Ring, latest, mpmc, spsc};
use crate::segment::Kind;
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;

/// The guarantees of a byte ring (`kind=spsc`).
pub const SPSC: Capabilities = Capabilities {
    scheme: "ring",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: (1 << 20) - 24,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

/// The guarantees of a slot ring (`kind=mpmc`).
pub const MPMC: Capabilities =
    Capabilities { scheme: "ring?kind=mpmc", order: DeliveryOrder::PerSender, max_payload: 256, ..SPSC };

/// The guarantees of a board of latest values (`kind=latest`): each frame is the newest value of
/// the cell whose number is its stream. Frames that were replaced before they were received are
/// reported as [`Event::Gap`]; nothing else is lost.
pub const LATEST: Capabilities = Capabilities {
    scheme: "ring?kind=latest",
    order: DeliveryOrder::PerStream,
    lossless: false,
    max_payload: 304,
    ..SPSC
};

/// The guarantees of a broadcast ring (`kind=broadcast`), for every receiver that is reliable.
pub const BROADCAST: Capabilities = Capabilities { scheme: "ring?kind=broadcast", ..SPSC };

/// The guarantees of a broadcast ring for a lossy receiver, which is told what it missed.
pub const LOSSY: Capabilities =
    Capabilities { scheme: "ring?kind=broadcast&subscribe=lossy", lossless: false, ..BROADCAST };

/// The guarantees of a byte ring whose sender is a stranger: its participant record cannot be
/// trusted.
pub const UNTRUSTED: Capabilities =
    Capabilities { scheme: "ring (untrusted)", survives_restart: false, reports_death: false, ..SPSC };

/// The usual capacity of a pipe. A longer run would hold room that could already be free.
const LONGEST_RUN: usize = 64 << 10;

pub(crate) const NO_FRAMES: Error = Error::Unsupported {
    what: "frames over a ring of kind stream, which carries bytes, not frames: use kind=spsc, or stream::Producer and Consumer",
};

const ALWAYS_ROOM: Error = Error::Unsupported { what: "waiting for room for a latest value: there always is" };

/// The sending end of a ring of frames. Sent frames wait in the ring for a consumer, unless the
/// ring was opened with [`Options::fail_without_consumer`](crate::Options::fail_without_consumer).
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, FrameSenderExt, ring};
/// use slipring::{Error, Options, Ring};
///
/// let ring = Ring::create_anonymous(&Options::spsc(4096))?;
/// let mut tx = ring::Sender::attach(&ring)?;
/// let mut rx = ring::Receiver::attach(&ring)?;
/// tx.try_send(Header::PLAIN, b"hello")?;
/// tx.close(slipring::Deadline::never())?;
/// let Event::Frame(frame) = rx.try_recv()? else { unreachable!() };
/// assert_eq!(frame.payload, b"hello");
/// assert!(matches!(rx.try_recv(), Err(Error::Closed)));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Sender {
    end: Option<SendingEnd>,
    max_payload: usize,
    capabilities: &'static Capabilities,
    bell: Option<RoomBell>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a connection; a box would put a pointer before every frame")]
enum SendingEnd {
    Spsc(spsc::Producer),
    Mpmc(mpmc::Producer),
    Latest(latest::Writer),
    Broadcast(Publisher),
}

impl Sender {
    /// Attaches a producer to `ring`.
    ///
    /// # Errors
    /// As [`spsc::Producer::attach`], [`mpmc::Producer::attach`] and [`latest::Writer::attach`];
    /// [`Error::Unsupported`] for a ring without frames.
    pub fn attach(ring: &Ring) -> Result<Self> {
        match ring.kind() {
            Kind::Spsc => spsc::Producer::attach(ring).map(Self::from),
            Kind::Mpmc => mpmc::Producer::attach(ring).map(Self::from),
            Kind::Broadcast => Publisher::attach(ring).map(Self::from),
            Kind::Latest => latest::Writer::attach(ring).map(Self::from),
            Kind::Stream => Err(NO_FRAMES),
            other => Err(no_ring(other)),
        }
    }

    fn end(&mut self) -> Result<&mut SendingEnd> {
        self.end.as_mut().ok_or(Error::Closed)
    }

    /// What a [`WaitSet`](crate::WaitSet) needs to wait until there is room for a frame of `len`
    /// bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for latest values, which always have room; [`Error::Closed`] after
    /// [`FrameSender::close_until`].
    pub fn writable(&self, len: usize) -> Result<Readiness> {
        match &self.end {
            Some(SendingEnd::Spsc(producer)) => Ok(producer.writable(len)),
            Some(SendingEnd::Mpmc(producer)) => Ok(producer.writable()),
            Some(SendingEnd::Broadcast(publisher)) => Ok(publisher.writable(len)),
            Some(SendingEnd::Latest(_)) => Err(ALWAYS_ROOM),
            None => Err(Error::Closed),
        }
    }

    /// Adds a descriptor to poll ([`FrameSender::poll_fd`]): it polls writable when there is room,
    /// as those of all other senders do. It is armed by a [`FrameSender::try_send`] that finds the
    /// ring full. Some system calls; a thread of the process waits for up to 120 such descriptors.
    ///
    /// Consumers publish released space from time to time, so the descriptor may become writable
    /// up to 50 ms after a single frame was released.
    ///
    /// # Errors
    /// [`Error::Io`] if no descriptor or no thread can be created; [`Error::Unsupported`] for
    /// latest values, which always have room; [`Error::Closed`] after [`FrameSender::close_until`].
    ///
    /// ```
    /// use slipring::frame::Header;
    /// use slipring::transport::{FrameReceiver, FrameSender, ring};
    /// use slipring::{Error, Readiness, Token, WaitSet};
    /// let (tx, rx) = slipring::spsc::pair(4096)?;
    /// let (mut tx, mut rx) = (ring::Sender::from(tx).with_doorbell()?, ring::Receiver::from(rx));
    /// while tx.try_send(Header::PLAIN, &[0; 500]).is_ok() {}
    /// let mut set = WaitSet::new()?; // or an epoll instance with EPOLLOUT
    /// set.add(Token(0), Readiness::writable_fd(tx.poll_fd().unwrap())?)?;
    /// assert_eq!(set.try_wait()?.len(), 0);
    /// while rx.try_recv().is_ok() {}
    /// assert!(set.wait()?.eq([Token(0)]));
    /// tx.try_send(Header::PLAIN, &[0; 500])?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn with_doorbell(mut self) -> Result<Self> {
        let ring = match &self.end {
            Some(SendingEnd::Spsc(producer)) => producer.ring(),
            Some(SendingEnd::Mpmc(producer)) => producer.ring(),
            Some(SendingEnd::Broadcast(publisher)) => publisher.ring(),
            Some(SendingEnd::Latest(_)) => return Err(ALWAYS_ROOM),
            None => return Err(Error::Closed),
        };
        self.bell = Some(RoomBell::new(ring)?);
        Ok(self)
    }

    fn try_once(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        match self.end()? {
            SendingEnd::Spsc(producer) => producer.try_send_frame(header, payload),
            SendingEnd::Mpmc(producer) => producer.try_send_frame(header, payload),
            SendingEnd::Broadcast(publisher) => publisher.try_send_frame(header, payload),
            SendingEnd::Latest(writer) => publish(writer, header, payload),
        }
    }

    /// Whether frames wait in the ring for a consumer.
    pub(super) fn has_backlog(&self) -> Result<bool> {
        let ring = match &self.end {
            Some(SendingEnd::Spsc(producer)) => producer.ring(),
            Some(SendingEnd::Mpmc(producer)) => producer.ring(),
            Some(SendingEnd::Broadcast(publisher)) => publisher.ring(),
            Some(SendingEnd::Latest(_)) | None => return Ok(false),
        };
        let (head, tail) = ring.positions();
        Ok(head != tail)
    }
}

impl From<spsc::Producer> for Sender {
    fn from(producer: spsc::Producer) -> Self {
        let max_payload = producer.max_payload();
        Sender { end: Some(SendingEnd::Spsc(producer)), max_payload, capabilities: &SPSC, bell: None }
    }
}

impl From<mpmc::Producer> for Sender {
    fn from(producer: mpmc::Producer) -> Self {
        let max_payload = producer.max_payload();
        Sender { end: Some(SendingEnd::Mpmc(producer)), max_payload, capabilities: &MPMC, bell: None }
    }
}

impl From<latest::Writer> for Sender {
    fn from(writer: latest::Writer) -> Self {
        let max_payload = writer.max_len();
        Sender { end: Some(SendingEnd::Latest(writer)), max_payload, capabilities: &LATEST, bell: None }
    }
}

/// Publishes a frame as the newest value of the cell of its stream.
fn publish(writer: &mut latest::Writer, header: Header, payload: &[u8]) -> Result<()> {
    writer.write_kind(header.stream.into(), header.checked()?.kind, payload).map(drop)
}

impl From<Publisher> for Sender {
    fn from(publisher: Publisher) -> Self {
        let max_payload = publisher.max_payload();
        Sender { end: Some(SendingEnd::Broadcast(publisher)), max_payload, capabilities: &BROADCAST, bell: None }
    }
}

impl FrameSender for Sender {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        match self.try_once(header, payload) {
            // Room from before the bell was armed does not ring it.
            Err(Error::Full) if self.bell.as_ref().is_some_and(|bell| bell.arm_for(payload.len())) => {
                self.try_once(header, payload)
            }
            sent => sent,
        }
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        match self.end()? {
            SendingEnd::Spsc(producer) => producer.send_frame_deadline(header, payload, deadline),
            SendingEnd::Mpmc(producer) => producer.send_frame_deadline(header, payload, deadline),
            SendingEnd::Broadcast(publisher) => publisher.send_frame_deadline(header, payload, deadline),
            SendingEnd::Latest(writer) => publish(writer, header, payload),
        }
    }

    /// Rings collect no frames.
    fn flush_until(&mut self, _: Deadline) -> Result<()> {
        self.end().map(drop)
    }

    /// Detaches from the ring. Its frames wait for a consumer.
    fn close_until(&mut self, _: Deadline) -> Result<()> {
        self.end = None;
        self.bell = None;
        Ok(())
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.capabilities
    }

    /// The eventfd of the doorbell, if there is one ([`Sender::with_doorbell`]).
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(RoomBell::as_fd)
    }
}

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
    Broadcast(Holder<Subscriber>),
    Lossy(Lossy),
    Latest(Board),
    Stranger(Stranger),
}

impl std::fmt::Debug for ReceivingEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReceivingEnd::Spsc(holder) => holder.consumer().fmt(f),
            ReceivingEnd::Mpmc(holder) => holder.consumer().fmt(f),
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
    /// As [`spsc::Consumer::attach`], [`mpmc::Consumer::attach`] and [`latest::Reader::attach`];
    /// [`Error::Unsupported`] for a ring without frames.
    pub fn attach(ring: &Ring) -> Result<Self> {
        match ring.kind() {
            Kind::Spsc => spsc::Consumer::attach(ring).map(Self::from),
            Kind::Mpmc => mpmc::Consumer::attach(ring).map(Self::from),
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
        let ring = match &self.end {
            ReceivingEnd::Spsc(holder) => holder.consumer().ring(),
            ReceivingEnd::Mpmc(holder) => holder.consumer().ring(),
            ReceivingEnd::Broadcast(holder) => holder.consumer().ring(),
            ReceivingEnd::Lossy(lossy) => lossy.subscriber.ring(),
            ReceivingEnd::Latest(board) => board.reader.ring(),
            ReceivingEnd::Stranger(_) => {
                return Err(Error::Unsupported {
                    what: "a doorbell on a stranger's ring: poll the socket that is shared with it",
                });
            }
        };
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
    pub(super) fn try_advance(&mut self) -> Result<()> {
        match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.try_recv(),
            ReceivingEnd::Mpmc(holder) => holder.try_recv(),
            ReceivingEnd::Broadcast(holder) => holder.try_recv(),
            ReceivingEnd::Lossy(lossy) => lossy.advance(|subscriber, buffer| subscriber.try_recv_into(buffer)),
            ReceivingEnd::Latest(board) => board.try_advance(),
            ReceivingEnd::Stranger(stranger) => stranger.advance(|consumer, buffer| consumer.try_recv_into(buffer)),
        }
    }

    /// As [`Receiver::try_advance`], waiting until the deadline.
    pub(super) fn advance(&mut self, deadline: Deadline) -> Result<()> {
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
    pub(super) fn waiting(&self) -> Result<u64> {
        match &self.end {
            ReceivingEnd::Spsc(holder) => Ok(holder.consumer().ring().stats().used()),
            _ => Ok(u64::MAX),
        }
    }

    /// The current event, after an advance.
    pub(super) fn event(&self) -> Result<Event<'_>> {
        let frame = match &self.end {
            ReceivingEnd::Spsc(holder) => holder.held(),
            ReceivingEnd::Mpmc(holder) => holder.held(),
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
            ReceivingEnd::Latest(_) | ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => None,
        }
    }

    fn release_encoded(&mut self, bytes: usize) -> Released {
        let (frames, payload) = match &mut self.end {
            ReceivingEnd::Spsc(holder) => holder.release_run(bytes),
            ReceivingEnd::Mpmc(holder) => holder.release_run(bytes),
            ReceivingEnd::Broadcast(holder) => holder.release_run(bytes),
            ReceivingEnd::Latest(_) | ReceivingEnd::Lossy(_) | ReceivingEnd::Stranger(_) => return Released::default(),
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
            ReceivingEnd::Broadcast(_) => &BROADCAST,
            ReceivingEnd::Lossy(_) => &LOSSY,
            ReceivingEnd::Latest(_) => &LATEST,
            ReceivingEnd::Stranger(_) => &UNTRUSTED,
        }
    }

    /// The eventfd of the doorbell, if there is one ([`Receiver::with_doorbell`]).
    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(Doorbell::as_fd)
    }
}

/// A lossy subscriber: its frames are copied, and what it missed is told with the frame behind it.
struct Lossy {
    subscriber: LossySubscriber,
    buffer: Box<[u8]>,
    /// Of the frame in the buffer.
    header: Header,
    /// Frames that were missed before it.
    missed: u64,
    /// Whether the event is the gap, and not the frame behind it.
    is_gap: bool,
}

impl Lossy {
    /// Advances. After a reported gap, the frame behind it follows.
    fn advance(&mut self, mut recv: impl FnMut(&mut LossySubscriber, &mut [u8]) -> Result<Received>) -> Result<()> {
        if std::mem::take(&mut self.is_gap) {
            self.missed = 0;
            return Ok(());
        }
        loop {
            match recv(&mut self.subscriber, &mut self.buffer)? {
                Received::Gap { missed } => self.missed += missed,
                Received::Frame(header) => {
                    self.header = header;
                    self.is_gap = self.missed > 0;
                    return Ok(());
                }
            }
        }
    }

    fn event(&self) -> Event<'_> {
        let Header { stream, seq, len, .. } = self.header;
        if self.is_gap {
            return Event::Gap { stream, expected: seq.wrapping_sub(self.missed as u32), found: seq };
        }
        Event::Frame(Frame { header: self.header, stamp: 0, payload: &self.buffer[..len as usize] })
    }
}

/// A sender that is not trusted: its frames are copied, and their sequence is checked.
struct Stranger {
    consumer: spsc::UntrustedConsumer,
    buffer: Box<[u8]>,
    tracker: Tracker,
    header: Header,
    order: Order,
}

impl Stranger {
    /// Advances. After a reported gap, the frame behind it follows.
    fn advance(&mut self, recv: impl FnOnce(&mut spsc::UntrustedConsumer, &mut [u8]) -> Result<Header>) -> Result<()> {
        if matches!(self.order, Order::Gap { .. }) {
            self.order = Order::Next;
            return Ok(());
        }
        self.header = recv(&mut self.consumer, &mut self.buffer)?;
        self.order = self.tracker.check(self.header);
        Ok(())
    }

    fn event(&self) -> Event<'_> {
        let frame = Frame { header: self.header, stamp: 0, payload: &self.buffer[..self.header.len as usize] };
        match self.order {
            Order::Next => Event::Frame(frame),
            Order::Duplicate { expected } => Event::Duplicate { frame, expected },
            Order::Gap { expected } => Event::Gap { stream: self.header.stream, expected, found: self.header.seq },
        }
    }
}

fn no_ring(kind: Kind) -> Error {
    Error::Incompatible { what: "kind of ring: not a ring", expected: Kind::Spsc as u64, found: kind as u64 }
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
        let buffer = vec![0; max_payload].into_boxed_slice();
        let lossy = Lossy { subscriber, buffer, header: Header::PLAIN, missed: 0, is_gap: false };
        Receiver { end: ReceivingEnd::Lossy(lossy), max_payload, bell: None }
    }
}

impl From<spsc::UntrustedConsumer> for Receiver {
    /// Allocates a buffer of the largest size that the ring can carry, into which frames are
    /// copied.
    fn from(consumer: spsc::UntrustedConsumer) -> Self {
        let max_payload = consumer.max_payload();
        let buffer = vec![0; max_payload].into_boxed_slice();
        let (tracker, header, order) = (Tracker::new(), Header::PLAIN, Order::Next);
        let end = ReceivingEnd::Stranger(Stranger { consumer, buffer, tracker, header, order });
        Receiver { end, max_payload, bell: None }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ring::Options;
    use crate::transport::{FrameReceiverExt, FrameSenderExt, pipe, stream};

    #[test]
    fn bytes_without_frames_are_refused() {
        let ring = Ring::create_anonymous(&Options::stream(4096)).unwrap();
        assert!(matches!(Sender::attach(&ring), Err(Error::Unsupported { .. })));
        assert!(matches!(Receiver::attach(&ring), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn a_lossy_receiver_tells_of_gaps_and_a_reliable_one_has_none() {
        let ring = Ring::create_anonymous(&Options::broadcast(4096)).unwrap();
        let mut tx = Sender::attach(&ring).unwrap();
        let mut lossy = Receiver::from(LossySubscriber::attach(&ring, Start::Oldest).unwrap());
        assert!(!lossy.capabilities().lossless && tx.capabilities().lossless);
        (0..200u8).for_each(|n| tx.try_send(Header::PLAIN, &[n; 64]).unwrap());
        let Event::Gap { expected: 0, found, .. } = lossy.try_recv().unwrap() else { panic!("it was overrun") };
        let mut next = found;
        while let Ok(Event::Frame(frame)) = lossy.try_recv() {
            assert_eq!((frame.header.seq, frame.payload), (next, &[next as u8; 64][..]));
            next += 1;
        }
        assert_eq!(next, 200);
        let mut reliable = Receiver::attach(&ring).unwrap();
        assert!(matches!(reliable.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == found));
        let run = reliable.encoded().unwrap().len();
        assert_eq!(run, 80 * (200 - found as usize), "the held frame is the first of them");
        assert_eq!(reliable.release_encoded(run - 1).frames, u64::from(199 - found));
        assert!(reliable.try_recv().is_ok() && reliable.keep());
        assert!(matches!(reliable.try_recv().unwrap(), Event::Frame(frame) if frame.header.seq == 199));
        assert!(matches!(reliable.try_recv(), Err(Error::Empty)));
        let mut belled = reliable.with_doorbell().unwrap();
        assert!(matches!(belled.try_recv(), Err(Error::Empty)));
        tx.try_send(Header::PLAIN, b"rings").unwrap();
        let deadline = Duration::from_secs(20);
        assert!(matches!(belled.recv_deadline(deadline).unwrap(), Event::Frame(frame) if frame.payload == b"rings"));
    }

    #[test]
    fn the_held_frame_keeps_its_place_until_the_next_call() {
        let (mut tx, rx) = mpmc::pair(2, 8).map(|(tx, rx)| (Sender::from(tx), Receiver::from(rx))).unwrap();
        let mut rx = rx;
        tx.try_send(Header::PLAIN, b"1").unwrap();
        tx.try_send(Header::PLAIN, b"2").unwrap();
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == b"1"));
        assert!(matches!(tx.try_send(Header::PLAIN, b"3"), Err(Error::Full)));
        rx.release();
        tx.try_send(Header::PLAIN, b"3").unwrap();
        tx.close(Deadline::never()).unwrap();
        assert!(matches!(tx.try_send(Header::PLAIN, b"4"), Err(Error::Closed)));
        for expected in [b"2", b"3"] {
            assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == expected));
        }
        assert!(matches!(rx.try_recv(), Err(Error::Closed)));
        assert!(matches!(rx.recv(), Err(Error::Closed)));
    }

    #[test]
    fn frames_leave_for_a_pipe_as_they_lie_around_the_end_of_the_ring() {
        let (tx, rx) = spsc::pair(4096).unwrap();
        let (mut tx, mut rx) = (Sender::from(tx), Receiver::from(rx));
        let (mut into, mut out) = pipe::pair(&stream::Options::new()).unwrap();
        let (mut filled, mut drained) = (0u32, 0u32);
        for size in [0, 1, 100, 7, 1000, 64, 333].into_iter().cycle().take(700) {
            while let Ok(()) = tx.try_send(Header::PLAIN, &vec![filled as u8; size]) {
                filled += 1;
            }
            let run = rx.encoded().unwrap();
            let part = run.len() - 9; // in the middle of the last frame, at least
            let sent = into.send_encoded(run, Deadline::never()).unwrap();
            assert_eq!(sent, run.len());
            let one_less = rx.release_encoded(part);
            let all = rx.release_encoded(sent);
            assert_eq!(all.frames, 1, "the one that was not released before");
            for _ in 0..one_less.frames + all.frames {
                let Event::Frame(frame) = out.recv().unwrap() else { panic!("a gap before {drained}") };
                assert_eq!(frame.header.seq, drained);
                assert!(frame.payload.iter().all(|byte| *byte == drained as u8));
                drained += 1;
            }
        }
        // The held frame is one of them.
        tx.try_send(Header::PLAIN, b"1").unwrap();
        tx.try_send(Header::PLAIN, b"2").unwrap();
        rx.try_recv().unwrap();
        assert_eq!(rx.encoded().map(<[u8]>::len), Some(48));
        assert_eq!(rx.release_encoded(48), Released { frames: 2, payload: 2 });
        assert_eq!(rx.encoded(), Some(&[][..]));
        assert!(filled >= 700 && drained == filled, "{drained} of {filled}");
        assert_eq!(rx.release_encoded(100), Released::default());
    }

    #[test]
    fn frames_of_a_slot_ring_are_released_once_sent_and_redelivered_otherwise() {
        let ring = Ring::create_anonymous(&Options::mpmc(16, 64)).unwrap();
        let tx = mpmc::Producer::attach(&ring).unwrap();
        let mut rx = Receiver::attach(&ring).unwrap();
        let (mut into, mut out) = pipe::pair(&stream::Options::new()).unwrap();
        (0..10u8).for_each(|n| tx.try_send(&[n]).unwrap());
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [0]));
        let run = rx.encoded().unwrap();
        assert_eq!(run.len(), 4 * 24, "a quarter of the ring, the frame that is held among them");
        assert_eq!(into.send_encoded(&run[..48], Deadline::never()).unwrap(), 48);
        assert_eq!(rx.release_encoded(47), Released { frames: 1, payload: 1 });
        assert_eq!(rx.release_encoded(24), Released { frames: 1, payload: 1 });
        // Frame by frame, reception continues where the run began.
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [2]));
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [3]));
        assert!(rx.keep());
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(frame) if frame.payload == [3]));
        // The numbers in the run have no gap, although other consumers take frames in between.
        let other = mpmc::Consumer::attach(&ring).unwrap();
        assert_eq!(&*other.try_recv().unwrap(), [4]);
        assert_eq!(rx.encoded().unwrap().len(), 4 * 24, "3, 5, 6, 7");
        let sent = into.send_encoded(&rx.encoded().unwrap()[..24], Deadline::never()).unwrap();
        assert_eq!(rx.release_encoded(sent).frames, 1);
        for expected in [0u8, 1, 3] {
            assert!(matches!(out.recv().unwrap(), Event::Frame(frame) if frame.payload == [expected]), "{expected}");
        }
        drop(rx);
        let left: Vec<_> = std::iter::from_fn(|| other.try_recv().ok()).map(|frame| frame[0]).collect();
        assert_eq!(left, [5, 6, 7, 8, 9]);
        assert_eq!(ring.stats().counts.redelivered, 3);
    }

    #[test]
    fn a_strangers_frames_are_checked_for_gaps() {
        let ring = Ring::create_anonymous(&Options::spsc(4096)).unwrap();
        let passed = ring.as_fd().try_clone_to_owned().unwrap();
        let mut rx = Receiver::from(spsc::UntrustedConsumer::from_fd(passed).unwrap());
        spsc::Producer::attach(&ring).unwrap().try_send(b"a").unwrap(); // seq 0
        assert!(matches!(rx.try_recv().unwrap(), Event::Frame(_)));
        spsc::Producer::attach(&ring).unwrap().try_send(b"b").unwrap(); // seq 0 again
        assert!(matches!(rx.try_recv().unwrap(), Event::Duplicate { expected: 1, .. }));
        assert!(matches!(rx.try_recv(), Err(Error::Empty)));
        assert!(matches!(rx.recv_deadline(Duration::from_millis(5)), Err(Error::Timeout)));
        assert!(rx.with_doorbell().is_err());
    }
}
