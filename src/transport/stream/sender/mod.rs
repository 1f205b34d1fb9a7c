//! The sending end of a byte stream: one write a frame, or one for many; what the kernel took only
//! a part of is finished first.
//!
//! Used through the transports that open the stream. Relies on `os/bytes.rs`. `core.rs` writes,
//! `encoded.rs` passes on frames that are encoded already, and `close.rs` tells at the end whether
//! everything arrived.

mod close;
mod core;
mod encoded;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) use self::core::{Shared, lock};

use self::core::Core;
use super::reconnect::Reconnect;
use super::{Link, Options, Wait, Wire, hello};
use crate::error::{Error, Result};
use crate::frame::{Form, Frame, Header, Hello, Sequencer, control};
use crate::os::bytes::{ByteFd, PIPE_BUF};
use crate::transport::ending::Ending;
use crate::transport::{Capabilities, FrameSender};
use crate::wait::deadline::Deadline;

/// How much is collected.
const BATCH: usize = 64 << 10;
/// Up to this size it is cheaper to copy a frame together than to hand the kernel its parts.
const SMALL: usize = 1024;
/// Answers to PINGs that wait for the sending side, in bytes; more are dropped.
const MAX_PONGS: usize = 4096;

/// The sending end of a byte stream. Made by the transports: [`pipe`](crate::transport::pipe) and
/// others.
#[derive(Debug)]
pub struct Sender {
    /// None once it is closed.
    fd: Option<Arc<ByteFd>>,
    core: Shared,
    link: Arc<Link>,
    max_payload: usize,
    capabilities: &'static Capabilities,
    closing: bool,
    /// Frames were accepted and did not arrive: what `close` has to say of them.
    lost: Option<Ending>,
}

impl Sender {
    /// Says HELLO, without waiting: if there is no room, it goes ahead of the first frame.
    pub(super) fn begin(
        fd: Arc<ByteFd>,
        link: Arc<Link>,
        wire: Wire,
        options: &Options,
        several: bool,
    ) -> Result<Self> {
        let sender = Self::after_hello(hello(wire, options)?, fd, link, wire, options, several);
        let mut core = lock(&sender.core);
        core.say_hello(0, 0)?;
        match core.drain(Wait::No) {
            // Nobody receives; but there may be something to receive, and the first frame will say
            // it again.
            Ok(()) | Err(Error::Full | Error::Closed | Error::PeerDead) => {}
            Err(error) => return Err(error),
        }
        drop(core);
        Ok(sender)
    }

    /// A sender whose HELLO has been said.
    pub(super) fn after_hello(
        hello: Hello,
        fd: Arc<ByteFd>,
        link: Arc<Link>,
        wire: Wire,
        options: &Options,
        several: bool,
    ) -> Self {
        let core = Core {
            fd: Some(fd.clone()),
            link: link.clone(),
            wire,
            hello,
            sequencer: Sequencer::new(),
            out: Vec::with_capacity(if several { PIPE_BUF } else { BATCH }),
            at: 0,
            batch: options.batch,
            several,
            repeats: link.reconnect.is_some(),
            said_bye: false,
            accepted: false,
            settled: true,
            broken: None,
        };
        Sender {
            fd: Some(fd),
            core: Arc::new(Mutex::new(core)),
            link,
            max_payload: options.max_payload,
            capabilities: wire.capabilities,
            closing: false,
            lost: None,
        }
    }

    /// How often the connection has been made anew: each time, what the kernel had taken may have
    /// been lost, of which the receiver knows. 0 where connections that break are not mended.
    #[must_use]
    pub fn reconnections(&self) -> u64 {
        self.link.reconnect.as_ref().map_or(0, Reconnect::count)
    }

