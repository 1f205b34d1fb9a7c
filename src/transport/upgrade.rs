//! `unix:PATH?upgrade=ring`: two ends of a Unix socket continue over a pair of rings in shared
//! memory.
//!
//! Used through [`unix`](super::unix), which opens the socket and checks the peer. Relies on
//! `ring.rs` for the ends, and on `stream/` if the peer does not offer rings.
//!
//! # How they agree
//! Each side sends HELLO with the feature RINGS. If both did, each creates a ring for the frames
//! that it will send, in a sealed memfd, attaches to it as its producer, and passes the descriptor
//! (`SCM_RIGHTS`, unix(7)) with a DOORBELL. Each attaches to the ring that it was passed, and sends
//! ACK. Neither end sends frames before both have attached. From then on the socket carries only
//! BYE, and shows the end of the peer. If one side did not offer rings, the connection stays a byte
//! stream.
//!
//! # Trust
//! The ring of a peer of the same user is used as any other: frames are read in place, and the
//! participants' records show which closed or died. A peer of another user could write anything
//! into its ring at any time, so that ring is read by [`spsc::UntrustedConsumer`], and the socket
//! shows how the peer ended. By writing into *our* ring such a peer can only lose frames that we
//! send to it, because a producer's positions are private.
//!
//! # When the peer has departed
//! No other peer can replace it, so frames in its ring are lost. The sender checks the socket at
//! most every 10 ms while it sends, whenever the ring is full, at every flush, and at the end.
//! Between checks it reads a clock, and makes no system call.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    Shutdown, recv, recvmsg, sendmsg, shutdown,
};

use super::ending::Ending;
use super::stream::{self, Wire};
use super::unix::{Connection, credentials};
use super::{Capabilities, FrameReceiver, FrameSender, ring};
use crate::error::{Error, Result};
use crate::frame::{Event, Form, Frame, Header, Hello, SHORT, control, padded};
use crate::os::clock;
use crate::os::owner;
use crate::os::poll::{self, Ready};
use crate::ring::{Options, Ring, spsc};
use crate::wait::deadline::Deadline;

/// The guarantees of upgraded connections.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "unix?upgrade=ring",
    boundaries: true,
    max_payload: ring::SPSC.max_payload,
    ..super::unix::CAPABILITIES
};

/// The feature bit of HELLO that offers rings. May be ignored.
pub(super) const RINGS: u64 = 1 << 32;

/// How long a wait on the ring of a stranger may be before its socket is checked.
const LOOK: Duration = Duration::from_millis(100);
/// How long a sender whose ring has room continues before it checks the socket again.
const LOOK_WHILE_SENDING: Duration = Duration::from_millis(10);
/// How long to wait for the rest of a HELLO. The library's comes in one piece.
const HELLO_IN_PIECES: Duration = Duration::from_secs(1);

/// Sends HELLO, and continues over rings of `capacity` bytes if the peer offers them, too.
pub(super) fn negotiate(
    socket: OwnedFd,
    wire: Wire,
    options: &stream::Options,
    capacity: usize,
    deadline: Deadline,
) -> Result<Connection> {
    let hello = stream::hello(Wire { features: RINGS, ..wire }, options)?;
    match say(&socket, control::HELLO, &hello.encode(), None) {
        // It has sent everything and closed already: its frames are still received.
        Err(Error::PeerDead) if has_bytes(&socket) => {}
        said => said?,
    }
    let Some(theirs) = offer_of_peer(&socket, deadline)? else {
        let (tx, rx) = stream::connection_after(hello, socket, wire, options)?;
        return Ok(Connection::Stream(tx, rx));
    };
    let ours = Ring::create_anonymous(&Options::spsc(capacity))?;
    let tx = ring::Sender::attach(&ours)?;
    say(&socket, control::DOORBELL, &[], Some(ours.as_fd()))?;
    let memfd = hear(&socket, control::DOORBELL, deadline)?
        .ok_or(Error::Untrusted { what: "the peer announced a ring, and passed no descriptor" })?;
    let is_stranger = !owner::is_us(credentials(&socket)?.uid);
    let rx = if is_stranger {
        ring::Receiver::from(spsc::UntrustedConsumer::from_fd(memfd)?)
    } else {
        ring::Receiver::attach(&Ring::from_fd(memfd, &Options::any())?)?
    };
    say(&socket, control::ACK, &[], None)?;
    hear(&socket, control::ACK, deadline)?;
    let socket = Arc::new(socket);
    let max_payload = tx.max_payload().min(theirs.max_payload as usize);
    let tx = Sender { ring: tx, socket: Some(socket.clone()), max_payload, next_look: 0, lost: None };
    Ok(Connection::Rings(tx, Receiver { ring: rx, socket, is_stranger, end: None, left: None }))
}

/// The sending end of an upgraded connection.
#[derive(Debug)]
pub struct Sender {
    ring: ring::Sender,
    /// `None` once it is closed.
    socket: Option<Arc<OwnedFd>>,
    max_payload: usize,
    /// When to check the socket again, in ns of the coarse clock.
    next_look: u64,
    /// How a peer that left frames in the ring ended: the error of `close`.
    lost: Option<Ending>,
}

