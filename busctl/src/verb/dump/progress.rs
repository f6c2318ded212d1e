//! Progress of a long dump, on a terminal that does not show the frames themselves.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::Args;
use super::outputs::is_stdout;
use crate::output;
use crate::stderr;

/// How often the line is redrawn.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line on stderr; hidden where that is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    began: Instant,
    next: Instant,
}

impl Progress {
    pub(super) fn new(args: &Args) -> Self {
        let text_on_terminal = if args.write.as_deref().is_some_and(is_stdout) {
            !args.is_silent()
        } else {
            !args.is_silent() && io::stdout().is_terminal()
        };
        let bar = if text_on_terminal || !args.follows() {
            ProgressBar::hidden()
        } else {
            ProgressBar::no_length()
        };
        // The template is constant and valid.
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {spinner} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self { bar, began: now, next: now }
    }

    /// Shows how many frames were dumped so far.
    pub(super) fn show(&mut self, frames: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        if now >= self.next {
            self.next = now + INTERVAL;
            let seconds = now.duration_since(self.began).as_secs_f64().max(INTERVAL.as_secs_f64());
            self.bar.set_message(format!(
                "{} frames, {:.0}/s",
                HumanCount(frames),
                frames as f64 / seconds
            ));
            self.bar.tick();
        }
    }

    /// Prints a warning above the line.
    pub(super) fn warn(&self, message: &str) {
        self.bar.suspend(|| {
            output::warn(message);
            stderr::flush();
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
