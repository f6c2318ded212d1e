//! Puts right what two known faults of rump kernels leave on a ring.
//!
//! **The stray wake-up.** A rump kernel wakes the others by writing the version over itself, with a
//! seek and a write. When two of its threads do that at once, the second write lands behind the
//! first: on the low half of `generation`, rarely further on. So the generation falls to the
//! version, and counts on from there. Rump kernels that have read further assert that it never
//! falls. Of the packets nothing is lost. So a reader finds its place by its offset, if the packets
//! still lead there, and a writer restores the generation from the newest place that it knew.
//!
//! **The open turn.** A rump kernel that is overrun while the newest packet reaches or crosses the
//! end of the ring is off by a generation, and asserts. Behind a packet of this crate lies an empty
//! packet there; a station appends one behind that of a rump kernel, too.
//!
//! Where a rump kernel asserts, it panics with the lock held.

use std::sync::atomic::Ordering;

use super::Ring;
use super::lock::LockGuard;
use super::position::{Extent, Position};
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE, PacketHeader, VERSION};
use crate::memory::Memory;

/// The ring is filled less often than this between the stray wake-up and a look at it: that would
/// take seconds at the speed of memory.
const MAX_TURNS_SINCE: u64 = 1 << 16;
/// Turns by which a generation is raised whose old value is unknown: more than any station can
/// have missed, and such that no reader takes them for a number of turns that were.
const RAISE: u64 = 1 << 33;

/// Whether `now` is what a stray wake-up leaves of a generation that was at least `before`.
pub(crate) fn is_overwritten(before: u64, now: u64) -> bool {
    let halves = |generation: u64| (generation >> 32, generation & u64::from(u32::MAX));
    let ((high_before, low_before), (high, low)) = (halves(before), halves(now));
    let counts_on_from = |start: u64| low.checked_sub(start).is_some_and(|on| on < MAX_TURNS_SINCE);
    let version = u64::from(VERSION);
    // It fell by more than it has counted since.
    let fell = before.checked_sub(now).is_some_and(|fall| fall > low.saturating_sub(version));
    // The low half, or the high one where the write landed one word later.
    (fell && high == high_before && counts_on_from(version))
        || (high == version && high != high_before && counts_on_from(low_before))
}

impl<M: Memory> Ring<M> {
    /// Whether the newest packet may be one that reaches or crosses the end of the ring.
    #[inline]
    pub(crate) fn may_be_open_turn(&self) -> bool {
        let last = self.memory().load32(Field32::Last, Ordering::Relaxed);
        last >= self.size().saturating_sub(PACKET_HEADER_SIZE + self.max_frame)
            && last < self.size()
            && PACKET_HEADER_SIZE.saturating_add(self.packet_len(last)) >= self.size() - last
    }

    /// The place on the ring that `before` names whatever its generation: the end of the ring, or a
    /// packet that is still there. `extent` is what the ring holds; the caller checks after this
    /// that it still does.
    pub(super) fn find_again(&self, before: Position, extent: &Extent) -> Option<Position> {
        let size = self.size();
        if before.offset == extent.end.offset {
            return Some(extent.end);
        }
        let mut at = extent.first;
        while at.offset != before.offset {
            let step = PACKET_HEADER_SIZE.saturating_add(self.packet_len(at.offset));
            if u64::from(step) >= extent.end.since(at, size) {
                return None;
            }
            at = at.advance(step, size);
        }
        Some(at)
    }
}

