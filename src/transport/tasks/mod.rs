//! The ends of transports for tasks: they wait for the descriptor that the end polls.
//!
//! Used by programs with an executor. Relies on the reactor, which wakes tasks under any executor,
//! or on Tokio's own event loop.
//!
//! An end may change its descriptor, as a reconnecting one does, or have none for a while. So each
//! wait looks which one it is, and waits for another one anew. Where there is none, the end is
//! tried again every [`RETRY`].

mod owned;

use std::future::poll_fn;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::{FrameReceiver, FrameSender};
use crate::error::{Error, Result};
use crate::frame::{Event, Frame, Header, OwnedFrame};
#[cfg(feature = "tokio")]
use crate::os::{async_fd::PolledFd, poll::Ready};
use crate::set::source::Readiness;
use crate::set::tasks::{Attempt, Tasks, Waiting};
use crate::wait::deadline::Deadline;

/// The pause before another attempt where no descriptor tells of it.
const RETRY: Duration = Duration::from_millis(5);

/// The receiving end of a transport, for tasks: over its descriptor
/// ([`FrameReceiver::poll_fd`]; for a ring see
/// [`with_doorbell`](crate::transport::ring::Receiver::with_doorbell), or take the ring's own
/// handles for tasks, which cost less).
///
/// A call that finds an event costs what [`FrameReceiver::try_recv`] costs, and a copy of its
/// payload. Futures may be dropped at any time: no event is lost. Without a descriptor, for example
/// between two connections, the end is tried every 5 ms.
///
/// ```
/// use slipring::frame::{Event, Header};
/// use slipring::transport::{AsyncReceiver, AsyncSender, pipe, stream::Options};
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
/// let (tx, rx) = pipe::pair(&Options::new())?;
/// let (mut tx, mut rx) = (AsyncSender::new(Box::new(tx)), AsyncReceiver::new(Box::new(rx)));
/// std::thread::spawn(move || {
///     block_on(async {
///         tx.send(Header::PLAIN, b"tick").await?;
///         tx.close().await
///     })
/// });
/// block_on(async {
///     assert!(matches!(rx.recv().await?, Event::Frame(frame) if frame.payload == b"tick"));
///     assert!(matches!(rx.recv().await, Err(slipring::Error::Closed)));
///     # Ok::<(), slipring::Error>(())
/// })?;
/// # Ok::<(), slipring::Error>(())
/// ```
pub struct AsyncReceiver {
    end: Box<dyn FrameReceiver>,
    wait: Wait,
    /// The payload of the event that was received last.
    payload: Vec<u8>,
    /// Whether the last item of the `Stream` was an error.
    has_ended: bool,
}

impl AsyncReceiver {
    /// Takes a receiver; its tasks may run under any executor.
    #[must_use]
    pub fn new(receiver: Box<dyn FrameReceiver>) -> Self {
        AsyncReceiver { end: receiver, wait: Wait::new(), payload: Vec::new(), has_ended: false }
    }

    /// As [`AsyncReceiver::new`], in a runtime of Tokio, whose event loop then waits for the
    /// descriptor: one hop less than over the reactor.
    ///
    /// The calls fail with [`Error::Unsupported`] in a thread without a runtime. They panic in one
    /// whose runtime was built without I/O.
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn in_tokio(receiver: Box<dyn FrameReceiver>) -> Self {
        AsyncReceiver { wait: Wait::in_tokio(), ..Self::new(receiver) }
    }

    /// Receives the next frame, or a report of frames that are missing, duplicated or unreadable.
    ///
    /// # Errors
    /// As [`FrameReceiver::recv`]; [`Error::Io`] if the reactor cannot be started.
    pub async fn recv(&mut self) -> Result<Event<'_>> {
        let AsyncReceiver { end, wait, payload, .. } = self;
        let shape = wait.until(&mut Receive { end: &mut **end, payload }).await?;
        Ok(shape.event(&self.payload))
    }

    /// The receiver, for its other calls.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut dyn FrameReceiver {
        &mut *self.end
    }

    /// The receiver, for threads.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn FrameReceiver> {
        self.end
    }
}