    pub(super) fn shared(&self) -> Shared {
        self.core.clone()
    }

    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        lock(&self.core).pending()
    }

    /// Does it, and what the receiving side asked for meanwhile.
    fn locked<T>(&self, action: impl FnOnce(&mut Core) -> T) -> T {
        let done = action(&mut lock(&self.core));
        answer(&self.core, &self.link);
        done
    }

    /// Does it; over the next socket, if this one breaks and another is to follow.
    fn on_line<T>(&mut self, wait: Wait, mut action: impl FnMut(&mut Core) -> Result<T>) -> Result<T> {
        if self.link.reconnect.is_none() {
            return self.locked(action);
        }
        loop {
            let (done, fd) = self.locked(|core| (action(core), core.fd.clone()));
            self.fd = fd; // the receiving end may have gone over to another
            match (&done, &self.fd, &self.link.reconnect) {
                (Err(Error::Closed | Error::PeerDead), Some(lost), Some(reconnect)) => {
                    self.fd = Some(reconnect.next(lost, wait, Error::Full, |fd| lock(&self.core).renew(fd))?);
                }
                _ => return done,
            }
        }
    }

    /// Reads the peer's HELLO for a receiving end that reads nothing: see `early_hello.rs`.
    fn read_hello(&self) {
        let Some(fd) = self.fd.as_ref().filter(|_| self.capabilities.remote && self.link.duplex) else { return };
        if let Some(hello) = self.link.early.read(fd) {
            self.link.peer_max.store(hello.max_payload as usize, Ordering::Relaxed);
        }
    }

    fn submit(&mut self, header: Header, payload: &[u8], wait: Wait) -> Result<()> {
        if payload.len() > self.max_payload() {
            return Err(Error::TooLarge { max: self.max_payload() });
        }
        if is_ours_to_say(header.checked()?) {
            return Err(NOT_YOURS);
        }
        if self.closing {
            return Err(Error::Closed);
        }
        self.on_line(wait, |core| core.submit(header, payload, wait))
    }
}

impl FrameSender for Sender {
    fn try_send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.submit(header, payload, Wait::No)
    }

    fn send_until(&mut self, header: Header, payload: &[u8], deadline: Deadline) -> Result<()> {
        self.submit(header, payload, Wait::Until(deadline))
    }

    /// In one system call, if there is room, and from where they lie.
    fn send_encoded_until(&mut self, frames: &[u8], deadline: Deadline) -> Result<usize> {
        if self.closing {
            return Err(Error::Closed);
        }
        let (max, wait) = (self.max_payload(), Wait::Until(deadline));
        self.on_line(wait, |core| core.send_encoded(frames, max, wait))
    }

    fn takes_encoded(&self) -> bool {
        true
    }

    /// Over TCP, also reads the peer's HELLO if the receiving end reads nothing.
    fn flush_until(&mut self, deadline: Deadline) -> Result<()> {
        let wait = Wait::Until(deadline);
        let flushed = self.on_line(wait, |core| core.drain(wait));
        self.read_hello();
        flushed
    }

    fn close_until(&mut self, deadline: Deadline) -> Result<()> {
        self.finish(deadline)
    }

    fn max_payload(&self) -> usize {
        self.max_payload.min(self.link.peer_max())
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.capabilities
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| !self.link.is_between()).map(|fd| fd.as_fd())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.fd.as_ref().is_none_or(|fd| fd.is_the_parents()) {
            return; // closed, or not ours to close
        }
        self.read_hello();
        let mut core = lock(&self.core);
        let _ = core.finish(Wait::No); // dropping reports no error
        core.hang_up();
    }
}

/// Leaves the answer to a PING for the sending side, or does its work if it has none.
pub(super) fn pong(core: &Shared, link: &Link, form: Form, ping: Frame<'_>) -> Result<()> {
    let header = Header { kind: control::PONG, ..ping.header };
    let pong = Frame::new(header, ping.payload)?;
    let mut pongs = link.pongs.lock().unwrap_or_else(PoisonError::into_inner);
    if pongs.len() + pong.encoded_len(form) <= MAX_PONGS {
        pong.encode(form, &mut pongs)?;
        // SYNC(pong): pairs with the load in `answer`.
        link.pongs_wait.store(true, Ordering::Release);
    }
    drop(pongs);
    answer(core, link);
    Ok(())
}

/// An answer is sent by the thread that holds the sending side when it is left, or by the next one
/// that does.
fn answer(core: &Shared, link: &Link) {
    // SYNC(pong): pairs with the stores here and in `pong`. The bytes themselves lie behind a lock.
    while link.pongs_wait.load(Ordering::Acquire) {
        let Ok(mut core) = core.try_lock() else { return };
        if core.pending() > BATCH {
            return; // the peer reads nothing
        }
        link.pongs_wait.store(false, Ordering::Release);
        let mut pongs = link.pongs.lock().unwrap_or_else(PoisonError::into_inner);
        if core.broken.is_none() && !core.said_bye {
            core.out.extend_from_slice(&pongs);
        }
        pongs.clear();
        drop(pongs);
        let _ = core.drain(Wait::No); // what is wrong with it, the next send will say
    }
}

const NOT_YOURS: Error = Error::Invalid { what: "control kind: the transport says HELLO and BYE itself" };

fn is_ours_to_say(header: Header) -> bool {
    header.is_control() && matches!(header.kind, control::HELLO | control::BYE)
}
