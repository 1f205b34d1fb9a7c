//! `udp:HOST:PORT`: frames in datagrams, to any machine. Frames may be lost, and missing ones are
//! reported.
//!
//! Used by endpoints and programs. Relies on `socket/`, and on `message/` for everything except the
//! socket itself.
//!
//! Frames have the long form, whose checksums are better than UDP's. A frame that is larger than a
//! datagram is sent in fragments, and is lost with any of them. Sequence numbers are checked per
//! source address, so lost frames are gaps, and late ones duplicates.
//!
//! * **Access**: addresses of this machine only (loopback), unless [`Options::remote`] is set. A
//!   checksum is no signature: a process that can send to the port can forge a frame.
//! * **The end**: BYE may be lost. A receiver sends a PING to silent senders. There is no answer
//!   unless their port is closed: then the kernel answers (ICMP), which is the sender's death.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, RecvMsg, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg_addr};

use super::message::{Inbox, Inlet, Outbox, Pulled, Wire, receiver, sender};
use super::retry::{PAUSES, may_pass};
use super::socket::address::resolve;
use super::socket::send_recv::{Datagrams, pull, wake_up_at_times};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{Form, Frame, Header, control};
use crate::os::socket::keep_errors;
use crate::wait::deadline::Deadline;

/// The guarantees of UDP.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "udp",
    order: DeliveryOrder::Any,
    lossless: false,
    boundaries: true,
    max_payload: MAX_PAYLOAD,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: true,
};

/// Half of a receiver's usual buffer: the fragments of one frame must fit into it.
const MAX_PAYLOAD: usize = 64 << 10;
/// The size that fits into an Ethernet frame: 1,500 less 20 of IPv4 and 8 of UDP.
const DATAGRAM: usize = 1472;
/// 65,535 less 20 and 8.
const LARGEST: usize = 65_507;
/// The number of addresses with a closed port that are remembered until they are checked.
const MAX_GONE: usize = 64;

/// How to open a socket: start from [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    datagram: usize,
    max_payload: usize,
    remote: bool,
    sources: Vec<IpAddr>,
}

impl Default for Options {
    /// Datagrams of 1,472 bytes, payloads up to 64 KiB, on this machine only.
    fn default() -> Self {
        Options { datagram: DATAGRAM, max_payload: MAX_PAYLOAD, remote: false, sources: Vec::new() }
    }
}

impl Options {
    /// Bytes of the largest datagram that is sent, header included: 128 to 65,507. Larger frames
    /// are sent in fragments.
    #[must_use]
    pub fn datagram(mut self, bytes: usize) -> Self {
        self.datagram = bytes;
        self
    }

    /// The largest payload that is sent or accepted, in bytes.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Whether addresses of other machines may be bound or sent to.
    #[must_use]
    pub fn remote(mut self, remote: bool) -> Self {
        self.remote = remote;
        self
    }

    /// Accepts datagrams from this address. After the first call, those of all other addresses are
    /// dropped.
    #[must_use]
    pub fn allow_source(mut self, address: IpAddr) -> Self {
        self.sources.push(address);
        self
    }

    pub(crate) fn check_size(&self) -> Result<()> {
        match self.datagram {
            Wire::MIN_MESSAGE..=LARGEST => Ok(()),
            _ => Err(Error::Invalid { what: "datagram size: 128 to 65507 bytes" }),
        }
    }
}

/// The sending end. Any number of them may send to one receiver.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, udp};
/// use std::time::Duration;
/// let mut rx = udp::Receiver::bind("127.0.0.1:0", &udp::Options::default())?;
/// let mut tx = udp::Sender::connect(rx.local_address()?, &udp::Options::default(), Duration::from_secs(5))?;
/// tx.send(Header::PLAIN, b"hello")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Sender(Outbox<Datagrams>);

