//! Many rings in one process: each ring whose name matches has a key of its own, and each key that
//! matches has a ring of its own, also those that appear later.
//!
//! Relies on `forward.rs`, which passes on the frames of each pair in a thread.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use slipring::Ring;
use slipring_zenoh::senders_of;
use zenoh::Session;

use crate::forward::{self, Options};
use crate::place::Place;
use crate::report::{Context, Failure, Outcome};
use crate::stop::Stop;

/// How often rings that have appeared are looked for.
const EVERY: Duration = Duration::from_millis(250);

/// Rings for keys, at most: each takes memory and a thread, and a stranger may name the keys.
const MOST: usize = 256;

/// Text with one wildcard.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    before: String,
    after: String,
}

impl Pattern {
    /// `None` if `text` has no wildcard, or several.
    pub(crate) fn parse(text: &str, wildcard: &str) -> Option<Self> {
        let (before, after) = text.split_once(wildcard)?;
        (!after.contains('*')).then(|| Pattern { before: before.to_owned(), after: after.to_owned() })
    }

    /// What the wildcard stands for in `text`.
    fn captured<'a>(&self, text: &'a str) -> Option<&'a str> {
        let captured = text.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        (!captured.is_empty()).then_some(captured)
    }

    fn filled(&self, captured: &str) -> String {
        format!("{}{captured}{}", self.before, self.after)
    }
}

/// Rings by pattern: `ring:ticks-*?OPTIONS`.
pub(crate) struct Rings {
    pub(crate) names: Pattern,
    pub(crate) options: String,
    pub(crate) directory: Option<PathBuf>,
}

impl Rings {
    fn list(&self) -> slipring::Result<HashMap<String, u64>> {
        let options = self.directory.iter().fold(slipring::Options::any(), slipring::Options::directory);
        let mut rings = HashMap::new();
        for name in Ring::list(&options)?.into_iter().filter(|name| self.names.captured(name).is_some()) {
            // One that has been removed since, or that is no ring of this version, is left out.
            if let Ok(ring) = Ring::open(&name, &options) {
                rings.insert(name, ring.generation());
            }
        }
        Ok(rings)
    }

    fn endpoint(&self, name: &str) -> Outcome<(String, Place)> {
        let text = format!("ring:{name}{}", self.options);
        Ok((format!("ring:{name}"), Place::parse(&text, self.directory.as_deref())?))
    }
}

/// The pattern of a key expression.
pub(crate) fn of_key(expression: &str) -> Option<Pattern> {
    let wildcard = if expression.contains("**") { "**" } else { "*" };
    Pattern::parse(expression, wildcard)
}

/// Relays every ring to its key, until an end is requested.
pub(crate) fn send(
    session: &Session,
    rings: &Rings,
    keys: &Pattern,
    options: &Options,
    stop: &Stop,
    context: &Context,
) -> Outcome {
    std::thread::scope(|scope| {
        let mut known = HashMap::new();
        let mut running = Vec::new();
        while !stop.asked() {
            for (name, generation) in rings.list()? {
                if known.insert(name.clone(), generation) == Some(generation) {
                    continue;
                }
                let key = keys.filled(rings.names.captured(&name).unwrap_or_default());
                let (from, source) = rings.endpoint(&name)?;
                let options = options.of_one([from, format!("zenoh:{key}")]);
                running.push(scope.spawn(move || {
                    forward::run(session, &source, &Place::Zenoh(key), &options, stop, context)
                        .inspect_err(|failure| context.note(failure))
                }));
            }
            stop.sleep(EVERY);
        }
        first_failure(running.into_iter().map(|one| one.join().unwrap_or(Ok(()))))
    })
}

/// Relays every key that has a sender to its ring, until an end is requested.
pub(crate) fn receive(
    session: &Session,
    expression: &str,
    keys: &Pattern,
    rings: &Rings,
    options: &Options,
    stop: &Stop,
    context: &Context,
) -> Outcome {
    let (tx, rx) = mpsc::channel();
    let _senders = senders_of(session, expression, move |key| drop(tx.send(key.to_owned())))?;
    std::thread::scope(|scope| {
        let mut known = std::collections::HashSet::new();
        let mut is_full = false;
        let mut running = Vec::new();
        while !stop.asked() {
            let Ok(key) = rx.recv_timeout(Duration::from_millis(100)) else { continue };
            let Some(captured) = keys.captured(&key) else { continue };
            if known.contains(&key) {
                continue;
            }
            if known.len() >= MOST {
                if !std::mem::replace(&mut is_full, true) {
                    context.note(format_args!("{key}: not received, like all keys behind the first {MOST}"));
                }
                continue;
            }
            known.insert(key.clone());
            // A slash is no part of a ring's name.
            let (to, destination) = match rings.endpoint(&rings.names.filled(&captured.replace('/', "."))) {
                Ok(found) => found,
                Err(failure) => {
                    context.note(failure.at(&key));
                    continue;
                }
            };
            let options = options.of_one([format!("zenoh:{key}"), to]);
            running.push(scope.spawn(move || {
                forward::run(session, &Place::Zenoh(key), &destination, &options, stop, context)
                    .inspect_err(|failure| context.note(failure))
            }));
        }
        first_failure(running.into_iter().map(|one| one.join().unwrap_or(Ok(()))))
    })
}

fn first_failure(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    // All of them end, whatever one says.
    let outcomes: Vec<Outcome> = outcomes.collect();
    outcomes.into_iter().find(Result::is_err).map_or(Ok(()), |failed| failed.map_err(Failure::reported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_key_and_the_other_way_round() {
        let (names, keys) = (Pattern::parse("ticks-*", "*").unwrap(), of_key("site1/ticks/**").unwrap());
        assert_eq!(names.captured("ticks-eur").map(|captured| keys.filled(captured)).unwrap(), "site1/ticks/eur");
        assert_eq!(keys.captured("site1/ticks/eur").map(|captured| names.filled(captured)).unwrap(), "ticks-eur");
        assert_eq!(
            (names.captured("ticks-"), names.captured("other"), keys.captured("site1/ticks/")),
            (None, None, None)
        );
        assert!(Pattern::parse("a*b*", "*").is_none() && Pattern::parse("plain", "*").is_none());
        assert!(of_key("a/*/b").unwrap().captured("a/x/b") == Some("x"));
    }
}
