//! How full a ring is, as its handles tell it: `len`, `is_empty`, `is_full` and `capacity`.
//!
//! Used by the producers and consumers of every kind, so that the calls are the same. Relies on the
//! positions that both sides publish.

/// Defines the calls in the `impl` of a handle: a doc comment of `len`, the positions (head, tail),
/// how far they may be apart, whether there is no room, and an example.
macro_rules! fill_level {
    ($what:literal, |$handle:ident| $positions:expr, $capacity:expr, $is_full:expr, $example:literal) => {
        #[doc = $what]
        ///
        /// A hint, of a moment that has passed when it returns; what can be received or sent, the
        /// `try_…` calls say. After a death it may be wrong until the ring is used again.
        /// Wait-free: two loads.
        ///
        /// ```
        #[doc = $example]
        /// # Ok::<(), slipring::Error>(())
        /// ```
        #[must_use]
        pub fn len(&self) -> usize {
            let $handle = self;
            let (head, tail) = $positions;
            tail.wrapping_sub(head).min($capacity as u64) as usize
        }

        /// Whether [`len`](Self::len) is 0. A hint as well.
        #[must_use]
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Whether there is no room for even the smallest frame, or for one byte of a stream. A
        /// hint, as [`len`](Self::len).
        #[must_use]
        pub fn is_full(&self) -> bool {
            let $handle = self;
            $is_full
        }

        /// The largest [`len`](Self::len): of a byte ring its bytes, of a slot ring its slots.
        #[must_use]
        pub fn capacity(&self) -> usize {
            let $handle = self;
            $capacity as usize
        }
    };
}

pub(super) use fill_level;
