//! [`PartialWrite`]: the error of a write of several bytes or values that ended early, with the number written.
//!
//! Used by the producer's calls that write all of their input until a deadline. There is no
//! conversion into `Error`, because it would make `?` ambiguous in programs. Relies on `error.rs`.

use crate::error::Error;

/// Why not everything was written, and how much was. The caller can continue from there.
///
/// If the number does not matter: `.map_err(|partial| partial.error)?`.
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
    /// How much was written and can be read by the consumer: bytes, or values in the calls that
    /// write values.
    pub written: usize,
    /// Why the rest was not written.
    #[source]
    pub error: Error,
}
