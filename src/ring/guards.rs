//! `Debug` of grants, views, batches and chunks: their sizes and headers, without payloads.
//!
//! Relies on their public calls only.

use std::fmt::{Debug, Formatter, Result};

use super::{mpmc, spsc, stream};

/// What to print of each guard: a name, and some of its calls.
macro_rules! debug {
    ($($guard:ty, $name:literal: $($call:ident)*;)*) => {$(
        impl Debug for $guard {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                f.debug_struct($name)$(.field(stringify!($call), &self.$call()))*.finish_non_exhaustive()
            }
        }
    )*};
}

debug! {
    spsc::Grant<'_>, "spsc::Grant": len;
    spsc::Batch<'_>, "spsc::Batch": len;
    spsc::View<'_>, "spsc::View": header len;
    spsc::ReadBatch<'_>, "spsc::ReadBatch":;
    spsc::Iter<'_>, "spsc::Iter":;
    mpmc::Grant<'_>, "mpmc::Grant": len;
    mpmc::View<'_>, "mpmc::View": header len;
    stream::WriteChunk<'_>, "stream::WriteChunk": len;
    stream::ReadChunk<'_>, "stream::ReadChunk": len;
}

impl Debug for mpmc::Batch<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("mpmc::Batch").field("len", &self.iter().len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn guards_print_sizes_and_no_payload() {
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        assert_eq!(format!("{:?}", tx.try_reserve(7).unwrap()), "spsc::Grant { len: 7, .. }");
        tx.try_send(b"secret").unwrap();
        let view = format!("{:?}", rx.try_recv().unwrap());
        assert!(view.contains("len: 6") && !view.contains("secret") && !view.contains("115"), "{view}");
    }
}
