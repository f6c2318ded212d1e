//! The lock and its owner, in one word.
//!
//! Rump kernels spin on the 32-bit `lock`: 0 free, 1 held. Beside it lie 32 bits they neither read
//! nor write. We take and release both as one 64-bit word, so that there is no moment at which we
//! hold the lock without saying so:
//!
//! ```text
//!   lock (u32)   spare (u32)
//!      0            any              free
//!      1             0               held by an unknown owner: a rump kernel
//!      1       ┌─ 31 ─┬─ 30 ─┬─ 29..0 ─┐
//!              │ mark │ gen  │  owner  │   held by us
//!              └──────┴──────┴─────────┘
//! ```
//!
//! *owner* is a number: the kernel knows whether its holder is alive (see
//! [`crate::system::liveness`]). The *mark* stands while `last` and `generation` change together;
//! *gen* is then the lowest bit of the generation before. With it, a station that takes over the
//! lock of a dead owner can tell whether one of the two stores was made without the other, and make
//! that one too. The generation never decreases: a rump kernel that goes up reads it without the
//! lock, and asserts that it never meets an older one.
//!
//! The word is accessed as 64 bits by us and its lower address as 32 by rump kernels. Mixed sizes
//! are outside the language's memory model; on the processors rump kernels run on (and always on
//! x86-64) both are single accesses to one cache line, and a swap of either size fails when the
//! other changed it.

use std::num::NonZeroU32;
use std::sync::atomic::Ordering;

use super::Ring;
use crate::format::{Field32, Field64};
use crate::memory::Memory;

const MARK: u32 = 1 << 31;
const OLD_GENERATION: u32 = 1 << 30;
const OWNER: u32 = OLD_GENERATION - 1;

/// Names a station of this kind as the owner of the lock: not 0, below 2^30.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(NonZeroU32);

impl Owner {
    /// Highest number an owner can have.
    pub(crate) const MAX: u32 = OWNER;

    /// `None` for 0; bits above the owner's are ignored.
    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number & OWNER).map(Self)
    }

    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }
}

/// A value of the lock word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockWord(pub(super) u64);

impl LockWord {
    pub(crate) const FREE: Self = Self(0);

    fn new(lock: u32, spare: u32) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&lock.to_ne_bytes());
        bytes[4..].copy_from_slice(&spare.to_ne_bytes());
        Self(u64::from_ne_bytes(bytes))
    }

    fn halves(self) -> (u32, u32) {
        let bytes = self.0.to_ne_bytes();
        let half = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        (half(0), half(4))
    }

    pub(crate) fn held_by(owner: Owner) -> Self {
        Self::new(1, owner.number())
    }

    /// As it stands while a rump kernel has the lock.
    pub(super) fn rump_kernel() -> Self {
        Self::new(1, 0)
    }

    pub(crate) fn is_free(self) -> bool {
        self.halves().0 == 0
    }

    /// The owner of the lock, if it is a station of this kind.
    pub(crate) fn owner(self) -> Option<Owner> {
        let (lock, spare) = self.halves();
        if lock == 0 { None } else { Owner::new(spare) }
    }

    /// This word while `last` and `generation` change together.
    fn marked(self, old_generation: u64) -> Self {
        let (lock, spare) = self.halves();
        let bit = if old_generation & 1 == 1 { OLD_GENERATION } else { 0 };
        Self::new(lock, spare | MARK | bit)
    }

    /// Whether `generation` and `last` belong together while this word stands.
    #[inline]
    pub(crate) fn is_settled(self) -> bool {
        let (lock, spare) = self.halves();
        lock == 0 || (spare & OWNER != 0 && spare & MARK == 0)
    }

    /// The lowest bit of the generation before the crossing under way, if there is one.
    fn crossing_from(self) -> Option<u64> {
        let (lock, spare) = self.halves();
        (lock != 0 && spare & MARK != 0).then_some(u64::from(spare & OLD_GENERATION != 0))
    }
}

