//! Receiving from a ring: descriptors are read once, checked, and the checked copies used.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use super::Side;
use super::counters::{self, Counters};
use super::interrupt;
use super::ring_buffers::RingBuffers;
use super::ring_index::RingIndex;
use crate::error::{ProtocolError, RingFault};
use crate::format::ring::{Descriptor, FLAG_MASK, FLAG_NEXT};
use crate::memory::copy;
use crate::memory::pool::Held;
use crate::memory::prefetch;
use crate::memory::region::{Region, Regions};
use crate::memory::ring::RingMemory;

/// The consumer of one ring.
pub(crate) struct RxRing {
    memory: RingMemory,
    window: RingIndex,
    side: Side,
    index: u16,
    /// Bytes left free at the beginning of each buffer of ours; less than any of them holds.
    headroom: u32,
    /// The descriptors of the burst at hand, as checked.
    burst: Vec<Descriptor>,
    /// Packets and bytes in the burst.
    packets: usize,
    bytes: u64,
    counters: Arc<Counters>,
}

impl RxRing {
    /// Takes over the ring before the peer uses it. A client offers its buffers here: call this when CONNECTED has come.
    /// `masked`: whether the peer is to leave the eventfd alone at first.
    /// `headroom` is what a client leaves free in front of each packet.
    pub(crate) fn new(memory: RingMemory, side: Side, index: u16, masked: bool, headroom: u32) -> Self {
        let window = match side {
            Side::Server => RingIndex::server(memory.size()),
            Side::Client(_) => RingIndex::client_rx(memory.size()),
        };
        // Never more than the ring holds, so a burst allocates nothing.
        let burst = Vec::with_capacity(memory.size());
        let counters = Arc::default();
        let ring = Self { memory, window, side, index, headroom, burst, packets: 0, bytes: 0, counters };
        ring.set_mask(masked);
        match ring.side {
            Side::Server => interrupt::publish(&ring.memory.header().tail, 0),
            Side::Client(_) => {
                // At most 2^14 for a client.
                let all = u16::try_from(ring.memory.size()).unwrap_or(0);
                ring.offer(0, all);
                // Pairs with the server's acquire-load of head before it writes into the buffers.
                interrupt::publish(&ring.memory.header().head, ring.window.ours());
            }
        }
        ring
    }

