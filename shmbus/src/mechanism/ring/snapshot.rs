//! What the ring holds at one moment, read without the lock.

use std::sync::atomic::Ordering;

use super::Ring;
use super::lock::{LockGuard, LockWord};
use super::position::Extent;
use crate::format::{Field32, Field64, PACKET_HEADER_SIZE};
use crate::memory::Memory;

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSnapshot {
    /// Writers were at work at every look, or one stopped or died with the lock.
    Unsettled,
    /// The header's values cannot belong to a ring.
    Corrupt,
}

impl<M: Memory> Ring<M> {
    /// A state of the ring that was committed at some moment during this call.
    #[inline]
    pub(crate) fn snapshot(&self) -> Result<Extent, NoSnapshot> {
        self.snapshot_ignoring(None)
    }

    /// As [`Ring::snapshot`], but the lock word `abandoned` does not count as a writer at work: a
    /// dead owner left it. The snapshot may show what that owner had half done.
    #[inline]
    pub(crate) fn snapshot_ignoring(
        &self,
        abandoned: Option<LockWord>,
    ) -> Result<Extent, NoSnapshot> {
        for _ in 0..M::TRIES {
            if let Some(settled) = self.try_snapshot(abandoned) {
                return settled;
            }
            std::hint::spin_loop();
        }
        Err(NoSnapshot::Unsettled)
    }

    /// One look; `None` when it was not settled.
    #[inline]
    fn try_snapshot(&self, abandoned: Option<LockWord>) -> Option<Result<Extent, NoSnapshot>> {
        let memory = &self.memory;
        // Acquire, each: they pair with the releases in `LockGuard::commit_crossing` and
        // `LockGuard::append`, and keep these loads in this order, so that the lock is looked at
        // between the two looks at the pair.
        let generation = memory.load64(Field64::Generation, Ordering::Acquire);
        let last = memory.load32(Field32::Last, Ordering::Acquire);
        let lock = self.lock_word();
        if !lock.is_settled() && Some(lock) != abandoned {
            return None;
        }
        let first = memory.load32(Field32::First, Ordering::Acquire);
        let len = if last < self.size() { self.packet_len(last) } else { 0 };
        memory.fence(Ordering::Acquire);
        let same = memory.load64(Field64::Generation, Ordering::Relaxed) == generation
            && memory.load32(Field32::Last, Ordering::Relaxed) == last;
        same.then(|| self.extent_of(generation, first, last, len).ok_or(NoSnapshot::Corrupt))
    }

    #[inline]
    fn extent_of(&self, generation: u64, first: u32, last: u32, len: u32) -> Option<Extent> {
        Extent::new(generation, first, last, len, PACKET_HEADER_SIZE, self.max_frame, self.size())
    }
}

impl<M: Memory> LockGuard<'_, M> {
    /// What the ring holds; it does not change while the lock is held. `None` when the header's
    /// values cannot belong to a ring.
    pub(crate) fn extent(&self) -> Option<Extent> {
        let ring = self.ring;
        let generation = ring.memory.load64(Field64::Generation, Ordering::Relaxed);
        let first = ring.memory.load32(Field32::First, Ordering::Relaxed);
        let last = ring.memory.load32(Field32::Last, Ordering::Relaxed);
        let len = if last < ring.size() { ring.packet_len(last) } else { 0 };
        ring.extent_of(generation, first, last, len)
    }
}
