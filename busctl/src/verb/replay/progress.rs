//! How far the replay has come, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Bytes of a frame's header in a capture, about.
const FRAME_HEADER: u64 = 16;

/// A bar on stderr; nothing where that is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `size` bytes of capture are to be played, as far as is known.
    pub(super) fn new(size: Option<u64>) -> Self {
        let (bar, template) = match size {
            Some(size) => (ProgressBar::new(size), "{elapsed} {wide_bar} {msg}, {eta} to go"),
            None => (ProgressBar::no_length(), "{elapsed} {spinner} {msg}"),
        };
        // The template is a constant, and is one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So many frames with so many bytes went out.
    pub(super) fn advance(&self, frames: usize, bytes: u64) {
        self.0.inc(bytes + frames as u64 * FRAME_HEADER);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
