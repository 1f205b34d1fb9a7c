//! Descriptors for event loops: an eventfd that is readable while there may be something to do.
//!
//! One thread of the process waits, in a `WaitSet`, for everything that is armed, and rings once:
//! it adds to the eventfd and forgets the member. The handle arms its bell again when a call has
//! found nothing, so the descriptor is readable until then, as that of a socket is.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use slipring::{Readiness, Registry, Token, WaitSet};

use crate::errors::{raise, system};
use crate::source::lock;

struct Reactor {
    /// The process that has the thread: a forked child has none, and starts its own.
    pid: u32,
    registry: Registry,
    armed: Arc<Mutex<HashMap<usize, Arc<OwnedFd>>>>,
    next: usize,
}

static REACTOR: Mutex<Option<Reactor>> = Mutex::new(None);

/// A descriptor, and what it is armed for.
pub struct Bell {
    fd: Arc<OwnedFd>,
    token: Mutex<Option<Token>>,
}

impl Bell {
    pub fn new(py: Python<'_>) -> PyResult<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let fd = fd.map_err(|error| system(py, "create a descriptor for an event loop", error))?;
        Ok(Bell { fd: Arc::new(fd), token: Mutex::new(None) })
    }

    pub fn fileno(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Resets the bell, and lets it ring when the source is ready: at once, if it is now.
    pub fn arm(&self, py: Python<'_>, readiness: Readiness) -> PyResult<()> {
        let mut token = lock(&self.token);
        let mut reactor = lock(&REACTOR);
        let reactor = started(py, &mut reactor)?;
        if let Some(token) = token.take() {
            reactor.forget(token);
        }
        self.reset();
        let new = Token(reactor.next);
        reactor.next += 1;
        lock(&reactor.armed).insert(new.0, Arc::clone(&self.fd));
        if let Err(error) = reactor.registry.add(new, readiness) {
            reactor.forget(new);
            return Err(raise(py, error));
        }
        *token = Some(new);
        Ok(())
    }

    /// Makes the descriptor not readable.
    pub fn reset(&self) {
        // Nothing to read is as good.
        let _ = rustix::io::read(&*self.fd, &mut [0; 8]);
    }

    /// Makes the descriptor readable.
    pub fn ring(&self) {
        ring(&self.fd);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if let (Some(token), Some(reactor)) = (lock(&self.token).take(), &*lock(&REACTOR)) {
            if reactor.pid == std::process::id() {
                reactor.forget(token);
            }
        }
    }
}

impl Reactor {
    fn forget(&self, token: Token) {
        lock(&self.armed).remove(&token.0);
        self.registry.remove(token);
    }
}

/// Adds to an eventfd; one that is full is readable already.
pub fn ring(fd: &OwnedFd) {
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

fn started<'a>(py: Python<'_>, reactor: &'a mut Option<Reactor>) -> PyResult<&'a mut Reactor> {
    let pid = std::process::id();
    if reactor.as_ref().is_none_or(|reactor| reactor.pid != pid) {
        let mut set = WaitSet::new().map_err(|error| raise(py, error))?;
        let registry = set.registry();
        let armed: Arc<Mutex<HashMap<usize, Arc<OwnedFd>>>> = Arc::default();
        let waiting = Arc::clone(&armed);
        let run = move || {
            loop {
                let ready: Vec<Token> = match set.wait() {
                    Ok(ready) => ready.collect(),
                    // It cannot wait: the handles' own calls tell why.
                    Err(_) => lock(&waiting).keys().map(|token| Token(*token)).collect(),
                };
                for token in ready {
                    set.remove(token);
                    if let Some(fd) = lock(&waiting).remove(&token.0) {
                        ring(&fd);
                    }
                }
            }
        };
        spawn_without_signals("slipring-bells", run).map_err(|error| system(py, "start a thread", error))?;
        // That of a parent is left as it is: its thread and its locks are not in this process.
        std::mem::forget(reactor.replace(Reactor { pid, registry, armed, next: 0 }));
    }
    Ok(reactor.as_mut().unwrap_or_else(|| unreachable!("set above")))
}

/// Spawns a thread that blocks all signals: Python's handlers have to interrupt its main thread.
pub fn spawn_without_signals(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills in the set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: a set that was filled in, and room for the old one. A new thread inherits the mask.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    // SAFETY: the mask that was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    spawned.map(drop)
}
