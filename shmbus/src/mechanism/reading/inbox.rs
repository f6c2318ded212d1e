//! Where frames wait on the ring for one station, and how the station copies them from there.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use crate::format::PACKET_HEADER_SIZE;
use crate::mechanism::ring::Ring;
use crate::mechanism::ring::cursor::{Cursor, Outcome, RingPacket};
use crate::mechanism::ring::position::Position;
use crate::memory::Memory;

/// The most frames that wait for a station. A station that has not read so many is slow, and reads
/// alone: the ring is its queue, as it is for any other.
/// Few in tests, whose rings are small.
pub(super) const MAX_WAITING: usize = if cfg!(test) { 8 } else { 512 };

/// A frame for a station. It was whole when its address was looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// Where its packet lies.
    pub(super) at: Position,
    /// Bytes of the frame.
    pub(super) len: u32,
    /// Frames for others between the one before and this one.
    pub(super) filtered: u32,
}

/// The frames that wait for a station, and that only its own thread sees. Their bytes are on the
/// ring.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(super) waiting: VecDeque<Waiting>,
    /// Frames for others after the newest one.
    pub(super) tail: u64,
    /// Frames for others that were passed since the last [`take_filtered`](Self::take_filtered).
    passed: u64,
    /// Where the station continues after writers came around the ring.
    overrun: Option<Cursor>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let waiting = VecDeque::with_capacity(MAX_WAITING);
        Self { waiting, tail: 0, passed: 0, overrun: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Moves frames here from the shared half, as many as fit. Returns whether that is all.
    pub(super) fn fill_from(&mut self, shared: &mut VecDeque<Waiting>) -> bool {
        let room = MAX_WAITING - self.waiting.len();
        let count = room.min(shared.len());
        if let Some(oldest) = shared.front_mut().filter(|_| count > 0) {
            let tail = std::mem::take(&mut self.tail);
            oldest.filtered =
                oldest.filtered.saturating_add(u32::try_from(tail).unwrap_or(u32::MAX));
        }
        self.waiting.extend(shared.drain(..count));
        shared.is_empty()
    }

    /// Returns how many frames for others were passed since the last call.
    pub(crate) fn take_filtered(&mut self) -> u64 {
        std::mem::take(&mut self.passed)
    }

    /// Returns where the station continues if it was overrun. Nothing waits here then.
    pub(crate) fn take_overrun(&mut self) -> Option<Cursor> {
        self.overrun.take()
    }

    /// Shows `visit` the packets, oldest first, until it returns [`ControlFlow::Break`] or there
    /// are no more. What it was shown counts only when the outcome says that it is whole: it is
    /// confirmed by a snapshot of its own, since the one that confirmed the addresses came before
    /// the copies. After an overrun the inbox is empty.
    pub(crate) fn read<M: Memory>(
        &mut self,
        ring: &Ring<M>,
        mut visit: impl FnMut(RingPacket) -> ControlFlow<()>,
    ) -> Outcome {
        let Some(oldest) = self.waiting.front().map(|waiting| waiting.at) else {
            return Outcome::Whole;
        };
        let size = ring.size();
        let (mut count, mut passed) = (0, 0);
        for waiting in &self.waiting {
            let mut header = ring.packet_header(waiting.at.offset);
            // This one was checked.
            header.len = waiting.len;
            let offset = waiting.at.advance(PACKET_HEADER_SIZE, size).offset;
            if visit(RingPacket { header, at: waiting.at, offset }).is_break() {
                break;
            }
            count += 1;
            passed += u64::from(waiting.filtered);
        }
        // Acquire: pairs with the release fence in `LockGuard::make_room`, as in `Cursor::read`.
        ring.memory().fence(Ordering::Acquire);
        match ring.snapshot() {
            Ok(extent) if extent.holds(oldest, size) => {
                self.waiting.drain(..count);
                self.passed += passed;
                if self.waiting.is_empty() {
                    self.passed += std::mem::take(&mut self.tail);
                }
                Outcome::Whole
            }
            Ok(_) => self.overrun(ring, oldest),
            Err(_) => Outcome::Unsettled,
        }
    }

    /// Continues as a reader would that had read up to `oldest`.
    #[cold]
    fn overrun<M: Memory>(&mut self, ring: &Ring<M>, oldest: Position) -> Outcome {
        let mut cursor = Cursor::at(oldest);
        let outcome = cursor.read(ring, |_| ControlFlow::Break(()));
        if outcome != Outcome::Unsettled {
            self.clear();
            self.overrun = Some(cursor);
        }
        outcome
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.tail = 0;
    }
}
