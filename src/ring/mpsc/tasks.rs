//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `producer.rs` and `consumer.rs` for the calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use super::{Consumer, Producer, ReadBatch, ReadView, Received, WriteGrant};
use crate::error::Result;
use crate::frame::Header;
use crate::ring::receive::check_max;
use crate::ring::spsc::layout::Peeked;
use crate::ring::tasks::{sink_of_frames, stream_of_frames, task_calls, task_producer};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Consumer`] for tasks, under any executor: its calls are awaited, and lend in place. What is
/// said of [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) of cancelling, fairness and forks
/// holds here, too.
///
/// ```
/// use slipring::mpsc::{self, AsyncConsumer, AsyncProducer, Received};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// let (tx, rx) = mpsc::pair(4096, 16)?;
/// let (mut tx, mut rx) = (AsyncProducer::new(tx), AsyncConsumer::new(rx));
/// std::thread::spawn(move || block_on(async { tx.send(b"buy 100 @ 1.0842").await }));
/// block_on(async {
///     assert!(matches!(rx.recv().await?, Received::Frame(view) if view.len() == 16)); // in place
///     assert!(matches!(rx.recv().await?, Received::Ended(end) if !end.died));
///     assert!(matches!(rx.recv().await, Err(slipring::Error::Closed)));
///     # Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncConsumer {
    handle: Consumer,
    /// The wait of the `Stream`.
    own: Waiting<Arc<Tasks>>,
    /// Whether the last item of the `Stream` was an error.
    has_ended: bool,
}

task_calls!(AsyncConsumer, Consumer, "mpsc::AsyncConsumer", { has_ended });
stream_of_frames!(AsyncConsumer, Received<Vec<u8>>, "Copies of the frames, and the ends of producers");

impl AsyncConsumer {
    /// Receives the next frame in place, or the end of a producer. Dropping the view releases the
    /// frame.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn recv(&mut self) -> Result<Received<ReadView<'_>>> {
        let found = self.next().await?;
        Ok(self.handle.view(found))
    }

    /// Receives the committed frames of one lane in place, at least one, or the end of a producer.
    /// Dropping the batch releases the frames that were read.
    ///
    /// # Errors
    /// As [`AsyncConsumer::recv`]; [`Error::Invalid`](crate::Error::Invalid) if `max` is 0.
    pub async fn recv_batch(&mut self, max: usize) -> Result<Received<ReadBatch<'_>>> {
        check_max(max)?;
        match self.next().await? {
            Received::Frame(_) => Ok(Received::Frame(self.handle.batch(max))),
            Received::Ended(end) => Ok(Received::Ended(end)),
        }
    }

    async fn next(&mut self) -> Result<Received<Peeked>> {
        let AsyncConsumer { handle, own, .. } = self;
        own.end(); // a `Stream` that was not polled to its end
        let mut waiting = Waiting::new(&**own.tasks());
        poll_fn(|cx| waiting.poll(cx, handle)).await
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received<Vec<u8>>>> {
        let found = ready!(self.own.poll(cx, &mut self.handle))?;
        Poll::Ready(Ok(self.handle.view(found).map(|view| view.to_vec())))
    }
}

impl Attempt for Consumer {
    /// A frame that is not held: if this is dropped, the next attempt finds it again. Or the end of
    /// a producer, which the poll that finds it hands on.
    type Found = Received<Peeked>;

    #[inline]
    fn attempt(&mut self) -> Result<Received<Peeked>> {
        self.try_next()
    }

    fn is_likely(&mut self) -> bool {
        self.is_readable()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.readable())
    }
}

/// A [`Producer`] for tasks, under any executor: its calls are awaited. What is said of
/// [`AsyncConsumer`] holds here, too.
///
/// ```
/// use slipring::mpsc::{self, AsyncProducer, Received};
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
/// let (tx, mut rx) = mpsc::pair(4096, 4)?;
/// let mut tx = AsyncProducer::from(tx);
/// let mut grant = tx.reserve(100).await?; // room, to be filled in place
/// grant[..5].copy_from_slice(b"order");
/// grant.commit(5);
/// assert!(matches!(rx.try_recv()?, Received::Frame(view) if &*view == b"order"));
/// # Ok::<(), slipring::Error>(())
/// # })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncProducer {
    handle: Producer,
    own: Waiting<Arc<Tasks>>,
    /// The room that is waited for, as the reactor's look reads it.
    room: Arc<AtomicUsize>,
    /// A frame of the `Sink` that found the lane full.
    staged: Option<Vec<u8>>,
}

task_producer!(AsyncProducer, Producer, "mpsc::AsyncProducer");
