//! Progress of the demo: a bar on a terminal, else a line for each step.

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Shown on stderr.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        // The template is constant and valid.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows that the next step begins.
    pub(super) fn step(&self, what: &str) {
        if self.0.is_hidden() {
            output::note(&format!("demo: {what}"));
        } else {
            self.0.inc(1);
            self.0.set_message(what.to_owned());
        }
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Progress {
    /// Clears the bar, so that no error is printed into it.
    fn drop(&mut self) {
        self.finish();
    }
}
