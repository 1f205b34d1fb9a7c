//! The broadcast ring: one publisher, many subscribers, each of which receives every frame.
//!
//! Each subscriber chooses whether the publisher waits for it. A [`Subscriber`] is reliable: it
//! misses nothing, reads frames in place, and holds the publisher back when it is slow. What the
//! publisher does then is its choice: [`SlowPolicy`]. A [`LossySubscriber`] costs the publisher
//! nothing: it may be overrun, and is then told exactly how many frames it missed. A [`Monitor`]
//! does the same from a read-only mapping, so it cannot do any harm.
//!
//! ```
//! use slipring::broadcast::{self, LossySubscriber, Received, Start};
//! let (mut tx, mut book) = broadcast::pair(1 << 16)?;
//! let mut monitor = LossySubscriber::attach(tx.ring(), Start::Latest)?;
//! tx.send(b"EURUSD 1.0842")?;
//! assert_eq!(&*book.recv()?, b"EURUSD 1.0842");
//! let mut buffer = [0; 64];
//! assert!(matches!(monitor.recv_into(&mut buffer)?, Received::Frame(header) if header.len == 13));
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Between processes
//!
//! The side that comes first creates the ring. A ring has room for as many subscribers as
//! [`Options::participants`](crate::Options::participants) says, less the publisher.
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("slipring-doc-broadcast-{}", std::process::id()));
//! use slipring::broadcast::{Publisher, Start, Subscriber};
//! use slipring::Options;
//! let options = Options::broadcast(1 << 20).directory(&dir);
//! let mut tx = Publisher::open("ticks", &options)?; // in one process
//! tx.send(b"EURUSD 1.0842")?;
//! let mut rx = Subscriber::open("ticks", &options, Start::Oldest)?; // in another
//! assert_eq!(&*rx.recv()?, b"EURUSD 1.0842");
//! # slipring::Ring::remove("ticks", &options)?;
//! # std::fs::remove_dir(dir).unwrap();
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # A ring that overwrites its oldest frames
//!
//! Telemetry and audio capture want a producer that never waits, and a consumer that gets the
//! newest part of what it was too slow for. That is a broadcast ring with one lossy subscriber:
//! [`overwriting`].
//!
//! # What must not compile
//!
//! A view borrows its subscriber, and handles belong to one thread at a time:
//!
//! ```compile_fail
//! let (_tx, mut rx) = slipring::broadcast::pair(4096).unwrap();
//! let first = rx.try_recv().unwrap();
//! let second = rx.try_recv().unwrap(); // while the first is still held
//! drop(first);
//! ```
//! ```compile_fail
//! let (tx, _rx) = slipring::broadcast::pair(4096).unwrap();
//! std::thread::scope(|s| { s.spawn(|| &tx); });
//! ```

// `gate.rs`, `join.rs`, `lossy.rs` and `seat.rs` have the algorithms, the others the handles.

pub(crate) mod gate;
pub(crate) mod inspect;
pub(crate) mod join;
pub(crate) mod layout;
pub(crate) mod lossy;
mod lossy_subscriber;
mod monitor;
mod publisher;
#[cfg(feature = "transports")]
mod run;
pub(crate) mod seat;
mod slow;
mod subscriber;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;

pub use inspect::SubscriberInfo;
pub use join::Start;
pub use layout::{Mode, Position};
pub use lossy_subscriber::{LossySubscriber, Received};
pub use monitor::Monitor;
pub use publisher::{Publisher, WriteBatch, WriteGrant};
pub(crate) use slow::Due;
pub use slow::SlowPolicy;
pub use subscriber::{Iter, ReadBatch, ReadView, Subscriber};
#[cfg(feature = "async")]
pub use tasks::{AsyncLossySubscriber, AsyncPublisher, AsyncSubscriber};

use super::{Options, Ring};
use crate::error::Result;

/// An anonymous ring in this process: a publisher and a reliable subscriber. `capacity` as for
/// [`Options::broadcast`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (mut tx, mut rx) = slipring::broadcast::pair(4096)?;
/// let worker = std::thread::spawn(move || tx.send(b"from another thread"));
/// assert_eq!(&*rx.recv()?, b"from another thread");
/// worker.join().unwrap()?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(capacity: usize) -> Result<(Publisher, Subscriber)> {
    let ring = Ring::create_anonymous(&Options::broadcast(capacity))?;
    Ok((Publisher::attach(&ring)?, Subscriber::attach(&ring, Start::Oldest)?))
}

/// An anonymous ring in this process whose producer never waits: it overwrites the oldest frames,
/// and its consumer is told how many it missed. `capacity` as for [`Options::broadcast`].
///
/// # Errors
/// As [`pair`].
///
/// ```
/// use slipring::broadcast::{self, Received};
/// let (mut tx, mut rx) = broadcast::overwriting(4096)?;
/// for sample in 0..1000_u64 {
///     tx.try_send(&sample.to_le_bytes())?; // never full
/// }
/// let (mut buffer, mut seen, mut missed) = ([0; 8], 0, 0);
/// while let Ok(received) = rx.try_recv_into(&mut buffer) {
///     match received {
///         Received::Frame(_) => seen += 1,
///         Received::Gap { missed: frames } => missed += frames,
///     }
/// }
/// assert_eq!(seen + missed, 1000);
/// assert_eq!(u64::from_le_bytes(buffer), 999, "the newest is there");
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn overwriting(capacity: usize) -> Result<(Publisher, LossySubscriber)> {
    let ring = Ring::create_anonymous(&Options::broadcast(capacity).participants(2))?;
    Ok((Publisher::attach(&ring)?, LossySubscriber::attach(&ring, Start::Oldest)?))
}
