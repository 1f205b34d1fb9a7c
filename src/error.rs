//! The error type of all calls. It is small, is created without an allocation (but for
//! [`Error::OtherType`]), and each message says what to do.
//!
//! Used by every floor. Relies on no other module.

use std::io;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// All errors of this crate, from a full ring to a forged segment.
///
/// [`Full`](Error::Full), [`Empty`](Error::Empty) and [`Timeout`](Error::Timeout) are expected
/// results of the `try_…` and `…_deadline` calls; [`Closed`](Error::Closed) and
/// [`PeerDead`](Error::PeerDead) tell the end of a peer.
///
/// ```
/// let (mut tx, _rx) = slipring::spsc::pair(4096)?;
/// let error = tx.try_send(&[0; 8192]).unwrap_err();
/// assert!(matches!(error, slipring::Error::TooLarge { .. }));
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no room until a consumer releases frames.
    #[error("full: wait for the consumer to make room")]
    Full,
    /// There is no frame to receive.
    #[error("empty: wait for the producer to send")]
    Empty,
    /// Every peer of the other role has closed, and nothing is left to receive.
    #[error("closed: the other side has finished")]
    Closed,
    /// A peer died without closing. All frames that it had committed were delivered first.
    #[error("the peer died without closing; all that it had committed was delivered first")]
    PeerDead,
    /// The writer of a [`latest`](crate::latest) value replaced it during each of 1,000 copies.
    #[error("overtaken: the value was replaced faster than it could be copied; read again, or write less often")]
    Overtaken,
    /// The publisher of a broadcast ring has evicted this subscriber, because it left no room for
    /// too long ([`SlowPolicy::Evict`](crate::broadcast::SlowPolicy::Evict)).
    #[error("evicted: this subscriber was too slow for the publisher; subscribe again, or be lossy")]
    Evicted,
    /// The server of a call dropped the request without an answer: see [`rpc`](crate::rpc).
    #[error("unanswered: the server dropped the request; it may have refused or failed to handle it")]
    Unanswered,
    /// The deadline passed.
    #[error("timed out")]
    Timeout,
    /// A [`Canceller`](crate::Canceller) ended the wait of the call.
    #[error("cancelled: the call was told not to wait; reset its canceller to wait again")]
    Cancelled,
    /// The payload is larger than the ring allows: send smaller frames or create a larger ring.
    #[error("the payload is too large: at most {max} bytes fit; split it, or create the channel with a higher limit")]
    TooLarge {
        /// The largest payload that fits, in bytes.
        max: usize,
    },
    /// Shared memory or a byte stream contains what no correct peer writes.
    #[error("corrupt: {what}; create it again, or connect again")]
    Corrupt {
        /// What is wrong.
        what: &'static str,
    },
    /// The other side uses another version or kind, another number of permits, or another size of a
    /// mutex or message. The sizes of a ring that exists are not compared: it is used as it is.
    #[error("incompatible {what}: expected {expected}, found {found}")]
    Incompatible {
        /// Which property differs.
        what: &'static str,
        /// What this side needs.
        expected: u64,
        /// What the other side has.
        found: u64,
    },
    /// The messages have another type than this side expects: see [`typed`](crate::typed).
    #[error("the messages have another type: expected {expected}, found {found}")]
    OtherType {
        /// What this side expects.
        expected: Box<str>,
        /// What the ring or the sender has.
        found: Box<str>,
    },
    /// The count of a [`SignalSemaphore`](crate::SignalSemaphore) would exceed its maximum: nothing
    /// was added.
    #[error("the count of the semaphore would exceed {max}: wait until its waiters have taken some")]
    Overflow {
        /// The highest count.
        max: u32,
    },
    /// There is nothing of that name, or no peer listens there.
    #[error("not found: create it, or start the other side first")]
    NotFound,
    /// The name or address is in use.
    #[error("already exists: open it, remove it, or choose another name")]
    Exists,
    /// Sending was refused because no consumer has attached since the producer did, and
    /// [`Options::fail_without_consumer`](crate::Options::fail_without_consumer) asks for that.
    #[error("no consumer is attached: start one first, or let frames wait for it by leaving out fail_without_consumer")]
    NoConsumer,
    /// The role allows one participant only, and a living one holds it.
    #[error("a {role} is already attached: wait for it to close, or use an mpmc ring")]
    RoleTaken {
        /// "producer" or "consumer".
        role: &'static str,
    },
    /// Living processes hold every participant id of the segment.
    #[error("all {max} participant ids are taken: close some handles, or create the segment with more participants")]
    TooManyParticipants {
        /// How many ids the segment has.
        max: u32,
    },
    /// Every lane of an mpsc ring has a producer, or frames or the end of an earlier one that the
    /// consumer has not received yet.
    #[error("all {lanes} lanes are in use: wait for a producer to leave and for the consumer, or create more lanes")]
    NoFreeLane {
        /// How many lanes the ring has.
        lanes: u32,
    },
    /// A name, size or option that is never valid.
    #[error("invalid {what}")]
    Invalid {
        /// Which one, and what is allowed.
        what: &'static str,
    },
    /// Refused for safety: the file or directory is not as a trustworthy peer would have created
    /// it.
    #[error("refused: {what}")]
    Untrusted {
        /// What was found, and what would be accepted.
        what: &'static str,
    },
    /// The machine or kernel does not support what was requested.
    #[error("not available here: {what}")]
    Unsupported {
        /// What is lacking, and the fix.
        what: &'static str,
    },
    /// The handle was inherited by a child through `fork`; open the ring again there.
    #[error("this handle belongs to the parent process: open the ring again after fork")]
    Forked,
    /// A system call failed.
    #[error("{op}: {source}")]
    Io {
        /// What the call was for.
        op: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What a caller can do about an [`Error`]: see [`Error::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try again later: [`Error::Full`], [`Error::Empty`], [`Error::Overtaken`], [`Error::Timeout`],
    /// [`Error::Overflow`].
    Temporary,
    /// The peers have left, or none has come: [`Error::Closed`], [`Error::PeerDead`],
    /// [`Error::NoConsumer`]; or they do not wait for this one any more: [`Error::Evicted`],
    /// [`Error::Unanswered`].
    NoPeer,
    /// The caller ended the call: [`Error::Cancelled`].
    Cancelled,
    /// Call it otherwise: [`Error::Invalid`], [`Error::TooLarge`], [`Error::Forked`],
    /// [`Error::Unsupported`].
    Usage,
    /// Something is there that should not be, or the other way round: [`Error::NotFound`],
    /// [`Error::Exists`], [`Error::RoleTaken`], [`Error::TooManyParticipants`],
    /// [`Error::NoFreeLane`].
    Conflict,
    /// Do not use what is there: [`Error::Corrupt`], [`Error::Incompatible`], [`Error::OtherType`],
    /// [`Error::Untrusted`].
    Refused,
    /// The system failed: [`Error::Io`].
    System,
}

impl Error {
    /// An [`Error::Io`] from the error of a system-call wrapper.
    pub(crate) fn io(op: &'static str, source: impl Into<io::Error>) -> Self {
        Error::Io { op, source: source.into() }
    }

    /// What a caller can do about it. The calls that send or receive without waiting fail with
    /// [`ErrorKind::Temporary`], and with [`ErrorKind::NoPeer`] at the end; the others are rare.
    ///
    /// ```
    /// use slipring::{Error, ErrorKind};
    /// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
    /// assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::Temporary);
    /// assert_eq!(tx.try_send(&[0; 9000]).unwrap_err().kind(), ErrorKind::Usage);
    /// tx.close();
    /// assert_eq!(rx.try_recv().unwrap_err().kind(), ErrorKind::NoPeer);
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Full | Error::Empty | Error::Overtaken | Error::Timeout | Error::Overflow { .. } => {
                ErrorKind::Temporary
            }
            Error::Closed | Error::PeerDead | Error::NoConsumer | Error::Evicted | Error::Unanswered => {
                ErrorKind::NoPeer
            }
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Invalid { .. } | Error::TooLarge { .. } | Error::Forked | Error::Unsupported { .. } => {
                ErrorKind::Usage
            }
            Error::NotFound
            | Error::Exists
            | Error::RoleTaken { .. }
            | Error::TooManyParticipants { .. }
            | Error::NoFreeLane { .. } => ErrorKind::Conflict,
            Error::Corrupt { .. } | Error::Incompatible { .. } | Error::OtherType { .. } | Error::Untrusted { .. } => {
                ErrorKind::Refused
            }
            Error::Io { .. } => ErrorKind::System,
        }
    }

    /// Whether trying again later can succeed: [`Error::Full`], [`Error::Empty`],
    /// [`Error::Overtaken`], [`Error::Timeout`] or [`Error::Overflow`].
    ///
    /// ```
    /// assert!(slipring::Error::Full.is_temporary());
    /// assert!(!slipring::Error::Closed.is_temporary());
    /// ```
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.kind() == ErrorKind::Temporary
    }
}

