//! Puts packets on the ring, under the lock.
//!
//! A burst is written in three steps: `first` moves out of the way of all of it, then the bytes are
//! written, then `last` (and with it `generation`) commits them. A writer that dies anywhere in
//! between has added nothing and broken nothing.

use std::sync::atomic::Ordering;

use super::lock::LockGuard;
use super::position::{Extent, Position};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;

/// A burst may fill the ring's size divided by this. It bounds what a reader that is being overrun
/// loses, how long the lock is held, and how far `first` runs ahead of a commit.
const BURST_SHARE: u32 = 16;

/// Bytes that are prefetched ahead of those being written: some dozen cache lines, as many as a CPU
/// waits for at the same time.
const AHEAD: u32 = 4_096;

/// Of a ring of our own format, this share is freed at once, so that the word that says so changes
/// seldom.
const ROOM_SHARE: u32 = 64;

/// How many packets ahead of the one that is dropped a length is prefetched.
const GUESSED: u32 = 8;

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The end of the ring.
    pub(crate) end: Position,
    /// The header or the chain of packets was not that of a ring; the packets were dropped.
    pub(crate) mended: bool,
}

/// And at most this many bytes, so that no station waits long for the lock of a large ring.
const MAX_BURST: u32 = 128 * 1024;

/// Bytes that may be appended in one hold of the lock, packet headers included, on a ring of
/// `ring_size`.
pub(crate) fn burst_limit(ring_size: u32) -> u32 {
    (ring_size / BURST_SHARE).min(MAX_BURST)
}

