//! Opening a session of Zenoh: its own configuration file, and short forms of what is needed most.
//!
//! Used by programs, and by `main.rs`.

use std::path::PathBuf;

use slipring::Result;
use zenoh::{Config, Session, Wait};

use crate::failed;

/// How a session is connected. By default it opens no port and looks for no peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// A configuration file of Zenoh (JSON5), for TLS, access control and everything else. The
    /// other fields are added to it.
    pub config: Option<PathBuf>,
    /// `peer` (the default), `client` or `router`.
    pub mode: Option<String>,
    /// Endpoints to connect to, as in `tcp/10.0.0.1:7447`. They are tried until they answer, again
    /// after each loss.
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
    /// [`slipring::Error::Io`] for a configuration that cannot be read or is not valid, and for an
    /// endpoint that cannot be listened on.
    pub fn open(&self) -> Result<Session> {
        zenoh::open(self.configuration()?).wait().map_err(failed)
    }

    fn configuration(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::from_file(path).map_err(failed)?,
            None => Config::default(),
        };
        let mut set = |key: &str, value: String| {
            config.insert_json5(key, &value).map_err(|error| failed(format_args!("{key}: {value}: {error}")))
        };
        if self.config.is_none() {
            set("scouting/multicast/enabled", self.scout.to_string())?;
            set("listen/endpoints", "[]".to_owned())?;
            set("connect/retry", "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }".to_owned())?;
        } else if self.scout {
            set("scouting/multicast/enabled", "true".to_owned())?;
        }
        if let Some(mode) = &self.mode {
            set("mode", quoted(mode))?;
        }
        for (key, endpoints) in [("connect/endpoints", &self.connect), ("listen/endpoints", &self.listen)] {
            if !endpoints.is_empty() {
                let list: Vec<String> = endpoints.iter().map(|endpoint| quoted(endpoint)).collect();
                set(key, format!("[{}]", list.join(",")))?;
            }
        }
        Ok(config)
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
