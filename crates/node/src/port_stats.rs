//! What a port of a node shows of itself while a thread is busy with it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::counters::Counters;

/// Written by the thread that serves the port, read by any other. Relaxed throughout: each number is right by itself, and
/// nothing depends on how they go together.
#[derive(Debug, Default)]
pub struct PortStats {
    up: AtomicBool,
    counters: [AtomicU64; 8],
}

impl PortStats {
    /// Returns whether the port has a peer.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns whether that is a change.
    pub(crate) fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }

    /// Returns the counters since the port was added, as the peer's side sees it: received is what came from the peer.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let [rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, tx_errors] =
            self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counters { rx_packets, rx_bytes, rx_dropped, rx_errors, tx_packets, tx_bytes, tx_dropped, tx_errors }
    }

    pub(crate) fn set_counters(&self, counters: Counters) {
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
        let stats = PortStats::default();
        stats.set_counters(counters);
        assert_eq!(stats.counters(), counters);
    }
}
