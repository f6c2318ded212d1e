//! What a queue counts: written by the queue's thread alone, read by anybody.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// See the module. On lines of its own: the pair of them that processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) packets: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) interrupts: AtomicU64,
    pub(crate) ring_full: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) down: AtomicU64,
}

/// Adds without a locked instruction: there is one writer, and readers may see either value.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}
