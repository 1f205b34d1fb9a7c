//! `-`, `pipe:`, `fd:N`: descriptors that the program was started with; `fifo:PATH`: a named pipe.

use std::fmt;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::Duplex;
use super::query::{self, parse_size};
use crate::error::{Error, Result};
use crate::transport::stream::{Options, Receiver, Sender};
use crate::transport::{fifo, pipe};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for -, pipe, fd and fifo are max_payload, pipe_size, listen";

fn parse_options(text: &str) -> Result<Options> {
    let mut options = Options::new();
    query::each(text, |key, value| {
        options = match key {
            "max_payload" => options.clone().max_payload(parse_size(value)?),
            "pipe_size" => options.clone().pipe_size(parse_size(value)?),
            "listen" => query::no_listener(options.clone(), value)?,
            _ => return Err(Error::Invalid { what: KEYS }),
        };
        Ok(())
    })?;
    Ok(options)
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

/// `fifo:PATH[?…]`: a named pipe, created with mode 0600 by the first side to open it. Options as
/// for [`PipeEndpoint`].
#[derive(Clone, Debug)]
pub struct FifoEndpoint {
    path: PathBuf,
    options: Options,
}

impl FifoEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        Ok(FifoEndpoint { path: query::path(path)?, options: parse_options(options)? })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn check(&self) -> Result<()> {
        query::check_parent(&self.path, fifo::NO_DIRECTORY)?;
        pipe::check_size(&self.options)
    }

    pub(super) fn open_sender(&self, batch: bool, deadline: Deadline) -> Result<Sender> {
        fifo::sender(&self.path, &self.options.clone().batch(batch), deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<fifo::Receiver> {
        fifo::receiver(&self.path, &self.options)
    }
}

impl fmt::Display for FifoEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fifo:{}", self.path.display())
    }
}
