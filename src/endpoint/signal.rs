//! `signal:PID[?signo=RTMIN+N]`: frames in the values of queued signals.

use std::fmt;

use super::query::{self, parse_size, parse_uid};
use crate::error::{Error, Result};
use crate::transport::signal::{Options, Receiver, Sender, Signo};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for signal are signo, max_payload, uid, listen";

/// `signal:PID[?signo=RTMIN+N&…]`: sends to the process `PID`; a receiver uses `signal:` alone, for
/// this process.
///
/// | option | value | default |
/// |---|---|---|
/// | `signo` | `RTMIN+N` ([`Signo::parse`]) | as of [`Options`] |
/// | `max_payload` | a [size](super::parse_size) | 4 KiB |
/// | `uid` | a user allowed besides this process's and root; may be repeated | none |
/// | `listen` | `true` or `false`; no side waits for a connection, so it changes nothing | `false` |
#[derive(Clone, Debug)]
pub struct SignalEndpoint {
    pid: Option<u32>,
    options: Options,
}

impl SignalEndpoint {
    pub(super) fn parse(pid: &str, options: &str) -> Result<Self> {
        let is_number = pid.bytes().all(|digit| digit.is_ascii_digit());
        let pid = match (pid, pid.parse::<u32>()) {
            ("", _) => None,
            (_, Ok(pid)) if is_number && pid > 0 => Some(pid),
            _ => return Err(Error::Invalid { what: "process: must be a pid, as in signal:4242, or empty to receive" }),
        };
        let options = query::fold(options, Options::default(), |options, key, value| match key {
            "signo" => Ok(options.signo(Signo::parse(value)?)),
            "max_payload" => Ok(options.max_payload(parse_size(value)?)),
            "uid" => Ok(options.allow_uid(parse_uid(value)?)),
            "listen" => query::no_listener(options, value),
            _ => Err(Error::Invalid { what: KEYS }),
        })?;
        Ok(SignalEndpoint { pid, options })
    }

    pub(super) fn check_sender(&self) -> Result<()> {
        self.receiver().and_then(|_| self.options.check())
    }

    pub(super) fn check_receiver(&self) -> Result<()> {
        if self.pid.is_some_and(|pid| pid != std::process::id()) {
            return Err(Error::Invalid {
                what: "process: a process can receive only its own signals: use signal: alone",
            });
        }
        self.options.check()
    }

    /// The pid of the receiver to send to.
    fn receiver(&self) -> Result<u32> {
        self.pid.ok_or(Error::Invalid { what: "process: missing: a sender must name its receiver, as in signal:4242" })
    }

    pub(super) fn open_sender(&self, deadline: Deadline) -> Result<Sender> {
        Sender::open(self.receiver()?, &self.options, deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<Receiver> {
        Receiver::open(&self.options)
    }
}

impl fmt::Display for SignalEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            None => f.write_str("signal:"),
            Some(pid) => write!(f, "signal:{pid}"),
        }
    }
}
