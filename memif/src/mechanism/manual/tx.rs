//! Sending one descriptor at a time: descriptors are reserved, written in order, and published as
//! whole packets.

use super::SlotBuffer;
use super::rx::Taken;
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::interrupt;
use crate::mechanism::ring_index::RingIndex;
use crate::mechanism::stats;
use crate::mechanism::tx::{AHEAD, TxRing};
use crate::memory::region;

/// The state of one ring to send on, beside the [`TxRing`] that it is on.
#[derive(Debug)]
pub(crate) struct ManualTxRing {
    /// Its `next` is the first descriptor that is not published.
    cursor: RingIndex,
    /// Descriptors behind that: those reserved, those of them that are written, and those of them
    /// that make whole packets.
    reserved: u16,
    written: u16,
    whole: u16,
    packets: u64,
    bytes: u64,
    /// The buffer of each slot. On a server, as the peer's descriptor said when it was reserved.
    slots: Box<[SlotBuffer]>,
}

impl ManualTxRing {
    /// Takes over a ring that has not been used.
    pub(crate) fn new(ring: &TxRing) -> Self {
        let slot = |descriptor: Descriptor| {
            let Descriptor { region, offset, length: size, .. } = descriptor;
            SlotBuffer { region, offset, size }
        };
        let (cursor, slots) = match ring.own_buffers() {
            Some(own) => (RingIndex::client_tx(ring.size()), own.map(slot).collect()),
            None => {
                (RingIndex::server(ring.size()), vec![SlotBuffer::default(); ring.size()].into())
            }
        };
        Self { cursor, reserved: 0, written: 0, whole: 0, packets: 0, bytes: 0, slots }
    }

    fn slot(&self, index: u16) -> usize {
        usize::from(index) & (self.slots.len() - 1)
    }

    fn behind(&self, count: u16) -> u16 {
        self.cursor.next().wrapping_add(count)
    }

    /// Returns how many descriptors can be reserved; loads the peer's index.
    #[inline]
    pub(crate) fn free(&mut self, ring: &TxRing) -> Result<u16, ProtocolError> {
        let theirs = ring.load_theirs();
        let observed = self.cursor.observe(theirs);
        observed.map_err(|_| ring.error(RingError::Jump { index: theirs }))?;
        ring.check()?;
        Ok(self.cursor.available() - self.reserved)
    }

