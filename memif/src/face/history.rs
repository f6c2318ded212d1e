//! How connections end, and what an interface keeps of that for its details.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{DisconnectReason, Rejection};
use crate::mechanism::stats::QueueStats;

/// How a connection ends, before or after its link came up.
#[derive(Debug)]
pub(super) enum End {
    /// This side found something wrong, and tells the peer what.
    Rejected(Rejection),
    /// The peer closed the connection.
    Closed,
    /// The peer sent DISCONNECT with this reason.
    Peer(String),
    /// The caller disconnected, for this reason.
    Local(String),
}

impl<E: Into<Rejection>> From<E> for End {
    fn from(rejection: E) -> Self {
        Self::Rejected(rejection.into())
    }
}

impl End {
    /// Returns the reason to send to the peer, if it may still be reading.
    pub(super) fn reason_to_send(&self) -> Option<String> {
        match self {
            Self::Rejected(Rejection::Unanswered { .. }) | Self::Closed | Self::Peer(_) => None,
            Self::Rejected(rejection) => Some(rejection.to_string()),
            Self::Local(reason) => Some(reason.clone()),
        }
    }

    /// Converts the end of a connection whose link was up.
    pub(super) fn into_disconnect(self) -> DisconnectReason {
        match self {
            Self::Rejected(Rejection::ProtocolError(error)) => {
                DisconnectReason::ProtocolError(error)
            }
            Self::Rejected(other) => DisconnectReason::Local { reason: other.to_string() },
            Self::Closed => DisconnectReason::Closed,
            Self::Peer(reason) => DisconnectReason::Peer { reason },
            Self::Local(reason) => DisconnectReason::Local { reason },
        }
    }

    /// Converts the end of a connection whose link never came up.
    pub(super) fn into_rejection(self) -> Rejection {
        match self {
            Self::Rejected(rejection) => rejection,
            Self::Closed => Rejection::Closed,
            Self::Peer(reason) => Rejection::Peer { reason },
            Self::Local(reason) => Rejection::Local { reason },
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Closed => f.write_str("closed by the peer"),
            Self::Peer(reason) => write!(f, "the peer disconnected: {reason}"),
            Self::Local(reason) => write!(f, "disconnected here: {reason}"),
        }
    }
}

/// The past of an interface, for its details.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Links that came up.
    pub(super) links: u64,
    /// Why the last link ended.
    pub(super) last_disconnect: Option<DisconnectReason>,
    /// Why the last connection without a link ended, as text.
    pub(super) last_rejection: Option<String>,
    /// The last reason sent to a peer.
    pub(super) last_reason_sent: Option<String>,
    /// The last reason received from a peer.
    pub(super) last_reason_received: Option<String>,
    /// The counts of all links that have ended.
    pub(super) rx: QueueStats,
    pub(super) tx: QueueStats,
}

impl History {
    /// Records the end of a connection, and the counts (received, sent) of its link if it had one.
    pub(super) fn ended(&mut self, end: &End, stats: Option<(QueueStats, QueueStats)>) {
        if let End::Peer(reason) = end {
            self.last_reason_received = Some(reason.clone());
        }
        if let Some((rx, tx)) = stats {
            self.rx += rx;
            self.tx += tx;
        }
    }
}

/// How often each check failed, by the check's name.
#[derive(Debug, Default)]
pub(super) struct FailureCounts(BTreeMap<&'static str, u64>);

impl FailureCounts {
    pub(super) fn count(&mut self, end: &End) {
        if let End::Rejected(rejection) = end {
            *self.0.entry(rejection.name()).or_default() += 1;
        }
    }

    pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.iter().map(|(name, count)| (*name, *count)).collect()
    }
}
