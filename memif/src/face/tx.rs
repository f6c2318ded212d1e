//! The sending end of a link.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::buffer_pool::Buffer;
use super::link_state::LinkState;
use super::rx::RxBurst;
use crate::error::{LinkError, ProtocolError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::exchange;
use crate::mechanism::stats::{self, QueueStats};
use crate::mechanism::tx::{TxRing, end_of_packets};
use crate::memory::copy;
use crate::system::event_fd::EventFd;

/// A queue to send on. It can move to another thread; one thread uses it at a time.
pub struct TxQueue {
    pub(super) ring: TxRing,
    event_fd: Arc<EventFd>,
    pub(super) link: Arc<LinkState>,
}

impl TxQueue {
    pub(super) fn new(ring: TxRing, event_fd: Arc<EventFd>, link: Arc<LinkState>) -> Self {
        Self { ring, event_fd, link }
    }

    /// Starts a burst. Nothing is sent before [`TxBurst::publish`].
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol, [`LinkError::Down`] when the link was
    /// closed. All later calls return the error as well.
    #[inline]
    pub fn burst(&mut self) -> Result<TxBurst<'_>, LinkError> {
        self.link.check()?;
        // A burst that was forgotten (`mem::forget`) leaves its packets behind.
        self.ring.truncate(0);
        Ok(TxBurst { queue: self, packets: 0 })
    }

    /// Returns how many buffers are free for packets now. The protocol has no signal for free
    /// buffers: while the ring is full, a sender must ask again.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn free_slots(&mut self) -> Result<usize, LinkError> {
        self.link.check()?;
        match self.ring.refresh().and_then(|()| self.ring.check()) {
            Ok(()) => Ok(self.ring.free()),
            Err(error) => Err(self.link.fail(error)),
        }
    }

    /// Returns the number of descriptors in the ring; no burst holds more packets.
    #[must_use]
    pub fn ring_size(&self) -> usize {
        self.ring.size()
    }

    /// Returns the counts of this queue so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats::of(self.ring.counters())
    }

    /// Writes the eventfd.
    pub(super) fn notify(&self) {
        self.event_fd.notify();
        stats::add(&self.ring.counters().interrupts, 1);
    }

    #[cold]
    fn fail(&self, error: ProtocolError) {
        // The next burst returns it.
        let _ = self.link.fail(error);
    }
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        if let Some(buffers) = self.ring.take_buffers() {
            self.link.retire(buffers);
        }
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxQueue").field("ring_size", &self.ring.size()).finish_non_exhaustive()
    }
}

/// Packets to send together. Dropping the burst without [`publish`](Self::publish) sends none of
/// them.
#[derive(Debug)]
pub struct TxBurst<'a> {
    queue: &'a mut TxQueue,
    packets: usize,
}

