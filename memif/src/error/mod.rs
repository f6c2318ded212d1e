//! The errors of all floors, by the party that can fix them: the caller, the peer, or the system.

mod protocol_error;
mod rejection;

pub use protocol_error::{ProtocolError, RingError};
pub use rejection::{ConnectError, Rejection};

use std::io;
use std::path::PathBuf;

/// Why a server could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A running server listens at the address.
    #[error("{socket} is in use by a running server; stop it or choose another path")]
    InUse {
        /// The address asked for.
        socket: String,
    },
    /// The descriptor passed in is no listening memif socket.
    #[error("not a listening SOCK_SEQPACKET unix socket")]
    NotListening,
    /// The path exists and is not a socket.
    #[error("{} exists and is not a socket; remove it or choose another path", path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// A dead socket of another user has the path, and this user may not remove it.
    #[error("the socket at {} belongs to user {user}; choose another path", path.display())]
    OtherUser {
        /// The path asked for.
        path: PathBuf,
        /// The user's number.
        user: u32,
    },
    /// The socket's directory does not exist.
    #[error("cannot create {}: there is no directory {}", path.display(), directory.display())]
    NoDirectory {
        /// The path asked for.
        path: PathBuf,
        /// The directory to create first.
        directory: PathBuf,
    },
    /// The path, or its directory with a short temporary name, does not fit into a socket address.
    #[error("{} is too long for a socket; choose a shorter path", path.display())]
    TooLong {
        /// The path asked for.
        path: PathBuf,
    },
    /// Another server of this user has held its turn in the directory for 2 s.
    #[error("cannot make sockets in {}: another server of this user has been making one for 2 s; is it stopped?", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// A system call failed.
    #[error("cannot listen on {socket}: {step} failed")]
    System {
        /// The address asked for.
        socket: String,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Why options were rejected: a value is out of its range, or the id is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A secret has 1 to 24 bytes and no NUL.
    #[error("a secret has 1 to 24 bytes and no NUL byte; this one has {len} bytes")]
    Secret {
        /// Its length in bytes.
        len: usize,
    },
    /// A ring has 2^1 to 2^14 descriptors.
    #[error("log2 of the ring size must be in 1..=14, not {0}")]
    RingSize(u8),
    /// A buffer has 64 to 65,535 bytes.
    #[error("the buffer size must be in 64..=65535 bytes, not {0}")]
    BufferSize(u32),
    /// There are 1 to 255 queues each way.
    #[error("the number of {direction} queues must be in 1..=255, not 0")]
    Queues {
        /// `"rx"` or `"tx"`.
        direction: &'static str,
    },
    /// The memory does not fit into one region: descriptors reach 4 GiB.
    #[error(
        "queues, ring size and buffer size need {bytes} bytes, more than the limit of 4 GiB; reduce one of them"
    )]
    Memory {
        /// The bytes that the options ask for.
        bytes: u64,
    },
    /// The headroom leaves less than 64 bytes of a buffer.
    #[error("a headroom of {headroom} bytes leaves less than 64 of a buffer's {buffer_size} bytes")]
    Headroom {
        /// The headroom asked for, in bytes.
        headroom: u32,
        /// The buffer size, in bytes.
        buffer_size: u32,
    },
    /// There are more buffer pools than a link can have regions for.
    #[error("{0} buffer pools are more than the 255 that a link can have")]
    BufferPools(usize),
    /// The server has an interface with this id already.
    #[error("this socket already has an interface with id {0}")]
    Duplicate(u32),
    /// A socket address is empty, too long, or holds a NUL.
    #[error("bad socket address {address:?}: {problem}")]
    Address {
        /// The invalid address.
        address: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Why a buffer pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BufferPoolError {
    /// A buffer has 64 to 65,535 bytes.
    #[error("the buffer size must be in 64..=65535 bytes, not {0}")]
    BufferSize(u32),
    /// The pool holds no buffer, or is larger than the 4 GiB that descriptors reach.
    #[error("a pool of {bytes} bytes holds no buffer, or is larger than 4 GiB")]
    Size {
        /// The size asked for, or that of the file, in bytes.
        bytes: u64,
    },
    /// The file cannot be shared: a peer would reject it as well.
    #[error(transparent)]
    File(#[from] ProtocolError),
    /// A system call failed.
    #[error("cannot make the memory of the pool: {0}")]
    System(io::Error),
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer disconnected.
    #[error("the peer disconnected: {reason}")]
    Peer {
        /// The reason that the peer sent, made printable.
        reason: String,
    },
    /// The peer closed the connection without a reason, or died.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer broke the protocol, in a message or in shared memory.
    #[error("the peer broke the protocol: {0}")]
    ProtocolError(#[from] ProtocolError),
    /// This side disconnected.
    #[error("disconnected here: {reason}")]
    Local {
        /// The reason that was sent to the peer.
        reason: String,
    },
}

/// Why a queue cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer broke the protocol. The endpoint's next `ready()` sends it the reason and reports
    /// the end of the link.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] ProtocolError),
    /// The link is closed. A new one comes with the next
    /// [`Event::Connected`](crate::Event::Connected).
    #[error("the link is down")]
    Down,
}

/// A failure of an endpoint's own descriptors; the endpoint cannot be used any more.
#[derive(Debug, thiserror::Error)]
#[error("memif endpoint: {step} failed")]
pub struct Error {
    /// The step that failed.
    step: &'static str,
    /// The system's error.
    source: io::Error,
}

impl Error {
    /// Returns a function for `map_err` that keeps the cause and names the step.
    pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { step, source: source.into() }
    }
}
