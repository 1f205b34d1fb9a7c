//! [`PartialWrite`]: a write of everything that ended early, and how far it got.
//!
//! Used by the producer's calls that write all of something until a deadline. There is no
//! conversion into `Error`: it would make `?` ambiguous in programs. Relies on `error.rs`.

use crate::error::Error;

/// Why not everything was written, and how much of it was: go on from there, or tell the consumer.
///
/// Where the number does not matter: `.map_err(|partial| partial.error)?`.
///
/// ```
/// use std::time::Duration;
/// let (mut tx, _rx) = slipring::stream::pair(4096)?;
/// let block = [7; 5000];
/// let late = tx.write_all_deadline(&block, Duration::from_millis(1)).unwrap_err();
/// assert!(matches!(late.error, slipring::Error::Timeout));
/// let rest = &block[late.written..];
/// assert_eq!(rest.len(), 904);
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{error} ({written} were written)")]
pub struct PartialWrite {
    /// What was written, and is the consumer's now: bytes, or values where values are written.
    pub written: usize,
    /// Why the rest was not.
    #[source]
    pub error: Error,
}
