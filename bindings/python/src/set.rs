//! `WaitSet`: one wait for many handles.

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use slipring::{Error, Readiness, Registry, Token};

use crate::errors::{raise, refuse};
use crate::latest::LatestReader;
use crate::named::{Event, Mutex, Semaphore};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::source::{lock, lock_until};
use crate::stream::{StreamReader, StreamWriter};
use crate::wait::{Timeout, go_on, wait};

/// Waits for many things at once: frames, room, permits, events, descriptors.
#[pyclass(frozen, subclass, module = "slipring")]
pub struct WaitSet {
    set: StdMutex<slipring::WaitSet>,
    registry: Registry,
    /// What each token stands for, in Python.
    members: StdMutex<HashMap<usize, Py<PyAny>>>,
    next: AtomicUsize,
}

/// What a member of a set waits for.
fn readiness(py: Python<'_>, member: &Bound<'_, PyAny>, room: Option<usize>) -> PyResult<Readiness> {
    if let Ok(rx) = member.cast::<Receiver>() {
        return rx.get().readiness(py);
    }
    if let Ok(tx) = member.cast::<Sender>() {
        return tx.get().readiness(py, room.unwrap_or(0));
    }
    if let Ok(tx) = member.cast::<StreamWriter>() {
        return tx.get().readiness(py, room.unwrap_or(1));
    }
    if let Ok(rx) = member.cast::<StreamReader>() {
        return rx.get().readiness(py);
    }
    if let Ok(rx) = member.cast::<LatestReader>() {
        return rx.get().readiness(py);
    }
    if let Ok(semaphore) = member.cast::<Semaphore>() {
        return Ok(semaphore.get().readiness());
    }
    if let Ok(mutex) = member.cast::<Mutex>() {
        return Ok(mutex.get().readiness());
    }
    if let Ok(event) = member.cast::<Event>() {
        return Ok(event.get().readiness());
    }
    let fd = match member.extract::<i32>() {
        Ok(fd) => fd,
        Err(_) => member.call_method0("fileno").and_then(|fd| fd.extract()).map_err(|_| {
            PyTypeError::new_err("a member of a set is a handle of slipring, a descriptor, or has a fileno()")
        })?,
    };
    if fd < 0 {
        return Err(refuse(py, "Invalid", "a descriptor is not negative: is it closed?"));
    }
    // SAFETY: only for the call, which duplicates it; a number that is no descriptor is an error
    // there.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Readiness::readable_fd(fd).map_err(|error| raise(py, error))
}

#[pymethods]
impl WaitSet {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let set = slipring::WaitSet::new().map_err(|error| raise(py, error))?;
        let registry = set.registry();
        Ok(WaitSet { set: StdMutex::new(set), registry, members: StdMutex::default(), next: AtomicUsize::new(0) })
    }

    /// Adds a handle, a descriptor, or what has one; returns a token to remove it by. A sender is
    /// ready when it has room for `room` bytes. While frames of a ring are held, add it again after
    /// each.
    #[pyo3(signature = (member, *, room = None))]
    fn add(&self, py: Python<'_>, member: Bound<'_, PyAny>, room: Option<usize>) -> PyResult<usize> {
        let readiness = readiness(py, &member, room)?;
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.members).insert(token, member.unbind());
        if let Err(error) = self.registry.add(Token(token), readiness) {
            let member = lock(&self.members).remove(&token);
            drop(member);
            return Err(raise(py, error));
        }
        Ok(token)
    }

    /// Removes the member of a token; False if there is none.
    fn remove(&self, token: usize) -> bool {
        let member = lock(&self.members).remove(&token);
        self.registry.remove(Token(token));
        member.is_some()
    }

    /// Waits until a member is ready, at most `timeout` seconds, for ever with None; returns those
    /// that are. With 0 it returns those that are ready now, perhaps none.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn wait(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Vec<Py<PyAny>>> {
        let tokens: Vec<Token> = if timeout.is_zero() {
            let mut set =
                lock_until(&self.set, None).map_err(|_| refuse(py, "Busy", "another thread waits in this set"))?;
            let ready = set.try_wait().map_err(|error| raise(py, error))?;
            ready.collect()
        } else {
            wait(
                py,
                timeout.deadline(),
                |slice| {
                    let mut set = lock_until(&self.set, Some(slice))?;
                    Ok::<_, Error>(set.wait_deadline(slice)?.collect())
                },
                go_on,
            )?
        };
        let members = lock(&self.members);
        Ok(tokens.iter().filter_map(|token| members.get(&token.0)).map(|member| member.clone_ref(py)).collect())
    }

    fn __len__(&self) -> usize {
        lock(&self.members).len()
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // A set that is in a call now is not garbage.
        if let Some(members) = crate::source::try_lock(&self.members) {
            for member in members.values() {
                visit.call(member)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let members = std::mem::take(&mut *lock(&self.members));
        drop(members);
    }

    fn __repr__(&self) -> String {
        format!("<slipring.WaitSet of {} members>", self.__len__())
    }
}