impl Sender {
    fn check_len(&self, payload: &[u8]) -> Result<()> {
        let max = self.max_payload;
        if payload.len() > max { Err(Error::TooLarge { max }) } else { Ok(()) }
    }

    /// Checks whether the peer is still connected, if the last check is long ago; a full ring would
    /// show it much later.
    #[inline]
    fn look_at_times(&mut self) -> Result<()> {
        let now = clock::coarse_ns();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK_WHILE_SENDING.as_nanos() as u64;
        self.check_peer()
    }

    fn check_peer(&self) -> Result<()> {
        let socket = self.socket.as_ref().ok_or(Error::Closed)?;
        peer_end(socket)?.map_or(Ok(()), |end| Err(end.error()))
    }
}

impl FrameSender for Sender {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.check_len(payload)?;
        self.look_at_times()?;
        match self.ring.try_send(header, payload) {
            Err(Error::Full) => self.check_peer().and(Err(Error::Full)),
            sent => sent,
        }
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        self.check_len(payload)?;
        self.look_at_times()?;
        let mut sent = self.ring.try_send(header, payload);
        while let Err(Error::Full | Error::Timeout) = sent {
            self.check_peer()?;
            if deadline.has_passed() {
                return Err(Error::Timeout);
            }
            sent = self.ring.send_until(header, payload, slice(deadline));
        }
        sent
    }

    /// No frames are collected, but this checks whether the peer is still connected to read the
    /// ring.
    fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        self.ring.flush_until(deadline)?;
        match self.check_peer() {
            Err(gone) if self.ring.has_backlog()? => Err(gone),
            _ => Ok(()),
        }
    }

    /// Sends BYE on the socket, and leaves the ring. Its frames stay for the receiver.
    fn close_until(&mut self, deadline: Deadline) -> Result<()> {
        if let Some(socket) = self.socket.take() {
            // If the peer has left first, the message has no receiver.
            let _ = say(&socket, control::BYE, &[], None);
            let _ = shutdown(&*socket, Shutdown::Write);
            self.lost = peer_end(&socket)?.filter(|_| self.ring.has_backlog().unwrap_or(true));
            self.ring.close_until(deadline)?;
        }
        self.lost.map_or(Ok(()), |end| Err(end.error()))
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.close_until(Deadline::after(Duration::ZERO));
    }
}

/// The receiving end of an upgraded connection.
#[derive(Debug)]
pub struct Receiver {
    ring: ring::Receiver,
    socket: Arc<OwnedFd>,
    is_stranger: bool,
    end: Option<Ending>,
    /// After a stop: the bytes of the frames that were in the ring then.
    left: Option<u64>,
}

impl Receiver {
    /// Whether the peer belongs to another user, so that its frames are copied before they are
    /// read.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        self.is_stranger
    }

    fn event(&mut self) -> Result<Event<'_>> {
        let event = self.ring.event()?;
        if let (Some(left), Event::Frame(frame)) = (&mut self.left, &event) {
            *left = left.saturating_sub((SHORT + padded(frame.payload.len())) as u64);
        }
        Ok(event)
    }

    /// Called when a stranger's ring is empty. Everything that it sent before its end is in the
    /// ring before the end can be seen.
    fn advance_or_end(&mut self) -> Result<()> {
        if self.end.is_none() {
            self.end = look_for_end(&self.socket)?;
        }
        match (self.ring.try_advance(), self.end) {
            (Err(Error::Empty), Some(end)) => Err(end.error()),
            (advanced, _) => advanced,
        }
    }
}

impl FrameReceiver for Receiver {
    fn try_recv(&mut self) -> Result<Event<'_>> {
        if self.left == Some(0) {
            return Err(Error::Closed);
        }
        match self.ring.try_advance() {
            Err(Error::Empty) if self.left.is_some() => return Err(Error::Closed),
            Err(Error::Empty) if self.is_stranger => self.advance_or_end()?,
            advanced => advanced?,
        }
        self.event()
    }

    fn recv_until(&mut self, deadline: Deadline) -> Result<Event<'_>> {
        if self.left.is_some() {
            return self.try_recv();
        }
        if !self.is_stranger {
            return self.ring.recv_until(deadline);
        }
        loop {
            match self.ring.advance(slice(deadline)) {
                Err(Error::Timeout) => match self.advance_or_end() {
                    Err(Error::Empty) if deadline.has_passed() => return Err(Error::Timeout),
                    Err(Error::Empty) => continue,
                    advanced => advanced?,
                },
                advanced => advanced?,
            }
            return self.ring.event();
        }
    }

    fn stop(&mut self) -> bool {
        self.left = Some(self.ring.waiting().unwrap_or(u64::MAX));
        true
    }

    fn release(&mut self) {
        self.ring.release();
    }

    fn max_payload(&self) -> usize {
        self.ring.max_payload()
    }

    fn capabilities(&self) -> &'static Capabilities {
        &CAPABILITIES
    }
}

