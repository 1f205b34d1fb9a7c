//! The reader for tasks: a change is awaited instead of blocking.
//!
//! Relies on `reader.rs` for the calls, on `set/tasks.rs` for the waiting.

use std::future::poll_fn;
use std::sync::Arc;

use super::Reader;
use crate::error::Result;
use crate::ring::tasks::task_calls;
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};

/// A [`Reader`] for tasks, under any executor. Reading does not wait, so [`AsyncReader::get_mut`]
/// has the calls for that; [`AsyncReader::changed`] is awaited. What is said of
/// [`spsc::AsyncConsumer`](crate::spsc::AsyncConsumer) of cancelling, fairness and forks holds
/// here, too.
///
/// ```
/// use slipring::latest::{self, AsyncReader};
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
/// #             std::task::Poll::Ready(output) => return output,
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// let (mut tx, rx) = latest::pair(2, 8)?;
/// let mut rx = AsyncReader::new(rx);
/// std::thread::spawn(move || tx.write(1, b"on"));
/// block_on(async {
///     let cell = rx.changed().await?;
///     assert_eq!(rx.get_mut().try_read(cell, &mut [0; 8])?.value, b"on");
///     assert!(matches!(rx.changed().await, Err(slipring::Error::Closed)));
///     # Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncReader {
    handle: Reader,
    own: Waiting<Arc<Tasks>>,
}

task_calls!(AsyncReader, Reader, "latest::AsyncReader", {});

impl AsyncReader {
    /// The next cell that has a value which was not read: see [`Reader::try_changed`].
    ///
    /// # Errors
    /// As [`Reader::changed`]; [`Error::Io`](crate::Error::Io) if the reactor cannot be started.
    pub async fn changed(&mut self) -> Result<usize> {
        let AsyncReader { handle, own } = self;
        let mut waiting = Waiting::new(&**own.tasks());
        poll_fn(|cx| waiting.poll(cx, handle)).await
    }
}

impl Attempt for Reader {
    /// A cell that was not read: if this is dropped, it comes again in its turn.
    type Found = usize;

    #[inline]
    fn attempt(&mut self) -> Result<usize> {
        self.try_changed()
    }

    fn is_likely(&mut self) -> bool {
        self.is_any_changed()
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok(self.readable())
    }
}
