//! What a queue counts: its own thread writes, any thread reads.

use std::ops::AddAssign;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The counters of one queue. They have cache lines of their own, as many as processors fetch
/// together.
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

/// Adds to a counter without a locked instruction: there is one writer, and readers may see either
/// value.
#[inline]
pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Counts of one queue, or of several together, since its link came up. They wrap around at 2^64.
///
/// A queue updates its counts once for each burst: another thread that reads them may see those of
/// the burst before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Packets received and released, or sent.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
    /// Receiving: interrupts that [`RxQueue::disarm`](crate::RxQueue::disarm) has read from the
    /// eventfd. Sending: interrupts sent.
    pub interrupts: u64,
    /// Sending: how often a packet found no room in the ring. A packet that is tried again counts
    /// again.
    pub ring_full: u64,
    /// Sending: packets that were added to a burst and cancelled before it was published.
    pub cancelled: u64,
    /// Sending: packets that were not published because the link had gone down.
    pub down: u64,
}

impl QueueStats {
    pub(crate) fn of(counters: &Counters) -> Self {
        Self {
            packets: counters.packets.load(Relaxed),
            bytes: counters.bytes.load(Relaxed),
            interrupts: counters.interrupts.load(Relaxed),
            ring_full: counters.ring_full.load(Relaxed),
            cancelled: counters.cancelled.load(Relaxed),
            down: counters.down.load(Relaxed),
        }
    }
}

impl AddAssign for QueueStats {
    fn add_assign(&mut self, more: Self) {
        let pairs = [
            (&mut self.packets, more.packets),
            (&mut self.bytes, more.bytes),
            (&mut self.interrupts, more.interrupts),
            (&mut self.ring_full, more.ring_full),
            (&mut self.cancelled, more.cancelled),
            (&mut self.down, more.down),
        ];
        for (sum, value) in pairs {
            *sum = sum.wrapping_add(value);
        }
    }
}