impl<M: Memory> LockGuard<'_, M> {
    /// Appends one packet for each of `headers`, which together with their headers are at most
    /// [`burst_limit`] bytes (or one packet). `fill` is called for each with the ring offset where
    /// its frame's bytes go; they may go around the end of the ring.
    #[inline]
    pub(crate) fn append(
        &mut self,
        headers: impl Iterator<Item = PacketHeader> + Clone,
        mut fill: impl FnMut(&PacketHeader, u32),
    ) -> Appended {
        let size = self.ring.size();
        let mut mended = false;
        let extent = self.extent().unwrap_or_else(|| {
            mended = true;
            self.reset()
        });
        mended |= self.restore_oldest(extent.first);

        let (mut bytes, mut last_bytes) = (0, 0);
        for header in headers.clone() {
            last_bytes = PACKET_HEADER_SIZE + header.len;
            bytes += last_bytes;
        }
        if bytes == 0 {
            return Appended { end: extent.end, mended };
        }
        let start = extent.end;
        let crosses = start.advance(bytes, size).generation != start.generation;
        // A rump kernel that joins while the newest packet is the one that crosses the end takes
        // the whole ring for new. An empty packet, which every receiver skips, puts `last` behind
        // the end again.
        let pad = crosses && start.advance(bytes - last_bytes, size).generation == start.generation;
        let stop = start.advance(if pad { bytes + PACKET_HEADER_SIZE } else { bytes }, size);

        let soon = bytes.min(AHEAD);
        self.ring.memory.write_soon(start.offset, soon);
        self.unfinished = true;
        mended |= self.make_room(&extent, stop);
        let (mut at, mut last) = (start, start);
        let mut rest = bytes - soon;
        for header in headers {
            let more = (PACKET_HEADER_SIZE + header.len).min(rest);
            rest -= more;
            self.ring.memory.write_soon(at.advance(soon, size).offset, more);
            self.put_header(at, header);
            fill(&header, at.advance(PACKET_HEADER_SIZE, size).offset);
            last = at;
            at = at.advance(PACKET_HEADER_SIZE + header.len, size);
        }
        if pad {
            self.put_header(at, PacketHeader::default());
            last = at;
        }

        if crosses {
            self.commit_crossing(start.generation, last.offset);
        } else {
            // Release: pairs with the acquire of `last` in `Ring::snapshot`. A reader that sees it
            // sees the bytes.
            self.ring.memory.store32(Field32::Last, last.offset, Ordering::Release);
        }
        self.publish_end(stop);
        self.unfinished = false;
        Appended { end: stop, mended }
    }

    #[inline]
    pub(super) fn put_header(&self, at: Position, header: PacketHeader) {
        self.ring.store_words(at.offset, header.to_words());
    }

    /// Moves `first` on until everything up to `stop` may be overwritten. Returns whether the
    /// packets on the way were found broken; all but the newest are dropped then.
    #[inline]
    fn make_room(&self, extent: &Extent, stop: Position) -> bool {
        let size = self.ring.size();
        let mut first = extent.first;
        let mut corrupt = false;
        if stop.since(first, size) <= u64::from(size) {
            return false;
        }
        // Readers that poll have a copy of the published word, and each store to it takes that away.
        let spare = if self.ring.memory.publishes() { size / ROOM_SHARE } else { 0 };
        while stop.since(first, size) > u64::from(size - spare) {
            let packet = PACKET_HEADER_SIZE.saturating_add(self.ring.packet_len(first.offset));
            if packet > PACKET_HEADER_SIZE + self.ring.max_frame
                || u64::from(packet) >= extent.end.since(first, size)
            {
                // Only the newest packet is left that is known to be one. It lies just before the
                // burst, so it is not overwritten by it, and a rump kernel never finds `first`
                // equal to `last`.
                corrupt = true;
                let turn_back = u64::from(self.last() >= extent.end.offset);
                let generation = extent.end.generation.wrapping_sub(turn_back);
                first = Position { generation, offset: self.last() };
                break;
            }
            first = first.advance(packet, size);
            // Each length says where the next one is, so the misses would wait for each other. Where
            // packets are of one length, the guess is right, and soon its line is written.
            let ahead = GUESSED * packet;
            if ahead < size {
                self.ring.memory.write_soon(first.advance(ahead, size).offset, 1);
            }
        }
        if first != extent.first {
            self.ring.memory.store32(Field32::First, first.offset, Ordering::Relaxed);
            self.publish_oldest(first);
            // Release: pairs with the acquire fence before a reader's second snapshot. A reader
            // that copied a byte written after this sees the new `first`.
            self.ring.memory.fence(Ordering::Release);
        }
        corrupt
    }

    /// What the ring holds, after a reset if the header was not that of a ring.
    pub(crate) fn mended_extent(&mut self) -> Extent {
        self.extent().unwrap_or_else(|| self.reset())
    }

    /// Empties the ring: two empty packets (`first` must never equal `last`) in a new generation,
    /// so that every reader finds itself overrun and begins anew.
    pub(super) fn reset(&self) -> Extent {
        let memory = &self.ring.memory;
        let next = memory.load64(Field64::Generation, Ordering::Relaxed).wrapping_add(1);
        let generation = if self.ring.can_publish(next) { next } else { 0 };
        // Not a place on any ring. A station that takes over before it is one does all this again.
        memory.store32(Field32::First, u32::MAX, Ordering::Relaxed);
        let first = Position { generation, offset: 0 };
        self.publish_oldest(first);
        // Release: pairs with the acquire fence before a reader's second snapshot, as in
        // `make_room`.
        memory.fence(Ordering::Release);
        for offset in [0, PACKET_HEADER_SIZE] {
            self.put_header(Position { generation, offset }, PacketHeader::default());
        }
        memory.store32(Field32::Last, PACKET_HEADER_SIZE, Ordering::Release);
        memory.store64(Field64::Generation, generation, Ordering::Release);
        // Release: pairs with the acquire in `Ring::snapshot`. A reader that sees it sees the ring
        // that it belongs to.
        memory.store32(Field32::First, 0, Ordering::Release);
        let end = Position { generation, offset: 2 * PACKET_HEADER_SIZE };
        self.publish_end(end);
        Extent { first, end }
    }

    /// Cancels the burst that a dead writer had begun, after the pair is settled: nothing stays
    /// behind that a rump kernel does not expect.
    #[cold]
    pub(super) fn cancel_unfinished(&mut self) {
        let size = self.ring.size();
        // It may have been at [`reset`](Self::reset).
        let extent = self.mended_extent();
        self.publish_extent();
        let first = self.ring.memory.load32(Field32::First, Ordering::Relaxed);
        let empty_packets = if first == self.last() {
            // Of a broken ring nothing but the newest packet was left, and the burst that was to
            // follow did not come: see `make_room`.
            1
        } else if first != size && extent.end.generation == 0 {
            // Room was made for a burst that was to reach the end of the ring for the first time. A
            // rump kernel that reads behind `first` believes that only once the end was reached.
            // Less than a burst is missing.
            (size - extent.end.offset) / PACKET_HEADER_SIZE + 1
        } else {
            return;
        };
        self.append((0..empty_packets).map(|_| PacketHeader::default()), |_, _| {});
    }
}
