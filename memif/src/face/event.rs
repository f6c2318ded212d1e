//! What an endpoint reports.

use super::link::Link;
use crate::error::{DisconnectReason, Rejection};

/// Something happened to an interface.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The interface has a peer: here are its queues.
    Connected {
        /// The interface's id.
        id: u32,
        /// The queues and the peer's names.
        link: Link,
    },
    /// The interface has lost its peer; its queues only answer [`LinkError`](crate::LinkError) from now on. A server's
    /// interface waits for the next one, a client connects again by itself.
    Disconnected {
        /// The interface's id.
        id: u32,
        /// Who ended it and why.
        reason: DisconnectReason,
    },
    /// Server: somebody was turned away, with this reason. Client: an attempt to connect failed; reported each time.
    Refused {
        /// The interface's id, if it is known which was meant.
        id: Option<u32>,
        /// What was wrong.
        reason: Rejection,
    },
}
