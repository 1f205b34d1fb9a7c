//! `signal:PID`: frames in the values of queued signals (sigqueue(3), signalfd(2)), 6 bytes a
//! signal; and plain signals as frames.
//!
//! Used by endpoints and programs. Relies on `os/signal.rs`, and on `message/` for everything
//! except the signals themselves.
//!
//! Its main use is a [`Bell`]: one signal that says "check channel 7, its value is 1234 now". It
//! also carries frames, at the cost of a system call for each 6 bytes.
//!
//! * **The receiver** has the signal blocked in *every* thread, and reads it from a descriptor. A
//!   signal that is not blocked would end the process: call [`block`] before any thread is started.
//!   [`Receiver::open`] and [`Sender::open`] check this.
//! * **Access**: the kernel lets only processes of the same user, and root, send. A sender can
//!   choose the pid in its signals, which is acceptable within one user.
//! * **Identity**: a sender holds a pidfd, so it cannot hit another process that has got the
//!   receiver's pid. Both sides notice the other's death by its pidfd, and must be in one pid
//!   namespace.
//! * **Full** means that the user's limit of pending signals (`RLIMIT_SIGPENDING`) is reached.

mod cell;
mod notifier;
mod receiver;
mod sender;

use std::fmt;

pub use cell::Bell;
pub use notifier::Notifier;
pub use receiver::Receiver;
pub use sender::Sender;

use super::{Capabilities, DeliveryOrder};
use crate::error::{Error, Result};
use crate::frame::SHORT;
use crate::os::signal;

/// The guarantees of signals.
pub const CAPABILITIES: Capabilities = Capabilities {
    scheme: "signal",
    order: DeliveryOrder::Fifo,
    lossless: true,
    boundaries: true,
    max_payload: MAX_PAYLOAD,
    survives_restart: true,
    authenticates_peer: false,
    reports_death: true,
    duplex: false,
    remote: false,
};

const MAX_PAYLOAD: usize = 4 << 10;
/// A frame of this size takes 10,925 signals.
const LARGEST: usize = 64 << 10;

/// A signal number.
///
/// ```
/// use slipring::transport::signal::Signo;
/// assert_eq!(Signo::parse("INT")?, Signo::INT);
/// assert_eq!(Signo::parse("RTMIN+2")?, Signo::realtime(2)?);
/// assert_eq!(Signo::INT.to_string(), "INT");
/// assert!(Signo::parse("RTMIN+99").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signo(i32);

const NAMED: [(&str, Signo); 6] = [
    ("INT", Signo::INT),
    ("TERM", Signo::TERM),
    ("HUP", Signo::HUP),
    ("USR1", Signo::USR1),
    ("USR2", Signo::USR2),
    ("WINCH", Signo::WINCH),
];

impl Signo {
    /// `SIGINT`: Ctrl-C.
    pub const INT: Signo = Signo(libc::SIGINT);
    /// `SIGTERM`: a request to end.
    pub const TERM: Signo = Signo(libc::SIGTERM);
    /// `SIGHUP`: the terminal has closed; by convention also a request to read the configuration
    /// again.
    pub const HUP: Signo = Signo(libc::SIGHUP);
    /// `SIGUSR1`.
    pub const USR1: Signo = Signo(libc::SIGUSR1);
    /// `SIGUSR2`.
    pub const USR2: Signo = Signo(libc::SIGUSR2);
    /// `SIGWINCH`: the terminal has another size.
    pub const WINCH: Signo = Signo(libc::SIGWINCH);

