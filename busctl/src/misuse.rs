//! Errors of the command line: the mark for wrong use or configuration, and an error as one
//! sentence.

use std::error::Error as StdError;
use std::fmt;

use shmbus::{Busy, LockFound, OpenError};

/// Marks an error as wrong use or configuration: exit code 2. It reads as the error it holds.
pub(crate) struct Misuse(anyhow::Error);

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
pub(crate) fn misuse(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Misuse(error.into()))
}

/// `.misuse()` on a result, for errors that stand for wrong use or configuration.
pub(crate) trait OrMisuse<T> {
    /// Marks the error, if there is one, as wrong use or configuration.
    ///
    /// # Errors
    /// The marked error.
    fn misuse(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> OrMisuse<T> for Result<T, E> {
    fn misuse(self) -> anyhow::Result<T> {
        self.map_err(misuse)
    }
}

/// Returns an error and its causes, outermost first, with colons between. An error that quotes its
/// cause and also has it as its source names it once.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = without_number(cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.to_lowercase().contains(&text.to_lowercase()) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

/// Returns ` ('busctl VERB' does)`, with the verb that does what the text of the library asks for,
/// if it asks for something.
pub(crate) fn remedy(error: &(dyn StdError + 'static)) -> String {
    let verb = std::iter::successors(Some(error), |&cause| cause.source()).find_map(|cause| {
        if matches!(cause.downcast_ref(), Some(Busy::Unknown { .. })) {
            return Some("repair");
        }
        match cause.downcast_ref()? {
            OpenError::Uninitialised { .. } => Some("linkstr"),
            OpenError::Corrupt { lock: LockFound::Unknown, .. } => Some("repair"),
            error @ OpenError::WrongVersion { .. } if !error.can_be_dumped() => {
                Some("repair --force")
            }
            _ => None,
        }
    });
    verb.map_or_else(String::new, |verb| format!(" ('busctl {verb}' does)"))
}

/// Returns the error as one sentence, with what to do about it.
pub(crate) fn trouble(error: &anyhow::Error) -> String {
    sentence(error) + &remedy(error.as_ref())
}

/// Removes the number from "No such file or directory (os error 2)": it tells the user nothing
/// more.
pub(crate) fn without_number(mut text: String) -> String {
    if let Some(start) = text.find(" (os error ")
        && let Some(length) = text[start..].find(')')
    {
        text.replace_range(start..=start + length, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_marked_error_reads_as_the_error_it_holds() {
        let inner = anyhow!("permission denied").context("cannot open the bus");
        let outer = Err::<(), _>(inner).misuse().context("shmif0").unwrap_err();
        assert_eq!(format!("{outer:#}"), "shmif0: cannot open the bus: permission denied");
        assert!(outer.chain().any(<dyn StdError>::is::<Misuse>));
    }

    #[test]
    fn a_cause_is_said_once_and_without_its_number() {
        let cause = || io::Error::from_raw_os_error(2);
        let quoted =
            anyhow::Error::new(cause()).context("cannot open x: no such file or directory");
        assert_eq!(sentence(&quoted), "cannot open x: no such file or directory");
        let inside = anyhow::Error::msg(format!("cannot open x: {}; do y", cause()));
        assert_eq!(sentence(&inside), "cannot open x: No such file or directory; do y");
        let plain = anyhow::Error::new(cause()).context("cannot open x");
        assert_eq!(sentence(&plain), "cannot open x: No such file or directory");
    }
}