impl<M: Memory> LockGuard<'_, M> {
    /// Restores the generation if a stray wake-up has made it fall since the ring had the place
    /// `known`. Returns whether one had.
    #[inline]
    pub(crate) fn restore_generation(&mut self, known: Position) -> bool {
        let generation = self.ring.memory().load64(Field64::Generation, Ordering::Relaxed);
        generation < known.generation && self.restore(known, generation)
    }

    #[cold]
    fn restore(&mut self, known: Position, generation: u64) -> bool {
        if !is_overwritten(known.generation, generation) {
            return false;
        }
        // The place is on the ring if less than a turn was written since. Then the generation is
        // known as well, if it has not counted more turns than that meanwhile.
        let turned = self.extent().and_then(|extent| {
            let found = self.ring.find_again(known, &extent)?;
            let turns = extent.end.generation.wrapping_sub(found.generation);
            (generation.wrapping_sub(u64::from(VERSION)) <= turns).then_some(turns)
        });
        let restored = match turned {
            Some(turns) => known.generation.wrapping_add(turns),
            None => known.generation.wrapping_add(RAISE),
        };
        self.set_generation(restored);
        true
    }

    /// Appends an empty packet if the newest one reaches or crosses the end of the ring.
    pub(crate) fn close_turn(&mut self) {
        if self.extent().is_some_and(|extent| extent.end.offset <= self.last()) {
            self.append(std::iter::once(PacketHeader::default()), |_, _| {});
        }
    }

    /// Raises a generation that a stray wake-up may have overwritten, where no earlier one is known:
    /// far enough that no reader finds it lower than before. Returns whether it did.
    pub(crate) fn raise_overwritten_generation(&mut self) -> bool {
        let generation = self.ring.memory().load64(Field64::Generation, Ordering::Relaxed);
        // It cannot be told from one that has counted up to there.
        let may_be = generation == u64::from(VERSION)
            && self.ring.memory().load32(Field32::First, Ordering::Relaxed) != self.ring.size();
        if may_be {
            self.set_generation(generation.wrapping_add(RAISE));
        }
        may_be
    }

    /// Release: pairs with the acquire of `generation` in `Ring::snapshot`. It is a single store, so
    /// a reader sees a pair that was committed, before or after it.
    fn set_generation(&self, generation: u64) {
        self.ring.memory().store64(Field64::Generation, generation, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::mechanism::ring::cursor::{Cursor, Outcome};
    use crate::mechanism::ring::lock::Owner;
    use crate::mechanism::ring::rump::{self, Rump};
    use crate::memory::model::ModelMemory;

    const SIZE: u32 = 4_000;

    fn send(ring: &Ring<ModelMemory>, known: Option<Position>) -> (Position, bool) {
        let header = PacketHeader { len: 76, ..PacketHeader::default() };
        let mut held = ring.try_lock(Owner::new(1).expect("not 0")).expect("free");
        let restored = known.is_some_and(|known| held.restore_generation(known));
        let appended = held.append(std::iter::once(header), |_, at| ring.copy_in(at, &[7; 76]));
        (appended.end, restored)
    }

    /// A ring in its 50th turn, and its end.
    fn turned() -> (Ring<ModelMemory>, Position) {
        let ring = Ring::new(ModelMemory::new(SIZE), 100);
        let mut end = Position { generation: 0, offset: 0 };
        while end.generation < 50 {
            end = send(&ring, None).0;
        }
        (ring, end)
    }

    fn read(ring: &Ring<ModelMemory>, cursor: &mut Cursor) -> (Outcome, usize) {
        let mut packets = 0;
        let outcome = cursor.read(ring, |met| {
            packets += usize::from(met.header.len > 0);
            ControlFlow::Continue(())
        });
        (outcome, packets)
    }

    fn generation(ring: &Ring<ModelMemory>) -> u64 {
        ring.memory().load64(Field64::Generation, Ordering::Relaxed)
    }

    #[test]
    fn only_what_a_wake_up_leaves_is_one() {
        let next = 1 << 32;
        for (before, now) in
            [(8_453, 3), (8_453, 9), (5 * next + 77, 5 * next + 3), (8_453, 3 * next + 8_460)]
        {
            assert!(is_overwritten(before, now), "{before} {now}");
        }
        for (before, now) in [
            (8_453, 8_453),
            (7, 5),
            (8_453, 8_454),
            (8_453, 2),
            (8_453, 0),
            (2, 3),
            (8_453, next + 3),
            (8_453, u64::MAX),
            (3 * next + 5, 3 * next + 6),
        ] {
            assert!(!is_overwritten(before, now), "{before} {now}");
        }
    }

    #[test]
    fn a_reader_loses_and_repeats_nothing() {
        let (ring, end) = turned();
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("sound"));
        send(&ring, None);
        rump::stray_wakeup(ring.memory(), 0);
        send(&ring, None);
        assert_eq!(read(&ring, &mut cursor), (Outcome::StrayWakeup, 0));
        assert_eq!(cursor.newest_known(), end);
        assert_eq!(read(&ring, &mut cursor), (Outcome::Whole, 2));
        // A station puts it right.
        assert!(send(&ring, Some(end)).1);
        assert_eq!(generation(&ring), end.generation);
        assert_eq!(read(&ring, &mut cursor).0, Outcome::Unsettled, "it is shown again");
        assert_eq!(read(&ring, &mut cursor), (Outcome::Whole, 1));
        assert!(!send(&ring, Some(cursor.newest_known())).1, "once");
    }

    #[test]
    fn a_rump_kernel_goes_on_after_it_is_put_right() {
        for after in 0..60 {
            let (ring, end) = turned();
            let mut peer = Rump::up(ring.memory(), 100);
            peer.receive(ring.memory());
            rump::stray_wakeup(ring.memory(), 0);
            for _ in 0..after {
                send(&ring, None);
            }
            assert!(send(&ring, Some(end)).1);
            assert!(generation(&ring) >= end.generation, "{after}");
            assert!(peer.receive(ring.memory()).len() > after.min(30), "{after}");
            assert!(peer.receive(ring.memory()).is_empty());
        }
    }

    #[test]
    fn a_write_one_word_later_makes_no_rump_kernel_assert() {
        let (ring, _) = turned();
        let mut peer = Rump::up(ring.memory(), 100);
        peer.receive(ring.memory());
        let mut cursor = Cursor::at_end(&ring.snapshot().expect("sound"));
        rump::stray_wakeup(ring.memory(), 1);
        send(&ring, None);
        peer.receive(ring.memory());
        assert_eq!(read(&ring, &mut cursor).0, Outcome::StrayWakeup);
        assert_eq!(read(&ring, &mut cursor), (Outcome::Whole, 1));
    }

    #[test]
    fn a_repair_raises_what_may_have_fallen() {
        let (ring, end) = turned();
        let mut peer = Rump::up(ring.memory(), 100);
        peer.receive(ring.memory());
        rump::stray_wakeup(ring.memory(), 0);
        let mut held = ring.try_lock(Owner::new(1).expect("not 0")).expect("free");
        assert!(held.raise_overwritten_generation() && !held.raise_overwritten_generation());
        drop(held);
        assert!(generation(&ring) > end.generation);
        peer.receive(ring.memory());
    }

    /// Behind the packet of a rump kernel, at every place of the end of the ring.
    #[test]
    fn a_rump_kernel_that_is_overrun_across_the_end_lives_when_the_turn_is_closed() {
        let overrun = |close: bool, len: usize| {
            let ring = Ring::new(ModelMemory::new(SIZE), 100);
            let mut reader = Rump::up(ring.memory(), 100);
            let writer = Rump::up(ring.memory(), 100);
            for number in 0..200 {
                writer.send(ring.memory(), number, &vec![7; len]);
                let open = ring.may_be_open_turn();
                if open && close {
                    ring.try_lock(Owner::new(1).expect("not 0")).expect("free").close_turn();
                    assert!(!ring.may_be_open_turn());
                }
                // It looks only where it has been overrun.
                if open && number > 100 {
                    reader.receive(ring.memory());
                }
            }
        };
        for len in 20..100 {
            overrun(true, len);
        }
        let caught = (20..100)
            .filter(|len| std::panic::catch_unwind(|| overrun(false, *len)).is_err())
            .count();
        assert!(caught > 0, "the model knows the fault");
    }
}
