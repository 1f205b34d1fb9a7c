//! The error type of all calls. It is small, is created without an allocation, and each message
//! says what to do.
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
    /// The other side uses another version, kind or geometry.
    #[error("incompatible {what}: expected {expected}, found {found}")]
    Incompatible {
        /// Which property differs.
        what: &'static str,
        /// What this side needs.
        expected: u64,
        /// What the other side has.
        found: u64,
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

impl Error {
    /// An [`Error::Io`] from the error of a system-call wrapper.
    pub(crate) fn io(op: &'static str, source: impl Into<io::Error>) -> Self {
        Error::Io { op, source: source.into() }
    }

    /// Whether trying again later can succeed: [`Error::Full`], [`Error::Empty`] or
    /// [`Error::Timeout`].
    ///
    /// ```
    /// assert!(slipring::Error::Full.is_temporary());
    /// assert!(!slipring::Error::Closed.is_temporary());
    /// ```
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Error::Full | Error::Empty | Error::Timeout)
    }
}
