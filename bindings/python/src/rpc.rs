//! `slipring.rpc`: calls. The client's calls are futures of the library, which a thread or a task
//! of Python's waits for; the server is used by one thread at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use slipring::rpc::{self, AsyncClient, Pending};
use slipring::{Deadline, Error, Kind};

use crate::bell::Bell;
use crate::bytes::Bytes;
use crate::errors::{closed_here, raise, refuse};
use crate::exclusive::Exclusive;
use crate::open::Opening;
use crate::source::lock;
use crate::wait::{SLICE, Timeout};

type Reply = Pin<Box<dyn Future<Output = slipring::Result<Vec<u8>>> + Send>>;

/// The options of the ring of requests.
fn options(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<slipring::Options> {
    let opening = Opening::from_keywords(keywords)?;
    if opening.message_type.is_some() || opening.create.is_some() {
        return Err(refuse(py, "Unsupported", "message_type and create are for rings, not for calls: leave them out"));
    }
    opening.options(py, Kind::Mpmc)
}

/// A client of a server, by its name. Threads and tasks may call at once.
#[pyclass(frozen, subclass, name = "Client", module = "slipring.rpc")]
pub struct Client {
    client: Mutex<Option<AsyncClient>>,
    name: String,
}

impl Client {
    fn begin(&self, py: Python<'_>, request: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<Reply> {
        let request = Bytes::read(request)?.as_slice().to_vec();
        let client = lock(&self.client).clone().ok_or_else(|| closed_here(py))?;
        let deadline = timeout.deadline();
        Ok(Box::pin(async move { client.call(&request, deadline).await }))
    }
}

/// A thread that waits for a future.
struct Parked {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// How often a reply is polled for before the thread sleeps: some 20 µs.
const POLLS: u32 = 200;

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (name, **options_))]
    fn open(py: Python<'_>, name: &str, options_: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let with = options(py, options_)?;
        let client = rpc::Client::open(name, &with).map_err(|error| raise(py, error))?;
        Ok(Client { client: Mutex::new(Some(AsyncClient::new(client))), name: name.into() })
    }

    /// Sends a request and returns the reply; waits for a server and for the reply at most
    /// `timeout` seconds, for ever with None. Ends at once with `PeerDead` or `Closed` if the
    /// server ends.
    #[pyo3(signature = (request, timeout = Timeout::NEVER), text_signature = "($self, request, timeout=None)")]
    fn call<'py>(
        &self,
        py: Python<'py>,
        request: &Bound<'py, PyAny>,
        timeout: Timeout,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let deadline = timeout.deadline();
        let mut reply = self.begin(py, request, timeout)?;
        let parked = Arc::new(Parked { woken: Mutex::new(false), changed: Condvar::new() });
        let waker = Waker::from(Arc::clone(&parked));
        loop {
            let polled = py.detach(|| {
                let mut context = Context::from_waker(&waker);
                for _ in 0..POLLS {
                    if let Poll::Ready(reply) = reply.as_mut().poll(&mut context) {
                        return Some(reply);
                    }
                    std::hint::spin_loop();
                }
                let mut woken = lock(&parked.woken);
                if !*woken {
                    let slept = parked.changed.wait_timeout(woken, SLICE.min(deadline.remaining()));
                    woken = slept.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                }
                *woken = false;
                None
            });
            match polled {
                Some(Ok(reply)) => return Ok(PyBytes::new(py, &reply)),
                Some(Err(error)) => return Err(raise(py, error)),
                // A call that ends here is cancelled.
                None if deadline.has_passed() => return Err(raise(py, Error::Timeout)),
                None => py.check_signals()?,
            }
        }
    }

    /// Begins a call, for an event loop.
    #[pyo3(signature = (request, timeout = Timeout::NEVER), text_signature = "($self, request, timeout=None)")]
    fn begin_call(&self, py: Python<'_>, request: &Bound<'_, PyAny>, timeout: Timeout) -> PyResult<Calling> {
        let bell = Arc::new(Bell::new(py)?);
        let reply = Mutex::new(Some(self.begin(py, request, timeout)?));
        Ok(Calling { reply, waker: Waker::from(Arc::new(Rings(Arc::clone(&bell)))), bell })
    }

    /// Whether a server runs.
    #[getter]
    fn has_server(&self) -> bool {
        lock(&self.client).as_ref().is_some_and(AsyncClient::has_server)
    }

    /// Leaves. Calls under way go on.
    fn close(&self) {
        let client = lock(&self.client).take();
        drop(client);
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        lock(&self.client).is_none()
    }

    fn __repr__(&self) -> String {
        format!("<slipring.rpc.Client of {}>", self.name)
    }
}

struct Rings(Arc<Bell>);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}

