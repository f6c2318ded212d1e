//! How the protocol works, without I/O: handshakes as state machines, and rings as arithmetic over
//! mapped memory.

use ring_buffers::RingBuffers;

pub(crate) mod client_handshake;

pub(crate) mod exchange;
pub(crate) mod interrupt;
pub(crate) mod layout;
pub(crate) mod ring_buffers;
pub(crate) mod ring_index;
pub(crate) mod rx;
pub(crate) mod server_handshake;
pub(crate) mod stats;
pub(crate) mod tx;

#[cfg(test)]
mod ring_tests;

/// This side's role at a ring, which decides who owns the buffers.
#[derive(Debug)]
pub(crate) enum Side {
    /// The peer owns the buffers: every descriptor says where its buffer is, and is checked each
    /// time.
    Server,
    /// This side owns the buffers: each slot has its buffer, whatever the peer leaves in the
    /// descriptor.
    Client(RingBuffers),
}

impl Side {
    /// Takes the buffers out, if this side owns them.
    fn take_buffers(&mut self) -> Option<RingBuffers> {
        match std::mem::replace(self, Self::Server) {
            Self::Client(buffers) => Some(buffers),
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
