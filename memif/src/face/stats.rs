//! What a queue has done.

use std::ops::AddAssign;
use std::sync::atomic::Ordering::Relaxed;

use crate::mechanism::counters::Counters;

/// Counts of one queue, or of several together, since its link came up. They wrap around at 2^64.
///
/// A queue counts with plain stores to memory of its own, once for each burst; who reads them from another thread may be a
/// burst behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Packets received and given back, or sent.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
    /// Receiving: interrupts taken in by [`RxQueue::disarm`](crate::RxQueue::disarm), as the eventfd counted them.
    /// Sending: interrupts sent.
    pub interrupts: u64,
    /// Sending: how often a packet found no room in the ring. One that is tried again counts again.
    pub ring_full: u64,
    /// Sending: packets that were added to a burst, but taken back before it was published.
    pub cancelled: u64,
    /// Sending: packets that were not published as the link had gone down.
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