    /// Reserves the next descriptor and returns its index and buffer; `None` when none is known to
    /// be free. `place` moves the buffer of a client to that byte of its region: outside of it,
    /// nothing is reserved.
    #[inline]
    pub(crate) fn reserve<'r>(
        &mut self,
        ring: &'r TxRing,
        place: Option<u32>,
    ) -> Result<Option<Taken<'r>>, ProtocolError> {
        if self.cursor.available() == self.reserved {
            return Ok(None);
        }
        let index = self.behind(self.reserved);
        let slot = self.slot(index);
        let mut buffer = self.slots[slot];
        let mut start = 0;
        if ring.owns_buffers() {
            Self::prefetch(ring, self.slots[self.slot(index.wrapping_add(AHEAD))]);
            if let Some(place) = place {
                start = buffer.move_to(place);
                self.slots[slot] = buffer;
            }
        } else {
            let Descriptor { region, offset, length: size, .. } = ring.memory().descriptor(index);
            if size == 0 {
                return Err(ring.error(RingError::Empty { slot: self.cursor.slot(index) }));
            }
            buffer = SlotBuffer { region, offset, size };
            Self::prefetch(ring, buffer);
            self.slots[slot] = buffer;
        }
        let SlotBuffer { region, offset, size } = buffer;
        let Some(whole) = ring.memory().regions().bytes(region, offset, size) else {
            return if ring.owns_buffers() {
                Ok(None)
            } else {
                Err(ring.error(RingError::BufferOutside { slot: self.cursor.slot(index) }))
            };
        };
        // Less than the size.
        let bytes = whole.get(start as usize..).unwrap_or(&[]);
        self.reserved += 1;
        let (offset, length) = (offset + start, size - start);
        let room = Descriptor { flags: 0, region, length, offset, metadata: 0 };
        Ok(Some((index, room, bytes)))
    }

    #[inline]
    fn prefetch(ring: &TxRing, buffer: SlotBuffer) {
        let regions = ring.memory().regions();
        if let Some(bytes) = regions.bytes(buffer.region, buffer.offset, buffer.size.min(1)) {
            region::prefetch_write(bytes);
        }
    }

    /// Returns the region of a slot's buffer, and where it begins in it.
    #[inline]
    pub(crate) fn place(&self, index: u16) -> (u16, u32) {
        let SlotBuffer { region, offset, .. } = self.slots[self.slot(index)];
        (region, offset)
    }

    /// Cancels the reservations from `index` on; returns whether all of them were reserved and none
    /// was written.
    pub(crate) fn rewind(&mut self, index: u16) -> bool {
        let keep = index.wrapping_sub(self.cursor.next());
        let can = (self.written..=self.reserved).contains(&keep);
        if can {
            self.reserved = keep;
        }
        can
    }

    /// Returns whether the caller may write the descriptor with this index next: it is the first one
    /// that is reserved and not written. Only the bits that name the slot count.
    #[inline]
    fn is_next(&self, index: u16) -> bool {
        self.written < self.reserved && self.slot(index) == self.slot(self.behind(self.written))
    }

    /// Writes the next descriptor: `length` bytes (at least 1) from byte `start` of the buffer.
    /// Returns whether `index` is the next one and the bytes are inside.
    #[inline]
    pub(crate) fn write(
        &mut self,
        ring: &TxRing,
        index: u16,
        start: u32,
        length: u32,
        continues: bool,
    ) -> bool {
        let SlotBuffer { region, offset, size } = self.slots[self.slot(index)];
        let end = u64::from(start) + u64::from(length);
        if !self.is_next(index) || length == 0 || end > size.into() {
            return false;
        }
        let (flags, offset) = (if continues { FLAG_NEXT } else { 0 }, offset + start);
        ring.memory().set_descriptor(
            self.behind(self.written),
            Descriptor { flags, region, length, offset, metadata: 0 },
        );
        self.written += 1;
        self.bytes += u64::from(length);
        if !continues {
            self.whole = self.written;
            self.packets += 1;
        }
        true
    }

    /// Publishes the whole packets among what is written; the beginning of a packet waits for its
    /// end. Returns whether the peer wants its eventfd written.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &TxRing) -> bool {
        let count = std::mem::take(&mut self.whole);
        if count == 0 {
            return false;
        }
        stats::add(&ring.counters().packets, std::mem::take(&mut self.packets));
        stats::add(&ring.counters().bytes, std::mem::take(&mut self.bytes));
        self.reserved -= count;
        self.written -= count;
        ring.publish_ours(self.cursor.advance(count));
        interrupt::is_wanted(&ring.memory().header().flags)
    }

    /// Returns the buffer of a descriptor that is reserved and not written, if this side owns the
    /// buffers.
    pub(crate) fn held(&mut self, ring: &TxRing, index: u16) -> Option<&mut SlotBuffer> {
        let place = index.wrapping_sub(self.cursor.next());
        let held = ring.owns_buffers() && (self.written..self.reserved).contains(&place);
        let slot = self.slot(index);
        held.then(|| &mut self.slots[slot])
    }

    /// Exchanges the buffers of two descriptors that are reserved and not written; returns whether
    /// it could.
    pub(crate) fn exchange(&mut self, ring: &TxRing, left: u16, right: u16) -> bool {
        let can = self.held(ring, left).is_some() && self.held(ring, right).is_some();
        if can {
            let (left, right) = (self.slot(left), self.slot(right));
            self.slots.swap(left, right);
        }
        can
    }

    /// Reserves the next descriptor for `buffer`, which becomes the one that was there. Returns the
    /// descriptor's index, or `None` when none is known to be free or the peer owns the buffers.
    pub(crate) fn enqueue(&mut self, ring: &TxRing, buffer: &mut SlotBuffer) -> Option<u16> {
        if !ring.owns_buffers() || self.cursor.available() == self.reserved {
            return None;
        }
        let index = self.behind(self.reserved);
        let slot = self.slot(index);
        std::mem::swap(&mut self.slots[slot], buffer);
        self.reserved += 1;
        Some(index)
    }
}
