//! The options of an endpoint, behind the question mark: `key=value` pairs, and the values that
//! several schemes share.
//!
//! Used by the other files of `endpoint/`. Pure text.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// Options that may be repeated; each adds to the others.
const LISTS: [&str; 2] = ["uid", "source"];

/// Applies every option of `text` to `options`, in order: `set(options, key, value)`. An option
/// without a value is `true`.
///
/// # Errors
/// [`Error::Invalid`] if an option is given twice; the errors of `set`.
pub(super) fn fold<'t, T>(
    text: &'t str,
    mut options: T,
    mut set: impl FnMut(T, &'t str, &'t str) -> Result<T>,
) -> Result<T> {
    let mut keys = Vec::new();
    for option in text.split('&').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, "true"));
        options = set(options, key, value)?;
        if keys.contains(&key) && !LISTS.contains(&key) {
            return Err(Error::Invalid { what: "endpoint option: given twice: give it once" });
        }
        keys.push(key);
    }
    Ok(options)
}

/// Checks the value of `listen` for a scheme where no side waits for a connection; returns
/// `options` unchanged.
pub(super) fn no_listener<T>(options: T, value: &str) -> Result<T> {
    parse_switch(value).map(|_| options)
}

/// `HOST:PORT`, resolved when it is opened. The error of a failed lookup names the host.
#[derive(Clone, Debug)]
pub(super) struct Address(String);

impl Address {
    /// Parses the text; resolves nothing.
    pub(super) fn parse(text: &str) -> Result<Self> {
        address(text).map(|text| Address(text.to_owned()))
    }
}

impl ToSocketAddrs for Address {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        self.0.to_socket_addrs().map_err(|error| io::Error::other(format!("{host}: {error}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parses a path, which must not be empty or contain NUL.
pub(super) fn path(text: &str) -> Result<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return Err(Error::Invalid { what: "path: must not be empty or contain a zero byte" });
    }
    Ok(PathBuf::from(text))
}

/// Fails with `missing` if the directory of `path` does not exist.
pub(super) fn check_parent(path: &Path, missing: Error) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => Err(missing),
        _ => Ok(()),
    }
}

/// Checks `HOST:PORT`, of which the port is a number. Resolves nothing.
fn address(text: &str) -> Result<&str> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() && !port.starts_with('+') => Ok(text),
        _ => Err(Error::Invalid { what: "address: must be HOST:PORT, as in 127.0.0.1:7000 or [::1]:7000" }),
    }
}

/// Parses a user id.
pub(super) fn parse_uid(value: &str) -> Result<u32> {
    value.parse().map_err(|_| Error::Invalid { what: "uid: must be a number, as `id -u` prints it" })
}

/// Parses a size in bytes: a whole number, alone or with a unit. `K`, `KiB`, `M`, `MiB`, `G`,
/// `GiB`, `T`, `TiB` are powers of 1024, `kB`, `MB`, `GB`, `TB` powers of 1000.
///
/// # Errors
/// [`Error::Invalid`] for anything else, and for sizes that do not fit 64 bits.
///
/// ```
/// use slipring::endpoint::parse_size;
/// assert_eq!((parse_size("4KiB")?, parse_size("4K")?, parse_size("10MB")?), (4096, 4096, 10_000_000));
/// assert!(parse_size("four").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn parse_size(text: &str) -> Result<usize> {
    const WRONG: Error =
        Error::Invalid { what: "size: must be a whole number, alone or with a unit, as in 4096, 4KiB, 1M, 10MB" };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: usize = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(WRONG),
    };
    number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)).ok_or(WRONG)
}

/// Parses a duration: a number, with or without a fraction, and a unit: `ns`, `us`, `ms`, `s`, `m`,
/// `min` or `h`.
///
/// # Errors
/// [`Error::Invalid`] for anything else, and for more than a [`Duration`] can hold.
///
/// ```
/// use slipring::endpoint::parse_duration;
/// use std::time::Duration;
/// assert_eq!((parse_duration("250ms")?, parse_duration("1.5m")?), (Duration::from_millis(250), Duration::from_secs(90)));
/// assert!(parse_duration("30").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration> {
    const WRONG: Error = Error::Invalid { what: "duration: must be a number and a unit, as in 500us, 250ms, 2s or 1m" };
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or(WRONG)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(WRONG),
    };
    let number = number.parse::<f64>().ok().filter(|number| *number >= 0.0).ok_or(WRONG)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| WRONG)
}

pub(super) fn parse_mode(value: &str) -> Result<u32> {
    let is_octal = (1..=4).contains(&value.len()) && value.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(value, 8).ok().filter(|_| is_octal);
    match mode {
        Some(mode) if mode & 0o622 == 0o600 && mode <= 0o777 => Ok(mode),
        _ => Err(Error::Invalid { what: "mode: must be octal and let only the owner write, as in 0600 or 0640" }),
    }
}

pub(super) fn parse_switch(value: &str) -> Result<bool> {
    match value {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(Error::Invalid { what: "switch: must be true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [("0", 0), ("7", 7), ("7B", 7), ("2k", 2048), ("3MiB", 3 << 20), ("1TB", 1_000_000_000_000)]
        {
            assert_eq!(parse_size(text).unwrap(), size);
        }
        for text in ["", "K", "1.5K", "1 K", "1KIB", "0x10", "+1", "17179869184G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
