//! The handles for tasks: calls that are awaited instead of blocking.
//!
//! Relies on `producer.rs` and `consumer.rs`, on `ring/tasks.rs` for the calls, on `set/tasks.rs`
//! for the waiting.

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
use crate::ring::tasks::{sink_of_frames, stream_of_frames, task_calls, task_consumer, task_producer};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Consumer`] for tasks, under any executor: its calls are awaited, and lend in place.
///
/// A call that finds a frame makes no system call and takes no lock. One that finds none looks for
/// a moment, unless that was in vain lately, then leaves its waker with the process's reactor: one
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

task_consumer!(AsyncConsumer, Consumer, "spsc::AsyncConsumer");

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

task_producer!(AsyncProducer, Producer, "spsc::AsyncProducer");
