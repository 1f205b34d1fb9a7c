//! What a receiver remembers of the sender whose connection broke, so that it can tell over the
//! next socket what is missing.
//!
//! Used by the receiver. Relies on the decoder, which knows the numbers.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::frame::{Decoder, Hello, Step, Tracker};

/// The sender whose connection broke.
#[derive(Debug, Default)]
pub(in crate::transport::stream) struct Before {
    /// None if it broke before a HELLO had come.
    epoch: Option<u64>,
    /// The numbers that its streams were to go on with.
    expected: Tracker,
    /// The streams for which it has said, over this socket, how they go on.
    told: HashSet<u16>,
}

impl Before {
    /// A socket broke. Keeps what was expected of the sender, if it had said who it was, until it
    /// or another sender says HELLO.
    pub(in crate::transport::stream) fn set_aside(&mut self, decoder: &mut Decoder, epoch: Option<u64>) {
        self.told.clear();
        let expected = decoder.set_aside();
        if epoch.is_some() {
            self.epoch = epoch;
            self.expected.update(expected);
        }
    }

    /// Whether the next socket must begin with a HELLO.
    pub(in crate::transport::stream) fn expects_hello(&self) -> bool {
        self.epoch.is_some()
    }

    /// A HELLO over the next socket. Gives the gap that it tells of, if it is the first for its
    /// stream: another one is a jump in numbers, of a sender that forwards frames that another
    /// sender numbered.
    ///
    /// # Errors
    /// [`Error::PeerDead`] if it is that of another sender.
    pub(in crate::transport::stream) fn resume(
        &mut self,
        decoder: &mut Decoder,
        stream: u16,
        hello: &Hello,
    ) -> Result<Option<Step>> {
        if *self.epoch.get_or_insert(hello.epoch) != hello.epoch {
            return Err(Error::PeerDead);
        }
        let expected = self.expected.forget(stream).unwrap_or(0);
        if !self.told.insert(stream) {
            return Ok(None);
        }
        Ok(decoder.go_on(stream, expected, hello.first_seq))
    }
}
