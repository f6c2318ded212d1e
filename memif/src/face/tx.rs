//! The sending end of a link.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::buffer_pool::Buffer;
use super::link_state::LinkState;
use super::rx::RxBurst;
use super::stats::QueueStats;
use crate::error::{LinkError, ProtocolError};
use crate::format::ring::{Descriptor, FLAG_NEXT};
use crate::mechanism::counters;
use crate::mechanism::exchange;
use crate::mechanism::tx::{TxRing, end_of_packets};
use crate::memory::copy;
use crate::system::event_fd::EventFd;

/// A queue to send on. It can be sent to another thread, and is used by one at a time.
pub struct TxQueue {
    ring: TxRing,
    bell: Arc<EventFd>,
    link: Arc<LinkState>,
}

impl TxQueue {
    pub(crate) fn new(ring: TxRing, bell: Arc<EventFd>, link: Arc<LinkState>) -> Self {
        Self { ring, bell, link }
    }

    /// Begins a burst. Nothing is sent before [`TxBurst::publish`].
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol, [`LinkError::Down`] when the link was closed. Neither ends.
    #[inline]
    pub fn burst(&mut self) -> Result<TxBurst<'_>, LinkError> {
        self.link.check()?;
        // A burst that was forgotten (`mem::forget`) leaves its packets behind.
        self.ring.truncate(0);
        Ok(TxBurst { queue: self, packets: 0 })
    }

    /// Buffers that are free for packets now. Nothing signals that there are more: a sender with a full ring looks again
    /// by itself.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn free_slots(&mut self) -> Result<usize, LinkError> {
        self.link.check()?;
        match self.ring.refresh().and_then(|()| self.ring.check()) {
            Ok(()) => Ok(self.ring.free()),
            Err(fault) => Err(self.link.accuse(fault)),
        }
    }

    /// Descriptors in the ring; no burst holds more packets.
    #[must_use]
    pub fn ring_size(&self) -> usize {
        self.ring.size()
    }

    /// What this queue did so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats::of(self.ring.counters())
    }

    #[cold]
    fn accuse(&self, fault: ProtocolError) {
        // The next burst says it.
        let _ = self.link.accuse(fault);
    }
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        if let Some(buffers) = self.ring.take_buffers() {
            self.link.abandon(buffers);
        }
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxQueue").field("ring_size", &self.ring.size()).finish_non_exhaustive()
    }
}

/// Packets on their way. Dropping it instead of [`publish`](Self::publish) sends none of them.
#[derive(Debug)]
pub struct TxBurst<'a> {
    queue: &'a mut TxQueue,
    packets: usize,
}

