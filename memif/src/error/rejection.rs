//! Why there is no link.

use std::io;
use std::path::PathBuf;

use super::protocol_error::ProtocolError;
use crate::format::mode::Mode;

/// Why a peer was turned away, or why a client could not get a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The peer broke the protocol.
    #[error(transparent)]
    ProtocolError(#[from] ProtocolError),
    /// Server: no interface has this id.
    #[error("no interface with id {id} on this socket")]
    UnknownId {
        /// The id asked for.
        id: u32,
    },
    /// Server: the interface has a peer already.
    #[error("interface {id} is already connected")]
    Busy {
        /// The id asked for.
        id: u32,
    },
    /// Server: the peer's mode is not the interface's.
    #[error("interface mode {got} does not match, {want} is wanted")]
    ModeMismatch {
        /// What the peer sent: 0 Ethernet, 1 IP, 2 punt/inject.
        got: u8,
        /// The interface's mode.
        want: Mode,
    },
    /// Server: the peer's secret is not the interface's.
    #[error("wrong secret")]
    WrongSecret,
    /// Server: the client runs as a user that is not among the allowed ones.
    #[error("this user is not allowed here")]
    UidNotAllowed {
        /// The user's id, if the system told it.
        uid: Option<u32>,
    },
    /// The other side did not finish connecting in time.
    #[error("not connected in time")]
    Timeout,
    /// Server: the connection made way for newer ones, having asked for no interface yet.
    #[error("too many connections without INIT")]
    Crowded,
    /// The other side said no, in these words.
    #[error("the other side refused: {reason}")]
    Peer {
        /// What it said, made printable.
        reason: String,
    },
    /// The other side closed the connection without a word.
    #[error("the other side closed the connection before it was up")]
    Closed,
    /// This side changed its mind, in these words.
    #[error("given up here: {reason}")]
    Local {
        /// The reason that was sent to the peer.
        reason: String,
    },
    /// Client: there was nobody to connect to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Client: the server takes fewer memory regions than the client has.
    #[error("the server takes no more than {max} memory regions, not {regions}")]
    TooManyRegions {
        /// How many the client has.
        regions: usize,
        /// How many the server takes.
        max: usize,
    },
    /// Client: the memory it was given has not enough free buffers for its rings. Rings that are not in use any more give
    /// theirs back when their queues are dropped.
    #[error("the memory has not enough free buffers for {rings} rings of {size}")]
    NoBuffers {
        /// Rings in both directions.
        rings: usize,
        /// Descriptors in each.
        size: usize,
    },
    /// This side could not do its part.
    #[error("out of resources: {0}")]
    System(#[from] io::Error),
}

impl Rejection {
    /// A short name for what happened, to count by. Names stay as they are when texts change.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProtocolError(fault) => fault.name(),
            Self::UnknownId { .. } => "unknown-id",
            Self::Busy { .. } => "busy",
            Self::ModeMismatch { .. } => "mode-mismatch",
            Self::WrongSecret => "wrong-secret",
            Self::UidNotAllowed { .. } => "uid-not-allowed",
            Self::Timeout => "timeout",
            Self::Crowded => "crowded",
            Self::Peer { .. } => "refused-by-peer",
            Self::Closed => "closed",
            Self::Local { .. } => "given-up",
            Self::Connect(_) => "no-server",
            Self::TooManyRegions { .. } => "too-many-regions",
            Self::NoBuffers { .. } => "no-buffers",
            Self::System(_) => "system",
        }
    }
}

/// Why no server was reached. A client with a reconnect period tries again by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The socket's directory does not exist.
    #[error("cannot connect to {socket}: there is no directory {}", directory.display())]
    NoDirectory {
        /// The address tried.
        socket: String,
        /// The directory that is missing.
        directory: PathBuf,
    },
    /// There is no such socket.
    #[error("cannot connect to {socket}: there is no such socket, is the server running?")]
    NoSocket {
        /// The address tried.
        socket: String,
    },
    /// The socket's file is there, but nobody listens.
    #[error("cannot connect to {socket}: nobody listens, has the server died?")]
    NobodyListens {
        /// The address tried.
        socket: String,
    },
    /// This user may not connect there.
    #[error("cannot connect to {socket}: permission denied, check the socket's owner and mode")]
    Denied {
        /// The address tried.
        socket: String,
    },
    /// There is something at this address, but it is no memif socket (`SOCK_SEQPACKET`).
    #[error("cannot connect to {socket}: it is not a memif socket")]
    NotMemif {
        /// The address tried.
        socket: String,
    },
    /// More connections wait there than the server takes.
    #[error("cannot connect to {socket}: the server is too busy to answer")]
    Overrun {
        /// The address tried.
        socket: String,
    },
    /// Anything else.
    #[error("cannot connect to {socket}")]
    Other {
        /// The address tried.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
}
