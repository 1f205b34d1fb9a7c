//! `LatestWriter` and `LatestReader`: a board of latest values.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use slipring::latest::{Reader, Writer};
use slipring::{Error, Kind, Readiness};

use crate::bell::Bell;
use crate::bytes::Bytes;
use crate::errors::raise;
use crate::exclusive::Exclusive;
use crate::open::Opening;
use crate::stream::{fileno, wake};
use crate::wait::Timeout;

/// Writes the latest values of a board, by name.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct LatestWriter {
    handle: Exclusive<Writer>,
    cells: usize,
    max_len: usize,
    name: String,
}

#[pymethods]
impl LatestWriter {
    #[new]
    #[pyo3(signature = (name, **options))]
    fn open(py: Python<'_>, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let opening = Opening::from_keywords(options)?;
        let with = opening.options(py, Kind::Latest)?;
        let tx = opening.attach(name, &with, Writer::open, Writer::attach).map_err(|error| raise(py, error))?;
        opening.agree(tx.ring()).map_err(|error| raise(py, error))?;
        let (cells, max_len, canceller) = (tx.cells(), tx.max_len(), tx.canceller());
        Ok(LatestWriter { handle: Exclusive::new(tx, Some(canceller)), cells, max_len, name: name.into() })
    }

    /// Replaces the value of a cell; returns its version. Never waits.
    #[pyo3(signature = (value, cell = 0))]
    fn write(&self, py: Python<'_>, value: &Bound<'_, PyAny>, cell: usize) -> PyResult<u64> {
        let bytes = Bytes::read(value)?;
        self.handle.now(py, |tx| tx.write(cell, bytes.as_slice()))
    }

    /// Leaves the board. Its values stay.
    fn close(&self) {
        self.handle.close();
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// The number of cells.
    #[getter]
    fn cells(&self) -> usize {
        self.cells
    }

    /// The largest value, in bytes.
    #[getter]
    fn max_len(&self) -> usize {
        self.max_len
    }

    fn __repr__(&self) -> String {
        format!("<slipring.LatestWriter of {} with {} cell(s)>", self.name, self.cells)
    }
}

/// Reads the latest values of a board, by name.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct LatestReader {
    handle: Exclusive<Reader>,
    cells: usize,
    max_len: usize,
    name: String,
    bell: OnceLock<Bell>,
}

type Reading<'py> = (Bound<'py, PyBytes>, u64, u64);

impl LatestReader {
    pub fn readiness(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.handle.now(py, |rx| Ok(rx.readable()))
    }
}

#[pymethods]
impl LatestReader {
    #[new]
    #[pyo3(signature = (name, **options))]
    fn open(py: Python<'_>, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let opening = Opening::from_keywords(options)?;
        let with = opening.options(py, Kind::Latest)?;
        let rx = opening.attach(name, &with, Reader::open, Reader::attach).map_err(|error| raise(py, error))?;
        opening.agree(rx.ring()).map_err(|error| raise(py, error))?;
        let (cells, max_len, canceller) = (rx.cells(), rx.max_len(), rx.canceller());
        let handle = Exclusive::new(rx, Some(canceller));
        Ok(LatestReader { handle, cells, max_len, name: name.into(), bell: OnceLock::new() })
    }

    /// (value, version, skipped) of a cell: the newest value; waits if there is none yet. `skipped`
    /// is the number of values that were replaced since this reader read last.
    #[pyo3(signature = (cell = 0, timeout = Timeout::NEVER), text_signature = "($self, cell=0, timeout=None)")]
    fn read_tuple<'py>(&self, py: Python<'py>, cell: usize, timeout: Timeout) -> PyResult<Reading<'py>> {
        if let Some(reading) = self.try_read_tuple(py, cell)? {
            return Ok(reading);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        let mut buffer = vec![0; self.max_len];
        let (len, version, skipped) = self.handle.wait(py, timeout.deadline(), |rx, slice| {
            rx.read_deadline(cell, &mut buffer, slice).map(|read| (read.value.len(), read.version, read.skipped))
        })?;
        Ok((PyBytes::new(py, &buffer[..len]), version, skipped))
    }

    /// As `read_tuple`, or None if the cell has no value yet.
    #[pyo3(signature = (cell = 0))]
    fn try_read_tuple<'py>(&self, py: Python<'py>, cell: usize) -> PyResult<Option<Reading<'py>>> {
        let mut buffer = vec![0; self.max_len];
        let outcome = self.handle.try_now(py, |rx| {
            rx.try_read(cell, &mut buffer).map(|read| (read.value.len(), read.version, read.skipped))
        })?;
        match outcome {
            Ok((len, version, skipped)) => Ok(Some((PyBytes::new(py, &buffer[..len]), version, skipped))),
            Err(Error::Empty) => Ok(None),
            Err(error) => Err(raise(py, error)),
        }
    }

    /// Waits until a watched cell has a value that was not read; returns its number.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn changed(&self, py: Python<'_>, timeout: Timeout) -> PyResult<usize> {
        if let Some(cell) = self.try_changed(py)? {
            return Ok(cell);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        self.handle.wait(py, timeout.deadline(), |rx, slice| rx.changed_deadline(slice))
    }

    /// A watched cell that has a value that was not read, or None.
    fn try_changed(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        match self.handle.try_now(py, Reader::try_changed)? {
            Ok(cell) => Ok(Some(cell)),
            Err(Error::Empty) => {
                if let Some(bell) = self.bell.get() {
                    bell.arm(py, self.readiness(py)?)?;
                }
                Ok(None)
            }
            Err(error) => Err(raise(py, error)),
        }
    }

    /// Which cells `changed` and the descriptor tell of: all at first.
    fn watch(&self, py: Python<'_>, cells: Vec<usize>) -> PyResult<()> {
        self.handle.now(py, |rx| rx.watch(cells))
    }

    /// A descriptor that is readable while a watched cell may have a new value, until `try_changed`
    /// has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || self.readiness(py))
    }

    /// Leaves the board.
    fn close(&self) {
        self.handle.close();
        wake(&self.bell);
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// The number of cells.
    #[getter]
    fn cells(&self) -> usize {
        self.cells
    }

    /// The largest value, in bytes.
    #[getter]
    fn max_len(&self) -> usize {
        self.max_len
    }

    fn __repr__(&self) -> String {
        format!("<slipring.LatestReader of {} with {} cell(s)>", self.name, self.cells)
    }
}