/// The lock, held: its holder may write the ring. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct LockGuard<'r, M: Memory> {
    pub(in crate::mechanism) ring: &'r Ring<M>,
    /// The lock word meanwhile, without the mark.
    word: LockWord,
    /// Room was made for a burst that is not committed.
    pub(super) unfinished: bool,
}

impl<M: Memory> Ring<M> {
    /// The lock word as it stands.
    pub(crate) fn lock_word(&self) -> LockWord {
        LockWord(self.memory.load64(Field64::Lock, Ordering::Acquire))
    }

    /// Takes the lock if it is free; otherwise returns the word that stands there.
    pub(crate) fn try_lock(&self, me: Owner) -> Result<LockGuard<'_, M>, LockWord> {
        let word = self.lock_word();
        if !word.is_free() {
            return Err(word);
        }
        self.swap(word, LockWord::held_by(me))
    }

    /// Takes the lock from an owner that died with it, where `dead` is the word it left, and
    /// finishes or undoes what it had begun. Of several stations that try, one succeeds.
    pub(crate) fn take_over(
        &self,
        dead: LockWord,
        me: Owner,
    ) -> Result<LockGuard<'_, M>, LockWord> {
        let mut held = self.swap_keeping_mark(dead, me)?;
        if let Some(old_generation) = dead.crossing_from() {
            held.settle(old_generation);
        }
        held.cancel_unfinished();
        Ok(held)
    }

    /// Takes the lock from an unknown owner, where `word` is the lock word. The caller has to
    /// repair the ring.
    ///
    /// The word stays that of an unknown owner: should the process die during the repair, no
    /// station takes over a ring that is half repaired. So the lock keeps off all but other
    /// repairs, which have to exclude each other.
    pub(crate) fn seize(&self, word: LockWord) -> Result<LockGuard<'_, M>, LockWord> {
        self.swap(word, LockWord::rump_kernel())
    }

    /// Clears the spare half of a free lock. A rump kernel that takes the lock leaves that half as
    /// it is, and would seem to be the owner that it names.
    pub(crate) fn clear_spare(&self) {
        let word = self.lock_word();
        if word.is_free() && word != LockWord::FREE {
            // If another takes the lock meanwhile, the swap fails, and the lock is not free any
            // more.
            let _ = self.memory.cas64(Field64::Lock, word.0, LockWord::FREE.0);
        }
    }

    fn swap(&self, from: LockWord, to: LockWord) -> Result<LockGuard<'_, M>, LockWord> {
        // Acquire: pairs with the release of the lock in `LockGuard::drop` (and a rump kernel's).
        // We see all they wrote.
        match self.memory.cas64(Field64::Lock, from.0, to.0) {
            Ok(_) => Ok(LockGuard { ring: self, word: to, unfinished: false }),
            Err(word) => Err(LockWord(word)),
        }
    }

    /// As `swap`, but a crossing mark stays, under the new owner's number: the pair is unsettled
    /// until the new owner has settled it, and should that owner die as well, the next one still
    /// sees the mark.
    fn swap_keeping_mark(&self, dead: LockWord, me: Owner) -> Result<LockGuard<'_, M>, LockWord> {
        let word = LockWord::held_by(me);
        let Some(old_generation) = dead.crossing_from() else { return self.swap(dead, word) };
        let mut held = self.swap(dead, word.marked(old_generation))?;
        held.word = word;
        Ok(held)
    }
}

