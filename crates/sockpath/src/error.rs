//! Why a socket gets no path.

use std::io;
use std::path::PathBuf;

/// Why a socket cannot be bound to a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process uses the socket there.
    #[error("another process uses it; end that process, or choose another path")]
    InUse,
    /// A file that is no socket has the path.
    #[error("a file that is no socket is in its place")]
    NotASocket,
    /// A dead socket of another user has the path, and this user may not remove it.
    #[error("the socket there belongs to user {0}; choose another path")]
    OtherUser(u32),
    /// The folder of the path does not exist.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// The path, or its folder with a short temporary name, does not fit into a socket address.
    #[error("the path is too long for a socket; choose a shorter one")]
    TooLong,
    /// Another process of this user has held its turn in the folder for 2 s.
    #[error(
        "another process of this user has been making a socket in {} for 2 s; is it stopped?",
        .0.display()
    )]
    Locked(PathBuf),
    /// A system call failed.
    #[error("{step} failed")]
    System {
        /// What failed.
        step: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Error {
    /// Returns the error of a step that a system call failed in.
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { step, source: source.into() }
    }
}
