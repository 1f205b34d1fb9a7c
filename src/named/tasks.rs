//! The semaphores, the mutex and the event for tasks: calls that are awaited instead of blocking.
//!
//! Used by applications with an async executor. Relies on the handles for the attempts, and on
//! `set/tasks.rs` for the waiting.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use super::event::Event;
use super::mutex::{Locked, Mutex};
use super::semaphore::{Permit, Semaphore};
use super::signal_semaphore::SignalSemaphore;
use crate::error::{Error, Result};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};
use crate::wait::event::Seen;

/// Defines a handle for tasks around `$handle`.
macro_rules! for_tasks {
    ($(#[$doc:meta])* $async:ident, $handle:ident, $tasks:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $async {
            handle: $handle,
            tasks: Arc<Tasks>,
        }

        impl $async {
            #[doc = concat!("Takes a [`", stringify!($handle), "`]. No system call; the reactor is started by")]
            /// the first wait.
            #[must_use]
            pub fn new(handle: $handle) -> Self {
                $async { handle, tasks: Arc::new($tasks) }
            }

            /// The handle, for its other calls. Those that block would block the task's thread.
            #[must_use]
            pub fn get_ref(&self) -> &$handle {
                &self.handle
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

        impl fmt::Debug for $async {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($async)).field(&self.handle).finish()
            }
        }
    };
}

for_tasks! {
    /// A [`Semaphore`] for tasks, under any executor.
    ///
    /// A call that finds a permit makes no system call and takes no lock of this process. One that
    /// finds none leaves its waker with the process's reactor: one thread that sleeps for up to 120
    /// handles, started by the first wait and ended with the last handle, and woken by the death of
    /// a holder, too. Clones share one place there: one of their tasks is woken at a time.
    ///
    /// **Cancelling.** A future may be dropped at any time: it holds no permit, and a wake-up that
    /// it got goes to the next task. A time limit is the executor's matter: drop the future when it
    /// has passed.
    ///
    /// ```
    /// use slipring::{AsyncSemaphore, Semaphore};
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
    /// #             std::task::Poll::Ready(output) => return output,
    /// #             std::task::Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let licences = AsyncSemaphore::new(Semaphore::create_anonymous(2)?);
    /// # block_on(async {
    /// let permit = licences.acquire().await?;
    /// assert_eq!(licences.get_ref().available(), 1);
    /// # drop(permit);
    /// # Ok::<(), slipring::Error>(())
    /// # })?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    AsyncSemaphore, Semaphore, Tasks::new()
}

impl AsyncSemaphore {
    /// Acquires a permit; waits until one is free or its holder has died.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that attached; [`Error::Io`] if the reactor
    /// cannot be started.
    pub async fn acquire(&self) -> Result<Permit<'_>> {
        wait(&self.tasks, Once { attempt: || self.handle.try_acquire(), edge: || self.handle.acquirable() }).await
    }
}

for_tasks! {
    /// A [`SignalSemaphore`] for tasks, under any executor. As [`AsyncSemaphore`]: a future that is
    /// dropped has taken no post.
    ///
    /// ```
    /// use slipring::{AsyncSignalSemaphore, SignalSemaphore};
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
    /// #             std::task::Poll::Ready(output) => return output,
    /// #             std::task::Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let ticks = SignalSemaphore::create_anonymous()?;
    /// let waiting = AsyncSignalSemaphore::from(ticks.clone());
    /// std::thread::spawn(move || ticks.post());
    /// block_on(waiting.wait())?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    AsyncSignalSemaphore, SignalSemaphore, Tasks::new()
}

impl AsyncSignalSemaphore {
    /// Takes one post; waits until the count is not 0.
    ///
    /// # Errors
    /// As [`AsyncSemaphore::acquire`].
    pub async fn wait(&self) -> Result<()> {
        let attempt = || Ok(self.handle.try_wait()?.then_some(()));
        wait(&self.tasks, Once { attempt, edge: || self.handle.waitable() }).await
    }
}

for_tasks! {
    /// A [`Mutex`] for tasks, under any executor. As [`AsyncSemaphore`]: a future that is dropped
    /// holds no lock.
    ///
    /// A guard may be held while the task waits for something else. Other tasks that lock the mutex
    /// wait meanwhile; a thread that locks it blocks.
    ///
    /// ```
    /// use slipring::{AsyncMutex, Mutex};
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
    /// #             std::task::Poll::Ready(output) => return output,
    /// #             std::task::Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let account = AsyncMutex::new(Mutex::create_anonymous(8)?);
    /// # block_on(async {
    /// let mut bytes = account.lock().await?.into_guard();
    /// bytes[0] += 1;
    /// # Ok::<(), slipring::Error>(())
    /// # })?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    AsyncMutex, Mutex, Tasks::new()
}

impl AsyncMutex {
    /// Locks the mutex; waits until it is free or its holder has died.
    ///
    /// # Errors
    /// As [`AsyncSemaphore::acquire`].
    pub async fn lock(&self) -> Result<Locked<'_>> {
        wait(&self.tasks, Once { attempt: || self.handle.try_lock(), edge: || self.handle.lockable() }).await
    }
}

for_tasks! {
    /// An [`Event`] for tasks, under any executor. As [`AsyncSemaphore`], but all tasks of this
    /// handle and its clones are woken at once.
    ///
    /// ```
    /// use slipring::{AsyncEvent, Event};
    /// # fn block_on<T>(future: impl Future<Output = T>) -> T {
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
    /// #             std::task::Poll::Ready(output) => return output,
    /// #             std::task::Poll::Pending => std::thread::yield_now(),
    /// #         }
    /// #     }
    /// # }
    /// let go = Event::create_anonymous()?;
    /// let waiting = AsyncEvent::from(go.clone());
    /// let wait = waiting.wait(); // begins here: the set below is not missed, although it is reset
    /// go.set()?;
    /// go.reset()?;
    /// block_on(wait)?;
    /// # Ok::<(), slipring::Error>(())
    /// ```
    AsyncEvent, Event, Tasks::for_all()
}

impl AsyncEvent {
    /// Waits until the event is set, or was since this call, even if the future was not polled
    /// then.
    ///
    /// # Errors
    /// As [`AsyncSemaphore::acquire`].
    pub fn wait(&self) -> impl Future<Output = Result<()>> + use<'_> {
        let began: Seen = self.handle.begin();
        let attempt = move || Ok(self.handle.is_over(began)?.then_some(()));
        wait(&self.tasks, Once { attempt, edge: || self.handle.waitable() })
    }
}

/// An attempt, which yields `None` if there is nothing, and the edge to wait for.
struct Once<A, E> {
    attempt: A,
    edge: E,
}

impl<T, A: FnMut() -> Result<Option<T>>, E: Fn() -> Readiness> Attempt for Once<A, E> {
    type Found = T;

    fn attempt(&mut self) -> Result<T> {
        (self.attempt)()?.ok_or(Error::Empty)
    }

    fn readiness(&mut self) -> Result<Readiness> {
        Ok((self.edge)())
    }
}

async fn wait<A: Attempt>(tasks: &Tasks, mut attempt: A) -> Result<A::Found> {
    let mut waiting = Waiting::new(tasks);
    poll_fn(|cx| waiting.poll(cx, &mut attempt)).await
}
