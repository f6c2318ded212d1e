//! Answers on stdout, and lines for people on stderr.
//!
//! `println!` panics when the reader of stdout has gone. The default action of `SIGPIPE` would also
//! let a memif peer that hangs up kill a whole node. So the signal stays ignored (as Rust starts a
//! program), and a write to a closed stdout returns an error that is marked as stdout's: only that
//! one ends the program quietly.

use std::fs::File;
use std::io::{self, Write};

use anstyle::Style;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use port::{Reporter, Severity};
use serde::Serialize;

use crate::misuse::without_number;
use crate::process::name::{program, renamed};
use crate::stderr;
use crate::style::Palette;

/// Stdout with its broken pipe marked, see [`stdout`].
#[derive(Debug)]
pub(crate) struct Stdout(io::Stdout);

/// Returns stdout for answers. Use it with `writeln!(output::stdout(), ..)?` instead of `println!`.
#[must_use]
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout())
}

/// The reader of stdout has gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the reader of stdout is gone")]
pub(crate) struct ReaderGone;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| mark(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| mark(&error))
    }
}

/// Names stdout in the error, and marks its broken pipe.
pub(crate) fn mark(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    }
}

/// Returns whether this is the error of a [`Stdout`] whose reader has gone, and not the broken pipe
/// of a socket.
#[must_use]
pub(crate) fn is_reader_gone(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ReaderGone>)
}

/// Prints `answer` as one line of JSON: the form of every `--json`. Keys are the field names, which
/// never change once they are released; numbers are plain and in base units (bytes, frames, seconds
/// unless the key names another).
///
/// # Errors
/// When stdout cannot be written to.
pub(crate) fn print_json(answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stdout().write_all(&line)
}

/// Hands the standard streams back at the end of the process. A child process of the memif library
/// that a peer keeps from ending shares them, and must not keep their readers waiting.
pub(crate) fn close_standard_streams() {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        // A stream that is not open is closed already.
        let _ = dup2_stdout(&null);
        let _ = dup2_stderr(&null);
        let _ = dup2_stdin(&null);
    }
}

/// Prints `busctl: warning: {message}` on stderr, with the name that the program was called by, without waiting for its reader.
pub(crate) fn warn(message: impl std::fmt::Display) {
    let Palette { name, warning, .. } = Palette::of(&io::stderr());
    let message = without_number(message.to_string());
    let (program, message) = (program(), renamed(&message));
    stderr::print(
        format!("{name}{program}:{name:#} {warning}warning:{warning:#} {message}\n").into_bytes(),
    );
}

/// Prints `busctl: {message}` on stderr, in one line, about a verb that continues.
pub(crate) fn note(message: &str) {
    print_line(Palette::of(&io::stderr()).name, message);
}

/// Prints `busctl: {message}` on stderr, in one line, about the error that ends a verb.
pub(crate) fn error(message: &str) {
    print_line(Palette::of(&io::stderr()).error, message);
}

/// Prints two lines without control characters on stderr, indented, below an error: a text, and
/// marks below it.
pub(crate) fn marked([text, marks]: &[String; 2]) {
    stderr::print(format!("  {text}\n  {marks}\n").into_bytes());
}

/// Returns a reporter for the libraries, which prints as [`note`] and [`warn`] do.
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

fn print_line(style: Style, message: &str) {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (program, line) = (program(), renamed(&line));
    stderr::print(format!("{style}{program}:{style:#} {line}\n").into_bytes());
}
