//! `Debug` of grants, views, and batches: their sizes and headers, without payloads.
//!
//! Relies on their public calls only.

use std::fmt::{Debug, Formatter, Result};

use super::{broadcast, mpmc, mpsc, spsc, stream};

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
    spsc::WriteGrant<'_>, "spsc::WriteGrant": len;
    spsc::WriteBatch<'_>, "spsc::WriteBatch": len;
    spsc::ReadView<'_>, "spsc::ReadView": header len;
    spsc::ReadBatch<'_>, "spsc::ReadBatch":;
    spsc::Iter<'_>, "spsc::Iter":;
    broadcast::WriteGrant<'_>, "broadcast::WriteGrant": len;
    broadcast::WriteBatch<'_>, "broadcast::WriteBatch": len;
    broadcast::ReadView<'_>, "broadcast::ReadView": header len;
    broadcast::ReadBatch<'_>, "broadcast::ReadBatch":;
    broadcast::Iter<'_>, "broadcast::Iter":;
    mpsc::ReadView<'_>, "mpsc::ReadView": header len;
    mpsc::ReadBatch<'_>, "mpsc::ReadBatch":;
    mpsc::Iter<'_>, "mpsc::Iter":;
    mpmc::ReadBatch<'_>, "mpmc::ReadBatch":;
    mpmc::Iter<'_>, "mpmc::Iter": len;
    mpmc::WriteGrant<'_>, "mpmc::WriteGrant": len;
    mpmc::ReadView<'_>, "mpmc::ReadView": header len;
    stream::WriteGrant<'_>, "stream::WriteGrant": len;
    stream::ReadView<'_>, "stream::ReadView": len;
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn guards_print_sizes_and_no_payload() {
        let (mut tx, mut rx) = spsc::pair(4096).unwrap();
        assert_eq!(format!("{:?}", tx.try_reserve(7).unwrap()), "spsc::WriteGrant { len: 7, .. }");
        tx.try_send(b"secret").unwrap();
        let view = format!("{:?}", rx.try_recv().unwrap());
        assert!(view.contains("len: 6") && !view.contains("secret") && !view.contains("115"), "{view}");
    }
}