impl AsFd for Receiver {
    /// The socket, for its peer's credentials. Read nothing from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Until the deadline, but not longer than until the next check of the socket.
fn slice(deadline: Deadline) -> Deadline {
    deadline.min(Deadline::after(LOOK))
}

/// How the peer ended, if it has closed both directions.
fn peer_end(socket: &OwnedFd) -> Result<Option<Ending>> {
    match poll::has_hung_up(socket.as_fd()) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(look_for_end(socket)?.or(Some(Ending::PeerDead))),
        Err(e) => Err(Error::io("look at the connection", e)),
    }
}

/// After the handshake only BYE comes, and then the end. This reads nothing from the socket, so
/// every call of either end gets the same result.
fn look_for_end(socket: &OwnedFd) -> Result<Option<Ending>> {
    let mut bytes = [0; SHORT];
    match recv(socket, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(Errno::CONNRESET) | Ok((_, 0)) => Ok(Some(Ending::PeerDead)),
        Err(e) => Err(Error::io("look at the connection", e)),
        Ok(_) => match Header::from_bytes(&bytes) {
            Ok((header, _)) if is(header, control::BYE) => Ok(Some(Ending::Closed)),
            _ => Err(Error::Corrupt { what: "the peer sent another frame than BYE beside its ring" }),
        },
    }
}

fn is(header: Header, kind: u16) -> bool {
    header.is_control() && header.kind == kind
}

/// Reads the HELLO of the peer from the socket, if it offers rings; otherwise reads nothing. A peer
/// that offers them sends a short HELLO first.
fn offer_of_peer(socket: &OwnedFd, deadline: Deadline) -> Result<Option<Hello>> {
    let mut bytes = [0; SHORT + Hello::LEN];
    let mut patience: Option<Instant> = None;
    let there = loop {
        await_bytes(socket, deadline)?;
        match recv(socket, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, there))
                if (1..bytes.len()).contains(&there)
                    && *patience.get_or_insert_with(Instant::now) + HELLO_IN_PIECES > Instant::now() =>
            {
                // Bytes that are there already would end every poll at once.
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok((_, there)) => break there,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(e) => return Err(Error::io("read from the socket", e)),
        }
    };
    let hello = match bytes.first_chunk().map(Header::from_bytes) {
        Some(Ok((header, SHORT)))
            if there == bytes.len() && is(header, control::HELLO) && header.len as usize == Hello::LEN =>
        {
            Hello::decode(&bytes[SHORT..]).ok()
        }
        _ => None,
    };
    let Some(hello) = hello.filter(|hello| hello.features & RINGS != 0) else { return Ok(None) };
    recv(socket, &mut bytes, RecvFlags::DONTWAIT).map_err(|e| Error::io("read from the socket", e))?;
    Ok(Some(hello))
}

/// Whether there is something to receive now.
fn has_bytes(socket: &OwnedFd) -> bool {
    matches!(recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT), Ok((_, 1)))
}

fn await_bytes(socket: &OwnedFd, deadline: Deadline) -> Result<()> {
    match poll::wait(socket.as_fd(), Ready::Read, deadline.remaining()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Timeout),
        Err(e) => Err(Error::io("wait for the peer", e)),
    }
}

/// Sends a control frame in one piece, for which a new connection has room.
fn say(socket: &OwnedFd, kind: u16, payload: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut bytes = Vec::with_capacity(SHORT + Hello::LEN);
    Frame::new(Header::control(kind, payload.len())?, payload)?.encode(Form::Short, &mut bytes)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    let descriptor = descriptor.as_slice();
    if !descriptor.is_empty() {
        passed.push(SendAncillaryMessage::ScmRights(descriptor));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut passed, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) | Err(Errno::AGAIN) => return Err(Error::Full),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(Error::PeerDead),
            Err(e) => return Err(Error::io("send to the socket", e)),
        }
    }
}

/// Waits for an empty control frame of `kind`, and returns the descriptor that came with it.
fn hear(socket: &OwnedFd, kind: u16, deadline: Deadline) -> Result<Option<OwnedFd>> {
    let mut bytes = [0; SHORT];
    let (mut at, mut descriptor) = (0, None);
    while at < SHORT {
        await_bytes(socket, deadline)?;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut passed = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes[at..])], &mut passed, flags) {
            Ok(received) if received.bytes == 0 => return Err(Error::PeerDead),
            Ok(received) => at += received.bytes,
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(Errno::CONNRESET) => return Err(Error::PeerDead),
            Err(e) => return Err(Error::io("read from the socket", e)),
        }
        for message in passed.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                descriptor = descriptors.last(); // those before it are closed
            }
        }
    }
    match Header::from_bytes(&bytes)? {
        (header, SHORT) if is(header, kind) && header.len == 0 => Ok(descriptor),
        _ => Err(Error::Corrupt { what: "the peer offered rings, and then sent another frame" }),
    }
}