impl TxBurst<'_> {
    /// Packets reserved so far.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether nothing was reserved.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Adds a copy of `frame`; `false` when there is no room for all of it now. The protocol has no empty packets: an
    /// empty frame is passed over.
    ///
    /// A frame too long for all of the ring's buffers together never finds room.
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

    /// Reserves room for a packet of `len` bytes, over as many buffers as it takes; nothing when there is not enough now,
    /// or `len` is 0. What is not written holds whatever the buffer held before.
    #[inline]
    pub fn reserve(&mut self, len: usize) -> Option<TxSlot<'_>> {
        match self.queue.ring.reserve(len) {
            Ok(start) => {
                let start = start?;
                self.packets += 1;
                Some(TxSlot { ring: &mut self.queue.ring, start, segment: 0, offset: 0 })
            }
            Err(fault) => {
                self.queue.accuse(fault);
                None
            }
        }
    }

    /// Adds a packet that is in the caller's buffers already, one after the other, by exchanging them for empty ones: on
    /// `true` those in `packet` are others, empty, to be filled next. `false` when there is no room for the whole packet
    /// now, or a buffer is empty; then nothing was exchanged.
    ///
    /// Nothing is copied on a client whose buffers are from the same [memories](crate::Options::memory). Elsewhere the packet is
    /// copied, and the buffers stay.
    pub fn enqueue(&mut self, packet: &mut [Buffer]) -> bool {
        if packet.is_empty() || packet.iter().any(Buffer::is_empty) {
            return false;
        }
        let ring = &mut self.queue.ring;
        let known = packet.iter_mut().all(|buffer| ring.index_of(buffer.parts().0.region()).is_some());
        if !known || !ring.is_ours() {
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
            Err(fault) => {
                self.queue.accuse(fault);
                return false;
            }
        }
        let last = packet.len() - 1;
        for (n, buffer) in packet.iter_mut().enumerate() {
            let metadata = buffer.metadata();
            let (held, offset, length) = buffer.parts();
            let flags = if n == last { 0 } else { FLAG_NEXT };
            exchange::enqueue(ring, held, Descriptor { flags, region: 0, length, offset, metadata });
            buffer.clear(0);
        }
        self.packets += 1;
        true
    }

    fn enqueue_copy(&mut self, packet: &[Buffer]) -> bool {
        let Some(mut slot) = self.reserve(packet.iter().map(Buffer::len).sum()) else { return false };
        for buffer in packet {
            slot.write_shared(buffer.bytes());
        }
        slot.set_metadata(packet.first().map_or(0, Buffer::metadata));
        true
    }

    /// Hands received packets on, in order, as many as find room, and returns how many; the others come again with
    /// `received`'s queue's next burst. Their queue gets empty buffers for them at once: dropping this burst without publishing
    /// it loses the packets.
    ///
    /// Where both queues are those of clients with the same memory ([`Options::memory`](crate::Options::memory), or two
    /// queues of one client), buffers are exchanged and nothing is copied. Elsewhere packets are copied, once.
    ///
    /// A packet too long for all of the ring's buffers together never finds room, and those behind it wait for it. Where peers
    /// are not trusted, look at the lengths first, and drop such a one by [`RxBurst::release`].
    pub fn forward(&mut self, mut received: RxBurst<'_>) -> usize {
        let before = self.packets;
        let (rx, packets) = received.parts();
        let mut from = 0;
        for _ in 0..packets {
            let to = from + end_of_packets(&rx.burst()[from..], 1);
            let ring = &mut self.queue.ring;
            if ring.is_ours() {
                match ring.make_room(to - from) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(fault) => {
                        self.queue.accuse(fault);
                        break;
                    }
                }
            }
            if exchange::forward(rx, ring, from, to) {
                self.packets += 1;
            } else {
                let pieces = &rx.burst()[from..to];
                let Some(mut slot) = self.reserve(pieces.iter().map(|d| d.length as usize).sum()) else {
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

    /// Drops all reserved packets but the first `packets`.
    pub fn truncate(&mut self, packets: usize) {
        if packets < self.packets {
            self.queue.ring.truncate(packets);
            self.packets = packets;
        }
    }

    /// Sends the reserved packets, all at once, and wakes the peer if it asked for that. Returns how many there were; 0 if
    /// the link went down meanwhile.
    #[inline]
    #[expect(
        clippy::must_use_candidate,
        reason = "it is called for what it does; the number is at hand for counters"
    )]
    pub fn publish(self) -> usize {
        let counters = self.queue.ring.counters();
        if self.queue.link.check().is_err() {
            counters::add(&counters.down, self.packets as u64);
            self.queue.ring.forget();
            return 0;
        }
        if self.queue.ring.publish() {
            self.queue.bell.ring();
            counters::add(&self.queue.ring.counters().interrupts, 1);
        }
        if let Err(lost) = self.queue.ring.check() {
            self.queue.accuse(lost);
            return 0;
        }
        self.packets
    }
}

impl Drop for TxBurst<'_> {
    #[inline]
    fn drop(&mut self) {
        // After `publish` nothing is left to be dropped.
        self.queue.ring.truncate(0);
    }
}

/// Room reserved for one packet, written from its beginning on.
pub struct TxSlot<'a> {
    ring: &'a mut TxRing,
    start: usize,
    segment: usize,
    offset: usize,
}

impl TxSlot<'_> {
    /// Appends `bytes`. What does not fit any more is left out.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        self.fill(bytes.len(), |done, to| copy::write(&bytes[done..], to));
    }

    /// Appends bytes of memory others may write to at the same time. What does not fit any more is left out.
    #[inline]
    pub fn write_shared(&mut self, bytes: &[AtomicU8]) {
        self.fill(bytes.len(), |done, to| copy::relay(&bytes[done..], to));
    }

    /// Sets the packet's metadata, which is 0 otherwise; the protocol gives it no meaning.
    pub fn set_metadata(&mut self, metadata: u32) {
        self.ring.set_metadata(self.start, metadata);
    }

    /// Appends `len` bytes that `copy` knows where to get: it is called with how many are done and what is left of a
    /// buffer, and returns how many it copied there. It ends early when that is none.
    #[inline]
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
