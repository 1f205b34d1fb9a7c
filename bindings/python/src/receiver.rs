//! `Receiver`: the class behind `Consumer`, `Subscriber` and the receiving ends of transports.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyList};
use slipring::broadcast::{LossySubscriber, Start, Subscriber};
use slipring::endpoint::Endpoint;
use slipring::{Deadline, Error, Kind, Readiness, Ring, mpmc, mpsc, spsc};

use crate::bell::Bell;
use crate::errors::{closed_here, raise, refuse};
use crate::frame::Frame;
use crate::open::{End, Opened, Opening};
use crate::shelf::Shelf;
use crate::source::{Copies, Lossy, Slots, Source, Taken, Wire};
use crate::wait::{Timeout, wait};

/// The receiving end of a ring or of a transport.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Receiver {
    source: Arc<dyn Source>,
    name: String,
    /// The kind of frames that carry messages of the agreed type.
    message_kind: Option<u16>,
    bell: OnceLock<Bell>,
}

impl Receiver {
    fn new(source: Arc<dyn Source>, name: &str, message_kind: Option<u16>) -> Self {
        Receiver { source, name: name.into(), message_kind, bell: OnceLock::new() }
    }

    pub fn over_spsc(rx: spsc::Consumer) -> Self {
        Self::new(Arc::new(Shelf::new(rx)), "(anonymous)", None)
    }

    pub fn over_mpmc(rx: mpmc::Consumer) -> Self {
        Self::new(Arc::new(Slots::new(rx)), "(anonymous)", None)
    }

    pub fn over_wire(py: Python<'_>, endpoint: &str, deadline: Deadline) -> PyResult<Self> {
        let parsed = Endpoint::parse(endpoint).map_err(|error| raise(py, error))?;
        // Opening may wait for a peer, in one call: Ctrl-C is noticed in slices.
        let rx = wait(py, deadline, |slice| parsed.open_receiver(slice), crate::wait::go_on)?;
        Ok(Self::new(Arc::new(Copies::new(Wire::new(rx))), endpoint, None))
    }

    /// What a set needs to wait for this end.
    pub fn readiness(&self, py: Python<'_>) -> PyResult<Readiness> {
        self.source.readable().map_err(|error| self.told(py, error))
    }

    fn told(&self, py: Python<'_>, error: Error) -> PyErr {
        if self.source.is_closed() { closed_here(py) } else { raise(py, error) }
    }

    /// A frame, or the error for one of another type than was agreed on: that one is consumed.
    fn accept(&self, py: Python<'_>, taken: Taken) -> PyResult<Frame> {
        let frame = Frame::new(taken.place, taken.header, taken.extra);
        match self.message_kind {
            Some(kind) if kind != taken.header.kind => {
                let what = "kind of frame, which stands for the type of the messages";
                let (expected, found) = (kind.into(), taken.header.kind.into());
                Err(raise(py, Error::Incompatible { what, expected, found }))
            }
            _ => Ok(frame),
        }
    }

    /// The next frame, if there is one.
    fn try_take(&self, py: Python<'_>) -> PyResult<Option<Taken>> {
        match Arc::clone(&self.source).take(None) {
            Ok(taken) => Ok(Some(taken)),
            Err(Error::Empty) => {
                self.arm(py)?;
                Ok(None)
            }
            // Interrupted by a frame that came back: there was none to receive.
            Err(Error::Cancelled) if !self.source.is_closed() => Ok(None),
            Err(error) => Err(self.told(py, error)),
        }
    }

