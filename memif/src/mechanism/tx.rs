//! Sending on a ring: buffers are reserved, filled, and published together with one store.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::Side;
use super::counters::{self, Counters};
use super::interrupt;
use super::ring_buffers::RingBuffers;
use super::ring_index::RingIndex;
use crate::error::{ProtocolError, RingFault};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::memory::pool::Held;
use crate::memory::prefetch;
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;

/// So many buffers in front of the one being filled are asked for: as many lines as a processor waits for at the same time.
const AHEAD: u16 = 8;

/// The producer of one ring.
pub(crate) struct TxRing {
    memory: RingMemory,
    window: RingIndex,
    side: Side,
    index: u16,
    /// Descriptors of packets reserved but not yet published. Nothing of them is in the ring, so forgetting them undoes
    /// a reservation without a trace.
    pending: Vec<Descriptor>,
    counters: Arc<Counters>,
}

impl TxRing {
    /// Takes over the ring before the peer uses it.
    pub(crate) fn new(memory: RingMemory, side: Side, index: u16) -> Self {
        let window = match side {
            Side::Server => RingIndex::server(memory.size()),
            Side::Client(_) => RingIndex::client_tx(memory.size()),
        };
        // Never more than the ring holds, so a burst allocates nothing.
        let pending = Vec::with_capacity(memory.size());
        match side {
            Side::Server => interrupt::publish(&memory.header().tail, 0),
            Side::Client(_) => interrupt::publish(&memory.header().head, 0),
        }
        Self { memory, window, side, index, pending, counters: Arc::default() }
    }

    /// What is counted here.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Descriptors in the ring.
    pub(crate) fn size(&self) -> usize {
        self.memory.size()
    }

    /// Zeros that took the place of lost memory are no lie of the peer's: the loss is what is told then.
    #[cold]
    fn fault(&self, cause: RingFault) -> ProtocolError {
        match self.check() {
            Ok(()) => ProtocolError::Ring { direction: self.side.tx_direction(), index: self.index, cause },
            Err(lost) => lost,
        }
    }

