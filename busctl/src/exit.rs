//! From an error to one line on stderr and an exit code.
//!
//! A line reads `busctl: what happened: why; what to do`. The exit code is 1 when it did not work
//! this time (no reply, peer gone, disk full, lock held), and 2 when it cannot work like this
//! (wrong use, a bad file, no permission) and nothing was changed. An error means 1 unless it is
//! marked as [`Misuse`]; the errors of the registry, of ports and of opening a bus know which they
//! are.

use std::error::Error as StdError;
use std::io;
use std::process::ExitCode;

use capture::FilterError;
use port::PortError;
use shmbus::OpenError;

use crate::misuse::{Misuse, remedy, sentence};
use crate::output;
use crate::registry::RegistryError;

/// Prints what went wrong and returns the exit code. A reader of stdout that has gone is no error:
/// it has seen enough.
#[must_use]
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(output::is_reader_gone) {
        return ExitCode::SUCCESS;
    }
    output::error(&(sentence(error) + &advice(error)));
    if let Some(marked) = error.chain().find_map(marked) {
        output::marked(&marked);
    }
    ExitCode::from(if error.chain().any(is_misuse) { 2 } else { 1 })
}

/// Returns what to do about an error that does not say it itself.
fn advice(error: &anyhow::Error) -> String {
    if error.chain().any(is_file_too_large) {
        return "; 'ulimit -f' limits the size of files".to_owned();
    }
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

/// Returns the lines that show the place of a mistake.
fn marked(cause: &(dyn StdError + 'static)) -> Option<[String; 2]> {
    cause.downcast_ref().and_then(FilterError::marked)
}

fn is_misuse(cause: &(dyn StdError + 'static)) -> bool {
    cause.is::<Misuse>()
        || cause.is::<FilterError>()
        || cause.downcast_ref::<RegistryError>().is_some_and(RegistryError::is_misuse)
        || cause.downcast_ref::<OpenError>().is_some_and(is_open_misuse)
        || cause.downcast_ref::<PortError>().is_some_and(PortError::is_misuse)
}

fn is_file_too_large(cause: &(dyn StdError + 'static)) -> bool {
    let is_it = |error: &io::Error| error.kind() == io::ErrorKind::FileTooLarge;
    match cause.downcast_ref() {
        Some(RegistryError::File { cause, .. }) => is_it(cause),
        _ => cause.downcast_ref().is_some_and(is_it),
    }
}

/// Returns whether opening a bus failed for a lasting reason, and not because of a lock or a full
/// disk.
fn is_open_misuse(error: &OpenError) -> bool {
    match error {
        OpenError::Busy { .. } | OpenError::NoRoom { .. } => false,
        OpenError::Io { source, .. } => !port::is_passing(source),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shmbus::{Busy, SendError};

    use super::*;

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
            anyhow::Error::new(io::Error::new(io::ErrorKind::BrokenPipe, output::ReaderGone))
                .context("dump");
        assert!(stdout.chain().any(output::is_reader_gone));
    }
}
