//! Transports opened from text: `ring:ticks`, `fifo:/run/user/1000/ticks`,
//! `tcp:localhost:7000?listen`.
//!
//! The command line uses this module, and so can programs that take an endpoint from their user or
//! their configuration.

// Floor 5, one file per scheme; `query.rs` parses the options. Relies on `ring/` and
// `transport/`.

#![forbid(unsafe_code)]

mod dgram;
mod fifo;
mod half;
mod mq;
mod pipe;
mod query;
mod ring;
mod seqpacket;
mod signal;
mod sysv;
mod tcp;
mod udp;
mod unix;

pub use dgram::DgramEndpoint;
pub use fifo::FifoEndpoint;
pub use mq::MqEndpoint;
pub use pipe::PipeEndpoint;
pub use query::{parse_duration, parse_size};
pub use ring::{DEFAULT_CAPACITY, DEFAULT_SLOT, DEFAULT_SLOTS, RingEndpoint};
pub use seqpacket::SeqpacketEndpoint;
pub use signal::SignalEndpoint;
pub use sysv::SysvEndpoint;
pub use tcp::TcpEndpoint;
pub use udp::UdpEndpoint;
pub use unix::UnixEndpoint;

use half::Half;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::segment::Directory;
use crate::transport::socket::Wanted;
use crate::transport::{FrameReceiver, FrameSender};
use crate::wait::deadline::Deadline;

const SCHEMES: &str = "endpoint: SCHEME:ADDRESS[?OPTION=VALUE&…]; known schemes: ring, pipe, fd, - (stdin and stdout), fifo, mq, \
                       sysv, unix, seqpacket, dgram, tcp, udp, signal";

const ONE_WAY: Error = Error::Unsupported {
    what: "both directions over this endpoint: open two, one for each direction, or use unix, seqpacket or tcp",
};

const SENDER_LISTENS: Error =
    Error::Invalid { what: "listen: only the receiver listens with this transport: leave it out to send" };

/// Both ends of a connection, as [`Endpoint::open_duplex`] opens them.
pub type Duplex = (Box<dyn FrameSender>, Box<dyn FrameReceiver>);

/// A source or destination of frames. One variant per scheme.
///
/// An endpoint with `listen` serves one connection: that of the first peer that sends a byte. Peers
/// of this library do so at once (HELLO). Connections that close before that, such as liveness
/// probes and health checks, are ignored, and so are those of users that are not allowed. A sender
/// also accepts a peer that closes its own direction, or sends nothing for a second.
///
/// ```
/// use slipring::{Kind, endpoint::Endpoint};
/// let Endpoint::Ring(ring) = Endpoint::parse("ring:jobs?kind=mpmc&slots=4096&slot=1KiB")? else { unreachable!() };
/// assert_eq!((ring.name(), ring.kind()), ("jobs", Some(Kind::Mpmc)));
/// assert!(Endpoint::parse("carrier-pigeon:coop").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Endpoint {
    /// `ring:NAME`: a named ring in shared memory.
    Ring(RingEndpoint),
    /// `-`, `pipe:`, `fd:N`: a descriptor that the program was started with.
    Pipe(PipeEndpoint),
    /// `fifo:PATH`: a named pipe.
    Fifo(FifoEndpoint),
    /// `mq:/NAME`: a POSIX message queue.
    Mq(MqEndpoint),
    /// `sysv:KEY` or `sysv:PATH`: a System V message queue.
    Sysv(SysvEndpoint),
    /// `unix:PATH`: a Unix stream socket.
    Unix(UnixEndpoint),
    /// `seqpacket:PATH`: a Unix message socket.
    Seqpacket(SeqpacketEndpoint),
    /// `dgram:PATH`: a Unix datagram socket.
    Dgram(DgramEndpoint),
    /// `tcp:HOST:PORT`: TCP.
    Tcp(TcpEndpoint),
    /// `udp:HOST:PORT`: UDP.
    Udp(UdpEndpoint),
    /// `signal:PID`: queued signals.
    Signal(SignalEndpoint),
}

