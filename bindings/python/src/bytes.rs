//! Bytes that Python passes in: any object with the buffer protocol, without a copy.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use pyo3::ffi;
use pyo3::prelude::*;

/// The bytes of an object, borrowed for the duration of a call.
pub struct Bytes {
    view: Box<ffi::Py_buffer>,
}

// SAFETY: the view is a pointer to memory that the exporter keeps in place until the release, and
// releasing needs the GIL, which `drop` has: a `Bytes` is created and dropped in the frame of one
// call, attached; in between, only its bytes are read.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// The contiguous bytes of `object`, to read.
    pub fn read(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// The contiguous bytes of `object`, to write.
    pub fn write(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_WRITABLE)
    }

    fn get(object: &Bound<'_, PyAny>, flags: c_int) -> PyResult<Self> {
        let mut view = Box::new(MaybeUninit::<ffi::Py_buffer>::uninit());
        // SAFETY: a valid object, attached; room for a view.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        // SAFETY: PyObject_GetBuffer has filled it in, as it returned 0.
        Ok(Bytes { view: unsafe { view.assume_init() } })
    }

    fn len(&self) -> usize {
        usize::try_from(self.view.len).unwrap_or(0)
    }

    /// The bytes. As with every function of Python that reads a buffer, a program that writes them
    /// from another thread meanwhile sends a mixture.
    pub fn as_slice(&self) -> &[u8] {
        if self.view.buf.is_null() || self.len() == 0 {
            return &[];
        }
        // SAFETY: a simple view is `len` contiguous bytes at `buf`, which the exporter neither
        // moves nor frees until the release in `drop`.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast(), self.len()) }
    }

    /// The bytes of a view by [`Bytes::write`].
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.view.readonly != 0 || self.view.buf.is_null() || self.len() == 0 {
            return &mut [];
        }
        // SAFETY: as above; the view was requested writable, and `readonly` says that it is.
        unsafe { std::slice::from_raw_parts_mut(self.view.buf.cast(), self.len()) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        // SAFETY: filled in by PyObject_GetBuffer, and released once; attached (see `Send`).
        unsafe { ffi::PyBuffer_Release(&raw mut *self.view) };
    }
}

/// Fills in `view` for `len` bytes at `start` of `owner`, and gives the view a reference to it.
///
/// # Safety
/// `view` is what `__getbuffer__` got. The bytes stay valid, and if `read_only` is false exclusive
/// to the views, until `__releasebuffer__` was called for this view.
pub unsafe fn export(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
    start: *mut u8,
    len: usize,
    read_only: bool,
) -> PyResult<()> {
    let len = isize::try_from(len).unwrap_or(isize::MAX);
    // SAFETY: `view` and the bytes by contract. It takes a reference to `owner`, or raises
    // BufferError for flags that it cannot serve.
    let outcome = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start.cast(), len, read_only.into(), flags) };
    if outcome == 0 { Ok(()) } else { Err(PyErr::fetch(owner.py())) }
}