    /// `SIGRTMIN` + n. Only these are queued, each with a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond `SIGRTMAX`, which is 30 more with glibc.
    pub fn realtime(n: u32) -> Result<Signo> {
        let range = signal::realtime();
        let number = i32::try_from(n).ok().and_then(|n| range.start().checked_add(n));
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Signo(number)),
            None => Err(Error::Invalid { what: "signal number: RTMIN+0 to RTMIN+30" }),
        }
    }

    /// `RTMIN`, `RTMIN+N`, or one of the names of the constants here.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming what is allowed.
    pub fn parse(text: &str) -> Result<Signo> {
        if let Some((_, signo)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(*signo);
        }
        let offset = match text.strip_prefix("RTMIN") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('+').filter(|n| !n.starts_with('+')).and_then(|n| n.parse().ok()),
            None => None,
        };
        const WRONG: Error =
            Error::Invalid { what: "signal: RTMIN+0 to RTMIN+30, INT, TERM, HUP, USR1, USR2 or WINCH" };
        Self::realtime(offset.ok_or(WRONG)?)
    }

    /// The kernel's number of the signal.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, signo)| signo == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "RTMIN+{}", self.0 - signal::realtime().start()),
        }
    }
}

/// Blocks signals in this thread and in all threads that it starts from now on. A program that will
/// open a [`Receiver`] or a [`Notifier`] calls this first. Processes that it starts inherit it. One
/// system call.
///
/// # Errors
/// [`Error::Io`].
pub fn block(signals: &[Signo]) -> Result<()> {
    let numbers: Vec<i32> = signals.iter().map(|signo| signo.0).collect();
    signal::block(&numbers).map_err(|e| Error::io("block signals", e))
}

/// Blocks signals here, and makes sure that they are blocked everywhere.
fn block_everywhere(signals: &[Signo]) -> Result<()> {
    block(signals)?;
    for signo in signals {
        let here = signal::disposition(std::process::id(), signo.0);
        if here.map_err(|e| Error::io("read /proc/self/task", e))? != signal::Disposition::Blocked {
            return Err(Error::Unsupported {
                what: "receiving a signal that some thread has not blocked: call transport::signal::block first thing in \
                       main, before any thread is started",
            });
        }
    }
    Ok(())
}

/// How to open an end: start from [`Options::default`]. Both ends need the same signal.
#[derive(Clone, Debug)]
pub struct Options {
    signo: Option<Signo>,
    max_payload: usize,
    uids: Vec<u32>,
}

impl Default for Options {
    /// `SIGRTMIN`, payloads up to 4 KiB, from processes of this user or of root.
    fn default() -> Self {
        Options { signo: None, max_payload: MAX_PAYLOAD, uids: Vec::new() }
    }
}

impl Options {
    /// Sets the signal, which must be a real-time one.
    #[must_use]
    pub fn signo(mut self, signo: Signo) -> Self {
        self.signo = Some(signo);
        self
    }

    /// The largest payload that is sent, or accepted, in bytes: at most 64 KiB.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Also accepts signals that name this other user as their sender. (It can send signals only if
    /// it is privileged.)
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.uids.push(uid);
        self
    }

    /// The errors that opening either end would return.
    pub(crate) fn check(&self) -> Result<()> {
        self.checked_signo().map(drop)
    }

    fn checked_signo(&self) -> Result<Signo> {
        if self.max_payload > LARGEST {
            return Err(Error::Invalid { what: "payload limit of signals: at most 64 KiB" });
        }
        let signo = self.signo.map_or_else(|| Signo::realtime(0), Ok)?;
        if !signal::realtime().contains(&signo.0) {
            return Err(Error::Invalid {
                what: "signal for frames: RTMIN+0 to RTMIN+30, because the others carry no value",
            });
        }
        Ok(signo)
    }

    /// Bytes of the largest message, control frames included.
    fn message(&self) -> usize {
        SHORT + self.max_payload.max(128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        for text in ["INT", "TERM", "HUP", "USR1", "USR2", "WINCH", "RTMIN+0", "RTMIN+30"] {
            assert_eq!(Signo::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Signo::parse("RTMIN").unwrap(), Signo::realtime(0).unwrap());
        for text in ["", "KILL", "9", "SIGINT", "int", "RTMIN+", "RTMIN-1", "RTMIN++1", "RTMIN+31", "RTMIN+4294967296"]
        {
            assert!(matches!(Signo::parse(text), Err(Error::Invalid { .. })), "{text:?}");
        }
        assert!(Options::default().signo(Signo::INT).checked_signo().is_err());
        assert!(Options::default().max_payload(LARGEST + 1).checked_signo().is_err());
    }
}
