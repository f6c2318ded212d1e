//! The receiving end of a link.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::buffer_pool::Buffer;
use super::link_state::LinkState;
use super::rx_mode::{ModeCell, RxMode};
use crate::error::LinkError;
use crate::format::ring::Descriptor;
use crate::mechanism::exchange;
use crate::mechanism::rx::{BurstLimit, RxRing};
use crate::mechanism::stats::{self, QueueStats};
use crate::mechanism::tx::end_of_packets;
use crate::system::event_fd::EventFd;

/// A queue to receive on. It can move to another thread; one thread uses it at a time.
pub struct RxQueue {
    pub(super) ring: RxRing,
    event_fd: Arc<EventFd>,
    pub(super) link: Arc<LinkState>,
    mode: Arc<ModeCell>,
}

impl RxQueue {
    pub(super) fn new(
        ring: RxRing,
        event_fd: Arc<EventFd>,
        link: Arc<LinkState>,
        mode: Arc<ModeCell>,
    ) -> Self {
        Self { ring, event_fd, link, mode }
    }

    /// Returns the next packets, at most `max`, checked and in place; an empty burst when there are
    /// none. Dropping the burst gives their buffers back to the peer.
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol, [`LinkError::Down`] when the link was
    /// closed. All later calls return the error as well.
    #[inline]
    pub fn burst(&mut self, max: usize) -> Result<RxBurst<'_>, LinkError> {
        self.burst_within(BurstLimit::packets(max))
    }

    /// Returns the next packets within `limit`, as [`burst`](Self::burst) does. A peer can make
    /// packets of very many descriptors: a thread that serves several peers limits what one of them
    /// gets in a turn.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    #[inline]
    pub fn burst_within(&mut self, limit: BurstLimit) -> Result<RxBurst<'_>, LinkError> {
        self.link.check()?;
        match self.ring.collect(limit) {
            Ok(packets) => Ok(RxBurst { queue: self, packets }),
            Err(error) => Err(self.link.fail(error)),
        }
    }

    /// Makes the eventfd unreadable until the peer writes it again.
    pub(super) fn drain(&self) {
        stats::add(&self.ring.counters().interrupts, self.event_fd.drain());
    }

    /// Asks the peer to write the eventfd for the next packet, then checks the ring once more.
    /// Returns whether packets are there already: then do not sleep. Otherwise poll
    /// [`as_fd`](Self::as_fd), for some milliseconds the first time: libmemif and DPDK may miss the
    /// request when it comes just as they publish. A queue that sleeps on after that may be armed
    /// again without being disarmed, and sleep longer.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn arm(&mut self) -> Result<bool, LinkError> {
        self.link.check()?;
        self.ring.arm().map_err(|error| self.link.fail(error))
    }

    /// Asks the peer not to write the eventfd, and makes it unreadable: for the time of polling.
    pub fn disarm(&mut self) {
        self.ring.set_mask(true);
        self.drain();
    }

    /// Changes how the peer is asked for interrupts, at any time. [`RxMode::Interrupt`]
    /// [arms](Self::arm) the queue and returns whether packets are there already; the other modes
    /// [disarm](Self::disarm) it and return `false`.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn set_mode(&mut self, mode: RxMode) -> Result<bool, LinkError> {
        self.mode.set(mode);
        if mode == RxMode::Interrupt {
            self.arm()
        } else {
            self.disarm();
            self.link.check().map(|()| false)
        }
    }

    /// Makes the eventfd readable.
    pub(super) fn notify(&self) {
        self.event_fd.notify();
    }

    /// Asks the peer to write the eventfd or not, and leaves it as it is.
    pub(super) fn request(&self, interrupts: bool) {
        self.mode.set(if interrupts { RxMode::Interrupt } else { RxMode::Polling });
        self.ring.set_mask(!interrupts);
    }

    /// Returns the mode set by the options or by [`set_mode`](Self::set_mode).
    #[must_use]
    pub fn mode(&self) -> RxMode {
        self.mode.get()
    }

    /// Returns the counts of this queue so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats::of(self.ring.counters())
    }

    /// Returns the number of descriptors in the ring; no burst holds more packets.
    #[must_use]
    pub fn ring_size(&self) -> usize {
        self.ring.size()
    }

    /// Returns whether the packets' memory is sealed against shrinking. If not, the client may cut
    /// it at any moment, and reading a packet may raise SIGBUS: see
    /// [`survive_truncation`](crate::survive_truncation).
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.ring.sealed()
    }
}

