//! The sending end of a byte stream: one write per frame, or one for many. The rest of a frame that
//! the kernel took in part is sent first.
//!
//! Used through the transports that open the stream. Relies on `os/bytes.rs`. `core.rs` writes,
//! `encoded.rs` sends encoded frames, and `close.rs` finds out at the end whether everything
//! arrived.

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

/// The size of the buffer for collected frames.
const BATCH: usize = 64 << 10;
/// Up to this size, copying the parts of a frame together costs less than passing them to the
/// kernel separately.
const SMALL: usize = 1024;
/// The largest size of the answers to PINGs that wait for the sending side; further answers are
/// dropped.
const MAX_PONGS: usize = 4096;

/// The sending end of a byte stream. The transports open it: [`pipe`](crate::transport::pipe) and
/// others.
#[derive(Debug)]
pub struct Sender {
    /// `None` once it is closed.
    fd: Option<Arc<ByteFd>>,
    core: Shared,
    link: Arc<Link>,
    max_payload: usize,
    capabilities: &'static Capabilities,
    closing: bool,
    /// The error of `close`, if accepted frames did not arrive.
    lost: Option<Ending>,
}

impl Sender {
    /// Sends HELLO without waiting; if there is no room, it is sent before the first frame.
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
            // There is no receiver. But there may be frames to receive, and the first send will
            // return the error again.
            Ok(()) | Err(Error::Full | Error::Closed | Error::PeerDead) => {}
            Err(error) => return Err(error),
        }
        drop(core);
        Ok(sender)
    }

    /// A sender whose HELLO has been sent.
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

    /// How often the connection was re-established. Each time, frames that the kernel had taken may
    /// have been lost, which the receiver reports. 0 without reconnecting.
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

    /// Runs the operation, and then the work that the receiving side has left meanwhile.
    fn locked<T>(&self, action: impl FnOnce(&mut Core) -> T) -> T {
        let done = action(&mut lock(&self.core));
        answer(&self.core, &self.link);
        done
    }

    /// Runs the operation; again over the next socket, if this one breaks and another is to follow.
    fn on_line<T>(&mut self, wait: Wait, mut action: impl FnMut(&mut Core) -> Result<T>) -> Result<T> {
        if self.link.reconnect.is_none() {
            return self.locked(action);
        }
        loop {
            let (done, fd) = self.locked(|core| (action(core), core.fd.clone()));
            self.fd = fd; // the receiving end may have changed to another socket
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

    /// In one system call if there is room, and without a copy.
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
            return; // closed, or it belongs to the parent
        }
        self.read_hello();
        let mut core = lock(&self.core);
        let _ = core.finish(Wait::No); // dropping reports no error
        core.hang_up();
    }
}

/// Leaves the answer to a PING for the sending side, or sends it if no thread is sending.
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

/// The thread that holds the sending side sends an answer when it finishes, or the next thread that
/// holds it does.
fn answer(core: &Shared, link: &Link) {
    // SYNC(pong): pairs with the stores here and in `pong`. A lock protects the bytes themselves.
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
        let _ = core.drain(Wait::No); // the next send reports the error
    }
}

const NOT_YOURS: Error = Error::Invalid { what: "control kind: the transport sends HELLO and BYE itself" };

fn is_ours_to_say(header: Header) -> bool {
    header.is_control() && matches!(header.kind, control::HELLO | control::BYE)
}
