//! How text looks on a terminal. Everywhere else, and where `$NO_COLOR` or the like says so, it is plain.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// The styles of one stream; write `{style}text{style:#}`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Palette {
    /// What a line or a paragraph is about.
    pub(crate) name: Style,
    /// As it should be.
    pub(crate) good: Style,
    /// Not as it should be.
    pub(crate) bad: Style,
    /// The word before an error.
    pub(crate) error: Style,
    /// The word before a warning.
    pub(crate) warning: Style,
    /// Of less interest.
    pub(crate) faint: Style,
}

impl Palette {
    /// What this stream can show.
    pub(crate) fn of<S: RawStream>(stream: &S) -> Self {
        // Not into a pipe either when somebody forces colours: programs read there.
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

    /// For something that is up or down.
    pub(crate) fn state(&self, word: &str) -> Style {
        match word {
            "up" => self.good,
            "down" => self.bad,
            _ => Style::new(),
        }
    }
}
