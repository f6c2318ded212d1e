//! The receiving end of a link.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::buffer_pool::Buffer;
use super::link_state::LinkState;
use super::options::{ModeCell, RxMode};
use super::stats::QueueStats;
use crate::error::LinkError;
use crate::format::ring::Descriptor;
use crate::mechanism::counters;
use crate::mechanism::exchange;
use crate::mechanism::rx::RxRing;
use crate::mechanism::tx::end_of_packets;
use crate::system::event_fd::EventFd;

/// A queue to receive on. It can be sent to another thread, and is used by one at a time.
pub struct RxQueue {
    ring: RxRing,
    bell: Arc<EventFd>,
    link: Arc<LinkState>,
    mode: Arc<ModeCell>,
}

impl RxQueue {
    pub(crate) fn new(ring: RxRing, bell: Arc<EventFd>, link: Arc<LinkState>, mode: Arc<ModeCell>) -> Self {
        Self { ring, bell, link, mode }
    }

    /// The next packets, at most `max`, checked and left where the peer put them; none when nothing has come. Dropping
    /// the burst gives their buffers back to the peer.
    ///
    /// # Errors
    /// [`LinkError::Peer`] when the peer broke the protocol, [`LinkError::Down`] when the link was closed. Neither ends.
    #[inline]
    pub fn burst(&mut self, max: usize) -> Result<RxBurst<'_>, LinkError> {
        self.link.check()?;
        match self.ring.collect(max) {
            Ok(packets) => Ok(RxBurst { queue: self, packets }),
            Err(fault) => Err(self.link.accuse(fault)),
        }
    }

    /// Asks the peer to write the eventfd at the next packet, then looks once more: `true` means that packets are there
    /// already and nobody may sleep. On `false`, poll [`as_fd`](Self::as_fd) with a bound of some milliseconds: libmemif
    /// and DPDK may miss the request when it comes just as they publish.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn arm(&mut self) -> Result<bool, LinkError> {
        self.link.check()?;
        self.ring.arm().map_err(|fault| self.link.accuse(fault))
    }

    /// Asks the peer to leave the eventfd alone, and makes it unreadable again: for the time of polling.
    pub fn disarm(&mut self) {
        self.ring.set_mask(true);
        counters::add(&self.ring.counters().interrupts, self.bell.drain());
    }

    /// Changes how the peer is asked for interrupts, at any time. [`RxMode::Interrupt`] looks once more, as
    /// [`arm`](Self::arm) does, and `true` means that packets are there already; the others begin to poll, as
    /// [`disarm`](Self::disarm) does.
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

    /// How the queue is used, as told by the options or [`set_mode`](Self::set_mode).
    #[must_use]
    pub fn mode(&self) -> RxMode {
        self.mode.get()
    }

    /// What this queue did so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats::of(self.ring.counters())
    }

    /// Descriptors in the ring; no burst holds more packets.
    #[must_use]
    pub fn ring_size(&self) -> usize {
        self.ring.size()
    }

    /// Whether the packets' memory is sealed against shrinking. If not, the client may cut it at any moment, and reading
    /// a packet may raise SIGBUS: see [`survive_truncation`](crate::survive_truncation).
    #[must_use]
    pub fn sealed(&self) -> bool {
        self.ring.sealed()
    }
}

/// The eventfd: readable after [`RxQueue::arm`] when packets have come, and when the link goes down.
impl AsFd for RxQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        if let Some(buffers) = self.ring.take_buffers() {
            self.link.abandon(buffers);
        }
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxQueue").field("ring_size", &self.ring.size()).finish_non_exhaustive()
    }
}

/// Packets that have come, in place. Dropping it gives all their buffers back.
#[derive(Debug)]
pub struct RxBurst<'a> {
    queue: &'a mut RxQueue,
    packets: usize,
}

