//! A reader's place on the ring, and how it advances without the lock.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::Ring;
use super::lock::LockWord;
use super::position::{Extent, Position};
use super::rump_faults;
use super::snapshot::NoSnapshot;
use crate::format::{PACKET_HEADER_SIZE, PacketHeader};
use crate::memory::Memory;

/// No reader pauses for this many turns of the ring: those of the smallest ring take days at the
/// speed of memory.
const MOST_TURNS: u64 = 1 << 32;

/// A packet met on the way: its header, and the ring offset of its frame's bytes. Neither is known
/// to be whole before [`Cursor::read`] returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingPacket {
    pub(crate) header: PacketHeader,
    /// Where the packet lies, with its header.
    pub(crate) at: Position,
    pub(crate) offset: u32,
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// All that was shown is whole (there may have been nothing).
    Whole,
    /// What was shown is whole, but what follows it is no packet. The cursor stands after the
    /// newest packet, if the header says where that is.
    Corrupt,
    /// Writers came around the ring: forget what was shown. This many bytes were missed; the cursor
    /// stands at the oldest packet still there (or some way after it, when that did not help).
    Overrun(u64),
    /// The header was scribbled over: forget what was shown. It names a turn that no writer can
    /// have reached, or one that is over, so what was missed is unknown; the cursor follows it all
    /// the same.
    Scribbled,
    /// As [`Scribbled`](Self::Scribbled), by a wake-up of a rump kernel: see [`rump_faults`]. The
    /// cursor stands where it stood, if that place is still there.
    StrayWakeup,
    /// It is unknown whether it is whole: forget what was shown. It is shown again.
    Unsettled,
}

/// A reader's place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// The next packet to read.
    next: Position,
    /// The end of the ring at the latest snapshot.
    end: Position,
    /// Overruns since the last read that was not one.
    overruns: u32,
    /// A lock word left behind by a dead owner: this reader ignores it.
    abandoned: Option<LockWord>,
    /// Where it stood when the generation was last overwritten.
    before_stray_wakeup: Option<Position>,
}

impl Cursor {
    /// A reader that sees what is sent from now on.
    pub(crate) fn at_end(extent: &Extent) -> Self {
        Self {
            next: extent.end,
            end: extent.end,
            overruns: 0,
            abandoned: None,
            before_stray_wakeup: None,
        }
    }

    /// A reader that begins with the oldest packet on the ring.
    pub(crate) fn at_first(extent: &Extent) -> Self {
        Self {
            next: extent.first,
            end: extent.end,
            overruns: 0,
            abandoned: None,
            before_stray_wakeup: None,
        }
    }

    /// A reader that begins with the packet at `position`.
    pub(crate) fn at(position: Position) -> Self {
        Self {
            next: position,
            end: position,
            overruns: 0,
            abandoned: None,
            before_stray_wakeup: None,
        }
    }

    /// Returns where the next packet to read lies.
    pub(crate) fn position(&self) -> Position {
        self.next
    }

    /// Returns the newest place that it knows of: that of before a stray wake-up, until a station has
    /// put that right.
    pub(crate) fn newest_known(&self) -> Position {
        self.before_stray_wakeup.unwrap_or(self.next)
    }

    /// Reads at least as far as `other` did, which is ahead on the same ring.
    pub(crate) fn reach(&mut self, other: &Self) {
        // At its end it looks for a new one, which is no nearer.
        if self.next != self.end {
            self.end = other.end;
        }
    }

    /// Reads although the lock is held, as long as the lock word is `word`.
    pub(crate) fn ignore(&mut self, word: LockWord) {
        self.abandoned = Some(word);
    }

    /// Whether there is something to read.
    #[inline]
    pub(crate) fn has_packets<M: Memory>(&mut self, ring: &Ring<M>) -> Result<bool, NoSnapshot> {
        if self.next == self.end {
            self.end = ring.snapshot_ignoring(self.abandoned)?.end;
        }
        Ok(self.next != self.end)
    }

    /// Continues at the position with the number `word`, if it lies between this place and the end
    /// of the ring: what lies before it is not for this reader.
    pub(crate) fn skip_to<M: Memory>(&mut self, ring: &Ring<M>, word: u64) {
        let size = ring.size();
        if let Ok(extent) = ring.snapshot_ignoring(self.abandoned)
            && let Some(position) = extent.end.at_word(word, size)
            && position.since(self.next, size) <= extent.end.since(self.next, size)
        {
            self.next = position;
            self.end = extent.end;
        }
    }

