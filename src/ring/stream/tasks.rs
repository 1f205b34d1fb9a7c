//! The ends of a byte stream for tasks, also as Tokio's `AsyncRead` and `AsyncWrite`.
//!
//! Relies on `producer.rs` and `consumer.rs` for the calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::{Consumer, Producer, ReadView};
use crate::error::Result;
use crate::ring::tasks::task_calls;
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Consumer`] for tasks, under any executor; what is said of
/// [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) holds here, too. With the feature `tokio` it
/// is an `AsyncRead`, whose end is 0 bytes.
///
/// ```
/// use slipring::stream::{self, AsyncConsumer, AsyncProducer};
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
/// let (tx, rx) = stream::pair(4096)?;
/// let (mut tx, mut rx) = (AsyncProducer::new(tx), AsyncConsumer::new(rx));
/// assert_eq!(tx.write(b"a block").await?, 7);
/// let mut block = [0; 100];
/// assert_eq!(rx.read(&mut block).await?, 7);
/// # Ok::<(), slipring::Error>(())
/// # })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncConsumer {
    handle: Consumer,
    own: Waiting<Arc<Tasks>>,
}

task_calls!(AsyncConsumer, Consumer, "stream::AsyncConsumer", {});

impl AsyncConsumer {
    /// Reads at least one byte, up to the length of `buffer`. If the future is dropped before it is
    /// ready, nothing is read.
    ///
    /// # Errors
    /// As [`Consumer::read`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        poll_fn(|cx| self.poll_some(cx, buffer)).await
    }

    fn poll_some(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<usize>> {
        if !buffer.is_empty() {
            ready!(self.own.poll(cx, &mut self.handle))?;
        }
        Poll::Ready(self.handle.try_read(buffer))
    }
}

impl Attempt for Consumer {
    /// A byte that is there until it is read, which takes the handle.
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        self.try_read_view(1).map(ReadView::keep)
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.readable())
    }
}

/// A [`Producer`] for tasks, under any executor. What is said of [`AsyncConsumer`], which has an
/// example, holds here, too. With the feature `tokio` it is an `AsyncWrite`.
pub struct AsyncProducer {
    handle: Producer,
    own: Waiting<Arc<Tasks>>,
    #[cfg(feature = "tokio")]
    is_shut: bool,
}

#[cfg(feature = "tokio")]
task_calls!(AsyncProducer, Producer, "stream::AsyncProducer", { is_shut });
#[cfg(not(feature = "tokio"))]
task_calls!(AsyncProducer, Producer, "stream::AsyncProducer", {});

impl AsyncProducer {
    /// Writes as much of `bytes` as fits, at least one byte. If the future is dropped before it is
    /// ready, nothing is written.
    ///
    /// # Errors
    /// [`Error::Closed`](crate::Error::Closed) or [`Error::PeerDead`](crate::Error::PeerDead) if
    /// the stream is full and the consumer has departed; [`Error::Io`](crate::Error::Io) if the
    /// reactor cannot be started.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        poll_fn(|cx| self.poll_some(cx, bytes)).await
    }

    fn poll_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if !bytes.is_empty() {
            ready!(self.own.poll(cx, &mut self.handle))?;
        }
        Poll::Ready(self.handle.try_write(bytes))
    }
}

impl Attempt for Producer {
    /// Room that is there until it is written to, which takes the handle.
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        self.try_reserve(1).map(drop)
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.writable(1))
    }
}

#[cfg(feature = "tokio")]
mod tokio_io {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{AsyncConsumer, AsyncProducer};
    use crate::error::Error;
    use crate::ring::stream::io::io_error;

    impl AsyncRead for AsyncConsumer {
        fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            match ready!(self.get_mut().poll_some(cx, buffer.initialize_unfilled())) {
                Ok(read) => buffer.advance(read),
                Err(Error::Closed) => {}
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
            Poll::Ready(Ok(()))
        }
    }

    /// Shutting it down makes later writes fail; the consumer sees the end when it is dropped.
    impl AsyncWrite for AsyncProducer {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            if this.is_shut {
                return Poll::Ready(Err(io_error(Error::Closed)));
            }
            this.poll_some(cx, bytes).map_err(io_error)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().is_shut = true;
            Poll::Ready(Ok(()))
        }
    }
}
