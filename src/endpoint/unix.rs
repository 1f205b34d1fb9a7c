//! `unix:PATH`: a Unix stream socket.

use std::fmt;
use std::path::PathBuf;

use super::query::{self, parse_size, parse_switch, parse_uid};
use super::{DEFAULT_CAPACITY, Duplex};
use crate::error::{Error, Result};
use crate::ring::Options;
use crate::transport::socket::{self, Wanted};
use crate::transport::{stream, unix};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for unix are capacity, listen, max_payload, uid, upgrade";

/// `unix:PATH[?listen&…]`: a Unix stream socket.
///
/// | option | value | default |
/// |---|---|---|
/// | `listen` | `true` or `false`: whether to create the socket and wait for one connection: see [`Endpoint`](super::Endpoint) | `false` |
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `uid` | a user allowed besides this process's and root; may be repeated | none |
/// | `upgrade` | `ring` or `no`: whether to continue over a ring in each direction, if the peer wants that, too | `no` |
/// | `capacity` | with `upgrade=ring`: the capacity of the ring for the outgoing direction, a size | 1 MiB |
#[derive(Clone, Debug)]
pub struct UnixEndpoint {
    path: PathBuf,
    listen: bool,
    stream: stream::Options,
    options: unix::Options,
    upgrade: bool,
    capacity: Option<usize>,
}

impl UnixEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        let mut parsed = UnixEndpoint {
            path: query::path(path)?,
            listen: false,
            stream: stream::Options::new(),
            options: unix::Options::default(),
            upgrade: false,
            capacity: None,
        };
        query::fold(options, (), |(), key, value| parsed.set(key, value))?;
        if parsed.capacity.is_some() && !parsed.upgrade {
            return Err(Error::Invalid { what: "endpoint option: capacity is that of a ring; add upgrade=ring" });
        }
        Ok(parsed)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "listen" => self.listen = parse_switch(value)?,
            "max_payload" => self.stream = self.stream.clone().max_payload(parse_size(value)?),
            "uid" => self.options = self.options.clone().allow_uid(parse_uid(value)?),
            "upgrade" => {
                self.upgrade = match value {
                    "ring" => true,
                    "no" => false,
                    _ => return Err(Error::Invalid { what: "upgrade: must be ring or no" }),
                }
            }
            "capacity" => self.capacity = Some(parse_size(value)?),
            _ => return Err(Error::Invalid { what: KEYS }),
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.capacity.unwrap_or(DEFAULT_CAPACITY)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.upgrade {
            Options::spsc(self.capacity()).geometry()?;
        }
        socket::check_path(&self.path)
    }

    pub(super) fn open_duplex(&self, wanted: Wanted, batch: bool, deadline: Deadline) -> Result<Duplex> {
        let options = self.options.clone().stream(self.stream.clone().batch(batch));
        let connection = if self.listen {
            let upgrade = self.upgrade.then_some(self.capacity());
            unix::Listener::bind(&self.path, &options)?.accept_wanted(wanted, upgrade, deadline)
        } else if self.upgrade {
            unix::connect_upgrading(&self.path, &options, self.capacity(), deadline)
        } else {
            let connected = unix::connect(&self.path, &options, deadline);
            connected.map(|(tx, rx)| unix::Connection::Stream(tx, rx))
        };
        Ok(connection?.into_ends())
    }
}

impl fmt::Display for UnixEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:{}", self.path.display())
    }
}
