//! Sending descriptors that the caller holds: they are reserved, written in order, and published as
//! whole packets.

use std::sync::atomic::AtomicU8;

use super::SlotBuffer;
use crate::error::{ProtocolError, RingError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::interrupt;
use crate::mechanism::ring_index::RingIndex;
use crate::mechanism::stats;
use crate::mechanism::tx::TxRing;
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

/// What was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reserved {
    /// Packets.
    pub packets: usize,
    /// Descriptors of these packets.
    pub descriptors: usize,
    /// Whether the place for the next packet was outside its region.
    pub misplaced: bool,
}

/// What is sent of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the buffer, in bytes.
    pub start: u32,
    /// Its length in bytes, at least 1.
    pub length: u32,
    /// Whether the packet continues in the next descriptor.
    pub continues: bool,
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

    /// Reserves up to `packets` packets of `size` bytes, in as many descriptors as each takes, and
    /// calls `each` with the index of every one and the bytes of the packet that it is for. `place`
    /// moves the buffer of a client to that byte of its region.
    ///
    /// A packet for which there was no room has no descriptor reserved, though `each` was called for
    /// some. On an error nothing is reserved.
    #[inline]
    pub(crate) fn reserve(
        &mut self,
        ring: &TxRing,
        packets: u16,
        size: u32,
        place: Option<&mut dyn FnMut() -> u32>,
        each: impl FnMut(u16, Descriptor, &[AtomicU8]),
    ) -> Result<Reserved, ProtocolError> {
        if ring.owns_buffers() {
            self.reserve_as::<true>(ring, packets, size, place, each)
        } else {
            self.reserve_as::<false>(ring, packets, size, None, each)
        }
    }

    /// [`reserve`](Self::reserve) with the role known, in a loop that fits the registers.
    #[inline]
    fn reserve_as<const CLIENT: bool>(
        &mut self,
        ring: &TxRing,
        packets: u16,
        size: u32,
        mut place: Option<&mut dyn FnMut() -> u32>,
        mut each: impl FnMut(u16, Descriptor, &[AtomicU8]),
    ) -> Result<Reserved, ProtocolError> {
        let memory = ring.memory();
        let (first, free) = (self.behind(self.reserved), self.cursor.available() - self.reserved);
        memory.prefetch_write(first, free.min(packets));
        let regions = memory.regions().view();
        let (mut whole, mut descriptors, mut misplaced) = (0, 0, false);
        let (mut next, mut rest) = (0, size);
        while rest != 0 && whole != packets && next != free {
            let index = first.wrapping_add(next);
            let slot = self.slot(index);
            let mut start = 0;
            let buffer = if CLIENT {
                let buffer = &mut self.slots[slot];
                if let Some(place) = &mut place {
                    let mut moved = *buffer;
                    start = moved.move_to(place());
                    if regions.bytes(moved.region, moved.offset, moved.size).is_none() {
                        misplaced = true;
                        break;
                    }
                    *buffer = moved;
                }
                *buffer
            } else {
                let Descriptor { region, offset, length: size, .. } = memory.descriptor(index);
                if size == 0 {
                    return Err(ring.error(RingError::Empty { slot: self.cursor.slot(index) }));
                }
                let buffer = SlotBuffer { region, offset, size };
                self.slots[slot] = buffer;
                buffer
            };
            let Some(all) = regions.bytes(buffer.region, buffer.offset, buffer.size) else {
                return Err(ring.error(RingError::BufferOutside { slot: self.cursor.slot(index) }));
            };
            // The place is less than the size.
            let (offset, length) = (buffer.offset + start, rest.min(buffer.size - start));
            let bytes = &all[start as usize..][..length as usize];
            region::prefetch_write(bytes);
            rest -= length;
            next += 1;
            let flags = if rest == 0 { 0 } else { FLAG_NEXT };
            if rest == 0 {
                rest = size;
                whole += 1;
                descriptors = next;
            }
            let room = Descriptor { flags, region: buffer.region, length, offset, metadata: 0 };
            each(index, room, bytes);
        }
        self.reserved += descriptors;
        Ok(Reserved { packets: whole.into(), descriptors: descriptors.into(), misplaced })
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

    /// Writes reserved descriptors, the oldest first: calls `piece` with the index of each and the
    /// bytes of its buffer, for what to send of these. Ends where `piece` returns `None`, or a piece
    /// that is empty or not inside the buffer. Returns how many were written.
    #[inline]
    pub(crate) fn write(
        &mut self,
        ring: &TxRing,
        mut piece: impl FnMut(u16, SlotBuffer, &[AtomicU8]) -> Option<Piece>,
    ) -> u16 {
        let (memory, first) = (ring.memory(), self.behind(self.written));
        let (regions, reserved) = (memory.regions().view(), self.reserved - self.written);
        let (mut done, mut whole, mut packets, mut bytes) = (0, 0, 0, 0);
        while done != reserved {
            let index = first.wrapping_add(done);
            let buffer = self.slots[self.slot(index)];
            // Checked when it was reserved.
            let room = regions.bytes(buffer.region, buffer.offset, buffer.size).unwrap_or(&[]);
            let Some(Piece { start, length, continues }) = piece(index, buffer, room) else {
                break;
            };
            if length == 0 || u64::from(start) + u64::from(length) > buffer.size.into() {
                break;
            }
            let (flags, offset) = (if continues { FLAG_NEXT } else { 0 }, buffer.offset + start);
            let region = buffer.region;
            memory.set_descriptor(index, Descriptor { flags, region, length, offset, metadata: 0 });
            done += 1;
            bytes += u64::from(length);
            if !continues {
                whole = done;
                packets += 1;
            }
        }
        if whole != 0 {
            self.whole = self.written + whole;
        }
        self.written += done;
        self.packets += packets;
        self.bytes += bytes;
        done
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