impl RxBurst<'_> {
    /// Packets in the burst.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether nothing has come.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// The packets in order.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Packets<'_> {
        Packets { ring: &self.queue.ring, rest: self.queue.ring.burst() }
    }

    /// Whether everything read of this burst so far is what the peer wrote. Ask this after reading
    /// [`segments`](Packet::segments) of memory that is not [sealed](RxQueue::sealed), before the bytes are used for
    /// anything: an error says that they may be zeros in the place of memory that was taken away.
    ///
    /// # Errors
    /// [`LinkError::Peer`] with [`ProtocolError::RegionLost`](crate::ProtocolError::RegionLost); the link is closed.
    #[inline]
    pub fn check(&self) -> Result<(), LinkError> {
        self.queue.ring.check().map_err(|fault| self.queue.link.accuse(fault))
    }

    /// Gives back the buffers of the first `packets` only: the others come again with the next burst.
    pub fn release(mut self, packets: usize) {
        let count = end_of_packets(self.queue.ring.burst(), packets.min(self.packets));
        self.queue.ring.give_back(count);
        self.packets = 0;
    }
}

impl RxBurst<'_> {
    /// Takes packets out of the burst, in order and whole, by exchanging their buffers for those of `fresh`: these are in the ring
    /// now, and offered to the peer. Returns how many buffers were exchanged, which begins with the first; a packet of
    /// several buffers [continues](Buffer::continues) in the next. Packets that are not taken come again with the next burst.
    ///
    /// Nothing is copied on a client whose buffers are from the same [memories](crate::Options::memory). Elsewhere the
    /// packets' buffers are not the caller's to have, and packets are copied; one that `fresh` has no room for
    /// stays.
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

    /// The ring, to move packets elsewhere, and how many packets there are.
    pub(crate) fn parts(&mut self) -> (&mut RxRing, usize) {
        (&mut self.queue.ring, self.packets)
    }
}

/// Exchanges the buffers of one packet for `room`, if all can be.
fn exchange_all(ring: &mut RxRing, from: usize, room: &mut [Buffer]) -> bool {
    let known = room.iter_mut().all(|buffer| ring.index_of(buffer.parts().0.region()).is_some());
    if !known || !ring.own_buffers() {
        return false;
    }
    for (nth, buffer) in (from..).zip(room) {
        let received = ring.burst()[nth];
        // Cannot fail after the look above.
        exchange::take(ring, nth, buffer.parts().0);
        buffer.exchanged(&received);
    }
    true
}

/// Copies one packet; how many buffers that took, or 0 when it does not fit.
fn copy_packet(ring: &RxRing, descriptors: &[Descriptor], room: &mut [Buffer]) -> usize {
    let bytes: usize =
        descriptors.iter().map(|descriptor| descriptor.length as usize).fold(0, usize::saturating_add);
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
            if room[at].tailroom() == 0 && (!piece.is_empty() || descriptor.goes_on()) {
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
        // After `release` nothing is left to be given.
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

/// Iterator over the packets of a burst.
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
        let end = if first.goes_on() { end_of_packets(self.rest, 1) } else { 1 };
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

/// One packet, in the peer's memory: its place and length were checked, its bytes may change at any moment. Copy before
/// deciding anything by them.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    ring: &'a RxRing,
    descriptors: &'a [Descriptor],
}

impl<'a> Packet<'a> {
    /// Bytes in the packet, at least 1. The peer decides: it may be far more than any frame has.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.descriptors {
            [only] => only.length as usize,
            many => many.iter().map(|descriptor| descriptor.length as usize).fold(0, usize::saturating_add),
        }
    }

    /// Never true: the protocol has no empty packets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What the peer put into the first descriptor's metadata; the protocol gives it no meaning.
    #[inline]
    #[must_use]
    pub fn metadata(&self) -> u32 {
        self.descriptors.first().map_or(0, |descriptor| descriptor.metadata)
    }

    /// The packet's bytes, one piece for each buffer it is spread over.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = &'a [AtomicU8]> + use<'a> {
        let ring = self.ring;
        self.descriptors.iter().map(move |descriptor| ring.bytes(descriptor))
    }

    /// Copies the packet, or as much of it as fits into `to`, and returns how many bytes that was: none when its memory
    /// was taken away, which ends the link.
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
