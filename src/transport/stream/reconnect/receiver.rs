//! What a receiver remembers of a sender whose connection broke, to find out over the next socket
//! what is missing.
//!
//! Used by the receiver. Relies on the decoder, which has the sequence numbers.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::frame::{Decoder, Hello, Step, Tracker};

/// The sender whose connection broke.
#[derive(Debug, Default)]
pub(in crate::transport::stream) struct Before {
    /// `None` if it broke before a HELLO came.
    epoch: Option<u64>,
    /// The expected numbers of its streams.
    expected: Tracker,
    /// The streams whose HELLO has come over this socket.
    told: HashSet<u16>,
}

impl Before {
    /// A socket broke. Keeps the expected numbers of the sender, if it had sent HELLO, until it or
    /// another sender sends HELLO.
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

    /// A HELLO over the next socket. Returns the gap that it shows, if it is the first for its
    /// stream. A later one is a jump in numbers, of a sender that forwards frames that another
    /// sender has numbered.
    ///
    /// # Errors
    /// [`Error::PeerDead`] if it comes from another sender.
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
