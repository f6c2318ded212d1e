//! Repairs a ring whose writer died in an unknown state.
//!
//! A rump kernel stores `last` before the packet is there, and may die with the lock like any other
//! process. So the repair walks the packets from the oldest on: it keeps those that lead from
//! header to header up to `last`, and drops the newest when it is unknown whether its bytes were
//! written.

use std::sync::atomic::Ordering;

use super::lock::LockGuard;
use super::position::Position;
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;

/// What was found and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// The packets were in order. This many are on the ring.
    Sound { packets: u32 },
    /// The newest packet was dropped, and this many are left.
    NewestDropped { packets: u32 },
    /// After this many packets came something that is none, and all from there on was dropped.
    Cut { packets: u32 },
    /// No packet on the ring was valid: it is empty now.
    Emptied,
}

/// The packets from `first` on, as far as they lead.
struct Walk {
    packets: u32,
    /// The last one met.
    newest: Position,
    /// The one before it.
    before: Option<Position>,
    /// Whether the last one met is the one at `last`.
    complete: bool,
}

impl<M: Memory> LockGuard<'_, M> {
    /// Repairs the ring. `doubtful`: the newest packet may be half written. `alone`: no process
    /// reads the ring meanwhile.
    pub(crate) fn mend(&mut self, doubtful: bool, alone: bool) -> Mend {
        let mend = self.mend_packets(doubtful, alone);
        self.publish_extent();
        mend
    }

    fn mend_packets(&mut self, doubtful: bool, alone: bool) -> Mend {
        let size = self.ring.size();
        let Some(walk) = self.walk() else {
            self.reset();
            return Mend::Emptied;
        };
        if walk.complete && !doubtful {
            return Mend::Sound { packets: walk.packets };
        }
        let (newest, packets) = if walk.complete {
            (walk.before, walk.packets - 1)
        } else {
            (Some(walk.newest), walk.packets)
        };
        // The raw value: in its initial state it is the size, and the ring may hold the empty
        // packet at 0 alone.
        let first = self.ring.memory.load32(Field32::First, Ordering::Relaxed);
        if walk.complete && walk.before.is_none() && first == size {
            return Mend::Sound { packets: walk.packets };
        }
        match newest {
            // A rump kernel never finds `first` and `last` the same: one packet alone cannot stay.
            Some(newest) if newest.offset != first => {
                if walk.complete
                    && !alone
                    && let Some(blanks) = self.blank_out(walk.newest)
                {
                    return Mend::NewestDropped { packets: packets + blanks };
                }
                self.give_up_behind(newest, alone);
                if walk.complete { Mend::NewestDropped { packets } } else { Mend::Cut { packets } }
            }
            _ => {
                self.reset();
                Mend::Emptied
            }
        }
    }

    /// Makes this packet the newest. Readers continue as if no packet had followed it.
    fn give_up_behind(&mut self, newest: Position, alone: bool) {
        let (ring, size) = (self.ring, self.ring.size());
        let generation = ring.memory.load64(Field64::Generation, Ordering::Relaxed);
        // Where the packet may have reached the end of the ring, it is unknown whether the
        // generation has counted it: two more make every reader begin anew, if there is one.
        // Readers that have read the packet already must begin anew as well, and a rump kernel
        // asserts that it is never overrun in generation 0.
        let new_generation = if self.last_may_cross() || (generation == 0 && !alone) {
            generation.wrapping_add(2)
        } else {
            generation
        };
        self.commit_back(generation, new_generation, newest.offset);
        let end = newest.offset + PACKET_HEADER_SIZE + ring.packet_len(newest.offset);
        if end >= size {
            // As after a burst that reaches the end: an empty packet puts `last` behind it again.
            self.append(std::iter::once(PacketHeader::default()), |_, _| {});
        }
    }

    fn last_may_cross(&self) -> bool {
        let last = self.ring.memory.load32(Field32::Last, Ordering::Relaxed);
        last >= self.ring.size().saturating_sub(PACKET_HEADER_SIZE + self.ring.max_frame)
    }

    /// In generation 0, replaces the newest packet by packets that every receiver skips: so the
    /// ring ends where it did, for readers that have read the packet as well. Returns how many;
    /// `None` where they do not fit.
    fn blank_out(&self, newest: Position) -> Option<u32> {
        const LONGEST_SKIPPED: u32 = 13;
        let (ring, size) = (self.ring, self.ring.size());
        let room = PACKET_HEADER_SIZE + ring.packet_len(newest.offset);
        let (blanks, mut rest) = (room / PACKET_HEADER_SIZE, room % PACKET_HEADER_SIZE);
        let generation = ring.memory.load64(Field64::Generation, Ordering::Relaxed);
        if generation > 0 || self.last_may_cross() || rest > blanks * LONGEST_SKIPPED {
            return None;
        }
        let (mut at, mut last) = (newest, newest);
        for _ in 0..blanks {
            let len = rest.min(LONGEST_SKIPPED);
            rest -= len;
            self.put_header(at, PacketHeader { len, ..PacketHeader::default() });
            last = at;
            at = at.advance(PACKET_HEADER_SIZE + len, size);
        }
        ring.memory.store32(Field32::Last, last.offset, Ordering::Release);
        Some(blanks)
    }

    fn walk(&self) -> Option<Walk> {
        let (ring, size) = (self.ring, self.ring.size());
        let first = ring.memory.load32(Field32::First, Ordering::Relaxed);
        let last = ring.memory.load32(Field32::Last, Ordering::Relaxed);
        if first > size || last >= size {
            return None;
        }
        let mut walk = None;
        let mut at = Position { generation: 0, offset: first % size };
        let (mut packets, mut walked, mut before) = (0, 0_u64, None);
        loop {
            let step = PACKET_HEADER_SIZE.saturating_add(ring.packet_len(at.offset));
            let complete = at.offset == last;
            walked += u64::from(step);
            // The newest packet's length is believed only as far as it fits the others'.
            if step > PACKET_HEADER_SIZE + ring.max_frame || walked > u64::from(size) {
                return walk;
            }
            packets += 1;
            walk = Some(Walk { packets, newest: at, before, complete });
            if complete {
                return walk;
            }
            before = Some(at);
            at = at.advance(step, size);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::format::PacketHeader;
    use crate::mechanism::ring::Ring;
    use crate::mechanism::ring::cursor::{Cursor, Outcome};
    use crate::memory::model::ModelMemory;

    use crate::mechanism::ring::lock::Owner;

    const SIZE: u32 = 4_000;

    fn me() -> Owner {
        Owner::new(1).expect("not 0")
    }

    /// The ring as an unknown owner left it, or as it is.
    fn seized(ring: &Ring<ModelMemory>) -> LockGuard<'_, ModelMemory> {
        ring.seize(ring.lock_word()).expect("no other process wants it")
    }

    /// A ring with some packets of 76 bytes, which with their headers are 100 each.
    fn ring(packets: u32) -> Ring<ModelMemory> {
        let ring = Ring::new(ModelMemory::new(SIZE), 100);
        for _ in 0..packets {
            send(&ring);
        }
        ring
    }

    fn send(ring: &Ring<ModelMemory>) {
        let header = PacketHeader { len: 76, ..PacketHeader::default() };
        ring.try_lock(me())
            .expect("free")
            .append(std::iter::once(header), |_, at| ring.copy_in(at, &[7; 76]));
    }

    fn packets(ring: &Ring<ModelMemory>) -> usize {
        let mut cursor = Cursor::at_first(&ring.snapshot().expect("sound"));
        let mut packets = 0;
        let outcome = cursor.read(ring, |met| {
            packets += usize::from(met.header.len > 0);
            ControlFlow::Continue(())
        });
        assert_eq!(outcome, Outcome::Whole);
        packets
    }

    #[test]
    fn a_sound_ring_is_left_alone() {
        for count in [0, 1, 20, 39, 40, 41, 200] {
            let ring = ring(count);
            let before = packets(&ring);
            assert!(matches!(seized(&ring).mend(false, false), Mend::Sound { .. }));
            assert_eq!(packets(&ring), before);
        }
    }

    #[test]
    fn a_doubtful_packet_is_dropped_and_no_other() {
        for count in [2, 20, 38, 39, 40, 41, 79, 80, 81, 200] {
            let ring = ring(count);
            let before = packets(&ring);
            let mend = seized(&ring).mend(true, false);
            assert!(matches!(mend, Mend::NewestDropped { .. }), "{count}: {mend:?}");
            // The newest may be the empty one behind the end.
            assert!((before - 1..=before).contains(&packets(&ring)), "{count}");
            send(&ring);
            assert!(packets(&ring) > 0);
        }
    }

    /// As a rump kernel leaves it: the lock taken, `last` stored, and of the packet nothing.
    #[test]
    fn the_packet_of_a_dead_rump_kernel_is_dropped() {
        let ring = ring(10);
        let end = ring.snapshot().expect("sound").end;
        ring.memory().store64(
            Field64::Lock,
            u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]),
            Ordering::Relaxed,
        );
        ring.memory().store32(Field32::Last, end.offset, Ordering::Relaxed);
        ring.copy_in(end.offset, &u32::MAX.to_ne_bytes());
        assert_eq!(seized(&ring).mend(true, false), Mend::Cut { packets: 11 });
        assert_eq!(packets(&ring), 10);
        send(&ring);
        assert_eq!(packets(&ring), 11);
    }

    #[test]
    fn a_live_reader_continues_where_it_was() {
        let ring = ring(10);
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("sound"));
        send(&ring);
        assert!(matches!(seized(&ring).mend(true, false), Mend::NewestDropped { .. }));
        let mut packets = 0;
        let mut count = |met: crate::mechanism::ring::cursor::RingPacket| {
            packets += usize::from(met.header.len >= 14);
            ControlFlow::Continue(())
        };
        assert_eq!(cursor.read(&ring, &mut count), Outcome::Whole);
        send(&ring);
        assert_eq!(cursor.read(&ring, &mut count), Outcome::Whole);
        assert_eq!(packets, 1, "what it had read does not come again");
    }

    /// Also where a rump kernel could not be overrun, and whether the packet was read already or
    /// not.
    #[test]
    fn readers_in_the_first_turn_receive_neither_the_dropped_packet_nor_any_twice() {
        for len in [0, 13, 14, 24, 29, 60, 100] {
            let ring = ring(5);
            let mut behind = Cursor::at_end(&ring.snapshot().expect("sound"));
            let header = PacketHeader { len, ..PacketHeader::default() };
            ring.try_lock(me()).expect("free").append(std::iter::once(header), |_, _| {});
            let mut ahead = Cursor::at_end(&ring.snapshot().expect("sound"));
            assert!(matches!(seized(&ring).mend(true, false), Mend::NewestDropped { .. }));
            send(&ring);
            for cursor in [&mut behind, &mut ahead] {
                let mut packets = 0;
                let outcome = cursor.read(&ring, |met| {
                    packets += usize::from(met.header.len >= 14);
                    ControlFlow::Continue(())
                });
                // From 14 to 23 bytes there are not enough for packets that are skipped.
                if (14..24).contains(&len) {
                    assert!(matches!(outcome, Outcome::Overrun(_)), "{len}: {outcome:?}");
                } else {
                    assert_eq!((outcome, packets), (Outcome::Whole, 1), "{len}");
                }
            }
        }
    }

    #[test]
    fn a_new_bus_is_sound() {
        let ring = ring(0);
        assert_eq!(seized(&ring).mend(true, false), Mend::Sound { packets: 1 });
        send(&ring);
        assert_eq!(packets(&ring), 1);
    }

    #[test]
    fn what_leads_nowhere_is_cut_off() {
        let ring = ring(20);
        ring.copy_in(24 + 10 * 100, &5_000_u32.to_ne_bytes());
        assert_eq!(seized(&ring).mend(false, false), Mend::Cut { packets: 11 });
        assert_eq!(packets(&ring), 10);
    }

    #[test]
    fn a_header_that_is_none_empties_the_ring() {
        let ring = ring(20);
        ring.memory().store32(Field32::First, SIZE + 1, Ordering::Relaxed);
        assert_eq!(seized(&ring).mend(false, false), Mend::Emptied);
        assert_eq!(packets(&ring), 0);
        send(&ring);
        assert_eq!(packets(&ring), 1);
    }
}
