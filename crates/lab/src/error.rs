//! What can go wrong with a lab.

use std::io;
use std::path::{Path, PathBuf};

use crate::file::FileError;
use crate::parts::HostError;

/// Why a lab cannot be started or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// What describes the lab is wrong.
    #[error(transparent)]
    Plan(#[from] FileError),
    /// No lab can have this name.
    #[error(
        "'{0}' is no name of a lab: it has up to 64 letters, digits, '-', '_' and '.', and begins with a letter or a digit"
    )]
    BadName(String),
    /// It is not clear which machine's part is meant.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A lab of this name is up.
    #[error("the lab {0} is up already; 'busctl lab down {0}' ends it")]
    IsUp(String),
    /// No lab of this name is up.
    #[error("no lab {0} is up")]
    NotUp(String),
    /// The supervisor has ended at once; it has said why.
    #[error("the lab was not started")]
    NotStarted,
    /// A file or folder cannot be used.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system refuses something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The namespaces of the lab cannot be made.
    #[error("cannot make the namespaces of the lab: {source}")]
    Namespaces {
        /// The system's error, from which the setting can be told that denies them.
        source: io::Error,
    },
    /// The supervisor cannot be reached, or does not answer.
    #[error("cannot reach the lab {name}: {source}")]
    Unreachable {
        /// The name of the lab.
        name: String,
        /// The system's error.
        source: io::Error,
    },
    /// The lab cannot do it, in words for a user.
    #[error("{0}")]
    Refused(String),
}

/// Returns what makes an error of one about a file.
pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { what, path, source }
}

/// Returns what makes an error of one of the system.
pub(crate) fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> LabError {
    let what = what.into();
    move |source| LabError::System { what, source: source.into() }
}
