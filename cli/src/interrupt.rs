//! Stopping on SIGINT and SIGTERM: the first signal requests an end, the second one kills.
//!
//! Used by the verbs that run until they are stopped. A wait is a `poll` of a descriptor together
//! with a pipe that the signal handler writes to, or a call that the handler cancels; where there
//! is neither, it is divided into slices. A signal that was ignored when the program started
//! (SIGINT in a shell's background job) stays ignored.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use slipring::transport::FrameReceiver;
use slipring::{Canceller, Deadline};

use crate::failure::{FAILED, Failure, Outcome};

/// The length of a slice: how long a wait lasts until it checks for a signal.
const SLICE: Duration = Duration::from_millis(100);

/// The longest wait for a descriptor, for what it does not tell.
const LONGEST_POLL: Duration = Duration::from_millis(500);

/// After an end was requested: how long frames that have been read may wait for their receiver
/// without progress.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Whether the user has requested an end.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// The signal that requested it.
    signal: Arc<AtomicUsize>,
    /// Becomes readable with the signal.
    pipe: Arc<UnixStream>,
}

impl Interrupt {
    /// From now on the first SIGINT or SIGTERM requests an end, and the next one kills.
    pub(crate) fn install() -> Outcome<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        let install = || -> io::Result<UnixStream> {
            let (reader, writer) = UnixStream::pair()?;
            for number in watched_signals() {
                signal_hook::flag::register_conditional_default(number, Arc::clone(&asked))?;
                signal_hook::flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
                signal_hook::flag::register(number, Arc::clone(&asked))?;
                signal_hook::low_level::pipe::register(number, writer.try_clone()?)?;
            }
            Ok(reader)
        };
        let pipe = install().map_err(|e| Failure::new(FAILED, format_args!("cannot watch for signals: {e}")))?;
        Ok(Interrupt { asked, signal, pipe: Arc::new(pipe) })
    }

    /// From now on, requesting an end also ends the calls of `canceller`, which then need no
    /// slices.
    #[allow(unsafe_code, reason = "what a signal handler may call is for its author to know")]
    pub(crate) fn cancels(&self, canceller: Canceller) -> Outcome {
        for number in watched_signals() {
            let canceller = canceller.clone();
            // SAFETY: `cancel` is async-signal-safe, as it documents, and does not panic.
            unsafe { signal_hook::low_level::register(number, move || canceller.cancel()) }
                .map_err(|e| Failure::new(FAILED, format_args!("cannot watch for signals: {e}")))?;
        }
        Ok(())
    }

    /// Whether an end was requested.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The exit code after a requested end: 128 plus the number of the signal, as in shells.
    pub(crate) fn code(&self) -> u8 {
        128 + self.signal.load(Ordering::Relaxed) as u8
    }

    /// What the verb returns when all is done. A requested end is reported by its exit code.
    pub(crate) fn ended(&self) -> Outcome {
        if self.asked() { Err(Failure::silent(self.code())) } else { Ok(()) }
    }

    /// Waits until `fd` is readable or at its end. Returns false if an end was requested first.
    pub(crate) fn wait_readable(&self, fd: impl AsFd) -> bool {
        self.wait_for(&fd, PollFlags::IN, None)
    }

    /// Waits until `fd` is writable or its reader has closed it. Returns false if an end was
    /// requested and [`GRACE`] has passed.
    pub(crate) fn wait_writable(&self, fd: impl AsFd) -> bool {
        self.wait_for(&fd, PollFlags::OUT, None) || self.wait_for(&fd, PollFlags::OUT, Some(GRACE))
    }

    /// Waits for at most `time`; without a limit, until an end is requested.
    fn wait_for(&self, fd: &impl AsFd, flags: PollFlags, time: Option<Duration>) -> bool {
        let until = time.map(Deadline::after);
        loop {
            if until.is_none() && self.asked() {
                return false;
            }
            let mut both = [PollFd::new(fd, flags), PollFd::new(&*self.pipe, PollFlags::IN)];
            let watched = if until.is_some() { &mut both[..1] } else { &mut both[..] };
            let left = until.map(|until| timespec(until.remaining()));
            match poll(watched, left.as_ref()) {
                Err(Errno::INTR) => {}
                Err(_) => return true, // the caller's next call reports the error
                Ok(0) => return false,
                Ok(_) if !both[0].revents().is_empty() => return true,
                Ok(_) => {}
            }
        }
    }

    /// Waits until `fd` is readable or at its end, an end is requested, or the time is over.
    /// Returns whether it is the first.
    fn wait_for_input(&self, fd: impl AsFd, until: Deadline) -> bool {
        while !self.asked() && !until.has_passed() {
            let left = timespec(until.remaining());
            let mut both = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&*self.pipe, PollFlags::IN)];
            match poll(&mut both, Some(&left)) {
                Err(Errno::INTR) => {}
                Err(_) => return true, // the caller's next call reports the error
                Ok(_) => return !both[0].revents().is_empty(),
            }
        }
        false
    }

    /// Sleeps, unless an end is requested.
    pub(crate) fn sleep(&self, time: Duration) {
        let until = Deadline::after(time);
        while !self.asked() && !until.has_passed() {
            let left = timespec(until.remaining());
            let _ = poll(&mut [PollFd::new(&*self.pipe, PollFlags::IN)], Some(&left)); // a signal ends it, too
        }
    }

    /// A wait of at most `timeout` for input; it ends when an end is requested.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Wait<'_> {
        Wait { interrupt: self, timeout, until: None, last: false, grace: None, asked_until: None }
    }

    /// A wait of at most `timeout` for room; when an end is requested, it continues for at most
    /// `grace`.
    pub(crate) fn wait_for_room(&self, timeout: Option<Duration>, grace: Duration) -> Wait<'_> {
        Wait { grace: Some(grace), ..self.wait(timeout) }
    }
}