impl<M: Memory> LockGuard<'_, M> {
    /// Stores `last` and the next generation as one change: no reader takes them for a pair while
    /// the mark stands.
    pub(super) fn commit_crossing(&self, old_generation: u64, last: u32) {
        let memory = &self.ring.memory;
        // Each release pairs with the acquire loads in `Ring::snapshot`: a reader that sees a later
        // store sees the earlier ones.
        memory.store64(Field64::Lock, self.word.marked(old_generation).0, Ordering::Release);
        memory.store32(Field32::Last, last, Ordering::Release);
        memory.store64(Field64::Generation, old_generation.wrapping_add(1), Ordering::Release);
        memory.store64(Field64::Lock, self.word.0, Ordering::Release);
    }

    /// Stores a `last` that lies before the present one, and a generation by which readers that
    /// have read further notice it. The generation comes first: should the writer die before it
    /// stores `last`, they begin anew for nothing.
    pub(super) fn commit_back(&self, old_generation: u64, generation: u64, last: u32) {
        let memory = &self.ring.memory;
        memory.store64(Field64::Lock, self.word.marked(old_generation).0, Ordering::Release);
        memory.store64(Field64::Generation, generation, Ordering::Release);
        memory.store32(Field32::Last, last, Ordering::Release);
        memory.store64(Field64::Lock, self.word.0, Ordering::Release);
    }

    /// Finishes a crossing commit whose writer died.
    ///
    /// A crossing takes `last` from the far part of the ring to its near part, since a burst is
    /// much shorter than the ring. So it can be seen whether that was stored. If it was, all of the
    /// burst is there, and what is left to do is to store the generation.
    fn settle(&self, old_generation: u64) {
        let memory = &self.ring.memory;
        let generation = memory.load64(Field64::Generation, Ordering::Relaxed);
        let last = memory.load32(Field32::Last, Ordering::Relaxed);
        if generation & 1 == old_generation && last < self.ring.size() / 2 {
            memory.store64(Field64::Generation, generation.wrapping_add(1), Ordering::Release);
        }
        memory.store64(Field64::Lock, self.word.0, Ordering::Release);
    }
}

