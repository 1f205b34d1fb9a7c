//! `-`, `pipe:`, `fd:N`: descriptors that the program was started with.

use std::fmt;
use std::os::fd::RawFd;

use super::Duplex;
use super::query::{self, parse_size};
use crate::error::{Error, Result};
use crate::transport::pipe;
use crate::transport::stream::{Options, Receiver, Sender};

const KEYS: &str = "endpoint option: known for -, pipe, fd and fifo are max_payload, pipe_size, listen";

/// The options of a pipe and of a FIFO.
pub(super) fn parse_options(text: &str) -> Result<Options> {
    query::fold(text, Options::new(), |options, key, value| match key {
        "max_payload" => Ok(options.max_payload(parse_size(value)?)),
        "pipe_size" => Ok(options.pipe_size(parse_size(value)?)),
        "listen" => query::no_listener(options, value),
        _ => Err(Error::Invalid { what: KEYS }),
    })
}

/// `-[?…]`, also written `pipe:`: frames on standard input and output. `fd:N[?…]`, also written
/// `pipe:N`: on the descriptor that has this number when the endpoint is opened, such as one that
/// the parent has passed.
///
/// The descriptor is duplicated, as opening `/dev/fd/N` would do, so any descriptor of this process
/// can be named. A program that accepts endpoints from other parties and has descriptors that those
/// must not use should refuse the scheme. The original descriptor stays open until the process
/// ends, so the peer sees our end by BYE, not by the end of the stream. Programs that own a
/// descriptor use [`pipe::sender`] and [`pipe::receiver`].
///
/// | option | value | default |
/// |---|---|---|
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `pipe_size` | the capacity of the pipe, a size | unchanged |
/// | `listen` | `true` or `false`; no side waits for a connection, so it changes nothing | `false` |
#[derive(Clone, Debug)]
pub struct PipeEndpoint {
    /// The descriptor's number; `None` for the standard ones.
    number: Option<RawFd>,
    options: Options,
}

impl PipeEndpoint {
    pub(super) fn parse(number: &str, options: &str) -> Result<Self> {
        const WRONG: Error = Error::Invalid { what: "descriptor number: must be digits, as in fd:3" };
        let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
        let number = match number.parse::<RawFd>() {
            _ if number.is_empty() => None,
            Ok(number) if is_number => Some(number),
            _ => return Err(WRONG),
        };
        Ok(PipeEndpoint { number, options: parse_options(options)? })
    }

    pub(super) fn check(&self) -> Result<()> {
        self.number.map_or(Ok(()), |number| pipe::numbered(number).map(drop))?;
        pipe::check_size(&self.options)
    }

    /// Opens the sending end: standard output, or the descriptor.
    pub(super) fn open_sender(&self, batch: bool) -> Result<Sender> {
        let options = self.options.clone().batch(batch);
        match self.number {
            None => pipe::stdout(&options),
            Some(number) => pipe::sender(pipe::numbered(number)?, &options),
        }
    }

    /// Opens the receiving end: standard input, or the descriptor.
    pub(super) fn open_receiver(&self) -> Result<Receiver> {
        match self.number {
            None => pipe::stdin(&self.options),
            Some(number) => pipe::receiver(pipe::numbered(number)?, &self.options),
        }
    }

    /// Opens both ends: standard input and output, or both directions of one socket.
    pub(super) fn open_duplex(&self) -> Result<Duplex> {
        match self.number {
            None => Ok((Box::new(self.open_sender(true)?), Box::new(self.open_receiver()?))),
            Some(number) => {
                let (tx, rx) = pipe::duplex(pipe::numbered(number)?, &self.options.clone().batch(true))?;
                Ok((Box::new(tx), Box::new(rx)))
            }
        }
    }
}

impl fmt::Display for PipeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            None => f.write_str("-"),
            Some(number) => write!(f, "fd:{number}"),
        }
    }
}