/// Successive waits in slices: after [`slipring::Error::Timeout`], ask whether to continue.
pub(crate) struct Wait<'a> {
    interrupt: &'a Interrupt,
    timeout: Option<Duration>,
    /// The deadline of the current wait.
    until: Option<Deadline>,
    /// Whether the current slice ends at the deadline.
    last: bool,
    /// How long the wait continues after an end was requested.
    grace: Option<Duration>,
    asked_until: Option<Deadline>,
}

impl Wait<'_> {
    /// The deadline for a call that an [`Interrupt`] cancels.
    pub(crate) fn until(&mut self) -> Deadline {
        self.last = true;
        *self.until.get_or_insert_with(|| self.timeout.map_or(Deadline::never(), Deadline::after))
    }

    /// The deadline of a call before the next [`Wait::goes_on`].
    pub(crate) fn slice(&mut self) -> Deadline {
        let until = self.until();
        let slice = until.min(Deadline::after(SLICE));
        self.last = slice == until;
        slice
    }

    /// The deadline of a call of `rx`, which has just found nothing, before the next
    /// [`Wait::goes_on`]. If `rx` has a descriptor, this waits for it; the calls of a ring are
    /// cancelled ([`Interrupt::cancels`]).
    pub(crate) fn for_frame(&mut self, rx: &dyn FrameReceiver) -> Deadline {
        let until = self.until();
        let Some(fd) = rx.poll_fd() else {
            return if rx.canceller().is_some() { until } else { self.slice() };
        };
        if self.interrupt.wait_for_input(fd, until.min(Deadline::after(LONGEST_POLL))) {
            return self.slice();
        }
        self.last = until.has_passed();
        Deadline::after(Duration::ZERO)
    }

    /// Whether an end was requested.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.asked()
    }

    /// Whether to continue: neither has the time passed nor an end been requested. The time has
    /// passed only when a slice has ended with it, because this process may have been stopped after
    /// an earlier slice, without having tried since.
    pub(crate) fn goes_on(&mut self) -> bool {
        if self.last && self.until.is_some_and(Deadline::has_passed) {
            return false;
        }
        match self.grace {
            _ if !self.interrupt.asked() => true,
            None => false,
            Some(grace) => !self.asked_until.get_or_insert_with(|| Deadline::after(grace)).has_passed(),
        }
    }

    /// The wait has succeeded; the next one begins.
    #[inline]
    pub(crate) fn done(&mut self) {
        (self.until, self.asked_until) = (None, None);
    }
}

fn timespec(time: Duration) -> Timespec {
    let time = time.min(Duration::from_secs(3600));
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

/// The signals that request an end, except those that were ignored when the program started. Both,
/// if /proc cannot be read.
fn watched_signals() -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal `n` is bit `n - 1`.
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    [SIGINT, SIGTERM].into_iter().filter(move |number| ignored & (1 << (number - 1)) == 0)
}
