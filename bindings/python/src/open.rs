//! The keyword options of the constructors, and opening the ends of transports.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use slipring::endpoint::Endpoint;
use slipring::{Deadline, Error, Idle, Kind, Options, Redelivery, Result, Ring, WakeMode};

use crate::bell::spawn_without_signals;
use crate::errors::{raise, refuse, system};
use crate::receiver::Receiver;
use crate::sender::Sender;
use crate::source::lock;
use crate::wait::{SLICE, go_on, wait};

/// The options that were passed.
#[derive(Default)]
pub struct Opening {
    pub kind: Option<String>,
    capacity: Option<usize>,
    slots: Option<usize>,
    payload: Option<usize>,
    lanes: Option<usize>,
    cells: Option<usize>,
    size: Option<usize>,
    directory: Option<PathBuf>,
    participants: Option<usize>,
    mode: Option<u32>,
    trust_group: Option<bool>,
    redeliver: Option<bool>,
    fail_without_consumer: Option<bool>,
    idle: Option<String>,
    wake: Option<String>,
    pub create: Option<bool>,
    pub message_type: Option<String>,
}

impl Opening {
    /// From keywords; `None` is as if it were left out.
    pub fn from_keywords(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut opening = Opening::default();
        let Some(keywords) = keywords else { return Ok(opening) };
        for (key, value) in keywords {
            let key: String = key.extract()?;
            match key.as_str() {
                "kind" => opening.kind = value.extract()?,
                "capacity" => opening.capacity = value.extract()?,
                "slots" => opening.slots = value.extract()?,
                "payload" => opening.payload = value.extract()?,
                "lanes" => opening.lanes = value.extract()?,
                "cells" => opening.cells = value.extract()?,
                "size" => opening.size = value.extract()?,
                "directory" => opening.directory = value.extract()?,
                "participants" => opening.participants = value.extract()?,
                "mode" => opening.mode = value.extract()?,
                "trust_group" => opening.trust_group = value.extract()?,
                "redeliver" => opening.redeliver = value.extract()?,
                "fail_without_consumer" => opening.fail_without_consumer = value.extract()?,
                "idle" => opening.idle = value.extract()?,
                "wake" => opening.wake = value.extract()?,
                "create" => opening.create = value.extract()?,
                "message_type" => opening.message_type = value.extract()?,
                _ => return Err(PyTypeError::new_err(format!("there is no option {key:?}"))),
            }
        }
        Ok(opening)
    }

    /// The library's options for a ring of this kind.
    pub fn options(&self, py: Python<'_>, kind: Kind) -> PyResult<Options> {
        let capacity = self.capacity.unwrap_or(1 << 20);
        let options = match kind {
            Kind::Spsc => Options::spsc(capacity),
            Kind::Mpmc => Options::mpmc(self.slots.unwrap_or(1024), self.payload.unwrap_or(256)),
            Kind::Mpsc => Options::mpsc(self.capacity.unwrap_or(1 << 16), self.lanes.unwrap_or(16)),
            Kind::Broadcast => Options::broadcast(capacity),
            Kind::Stream => Options::stream(capacity),
            Kind::Latest => Options::latest(self.cells.unwrap_or(1), self.size.unwrap_or(256)),
            _ => Options::any(),
        };
        self.apply(py, options)
    }