impl std::fmt::Debug for AsyncReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncReceiver").field("fd", &self.end.poll_fd()).finish_non_exhaustive()
    }
}

/// The sending end of a transport, for tasks: over its descriptor ([`FrameSender::poll_fd`]). What
/// is said of [`AsyncReceiver`], which has an example, holds here, too.
pub struct AsyncSender {
    end: Box<dyn FrameSender>,
    wait: Wait,
    /// A frame of the `Sink` that found no room.
    staged: Option<OwnedFrame>,
}

impl AsyncSender {
    /// Takes a sender; its tasks may run under any executor.
    #[must_use]
    pub fn new(sender: Box<dyn FrameSender>) -> Self {
        AsyncSender { end: sender, wait: Wait::new(), staged: None }
    }

    /// As [`AsyncSender::new`], in a runtime of Tokio: see [`AsyncReceiver::in_tokio`].
    #[cfg(feature = "tokio")]
    #[must_use]
    pub fn in_tokio(sender: Box<dyn FrameSender>) -> Self {
        AsyncSender { wait: Wait::in_tokio(), ..Self::new(sender) }
    }

    /// Sends one frame. If the future is dropped before it is ready, nothing of it is sent.
    /// Transports may collect small frames: [`AsyncSender::flush`] sends them.
    ///
    /// # Errors
    /// As [`FrameSender::send`]; [`Error::Io`] if the reactor cannot be started.
    pub async fn send(&mut self, header: Header, payload: &[u8]) -> Result<()> {
        self.send_staged().await?;
        let AsyncSender { end, wait, .. } = self;
        wait.until(&mut Send { end: &mut **end, what: What::Frame(header, payload) }).await
    }

    /// Passes all collected frames to the kernel or the ring. May be dropped, and called again.
    ///
    /// # Errors
    /// As [`FrameSender::flush_until`], without the time-out.
    pub async fn flush(&mut self) -> Result<()> {
        self.send_staged().await?;
        let AsyncSender { end, wait, .. } = self;
        wait.until(&mut Send { end: &mut **end, what: What::Flush }).await
    }

    /// Flushes, and sends BYE where the transport has one. May be dropped, and called again.
    ///
    /// # Errors
    /// As [`FrameSender::close_until`], without the time-out.
    pub async fn close(&mut self) -> Result<()> {
        self.send_staged().await?;
        let AsyncSender { end, wait, .. } = self;
        wait.until(&mut Close(&mut **end)).await
    }

    /// The sender, for its other calls.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut dyn FrameSender {
        &mut *self.end
    }

    /// The sender, for threads.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn FrameSender> {
        self.end
    }
}

impl std::fmt::Debug for AsyncSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncSender").field("fd", &self.end.poll_fd()).finish_non_exhaustive()
    }
}

/// An event without its payload, which is copied: what a transport lends cannot outlive the attempt
/// that got it, and the attempt is one of several.
enum Shape {
    Frame(Header, u64),
    Gap { stream: u16, expected: u32, found: u32 },
    Duplicate(Header, u64, u32),
    Skipped { bytes: u64, what: &'static str },
}

impl Shape {
    fn event(self, payload: &[u8]) -> Event<'_> {
        match self {
            Shape::Frame(header, stamp) => Event::Frame(Frame { header, stamp, payload }),
            Shape::Gap { stream, expected, found } => Event::Gap { stream, expected, found },
            Shape::Duplicate(header, stamp, expected) => {
                Event::Duplicate { frame: Frame { header, stamp, payload }, expected }
            }
            Shape::Skipped { bytes, what } => Event::Skipped { bytes, what },
        }
    }
}

