//! Why a connection brought up no link.

use std::io;
use std::path::PathBuf;

use super::protocol_error::ProtocolError;
use crate::format::Mode;

/// Why a server rejected a client, or why a client got no link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The peer broke the protocol.
    #[error(transparent)]
    ProtocolError(#[from] ProtocolError),
    /// Server: no interface has the id asked for.
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
    /// Server: the client's mode is not the interface's.
    #[error("interface mode {got} does not match, expected {want}")]
    ModeMismatch {
        /// The client's mode: 0 Ethernet, 1 IP, 2 punt/inject.
        got: u8,
        /// The interface's mode.
        want: Mode,
    },
    /// Server: the client's secret is not the interface's.
    #[error("wrong secret")]
    WrongSecret,
    /// Server: the client's user is not among the [allowed ones](crate::SocketOptions::allow_uids).
    #[error("this user is not allowed to connect")]
    UidNotAllowed {
        /// The user's id, if the kernel knows it.
        uid: Option<u32>,
    },
    /// The peer did not finish the handshake in time.
    #[error("the handshake took too long")]
    Timeout,
    /// Server: there were too many connections that asked for no interface, and this was the
    /// oldest.
    #[error("too many connections without INIT")]
    Crowded,
    /// The peer disconnected.
    #[error("rejected by the peer: {reason}")]
    Peer {
        /// The reason that the peer sent, made printable.
        reason: String,
    },
    /// The peer closed the connection without a reason.
    #[error("the peer closed the connection before the link was up")]
    Closed,
    /// Client: the server closed the connection without a reason, instead of an answer to this
    /// message.
    #[error("the server closed the connection without a reason{}", closed_hint(message))]
    Unanswered {
        /// The message's name in the protocol.
        message: &'static str,
    },
    /// This side disconnected before the link was up.
    #[error("disconnected here: {reason}")]
    Local {
        /// The reason that was sent to the peer.
        reason: String,
    },
    /// Client: no server was reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Client: the server accepts fewer memory regions than the client has.
    #[error("the server accepts {max} memory regions, fewer than the client's {regions}")]
    TooManyRegions {
        /// The number of the client's regions.
        regions: usize,
        /// The number that the server accepts.
        max: usize,
    },
    /// Client: its buffer pools have too few free buffers for its rings. Rings of earlier links
    /// give theirs back when their queues are dropped.
    #[error("the buffer pools have too few free buffers for {rings} rings of {size}")]
    NoBuffers {
        /// Rings in both directions.
        rings: usize,
        /// Descriptors in each ring.
        size: usize,
    },
    /// A system call of this side failed.
    #[error("out of resources: {0}")]
    System(#[from] io::Error),
}

impl Rejection {
    /// Returns a short name of the reason, to count by. It stays the same when the text changes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProtocolError(error) => error.name(),
            Self::UnknownId { .. } => "unknown-id",
            Self::Busy { .. } => "busy",
            Self::ModeMismatch { .. } => "mode-mismatch",
            Self::WrongSecret => "wrong-secret",
            Self::UidNotAllowed { .. } => "uid-not-allowed",
            Self::Timeout => "timeout",
            Self::Crowded => "crowded",
            Self::Peer { .. } => "refused-by-peer",
            Self::Closed | Self::Unanswered { .. } => "closed",
            Self::Local { .. } => "given-up",
            Self::Connect(_) => "no-server",
            Self::TooManyRegions { .. } => "too-many-regions",
            Self::NoBuffers { .. } => "no-buffers",
            Self::System(_) => "system",
        }
    }
}

/// Returns the likely cause of a close that takes the place of an answer: libmemif's server closes
/// without a word in two cases.
fn closed_hint(message: &str) -> &'static str {
    match message {
        // An unknown id is acknowledged first, so the next message may be out by then.
        "INIT" | "ADD_REGION" => {
            ", after INIT: has it an interface with this id? (libmemif closes so when it has none)"
        }
        "ADD_RING" => {
            ", after ADD_RING: try fewer queues (libmemif closes so when it has fewer than the client)"
        }
        _ => "",
    }
}

/// Why a client reached no server. It tries again after
/// [`ClientOptions::reconnect`](crate::ClientOptions::reconnect).
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
    /// The socket does not exist.
    #[error("cannot connect to {socket}: the socket does not exist; is the server running?")]
    NoSocket {
        /// The address tried.
        socket: String,
    },
    /// The socket's file exists, but no process listens on it.
    #[error("cannot connect to {socket}: no process listens on it; has the server died?")]
    NotListening {
        /// The address tried.
        socket: String,
    },
    /// This user may not connect to the socket.
    #[error("cannot connect to {socket}: permission denied; check the socket's owner and mode")]
    Denied {
        /// The address tried.
        socket: String,
    },
    /// The address belongs to something else than a memif socket (`SOCK_SEQPACKET`).
    #[error("cannot connect to {socket}: it is not a memif socket")]
    NotMemif {
        /// The address tried.
        socket: String,
    },
    /// Too many connections wait for the server to accept them.
    #[error("cannot connect to {socket}: the server is too busy to answer")]
    Overrun {
        /// The address tried.
        socket: String,
    },
    /// Another system error.
    #[error("cannot connect to {socket}")]
    Other {
        /// The address tried.
        socket: String,
        /// The system's error.
        source: io::Error,
    },
}
