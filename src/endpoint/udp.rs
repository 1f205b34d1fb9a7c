//! `udp:HOST:PORT`: UDP datagrams.

use std::fmt;
use std::net::IpAddr;

use super::SENDER_LISTENS;
use super::query::{self, Address, parse_size, parse_switch};
use crate::error::{Error, Result};
use crate::transport::udp::{Options, Receiver, Sender};
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for udp are datagram, listen, max_payload, remote, source";

/// `udp:HOST:PORT[?…]`: UDP datagrams, from any number of senders. The receiver binds the port.
///
/// | option | value | default |
/// |---|---|---|
/// | `listen` | `true` or `false`; a receiver always listens, a sender with it is refused | `false` |
/// | `datagram` | bytes of the largest datagram, 128 to 65507 | 1472 |
/// | `max_payload` | a [size](super::parse_size) | 64 KiB |
/// | `remote` | `true` or `false`: whether the address may lie beyond this machine | `false` |
/// | `source` | an IP address from which to accept; may be repeated | all |
#[derive(Clone, Debug)]
pub struct UdpEndpoint {
    address: Address,
    listen: bool,
    options: Options,
}

impl UdpEndpoint {
    pub(super) fn parse(address: &str, options: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let mut listen = false;
        let options = query::fold(options, Options::default(), |options, key, value| match key {
            "listen" => {
                listen = parse_switch(value)?;
                Ok(options)
            }
            "datagram" => Ok(options.datagram(parse_size(value)?)),
            "max_payload" => Ok(options.max_payload(parse_size(value)?)),
            "remote" => Ok(options.remote(parse_switch(value)?)),
            "source" => Ok(options.allow_source(parse_ip(value)?)),
            _ => Err(Error::Invalid { what: KEYS }),
        })?;
        Ok(UdpEndpoint { address, listen, options })
    }

    pub(super) fn check(&self) -> Result<()> {
        self.options.check_size()
    }

    pub(super) fn check_sender(&self) -> Result<()> {
        if self.listen { Err(SENDER_LISTENS) } else { self.check() }
    }

    pub(super) fn open_sender(&self, deadline: Deadline) -> Result<Sender> {
        Sender::connect(&self.address, &self.options, deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<Receiver> {
        Receiver::bind(&self.address, &self.options)
    }
}

impl fmt::Display for UdpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "udp:{}", self.address)
    }
}

fn parse_ip(value: &str) -> Result<IpAddr> {
    value.parse().map_err(|_| Error::Invalid { what: "source: must be an IP address, as in 127.0.0.1 or ::1" })
}
