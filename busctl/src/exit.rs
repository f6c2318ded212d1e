//! From an error to one line on stderr and an exit code.
//!
//! A line reads `busctl: what happened: why; what to do`. The code tells a script what kind of trouble it is: 1 when it did
//! not work this time (no reply, peer gone, disk full, lock held), 2 when it cannot work like this (wrong use, a bad file, no
//! permission) and nothing was changed. Errors stand for 1, except those of the registry and of opening a bus, which know what
//! they are, and what is marked as [`Misuse`].

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::process::ExitCode;

use shmbus::{Busy, OpenError};

use crate::registry::RegistryError;
use crate::{bus_file, cli, output};

/// Marks an error as wrong use or configuration: exit code 2. It reads as the error it holds.
pub struct Misuse(anyhow::Error);

impl fmt::Debug for Misuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl StdError for Misuse {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// Marks `error` as wrong use or configuration: `return Err(misuse(anyhow!("..")))`.
pub fn misuse(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Misuse(error.into()))
}

/// `.misuse()` on a result, for errors that stand for wrong use or configuration.
pub trait OrMisuse<T> {
    /// Marks the error, if it is one, as wrong use or configuration.
    ///
    /// # Errors
    /// The error it was called on, marked.
    fn misuse(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrMisuse<T> for Result<T, E> {
    fn misuse(self) -> anyhow::Result<T> {
        self.map_err(misuse)
    }
}

/// Prints what went wrong and says which code to exit with. A reader of stdout that has gone is no error: it has seen enough.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(output::is_reader_gone) {
        return ExitCode::SUCCESS;
    }
    output::error(&(sentence(error) + &advice(error)));
    ExitCode::from(if error.chain().any(is_misuse) { 2 } else { 1 })
}

/// The errors from the outermost to its first cause, with colons between. Some errors name their cause in their own words
/// and also have it as their source: it is said once.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = output::without_number(cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.to_lowercase().contains(&text.to_lowercase()) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

/// What to do about an error that cannot tell by itself.
fn advice(error: &anyhow::Error) -> String {
    let missing = error.chain().find_map(|cause| match cause.downcast_ref()? {
        OpenError::Io { path, source } if source.kind() == io::ErrorKind::NotFound => Some(path),
        _ => None,
    });
    let Some(path) = missing else { return remedy(error.as_ref()) };
    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Some(folder) => format!("; there is no folder {}", folder.display()),
        None => "; 'busctl linkstr', 'busctl host' and 'busctl attach' make a bus".to_owned(),
    }
}

