//! Receiving descriptors, which the caller holds until it gives them back.

use std::sync::atomic::AtomicU8;

use super::SlotBuffer;
use super::rx_marks::RxMarks;
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::rx::RxRing;
use crate::mechanism::stats;
use crate::memory::region;

/// The state of one ring to receive on, beside the [`RxRing`] that it is on.
#[derive(Debug)]
pub(crate) struct ManualRxRing {
    marks: RxMarks,
    /// The buffer of each slot, and where the peer may fill it: the first byte and the length. On a
    /// server the peer's descriptors say both.
    slots: Box<[(SlotBuffer, u32, u32)]>,
    /// Packets and bytes taken since they were last counted.
    packets: u64,
    bytes: u64,
}

/// Returns the place in the ring of a free-running index.
#[inline]
fn slot_of(ring: &RxRing, index: u16) -> usize {
    usize::from(index) & (ring.size() - 1)
}

impl ManualRxRing {
    /// Takes over a ring that has not been used: a client's has no buffer on offer.
    pub(crate) fn new(ring: &RxRing) -> Self {
        let slot = |descriptor: Descriptor| {
            let Descriptor { region, offset, length: size, .. } = descriptor;
            (SlotBuffer { region, offset, size }, 0, 0)
        };
        let own = ring.own_buffers();
        let slots = own.map(|own| own.map(slot).collect()).unwrap_or_default();
        let marks = RxMarks::new(ring.size(), ring.owns_buffers());
        Self { marks, slots, packets: 0, bytes: 0 }
    }

    /// Returns how many descriptors can be taken; loads the peer's index.
    #[inline]
    pub(crate) fn available(&mut self, ring: &RxRing) -> Result<u16, ProtocolError> {
        let theirs = ring.load_theirs();
        let observed = self.marks.observe(theirs);
        observed.map_err(|_| ring.error(RingError::Jump { index: theirs }))?;
        ring.check()?;
        stats::add(&ring.counters().packets, std::mem::take(&mut self.packets));
        stats::add(&ring.counters().bytes, std::mem::take(&mut self.bytes));
        Ok(self.marks.available())
    }

    /// Takes up to `count` of the descriptors that [`available`](Self::available) has found, and
    /// calls `each` with every one, checked, and its index and bytes. Returns how many.
    ///
    /// On an error those before the faulty one are taken.
    #[inline]
    pub(crate) fn take(
        &mut self,
        ring: &RxRing,
        count: u16,
        each: impl FnMut(u16, Descriptor, &[AtomicU8]),
    ) -> Result<u16, ProtocolError> {
        let count = count.min(self.marks.available());
        if ring.owns_buffers() {
            // They are written when they are offered again.
            ring.memory().prefetch_write(self.marks.next(), count);
            self.take_as::<true>(ring, count, each)
        } else {
            self.take_as::<false>(ring, count, each)
        }
    }

    /// [`take`](Self::take) with the role known, in a loop that fits the registers.
    #[inline]
    fn take_as<const CLIENT: bool>(
        &mut self,
        ring: &RxRing,
        count: u16,
        mut each: impl FnMut(u16, Descriptor, &[AtomicU8]),
    ) -> Result<u16, ProtocolError> {
        let (memory, first) = (ring.memory(), self.marks.next());
        let (regions, slots) = (memory.regions().view(), &*self.slots);
        let (mut done, mut packets, mut bytes) = (0, 0, 0);
        let fault = loop {
            if done == count {
                break None;
            }
            let index = first.wrapping_add(done);
            // A ring has at most 2^15 slots.
            let slot = || u16::try_from(slot_of(ring, index)).unwrap_or(0);
            let read = memory.descriptor(index);
            let mut taken = read;
            if taken.length == 0 {
                break Some(RingError::Empty { slot: slot() });
            }
            if CLIENT {
                let (buffer, start, room) = slots[slot_of(ring, index)];
                if taken.length > room {
                    break Some(RingError::Overlong { slot: slot(), length: taken.length, room });
                }
                (taken.region, taken.offset) = (buffer.region, buffer.offset + start);
            }
            let Some(piece) = regions.bytes(taken.region, taken.offset, taken.length) else {
                break Some(RingError::BufferOutside { slot: slot() });
            };
            region::prefetch_read(piece);
            // As libmemif's server does, and DPDK 22.11's client depends on; see `RxRing::unchain`.
            if !CLIENT && read.continues() {
                memory.set_descriptor(index, Descriptor { flags: read.flags & !FLAG_NEXT, ..read });
            }
            packets += u64::from(!taken.continues());
            bytes += u64::from(taken.length);
            done += 1;
            each(index, taken, piece);
        };
        self.marks.take(done);
        self.packets += packets;
        self.bytes += bytes;
        fault.map_or(Ok(done), |fault| Err(ring.error(fault)))
    }

    /// Gives up to `count` descriptors back, the oldest first, and returns how many. A client leaves
    /// `headroom` bytes free in front of what the peer fills in, or asks `place` for the byte of the
    /// buffers' region that is filled first.
    ///
    /// On an error nothing more is given back: `place` lies outside, or the headroom leaves no room.
    pub(crate) fn refill(
        &mut self,
        ring: &RxRing,
        count: u16,
        headroom: u32,
        mut place: Option<&mut dyn FnMut() -> u32>,
    ) -> Result<u16, u16> {
        let count = count.min(self.marks.held());
        let done = if ring.owns_buffers() {
            let (memory, first) = (ring.memory(), self.marks.ours());
            let (regions, slots) = (memory.regions().view(), &mut *self.slots);
            let mut done = 0;
            while done < count {
                let index = first.wrapping_add(done);
                let (buffer, start, room) = &mut slots[slot_of(ring, index)];
                let (mut moved, mut at) = (*buffer, headroom);
                if let Some(place) = &mut place {
                    at = moved.move_to(place());
                    if regions.bytes(moved.region, moved.offset, moved.size).is_none() {
                        break;
                    }
                }
                let length = moved.size.saturating_sub(headroom.max(at));
                if length == 0 {
                    break;
                }
                (*buffer, *start, *room) = (moved, at, length);
                let (region, offset) = (moved.region, moved.offset + at);
                memory.set_descriptor(
                    index,
                    Descriptor { flags: 0, region, length, offset, metadata: 0 },
                );
                done += 1;
            }
            done
        } else {
            count
        };
        if done != 0 {
            let ours = self.marks.give_back(done);
            ring.publish_ours(ours);
        }
        if done == count { Ok(done) } else { Err(done) }
    }

    /// Returns the buffer of a descriptor that the caller holds, if this side owns the buffers.
    pub(crate) fn held(&mut self, ring: &RxRing, index: u16) -> Option<&mut SlotBuffer> {
        if !self.marks.holds(index) {
            return None;
        }
        let slot = slot_of(ring, index);
        self.slots.get_mut(slot).map(|(buffer, ..)| buffer)
    }

    /// Exchanges the buffers of two descriptors that the caller holds; returns whether it could.
    pub(crate) fn exchange(&mut self, ring: &RxRing, left: u16, right: u16) -> bool {
        if self.held(ring, left).is_none() || self.held(ring, right).is_none() {
            return false;
        }
        let (left, right) = (slot_of(ring, left), slot_of(ring, right));
        let buffer = self.slots[left].0;
        self.slots[left].0 = self.slots[right].0;
        self.slots[right].0 = buffer;
        true
    }
}
