//! The buffers of a ring whose memory this side owns: the buffer of each slot, whatever the peer
//! leaves in the ring.

use std::sync::Arc;

use crate::format::ring::Descriptor;
use crate::memory::pool::{OwnedBuffer, Pool};

/// The buffers of one ring, one for each slot.
#[derive(Debug)]
pub(crate) enum RingBuffers {
    /// Buffers at equal distances, as planned: no table has to be read.
    Fixed(FixedBuffers),
    /// Buffers in any order, which can be exchanged.
    Table(Box<[OwnedBuffer]>),
}

/// The buffers of one ring, one for each slot, at equal distances.
#[derive(Debug)]
pub(crate) struct FixedBuffers {
    pub(crate) pool: Arc<Pool>,
    pub(crate) region: u16,
    /// Where the first buffer begins in its region, in bytes; all buffers lie below 4 GiB.
    pub(crate) first: u32,
    /// The distance from one buffer to the next, in bytes.
    pub(crate) stride: u32,
    /// The size of each buffer, in bytes; the pool knows it too, but is on another cache line.
    pub(crate) size: u32,
}

impl FixedBuffers {
    #[inline]
    fn offset(&self, slot: u16) -> u32 {
        // Cannot overflow: the plan placed all buffers below 4 GiB.
        self.first.wrapping_add(u32::from(slot).wrapping_mul(self.stride))
    }
}

impl RingBuffers {
    /// Returns the descriptor of a slot's empty buffer.
    #[inline]
    pub(crate) fn descriptor(&self, slot: u16) -> Descriptor {
        let (region, offset, length) = match self {
            Self::Fixed(buffers) => (buffers.region, buffers.offset(slot), buffers.size),
            Self::Table(table) => {
                let buffer = &table[usize::from(slot) & (table.len() - 1)];
                (buffer.region_index, buffer.offset(), buffer.size())
            }
        };
        Descriptor { flags: 0, region, length, offset, metadata: 0 }
    }

    /// Makes the table that exchanges need, for a ring of `size` descriptors, unless there is one.
    pub(crate) fn make_table(&mut self, size: usize) {
        if let Self::Fixed(buffers) = self {
            let slots = 0..u16::try_from(size).unwrap_or(1 << 15);
            let table = slots
                .map(|slot| OwnedBuffer::new(&buffers.pool, buffers.offset(slot), buffers.region));
            *self = Self::Table(table.collect());
        }
    }

    /// Returns the buffer of a slot, if there is a table.
    #[inline]
    pub(crate) fn buffer(&self, slot: u16) -> Option<&OwnedBuffer> {
        match self {
            Self::Table(table) => table.get(usize::from(slot)),
            Self::Fixed(_) => None,
        }
    }

    /// Returns the buffer of a slot, to be exchanged for another, if there is a table.
    #[inline]
    pub(crate) fn buffer_mut(&mut self, slot: u16) -> Option<&mut OwnedBuffer> {
        match self {
            Self::Table(table) => table.get_mut(usize::from(slot)),
            Self::Fixed(_) => None,
        }
    }
}
