//! The byte ring: one producer, one consumer, frames of any size. It is the fastest ring.
//!
//! A frame is written in place or copied in, committed by one release store, found by one acquire
//! load, and read in place or copied out. The data is mapped twice in a row, so every payload is
//! one slice.
//!
//! ```
//! let (mut tx, mut rx) = slipring::spsc::pair(1 << 16)?;
//! tx.send(b"hello")?;
//! assert_eq!(&*rx.recv()?, b"hello");
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Between processes
//!
//! The side that comes first creates the ring.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-spsc-{}", std::process::id()));
//! use slipring::{Options, spsc};
//! let options = Options::spsc(1 << 20).directory(&dir);
//! let mut tx = spsc::Producer::open("ticks", &options)?; // in one process
//! let mut rx = spsc::Consumer::open("ticks", &options)?; // in another
//! tx.send(b"EURUSD 1.0842")?;
//! assert_eq!(&*rx.recv()?, b"EURUSD 1.0842");
//! # slipring::Ring::remove("ticks", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # What must not compile
//!
//! A handle belongs to one thread at a time (`Send`, not `Sync`), a view borrows its consumer, a
//! grant its producer:
//!
//! ```compile_fail
//! let (tx, _rx) = slipring::spsc::pair(4096).unwrap();
//! std::thread::scope(|s| { s.spawn(|| &tx); });
//! ```
//! ```compile_fail
//! let (_tx, mut rx) = slipring::spsc::pair(4096).unwrap();
//! let first = rx.try_recv().unwrap();
//! let second = rx.try_recv().unwrap(); // while the first is still held
//! drop(first);
//! ```
//! ```compile_fail
//! let (mut tx, _rx) = slipring::spsc::pair(4096).unwrap();
//! let grant = tx.try_reserve(8).unwrap();
//! tx.try_send(b"overtakes the grant").unwrap();
//! drop(grant);
//! ```
//! ```compile_fail
//! let (mut tx, _rx) = slipring::spsc::pair(4096).unwrap();
//! let mut batch = tx.batch();
//! batch.push(b"first").unwrap();
//! tx.try_send(b"overtakes the batch").unwrap();
//! batch.commit();
//! ```
//! ```compile_fail
//! let (_tx, mut rx) = slipring::spsc::pair(4096).unwrap();
//! let mut batch = rx.try_recv_batch(8).unwrap();
//! let frame = batch.iter().next().unwrap();
//! drop(batch); // releases the frame while it is still borrowed
//! assert!(frame.payload.is_empty());
//! ```

// `core.rs` has the algorithm, this file and its neighbours the handles.

pub(crate) mod ahead;
pub(crate) mod catch_up;
pub(super) mod consumer;
pub(crate) mod core;
pub(crate) mod layout;
mod producer;
pub(in crate::ring) mod received;
#[cfg(feature = "transports")]
pub(super) mod run;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;
mod untrusted;

pub use consumer::Consumer;
pub use producer::{Producer, WriteBatch, WriteGrant};
pub use received::{Iter, ReadBatch, ReadView};
#[cfg(feature = "async")]
pub use tasks::{AsyncConsumer, AsyncProducer};
pub use untrusted::UntrustedConsumer;

use super::{Options, Ring};
use crate::error::Result;

/// An anonymous ring in this process: both ends. `capacity` as for [`Options::spsc`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (mut tx, mut rx) = slipring::spsc::pair(4096)?;
/// let worker = std::thread::spawn(move || tx.send(b"from another thread"));
/// assert_eq!(&*rx.recv()?, b"from another thread");
/// worker.join().unwrap()?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(capacity: usize) -> Result<(Producer, Consumer)> {
    let ring = Ring::create_anonymous(&Options::spsc(capacity))?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&ring)?))
}
