//! The frames of requests and replies, and the rings or transports that carry them.
//!
//! Used by `client.rs` and `server.rs`. Relies on `ring/` and `transport/`.
//!
//! ```text
//! kind        from    stream  payload
//! REQUEST     client  lane    call 8 | deadline 8 (ns of CLOCK_MONOTONIC, all ones: never) | request
//! CANCEL      client  lane    call 8
//! JOIN        client  lane    nothing
//! REPLY       server  0       call 8 | reply
//! UNANSWERED  server  0       call 8
//! WELCOME     server  0       number of this run of the server 8 | membership of the lane 8
//! ```
//! The membership changes with the participants of the lane's ring: by it the client knows which of
//! two servers that followed each other is there now. It is 0 over a transport, which has one peer.
//!
//! All numbers are little-endian.

use crate::error::{Error, Result};
#[cfg(feature = "transports")]
use crate::frame::Event;
use crate::frame::{Flags, Header};
use crate::ring::{mpmc, spsc};
#[cfg(feature = "async")]
use crate::set::source::Readiness;
#[cfg(feature = "transports")]
use crate::transport::{FrameReceiver, FrameSender};
use crate::wait::cancel::Canceller;
use crate::wait::deadline::Deadline;

pub(super) const REQUEST: u16 = 0x0101;
pub(super) const CANCEL: u16 = 0x0102;
pub(super) const JOIN: u16 = 0x0103;
pub(super) const REPLY: u16 = 0x0104;
pub(super) const UNANSWERED: u16 = 0x0105;
pub(super) const WELCOME: u16 = 0x0106;

/// Bytes before a request.
pub(super) const REQUEST_HEAD: usize = 16;
/// Bytes before a reply.
pub(super) const REPLY_HEAD: usize = 8;

/// The first words of a payload, and the rest.
pub(super) fn split<const N: usize>(payload: &[u8]) -> Result<([u64; N], &[u8])> {
    let Some((head, rest)) = payload.split_at_checked(8 * N) else {
        return Err(Error::Corrupt { what: "frame of a call: too short" });
    };
    let word = |n: usize| u64::from_le_bytes(std::array::from_fn(|i| head[8 * n + i]));
    Ok((std::array::from_fn(word), rest))
}

/// How long a call may wait.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    Not,
    Until(Deadline),
}

/// What carries frames away.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a connection; a box would put a pointer before every frame")]
pub(super) enum Outgoing {
    Spsc(spsc::Producer),
    Mpmc(mpmc::Producer),
    #[cfg(feature = "transports")]
    Wire(Wire),
}

/// A boxed sender, and the payload that is put together for it.
#[cfg(feature = "transports")]
pub(super) struct Wire {
    sender: Box<dyn FrameSender>,
    payload: Vec<u8>,
}

#[cfg(feature = "transports")]
impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("scheme", &self.sender.capabilities().scheme).finish_non_exhaustive()
    }
}

impl Outgoing {
    #[cfg(feature = "transports")]
    pub(super) fn wire(sender: Box<dyn FrameSender>) -> Result<Self> {
        check(sender.capabilities())?;
        Ok(Outgoing::Wire(Wire { sender, payload: Vec::new() }))
    }

    /// The largest payload behind a head of so many bytes.
    pub(super) fn max_payload(&self, head: usize) -> usize {
        let max = match self {
            Outgoing::Spsc(producer) => producer.max_payload(),
            Outgoing::Mpmc(producer) => producer.max_payload(),
            #[cfg(feature = "transports")]
            Outgoing::Wire(wire) => wire.sender.max_payload(),
        };
        max.saturating_sub(head)
    }

    /// Whether both ends are on one machine, and so share a clock.
    pub(super) fn is_local(&self) -> bool {
        match self {
            #[cfg(feature = "transports")]
            Outgoing::Wire(wire) => !wire.sender.capabilities().remote,
            _ => true,
        }
    }

