//! Cancelling the blocking calls of a handle from another thread or a signal handler.
//!
//! Used by every handle that blocks; each keeps what it sleeps on in a [`Cancellable`]. Relies on
//! `eventcount.rs`: cancelling publishes a flag and notifies, as a frame would, so no wake-up is
//! lost. After every wake-up `block.rs` tries to get a frame or a permit before it checks the flag,
//! so no wake-up is lost for other waiters either.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::eventcount::{ALL, Many, One};
use super::mutex::Lock;
use crate::error::{Error, Result};

/// Ends the blocking calls of a handle (and of its clones) with [`Error::Cancelled`].
///
/// Created by `canceller()` of a producer, a consumer, a [`Mutex`](crate::Mutex) or a
/// [`Semaphore`](crate::Semaphore). It stays cancelled until [`Canceller::reset`], so it does not
/// matter whether the call had begun to wait. Calls that need not wait, and `try_…` calls, are not
/// affected. So a consumer still receives the frames in the ring, and a loop that always finds a
/// frame must call [`Canceller::is_cancelled`] itself.
///
/// # Ctrl-C
///
/// ```
/// use slipring::{Canceller, Error, spsc};
/// use std::sync::OnceLock;
///
/// static STOP: OnceLock<Canceller> = OnceLock::new();
///
/// extern "C" fn stop(_: libc::c_int) {
///     if let Some(canceller) = STOP.get() {
///         canceller.cancel(); // allowed in a signal handler
///     }
/// }
///
/// let (_tx, mut rx) = spsc::pair(4096)?;
/// STOP.get_or_init(|| rx.canceller()); // before the handler is installed
/// // SAFETY: the handler only calls what is async-signal-safe.
/// unsafe { libc::signal(libc::SIGINT, stop as extern "C" fn(libc::c_int) as libc::sighandler_t) };
///
/// # std::thread::spawn(|| unsafe { libc::kill(libc::getpid(), libc::SIGINT) }); // the user presses Ctrl-C
/// while !STOP.get().is_some_and(Canceller::is_cancelled) {
///     match rx.recv() {
///         Ok(frame) => println!("{} bytes", frame.len()),
///         Err(Error::Cancelled) => break, // leave in an orderly way: drop the handles
///         Err(error) => return Err(error),
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Canceller(Arc<Cancellable<dyn Sleepers>>);

impl Canceller {
    /// Ends the blocking calls that wait now, and those that would wait later. Wait-free, apart
    /// from one system call if there is a sleeper (`FUTEX_WAKE`); async-signal-safe: no allocation,
    /// no lock, `errno` is preserved.
    ///
    /// A sleeper wakes at once. In two cases it notices only at the end of its sleep, after 50 ms
    /// at most: a waiter for a mutex that was about to sleep, and a waker that was killed.
    pub fn cancel(&self) {
        // SYNC(cancel): pairs with the load in `is_cancelled`.
        self.0.cancelled.store(true, Ordering::Release);
        self.0.sleepers.wake_all();
    }

    /// Whether [`Canceller::cancel`] was called since the last reset. A load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Allows calls to wait again.
    ///
    /// ```
    /// use slipring::Error;
    /// use std::time::Duration;
    /// let (_tx, mut rx) = slipring::spsc::pair(4096)?;
    /// let canceller = rx.canceller();
    /// canceller.cancel();
    /// assert!(matches!(rx.recv(), Err(Error::Cancelled)));
    /// canceller.reset();
    /// assert!(matches!(rx.recv_deadline(Duration::from_millis(1)), Err(Error::Timeout)));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn reset(&self) {
        // SYNC(cancel): pairs with the load in `is_cancelled`.
        self.0.cancelled.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// The waiters of a handle's calls, which can be woken without an event.
pub(crate) trait Sleepers: Send + Sync {
    /// Wakes every sleeper. Async-signal-safe.
    fn wake_all(&self);
}

impl Sleepers for One {
    fn wake_all(&self) {
        self.notify();
    }
}

impl Sleepers for Many {
    fn wake_all(&self) {
        self.notify(ALL);
    }
}

impl Sleepers for Lock {
    fn wake_all(&self) {
        Lock::wake_all(self);
    }
}

/// What a handle's calls sleep on, and whether they are cancelled.
pub(crate) struct Cancellable<S: ?Sized> {
    cancelled: AtomicBool,
    pub(crate) sleepers: S,
}

impl<S: Sleepers + 'static> Cancellable<S> {
    pub(crate) fn new(sleepers: S) -> Arc<Self> {
        Arc::new(Cancellable { cancelled: AtomicBool::new(false), sleepers })
    }

    pub(crate) fn canceller(self: &Arc<Self>) -> Canceller {
        Canceller(self.clone())
    }
}

impl<S: ?Sized> Cancellable<S> {
    /// Whether calls must return instead of waiting.
    pub(crate) fn is_cancelled(&self) -> bool {
        // SYNC(cancel): pairs with the stores in `cancel` and `reset`.
        self.cancelled.load(Ordering::Acquire)
    }

    /// Runs `attempt`, for the blocking loop: its result comes first, even if the call is
    /// cancelled.
    pub(crate) fn unless_cancelled<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>>,
    ) -> impl FnMut() -> Result<Option<T>> {
        move || match attempt()? {
            None if self.is_cancelled() => Err(Error::Cancelled),
            found => Ok(found),
        }
    }
}
