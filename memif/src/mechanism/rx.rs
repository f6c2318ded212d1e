//! Receiving from a ring: each descriptor is read once and checked, and the checked copy is used.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::Side;
use super::interrupt;
use super::ring_buffers::RingBuffers;
use super::ring_index::RingIndex;
use super::stats::{self, Counters};
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_MASK, FLAG_NEXT};
use crate::memory::copy;
use crate::memory::pool::OwnedBuffer;
use crate::memory::region::{self, Region, Regions};
use crate::memory::ring::RingMemory;

/// The most descriptors of one packet: 64 KiB in the smallest buffers that peers use.
const MAX_CHAIN: usize = 1 << 10;

/// The most that a burst takes from a ring. The packet that reaches the limit of descriptors or of
/// bytes is the last one, and is taken whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurstLimit {
    /// Packets.
    pub packets: usize,
    /// Descriptors of these packets: each costs about as much as a short packet.
    pub descriptors: usize,
    /// Bytes of these packets.
    pub bytes: u64,
}

impl BurstLimit {
    /// Returns a limit of packets only.
    #[must_use]
    pub fn packets(packets: usize) -> Self {
        Self { packets, descriptors: usize::MAX, bytes: u64::MAX }
    }

    /// Returns whether nothing may be taken.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.packets == 0 || self.descriptors == 0 || self.bytes == 0
    }
}

/// The consumer of one ring.
pub(crate) struct RxRing {
    memory: RingMemory,
    cursor: RingIndex,
    side: Side,
    index: u16,
    /// Bytes left free at the beginning of each buffer that this side owns; less than the smallest
    /// of them holds.
    headroom: u32,
    /// The descriptors of the current burst, as checked.
    burst: Vec<Descriptor>,
    /// Packets and bytes in the burst.
    packets: usize,
    bytes: u64,
    counters: Arc<Counters>,
}

impl RxRing {
    /// Takes over the ring before the peer uses it. A client offers its buffers here: call this
    /// after CONNECTED. With `masked`, the peer does not write the eventfd at first. `headroom` is
    /// the number of bytes that a client leaves free in front of each packet. With `manual`, a client
    /// offers nothing.
    pub(crate) fn new(
        memory: RingMemory,
        side: Side,
        index: u16,
        masked: bool,
        headroom: u32,
        manual: bool,
    ) -> Self {
        let cursor = match side {
            Side::Server => RingIndex::server(memory.size()),
            Side::Client(_) => RingIndex::client_rx(memory.size()),
        };
        // Never more than the ring holds, so a burst allocates nothing.
        let burst = Vec::with_capacity(memory.size());
        let counters = Arc::default();
        let ring =
            Self { memory, cursor, side, index, headroom, burst, packets: 0, bytes: 0, counters };
        ring.set_mask(masked);
        match ring.side {
            Side::Server => interrupt::publish(&ring.memory.header().tail, 0),
            Side::Client(_) if manual => {}
            Side::Client(_) => {
                // At most 2^14 for a client.
                let all = u16::try_from(ring.memory.size()).unwrap_or(0);
                ring.offer(0, all);
                // Release: pairs with the server's acquire-load of head before it writes into the
                // buffers.
                interrupt::publish(&ring.memory.header().head, ring.cursor.ours());
            }
        }
        ring
    }