/// An attempt at an end, and the descriptor that says when to repeat it.
trait Polled: Attempt {
    #[cfg(feature = "tokio")]
    const READY: Ready;
    const IS_LAST: bool = false;

    /// `None`: no descriptor tells.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

struct Receive<'a> {
    end: &'a mut dyn FrameReceiver,
    payload: &'a mut Vec<u8>,
}

impl Attempt for Receive<'_> {
    type Found = Shape;

    fn attempt(&mut self) -> Result<Shape> {
        let event = self.end.try_recv()?;
        let mut copy = |frame: &Frame<'_>| {
            self.payload.clear();
            self.payload.extend_from_slice(frame.payload);
        };
        Ok(match event {
            Event::Frame(frame) => {
                copy(&frame);
                Shape::Frame(frame.header, frame.stamp)
            }
            Event::Gap { stream, expected, found } => Shape::Gap { stream, expected, found },
            Event::Duplicate { frame, expected } => {
                copy(&frame);
                Shape::Duplicate(frame.header, frame.stamp, expected)
            }
            Event::Skipped { bytes, what } => Shape::Skipped { bytes, what },
        })
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.end.poll_fd().map_or_else(timer_readiness, Readiness::readable_fd)
    }
}

impl Polled for Receive<'_> {
    #[cfg(feature = "tokio")]
    const READY: Ready = Ready::Read;

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.poll_fd()
    }
}

struct Send<'a> {
    end: &'a mut dyn FrameSender,
    what: What<'a>,
}

enum What<'a> {
    Frame(Header, &'a [u8]),
    Flush,
}

impl Attempt for Send<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        match self.what {
            What::Frame(header, payload) => self.end.try_send(header, payload),
            What::Flush => full_if_late(self.end.flush_until(Deadline::after(Duration::ZERO))),
        }
    }

    fn readiness(&mut self) -> Result<Readiness> {
        self.end.poll_fd().map_or_else(timer_readiness, Readiness::writable_fd)
    }
}

impl Polled for Send<'_> {
    #[cfg(feature = "tokio")]
    const READY: Ready = Ready::Write;

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.poll_fd()
    }
}

struct Close<'a>(&'a mut dyn FrameSender);

impl Attempt for Close<'_> {
    type Found = ();

    fn attempt(&mut self) -> Result<()> {
        full_if_late(self.0.close_until(Deadline::after(Duration::ZERO)))
    }

    fn readiness(&mut self) -> Result<Readiness> {
        timer_readiness()
    }
}

impl Polled for Close<'_> {
    #[cfg(feature = "tokio")]
    const READY: Ready = Ready::Write;
    const IS_LAST: bool = true;

    /// It may wait for what no descriptor tells, for example that the peer has read everything.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn full_if_late(outcome: Result<()>) -> Result<()> {
    outcome.map_err(|error| if matches!(error, Error::Timeout) { Error::Full } else { error })
}

/// A descriptor that is readable after [`RETRY`].
fn timer() -> Result<OwnedFd> {
    let failed = |e| Error::io("create a timer", e);
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(failed)?;
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: 0, tv_nsec: i64::from(RETRY.subsec_nanos()) },
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).map_err(failed)?;
    Ok(timer)
}

fn timer_readiness() -> Result<Readiness> {
    Readiness::readable_fd(timer()?)
}

/// Which descriptor it is: another one may have the same number later, but not while a duplicate of
/// this one is kept and the file has an inode of its own. (Those that have not, eventfds and epoll
/// instances, an end keeps.)
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    fd: RawFd,
    device: u64,
    inode: u64,
}

impl Identity {
    fn of<A: Polled>(attempt: &A) -> Option<Self> {
        let fd = attempt.fd()?;
        let stat = rustix::fs::fstat(fd).ok()?;
        Some(Identity { fd: fd.as_raw_fd(), device: stat.st_dev, inode: stat.st_ino })
    }
}

