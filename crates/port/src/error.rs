//! Why a port cannot be opened, and why a text describes no port.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use capture::CaptureError;
use memif::{BindError, ClientError, OptionsError};
use netif::NetifError;
use nix::errno::Errno;
use shmbus::MacAddr6;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// Two ports read stdin, or two write to stdout.
    #[error("two ports cannot share {0}: give one of them a file")]
    SharedStandard(&'static str),
    /// A `bus:` port leads to its own bus.
    #[error(
        "cannot join {} to itself ({}): frames would go round for ever",
        ours.display(),
        theirs.display()
    )]
    JoinsItself {
        /// The node's bus.
        ours: PathBuf,
        /// Another path to the same bus.
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
    /// A node of another process joins the two buses already.
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
    /// The other bus of a `bus:` port cannot be opened, made or joined.
    #[error("{0}")]
    Bus(#[from] shmbus::OpenError),
    /// A pcap port has neither a capture to play nor one to write.
    #[error("a pcap port needs a capture to play or to write")]
    NoCapture,
    /// A pcap port plays and writes the same capture.
    #[error("{} is to be played and to be written: name two files", .0.display())]
    SameCapture(PathBuf),
    /// A capture cannot be played or written.
    #[error("{attempt}")]
    Capture {
        /// What failed, such as `cannot play a.pcap`.
        attempt: String,
        /// What is wrong.
        source: CaptureProblem,
    },
    /// The kernel's TAP interface cannot be opened.
    #[error("{0}")]
    Tap(#[from] tapdev::OpenError),
    /// A TAP interface has more queues than threads serve ports.
    #[error(
        "{name} is to have {queues} queues, and a thread serves each, but there are {threads}: give --threads {queues}, \
         or fewer queues"
    )]
    FewThreads {
        /// The interface.
        name: String,
        /// How many queues it is to have.
        queues: u16,
        /// How many threads there are.
        threads: usize,
    },
    /// The TAP interface does not accept its address.
    #[error("cannot give {name} the address {mac}")]
    TapAddress {
        /// The interface.
        name: String,
        /// The address.
        mac: MacAddr6,
        /// The system's error.
        source: io::Error,
    },
    /// The TAP interface cannot be set up, or its network namespace not be entered.
    #[error("{0}")]
    Interface(#[from] NetifError),
    /// A memif socket cannot listen.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The options of a memif client contradict each other.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The options of a memif server's interface contradict each other, or its id is taken.
    #[error("{port}")]
    Options {
        /// The port.
        port: String,
        /// What is wrong.
        source: OptionsError,
    },
    /// A socket cannot listen.
    #[error("cannot listen on {socket}")]
    Socket {
        /// Its address.
        socket: String,
        /// What is wrong.
        source: SocketFileError,
    },
    /// Frames cannot pass through a descriptor.
    #[error("{port}")]
    Descriptor {
        /// The port.
        port: String,
        /// What is wrong.
        source: DescriptorError,
    },
    /// The program has no trunk ports.
    #[error(
        "this program was built without trunk ports, which take Zenoh; build it with them: cargo \
         install --path busctl --features trunk"
    )]
    NoTrunks,
    /// The settings of a trunk are not what Zenoh takes.
    #[error("{port}: {problem}")]
    Trunk {
        /// The port.
        port: String,
        /// What is wrong.
        problem: String,
    },
    /// A system call failed.
    #[error("{attempt}")]
    System {
        /// What failed, or the port it failed for.
        attempt: String,
        /// The system's error.
        source: io::Error,
    },
}

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureProblem {
    /// The path leads to a folder.
    #[error("it is a folder")]
    Folder,
    /// The path leads to the bus.
    #[error("it is the bus itself")]
    Bus,
    /// The file exists, and `file=` writes new files only.
    #[error("it exists; in={path} plays it, out={path} overwrites it", path = .0.display())]
    Exists(PathBuf),
    /// The file is not a capture.
    #[error("{0}")]
    Format(#[from] CaptureError),
    /// The capture to play cannot be opened.
    #[error("{0}")]
    Open(io::Error),
    /// The capture to write cannot be made.
    #[error("{0}")]
    Create(io::Error),
    /// A system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Why a socket cannot be bound to its address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// Another process uses the address.
    #[error("another process uses it; end that process, or choose another path")]
    InUse,
    /// The socket cannot get its path.
    #[error("{0}")]
    Path(sockpath::Error),
    /// A system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<sockpath::Error> for SocketFileError {
    fn from(error: sockpath::Error) -> Self {
        match error {
            sockpath::Error::InUse => Self::InUse,
            sockpath::Error::System { source, .. } => Self::System(source),
            error => Self::Path(error),
        }
    }
}

impl From<Errno> for SocketFileError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Why frames cannot pass through a descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// No such descriptor was handed to this process.
    #[error("this process was started without descriptor {0}")]
    NotInherited(RawFd),
    /// The descriptor is neither a socket nor a pipe.
    #[error("descriptor {0} is neither a socket nor a pipe")]
    WrongKind(RawFd),
    /// One pipe is one direction.
    #[error("descriptor {0} is a pipe, and another is needed to write to: give fd-out=N")]
    OneDirection(RawFd),
    /// Packets need a socket.
    #[error(
        "descriptor {0} is a pipe, which does not keep packets apart: choose framing=qemu or vde"
    )]
    NoPackets(RawFd),
    /// A stream does not keep packets apart.
    #[error(
        "descriptor {0} is a stream socket, which does not keep packets apart: choose framing=qemu or vde"
    )]
    IsStream(RawFd),
    /// Packets are no stream.
    #[error(
        "descriptor {0} is a socket for packets, and the framing is for a stream: choose framing=packet or dgram"
    )]
    IsNoStream(RawFd),
    /// A system call failed.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl PortError {
    /// Returns whether the same call keeps failing until its arguments change: wrong use or
    /// configuration, in contrast to a full disk or a socket that another process may release. For
    /// [`Bus`](Self::Bus), look at the cause.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        match self {
            Self::Capture { source: CaptureProblem::Create(error), .. }
            | Self::Socket { source: SocketFileError::System(error), .. } => !is_passing(error),
            Self::Interface(error) => !matches!(error, NetifError::System { .. }),
            Self::Tap(error) => !matches!(error, tapdev::OpenError::System { .. }),
            Self::Bind(BindError::System { source, .. }) => {
                source.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Bus(_)
            | Self::TapAddress { .. }
            | Self::System { .. }
            | Self::Capture { source: CaptureProblem::System(_), .. } => false,
            Self::SharedStandard(_)
            | Self::JoinsItself { .. }
            | Self::JoinedTwice { .. }
            | Self::JoinedElsewhere { .. }
            | Self::NoCapture
            | Self::SameCapture(_)
            | Self::Capture { .. }
            | Self::Socket { .. }
            | Self::Descriptor { .. }
            | Self::FewThreads { .. }
            | Self::NoTrunks
            | Self::Trunk { .. }
            | Self::Bind(_)
            | Self::Client(_)
            | Self::Options { .. } => true,
        }
    }

    pub(crate) fn system(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { attempt: attempt.into(), source: source.into() }
    }
}