/// A call under way, for an event loop: poll it, and again whenever its descriptor is readable.
/// Dropping it cancels the call.
#[pyclass(frozen, module = "slipring.rpc")]
pub struct Calling {
    reply: Mutex<Option<Reply>>,
    waker: Waker,
    bell: Arc<Bell>,
}

#[pymethods]
impl Calling {
    /// The reply, or None as long as there is none.
    fn poll<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.bell.reset();
        let mut reply = lock(&self.reply);
        let Some(future) = &mut *reply else {
            return Err(refuse(py, "Released", "this call has ended"));
        };
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Ok(None),
            Poll::Ready(outcome) => {
                *reply = None;
                outcome.map(|reply| Some(PyBytes::new(py, &reply))).map_err(|error| raise(py, error))
            }
        }
    }

    /// Cancels the call.
    fn cancel(&self) {
        let reply = lock(&self.reply).take();
        drop(reply);
    }

    /// Readable when the call is to be polled again.
    fn fileno(&self) -> i32 {
        self.bell.fileno()
    }
}

/// A server, by its name.
#[pyclass(frozen, subclass, name = "Server", module = "slipring.rpc")]
pub struct Server {
    server: Arc<Exclusive<rpc::Server>>,
    name: String,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (name, clients = 16, **options_))]
    fn open(py: Python<'_>, name: &str, clients: u16, options_: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let with = options(py, options_)?;
        let server = rpc::Server::open(name, clients, &with).map_err(|error| raise(py, error))?;
        let canceller = server.canceller();
        Ok(Server { server: Arc::new(Exclusive::new(server, canceller)), name: name.into() })
    }

    /// The next request; waits for it at most `timeout` seconds, for ever with None.
    #[pyo3(signature = (timeout = Timeout::NEVER), text_signature = "($self, timeout=None)")]
    fn recv(&self, py: Python<'_>, timeout: Timeout) -> PyResult<Request> {
        let take = |request: rpc::Request<'_>| (request.payload().to_vec(), request.defer());
        let (payload, pending) = if timeout.is_zero() {
            self.server.now(py, |server| server.try_recv().map(take))?
        } else {
            self.server.wait(py, timeout.deadline(), |server, slice| server.recv_deadline(slice).map(take))?
        };
        let payload = PyBytes::new(py, &payload).unbind();
        Ok(Request {
            payload,
            deadline: pending.deadline(),
            pending: Mutex::new(Some(pending)),
            server: Arc::clone(&self.server),
        })
    }

    /// Ends. Every caller that waits for a reply is told so.
    fn close(&self) {
        self.server.close();
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.server.is_closed()
    }

    /// Removes the names of a server's rings.
    #[staticmethod]
    #[pyo3(signature = (name, **options_))]
    fn remove(py: Python<'_>, name: &str, options_: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
        let with = options(py, options_)?;
        rpc::Server::remove(name, &with).map_err(|error| raise(py, error))
    }

    fn __repr__(&self) -> String {
        format!("<slipring.rpc.Server {}>", self.name)
    }
}

/// A request. One that is dropped without a reply is refused: its caller gets `Unanswered`.
#[pyclass(frozen, module = "slipring.rpc")]
pub struct Request {
    payload: Py<PyBytes>,
    deadline: Deadline,
    pending: Mutex<Option<Pending>>,
    server: Arc<Exclusive<rpc::Server>>,
}

#[pymethods]
impl Request {
    /// What the client sent.
    #[getter]
    fn payload(&self, py: Python<'_>) -> Py<PyBytes> {
        self.payload.clone_ref(py)
    }

    /// Seconds until its caller gives up; None for never.
    #[getter]
    fn time_left(&self) -> Option<f64> {
        let left = self.deadline.remaining();
        (left != Duration::MAX).then_some(left.as_secs_f64())
    }

    /// Whether its caller has given up.
    #[getter]
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = lock(&self.pending);
        let Some(pending) = &*pending else { return Ok(false) };
        self.server.now(py, |server| Ok(server.is_cancelled(pending)))
    }

    /// Answers it, from any thread, once.
    fn reply(&self, py: Python<'_>, reply: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Bytes::read(reply)?;
        let Some(pending) = lock(&self.pending).take() else {
            return Err(refuse(py, "Released", "this request was answered or refused before"));
        };
        self.server.now(py, |server| server.reply(pending, bytes.as_slice()))
    }

    /// Tells its caller that there will be no answer. More than once is harmless.
    fn refuse(&self, py: Python<'_>) -> PyResult<()> {
        let Some(pending) = lock(&self.pending).take() else { return Ok(()) };
        self.server.now(py, |server| {
            server.refuse(pending);
            Ok(())
        })
    }

    fn __repr__(&self) -> String {
        "<slipring.rpc.Request>".into()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(pending) = lock(&self.pending).take() {
            self.server.at_end(|server| server.refuse(pending));
        }
    }
}
