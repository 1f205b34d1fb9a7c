//! `seqpacket:PATH`, `dgram:PATH`, `udp:HOST:PORT`: message sockets.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::Duplex;
use super::query::{self, Address, parse_size, parse_switch, parse_uid};
use crate::error::{Error, Result};
use crate::transport::accept::Wanted;
use crate::transport::{dgram, seqpacket, socket_path, udp};
use crate::wait::deadline::Deadline;

const SEQPACKET_KEYS: &str = "endpoint option: known for seqpacket are listen, max_payload, uid";
const SENDER_LISTENS: Error =
    Error::Invalid { what: "listen: only the receiver listens with this transport: leave it out to send" };
const DGRAM_KEYS: &str = "endpoint option: known for dgram are listen, max_payload, uid";
const UDP_KEYS: &str = "endpoint option: known for udp are datagram, listen, max_payload, remote, source";

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
    options: seqpacket::Options,
}

impl SeqpacketEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        let options_of = seqpacket::Options::default();
        let mut parsed = SeqpacketEndpoint { path: query::path(path)?, listen: false, options: options_of };
        query::each(options, |key, value| {
            let options = parsed.options.clone();
            match key {
                "listen" => parsed.listen = parse_switch(value)?,
                "max_payload" => parsed.options = options.max_payload(parse_size(value)?),
                "uid" => parsed.options = options.allow_uid(parse_uid(value)?),
                _ => return Err(Error::Invalid { what: SEQPACKET_KEYS }),
            }
            Ok(())
        })?;
        Ok(parsed)
    }

    pub(super) fn check(&self) -> Result<()> {
        socket_path::check(&self.path)
    }

    pub(super) fn open_duplex(&self, wanted: Wanted, deadline: Deadline) -> Result<Duplex> {
        let (tx, rx) = if self.listen {
            seqpacket::Listener::bind(&self.path, &self.options)?.accept_wanted(wanted, deadline)
        } else {
            seqpacket::connect(&self.path, &self.options, deadline)
        }?;
        Ok((Box::new(tx), Box::new(rx)))
    }
}

impl fmt::Display for SeqpacketEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seqpacket:{}", self.path.display())
    }
}

/// `dgram:PATH[?…]`: a Unix datagram socket with any number of senders. The receiver creates it,
/// senders wait for it.
///
/// | option | value | default |
/// |---|---|---|
/// | `listen` | `true` or `false`; a receiver always listens, a sender with it is refused | `false` |
/// | `max_payload` | a [size](super::parse_size) | 16 MiB |
/// | `uid` | a user allowed besides this process's and root; may be repeated | none |
#[derive(Clone, Debug)]
pub struct DgramEndpoint {
    path: PathBuf,
    listen: bool,
    options: dgram::Options,
}

impl DgramEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        let mut parsed = DgramEndpoint { path: query::path(path)?, listen: false, options: dgram::Options::default() };
        query::each(options, |key, value| {
            let options = parsed.options.clone();
            parsed.options = match key {
                "listen" => {
                    parsed.listen = parse_switch(value)?;
                    options
                }
                "max_payload" => options.max_payload(parse_size(value)?),
                "uid" => options.allow_uid(parse_uid(value)?),
                _ => return Err(Error::Invalid { what: DGRAM_KEYS }),
            };
            Ok(())
        })?;
        Ok(parsed)
    }

    pub(super) fn check(&self) -> Result<()> {
        socket_path::check(&self.path)
    }

    pub(super) fn check_sender(&self) -> Result<()> {
        if self.listen { Err(SENDER_LISTENS) } else { self.check() }
    }

    pub(super) fn open_sender(&self, deadline: Deadline) -> Result<dgram::Sender> {
        dgram::Sender::connect(&self.path, &self.options, deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<dgram::Receiver> {
        dgram::Receiver::bind(&self.path, &self.options)
    }
}

impl fmt::Display for DgramEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dgram:{}", self.path.display())
    }
}

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
    options: udp::Options,
}

impl UdpEndpoint {
    pub(super) fn parse(address: &str, options: &str) -> Result<Self> {
        let address = Address::parse(address)?;
        let mut parsed = UdpEndpoint { address, listen: false, options: udp::Options::default() };
        query::each(options, |key, value| {
            let options = parsed.options.clone();
            parsed.options = match key {
                "listen" => {
                    parsed.listen = parse_switch(value)?;
                    options
                }
                "datagram" => options.datagram(parse_size(value)?),
                "max_payload" => options.max_payload(parse_size(value)?),
                "remote" => options.remote(parse_switch(value)?),
                "source" => options.allow_source(parse_ip(value)?),
                _ => return Err(Error::Invalid { what: UDP_KEYS }),
            };
            Ok(())
        })?;
        Ok(parsed)
    }

    pub(super) fn check(&self) -> Result<()> {
        self.options.check_size()
    }

    pub(super) fn check_sender(&self) -> Result<()> {
        if self.listen { Err(SENDER_LISTENS) } else { self.check() }
    }

    pub(super) fn open_sender(&self, deadline: Deadline) -> Result<udp::Sender> {
        udp::Sender::connect(&self.address, &self.options, deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<udp::Receiver> {
        udp::Receiver::bind(&self.address, &self.options)
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
