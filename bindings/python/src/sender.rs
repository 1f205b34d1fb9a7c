//! `Sender`: the class behind `Producer`, `Publisher` and the sending ends of transports; and
//! `Grant`.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;
use slipring::broadcast::{Publisher, SlowPolicy};
use slipring::endpoint::Endpoint;
use slipring::frame::Header;
use slipring::{Canceller, Deadline, Error, Kind, Readiness, Ring, mpmc, mpsc, spsc};

use crate::bell::Bell;
use crate::bytes::{Bytes, export};
use crate::errors::{closed_here, raise, refuse};
use crate::fork::Home;
use crate::open::{End, Opened, Opening, open_wire};
use crate::sink::{Reserved, Sink};
use crate::source::{lock, lock_until, try_lock};
use crate::stream::wake;
use crate::wait::{Timeout, wait};

/// The producer, while no grant has it.
struct Place {
    sink: Option<Box<dyn Sink>>,
    /// A grant has it, and brings it back.
    is_granted: bool,
}

/// What a sender and its grants share.
struct Shared {
    place: Mutex<Place>,
    closed: AtomicBool,
    canceller: Option<Canceller>,
    ring: Option<Ring>,
    max_payload: usize,
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A grant ends.
    fn bring_back(&self, sink: Option<Box<dyn Sink>>) {
        let mut place = lock(&self.place);
        place.is_granted = false;
        // Dropped without the lock, if the sender was closed.
        let unwanted = if self.is_closed() { sink } else { std::mem::replace(&mut place.sink, sink) };
        drop(place);
        drop(unwanted);
    }
}

/// The sending end of a ring or of a transport.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Sender {
    shared: Arc<Shared>,
    name: String,
    /// The kind of frames that carry messages of the agreed type.
    message_kind: Option<u16>,
    bell: OnceLock<Bell>,
}

impl Sender {
    fn new(sink: Box<dyn Sink>, name: &str, message_kind: Option<u16>) -> Self {
        let shared = Shared {
            closed: AtomicBool::new(false),
            canceller: sink.canceller(),
            ring: sink.ring().cloned(),
            max_payload: sink.max_payload(),
            place: Mutex::new(Place { sink: Some(sink), is_granted: false }),
        };
        Sender { shared: Arc::new(shared), name: name.into(), message_kind, bell: OnceLock::new() }
    }

    pub fn over_spsc(tx: spsc::Producer) -> Self {
        Self::new(Box::new(tx), "(anonymous)", None)
    }

    pub fn over_mpmc(tx: mpmc::Producer) -> Self {
        Self::new(Box::new(tx), "(anonymous)", None)
    }

    pub fn over_wire(py: Python<'_>, endpoint: &str, deadline: Deadline) -> PyResult<Self> {
        let parsed = Endpoint::parse(endpoint).map_err(|error| raise(py, error))?;
        let tx = open_wire(py, parsed, deadline, |endpoint, until| endpoint.open_sender(until))?;
        Ok(Self::new(Box::new(tx), endpoint, None))
    }

    /// What a set needs to wait for room.
    pub fn readiness(&self, py: Python<'_>, len: usize) -> PyResult<Readiness> {
        self.with(py, |sink| sink.writable(len))
    }

    /// Calls the producer without waiting.
    fn with<T>(&self, py: Python<'_>, call: impl FnOnce(&mut dyn Sink) -> Result<T, Error>) -> PyResult<T> {
        let Some(mut place) = try_lock(&self.shared.place) else { return Err(busy_thread(py)) };
        match &mut place.sink {
            Some(sink) if !self.shared.is_closed() => call(&mut **sink).map_err(|error| raise(py, error)),
            _ => Err(self.unusable(py, place.is_granted)),
        }
    }

    #[cold]
    fn unusable(&self, py: Python<'_>, is_granted: bool) -> PyErr {
        if is_granted && !self.shared.is_closed() {
            refuse(py, "Busy", "a grant of this handle is open: commit or abort it first")
        } else {
            closed_here(py)
        }
    }

