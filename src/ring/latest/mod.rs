//! The board of latest values: one writer, any number of readers, a fixed number of cells, each of
//! which has one value. What a control surface, a price board or a sensor needs.
//!
//! A value replaces the one before it in its cell, and readers get the newest whole one: never a
//! torn one, and never one that is being written. A reader that reads less often than the writer
//! writes is told how many values it skipped. The writer waits for nothing. If it dies, at any
//! instruction, the newest values stay, and the next writer continues.
//!
//! ```
//! let (mut tx, mut rx) = slipring::latest::pair(2, 64)?;
//! tx.write(0, b"gain -6 dB")?;
//! tx.write(1, b"mute off")?;
//! tx.write(0, b"gain -3 dB")?;
//!
//! let mut buffer = [0; 64];
//! while let Ok(cell) = rx.try_changed() {
//!     let reading = rx.try_read(cell, &mut buffer)?;
//!     println!("cell {cell}: {} bytes, {} skipped", reading.value.len(), reading.skipped);
//! }
//! assert_eq!(rx.try_read(0, &mut buffer)?.value, b"gain -3 dB");
//! # Ok::<(), slipring::Error>(())
//! ```
//!
//! # Progress
//!
//! Writing is wait-free: the steps depend on the length of the value only. Reading is lock-free: a
//! copy is repeated only if the writer has published at least three values of the same cell
//! meanwhile. After 1,000 copies it fails with [`Error::Overtaken`](crate::Error::Overtaken).
//!
//! # Roles
//!
//! The writer is the ring's producer, and there is one at a time. Readers are its consumers. Cells
//! are numbered from 0; a program names them, for example by an enum.

// `core.rs` has the algorithm, this file and its neighbours the handles.

pub(crate) mod core;
pub(crate) mod layout;
mod reader;
#[cfg(feature = "async")]
mod tasks;
#[cfg(test)]
mod tests;
#[cfg(feature = "zerocopy")]
mod typed;
mod writer;

pub(in crate::ring) use reader::Seen;
pub use reader::{Reader, Reading};
#[cfg(feature = "async")]
pub use tasks::AsyncReader;
pub use writer::Writer;

use super::{Options, Ring};
use crate::error::Result;

/// An anonymous board in this process: both ends. Sizes as for [`Options::latest`].
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid), [`Error::Io`](crate::Error::Io).
///
/// ```
/// let (mut tx, mut rx) = slipring::latest::pair(1, 8)?;
/// assert_eq!(tx.write(0, b"on")?, 1);
/// assert_eq!(rx.read(0, &mut [0; 8])?.value, b"on");
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn pair(cells: usize, size: usize) -> Result<(Writer, Reader)> {
    let ring = Ring::create_anonymous(&Options::latest(cells, size))?;
    Ok((Writer::attach(&ring)?, Reader::attach(&ring)?))
}
