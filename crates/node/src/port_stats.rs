//! What a thread publishes about the ports it serves: their state and their counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Frames and bytes through an interface since it was made.
///
/// A port receives from its peer; an interface on a bus receives from the bus. The bytes of a frame
/// are those on the bus, without checksum or padding. A counter wraps around at 2^64.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes of the frames received.
    pub rx_bytes: u64,
    /// Frames received and dropped because the bus was busy or down. For an interface on a bus:
    /// frames that it missed because it was overrun, an estimate from the bytes missed.
    pub rx_dropped: u64,
    /// Frames received that the bus cannot carry. For an interface on a bus: how often the bus held
    /// no valid frame.
    pub rx_errors: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes of the frames sent.
    pub tx_bytes: u64,
    /// Frames not sent because the bus was busy or down. For a port: how often the peer had no room
    /// for too long, and an estimate of the frames that it missed because it was overrun on the bus.
    pub tx_dropped: u64,
    /// Frames not sent because the bus cannot carry them. For a port: how often the bus held no
    /// valid frame.
    pub tx_errors: u64,
}

impl Counters {
    /// Returns the sum of both, for an interface that was served in parts, one after the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            rx_dropped: self.rx_dropped.wrapping_add(other.rx_dropped),
            rx_errors: self.rx_errors.wrapping_add(other.rx_errors),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            tx_dropped: self.tx_dropped.wrapping_add(other.tx_dropped),
            tx_errors: self.tx_errors.wrapping_add(other.tx_errors),
        }
    }

    /// Returns the counters as the other side sees them: what one side sends, the other receives.
    #[must_use]
    pub fn from_the_other_side(self) -> Self {
        Self {
            rx_packets: self.tx_packets,
            rx_bytes: self.tx_bytes,
            rx_dropped: self.tx_dropped,
            rx_errors: self.tx_errors,
            tx_packets: self.rx_packets,
            tx_bytes: self.rx_bytes,
            tx_dropped: self.rx_dropped,
            tx_errors: self.rx_errors,
        }
    }
}

/// The state and the counters of a port in a node, readable from any thread.
///
/// The thread that serves the port updates them once a millisecond while frames move, and before it
/// sleeps.
// Relaxed throughout: each number is right by itself, and nothing depends on how they go together.
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

    /// Sets whether the port has a peer. Returns whether that is a change.
    pub(crate) fn set_up(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }

    /// Returns the counters since the port was added. Received is what came from the peer.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let [
            rx_packets,
            rx_bytes,
            rx_dropped,
            rx_errors,
            tx_packets,
            tx_bytes,
            tx_dropped,
            tx_errors,
        ] = self.counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counters {
            rx_packets,
            rx_bytes,
            rx_dropped,
            rx_errors,
            tx_packets,
            tx_bytes,
            tx_dropped,
            tx_errors,
        }
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
    fn counters_read_back_as_written() {
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