impl<M: Memory> Drop for LockGuard<'_, M> {
    fn drop(&mut self) {
        if self.unfinished {
            // The source of the burst panicked.
            self.unfinished = false;
            self.cancel_unfinished();
        }
        let memory = &self.ring.memory;
        let word = LockWord(memory.load64(Field64::Lock, Ordering::Relaxed));
        if word.is_free() {
            // The lock was broken, and the process that broke it has released it.
            self.ring.clear_spare();
        } else if word.owner() == self.word.owner() {
            // Release: pairs with the acquire of the next holder.
            memory.store64(Field64::Lock, LockWord::FREE.0, Ordering::Release);
        }
        // Otherwise a process that took us for dead, or a vandal, has taken the lock: it is not
        // ours to release.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::model::ModelMemory;

    fn owner(number: u32) -> Owner {
        Owner::new(number).expect("not 0")
    }

    fn ring() -> Ring<ModelMemory> {
        Ring::new(ModelMemory::new(4_000), 100)
    }

    #[test]
    fn a_rump_kernel_sees_only_the_low_half() {
        let ring = ring();
        let held = ring.try_lock(owner(77)).expect("free");
        assert_eq!(ring.lock_word().halves(), (1, 77));
        held.commit_crossing(0, 10);
        assert_eq!(ring.lock_word().halves(), (1, 77));
        drop(held);
        assert_eq!(ring.lock_word().halves(), (0, 0));
    }

    #[test]
    fn a_held_lock_cannot_be_taken() {
        let ring = ring();
        let held = ring.try_lock(owner(1)).expect("free");
        let word = ring.try_lock(owner(2)).expect_err("held");
        assert_eq!(word.owner(), Some(owner(1)));
        drop(held);
        ring.memory().store64(Field64::Lock, LockWord::new(1, 0).0, Ordering::Relaxed);
        let word = ring.try_lock(owner(2)).expect_err("held by a rump kernel");
        assert_eq!(word.owner(), None);
        assert!(!word.is_settled());
    }

    #[test]
    fn garbage_beside_a_free_lock_does_not_matter() {
        let ring = ring();
        ring.memory().store64(Field64::Lock, LockWord::new(0, u32::MAX).0, Ordering::Relaxed);
        assert!(ring.lock_word().is_settled());
        assert!(ring.try_lock(owner(5)).is_ok());
        assert_eq!(ring.lock_word(), LockWord::FREE);
    }

    #[test]
    fn of_two_that_take_over_one_succeeds() {
        let ring = ring();
        std::mem::forget(ring.try_lock(owner(1)).expect("free"));
        let dead = ring.lock_word();
        let held = ring.take_over(dead, owner(2)).expect("it is dead");
        assert_eq!(ring.take_over(dead, owner(3)).expect_err("too late").owner(), Some(owner(2)));
        drop(held);
        assert!(ring.lock_word().is_free());
    }

    #[test]
    fn what_stands_beside_a_free_lock_is_cleared() {
        let ring = ring();
        let store =
            |word: LockWord| ring.memory().store64(Field64::Lock, word.0, Ordering::Relaxed);
        store(LockWord::new(0, 77));
        ring.clear_spare();
        assert_eq!(ring.lock_word(), LockWord::FREE);
        for held in [LockWord::new(1, 77), LockWord::rump_kernel()] {
            store(held);
            ring.clear_spare();
            assert_eq!(ring.lock_word(), held);
        }
        // A rump kernel whose lock was broken lets go of ours.
        store(LockWord::FREE);
        let held = ring.try_lock(owner(5)).expect("free");
        store(LockWord::new(0, 5));
        drop(held);
        assert_eq!(ring.lock_word(), LockWord::FREE);
    }

    #[test]
    fn a_seized_lock_stays_that_of_an_unknown_owner() {
        let ring = ring();
        for word in [LockWord::rump_kernel(), LockWord::new(1, MARK), LockWord::new(7, 0)] {
            ring.memory().store64(Field64::Lock, word.0, Ordering::Relaxed);
            let held = ring.seize(word).expect("it stands there");
            assert_eq!(ring.lock_word(), LockWord::rump_kernel());
            held.commit_back(4, 6, 24);
            assert_eq!(ring.lock_word(), LockWord::rump_kernel());
            assert!(ring.seize(LockWord::FREE).is_err());
            drop(held);
            assert_eq!(ring.lock_word(), LockWord::FREE);
        }
    }

    /// Every number of stores a writer can have made of a crossing commit before it died.
    #[test]
    fn a_takeover_makes_generation_and_last_agree() {
        for old_generation in [6_u64, 7] {
            for stores in 0..=4 {
                let ring = ring();
                let memory = ring.memory();
                memory.store64(Field64::Generation, old_generation, Ordering::Relaxed);
                memory.store32(Field32::Last, 3_900, Ordering::Relaxed);
                std::mem::forget(ring.try_lock(owner(1)).expect("free"));
                if stores >= 1 {
                    memory.store64(
                        Field64::Lock,
                        LockWord::held_by(owner(1)).marked(old_generation).0,
                        Ordering::Relaxed,
                    );
                }
                if stores >= 2 {
                    memory.store32(Field32::Last, 24, Ordering::Relaxed);
                }
                if stores >= 3 {
                    memory.store64(Field64::Generation, old_generation + 1, Ordering::Relaxed);
                }
                if stores >= 4 {
                    memory.store64(Field64::Lock, LockWord::held_by(owner(1)).0, Ordering::Relaxed);
                }
                drop(ring.take_over(ring.lock_word(), owner(2)).expect("it is dead"));
                let pair = (
                    memory.load64(Field64::Generation, Ordering::Relaxed),
                    memory.load32(Field32::Last, Ordering::Relaxed),
                );
                let expected =
                    if stores >= 2 { (old_generation + 1, 24) } else { (old_generation, 3_900) };
                assert_eq!(pair, expected, "died after {stores} stores");
                assert!(ring.lock_word().is_free());
            }
        }
    }
}