    fn header(&self, py: Python<'_>, kind: Option<u16>, stream: u16, len: usize) -> PyResult<Header> {
        let kind = kind.or(self.message_kind).unwrap_or(Header::DEFAULT_KIND);
        match Header::new(kind, len) {
            Ok(header) => Ok(Header { stream, ..header }),
            Err(error) => Err(raise(py, error)),
        }
    }

    /// Calls the producer, and waits without the GIL.
    fn wait_with<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        mut call: impl FnMut(&mut dyn Sink, Deadline) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let another = try_lock(&self.shared.place).and_then(|place| place.sink.as_ref()?.another());
        let mut another = another.map(Mutex::new);
        let shared = &*self.shared;
        // What is wrong with the handle is found without the GIL, and told with it.
        let is_granted = AtomicBool::new(false);
        let attempt = |slice| {
            if let Some(another) = &mut another {
                // A handle of this thread's own: other threads send meanwhile.
                let another = another.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
                return if shared.is_closed() { Err(Error::Cancelled) } else { call(&mut **another, slice) };
            }
            let mut place = lock_until(&shared.place, Some(slice))?;
            let outcome = match &mut place.sink {
                Some(sink) if !shared.is_closed() => call(&mut **sink, slice),
                _ => {
                    is_granted.store(place.is_granted, Ordering::Relaxed);
                    Err(Error::Cancelled)
                }
            };
            if shared.is_closed() {
                place.sink = None;
            }
            outcome
        };
        wait(py, deadline, attempt, |py| {
            if shared.is_closed() || is_granted.load(Ordering::Relaxed) {
                return Err(self.unusable(py, is_granted.load(Ordering::Relaxed)));
            }
            if let Some(canceller) = &shared.canceller {
                canceller.reset();
            }
            Ok(())
        })
    }

    fn arm(&self, py: Python<'_>, len: usize) -> PyResult<()> {
        let Some(bell) = self.bell.get() else { return Ok(()) };
        bell.arm(py, self.readiness(py, len)?)
    }
}

