//! Opens an endpoint that may wait for its peer, so that a signal can end the wait.
//!
//! Used by `send`, `recv` and `relay`. An endpoint that may wait is opened in a thread of its own;
//! any other is opened in place.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use slipring::transport::unix::credentials;
use slipring::{Deadline, endpoint::Endpoint};

use crate::failure::{FAILED, Failure, Outcome};
use crate::interrupt::Interrupt;

/// The interval of checks whether an end was requested.
const SLICE: Duration = Duration::from_millis(50);

/// Opens `endpoint`; `None` if an end was requested meanwhile.
pub(crate) fn open<T: Send + 'static>(
    interrupt: &Interrupt,
    endpoint: &Endpoint,
    deadline: Deadline,
    how: fn(&Endpoint, Deadline) -> slipring::Result<T>,
) -> Outcome<Option<T>> {
    if !may_wait(endpoint) {
        return Ok(Some(how(endpoint, deadline)?));
    }
    let (give, opened) = mpsc::channel();
    let theirs = endpoint.clone();
    spawn(move || give.send(how(&theirs, deadline)))?;
    loop {
        match opened.recv_timeout(SLICE) {
            Ok(result) => return Ok(Some(result?)),
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::new(FAILED, "opening failed")),
            Err(RecvTimeoutError::Timeout) if interrupt.asked() => {
                remove_socket(endpoint);
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// The failure if a thread could not be started.
pub(crate) fn no_thread(error: &io::Error) -> Failure {
    let hint = "too many processes and threads: see `ulimit -u`, and pids.max of the control group";
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::new(FAILED, format_args!("cannot start a thread: {hint}")),
        _ => Failure::new(FAILED, format_args!("cannot start a thread: {error}")),
    }
}

/// Starts a thread.
pub(crate) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Outcome<thread::JoinHandle<T>> {
    thread::Builder::new().spawn(body).map_err(|error| no_thread(&error))
}

/// Whether opening may wait for another process. (The thread that opens a signal endpoint blocks
/// the signal, so it must be the only one.)
fn may_wait(endpoint: &Endpoint) -> bool {
    !matches!(
        endpoint,
        Endpoint::Ring(_) | Endpoint::Pipe(_) | Endpoint::Mq(_) | Endpoint::Sysv(_) | Endpoint::Signal(_)
    )
}

/// After an interrupt, the thread that waits at a socket cannot remove its name. It belongs to this
/// process if this process listens there.
fn remove_socket(endpoint: &Endpoint) {
    let name = endpoint.to_string();
    let (kind, path) = match endpoint {
        Endpoint::Unix(_) => (SocketType::STREAM, name.strip_prefix("unix:")),
        Endpoint::Seqpacket(_) => (SocketType::SEQPACKET, name.strip_prefix("seqpacket:")),
        _ => return,
    };
    let Some(path) = path.map(Path::new) else { return };
    let listener = || -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    };
    let ours = |socket: &OwnedFd| credentials(socket).is_ok_and(|peer| peer.pid == std::process::id());
    if listener().is_ok_and(|socket| ours(&socket)) {
        let _ = std::fs::remove_file(path);
    }
}
