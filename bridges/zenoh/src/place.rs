//! One side of the bridge: a key of Zenoh, or an endpoint of slipring.

use std::path::{Path, PathBuf};

use slipring::Kind;
use slipring::endpoint::Endpoint;
use slipring::transport::{FrameReceiver, FrameSender};
use slipring::{Deadline, Result};
use zenoh::key_expr::KeyExpr;

use crate::patterns::{Pattern, Rings};
use crate::report::{Failure, Outcome, USAGE};

/// One side of the bridge.
pub(crate) enum Place {
    Zenoh(String),
    Slipring(Box<Endpoint>),
    /// Many rings.
    Rings(Rings),
    /// The calls of a name, in a directory of rings.
    Calls(String, Option<PathBuf>),
}

impl Place {
    pub(crate) fn parse(text: &str, directory: Option<&Path>) -> Outcome<Self> {
        if let Some(key) = text.strip_prefix("zenoh:") {
            let key = KeyExpr::autocanonize(key.to_owned());
            let key = key.map_err(|error| Failure::new(USAGE, slipring_zenoh::reason(&error.to_string())))?;
            return Ok(Place::Zenoh(key.to_string()));
        }
        if let Some(name) = text.strip_prefix("rpc:") {
            Endpoint::parse(&format!("ring:{name}"))?; // the same names
            return Ok(Place::Calls(name.to_owned(), directory.map(Path::to_owned)));
        }
        let (name, options) = text.split_at(text.find('?').unwrap_or(text.len()));
        if let Some(names) = name.strip_prefix("ring:").and_then(|name| Pattern::parse(name, "*")) {
            let directory = directory.map(Path::to_owned);
            return Ok(Place::Rings(Rings { names, options: options.to_owned(), directory }));
        }
        let endpoint = match (Endpoint::parse(text)?, directory) {
            (Endpoint::Ring(ring), Some(directory)) => Endpoint::Ring(ring.in_directory(directory)),
            (endpoint, _) => endpoint,
        };
        Ok(Place::Slipring(Box::new(endpoint)))
    }

    pub(crate) fn is_zenoh(&self) -> bool {
        matches!(self, Place::Zenoh(_))
    }
}

/// Where frames come from, and what is known about their numbers.
pub(crate) struct Source {
    pub(crate) rx: Box<dyn FrameReceiver>,
    /// The ring's generation; 0 for other sources.
    pub(crate) generation: u64,
    /// Frames have the numbers of one sender.
    pub(crate) has_numbers: bool,
    pub(crate) is_latest: bool,
}

/// Opens the source; a ring is created if it does not exist.
pub(crate) fn open_source(endpoint: &Endpoint, deadline: Deadline) -> Result<Source> {
    if let Endpoint::Ring(ring) = endpoint {
        let rx = ring.open_receiver()?;
        let opened = ring.open()?;
        let kind = opened.kind();
        return Ok(Source {
            rx: Box::new(rx),
            generation: opened.generation(),
            has_numbers: matches!(kind, Kind::Spsc | Kind::Broadcast | Kind::Latest),
            is_latest: kind == Kind::Latest,
        });
    }
    let rx = endpoint.open_receiver(deadline)?;
    // One sender, whose numbers are checked: pipes and connections.
    let has_numbers = rx.capabilities().lossless && !rx.capabilities().survives_restart;
    Ok(Source { rx, generation: 0, has_numbers, is_latest: false })
}

/// Opens the destination; a ring is created if it does not exist.
pub(crate) fn open_destination(endpoint: &Endpoint, deadline: Deadline) -> Result<Box<dyn FrameSender>> {
    endpoint.open_batching_sender(deadline)
}