    /// The options that do not depend on the kind.
    pub fn apply(&self, py: Python<'_>, mut options: Options) -> PyResult<Options> {
        if let Some(directory) = &self.directory {
            options = options.directory(directory);
        }
        if let Some(participants) = self.participants {
            options = options.participants(participants);
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        if let Some(trust) = self.trust_group {
            options = options.trust_group(trust);
        }
        if let Some(redeliver) = self.redeliver {
            options = options.redelivery(if redeliver { Redelivery::AtLeastOnce } else { Redelivery::AtMostOnce });
        }
        if let Some(fail) = self.fail_without_consumer {
            options = options.fail_without_consumer(fail);
        }
        if let Some(idle) = &self.idle {
            let idle: Idle = idle.parse().map_err(|_| refuse(py, "Invalid", "idle: spin, yield, backoff or park"))?;
            options = options.idle(idle);
        }
        if let Some(wake) = &self.wake {
            options = options.wake_mode(match wake.as_str() {
                "poll" => WakeMode::Poll,
                "asymmetric" => WakeMode::Asymmetric,
                "fenced" => WakeMode::Fenced,
                _ => return Err(refuse(py, "Invalid", "wake: poll, asymmetric or fenced")),
            });
        }
        Ok(options)
    }

    /// The kind that was asked for, else that of the existing ring, else `otherwise`.
    pub fn kind_of(&self, py: Python<'_>, name: &str, otherwise: Kind) -> PyResult<Kind> {
        if let Some(kind) = &self.kind {
            return match kind.as_str() {
                "spsc" => Ok(Kind::Spsc),
                "mpmc" => Ok(Kind::Mpmc),
                "mpsc" => Ok(Kind::Mpsc),
                "broadcast" => Ok(Kind::Broadcast),
                _ => Err(refuse(py, "Invalid", "kind: spsc, mpmc, mpsc or broadcast")),
            };
        }
        let options = self.apply(py, Options::any())?;
        match Ring::open(name, &options) {
            Ok(ring) => Ok(ring.kind()),
            // What is wrong is told by the call that opens it.
            Err(_) => Ok(otherwise),
        }
    }

    /// Opens the ring as `create` says, and attaches: by `attach`, or by `open`, which does both.
    ///
    /// Before it attaches to a ring that exists, it agrees on the type: the others do not see a
    /// participant that comes, is refused and leaves. If the ring is created meanwhile,
    /// [`Opening::agree`] is later.
    pub fn attach<T>(
        &self,
        name: &str,
        options: &Options,
        open: impl FnOnce(&str, &Options) -> Result<T>,
        attach: impl FnOnce(&Ring) -> Result<T>,
    ) -> Result<T> {
        let ring = match self.create {
            None => {
                if self.message_type.is_some() {
                    if let Ok(ring) = Ring::open(name, options) {
                        self.agree(&ring)?;
                    }
                }
                return open(name, options);
            }
            Some(true) => Ring::create(name, options)?,
            Some(false) => Ring::open(name, options)?,
        };
        self.agree(&ring)?;
        attach(&ring)
    }

    /// Agrees with the peers on the type of the messages: the kind of the frames, if there is a
    /// type.
    pub fn agree(&self, ring: &Ring) -> Result<Option<u16>, Error> {
        self.message_type.as_deref().map(|text| ring.agree_on_type(text)).transpose()
    }
}

/// What was opened by a function, for the class of `python/slipring` that wraps it: pass it to
/// that.
#[pyclass(frozen, module = "slipring._native")]
pub struct Opened(Mutex<Option<End>>);

/// One of these.
pub enum End {
    Sender(Sender),
    Receiver(Receiver),
}

impl Opened {
    pub fn new(end: End) -> Self {
        Opened(Mutex::new(Some(end)))
    }

    /// The end, for the first caller.
    pub fn take(&self) -> Option<End> {
        lock(&self.0).take()
    }
}

/// How long a thread goes on opening a socket for a call that a signal has ended.
const STEP: Duration = Duration::from_secs(10);

/// Opens an end of a transport, and waits for its peer.
///
/// Connections are opened in one call, by a thread, so that Ctrl-C is noticed meanwhile: to end the
/// call every [`SLICE`] would close the listener each time, with the peers that are connecting, and
/// would never reach a distant host. The others keep nothing between two attempts, and have to be
/// opened by the calling thread, whose signals one of them receives.
pub fn open_wire<T: Send + 'static>(
    py: Python<'_>,
    endpoint: Endpoint,
    deadline: Deadline,
    open: fn(&Endpoint, Deadline) -> Result<T>,
) -> PyResult<T> {
    if !matches!(endpoint, Endpoint::Unix(_) | Endpoint::Seqpacket(_) | Endpoint::Tcp(_)) {
        return wait(py, deadline, |slice| open(&endpoint, slice), go_on);
    }
    let (found, opened) = mpsc::sync_channel(0);
    let abandoned = Arc::new(AtomicBool::new(false));
    let is_abandoned = Arc::clone(&abandoned);
    let run = move || {
        loop {
            let outcome = open(&endpoint, deadline.min(Deadline::after(STEP)));
            let is_over = !matches!(outcome, Err(Error::Timeout)) || deadline.has_passed();
            if is_over || is_abandoned.load(Ordering::Relaxed) {
                // Dropped, if nothing waits for it.
                let _ = found.send(outcome);
                return;
            }
        }
    };
    spawn_without_signals("slipring-open", run).map_err(|error| system(py, "start a thread", error))?;
    let opened = Mutex::new(opened);
    loop {
        match py.detach(|| lock(&opened).recv_timeout(SLICE)) {
            Ok(outcome) => return outcome.map_err(|error| raise(py, error)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(raise(py, Error::Cancelled)),
        }
        if let Err(raised) = py.check_signals() {
            abandoned.store(true, Ordering::Relaxed);
            return Err(raised);
        }
    }
}