    /// As [`Incoming::membership`].
    pub(super) fn membership(&self) -> u64 {
        match self {
            Outgoing::Spsc(producer) => producer.ring().membership(),
            Outgoing::Mpmc(producer) => producer.ring().membership(),
            #[cfg(feature = "transports")]
            Outgoing::Wire(_) => 0,
        }
    }

    /// Sends the words and the payload as one frame, written in place in a ring.
    #[inline(always)]
    pub(super) fn send<const N: usize>(
        &mut self,
        kind: u16,
        stream: u16,
        head: [u64; N],
        payload: &[u8],
        wait: Wait,
    ) -> Result<()> {
        let header = Header { flags: Flags::WHOLE, kind, stream, ..Header::PLAIN };
        let len = 8 * N + payload.len();
        let fill = |room: &mut [u8]| {
            for (n, word) in head.into_iter().enumerate() {
                room[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
            }
            room[8 * N..len].copy_from_slice(payload);
        };
        match self {
            Outgoing::Spsc(producer) => {
                let deadline = match wait {
                    Wait::Not => None,
                    Wait::Until(deadline) => Some(deadline),
                };
                producer.send_words_and(header, head, payload, deadline)
            }
            Outgoing::Mpmc(producer) => {
                let mut grant = match wait {
                    Wait::Not => producer.try_reserve(len),
                    Wait::Until(deadline) => producer.reserve_deadline(len, deadline),
                }?;
                fill(&mut grant);
                grant.commit_frame(header, len)
            }
            #[cfg(feature = "transports")]
            Outgoing::Wire(wire) => {
                wire.payload.resize(len, 0);
                fill(&mut wire.payload);
                match wait {
                    Wait::Not => wire.sender.try_send(header, &wire.payload)?,
                    Wait::Until(deadline) => wire.sender.send_until(header, &wire.payload, deadline)?,
                }
                // What stays collected is sent by the next flush, and later frames are behind it.
                match wire.sender.flush_until(Deadline::from_ns(0)) {
                    Err(Error::Timeout) => match wait {
                        Wait::Not => Ok(()),
                        Wait::Until(deadline) => wire.sender.flush_until(deadline),
                    },
                    flushed => flushed,
                }
            }
        }
    }

    /// Sends what a transport has collected, as far as that is possible without waiting;
    /// [`Error::Full`] if some of it is left.
    #[cfg(feature = "async")]
    pub(super) fn try_flush(&mut self) -> Result<()> {
        match self {
            #[cfg(feature = "transports")]
            Outgoing::Wire(wire) => match wire.sender.flush_until(Deadline::from_ns(0)) {
                Err(Error::Timeout) => Err(Error::Full),
                flushed => flushed,
            },
            _ => Ok(()),
        }
    }

    /// What the reactor needs to wait for room for a frame of `len` bytes.
    #[cfg(feature = "async")]
    pub(super) fn writable(&self, len: usize) -> Result<Readiness> {
        match self {
            Outgoing::Spsc(producer) => Ok(producer.writable(len)),
            Outgoing::Mpmc(producer) => Ok(producer.writable()),
            #[cfg(feature = "transports")]
            Outgoing::Wire(wire) => wire.sender.poll_fd().map_or(Err(NO_DESCRIPTOR), Readiness::writable_fd),
        }
    }
}

/// What brings frames.
#[allow(clippy::large_enum_variant, reason = "one a connection; a box would put a pointer before every frame")]
pub(super) enum Incoming {
    Spsc(spsc::Consumer),
    Mpmc(mpmc::Consumer),
    #[cfg(feature = "transports")]
    Wire(Box<dyn FrameReceiver>),
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Incoming::Spsc(consumer) => consumer.fmt(f),
            Incoming::Mpmc(consumer) => consumer.fmt(f),
            #[cfg(feature = "transports")]
            Incoming::Wire(receiver) => f.debug_tuple("Wire").field(&receiver.capabilities().scheme).finish(),
        }
    }
}

