//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `producer.rs` and `consumer.rs` for the calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::core::{Claim, Taken};
use super::{Consumer, Producer, ReadBatch, ReadView, WriteGrant};
use crate::error::Result;
use crate::frame::Header;
use crate::ring::receive::check_max;
use crate::ring::tasks::{sink_of_frames, stream_of_frames, task_calls};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Consumer`] for tasks, under any executor: its calls are awaited, and lend in place.
///
/// A call that finds a frame makes no system call and takes no lock. One that finds none looks for a
/// moment, unless that was in vain lately, then leaves its waker with the process's reactor: one
/// thread that sleeps for up to 120 handles, started by the first wait and ended with the last
/// handle. Clones share one place there: one of their tasks is woken at a time, and wakes the next
/// one if there is more.
///
/// **Cancelling.** Every future may be dropped at any time: no frame is lost or received twice. A
/// time limit is the executor's matter: drop the future when it has passed.
///
/// **Fairness.** As long as frames are there, no call is ever pending. A task with a busy ring
/// gives its executor's other tasks their turn itself, for example by `tokio::task::yield_now`.
///
/// **Forks.** In a forked child the calls fail with [`Error::Forked`](crate::Error::Forked); a
/// handle that is made in the child has a reactor there.
///
/// ```
/// use slipring::mpmc::{self, AsyncConsumer};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     struct Unpark(std::thread::Thread);
/// #     impl std::task::Wake for Unpark {
/// #         fn wake(self: std::sync::Arc<Self>) { self.0.unpark() }
/// #     }
/// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
/// let (tx, rx) = mpmc::pair(16, 64)?;
/// let rx = AsyncConsumer::new(rx);
/// let workers: Vec<_> = [rx.clone(), rx]
///     .into_iter()
///     .map(|rx| {
///         std::thread::spawn(move || {
///             block_on(async {
///                 let mut done = 0;
///                 while let Ok(job) = rx.recv().await {
///                     assert_eq!(&*job, b"job");
///                     done += 1;
///                 }
///                 done
///             })
///         })
///     })
///     .collect();
/// for _ in 0..10 {
///     tx.send(b"job")?;
/// }
/// drop(tx);
/// assert_eq!(workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>(), 10);
/// # Ok::<(), slipring::Error>(())
/// ```
///
/// A clone whose `Stream` was polled in vain, and is not polled again, counts as one that waits: a
/// frame wakes its task, and the other tasks at this ring only 50 ms later. Poll it to its end, or
/// drop the clone.
pub struct AsyncConsumer {
    handle: Consumer,
    /// The wait of the `Stream`.
    own: Waiting<Arc<Tasks>>,
    /// Whether the last item of the `Stream` was an error.
    has_ended: bool,
}

task_calls!(AsyncConsumer, Consumer, "mpmc::AsyncConsumer", { has_ended });
stream_of_frames!(AsyncConsumer);

/// Shares the participant of the ring and the place with the reactor.
impl Clone for AsyncConsumer {
    fn clone(&self) -> Self {
        let own = Waiting::new(Arc::clone(self.own.tasks()));
        AsyncConsumer { handle: self.handle.clone(), own, has_ended: false }
    }
}

impl AsyncConsumer {
    /// Receives the next frame in place. Dropping the view releases it.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn recv(&self) -> Result<ReadView<'_>> {
        Ok(self.handle.view(self.next().await?))
    }

    /// Receives the committed frames in place, at least one and at most `max` and
    /// [`BATCH`](super::BATCH). Dropping the batch releases them.
    ///
    /// # Errors
    /// As [`AsyncConsumer::recv`]; [`Error::Invalid`](crate::Error::Invalid) if `max` is 0.
    pub async fn recv_batch(&self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        Ok(self.handle.batch(self.next().await?, max))
    }

    async fn next(&self) -> Result<Taken> {
        let mut waiting = Waiting::new(&**self.own.tasks());
        poll_fn(|cx| waiting.poll(cx, &mut Next(&self.handle))).await
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let taken = ready!(self.own.poll(cx, &mut Next(&self.handle)))?;
        Poll::Ready(Ok(self.handle.view(taken).to_vec()))
    }
}

