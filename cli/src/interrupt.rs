//! An orderly end on SIGINT and SIGTERM: the first one asks, the second one is the system's answer.
//!
//! Used by the verbs that run until they are told to stop. Whoever waits does so in slices, or in `poll` together with a pipe
//! that the signal writes to.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use slipring::{Deadline, endpoint::Endpoint};

use crate::failure::{FAILED, Failure, Outcome};

/// How long somebody waits before looking whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// Whether the user wants an end.
#[derive(Clone)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
    /// Becomes readable with the signal.
    pipe: Arc<UnixStream>,
}

impl Interrupt {
    /// From now on SIGINT and SIGTERM ask instead of killing; after one has asked, they kill.
    pub(crate) fn install() -> Outcome<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let install = || -> io::Result<UnixStream> {
            let (reader, writer) = UnixStream::pair()?;
            for signal in [SIGINT, SIGTERM] {
                signal_hook::flag::register_conditional_default(signal, Arc::clone(&asked))?;
                signal_hook::flag::register(signal, Arc::clone(&asked))?;
                signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
            }
            Ok(reader)
        };
        let pipe = install().map_err(|e| Failure::new(FAILED, format_args!("cannot watch for signals: {e}")))?;
        Ok(Interrupt { asked, pipe: Arc::new(pipe) })
    }

    /// Whether an end was asked for.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until `fd` can be read, or is at its end; false if an end was asked for first.
    pub(crate) fn wait_readable(&self, fd: impl AsFd) -> bool {
        loop {
            if self.asked() {
                return false;
            }
            let mut both = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&*self.pipe, PollFlags::IN)];
            match poll(&mut both, None) {
                Err(Errno::INTR) => {}
                Err(_) => return true, // the read that follows says what is wrong
                Ok(_) if !both[0].revents().is_empty() => return true,
                Ok(_) => {}
            }
        }
    }

    /// Opens an endpoint, which may wait for its other side, in a thread of its own; `None` if an end was asked for meanwhile.
    /// (It then waits on until the program ends: taking it up again in slices would drop whoever has just connected.)
    pub(crate) fn open<T: Send + 'static>(
        &self,
        endpoint: &Endpoint,
        deadline: Deadline,
        how: fn(&Endpoint, Deadline) -> slipring::Result<T>,
    ) -> slipring::Result<Option<T>> {
        if matches!(endpoint, Endpoint::Signal(_)) {
            return how(endpoint, deadline).map(Some); // blocks its signal in the thread that opens it, so in the only one
        }
        let (give, opened) = mpsc::channel();
        let endpoint = endpoint.clone();
        std::thread::spawn(move || give.send(how(&endpoint, deadline)));
        loop {
            match opened.recv_timeout(SLICE) {
                Ok(result) => return result.map(Some),
                Err(_) if self.asked() => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// Sleeps, unless an end is asked for.
    pub(crate) fn sleep(&self, mut left: Duration) {
        while !left.is_zero() && !self.asked() {
            let slice = left.min(SLICE);
            std::thread::sleep(slice);
            left -= slice;
        }
    }

    /// A wait of at most `timeout` that an end ends.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Wait<'_> {
        Wait { interrupt: self, timeout, until: None }
    }
}

/// One wait after another, in slices: after [`slipring::Error::Timeout`] ask whether it goes on.
pub(crate) struct Wait<'a> {
    interrupt: &'a Interrupt,
    timeout: Option<Duration>,
    /// The end of the wait that has begun.
    until: Option<Deadline>,
}

impl Wait<'_> {
    /// Until when to wait before asking [`Wait::goes_on`].
    pub(crate) fn slice(&mut self) -> Deadline {
        let until = *self.until.get_or_insert_with(|| self.timeout.map_or(Deadline::never(), Deadline::after));
        until.min(Deadline::after(SLICE))
    }

    /// Whether an end was asked for.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.asked()
    }

    /// Whether neither the time is up nor an end asked for.
    pub(crate) fn goes_on(&self) -> bool {
        !self.interrupt.asked() && self.until.is_none_or(|until| !until.has_passed())
    }

    /// What was waited for has come; the next wait begins.
    #[inline]
    pub(crate) fn done(&mut self) {
        self.until = None;
    }
}
