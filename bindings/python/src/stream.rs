//! `StreamWriter` and `StreamReader`: the ends of a byte ring without frames.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use slipring::{Error, Kind, Readiness, stream};

use crate::bell::Bell;
use crate::bytes::Bytes;
use crate::errors::raise;
use crate::exclusive::Exclusive;
use crate::open::Opening;
use crate::wait::Timeout;

/// Writes bytes into a ring, by name.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct StreamWriter {
    handle: Exclusive<stream::Producer>,
    name: String,
    bell: OnceLock<Bell>,
}

impl StreamWriter {
    pub fn readiness(&self, py: Python<'_>, len: usize) -> PyResult<Readiness> {
        self.handle.now(py, |tx| Ok(tx.writable(len.max(1))))
    }
}

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(signature = (name, **options))]
    fn open(py: Python<'_>, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let opening = Opening::from_keywords(options)?;
        let with = opening.options(py, Kind::Stream)?;
        let tx = opening.attach(name, &with, stream::Producer::open, stream::Producer::attach);
        let tx = tx.map_err(|error| raise(py, error))?;
        opening.agree(tx.ring()).map_err(|error| raise(py, error))?;
        let canceller = tx.canceller();
        Ok(StreamWriter { handle: Exclusive::new(tx, Some(canceller)), name: name.into(), bell: OnceLock::new() })
    }

    /// Writes all of `data`; waits for room at most `timeout` seconds, for ever with None. An error
    /// has the number of bytes that were written before it as its attribute `written`.
    #[pyo3(signature = (data, timeout = Timeout::NEVER), text_signature = "($self, data, timeout=None)")]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<usize> {
        let bytes = Bytes::read(data)?;
        let all = bytes.as_slice();
        let mut written = 0;
        let outcome = self.handle.wait(py, timeout.deadline(), |tx, slice| {
            tx.write_all_deadline(&all[written..], slice).map_err(|partial| {
                written += partial.written;
                partial.error
            })
        });
        match outcome {
            Ok(()) => Ok(all.len()),
            Err(error) => {
                // Only Python's own classes refuse attributes: then the error stays as it is.
                let _ = error.value(py).setattr("written", written);
                Err(error)
            }
        }
    }

    /// Writes as much of `data` as there is room for, and returns how much that was.
    fn try_write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let bytes = Bytes::read(data)?;
        match self.handle.try_now(py, |tx| tx.try_write(bytes.as_slice()))? {
            Ok(written) if written > 0 || bytes.as_slice().is_empty() => Ok(written),
            Ok(_) | Err(Error::Full) => {
                if let Some(bell) = self.bell.get() {
                    bell.arm(py, self.readiness(py, 1)?)?;
                }
                Ok(0)
            }
            Err(error) => Err(raise(py, error)),
        }
    }

    /// A descriptor that is *readable* while there may be room, until `try_write` has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || self.readiness(py, 1))
    }

    /// Leaves the ring. The reader gets what was written.
    fn close(&self) {
        self.handle.close();
        wake(&self.bell);
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    fn __repr__(&self) -> String {
        format!("<slipring.StreamWriter to {}>", self.name)
    }
}

/// The descriptor of a handle: made, and armed, by the first call.
pub fn fileno(py: Python<'_>, bell: &OnceLock<Bell>, readiness: impl FnOnce() -> PyResult<Readiness>) -> PyResult<i32> {
    if let Some(bell) = bell.get() {
        return Ok(bell.fileno());
    }
    let readiness = readiness()?;
    let made = Bell::new(py)?;
    let bell = bell.get_or_init(|| made);
    bell.arm(py, readiness)?;
    Ok(bell.fileno())
}

/// Tells the tasks that wait for the descriptor that the handle was closed.
pub fn wake(bell: &OnceLock<Bell>) {
    if let Some(bell) = bell.get() {
        bell.ring();
    }
}

/// Reads bytes from a ring, by name.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct StreamReader {
    handle: Exclusive<stream::Consumer>,
    name: String,
    bell: OnceLock<Bell>,
}

impl StreamReader {
    pub fn readiness(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.handle.now(py, |rx| Ok(rx.readable()))
    }

    /// Bytes into `into`: `Ok(None)` if there are none, `Ok(Some(0))` at the end.
    fn try_into(&self, py: Python<'_>, into: &mut [u8]) -> PyResult<Option<usize>> {
        if into.is_empty() {
            return Ok(Some(0));
        }
        match self.handle.try_now(py, |rx| rx.try_read(into))? {
            Ok(0) | Err(Error::Empty) => {
                if let Some(bell) = self.bell.get() {
                    bell.arm(py, self.readiness(py)?)?;
                }
                Ok(None)
            }
            Ok(read) => Ok(Some(read)),
            Err(Error::Closed) => Ok(Some(0)),
            Err(error) => Err(raise(py, error)),
        }
    }

    fn into(&self, py: Python<'_>, into: &mut [u8], timeout: Timeout) -> PyResult<usize> {
        if let Some(read) = self.try_into(py, into)? {
            return Ok(read);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        self.handle.wait(py, timeout.deadline(), |rx, slice| match rx.read_deadline(into, slice) {
            Err(Error::Closed) => Ok(0),
            outcome => outcome,
        })
    }
}

#[pymethods]
impl StreamReader {
    #[new]
    #[pyo3(signature = (name, **options))]
    fn open(py: Python<'_>, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let opening = Opening::from_keywords(options)?;
        let with = opening.options(py, Kind::Stream)?;
        let rx = opening.attach(name, &with, stream::Consumer::open, stream::Consumer::attach);
        let rx = rx.map_err(|error| raise(py, error))?;
        opening.agree(rx.ring()).map_err(|error| raise(py, error))?;
        let canceller = rx.canceller();
        Ok(StreamReader { handle: Exclusive::new(rx, Some(canceller)), name: name.into(), bell: OnceLock::new() })
    }

    /// Reads at least one byte, waiting for it, and at most `size`; b"" at the end.
    #[pyo3(signature = (size, timeout = Timeout::NEVER), text_signature = "($self, size, timeout=None)")]
    fn read<'py>(&self, py: Python<'py>, size: usize, timeout: Timeout) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = vec![0; size.min(1 << 20)];
        let read = self.into(py, &mut buffer, timeout)?;
        Ok(PyBytes::new(py, &buffer[..read]))
    }

    /// Reads into `buffer`, at least one byte, waiting for it, and returns how many; 0 at the end.
    #[pyo3(signature = (buffer, timeout = Timeout::NEVER), text_signature = "($self, buffer, timeout=None)")]
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<usize> {
        let mut bytes = Bytes::write(buffer)?;
        self.into(py, bytes.as_mut_slice(), timeout)
    }

    /// Reads what is there, at most `size`: None if there is nothing, b"" at the end.
    fn try_read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut buffer = vec![0; size.min(1 << 20)];
        Ok(self.try_into(py, &mut buffer)?.map(|read| PyBytes::new(py, &buffer[..read])))
    }

    /// A descriptor that is readable while there may be bytes, until a call has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || self.readiness(py))
    }

    /// Leaves the ring.
    fn close(&self) {
        self.handle.close();
        wake(&self.bell);
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    fn __repr__(&self) -> String {
        format!("<slipring.StreamReader of {}>", self.name)
    }
}