/// The wait for a frame.
struct Next<'a>(&'a Consumer);

impl Attempt for Next<'_> {
    /// A frame that is taken. It is not dropped unused: no wait lies between it and its view.
    type Found = Taken;

    #[inline]
    fn attempt(&mut self) -> Result<Taken> {
        self.0.try_take()
    }

    fn is_likely(&mut self) -> bool {
        self.0.is_frame_likely()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.0.readable())
    }

    fn prepare(&mut self) {
        self.0.search_again();
    }
}

/// A [`Producer`] for tasks, under any executor: its calls are awaited. What is said of
/// [`AsyncConsumer`] holds here, too.
///
/// ```
/// use slipring::mpmc::{self, AsyncProducer};
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
/// let (tx, rx) = mpmc::pair(16, 64)?;
/// let tx = AsyncProducer::from(tx);
/// tx.send(b"job").await?;
/// assert_eq!(&*rx.try_recv()?, b"job");
/// # Ok::<(), slipring::Error>(())
/// # })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncProducer {
    handle: Producer,
    own: Waiting<Arc<Tasks>>,
    /// A frame of the `Sink` that found the ring full.
    staged: Option<Vec<u8>>,
}

task_calls!(AsyncProducer, Producer, "mpmc::AsyncProducer", { staged });
sink_of_frames!(AsyncProducer);

/// Shares the participant of the ring and the place with the reactor.
impl Clone for AsyncProducer {
    fn clone(&self) -> Self {
        let own = Waiting::new(Arc::clone(self.own.tasks()));
        AsyncProducer { handle: self.handle.clone(), own, staged: None }
    }
}

impl AsyncProducer {
    /// Sends a copy of `payload`. If the future is dropped before it is ready, nothing is sent.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn send(&self, payload: &[u8]) -> Result<()> {
        let claim = self.claim(payload.len()).await?;
        self.handle.fill(claim, Header::PLAIN, payload);
        Ok(())
    }

    /// [`AsyncProducer::send`] with a kind, a stream and flags.
    ///
    /// # Errors
    /// As [`AsyncProducer::send`], and [`Error::Invalid`](crate::Error::Invalid) for a kind that
    /// [`Header::new`] and [`Header::control`] refuse.
    pub async fn send_frame(&self, header: Header, payload: &[u8]) -> Result<()> {
        let header = header.checked()?;
        let claim = self.claim(payload.len()).await?;
        self.handle.fill(claim, header, payload);
        Ok(())
    }

    /// Reserves a slot, to be written in place. Invisible to consumers until [`WriteGrant::commit`];
    /// dropping it aborts. The frames behind it wait for it, so commit or drop it before the next
    /// wait of the task.
    ///
    /// # Errors
    /// As [`AsyncProducer::send`].
    pub async fn reserve(&self, len: usize) -> Result<WriteGrant<'_>> {
        Ok(self.handle.grant(self.claim(len).await?, len))
    }

    async fn claim(&self, len: usize) -> Result<Claim> {
        let mut waiting = Waiting::new(&**self.own.tasks());
        poll_fn(|cx| waiting.poll(cx, &mut Slot { handle: &self.handle, len })).await
    }

    fn poll_put(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<Result<()>> {
        let claim = ready!(self.own.poll(cx, &mut Slot { handle: &self.handle, len: payload.len() }))?;
        self.handle.fill(claim, Header::PLAIN, payload);
        Poll::Ready(Ok(()))
    }
}

/// The wait for a free slot.
struct Slot<'a> {
    handle: &'a Producer,
    len: usize,
}

impl Attempt for Slot<'_> {
    /// A claim. It is not dropped unused: no wait lies between it and its grant or its frame.
    type Found = Claim;

    #[inline]
    fn attempt(&mut self) -> Result<Claim> {
        self.handle.try_claim(self.len)
    }

    fn is_likely(&mut self) -> bool {
        self.handle.is_slot_likely()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.handle.writable())
    }
}