impl TxBurst<'_> {
    /// Returns the number of packets reserved so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Returns the number of descriptors that the reserved packets take.
    #[inline]
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.queue.ring.pending(0).len()
    }

    /// Returns whether no packet is reserved.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Adds a copy of `frame`; returns `false` when there is no room for all of it now. An empty
    /// frame is skipped: the protocol has no empty packets.
    ///
    /// A frame that is longer than all of the ring's buffers together never finds room.
    #[inline]
    pub fn push(&mut self, frame: &[u8]) -> bool {
        match self.reserve(frame.len()) {
            Some(mut slot) => {
                slot.write(frame);
                true
            }
            None => frame.is_empty(),
        }
    }

    /// Reserves room for a packet of `len` bytes, in as many buffers as it takes. Returns `None`
    /// when there is not enough room now, or `len` is 0. Bytes that are not written keep what the
    /// buffer held before.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Option<TxSlot<'_>> {
        match self.queue.ring.reserve(len) {
            Ok(start) => {
                let start = start?;
                self.packets += 1;
                Some(TxSlot { ring: &mut self.queue.ring, start, segment: 0, offset: 0 })
            }
            Err(error) => {
                self.queue.fail(error);
                None
            }
        }
    }

    /// Adds a packet that is already in the caller's buffers, in order, by exchanging them for
    /// empty ones. After `true`, `packet` holds other buffers, empty, to be filled next. Returns
    /// `false` when there is no room for the whole packet now, or a buffer is empty; then nothing
    /// is exchanged.
    ///
    /// On a client whose buffers come from the same [pools](crate::ClientOptions::buffer_pool),
    /// nothing is copied. Elsewhere the packet is copied, and the buffers stay.
    pub fn enqueue(&mut self, packet: &mut [Buffer]) -> bool {
        if packet.is_empty() || packet.iter().any(Buffer::is_empty) {
            return false;
        }
        let ring = &mut self.queue.ring;
        let known =
            packet.iter_mut().all(|buffer| ring.index_of(buffer.parts().0.region()).is_some());
        if !known || !ring.owns_buffers() {
            let copied = self.enqueue_copy(packet);
            if copied {
                for buffer in packet {
                    buffer.clear(0);
                }
            }
            return copied;
        }
        match ring.make_room(packet.len()) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.queue.fail(error);
                return false;
            }
        }
        let last = packet.len() - 1;
        for (n, buffer) in packet.iter_mut().enumerate() {
            let metadata = buffer.metadata();
            let (owned, offset, length) = buffer.parts();
            let flags = if n == last { 0 } else { FLAG_NEXT };
            exchange::enqueue(
                ring,
                owned,
                Descriptor { flags, region: 0, length, offset, metadata },
            );
            buffer.clear(0);
        }
        self.packets += 1;
        true
    }

    fn enqueue_copy(&mut self, packet: &[Buffer]) -> bool {
        let Some(mut slot) = self.reserve(packet.iter().map(Buffer::len).sum()) else {
            return false;
        };
        for buffer in packet {
            slot.write_shared(buffer.bytes());
        }
        slot.set_metadata(packet.first().map_or(0, Buffer::metadata));
        true
    }

    /// Adds received packets, in order, as many as find room, and returns how many; the next burst
    /// of their queue returns the others again. Their queue gets empty buffers for them at once:
    /// dropping this burst without publishing it loses the packets.
    ///
    /// Between clients with the same buffer pool
    /// ([`ClientOptions::buffer_pool`](crate::ClientOptions::buffer_pool)), and between two queues
    /// of one client, buffers are exchanged and nothing is copied. Elsewhere packets are copied,
    /// once.
    ///
    /// A packet that is longer than all of the ring's buffers together never finds room, and blocks
    /// those behind it. Where peers are not trusted, check the lengths first, and drop such a
    /// packet with [`RxBurst::release`].
    pub fn forward(&mut self, mut received: RxBurst<'_>) -> usize {
        let before = self.packets;
        let (rx, packets) = received.parts();
        let mut from = 0;
        for _ in 0..packets {
            let to = from + end_of_packets(&rx.burst()[from..], 1);
            let ring = &mut self.queue.ring;
            if ring.owns_buffers() {
                match ring.make_room(to - from) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        self.queue.fail(error);
                        break;
                    }
                }
            }
            if exchange::forward(rx, ring, from, to) {
                self.packets += 1;
            } else {
                let pieces = &rx.burst()[from..to];
                let Some(mut slot) = self.reserve(pieces.iter().map(|d| d.length as usize).sum())
                else {
                    break;
                };
                for piece in pieces {
                    slot.write_shared(rx.bytes(piece));
                }
                slot.set_metadata(pieces[0].metadata);
            }
            from = to;
        }
        let moved = self.packets - before;
        // What was copied may be zeros in the place of lost memory.
        if received.check().is_err() {
            self.truncate(before);
            return 0;
        }
        received.release(moved);
        moved
    }

    /// Cancels all reserved packets but the first `packets`.
    pub fn truncate(&mut self, packets: usize) {
        if packets < self.packets {
            self.queue.ring.truncate(packets);
            self.packets = packets;
        }
    }

    /// Sends the reserved packets, all at once, and wakes the peer if it asked for that. Returns
    /// how many were sent: 0 if the link has gone down.
    #[inline]
    #[expect(
        clippy::must_use_candidate,
        reason = "it is called for its effect; the number is for counters"
    )]
    pub fn publish(self) -> usize {
        let counters = self.queue.ring.counters();
        if self.queue.link.check().is_err() {
            stats::add(&counters.down, self.packets as u64);
            self.queue.ring.discard();
            return 0;
        }
        if self.queue.ring.publish() {
            self.queue.notify();
        }
        if let Err(lost) = self.queue.ring.check() {
            self.queue.fail(lost);
            return 0;
        }
        self.packets
    }
}

impl Drop for TxBurst<'_> {
    #[inline]
    fn drop(&mut self) {
        // After `publish` this cancels nothing.
        self.queue.ring.truncate(0);
    }
}

/// Room reserved for one packet, written from the beginning.
pub struct TxSlot<'a> {
    ring: &'a mut TxRing,
    start: usize,
    segment: usize,
    offset: usize,
}

impl TxSlot<'_> {
    /// Appends `bytes`, or as many of them as fit.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the compiler takes the copy's assembly for a large function; a call halves the rate"
    )]
    pub fn write(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |done, to| copy::write(&bytes[done..], to));
    }

    /// Appends bytes of memory that others may write to at the same time, or as many of them as
    /// fit.
    #[inline]
    pub fn write_shared(&mut self, bytes: &[AtomicU8]) {
        self.fill(bytes.len(), |done, to| copy::relay(&bytes[done..], to));
    }

    /// Sets the packet's metadata, by default 0; the protocol gives it no meaning.
    pub fn set_metadata(&mut self, metadata: u32) {
        self.ring.set_metadata(self.start, metadata);
    }

    /// Appends `len` bytes, or as many of them as fit, by calling `copy` for each buffer. It gets
    /// the number of bytes done so far and the rest of the buffer, and returns how many bytes it
    /// copied there; 0 ends the call early.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "the compiler takes the copy's assembly for a large function; a call halves the rate"
    )]
    pub fn fill(&mut self, len: usize, mut copy: impl FnMut(usize, &[AtomicU8]) -> usize) {
        let segments = self.ring.pending(self.start);
        let mut done = 0;
        while done < len {
            let Some(segment) = segments.get(self.segment) else { return };
            let room = &self.ring.bytes(segment)[self.offset..];
            let copied = copy(done, room).min(room.len());
            if copied == 0 {
                return;
            }
            done += copied;
            self.offset += copied;
            if copied == room.len() {
                self.segment += 1;
                self.offset = 0;
            }
        }
    }
}

impl fmt::Debug for TxSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxSlot").finish_non_exhaustive()
    }
}
