//! `dgram:PATH`: a Unix datagram socket.

use std::fmt;
use std::path::PathBuf;

use super::SENDER_LISTENS;
use super::{query, seqpacket};
use crate::error::Result;
use crate::transport::dgram::{Options, Receiver, Sender};
use crate::transport::socket;
use crate::wait::deadline::Deadline;

const KEYS: &str = "endpoint option: known for dgram are listen, max_payload, uid";

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
    options: Options,
}

impl DgramEndpoint {
    pub(super) fn parse(path: &str, options: &str) -> Result<Self> {
        let path = query::path(path)?;
        let (listen, options) = seqpacket::parse_options(options, KEYS)?;
        Ok(DgramEndpoint { path, listen, options })
    }

    pub(super) fn check(&self) -> Result<()> {
        socket::check_path(&self.path)
    }

    pub(super) fn check_sender(&self) -> Result<()> {
        if self.listen { Err(SENDER_LISTENS) } else { self.check() }
    }

    pub(super) fn open_sender(&self, deadline: Deadline) -> Result<Sender> {
        Sender::connect(&self.path, &self.options, deadline)
    }

    pub(super) fn open_receiver(&self) -> Result<Receiver> {
        Receiver::bind(&self.path, &self.options)
    }
}

impl fmt::Display for DgramEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dgram:{}", self.path.display())
    }
}
