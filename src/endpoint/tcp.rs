//! `tcp:HOST:PORT`: TCP.

use std::fmt;

use super::Duplex;
use super::query::{self, Address, parse_duration, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::socket::Wanted;
use crate::transport::{stream, tcp};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for tcp are listen, max_payload, reconnect, remote";

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
        let address = Address::parse(address)?;
        let (mut listen, mut stream) = (false, stream::Options::new());
        let options = query::fold(options, tcp::Options::default(), |options, key, value| {
            match key {
                "listen" => listen = parse_switch(value)?,
                "max_payload" => stream = stream.clone().max_payload(parse_size(value)?),
                "reconnect" => return Ok(options.reconnect(parse_duration(value)?)),
                "remote" => return Ok(options.remote(parse_switch(value)?)),
                _ => return Err(Error::Invalid { what: KEYS }),
            }
            Ok(options)
        })?;
        Ok(TcpEndpoint { address, listen, stream, options })
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
