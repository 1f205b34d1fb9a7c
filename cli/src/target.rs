//! From what the user typed to an open ring.

use slipring::endpoint::{Endpoint, RingEndpoint};
use slipring::{Kind, Options, Ring};

use crate::Context;
use crate::failure::{Failure, NOT_FOUND, Outcome};

/// Any endpoint; a word without a scheme is the name of a ring.
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

/// `ring:NAME?…`, or just `NAME`.
pub(crate) fn parse(text: &str, context: &Context) -> Outcome<RingEndpoint> {
    match endpoint(text, context)? {
        Endpoint::Ring(ring) => Ok(ring),
        other => Err(Failure::new(crate::failure::USAGE, format_args!("{other}: not a ring"))),
    }
}

/// The ring, which must exist.
pub(crate) fn open(text: &str, context: &Context) -> Outcome<Ring> {
    let ring = parse(text, context)?;
    ring.open().map_err(|error| Failure::from(error).at(format_args!("ring:{}", ring.name())))
}

/// The ring as it is, or created as the endpoint says.
pub(crate) fn open_or_create(endpoint: &RingEndpoint, context: &Context) -> Outcome<Ring> {
    let ring = endpoint.open_or_create().map_err(|e| Failure::from(e).at(format_args!("ring:{}", endpoint.name())))?;
    remark_size(endpoint, &ring, context);
    Ok(ring)
}

/// How often [`join`] tries when others create and remove the name all the time.
const ATTEMPTS: usize = 100;

/// Opens the ring, or creates it, for `attach` to attach to and to use; once more if its name was removed in between.
pub(crate) fn join(endpoint: &RingEndpoint, context: &Context, mut attach: impl FnMut(&Ring) -> Outcome) -> Outcome {
    for _ in 1..ATTEMPTS {
        match attach(&open_or_create(endpoint, context)?) {
            Err(failure) if failure.code() == NOT_FOUND => {}
            joined => return joined,
        }
    }
    attach(&open_or_create(endpoint, context)?)
}

/// Says so when the ring is of another size than asked for, because it was rounded up or is older than the wish.
pub(crate) fn remark_size(asked: &RingEndpoint, ring: &Ring, context: &Context) {
    let name = asked.name();
    if let Some(capacity) = asked.capacity().filter(|capacity| *capacity != ring.capacity()) {
        context
            .note(format_args!("ring:{name} has a capacity of {} bytes ({capacity} were asked for)", ring.capacity()));
    }
    if let Some(slots) = asked.slots().filter(|slots| *slots != ring.slots()) {
        context.note(format_args!("ring:{name} has {} slots ({slots} were asked for)", ring.slots()));
    }
}

/// Whether both name the same thing, so that what is written to one comes back from the other.
pub(crate) fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    if let (Endpoint::Ring(one), Endpoint::Ring(other)) = (one, other) {
        return one.name() == other.name();
    }
    let (one, other) = (one.to_string(), other.to_string());
    // Stdin and stdout are two things, and what comes back over a passed socket comes from its other end.
    if one.starts_with('-') || one.starts_with("fd:") || one.starts_with("signal:") {
        return false;
    }
    let place = |text: &str| {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let path = std::fs::canonicalize(rest).map_or_else(|_| rest.to_owned(), |path| path.display().to_string());
        (scheme.to_owned(), path)
    };
    place(&one) == place(&other)
}

/// For listing, removing: only the directory matters.
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
        Kind::Stream => "stream",
        Kind::Semaphore => "semaphore",
        Kind::Mutex => "mutex",
        _ => "unknown",
    }
}