impl Endpoint {
    /// Parses `SCHEME:ADDRESS[?OPTION=VALUE&…]`. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`], which names the known schemes, the known options, or the allowed values.
    pub fn parse(text: &str) -> Result<Self> {
        let (place, options) = text.split_once('?').unwrap_or((text, ""));
        match place.split_once(':') {
            None if place == "-" => PipeEndpoint::parse("", options).map(Endpoint::Pipe),
            Some(("pipe", number)) => PipeEndpoint::parse(number, options).map(Endpoint::Pipe),
            Some(("fd", number)) if !number.is_empty() => PipeEndpoint::parse(number, options).map(Endpoint::Pipe),
            Some(("fifo", path)) => FifoEndpoint::parse(path, options).map(Endpoint::Fifo),
            Some(("sysv", key)) => SysvEndpoint::parse(key, options).map(Endpoint::Sysv),
            Some(("unix", path)) => UnixEndpoint::parse(path, options).map(Endpoint::Unix),
            Some(("tcp", address)) => TcpEndpoint::parse(address, options).map(Endpoint::Tcp),
            Some(("seqpacket", path)) => SeqpacketEndpoint::parse(path, options).map(Endpoint::Seqpacket),
            Some(("dgram", path)) => DgramEndpoint::parse(path, options).map(Endpoint::Dgram),
            Some(("udp", address)) => UdpEndpoint::parse(address, options).map(Endpoint::Udp),
            Some(("signal", pid)) => SignalEndpoint::parse(pid, options).map(Endpoint::Signal),
            Some(("ring", name)) => RingEndpoint::parse(name, options).map(Endpoint::Ring),
            Some(("mq", name)) => MqEndpoint::parse(name, options).map(Endpoint::Mq),
            _ => Err(Error::Invalid { what: SCHEMES }),
        }
    }

