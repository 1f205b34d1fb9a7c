//! `dgram:PATH`: frames in datagrams over Unix sockets (unix(7), `SOCK_DGRAM`): many senders, one
//! receiver, lossless.
//!
//! Used by endpoints and programs. Relies on `socket/`, and on `message/` for everything except
//! the socket itself.
//!
//! Each sender has an address (an abstract name that the kernel chooses), which identifies it to
//! the receiver. It has departed when no socket holds that address any more. The kernel adds the
//! sender's credentials to each datagram (`SCM_CREDENTIALS`): this user and root may send, other
//! users if they are [allowed](Options::allow_uid).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{Shutdown, SocketAddrUnix, SocketType, bind, connect, shutdown};

use super::message::{Inbox, Inlet, Outbox, Pulled, Waiting, Wire, receiver, sender};
pub use super::socket::options::Options;
use super::socket::path::BoundPath;
use super::socket::peer::is_allowed;
use super::socket::send_recv::{Datagrams, UNIX_BUFFER, pull, unix_message, wake_up_at_times};
use super::socket::unix;
use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::{DEFAULT_MAX_PAYLOAD, Form};
use crate::os::socket::{Received, receive};
use crate::wait::deadline::Deadline;

/// The guarantees of Unix datagrams.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "dgram",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: DEFAULT_MAX_PAYLOAD,
    survives_restart: true,
    authenticates_peer: true,
    reports_death: true,
    duplex: false,
    remote: false,
};

/// The sending end. Any number of them may send to one receiver.
///
/// If the receiver has departed, sends fail with [`Error::Closed`]; connect again for its
/// successor.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{FrameReceiver, FrameSender, dgram};
/// use std::time::Duration;
/// # let path = std::env::temp_dir().join(format!("slipring-doc-dgram-{}", std::process::id()));
/// let mut rx = dgram::Receiver::bind(&path, &dgram::Options::default())?;
/// let mut tx = dgram::Sender::connect(&path, &dgram::Options::default(), Duration::from_secs(5))?;
/// tx.send(Header::PLAIN, b"hello")?;
/// assert!(matches!(rx.recv()?, Event::Frame(frame) if frame.payload == b"hello"));
/// drop(tx);
/// assert!(matches!(rx.recv(), Err(slipring::Error::Closed)));
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct Sender(Outbox<Datagrams>);

impl Sender {
    /// Connects to the receiver at `path`, waiting for one until the deadline. Some nine system
    /// calls.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no process receives there; [`Error::Untrusted`] unless the path is a
    /// socket of this or an allowed user, in a directory that other users cannot change;
    /// [`Error::Invalid`]; [`Error::Io`].
    pub fn connect(path: impl AsRef<Path>, options: &Options, deadline: impl Into<Deadline>) -> Result<Self> {
        let socket = unix::new(SocketType::DGRAM)?;
        bind(&socket, &SocketAddrUnix::new_unnamed())
            .map_err(|e| Error::io("bind the socket to an abstract address", e))?;
        unix::connect(&socket, path.as_ref(), &options.uids, deadline.into())?;
        let wire = Wire { form: Form::Short, identified: false, message: unix_message(&socket)? };
        Outbox::open(wire, options.max_payload, |_| Ok(Datagrams::new(socket, is_refusal))).map(Sender)
    }
}

sender!(Sender);

/// The receiving end. Dropping it removes the path. Examples: [`Sender`].
pub struct Receiver(Inbox<ReceivingEnd>);

impl Receiver {
    /// Receives at `path`, at most 107 bytes long, in a directory that other users cannot change.
    /// The socket has mode 0600. A socket left over from a dead process is replaced. Some twelve
    /// system calls.
    ///
    /// # Errors
    /// [`Error::Exists`] if another process receives there; [`Error::Untrusted`] for a directory
    /// that other users may change, or if the path is not a socket; [`Error::Invalid`];
    /// [`Error::Io`].
    pub fn bind(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let socket = unix::new(SocketType::DGRAM)?;
        wake_up_at_times(&socket)?;
        set_socket_passcred(&socket, true).map_err(|e| Error::io("enable the senders' credentials", e))?;
        let path = BoundPath::bind(&socket, SocketType::DGRAM, path.as_ref())?;
        let end =
            ReceivingEnd { socket, probe: unix::new(SocketType::DGRAM)?, uids: options.uids.clone(), _path: path };
        Ok(Receiver(Inbox::new(end, UNIX_BUFFER, options.max_payload)))
    }
}

receiver!(Receiver);

/// The first send after the receiver's end is refused; later ones find the socket not connected.
fn is_refusal(error: Errno) -> bool {
    matches!(error, Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE)
}

struct ReceivingEnd {
    socket: OwnedFd,
    /// A socket to find out whether an address is still in use.
    probe: OwnedFd,
    uids: Vec<u32>,
    _path: BoundPath,
}

impl Inlet for ReceivingEnd {
    /// The sender's address; senders without one cannot be told apart.
    type Source = SocketAddrUnix;

    const TRACKED: bool = true;

    fn pull(&mut self, buffer: &mut [u8], patience: Duration) -> Result<Pulled<SocketAddrUnix>> {
        match pull(&self.socket, patience, |flags| receive(self.socket.as_fd(), buffer, flags)) {
            Ok(Received { len, uid: Some(uid), .. }) if !is_allowed(uid, &self.uids) => {
                Ok(Pulled::refused(len, "a datagram from a process of another user: allow its uid"))
            }
            Ok(Received { uid: None, len: 0, .. }) => Err(Error::Empty), // shut down, and nothing is queued
            Ok(Received { len, uid: None, .. }) => {
                Ok(Pulled::refused(len, "a datagram without its sender's credentials"))
            }
            Ok(Received { len, source, .. }) => Ok(Pulled::new(len, source)),
            Err(Errno::AGAIN) => Err(Error::Empty),
            Err(e) => Err(Error::io("receive from the socket", e)),
        }
    }

    /// Makes senders' calls fail from now on.
    fn stop(&mut self) -> Waiting {
        match shutdown(&self.socket, Shutdown::Read) {
            Ok(()) => Waiting::Last,
            Err(_) => Waiting::Lost,
        }
    }

    /// Whether no socket has the address. Sends nothing. (A living sender is connected to us, which
    /// gives `EPERM`.)
    fn is_gone(&mut self, source: &SocketAddrUnix) -> Result<bool> {
        Ok(matches!(connect(&self.probe, source), Err(Errno::CONNREFUSED | Errno::NOENT)))
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::frame::Event;
    use crate::transport::FrameReceiver;
    use rustix::net::sockopt::set_socket_send_buffer_size_force;

    #[test]
    fn a_truncated_datagram_is_reported() {
        let path = std::env::temp_dir().join(format!("slipring-dgram-cut-{}", std::process::id()));
        let mut rx = Receiver::bind(&path, &Options::default()).unwrap();
        let foreign = std::os::unix::net::UnixDatagram::unbound().unwrap();
        if set_socket_send_buffer_size_force(&foreign, 1 << 20).is_err() {
            return; // for root only
        }
        foreign.send_to(&vec![0xB7; 300_000], &path).unwrap();
        assert!(matches!(rx.recv().unwrap(), Event::Skipped { bytes: 300_000, .. }));
    }
}
