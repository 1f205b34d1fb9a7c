//! Opening a session of Zenoh: its own configuration file, and short forms of what is needed most.
//!
//! Used by programs, and by `main.rs`.

use std::path::PathBuf;

use slipring::{Error, Result};
use zenoh::{Config, Session, Wait};

use crate::{failed, reason};

/// How many threads Zenoh has, and for what: the value to which `slipring-zenoh` sets `ZENOH_RUNTIME`
/// unless it is set, before Zenoh starts. A connection that was accepted is polled by the thread that
/// reads from it, and not by another one, which would have to wake it up.
pub const RUNTIME: &str = "(acc: (handover: rx), rx: (worker_threads: 1))";

/// How a session is connected. By default it opens no port and looks for no peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// A configuration file of Zenoh (JSON5), for TLS, access control and everything else. The
    /// other fields are added to it.
    pub config: Option<PathBuf>,
    /// `peer` (the default), `client` or `router`.
    pub mode: Option<String>,
    /// Endpoints to connect to, as in `tcp/10.0.0.1:7447`. They are tried until they answer, again
    /// after each loss. A client's session opens when the first one has answered, unless
    /// `connect/timeout_ms` in the file of `config` says otherwise.
    pub connect: Vec<String>,
    /// Endpoints to listen on.
    pub listen: Vec<String>,
    /// Looks for peers by multicast.
    pub scout: bool,
}

impl Link {
    /// Opens the session.
    ///
    /// # Errors
    /// [`Error::Io`] for an endpoint that cannot be listened on, and, of the kind
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput), for a configuration that cannot be read
    /// or is not valid.
    pub fn open(&self) -> Result<Session> {
        zenoh::open(self.configuration()?).wait().map_err(failed)
    }

    fn configuration(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path).map_err(|error| invalid(path.display(), error))?,
            None => Config::default(),
        };
        if self.config.is_none() {
            set(&mut config, "scouting/multicast/enabled", &self.scout.to_string())?;
            set(&mut config, "listen/endpoints", "[]")?;
            // Sixteen samples may wait for the network, not two: a sender that waits for room wakes up
            // for each of them.
            set(&mut config, "transport/link/tx/queue/size/data", "16")?;
            let retry = "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }";
            set(&mut config, "connect/retry", retry)?;
        } else if self.scout {
            set(&mut config, "scouting/multicast/enabled", "true")?;
        }
        if let Some(mode) = &self.mode {
            set(&mut config, "mode", &quoted(mode))?;
        }
        for (key, endpoints) in [("connect/endpoints", &self.connect), ("listen/endpoints", &self.listen)] {
            if !endpoints.is_empty() {
                let list: Vec<String> = endpoints.iter().map(|endpoint| quoted(endpoint)).collect();
                set(&mut config, key, &format!("[{}]", list.join(",")))?;
            }
        }
        if !self.connect.is_empty() && config.get_json("connect/timeout_ms").is_ok_and(|value| value == "null") {
            set(&mut config, "connect/timeout_ms", "{ client: -1 }")?; // by default, a client does not wait
        }
        Ok(config)
    }
}

fn set(config: &mut Config, key: &str, value: &str) -> Result<()> {
    config.insert_json5(key, value).map_err(|error| invalid(format_args!("{key}: {value}"), error))
}

fn invalid(subject: impl std::fmt::Display, error: impl std::fmt::Display) -> Error {
    let text = format!("{subject}: {}", reason(&error.to_string()));
    Error::Io { op: "configuration of Zenoh", source: std::io::Error::new(std::io::ErrorKind::InvalidInput, text) }
}

/// A string of JSON, which JSON5 contains.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_for_its_router_unless_the_file_says_otherwise() {
        let mut link = Link { connect: vec!["tcp/127.0.0.1:7447".to_owned()], ..Link::default() };
        let waits = |link: &Link| link.configuration().unwrap().get_json("connect/timeout_ms").unwrap();
        assert!(waits(&link).contains("-1"));
        let path = std::env::temp_dir().join(format!("slipring-zenoh-link-{}.json5", std::process::id()));
        link.config = Some(path.clone());
        std::fs::write(&path, "{ connect: { timeout_ms: 500 } }").unwrap();
        assert_eq!(waits(&link), "500");
        std::fs::write(&path, "{ mode: 'client' }").unwrap();
        assert!(waits(&link).contains("-1"));
        link.connect.clear();
        assert_eq!(waits(&link), "null");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_not_valid_is_named_without_places_in_the_sources_of_zenoh() {
        let text = |link: &Link| link.configuration().unwrap_err().to_string();
        let wrong = text(&Link { mode: Some("\"x\u{e9}\u{1}".to_owned()), ..Link::default() });
        assert!(wrong.contains("mode") && wrong.contains("`router`") && !wrong.contains(".rs"), "{wrong}");
        let wrong = text(&Link { listen: vec!["here".to_owned()], ..Link::default() });
        assert!(wrong.contains("here") && !wrong.contains(".rs") && !wrong.contains("Message"), "{wrong}");
        let wrong = text(&Link { config: Some("/no/such.json5".into()), ..Link::default() });
        assert!(wrong.contains("/no/such.json5: No such file"), "{wrong}");
    }
}