#[cold]
fn busy_thread(py: Python<'_>) -> PyErr {
    refuse(py, "Busy", "another thread is in a call of this handle: give each thread its own, or a timeout")
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (name, *, evict_after = None, fail_when_full = false, **options))]
    fn open(
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        evict_after: Option<f64>,
        fail_when_full: bool,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        if let Ok(opened) = name.cast::<Opened>() {
            return match opened.get().take() {
                Some(End::Sender(end)) => Ok(end),
                _ => Err(PyTypeError::new_err("it was opened for another class, or used before")),
            };
        }
        let name: &str = &name.extract::<PyBackedStr>()?;
        let opening = Opening::from_keywords(options)?;
        let kind = opening.kind_of(py, name, Kind::Spsc)?;
        if evict_after.is_some_and(|seconds| seconds.is_nan() || seconds < 0.0) {
            return Err(refuse(
                py,
                "Invalid",
                "evict_after: seconds, at least 0, or None to wait for slow subscribers",
            ));
        }
        let with = opening.options(py, kind)?;
        let opened: Result<Box<dyn Sink>, Error> = match kind {
            Kind::Mpmc => {
                opening.attach(name, &with, mpmc::Producer::open, mpmc::Producer::attach).map(|tx| Box::new(tx) as _)
            }
            Kind::Mpsc => {
                opening.attach(name, &with, mpsc::Producer::open, mpsc::Producer::attach).map(|tx| Box::new(tx) as _)
            }
            Kind::Broadcast => opening.attach(name, &with, Publisher::open, Publisher::attach).map(|mut tx| {
                let after = evict_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                tx.set_policy(match after {
                    Some(after) => SlowPolicy::Evict { after },
                    None if fail_when_full => SlowPolicy::Fail,
                    None => SlowPolicy::Block,
                });
                Box::new(tx) as _
            }),
            _ => opening.attach(name, &with, spsc::Producer::open, spsc::Producer::attach).map(|tx| Box::new(tx) as _),
        };
        let sink = opened.map_err(|error| raise(py, error))?;
        let agreed = sink.ring().map_or(Ok(None), |ring| opening.agree(ring));
        Ok(Self::new(sink, name, agreed.map_err(|error| raise(py, error))?))
    }

    /// Sends `payload`, any object with the buffer protocol; waits for room at most `timeout`
    /// seconds, for ever with None.
    #[pyo3(
        signature = (payload, timeout = Timeout::NEVER, *, kind = None, stream = 0),
        text_signature = "($self, payload, timeout=None, *, kind=None, stream=0)"
    )]
    fn send(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        timeout: Timeout,
        kind: Option<u16>,
        stream: u16,
    ) -> PyResult<()> {
        let bytes = Bytes::read(payload)?;
        let header = self.header(py, kind, stream, bytes.as_slice().len())?;
        let is_busy = match try_lock(&self.shared.place) {
            None => true,
            Some(mut place) => match &mut place.sink {
                Some(sink) if !self.shared.is_closed() => match sink.send(header, bytes.as_slice(), None) {
                    Ok(()) => return Ok(()),
                    Err(Error::Full) if timeout.is_zero() => return Err(raise(py, Error::Full)),
                    Err(Error::Full) => false,
                    Err(error) => return Err(raise(py, error)),
                },
                _ => return Err(self.unusable(py, place.is_granted)),
            },
        };
        if is_busy && timeout.is_zero() {
            return Err(busy_thread(py));
        }
        self.wait_with(py, timeout.deadline(), |sink, slice| sink.send(header, bytes.as_slice(), Some(slice)))
    }

    /// Sends `payload` if there is room; returns whether there was.
    #[pyo3(signature = (payload, *, kind = None, stream = 0))]
    fn try_send(&self, py: Python<'_>, payload: &Bound<'_, PyAny>, kind: Option<u16>, stream: u16) -> PyResult<bool> {
        let bytes = Bytes::read(payload)?;
        let header = self.header(py, kind, stream, bytes.as_slice().len())?;
        let sent = self.with(py, |sink| match sink.send(header, bytes.as_slice(), None) {
            Ok(()) => Ok(true),
            Err(Error::Full) => Ok(false),
            Err(error) => Err(error),
        })?;
        if !sent {
            self.arm(py, bytes.as_slice().len())?;
        }
        Ok(sent)
    }

    /// Reserves room for a frame of up to `size` bytes, to write it in place.
    #[pyo3(
        signature = (size, timeout = Timeout::NEVER, *, kind = None, stream = 0),
        text_signature = "($self, size, timeout=None, *, kind=None, stream=0)"
    )]
    fn reserve(
        &self,
        py: Python<'_>,
        size: usize,
        timeout: Timeout,
        kind: Option<u16>,
        stream: u16,
    ) -> PyResult<Grant> {
        let header = self.header(py, kind, stream, size)?;
        let shared = &*self.shared;
        let deadline = timeout.deadline();
        let is_granted = AtomicBool::new(false);
        let attempt = |slice: Option<Deadline>| -> Result<Reserved, Error> {
            let mut place = lock_until(&shared.place, slice)?;
            if shared.is_closed() || place.sink.is_none() {
                is_granted.store(place.is_granted, Ordering::Relaxed);
                return Err(Error::Cancelled);
            }
            let another = place.sink.as_ref().and_then(|sink| sink.another());
            let is_own = another.is_some();
            let Some(sink) = another.or_else(|| place.sink.take()) else { return Err(Error::Cancelled) };
            match sink.reserve(size, slice) {
                Ok(reserved) => {
                    place.is_granted = !is_own;
                    Ok(reserved)
                }
                Err((sink, error)) => {
                    if !is_own && !shared.is_closed() {
                        place.sink = Some(sink);
                    }
                    Err(error)
                }
            }
        };
        let unusable = |py: Python<'_>| {
            if shared.is_closed() || is_granted.load(Ordering::Relaxed) {
                return Err(self.unusable(py, is_granted.load(Ordering::Relaxed)));
            }
            if let Some(canceller) = &shared.canceller {
                canceller.reset();
            }
            Ok(())
        };
        let first = match attempt(None) {
            Err(Error::Full | Error::Empty) if timeout.is_zero() => return Err(raise(py, Error::Full)),
            Err(Error::Full | Error::Empty) => None,
            Err(Error::Cancelled) => {
                unusable(py)?;
                None
            }
            Err(error) => return Err(raise(py, error)),
            Ok(reserved) => Some(reserved),
        };
        let mut reserved = match first {
            Some(reserved) => reserved,
            None => wait(py, deadline, |slice| attempt(Some(slice)), unusable)?,
        };
        let (start, len) = reserved.start();
        Ok(Grant {
            shared: Arc::clone(&self.shared),
            reserved: Mutex::new(Some(reserved)),
            header,
            start: start as usize,
            len: len.min(size),
            exports: AtomicUsize::new(0),
            home: Home::here(),
        })
    }

    /// Sends what a transport has collected.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn flush(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        self.wait_with(py, timeout.deadline(), |sink, slice| sink.flush(slice))
    }

    /// Sends what a transport has collected, for at most `timeout` seconds, and ends. More than
    /// once is harmless.
    #[pyo3(signature = (timeout = Timeout(Some(Duration::from_secs(5)))), text_signature = "($self, timeout=5.0)")]
    fn close(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let is_wire = self.shared.ring.is_none();
        let outcome = if is_wire && try_lock(&self.shared.place).is_some() {
            self.wait_with(py, timeout.deadline(), |sink, slice| sink.finish(slice))
        } else {
            Ok(())
        };
        self.shared.closed.store(true, Ordering::Release);
        if let Some(mut place) = try_lock(&self.shared.place) {
            let sink = place.sink.take();
            drop(place);
            drop(sink);
        } else if let Some(canceller) = &self.shared.canceller {
            canceller.cancel(); // the thread that waits drops it
        }
        wake(&self.bell);
        outcome
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// A descriptor for select, poll, epoll and asyncio: *readable* while there may be room for a
    /// frame of `size` bytes, until `try_send` has found none.
    #[pyo3(signature = (size = 0))]
    fn fileno(&self, py: Python<'_>, size: usize) -> PyResult<i32> {
        if self.shared.is_closed() {
            return Err(closed_here(py));
        }
        if let Some(bell) = self.bell.get() {
            return Ok(bell.fileno());
        }
        let bell = Bell::new(py)?;
        let bell = self.bell.get_or_init(|| bell);
        self.arm(py, size)?;
        Ok(bell.fileno())
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
        self.shared.max_payload
    }

    /// Whether a receiver is attached; None where that is not known.
    #[getter]
    fn has_peer(&self) -> Option<bool> {
        Some(self.shared.ring.as_ref()?.stats().consumers > 0)
    }

    fn __repr__(&self) -> String {
        let closed = if self.shared.is_closed() { ", closed" } else { "" };
        format!("<slipring sender to {}{closed}>", self.name)
    }
}

