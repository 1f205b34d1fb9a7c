//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `publisher.rs`, `subscriber.rs` and `lossy_subscriber.rs`, on `ring/tasks.rs` for most
//! calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use super::{LossySubscriber, Publisher, ReadBatch, ReadView, Received, Subscriber, WriteGrant};
use crate::error::Result;
use crate::frame::Header;
use crate::ring::receive::check_max;
use crate::ring::spsc::layout::Peeked;
use crate::ring::tasks::{sink_of_frames, stream_of_frames, task_calls, task_consumer, task_producer};
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

task_consumer!(AsyncSubscriber, Subscriber, "broadcast::AsyncSubscriber");

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

/// A [`Publisher`] for tasks, under any executor: its calls are awaited. What is said of
/// [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) of cancelling, fairness and forks holds
/// here, too. With [`SlowPolicy::Evict`](super::SlowPolicy::Evict) a call evicts when it is time,
/// also while it waits. With [`SlowPolicy::Fail`](super::SlowPolicy::Fail) it does not wait, but
/// fails at once.
///
/// ```
/// use slipring::broadcast::{self, AsyncPublisher};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// # block_on(async {
/// let (tx, mut rx) = broadcast::pair(4096)?;
/// let mut tx = AsyncPublisher::from(tx);
/// tx.send(b"EURUSD 1.0842").await?;
/// let mut grant = tx.reserve(100).await?; // room, to be filled in place
/// grant.write_at(0, b"EURUSD 1.0843");
/// grant.commit(13);
/// assert_eq!(&*rx.try_recv()?, b"EURUSD 1.0842");
/// assert_eq!(&*rx.try_recv()?, b"EURUSD 1.0843");
/// # Ok::<(), slipring::Error>(())
/// # })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncPublisher {
    handle: Publisher,
    own: Waiting<Arc<Tasks>>,
    /// The room that is waited for, as the reactor's look reads it.
    room: Arc<AtomicUsize>,
    /// A frame of the `Sink` that found no room.
    staged: Option<Vec<u8>>,
}

task_producer!(AsyncPublisher, Publisher, "broadcast::AsyncPublisher");
