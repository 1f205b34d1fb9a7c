//! `Frame`: a received frame, with the buffer protocol.
//!
//! A frame lies in the ring, or is a copy (lossy subscribers, transports). In the ring it is held
//! until it is released: by `release()`, by the end of a `with` block, or when the frame and the
//! last view of it are gone. Python's views keep a reference to the frame, so the frame goes last.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use slipring::frame::{Flags, Header};

use crate::bytes::export;
use crate::errors::refuse;
use crate::source::Source;

/// Where the bytes of a frame are.
pub enum Place {
    /// In the memory of `source`, which holds them until it gets `ticket` back.
    Held { source: Arc<dyn Source>, ticket: u64, start: *const u8, len: usize },
    /// A copy, and what is released with it: its slot.
    Copied(Box<[u8]>, Option<(Arc<dyn Source>, u64)>),
}

// SAFETY: the pointer of a held frame leads into shared memory that `source` keeps mapped, and
// whose bytes do not change while the frame is held; it is only read. `dyn Source` is Send and
// Sync.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

/// What is told of a frame beside its header.
#[derive(Clone, Copy, Default)]
pub struct Extra {
    /// The lane and the producer of a frame of an mpsc ring.
    pub origin: Option<(u16, u16)>,
    /// Frames that were lost immediately before this one.
    pub missed: u64,
    /// The sender's clock, where a transport carries it.
    pub stamp: u64,
    /// Whether the transport has delivered it before.
    pub duplicate: bool,
}

/// A received frame: bytes, and what its header says.
#[pyclass(frozen, module = "slipring")]
pub struct Frame {
    place: Place,
    header: Header,
    extra: Extra,
    /// Views that were exported and not released, or [`RELEASED`].
    exports: AtomicUsize,
}

const RELEASED: usize = usize::MAX;

impl Frame {
    pub fn new(place: Place, header: Header, extra: Extra) -> Self {
        Frame { place, header, extra, exports: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        match &self.place {
            Place::Held { len, .. } => *len,
            Place::Copied(bytes, _) => bytes.len(),
        }
    }

    /// Its bytes, for a call that has not passed it to Python yet.
    pub fn bytes(&self) -> &[u8] {
        match &self.place {
            // SAFETY: the ring holds these bytes until the ticket is given back, which `drop` does.
            Place::Held { start, len, .. } if !self.released() => unsafe { std::slice::from_raw_parts(*start, *len) },
            Place::Held { .. } => &[],
            Place::Copied(bytes, _) => bytes,
        }
    }

    /// Releases the frame, unless it is released or has views; returns how many views it has.
    fn let_go(&self) -> usize {
        // From no views to released, in one step: no view is exported in between.
        match self.exports.compare_exchange(0, RELEASED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                match &self.place {
                    Place::Held { source, ticket, .. } | Place::Copied(_, Some((source, ticket))) => {
                        source.give_back(*ticket);
                    }
                    Place::Copied(_, None) => {}
                }
                0
            }
            Err(RELEASED) => 0,
            Err(views) => views,
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // A view keeps a reference to this object, so there is none.
        self.let_go();
    }
}

#[pymethods]
impl Frame {
    /// The kind of the frame: a number of the application's, or what `message_type` stands for.
    #[getter]
    fn kind(&self) -> u16 {
        self.header.kind
    }

    /// The stream of the frame.
    #[getter]
    fn stream(&self) -> u16 {
        self.header.stream
    }

    /// The sequence number in its stream.
    #[getter]
    fn seq(&self) -> u32 {
        self.header.seq
    }

    /// The sender's clock, in the unit that its transport says; 0 if there is none.
    #[getter]
    fn stamp(&self) -> u64 {
        self.extra.stamp
    }

    /// Whether a consumer that died may have seen the frame before.
    #[getter]
    fn redelivered(&self) -> bool {
        self.header.flags.contains(Flags::REDELIVERED)
    }

    /// Whether the transport has delivered the frame before.
    #[getter]
    fn duplicate(&self) -> bool {
        self.extra.duplicate
    }

    /// How many frames were lost immediately before this one: for lossy subscribers and transports.
    #[getter]
    fn missed(&self) -> u64 {
        self.extra.missed
    }

    /// The lane of an mpsc ring that it came by.
    #[getter]
    fn lane(&self) -> Option<u16> {
        self.extra.origin.map(|(lane, _)| lane)
    }

    /// The participant id of the producer, in an mpsc ring.
    #[getter]
    fn producer(&self) -> Option<u16> {
        self.extra.origin.map(|(_, producer)| producer)
    }

    /// Whether it was released. Then it has no bytes.
    #[getter]
    fn released(&self) -> bool {
        self.exports.load(Ordering::Acquire) == RELEASED
    }

    /// Whether its bytes lie in the ring. If not, they are a copy.
    #[getter]
    fn in_place(&self) -> bool {
        matches!(self.place, Place::Held { .. })
    }

    /// Releases the frame: the producer gets its room back. More than once is harmless.
    fn release(&self) -> PyResult<()> {
        match self.let_go() {
            0 => Ok(()),
            views => Err(PyBufferError::new_err(format!(
                "{views} view(s) of this frame exist (memoryview, numpy array): release or delete them first, \
                 or leave the release to the last of them"
            ))),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Releases the frame. If views exist, the last of them does.
    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {
        self.let_go();
    }

    fn __len__(&self) -> usize {
        self.len()
    }

    /// An empty frame is one, too: `while frame := rx.try_recv()` goes on.
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        let Header { kind, stream, seq, .. } = self.header;
        let released = if self.released() { ", released" } else { "" };
        format!("<slipring.Frame of {} bytes, kind {kind}, stream {stream}, seq {seq}{released}>", self.len())
    }

    /// # Safety
    /// Python's: `view` is room for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let frame = slf.get();
        // Counted before it exists, so that no release comes between.
        let counted = frame.exports.fetch_update(Ordering::AcqRel, Ordering::Acquire, |views| {
            if views == RELEASED { None } else { Some(views + 1) }
        });
        if counted.is_err() {
            return Err(refuse(
                slf.py(),
                "Released",
                "this frame was released: use it before, or copy it by bytes(frame)",
            ));
        }
        let (start, len) = match &frame.place {
            Place::Held { start, len, .. } => (*start, *len),
            Place::Copied(bytes, _) => (bytes.as_ptr(), bytes.len()),
        };
        // SAFETY: `view` by Python's contract. The view is counted, so the frame is not given back
        // until `__releasebuffer__`; until then the ring holds its bytes (or `place` its copy), and
        // the view keeps the frame alive. Read-only.
        let outcome = unsafe { export(slf.as_any(), view, flags, start.cast_mut(), len, true) };
        if outcome.is_err() {
            frame.exports.fetch_sub(1, Ordering::AcqRel);
        }
        outcome
    }

    /// # Safety
    /// Python's: called once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::AcqRel);
    }
}
