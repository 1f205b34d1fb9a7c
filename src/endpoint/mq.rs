//! `mq:/NAME`: a POSIX message queue.

use std::fmt;

use super::query::{self, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::mq;

const KEYS: &str = "endpoint option: known for mq are messages, message_size, max_payload, create, listen";

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
        let options = query::fold(options, mq::Options::default(), |options, key, value| match key {
            "messages" => Ok(options.messages(parse_size(value)?)),
            "message_size" => Ok(options.message_size(parse_size(value)?)),
            "max_payload" => Ok(options.max_payload(parse_size(value)?)),
            "create" => Ok(options.create(parse_switch(value)?)),
            "listen" => query::no_listener(options, value),
            _ => Err(Error::Invalid { what: KEYS }),
        })?;
        Ok(MqEndpoint { name: name.to_owned(), options })
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
