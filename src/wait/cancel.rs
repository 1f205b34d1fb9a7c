//! Ending the blocking calls of a handle from elsewhere: another thread, or a signal handler.
//!
//! Used by every handle that blocks, each of which keeps what it sleeps on in a [`Cancellable`]. Relies on `eventcount.rs`:
//! cancelling publishes a flag and notifies, as a frame would, so no wake-up is lost; and `block.rs` looks for a frame or a
//! permit after every wake-up before it looks at the flag, so none is lost for others either.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::eventcount::{ALL, Many, One};
use super::mutex::Lock;
use crate::error::{Error, Result};

/// Ends the blocking calls of a handle (and of its clones) with [`Error::Cancelled`].
///
/// Made by `canceller()` of a producer, a consumer, a [`Mutex`](crate::Mutex) or a [`Semaphore`](crate::Semaphore). It stays
/// cancelled until [`Canceller::reset`], so it does not matter whether the call had begun to wait. A call that need not wait
/// does what it always does: a consumer still receives what lies in the ring, and a loop that is never short of frames asks
/// [`Canceller::is_cancelled`] itself. `try_…` calls are not affected.
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
    /// Ends the blocking calls that wait, and those that would have to wait later. Wait-free but for one system call if there
    /// is a sleeper (`FUTEX_WAKE`); async-signal-safe: no allocation, no lock, `errno` stays.
    ///
    /// A sleeper wakes at once; at the latest it notices after the 50 ms that no sleep exceeds (the waiter for a mutex that
    /// was about to sleep, and one killed waker).
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.sleepers.wake_all();
    }

    /// Whether [`Canceller::cancel`] was called since the last reset. A load.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Lets calls wait again.
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
        self.0.cancelled.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("is_cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

/// What a handle's calls sleep on, to be woken in vain.
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

/// What a handle's calls sleep on, and whether they have been cancelled.
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
    /// Whether calls are to return instead of waiting.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// `attempt`, for the blocking loop: what it finds comes first, even for a cancelled call.
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
