//! How a connection ends, before or after its link was up.

use std::fmt;

use crate::error::{Disconnect, Refusal};

/// The other side or this one has had enough.
#[derive(Debug)]
pub(crate) enum End {
    /// Something was wrong, and the other side is told what.
    Refused(Refusal),
    /// The other side is gone.
    Closed,
    /// The other side said goodbye in these words.
    Bye(String),
    /// The caller wanted it, for this reason.
    Local(String),
}

impl<E: Into<Refusal>> From<E> for End {
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
    pub(crate) fn into_disconnect(self) -> Disconnect {
        match self {
            Self::Refused(Refusal::Fault(fault)) => Disconnect::Fault(fault),
            Self::Refused(other) => Disconnect::Local { reason: other.to_string() },
            Self::Closed => Disconnect::Closed,
            Self::Bye(reason) => Disconnect::Peer { reason },
            Self::Local(reason) => Disconnect::Local { reason },
        }
    }

    /// As the end of a connection whose link never was up.
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Closed => Refusal::Closed,
            Self::Bye(reason) => Refusal::Peer { reason },
            Self::Local(reason) => Refusal::Local { reason },
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
