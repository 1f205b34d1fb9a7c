//! Frames in separate messages: the common part of queues, message sockets and signals.
//!
//! Used by `mq/`, `sysv/`, `seqpacket.rs`, `dgram.rs`, `udp.rs` and `signal/`. Relies on
//! `frame/`.
//!
//! A message holds one frame. An [`Outbox`] converts frames to messages: HELLO before the first,
//! fragments of larger frames, sequence numbers, BYE at the end. An [`Inbox`] converts messages to
//! frames: it tracks which senders have sent HELLO and not BYE, reassembles fragments, reports what
//! is missing or unreadable, and distinguishes an end from a death. Each mechanism only has to
//! carry a message: an [`Outlet`] and an [`Inlet`].

mod inbox;
mod outbox;
mod talkers;
#[cfg(test)]
mod tests;

pub(super) use inbox::{Inbox, Inlet, Pulled, Waiting};
pub(super) use outbox::{Outbox, Outlet, Wire};

use std::time::Duration;

/// The longest wait without a check of the peers, because a death wakes no waiter.
pub(super) const WAIT_LIMIT: Duration = Duration::from_millis(50);

/// Whether to try to receive before waiting, where these are two calls. If the last message had to
/// be waited for, the next probably has to be as well, and trying first would cost a call. From
/// time to time it is tried nevertheless, to find out whether messages now come faster than they
/// are received.
#[derive(Debug, Default)]
pub(super) struct Habit {
    waits: u8,
}

impl Habit {
    const WAITS: u8 = 16;

    /// Whether to wait without trying first.
    pub(super) fn expects_to_wait(&mut self) -> bool {
        let expects = self.waits > 0;
        self.waits = self.waits.saturating_sub(1);
        expects
    }

    /// An attempt found no message.
    pub(super) fn waited(&mut self) {
        self.waits = Self::WAITS;
    }
}

/// Implements `Debug` for a newtype of an [`Outbox`] or an [`Inbox`].
macro_rules! debug {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let scheme = CAPABILITIES.scheme;
                f.debug_struct(stringify!($name))
                    .field("scheme", &scheme)
                    .field("max_payload", &self.0.max_payload())
                    .finish_non_exhaustive()
            }
        }
    };
}

/// Implements the trait for a newtype of an [`Outbox`].
macro_rules! sender {
    ($name:ident) => {
        crate::transport::message::debug!($name);

        impl crate::transport::FrameSender for $name {
            fn try_send(&mut self, header: crate::frame::Header, payload: &[u8]) -> crate::Result<()> {
                self.0.send(header, payload, None)
            }

            fn send_until(
                &mut self,
                header: crate::frame::Header,
                payload: &[u8],
                deadline: crate::Deadline,
            ) -> crate::Result<()> {
                self.0.send(header, payload, Some(deadline))
            }

            fn flush_until(&mut self, deadline: crate::Deadline) -> crate::Result<()> {
                self.0.flush(deadline)
            }

            fn close_until(&mut self, deadline: crate::Deadline) -> crate::Result<()> {
                self.0.close(deadline)
            }

            fn max_payload(&self) -> usize {
                self.0.max_payload()
            }

            fn capabilities(&self) -> &'static crate::transport::Capabilities {
                &CAPABILITIES
            }

            fn poll_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
                self.0.poll_fd()
            }
        }
    };
}

/// Implements the trait for a newtype of an [`Inbox`].
macro_rules! receiver {
    ($name:ident) => {
        crate::transport::message::debug!($name);

        impl crate::transport::FrameReceiver for $name {
            fn try_recv(&mut self) -> crate::Result<crate::frame::Event<'_>> {
                self.0.receive(None)
            }

            fn recv_until(&mut self, deadline: crate::Deadline) -> crate::Result<crate::frame::Event<'_>> {
                self.0.receive(Some(deadline))
            }

            fn stop(&mut self) -> bool {
                self.0.stop()
            }

            fn max_payload(&self) -> usize {
                self.0.max_payload()
            }

            fn capabilities(&self) -> &'static crate::transport::Capabilities {
                &CAPABILITIES
            }

            fn poll_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
                self.0.poll_fd()
            }
        }
    };
}

pub(super) use {debug, receiver, sender};
