//! Time-outs, and waiting without the GIL.
//!
//! A wait gives up the GIL, and takes it back every [`SLICE`] so that Python can run its signal
//! handlers: Ctrl-C ends a wait.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use slipring::{Deadline, Error, Result};

use crate::errors::raise;

/// How long a wait lasts before signals are looked at. Short enough for Ctrl-C to feel immediate.
pub const SLICE: Duration = Duration::from_millis(50);

/// A time-out in seconds, as Python's calls have it: `None` is for ever, 0 does not wait.
#[derive(Clone, Copy)]
pub struct Timeout(pub Option<Duration>);

impl<'py> FromPyObject<'_, 'py> for Timeout {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Timeout(None));
        }
        let seconds: f64 = value.extract()?;
        if seconds.is_nan() || seconds < 0.0 {
            return Err(PyValueError::new_err("timeout: seconds, at least 0, or None to wait for ever"));
        }
        Ok(Timeout(Duration::try_from_secs_f64(seconds).ok()))
    }
}

impl Timeout {
    /// Waits for ever.
    pub const NEVER: Timeout = Timeout(None);

    /// Whether the call does not wait at all.
    pub fn is_zero(self) -> bool {
        self.0.is_some_and(|left| left.is_zero())
    }

    /// When it is over, if it begins now.
    pub fn deadline(self) -> Deadline {
        self.0.map_or(Deadline::never(), Deadline::after)
    }
}

/// Calls `attempt`, which waits until the deadline that it gets, without the GIL, until it returns
/// something else than `Timeout` or `Cancelled`, or `deadline` has passed, or a signal handler
/// raises.
///
/// `Cancelled` is how other threads interrupt the waiter: `interrupted` then says whether to go on.
pub fn wait<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    mut attempt: impl FnMut(Deadline) -> Result<T> + Send,
    mut interrupted: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    loop {
        let slice = Deadline::after(SLICE).min(deadline);
        match py.detach(|| attempt(slice)) {
            Ok(found) => return Ok(found),
            Err(Error::Timeout) if !deadline.has_passed() => {}
            Err(Error::Cancelled) => interrupted(py)?,
            Err(error) => return Err(raise(py, error)),
        }
        py.check_signals()?;
    }
}

/// Nothing but the end of the time, or a signal, ends this wait early.
pub fn go_on(_: Python<'_>) -> PyResult<()> {
    Ok(())
}
