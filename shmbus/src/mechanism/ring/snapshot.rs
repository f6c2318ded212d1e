//! What the ring holds at one moment, read without the lock.
//!
//! In our own format a writer *publishes* that in two words, which lie on cache lines of their own:
//! so a reader that polls does not take the line away on which writers lock, and needs no look at
//! the lock.

use std::sync::atomic::Ordering;

use super::Ring;
use super::lock::{LockGuard, LockWord};
use super::position::{Extent, Position};
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
        if memory.publishes() {
            return self.published();
        }
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

    /// What the writers have published. `None` when the two words were not read of one moment.
    #[inline]
    fn published(&self) -> Option<Result<Extent, NoSnapshot>> {
        let (memory, size) = (&self.memory, self.size());
        // Acquire, each: they pair with the releases in `LockGuard::publish_end` and
        // `LockGuard::publish_oldest`, and keep these loads in this order. So the second is at least
        // as new as the first: the extent may be smaller than it was then, and is never larger.
        let word = memory.load64(Field64::End, Ordering::Acquire);
        let oldest = memory.load64(Field64::Oldest, Ordering::Acquire);
        let end = Position::from_word(word, size);
        if let Some(first) = end.at_word(oldest, size) {
            return Some(Ok(Extent { first, end }));
        }
        // Meanwhile writers went around the ring, unless the end is still there.
        (memory.load64(Field64::End, Ordering::Relaxed) == word).then_some(Err(NoSnapshot::Corrupt))
    }

    /// Whether all positions of this generation have a number of their own. Those of a generation
    /// that was counted have.
    #[inline]
    pub(super) fn can_publish(&self, generation: u64) -> bool {
        let next = generation.checked_add(1);
        !self.memory.publishes()
            || next.is_some_and(|next| next.checked_mul(u64::from(self.size())).is_some())
    }

    /// Publishes what a new ring holds: an empty packet.
    pub(crate) fn publish_new(&self) {
        if self.memory.publishes() {
            // Relaxed: the magic is stored with release after these.
            self.memory.store64(Field64::Oldest, 0, Ordering::Relaxed);
            self.memory.store64(Field64::End, u64::from(PACKET_HEADER_SIZE), Ordering::Relaxed);
        }
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
        if !ring.can_publish(generation) {
            return None;
        }
        let first = ring.memory.load32(Field32::First, Ordering::Relaxed);
        let last = self.last();
        let len = if last < ring.size() { ring.packet_len(last) } else { 0 };
        ring.extent_of(generation, first, last, len)
    }

    /// Offset of the newest packet, perhaps outside the ring.
    #[inline]
    pub(super) fn last(&self) -> u32 {
        self.ring.memory.load32(Field32::Last, Ordering::Relaxed)
    }

    /// Tells readers, in our own format, that everything before `first` may be overwritten. A fence
    /// has to follow, before anything is.
    #[inline]
    pub(super) fn publish_oldest(&self, first: Position) {
        let memory = &self.ring.memory;
        if memory.publishes() {
            let word = first.as_word(self.ring.size());
            memory.store64(Field64::Oldest, word, Ordering::Release);
        }
    }

    /// Publishes the oldest packet again if the word was scribbled on. Returns whether it was. The
    /// other word is stored with each burst.
    #[inline]
    pub(super) fn restore_oldest(&self, first: Position) -> bool {
        let memory = &self.ring.memory;
        let scribbled = memory.publishes()
            && memory.load64(Field64::Oldest, Ordering::Relaxed) != first.as_word(self.ring.size());
        if scribbled {
            self.publish_oldest(first);
        }
        scribbled
    }

    /// Tells readers, in our own format, that everything up to `end` is there.
    #[inline]
    pub(super) fn publish_end(&self, end: Position) {
        let memory = &self.ring.memory;
        if memory.publishes() {
            // Release: pairs with the acquire in `Ring::published`. A reader that sees it sees the
            // bytes.
            memory.store64(Field64::End, end.as_word(self.ring.size()), Ordering::Release);
        }
    }

    /// Publishes what the header says: another writer died before it did, or packets were dropped.
    pub(super) fn publish_extent(&self) {
        if let Some(extent) = self.extent() {
            self.publish_oldest(extent.first);
            self.publish_end(extent.end);
        }
    }
}
