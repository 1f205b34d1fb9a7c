//! `Semaphore`, `Mutex` and `Event`, and what the first two lend: `Permit`, `MutexGuard`.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as StdMutex, OnceLock};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use slipring::{Error, Locked, Readiness};

use crate::bell::Bell;
use crate::bytes::export;
use crate::errors::{raise, refuse};
use crate::source::lock;
use crate::stream::fileno;
use crate::wait::{Timeout, go_on, wait};

/// A counting semaphore between processes. The permits of a killed process come back.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Semaphore {
    handle: Arc<slipring::Semaphore>,
    bell: OnceLock<Bell>,
}

impl Semaphore {
    pub fn readiness(&self) -> Readiness {
        self.handle.acquirable()
    }

    fn try_permit(&self, py: Python<'_>) -> PyResult<Option<Permit>> {
        let found = self.handle.try_acquire().map_err(|error| raise(py, error))?;
        if found.is_none() {
            if let Some(bell) = self.bell.get() {
                bell.arm(py, self.handle.acquirable())?;
            }
        }
        Ok(found.map(|permit| self.keep(permit)))
    }

    fn keep(&self, permit: slipring::Permit<'_>) -> Permit {
        // SAFETY: the permit borrows the semaphore in the `Arc` that is kept beside it, which does
        // not move, and is dropped after it: fields drop in order.
        let permit = unsafe { std::mem::transmute::<slipring::Permit<'_>, slipring::Permit<'static>>(permit) };
        Permit { held: StdMutex::new(Some((permit, Arc::clone(&self.handle)))) }
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (name, permits = None))]
    fn open(py: Python<'_>, name: &str, permits: Option<usize>) -> PyResult<Self> {
        let handle = match permits {
            Some(permits) => slipring::Semaphore::open_or_create(name, permits),
            None => slipring::Semaphore::open(name),
        };
        let handle = handle.map_err(|error| raise(py, error))?;
        Ok(Semaphore { handle: Arc::new(handle), bell: OnceLock::new() })
    }

    /// Takes a permit; waits for it at most `timeout` seconds, for ever with None. It is released
    /// at the end of a `with` block, or with its last reference.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn acquire(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Permit> {
        if let Some(permit) = self.try_permit(py)? {
            return Ok(permit);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        wait(py, timeout.deadline(), |slice| self.handle.acquire_deadline(slice).map(|permit| self.keep(permit)), go_on)
    }

    /// Takes a permit if there is one, or returns None.
    fn try_acquire(&self, py: Python<'_>) -> PyResult<Option<Permit>> {
        self.try_permit(py)
    }

    /// Permits that are free now.
    #[getter]
    fn available(&self) -> usize {
        self.handle.available()
    }

    /// Permits in all.
    #[getter]
    fn permits(&self) -> usize {
        self.handle.permits()
    }

    /// A descriptor that is readable while there may be a permit, until a call has found none.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || Ok(self.handle.acquirable()))
    }

    /// Removes the name.
    #[staticmethod]
    fn remove(py: Python<'_>, name: &str) -> PyResult<()> {
        slipring::Semaphore::remove(name).map_err(|error| raise(py, error))
    }

    fn __repr__(&self) -> String {
        format!("<slipring.Semaphore, {} of {} permits>", self.handle.available(), self.handle.permits())
    }
}

/// A permit of a semaphore.
#[pyclass(frozen, module = "slipring")]
pub struct Permit {
    /// The permit is dropped first.
    held: StdMutex<Option<(slipring::Permit<'static>, Arc<slipring::Semaphore>)>>,
}

#[pymethods]
impl Permit {
    /// Gives the permit back. More than once is harmless.
    fn release(&self) {
        let held = lock(&self.held).take();
        drop(held);
    }