    /// Checks whether a sender can be opened, by the endpoint and existing objects. Creates nothing
    /// and waits for nothing. [`Endpoint::open_sender`] checks this first.
    ///
    /// # Errors
    /// Those of [`Endpoint::open_sender`].
    ///
    /// ```
    /// use slipring::endpoint::Endpoint;
    /// assert!(Endpoint::parse("udp:localhost:7000?listen")?.check_sender().is_err());
    /// assert!(Endpoint::parse("ring:bytes?kind=stream")?.check_sender().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn check_sender(&self) -> Result<()> {
        match self {
            Endpoint::Dgram(socket) => socket.check_sender(),
            Endpoint::Udp(socket) => socket.check_sender(),
            Endpoint::Signal(signal) => signal.check_sender(),
            _ => self.check_either(),
        }
    }

    /// As [`Endpoint::check_sender`], for a receiver.
    ///
    /// # Errors
    /// Those of [`Endpoint::open_receiver`].
    ///
    /// ```
    /// use slipring::endpoint::Endpoint;
    /// assert!(Endpoint::parse("signal:1")?.check_receiver().is_err(), "another process gets those");
    /// assert!(Endpoint::parse("sysv:/no/such/file")?.check_receiver().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn check_receiver(&self) -> Result<()> {
        match self {
            Endpoint::Signal(signal) => signal.check_receiver(),
            _ => self.check_either(),
        }
    }

    /// As [`Endpoint::check_sender`], for both ends of one connection.
    ///
    /// # Errors
    /// Those of [`Endpoint::open_duplex`].
    ///
    /// ```
    /// use slipring::endpoint::Endpoint;
    /// assert!(Endpoint::parse("fifo:/tmp/x")?.check_duplex().is_err());
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn check_duplex(&self) -> Result<()> {
        match self {
            Endpoint::Pipe(_) | Endpoint::Unix(_) | Endpoint::Tcp(_) | Endpoint::Seqpacket(_) => self.check_either(),
            _ => Err(ONE_WAY),
        }
    }

    /// The checks that do not depend on the direction.
    fn check_either(&self) -> Result<()> {
        match self {
            Endpoint::Ring(ring) => ring.check_frames(),
            Endpoint::Pipe(pipe) => pipe.check(),
            Endpoint::Fifo(fifo) => fifo.check(),
            Endpoint::Mq(queue) => queue.check(),
            Endpoint::Sysv(queue) => queue.key().map(drop),
            Endpoint::Unix(socket) => socket.check(),
            Endpoint::Seqpacket(socket) => socket.check(),
            Endpoint::Dgram(socket) => socket.check(),
            Endpoint::Udp(socket) => socket.check(),
            Endpoint::Tcp(_) | Endpoint::Signal(_) => Ok(()),
        }
    }

    /// Opens a sender. Waits until the deadline for the other side where the transport needs one: a
    /// FIFO for its reader, a connection for its acceptor.
    ///
    /// # Errors
    /// Those of the transport's constructor; [`Error::Timeout`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("slipring-doc-open-{}", std::process::id()));
    /// # let here = |text: &str| match Endpoint::parse(text).unwrap() {
    /// #     Endpoint::Ring(ring) => Endpoint::Ring(ring.in_directory(&dir)),
    /// #     other => other,
    /// # };
    /// use slipring::{endpoint::Endpoint, frame::{Event, Header}};
    /// use std::time::Duration;
    /// let endpoint = Endpoint::parse("ring:ticks?capacity=64KiB")?;
    /// # let endpoint = here("ring:ticks?capacity=64KiB");
    /// let mut tx = endpoint.open_sender(Duration::from_secs(1))?;
    /// let mut rx = endpoint.open_receiver(Duration::from_secs(1))?;
    /// tx.send(Header::PLAIN, b"hello")?;
    /// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
    /// # std::fs::remove_dir_all(dir).unwrap();
    /// # Ok::<(), slipring::Error>(())
    /// ```
    pub fn open_sender(&self, deadline: impl Into<Deadline>) -> Result<Box<dyn FrameSender>> {
        self.sender(false, deadline.into())
    }

    /// As [`Endpoint::open_sender`], for a caller that sends many frames and flushes when it
    /// pauses. Where frames cost system calls, small ones are collected until
    /// [`FrameSenderExt::flush`](crate::transport::FrameSenderExt::flush) or until the buffer is
    /// full.
    ///
    /// # Errors
    /// As [`Endpoint::open_sender`].
    pub fn open_batching_sender(&self, deadline: impl Into<Deadline>) -> Result<Box<dyn FrameSender>> {
        self.sender(true, deadline.into())
    }

    fn sender(&self, batch: bool, deadline: Deadline) -> Result<Box<dyn FrameSender>> {
        self.check_sender()?;
        Ok(match self {
            Endpoint::Ring(ring) => Box::new(ring.open_sender()?),
            Endpoint::Pipe(pipe) => Box::new(pipe.open_sender(batch)?),
            Endpoint::Fifo(fifo) => Box::new(fifo.open_sender(batch, deadline)?),
            Endpoint::Mq(queue) => Box::new(queue.open_sender()?),
            Endpoint::Sysv(queue) => Box::new(queue.open_sender()?),
            Endpoint::Unix(socket) => Box::new(Half::sending(socket.open_duplex(Wanted::Listener, batch, deadline)?)),
            Endpoint::Tcp(socket) => Box::new(Half::sending(socket.open_duplex(Wanted::Listener, batch, deadline)?)),
            Endpoint::Seqpacket(socket) => Box::new(Half::sending(socket.open_duplex(Wanted::Listener, deadline)?)),
            Endpoint::Dgram(socket) => Box::new(socket.open_sender(deadline)?),
            Endpoint::Udp(socket) => Box::new(socket.open_sender(deadline)?),
            Endpoint::Signal(signal) => Box::new(signal.open_sender(deadline)?),
        })
    }

    /// Opens a receiver. Waits until the deadline for the other side where the transport needs one.
    ///
    /// # Errors
    /// As [`Endpoint::open_sender`].
    pub fn open_receiver(&self, deadline: impl Into<Deadline>) -> Result<Box<dyn FrameReceiver>> {
        let deadline = deadline.into();
        self.check_receiver()?;
        Ok(match self {
            Endpoint::Ring(ring) => Box::new(ring.open_receiver()?),
            Endpoint::Pipe(pipe) => Box::new(pipe.open_receiver()?),
            Endpoint::Fifo(fifo) => Box::new(fifo.open_receiver()?),
            Endpoint::Mq(queue) => Box::new(queue.open_receiver()?),
            Endpoint::Sysv(queue) => Box::new(queue.open_receiver()?),
            Endpoint::Unix(socket) => Box::new(Half::receiving(socket.open_duplex(Wanted::Talker, false, deadline)?)),
            Endpoint::Tcp(socket) => Box::new(Half::receiving(socket.open_duplex(Wanted::Talker, false, deadline)?)),
            Endpoint::Seqpacket(socket) => Box::new(Half::receiving(socket.open_duplex(Wanted::Talker, deadline)?)),
            Endpoint::Dgram(socket) => Box::new(socket.open_receiver()?),
            Endpoint::Udp(socket) => Box::new(socket.open_receiver()?),
            Endpoint::Signal(signal) => Box::new(signal.open_receiver()?),
        })
    }

    /// Opens a sender and a receiver of a transport that carries frames in both directions
    /// ([`Capabilities::duplex`](crate::transport::Capabilities::duplex)).
    ///
    /// # Errors
    /// As [`Endpoint::open_sender`]; [`Error::Unsupported`] if the transport has one direction
    /// only.
    pub fn open_duplex(&self, deadline: impl Into<Deadline>) -> Result<Duplex> {
        self.check_duplex()?;
        match self {
            Endpoint::Pipe(pipe) => pipe.open_duplex(),
            Endpoint::Unix(socket) => socket.open_duplex(Wanted::Listener, false, deadline.into()),
            Endpoint::Tcp(socket) => socket.open_duplex(Wanted::Listener, false, deadline.into()),
            Endpoint::Seqpacket(socket) => socket.open_duplex(Wanted::Listener, deadline.into()),
            _ => Err(ONE_WAY),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Endpoint::parse(text)
    }
}

