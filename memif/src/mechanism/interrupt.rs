//! The four steps by which two threads or processes share a ring, and the memory order of each.
//!
//! | one side | the other | what follows |
//! |---|---|---|
//! | `publish` an index | `load_index` | descriptors and bytes written before are seen; bytes read before may be overwritten |
//! | `publish`, then `is_wanted` | `request`, then `load_index` | the receiver finds the packet, the sender finds the request, or both |
//!
//! The code is the same for the atomics of shared memory and for those of the model checker, which
//! tries all interleavings: `cargo test -p memif interrupt::model`.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU16, fence};

use crate::format::ring::FLAG_MASK;

/// A 16-bit atomic in shared memory, or its model.
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

/// Stores this side's index. All accesses to slots and buffers before the call happen first.
#[inline]
pub(crate) fn publish(index: &impl Word, value: u16) {
    // Release: pairs with the acquire in `load_index`.
    index.store(value, Release);
}

/// Loads the peer's index. All accesses to slots and buffers after the call happen later.
#[inline]
pub(crate) fn load_index(index: &impl Word) -> u16 {
    // Acquire: pairs with the release in `publish`.
    index.load(Acquire)
}

/// Returns whether the receiver wants an interrupt for what was just published.
#[inline]
pub(crate) fn is_wanted<W: Word>(flags: &W) -> bool {
    // Pairs with the fence in `request`: either its load of the index sees our store, or our load
    // of the flags sees its store.
    W::full_fence();
    flags.load(Relaxed) & FLAG_MASK == 0
}

/// Requests interrupts. The receiver must load the index afterwards, before it sleeps.
#[inline]
pub(crate) fn request<W: Word>(flags: &W) {
    flags.store(0, Relaxed);
    // Pairs with the fence in `is_wanted`. (libmemif and DPDK lack theirs, which is why a receiver
    // sleeps for a bounded time.)
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

    /// The slot goes to the receiver, back, and to the receiver again.
    #[test]
    fn packets_are_whole_and_buffers_are_reused_only_when_given_back() {
        loom::model(|| {
            let ring = Arc::new(Ring::default());
            let there = Arc::clone(&ring);
            let sender = thread::spawn(move || {
                write(&there, 1);
                publish(&there.head, 1);
                if load_index(&there.tail) == 1 {
                    write(&there, 2);
                    publish(&there.head, 2);
                }
            });
            for done in 0..2 {
                let head = load_index(&ring.head);
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
            request(&ring.flags);
            let sleeps = load_index(&ring.head) == 0;
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

    /// libmemif and DPDK do this, which is why sleeps are bounded. The test also shows that the
    /// model finds such bugs.
    #[test]
    #[should_panic(expected = "asleep, with a packet in the ring")]
    fn a_sender_without_the_fence_loses_wakeups() {
        wakes(|ring| {
            publish(&ring.head, 1);
            ring.flags.load(Relaxed) & FLAG_MASK == 0
        });
    }
}