    /// Whether it was given back.
    #[getter]
    fn released(&self) -> bool {
        lock(&self.held).is_none()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) {
        self.release();
    }
}

/// A mutex between processes, with the bytes that it protects. A holder that dies is told to the
/// next.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Mutex {
    handle: Arc<slipring::Mutex>,
    bell: OnceLock<Bell>,
}

impl Mutex {
    pub fn readiness(&self) -> Readiness {
        self.handle.lockable()
    }

    fn keep(&self, locked: Locked<'_>) -> MutexGuard {
        let owner_died = locked.owner_died();
        let mut guard = locked.into_guard();
        let (start, len) = (guard.as_mut_ptr() as usize, guard.len());
        // SAFETY: the guard borrows the mutex in the `Arc` that is kept beside it, which does not
        // move, and is dropped after it: fields drop in order.
        let guard = unsafe { std::mem::transmute::<slipring::MutexGuard<'_>, slipring::MutexGuard<'static>>(guard) };
        let held = StdMutex::new(Some((guard, Arc::clone(&self.handle))));
        MutexGuard { held, start, len, owner_died, exports: AtomicUsize::new(0) }
    }
}

#[pymethods]
impl Mutex {
    #[new]
    #[pyo3(signature = (name, size = None))]
    fn open(py: Python<'_>, name: &str, size: Option<usize>) -> PyResult<Self> {
        let handle = match size {
            Some(size) => slipring::Mutex::open_or_create(name, size),
            None => slipring::Mutex::open(name),
        };
        let handle = handle.map_err(|error| raise(py, error))?;
        Ok(Mutex { handle: Arc::new(handle), bell: OnceLock::new() })
    }

    /// Locks it; waits at most `timeout` seconds, for ever with None. Unlocked at the end of a
    /// `with` block, or with the last reference and view.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn lock(&self, py: Python<'_>, timeout: Timeout) -> PyResult<MutexGuard> {
        if let Some(guard) = self.try_lock(py)? {
            return Ok(guard);
        }
        if timeout.is_zero() {
            return Err(raise(py, Error::Empty));
        }
        wait(py, timeout.deadline(), |slice| self.handle.lock_deadline(slice).map(|locked| self.keep(locked)), go_on)
    }

    /// Locks it if it is free, or returns None.
    fn try_lock(&self, py: Python<'_>) -> PyResult<Option<MutexGuard>> {
        let found = self.handle.try_lock().map_err(|error| raise(py, error))?;
        if found.is_none() {
            if let Some(bell) = self.bell.get() {
                bell.arm(py, self.handle.lockable())?;
            }
        }
        Ok(found.map(|locked| self.keep(locked)))
    }

    /// How many bytes it protects.
    fn __len__(&self) -> usize {
        self.handle.len()
    }

    /// A mutex of no bytes is no empty collection.
    fn __bool__(&self) -> bool {
        true
    }

    /// A descriptor that is readable while it may be free, until a call has found it locked.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || Ok(self.handle.lockable()))
    }

    /// Removes the name.
    #[staticmethod]
    fn remove(py: Python<'_>, name: &str) -> PyResult<()> {
        slipring::Mutex::remove(name).map_err(|error| raise(py, error))
    }

    fn __repr__(&self) -> String {
        format!("<slipring.Mutex over {} bytes>", self.handle.len())
    }
}

/// A locked mutex: the bytes that it protects, to read and write.
#[pyclass(frozen, module = "slipring")]
pub struct MutexGuard {
    /// The guard is dropped first.
    held: StdMutex<Option<(slipring::MutexGuard<'static>, Arc<slipring::Mutex>)>>,
    /// The address of the bytes, which lie in shared memory and stay there while `held` is.
    start: usize,
    len: usize,
    owner_died: bool,
    /// Views that were exported and not released, or [`UNLOCKED`].
    exports: AtomicUsize,
}

const UNLOCKED: usize = usize::MAX;

impl MutexGuard {
    fn let_go(&self) -> usize {
        match self.exports.compare_exchange(0, UNLOCKED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                let held = lock(&self.held).take();
                drop(held);
                0
            }
            Err(UNLOCKED) => 0,
            Err(views) => views,
        }
    }
}

