//! Reports problems of received data: on stderr at a bounded rate, and beyond that as a count.
//!
//! Used by `recv` and `relay`: many unreadable messages must not cause as many lines.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::Context;

/// Lines printed in one second.
const LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Reports<'a> {
    context: &'a Context,
    /// When the current second began.
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl<'a> Reports<'a> {
    pub(crate) fn new(context: &'a Context) -> Self {
        Reports { context, since: Instant::now(), said: 0, unsaid: 0 }
    }

    /// Prints the report, or counts it.
    pub(crate) fn add(&mut self, text: impl Display) {
        if self.since.elapsed() >= SECOND {
            self.print_the_rest();
            (self.since, self.said) = (Instant::now(), 0);
        }
        if self.said < LINES {
            self.said += 1;
            self.context.note(text);
        } else {
            self.unsaid += 1;
        }
    }

    fn print_the_rest(&mut self) {
        let unsaid = std::mem::take(&mut self.unsaid);
        if unsaid > 0 {
            self.context.note(format_args!("and {unsaid} more like these"));
        }
    }
}

impl Drop for Reports<'_> {
    fn drop(&mut self) {
        self.print_the_rest();
    }
}
