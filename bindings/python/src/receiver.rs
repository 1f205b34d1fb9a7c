//! `Receiver`: the class behind `Consumer`, `Subscriber` and the receiving ends of transports.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, OnceLock};

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
use crate::open::{End, Opened, Opening, open_wire};
use crate::shelf::Shelf;
use crate::source::{Copies, Lossy, Slots, Source, Taken, Wire, lock};
use crate::stream::wake;
use crate::wait::{Timeout, wait};

/// The receiving end of a ring or of a transport.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Receiver {
    source: Arc<dyn Source>,
    name: String,
    /// The kind of frames that carry messages of the agreed type.
    message_kind: Option<u16>,
    bell: OnceLock<Bell>,
    /// The next frame, if it was taken for a buffer that was too short for it; one for each thread
    /// that did so.
    kept: Mutex<VecDeque<Frame>>,
}

impl Receiver {
    fn new(source: Arc<dyn Source>, name: &str, message_kind: Option<u16>) -> Self {
        Receiver { source, name: name.into(), message_kind, bell: OnceLock::new(), kept: Mutex::default() }
    }

    pub fn over_spsc(rx: spsc::Consumer) -> Self {
        Self::new(Arc::new(Shelf::new(rx)), "(anonymous)", None)
    }

    pub fn over_mpmc(rx: mpmc::Consumer) -> Self {
        Self::new(Arc::new(Slots::new(rx)), "(anonymous)", None)
    }

    pub fn over_wire(py: Python<'_>, endpoint: &str, deadline: Deadline) -> PyResult<Self> {
        let parsed = Endpoint::parse(endpoint).map_err(|error| raise(py, error))?;
        let rx = open_wire(py, parsed, deadline, |endpoint, until| endpoint.open_receiver(until))?;
        Ok(Self::new(Arc::new(Copies::new(Wire::new(rx))), endpoint, None))
    }

    /// What a set needs to wait for this end.
    pub fn readiness(&self, py: Python<'_>) -> PyResult<Readiness> {
        if self.keeps() {
            self.fileno(py)?;
            if let Some(bell) = self.bell.get() {
                bell.ring();
                // SAFETY: the bell keeps its descriptor open for this call, which duplicates it.
                let fd = unsafe { BorrowedFd::borrow_raw(bell.fileno()) };
                return Readiness::readable_fd(fd).map_err(|error| raise(py, error));
            }
        }
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

    fn keeps(&self) -> bool {
        !lock(&self.kept).is_empty()
    }

    /// The frame that was kept, or the next one, if there is one.
    fn try_next(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        let kept = lock(&self.kept).pop_front();
        match kept {
            Some(frame) => Ok(Some(frame)),
            None => self.try_take(py)?.map(|taken| self.accept(py, taken)).transpose(),
        }
    }

    fn next(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Frame> {
        if let Some(frame) = self.try_next(py)? {
            return Ok(frame);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        let attempt = |slice| Arc::clone(&self.source).take(Some(slice));
        let interrupted = |py: Python<'_>| if self.source.is_closed() { Err(closed_here(py)) } else { Ok(()) };
        let taken = wait(py, timeout.deadline(), attempt, interrupted)?;
        self.accept(py, taken)
    }

    /// Lets the bell ring at the next frame, if `fileno` was called.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let Some(bell) = self.bell.get() else { return Ok(()) };
        if self.keeps() {
            bell.ring();
            return Ok(());
        }
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
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn recv(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Frame> {
        self.next(py, timeout)
    }

    /// Receives the next frame if there is one, or returns None.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.try_next(py)
    }

    /// Receives at least one frame, waiting for it, and those that are there behind it: up to
    /// `max`.
    #[pyo3(signature = (max, timeout = Timeout::NEVER), text_signature = "($self, max, timeout=None)")]
    fn recv_batch<'py>(&self, py: Python<'py>, max: usize, timeout: Timeout) -> PyResult<Bound<'py, PyList>> {
        if max == 0 {
            return Err(refuse(py, "Invalid", "max: at least 1"));
        }
        let frames = PyList::new(py, [self.next(py, timeout)?])?;
        while frames.len() < max {
            // An error is met again by the next call.
            let Ok(taken) = Arc::clone(&self.source).take(None) else { break };
            frames.append(self.accept(py, taken)?)?;
        }
        Ok(frames)
    }

    /// Copies the next frame into `buffer`, releases it, and returns its length. If the buffer is
    /// too short, it raises `TooLarge`, and the next call gets the frame.
    #[pyo3(signature = (buffer, timeout = Timeout::NEVER), text_signature = "($self, buffer, timeout=None)")]
    fn recv_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<usize> {
        let mut into = crate::bytes::Bytes::write(buffer)?;
        let frame = self.next(py, timeout)?;
        let bytes = frame.bytes();
        let (len, room) = (bytes.len(), into.as_mut_slice().len());
        if let Some(into) = into.as_mut_slice().get_mut(..len) {
            into.copy_from_slice(bytes);
            return Ok(len);
        }
        lock(&self.kept).push_back(frame);
        wake(&self.bell);
        let what = format!("the frame has {len} bytes, the buffer {room}: receive it into a larger one, or by recv()");
        Err(refuse(py, "TooLarge", &what))
    }

    /// A descriptor for select, poll, epoll and asyncio: readable while there may be a frame, until
    /// a call has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        if self.source.is_closed() {
            return Err(closed_here(py));
        }
        if let Some(bell) = self.bell.get() {
            return Ok(bell.fileno());
        }
        let bell = Bell::new(py)?;
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
        let kept = std::mem::take(&mut *lock(&self.kept));
        drop(kept);
        self.source.close();
        wake(&self.bell);
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
