//! The slot ring: many producers, many consumers, frames up to the size of a slot. It is a work
//! queue that loses no work when a worker dies.
//!
//! A claim records the owner of a slot, so any participant can recover what a dead one left
//! unfinished. If a producer dies before committing, its frame is discarded. If a consumer dies
//! holding a frame, the frame is redelivered with a mark, or dropped and counted as lost
//! ([`Redelivery`](crate::Redelivery)).
//!
//! Frames of one producer arrive in the order in which it claimed them. A producer that is
//! *stopped* between claim and commit delays the frames behind its own; a dead one does not. `seq`
//! is the frame's position in the ring, one numbering for all producers. A number that does not
//! come belongs to an aborted claim.
//!
//! ```
//! let (tx, rx) = slipring::mpmc::pair(64, 128)?;
//! std::thread::scope(|s| {
//!     for worker in 0..2u8 {
//!         let tx = tx.clone();
//!         s.spawn(move || tx.send(&[worker]));
//!     }
//!     let mut got = [rx.recv().unwrap()[0], rx.recv().unwrap()[0]];
//!     got.sort_unstable();
//!     assert_eq!(got, [0, 1]);
//! });
//! # Ok::<(), slipring::Error>(())
//! ```

// `core.rs` has the algorithm, this file and its neighbours the handles.

mod consumer;
pub(crate) mod core;
pub(crate) mod inspect;
pub(crate) mod layout;
mod producer;
pub(crate) mod recovery;
#[cfg(feature = "transports")]
mod run;
mod seat;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;

pub use consumer::{BATCH, Consumer, Iter, ReadBatch, ReadView};
pub use producer::{Producer, WriteGrant};
#[cfg(feature = "async")]
pub use tasks::{AsyncConsumer, AsyncProducer};

use super::{Options, Ring};
use crate::error::Result;

/// An anonymous ring in this process: both ends. Sizes as for [`Options::mpmc`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (tx, rx) = slipring::mpmc::pair(16, 64)?;
/// tx.send(b"job")?;
/// assert_eq!(&*rx.recv()?, b"job");
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(slots: usize, payload: usize) -> Result<(Producer, Consumer)> {
    let ring = Ring::create_anonymous(&Options::mpmc(slots, payload))?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&ring)?))
}
