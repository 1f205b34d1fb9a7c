//! Opens the ring or endpoint that the user named.

use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use slipring::endpoint::{Endpoint, RingEndpoint};
use slipring::{Error, Kind, Options, Ring};

use crate::failure::{Failure, Outcome};
use crate::{Context, units};

/// Parses an endpoint; a word without a scheme is the name of a ring.
pub(crate) fn endpoint(text: &str, context: &Context) -> Outcome<Endpoint> {
    let is_name = !text.contains(':') && !text.starts_with('-');
    let text = if is_name { &format!("ring:{text}") } else { text };
    match Endpoint::parse(text) {
        Ok(Endpoint::Ring(ring)) => Ok(Endpoint::Ring(match &context.dir {
            Some(dir) => ring.in_directory(dir),
            None => ring,
        })),
        Ok(other) => Ok(other),
        Err(error) => Err(Failure::from(error).at(text.escape_debug())),
    }
}

/// Parses `ring:NAME?…`, or just `NAME`.
pub(crate) fn parse(text: &str, context: &Context) -> Outcome<RingEndpoint> {
    match endpoint(text, context)? {
        Endpoint::Ring(ring) => Ok(ring),
        other => Err(Failure::new(crate::failure::USAGE, format_args!("{other}: not a ring"))),
    }
}

/// Opens the ring, which must exist.
pub(crate) fn open(text: &str, context: &Context) -> Outcome<Ring> {
    let ring = parse(text, context)?;
    ring.open().map_err(|error| Failure::from(error).at(format_args!("ring:{}", ring.name())))
}

/// How often [`join`] tries while other processes create and remove the name.
const ATTEMPTS: usize = 100;

/// Opens or creates the ring, and attaches to it. Tries again if the name was removed in between.
/// First calls `accept` with the kind that the ring has or would have: if it refuses, nothing is
/// created.
pub(crate) fn join<T>(
    endpoint: &RingEndpoint,
    context: &Context,
    accept: impl Fn(Kind) -> Outcome,
    attach: impl Fn(&Ring) -> slipring::Result<T>,
) -> Outcome<T> {
    for _ in 0..ATTEMPTS {
        let ring = match endpoint.open() {
            Err(Error::NotFound) => {
                accept(endpoint.kind().unwrap_or(Kind::Spsc))?;
                match endpoint.create() {
                    Err(Error::Exists) => continue,
                    created => created?,
                }
            }
            opened => opened?,
        };
        accept(ring.kind())?;
        remark_size(endpoint, &ring, context);
        match attach(&ring) {
            Err(Error::NotFound) => {}
            joined => return Ok(joined?),
        }
    }
    Err(Error::NotFound.into())
}

/// Prints a note if the ring's size differs from the requested one, because it was rounded up or
/// the ring existed already.
pub(crate) fn remark_size(asked: &RingEndpoint, ring: &Ring, context: &Context) {
    let name = asked.name();
    let (of, bytes) = match ring.max_lanes() {
        0 => ("", ring.capacity()),
        lanes => (" of each lane", ring.capacity() / lanes),
    };
    if let Some(capacity) = asked.capacity().filter(|capacity| *capacity != bytes) {
        context.note(format_args!("ring:{name} has a capacity{of} of {bytes} bytes (requested: {capacity})"));
    }
    if let Some(lanes) = asked.lanes().filter(|lanes| *lanes != ring.max_lanes()) {
        context.note(format_args!("ring:{name} has {} lanes (requested: {lanes})", ring.max_lanes()));
    }
    if let Some(cells) = asked.cells().filter(|cells| *cells != ring.slots()) {
        context.note(format_args!("ring:{name} has {} cells (requested: {cells})", ring.slots()));
    }
    if let Some(slots) = asked.slots().filter(|slots| *slots != ring.slots()) {
        context.note(format_args!("ring:{name} has {} slots (requested: {slots})", ring.slots()));
    }
}