/// The descriptor is the ring's eventfd: readable after [`RxQueue::arm`] when packets have come,
/// and when the link goes down.
impl AsFd for RxQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event_fd.as_fd()
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        if let Some(buffers) = self.ring.take_buffers() {
            self.link.retire(buffers);
        }
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxQueue").field("ring_size", &self.ring.size()).finish_non_exhaustive()
    }
}

/// Received packets, in place. Dropping the burst gives all their buffers back to the peer.
#[derive(Debug)]
pub struct RxBurst<'a> {
    queue: &'a mut RxQueue,
    packets: usize,
}

impl RxBurst<'_> {
    /// Returns the number of packets.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Returns whether there are no packets.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Returns the number of descriptors of these packets.
    #[inline]
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.queue.ring.burst().len()
    }

    /// Returns the number of bytes in these packets.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queue.ring.burst_bytes()
    }

    /// Returns the packets in order.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Packets<'_> {
        Packets { ring: &self.queue.ring, rest: self.queue.ring.burst() }
    }

    /// Checks that everything read of this burst so far is what the peer wrote. Call it after
    /// reading [`segments`](Packet::segments) of memory that is not [sealed](RxQueue::sealed),
    /// before using the bytes: on an error they may be zeros in the place of memory that was taken
    /// away.
    ///
    /// # Errors
    /// [`LinkError::Peer`] with [`ProtocolError::RegionLost`](crate::ProtocolError::RegionLost);
    /// the link is closed.
    #[inline]
    pub fn check(&self) -> Result<(), LinkError> {
        self.queue.ring.check().map_err(|error| self.queue.link.fail(error))
    }

    /// Gives back the buffers of the first `packets` packets only; the next burst returns the
    /// others again.
    pub fn release(mut self, packets: usize) {
        let count = end_of_packets(self.queue.ring.burst(), packets.min(self.packets));
        self.queue.ring.give_back(count);
        self.packets = 0;
    }
}

impl RxBurst<'_> {
    /// Takes whole packets out of the burst, in order, by exchanging their buffers for those of
    /// `fresh`, which are then offered to the peer. Returns how many buffers were exchanged, from
    /// the first one on; a packet of several buffers [continues](Buffer::continues) in the next.
    /// The next burst returns again the packets that were not taken.
    ///
    /// On a client whose buffers come from the same [pools](crate::ClientOptions::buffer_pool),
    /// nothing is copied. Elsewhere the buffers are the peer's, and packets are copied; a packet
    /// that `fresh` has no room for stays.
    pub fn take(mut self, fresh: &mut [Buffer]) -> usize {
        let (mut packets, mut done, mut from) = (0, 0, 0);
        let ring = &mut self.queue.ring;
        while packets < self.packets {
            let to = from + end_of_packets(&ring.burst()[from..], 1);
            let mut room = fresh.get_mut(done..done + (to - from));
            let taken = if room.as_mut().is_some_and(|room| exchange_all(ring, from, room)) {
                to - from
            } else {
                copy_packet(ring, &ring.burst()[from..to], &mut fresh[done..])
            };
            if taken == 0 {
                break;
            }
            (done, from, packets) = (done + taken, to, packets + 1);
        }
        // What was copied may be zeros in the place of lost memory.
        if self.check().is_err() {
            for buffer in fresh {
                buffer.clear(0);
            }
            return 0;
        }
        self.queue.ring.give_back(from);
        self.packets = 0;
        done
    }

    /// Returns the ring, to move packets elsewhere, and the number of packets.
    pub(super) fn parts(&mut self) -> (&mut RxRing, usize) {
        (&mut self.queue.ring, self.packets)
    }
}

/// Exchanges the buffers of one packet for `room`, if it can exchange all of them; returns whether
/// it did.
fn exchange_all(ring: &mut RxRing, from: usize, room: &mut [Buffer]) -> bool {
    let known = room.iter_mut().all(|buffer| ring.index_of(buffer.parts().0.region()).is_some());
    if !known || !ring.make_exchangeable() {
        return false;
    }
    for (nth, buffer) in (from..).zip(room) {
        let received = ring.burst()[nth];
        // Cannot fail after the check above.
        exchange::take(ring, nth, buffer.parts().0);
        buffer.exchanged(&received);
    }
    true
}