impl Sender {
    /// Sends HELLO to the receiver at an address, and repeats it until the deadline while the
    /// answer is that there is no receiver. For this machine the kernel gives that answer at once,
    /// for another one later or not at all.
    ///
    /// If a host has several addresses, all of them are tried in rotation until the deadline, also
    /// while there is no route. The first one that does not refuse is used, because a silent
    /// address looks like one where the receiver listens. If it refuses later, a later call fails
    /// with [`Error::Closed`], and the one after it tries again. Some six system calls per attempt.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no receiver; [`Error::Untrusted`] for an address beyond this
    /// machine; [`Error::Invalid`] for one that does not resolve; [`Error::Io`], for a network that
    /// cannot be reached at the deadline.
    pub fn connect(address: impl ToSocketAddrs, options: &Options, deadline: impl Into<Deadline>) -> Result<Self> {
        let deadline = deadline.into();
        options.check_size()?;
        let addresses = resolve(address, options.remote)?;
        let mut pauses = PAUSES;
        loop {
            let has_passed = deadline.has_passed();
            let (mut may_come, mut why_not) = (false, None);
            for address in &addresses {
                match attempt(*address, options) {
                    Ok(outbox) => return Ok(Sender(outbox)),
                    Err(Error::NotFound) => (may_come, why_not) = (true, Some(Error::NotFound)),
                    Err(Error::Io { op, source }) => {
                        may_come |= Errno::from_io_error(&source).is_some_and(may_pass);
                        why_not.get_or_insert(Error::Io { op, source });
                    }
                    Err(error) => return Err(error),
                }
            }
            if has_passed || !may_come {
                return Err(why_not.unwrap_or(Error::NotFound));
            }
            pauses.sleep(deadline.remaining());
        }
    }
}

/// Sends HELLO to one address. [`Error::NotFound`] if the answer is that there is no receiver.
fn attempt(address: SocketAddr, options: &Options) -> Result<Outbox<Datagrams>> {
    let here = match (address.ip(), address.ip().is_loopback()) {
        (IpAddr::V4(_), true) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        (IpAddr::V4(_), false) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (IpAddr::V6(_), true) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        (IpAddr::V6(_), false) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((here, 0)).map_err(|e| Error::io("make a UDP socket", e))?;
    socket.connect(address).map_err(|e| Error::io("connect the UDP socket", e))?;
    let wire = Wire { form: Form::Long, identified: false, message: options.datagram };
    let outbox = Outbox::open(wire, options.max_payload, |_| Ok(Datagrams::new(socket.into(), is_refusal)))?;
    let answer = socket_error(outbox.outlet().socket()).map_err(|e| Error::io("ask for the socket's errors", e))?;
    let Err(error) = answer else { return Ok(outbox) };
    outbox.abandon(); // to a receiver that has just started, a BYE without its HELLO comes from an unknown sender
    match error {
        Errno::CONNREFUSED => Err(Error::NotFound),
        error => Err(Error::io("send to the UDP socket", error)),
    }
}

sender!(Sender);

/// The receiving end. Examples: [`Sender`].
pub struct Receiver(Inbox<ReceivingEnd>);

impl Receiver {
    /// Binds an address; of several, the first that can be bound. With port 0 the system chooses
    /// the port ([`Receiver::local_address`]). Some six system calls.
    ///
    /// # Errors
    /// [`Error::Exists`] if the address is in use; [`Error::Untrusted`] for one beyond this
    /// machine; [`Error::Invalid`] for one that does not resolve; [`Error::Io`].
    pub fn bind(address: impl ToSocketAddrs, options: &Options) -> Result<Self> {
        options.check_size()?;
        let socket = match UdpSocket::bind(&resolve(address, options.remote)?[..]) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(Error::Exists),
            bound => bound.map_err(|e| Error::io("bind the UDP socket", e))?,
        };
        let is_ipv6 = socket.local_addr().map_err(|e| Error::io("ask for the socket's address", e))?.is_ipv6();
        let socket = OwnedFd::from(socket);
        wake_up_at_times(&socket)?;
        keep_errors(socket.as_fd(), is_ipv6).map_err(|e| Error::io("ask for the socket's errors", e))?;
        let end = ReceivingEnd { socket, sources: options.sources.clone(), gone: Vec::new() };
        Ok(Receiver(Inbox::new(end, LARGEST, options.max_payload)))
    }

    /// The address at which it receives. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        let address = rustix::net::getsockname(&self.0.inlet().socket).and_then(SocketAddr::try_from);
        address.map_err(|e| Error::io("ask for the socket's address", e))
    }
}