    /// Whether no region was lost so far.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        self.memory.regions().lost().map_or(Ok(()), |index| Err(ProtocolError::RegionLost { index }))
    }

    /// Looks at the peer's index.
    pub(crate) fn refresh(&mut self) -> Result<(), ProtocolError> {
        // Pairs with the release-store by which the peer gives buffers back (S2M tail) or offers them (M2S head): its
        // use of them, and its descriptors, come before our writes.
        let theirs = match self.side {
            Side::Server => interrupt::look(&self.memory.header().head),
            Side::Client(_) => interrupt::look(&self.memory.header().tail),
        };
        self.window.observe(theirs).map_err(|_| self.fault(RingFault::Jump { index: theirs }))
    }

    /// Whether the buffers are ours, and could be exchanged.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    /// Whether `count` descriptors are free for a packet, after a look at the peer's index if need be.
    #[inline]
    pub(crate) fn make_room(&mut self, count: usize) -> Result<bool, ProtocolError> {
        if self.free() < count {
            self.refresh()?;
            if self.free() < count {
                counters::add(&self.counters.ring_full, 1);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Descriptors free for packets, as far as known.
    #[inline]
    pub(crate) fn free(&self) -> usize {
        usize::from(self.window.available()) - self.pending.len()
    }

    /// Reserves descriptors for a packet of `len` bytes and returns where they begin among those pending, or nothing
    /// when there is no room for all of it.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Option<usize>, ProtocolError> {
        let start = self.pending.len();
        let mut rest = len;
        while rest != 0 {
            if self.free() == 0 {
                self.refresh()?;
                if self.free() == 0 {
                    self.pending.truncate(start);
                    counters::add(&self.counters.ring_full, 1);
                    return Ok(None);
                }
            }
            let room = self.buffer()?;
            let here = rest.min(room.length as usize);
            rest -= here;
            let flags = if rest == 0 { 0 } else { FLAG_NEXT };
            #[expect(clippy::cast_possible_truncation, reason = "at most the room, which is a u32")]
            self.pending.push(Descriptor { flags, length: here as u32, metadata: 0, ..room });
        }
        Ok((start < self.pending.len()).then_some(start))
    }

    /// The next free buffer; its length is the room in it.
    #[inline]
    fn buffer(&self) -> Result<Descriptor, ProtocolError> {
        // Never more than the ring holds, and rings end at 2^15.
        #[expect(clippy::cast_possible_truncation, reason = "see above; a check would be one per packet")]
        let index = self.window.next().wrapping_add(self.pending.len() as u16);
        if let Side::Client(slots) = &self.side {
            self.ask_for(slots.descriptor(self.window.slot(index.wrapping_add(AHEAD))));
            return Ok(slots.descriptor(self.window.slot(index)));
        }
        self.ask_for(self.memory.descriptor(index.wrapping_add(AHEAD)));
        let offered = self.memory.descriptor(index);
        if offered.length == 0 {
            return Err(self.fault(RingFault::Empty { slot: self.window.slot(index) }));
        }
        if self.memory.regions().bytes(offered.region, offered.offset, offered.length).is_none() {
            return Err(self.fault(RingFault::BufferOutside { slot: self.window.slot(index) }));
        }
        Ok(offered)
    }

    /// Has the beginning of a buffer fetched that will soon be written, if it is one.
    #[inline]
    fn ask_for(&self, buffer: Descriptor) {
        if let Some(bytes) = self.memory.regions().bytes(buffer.region, buffer.offset, buffer.length.min(1)) {
            prefetch::write_soon(bytes);
        }
    }

    /// Makes buffers ready to be exchanged; whether they are ours.
    pub(crate) fn own_buffers(&mut self) -> bool {
        let Side::Client(slots) = &mut self.side else { return false };
        slots.own(self.memory.size());
        true
    }

    /// The buffer of the `nth` slot behind those reserved, if it is free and can be exchanged.
    pub(crate) fn held(&self, nth: usize) -> Option<&Held> {
        let Side::Client(slots) = &self.side else { return None };
        if self.free() > nth { slots.held(self.slot_behind(nth)) } else { None }
    }

    /// The buffer of the slot behind those reserved, to be exchanged, and the regions another must be of; nothing when it is
    /// not free.
    pub(crate) fn slot(&mut self) -> Option<(&mut Held, &Regions)> {
        let (free, slot) = (self.free(), self.slot_behind(0));
        let Side::Client(slots) = &mut self.side else { return None };
        if free == 0 { None } else { Some((slots.held_mut(slot)?, self.memory.regions())) }
    }

    fn slot_behind(&self, nth: usize) -> u16 {
        // Both are less than the ring's size.
        let behind = u16::try_from(self.pending.len() + nth).unwrap_or(0);
        self.window.slot(self.window.next().wrapping_add(behind))
    }

    /// Reserves the slot behind those reserved, with this descriptor.
    pub(crate) fn add(&mut self, descriptor: Descriptor) {
        self.pending.push(descriptor);
    }

    /// Takes the buffers out, if they are ours: the ring is not used any more.
    pub(crate) fn take_buffers(&mut self) -> Option<RingBuffers> {
        self.side.take_buffers()
    }

    /// The number a region has on this link.
    pub(crate) fn index_of(&self, region: &Arc<Region>) -> Option<u16> {
        self.memory.regions().position(region)
    }

    /// The descriptors reserved since the last publication, from the `start`-th on.
    #[inline]
    pub(crate) fn pending(&self, start: usize) -> &[Descriptor] {
        &self.pending[start..]
    }

    /// Sets the metadata of the packet that begins at the `start`-th.
    pub(crate) fn set_metadata(&mut self, start: usize, metadata: u32) {
        self.pending[start].metadata = metadata;
    }

    /// The bytes of a reserved descriptor.
    #[inline]
    pub(crate) fn bytes(&self, descriptor: &Descriptor) -> &[AtomicU8] {
        // It was checked when reserved, against regions that do not change.
        self.memory.regions().bytes(descriptor.region, descriptor.offset, descriptor.length).unwrap_or(&[])
    }

    /// Forgets all reserved packets, as the link is down.
    #[cold]
    pub(crate) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Forgets all reserved packets but the first `packets`.
    pub(crate) fn truncate(&mut self, packets: usize) {
        if self.pending.is_empty() {
            return;
        }
        let keep = end_of_packets(&self.pending, packets);
        let cancelled = self.pending[keep..].iter().filter(|descriptor| !descriptor.goes_on()).count();
        counters::add(&self.counters.cancelled, cancelled as u64);
        self.pending.truncate(keep);
    }

    /// Hands all reserved packets to the peer; whether it wants its eventfd written.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let mut index = self.window.next();
        let (mut packets, mut bytes) = (0, 0);
        for descriptor in &self.pending {
            self.memory.set_descriptor(index, *descriptor);
            index = index.wrapping_add(1);
            packets += u64::from(!descriptor.goes_on());
            bytes += u64::from(descriptor.length);
        }
        counters::add(&self.counters.packets, packets);
        counters::add(&self.counters.bytes, bytes);
        let count = u16::try_from(self.pending.len()).unwrap_or(0);
        self.pending.clear();
        let ours = self.window.advance(count);
        // Descriptors and bytes come before this; pairs with the consumer's acquire-load of the same index.
        match self.side {
            Side::Server => interrupt::publish(&self.memory.header().tail, ours),
            Side::Client(_) => interrupt::publish(&self.memory.header().head, ours),
        }
        interrupt::is_wanted(&self.memory.header().flags)
    }
}

/// How many descriptors the first `packets` packets take.
#[inline]
pub(crate) fn end_of_packets(descriptors: &[Descriptor], packets: usize) -> usize {
    let mut ends = descriptors.iter().zip(1..).filter(|(descriptor, _)| !descriptor.goes_on());
    match packets.checked_sub(1) {
        None => 0,
        Some(last) => ends.nth(last).map_or(descriptors.len(), |(_, end)| end),
    }
}