/// Whether both endpoints lead to the same object, however they are spelled, so that what is
/// written to one can be read from the other.
pub(crate) fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    let texts = (one.to_string(), other.to_string());
    match (one, other) {
        (Endpoint::Ring(one), Endpoint::Ring(other)) => one.name() == other.name(),
        // Numbers may have either radix; a file may have several paths.
        (Endpoint::Sysv(one), Endpoint::Sysv(other)) => {
            matches!((one.key(), other.key()), (Ok(one), Ok(other)) if one == other)
        }
        // Stdin and stdout are two objects; what is written to a passed socket is read at its other
        // end.
        (Endpoint::Pipe(_) | Endpoint::Signal(_), _) => false,
        (Endpoint::Tcp(_), Endpoint::Tcp(_)) | (Endpoint::Udp(_), Endpoint::Udp(_)) => {
            is_same_address(address(&texts.0), address(&texts.1))
        }
        (Endpoint::Fifo(_), Endpoint::Fifo(_))
        | (Endpoint::Unix(_), Endpoint::Unix(_))
        | (Endpoint::Seqpacket(_), Endpoint::Seqpacket(_))
        | (Endpoint::Dgram(_), Endpoint::Dgram(_)) => is_same_file(address(&texts.0), address(&texts.1)),
        _ => texts.0 == texts.1,
    }
}

/// The part after the scheme.
fn address(text: &str) -> &str {
    text.split_once(':').map_or(text, |(_, address)| address)
}

/// Whether two paths lead to one file, which need not exist yet.
fn is_same_file(one: &str, other: &str) -> bool {
    let file = |path: &str| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let place = |path: &str| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
        (directory.or_else(|| path.parent().map(Path::to_owned)), path.file_name().map(OsStr::to_owned))
    };
    match (file(one), file(other)) {
        (Some(one), Some(other)) => one == other,
        _ => place(one) == place(other),
    }
}

/// Whether two addresses `HOST:PORT` overlap: they are equal, or one is the wildcard address and
/// the other an address of this machine.
fn is_same_address(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let addresses = |text: &str| text.to_socket_addrs().map_or_else(|_| Vec::new(), Iterator::collect::<Vec<_>>);
    let includes = |all: IpAddr, one: IpAddr| {
        all.is_unspecified() && (one.is_ipv4() || all.is_ipv6()) && UdpSocket::bind((one, 0)).is_ok()
    };
    let others = addresses(other);
    addresses(one).iter().any(|one| {
        others.iter().any(|other| {
            let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
            one.port() == other.port() && (ip == other_ip || includes(ip, other_ip) || includes(other_ip, ip))
        })
    })
}

/// Options for listing and removing: only the directory matters.
pub(crate) fn anywhere(context: &Context) -> Options {
    match &context.dir {
        Some(dir) => Options::any().directory(dir),
        None => Options::any(),
    }
}

pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Spsc => "spsc",
        Kind::Mpmc => "mpmc",
        Kind::Mpsc => "mpsc",
        Kind::Stream => "stream",
        Kind::Semaphore => "semaphore",
        Kind::Mutex => "mutex",
        Kind::Broadcast => "broadcast",
        Kind::Latest => "latest",
        Kind::SignalSemaphore => "signal-semaphore",
        Kind::Event => "event",
        _ => "unknown",
    }
}

/// The capacity of a ring, in bytes, slots, cells or lanes.
pub(crate) fn size(ring: &Ring) -> String {
    let bytes = ring.capacity() as u64;
    match (ring.kind(), ring.slots(), ring.max_lanes()) {
        (Kind::Latest, cells, _) => format!("{cells} cells"),
        (_, 0, 0) => units::bytes(bytes),
        (_, 0, lanes) => format!("{lanes} lanes of {}", units::bytes(bytes / lanes as u64)),
        (_, slots, _) => format!("{slots} slots"),
    }
}