/// Room for a frame in a ring, to write it in place. Committed at the end of a `with` block,
/// aborted if that raises.
#[pyclass(frozen, module = "slipring")]
pub struct Grant {
    shared: Arc<Shared>,
    /// `None` once it was committed or aborted.
    reserved: Mutex<Option<Reserved>>,
    header: Header,
    /// The address of the bytes, which lie in `reserved` or in the ring, and stay there until it
    /// ends.
    start: usize,
    len: usize,
    /// Views that were exported and not released, or [`ENDED`].
    exports: AtomicUsize,
    home: Home,
}

const ENDED: usize = usize::MAX;

impl Grant {
    /// Takes the reserved room, if there are no views.
    fn end(&self, py: Python<'_>) -> PyResult<Reserved> {
        match self.exports.compare_exchange(0, ENDED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(ENDED) => return Err(ended(py)),
            Err(views) => {
                return Err(PyBufferError::new_err(format!(
                    "{views} view(s) of this grant exist (memoryview, numpy array): release or delete them first"
                )));
            }
        }
        lock(&self.reserved).take().ok_or_else(|| ended(py))
    }
}

#[cold]
fn ended(py: Python<'_>) -> PyErr {
    refuse(py, "Released", "this grant was committed or aborted: reserve another one")
}

impl Drop for Grant {
    fn drop(&mut self) {
        // Views keep a reference to this object, so there are none.
        if let Some(reserved) = lock(&self.reserved).take() {
            let sink = reserved.abort();
            self.shared.bring_back_from(sink);
        }
    }
}

