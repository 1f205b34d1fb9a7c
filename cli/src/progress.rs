//! Shows the progress of a transfer at a terminal, on stderr.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{Context, units};

/// Time between two updates.
const EVERY: Duration = Duration::from_millis(100);

/// Counts frames and bytes, and shows them if stderr is a terminal.
pub(crate) struct Progress {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    start: Instant,
    shown: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `total` is the number of bytes to come, if known. Nothing is shown if the other side of the
    /// transfer is the terminal.
    pub(crate) fn new(context: &Context, total: Option<u64>, data_is_on_terminal: bool) -> Self {
        let start = Instant::now();
        let visible = !context.quiet && !data_is_on_terminal && io::stderr().is_terminal();
        let bar = visible.then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let template = if total.is_some() { "{wide_bar} {percent:>3} %  {msg}" } else { "{spinner} {msg}" };
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Progress { frames: 0, bytes: 0, start, shown: start, bar }
    }

    /// Adds what has been transferred since the last call.
    pub(crate) fn add(&mut self, frames: u64, bytes: u64) {
        self.frames += frames;
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            let now = Instant::now();
            if now - self.shown >= EVERY {
                self.shown = now;
                let seconds = (now - self.start).as_secs_f64();
                let (frames, bytes) = (units::count(self.frames as f64), units::bytes(self.bytes));
                let rate = units::bytes((self.bytes as f64 / seconds) as u64);
                bar.set_position(self.bytes);
                bar.set_message(format!("{frames}frames  {bytes}  {rate}/s"));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
