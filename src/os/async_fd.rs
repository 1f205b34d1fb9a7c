//! A descriptor that Tokio's event loop polls.
//!
//! Used by `transport/tasks.rs`. Relies on the runtime of the thread.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::poll::Ready;
use crate::error::{Error, Result};

pub(crate) struct PolledFd {
    fd: AsyncFd<OwnedFd>,
    ready: Ready,
}

impl PolledFd {
    /// Registers `fd` with the runtime of this thread, to be polled for `ready`. One system call.
    pub(crate) fn new(fd: OwnedFd, ready: Ready) -> Result<Self> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::Unsupported { what: "waiting in a thread without a runtime of Tokio: enter one" });
        }
        let interest = match ready {
            Ready::Read => Interest::READABLE,
            Ready::Write => Interest::WRITABLE,
        };
        // SAFETY: an `OwnedFd` stays open, and its number means the same file, until it is dropped,
        // which only the `AsyncFd` does: it is never lent mutably.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        let fd = registered.map_err(|error| failed(error.into_parts().1))?;
        Ok(PolledFd { fd, ready })
    }

    /// Calls `attempt` when the descriptor is ready, and again as long as it says `None`, which it
    /// says if the descriptor is not.
    pub(crate) fn poll<T>(&self, cx: &mut Context<'_>, mut attempt: impl FnMut() -> Option<T>) -> Poll<Result<T>> {
        loop {
            let ready = match self.ready {
                Ready::Read => self.fd.poll_read_ready(cx),
                Ready::Write => self.fd.poll_write_ready(cx),
            };
            let mut ready = std::task::ready!(ready).map_err(failed)?;
            match attempt() {
                None => ready.clear_ready(),
                Some(outcome) => return Poll::Ready(Ok(outcome)),
            }
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::Io { op: "wait in the runtime", source }
}
