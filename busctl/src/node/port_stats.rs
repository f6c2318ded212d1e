//! What a member lets others see of itself while a thread is busy with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::registry::Counters;

/// Written by the member's thread now and then, read by whoever wants to know. Relaxed throughout: each number is right by
/// itself, and nothing depends on how they go together.
#[derive(Debug, Default)]
pub(crate) struct PortStats {
    up: AtomicBool,
    counters: [AtomicU64; 8],
}

impl PortStats {
    /// Whether the port has a peer.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// What went through, since the member was added, as its peer's side sees it: received is what came from there.
    pub(crate) fn counters(&self) -> Counters {
        let [rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, tx_errors] =
            self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counters { rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, tx_errors }
    }

    pub(super) fn set_counters(&self, counters: Counters) {
        let values = [
            counters.rx_packets,
            counters.rx_bytes,
            counters.rx_dropped,
            counters.rx_errors,
            counters.tx_packets,
            counters.tx_bytes,
            counters.tx_dropped,
            counters.tx_errors,
        ];
        for (counter, value) in self.counters.iter().zip(values) {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_read_back_each_in_its_place() {
        let counters = Counters {
            rx_packets: 1,
            rx_bytes: 2,
            rx_dropped: 3,
            rx_errors: 4,
            tx_packets: 5,
            tx_bytes: 6,
            tx_dropped: 7,
            tx_errors: 8,
        };
        let gauge = PortStats::default();
        gauge.set_counters(counters);
        assert_eq!(gauge.counters(), counters);
    }
}
