//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `subscriber.rs` and `lossy_subscriber.rs` for the calls, on `set/tasks.rs` for the
//! waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{LossySubscriber, ReadBatch, ReadView, Received, Subscriber};
use crate::error::Result;
use crate::ring::receive::check_max;
use crate::ring::spsc::layout::Peeked;
use crate::ring::tasks::{stream_of_frames, task_calls};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Subscriber`] for tasks, under any executor: its calls are awaited, and lend in place. What
/// is said of [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) of cancelling, fairness and forks
/// holds here, too.
///
/// ```
/// use slipring::broadcast::{self, AsyncSubscriber};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// let (mut tx, rx) = broadcast::pair(4096)?;
/// let mut rx = AsyncSubscriber::new(rx);
/// std::thread::spawn(move || tx.send(b"EURUSD 1.0842"));
/// block_on(async {
///     assert_eq!(&*rx.recv().await?, b"EURUSD 1.0842"); // in place: released when it is dropped
///     assert!(matches!(rx.recv().await, Err(slipring::Error::Closed)));
///     # Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncSubscriber {
    handle: Subscriber,
    /// The wait of the `Stream`.
    own: Waiting<Arc<Tasks>>,
    /// Whether the last item of the `Stream` was an error.
    has_ended: bool,
}

task_calls!(AsyncSubscriber, Subscriber, "broadcast::AsyncSubscriber", { has_ended });
stream_of_frames!(AsyncSubscriber);

impl AsyncSubscriber {
    /// Receives the next frame in place. Dropping the view releases it.
    ///
    /// # Errors
    /// As [`Subscriber::recv`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn recv(&mut self) -> Result<ReadView<'_>> {
        let frame = self.next().await?;
        Ok(self.handle.view(frame))
    }

    /// Receives the committed frames in place, at least one. Dropping the batch releases those that
    /// were read.
    ///
    /// # Errors
    /// As [`AsyncSubscriber::recv`]; [`Error::Invalid`](crate::Error::Invalid) if `max` is 0.
    pub async fn recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.next().await?;
        Ok(self.handle.batch(max))
    }

    async fn next(&mut self) -> Result<Peeked> {
        let AsyncSubscriber { handle, own, .. } = self;
        own.end(); // a `Stream` that was not polled to its end
        let mut waiting = Waiting::new(&**own.tasks());
        poll_fn(|cx| waiting.poll(cx, handle)).await
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let frame = ready!(self.own.poll(cx, &mut self.handle))?;
        Poll::Ready(Ok(self.handle.view(frame).to_vec()))
    }
}

impl Attempt for Subscriber {
    /// A frame, with the guard held. It is not dropped unused: no wait lies between it and its view
    /// or its batch, which releases the guard.
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

/// A [`LossySubscriber`] for tasks, under any executor. What is said of
/// [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) of cancelling, fairness and forks holds
/// here, too.
///
/// ```
/// use slipring::broadcast::{self, AsyncLossySubscriber, Received};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// let (mut tx, rx) = broadcast::overwriting(4096)?;
/// let mut rx = AsyncLossySubscriber::new(rx);
/// std::thread::spawn(move || tx.send(b"sample"));
/// block_on(async {
///     let mut buffer = [0; 64];
///     assert!(matches!(rx.recv_into(&mut buffer).await?, Received::Frame(header) if header.len == 6));
///     assert!(matches!(rx.recv_into(&mut buffer).await, Err(slipring::Error::Closed)));
///     # Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncLossySubscriber {
    handle: LossySubscriber,
    own: Waiting<Arc<Tasks>>,
}

task_calls!(AsyncLossySubscriber, LossySubscriber, "broadcast::AsyncLossySubscriber", {});

impl AsyncLossySubscriber {
    /// Copies the next frame into `buffer`, or returns what was missed. A future that is dropped
    /// before it is ready has received nothing.
    ///
    /// # Errors
    /// As [`LossySubscriber::recv_into`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be
    /// started.
    pub async fn recv_into(&mut self, buffer: &mut [u8]) -> Result<Received> {
        let AsyncLossySubscriber { handle, own } = self;
        let mut waiting = Waiting::new(&**own.tasks());
        poll_fn(|cx| waiting.poll(cx, &mut Copied { handle, buffer })).await
    }
}

/// The wait for a frame that is copied into a buffer.
struct Copied<'a> {
    handle: &'a mut LossySubscriber,
    buffer: &'a mut [u8],
}

impl Attempt for Copied<'_> {
    type Found = Received;

    #[inline]
    fn attempt(&mut self) -> Result<Received> {
        self.handle.try_recv_into(self.buffer)
    }

    fn is_likely(&mut self) -> bool {
        self.handle.core.is_readable()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.handle.readable())
    }
}
