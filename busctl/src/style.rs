//! The styles of text on a terminal. Everywhere else, and with `$NO_COLOR` or the like, text is
//! plain.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// The styles of one stream; write `{style}text{style:#}`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Palette {
    /// The subject of a line or a paragraph.
    pub(crate) name: Style,
    /// A good state.
    pub(crate) good: Style,
    /// A bad state.
    pub(crate) bad: Style,
    /// The word before an error.
    pub(crate) error: Style,
    /// The word before a warning.
    pub(crate) warning: Style,
    /// Of less interest.
    pub(crate) faint: Style,
}

impl Palette {
    /// Returns the styles that this stream can show.
    pub(crate) fn of<S: RawStream>(stream: &S) -> Self {
        // Never into a pipe, even when colours are forced: programs read there.
        if stream.is_terminal() && AutoStream::choice(stream) != ColorChoice::Never {
            Self::colours()
        } else {
            Self::default()
        }
    }

    fn colours() -> Self {
        Self {
            name: Style::new().bold(),
            good: AnsiColor::Green.on_default(),
            bad: AnsiColor::Red.on_default(),
            error: AnsiColor::Red.on_default().bold(),
            warning: AnsiColor::Yellow.on_default().bold(),
            faint: Style::new().dimmed(),
        }
    }

    /// Returns the style for the words `up` and `down`.
    pub(crate) fn state(&self, word: &str) -> Style {
        match word {
            "up" => self.good,
            "down" => self.bad,
            _ => Style::new(),
        }
    }
}
