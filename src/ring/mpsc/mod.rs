//! Many producers, one consumer: a byte ring for each producer, under one name.
//!
//! Each producer has a *lane*, which is a ring as in [`spsc`](crate::spsc): frames of any size, in
//! place or copied, in order. Producers do not touch each other's cache lines, so a frame costs
//! what it costs in an SPSC ring, and a full lane blocks only its producer. The consumer takes the
//! lanes in turn, and is told when a producer closes or dies.
//!
//! ```
//! use slipring::mpsc::{self, Producer, Received};
//! let (mut momentum, mut gateway) = mpsc::pair(1 << 16, 8)?;
//! let mut hedge = Producer::attach(gateway.ring())?;
//! momentum.send(b"buy 100 @ 1.0842")?;
//! hedge.send(b"sell 100 @ 1.0843")?;
//! momentum.close();
//! for _ in 0..3 {
//!     match gateway.recv()? {
//!         Received::Frame(order) => println!("lane {}: {} bytes", order.source().lane, order.len()),
//!         Received::Ended(end) => println!("lane {}: producer {} has left", end.lane, end.producer),
//!     }
//! }
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Between processes
//!
//! The side that comes first creates the ring, with as many lanes as there may be producers at a
//! time. A lane is free again when its producer has ended, the consumer has received everything,
//! and was told of the end.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-mpsc-{}", std::process::id()));
//! use slipring::mpsc::{Consumer, Producer};
//! use slipring::Options;
//! let options = Options::mpsc(1 << 16, 16).directory(&dir);
//! let mut gateway = Consumer::open("orders", &options)?; // in one process
//! let mut strategy = Producer::open("orders", &options)?; // in each of many others
//! strategy.send(b"buy 100 @ 1.0842")?;
//! assert_eq!(&*gateway.recv()?.frame().unwrap(), b"buy 100 @ 1.0842");
//! # slipring::Ring::remove("orders", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Which ring for many producers
//!
//! An [`mpmc`](crate::mpmc) ring has one queue for all: it keeps the order in which frames of
//! different producers were sent, and shares its room between them, but its producers fight for
//! cache lines, and its frames have a largest size. This one has neither a common order nor a
//! common room.
//!
//! # What must not compile
//!
//! ```compile_fail
//! let (_tx, mut rx) = slipring::mpsc::pair(4096, 2).unwrap();
//! let first = rx.try_recv().unwrap();
//! let second = rx.try_recv().unwrap(); // while the first is still held
//! drop(first);
//! ```
//! ```compile_fail
//! let (tx, _rx) = slipring::mpsc::pair(4096, 2).unwrap();
//! std::thread::scope(|s| { s.spawn(|| &tx); });
//! ```

// `core.rs` and `lanes.rs` have the algorithm, the others the handles.

mod consumer;
pub(crate) mod core;
pub(crate) mod inspect;
pub(crate) mod lanes;
pub(crate) mod layout;
mod producer;
mod received;
#[cfg(feature = "transports")]
mod run;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;

pub use consumer::Consumer;
pub use core::Ended;
pub use inspect::{LaneInfo, LaneState};
pub use producer::Producer;
pub use received::{Iter, ReadBatch, ReadView, Received, Source};
#[cfg(feature = "async")]
pub use tasks::{AsyncConsumer, AsyncProducer};

pub use super::spsc::{WriteBatch, WriteGrant};
use super::{Options, Ring};
use crate::error::Result;

/// An anonymous ring in this process: a producer and the consumer. `capacity` and `lanes` as for
/// [`Options::mpsc`]. More producers attach to [`Producer::ring`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// use slipring::mpsc::Producer;
/// let (mut tx, mut rx) = slipring::mpsc::pair(4096, 4)?;
/// let mut other = Producer::attach(tx.ring())?;
/// let worker = std::thread::spawn(move || other.send(b"from another thread"));
/// assert_eq!(&*rx.recv()?.frame().unwrap(), b"from another thread");
/// worker.join().unwrap()?;
/// # tx.try_send(b"")?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(capacity: usize, lanes: usize) -> Result<(Producer, Consumer)> {
    let ring = Ring::create_anonymous(&Options::mpsc(capacity, lanes))?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&ring)?))
}