/// Two system errors are equal if they come from the same call with the same error number, or kind
/// where there is none.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        use Error::*;
        match (self, other) {
            (TooLarge { max: a }, TooLarge { max: b }) => a == b,
            (TooManyParticipants { max: a }, TooManyParticipants { max: b })
            | (NoFreeLane { lanes: a }, NoFreeLane { lanes: b })
            | (Overflow { max: a }, Overflow { max: b }) => a == b,
            (RoleTaken { role: a }, RoleTaken { role: b }) => a == b,
            (Corrupt { what: a }, Corrupt { what: b })
            | (Invalid { what: a }, Invalid { what: b })
            | (Untrusted { what: a }, Untrusted { what: b })
            | (Unsupported { what: a }, Unsupported { what: b }) => a == b,
            (
                Incompatible { what, expected, found },
                Incompatible { what: other_what, expected: other_expected, found: other_found },
            ) => (what, expected, found) == (other_what, other_expected, other_found),
            (OtherType { expected, found }, OtherType { expected: other_expected, found: other_found }) => {
                (expected, found) == (other_expected, other_found)
            }
            (Io { op, source }, Io { op: other_op, source: other }) => {
                op == other_op && source.raw_os_error() == other.raw_os_error() && source.kind() == other.kind()
            }
            // The others have no fields.
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_equal_if_kind_and_values_are() {
        let io = |errno| Error::io("open the file", io::Error::from_raw_os_error(errno));
        let all = || {
            [
                Error::Full,
                Error::Closed,
                Error::TooLarge { max: 1 },
                Error::TooLarge { max: 2 },
                Error::Corrupt { what: "a" },
                Error::Invalid { what: "a" },
                Error::Invalid { what: "b" },
                Error::Incompatible { what: "kind", expected: 1, found: 2 },
                Error::Incompatible { what: "kind", expected: 1, found: 3 },
                io(1),
                io(2),
            ]
        };
        for (i, one) in all().iter().enumerate() {
            for (j, other) in all().iter().enumerate() {
                assert_eq!(one == other, i == j, "{one:?}, {other:?}");
            }
        }
    }
}
