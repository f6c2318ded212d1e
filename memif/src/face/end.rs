//! How a connection ends, before or after its link was up.

use std::fmt;

use crate::error::{DisconnectReason, Rejection};

/// The other side or this one has had enough.
#[derive(Debug)]
pub(crate) enum End {
    /// Something was wrong, and the other side is told what.
    Refused(Rejection),
    /// The other side is gone.
    Closed,
    /// The other side said goodbye in these words.
    Bye(String),
    /// The caller wanted it, for this reason.
    Local(String),
}

impl<E: Into<Rejection>> From<E> for End {
    fn from(refusal: E) -> Self {
        Self::Refused(refusal.into())
    }
}

impl End {
    /// What to tell the other side, if it can still hear.
    pub(crate) fn farewell(&self) -> Option<String> {
        match self {
            Self::Refused(refusal) => Some(refusal.to_string()),
            Self::Local(reason) => Some(reason.clone()),
            Self::Closed | Self::Bye(_) => None,
        }
    }

    /// As the end of a link that was up.
    pub(crate) fn into_disconnect(self) -> DisconnectReason {
        match self {
            Self::Refused(Rejection::ProtocolError(fault)) => DisconnectReason::ProtocolError(fault),
            Self::Refused(other) => DisconnectReason::Local { reason: other.to_string() },
            Self::Closed => DisconnectReason::Closed,
            Self::Bye(reason) => DisconnectReason::Peer { reason },
            Self::Local(reason) => DisconnectReason::Local { reason },
        }
    }

    /// As the end of a connection whose link never was up.
    pub(crate) fn into_refusal(self) -> Rejection {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Closed => Rejection::Closed,
            Self::Bye(reason) => Rejection::Peer { reason },
            Self::Local(reason) => Rejection::Local { reason },
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Closed => f.write_str("closed by the peer"),
            Self::Bye(reason) => write!(f, "the peer said: {reason}"),
            Self::Local(reason) => write!(f, "ended here: {reason}"),
        }
    }
}
