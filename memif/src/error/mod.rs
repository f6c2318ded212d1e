//! What can go wrong, by who can do something about it. All floors share this.

mod link;
mod protocol_error;
mod rejection;

pub use link::{DisconnectReason, LinkError};
pub use protocol_error::{ProtocolError, RingFault};
pub use rejection::{ConnectError, Rejection};

use std::io;
use std::path::PathBuf;

/// Why a server could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A live server listens there.
    #[error("{socket} is in use by a running server; stop it or choose another path")]
    InUse {
        /// The address asked for.
        socket: String,
    },
    /// What was handed over does not listen for memif clients.
    #[error("not a listening SOCK_SEQPACKET unix socket")]
    NotListening,
    /// There is a file, and it is not a socket.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The directory is missing.
    #[error("cannot create {}: there is no directory {}", path.display(), directory.display())]
    NoDirectory {
        /// The path asked for.
        path: PathBuf,
        /// The directory to create first.
        directory: PathBuf,
    },
    /// The path does not fit into a socket address, together with the short temporary name the socket is made under.
    #[error("{} is too long for a socket; choose a shorter path", path.display())]
    TooLong {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another process has held the directory's lock for seconds.
    #[error("cannot replace sockets in {}: another process keeps the directory locked (flock)", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {socket}: {step} failed")]
    System {
        /// The address asked for.
        socket: String,
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Options that do not go together, or a name in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A secret has 1 to 24 bytes and no NUL.
    #[error("a secret has 1 to 24 bytes and no NUL byte; this one has {len} bytes")]
    Secret {
        /// Its length in bytes.
        len: usize,
    },
    /// Ring sizes are 2^1 to 2^14.
    #[error("log2 of the ring size must be in 1..=14, not {0}")]
    RingSize(u8),
    /// Buffers have 64 to 65,535 bytes.
    #[error("the buffer size must be in 64..=65535 bytes, not {0}")]
    BufferSize(u32),
    /// There are 1 to 255 queues each way.
    #[error("the number of {direction} queues must be in 1..=255, not 0")]
    Queues {
        /// `"rx"` or `"tx"`.
        direction: &'static str,
    },
    /// One region cannot hold this: descriptors reach 4 GiB.
    #[error(
        "queues, ring size and buffer size need {bytes} bytes, and 4 GiB is the most; reduce one of them"
    )]
    Memory {
        /// What the options ask for, in bytes.
        bytes: u64,
    },
    /// The headroom leaves less than 64 bytes of a buffer.
    #[error("headroom of {headroom} bytes leaves less than 64 of a buffer's {buffer_size}")]
    Headroom {
        /// What was asked for, in bytes.
        headroom: u32,
        /// The buffer size, in bytes.
        buffer_size: u32,
    },
    /// More memories than a link may have regions for.
    #[error("{0} memories are more than the 255 a link can have")]
    Memories(usize),
    /// The server has an interface with this id.
    #[error("this socket already has an interface with id {0}")]
    Duplicate(u32),
    /// A socket address that is empty, too long, or holds a NUL.
    #[error("bad socket address {address:?}: {problem}")]
    Address {
        /// The address given.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Why memory for packets could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// Buffers have 64 to 65,535 bytes.
    #[error("the buffer size must be in 64..=65535 bytes, not {0}")]
    BufferSize(u32),
    /// It holds no buffer, or more than the 4 GiB that descriptors reach.
    #[error("{bytes} bytes are not enough for a buffer, or more than 4 GiB")]
    Size {
        /// What was asked for or given, in bytes.
        bytes: u64,
    },
    /// A file that no peer would take either.
    #[error(transparent)]
    File(#[from] ProtocolError),
    /// The system has none.
    #[error("no memory for packets: {0}")]
    System(io::Error),
}

/// A failure of this side's own event handling; the endpoint is of no more use.
#[derive(Debug, thiserror::Error)]
#[error("memif endpoint: {step} failed")]
pub struct Error {
    /// What was being done.
    step: &'static str,
    /// What the system said.
    source: io::Error,
}

impl Error {
    /// For `map_err`: keeps the cause and names the step.
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { step, source: source.into() }
    }
}
