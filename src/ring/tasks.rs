//! What the handles for tasks have in common in all kinds: their creation, their end, and owned
//! frames as a `Stream` and a `Sink`.
//!
//! Used by the `tasks.rs` of the kinds. Relies on `set/tasks.rs` for the waiting.

/// Implements the calls that the handles for tasks have in common, and `Debug`, for a handle with
/// the fields `handle` and `own`.
macro_rules! task_calls {
    ($async:ident, $handle:ident, $name:literal, { $($field:ident),* }) => {
        impl $async {
            #[doc = concat!("Takes a [`", stringify!($handle), "`]. No system call; the reactor is started by")]
            /// the first wait.
            #[must_use]
            pub fn new(handle: $handle) -> Self {
                $async { handle, own: Waiting::new(Arc::new(Tasks::new())), $($field: Default::default()),* }
            }

            /// The handle, for its other calls.
            #[must_use]
            pub fn get_ref(&self) -> &$handle {
                &self.handle
            }

            /// The handle, for its other calls. Those that block would block the task's thread.
            #[must_use]
            pub fn get_mut(&mut self) -> &mut $handle {
                &mut self.handle
            }

            /// The handle, for threads.
            #[must_use]
            pub fn into_inner(self) -> $handle {
                self.handle
            }
        }

        impl From<$handle> for $async {
            fn from(handle: $handle) -> Self {
                $async::new(handle)
            }
        }

        impl std::fmt::Debug for $async {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct($name).field("ring", self.handle.ring()).finish_non_exhaustive()
            }
        }
    };
}
pub(super) use task_calls;

/// Implements `Stream` of owned frames for a consumer with `poll_copy` and the field `has_ended`.
macro_rules! stream_of_frames {
    ($async:ident) => {
        /// Copies of the frames, until the last producer has closed
        /// ([`Error::Closed`](crate::Error::Closed)). Any other error is the last item. It may be
        /// polled again after its end: another producer may have come. Allocates for each frame.
        impl futures_core::Stream for $async {
            type Item = crate::Result<Vec<u8>>;

            fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
                let this = self.get_mut();
                if std::mem::take(&mut this.has_ended) {
                    return Poll::Ready(None);
                }
                Poll::Ready(match ready!(this.poll_copy(cx)) {
                    Err(crate::Error::Closed) => None,
                    copy => {
                        this.has_ended = copy.is_err();
                        Some(copy)
                    }
                })
            }
        }
    };
}
pub(super) use stream_of_frames;

/// Implements `Sink` of owned frames for a producer with `poll_put` and the field `staged`.
macro_rules! sink_of_frames {
    ($async:ident) => {
        /// Sends frames. A frame that finds the ring full waits in the handle, until the sink is
        /// polled for the next one or flushed: flush it before it is dropped. Closing flushes; the
        /// producer leaves the ring when the handle is dropped.
        impl futures_sink::Sink<Vec<u8>> for $async {
            type Error = crate::Error;

            fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
                self.get_mut().poll_staged(cx)
            }

            fn start_send(self: Pin<&mut Self>, frame: Vec<u8>) -> crate::Result<()> {
                let this = self.get_mut();
                if this.staged.is_some() {
                    return Err(crate::Error::Full); // not ready
                }
                match this.handle.try_send(&frame) {
                    Err(crate::Error::Full) => this.staged = Some(frame),
                    outcome => return outcome,
                }
                Ok(())
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
                self.get_mut().poll_staged(cx)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
                self.get_mut().poll_staged(cx)
            }
        }

        impl $async {
            /// Sends the frame that a `Sink` left, if there is one. An error drops it.
            fn poll_staged(&mut self, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
                let Some(frame) = self.staged.take() else { return Poll::Ready(Ok(())) };
                let outcome = self.poll_put(cx, &frame);
                if outcome.is_pending() {
                    self.staged = Some(frame);
                }
                outcome
            }
        }
    };
}
pub(super) use sink_of_frames;