impl Incoming {
    #[cfg(feature = "transports")]
    pub(super) fn wire(receiver: Box<dyn FrameReceiver>) -> Result<Self> {
        check(receiver.capabilities())?;
        Ok(Incoming::Wire(receiver))
    }

    /// Passes the next frame to `take`, and releases it.
    #[inline]
    pub(super) fn take<R>(&mut self, wait: Wait, take: impl FnOnce(Header, &[u8]) -> R) -> Result<R> {
        match self {
            Incoming::Spsc(consumer) => {
                let view = match wait {
                    Wait::Not => consumer.try_recv(),
                    Wait::Until(deadline) => consumer.recv_deadline(deadline),
                }?;
                Ok(take(view.header(), &view))
            }
            Incoming::Mpmc(consumer) => {
                let view = match wait {
                    Wait::Not => consumer.try_recv(),
                    Wait::Until(deadline) => consumer.recv_deadline(deadline),
                }?;
                Ok(take(view.header(), &view))
            }
            #[cfg(feature = "transports")]
            Incoming::Wire(receiver) => loop {
                let event = match wait {
                    Wait::Not => receiver.try_recv(),
                    Wait::Until(deadline) => receiver.recv_until(deadline),
                }?;
                match event {
                    Event::Frame(frame) if frame.header.is_control() => {}
                    Event::Frame(frame) => return Ok(take(frame.header, frame.payload)),
                    _ => return Err(Error::Corrupt { what: "frames of calls: some are missing or unreadable" }),
                }
            },
        }
    }

    /// Whether no participant of the ring has come or gone since this was `membership`. One load; a
    /// transport has one peer only.
    #[inline]
    pub(super) fn is_unchanged(&self, membership: u64) -> bool {
        self.membership() == membership
    }

    /// A number that changes with the participants of the ring.
    pub(super) fn membership(&self) -> u64 {
        match self {
            Incoming::Spsc(consumer) => consumer.ring().membership(),
            Incoming::Mpmc(consumer) => consumer.ring().membership(),
            #[cfg(feature = "transports")]
            Incoming::Wire(_) => 0,
        }
    }

    pub(super) fn canceller(&self) -> Option<Canceller> {
        match self {
            Incoming::Spsc(consumer) => Some(consumer.canceller()),
            Incoming::Mpmc(consumer) => Some(consumer.canceller()),
            #[cfg(feature = "transports")]
            Incoming::Wire(_) => None,
        }
    }

    /// Whether another peer can come after the end of this one.
    pub(super) fn is_ring(&self) -> bool {
        matches!(self, Incoming::Spsc(_) | Incoming::Mpmc(_))
    }

    /// Waits until a peer is attached to a ring.
    pub(super) fn wait_for_peer(&self, deadline: Deadline) -> Result<()> {
        match self {
            Incoming::Spsc(consumer) => consumer.wait_for_peer(deadline),
            Incoming::Mpmc(consumer) => consumer.wait_for_peer(deadline),
            #[cfg(feature = "transports")]
            Incoming::Wire(_) => Ok(()),
        }
    }

    /// What the reactor needs to wait for a frame.
    #[cfg(feature = "async")]
    pub(super) fn readable(&self) -> Result<Readiness> {
        match self {
            Incoming::Spsc(consumer) => Ok(consumer.readable()),
            Incoming::Mpmc(consumer) => Ok(consumer.readable()),
            #[cfg(feature = "transports")]
            Incoming::Wire(receiver) => receiver.poll_fd().map_or(Err(NO_DESCRIPTOR), Readiness::readable_fd),
        }
    }
}

#[cfg(all(feature = "async", feature = "transports"))]
const NO_DESCRIPTOR: Error =
    Error::Unsupported { what: "calls by tasks over a transport without a descriptor to poll: take another one" };

/// Calls need a transport that loses nothing.
#[cfg(feature = "transports")]
fn check(capabilities: &crate::transport::Capabilities) -> Result<()> {
    if capabilities.lossless {
        return Ok(());
    }
    Err(Error::Unsupported { what: "calls over a transport that may lose frames: take one that is lossless" })
}
