//! `slipring._native`: the library for Python. `python/slipring` makes the public classes of it.
//!
//! | file | |
//! |---|---|
//! | `frame.rs` | a received frame and its views |
//! | `receiver.rs`, `source.rs`, `shelf.rs` | receiving: the class, its sources, rings released in order |
//! | `sender.rs`, `sink.rs` | sending: the class and grants, where it sends |
//! | `stream.rs`, `latest.rs`, `named.rs`, `rpc.rs`, `set.rs` | byte streams, boards, semaphores and locks, calls, sets |
//! | `exclusive.rs` | a handle for one thread at a time |
//! | `open.rs`, `errors.rs`, `wait.rs`, `bytes.rs`, `fork.rs` | options, exceptions, waiting without the GIL, buffers, forked children |
//! | `bell.rs` | descriptors for event loops |
//!
//! # Memory
//!
//! Python's objects live as long as Python likes; the library's views and grants borrow their
//! handles. So each pair is kept together, the borrower first: `Shelf`, `Slots`, `Reserved`. A
//! frame keeps its source alive, and each of Python's views keeps its frame (or grant) alive and is
//! counted: while the count is not 0, nothing is released or committed. Every class is frozen and
//! its state behind locks and atomics, so this holds in any thread. A free-threaded Python is not
//! claimed: the stable ABI that this is built for does not have it.

#![deny(clippy::undocumented_unsafe_blocks)]

mod bell;
mod bytes;
mod errors;
mod exclusive;
mod fork;
mod frame;
mod latest;
mod named;
mod open;
mod receiver;
mod rpc;
mod sender;
mod set;
mod shelf;
mod sink;
mod source;
mod stream;
mod wait;

use pyo3::prelude::*;

/// The native part.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::frame::Frame;
    #[pymodule_export]
    use super::latest::{LatestReader, LatestWriter};
    #[pymodule_export]
    use super::named::{Event, Mutex, MutexGuard, Permit, Semaphore};
    #[pymodule_export]
    use super::open::Opened;
    #[pymodule_export]
    use super::receiver::Receiver;
    #[pymodule_export]
    use super::rpc::{Calling, Client, Request, Server};
    #[pymodule_export]
    use super::sender::{Grant, Sender};
    #[pymodule_export]
    use super::set::WaitSet;
    #[pymodule_export]
    use super::stream::{StreamReader, StreamWriter};

    use super::*;

    use crate::errors::{raise, refuse};
    use crate::open::{End, Opening};
    use crate::wait::Timeout;
    use pyo3::types::PyDict;

    /// A producer and a consumer of an anonymous ring, for threads of this process.
    #[pyfunction]
    #[pyo3(signature = (**options))]
    fn pair(py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<(Opened, Opened)> {
        let opening = Opening::from_keywords(options)?;
        let kind = opening.kind.clone().unwrap_or_else(|| "spsc".into());
        let attached = |kind| -> PyResult<slipring::Ring> {
            slipring::Ring::create_anonymous(&opening.options(py, kind)?).map_err(|error| raise(py, error))
        };
        match kind.as_str() {
            "spsc" => {
                let ring = attached(slipring::Kind::Spsc)?;
                let tx = slipring::spsc::Producer::attach(&ring).map_err(|error| raise(py, error))?;
                let rx = slipring::spsc::Consumer::attach(&ring).map_err(|error| raise(py, error))?;
                Ok(both(Sender::over_spsc(tx), Receiver::over_spsc(rx)))
            }
            "mpmc" => {
                let ring = attached(slipring::Kind::Mpmc)?;
                let tx = slipring::mpmc::Producer::attach(&ring).map_err(|error| raise(py, error))?;
                let rx = slipring::mpmc::Consumer::attach(&ring).map_err(|error| raise(py, error))?;
                Ok(both(Sender::over_mpmc(tx), Receiver::over_mpmc(rx)))
            }
            _ => Err(refuse(py, "Invalid", "kind: spsc or mpmc")),
        }
    }

    fn both(tx: Sender, rx: Receiver) -> (Opened, Opened) {
        (Opened::new(End::Sender(tx)), Opened::new(End::Receiver(rx)))
    }

    /// Opens the sending end of an endpoint, as the command line names it: `tcp:localhost:7000`.
    #[pyfunction]
    #[pyo3(signature = (endpoint, timeout = Timeout::NEVER), text_signature = "(endpoint, timeout=None)")]
    fn open_sender(py: Python<'_>, endpoint: &str, timeout: Timeout) -> PyResult<Opened> {
        Sender::over_wire(py, endpoint, timeout.deadline()).map(|tx| Opened::new(End::Sender(tx)))
    }

    /// Opens the receiving end of an endpoint.
    #[pyfunction]
    #[pyo3(signature = (endpoint, timeout = Timeout::NEVER), text_signature = "(endpoint, timeout=None)")]
    fn open_receiver(py: Python<'_>, endpoint: &str, timeout: Timeout) -> PyResult<Opened> {
        Receiver::over_wire(py, endpoint, timeout.deadline()).map(|rx| Opened::new(End::Receiver(rx)))
    }

    /// Removes the name of a ring. Handles that are attached are not affected.
    #[pyfunction]
    #[pyo3(signature = (name, *, directory = None))]
    fn remove(py: Python<'_>, name: &str, directory: Option<std::path::PathBuf>) -> PyResult<()> {
        let mut options = slipring::Options::any();
        if let Some(directory) = directory {
            options = options.directory(directory);
        }
        slipring::Ring::remove(name, &options).map_err(|error| raise(py, error))
    }

    /// The names of the rings in a directory.
    #[pyfunction]
    #[pyo3(signature = (*, directory = None))]
    fn list_rings(py: Python<'_>, directory: Option<std::path::PathBuf>) -> PyResult<Vec<String>> {
        let mut options = slipring::Options::any();
        if let Some(directory) = directory {
            options = options.directory(directory);
        }
        slipring::Ring::list(&options).map_err(|error| raise(py, error))
    }
}
