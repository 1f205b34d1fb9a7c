//! The bare system calls of each mechanism, one message at a time. Frames are compared with them.
//!
//! Used by `wires.rs`, which opens the descriptors.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use slipring::Error;
use slipring::probe::{MqCalls, SignalReceives, SignalSends, SysvCalls};

use crate::failure::Outcome;

/// Sends a message with as few calls as possible.
pub(super) trait BareSend: Send {
    fn send(&mut self, message: &[u8]) -> slipring::Result<()>;
}

/// Waits for a message, and receives it.
pub(super) trait BareReceive {
    fn receive(&mut self) -> slipring::Result<&[u8]>;
}

/// `read` and `write` on pipes; `recv` and `send` on sockets. Both sides know the size of a
/// message.
pub(super) struct Calls {
    fd: Arc<OwnedFd>,
    is_socket: bool,
    message: Vec<u8>,
}

impl Calls {
    pub(super) fn new(fd: Arc<OwnedFd>, is_socket: bool, size: usize) -> Self {
        Calls { fd, is_socket, message: vec![0; size] }
    }
}

impl BareSend for Calls {
    fn send(&mut self, message: &[u8]) -> slipring::Result<()> {
        let sent = uninterrupted(|| match self.is_socket {
            true => send(&self.fd, message, SendFlags::NOSIGNAL),
            false => rustix::io::write(&self.fd, message),
        });
        match sent.map_err(|e| io("write", e))? {
            sent if sent == message.len() => Ok(()),
            _ => Err(Error::Full), // cannot happen with one small message in flight
        }
    }
}

impl BareReceive for Calls {
    fn receive(&mut self) -> slipring::Result<&[u8]> {
        let mut len = 0;
        while len < self.message.len() {
            let rest = &mut self.message[len..];
            let received = uninterrupted(|| match self.is_socket {
                true => recv(&self.fd, &mut *rest, RecvFlags::empty()).map(|(_, len)| len),
                false => rustix::io::read(&self.fd, &mut *rest),
            });
            match received.map_err(|e| io("read", e))? {
                0 => return Err(Error::PeerDead),
                received => len += received,
            }
        }
        Ok(&self.message)
    }
}

/// `mq_timedsend` and `mq_timedreceive`.
pub(super) struct BareMq(MqCalls, Vec<u8>);

impl BareMq {
    pub(super) fn open(name: &str, size: usize) -> Outcome<Self> {
        Ok(BareMq(MqCalls::open(name, size)?, vec![0; size]))
    }
}

impl BareSend for BareMq {
    fn send(&mut self, message: &[u8]) -> slipring::Result<()> {
        self.0.send(message)
    }
}

impl BareReceive for BareMq {
    fn receive(&mut self) -> slipring::Result<&[u8]> {
        let len = self.0.receive(&mut self.1)?;
        Ok(&self.1[..len])
    }
}

impl BareSend for SysvCalls {
    fn send(&mut self, message: &[u8]) -> slipring::Result<()> {
        SysvCalls::send(self, message)
    }
}

impl BareReceive for SysvCalls {
    fn receive(&mut self) -> slipring::Result<&[u8]> {
        SysvCalls::receive(self)
    }
}

/// Eight bytes in a signal, which is all that a signal carries.
pub(super) struct BareSignals(SignalReceives, Vec<u8>, usize);

impl BareSignals {
    pub(super) fn new(signals: SignalReceives, size: usize) -> Self {
        BareSignals(signals, Vec::new(), size)
    }
}

impl BareSend for SignalSends {
    fn send(&mut self, message: &[u8]) -> slipring::Result<()> {
        message.chunks(8).try_for_each(|chunk| {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            SignalSends::send(self, u64::from_ne_bytes(value))
        })
    }
}

impl BareReceive for BareSignals {
    fn receive(&mut self) -> slipring::Result<&[u8]> {
        let BareSignals(signals, message, size) = self;
        message.clear();
        while message.len() < *size {
            signals.receive()?.for_each(|value| message.extend_from_slice(&value.to_ne_bytes()));
        }
        message.truncate(*size);
        Ok(message)
    }
}

fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

fn io(op: &'static str, error: impl Into<std::io::Error>) -> Error {
    Error::Io { op, source: error.into() }
}
