//! `mq:/NAME`: POSIX message queues.

use std::fmt;

use super::query::{self, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::mq;

const MQ_KEYS: &str = "endpoint option: known for mq are messages, message_size, max_payload, create";

/// `mq:/NAME[?messages=10&message_size=8KiB&…]`: a POSIX message queue.
///
/// | option | value | default |
/// |---|---|---|
/// | `messages` | how many it holds | what is there; 10 at creation |
/// | `message_size` | a [size](super::parse_size) | what is there; 8 KiB at creation |
/// | `max_payload` | a size | 16 MiB |
/// | `create` | `true` or `false` | `true` |
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
                _ => return Err(Error::Invalid { what: MQ_KEYS }),
            };
            Ok(())
        })?;
        Ok(parsed)
    }

    /// The queue's name, as it was said.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
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
