//! The way to stdout, for programs that read it through a pipe.
//!
//! `println!` panics when the reader has gone. Taking the default action for `SIGPIPE` instead would also let a memif peer
//! that hangs up kill a whole node, so the signal stays ignored (as Rust starts a program) and a write to a closed stdout
//! comes back as an error that says whose pipe it was: only that one ends the program quietly.

use std::io::{self, Write};

use anstyle::Style;
use port::{Reporter, Severity};
use serde::Serialize;

use crate::style::Palette;

/// Stdout, with its broken pipe marked. Made by [`stdout`].
#[derive(Debug)]
pub(crate) struct Stdout(io::Stdout);

/// Stdout for answers: use it with `writeln!(output::stdout(), ..)?` instead of `println!`.
#[must_use]
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout())
}

/// The reader of stdout has gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody reads stdout any more")]
pub(crate) struct ReaderGone;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| mark(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| mark(&error))
    }
}

/// Says that it is stdout that failed, and marks its broken pipe.
fn mark(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    }
}

/// Whether this is the error of a [`Stdout`] whose reader has gone (and not the broken pipe of some socket).
#[must_use]
pub(crate) fn is_reader_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ReaderGone>)
}

/// Prints `answer` as one line of JSON: the form of every `--json`. Keys are the field names, which stay as they are once
/// released; numbers are plain and in base units (bytes, frames, seconds unless the key says otherwise).
///
/// # Errors
/// Whatever writing to stdout gives.
pub(crate) fn print_json(answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stdout().write_all(&line)
}

/// Prints `busctl: warning: {message}` on stderr. Nothing is to be done when that fails.
pub(crate) fn warn(message: impl std::fmt::Display) {
    let Palette { name, warning, .. } = Palette::of(&io::stderr());
    let message = without_number(message.to_string());
    let _ = writeln!(io::stderr(), "{name}busctl:{name:#} {warning}warning:{warning:#} {message}");
}

/// Prints `busctl: {message}` on stderr, in one line: what happens to a verb that goes on. Nothing is to be done when that
/// fails.
pub(crate) fn note(message: &str) {
    say(Palette::of(&io::stderr()).name, message);
}

/// The same for what a verb ends with because it went wrong.
pub(crate) fn error(message: &str) {
    say(Palette::of(&io::stderr()).error, message);
}

/// Where the libraries report: notes and warnings as [`note`] and [`warn`] print them.
#[must_use]
pub(crate) fn reporter() -> Reporter {
    Reporter::new(|severity, line| {
        // The libraries say what to do, this program says how.
        let remedy = if line.ends_with("repair the bus") { " ('busctl repair' does)" } else { "" };
        match severity {
            Severity::Warning => warn(format_args!("{line}{remedy}")),
            Severity::Note => note(&format!("{line}{remedy}")),
        }
    })
}

fn say(style: Style, message: &str) {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(io::stderr(), "{style}busctl:{style:#} {line}");
}

/// "No such file or directory (os error 2)": the number says nothing more to the user.
pub(crate) fn without_number(mut text: String) -> String {
    if let Some(start) = text.find(" (os error ")
        && let Some(length) = text[start..].find(')')
    {
        text.replace_range(start..=start + length, "");
    }
    text
}
