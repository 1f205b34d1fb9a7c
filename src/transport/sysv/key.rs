//! The keys of System V queues: numbers, or paths.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// The key of a queue: a number that both ends know, or a path that both ends see.
///
/// ```
/// use slipring::transport::sysv::Key;
/// assert_eq!(Key::parse("0x51")?, Key::number(81)?);
/// assert!(Key::parse("/etc/passwd")? != Key::parse("/etc/group")?);
/// assert!(Key::parse("0").is_err());
/// # Ok::<(), slipring::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) i32);

impl Key {
    /// A key by number, not 0.
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0, which means a queue that cannot be found (`IPC_PRIVATE`).
    pub fn number(key: u32) -> Result<Self> {
        match key {
            0 => Err(Error::Invalid { what: "key of a queue: 0 is reserved, choose another number" }),
            key => Ok(Key(key as i32)),
        }
    }

    /// The key `ftok(path, 's')`: 0x73, the lower 8 bits of the device, the lower 16 bits of the
    /// inode of the file, which must exist. Two files may have the same key; a file that is removed
    /// and created again has another key.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such file; [`Error::Io`].
    pub fn path(path: &Path) -> Result<Self> {
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::Invalid { what: "key of a queue: the path must be that of a file that exists" })
            }
            Err(e) => Err(Error::io("examine the file that names the queue", e)),
            Ok(file) => {
                let (device, inode) = (file.dev() as u32 & 0xFF, file.ino() as u32 & 0xFFFF);
                Ok(Key((u32::from(b's') << 24 | device << 16 | inode) as i32))
            }
        }
    }

    /// Parses a number, decimal or with `0x`, or else a path (`./7` for a file of that name).
    ///
    /// # Errors
    /// As [`Key::number`] and [`Key::path`]; [`Error::Invalid`] for a number above 32 bits.
    pub fn parse(text: &str) -> Result<Self> {
        let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
        if radix == 10 && !digits.bytes().all(|digit| digit.is_ascii_digit()) || text.is_empty() {
            return Self::path(Path::new(text));
        }
        match u32::from_str_radix(digits, radix) {
            Ok(key) if !digits.starts_with('+') => Self::number(key),
            _ => Err(Error::Invalid { what: "key of a queue: must be a 32-bit number, or the path of a file" }),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_paths() {
        for (text, key) in [("1", 1), ("4294967295", u32::MAX), ("0xfFfFffff", u32::MAX), ("0x51", 0x51)] {
            assert_eq!(Key::parse(text).unwrap().get(), key);
        }
        for text in ["", "0", "0x0", "0x", "0x+1", "4294967296", "0x100000000", "/nonexistent/file", "-1"] {
            assert!(matches!(Key::parse(text), Err(Error::Invalid { .. })), "{text:?}");
        }
        assert_eq!(Key::parse("/").unwrap().get() >> 24, u32::from(b's'));
    }
}
