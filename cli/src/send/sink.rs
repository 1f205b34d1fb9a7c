//! What frames are sent into: rings of every kind, and any other transport.
//!
//! Used by `mod.rs`. Relies on `patience.rs` where there is no room.

use std::ops::Range;

use slipring::frame::Header;
use slipring::transport::{FrameSender, FrameSenderExt};
use slipring::{Deadline, Error, mpmc, mpsc, spsc, stream};

use super::no_receiver;
use super::patience::{Patience, RingSink};
use crate::failure::Outcome;

/// Whether the receiver has left or died, or has not attached.
pub(super) fn has_no_receiver(error: &Error) -> bool {
    matches!(error, Error::Closed | Error::PeerDead | Error::NoConsumer)
}

/// Frames that were read at once.
#[derive(Clone, Copy)]
pub(super) struct Frames<'a> {
    /// The header of all of them.
    pub(super) header: Header,
    pub(super) bytes: &'a [u8],
    /// Where each payload lies in `bytes`.
    pub(super) ranges: &'a [Range<usize>],
}

impl<'a> Frames<'a> {
    fn payloads(self) -> impl Iterator<Item = &'a [u8]> {
        self.ranges.iter().map(move |range| &self.bytes[range.clone()])
    }
}

/// A destination of frames.
pub(super) trait Sink {
    /// Sends the frames, and adds their number to `sent`; on failure, the number of
    /// those before it.
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome;
}

/// A producer that makes many frames visible at once.
trait Batching: RingSink {
    fn begin(&mut self) -> spsc::WriteBatch<'_>;

    fn send_in_batches(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        let mut batch = self.begin();
        for payload in frames.payloads() {
            let refused = match batch.push_frame(frames.header, payload) {
                Ok(()) => continue,
                // The frames of the batch are dropped.
                Err(error) if patience.is_strict && has_no_receiver(&error) => return Err(no_receiver()),
                Err(error) => error,
            };
            *sent += batch.len();
            batch.commit();
            if !(matches!(refused, Error::Full) || has_no_receiver(&refused)) {
                return Err(refused.into());
            }
            patience.send_one(self, frames.header, payload)?;
            *sent += 1;
            batch = self.begin();
        }
        *sent += batch.len();
        batch.commit();
        Ok(())
    }
}

impl Batching for spsc::Producer {
    fn begin(&mut self) -> spsc::WriteBatch<'_> {
        self.batch()
    }
}

impl Sink for spsc::Producer {
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        self.send_in_batches(frames, sent, patience)
    }
}

impl Batching for mpsc::Producer {
    fn begin(&mut self) -> spsc::WriteBatch<'_> {
        self.batch()
    }
}

impl Sink for mpsc::Producer {
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        self.send_in_batches(frames, sent, patience)
    }
}

impl RingSink for mpsc::Producer {
    fn send_now(&mut self, header: Header, rest: &mut &[u8], deadline: Deadline) -> slipring::Result<()> {
        self.send_frame_deadline(header, rest, deadline)
    }

    fn wait_for_peer(&self, deadline: Deadline) -> slipring::Result<()> {
        mpsc::Producer::wait_for_peer(self, deadline)
    }
}

impl RingSink for spsc::Producer {
    fn send_now(&mut self, header: Header, rest: &mut &[u8], deadline: Deadline) -> slipring::Result<()> {
        self.send_frame_deadline(header, rest, deadline)
    }

    fn wait_for_peer(&self, deadline: Deadline) -> slipring::Result<()> {
        spsc::Producer::wait_for_peer(self, deadline)
    }
}

impl Sink for mpmc::Producer {
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        for payload in frames.payloads() {
            match self.try_send_frame(frames.header, payload) {
                Ok(()) => {}
                Err(Error::Full) => patience.send_one(self, frames.header, payload)?,
                Err(error) if has_no_receiver(&error) => patience.send_one(self, frames.header, payload)?,
                Err(error) => return Err(error.into()),
            }
            *sent += 1;
        }
        Ok(())
    }
}

impl RingSink for mpmc::Producer {
    fn send_now(&mut self, header: Header, rest: &mut &[u8], deadline: Deadline) -> slipring::Result<()> {
        self.send_frame_deadline(header, rest, deadline)
    }

    fn wait_for_peer(&self, deadline: Deadline) -> slipring::Result<()> {
        mpmc::Producer::wait_for_peer(self, deadline)
    }
}

impl Sink for stream::Producer {
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        for payload in frames.payloads() {
            patience.send_one(self, frames.header, payload)?;
            *sent += 1;
        }
        Ok(())
    }
}

impl RingSink for stream::Producer {
    fn send_now(&mut self, _header: Header, rest: &mut &[u8], deadline: Deadline) -> slipring::Result<()> {
        while !rest.is_empty() {
            match self.try_write(rest) {
                Ok(written) => *rest = &rest[written..],
                Err(Error::Full) => drop(self.reserve_deadline(1, deadline)?), // waits for room
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_for_peer(&self, deadline: Deadline) -> slipring::Result<()> {
        stream::Producer::wait_for_peer(self, deadline)
    }
}

impl Sink for Box<dyn FrameSender> {
    fn send(&mut self, frames: Frames<'_>, sent: &mut usize, patience: &Patience) -> Outcome {
        for payload in frames.payloads() {
            match self.try_send(frames.header, payload) {
                Ok(()) => {}
                Err(Error::Full) => patience
                    .insist(|until| self.send_deadline(frames.header, payload, until))
                    .map_err(|unsent| patience.without_peer(unsent))?,
                Err(error) if patience.is_strict && has_no_receiver(&error) => return Err(no_receiver()),
                Err(error) => return Err(error.into()),
            }
            *sent += 1;
        }
        // Frames that were read must not wait for the next input.
        patience.insist(|until| self.flush(until)).map_err(|unsent| patience.collected(unsent))
    }
}
