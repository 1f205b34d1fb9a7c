//! `sysv:KEY|PATH`: a System V message queue.

use std::fmt;

use super::query::{self, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::sysv;

const KEYS: &str = "endpoint option: known for sysv are max_payload, create, listen";

/// `sysv:KEY[?…]` or `sysv:PATH[?…]`: a System V message queue, named by a number (decimal or
/// `0x…`) or by an existing file ([`sysv::Key::parse`]).
///
/// | option | value | default |
/// |---|---|---|
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `create` | `true` or `false` | `true` |
/// | `listen` | `true` or `false`; either side creates the queue, so it changes nothing | `false` |
#[derive(Clone, Debug)]
pub struct SysvEndpoint {
    key: String,
    options: sysv::Options,
}

impl SysvEndpoint {
    pub(super) fn parse(key: &str, options: &str) -> Result<Self> {
        if key.is_empty() {
            return Err(Error::Invalid { what: "key of a queue: must be a 32-bit number, or the path of a file" });
        }
        let options = query::fold(options, sysv::Options::default(), |options, key, value| match key {
            "max_payload" => Ok(options.max_payload(parse_size(value)?)),
            "create" => Ok(options.create(parse_switch(value)?)),
            "listen" => query::no_listener(options, value),
            _ => Err(Error::Invalid { what: KEYS }),
        })?;
        Ok(SysvEndpoint { key: key.to_owned(), options })
    }

    /// The queue's key. Examines the file, if it is a path.
    ///
    /// # Errors
    /// As [`sysv::Key::parse`].
    pub fn key(&self) -> Result<sysv::Key> {
        sysv::Key::parse(&self.key)
    }

    pub(super) fn open_sender(&self) -> Result<sysv::Sender> {
        sysv::Sender::open(self.key()?, &self.options)
    }

    pub(super) fn open_receiver(&self) -> Result<sysv::Receiver> {
        sysv::Receiver::open(self.key()?, &self.options)
    }
}

impl fmt::Display for SysvEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sysv:{}", self.key)
    }
}