receiver!(Receiver);

/// The one before reached no receiver; this one was not sent.
fn is_refusal(error: Errno) -> bool {
    error == Errno::CONNREFUSED
}

struct ReceivingEnd {
    socket: OwnedFd,
    sources: Vec<IpAddr>,
    /// Addresses whose port is closed, by the kernel's reports.
    gone: Vec<SocketAddr>,
}

impl ReceivingEnd {
    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<RecvMsg, Errno> {
        recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut RecvAncillaryBuffer::default(), flags)
    }

    /// Empties the queue of errors. An address that refused has no sender any more.
    fn take_errors(&mut self, refused: bool) {
        // Addresses beyond the limit are asked again.
        for _ in 0..MAX_GONE {
            let Ok(error) = self.receive(&mut [0; 64], RecvFlags::ERRQUEUE | RecvFlags::DONTWAIT) else { return };
            let address = error.address.and_then(|address| SocketAddr::try_from(address).ok());
            if let (Some(address), true) = (address, refused && self.gone.len() < MAX_GONE) {
                self.gone.push(address);
            }
        }
    }

    fn ask(&mut self, source: &SocketAddr) -> Result<()> {
        let ping = Frame::new(Header::control(control::PING, 0)?, &[])?.head(Form::Long)?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let parts = [IoSlice::new(&ping)];
        // An error is the answer to an earlier PING; this address is asked again at the next check.
        if let Err(error) = sendmsg_addr(&self.socket, source, &parts, &mut SendAncillaryBuffer::default(), flags) {
            self.take_errors(error == Errno::CONNREFUSED);
        }
        Ok(())
    }
}

/// Whether an error can come from any machine on the route (icmp(7) names them), so that it does
/// not end the receiver.
fn is_answer(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::ACCESS
    )
}

impl Inlet for ReceivingEnd {
    type Source = SocketAddr;

    const TRACKED: bool = true;

    /// Each check sends a datagram to silent senders.
    const LOOK: Duration = Duration::from_millis(250);

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<SocketAddr>> {
        let received = loop {
            match pull(&self.socket, patience, |flags| self.receive(buffer, flags)) {
                Err(Errno::AGAIN) => return Err(Error::Empty),
                // The answers to our PINGs. Messages may wait behind them.
                Err(error) if is_answer(error) => self.take_errors(error == Errno::CONNREFUSED),
                received => break received.map_err(|e| Error::io("receive from the UDP socket", e))?,
            }
        };
        let source = received.address.and_then(|address| SocketAddr::try_from(address).ok());
        let is_known = |address: SocketAddr| self.sources.contains(&address.ip());
        if !self.sources.is_empty() && !source.is_some_and(is_known) {
            return Ok(Pulled::refused(received.bytes, "a datagram from an address that is not allowed"));
        }
        Ok(Pulled::new(received.bytes, source))
    }

    fn is_gone(&mut self, source: &SocketAddr) -> Result<bool> {
        if let Some(at) = self.gone.iter().position(|gone| gone == source) {
            self.gone.swap_remove(at);
            return Ok(true);
        }
        self.ask(source)?;
        Ok(false)
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::frame::Event;
    use crate::transport::{FrameReceiver, FrameSender};

    /// An edge-triggered poll would not announce the datagrams again.
    #[test]
    fn the_answer_of_a_closed_port_hides_no_datagram() {
        let mut rx = Receiver::bind("127.0.0.1:0", &Options::default()).unwrap();
        let mut tx = Sender::connect(rx.local_address().unwrap(), &Options::default(), Duration::ZERO).unwrap();
        assert!(matches!(rx.try_recv(), Err(Error::Empty)), "HELLO is no event");
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        tx.try_send(Header::PLAIN, b"frame").unwrap();
        rustix::net::sendto(&rx.0.inlet().socket, b"PING", SendFlags::empty(), &closed).unwrap();
        assert!(matches!(rx.try_recv(), Ok(Event::Frame(frame)) if frame.payload == b"frame"));
    }
}
