//! How the protocol works, without I/O: handshakes as state machines, and rings as arithmetic over
//! mapped memory.

use ring_buffers::RingBuffers;

use crate::format::ring::Descriptor;

pub(crate) mod client_handshake;

pub(crate) mod exchange;
pub(crate) mod interrupt;
pub(crate) mod layout;
pub(crate) mod manual;
pub(crate) mod ring_buffers;
pub(crate) mod ring_index;
pub(crate) mod rx;
pub(crate) mod server_handshake;
pub(crate) mod stats;
pub(crate) mod tx;

#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod test_memory;

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

    /// Returns the descriptors of the buffers, by slot, if this side owns them.
    fn own_buffers(&self, size: usize) -> Option<impl Iterator<Item = Descriptor>> {
        let Self::Client(buffers) = self else { return None };
        // At most 2^14 for a client.
        Some((0..u16::try_from(size).unwrap_or(0)).map(|slot| buffers.descriptor(slot)))
    }

    fn rx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Server))
    }

    fn tx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Client(_)))
    }
}
