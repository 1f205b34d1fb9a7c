//! How a peer ended: by closing or by dying.
//!
//! Used by the byte streams, the message transports and the upgraded connections, which keep it and
//! report it on every later call.

use crate::error::Error;

/// How a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It sent BYE, or closed the channel in an orderly way.
    Closed,
    /// It died, or the connection broke.
    PeerDead,
}

impl Ending {
    pub(super) fn error(self) -> Error {
        match self {
            Ending::Closed => Error::Closed,
            Ending::PeerDead => Error::PeerDead,
        }
    }
}