/// Copies one packet; returns the number of buffers used, or 0 when it does not fit.
fn copy_packet(ring: &RxRing, descriptors: &[Descriptor], room: &mut [Buffer]) -> usize {
    let bytes: usize = descriptors
        .iter()
        .map(|descriptor| descriptor.length as usize)
        .fold(0, usize::saturating_add);
    let mut rest = bytes;
    let mut used = 0;
    for buffer in room.iter_mut() {
        if rest == 0 {
            break;
        }
        buffer.clear(0);
        rest = rest.saturating_sub(buffer.tailroom());
        used += 1;
    }
    if rest != 0 {
        return 0;
    }
    let mut at = 0;
    if let (Some(first), Some(buffer)) = (descriptors.first(), room.first_mut()) {
        buffer.set_metadata(first.metadata);
    }
    for descriptor in descriptors {
        let mut piece = ring.bytes(descriptor);
        while !piece.is_empty() && at < used {
            let (now, later) = piece.split_at(piece.len().min(room[at].tailroom()));
            room[at].append_shared(now);
            piece = later;
            if room[at].tailroom() == 0 && (!piece.is_empty() || descriptor.continues()) {
                room[at].set_continues(at + 1 < used);
                at += 1;
            }
        }
    }
    used
}

impl Drop for RxBurst<'_> {
    #[inline]
    fn drop(&mut self) {
        // After `release` this gives nothing back.
        self.queue.ring.give_back(self.queue.ring.burst().len());
    }
}

impl<'a> IntoIterator for &'a RxBurst<'_> {
    type Item = Packet<'a>;
    type IntoIter = Packets<'a>;

    #[inline]
    fn into_iter(self) -> Packets<'a> {
        self.iter()
    }
}

/// An iterator over the packets of a burst.
#[derive(Clone)]
pub struct Packets<'a> {
    ring: &'a RxRing,
    rest: &'a [Descriptor],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    #[inline]
    fn next(&mut self) -> Option<Packet<'a>> {
        let first = self.rest.first()?;
        let end = if first.continues() { end_of_packets(self.rest, 1) } else { 1 };
        let (packet, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Packet { ring: self.ring, descriptors: packet })
    }
}

impl fmt::Debug for Packets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packets").field("descriptors", &self.rest.len()).finish_non_exhaustive()
    }
}

/// One packet, in the peer's memory. Its place and length are checked; its bytes may change at any
/// moment, so copy them before you decide anything by them.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    ring: &'a RxRing,
    descriptors: &'a [Descriptor],
}

impl<'a> Packet<'a> {
    /// Returns the number of bytes, at least 1. The peer decides it: it may be far more than any
    /// frame has.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.descriptors {
            [only] => only.length as usize,
            many => many
                .iter()
                .map(|descriptor| descriptor.length as usize)
                .fold(0, usize::saturating_add),
        }
    }

    /// Returns `false`: the protocol has no empty packets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Returns the metadata of the packet's first descriptor, as the peer set it; the protocol
    /// gives it no meaning.
    #[inline]
    #[must_use]
    pub fn metadata(&self) -> u32 {
        self.descriptors.first().map_or(0, |descriptor| descriptor.metadata)
    }

    /// Returns the packet's bytes, one piece for each of its buffers.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &'a [AtomicU8]> + use<'a> {
        let ring = self.ring;
        self.descriptors.iter().map(move |descriptor| ring.bytes(descriptor))
    }

    /// Copies the packet, or as much of it as fits, into `to`. Returns the number of bytes copied:
    /// 0 when the memory was taken away, which ends the link.
    #[inline]
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        match self.descriptors {
            [only] => self.ring.copy(only, to),
            _ => self.copy_pieces_to(to),
        }
        .unwrap_or(0)
    }

    fn copy_pieces_to(&self, to: &mut [u8]) -> Option<usize> {
        let mut done = 0;
        for descriptor in self.descriptors {
            if done == to.len() {
                break;
            }
            done += self.ring.copy(descriptor, &mut to[done..])?;
        }
        Some(done)
    }
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("len", &self.len())
            .field("metadata", &self.metadata())
            .finish_non_exhaustive()
    }
}