    /// Returns whether no region of the link can shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.memory.regions().sealed()
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
                direction: self.side.rx_direction(),
                index: self.index,
                cause,
            },
            Err(lost) => lost,
        }
    }

    /// Checks that everything read so far is what the peer wrote, and not zeros in the place of
    /// lost memory.
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
        // Acquire: pairs with the producer's release-store after it wrote descriptors and bytes.
        match self.side {
            Side::Server => interrupt::load_index(&self.memory.header().head),
            Side::Client(_) => interrupt::load_index(&self.memory.header().tail),
        }
    }

    /// Stores this side's index.
    #[inline]
    pub(super) fn publish_ours(&self, ours: u16) {
        // Release: our reads of the bytes come before this. It pairs with the peer's acquire-load
        // of the same index before it writes: the client's load of tail before it fills S2M again,
        // the server's load of head before it fills M2S again.
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

    /// Returns whether this side owns the buffers.
    #[inline]
    pub(super) fn owns_buffers(&self) -> bool {
        matches!(self.side, Side::Client(_))
    }

    fn refresh(&mut self) -> Result<(), ProtocolError> {
        let theirs = self.load_theirs();
        self.cursor.observe(theirs).map_err(|_| self.error(RingError::Jump { index: theirs }))
    }

    /// Checks packets within `limit` and returns how many there are; they stay until
    /// [`give_back`](Self::give_back).
    #[inline]
    pub(crate) fn collect(&mut self, limit: BurstLimit) -> Result<usize, ProtocolError> {
        let max = limit.packets;
        self.burst.clear();
        // Packets that are known already come first: the peer's index is on a cache line that the
        // peer keeps writing to.
        if usize::from(self.cursor.available()) < max.min(self.memory.size()) {
            self.refresh()?;
        }
        let (mut packets, mut bytes) = (0, 0);
        while packets < max
            && self.burst.len() < usize::from(self.cursor.available()).min(limit.descriptors)
            && bytes < limit.bytes
        {
            let start = self.burst.len();
            loop {
                let taken = self.take()?;
                bytes += u64::from(taken.length);
                if !taken.continues() {
                    break;
                }
                if self.burst.len() - start == MAX_CHAIN {
                    let slot = self.slot_of(start);
                    return Err(self.error(RingError::LongChain { slot, max: MAX_CHAIN }));
                }
                if self.burst.len() == usize::from(self.cursor.available()) {
                    // The known descriptors end within a packet. Packets are published whole, so
                    // the rest is there now.
                    self.refresh()?;
                    if self.burst.len() == usize::from(self.cursor.available()) {
                        return Err(self.error(RingError::OpenChain {
                            slot: self.slot_of(self.burst.len() - 1),
                        }));
                    }
                }
            }
            packets += 1;
        }
        self.check()?;
        (self.packets, self.bytes) = (packets, bytes);
        Ok(packets)
    }

    /// Takes the next descriptor into the burst.
    #[inline]
    fn take(&mut self) -> Result<Descriptor, ProtocolError> {
        let index = self.free_running(self.burst.len());
        let mut descriptor = self.memory.descriptor(index);
        if descriptor.length == 0 {
            return Err(self.error(RingError::Empty { slot: self.cursor.slot(index) }));
        }
        if let Side::Client(buffers) = &self.side {
            // This side owns the buffers: of the server's descriptor only the length counts.
            let own = self.offered(buffers, index);
            if descriptor.length > own.length {
                let (length, room) = (descriptor.length, own.length);
                return Err(self.error(RingError::Overlong {
                    slot: self.cursor.slot(index),
                    length,
                    room,
                }));
            }
            (descriptor.region, descriptor.offset) = (own.region, own.offset);
        }
        match self.memory.regions().bytes(descriptor.region, descriptor.offset, descriptor.length) {
            Some(bytes) => region::prefetch_read(bytes),
            None => {
                return Err(self.error(RingError::BufferOutside { slot: self.cursor.slot(index) }));
            }
        }
        self.burst.push(descriptor);
        Ok(descriptor)
    }

    #[inline]
    fn free_running(&self, nth: usize) -> u16 {
        // A burst is never longer than a ring, and rings end at 2^15.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "see above; a check would be one per packet"
        )]
        self.cursor.next().wrapping_add(nth as u16)
    }

    fn slot_of(&self, nth: usize) -> u16 {
        self.cursor.slot(self.free_running(nth))
    }

    /// Returns the descriptors of the current burst.
    #[inline]
    pub(crate) fn burst(&self) -> &[Descriptor] {
        &self.burst
    }

    /// Returns the bytes in the current burst.
    #[inline]
    pub(crate) fn burst_bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes of a descriptor of the current burst.
    #[inline]
    pub(crate) fn bytes(&self, descriptor: &Descriptor) -> &[AtomicU8] {
        // `take` has checked it, against regions that do not change.
        self.memory
            .regions()
            .bytes(descriptor.region, descriptor.offset, descriptor.length)
            .unwrap_or(&[])
    }

    /// Copies the bytes of a descriptor of the current burst, or as many as fit, and returns how
    /// many; `None` when the memory is lost.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the compiler takes the copy's assembly for a large function; a call halves the rate"
    )]
    pub(crate) fn copy(&self, descriptor: &Descriptor, to: &mut [u8]) -> Option<usize> {
        let regions = self.memory.regions();
        let copied =
            copy::read(regions.bytes(descriptor.region, descriptor.offset, descriptor.length)?, to);
        // After the copy: bytes copied before the loss are the peer's.
        (!regions.get(descriptor.region)?.is_lost()).then_some(copied)
    }

    /// Returns the buffers of the first `count` descriptors to the peer and ends the burst: the
    /// next one collects the others again.
    #[inline]
    pub(crate) fn give_back(&mut self, count: usize) {
        let count = count.min(self.burst.len());
        if let Side::Server = self.side {
            self.unchain(count);
        }
        self.count(count);
        self.burst.clear();
        (self.packets, self.bytes) = (0, 0);
        if count == 0 {
            return;
        }
        // A burst is never longer than a ring, and rings end at 2^15.
        let count = u16::try_from(count).unwrap_or(0);
        if let Side::Client(_) = self.side {
            self.offer(self.cursor.next(), count);
        }
        let ours = self.cursor.advance(count);
        self.publish_ours(ours);
    }

    /// Counts the packets in the first `count` descriptors of the burst.
    #[inline]
    fn count(&self, count: usize) {
        let (packets, bytes) = if count == self.burst.len() {
            (self.packets, self.bytes)
        } else {
            let given = &self.burst[..count];
            let whole = given.iter().filter(|descriptor| !descriptor.continues()).count();
            (whole, given.iter().map(|descriptor| u64::from(descriptor.length)).sum())
        };
        stats::add(&self.counters.packets, packets as u64);
        stats::add(&self.counters.bytes, bytes);
    }

    /// Clears the NEXT flags of the first `count` descriptors of the burst, as libmemif's server
    /// does. DPDK 22.11's client depends on it: it sets the flag where a packet continues, but
    /// never clears it in a packet's first descriptor. A short packet in a slot that once started a
    /// chain would seem to continue.
    #[inline]
    fn unchain(&self, count: usize) {
        for (nth, &descriptor) in self.burst[..count].iter().enumerate() {
            if descriptor.continues() {
                let flags = descriptor.flags & !FLAG_NEXT;
                self.memory
                    .set_descriptor(self.free_running(nth), Descriptor { flags, ..descriptor });
            }
        }
    }

    /// Writes `count` whole descriptors from free-running index `from`: some servers clear the
    /// flags, others keep them.
    fn offer(&self, from: u16, count: u16) {
        if let Side::Client(buffers) = &self.side {
            for index in (0..count).map(|n| from.wrapping_add(n)) {
                self.memory.set_descriptor(index, self.offered(buffers, index));
            }
        }
    }

    /// Returns the room to offer in the buffer of a free-running index.
    #[inline]
    fn offered(&self, buffers: &RingBuffers, index: u16) -> Descriptor {
        let whole = buffers.descriptor(self.cursor.slot(index));
        let (length, offset) = (whole.length - self.headroom, whole.offset + self.headroom);
        Descriptor { length, offset, ..whole }
    }

    /// Makes the buffers ready to be exchanged; returns whether this side owns them.
    pub(crate) fn make_exchangeable(&mut self) -> bool {
        let Side::Client(buffers) = &mut self.side else { return false };
        buffers.make_table(self.memory.size());
        true
    }

    /// Returns the buffer of the `nth` descriptor of the burst, if it can be exchanged.
    pub(crate) fn buffer(&self, nth: usize) -> Option<&OwnedBuffer> {
        let Side::Client(buffers) = &self.side else { return None };
        buffers.buffer(self.slot_of(nth))
    }

    /// Returns the buffer of the `nth` descriptor, to be exchanged, and the regions that another
    /// buffer must be in.
    pub(crate) fn buffer_mut(&mut self, nth: usize) -> Option<(&mut OwnedBuffer, &Regions)> {
        let slot = self.slot_of(nth);
        let Side::Client(buffers) = &mut self.side else { return None };
        Some((buffers.buffer_mut(slot)?, self.memory.regions()))
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

    /// Asks the peer to write the eventfd, or with `masked` not to.
    pub(crate) fn set_mask(&self, masked: bool) {
        // Relaxed: only `arm` depends on an order, and it uses `interrupt::request`.
        self.memory.header().flags.store(if masked { FLAG_MASK } else { 0 }, Relaxed);
    }

    /// Asks the peer for an interrupt, then checks the ring; returns whether packets are there
    /// already.
    pub(crate) fn arm(&mut self) -> Result<bool, ProtocolError> {
        interrupt::request(&self.memory.header().flags);
        self.refresh()?;
        self.check()?;
        Ok(self.cursor.available() != 0)
    }
}
