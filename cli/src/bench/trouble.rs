//! Why a run stopped.
//!
//! Used by the measured loops, and by what runs them.

use slipring::Error;

use crate::failure::{Failure, LOST};

/// Why a run stopped.
pub(super) enum Trouble {
    /// A ring or probe returned an error, perhaps because its other side has ended.
    Ring(Error),
    /// The received messages are not the sent ones.
    Wrong(String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Ring(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Ring(error) => error.into(),
            Trouble::Wrong(what) => Failure::new(LOST, what),
        }
    }
}
