//! The four steps by which two threads or processes work a ring together: who stores what in which order.
//!
//! | one side | the other | what follows |
//! |---|---|---|
//! | `publish` an index | `look` at it | descriptors and bytes written before are seen; bytes read before may be overwritten |
//! | `publish`, then `is_wanted` | `ask`, then `look` | the sleeper finds the packet, or the sender finds the wish: never neither |
//!
//! They are written once, for the atomics of shared memory and for those of the model checker, which tries all
//! interleavings: `cargo test -p memif interrupt::model`.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU16, fence};

use crate::format::ring::FLAG_MASK;

/// A 16-bit atomic in shared memory, or a model of one.
pub(crate) trait Word {
    fn load(&self, order: Ordering) -> u16;
    fn store(&self, value: u16, order: Ordering);
    /// A fence that orders stores before it against loads after it.
    fn full_fence();
}

impl Word for AtomicU16 {
    #[inline]
    fn load(&self, order: Ordering) -> u16 {
        AtomicU16::load(self, order)
    }

    #[inline]
    fn store(&self, value: u16, order: Ordering) {
        AtomicU16::store(self, value, order);
    }

    #[inline]
    fn full_fence() {
        fence(SeqCst);
    }
}

/// Stores our index, after everything it vouches for.
#[inline]
pub(crate) fn publish(index: &impl Word, value: u16) {
    // Pairs with the acquire in `look`.
    index.store(value, Release);
}

/// Reads the peer's index, before anything it vouches for.
#[inline]
pub(crate) fn look(index: &impl Word) -> u16 {
    // Pairs with the release in `publish`.
    index.load(Acquire)
}

/// Whether the receiver wants an interrupt for what was just published.
#[inline]
pub(crate) fn is_wanted<W: Word>(flags: &W) -> bool {
    // Pairs with the fence in `ask`: of its look at the index and our look at the flags, one sees the other's store.
    W::full_fence();
    flags.load(Relaxed) & FLAG_MASK == 0
}

/// Asks for interrupts; a look at the index must follow before anybody sleeps.
#[inline]
pub(crate) fn ask<W: Word>(flags: &W) {
    flags.store(0, Relaxed);
    // Pairs with the fence in `is_wanted`. (Real peers lack theirs, which is why a sleeper also needs a bound.)
    W::full_fence();
}

#[cfg(test)]
#[expect(unsafe_code, reason = "the model checker watches raw access to the slot for races")]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::sync::atomic as model;
    use loom::thread;

    impl Word for model::AtomicU16 {
        fn load(&self, order: Ordering) -> u16 {
            model::AtomicU16::load(self, order)
        }
        fn store(&self, value: u16, order: Ordering) {
            model::AtomicU16::store(self, value, order);
        }
        fn full_fence() {
            model::fence(SeqCst);
        }
    }

    #[derive(Default)]
    struct Ring {
        head: model::AtomicU16,
        tail: model::AtomicU16,
        flags: model::AtomicU16,
        /// The one slot, which the model checker watches for races.
        slot: UnsafeCell<u16>,
    }

    fn write(ring: &Ring, value: u16) {
        // SAFETY: loom fails the test if another thread is there.
        ring.slot.with_mut(|slot| unsafe { *slot = value });
    }

    fn read(ring: &Ring) -> u16 {
        // SAFETY: as above.
        ring.slot.with(|slot| unsafe { *slot })
    }

    /// A slot goes there, back, and there again.
    #[test]
    fn packets_are_whole_and_buffers_are_reused_only_when_given_back() {
        loom::model(|| {
            let ring = Arc::new(Ring::default());
            let there = Arc::clone(&ring);
            let sender = thread::spawn(move || {
                write(&there, 1);
                publish(&there.head, 1);
                if look(&there.tail) == 1 {
                    write(&there, 2);
                    publish(&there.head, 2);
                }
            });
            for done in 0..2 {
                let head = look(&ring.head);
                if head > done {
                    assert_eq!(read(&ring), done + 1);
                    publish(&ring.tail, done + 1);
                } else {
                    break;
                }
            }
            sender.join().unwrap();
        });
    }

    fn wakes(sender: fn(&Ring) -> bool) {
        loom::model(move || {
            let ring = Arc::new(Ring::default());
            ring.flags.store(FLAG_MASK, Relaxed);
            let there = Arc::clone(&ring);
            let sender = thread::spawn(move || sender(&there));
            ask(&ring.flags);
            let sleeps = look(&ring.head) == 0;
            let woken = sender.join().unwrap();
            assert!(!sleeps || woken, "asleep, with a packet in the ring");
        });
    }

    #[test]
    fn no_wakeup_is_lost() {
        wakes(|ring| {
            publish(&ring.head, 1);
            is_wanted(&ring.flags)
        });
    }

    /// What libmemif and DPDK do. It is why sleeps are bounded, and shows that the model finds what it is made for.
    #[test]
    #[should_panic(expected = "asleep, with a packet in the ring")]
    fn a_sender_without_the_fence_loses_wakeups() {
        wakes(|ring| {
            publish(&ring.head, 1);
            ring.flags.load(Relaxed) & FLAG_MASK == 0
        });
    }
}
