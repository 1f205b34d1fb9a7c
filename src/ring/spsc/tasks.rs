//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `producer.rs` and `consumer.rs` for the calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use super::layout::Peeked;
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
/// handle. So an idle task costs nothing, and the end of a peer wakes it, too
/// ([`WaitSet`](crate::WaitSet), "Deaths").
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
/// use slipring::spsc::{self, AsyncConsumer, AsyncProducer};
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
/// let (tx, rx) = spsc::pair(4096)?;
/// let (mut tx, mut rx) = (AsyncProducer::new(tx), AsyncConsumer::new(rx));
/// std::thread::spawn(move || block_on(async { tx.send(b"EURUSD 1.0842").await }));
/// block_on(async {
///     assert_eq!(&*rx.recv().await?, b"EURUSD 1.0842"); // in place: released when it is dropped
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

task_calls!(AsyncConsumer, Consumer, "spsc::AsyncConsumer", { has_ended });
stream_of_frames!(AsyncConsumer);

impl AsyncConsumer {
    /// Receives the next frame in place. Dropping the view releases it.
    ///
    /// # Errors
    /// As [`Consumer::recv`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn recv(&mut self) -> Result<ReadView<'_>> {
        let frame = self.next().await?;
        Ok(self.handle.view(frame))
    }

    /// Receives the committed frames in place, at least one. Dropping the batch releases those that
    /// were read.
    ///
    /// # Errors
    /// As [`AsyncConsumer::recv`]; [`Error::Invalid`](crate::Error::Invalid) if `max` is 0.
    pub async fn recv_batch(&mut self, max: usize) -> Result<ReadBatch<'_>> {
        check_max(max)?;
        self.next().await?;
        Ok(self.handle.batch(max))
    }

    async fn next(&mut self) -> Result<Peeked> {
        let AsyncConsumer { handle, own, .. } = self;
        own.end(); // a `Stream` that was not polled to its end
        let mut waiting = Waiting::new(&**own.tasks());
        poll_fn(|cx| waiting.poll(cx, handle)).await
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let frame = ready!(self.own.poll(cx, &mut self.handle))?;
        Poll::Ready(Ok(self.handle.view(frame).to_vec()))
    }
}

impl Attempt for Consumer {
    /// A frame that is not held: if this is dropped, the next attempt finds it again.
    type Found = Peeked;

    #[inline]
    fn attempt(&mut self) -> Result<Peeked> {
        self.try_next()
    }

    fn is_likely(&mut self) -> bool {
        self.core.look_first().is_ok()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.readable())
    }
}

/// A [`Producer`] for tasks, under any executor: its calls are awaited. What is said of
/// [`AsyncConsumer`] holds here, too.
///
/// ```
/// use slipring::spsc::{self, AsyncConsumer, AsyncProducer};
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
/// let (tx, mut rx) = spsc::pair(4096)?;
/// let mut tx = AsyncProducer::from(tx);
/// let mut grant = tx.reserve(100).await?; // room, to be filled in place
/// grant[..5].copy_from_slice(b"hello");
/// grant.commit(5);
/// assert_eq!(&*rx.try_recv()?, b"hello");
/// # Ok::<(), slipring::Error>(())
/// # })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncProducer {
    handle: Producer,
    own: Waiting<Arc<Tasks>>,
    /// The room that is waited for, as the reactor's look reads it.
    room: Arc<AtomicUsize>,
    /// A frame of the `Sink` that found the ring full.
    staged: Option<Vec<u8>>,
}

task_calls!(AsyncProducer, Producer, "spsc::AsyncProducer", { room, staged });
sink_of_frames!(AsyncProducer);

impl AsyncProducer {
    /// Sends a copy of `payload`. If the future is dropped before it is ready, nothing is sent.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.room(payload.len()).await?;
        self.handle.put_ahead(Header::PLAIN, payload);
        Ok(())
    }

    /// [`AsyncProducer::send`] with a kind, a stream and flags.
    ///
    /// # Errors
    /// As [`AsyncProducer::send`], and [`Error::Invalid`](crate::Error::Invalid) for a kind that
    /// [`Header::new`] and [`Header::control`] refuse.
    pub async fn send_frame(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        let header = header.checked()?;
        self.room(payload.len()).await?;
        self.handle.put_ahead(header, payload);
        Ok(())
    }

    /// Reserves room for a payload of up to `len` bytes, to be written in place. Invisible to the
    /// consumer until [`WriteGrant::commit`]; dropping it aborts.
    ///
    /// # Errors
    /// As [`AsyncProducer::send`].
    pub async fn reserve(&mut self, len: usize) -> Result<WriteGrant<'_>> {
        self.room(len).await?;
        Ok(self.handle.grant(len))
    }

    /// Waits for room at the producer's tail.
    async fn room(&mut self, len: usize) -> Result<()> {
        let AsyncProducer { handle, own, room, staged } = self;
        own.end(); // a `Sink` that was not polled to its end
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
        let AsyncProducer { handle, own, room, .. } = self;
        ready!(own.poll(cx, &mut Room { handle, room, len: payload.len() }))?;
        handle.put_ahead(Header::PLAIN, payload);
        Poll::Ready(Ok(()))
    }
}

/// The wait for room for a payload of a length.
struct Room<'a> {
    handle: &'a mut Producer,
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
