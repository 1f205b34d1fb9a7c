//! What the handles for tasks have in common: in all kinds their creation and their end, and owned
//! frames as a `Stream` and a `Sink`; in byte rings all of their calls.
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

/// Implements `Stream` of owned frames for a consumer with `poll_copy` and the field `has_ended`:
/// or of the items that `poll_copy` returns.
macro_rules! stream_of_frames {
    ($async:ident) => {
        stream_of_frames!($async, Vec<u8>, "Copies of the frames");
    };

    ($async:ident, $item:ty, $what:literal) => {
        #[doc = concat!($what, ", until the last producer has closed")]
        /// ([`Error::Closed`](crate::Error::Closed)). Any other error is the last item. It may be
        /// polled again after its end: another producer may have come. Allocates for each frame.
        impl futures_core::Stream for $async {
            type Item = crate::Result<$item>;

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

/// Implements the calls of the handle for tasks of a byte ring's consumer, with the fields
/// `handle`, `own` and `has_ended`.
macro_rules! task_consumer {
    ($async:ident, $handle:ident, $name:literal) => {
        task_calls!($async, $handle, $name, { has_ended });
        stream_of_frames!($async);

        impl $async {
            /// Receives the next frame in place. Dropping the view releases it.
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($handle), "::recv`]; [`Error::Io`](crate::Error::Io) if the reactor")]
            /// cannot be started.
            pub async fn recv(&mut self) -> Result<ReadView<'_>> {
                let frame = self.next().await?;
                Ok(self.handle.view(frame))
            }

            /// Receives the committed frames in place, at least one. Dropping the batch releases
            /// those that were read.
            ///
            /// # Errors
            /// As [`recv`](Self::recv); [`Error::Invalid`](crate::Error::Invalid) if `max` is 0.
            pub async fn recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
                check_max(max)?;
                self.next().await?;
                Ok(self.handle.batch(max))
            }

            async fn next(&mut self) -> Result<Peeked> {
                let $async { handle, own, .. } = self;
                own.end(); // a `Stream` that was not polled to its end
                let mut waiting = Waiting::new(&**own.tasks());
                poll_fn(|cx| waiting.poll(cx, handle)).await
            }

            fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
                let frame = ready!(self.own.poll(cx, &mut self.handle))?;
                Poll::Ready(Ok(self.handle.view(frame).to_vec()))
            }
        }

        impl Attempt for $handle {
            /// A frame that is not released: if this is dropped, the next attempt finds it again.
            /// (The guard of a subscriber is held then; but no wait lies between a frame and its
            /// view or batch, which releases it.)
            type Found = Peeked;

            #[inline]
            fn attempt(&mut self) -> Result<Peeked> {
                self.try_next()
            }

            fn is_likely(&mut self) -> bool {
                self.core.has_next()
            }

            fn readiness(&mut self) -> Result<Readiness> {
                Ok(self.readable())
            }
        }
    };
}
pub(super) use task_consumer;

/// Implements the calls of the handle for tasks of a byte ring's producer, with the fields
/// `handle`, `own`, `room` and `staged`.
macro_rules! task_producer {
    ($async:ident, $handle:ident, $name:literal) => {
        task_calls!($async, $handle, $name, { room, staged });
        sink_of_frames!($async);

        impl $async {
            /// Sends a copy of `payload`. If the future is dropped before it is ready, nothing is
            /// sent.
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($handle), "::send`]; [`Error::Io`](crate::Error::Io) if the reactor")]
            /// cannot be started.
            pub async fn send(&mut self, payload: &[u8]) -> Result<()> {
                self.room(payload.len()).await?;
                self.handle.put_ahead(Header::PLAIN, payload);
                Ok(())
            }

            /// [`send`](Self::send) with a kind, a stream and flags.
            ///
            /// # Errors
            /// As [`send`](Self::send), and [`Error::Invalid`](crate::Error::Invalid) for a kind
            /// that [`Header::new`] and [`Header::control`] refuse.
            pub async fn send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
                let header = header.checked()?;
                self.room(payload.len()).await?;
                self.handle.put_ahead(header, payload);
                Ok(())
            }

            /// Reserves room for a payload of up to `len` bytes, to be written in place. Invisible
            /// to consumers until [`WriteGrant::commit`]; dropping it aborts.
            ///
            /// # Errors
            /// As [`send`](Self::send).
            pub async fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
                self.room(len).await?;
                Ok(self.handle.grant(len))
            }

            /// Waits for room at the producer's tail.
            async fn room(&mut self, len: usize) -> Result<()> {
                let $async { handle, own, room, staged } = self;
                own.end(); // a `Sink` that was not polled to its end
                if !handle.waits_for_room() && staged.is_none() {
                    return handle.try_room(len);
                }
                let mut waiting = Waiting::new(&**own.tasks());
                if let Some(len) = staged.as_ref().map(Vec::len) {
                    let outcome = poll_fn(|cx| waiting.poll(cx, &mut Room { handle, room, len })).await;
                    let frame = staged.take();
                    outcome?;
                    frame.iter().for_each(|frame| handle.put_ahead(Header::PLAIN, frame));
                }
                poll_fn(|cx| waiting.poll(cx, &mut Room { handle, room, len })).await
            }

            fn poll_put(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<()>> {
                let $async { handle, own, room, .. } = self;
                ready!(own.poll(cx, &mut Room { handle, room, len: payload.len() }))?;
                handle.put_ahead(Header::PLAIN, payload);
                Poll::Ready(Ok(()))
            }
        }

        /// The wait for room for a payload of a length.
        struct Room<'a> {
            handle: &'a mut $handle,
            room: &'a Arc<AtomicUsize>,
            len: usize,
        }

        impl Attempt for Room<'_> {
            /// There is room at the tail until something is sent, which takes the handle.
            type Found = ();

            #[inline]
            fn attempt(&mut self) -> Result<()> {
                self.handle.try_room(self.len)
            }

            fn is_likely(&mut self) -> bool {
                self.handle.is_room_likely(self.len)
            }

            fn readiness(&mut self) -> Result<Readiness> {
                Ok(self.handle.writable_for(Arc::clone(self.room)))
            }

            fn prepare(&mut self) {
                // Relaxed: the lock of the queue and the ring of the set order it before the look.
                self.room.store(self.len, Relaxed);
            }
        }
    };
}
pub(super) use task_producer;
