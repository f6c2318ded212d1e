//! How the protocol works, without any I/O: handshakes as state machines, rings as arithmetic over memory they are given.

use crate::format::ring::Descriptor;

pub(crate) mod client;
pub(crate) mod counters;
pub(crate) mod layout;
pub(crate) mod rx;
pub(crate) mod server;
pub(crate) mod tx;
pub(crate) mod window;

#[cfg(test)]
mod ring_tests;

/// Which side of a ring we are, and with it whose the buffers are.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    /// The peer's: every descriptor says where its buffer is, and is checked each time.
    Server,
    /// Ours: each slot has its own buffer, whatever the peer leaves in the descriptor.
    Client(Buffers),
}

impl Side {
    fn rx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Server))
    }

    fn tx_direction(&self) -> &'static str {
        layout::direction(matches!(self, Self::Client(_)))
    }
}

/// The buffers of one ring of ours, one per slot, at equal distances.
#[derive(Debug, Clone)]
pub(crate) struct Buffers {
    pub(crate) region: u16,
    /// Where the first begins, in bytes; all of them lie below 4 GiB.
    pub(crate) first: u32,
    /// From one to the next, in bytes.
    pub(crate) stride: u32,
    /// Room in each, in bytes.
    pub(crate) size: u32,
}

impl Buffers {
    /// The empty buffer of a slot.
    #[inline]
    pub(crate) fn descriptor(&self, slot: u16) -> Descriptor {
        // Cannot overflow: the plan placed all buffers below 4 GiB.
        let offset = self.first.wrapping_add(u32::from(slot).wrapping_mul(self.stride));
        Descriptor { flags: 0, region: self.region, length: self.size, offset, metadata: 0 }
    }
}