/// The verb that does what the library's text asks for, if it asks for something.
pub(crate) fn remedy(error: &(dyn StdError + 'static)) -> String {
    let verb = std::iter::successors(Some(error), |&cause| cause.source()).find_map(|cause| {
        let blank = matches!(cause.downcast_ref(), Some(OpenError::Uninitialised { .. }));
        let unknown = matches!(cause.downcast_ref(), Some(Busy::Unknown { .. }));
        blank.then_some("linkstr").or(unknown.then_some("repair"))
    });
    verb.map_or_else(String::new, |verb| format!(" ('busctl {verb}' does)"))
}

fn is_misuse(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<Misuse>()
        || cause.downcast_ref::<RegistryError>().is_some_and(RegistryError::is_misuse)
        || cause.downcast_ref::<OpenError>().is_some_and(bus_file::is_misuse)
}

/// Answers `--help` and `--version`, and brings a wrong command line into the form of every other error.
#[must_use]
pub fn report_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        // A closed pipe is all that can go wrong here, and a quiet end is right for that.
        let _ = error.print();
    } else {
        output::error(&usage_line(&error.to_string(), called()));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The verb that this process was called with, if the command line has got that far.
fn called() -> String {
    let mut command = cli::command();
    let mut called = command.get_name().to_owned();
    for word in std::env::args_os().skip(1) {
        if let Some(verb) = command.find_subcommand(&word).cloned() {
            called = format!("{called} {}", verb.get_name());
            command = verb;
        }
    }
    called
}

/// clap explains itself in a paragraph: the error, tips, the usage. This keeps the error and the tips, and points to the rest. It
/// does not always say which verb it is about: else that is `program`.
fn usage_line(paragraph: &str, mut program: String) -> String {
    let mut what = Vec::new();
    let mut tips = Vec::new();
    for line in paragraph.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words =
                usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
            program = words.collect::<Vec<_>>().join(" ");
        }
        if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => tips.push(tip),
            None => what.push(line.strip_prefix("error: ").unwrap_or(line)),
        }
    }
    let help = format!("see '{program} --help'");
    tips.push(&help);
    format!("{}; {}", what.join(" "), tips.join("; "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Context as _, anyhow};
    use shmbus::SendError;

    use super::*;

    #[test]
    fn a_marked_error_reads_as_the_error_it_holds() {
        let inner = anyhow!("permission denied").context("cannot open the bus");
        let outer = Err::<(), _>(inner).misuse().context("shmif0").unwrap_err();
        assert_eq!(format!("{outer:#}"), "shmif0: cannot open the bus: permission denied");
        assert!(outer.chain().any(is_misuse));
    }

    #[test]
    fn a_cause_is_said_once_and_without_its_number() {
        let cause = || io::Error::from_raw_os_error(2);
        let quoted = anyhow::Error::new(cause()).context("cannot open x: no such file or directory");
        assert_eq!(sentence(&quoted), "cannot open x: no such file or directory");
        let inside = anyhow::Error::msg(format!("cannot open x: {}; do y", cause()));
        assert_eq!(sentence(&inside), "cannot open x: No such file or directory; do y");
        let plain = anyhow::Error::new(cause()).context("cannot open x");
        assert_eq!(sentence(&plain), "cannot open x: No such file or directory");
    }

    #[test]
    fn the_library_says_what_to_do_and_this_program_says_how() {
        let lines = |error: anyhow::Error| sentence(&error) + &advice(&error);
        let blank = OpenError::Uninitialised { path: "lan".into() };
        let line = lines(anyhow::Error::new(blank).context("shmif0"));
        assert_eq!(
            line,
            "shmif0: lan is not a bus yet: it is empty; create it first ('busctl linkstr' does)"
        );
        let busy = || Busy::Unknown { waited: Duration::from_secs(2) };
        let held = "an unknown owner has held the lock for 2000 ms; if it is dead, repair the bus ('busctl repair' does)";
        let join = OpenError::Busy { path: "lan".into(), source: busy() };
        assert_eq!(lines(join.into()), format!("cannot join bus lan: {held}"));
        let send = SendError::Busy { sent: 0, source: busy() };
        assert_eq!(lines(send.into()), format!("the bus is busy: {held}"));
    }

    #[test]
    fn only_the_broken_pipe_of_stdout_is_quiet() {
        let socket = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!socket.chain().any(output::is_reader_gone));
        let stdout =
            anyhow::Error::new(io::Error::new(io::ErrorKind::BrokenPipe, output::ReaderGone)).context("dump");
        assert!(stdout.chain().any(output::is_reader_gone));
    }

    #[test]
    fn a_usage_error_is_one_line() {
        let paragraph = "error: unrecognized subcommand 'creat'\n\n  tip: a similar subcommand exists: 'create'\n\n\
                         Usage: busctl [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(paragraph, "busctl".to_owned()),
            "unrecognized subcommand 'creat'; a similar subcommand exists: 'create'; see 'busctl --help'"
        );
        let of_a_verb =
            "error: unexpected argument '--jsn' found\n\nUsage: busctl show --json <IFNAME|BUSPATH>\n";
        assert_eq!(
            usage_line(of_a_verb, "busctl".to_owned()),
            "unexpected argument '--jsn' found; see 'busctl show --help'"
        );
        let of_a_value =
            "error: invalid value 'x' for '<IFNAME>': no\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(of_a_value, "busctl show".to_owned()),
            "invalid value 'x' for '<IFNAME>': no; see 'busctl show --help'"
        );
    }
}