/// What an end's tasks wait for.
struct Wait {
    on: On,
    /// `None`: a timer, or nothing yet.
    identity: Option<Identity>,
}

enum On {
    Reactor(Waiting<Arc<Tasks>>),
    #[cfg(feature = "tokio")]
    Tokio(Option<PolledFd>),
}

impl Wait {
    fn new() -> Self {
        Wait { on: On::Reactor(Waiting::new(Arc::new(Tasks::new()))), identity: None }
    }

    #[cfg(feature = "tokio")]
    fn in_tokio() -> Self {
        Wait { on: On::Tokio(None), identity: None }
    }

    /// Repeats an attempt until it succeeds or fails. Dropping the future ends the wait.
    async fn until<A: Polled>(&mut self, attempt: &mut A) -> Result<A::Found> {
        self.end(); // a `Stream` or a `Sink` that was not polled to its end
        let outcome = match attempt.attempt() {
            Err(Error::Empty | Error::Full) => {
                let one = One(self);
                poll_fn(|cx| one.0.poll(cx, attempt)).await
            }
            outcome => outcome,
        };
        if outcome.is_err() || A::IS_LAST {
            self.forget();
        }
        outcome
    }

    /// Polls an attempt until it succeeds or fails, without a future.
    fn poll_until<A: Polled>(&mut self, cx: &mut Context<'_>, attempt: &mut A) -> Poll<Result<A::Found>> {
        let outcome = match attempt.attempt() {
            Err(Error::Empty | Error::Full) => match self.poll(cx, attempt) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => return Poll::Pending,
            },
            outcome => outcome,
        };
        self.end();
        if outcome.is_err() || A::IS_LAST {
            self.forget();
        }
        Poll::Ready(outcome)
    }

    /// Gives the wait up, if there is one.
    fn end(&mut self) {
        match &mut self.on {
            On::Reactor(waiting) => waiting.end(),
            // Its waker is replaced by the next wait, and dropped with the descriptor.
            #[cfg(feature = "tokio")]
            On::Tokio(_) => {}
        }
    }

    /// Closes the duplicate of the descriptor, by which the peer might think that the end lives.
    #[cold]
    fn forget(&mut self) {
        self.identity = None;
        match &mut self.on {
            On::Reactor(waiting) => *waiting = Waiting::new(Arc::new(Tasks::new())),
            #[cfg(feature = "tokio")]
            On::Tokio(registered) => *registered = None,
        }
    }

    fn poll<A: Polled>(&mut self, cx: &mut Context<'_>, attempt: &mut A) -> Poll<Result<A::Found>> {
        if self.identity.is_none() {
            // Woken by a timer, which is not registered again.
            match attempt.attempt() {
                Err(Error::Empty | Error::Full) => {}
                outcome => return Poll::Ready(outcome),
            }
        }
        let identity = Identity::of(attempt);
        if identity.is_none() || identity != self.identity {
            self.forget(); // before its number is registered again
        }
        self.identity = identity;
        match &mut self.on {
            On::Reactor(waiting) => waiting.poll(cx, attempt),
            #[cfg(feature = "tokio")]
            On::Tokio(registered) => {
                if registered.is_none() {
                    *registered = Some(match attempt.fd().map(|fd| fd.try_clone_to_owned()) {
                        Some(Ok(fd)) => PolledFd::new(fd, A::READY)?,
                        Some(Err(source)) => {
                            return Poll::Ready(Err(Error::Io { op: "duplicate a descriptor", source }));
                        }
                        None => PolledFd::new(timer()?, Ready::Read)?,
                    });
                }
                let Some(registered) = registered else { return Poll::Ready(Err(Error::Closed)) };
                let found = registered.poll(cx, || match attempt.attempt() {
                    Err(Error::Empty | Error::Full) => None,
                    outcome => Some(outcome),
                });
                found.map(|outcome| outcome?)
            }
        }
    }
}

/// One wait.
struct One<'a>(&'a mut Wait);

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
