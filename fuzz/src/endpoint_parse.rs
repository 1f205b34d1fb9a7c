//! Endpoints from untrusted configuration: parsing returns an error, or an endpoint whose text
//! parses to the same endpoint.
//!
//! Relies on `slipring::endpoint`.

use slipring::Error;
use slipring::endpoint::{Endpoint, parse_size};

use super::draw::Draw;

const WORDS: [&str; 40] = [
    "ring",
    ":",
    "?",
    "&",
    "=",
    "kind",
    "spsc",
    "mpmc",
    "stream",
    "capacity",
    "slots",
    "slot",
    "wake",
    "poll",
    "fenced",
    "asymmetric",
    "idle",
    "spin",
    "yield",
    "backoff",
    "park",
    "mode",
    "0600",
    "participants",
    "redelivery",
    "at-least-once",
    "at-most-once",
    "huge",
    "prefault",
    "mlock",
    "true",
    "no",
    "64KiB",
    "1TiB",
    "0",
    "4095",
    ".",
    "/",
    "-",
    "ticks",
];

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let text = match draw.below(3) {
        0 => String::from_utf8_lossy(draw.bytes(512)).into_owned(),
        1 => format!("ring:{}", String::from_utf8_lossy(draw.bytes(512))),
        _ => sentence(&mut draw),
    };
    size(&text);
    text.split(['=', '&']).for_each(size);
    let Endpoint::Ring(ring) = (match Endpoint::parse(&text) {
        Ok(Endpoint::Ring(ring)) => Endpoint::Ring(ring),
        Ok(other) => return assert_round_trip(&other),
        Err(Error::Invalid { .. }) => return,
        Err(other) => panic!("{text:?}: not an error of parsing: {other}"),
    }) else {
        return;
    };
    let name = ring.name();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!((1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.'), "{name:?}");
    let _ = ring.options();
    assert_round_trip(&Endpoint::Ring(ring));
}

fn assert_round_trip(endpoint: &Endpoint) {
    let said = endpoint.to_string();
    assert_eq!(Endpoint::parse(&said).unwrap().to_string(), said);
}

fn sentence(draw: &mut Draw<'_>) -> String {
    let mut text = String::from("ring:x?");
    while draw.more() && text.len() < 512 {
        text.push_str(draw.one_of(&WORDS));
    }
    text
}

fn size(text: &str) {
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&size.to_string()).unwrap(), size);
    }
}
