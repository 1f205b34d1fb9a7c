//! What the consumers of both rings of frames share: the size of a batch, and iterators over owned
//! frames.
//!
//! Used by `spsc/consumer.rs` and `mpmc/consumer.rs`.

use crate::error::{Error, Result};

/// Refuses a batch of no frames.
#[inline(always)]
pub(super) fn check_max(max: usize) -> Result<()> {
    if max == 0 { Err(Error::Invalid { what: "size of a batch: at least 1 frame" }) } else { Ok(()) }
}

/// What `next` receives, up to the end: `Closed`, or `Empty` of a call that does not wait. Any
/// other error is the last item.
pub(super) fn until_end<T>(mut next: impl FnMut() -> Result<T>) -> impl Iterator<Item = Result<T>> {
    let mut has_ended = false;
    std::iter::from_fn(move || {
        if has_ended {
            return None;
        }
        match next() {
            Ok(frame) => Some(Ok(frame)),
            Err(error) => {
                has_ended = true;
                if matches!(error, Error::Closed | Error::Empty) { None } else { Some(Err(error)) }
            }
        }
    })
}
