//! A handle that one thread uses at a time, for all threads: while one waits in it, another may
//! interrupt it for a call that does not wait.
//!
//! Used by the classes whose handles lend nothing to Python.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use slipring::{Canceller, Deadline, Error, Result};

use crate::errors::{closed_here, raise, refuse};
use crate::source::{lock_until, try_lock};
use crate::wait::wait;

/// How long a call that does not wait tries to get the handle from a thread that waits.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct Exclusive<H> {
    handle: Mutex<Option<H>>,
    closed: AtomicBool,
    /// Threads that want the handle for a short call.
    wanted: AtomicUsize,
    canceller: Option<Canceller>,
}

impl<H: Send> Exclusive<H> {
    pub fn new(handle: H, canceller: Option<Canceller>) -> Self {
        Exclusive {
            handle: Mutex::new(Some(handle)),
            closed: AtomicBool::new(false),
            wanted: AtomicUsize::new(0),
            canceller,
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn interrupt(&self) {
        if let Some(canceller) = &self.canceller {
            canceller.cancel();
        }
    }

    /// Runs `call` with the handle, without waiting in it.
    fn run<T>(&self, call: impl FnOnce(&mut H) -> Result<T>) -> Option<Result<T>> {
        let mut guard = match try_lock(&self.handle) {
            Some(guard) => guard,
            None => {
                self.wanted.fetch_add(1, Ordering::AcqRel);
                self.interrupt();
                let guard = lock_until(&self.handle, Some(Deadline::after(PATIENCE)));
                self.wanted.fetch_sub(1, Ordering::AcqRel);
                guard.ok()?
            }
        };
        let outcome = guard.as_mut().filter(|_| !self.is_closed()).map_or(Err(Error::Cancelled), call);
        if self.is_closed() {
            *guard = None;
        }
        Some(outcome)
    }

    /// Calls the handle without waiting in it.
    pub fn now<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut H) -> Result<T> + Send) -> PyResult<T> {
        match self.try_now(py, call)? {
            Ok(done) => Ok(done),
            Err(error) => Err(raise(py, error)),
        }
    }

    /// [`Exclusive::now`], with the library's error.
    pub fn try_now<T: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut H) -> Result<T> + Send,
    ) -> PyResult<Result<T>> {
        match py.detach(|| self.run(call)) {
            _ if self.is_closed() => Err(closed_here(py)),
            None => Err(refuse(py, "Busy", "another thread is in a call of this handle: give each thread its own")),
            Some(outcome) => Ok(outcome),
        }
    }

    /// Calls the handle without the GIL, in slices until the deadline.
    pub fn wait<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut call: impl FnMut(&mut H, Deadline) -> Result<T> + Send,
    ) -> PyResult<T> {
        let attempt = |slice: Deadline| {
            while self.wanted.load(Ordering::Acquire) > 0 && !slice.has_passed() {
                std::thread::sleep(Duration::from_micros(50));
            }
            let mut guard = lock_until(&self.handle, Some(slice))?;
            let outcome = guard
                .as_mut()
                .filter(|_| !self.is_closed())
                .map_or(Err(Error::Cancelled), |handle| call(handle, slice));
            if self.is_closed() {
                *guard = None;
            }
            if matches!(outcome, Err(Error::Cancelled)) {
                if let Some(canceller) = &self.canceller {
                    canceller.reset();
                }
            }
            outcome
        };
        wait(py, deadline, attempt, |py| if self.is_closed() { Err(closed_here(py)) } else { Ok(()) })
    }

    /// Leaves, or has the thread leave that waits. Does not block.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        match try_lock(&self.handle) {
            Some(mut guard) => *guard = None,
            None => self.interrupt(),
        }
    }

    /// Calls the handle if no other thread is in it, for the end of something of Python's.
    pub fn at_end(&self, call: impl FnOnce(&mut H)) {
        let _ = self.run(|handle| {
            call(handle);
            Ok(())
        });
    }
}
