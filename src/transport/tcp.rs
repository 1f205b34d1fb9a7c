//! `tcp:HOST:PORT`: frames both ways over TCP, on this machine unless asked for more.
//!
//! Used by endpoints and programs. Relies on `stream/` for the ends.
//!
//! Long frames, whose checksums are better than TCP's; `TCP_NODELAY`, because whoever wants to collect says so
//! ([`stream::Options::batch`]). HELLO and BYE as on [`unix`](super::unix). A checksum is no signature: whoever can connect can send
//! anything.
//!
//! # Reconnecting
//! [`connect`] tries until its deadline. A connection that breaks is not mended behind anybody's back: what had been on its
//! way is unknown then, so the ends say [`Error::PeerDead`], and the caller, who knows what may be sent again, connects anew;
//! the new HELLO tells the other side that numbers begin anew.
//!
//! # Closing
//! [`FrameSender::close`](super::FrameSender::close) returns when the other machine's kernel has acknowledged everything, or at
//! its deadline. Dropping does not wait.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::datagram::LONGEST_NAP;
use super::stream::{self, Wire};
pub use super::stream::{Receiver, Sender};
use super::{Arrival, Capabilities};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, OnCorrupt};
use crate::os::poll::{self, Ready};
use crate::wait::deadline::Deadline;

/// What TCP promises.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "tcp",
    order: Arrival::Fifo,
    lossless: true,
    boundaries: false,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: false,
    authenticates_peer: false,
    reports_death: true,
    duplex: true,
    remote: true,
};

const WIRE: Wire = Wire { capabilities: &CAPABILITIES, form: Form::Long, on_corrupt: OnCorrupt::Close, features: 0 };

/// How to listen or connect: [`Options::default`], then what differs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    stream: stream::Options,
    remote: bool,
}

impl Options {
    /// How the ends of each connection are made.
    #[must_use]
    pub fn stream(mut self, options: stream::Options) -> Self {
        self.stream = options;
        self
    }

    /// Whether addresses beyond this machine are allowed. Nothing is encrypted, and nobody is asked who they are.
    #[must_use]
    pub fn remote(mut self, remote: bool) -> Self {
        self.remote = remote;
        self
    }

    fn resolve(&self, address: impl ToSocketAddrs) -> Result<Vec<SocketAddr>> {
        const WRONG: Error = Error::Invalid { what: "TCP address: HOST:PORT, and the host must be known" };
        let addresses: Vec<_> = address.to_socket_addrs().map_err(|_| WRONG)?.collect();
        if !self.remote && addresses.iter().any(|address| !address.ip().is_loopback()) {
            const WHAT: &str = "TCP beyond this machine, unless asked for: use a loopback address, or allow `remote`";
            return Err(Error::Untrusted { what: WHAT });
        }
        if addresses.is_empty() { Err(WRONG) } else { Ok(addresses) }
    }
}

/// A port to which others connect.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, tcp};
/// use std::time::Duration;
/// let options = tcp::Options::default();
/// let listener = tcp::Listener::bind("127.0.0.1:0", &options)?;
/// let (mut tx, _rx) = tcp::connect(listener.local_address()?, &options, Duration::from_secs(5).into())?;
/// let (_their_tx, mut their_rx) = listener.accept(Duration::from_secs(5).into())?;
/// tx.send(Header::PLAIN, b"hello")?;
/// assert!(matches!(their_rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    options: Options,
}

impl Listener {
    /// Listens at an address; with port 0 at one that the system chooses ([`Listener::local_address`]).
    ///
    /// # Errors
    /// [`Error::Exists`] if the address is in use; [`Error::Untrusted`] for one beyond this machine; [`Error::Invalid`] for one
    /// that does not resolve; [`Error::Io`].
    pub fn bind(address: impl ToSocketAddrs, options: &Options) -> Result<Self> {
        let socket = match TcpListener::bind(&options.resolve(address)?[..]) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => return Err(Error::Exists),
            bound => bound.map_err(|e| Error::io("listen at the address", e))?,
        };
        socket.set_nonblocking(true).map_err(|e| Error::io("set up the socket", e))?;
        Ok(Listener { socket, options: options.clone() })
    }

    /// Where it listens. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(|e| Error::io("ask for the socket's address", e))
    }

    /// The next connection.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Io`].
    pub fn accept(&self, deadline: Deadline) -> Result<(Sender, Receiver)> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => return ends(socket, &self.options),
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    match poll::wait(self.socket.as_fd(), Ready::Read, deadline.remaining()) {
                        Ok(true) => {}
                        Ok(false) => return Err(Error::Timeout),
                        Err(e) => return Err(Error::io("wait for a connection", e)),
                    }
                }
                Err(e) => return Err(Error::io("accept a connection", e)),
            }
        }
    }
}

impl AsFd for Listener {
    /// Polls readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to the listener at an address, waiting for one until the deadline. A host name is looked up first, which the
/// deadline does not bound.
///
/// # Errors
/// [`Error::NotFound`] if nobody listens there; [`Error::Timeout`] if nothing answers; [`Error::Untrusted`] for an address beyond
/// this machine; [`Error::Invalid`] for one that does not resolve; [`Error::Io`].
pub fn connect(address: impl ToSocketAddrs, options: &Options, deadline: Deadline) -> Result<(Sender, Receiver)> {
    let addresses = options.resolve(address)?;
    let mut nap = Duration::from_millis(1);
    loop {
        let mut refused = Error::NotFound;
        for address in &addresses {
            // The least that the call takes; the longest wait that fits its milliseconds.
            let patience = deadline.remaining().clamp(Duration::from_millis(1), Duration::from_secs(86_400));
            match TcpStream::connect_timeout(address, patience) {
                Ok(socket) => return ends(socket, options),
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(e) if e.kind() == ErrorKind::TimedOut => refused = Error::Timeout,
                Err(e) => refused = Error::io("connect", e),
            }
        }
        if deadline.has_passed() || matches!(refused, Error::Io { .. }) {
            return Err(refused);
        }
        std::thread::sleep(nap.min(deadline.remaining()));
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

fn ends(socket: TcpStream, options: &Options) -> Result<(Sender, Receiver)> {
    socket.set_nodelay(true).map_err(|e| Error::io("set TCP_NODELAY", e))?;
    stream::connection(socket.into(), WIRE, &options.stream)
}