#[pymethods]
impl MutexGuard {
    /// Unlocks it. More than once is harmless.
    fn unlock(&self) -> PyResult<()> {
        match self.let_go() {
            0 => Ok(()),
            views => Err(PyBufferError::new_err(format!(
                "{views} view(s) of the locked bytes exist (memoryview, numpy array): release or delete them first"
            ))),
        }
    }

    /// Whether the last holder died with it, or a holder since then has not called
    /// `mark_consistent`: the bytes may be half written.
    #[getter]
    fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Says that the bytes are repaired: the next holder is not told of the death.
    fn mark_consistent(&self) {
        if let Some((guard, _)) = &mut *lock(&self.held) {
            guard.mark_consistent();
        }
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// As that of the mutex: `if guard := mutex.try_lock()`.
    fn __bool__(&self) -> bool {
        true
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.unlock()
    }

    /// # Safety
    /// Python's: `view` is room for a view.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let guard = slf.get();
        let counted = guard.exports.fetch_update(Ordering::AcqRel, Ordering::Acquire, |views| {
            if views == UNLOCKED { None } else { Some(views + 1) }
        });
        if counted.is_err() {
            return Err(refuse(slf.py(), "Released", "this mutex was unlocked: lock it again"));
        }
        // SAFETY: `view` by Python's contract. The view is counted, so the mutex stays locked until
        // `__releasebuffer__`, and the view keeps this object alive; until then the bytes are ours,
        // and only Python's views access them.
        let outcome = unsafe { export(slf.as_any(), view, flags, guard.start as *mut u8, guard.len, false) };
        if outcome.is_err() {
            guard.exports.fetch_sub(1, Ordering::AcqRel);
        }
        outcome
    }

    /// # Safety
    /// Python's: called once for each view.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.exports.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A flag between processes that stays set until it is reset.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct Event {
    handle: slipring::Event,
    bell: OnceLock<Bell>,
}

impl Event {
    pub fn readiness(&self) -> Readiness {
        self.handle.waitable()
    }
}

#[pymethods]
impl Event {
    #[new]
    fn open(py: Python<'_>, name: &str) -> PyResult<Self> {
        let handle = slipring::Event::open_or_create(name).map_err(|error| raise(py, error))?;
        Ok(Event { handle, bell: OnceLock::new() })
    }

    /// Sets it: every waiter goes on.
    fn set(&self, py: Python<'_>) -> PyResult<()> {
        self.handle.set().map_err(|error| raise(py, error))
    }

    /// Resets it; returns whether it was set.
    fn reset(&self, py: Python<'_>) -> PyResult<bool> {
        let was_set = self.handle.reset().map_err(|error| raise(py, error))?;
        if let Some(bell) = self.bell.get() {
            bell.arm(py, self.handle.waitable())?;
        }
        Ok(was_set)
    }

    /// Whether it is set.
    fn is_set(&self) -> bool {
        self.handle.is_set()
    }

    /// Waits until it is set, at most `timeout` seconds, for ever with None.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<()> {
        if self.handle.is_set() {
            return Ok(());
        }
        wait(py, timeout.deadline(), |slice| self.handle.wait_deadline(slice), go_on)
    }

    /// A descriptor that is readable once it is set, until it is reset here.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        fileno(py, &self.bell, || Ok(self.handle.waitable()))
    }

    /// Removes the name.
    #[staticmethod]
    fn remove(py: Python<'_>, name: &str) -> PyResult<()> {
        slipring::Event::remove(name).map_err(|error| raise(py, error))
    }

    fn __repr__(&self) -> String {
        format!("<slipring.Event, {}>", if self.handle.is_set() { "set" } else { "not set" })
    }
}
