//! Progress of the replay, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Bytes of a frame's header in a capture, approximately.
const FRAME_HEADER: u64 = 16;

/// How often the message is updated.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar on stderr; hidden where that is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    frames: u64,
    updated: Option<Instant>,
}

impl Progress {
    /// Makes a bar for `size` bytes of capture, or a spinner when the size is unknown.
    pub(super) fn new(size: Option<u64>) -> Self {
        let (bar, template) = match size {
            Some(size) => (ProgressBar::new(size), "{elapsed} {wide_bar} {msg}, {eta} to go"),
            None => (ProgressBar::no_length(), "{elapsed} {spinner} {msg}"),
        };
        // The template is constant and valid.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, frames: 0, updated: None }
    }

    /// Adds frames that were sent, with their bytes.
    pub(super) fn advance(&mut self, frames: usize, bytes: u64) {
        if self.bar.is_hidden() {
            return;
        }
        self.frames += frames as u64;
        if self.updated.is_none_or(|updated| updated.elapsed() >= INTERVAL) {
            self.updated = Some(Instant::now());
            self.bar.set_message(format!("{} frames", HumanCount(self.frames)));
        }
        self.bar.inc(bytes + frames as u64 * FRAME_HEADER);
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    /// Clears the bar, so that no error is printed into it.
    fn drop(&mut self) {
        self.finish();
    }
}
