//! The buffers behind the descriptors of a ring of ours: which slot holds which, whatever the peer leaves in the ring.

use std::sync::Arc;

use crate::format::ring::Descriptor;
use crate::memory::pool::{Held, Pool};

/// See the module.
#[derive(Debug)]
pub(crate) enum RingBuffers {
    /// At equal distances, as they were laid out: no table has to be read.
    Fixed(Buffers),
    /// In any order, after they were exchanged. As many as the ring has descriptors.
    Own(Box<[Held]>),
}

/// The buffers of one ring, one per slot, at equal distances.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) pool: Arc<Pool>,
    pub(crate) region: u16,
    /// Where the first begins, in bytes; all of them lie below 4 GiB.
    pub(crate) first: u32,
    /// From one to the next, in bytes.
    pub(crate) stride: u32,
    /// Room in each, in bytes; the pool knows it too, but is further away.
    pub(crate) size: u32,
}

impl Buffers {
    #[inline]
    fn offset(&self, slot: u16) -> u32 {
        // Cannot overflow: the plan placed all buffers below 4 GiB.
        self.first.wrapping_add(u32::from(slot).wrapping_mul(self.stride))
    }
}

impl RingBuffers {
    /// The empty buffer of a slot.
    #[inline]
    pub(crate) fn descriptor(&self, slot: u16) -> Descriptor {
        let (region, offset, length) = match self {
            Self::Fixed(buffers) => (buffers.region, buffers.offset(slot), buffers.size),
            Self::Own(own) => {
                let held = &own[usize::from(slot) & (own.len() - 1)];
                (held.index, held.offset(), held.size())
            }
        };
        Descriptor { flags: 0, region, length, offset, metadata: 0 }
    }

    /// Makes the table that exchanges need, for a ring of `size`. It is made once.
    pub(crate) fn own(&mut self, size: usize) {
        if let Self::Fixed(buffers) = self {
            let slots = 0..u16::try_from(size).unwrap_or(1 << 15);
            let own = slots.map(|slot| Held::new(&buffers.pool, buffers.offset(slot), buffers.region));
            *self = Self::Own(own.collect());
        }
    }

    /// The buffer of a slot, if there is a table.
    #[inline]
    pub(crate) fn held(&self, slot: u16) -> Option<&Held> {
        match self {
            Self::Own(own) => own.get(usize::from(slot)),
            Self::Fixed(_) => None,
        }
    }

    /// The buffer of a slot, to be exchanged for another, if there is a table.
    #[inline]
    pub(crate) fn held_mut(&mut self, slot: u16) -> Option<&mut Held> {
        match self {
            Self::Own(own) => own.get_mut(usize::from(slot)),
            Self::Fixed(_) => None,
        }
    }
}
