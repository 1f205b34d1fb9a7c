//! The sending end of a ring of frames: the producers of all kinds behind one type, and the bell
//! for room.
//!
//! Used by programs, endpoints and `transport/upgrade.rs`. Relies on the producers of `ring/`, and
//! on `transport/doorbell/`.

use std::os::fd::{AsFd, BorrowedFd};

use super::super::doorbell::RoomBell;
use super::super::{Capabilities, FrameSender};
use super::{BROADCAST, LATEST, MPMC, MPSC, NO_FRAMES, SPSC, no_ring};
use crate::error::{Error, Result};
use crate::frame::Header;
use crate::ring::broadcast::Publisher;
use crate::ring::{Ring, latest, mpmc, mpsc, spsc};
use crate::segment::Kind;
use crate::set::source::Readiness;
use crate::wait::deadline::Deadline;

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
    Mpsc(mpsc::Producer),
    Latest(latest::Writer),
    Broadcast(Publisher),
}

impl SendingEnd {
    /// What a bell for room waits for; `None` for latest values, which always have room.
    fn bell(&self) -> Result<RoomBell> {
        match self {
            SendingEnd::Spsc(producer) => producer.try_into(),
            SendingEnd::Mpsc(producer) => producer.try_into(),
            SendingEnd::Mpmc(producer) => producer.try_into(),
            SendingEnd::Broadcast(publisher) => publisher.try_into(),
            SendingEnd::Latest(_) => Err(ALWAYS_ROOM),
        }
    }

    /// Whether frames wait for a consumer; those of a lane are its producer's own.
    fn has_backlog(&self) -> bool {
        let ring = match self {
            SendingEnd::Spsc(producer) => producer.ring(),
            SendingEnd::Mpmc(producer) => producer.ring(),
            SendingEnd::Broadcast(publisher) => publisher.ring(),
            SendingEnd::Mpsc(producer) => return !producer.is_empty(),
            SendingEnd::Latest(_) => return false,
        };
        let (head, tail) = ring.positions();
        head != tail
    }
}

impl Sender {
    /// Attaches a producer to `ring`.
    ///
    /// # Errors
    /// As [`spsc::Producer::attach`], [`mpmc::Producer::attach`], [`mpsc::Producer::attach`] and
    /// [`latest::Writer::attach`];
    /// [`Error::Unsupported`] for a ring without frames.
    pub fn attach(ring: &Ring) -> Result<Self> {
        match ring.kind() {
            Kind::Spsc => spsc::Producer::attach(ring).map(Self::from),
            Kind::Mpmc => mpmc::Producer::attach(ring).map(Self::from),
            Kind::Mpsc => mpsc::Producer::attach(ring).map(Self::from),
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
            Some(SendingEnd::Mpsc(producer)) => Ok(producer.writable(len)),
            Some(SendingEnd::Broadcast(publisher)) => Ok(publisher.writable(len)),
            Some(SendingEnd::Latest(_)) => Err(ALWAYS_ROOM),
            None => Err(Error::Closed),
        }
    }

    /// Adds a descriptor to poll ([`FrameSender::poll_fd`]): it polls writable when there is room,
    /// as those of all other senders do. It is armed by a [`FrameSender::try_send`] that finds the
    /// ring full. Some system calls; a thread of the process waits for up to 120 such descriptors.
    ///
    /// Consumers publish released space from time to time. So after a single frame was released, the
    /// descriptor may become writable late: by as long again as it was waited for, and by 50 ms at
    /// most.
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
        let end = self.end.as_ref().ok_or(Error::Closed)?;
        self.bell = Some(end.bell()?);
        Ok(self)
    }

    fn try_once(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        match self.end()? {
            SendingEnd::Spsc(producer) => producer.try_send_frame(header, payload),
            SendingEnd::Mpmc(producer) => producer.try_send_frame(header, payload),
            SendingEnd::Mpsc(producer) => producer.try_send_frame(header, payload),
            SendingEnd::Broadcast(publisher) => publisher.try_send_frame(header, payload),
            SendingEnd::Latest(writer) => publish(writer, header, payload),
        }
    }

    /// Whether frames wait in the ring for a consumer.
    pub(in crate::transport) fn has_backlog(&self) -> Result<bool> {
        Ok(self.end.as_ref().is_some_and(SendingEnd::has_backlog))
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

impl From<mpsc::Producer> for Sender {
    fn from(producer: mpsc::Producer) -> Self {
        let max_payload = producer.max_payload();
        Sender { end: Some(SendingEnd::Mpsc(producer)), max_payload, capabilities: &MPSC, bell: None }
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
            SendingEnd::Mpsc(producer) => producer.send_frame_deadline(header, payload, deadline),
            SendingEnd::Broadcast(publisher) => publisher.send_frame_deadline(header, payload, deadline),
            SendingEnd::Latest(writer) => publish(writer, header, payload),
        }
    }

    fn send_encoded_until(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        match self.end()? {
            SendingEnd::Spsc(producer) => producer.send_encoded(frames, deadline),
            SendingEnd::Mpsc(producer) => producer.send_encoded(frames, deadline),
            SendingEnd::Broadcast(publisher) => publisher.send_encoded(frames, deadline),
            SendingEnd::Mpmc(_) | SendingEnd::Latest(_) => Ok(0),
        }
    }

    fn takes_encoded(&self) -> bool {
        matches!(self.end, Some(SendingEnd::Spsc(_) | SendingEnd::Mpsc(_) | SendingEnd::Broadcast(_)))
    }

    fn number_from(&mut self, stream: u16, seq: u32) -> bool {
        match &mut self.end {
            Some(SendingEnd::Spsc(producer)) => producer.number_from(stream, seq),
            Some(SendingEnd::Mpsc(producer)) => producer.number_from(stream, seq),
            Some(SendingEnd::Broadcast(publisher)) => publisher.number_from(stream, seq),
            Some(SendingEnd::Mpmc(_) | SendingEnd::Latest(_)) | None => return false,
        }
        true
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
