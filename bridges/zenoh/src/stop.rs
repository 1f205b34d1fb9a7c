//! Stopping on SIGINT and SIGTERM: the first signal requests an end, the second one kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::report::{FAILED, Failure, Outcome};

/// Whether an end was requested.
#[derive(Clone)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Stop {
    pub(crate) fn install() -> Outcome<Self> {
        let (asked, signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        for number in [SIGINT, SIGTERM] {
            let install = || {
                signal_hook::flag::register_conditional_default(number, Arc::clone(&asked))?;
                signal_hook::flag::register_usize(number, Arc::clone(&signal), number.unsigned_abs() as usize)?;
                signal_hook::flag::register(number, Arc::clone(&asked))
            };
            install().map_err(|error| Failure::new(FAILED, format_args!("cannot watch for signals: {error}")))?;
        }
        Ok(Stop { asked, signal })
    }

    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Sleeps, unless an end is requested.
    pub(crate) fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.asked() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50).min(time));
        }
    }

    /// The outcome, or that of the signal: 128 plus its number, as in shells.
    pub(crate) fn ended(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) if self.asked() => Err(Failure::silent(128 + self.signal.load(Ordering::Relaxed) as u8)),
            outcome => outcome,
        }
    }
}
