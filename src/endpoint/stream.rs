//! `unix:PATH`, `tcp:HOST:PORT`: connected byte-stream sockets, in both directions.

use std::fmt;
use std::path::PathBuf;

use super::query::{self, Address, parse_duration, parse_size, parse_switch, parse_uid};
use super::{DEFAULT_CAPACITY, Duplex};
use crate::error::{Error, Result};
use crate::ring::Options;
use crate::transport::accept::Wanted;
use crate::transport::{socket_path, stream, tcp, unix};
use crate::wait::deadline::Deadline;

const UNIX_KEYS: &str = "endpoint option: known for unix are capacity, listen, max_payload, uid, upgrade";
const TCP_KEYS: &str = "endpoint option: known for tcp are listen, max_payload, reconnect, remote";

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
        query::each(options, |key, value| {
            match key {
                "listen" => parsed.listen = parse_switch(value)?,
                "max_payload" => parsed.stream = parsed.stream.clone().max_payload(parse_size(value)?),
                "uid" => parsed.options = parsed.options.clone().allow_uid(parse_uid(value)?),
                "upgrade" => {
                    parsed.upgrade = match value {
                        "ring" => true,
                        "no" => false,
                        _ => return Err(Error::Invalid { what: "upgrade: must be ring or no" }),
                    }
                }
                "capacity" => parsed.capacity = Some(parse_size(value)?),
                _ => return Err(Error::Invalid { what: UNIX_KEYS }),
            }
            Ok(())
        })?;
        if parsed.capacity.is_some() && !parsed.upgrade {
            return Err(Error::Invalid { what: "endpoint option: capacity is that of a ring; say upgrade=ring, too" });
        }
        Ok(parsed)
    }

    fn capacity(&self) -> usize {
        self.capacity.unwrap_or(DEFAULT_CAPACITY)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.upgrade {
            Options::spsc(self.capacity()).geometry()?;
        }
        socket_path::check(&self.path)
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

/// `tcp:HOST:PORT[?listen&…]`: TCP.
///
/// | option | value | default |
/// |---|---|---|
/// | `listen` | `true` or `false`: whether to wait for one connection there: see [`Endpoint`](super::Endpoint) | `false` |
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `reconnect` | a [duration](super::parse_duration): how long to wait for the next connection after one breaks | none: a break is the end |
/// | `remote` | `true` or `false`: whether the address may lie beyond this machine | `false` |
#[derive(Clone, Debug)]
pub struct TcpEndpoint {
    address: Address,
    listen: bool,
    stream: stream::Options,
    options: tcp::Options,
}

impl TcpEndpoint {
    pub(super) fn parse(address: &str, options: &str) -> Result<Self> {
        let mut parsed = TcpEndpoint {
            address: Address::parse(address)?,
            listen: false,
            stream: stream::Options::new(),
            options: tcp::Options::default(),
        };
        query::each(options, |key, value| {
            match key {
                "listen" => parsed.listen = parse_switch(value)?,
                "max_payload" => parsed.stream = parsed.stream.clone().max_payload(parse_size(value)?),
                "reconnect" => parsed.options = parsed.options.clone().reconnect(parse_duration(value)?),
                "remote" => parsed.options = parsed.options.clone().remote(parse_switch(value)?),
                _ => return Err(Error::Invalid { what: TCP_KEYS }),
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    pub(super) fn open_duplex(&self, wanted: Wanted, batch: bool, deadline: Deadline) -> Result<Duplex> {
        let options = self.options.clone().stream(self.stream.clone().batch(batch));
        let (tx, rx) = if self.listen {
            tcp::Listener::bind(&self.address, &options)?.accept_wanted(wanted, deadline)
        } else {
            tcp::connect(&self.address, &options, deadline)
        }?;
        Ok((Box::new(tx), Box::new(rx)))
    }
}

impl fmt::Display for TcpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp:{}", self.address)
    }
}
