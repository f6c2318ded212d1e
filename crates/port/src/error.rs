//! Why a port cannot be opened.

use std::io;
use std::path::PathBuf;

use capture::CaptureError;
use memif::{BindError, ClientError, OptionsError};
use shmbus::MacAddr6;

/// Why a port cannot be opened. Nothing is open then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Two ports read stdin, or two write stdout.
    #[error("two ports cannot share {0}: give one of them a file")]
    SharedStandard(&'static str),
    /// A bus is joined to itself.
    #[error(
        "cannot join {} to itself ({}): frames would go round for ever",
        ours.display(),
        theirs.display()
    )]
    JoinsItself {
        /// The node's bus.
        ours: PathBuf,
        /// Another path to it.
        theirs: PathBuf,
    },
    /// Two ports lead to one bus.
    #[error("{} is joined to {} twice: frames would go round for ever", theirs.display(), ours.display())]
    JoinedTwice {
        /// The node's bus.
        ours: PathBuf,
        /// The other bus.
        theirs: PathBuf,
    },
    /// A node of another process joins the two buses.
    #[error(
        "process {pid} joins {} and {} already: frames would go round for ever; end it first",
        ours.display(),
        theirs.display()
    )]
    JoinedElsewhere {
        /// The node's bus.
        ours: PathBuf,
        /// The other bus.
        theirs: PathBuf,
        /// The other process.
        pid: u32,
    },
    /// A bus cannot be opened, made or joined.
    #[error("{0}")]
    Bus(#[from] shmbus::OpenError),
    /// A pcap port has no file.
    #[error("a pcap port needs a capture to play or to write")]
    NoCapture,
    /// A capture is both played and written.
    #[error("{} is to be played and to be written: name two files", .0.display())]
    SameCapture(PathBuf),
    /// A capture cannot be played or written.
    #[error("{attempt}")]
    Capture {
        /// What was tried, such as `cannot play a.pcap`.
        attempt: String,
        /// What is wrong.
        source: CaptureProblem,
    },
    /// The kernel's TAP interface cannot be opened.
    #[error("{0}")]
    Tap(#[from] tapdev::OpenError),
    /// The TAP interface does not take its address.
    #[error("cannot give {name} the address {mac}")]
    TapAddress {
        /// The interface.
        name: String,
        /// The address.
        mac: MacAddr6,
        /// What the system said.
        source: io::Error,
    },
    /// A memif socket cannot listen.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The options of a memif client do not go together.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The options of a memif server's interface do not go together, or its id is taken.
    #[error("{port}")]
    Options {
        /// The port.
        port: String,
        /// What is wrong.
        source: OptionsError,
    },
    /// A system call failed.
    #[error("{attempt}")]
    System {
        /// What was tried, or the port it was tried for.
        attempt: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureProblem {
    /// The path names a folder.
    #[error("it is a folder")]
    Folder,
    /// The path names the bus.
    #[error("it is the bus itself")]
    Bus,
    /// The file exists and was to be new.
    #[error("it is there; in={path} plays it, out={path} writes it anew", path = .0.display())]
    Exists(PathBuf),
    /// The file is no capture.
    #[error("{0}")]
    Format(#[from] CaptureError),
    /// The capture to play cannot be opened.
    #[error("{0}")]
    Open(io::Error),
    /// The capture to write cannot be made, or a system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl PortError {
    /// Returns whether the same call fails again until something else is asked for: wrong use or configuration, and not a
    /// full disk or a socket of a process that may end. The cause of [`Bus`](Self::Bus) says so for itself.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::SharedStandard(_)
            | Self::JoinsItself { .. }
            | Self::JoinedTwice { .. }
            | Self::JoinedElsewhere { .. }
            | Self::NoCapture
            | Self::SameCapture(_)
            | Self::Client(_)
            | Self::Options { .. } => true,
            Self::Capture { source: CaptureProblem::System(error), .. } => !is_passing(error),
            Self::Capture { .. } => true,
            Self::Tap(error) => !matches!(error, tapdev::OpenError::System { .. }),
            Self::Bind(BindError::System { source, .. }) => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Bind(_) => true,
            Self::Bus(_) | Self::TapAddress { .. } | Self::System { .. } => false,
        }
    }

    pub(crate) fn system(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { attempt: attempt.into(), source: source.into() }
    }
}

/// Returns whether an error of the system may be gone the next time, although the same is asked for.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Other, OutOfMemory, QuotaExceeded, StorageFull};
    matches!(error.kind(), Other | OutOfMemory | QuotaExceeded | StorageFull)
}
