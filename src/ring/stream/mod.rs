//! The stream ring: one producer, one consumer, plain bytes without message boundaries, such as
//! audio.
//!
//! Bytes are copied, or written and read in place. The data is mapped twice in a row, so
//! every grant and view is one slice.
//!
//! ```
//! let (mut tx, mut rx) = slipring::stream::pair(1 << 16)?;
//! tx.write_all(b"a block of samples")?;
//! let mut block = [0; 18];
//! assert_eq!(rx.try_read(&mut block)?, 18);
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # In a real-time thread
//!
//! Create the ring with [`WakeMode::Poll`](crate::WakeMode::Poll), prefaulted and locked, and use
//! the `try_…` calls only. They are wait-free, allocate no memory, take no lock and make
//! no system call.

// `core.rs` has the algorithm, this file and its neighbours the handles.

mod consumer;
pub(crate) mod core;
mod io;
pub(crate) mod layout;
mod producer;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, ReadView};
pub use producer::{PartialWrite, Producer, WriteGrant};
#[cfg(feature = "async")]
pub use tasks::{AsyncConsumer, AsyncProducer};

use super::{Options, Ring};
use crate::error::Result;

/// An anonymous stream in this process: both ends. `capacity` as for [`Options::stream`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (mut tx, mut rx) = slipring::stream::pair(4096)?;
/// assert_eq!(tx.try_write(&[1; 5000])?, 4096); // as much as fits
/// assert_eq!(rx.try_read_view(100)?.len(), 100);
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(capacity: usize) -> Result<(Producer, Consumer)> {
    let ring = Ring::create_anonymous(&Options::stream(capacity))?;
    Ok((Producer::attach(&ring)?, Consumer::attach(&ring)?))
}
