//! `tcp:HOST:PORT`: frames both ways over TCP, on this machine unless other machines are allowed.
//!
//! Used by endpoints and programs. Relies on `stream/` for the ends, on `connect.rs` for
//! connections, and on `socket/` for the listener.
//!
//! Frames have the long form, whose checksums are better than TCP's. `TCP_NODELAY` is set, because
//! collecting is a separate option ([`stream::Options::batch`]). HELLO and BYE are used as on
//! [`unix`](super::unix). A checksum is no signature: a process that can connect can send anything.
//!
//! # Connections that break
//! [`connect`] tries until its deadline. If a connection breaks later, the ends return
//! [`Error::PeerDead`], and the caller, who knows what may be sent again, connects again.
//!
//! With [`Options::reconnect`], the ends change to another connection instead. A sender sends again
//! what it still holds. A receiver that was not replaced reports exactly the lost frames as a gap,
//! as soon as the next connection is established. A receiver whose sender was replaced returns
//! [`Error::PeerDead`] once, and continues with the next one. After an orderly end (BYE) the ends
//! do not reconnect. `docs/framing.md` describes the protocol.
//!
//! # Closing
//! [`FrameSenderExt::close`](super::FrameSenderExt::close) returns when the other machine's kernel
//! has acknowledged everything, or at its deadline. Dropping does not wait.

mod connect;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;

use self::connect::Connecting;
use super::socket::Wanted;
use super::socket::accept::{self, Silent};
use super::socket::address::resolve;
use super::stream::{self, Next, Wire};
pub use super::stream::{Receiver, Sender};
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form, OnCorrupt};
use crate::wait::deadline::Deadline;

/// The guarantees of TCP.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "tcp",
    order: DeliveryOrder::Fifo,
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

/// How to listen or connect: start from [`Options::default`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    stream: stream::Options,
    remote: bool,
    reconnect: Option<Duration>,
}

impl Options {
    /// The options of the ends of each connection.
    #[must_use]
    pub fn stream(mut self, options: stream::Options) -> Self {
        self.stream = options;
        self
    }

    /// Whether addresses of other machines are allowed. Nothing is encrypted, and no peer is
    /// authenticated.
    #[must_use]
    pub fn remote(mut self, remote: bool) -> Self {
        self.remote = remote;
        self
    }

    /// Makes the ends reconnect after a break, and sets how long they wait for it before they
    /// return [`Error::PeerDead`]. A peer that cannot be reached for about as long counts as
    /// departed (keep-alive probes and `TCP_USER_TIMEOUT`, tcp(7)). For [`connect`] and
    /// [`Listener::accept_only`].
    ///
    /// Reconnecting happens within the calls of either end, within their deadlines; `try_…` calls
    /// take a step without waiting. Between two connections there is no descriptor to poll
    /// (`poll_fd` returns `None`).
    ///
    /// ```
    /// use slipring::frame::Header;
    /// use slipring::transport::{FrameSender, tcp};
    /// use std::time::Duration;
    /// let patience = Duration::from_secs(5);
    /// let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    /// let options = tcp::Options::default().reconnect(patience);
    /// let (mut tx, _rx) = tcp::connect(peer.local_addr().unwrap(), &options, patience)?;
    /// drop(peer.accept().unwrap()); // dies without a word, and may come again
    /// while tx.reconnections() == 0 {
    ///     tx.send(Header::PLAIN, b"tick")?;
    /// }
    /// # Ok::<(), slipring::Error>(())
    /// ```
    #[must_use]
    pub fn reconnect(mut self, patience: Duration) -> Self {
        self.reconnect = Some(patience);
        self
    }
}