impl fmt::Display for Endpoint {
    /// Writes the scheme and the address, without options.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ring(ring) => write!(f, "ring:{}", ring.name()),
            Endpoint::Pipe(pipe) => pipe.fmt(f),
            Endpoint::Fifo(fifo) => fifo.fmt(f),
            Endpoint::Mq(queue) => queue.fmt(f),
            Endpoint::Sysv(queue) => queue.fmt(f),
            Endpoint::Unix(socket) => socket.fmt(f),
            Endpoint::Seqpacket(socket) => socket.fmt(f),
            Endpoint::Dgram(socket) => socket.fmt(f),
            Endpoint::Tcp(socket) => socket.fmt(f),
            Endpoint::Udp(socket) => socket.fmt(f),
            Endpoint::Signal(signal) => signal.fmt(f),
        }
    }
}

/// The directory of named rings: `custom`, else `$SLIPRING_DIR`, else `$XDG_RUNTIME_DIR/slipring`,
/// else `/dev/shm/slipring-<uid>`. Checked if it exists, and not created if it does not.
///
/// # Errors
/// [`Error::Untrusted`] if other users may change its contents, [`Error::Io`].
pub fn segment_directory(custom: Option<&Path>) -> Result<PathBuf> {
    Directory::locate(custom, false)
}

/// The path that [`segment_directory`] checks, unchecked: for messages.
///
/// ```
/// let path = slipring::endpoint::segment_directory_path(Some("/tmp/rings".as_ref()));
/// assert_eq!(path.to_str(), Some("/tmp/rings"));
/// ```
pub fn segment_directory_path(custom: Option<&Path>) -> PathBuf {
    Directory::path(custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_displayed_as_it_was_parsed() {
        for (text, said) in [
            ("-", "-"),
            ("-?listen=false", "-"),
            ("fd:3?listen", "fd:3"),
            ("pipe:?pipe_size=1MiB", "-"),
            ("pipe:3", "fd:3"),
            ("fd:3?max_payload=4K", "fd:3"),
            ("fifo:/run/x?max_payload=1MiB", "fifo:/run/x"),
            ("mq:/x?messages=5&message_size=4KiB&create=no", "mq:/x"),
            ("sysv:0x51?create", "sysv:0x51"),
            ("unix:/run/x?listen&uid=1000&max_payload=1MiB&upgrade=ring&capacity=64K", "unix:/run/x"),
            ("tcp:localhost:7000?listen&remote=no&max_payload=1MiB&reconnect=1.5m", "tcp:localhost:7000"),
            ("seqpacket:/run/x?listen&uid=1000&uid=1001", "seqpacket:/run/x"),
            ("dgram:/run/x?uid=0", "dgram:/run/x"),
            ("udp:[::1]:7000?remote&datagram=65507&source=::1", "udp:[::1]:7000"),
            ("signal:?signo=RTMIN+3&listen", "signal:"),
            ("signal:42?uid=7", "signal:42"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(endpoint.to_string(), said);
            assert_eq!(Endpoint::parse(said).unwrap().to_string(), said);
        }
    }

    #[test]
    fn an_invalid_endpoint_is_refused_with_the_valid_values() {
        for text in [
            "--",
            "x",
            "carrier-pigeon:coop",
            "-?colour=red",
            "fd:",
            "fd:-1",
            "fd:+1",
            "fd:99999999999",
            "fifo:",
            "fifo:a\0b",
            "-?listen=perhaps",
            "fifo:/x?listen=perhaps",
            "mq:/x?messages=many",
            "sysv:",
            "sysv:1?mode=0600",
            "unix:",
            "unix:/x?listen=perhaps",
            "unix:/x?upgrade=yes",
            "tcp:7000",
            "tcp:localhost:7000?uid=0",
            "tcp:localhost:7000?reconnect",
            "tcp:localhost:7000?reconnect=-1s",
            "seqpacket:",
            "seqpacket:/x?uid=root",
            "dgram:/x?listen=perhaps",
            "udp:localhost",
            "udp::7000",
            "udp:localhost:70000",
            "udp:localhost:1?source=localhost",
            "signal:0",
            "signal:self",
            "signal:99999999999",
            "signal:1?signo=99999",
        ] {
            assert!(matches!(Endpoint::parse(text), Err(Error::Invalid { .. })), "{text}");
        }
    }
}
