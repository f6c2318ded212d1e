//! Receiving one descriptor at a time.

use std::sync::atomic::AtomicU8;

use super::SlotBuffer;
use super::rx_marks::RxMarks;
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::rx::RxRing;
use crate::mechanism::stats;
use crate::memory::region;

/// A descriptor with its index and its bytes.
pub(crate) type Taken<'r> = (u16, Descriptor, &'r [AtomicU8]);

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

    /// Takes the next descriptor, checked, with its index; `None` when none is known to be there.
    #[inline]
    pub(crate) fn take<'r>(
        &mut self,
        ring: &'r RxRing,
    ) -> Result<Option<Taken<'r>>, ProtocolError> {
        if self.marks.available() == 0 {
            return Ok(None);
        }
        let index = self.marks.next();
        // A ring has at most 2^15 slots.
        let slot = || u16::try_from(slot_of(ring, index)).unwrap_or(0);
        let read = ring.memory().descriptor(index);
        let mut taken = read;
        if taken.length == 0 {
            return Err(ring.error(RingError::Empty { slot: slot() }));
        }
        if let Some((buffer, start, room)) = self.slots.get(slot_of(ring, index)) {
            if taken.length > *room {
                let (length, room) = (taken.length, *room);
                return Err(ring.error(RingError::Overlong { slot: slot(), length, room }));
            }
            (taken.region, taken.offset) = (buffer.region, buffer.offset + start);
        }
        let Some(bytes) = ring.memory().regions().bytes(taken.region, taken.offset, taken.length)
        else {
            return Err(ring.error(RingError::BufferOutside { slot: slot() }));
        };
        region::prefetch_read(bytes);
        // As libmemif's server does, and DPDK 22.11's client depends on; see `RxRing::unchain`.
        if read.continues() && !ring.owns_buffers() {
            ring.memory()
                .set_descriptor(index, Descriptor { flags: read.flags & !FLAG_NEXT, ..read });
        }
        self.marks.take();
        self.packets += u64::from(!taken.continues());
        self.bytes += u64::from(taken.length);
        Ok(Some((index, taken, bytes)))
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
        let mut done = 0;
        if ring.owns_buffers() {
            while done < count {
                let index = self.marks.ours().wrapping_add(done);
                let at = place.as_mut().map(|place| place());
                if !self.offer(ring, index, headroom, at) {
                    break;
                }
                done += 1;
            }
        } else {
            done = count;
        }
        if done != 0 {
            let ours = self.marks.give_back(done);
            ring.publish_ours(ours);
        }
        if done == count { Ok(done) } else { Err(done) }
    }

    fn offer(&mut self, ring: &RxRing, index: u16, headroom: u32, place: Option<u32>) -> bool {
        let slot = slot_of(ring, index);
        let Some((buffer, start, room)) = self.slots.get_mut(slot) else { return false };
        let mut moved = *buffer;
        let first = place.map_or(headroom, |place| moved.move_to(place));
        let Some(length) = moved.size.checked_sub(headroom.max(first)).filter(|room| *room != 0)
        else {
            return false;
        };
        if ring.memory().regions().bytes(moved.region, moved.offset, moved.size).is_none() {
            return false;
        }
        (*buffer, *start, *room) = (moved, first, length);
        let (region, offset) = (moved.region, moved.offset + first);
        ring.memory()
            .set_descriptor(index, Descriptor { flags: 0, region, length, offset, metadata: 0 });
        true
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