#[pymethods]
impl Grant {
    /// Sends the first `size` bytes as a frame; all of them with None.
    #[pyo3(signature = (size = None))]
    fn commit(&self, py: Python<'_>, size: Option<usize>) -> PyResult<()> {
        let size = size.unwrap_or(self.len);
        if size > self.len {
            return Err(raise(py, Error::TooLarge { max: self.len }));
        }
        self.home.check().map_err(|error| raise(py, error))?;
        let reserved = self.end(py)?;
        let header = Header { len: u32::try_from(size).unwrap_or(u32::MAX), ..self.header };
        let (sink, outcome) = reserved.commit(header, size);
        self.shared.bring_back_from(sink);
        outcome.map_err(|error| raise(py, error))
    }

    /// Sends nothing. More than once is harmless.
    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        if self.exports.load(Ordering::Acquire) == ENDED {
            return Ok(());
        }
        let sink = self.end(py)?.abort();
        self.shared.bring_back_from(sink);
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Commits the whole grant, unless it was committed or aborted before; aborts it on an
    /// exception.
    fn __exit__(
        &self,
        py: Python<'_>,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if self.exports.load(Ordering::Acquire) == ENDED {
            Ok(())
        } else if exception.is_none() {
            self.commit(py, None)
        } else {
            // With views left, the last of them aborts it: the exception is what to tell.
            match self.end(py) {
                Ok(reserved) => {
                    let sink = reserved.abort();
                    self.shared.bring_back_from(sink);
                    Ok(())
                }
                Err(_) => Ok(()),
            }
        }
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// As a frame.
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        let ended = if self.exports.load(Ordering::Acquire) == ENDED { ", ended" } else { "" };
        format!("<slipring.Grant of {} bytes{ended}>", self.len)
    }

    /// # Safety
    /// Python's: `view` is room for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let grant = slf.get();
        // Counted before it exists, so that no commit comes between.
        let counted = grant.exports.fetch_update(Ordering::AcqRel, Ordering::Acquire, |views| {
            if views == ENDED { None } else { Some(views + 1) }
        });
        if counted.is_err() {
            return Err(ended(slf.py()));
        }
        // SAFETY: `view` by Python's contract. The view is counted, so the grant does not end until
        // `__releasebuffer__`, and the view keeps this object alive; until then the reserved bytes
        // are the producer's alone, and only Python's views write them.
        let outcome = unsafe { export(slf.as_any(), view, flags, grant.start as *mut u8, grant.len, false) };
        if outcome.is_err() {
            grant.exports.fetch_sub(1, Ordering::AcqRel);
        }
        outcome
    }

    /// # Safety
    /// Python's: called once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shared {
    /// A grant has ended: its producer comes back, unless it had one of its own.
    fn bring_back_from(&self, sink: Option<Box<dyn Sink>>) {
        if lock(&self.place).is_granted {
            self.bring_back(sink);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        let sink = lock(&self.shared.place).sink.take();
        drop(sink);
    }
}
