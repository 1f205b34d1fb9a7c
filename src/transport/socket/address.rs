//! The addresses of internet sockets: resolving a host, and allowing only this machine by default.
//!
//! Used by `tcp/` and `udp.rs`.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result};

/// The addresses of a host, at least one. `remote`: whether other machines are allowed.
///
/// # Errors
/// [`Error::Invalid`] if it is not `HOST:PORT`, or has no address; [`Error::Untrusted`] for an
/// address of another machine; [`Error::Io`] if the host cannot be resolved.
pub(in crate::transport) fn resolve(address: impl ToSocketAddrs, remote: bool) -> Result<Vec<SocketAddr>> {
    const WRONG: Error =
        Error::Invalid { what: "address: HOST:PORT, of a host that has an address, as in 127.0.0.1:4000" };
    const BEYOND: Error = Error::Untrusted {
        what: "an address beyond this machine, unless asked for: use a loopback address, or allow `remote`",
    };
    let found = address.to_socket_addrs().map_err(|e| match e.kind() {
        ErrorKind::InvalidInput => WRONG, // not of the form HOST:PORT
        _ => Error::io("look up the host", e),
    })?;
    let addresses: Vec<_> = found.collect();
    match addresses.iter().all(|address| remote || address.ip().is_loopback()) {
        true if addresses.is_empty() => Err(WRONG),
        true => Ok(addresses),
        false => Err(BEYOND),
    }
}
