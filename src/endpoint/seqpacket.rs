//! `seqpacket:PATH`: a connected Unix message socket.

use std::fmt;
use std::path::PathBuf;

use super::Duplex;
use super::query::{self, parse_size, parse_switch, parse_uid};
use crate::error::{Error, Result};
use crate::transport::seqpacket::{Listener, Options, connect};
use crate::transport::socket::{self, Wanted};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for seqpacket are listen, max_payload, uid";

/// The options of a Unix message socket, and whether to listen. `unknown` names them.
pub(super) fn parse_options(text: &str, unknown: &'static str) -> Result<(bool, Options)> {
    let mut listen = false;
    let options = query::fold(text, Options::default(), |options, key, value| match key {
        "listen" => {
            listen = parse_switch(value)?;
            Ok(options)
        }
        "max_payload" => Ok(options.max_payload(parse_size(value)?)),
        "uid" => Ok(options.allow_uid(parse_uid(value)?)),
        _ => Err(Error::Invalid { what: unknown }),
    })?;
    Ok((listen, options))
}

/// `seqpacket:PATH[?listen&…]`: a connected Unix message socket, in both directions.
///
/// | option | value | default |
/// |---|---|---|
/// | `listen` | `true` or `false`: whether to create the socket and wait for one connection: see [`Endpoint`](super::Endpoint) | `false` |
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `uid` | a user allowed besides this process's and root; may be repeated | none |
#[derive(Clone, Debug)]
pub struct SeqpacketEndpoint {
    path: PathBuf,
    listen: bool,
    options: Options,
}

impl SeqpacketEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        let path = query::path(path)?;
        let (listen, options) = parse_options(options, KEYS)?;
        Ok(SeqpacketEndpoint { path, listen, options })
    }

    pub(super) fn check(&self) -> Result<()> {
        socket::check_path(&self.path)
    }

    pub(super) fn open_duplex(&self, wanted: Wanted, deadline: Deadline) -> Result<Duplex> {
        let (tx, rx) = if self.listen {
            Listener::bind(&self.path, &self.options)?.accept_wanted(wanted, deadline)
        } else {
            connect(&self.path, &self.options, deadline)
        }?;
        Ok((Box::new(tx), Box::new(rx)))
    }
}

impl fmt::Display for SeqpacketEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seqpacket:{}", self.path.display())
    }
}