    fn take(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Taken> {
        if let Some(taken) = self.try_take(py)? {
            return Ok(taken);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        let attempt = |slice| Arc::clone(&self.source).take(Some(slice));
        wait(py, timeout.deadline(), attempt, |py| if self.source.is_closed() { Err(closed_here(py)) } else { Ok(()) })
    }

    /// Lets the bell ring at the next frame, if `fileno` was called.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let Some(bell) = self.bell.get() else { return Ok(()) };
        match self.source.readable() {
            Ok(readiness) => bell.arm(py, readiness),
            // Another thread waits for the frame.
            Err(Error::Empty) => Ok(()),
            Err(error) => Err(self.told(py, error)),
        }
    }
}

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (name, *, lossy = false, start = "latest", **options))]
    fn open(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        lossy: bool,
        start: &str,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if let Ok(opened) = name.cast::<Opened>() {
            return match opened.get().take() {
                Some(End::Receiver(end)) => Ok(end),
                _ => Err(PyTypeError::new_err("it was opened for another class, or used before")),
            };
        }
        let name: &str = &name.extract::<PyBackedStr>()?;
        let opening = Opening::from_keywords(options)?;
        let start = match start {
            "latest" => Start::Latest,
            "oldest" => Start::Oldest,
            _ => return Err(refuse(py, "Invalid", "start: latest or oldest")),
        };
        let kind = opening.kind_of(py, name, if lossy { Kind::Broadcast } else { Kind::Spsc })?;
        let with = opening.options(py, kind)?;
        let opened: Result<(Arc<dyn Source>, Ring), Error> = match kind {
            Kind::Mpmc => opening.attach(name, &with, mpmc::Consumer::open, mpmc::Consumer::attach).map(|rx| {
                let ring = rx.ring().clone();
                (Arc::new(Slots::new(rx)) as Arc<dyn Source>, ring)
            }),
            Kind::Mpsc => opening.attach(name, &with, mpsc::Consumer::open, mpsc::Consumer::attach).map(|rx| {
                let ring = rx.ring().clone();
                (Arc::new(Copies::new(rx)) as Arc<dyn Source>, ring)
            }),
            Kind::Broadcast if lossy => {
                let open = |name: &str, with: &_| LossySubscriber::open(name, with, start);
                let attach = |ring: &Ring| LossySubscriber::attach(ring, start);
                opening.attach(name, &with, open, attach).map(|rx| {
                    let ring = rx.ring().clone();
                    (Arc::new(Copies::new(Lossy::new(rx))) as Arc<dyn Source>, ring)
                })
            }
            Kind::Broadcast => {
                let open = |name: &str, with: &_| Subscriber::open(name, with, start);
                let attach = |ring: &Ring| Subscriber::attach(ring, start);
                opening.attach(name, &with, open, attach).map(|rx| {
                    let ring = rx.ring().clone();
                    (Arc::new(Shelf::new(rx)) as Arc<dyn Source>, ring)
                })
            }
            _ => opening.attach(name, &with, spsc::Consumer::open, spsc::Consumer::attach).map(|rx| {
                let ring = rx.ring().clone();
                (Arc::new(Shelf::new(rx)) as Arc<dyn Source>, ring)
            }),
        };
        let (source, ring) = opened.map_err(|error| raise(py, error))?;
        let message_kind = opening.agree(&ring).map_err(|error| raise(py, error))?;
        Ok(Self::new(source, name, message_kind))
    }

    /// Receives the next frame; waits for it at most `timeout` seconds, for ever with None.
    #[pyo3(signature = (timeout = Timeout::NEVER))]
    fn recv(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Frame> {
        let taken = self.take(py, timeout)?;
        self.accept(py, taken)
    }

    /// Receives the next frame if there is one, or returns None.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.try_take(py)?.map(|taken| self.accept(py, taken)).transpose()
    }

    /// Receives at least one frame, waiting for it, and those that are there behind it: up to `max`.
    #[pyo3(signature = (max, timeout = Timeout::NEVER))]
    fn recv_batch<'py>(&self, py: Python<'py>, max: usize, timeout: Timeout) -> PyResult<Bound<'py, PyList>> {
        if max == 0 {
            return Err(refuse(py, "Invalid", "max: at least 1"));
        }
        let first = self.take(py, timeout)?;
        let frames = PyList::new(py, [self.accept(py, first)?])?;
        while frames.len() < max {
            // An error is met again by the next call.
            let Ok(taken) = Arc::clone(&self.source).take(None) else { break };
            frames.append(self.accept(py, taken)?)?;
        }
        Ok(frames)
    }

    /// Copies the next frame into `buffer`, releases it, and returns its length.
    #[pyo3(signature = (buffer, timeout = Timeout::NEVER))]
    fn recv_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<usize> {
        let mut into = crate::bytes::Bytes::write(buffer)?;
        let taken = self.take(py, timeout)?;
        let frame = self.accept(py, taken)?;
        let bytes = frame.bytes();
        match into.as_mut_slice().get_mut(..bytes.len()) {
            Some(into) => into.copy_from_slice(bytes),
            None => return Err(raise(py, Error::TooLarge { max: into.as_mut_slice().len() })),
        }
        Ok(bytes.len())
    }

    /// A descriptor for select, poll, epoll and asyncio: readable while there may be a frame, until a
    /// call has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        if self.source.is_closed() {
            return Err(closed_here(py));
        }
        if let Some(bell) = self.bell.get() {
            return Ok(bell.fileno());
        }
        let bell = Bell::new()?;
        let bell = self.bell.get_or_init(|| bell);
        self.arm(py)?;
        Ok(bell.fileno())
    }

    /// The ends of producers of an mpsc ring since the last call: (lane, producer, died).
    fn take_ends(&self) -> Vec<(u16, u16, bool)> {
        self.source.take_ends().into_iter().map(|end| (end.lane, end.producer, end.died)).collect()
    }

    /// Leaves the ring. Frames that are held stay valid; the last of them leaves.
    fn close(&self) {
        self.source.close();
        if let Some(bell) = self.bell.get() {
            bell.ring();
        }
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.source.is_closed()
    }

    /// The name or the endpoint.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The kind of frames that carry messages of `message_type`; None without one.
    #[getter]
    fn message_kind(&self) -> Option<u16> {
        self.message_kind
    }

    /// The largest payload of a frame, in bytes.
    #[getter]
    fn max_payload(&self) -> usize {
        self.source.max_payload()
    }

    /// Whether a sender is attached; None where that is not known.
    #[getter]
    fn has_peer(&self) -> Option<bool> {
        self.source.has_peer()
    }

    fn __repr__(&self) -> String {
        let closed = if self.source.is_closed() { ", closed" } else { "" };
        format!("<slipring receiver of {}{closed}>", self.name)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.source.close();
    }
}
