//! Sending on a ring: buffers are reserved, filled, and published together with one store.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::Side;
use super::interrupt;
use super::ring_buffers::RingBuffers;
use super::ring_index::RingIndex;
use super::stats::{self, Counters};
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::memory::pool::OwnedBuffer;
use crate::memory::region::{self, Region, Regions};
use crate::memory::ring::RingMemory;

/// How many buffers to prefetch at a time, and how many ahead. One by one, between the stores to the
/// buffers before, each would wait for these; and if it is filled at once, the store waits for it.
const BATCH: u16 = 32;

/// The producer of one ring.
pub(crate) struct TxRing {
    memory: RingMemory,
    cursor: RingIndex,
    side: Side,
    index: u16,
    /// Descriptors of packets reserved but not yet published. The ring holds none of them, so a
    /// reservation is cancelled without a trace.
    pending: Vec<Descriptor>,
    counters: Arc<Counters>,
}

impl TxRing {
    /// Takes over the ring before the peer uses it.
    pub(crate) fn new(memory: RingMemory, side: Side, index: u16) -> Self {
        let cursor = match side {
            Side::Server => RingIndex::server(memory.size()),
            Side::Client(_) => RingIndex::client_tx(memory.size()),
        };
        // Never more than the ring holds, so a burst allocates nothing.
        let pending = Vec::with_capacity(memory.size());
        match side {
            Side::Server => interrupt::publish(&memory.header().tail, 0),
            Side::Client(_) => interrupt::publish(&memory.header().head, 0),
        }
        Self { memory, cursor, side, index, pending, counters: Arc::default() }
    }

    /// Returns the counters of this ring.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Returns the number of descriptors in the ring.
    pub(crate) fn size(&self) -> usize {
        self.memory.size()
    }

    /// Returns the error to report. Where memory is lost, its zeros look like a violation: then the
    /// loss is reported.
    #[cold]
    pub(super) fn error(&self, cause: RingError) -> ProtocolError {
        match self.check() {
            Ok(()) => ProtocolError::Ring {
                direction: self.side.tx_direction(),
                index: self.index,
                cause,
            },
            Err(lost) => lost,
        }
    }

