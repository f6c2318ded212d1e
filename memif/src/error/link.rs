//! Why a link ended.

use super::protocol_error::ProtocolError;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The peer said so, in these words.
    #[error("the peer disconnected: {reason}")]
    Peer {
        /// What it said, made printable.
        reason: String,
    },
    /// The peer closed the connection without a word, or died.
    #[error("the peer is gone")]
    Closed,
    /// The peer broke the protocol, in a message or in shared memory.
    #[error("the peer broke the protocol: {0}")]
    ProtocolError(#[from] ProtocolError),
    /// This side ended it, in these words.
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
    /// The peer broke the protocol; the endpoint's next `ready()` closes the link and tells it why.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] ProtocolError),
    /// The link is closed; a new one comes with the next `Connected` event.
    #[error("the link is down")]
    Down,
}
