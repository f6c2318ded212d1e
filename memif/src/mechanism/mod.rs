//! How the protocol works, without any I/O: handshakes as state machines, rings as arithmetic over memory they are given.

use ring_buffers::RingBuffers;

pub(crate) mod client;
pub(crate) mod counters;
pub(crate) mod exchange;
pub(crate) mod interrupt;
pub(crate) mod layout;
pub(crate) mod ring_buffers;
pub(crate) mod ring_index;
pub(crate) mod rx;
pub(crate) mod server;
pub(crate) mod tx;

#[cfg(test)]
mod ring_tests;

/// Which side of a ring we are, and with it whose the buffers are.
#[derive(Debug)]
pub(crate) enum Side {
    /// The peer's: every descriptor says where its buffer is, and is checked each time.
    Server,
    /// Ours: each slot holds a buffer, whatever the peer leaves in the descriptor.
    Client(RingBuffers),
}

impl Side {
    /// Takes the buffers out, if they are ours.
    fn take_buffers(&mut self) -> Option<RingBuffers> {
        match std::mem::replace(self, Self::Server) {
            Self::Client(slots) => Some(slots),
            Self::Server => None,
        }
    }

    fn rx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Server))
    }

    fn tx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Client(_)))
    }
}
