//! The calls that the handles of all kinds have in common: the ring, the peer, cancelling, closing.
//!
//! Used by the handles of every kind of ring. Relies on `attachment.rs`.

/// Implements `Debug` and the common calls for a handle, given its role, its name, the path to its
/// [`Attachment`](super::attachment::Attachment), and the handles that share it.
macro_rules! common_calls {
    (producer $handle:ident, $name:literal, $($attachment:tt).+, $which:literal) => {
        common_calls!($handle, "consumer", $name, $($attachment).+, $which);

        impl $handle {
            /// Closes this handle. When the last producer has closed, consumers get what is in the
            /// ring, then [`Error::Closed`](crate::Error::Closed). Dropping the handle does the
            /// same.
            pub fn close(self) {}
        }
    };

    (consumer $handle:ident, $name:literal, $($attachment:tt).+, $which:literal) => {
        common_calls!($handle, "producer", $name, $($attachment).+, $which);

        impl $handle {
            /// Stops receiving; the contents of the ring stay for another consumer. Dropping the
            /// handle does the same.
            pub fn close(self) {}
        }
    };

    ($handle:ident, $peer:literal, $name:literal, $($attachment:tt).+, $which:literal) => {
        impl std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).field("ring", self.ring()).finish_non_exhaustive()
            }
        }

        impl $handle {
            /// The ring.
            #[must_use]
            pub fn ring(&self) -> &crate::Ring {
                self.$($attachment).+.ring()
            }

            #[doc = concat!("Whether a ", $peer, " is attached, or has just died.")]
            #[must_use]
            pub fn has_peer(&self) -> bool {
                self.$($attachment).+.has_peer()
            }

            #[doc = concat!("Blocks until a ", $peer, " is attached.")]
            ///
            /// # Errors
            /// [`Error::Timeout`](crate::Error::Timeout),
            /// [`Error::Cancelled`](crate::Error::Cancelled).
            pub fn wait_for_peer(&self, deadline: impl Into<crate::Deadline>) -> crate::Result<()> {
                self.$($attachment).+.wait_for_peer(deadline.into())
            }

            #[doc = concat!("A handle that ends the blocking calls of ", $which)]
            /// from another thread or a signal handler.
            #[must_use]
            pub fn canceller(&self) -> crate::Canceller {
                self.$($attachment).+.canceller()
            }

            #[doc = concat!("How the blocking calls of ", $which)]
            /// wait from now on. Wait-free.
            ///
            /// ```
            /// let (mut tx, _rx) = slipring::spsc::pair(4096)?;
            /// tx.set_idle(slipring::Idle::Spin);
            /// # Ok::<(), slipring::Error>(())
            /// ```
            pub fn set_idle(&self, idle: crate::Idle) {
                self.$($attachment).+.set_idle(idle);
            }
        }
    };
}
pub(super) use common_calls;