/// The kinds of port, as they are written before the colon.
pub const PORT_KINDS: [&str; 7] = ["memif", "tap", "pcap", "bus", "socket", "vxlan", "trunk"];

/// Why a text describes no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePortError {
    /// There is no colon after a kind.
    #[error(
        "a port is written KIND:key=value,... such as memif:role=server,id=0,socket=./memif.sock"
    )]
    NoKind,
    /// There is no such kind.
    #[error("there is no kind of port called '{kind}'{hint}; the kinds are: {}", PORT_KINDS.join(", "))]
    Kind {
        /// What was written.
        kind: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A part has no `=`.
    #[error("'{0}' is not key=value")]
    NoValue(String),
    /// There is no such key.
    #[error("a {kind} port has no key '{key}'{hint}")]
    Key {
        /// The kind of port.
        kind: &'static str,
        /// What was written.
        key: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// There is no such impairment.
    #[error("there is no impairment called '{key}'{hint}")]
    Impairment {
        /// What was written.
        key: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A key is missing.
    #[error("a {kind} port needs {what}")]
    Missing {
        /// The kind of port.
        kind: &'static str,
        /// The key, and what it is for.
        what: &'static str,
    },
    /// A key is given twice.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// A key does not take this value.
    #[error("{key}={value}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// The value; `...` for a secret.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Returns whether the same system call may succeed later: the disk or the memory is full, for
/// example.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, Other, OutOfMemory, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | Other | OutOfMemory | QuotaExceeded | StorageFull)
}
