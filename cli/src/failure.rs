//! Why a verb failed: a message for stderr and an exit code for scripts.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | success; also if the reader of the output closed the pipe, and no frame is lost by that |
//! | 1 | failed, or refused for safety |
//! | 2 | usage: arguments that can never work |
//! | 3 | corrupt or incompatible |
//! | 4 | frames are missing, or were received and could not be delivered, for any reason |
//! | 5 | not found |
//! | 124 | timeout |
//! | 130, 143 | closed after SIGINT, SIGTERM |

use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use serde_json::json;
use slipring::Error;
use slipring::endpoint::segment_directory_path;

use crate::{stderr, units};

/// `--dir`, for the errors that are about the directory of all rings.
static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();

/// To be called once, before anything can fail.
pub(crate) fn set_directory(path: Option<PathBuf>) {
    let _ = DIRECTORY.set(path);
}

/// Frames known to be missing, and bytes that were no frame: an end of its own.
pub(crate) fn missing(frames: u64, bytes: u64) -> Failure {
    let (some, unreadable) = (units::many_are(frames, "frame"), units::counted(bytes as usize, "byte"));
    match (frames, bytes) {
        (_, 0) => Failure::new(LOST, format_args!("{some} missing")),
        (0, _) => Failure::new(LOST, format_args!("{unreadable} skipped as unreadable")),
        _ => Failure::new(LOST, format_args!("{some} missing, {unreadable} skipped as unreadable")),
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CORRUPT: u8 = 3;
pub(crate) const LOST: u8 = 4;
pub(crate) const NOT_FOUND: u8 = 5;
pub(crate) const TIMEOUT: u8 = 124;

#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// `None` fails silently.
    message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Failure { code, message: Some(message.to_string()) }
    }

    /// A failure whose message has been printed already.
    pub(crate) fn silent(code: u8) -> Self {
        Failure { code, message: None }
    }

    /// Writing to stdout failed. If its reader has closed the pipe, that is not an error.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(0),
            _ => Failure::new(FAILED, format_args!("cannot write the output: {error}")),
        }
    }

    /// Prefixes the message with what it is about.
    pub(crate) fn at(mut self, subject: impl Display) -> Self {
        self.message = self.message.map(|message| format!("{subject}: {message}"));
        self
    }

    /// Appends advice to the message.
    pub(crate) fn and(mut self, advice: impl Display) -> Self {
        self.message = self.message.map(|message| format!("{message}; {advice}"));
        self
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Prints on stderr why it failed: as text, or with `--json` as one line,
    /// `{"error":"…","code":1}`.
    pub(crate) fn report(self, json: bool) -> ExitCode {
        match self.message {
            Some(message) if json => stderr::remark(json!({ "error": message, "code": self.code })),
            Some(message) => stderr::remark(format_args!("slipring: {message}")),
            None => {}
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Invalid { .. } => USAGE,
            Error::Corrupt { .. } | Error::Incompatible { .. } => CORRUPT,
            Error::NotFound | Error::NoConsumer => NOT_FOUND,
            Error::Timeout => TIMEOUT,
            _ => FAILED,
        };
        match error {
            Error::Incompatible { what, expected, found } if what.starts_with("kind") => {
                let name = |kind| match kind {
                    1 => "spsc",
                    2 => "mpmc",
                    3 => "stream",
                    4 => "semaphore",
                    5 => "mutex",
                    6 => "latest",
                    7 => "signal-semaphore",
                    8 => "event",
                    9 => "broadcast",
                    10 => "mpsc",
                    _ => "unknown",
                };
                let (expected, found) = (name(expected), name(found));
                Failure::new(
                    code,
                    format_args!("the ring is of kind {found}, not {expected}: choose another name or kind"),
                )
            }
            Error::Untrusted { what } if what.contains("segment directory") => {
                let path = segment_directory_path(DIRECTORY.get().and_then(Option::as_deref));
                let what = what.replacen("segment directory", &format!("segment directory {}", path.display()), 1);
                Failure::new(code, format_args!("refused: {what}")).and("choose another with --dir or SLIPRING_DIR")
            }
            error => Failure::new(code, error),
        }
    }
}
