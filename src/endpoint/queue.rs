//! `mq:/NAME`, `sysv:KEY|PATH`: the two kinds of message queues.

use std::fmt;

use super::query::{self, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::{mq, sysv};

const SYSV_KEYS: &str = "endpoint option: known for sysv are max_payload, create, listen";
const MQ_KEYS: &str = "endpoint option: known for mq are messages, message_size, max_payload, create, listen";

/// `mq:/NAME[?messages=10&message_size=8KiB&…]`: a POSIX message queue.
///
/// | option | value | default |
/// |---|---|---|
/// | `messages` | how many it holds | that of the existing queue; 10 at creation |
/// | `message_size` | a [size](super::parse_size) | that of the existing queue; 8 KiB at creation |
/// | `max_payload` | a size | 16 MiB |
/// | `create` | `true` or `false` | `true` |
/// | `listen` | `true` or `false`; either side creates the queue, so it changes nothing | `false` |
#[derive(Clone, Debug)]
pub struct MqEndpoint {
    name: String,
    options: mq::Options,
}

impl MqEndpoint {
    pub(super) fn parse(name: &str, options: &str) -> Result<Self> {
        let mut parsed = MqEndpoint { name: name.to_owned(), options: mq::Options::default() };
        query::each(options, |key, value| {
            let options = parsed.options.clone();
            parsed.options = match key {
                "messages" => options.messages(parse_size(value)?),
                "message_size" => options.message_size(parse_size(value)?),
                "max_payload" => options.max_payload(parse_size(value)?),
                "create" => options.create(parse_switch(value)?),
                "listen" => query::no_listener(options, value)?,
                _ => return Err(Error::Invalid { what: MQ_KEYS }),
            };
            Ok(())
        })?;
        Ok(parsed)
    }

    /// The queue's name, as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn check(&self) -> Result<()> {
        mq::check(&self.name, &self.options)
    }

    pub(super) fn open_sender(&self) -> Result<mq::Sender> {
        mq::Sender::open(&self.name, &self.options)
    }

    pub(super) fn open_receiver(&self) -> Result<mq::Receiver> {
        mq::Receiver::open(&self.name, &self.options)
    }
}

impl fmt::Display for MqEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mq:{}", self.name)
    }
}

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
        let mut parsed = SysvEndpoint { key: key.to_owned(), options: sysv::Options::default() };
        query::each(options, |key, value| {
            let options = parsed.options.clone();
            parsed.options = match key {
                "max_payload" => options.max_payload(parse_size(value)?),
                "create" => options.create(parse_switch(value)?),
                "listen" => query::no_listener(options, value)?,
                _ => return Err(Error::Invalid { what: SYSV_KEYS }),
            };
            Ok(())
        })?;
        Ok(parsed)
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