    /// Checks that no region is lost so far.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        self.memory
            .regions()
            .lost()
            .map_or(Ok(()), |index| Err(ProtocolError::RegionLost { index }))
    }

    /// Loads the peer's index.
    #[inline]
    pub(super) fn load_theirs(&self) -> u16 {
        // Acquire: pairs with the release-store by which the peer gives buffers back (S2M tail) or
        // offers them (M2S head): its use of them, and its descriptors, come before our writes.
        match self.side {
            Side::Server => interrupt::load_index(&self.memory.header().head),
            Side::Client(_) => interrupt::load_index(&self.memory.header().tail),
        }
    }

    /// Stores this side's index.
    #[inline]
    pub(super) fn publish_ours(&self, ours: u16) {
        // Release: descriptors and bytes come before this. It pairs with the consumer's
        // acquire-load of the same index.
        match self.side {
            Side::Server => interrupt::publish(&self.memory.header().tail, ours),
            Side::Client(_) => interrupt::publish(&self.memory.header().head, ours),
        }
    }

    /// Returns the descriptors of this side's buffers, by slot, if it owns them.
    pub(super) fn own_buffers(&self) -> Option<impl Iterator<Item = Descriptor>> {
        self.side.own_buffers(self.memory.size())
    }

    /// Returns the ring itself.
    #[inline]
    pub(crate) fn memory(&self) -> &RingMemory {
        &self.memory
    }

    /// Takes in the peer's index.
    pub(crate) fn refresh(&mut self) -> Result<(), ProtocolError> {
        let theirs = self.load_theirs();
        self.cursor.observe(theirs).map_err(|_| self.error(RingError::Jump { index: theirs }))
    }

    /// Returns whether this side owns the buffers, and can exchange them.
    pub(crate) fn owns_buffers(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    /// Returns whether `count` descriptors are free for a packet; loads the peer's index if
    /// necessary.
    #[inline]
    pub(crate) fn make_room(&mut self, count: usize) -> Result<bool, ProtocolError> {
        if self.free() < count {
            self.refresh()?;
            if self.free() < count {
                stats::add(&self.counters.ring_full, 1);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns how many descriptors are known to be free.
    #[inline]
    pub(crate) fn free(&self) -> usize {
        usize::from(self.cursor.available()) - self.pending.len()
    }

    /// Reserves descriptors for a packet of `len` bytes and returns where they begin among those
    /// pending, or `None` when there is no room for all of it.
    #[inline]
    pub(crate) fn reserve(&mut self, len: usize) -> Result<Option<usize>, ProtocolError> {
        let start = self.pending.len();
        let mut rest = len;
        while rest != 0 {
            if self.free() == 0 {
                self.refresh()?;
                if self.free() == 0 {
                    self.pending.truncate(start);
                    stats::add(&self.counters.ring_full, 1);
                    return Ok(None);
                }
            }
            let room = self.next_free()?;
            let here = rest.min(room.length as usize);
            rest -= here;
            let flags = if rest == 0 { 0 } else { FLAG_NEXT };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "at most the room, which is a u32"
            )]
            self.pending.push(Descriptor { flags, length: here as u32, metadata: 0, ..room });
        }
        Ok((start < self.pending.len()).then_some(start))
    }

    /// Returns the next free buffer; its length is the room in it.
    #[inline]
    fn next_free(&self) -> Result<Descriptor, ProtocolError> {
        // Never more than the ring holds, and rings end at 2^15.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "see above; a check would be one per packet"
        )]
        let index = self.cursor.next().wrapping_add(self.pending.len() as u16);
        if index & (BATCH - 1) == 0 {
            self.prefetch_ahead(index);
        }
        if let Side::Client(buffers) = &self.side {
            return Ok(buffers.descriptor(self.cursor.slot(index)));
        }
        let offered = self.memory.descriptor(index);
        if offered.length == 0 {
            return Err(self.error(RingError::Empty { slot: self.cursor.slot(index) }));
        }
        if self.memory.regions().bytes(offered.region, offered.offset, offered.length).is_none() {
            return Err(self.error(RingError::BufferOutside { slot: self.cursor.slot(index) }));
        }
        Ok(offered)
    }

    /// Prefetches the batch of descriptors behind that at `index`, and the beginnings of their buffers,
    /// as far as they are free: all of them will be written.
    #[inline]
    fn prefetch_ahead(&self, index: u16) {
        let free = u16::try_from(self.free()).unwrap_or(u16::MAX);
        let (from, count) = (index.wrapping_add(BATCH), free.saturating_sub(BATCH).min(BATCH));
        self.memory.prefetch_write(from, count);
        for nth in 0..count {
            let index = from.wrapping_add(nth);
            let buffer = match &self.side {
                Side::Client(buffers) => buffers.descriptor(self.cursor.slot(index)),
                Side::Server => self.memory.descriptor(index),
            };
            let Descriptor { region, offset, length, .. } = buffer;
            if let Some(bytes) = self.memory.regions().bytes(region, offset, length.min(1)) {
                region::prefetch_write(bytes);
            }
        }
    }

    /// Makes the buffers ready to be exchanged; returns whether this side owns them.
    pub(crate) fn make_exchangeable(&mut self) -> bool {
        let Side::Client(buffers) = &mut self.side else { return false };
        buffers.make_table(self.memory.size());
        true
    }

    /// Returns the buffer of the `nth` slot behind those reserved, if it is free and can be
    /// exchanged.
    pub(crate) fn buffer(&self, nth: usize) -> Option<&OwnedBuffer> {
        let Side::Client(buffers) = &self.side else { return None };
        if self.free() > nth { buffers.buffer(self.slot_behind(nth)) } else { None }
    }

    /// Returns the buffer of the slot behind those reserved, to be exchanged, and the regions that
    /// another buffer must be in; `None` when the slot is not free.
    pub(crate) fn buffer_mut(&mut self) -> Option<(&mut OwnedBuffer, &Regions)> {
        let (free, slot) = (self.free(), self.slot_behind(0));
        let Side::Client(buffers) = &mut self.side else { return None };
        if free == 0 { None } else { Some((buffers.buffer_mut(slot)?, self.memory.regions())) }
    }

    fn slot_behind(&self, nth: usize) -> u16 {
        // Both are less than the ring's size.
        let behind = u16::try_from(self.pending.len() + nth).unwrap_or(0);
        self.cursor.slot(self.cursor.next().wrapping_add(behind))
    }

    /// Reserves the slot behind those reserved, with this descriptor.
    pub(crate) fn add(&mut self, descriptor: Descriptor) {
        self.pending.push(descriptor);
    }

    /// Takes the buffers out, if this side owns them: the ring is not used any more.
    pub(crate) fn take_buffers(&mut self) -> Option<RingBuffers> {
        self.side.take_buffers()
    }

    /// Returns the regions of the link.
    pub(crate) fn regions(&self) -> &Regions {
        self.memory.regions()
    }

    /// Returns the index of a region on this link.
    pub(crate) fn index_of(&self, region: &Arc<Region>) -> Option<u16> {
        self.memory.regions().position(region)
    }

    /// Returns the descriptors reserved since the last `publish`, from the `start`-th on.
    #[inline]
    pub(crate) fn pending(&self, start: usize) -> &[Descriptor] {
        &self.pending[start..]
    }

    /// Sets the metadata of the packet that begins at the `start`-th pending descriptor.
    pub(crate) fn set_metadata(&mut self, start: usize, metadata: u32) {
        self.pending[start].metadata = metadata;
    }

    /// Returns the bytes of a reserved descriptor.
    #[inline]
    pub(crate) fn bytes(&self, descriptor: &Descriptor) -> &[AtomicU8] {
        // It was checked when reserved, against regions that do not change.
        self.memory
            .regions()
            .bytes(descriptor.region, descriptor.offset, descriptor.length)
            .unwrap_or(&[])
    }

    /// Discards all reserved packets, as the link is down.
    #[cold]
    pub(crate) fn discard(&mut self) {
        self.pending.clear();
    }

    /// Cancels all reserved packets but the first `packets`.
    pub(crate) fn truncate(&mut self, packets: usize) {
        if self.pending.is_empty() {
            return;
        }
        let keep = end_of_packets(&self.pending, packets);
        let cancelled =
            self.pending[keep..].iter().filter(|descriptor| !descriptor.continues()).count();
        stats::add(&self.counters.cancelled, cancelled as u64);
        self.pending.truncate(keep);
    }

    /// Hands all reserved packets to the peer; returns whether the peer wants its eventfd written.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let mut index = self.cursor.next();
        let (mut packets, mut bytes) = (0, 0);
        for descriptor in &self.pending {
            self.memory.set_descriptor(index, *descriptor);
            index = index.wrapping_add(1);
            packets += u64::from(!descriptor.continues());
            bytes += u64::from(descriptor.length);
        }
        stats::add(&self.counters.packets, packets);
        stats::add(&self.counters.bytes, bytes);
        let count = u16::try_from(self.pending.len()).unwrap_or(0);
        self.pending.clear();
        let ours = self.cursor.advance(count);
        self.publish_ours(ours);
        interrupt::is_wanted(&self.memory.header().flags)
    }
}

/// Returns how many descriptors the first `packets` packets take.
#[inline]
pub(crate) fn end_of_packets(descriptors: &[Descriptor], packets: usize) -> usize {
    let mut ends = descriptors.iter().zip(1..).filter(|(descriptor, _)| !descriptor.continues());
    match packets.checked_sub(1) {
        None => 0,
        Some(last) => ends.nth(last).map_or(descriptors.len(), |(_, end)| end),
    }
}