/// A listening port.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, tcp};
/// use std::time::Duration;
/// let options = tcp::Options::default();
/// let listener = tcp::Listener::bind("127.0.0.1:0", &options)?;
/// let (mut tx, _rx) = tcp::connect(listener.local_address()?, &options, Duration::from_secs(5))?;
/// let (_their_tx, mut their_rx) = listener.accept(Duration::from_secs(5))?;
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
    /// Listens at an address; with port 0 at one that the system chooses
    /// ([`Listener::local_address`]).
    ///
    /// # Errors
    /// [`Error::Exists`] if the address is in use; [`Error::Untrusted`] for one beyond this
    /// machine; [`Error::Invalid`] for one that does not resolve; [`Error::Io`].
    pub fn bind(address: impl ToSocketAddrs, options: &Options) -> Result<Self> {
        let socket = match TcpListener::bind(&resolve(address, options.remote)?[..]) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => return Err(Error::Exists),
            bound => bound.map_err(|e| Error::io("listen at the address", e))?,
        };
        socket.set_nonblocking(true).map_err(|e| Error::io("set up the socket", e))?;
        Ok(Listener { socket, options: options.clone() })
    }

    /// The address on which it listens. One system call.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn local_address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(|e| Error::io("ask for the socket's address", e))
    }

    /// Accepts the next connection. The listener continues, so if the connection breaks, its peer
    /// must connect again.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Io`].
    pub fn accept(&self, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
        ends(accept::next(self.socket.as_fd(), deadline.into())?, None, &self.options)
    }

    /// Accepts the next connection and closes the listener. With [`Options::reconnect`], the
    /// listener stays open as long as the ends, for the connections that follow.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn accept_only(self, deadline: impl Into<Deadline>) -> Result<(Sender, Receiver)> {
        let socket = accept::next(self.socket.as_fd(), deadline.into())?;
        ends(socket, Some(following(Arc::new(self.socket))), &self.options)
    }

    /// [`Listener::accept_only`] for the first peer that is `wanted`.
    pub(crate) fn accept_wanted(self, wanted: Wanted, deadline: Deadline) -> Result<(Sender, Receiver)> {
        let Listener { socket: listener, options } = self;
        let (listener, mut silent) = (Arc::new(listener), Silent::default());
        loop {
            let socket = accept::first_to_speak(listener.as_fd(), &mut silent, wanted, deadline, |_| Ok(()))?;
            let is_mute = accept::is_mute(&socket);
            let (tx, rx) = ends(socket, Some(following(Arc::clone(&listener))), &options)?;
            // A peer that has ended its direction wants to receive, or has departed; the answer to
            // our HELLO shows which.
            if !is_mute || tx.is_heard(deadline.min(Deadline::after(accept::PATIENCE))) {
                return Ok((tx, rx));
            }
        }
    }
}

/// The connections that follow the first one.
fn following(listener: Arc<TcpListener>) -> Next {
    Box::new(move || accept::try_next(listener.as_fd()))
}

impl AsFd for Listener {
    /// Polls readable when a connection waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to the listener at an address, waiting for one until the deadline. If a host name has
/// several addresses, all of them are tried in rotation; one that does not answer delays the next
/// by a quarter of a second. The host name is resolved once, at the beginning, which the deadline
/// does not limit.
///
/// # Errors
/// [`Error::NotFound`] if there is no listener; [`Error::Timeout`] without an answer;
/// [`Error::Untrusted`] for an address beyond this machine; [`Error::Invalid`] for one that does
/// not resolve; [`Error::Io`], for a network that cannot be reached at the deadline.
pub fn connect(
    address: impl ToSocketAddrs,
    options: &Options,
    deadline: impl Into<Deadline>,
) -> Result<(Sender, Receiver)> {
    let deadline = deadline.into();
    let mut connecting = Connecting::new(resolve(address, options.remote)?);
    let mut has_passed = false;
    loop {
        if let Some(socket) = connecting.step()? {
            return ends(socket, Some(Box::new(move || connecting.step())), options);
        }
        if has_passed {
            return Err(connecting.why_not());
        }
        connecting.wait(deadline)?;
        has_passed = deadline.has_passed();
    }
}

/// The two ends of a connection; `next` returns the connections that follow, if requested.
fn ends(socket: OwnedFd, next: Option<Next>, options: &Options) -> Result<(Sender, Receiver)> {
    let patience = options.reconnect;
    set_up(&socket, patience)?;
    match next.zip(patience) {
        Some((mut next, patience)) => {
            let next: Next = Box::new(move || {
                let Some(socket) = next()? else { return Ok(None) };
                set_up(&socket, Some(patience))?;
                Ok(Some(socket))
            });
            stream::lasting_connection(socket, (patience, next), WIRE, &options.stream)
        }
        None => stream::connection(socket, WIRE, &options.stream),
    }
}

fn set_up(socket: &OwnedFd, patience: Option<Duration>) -> Result<()> {
    sockopt::set_tcp_nodelay(socket, true).map_err(|e| Error::io("set TCP_NODELAY", e))?;
    patience.map_or(Ok(()), |patience| probe(socket, patience).map_err(|e| Error::io("set the keep-alive", e)))
}

/// Makes the kernel end the connection when nothing has come back for about this time.
fn probe(socket: &OwnedFd, patience: Duration) -> rustix::io::Result<()> {
    const PROBES: u32 = 3;
    let every = (patience / (PROBES + 1)).clamp(Duration::from_secs(1), Duration::from_secs(60));
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, every)?;
    sockopt::set_tcp_keepintvl(socket, every)?;
    sockopt::set_tcp_keepcnt(socket, PROBES)?;
    sockopt::set_tcp_user_timeout(socket, u32::try_from((every * (PROBES + 1)).as_millis()).unwrap_or(u32::MAX))
}
