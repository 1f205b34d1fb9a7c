//! What is printed, and the exit codes: those of the command `slipring`.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | failed, or the sender died |
//! | 2 | usage: arguments that can never work |
//! | 3 | corrupt or incompatible |
//! | 4 | frames are missing, or were received and could not be passed on |
//! | 5 | not found |
//! | 124 | timeout |
//! | 130, 143 | ended by SIGINT, SIGTERM |

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use slipring::Error;

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CORRUPT: u8 = 3;
pub(crate) const LOST: u8 = 4;
pub(crate) const NOT_FOUND: u8 = 5;
pub(crate) const TIMEOUT: u8 = 124;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Options of what is printed.
pub(crate) struct Context {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Context {
    pub(crate) fn note(&self, text: impl Display) {
        match (self.quiet, self.json) {
            (true, _) => {}
            (false, true) => eprintln!("{}", json!({ "note": text.to_string() })),
            (false, false) => eprintln!("slipring-zenoh: {text}"),
        }
    }
}

/// Why it ended: a message and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Display) -> Self {
        Failure { code, message: Some(message.to_string()) }
    }

    /// Fails without a message.
    pub(crate) fn silent(code: u8) -> Self {
        Failure { code, message: None }
    }

    pub(crate) fn at(mut self, subject: impl Display) -> Self {
        self.message = self.message.map(|message| format!("{subject}: {message}"));
        self
    }

    /// The same, whose message has been printed.
    pub(crate) fn reported(self) -> Self {
        Failure::silent(self.code)
    }

    pub(crate) fn report(self, context: &Context) -> ExitCode {
        match self.message {
            Some(message) if context.json => eprintln!("{}", json!({ "error": message, "code": self.code })),
            Some(message) => eprintln!("slipring-zenoh: {message}"),
            None => {}
        }
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message.as_deref().unwrap_or_default())
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
        Failure::new(code, error)
    }
}

/// The counters of one direction.
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) gaps: u64,
    pub(crate) missing: u64,
    /// Latest values that newer ones had replaced.
    pub(crate) replaced: u64,
    pub(crate) duplicates: u64,
    /// Frames that DST did not take in time, with `--policy drop`.
    pub(crate) dropped: u64,
    /// Samples that waited for too long; their frames are among the missing ones.
    pub(crate) dropped_samples: u64,
    pub(crate) skipped_bytes: u64,
    start: Instant,
    said: Instant,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Tally {
            frames: 0,
            bytes: 0,
            gaps: 0,
            missing: 0,
            replaced: 0,
            duplicates: 0,
            dropped: 0,
            dropped_samples: 0,
            skipped_bytes: 0,
            start: now,
            said: now,
        }
    }

    /// Prints the counters: every second with `--stats`, and at the end with `--stats` or `--json`.
    pub(crate) fn say(&mut self, names: &[String; 2], stats: bool, at_the_end: bool, context: &Context) {
        if !(stats || at_the_end && context.json) {
            return;
        }
        let now = Instant::now();
        if !at_the_end && (now - self.said).as_millis() < 1000 {
            return;
        }
        self.said = now;
        let seconds = (now - self.start).as_secs_f64();
        let Tally {
            frames, bytes, gaps, missing, replaced, duplicates, dropped, dropped_samples, skipped_bytes, ..
        } = self;
        if context.json {
            let line = json!({
                "from": names[0], "to": names[1], "frames": frames, "bytes": bytes, "seconds": seconds, "gaps": gaps,
                "missing": missing, "replaced": replaced, "duplicates": duplicates, "dropped": dropped,
                "dropped_samples": dropped_samples, "skipped_bytes": skipped_bytes,
            });
            // stdout may carry the frames.
            match names.iter().any(|name| name == "-") {
                true => eprintln!("{line}"),
                false => println!("{line}"),
            }
            return;
        }
        let rate = *frames as f64 / seconds.max(1e-9);
        let mut line =
            format!("{} → {}: {frames} frames, {bytes} B ({rate:.0} frames/s), {missing} missing", names[0], names[1]);
        let more = [
            (*replaced, "replaced"),
            (*duplicates, "duplicates"),
            (*dropped, "dropped"),
            (*dropped_samples, "samples dropped"),
            (*skipped_bytes, "B skipped"),
        ];
        for (n, what) in more {
            if n > 0 {
                line += &format!(", {n} {what}");
            }
        }
        eprintln!("{line}");
    }

    /// Frames that are known to be missing: a failure of its own.
    pub(crate) fn check(&self, subject: &str) -> Outcome {
        let n = self.missing;
        match (n, self.skipped_bytes) {
            (0, 0) => Ok(()),
            (0, bytes) => Err(Failure::new(LOST, format_args!("{bytes} bytes skipped as unreadable")).at(subject)),
            (1, _) => Err(Failure::new(LOST, "1 frame is missing").at(subject)),
            _ => Err(Failure::new(LOST, format_args!("{n} frames are missing")).at(subject)),
        }
    }
}

/// The counters of calls. Threads share them.
pub(crate) struct Calls {
    pub(crate) calls: AtomicU64,
    pub(crate) answered: AtomicU64,
    start: Instant,
    said: Mutex<Instant>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Calls { calls: AtomicU64::new(0), answered: AtomicU64::new(0), start: now, said: Mutex::new(now) }
    }

    /// As [`Tally::say`].
    pub(crate) fn say(&self, names: &[String; 2], stats: bool, at_the_end: bool, context: &Context) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = stats && said.elapsed() >= Duration::from_secs(1);
        if !(is_time || at_the_end && (stats || context.json)) {
            return;
        }
        *said = Instant::now();
        let [calls, answered] = [&self.calls, &self.answered].map(|counter| counter.load(Ordering::Relaxed));
        let seconds = self.start.elapsed().as_secs_f64();
        if context.json {
            let [from, to] = names;
            println!("{}", json!({ "from": from, "to": to, "calls": calls, "answered": answered, "seconds": seconds }));
        } else {
            eprintln!("{} → {}: {calls} calls, {answered} answered", names[0], names[1]);
        }
    }
}
