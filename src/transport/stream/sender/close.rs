//! The end of a sender: BYE, and whether everything that was accepted has arrived.
//!
//! Used by the sender. Relies on what the kernel tells about the other side of a descriptor.
//!
//! # What the kernel knows after the peer has departed
//! | | frames are lost if |
//! |---|---|
//! | pipe, FIFO | bytes are left in it (`FIONREAD`): nothing empties it but a reader |
//! | Unix socket | the peer closed it before it had read everything: the kernel reports a reset, once, or still counts bytes (`SIOCOUTQ`) |
//! | TCP | more than the BYE was not acknowledged (`SIOCOUTQ`), or the peer reset the connection |
//!
//! Bytes that the peer has read, or its machine has acknowledged, count as arrived. While the peer
//! lives, a pipe and a Unix socket keep what the kernel has taken; TCP is asked until everything
//! has been acknowledged.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::{Errno, ioctl_fionread};
use rustix::net::sockopt::socket_error;
use rustix::net::{Shutdown, shutdown};

use super::core::{Core, lock};
use super::{Sender, Wait};
use crate::error::{Error, Result};
use crate::frame::{Frame, Header, control};
use crate::os::bytes::ByteFd;
use crate::os::pauses::Pauses;
use crate::os::poll::has_hung_up;
use crate::os::socket::unacknowledged;
use crate::transport::ending::Ending;
use crate::wait::deadline::Deadline;

impl Sender {
    /// Sends BYE, and returns whether everything that was accepted has arrived; further calls
    /// return it again.
    pub(super) fn finish(&mut self, deadline: Deadline) -> Result<()> {
        self.closing = true;
        let wait = Wait::Until(deadline);
        while self.fd.is_some() {
            let finished = self.on_line(wait, |core| core.finish(wait));
            let Some(fd) = self.fd.clone() else { break };
            let broken = match finished {
                Err(Error::Closed) if self.link.reconnect.is_none() => Ending::Closed,
                Err(Error::PeerDead) if self.link.reconnect.is_none() => Ending::PeerDead,
                Err(error) => return Err(error),
                Ok(()) if !self.capabilities.remote || is_acknowledged(&fd, deadline)? => {
                    self.hang_up();
                    break;
                }
                Ok(()) if self.link.reconnect.is_some() => {
                    lock(&self.core).lose(&fd);
                    continue;
                }
                Ok(()) => Ending::PeerDead,
            };
            self.lost = lock(&self.core).has_lost(&fd).then_some(broken);
            self.hang_up();
        }
        self.lost.map_or(Ok(()), |broken| Err(broken.error()))
    }

    /// Whether the peer is connected: everything that was written is acknowledged, or may be after
    /// the deadline. For TCP, whose peer may have closed one direction or both.
    pub(in crate::transport) fn is_heard(&self, deadline: Deadline) -> bool {
        self.fd.as_ref().is_some_and(|fd| is_acknowledged(fd, deadline).unwrap_or(true))
    }

    fn hang_up(&mut self) {
        lock(&self.core).hang_up();
        self.fd = None;
    }
}

impl Core {
    /// Passes everything pending to the kernel, and then BYE.
    pub(super) fn finish(&mut self, wait: Wait) -> Result<()> {
        self.check()?;
        if !self.said_bye {
            self.drain(wait)?; // to find out whether a frame or only the BYE cannot be sent
            self.say_bye()?;
            self.said_bye = true;
        }
        self.drain(wait)
    }

    /// Whether accepted frames did not arrive, after the peer has departed.
    fn has_lost(&self, fd: &ByteFd) -> bool {
        if !self.accepted {
            return false;
        }
        if !self.settled {
            return true;
        }
        if !fd.is_socket() {
            return ioctl_fionread(fd).is_ok_and(|bytes| bytes > 0);
        }
        if matches!(socket_error(fd), Ok(Err(Errno::CONNRESET))) {
            self.link.was_reset.store(true, Ordering::Relaxed);
        }
        let bye = if self.said_bye && self.pending() == 0 { self.bye_len() } else { 0 };
        self.link.was_reset.load(Ordering::Relaxed) || unacknowledged(fd.as_fd()).is_ok_and(|bytes| bytes > bye)
    }

    fn bye_len(&self) -> usize {
        let bye = Header::control(control::BYE, 0).and_then(|header| Frame::new(header, &[]));
        bye.map_or(0, |bye| bye.encoded_len(self.wire.form))
    }

    pub(super) fn hang_up(&mut self) {
        self.broken = Some(Ending::Closed);
        if let Some(fd) = self.fd.take() {
            if fd.is_socket() {
                let _ = shutdown(&fd, Shutdown::Write); // fails only if the peer has departed
            }
        }
    }
}

/// Whether the other machine has everything; not if the connection is lost. The kernel does not
/// signal when the last byte was acknowledged, so it is polled at growing intervals.
fn is_acknowledged(fd: &ByteFd, deadline: Deadline) -> Result<bool> {
    let mut pauses = Pauses::new(Duration::from_micros(50), Duration::from_millis(5));
    loop {
        match unacknowledged(fd.as_fd()) {
            Ok(0) => return Ok(true),
            Ok(_) if !has_hung_up(fd.as_fd()).unwrap_or(true) => {}
            _ => return Ok(false),
        }
        if deadline.has_passed() {
            return Err(Error::Timeout);
        }
        pauses.sleep(deadline.remaining());
    }
}