    /// Shows `visit` every packet from here on, until it returns [`ControlFlow::Break`] or there
    /// are no more.
    #[inline]
    pub(crate) fn read<M: Memory>(
        &mut self,
        ring: &Ring<M>,
        mut visit: impl FnMut(RingPacket) -> ControlFlow<()>,
    ) -> Outcome {
        match self.has_packets(ring) {
            Ok(true) => {}
            Ok(false) => return Outcome::Whole,
            Err(NoSnapshot::Unsettled) => return Outcome::Unsettled,
            Err(NoSnapshot::Corrupt) => return Outcome::Corrupt,
        }
        let size = ring.size();
        let mut at = self.next;
        let mut ahead = self.end.since(at, size);
        let mut sound = ahead <= u64::from(size);
        while sound && at != self.end {
            let header = ring.packet_header(at.offset);
            let step = PACKET_HEADER_SIZE.saturating_add(header.len);
            if header.len > ring.max_frame || u64::from(step) > ahead {
                sound = false;
                break;
            }
            let offset = at.advance(PACKET_HEADER_SIZE, size).offset;
            if visit(RingPacket { header, at, offset }).is_break() {
                break;
            }
            at = at.advance(step, size);
            ahead -= u64::from(step);
        }
        // Acquire: pairs with the release fence in `LockGuard::make_room`. The copies above come
        // before the second snapshot.
        ring.memory().fence(Ordering::Acquire);
        match ring.snapshot_ignoring(self.abandoned) {
            // Or the header was scribbled over while we read: nothing vouches for what was shown.
            Err(NoSnapshot::Unsettled | NoSnapshot::Corrupt) => Outcome::Unsettled,
            Ok(extent) if !extent.holds(self.next, size) => self.overrun(ring, &extent),
            Ok(extent) => {
                self.overruns = 0;
                self.end = extent.end;
                self.next = if sound { at } else { extent.end };
                if sound { Outcome::Whole } else { Outcome::Corrupt }
            }
        }
    }

    /// Continues where the ring still holds packets.
    ///
    /// The oldest packet is the best place while the writers pause. If they do not, they will be
    /// past it before it is copied, again and again; so every further overrun in a row leaves a
    /// larger part of the ring, up to half of it, as a head start.
    #[cold]
    fn overrun<M: Memory>(&mut self, ring: &Ring<M>, extent: &Extent) -> Outcome {
        let size = ring.size();
        let before = self.next;
        self.next = extent.first;
        self.end = extent.end;
        if self.overruns > 0 {
            let head_start = u64::from(size >> 5_u32.saturating_sub(self.overruns).max(1));
            while extent
                .end
                .since(extent.first, size)
                .wrapping_sub(extent.end.since(self.next, size))
                < head_start
                && self.next != extent.end
            {
                let step = PACKET_HEADER_SIZE.saturating_add(ring.packet_len(self.next.offset));
                if u64::from(step) > extent.end.since(self.next, size) {
                    // Overwritten while walking (or no chain at all).
                    self.next = extent.end;
                    break;
                }
                self.next = self.next.advance(step, size);
            }
            // The lengths walked over count only if they were whole.
            ring.memory().fence(Ordering::Acquire);
            if !ring
                .snapshot_ignoring(self.abandoned)
                .is_ok_and(|now| now.holds(extent.first, size))
            {
                self.next = extent.end;
            }
        }
        self.overruns = self.overruns.saturating_add(1);
        let missed = self.next.since(before, size);
        let turns = self.next.generation.wrapping_sub(before.generation);
        let is_restored =
            self.before_stray_wakeup.is_some_and(|known| extent.end.generation >= known.generation);
        if is_restored || turns > MOST_TURNS || missed > MOST_TURNS * u64::from(size) {
            return self.follow_overwritten(ring, before, extent);
        }
        Outcome::Overrun(missed)
    }

    /// Follows a generation that is no later one. The packets stay where they are when a generation
    /// is overwritten or restored, so what was not read is found again.
    #[cold]
    fn follow_overwritten<M: Memory>(
        &mut self,
        ring: &Ring<M>,
        before: Position,
        extent: &Extent,
    ) -> Outcome {
        if let Some(next) = ring.find_again(before, extent) {
            // The lengths walked over count only if they were whole.
            ring.memory().fence(Ordering::Acquire);
            let now = ring.snapshot_ignoring(self.abandoned);
            if now.is_ok_and(|now| now.holds(extent.first, ring.size())) {
                self.next = next;
            }
        }
        if rump_faults::is_overwritten(before.generation, extent.end.generation) {
            self.before_stray_wakeup = Some(before);
            Outcome::StrayWakeup
        } else if self.before_stray_wakeup.take().is_some() {
            // A station has restored it.
            Outcome::Unsettled
        } else {
            Outcome::Scribbled
        }
    }
}