    /// Whether no region of the link can shrink.
    pub(crate) fn sealed(&self) -> bool {
        self.memory.regions().sealed()
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
            Ok(()) => ProtocolError::Ring { direction: self.side.rx_direction(), index: self.index, cause },
            Err(lost) => lost,
        }
    }

    /// Whether all that was read so far is what the peer wrote, and not zeros in the place of lost memory.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        self.memory.regions().lost().map_or(Ok(()), |index| Err(ProtocolError::RegionLost { index }))
    }

    fn refresh(&mut self) -> Result<(), ProtocolError> {
        // Pairs with the producer's release-store after it wrote descriptors and bytes.
        let theirs = match self.side {
            Side::Server => interrupt::look(&self.memory.header().head),
            Side::Client(_) => interrupt::look(&self.memory.header().tail),
        };
        self.window.observe(theirs).map_err(|_| self.fault(RingFault::Jump { index: theirs }))
    }

    /// Checks up to `max` packets and returns how many there are; they stay until [`give_back`](Self::give_back).
    #[inline]
    pub(crate) fn collect(&mut self, max: usize) -> Result<usize, ProtocolError> {
        self.burst.clear();
        // What is known already is served first: the peer's index is on a line the peer keeps writing to.
        if usize::from(self.window.available()) < max.min(self.memory.size()) {
            self.refresh()?;
        }
        let (mut packets, mut bytes) = (0, 0);
        while packets < max && self.burst.len() < usize::from(self.window.available()) {
            loop {
                let taken = self.take()?;
                bytes += u64::from(taken.length);
                if !taken.goes_on() {
                    break;
                }
                if self.burst.len() == usize::from(self.window.available()) {
                    // What was known ended within a packet: packets are published whole, so the rest is there now.
                    self.refresh()?;
                    if self.burst.len() == usize::from(self.window.available()) {
                        return Err(
                            self.fault(RingFault::OpenChain { slot: self.slot_of(self.burst.len() - 1) })
                        );
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
            return Err(self.fault(RingFault::Empty { slot: self.window.slot(index) }));
        }
        if let Side::Client(slots) = &self.side {
            // The buffers are ours: only the length is the server's to say.
            let own = self.offered(slots, index);
            if descriptor.length > own.length {
                let (length, room) = (descriptor.length, own.length);
                return Err(self.fault(RingFault::Overlong { slot: self.window.slot(index), length, room }));
            }
            (descriptor.region, descriptor.offset) = (own.region, own.offset);
        }
        match self.memory.regions().bytes(descriptor.region, descriptor.offset, descriptor.length) {
            Some(bytes) => prefetch::read_soon(bytes),
            None => return Err(self.fault(RingFault::BufferOutside { slot: self.window.slot(index) })),
        }
        self.burst.push(descriptor);
        Ok(descriptor)
    }

    #[inline]
    fn free_running(&self, nth: usize) -> u16 {
        // A burst is never longer than a ring, and rings end at 2^15.
        #[expect(clippy::cast_possible_truncation, reason = "see above; a check would be one per packet")]
        self.window.next().wrapping_add(nth as u16)
    }

    fn slot_of(&self, nth: usize) -> u16 {
        self.window.slot(self.free_running(nth))
    }

    /// The descriptors collected.
    #[inline]
    pub(crate) fn burst(&self) -> &[Descriptor] {
        &self.burst
    }

    /// The bytes of a descriptor that was collected.
    #[inline]
    pub(crate) fn bytes(&self, descriptor: &Descriptor) -> &[AtomicU8] {
        // It was checked when collected, against regions that do not change.
        self.memory.regions().bytes(descriptor.region, descriptor.offset, descriptor.length).unwrap_or(&[])
    }

    /// Copies the bytes of a descriptor that was collected, or as many as fit, and returns how many; nothing when they are
    /// not the peer's any more.
    #[inline]
    pub(crate) fn copy(&self, descriptor: &Descriptor, to: &mut [u8]) -> Option<usize> {
        let regions = self.memory.regions();
        let copied = copy::read(regions.bytes(descriptor.region, descriptor.offset, descriptor.length)?, to);
        // After the copy: what was copied before a loss is known is good.
        (!regions.get(descriptor.region)?.is_lost()).then_some(copied)
    }

    /// Returns the buffers of the first `count` descriptors of the burst to the peer and forgets the burst: the others
    /// will be collected again.
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
            self.offer(self.window.next(), count);
        }
        let ours = self.window.advance(count);
        // Our reads of the bytes come before this, and the peer's writes after its acquire-load of the same index: the
        // client's load of tail before it fills S2M again, the server's load of head before it fills M2S again.
        match self.side {
            Side::Server => interrupt::publish(&self.memory.header().tail, ours),
            Side::Client(_) => interrupt::publish(&self.memory.header().head, ours),
        }
    }

    /// Counts the packets in the first `count` descriptors of the burst.
    #[inline]
    fn count(&self, count: usize) {
        let (packets, bytes) = if count == self.burst.len() {
            (self.packets, self.bytes)
        } else {
            let given = &self.burst[..count];
            let whole = given.iter().filter(|descriptor| !descriptor.goes_on()).count();
            (whole, given.iter().map(|descriptor| u64::from(descriptor.length)).sum())
        };
        counters::add(&self.counters.packets, packets as u64);
        counters::add(&self.counters.bytes, bytes);
    }

    /// Takes the NEXT flags out of the first `count` descriptors of the burst, as libmemif's server does. DPDK 22.11's
    /// client depends on it: it sets the flag where a packet goes on, but never clears it in a packet's first descriptor,
    /// and so a short packet in a slot that had begun a chain would seem to go on without end.
    #[inline]
    fn unchain(&self, count: usize) {
        for (nth, &descriptor) in self.burst[..count].iter().enumerate() {
            if descriptor.goes_on() {
                let flags = descriptor.flags & !FLAG_NEXT;
                self.memory.set_descriptor(self.free_running(nth), Descriptor { flags, ..descriptor });
            }
        }
    }

    /// Writes `count` whole descriptors from free-running index `from`: servers clear or keep flags as they like.
    fn offer(&self, from: u16, count: u16) {
        if let Side::Client(slots) = &self.side {
            for index in (0..count).map(|n| from.wrapping_add(n)) {
                self.memory.set_descriptor(index, self.offered(slots, index));
            }
        }
    }

    /// The room that is offered in the buffer of a free-running index.
    #[inline]
    fn offered(&self, slots: &RingBuffers, index: u16) -> Descriptor {
        let whole = slots.descriptor(self.window.slot(index));
        let (length, offset) = (whole.length - self.headroom, whole.offset + self.headroom);
        Descriptor { length, offset, ..whole }
    }

    /// Makes buffers ready to be exchanged; whether they are ours.
    pub(crate) fn own_buffers(&mut self) -> bool {
        let Side::Client(slots) = &mut self.side else { return false };
        slots.own(self.memory.size());
        true
    }

    /// The buffer of the `nth` descriptor of the burst, if it can be exchanged.
    pub(crate) fn held(&self, nth: usize) -> Option<&Held> {
        let Side::Client(slots) = &self.side else { return None };
        slots.held(self.slot_of(nth))
    }

    /// The same, to be exchanged, and the regions another must be of.
    pub(crate) fn slot(&mut self, nth: usize) -> Option<(&mut Held, &Regions)> {
        let slot = self.slot_of(nth);
        let Side::Client(slots) = &mut self.side else { return None };
        Some((slots.held_mut(slot)?, self.memory.regions()))
    }

    /// Takes the buffers out, if they are ours: the ring is not used any more.
    pub(crate) fn take_buffers(&mut self) -> Option<RingBuffers> {
        self.side.take_buffers()
    }

    /// The number a region has on this link.
    pub(crate) fn index_of(&self, region: &Arc<Region>) -> Option<u16> {
        self.memory.regions().position(region)
    }

    /// Asks the peer to write the eventfd, or not to.
    pub(crate) fn set_mask(&self, masked: bool) {
        // Relaxed: only `arm` depends on an order, and asks in another way.
        self.memory.header().flags.store(if masked { FLAG_MASK } else { 0 }, Relaxed);
    }

    /// Asks the peer for an interrupt and looks once more; whether packets are there already.
    pub(crate) fn arm(&mut self) -> Result<bool, ProtocolError> {
        interrupt::ask(&self.memory.header().flags);
        self.refresh()?;
        self.check()?;
        Ok(self.window.available() != 0)
    }
}
